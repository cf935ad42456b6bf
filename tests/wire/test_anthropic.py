"""Anthropic Messages: what is sent for a call, and what peculiar answers come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from answers import Answer, answer, fail, failed, head
from veyra.errors import (
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedParameterError,
)
from veyra.types import (
    Media,
    Message,
    ModelWarning,
    Opaque,
    Reasoning,
    Request,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Flags

DIALECT = Anthropic()
FLAGS = Flags(provider="test", api_version="2023-06-01")
NEWER = Flags(provider="test", api_version="2026-10-21")
TOOL = Tool(name="weather", description="of a place", strict=True)
CALL = ToolCall("c1", "weather", {"place": "Bern"}, '{ "place":"Bern" }')


def ask(*messages: Message, **options: Any) -> Request:
    said = messages or (Message("user", "Hi"),)
    return Request(prompt=said, messages=said, model="m", **options)


def sent(request: Request) -> Any:
    return json.loads(DIALECT.encode(request, FLAGS).body)


# ------------------------------------------------------------------------------------------------------- encoding

BASE = {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"system": "A"}, {"system": "A"}),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
        ({"stop": ("a", "b")}, {"stop_sequences": ["a", "b"]}),
        ({"stream": True}, {"stream": True}),
        ({"metadata": {"user_id": "u"}}, {"metadata": {"user_id": "u"}}),
        ({"reasoning": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning": "high"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (
            {"reasoning": 2000},
            {"max_tokens": 6096, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        ({"extra": {"max_tokens": 9, "service_tier": "auto"}}, {"max_tokens": 9, "service_tier": "auto"}),
        (
            {"tools": (TOOL,), "tool_choice": "weather"},
            {
                "tools": [
                    {
                        "name": "weather",
                        "description": "of a place",
                        "input_schema": {"type": "object", "properties": {}},
                        "strict": True,
                    }
                ],
                "tool_choice": {"type": "tool", "name": "weather"},
            },
        ),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
    ],
)
def test_options(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each option has its place; what was not given is not sent; `extra` comes last and wins."""
    assert sent(ask(**options)) == BASE | expected


def test_path_version_and_applied_limit() -> None:
    """The version is the endpoint's; a limit the caller did not give is the endpoint's, and is reported."""
    encoded = DIALECT.encode(ask(), FLAGS)
    assert encoded.path == "/v1/messages"
    assert dict(encoded.headers) == {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    assert dict(DIALECT.headers(FLAGS)) == {"anthropic-version": "2023-06-01"}
    assert dict(encoded.applied) == {"max_tokens": 4096}
    assert dict(DIALECT.encode(ask(reasoning=1024), FLAGS).applied) == {"max_tokens": 5120}
    assert dict(DIALECT.encode(ask(max_tokens=0), FLAGS).applied) == {}
    bare = DIALECT.encode(ask(), Flags(provider="test", default_max_tokens=7))
    assert "anthropic-version" not in bare.headers
    assert json.loads(bare.body)["max_tokens"] == 7


def test_system_text_is_lifted_to_the_top() -> None:
    """System texts, wherever they stand, go to the top of the request, in their order."""
    request = ask(Message("system", "B"), Message("user", "Hi"), Message("system", ""), system="A")
    assert sent(request)["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert sent(request)["messages"] == BASE["messages"]
    assert sent(ask(Message("system", "B"), Message("user", "Hi")))["system"] == "B"


RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([Message("user", (Text("a"), Text("")))], [{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
        ([Message("assistant", "Yes")], [{"role": "assistant", "content": "Yes"}]),
        (
            [Message("assistant", (Reasoning("hm", "seal"), Reasoning("mine"), Text(""), Text("So: "), CALL))],
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "seal"},
                        {"type": "text", "text": "So: "},
                        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"place": "Bern"}},
                    ],
                }
            ],
        ),
        (
            [Message("assistant", (ToolCall("c1", "f", None, '{"x'),))],
            [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"INVALID_JSON": '{"x'}}],
                }
            ],
        ),
        (
            [
                Message("tool", (ToolResult("c1", "sunny"),)),
                Message("tool", (ToolResult("c2", "no", is_error=True),)),
                Message("user", "and?"),
                Message("user", "well?"),
            ],
            [
                {
                    "role": "user",
                    "content": [
                        RESULT,
                        {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": True},
                        {"type": "text", "text": "and?"},
                    ],
                },
                {"role": "user", "content": "well?"},
            ],
        ),
        (
            [Message("user", (Text("and?"), ToolResult("c1", "sunny")))],
            [{"role": "user", "content": [RESULT, {"type": "text", "text": "and?"}]}],
        ),
        (
            [Message("tool", (ToolResult("c1", "sunny"),)), Message("assistant", "A"), Message("user", "B")],
            [
                {"role": "user", "content": [RESULT]},
                {"role": "assistant", "content": "A"},
                {"role": "user", "content": "B"},
            ],
        ),
        (
            [
                Message(
                    "user",
                    (
                        Media(kind="image", data=b"\x00\x01", media_type="image/png"),
                        Media(kind="image", url="https://x/y.png"),
                        Media(kind="document", file_id="f1", name="a.pdf"),
                        Opaque("anthropic", b'{"type":"search_result"}'),
                    ),
                )
            ],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAE="}},
                        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                        {"type": "document", "source": {"type": "file", "file_id": "f1"}, "title": "a.pdf"},
                        {"type": "search_result"},
                    ],
                }
            ],
        ),
    ],
)
def test_messages(messages: list[Message], expected: list[Any]) -> None:
    """Each kind of turn and part has its form; the results of a turn's tools share one message, before words."""
    assert sent(ask(*messages))["messages"] == expected


