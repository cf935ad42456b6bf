"""Streams that are broken in every way: an answer or one of our errors, and never an answer that was made up.

Each dialect's streams, recorded ones and some made by hand, are changed by a seeded hand: cut, duplicated, reordered,
garbled, lengthened without end, nested without end; and then fed in pieces cut anywhere, also inside a character.
"""

from __future__ import annotations

import functools
import inspect
import json
import random
import re
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

import corpus
from veyra.errors import IncompleteStreamError, MalformedResponseError, ProviderError
from veyra.transport.base import Head
from veyra.types import Event, Finish, TextDelta, ToolCallDelta, Usage
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses

SEED = 20261123
SECONDS = 5.0
"""One stream, of some ten kilobytes, takes milliseconds; this is the bound for a loaded machine."""
MEMORY = 16 * 1024 * 1024


def _json(*events: object, end: str = "") -> bytes:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + end.encode()


def _chat() -> bytes:
    deltas: list[dict[str, object]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "h\u00fcm"},
        {"content": "Gr\u00fc\u00dfe \N{GRINNING FACE}"},
        {"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "f", "arguments": '{"x": "'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '\u00e9"}'}}]},
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "a"}]},
    ]
    chunks: list[object] = [{"id": "r", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls", "logprobs": {"content": [{"t": 1}]}}]}
    counted = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    return _json(*chunks, last, counted, end="data: [DONE]\n\n")


def _messages() -> bytes:
    return _json(
        {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "h\u00fcm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s="}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Gr\u00fc\u00dfe"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"x":'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    )  # fmt: skip


def _lines() -> bytes:
    lines: list[dict[str, object]] = [
        {"message": {"role": "assistant", "thinking": "h\u00fcm"}, "done": False},
        {"message": {"content": "Gr\u00fc\u00dfe", "odd": [1]}, "logprobs": [{"t": 1}], "done": False},
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}, "done": False},
        {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4},
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _responses() -> bytes:
    item = {"type": "message", "id": "i1", "content": [{"type": "output_text", "text": "Gr\u00fc\u00dfe"}]}
    call = {"type": "function_call", "id": "i2", "call_id": "c", "name": "f", "arguments": '{"x": 1}'}
    end = {"id": "r", "model": "m", "status": "completed", "output": [item, call], "usage": {"input_tokens": 3}}
    return _json(
        {"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "i1"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Gr\u00fc"},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "\u00dfe"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_item.added", "output_index": 1, "item": call | {"arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"x": 1}'},
        {"type": "response.output_item.done", "output_index": 1, "item": call},
        {"type": "response.completed", "response": end},
    )


def _contents() -> bytes:
    def chunk(*parts: object, **more: object) -> dict[str, object]:
        return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}], "responseId": "r"}

    return _json(
        chunk({"text": "h\u00fcm", "thought": True}),
        chunk({"text": "Gr\u00fc\u00dfe"}, {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s="}),
        chunk({"text": ""}, finishReason="STOP") | {"usageMetadata": {"promptTokenCount": 3}},
    )


@dataclass(frozen=True)
class Subject:
    """A dialect under test.

    Attributes:
        made: a stream made by hand.
        files, endpoint: where recorded streams stand.
        markers: bytes of which one must be there for an answer to have ended.
        separator: what stands between events.
    """

    dialect: Dialect
    made: Callable[[], bytes]
    files: str
    endpoint: str
    markers: tuple[bytes, ...]
    separator: bytes = b"\n\n"


SUBJECTS = {
    "openai_chat": Subject(OpenAIChat(), _chat, "*-chat*", "chat", (b"[DONE]",)),
    "anthropic": Subject(Anthropic(), _messages, "anthropic-messages*", "messages", (b"message_stop",)),
    "ollama": Subject(Ollama(), _lines, "ollama-chat*", "chat", (b'"done"',), b"\n"),
    "openai_responses": Subject(
        OpenAIResponses(),
        _responses,
        "openai-responses*",
        "responses",
        (b"response.completed", b"response.incomplete"),
    ),
    "gemini": Subject(Gemini(), _contents, "gemini-generate*", "generate", (b'"finishReason"', b'"blockReason"')),
}


@functools.cache
def streams(name: str) -> tuple[bytes, ...]:
    """The streams to be changed: the one made by hand, and some short recorded ones where there are any."""
    subject = SUBJECTS[name]
    made = (subject.made(),)
    if corpus.shared() is None:
        return made
    rows = [
        row
        for row in corpus.rows(subject.files)
        if row["endpoint"] == subject.endpoint
        and corpus.streamed(row)
        and (row["provider"] == "ollama") is (name == "ollama")
        and row["response"]["status"] == 200
        and 200 < len(corpus.body(row)) < 12_000
    ]
    rows.sort(key=lambda row: (row["shape"], row["id"]))
    chosen = random.Random(SEED).sample(rows, min(40, len(rows)))
    return made * 8 + tuple(corpus.body(row).replace(b"\r\n", b"\n") for row in chosen)


# ---------------------------------------------------------------------------------------------------- the hand

GARBAGE = (
    b"", b"\xff", b"\xed\xa0\x80", b"\x00", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"null", b"-1", b"1e999", b"9" * 40,
    b"\\ud83d", b"\\ude00", b"\\u0000", b"\r", b"\n", b"\r\n\r\n", b"data: ", b"data:[]\n\n", b"event: error\n", b": c\n",
    b"[DONE]", b"{}", b"true", b"\xf0\x9f\x98", b"\xef\xbb\xbf", b'"done":true', b'"index":7', b'"type":"ping"',
)  # fmt: skip


def cut(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def cut_between(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    events = body.split(separator)
    return separator.join(events[: chance.randrange(len(events) + 1)]) + separator


def duplicate(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    events = body.split(separator)
    place = chance.randrange(len(events))
    events[place:place] = [events[place]] * chance.choice((1, 1, 2, 50))
    return separator.join(events)


def reorder(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    events = body.split(separator)
    start, end = sorted(chance.randrange(len(events) + 1) for _ in range(2))
    events[start:end] = chance.sample(events[start:end], end - start)
    return separator.join(events)


def drop(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    events = body.split(separator)
    del events[chance.randrange(len(events))]
    return separator.join(events)


def garble(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    broken = bytearray(body)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(broken) + 1)
        broken[place : place + chance.choice((0, 0, 1, 3, 20))] = chance.choice(GARBAGE)
    return bytes(broken)


def flip(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    broken = bytearray(body)
    for _ in range(chance.randrange(1, 9) if broken else 0):
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    return bytes(broken)


def lengthen(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    """Put a very long run of one thing somewhere, often without a line's end."""
    place = chance.randrange(len(body) + 1)
    run = chance.choice((b"x", b" ", b"\\n", b"data: ", b"\n", b"\r", b'\\"', b"\\ud83d", b"9")) * 20_000
    return body[:place] + run + body[place:]


def deepen(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    """Put JSON that is nested very deeply in the place of a value."""
    depth = chance.choice((200, 700, 950, 1100, 30_000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[{}", b"")))
    places = [index for index in range(len(body)) if body[index : index + 1] == b":"]
    place = chance.choice(places) + 1 if places else 0
    return body[:place] + opening * depth + b"1" + closing * depth + b"," + body[place:]


def swap(body: bytes, chance: random.Random, separator: bytes) -> bytes:
    """Put a value of another kind in the place of a short value."""
    begin = body.find(b":", chance.randrange(len(body) + 1))
    end = min((index for index in (body.find(mark, begin) for mark in (b",", b"}")) if index > begin), default=-1)
    if begin < 0 or end < 0:
        return body
    value = chance.choice((b"null", b"{}", b"[]", b"[1]", b'"s"', b"1", b"true", b'{"a":[null]}', b'""', b"1.5"))
    return body[: begin + 1] + value + body[end:]


HANDS = (cut, cut_between, duplicate, reorder, drop, garble, garble, flip, lengthen, deepen, swap, swap)


def changed(name: str, chance: random.Random) -> bytes:
    """Return a stream changed in one to three ways."""
    body = chance.choice(streams(name))
    for _ in range(chance.choice((1, 1, 2, 3))):
        body = chance.choice(HANDS)(body, chance, SUBJECTS[name].separator)
    return body


def pieces(body: bytes, chance: random.Random) -> list[bytes]:
    """Return a body in pieces: whole, in a few, or in very many small ones."""
    match chance.randrange(4):
        case 0:
            return [body]
        case 1 if len(body) < 4_000:
            return corpus.pieces(body, range(len(body)))
        case _:
            return corpus.pieces(body, (chance.randrange(len(body) + 1) for _ in range(8)))


# ------------------------------------------------------------------------------------------------- what must hold


def outcome(name: str, parts: list[bytes]) -> tuple[list[Event], ProviderError | None]:
    """Return what a body comes to: all its events, and the error that ended it, if one did."""
    reader = SUBJECTS[name].dialect.decoder(Head(200, {}), Flags(provider="test"), stream=True)
    events: list[Event] = []

    def read() -> Iterator[Event]:
        for part in parts:
            yield from reader.feed(part)
            if reader.done:
                return
        yield from reader.close()

    try:
        events.extend(read())
    except ProviderError as error:
        return events, error
    assert reader.done
    return events, None


def check(name: str, body: bytes, parts: list[bytes]) -> str:
    """Assert what holds for any bytes, and return the kind of end."""
    events, error = outcome(name, parts)
    ends = [event for event in events if isinstance(event, Finish)]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    text.encode()  # no half of a character gets out
    if error is not None:
        assert not ends
        assert len(error.message) < 1000
        assert error.partial == text or not error.partial
        return error.kind
    (finish,) = ends
    assert events[-1] is finish
    assert is_whole(body) or any(marker in body for marker in SUBJECTS[name].markers)
    if finish.raw_reason is not None and finish.raw_reason.isalpha():
        assert finish.raw_reason.encode() in body
    if not re.search(rb"[tT]oken|count", body):
        assert finish.usage == Usage()
    told: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            told.setdefault(event.index, []).append(event.arguments)
    assert ["".join(told[index]) for index in sorted(told)] == [call.raw for call in finish.tool_calls]
    for part in finish.parts:
        json.loads(part.raw)
    return "answer"


def is_whole(body: bytes) -> bool:
    """Tell whether a body begins as no stream of events does, so that it is read as one answer."""
    return body.lstrip()[:1] in {b"{", b"[", b'"'}


def fuzz(name: str, rounds: int, seed: int) -> Counter[str]:
    """Change and read `rounds` streams; a failure names the one number that makes it again."""
    ends: Counter[str] = Counter()
    for number in range(rounds):
        chance = random.Random(f"{name}/{seed}/{number}")
        body = changed(name, chance)
        parts = pieces(body, chance)
        started = time.process_time()
        try:
            ends[check(name, body, parts)] += 1
        except Exception as error:
            error.add_note(f"{name}, seed {seed}, number {number}: {body[:300]!r}")
            raise
        assert time.process_time() - started < SECONDS, (name, seed, number)
    return ends


@pytest.mark.parametrize("name", SUBJECTS)
def test_changed_streams(name: str) -> None:
    """Of 1,500 changed streams each ends in an answer whose marker came, or in one of our errors, and soon."""
    ends = fuzz(name, 1_500, SEED)
    assert ends.total() == 1_500
    assert ends["answer"] > 100
    assert ends["incomplete_stream"] > 100
    assert ends["malformed_response"] > 100


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("name", SUBJECTS)
def test_very_many_changed_streams(name: str, half: int) -> None:
    """Of 200,000 changed streams each ends in an answer whose marker came, or in one of our errors, and soon."""
    print(name, half, dict(fuzz(name, 100_000, half)))


@pytest.mark.parametrize("name", SUBJECTS)
def test_any_pieces_of_a_changed_stream(name: str) -> None:
    """Broken or not, a stream comes to the same events and the same error, however it is cut into pieces."""
    for number in range(150):
        chance = random.Random(f"{name}/{number}")
        body = changed(name, chance)
        one, other = outcome(name, [body]), outcome(name, pieces(body, chance))
        assert one[0] == other[0], number
        assert type(one[1]) is type(other[1]), number


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("depth", [100, 900, 1_000, 100_000, 2_000_000])
def test_json_nested_without_end(name: str, depth: int) -> None:
    """JSON nested as deeply as anyone likes is an answer or an error of ours, and the interpreter lives."""
    body = streams(name)[0]
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * depth + b"1" + closing * depth
        for place in (body.index(b":"), body.rindex(b"}")):
            check(name, body, [body[:place] + b',"deep":' + deep + body[place:], body])
        first = body.index(b"{")
        check(name, body, [body[: first + 1] + b'"deep":' + deep + b"," + body[first + 1 :]])


@pytest.mark.parametrize("name", SUBJECTS)
def test_json_nested_almost_too_deeply(name: str) -> None:
    """JSON that can just be read, and not be written again, is an answer or an error of ours, in every place."""
    body = SUBJECTS[name].made()
    room = sys.getrecursionlimit() - len(inspect.stack())
    for place in [index for index, byte in enumerate(body) if byte == ord("{")]:
        for depth in range(room - 40, room + 4):
            deep = b'"deep":' + b"[" * depth + b"]" * depth + b","
            check(name, body, [body[: place + 1] + deep + body[place + 1 :]])


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize(
    "written", [b"x", b"data: x", b'{"a":"', b"\\ud83d", b" ", b"\n", b"\r", b": c\n", b"data:\n", b"{}\n"]
)
def test_a_sender_that_never_ends(name: str, written: bytes) -> None:
    """A megabyte and a half of anything takes seconds and little more memory than their own, and are no answer."""
    piece = written * (64 * 1024 // len(written))
    tracemalloc.start()
    try:
        events, error = outcome(name, [piece] * 24)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not any(isinstance(event, Finish) for event in events)
    assert isinstance(error, IncompleteStreamError | MalformedResponseError)
    assert peak < MEMORY
