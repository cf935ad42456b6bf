"""Answers and errors, from the server half to the client half."""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import answers
import corpus
from pairs import PAIRS, STAMP
from veyra import errors
from veyra.types import (
    Event,
    Finish,
    FinishReason,
    ModelWarning,
    Opaque,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from veyra.wire.calls import parse

DIALECTS = list(PAIRS)
STREAMED = [False, True]
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
names = st.text("abcXYZ_09", min_size=1, max_size=6)
objects = st.dictionaries(names, words | st.integers() | st.booleans(), max_size=2)
count = st.integers(0, 999)
maybe = st.none() | count
kinds_told = st.lists(st.sampled_from(["text", "reasoning", "call"]), max_size=4)


def text_of(events: Sequence[Event], kind: type[TextDelta | ReasoningDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@cache
@st.composite
def usages(draw: st.DrawFn, dialect: str, *, stream: bool) -> Usage:
    """Counts that agree with each other, as far as the dialect can tell them, known or not."""
    if dialect == "ollama":
        return Usage(input_total=draw(maybe), output_total=draw(maybe))
    fresh, read, output = draw(count), draw(maybe), draw(count)
    written = None if dialect == "gemini" else draw(maybe)
    reasoning = draw(st.none() | st.integers(0, output))
    total = fresh + (read or 0) + (written or 0)
    known = Usage(
        input_total=total,
        input_uncached=fresh,
        cache_read=read,
        cache_write=written,
        output_total=output,
        reasoning=reasoning,
    )
    if dialect == "anthropic":
        unknown = not stream and draw(st.booleans())  # a stream's first event must state counts
        return Usage(cache_read=read, cache_write=written) if unknown else known
    if draw(st.booleans()):
        return Usage(output_total=draw(maybe))
    return known if read is not None else replace(known, input_uncached=None)


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text cut into pieces."""
    cuts = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(cuts)] or [""]


@cache
@st.composite
def told(draw: st.DrawFn, dialect: str, *, stream: bool) -> list[Event]:
    """The events of an answer: text, reasoning and calls in any order, their pieces too, and the end."""
    events: list[Event] = []
    calls: list[ToolCall] = []
    for kind in draw(kinds_told):
        if kind != "call":
            delta = TextDelta if kind == "text" else ReasoningDelta
            events += [delta(piece) for piece in draw(pieces(draw(words)))]
            continue
        may_be_no_json = (stream and dialect not in {"ollama", "gemini"}) or dialect.startswith("openai")
        raw = draw(words) if may_be_no_json and draw(st.booleans()) else msgspec.json.encode(draw(objects)).decode()
        index, call = len(calls), ToolCall(f"c{len(calls)}", draw(names), parse(raw), raw)
        calls.append(call)
        first, *rest = draw(pieces(raw))
        events.append(ToolCallDelta(index, call.id, call.name, first))
        events += [ToolCallDelta(index, arguments=piece) for piece in rest]
    if draw(st.booleans()):
        events.insert(draw(st.integers(0, len(events))), ModelWarning("odd", "something"))
    reasons: list[FinishReason] = ["tool_calls" if calls else "stop", "length"]
    if dialect != "ollama":
        reasons.append("content_filter")
    finish = Finish(
        reason=draw(st.sampled_from(reasons)),
        usage=draw(usages(dialect, stream=stream)),
        model=STAMP.model,
        response_id=None if dialect == "ollama" else STAMP.id,
        request_id=None if dialect in {"ollama", "gemini"} else STAMP.request_id,
        tool_calls=tuple(calls),
    )
    return [*events, finish]


def without_parts(finish: Finish) -> Finish:
    """An end without what only the provider's side knows: its own words and blocks."""
    return replace(finish, raw_reason=None, parts=())


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=120)
@given(random=st.data())
def test_the_client_half_reads_what_the_server_half_wrote(dialect: str, stream: bool, random: st.DataObject) -> None:
    """Text, reasoning, calls and the end arrive as they were told, whole or streamed, however the bytes are cut."""
    pair = PAIRS[dialect]
    events = random.draw(told(dialect, stream=stream))
    head, wrote = pair.written(events, stream=stream)
    body = b"".join(wrote)
    cut = corpus.pieces(body, random.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    read = pair.read(head, cut, stream=stream)
    assert read.text == text_of(events, TextDelta)
    assert read.reasoning == text_of(events, ReasoningDelta)
    end = events[-1]
    assert isinstance(end, Finish)
    assert without_parts(read.finish) == without_parts(end)
    for index, call in enumerate(end.tool_calls):
        assert read.arguments(index) == call.raw


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=60)
@given(random=st.data())
def test_an_answer_with_its_own_blocks_is_told_with_them(dialect: str, stream: bool, random: st.DataObject) -> None:
    """What the client half read, told again with the blocks it kept, is read as the same end, blocks included."""
    pair = PAIRS[dialect]
    first = pair.read(*pair.written(random.draw(told(dialect, stream=stream)), stream=stream), stream=stream)
    again = pair.read(*pair.written(first.events, stream=stream), stream=stream)
    assert replace(again.finish, parts=()) == replace(first.finish, parts=())
    assert [json.loads(part.raw) for part in again.finish.parts] == [
        json.loads(part.raw) for part in first.finish.parts
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_whose_arguments_are_the_reasoning_stays_a_call(dialect: str) -> None:
    """What is told again with its blocks is told by what it is, even where two blocks have the same text."""
    pair, raw = PAIRS[dialect], "{}"
    call = ToolCall("c0", "look", parse(raw), raw)
    deltas: list[Event] = [ReasoningDelta(raw), ToolCallDelta(0, call.id, call.name, raw)]
    finish = Finish(reason="tool_calls", model=STAMP.model, response_id=STAMP.id, tool_calls=(call,))
    first = pair.read(*pair.written([*deltas, finish], stream=True), stream=True)
    again = pair.read(*pair.written(first.events, stream=True), stream=True)
    assert again.finish == first.finish
    assert [(call.name, call.raw) for call in again.finish.tool_calls] == [("look", raw)]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(random=st.data())
def test_interleaved_calls_are_told_apart(dialect: str, random: st.DataObject) -> None:
    """Calls whose pieces come in turns arrive whole, each with its own arguments."""
    pair = PAIRS[dialect]
    raws = [msgspec.json.encode(random.draw(objects)).decode() for _ in range(2)]
    events: list[Event] = [ToolCallDelta(index, f"c{index}", f"tool_{index}") for index in range(2)]
    queues = [list(random.draw(pieces(raw))) for raw in raws]
    while any(queues):
        index = random.draw(st.sampled_from([index for index, queue in enumerate(queues) if queue]))
        events.append(ToolCallDelta(index, arguments=queues[index].pop(0)))
    calls = tuple(ToolCall(f"c{index}", f"tool_{index}", parse(raw), raw) for index, raw in enumerate(raws))
    events.append(Finish(reason="tool_calls", tool_calls=calls))
    read = pair.read(*pair.written(events, stream=True), stream=True)
    assert read.finish.tool_calls == calls


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_calls_that_only_the_end_has_are_told(dialect: str, stream: bool) -> None:
    """A backend that tells a call's arguments with its end alone, or the call, loses nothing."""
    pair = PAIRS[dialect]
    calls = (ToolCall("c0", "add", {"a": 1}), ToolCall("c1", "add", {"b": 2}))
    events: list[Event] = [ToolCallDelta(0, "c0", "add"), Finish(reason="tool_calls", tool_calls=calls)]
    read = pair.read(*pair.written(events, stream=stream), stream=stream)
    assert [(call.id, call.name, call.arguments) for call in read.finish.tool_calls] == [
        ("c0", "add", {"a": 1}),
        ("c1", "add", {"b": 2}),
    ]


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_without_an_id_gets_one(dialect: str, stream: bool) -> None:
    """A call that came without an id can be answered: its place gives it one."""
    events: list[Event] = [ToolCallDelta(0, "", "add", "{}"), Finish(reason="tool_calls")]
    pair = PAIRS[dialect]
    assert pair.read(*pair.written(events, stream=stream), stream=stream).finish.tool_calls[0].id == "call_0"


@pytest.mark.parametrize("dialect", ["anthropic", "ollama", "gemini"])
def test_arguments_that_are_no_object_are_kept_under_a_key(dialect: str) -> None:
    """Where a format takes an object only, other arguments arrive as text under `INVALID_JSON`."""
    events: list[Event] = [ToolCallDelta(0, "c0", "add", '{"a": 1'), Finish(reason="tool_calls")]
    pair = PAIRS[dialect]
    read = pair.read(*pair.written(events, stream=False), stream=False)
    assert read.finish.tool_calls[0].arguments == {"INVALID_JSON": '{"a": 1'}


# --------------------------------------------------------------------------------------------- end reasons


@dataclass(frozen=True)
class Ending:
    """A reason with the provider's word for it, and how it arrives."""

    reason: FinishReason
    raw: str | None
    arrives: tuple[str, str]


ENDINGS = {
    "openai_chat": [
        Ending("stop", "end_turn", ("stop", "stop")),
        Ending("stop", "eos", ("stop", "eos")),
        Ending("length", "max_tokens", ("length", "length")),
        Ending("content_filter", "refusal", ("content_filter", "content_filter")),
        Ending("paused", "pause_turn", ("other", "pause_turn")),
        Ending("other", None, ("other", "other")),
        Ending("other", "surprise", ("other", "surprise")),
    ],
    "openai_responses": [
        Ending("stop", "end_turn", ("stop", "completed")),
        Ending("length", "length", ("length", "max_output_tokens")),
        Ending("content_filter", "refusal", ("content_filter", "content_filter")),
        Ending("paused", "pause_turn", ("other", "pause_turn")),
        Ending("other", "steered", ("other", "steered")),
    ],
    "anthropic": [
        Ending("stop", "stop", ("stop", "end_turn")),
        Ending("stop", "stop_sequence", ("stop", "stop_sequence")),
        Ending("length", "model_context_window_exceeded", ("length", "model_context_window_exceeded")),
        Ending("content_filter", "SAFETY", ("content_filter", "refusal")),
        Ending("paused", None, ("paused", "pause_turn")),
        Ending("other", "load", ("other", "load")),
    ],
    "ollama": [
        Ending("stop", "end_turn", ("stop", "stop")),
        Ending("length", "max_tokens", ("length", "length")),
        Ending("content_filter", "refusal", ("other", "refusal")),
        Ending("paused", None, ("other", "paused")),
        Ending("other", "load", ("other", "load")),
    ],
    "gemini": [
        Ending("stop", "end_turn", ("stop", "STOP")),
        Ending("length", "max_tokens", ("length", "MAX_TOKENS")),
        Ending("content_filter", "refusal", ("content_filter", "SAFETY")),
        Ending("content_filter", "RECITATION", ("content_filter", "RECITATION")),
        Ending("paused", "pause_turn", ("paused", "CONTINUATION")),
        Ending("other", "load", ("other", "OTHER")),
        Ending("other", "LANGUAGE", ("other", "LANGUAGE")),
        Ending("other", "MALFORMED_FUNCTION_CALL", ("other", "OTHER")),
        Ending("stop", "SAFETY", ("stop", "STOP")),
    ],
}


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize(
    ("dialect", "ending"), [(dialect, ending) for dialect, endings in ENDINGS.items() for ending in endings], ids=str
)
def test_the_reason_of_an_end_is_told_in_the_format_s_words(dialect: str, ending: Ending, stream: bool) -> None:
    """A reason of another provider's is told in this format's word; where it has none, in the provider's own."""
    events: list[Event] = [TextDelta("Hi"), Finish(reason=ending.reason, raw_reason=ending.raw)]
    pair = PAIRS[dialect]
    finish = pair.read(*pair.written(events, stream=stream), stream=stream).finish
    assert (finish.reason, finish.raw_reason) == ending.arrives


# --------------------------------------------------------------------------------------- the wire as it is


def events_of(body: bytes) -> Iterator[tuple[str, Any]]:
    """The events of a stream: their names, and their data."""
    for block in body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        yield fields.get("event", ""), data if data == "[DONE]" else json.loads(data)


ANSWER: list[Event] = [
    ReasoningDelta("Hm."),
    TextDelta("It is "),
    TextDelta("sunny."),
    ToolCallDelta(0, "call_a", "look", '{"at":'),
    ToolCallDelta(0, arguments='"sky"}'),
    Finish(
        reason="tool_calls",
        usage=Usage(input_total=10, input_uncached=4, cache_read=6, output_total=7, reasoning=3),
        tool_calls=(ToolCall("call_a", "look", {"at": "sky"}, '{"at":"sky"}'),),
    ),
]


def test_a_chat_stream_on_the_wire() -> None:
    """A chat stream names the role first, tells usage in a chunk of its own and ends with `[DONE]`."""
    head, wrote = PAIRS["openai_chat"].written(ANSWER, stream=True)
    assert head.headers["content-type"].startswith("text/event-stream")
    assert head.headers["x-request-id"] == "req_1"
    names_and_chunks = list(events_of(b"".join(wrote)))
    assert {name for name, _ in names_and_chunks} == {""}
    chunks = [chunk for _, chunk in names_and_chunks]
    assert chunks[-1] == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-2]]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "Hm."},
        {"content": "It is "},
        {"content": "sunny."},
        {
            "tool_calls": [
                {"index": 0, "id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"at":'}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '"sky"}'}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-2]] == [None] * 6 + ["tool_calls"]
    assert all(chunk["usage"] is None for chunk in chunks[:-2])
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    same = {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks[:-1]}
    assert same == {("id_1", "chat.completion.chunk", 1_700_000_000, "some-model")}


def test_usage_is_told_in_a_chat_stream_only_where_it_was_asked_for() -> None:
    """Without `stream_options.include_usage` no chunk has a usage."""
    server = PAIRS["openai_chat"].server
    request = server.request(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}')
    encoder = server.encoder(request, STAMP)
    chunks = list(events_of(b"".join(map(encoder.write, ANSWER))))
    assert not any("usage" in chunk for _, chunk in chunks[:-1])


def test_a_message_stream_on_the_wire() -> None:
    """A stream of Anthropic's has named events, blocks that end in their order, and totals before its end."""
    head, wrote = PAIRS["anthropic"].written(ANSWER, stream=True)
    assert head.headers["request-id"] == "req_1"
    events = list(events_of(b"".join(wrote)))
    assert all(name == event["type"] for name, event in events)
    assert [(name, event.get("index")) for name, event in events] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 0),
        ("content_block_stop", 1),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert events[0][1]["message"]["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert events[-2][1]["usage"] == {
        "input_tokens": 4,
        "cache_read_input_tokens": 6,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }


def test_blocks_end_as_soon_as_they_can() -> None:
    """Without thinking, a text ends when a call begins, and a call with complete arguments when the next begins."""
    events: list[Event] = [
        TextDelta("So."),
        ToolCallDelta(0, "a", "f", "{}"),
        ToolCallDelta(1, "b", "f", '{"x"'),
        ToolCallDelta(2, "c", "f", "{}"),
        ToolCallDelta(1, arguments=":1}"),
        Finish(reason="tool_calls"),
    ]
    _, wrote = PAIRS["anthropic"].written(events, stream=True)
    ends = [[event["index"] for name, event in events_of(piece) if name == "content_block_stop"] for piece in wrote]
    assert ends == [[], [0], [1], [], [], [2, 3]]


def test_a_response_stream_on_the_wire() -> None:
    """A stream of Responses counts its events, names them, and tells each item from its beginning to its end."""
    _, wrote = PAIRS["openai_responses"].written(ANSWER, stream=True)
    events = list(events_of(b"".join(wrote)))
    assert [event["sequence_number"] for _, event in events] == list(range(len(events)))
    assert all(name == event["type"] for name, event in events)
    assert [name.removeprefix("response.") for name, _ in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    items = [event["item"] for name, event in events if name == "response.output_item.done"]
    assert events[-1][1]["response"]["output"] == items
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call"]
    assert items[2]["call_id"] == "call_a"


def test_a_response_repeats_what_was_asked() -> None:
    """A response holds the request's instructions, tools and options; what was not set is null."""
    server = PAIRS["openai_responses"].server
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
    asked = {"model": "m", "input": "Hi", "instructions": "Be brief.", "tools": [tool], "temperature": 0.5}
    encoder = server.encoder(server.request(json.dumps(asked).encode()), STAMP)
    response = json.loads(b"".join(map(encoder.write, ANSWER)))
    assert response["instructions"] == "Be brief."
    assert response["tools"] == [tool]
    assert (response["temperature"], response["top_p"]) == (0.5, None)
    assert response["usage"]["total_tokens"] == 17


def test_a_custom_tool_is_called_by_its_own_kind_of_item() -> None:
    """A call of a tool that was declared as `custom` comes as free text, as its declarer expects it."""
    pair = PAIRS["openai_responses"]
    asked = {"model": "m", "input": "Hi", "tools": [{"type": "custom", "name": "patch"}], "stream": True}
    encoder = pair.server.encoder(pair.server.request(json.dumps(asked).encode()), STAMP)
    events: list[Event] = [
        ToolCallDelta(0, "c", "patch", "*** Begin"),
        ToolCallDelta(0, arguments=" Patch"),
        Finish(reason="tool_calls"),
    ]
    wrote = [encoder.write(event) for event in events]
    last = list(events_of(b"".join(wrote)))[-1][1]
    assert [(item["type"], item["input"]) for item in last["response"]["output"]] == [
        ("custom_tool_call", "*** Begin Patch")
    ]
    read = pair.read(encoder.head(), wrote, stream=True)
    assert [call.raw for call in read.finish.tool_calls] == ["*** Begin Patch"]


@pytest.mark.parametrize("stream", STREAMED)
def test_a_custom_tool_of_chat_is_called_in_its_own_form(stream: bool) -> None:
    """A chat call of a tool that was declared as `custom` has an `input`, not arguments."""
    pair = PAIRS["openai_chat"]
    tool = {"type": "custom", "custom": {"name": "patch"}}
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [tool], "stream": stream}
    encoder = pair.server.encoder(pair.server.request(json.dumps(asked).encode()), STAMP)
    begin, more = ToolCallDelta(0, "c", "patch", "*** Begin"), ToolCallDelta(0, arguments=" Patch")
    wrote = [encoder.write(event) for event in (begin, more, Finish(reason="tool_calls"))]
    assert b'"type":"custom","custom":{"name":"patch","input":"*** Begin' in b"".join(wrote)
    assert (b'"custom":{"input":" Patch"}' in b"".join(wrote)) is stream
    read = pair.read(encoder.head(), wrote, stream=stream)
    assert [call.raw for call in read.finish.tool_calls] == ["*** Begin Patch"]


def test_anthropic_is_told_what_came_from_no_cache() -> None:
    """Where a provider counts only the total, what went through the cache is taken off it."""
    usage = Usage(input_total=10, cache_read=6, cache_write=1, output_total=7)
    _, wrote = PAIRS["anthropic"].written([TextDelta("Hi"), Finish(reason="stop", usage=usage)], stream=False)
    assert json.loads(b"".join(wrote))["usage"]["input_tokens"] == 3


def test_lines_of_ollama_on_the_wire() -> None:
    """Ollama's lines have a time each; calls come whole in a line before the last, which tells counts and times."""
    head, wrote = PAIRS["ollama"].written(ANSWER, stream=True, pause=0.5)
    assert head.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in b"".join(wrote).splitlines()]
    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "Hm."},
        {"role": "assistant", "content": "It is "},
        {"role": "assistant", "content": "sunny."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_a", "function": {"index": 0, "name": "look", "arguments": {"at": "sky"}}}],
        },
        {"role": "assistant", "content": ""},
    ]
    assert lines[0]["created_at"] == "2023-11-14T22:13:20.750000Z"
    assert {name: value for name, value in lines[-1].items() if name not in {"model", "created_at", "message"}} == {
        "done": True,
        "done_reason": "stop",
        "total_duration": 3_000_000_000,
        "prompt_eval_count": 10,
        "prompt_eval_duration": 500_000_000,
        "eval_count": 7,
        "eval_duration": 2_500_000_000,
    }


