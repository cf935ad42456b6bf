"""The twenty checks that every backend must pass (wire facts, section 8), through the public interface.

Each test has its check's number in its name and runs for every wire format that the check is about. What some of them
need at length is tested elsewhere as well; here stands the short form, so that the list can be read from end to end.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Mapping
from typing import Any

import pytest

import virtual
from loopback import CLOSE, RESET, STALL, Act, Loopback, chunk, in_thread, reply, until
from veyra import AuditLog, get_backend
from veyra.errors import (
    EXCERPT_LIMIT,
    CallTimeoutError,
    ContextLengthError,
    IncompleteStreamError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedParameterError,
)
from veyra.models.gate import Gate
from veyra.transport.script import Answer, ScriptedTransport, Step
from veyra.types import Event, Message, ModelResponse, TextDelta, Timeouts, ToolCall, Usage
from wires import HELLO, JSON, WIRES, Said, sse

KEY = "sk-canary-0123456789"
ROOTS = {"chat": "/v1", "responses": "/v1"}
"""What a base URL ends with, by wire."""

every_wire = pytest.mark.parametrize("name", WIRES)


def backend_for(name: str, *script: Step, **options: Any) -> tuple[Gate, ScriptedTransport, AuditLog]:
    wire, transport, log = WIRES[name], ScriptedTransport(script), AuditLog.memory()
    more = {"model": "m", "api_key": KEY, "audit": log, **wire.options, **options}
    return get_backend(wire.backend, transport=transport, **more), transport, log


def online(name: str, server: Loopback, log: AuditLog) -> Gate:
    """Return a backend that asks a server over HTTP."""
    wire = WIRES[name]
    url = server.url + ROOTS.get(name, "")
    return get_backend(wire.backend, model="m", api_key=KEY, base_url=url, audit=log, **wire.options)


def streamed(name: str, said: Said = HELLO) -> Answer:
    wire = WIRES[name]
    return Answer(headers=wire.head(stream=True), chunks=wire.stream(said))


def told(name: str, *chunks: bytes) -> Answer:
    """An answer whose stream is written out."""
    return Answer(headers=WIRES[name].head(stream=True), chunks=chunks)


def whole(name: str, said: Said = HELLO) -> Answer:
    wire = WIRES[name]
    return Answer(headers=wire.head(stream=False), chunks=[wire.whole(said)])


def begun(name: str) -> list[bytes]:
    """The events of a stream up to the first word of its text."""
    events = WIRES[name].stream(HELLO)
    return events[: next(number for number, event in enumerate(events) if b'"Hel"' in event) + 1]


async def read(backend: Gate, **options: Any) -> ModelResponse:
    async with backend.stream("Hi", **options) as reading:
        async for _ in reading:
            pass
    return reading.response


async def refusal(name: str, step: Step, **options: Any) -> ProviderError:
    """Return the error that an answer comes to, of which exactly one attempt was made."""
    backend, transport, log = backend_for(name, step)
    with pytest.raises(ProviderError) as caught:
        await backend.generate("Hi", **options)
    assert len(transport.sent) == len(list(log.attempts())) == 1
    assert caught.value.model == "m"
    return caught.value


def statuses(log: AuditLog) -> list[str]:
    return [row.status for row in log.attempts()]


# ------------------------------------------------------------------------------------------- ends and errors


@every_wire
async def test_01_a_truncated_stream_is_no_success(name: str) -> None:
    """A stream that ends cleanly without its terminal marker is incomplete, with what came of it."""
    backend, _, log = backend_for(name, told(name, *begun(name)))
    with pytest.raises(IncompleteStreamError) as caught:
        await read(backend)
    assert caught.value.partial == "Hel"
    assert statuses(log) == ["incomplete"]


@every_wire
@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_02_a_cut_connection_is_incomplete_and_ambiguous(name: str, end: Act) -> None:
    """A connection that breaks within the answer is the same, and may have been billed."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {WIRES[name].media_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    log = AuditLog.memory()
    async with Loopback([[head, *map(chunk, begun(name)), end]]) as server, online(name, server, log) as backend:
        with pytest.raises(IncompleteStreamError) as caught:
            await read(backend)
    assert caught.value.ambiguous
    assert caught.value.retryable
    assert "Hel".startswith(caught.value.partial)  # a reset may overtake what was sent before it
    assert statuses(log) == ["incomplete"]


