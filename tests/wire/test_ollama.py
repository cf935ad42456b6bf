"""Ollama chat: what is sent for a call, and what peculiar answers come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from answers import Answer, answer, fail, failed, head
from veyra.errors import (
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    ServerError,
    UnsupportedParameterError,
)
from veyra.types import (
    Media,
    Message,
    Opaque,
    Reasoning,
    Request,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from veyra.wire.base import Flags
from veyra.wire.ollama import Ollama
from veyra.wire.ollama_answer import ABOUT

DIALECT = Ollama()
FLAGS = Flags(provider="test")
CALL = ToolCall("c1", "weather", {"place": "Bern"}, '{ "place":"Bern" }')


def ask(*messages: Message, **options: Any) -> Request:
    said = messages or (Message("user", "Hi"),)
    return Request(prompt=said, messages=said, model="m", **options)


def sent(request: Request) -> Any:
    return json.loads(DIALECT.encode(request, FLAGS).body)


# ------------------------------------------------------------------------------------------------------- encoding

BASE = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False, "truncate": False}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"stream": True}, {"stream": True}),
        (
            {"max_tokens": 5, "temperature": 0.0, "top_p": 0.5, "seed": 0, "stop": ("a",)},
            {"options": {"num_predict": 5, "temperature": 0.0, "top_p": 0.5, "seed": 0, "stop": ["a"]}},
        ),
        ({"reasoning": "none"}, {"think": False}),
        ({"reasoning": "high"}, {"think": "high"}),
        ({"tool_choice": "auto"}, {}),
        ({"extra": {"keep_alive": -1, "truncate": True}}, {"keep_alive": -1, "truncate": True}),
        (
            {"max_tokens": 5, "extra": {"options": {"num_ctx": 8192, "num_predict": 7}}},
            {"options": {"num_predict": 7, "num_ctx": 8192}},
        ),
        ({"extra": {"options": {}}}, {}),
        (
            {"tools": (Tool(name="f", description="d", strict=True),)},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "description": "d",
                            "parameters": {"type": "object", "properties": {}},
                        },
                    }
                ]
            },
        ),
    ],
)
def test_options(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Sampling goes under `options`, merged with those of `extra`; `stream` is always said."""
    assert sent(ask(**options)) == BASE | expected


def test_path_and_what_was_applied() -> None:
    """That the prompt must not be cut is said, and reported, unless the caller decides it."""
    encoded = DIALECT.encode(ask(), FLAGS)
    assert encoded.path == "/api/chat"
    assert dict(encoded.headers) == {"content-type": "application/json"}
    assert dict(encoded.applied) == {"truncate": False}
    assert dict(DIALECT.encode(ask(extra={"truncate": True}), FLAGS).applied) == {}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [Message("system", "B"), Message("user", (Text("a"), Text("b")))],
            [{"role": "system", "content": "B"}, {"role": "user", "content": "ab"}],
        ),
        ([Message("user", "")], [{"role": "user", "content": ""}]),
        (
            [Message("user", (Text("see"), Media(kind="image", data=b"\x00\x01")))],
            [{"role": "user", "content": "see", "images": ["AAE="]}],
        ),
        (
            [
                Message("assistant", (Reasoning("hm"), Text("So: "), CALL, ToolCall("", "g", None, "{x"))),
                Message("tool", (ToolResult("c1", "sunny"), ToolResult("", "?", name="g"), ToolResult("c9", "!"))),
            ],
            [
                {
                    "role": "assistant",
                    "content": "So: ",
                    "thinking": "hm",
                    "tool_calls": [
                        {"id": "c1", "function": {"name": "weather", "arguments": {"place": "Bern"}}},
                        {"function": {"name": "g", "arguments": {"INVALID_JSON": "{x"}}},
                    ],
                },
                {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "c1"},
                {"role": "tool", "content": "?", "tool_name": "g"},
                {"role": "tool", "content": "!", "tool_call_id": "c9"},
            ],
        ),
        (
            [Message("user", (Text("and?"), ToolResult("c1", "sunny")))],
            [{"role": "tool", "content": "sunny", "tool_call_id": "c1"}, {"role": "user", "content": "and?"}],
        ),
    ],
)
def test_messages(messages: list[Message], expected: list[Any]) -> None:
    """Each kind of turn and part has its form; a result names its tool by the call before it."""
    assert sent(ask(*messages))["messages"] == expected