# --------------------------------------------------------------------------------------- a provider's own blocks


def test_seals_of_thinking_survive() -> None:
    """A signature arrives in its block, streamed or whole, and blocks that no event tells come, too."""
    parts = (
        Opaque("anthropic", b'{"type":"thinking","thinking":"Hm.","signature":"c2VhbA=="}'),
        Opaque("anthropic", b'{"type":"text","text":"Yes."}'),
        Opaque("anthropic", b'{"type":"redacted_thinking","data":"zzz"}'),
    )
    events: list[Event] = [ReasoningDelta("Hm."), TextDelta("Yes."), Finish(reason="stop", parts=parts)]
    pair = PAIRS["anthropic"]
    for stream in STREAMED:
        arrived = pair.read(*pair.written(events, stream=stream), stream=stream).finish.parts
        assert [json.loads(part.raw) for part in arrived] == [json.loads(part.raw) for part in parts]


def test_blocks_that_are_not_what_was_told_are_not_used() -> None:
    """Where the events say another text than the provider's blocks (it was masked, say), the events count."""
    for dialect, raw in {
        "anthropic": b'{"type":"text","text":"My number is 555"}',
        "openai_responses": b'{"type":"message","content":[{"type":"output_text","text":"My number is 555"}]}',
        "openai_chat": b'{"role":"assistant","content":"My number is 555"}',
        "ollama": b'{"role":"assistant","content":"My number is 555"}',
        "gemini": b'{"text":"My number is 555","thoughtSignature":"c2VhbA=="}',
    }.items():
        events: list[Event] = [TextDelta("My number is ***"), Finish(reason="stop", parts=(Opaque(dialect, raw),))]
        for stream in STREAMED:
            _, wrote = PAIRS[dialect].written(events, stream=stream)
            assert b"555" not in b"".join(wrote)