def test_native_blocks_are_sent_byte_for_byte() -> None:
    """The API's own blocks go back as the very bytes that came; another dialect's are passed over."""
    raw = b'{"type":"thinking",  "thinking":"h\\u006d", "signature":"s\\/e"}'
    mine = Message("assistant", "text", native=(Opaque("anthropic", raw), Opaque("anthropic", b'{"type":"x"}')))
    assert b'"content":[' + raw + b',{"type":"x"}]' in DIALECT.encode(ask(mine), FLAGS).body
    other = Message("assistant", "text", native=(Opaque("openai_chat", b"{}"),))
    assert sent(ask(other))["messages"] == [{"role": "assistant", "content": "text"}]


@pytest.mark.parametrize(
    ("request_", "flags", "kind", "names"),
    [
        (ask(seed=0), FLAGS, UnsupportedParameterError, "seed"),
        (ask(temperature=1.0), NEWER, UnsupportedParameterError, "temperature"),
        (ask(top_p=1.0), NEWER, UnsupportedParameterError, "top_p"),
        (ask(metadata={"team": "x"}), FLAGS, UnsupportedParameterError, "team"),
        (ask(reasoning="minimal"), FLAGS, UnsupportedParameterError, "minimal"),
        (ask(tool_choice="weather"), FLAGS, InvalidRequestError, "tool_choice"),
        (ask(Message("user", (Media(kind="audio", data=b"x"),))), FLAGS, InvalidRequestError, "audio"),
        (ask(Message("user", (Media(kind="image", data=b"x"),))), FLAGS, InvalidRequestError, "media_type"),
        (ask(Message("user", (Media(kind="image"),))), FLAGS, InvalidRequestError, "data"),
        (ask(Message("user", (CALL,))), FLAGS, InvalidRequestError, "ToolCall"),
        (ask(Message("tool", "text")), FLAGS, InvalidRequestError, "tool results"),
        (ask(Message("assistant", (ToolResult("c", "r"),))), FLAGS, InvalidRequestError, "ToolResult"),
        (ask(Message("assistant", (Opaque("ollama", b"{}"),))), FLAGS, InvalidRequestError, "ollama"),
        (ask(extra={"x": object()}), FLAGS, InvalidRequestError, "object"),
    ],
)
def test_what_cannot_be_said(request_: Request, flags: Flags, kind: type[ProviderError], names: str) -> None:
    """What the dialect, or this version of it, cannot say is an error of ours that names it."""
    with pytest.raises(kind, match=names) as caught:
        DIALECT.encode(request_, flags)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.provider) == (None, "test")


# ------------------------------------------------------------------------------------------------------- decoding

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "m-1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}