def test_system_and_native_blocks() -> None:
    """The system text comes first; the API's own messages go back as the very bytes that came."""
    raw = b'{"role":"assistant",  "content":"a"}'
    body = DIALECT.encode(ask(Message("assistant", "b", native=(Opaque("ollama", raw),)), system="A"), FLAGS).body
    assert b'"messages":[{"role":"system","content":"A"},' + raw + b"]" in body
    other = Message("assistant", "b", native=(Opaque("anthropic", b"{}"),))
    assert sent(ask(other))["messages"] == [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("request_", "kind", "names"),
    [
        (ask(cache=True), UnsupportedParameterError, "cache"),
        (ask(metadata={"a": "b"}), UnsupportedParameterError, "metadata"),
        (ask(tool_choice="required"), UnsupportedParameterError, "tool_choice"),
        (ask(reasoning="minimal"), UnsupportedParameterError, "minimal"),
        (ask(reasoning=100), UnsupportedParameterError, "100"),
        (ask(extra={"options": [1]}), InvalidRequestError, "options"),
        (ask(extra={"x": object()}), InvalidRequestError, "object"),
        (ask(Message("user", (Media(kind="audio", data=b"x"),))), InvalidRequestError, "audio"),
        (ask(Message("user", (Media(kind="image", url="u"),))), InvalidRequestError, "data"),
        (ask(Message("user", (CALL,))), InvalidRequestError, "tool calls"),
        (ask(Message("tool", (Reasoning("hm"),))), InvalidRequestError, "thinking"),
        (ask(Message("assistant", (ToolResult("c", "r"),))), InvalidRequestError, "ToolResult"),
        (ask(Message("user", (Opaque("ollama", b"{}"),))), InvalidRequestError, "native"),
    ],
)
def test_what_cannot_be_said(request_: Request, kind: type[ProviderError], names: str) -> None:
    """What the dialect cannot say is an error of ours that names it and has no status."""
    with pytest.raises(kind, match=names) as caught:
        DIALECT.encode(request_, FLAGS)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.provider) == (None, "test")


# ------------------------------------------------------------------------------------------------------- decoding


def line(message: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "message": {"role": "assistant", "content": ""} | (message or {}), "done": False, **more}


def end(**more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 5}
    return line() | fields | more


def ndjson(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in lines)


def stream(*lines: dict[str, Any]) -> Answer:
    return answer(DIALECT, ndjson(*lines), stream=True)


def both(message: dict[str, Any], **more: Any) -> list[Answer]:
    """The same answer as a stream and as a whole body."""
    whole = json.dumps(end(**more) | {"message": message})
    return [stream(line(message), end(**more)), answer(DIALECT, whole, stream=False)]


def test_text_thinking_and_model() -> None:
    """Text and thinking are told apart; there are no ids but our own."""
    for told in both({"content": "a", "thinking": "h", "unknown": None}):
        assert (told.text, told.reasoning) == ("a", "h")
        finish = told.finish
        assert (finish.model, finish.response_id, finish.request_id, finish.parts) == ("m-1", None, None, ())
        assert finish.usage == Usage(input_total=3, output_total=5)