def test_encrypted_reasoning_survives() -> None:
    """An item of reasoning ends with its encrypted content, before the items after it, and is listed at the end."""
    raw = b'{"type":"reasoning","id":"rs_9","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"zzz"}'
    said = b'{"type":"message","id":"msg_9","role":"assistant","content":[{"type":"output_text","text":"Yes."}]}'
    parts = (Opaque("openai_responses", raw), Opaque("openai_responses", said))
    events: list[Event] = [ReasoningDelta("Hm."), TextDelta("Yes."), Finish(reason="stop", parts=parts)]
    pair = PAIRS["openai_responses"]
    for stream in STREAMED:
        arrived = pair.read(*pair.written(events, stream=stream), stream=stream)
        assert arrived.finish.parts == parts
        assert (arrived.text, arrived.reasoning) == ("Yes.", "Hm.")
    _, wrote = pair.written(events, stream=True)
    done = [event["item"] for name, event in events_of(b"".join(wrote)) if name == "response.output_item.done"]
    assert done[0] == json.loads(raw)


def test_what_else_a_message_holds_survives() -> None:
    """Fields of a chat message that we have no word for, and log probabilities, arrive with the end."""
    logprobs = {"content": [{"token": "Yes", "logprob": -0.1}]}
    parts = (
        Opaque("openai_chat", b'{"role":"assistant","content":"Yes","reasoning_details":[{"type":"x","data":"y"}]}'),
        Opaque("openai_chat.answer", json.dumps({"citations": ["a"], "logprobs": logprobs}).encode()),
    )
    events: list[Event] = [TextDelta("Yes"), Finish(reason="stop", parts=parts)]
    pair = PAIRS["openai_chat"]
    for stream in STREAMED:
        kept = pair.read(*pair.written(events, stream=stream), stream=stream).finish.parts
        fields: dict[str, Any] = reduce(operator.or_, (json.loads(part.raw) for part in kept))
        assert fields["reasoning_details"] == [{"type": "x", "data": "y"}]
        assert fields["citations"] == ["a"]
        assert fields["logprobs"] == logprobs