def end(reason: str | None = "end_turn", usage: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": usage or {"output_tokens": 5}}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    begun = {"type": "content_block_start", "index": index, "content_block": start}
    middle = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [begun, *middle, {"type": "content_block_stop", "index": index}]


def text(said: str, index: int = 0) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": said})


def sse(*events: dict[str, Any]) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def stream(*events: dict[str, Any]) -> Answer:
    return answer(DIALECT, sse(*events), stream=True, headers={"request-id": "req_1"})


def whole(*content: Any, **more: Any) -> Answer:
    body = {"id": "msg_1", "type": "message", "model": "m-1", "content": content, "stop_reason": "end_turn", **more}
    return answer(DIALECT, json.dumps(body), stream=False, headers={"request-id": "req_1"})


def blocks(told: Answer) -> list[Any]:
    assert all(part.dialect == "anthropic" for part in told.finish.parts)
    return [json.loads(part.raw) for part in told.finish.parts]


def test_ids_and_model() -> None:
    """The answer's id and model come from the body, the exchange's id from the head."""
    for told in (stream(START, *text("a"), end(), STOP), whole({"type": "text", "text": "a"})):
        assert told.text == "a"
        assert (told.finish.response_id, told.finish.request_id, told.finish.model) == ("msg_1", "req_1", "m-1")


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 1}, {"output_tokens": 5}, Usage(3, 3, None, None, 5, None)),
        (
            {"input_tokens": 3, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 20, "output_tokens": 1},
            {"output_tokens": 5, "input_tokens": None, "cache_read_input_tokens": None},
            Usage(33, 3, 10, 20, 5, None),
        ),
        (
            {"input_tokens": 3, "cache_read_input_tokens": 0, "output_tokens": 1},
            {"output_tokens": 5, "input_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}},
            Usage(7, 7, 0, None, 5, 2),
        ),
        ({}, {"output_tokens": 0}, Usage(output_total=0)),
        ("odd", {"output_tokens": "5", "input_tokens": -1}, Usage()),
    ],
)
def test_usage_is_merged(first: Any, last: Any, expected: Usage) -> None:
    """What the end of a stream states replaces what its start stated, field by field; the total has the cache in it."""
    start = START | {"message": START["message"] | {"usage": first}}  # type: ignore[operator]  # the dict just above
    assert stream(start, *text("a"), end(usage=last), STOP).finish.usage == expected
    if isinstance(first, dict):
        stated = first | {name: value for name, value in last.items() if value is not None}
        assert whole(usage=stated).finish.usage == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "paused"),
        ("a_new_reason", "other"),
        (None, "other"),
    ],
)
def test_finish_reasons(raw: str | None, reason: str) -> None:
    """Each stop reason has its word, and an unknown one is kept."""
    for told in (stream(START, end(raw), STOP), whole(stop_reason=raw)):
        assert (told.finish.reason, told.finish.raw_reason) == (reason, raw)


def test_a_refusal_is_explained() -> None:
    """What the provider says about a refusal is a warning."""
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    for told in (stream(START, end("refusal", stop_details=details), STOP), whole(stop_details=details)):
        assert [event for event in told.events if isinstance(event, ModelWarning)] == [
            ModelWarning("refusal", "Not this.")
        ]


def test_a_fallback_names_the_model_that_answered() -> None:
    """Where another model goes on with the answer, it is the one named, and a warning says so."""
    told = stream(START, *block(0, {"type": "fallback", "to": {"model": "m-2"}}), *text("a", 1), end(), STOP)
    assert told.finish.model == "m-2"
    assert [event.code for event in told.events if isinstance(event, ModelWarning)] == ["other_model"]