@pytest.mark.parametrize(
    ("raw", "calls", "reason"),
    [
        ("stop", False, "stop"),
        ("length", False, "length"),
        ("load", False, "other"),
        ("unload", False, "other"),
        ("a_new_reason", False, "other"),
        (None, False, "other"),
        ("stop", True, "tool_calls"),
        (None, True, "tool_calls"),
        ("length", True, "length"),
    ],
)
def test_finish_reasons(raw: str | None, reason: str, *, calls: bool) -> None:
    """A reason is mapped, never made up; calls show where the server says `stop`."""
    message: dict[str, Any] = {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]} if calls else {}
    for told in both(message, done_reason=raw):
        assert (told.finish.reason, told.finish.raw_reason) == (reason, raw)


def test_a_lost_runner_is_an_incomplete_answer() -> None:
    """An empty `done_reason` means that the runner was lost: the text so far is kept in the error."""
    error = failed(DIALECT, ndjson(line({"content": "a"}), end(done_reason="")), stream=True)
    assert type(error) is IncompleteStreamError
    assert error.partial == "a"
    whole = json.dumps(end(done_reason="") | {"message": {"content": "a"}})
    assert type(failed(DIALECT, whole, stream=False)) is IncompleteStreamError


def test_counts_that_are_missing_are_unknown() -> None:
    """The server leaves out zeros, so a count that is missing, or is none, is None."""
    for count in (None, "5", -1, 1.5):
        for told in both({"content": "a"}, prompt_eval_count=count, eval_count=count):
            assert told.finish.usage == Usage()


def test_tool_calls() -> None:
    """Calls come whole, with objects or strings as arguments; one without an id gets one from its position."""
    body = (
        '{"message":{"tool_calls":[{"function":{"index":0,"name":"f","arguments":{ "x":1.0 }}},'
        '{"id":"c7","function":{"index":0,"name":"g","arguments":"{\\"y\\":2}"}}]},"done":false}\n'
        '{"message":{"tool_calls":[{"function":{"name":"h"}}]},"done":false}\n'
    )
    told = answer(DIALECT, body + ndjson(end()), stream=True)
    assert told.finish.tool_calls == (
        ToolCall("call_0", "f", {"x": 1.0}, '{ "x":1.0 }'),
        ToolCall("c7", "g", {"y": 2}, '{"y":2}'),
        ToolCall("call_2", "h", {}, "{}"),
    )
    assert [event for event in told.events if isinstance(event, ToolCallDelta)] == [
        ToolCallDelta(0, "call_0", "f", '{ "x":1.0 }'),
        ToolCallDelta(1, "c7", "g", '{"y":2}'),
        ToolCallDelta(2, "call_2", "h", "{}"),
    ]


def test_arguments_that_are_not_utf8_are_malformed() -> None:
    """Arguments are kept as they came, but must be text."""
    body = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"x":"\xff"}}}]},"done":true}'
    assert type(failed(DIALECT, body, stream=False)) is MalformedResponseError


# ---------------------------------------------------------------------------------------- ends and errors of streams


def test_a_stream_without_its_end_is_incomplete() -> None:
    """Without `done` the answer is incomplete; a last line may lack its line end."""
    error = failed(DIALECT, ndjson(line({"content": "a"})), stream=True)
    assert type(error) is IncompleteStreamError
    assert error.partial == "a"
    whole = ndjson(line({"content": "a"}), end())
    assert answer(DIALECT, whole.rstrip(), stream=True).text == "a"
    assert type(failed(DIALECT, whole[:-4], stream=True)) is IncompleteStreamError


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"error": "m"}, ServerError),
        ({"error": "m", "status_code": 503}, OverloadedError),
        ({"error": {"odd": "m"}}, ServerError),
    ],
)
def test_errors_inside_a_stream(told: dict[str, Any], kind: type[ProviderError]) -> None:
    """A line with an error is raised, with the text before it and the stream's own status."""
    reader = DIALECT.decoder(head(), FLAGS, stream=True)
    events, raised = fail(reader, [ndjson(line({"content": "a"}), told).encode()])
    assert events == [TextDelta("a")]
    assert type(raised) is kind
    assert (raised.status, raised.partial, raised.ambiguous, raised.retryable) == (200, "a", True, True)
    assert type(failed(DIALECT, json.dumps(told), stream=False)) is kind