@every_wire
async def test_03_an_error_inside_a_stream_is_typed(name: str) -> None:
    """An error inside a 200 is raised as what it is, with the text so far and the request's id, where there is one."""
    backend, _, log = backend_for(name, told(name, *begun(name), WIRES[name].error))
    with pytest.raises(OverloadedError) as caught:
        await read(backend)
    assert (caught.value.status, caught.value.partial, caught.value.retryable) == (200, "Hel", True)
    assert caught.value.request_id == ("req-1" if WIRES[name].id_header else None)
    assert statuses(log) == ["error"]


LATER = {"retry-after": "Mon, 23 Nov 2026 10:00:30 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}


@every_wire
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "7"}, 7), (LATER, 30), ({"retry-after-ms": "1500"}, 1.5), ({}, None), ({"retry-after": "9999"}, 9999)],
    ids=["seconds", "date", "ms", "none", "long"],
)  # fmt: skip
async def test_04_a_rate_limit_says_how_long_to_wait(name: str, headers: dict[str, str], seconds: float | None) -> None:
    """The wait is read in every form; one that Anthropic does not state is not to be waited for."""
    error = await refusal(name, Answer(status=429, headers=headers, chunks=[b"{}"]))
    assert type(error) is RateLimitError
    assert error.retry_after == seconds
    assert error.retryable is not (name == "anthropic" and seconds is None)


_SPENT = '{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"%s"}}}'


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("chat", 429, '{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}'),
        ("responses", 429, '{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}'),
        ("chat", 402, '{"error":{"message":"m","code":402}}'),
        ("anthropic", 429, _SPENT % "enforced_spend_limit_reached"),
        ("anthropic", 429, _SPENT % "contract_spend_limit_reached"),
        ("anthropic", 402, '{"type":"error","error":{"type":"billing_error","message":"m"}}'),
        ("ollama", 402, '{"error":"m"}'),
        ("gemini", 402, '{"error":{"code":402,"message":"m"}}'),
    ],
)
async def test_05_a_spent_quota_is_asked_once(name: str, status: int, body: str) -> None:
    """A quota or a spend limit ends the call after one attempt, whatever a header says of waiting."""
    headers = {"retry-after": "1", "x-should-retry": "true"}
    error = await refusal(name, Answer(status=status, headers=headers, chunks=[body.encode()]))
    assert type(error) is QuotaError
    assert not error.retryable


@every_wire
async def test_06_529_is_overload(name: str) -> None:
    """529 means that there is no room now."""
    error = await refusal(name, Answer(status=529, headers={"content-type": JSON}, chunks=[b"{}"]))
    assert type(error) is OverloadedError
    assert error.retryable


@every_wire
async def test_07_an_html_page_is_a_short_server_error(name: str) -> None:
    """What a proxy says in HTML is an error of the server, and only its beginning is quoted."""
    page = b"<html><title>502 Bad Gateway</title>" + b"<p>cloud</p>" * 5000
    error = await refusal(name, Answer(status=502, headers={"content-type": "text/html"}, chunks=[page]))
    assert type(error) is ServerError
    assert "Bad Gateway" in str(error)
    assert len(str(error)) < EXCERPT_LIMIT + 100


# ------------------------------------------------------------------------------------------------------ usage

_COUNTS = {"prompt_tokens": 5, "completion_tokens": 1}
_DELTA = sse({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})
_STOP = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
_DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "events",
    [
        [_DELTA, _STOP, sse({"choices": [], "usage": _COUNTS}), _DONE],
        [_DELTA, sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": _COUNTS}), _DONE],
        [_DELTA, sse({"choices": [{"index": 0, "delta": {}}], "usage": _COUNTS}), _STOP, _DONE],
    ],
    ids=["extra chunk", "finish chunk", "early"],
)
async def test_08_usage_stands_on_whatever_chunk(events: list[bytes]) -> None:
    """Chat Completions servers send usage after the end, with it, or before it."""
    response = await read(backend_for("chat", told("chat", *events))[0])
    assert (response.prompt_tokens, response.completion_tokens) == (5, 1)