@pytest.mark.parametrize(
    ("start", "pieces", "raw", "arguments"),
    [
        ({}, ['{"a"', ": 1}"], '{"a": 1}', {"a": 1}),
        ({}, ["", '{"a": "é', 'é"}'], '{"a": "éé"}', {"a": "éé"}),
        ({}, [], "{}", {}),
        ({}, [""], "{}", {}),
        ({"a": 1}, [], '{"a": 1}', {"a": 1}),
        ({}, ['{"a": '], '{"a": ', None),
    ],
    ids=["in pieces", "unicode", "no delta", "empty delta", "in its beginning", "invalid"],
)
def test_streamed_tool_calls(start: Any, pieces: list[str], raw: str, arguments: Any) -> None:
    """A call's input is put together from deltas; without any, it is what the block began with."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    events = block(
        0, {"type": "tool_use", "id": "t1", "name": "f", "input": start, "caller": {"type": "direct"}}, *deltas
    )
    for given in (events, events[:-1]):
        told = stream(START, *given, end("tool_use"), STOP)
        assert told.finish.tool_calls == (ToolCall("t1", "f", arguments, raw),)
        assert told.arguments(0) == raw
        kept = blocks(told)[0]
        assert kept["caller"] == {"type": "direct"}
        assert kept["input"] == ({"INVALID_JSON": raw} if arguments is None else arguments)


def test_interleaved_blocks() -> None:
    """Deltas of several blocks may come in any order; only client tools are calls of ours."""
    one = block(
        1,
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"x":1}'},
    )
    two = block(
        2,
        {"type": "server_tool_use", "id": "s1", "name": "search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"q":2}'},
    )
    three = block(
        3,
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"y":3}'},
    )
    mixed = [event for group in zip(one, two, three, strict=True) for event in group]
    told = stream(START, *text("a"), *mixed, end("tool_use"), STOP)
    assert [(call.id, call.raw) for call in told.finish.tool_calls] == [("t1", '{"x":1}'), ("t2", '{"y":3}')]
    assert [kept.get("input") for kept in blocks(told)] == [None, {"x": 1}, {"q": 2}, {"y": 3}]


def test_blocks_that_share_an_index() -> None:
    """A block that begins where another was not ended ends it; neither is lost."""
    one = block(0, {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}})[:1]
    two = block(0, {"type": "tool_use", "id": "t2", "name": "g", "input": {"y": 2}})
    told = stream(START, *one, *two, end("tool_use"), STOP)
    assert [(call.id, call.arguments) for call in told.finish.tool_calls] == [("t1", {"x": 1}), ("t2", {"y": 2})]
    assert [kept["id"] for kept in blocks(told)] == ["t1", "t2"]


def test_streamed_blocks_are_rebuilt() -> None:
    """Thinking with its signature, citations, and blocks and deltas of unknown types are kept."""
    told = stream(
        START,
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "h"},
            {"type": "thinking_delta", "thinking": "m"},
            {"type": "signature_delta", "signature": "s/e+=="},
        ),
        *block(1, {"type": "redacted_thinking", "data": "xyz"}),
        *block(
            2,
            {"type": "text", "text": "A", "citations": []},
            {"type": "citations_delta", "citation": {"url": 1}},
            {"type": "text_delta", "text": "B"},
            {"type": "citations_delta", "citation": {"url": 2}},
        ),
        *block(3, {"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "all"}),
        *block(
            4, {"type": "new_block", "x": 1}, {"type": "new_delta", "y": "z", "n": 1}, {"type": "new_delta", "n": 2}
        ),
        end(),
        STOP,
    )
    assert blocks(told) == [
        {"type": "thinking", "thinking": "hm", "signature": "s/e+=="},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "AB", "citations": [{"url": 1}, {"url": 2}]},
        {"type": "compaction", "content": "all"},
        {"type": "new_block", "x": 1, "y": "z", "n": 2},
    ]
    assert (told.text, told.reasoning) == ("AB", "hm")


def test_a_block_without_deltas_is_kept_byte_for_byte() -> None:
    """A block that came at once, whole or in a stream, is kept as the very bytes that came."""
    raw = '{"type":"web_search_tool_result",  "content":[{"encrypted_content":"h\\u006d\\/", "n":1.0}]}'
    begun = f'data: {{"type":"content_block_start","index":0,"content_block":{raw}}}\n\n'
    told = answer(DIALECT, sse(START) + begun + sse(end(), STOP), stream=True)
    assert [part.raw for part in told.finish.parts] == [raw.encode()]
    told = answer(DIALECT, f'{{"content":[{raw}],"stop_reason":"end_turn"}}', stream=False)
    assert [part.raw for part in told.finish.parts] == [raw.encode()]


def test_unknown_events_are_passed_over() -> None:
    """Pings and events of unknown types, also without a type, change nothing."""
    odd: list[dict[str, Any]] = [
        {"type": "ping"},
        {"type": "a_new_event", "delta": {"x": 1}},
        {"type": "content_block_stop", "index": 9},
    ]
    plain = stream(START, *text("a"), end(), STOP)
    assert stream(*odd, START, *odd, *text("a"), *odd, end(), *odd, STOP) == plain
    assert answer(DIALECT, sse(START, *text("a"), end()) + "event: message_stop\ndata: {}\n\n", stream=True).text == "a"


# ---------------------------------------------------------------------------------------- ends and errors of streams


def test_a_stream_without_its_end_is_incomplete() -> None:
    """Without `message_stop` the answer is incomplete, though it says why it stopped."""
    error = failed(DIALECT, sse(START, *text("a"), end()), stream=True)
    assert type(error) is IncompleteStreamError
    assert error.partial == "a"
    assert "message_stop" in error.message
    whole_ = sse(START, *text("a"), end(), STOP)
    assert answer(DIALECT, whole_.rstrip("\n"), stream=True).text == "a"
    assert type(failed(DIALECT, whole_[:-4], stream=True)) is IncompleteStreamError


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"type": "overloaded_error", "message": "m"}, OverloadedError, True),
        ({"type": "api_error", "message": "m"}, ServerError, True),
        ({"type": "timeout_error", "message": "m"}, ServerError, True),
        ({"type": "rate_limit_error", "message": "m"}, RateLimitError, True),
        (
            {"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}},
            QuotaError,
            False,
        ),
        ({"type": "invalid_request_error", "message": "m"}, InvalidRequestError, False),
        ({"type": "a_new_error", "message": "m"}, ServerError, True),
        ({"code": 404, "message": "m", "status": "NOT_FOUND"}, NotFoundError, False),
    ],
)
def test_errors_inside_a_stream(error: Any, kind: type[ProviderError], *, retryable: bool) -> None:
    """An error inside a 200 is raised by its type, with the head's id and the text before it."""
    event = {"type": "error", "error": error}
    reader = DIALECT.decoder(head(request_id="req_1"), FLAGS, stream=True)
    events, raised = fail(reader, [sse(START, *text("a")[:2], event).encode()])
    assert events == [TextDelta("a")]
    assert type(raised) is kind
    assert (raised.status, raised.request_id) == (200, "req_1")
    assert (raised.partial, raised.ambiguous, raised.retryable) == ("a", True, retryable)
    assert type(failed(DIALECT, json.dumps(event), stream=False)) is kind
    assert type(failed(DIALECT, json.dumps(event), stream=True)) is kind