def test_other_shapes_are_malformed() -> None:
    """Lines of another shape are malformed, and so is a whole answer that is not done."""
    for body in (
        '{"message": "a"}',
        '{"message": {"content": [1]}}',
        '{"message": {"content": 1}}',
        '{"message": {"tool_calls": [{}]}}',
    ):
        assert type(failed(DIALECT, body + "\n", stream=True)) is MalformedResponseError
        assert type(failed(DIALECT, body, stream=False)) is MalformedResponseError
    assert type(failed(DIALECT, json.dumps(line({"content": "a"})), stream=False)) is MalformedResponseError


def test_an_unasked_stream_is_read_as_one() -> None:
    """A content type that says lines of JSON is believed."""
    body = "\n" + ndjson(line({"content": "a"}), line({"content": "b"}), end())
    assert answer(DIALECT, body, stream=False, headers={"content-type": "application/x-ndjson"}).text == "ab"


# ------------------------------------------------------------------------------------------------- nothing is lost


def test_unknown_fields_are_kept_and_go_back() -> None:
    """A message with fields unknown here is kept, whole ones byte for byte, and sent back in the next turn."""
    raw = '{"role":"assistant",  "content":"ab", "citations":[1.0], "mood":"fine"}'
    told = answer(DIALECT, json.dumps(end()).replace("}", f', "message": {raw}}}'), stream=False)
    assert told.finish.parts == (Opaque("ollama", raw.encode()),)
    lines = (
        line({"role": "assistant", "content": "a", "thinking": "h", "citations": [1], "mood": "bad"}),
        line({"content": "b", "thinking": "m", "citations": [2], "mood": "fine"}),
        line({"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.0}}}], "citations": None}),
    )
    (part,) = stream(*lines, end()).finish.parts
    assert json.loads(part.raw) == {
        "role": "assistant",
        "content": "ab",
        "thinking": "hm",
        "citations": [1, 2],
        "mood": "fine",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.0}}}],
    }
    turn = Message("assistant", "ab", native=(part,))
    assert part.raw in DIALECT.encode(ask(Message("user", "Hi"), turn, Message("user", "Go")), FLAGS).body


@pytest.mark.parametrize(
    ("call", "is_kept"),
    [
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": {}, "index": 0}}, False),
        ({"function": {"name": "f", "seal": "s"}}, True),
        ({"function": {"name": "f"}, "extra": {"seal": "s"}}, True),
    ],
)
def test_a_call_with_more_than_we_know_is_kept(call: dict[str, Any], *, is_kept: bool) -> None:
    """Fields of a call that are unknown here keep its message, too."""
    for told in both({"role": "assistant", "tool_calls": [call]}):
        assert [json.loads(part.raw)["tool_calls"] for part in told.finish.parts] == ([[call]] if is_kept else [])


def test_values_of_changing_kind_are_kept() -> None:
    """An unknown field that is a list in one line and something else in another keeps what came last."""
    lines = [line({"content": "a", "odd": odd}) for odd in ([1], {"x": 1}, [2], "s")]
    (part,) = stream(*lines, end()).finish.parts
    assert json.loads(part.raw)["odd"] == "s"


def test_log_probabilities_are_kept_and_not_sent_back() -> None:
    """Log probabilities of all lines stand together in a block that is no part of the conversation."""
    one, two = {"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}
    told = stream(line({"content": "a"}) | {"logprobs": [one]}, line({"content": "b"}) | {"logprobs": [two]}, end())
    assert told.finish.parts == (Opaque(ABOUT, json.dumps({"logprobs": [one, two]}, separators=(",", ":")).encode()),)
    turn = Message("assistant", told.text, native=told.finish.parts)
    assert sent(ask(turn))["messages"] == [{"role": "assistant", "content": "ab"}]