@every_wire
@pytest.mark.parametrize("stream", [False, True])
async def test_08_usage_that_is_missing_is_unknown(name: str, stream: bool) -> None:
    """What the provider did not count is None, and zero only in the old fields."""
    said = Said(texts=("Hello",))
    backend, _, _ = backend_for(name, streamed(name, said) if stream else whole(name, said))
    response = await (read(backend) if stream else backend.generate("Hi"))
    assert response.usage == Usage()
    assert (response.prompt_tokens, response.completion_tokens, response.cost) == (0, 0, None)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"output_tokens": 9}, Usage(16, 5, 10, 1, 9)),
        ({"output_tokens": 9, "input_tokens": 7, "cache_read_input_tokens": None}, Usage(18, 7, 10, 1, 9)),
    ],
)
async def test_09_anthropic_usage_is_merged(last: Mapping[str, Any], expected: Usage) -> None:
    """The counts of the beginning hold unless those of the end state them anew."""
    first = {"input_tokens": 5, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 1, "output_tokens": 1}
    events = (
        {"type": "message_start", "message": {"id": "m", "model": "m-1", "content": [], "usage": first}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
        {"type": "message_stop"},
    )
    response = await read(backend_for("anthropic", told("anthropic", *(sse(event) for event in events)))[0])
    assert response.usage == expected


# ------------------------------------------------------------------------------------------------- tool calls


@every_wire
async def test_10_calls_come_whole_in_any_pieces(name: str) -> None:
    """Calls, without arguments too, are put together from bytes cut anywhere, also inside a character."""
    said = Said(
        calls=(("c0", "f", ()), ("c1", "g", ('{"x": "Z', "\u00fcri", 'ch"}')), ("c2", "g", ("{}",))),
        finish="tool_calls",
    )
    body = b"".join(WIRES[name].stream(said)).replace(rb"\u00fc", "\u00fc".encode())
    step = told(name, *(body[place : place + 1] for place in range(len(body))))
    response = await read(backend_for(name, step)[0])
    assert [(call.id, call.name, call.arguments) for call in response.tool_calls] == [
        ("c0", "f", {}),
        ("c1", "g", {"x": "Z\u00fcrich"}),
        ("c2", "g", {}),
    ]
    assert response.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", ["chat", "responses", "anthropic"])
async def test_10_invalid_arguments_are_kept_and_flagged(name: str) -> None:
    """Arguments that are no JSON have no value, and their text is there; where they come as objects they cannot be such."""
    events = [event.replace(rb"\"ok\"", rb"oh no") for event in WIRES[name].stream(_one_call('{"x": "ok"}'))]
    response = await read(backend_for(name, told(name, *events))[0])
    assert response.tool_calls == (ToolCall("c0", "f", None, '{"x": oh no}'),)


def _one_call(arguments: str) -> Said:
    return Said(calls=(("c0", "f", (arguments,)),), finish="tool_calls")


_INTERLEAVED: dict[str, list[Any]] = {
    "chat": [
        {"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}
        for piece in (
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "["}},
            {"index": 0, "function": {"arguments": '"x":1}'}},
            {"index": 1, "function": {"arguments": "2]"}},
        )
    ],
    "anthropic": [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "b", "name": "g"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "[2"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '"x":1}'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "]"}},
    ],
    "responses": [
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "call_id": "a", "name": "f"}},
        {"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "b", "name": "g"}},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "[2]"},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '"x":1}'},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", _INTERLEAVED)
async def test_10_parallel_calls_may_interleave(name: str) -> None:
    """Pieces of several calls are told apart by the provider's index."""
    end = [event for event in WIRES[name].stream(Said(finish="tool_calls")) if b"message_start" not in event]
    events = [sse(event) for event in _INTERLEAVED[name]]
    response = await read(backend_for(name, told(name, *events, *end))[0])
    assert response.tool_calls == (ToolCall("a", "f", {"x": 1}, '{"x":1}'), ToolCall("b", "g", None, "[2]"))


async def test_10_calls_without_index_or_id() -> None:
    """Where a Chat Completions server leaves index or id out, calls are told apart by what is there."""
    pieces = (
        {"function": {"name": "f", "arguments": '{"x":'}},
        {"function": {"arguments": "1}"}},
        {"id": "b", "function": {"name": "g", "arguments": "{}"}},
    )
    events = [sse({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}) for piece in pieces]
    response = await read(backend_for("chat", told("chat", *events, _STOP, _DONE))[0])
    assert [(call.id, call.name, call.raw) for call in response.tool_calls] == [("", "f", '{"x":1}'), ("b", "g", "{}")]


# -------------------------------------------------------------------------------------------- what is not known


@every_wire
async def test_11_an_unknown_event_is_passed_over(name: str) -> None:
    """An event or a line of a kind that is not known is no failure and no content."""
    unknown: dict[str, bytes] = {
        "chat": sse({"object": "chat.completion.novelty", "novelty": 1}),
        "ollama": b'{"novelty": 1}\n',
        "gemini": sse({"novelty": 1}),
    }
    event = unknown.get(name, sse({"type": "novelty", "novelty": 1}, named=True))
    events = WIRES[name].stream(HELLO)
    response = await read(backend_for(name, told(name, *events[:1], event, *events[1:]))[0])
    assert (response.content, response.finish_reason) == ("Hello", "stop")