@pytest.mark.parametrize(
    ("dialect", "raw"),
    [
        ("anthropic", b'{"type":\n"redacted_thinking","data":\r\n"zzz"}'),
        ("openai_responses", b'{"type":\n"reasoning","id":"rs_9",\r\n"summary":[]}'),
        ("openai_chat", b'{"role":"assistant",\n"reasoning_details":[1]}'),
        ("ollama", b'{"role":"assistant","content":"",\n"x_more":[1]}'),
        ("gemini", b'{"executableCode":\r\n{"code":"1"}}'),
    ],
)
def test_blocks_in_several_lines_do_not_break_a_stream(dialect: str, raw: bytes) -> None:
    """A provider's block with ends of lines between its tokens arrives in a stream, whose events are lines."""
    pair = PAIRS[dialect]
    events: list[Event] = [Finish(reason="stop", parts=(Opaque(dialect, raw),))]
    arrived = pair.read(*pair.written(events, stream=True), stream=True).finish.parts
    assert json.loads(raw).items() <= reduce(operator.or_, (json.loads(part.raw) for part in arrived)).items()


# -------------------------------------------------------------------------------------------------- errors

KINDS: list[type[errors.ProviderError]] = [
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.QuotaError,
    errors.NotFoundError,
    errors.InvalidRequestError,
    errors.ContextLengthError,
    errors.ContentPolicyError,
    errors.UnsupportedParameterError,
    errors.RateLimitError,
    errors.OverloadedError,
    errors.ServerError,
]
BROADER: dict[tuple[str, type[errors.ProviderError]], type[errors.ProviderError]] = {
    ("anthropic", errors.ContextLengthError): errors.InvalidRequestError,
    ("anthropic", errors.ContentPolicyError): errors.InvalidRequestError,
    ("anthropic", errors.UnsupportedParameterError): errors.InvalidRequestError,
    ("ollama", errors.ContextLengthError): errors.InvalidRequestError,
    ("ollama", errors.ContentPolicyError): errors.InvalidRequestError,
    ("ollama", errors.UnsupportedParameterError): errors.InvalidRequestError,
    ("gemini", errors.ContextLengthError): errors.InvalidRequestError,
    ("gemini", errors.ContentPolicyError): errors.InvalidRequestError,
    ("gemini", errors.UnsupportedParameterError): errors.InvalidRequestError,
}
"""Kinds that a format has no words for, and what arrives in their place."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_arrives_as_what_it_is(dialect: str, kind: type[errors.ProviderError]) -> None:
    """An error of any provider's arrives as the same kind, with its message, its wait and whether to try again."""
    pair = PAIRS[dialect]
    error = kind("no luck today", status=200, retry_after=7, retryable=kind is errors.RateLimitError)
    refusal = pair.server.failure(error, "req_9")
    arrived = pair.client.failure(refusal.head, refusal.body, pair.flags)
    assert type(arrived) is BROADER.get((dialect, kind), kind)
    assert "no luck today" in arrived.message
    assert arrived.retry_after == 7
    if dialect not in {"ollama", "gemini"}:
        assert arrived.request_id == "req_9"
        assert arrived.retryable == error.retryable


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_inside_a_stream_arrives_as_what_it_is(dialect: str, kind: type[errors.ProviderError]) -> None:
    """An error after the first words arrives with those words and, where the format tells it, as the same kind."""
    pair = PAIRS[dialect]
    encoder = pair.encoder(stream=True)
    wrote = [encoder.write(TextDelta("So far")), encoder.failure(kind("no luck today"))]
    decoder = pair.client.decoder(encoder.head(), pair.flags, stream=True)
    before, arrived = answers.fail(decoder, wrote)
    assert text_of(before, TextDelta) == arrived.partial == "So far"
    assert "no luck today" in arrived.message
    if dialect == "ollama" or (dialect, kind) == (
        "openai_responses",
        errors.InvalidRequestError,
    ):  # its lines have no place for a kind
        assert type(arrived) is errors.ServerError
    else:
        assert type(arrived) is BROADER.get((dialect, kind), kind)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_in_the_place_of_a_whole_answer_is_read_as_one(dialect: str) -> None:
    """A body that is an error, although the head says that all is well, is an error to the client half."""
    pair = PAIRS[dialect]
    encoder = pair.encoder(stream=False)
    decoder = pair.client.decoder(encoder.head(), pair.flags, stream=False)
    _, arrived = answers.fail(decoder, [encoder.failure(errors.ServerError("no luck today"))])
    assert type(arrived) is errors.ServerError