@pytest.mark.parametrize(
    "written",
    [
        'data: {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}}\n\n',
        'data: {"type": "content_block_start", "index": 0, "content_block": [1]}\n\n',
        'data: {"type": "content_block_start", "index": "0", "content_block": {}}\n\n',
        'data: {"type": "content_block_start", "index": 0}\n\n',
        "data: {oops\n\n",
        "data: [DONE]\n\n",
    ],
)
def test_what_is_no_event_is_malformed(written: str) -> None:
    """An event that breaks the format is malformed, and the text before it is kept."""
    error = failed(DIALECT, sse(START, *text("a")) + written, stream=True)
    assert type(error) is MalformedResponseError
    assert error.partial == "a"


def test_an_error_event_that_is_not_json() -> None:
    """An error event whose data cannot be read is an error of the server all the same."""
    assert type(failed(DIALECT, "event: error\ndata: oops\n\n", stream=True)) is ServerError


def test_other_bodies_are_malformed() -> None:
    """A whole body without content, or with content that is no list of blocks, is malformed."""
    for body in ('{"id": "msg_1"}', '{"content": "text"}', '{"content": [1]}', '{"content": {}}'):
        assert type(failed(DIALECT, body, stream=False)) is MalformedResponseError


def test_an_unasked_stream_is_read_as_one() -> None:
    """A content type that says event stream is believed; one that says JSON is checked."""
    body = sse(START, *text("a"), end(), STOP)
    assert answer(DIALECT, body, stream=False, headers={"content-type": "text/event-stream; charset=utf-8"}).text == "a"
    assert answer(DIALECT, body, stream=True, headers={"content-type": "application/json"}).text == "a"