@pytest.mark.parametrize(
    ("name", "known"),
    [("chat", b'"stop"'), ("anthropic", b'"end_turn"'), ("ollama", b'"stop"'), ("gemini", b'"STOP"')],
)
async def test_11_an_unknown_finish_reason_is_kept(name: str, known: bytes) -> None:
    """A finish reason that is not known is `other`, and its word is kept."""
    events = [event.replace(known, b'"novelty"') for event in WIRES[name].stream(HELLO)]
    response = await read(backend_for(name, told(name, *events))[0])
    assert (response.content, response.finish_reason, response.raw_finish_reason) == ("Hello", "other", "novelty")


async def test_11_an_unknown_reason_for_an_incomplete_response_is_kept() -> None:
    """Responses says why it is incomplete; a reason that is not known is `other`, too."""
    body = WIRES["responses"].whole(Said(texts=("a",), finish="length")).replace(b'"max_output_tokens"', b'"novelty"')
    response = await backend_for("responses", told("responses", body))[0].generate("Hi")
    assert (response.finish_reason, response.raw_finish_reason) == ("other", "novelty")


_BLOCK = b'{"type":"novelty",  "depth":[1.0]}'
_UNKNOWN: dict[str, tuple[bytes, bytes]] = {
    "chat": (b'"role": "assistant"', b'"role": "assistant", "novelty": ' + _BLOCK),
    "responses": (b'"output": [', b'"output": [' + _BLOCK + b", "),
    "anthropic": (b'"content": [', b'"content": [' + _BLOCK + b", "),
    "ollama": (b'"role": "assistant"', b'"role": "assistant", "novelty": ' + _BLOCK),
    "gemini": (b'"parts": [', b'"parts": [' + _BLOCK + b", "),
}


@every_wire
async def test_11_unknown_content_is_kept_and_goes_back(name: str) -> None:
    """A block of a kind that is not known is kept byte for byte, and sent back in the next turn."""
    body = WIRES[name].whole(HELLO).replace(*_UNKNOWN[name])
    backend, transport, _ = backend_for(name, Answer(headers={"content-type": JSON}, chunks=[body]), whole(name))
    first = await backend.generate("Hi")
    assert first.content == "Hello"
    assert any(_BLOCK in part.raw for part in first.parts)
    await backend.generate([Message("user", "Hi"), first.message, Message("user", "Go on")])
    assert _BLOCK in transport.sent[1].body


# ----------------------------------------------------------------------------------------- waiting and cancelling

_KEEP_ALIVES = {"anthropic": sse({"type": "ping"}, named=True), "ollama": b"\n"}


@every_wire
@pytest.mark.parametrize("phase", ["first_token", "between_events"])
def test_12_keep_alives_do_not_count_as_an_answer(name: str, phase: str) -> None:
    """A stream of comments and pings runs into its clock, before its first word as after it."""
    before = begun(name) if phase == "between_events" else []
    alive = [_KEEP_ALIVES.get(name, b": keep-alive\n\n")] * 3
    step = Answer(headers=WIRES[name].head(stream=True), chunks=[*before, *alive], end="stall")

    async def main() -> AuditLog:
        backend, transport, log = backend_for(name, step)
        with pytest.raises(CallTimeoutError) as caught:
            await read(backend, timeout=Timeouts(first_token=5, between_events=2))
        assert caught.value.phase == phase
        assert transport.is_open == 0
        return log

    assert statuses(virtual.run(main())) == ["timeout"]