OWN_WORDS = [
    ("openai_chat", errors.QuotaError, 429, "insufficient_quota", "billing_hard_limit_reached"),
    ("openai_chat", errors.InvalidRequestError, 422, "invalid_request_error", "odd_code"),
    ("openai_responses", errors.RateLimitError, 429, "tokens", "rate_limit_exceeded"),
    ("anthropic", errors.QuotaError, 429, "rate_limit_error", "enforced_spend_limit_reached"),
    ("anthropic", errors.InvalidRequestError, 413, "request_too_large", None),
    ("anthropic", errors.OverloadedError, 529, "overloaded_error", None),
    ("gemini", errors.AuthenticationError, 400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
    ("gemini", errors.InvalidRequestError, 400, "FAILED_PRECONDITION", "400"),
    ("gemini", errors.ServerError, 500, "INTERNAL", "500"),
]


@pytest.mark.parametrize(("dialect", "kind", "status", "word", "code"), OWN_WORDS)
def test_a_provider_s_own_words_are_kept(
    dialect: str, kind: type[errors.ProviderError], status: int, word: str, code: str | None
) -> None:
    """An error's own status, type and code go out where a client of the format reads them as the same kind."""
    pair = PAIRS[dialect]
    refusal = pair.server.failure(kind("no", status=status, provider_type=word, provider_code=code), "req_9")
    assert refusal.head.status == status
    arrived = pair.client.failure(refusal.head, refusal.body, pair.flags)
    assert (type(arrived), arrived.provider_type, arrived.provider_code) == (kind, word, code)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_another_provider_s_words_do_not_mislead(dialect: str) -> None:
    """Words that a client of the format would take for another kind are replaced by the format's own."""
    pair = PAIRS[dialect]
    error = errors.QuotaError("spent", status=429, provider_type="rate_limit_error", provider_code="out_of_money")
    refusal = pair.server.failure(error, "req_9")
    assert type(pair.client.failure(refusal.head, refusal.body, pair.flags)) is errors.QuotaError


UNSENT: list[tuple[errors.VeyraError, dict[str, int]]] = [
    (errors.ConnectionFailedError("x"), {"openai_chat": 502, "anthropic": 500, "ollama": 502, "gemini": 500}),
    (
        errors.CallTimeoutError("x", phase="total", limit=1),
        {"openai_chat": 504, "anthropic": 504, "ollama": 504, "gemini": 504},
    ),
    (errors.CircuitOpenError("x"), {"openai_chat": 503, "anthropic": 529, "ollama": 503, "gemini": 503}),
    (errors.BudgetExceededError("x"), {"openai_chat": 429, "anthropic": 402, "ollama": 402, "gemini": 403}),
    (errors.AuditUnavailableError("x"), {"openai_chat": 500, "anthropic": 500, "ollama": 500, "gemini": 500}),
]


@pytest.mark.parametrize(("error", "statuses"), UNSENT, ids=lambda value: type(value).__name__)
def test_errors_that_no_provider_sent_have_a_status(error: errors.VeyraError, statuses: dict[str, int]) -> None:
    """What went wrong on our side is told as a gateway's failure, a full queue or an empty purse."""
    for dialect, status in statuses.items():
        assert PAIRS[dialect].server.failure(error, "req_9").head.status == status


def test_a_wait_is_told_in_seconds_and_exactly() -> None:
    """Half seconds to wait are rounded up in `retry-after` and told exactly in `retry-after-ms`."""
    refusal = PAIRS["openai_chat"].server.failure(errors.RateLimitError("x", retry_after=1.5), "req_9")
    assert refusal.head.headers["retry-after"] == "2"
    assert refusal.head.headers["retry-after-ms"] == "1500"
    assert refusal.head.headers["x-should-retry"] == "true"


def test_the_bodies_of_errors() -> None:
    """Each provider's own shape of an error's body."""
    error = errors.NotFoundError("no model 'x'")
    bodies = {name: json.loads(pair.server.failure(error, "req_9").body) for name, pair in PAIRS.items()}
    openai = {
        "error": {
            "message": "no model 'x'",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }
    assert bodies == {
        "openai_chat": openai,
        "openai_responses": openai,
        "anthropic": {
            "type": "error",
            "error": {"type": "not_found_error", "message": "no model 'x'"},
            "request_id": "req_9",
        },
        "ollama": {"error": "no model 'x'"},
        "gemini": {"error": {"code": 404, "message": "no model 'x'", "status": "NOT_FOUND"}},
    }