@every_wire
async def test_13_cancelling_closes_the_socket_and_is_recorded(name: str) -> None:
    """A cancelled call closes its connection within a second, and its record has what had come."""
    wire, log = WIRES[name], AuditLog.memory()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {wire.media_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    seen: asyncio.Queue[Event] = asyncio.Queue()

    async def watch(backend: Gate) -> None:
        async with backend.stream("Hi") as reading:
            async for event in reading:
                seen.put_nowait(event)

    async with Loopback([[head, *map(chunk, begun(name)), STALL]]) as server, online(name, server, log) as backend:
        task = asyncio.create_task(watch(backend))
        while not isinstance(await seen.get(), TextDelta):
            pass
        task.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(server.links[0].left)
        assert time.monotonic() - started < 1
    assert statuses(log) == ["cancelled"]
    bodies = [bytes(part.data) for entry in log.entries() for part in entry.parts]
    assert any(b'"Hel"' in body and b"data:" not in body for body in bodies)


# ------------------------------------------------------------------------------------------ replay and options

_SEALED: dict[str, tuple[bytes, list[bytes]]] = {
    "anthropic": (
        b'{"id":"m","type":"message","model":"m-1","stop_reason":"end_turn","content":[%b,%b,%b]}',
        [
            b'{"type":"thinking",  "thinking":"h\\u006d","signature":"Es\\/B+="}',
            b'{"type":"redacted_thinking","data":"Em\\u0077K=="}',
            b'{"type":"text","text":"42"}',
        ],
    ),
    "responses": (
        b'{"id":"r","model":"m-1","status":"completed","output":[%b,%b]}',
        [
            b'{"type":"reasoning",  "id":"i","summary":[],"encrypted_content":"gA\\/\\u0041=="}',
            b'{"type":"message","role":"assistant","content":[{"type":"output_text","text":"42"}]}',
        ],
    ),
    "gemini": (
        b'{"candidates":[{"finishReason":"STOP","content":{"role":"model","parts":[%b,%b]}}]}',
        [b'{"text":"hm",  "thought":true}', b'{"text":"42", "thoughtSignature":"Cs\\/A+="}'],
    ),
    "chat": (
        b'{"choices":[{"finish_reason":"stop","message":%b}]}',
        [b'{"role":"assistant",  "content":"42","reasoning_details":[{"type":"reasoning.encrypted","data":"x\\/y="}]}'],
    ),
}


@pytest.mark.parametrize("name", _SEALED)
async def test_14_sealed_reasoning_goes_back_byte_for_byte(name: str) -> None:
    """Signatures, redacted blocks and encrypted items are the same bytes in the next turn."""
    form, blocks = _SEALED[name]
    backend, transport, _ = backend_for(name, told(name, form % tuple(blocks)), whole(name))
    first = await backend.generate("Hi")
    assert first.content == "42"
    await backend.generate([Message("user", "Hi"), first.message, Message("user", "Go on")])
    sealed = [block for block in blocks if any(word in block for word in (b"ignature", b"data", b"encrypted"))]
    assert sealed
    assert all(block in transport.sent[1].body for block in sealed)


async def test_14_a_streamed_signature_goes_back() -> None:
    """A signature that came in a stream stands in the next turn as it came."""
    backend, transport, _ = backend_for(
        "anthropic", streamed("anthropic", Said(thoughts=("h", "m"), texts=("42",))), whole("anthropic")
    )
    first = await read(backend)
    await backend.generate([Message("user", "Hi"), first.message, Message("user", "Go on")])
    assert b'{"type":"thinking","thinking":"hm","signature":"sealed=="}' in transport.sent[1].body


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("anthropic", {"api_version": "2026-10-21", "model": "claude-haiku-4-5"}),
        ("anthropic", {"model": "claude-opus-4-7"}),
        ("chat", {"model": "gpt-5"}),
        ("responses", {"model": "gpt-5"}),
    ],
)
async def test_15_a_temperature_that_is_refused_is_never_dropped_in_silence(name: str, options: dict[str, str]) -> None:
    """By policy it is an error before anything is sent, or left out with a warning in the answer."""
    backend, transport, _ = backend_for(name, **options)
    with pytest.raises(UnsupportedParameterError, match="temperature"):
        await backend.generate("Hi", temperature=1.0)
    assert not transport.sent
    backend, transport, _ = backend_for(name, whole(name), on_unsupported="warn", **options)
    response = await backend.generate("Hi", temperature=1.0)
    assert [warning.parameter for warning in response.warnings] == ["temperature"]
    assert b"temperature" not in transport.sent[0].body


async def test_16_ollama_without_its_count_or_its_reason() -> None:
    """A prompt's count that is missing is unknown, and an empty `done_reason` means that the runner was lost."""
    backend, _, _ = backend_for("ollama", whole("ollama", Said(texts=("x",), usage=Usage(output_total=1))))
    response = await backend.generate("Hi")
    assert (response.usage.input_total, response.usage.output_total) == (None, 1)
    events = [event.replace(b'"done_reason": "stop"', b'"done_reason": ""') for event in WIRES["ollama"].stream(HELLO)]
    with pytest.raises(IncompleteStreamError) as caught:
        await read(backend_for("ollama", told("ollama", *events))[0])
    assert caught.value.partial == "Hello"


async def test_16_ollama_says_which_model_to_pull_and_cuts_no_prompt() -> None:
    """A model that is not there is `NotFoundError` with advice; a prompt is never cut unless asked for."""
    error = await refusal("ollama", Answer(status=404, chunks=[b'{"error":"model \'m\' not found"}']))
    assert type(error) is NotFoundError
    assert "ollama pull" in str(error)
    backend, transport, _ = backend_for("ollama", whole("ollama"), whole("ollama"))
    await backend.generate("Hi")
    await backend.generate("Hi", extra={"truncate": True})
    assert [json.loads(sent.body)["truncate"] for sent in transport.sent] == [False, True]
    too_long = b'{"error":"prompt too long; exceeded max context length by 4 tokens"}'
    assert type(await refusal("ollama", Answer(status=400, chunks=[too_long]))) is ContextLengthError


@every_wire
def test_17_one_backend_serves_several_loops(name: str) -> None:
    """A backend works in a second event loop after the first has ended, without a warning."""
    wire, log = WIRES[name], AuditLog.memory()
    with in_thread(Loopback(lambda _: reply(headers={"content-type": JSON}, body=wire.whole(HELLO)))) as server:
        backend = online(name, server, log)
        answers = [asyncio.run(backend.generate("Hi")).content for _ in range(2)]

        async def last() -> str:
            async with backend:
                return (await backend.generate("Hi")).content

        answers.append(asyncio.run(last()))
    assert answers == ["Hello"] * 3
    assert statuses(log) == ["ok"] * 3


async def test_18_responses_are_not_stored_unless_asked_for() -> None:
    """Responses is told not to keep the answer, in so many words; `extra` can say otherwise."""
    backend, transport, _ = backend_for("responses", whole("responses"), whole("responses"))
    await backend.generate("Hi")
    await backend.generate("Hi", extra={"store": True})
    assert [json.loads(sent.body)["store"] for sent in transport.sent] == [False, True]


@every_wire
async def test_19_a_key_shows_nowhere(name: str) -> None:
    """A key that the server says back, in a body or in a URL, shows in no error, traceback, repr or entry."""
    body = json.dumps(
        {"error": {"message": f"bad key {KEY} at https://x/?key={KEY}", "type": KEY, "code": KEY}}
    ).encode()
    steps = (
        Answer(status=401, headers={"x-request-id": KEY, "request-id": KEY}, chunks=[body]),
        told(name, *begun(name), sse({"type": "error", "error": {"message": KEY, "type": KEY}}) + body + b"\n"),
    )
    backend, transport, log = backend_for(name, *steps)
    for ask in (backend.generate("Hi"), read(backend)):
        with pytest.raises(ProviderError) as caught:
            await ask
        shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
        assert KEY not in shown
    assert KEY not in repr(backend) + repr(backend.backend) + repr(transport.sent)
    assert KEY not in repr([(entry.raw, [bytes(part.data) for part in entry.parts]) for entry in log.entries()])
    assert sum(KEY in secret.reveal() for sent in transport.sent for secret in sent.secret_headers.values()) == 2


@every_wire
def test_19_a_base_url_with_a_key_is_refused(name: str) -> None:
    """A key does not go into a URL."""
    for url in (f"https://x.invalid/v1?key={KEY}", f"https://user:{KEY}@x.invalid/v1"):
        with pytest.raises(InvalidRequestError) as caught:
            backend_for(name, base_url=url)
        assert KEY not in str(caught.value)


async def test_20_every_wire_gives_the_same_answer() -> None:
    """The same logical answer is equal over every wire, in all that each of them can state."""
    said = Said(
        thoughts=("Let me", " see"),
        texts=("I ", "ask"),
        calls=(("c0", "f", ('{"x":', " 1}")),),
        finish="tool_calls",
        usage=Usage(input_total=7, output_total=9),
    )
    for stream in (False, True):
        answers = []
        for name in WIRES:
            backend, _, _ = backend_for(name, streamed(name, said) if stream else whole(name, said))
            r = await (read(backend) if stream else backend.generate("Hi"))
            calls = [(call.id, call.name, call.arguments) for call in r.tool_calls]
            answers.append(
                (r.content, r.reasoning, calls, r.finish_reason, r.model, r.prompt_tokens, r.completion_tokens)
            )
        assert answers == [("I ask", "Let me see", [("c0", "f", {"x": 1})], "tool_calls", "m-1", 7, 9)] * len(WIRES)
