"""Chat Completions: what is sent for a call, and what peculiar answers come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from answers import Answer, answer, fail, failed, head
from veyra.errors import (
    ContentPolicyError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
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
from veyra.wire.base import Flags
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_chat_answer import ABOUT

DIALECT = OpenAIChat()
FLAGS = Flags(provider="test")
TOOL = Tool(name="weather", description="of a place", parameters={"type": "object", "properties": {}})
CALL = ToolCall("c1", "weather", {"place": "Bern"}, '{ "place":"Bern" }')


def ask(*messages: Message, **options: Any) -> Request:
    said = messages or (Message("user", "Hi"),)
    return Request(prompt=said, messages=said, model="m", **options)


def sent(request: Request, flags: Flags = FLAGS) -> Any:
    encoded = DIALECT.encode(request, flags)
    assert encoded.path == "/chat/completions"
    assert dict(encoded.headers) == {"content-type": "application/json"}
    assert dict(encoded.applied) == {}
    return json.loads(encoded.body)


# ------------------------------------------------------------------------------------------------------- encoding

BASE = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
        ({"stop": ("a", "b")}, {"stop": ["a", "b"]}),
        ({"seed": 0}, {"seed": 0}),
        ({"reasoning": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning": "none"}, {"reasoning_effort": "none"}),
        ({"metadata": {"team": "x"}}, {"metadata": {"team": "x"}}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"extra": {"store": False, "seed": None}, "seed": 7}, {"store": False, "seed": None}),
        ({"extra": {"model": "other"}}, {"model": "other"}),
        (
            {"tools": (TOOL,), "tool_choice": "weather"},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "weather",
                            "description": "of a place",
                            "parameters": {"type": "object", "properties": {}},
                        },
                    }
                ],
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
            },
        ),
        (
            {"tools": (Tool(name="f", strict=True),)},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True},
                    }
                ]
            },
        ),
    ],
)
def test_options(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each option has its place; what was not given is not sent; `extra` comes last and wins."""
    assert sent(ask(**options)) == BASE | expected


def test_the_endpoint_has_its_way() -> None:
    """The limit's name, the system's role and `stream_options` follow the endpoint's flags."""
    flags = Flags(
        provider="test", system_role="developer", max_tokens_field="max_completion_tokens", stream_options=False
    )
    request = ask(Message("system", "B"), Message("user", "Hi"), system="A", max_tokens=5, stream=True)
    assert sent(request, flags) == {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "A"},
            {"role": "developer", "content": "B"},
            {"role": "user", "content": "Hi"},
        ],
        "max_completion_tokens": 5,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message("user", "Hi"), [{"role": "user", "content": "Hi"}]),
        (Message("user", ""), [{"role": "user", "content": ""}]),
        (Message("user", (Text("a"), Text("b"))), [{"role": "user", "content": "ab"}]),
        (Message("assistant", "Yes"), [{"role": "assistant", "content": "Yes"}]),
        (
            Message("assistant", (Reasoning("hm", "seal"), Text("So: "), CALL)),
            [
                {
                    "role": "assistant",
                    "content": "So: ",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{ "place":"Bern" }'},
                        }
                    ],
                }
            ],
        ),
        (
            Message("assistant", (ToolCall("c1", "f", {"x": 1}),)),
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
                }
            ],
        ),
        (
            Message("tool", (ToolResult("c1", "sunny"), ToolResult("c2", "broken", is_error=True))),
            [
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
                {"role": "tool", "tool_call_id": "c2", "content": "broken"},
            ],
        ),
        (
            Message("user", (Text("and?"), ToolResult("c1", "sunny"))),
            [{"role": "tool", "tool_call_id": "c1", "content": "sunny"}, {"role": "user", "content": "and?"}],
        ),
        (
            Message("user", (Text("see"), Media(kind="image", data=b"\x00\x01", media_type="image/png"))),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAE="}},
                    ],
                }
            ],
        ),
        (
            Message("user", (Media(kind="image", url="https://x/y.png"),)),
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
        ),
        (
            Message("user", (Media(kind="audio", data=b"\x00", media_type="audio/wav"),)),
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}],
        ),
        (
            Message("user", (Media(kind="document", data=b"\x00", media_type="application/pdf", name="a.pdf"),)),
            [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
                        }
                    ],
                }
            ],
        ),
        (
            Message("user", (Media(kind="document", file_id="f1"), Opaque("openai_chat", b'{"type":"x"}'))),
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}, {"type": "x"}]}],
        ),
    ],
)
def test_messages(message: Message, expected: list[Any]) -> None:
    """Each kind of turn and part has its form; thinking is only sent back in the API's own blocks."""
    assert sent(ask(message))["messages"] == expected


def test_native_blocks_are_sent_byte_for_byte() -> None:
    """The API's own message goes back as the very bytes that came; another dialect's is passed over."""
    raw = b'{"role":"assistant",  "content":null, "reasoning_details":[{"n": 1.0}]}'
    mine = Message("assistant", "text", native=(Opaque("openai_chat", raw),))
    assert raw in DIALECT.encode(ask(mine), FLAGS).body
    other = Message("assistant", "text", native=(Opaque("anthropic", b"{}"),))
    assert sent(ask(other))["messages"] == [{"role": "assistant", "content": "text"}]


@pytest.mark.parametrize(
    ("request_", "kind", "names"),
    [
        (ask(cache=True), UnsupportedParameterError, "cache"),
        (ask(reasoning=500), UnsupportedParameterError, "reasoning"),
        (ask(reasoning="huge"), UnsupportedParameterError, "huge"),
        (ask(tool_choice="weather"), InvalidRequestError, "tool_choice"),
        (ask(extra={"x": object()}), InvalidRequestError, "object"),
        (ask(extra={"x": "\ud800"}), InvalidRequestError, "JSON"),
        (ask(Message("system", (Media(kind="image", url="u"),))), InvalidRequestError, "system"),
        (ask(Message("tool", "text")), InvalidRequestError, "tool results"),
        (ask(Message("user", (CALL,))), InvalidRequestError, "ToolCall"),
        (ask(Message("assistant", (ToolResult("c", "r"),))), InvalidRequestError, "ToolResult"),
        (ask(Message("user", (Media(kind="image", file_id="f"),))), InvalidRequestError, "file_id"),
        (ask(Message("user", (Media(kind="image", data=b"x"),))), InvalidRequestError, "media_type"),
        (ask(Message("user", (Media(kind="document", url="u", media_type="x/y"),))), InvalidRequestError, "data"),
        (ask(Message("user", (Media(kind="audio", data=b"x", media_type="audio/ogg"),))), InvalidRequestError, "ogg"),
        (ask(Message("user", (Opaque("anthropic", b"{}"),))), InvalidRequestError, "anthropic"),
        (ask(Message("user", (Opaque("openai_chat", b"{"),))), InvalidRequestError, "not JSON"),
        (ask(Message("assistant", "", native=(Opaque("openai_chat", b"{"),))), InvalidRequestError, "not JSON"),
    ],
)
def test_what_cannot_be_said(request_: Request, kind: type[ProviderError], names: str) -> None:
    """What the dialect cannot say is an error of ours that names it and has no status."""
    with pytest.raises(kind, match=names) as caught:
        DIALECT.encode(request_, FLAGS)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.provider) == (None, "test")


# ------------------------------------------------------------------------------------------------------- decoding


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "model": "m-1",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}],
        **more,
    }


def sse(*chunks: Any, done: bool = True) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n" * done


def stream(*chunks: Any, done: bool = True, **flags: Any) -> Answer:
    return answer(DIALECT, sse(*chunks, done=done), stream=True, headers={"x-request-id": "q1"}, **flags)


def whole(message: Any, finish: str | None = "stop", **more: Any) -> Answer:
    body = {"id": "r1", "model": "m-1", "choices": [{"message": message, "finish_reason": finish}], **more}
    return answer(DIALECT, json.dumps(body), stream=False, headers={"x-request-id": "q1"})


def test_ids_and_model() -> None:
    """The answer's id and model come from the body, the exchange's id from the head."""
    for told in (stream(chunk({"content": "a"}), chunk(finish="stop")), whole({"content": "a"})):
        assert (told.finish.response_id, told.finish.request_id, told.finish.model) == ("r1", "q1", "m-1")


@pytest.mark.parametrize(("given", "expected"), [(None, None), ("", None), (7, "7"), ("x", "x"), ({}, None)])
def test_odd_ids(given: Any, expected: str | None) -> None:
    """An id may be null, empty or a number."""
    assert whole({"content": "a"}, id=given).finish.response_id == expected


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([None], Usage()),
        ([{}], Usage()),
        ([{"prompt_tokens": 3, "completion_tokens": 4}], Usage(input_total=3, output_total=4)),
        (
            [{"prompt_tokens": 3, "completion_tokens": 1}, None, {"prompt_tokens": 3, "completion_tokens": 4}],
            Usage(input_total=3, output_total=4),
        ),
        (
            [
                {
                    "prompt_tokens": 10,
                    "completion_tokens": 4,
                    "total_tokens": 14,
                    "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 1},
                    "completion_tokens_details": {"reasoning_tokens": 2},
                }
            ],
            Usage(10, 3, 6, 1, 4, 2),
        ),
        (
            [
                {
                    "prompt_tokens": 10,
                    "completion_tokens": 4,
                    "total_tokens": 34,
                    "completion_tokens_details": {"reasoning_tokens": 20},
                }
            ],
            Usage(input_total=10, output_total=24, reasoning=20),
        ),
        ([{"prompt_tokens": "3", "completion_tokens": -1, "prompt_tokens_details": []}], Usage()),
    ],
    ids=["null", "empty", "plain", "several", "details", "reasoning apart", "no numbers"],
)
def test_usage(usages: list[Any], expected: Usage) -> None:
    """The last usage stated counts, on whatever chunk; what is not stated is None; totals hold their parts."""
    told = stream(chunk({"content": "a"}), chunk(finish="stop"), *(chunk(usage=usage) for usage in usages))
    assert told.finish.usage == expected
    told = stream(chunk(finish="stop"), *({"choices": [], "usage": usage} for usage in usages))
    assert told.finish.usage == expected
    told = stream(chunk(finish="stop"), *(chunk(x_groq={"usage": usage}) for usage in usages))
    assert told.finish.usage == expected


@pytest.mark.parametrize(
    ("delta", "text", "reasoning"),
    [
        ({"content": None}, "", ""),
        ({"content": "a"}, "a", ""),
        ({"content": [{"type": "text", "text": "a"}, "b"]}, "ab", ""),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}, "", "a"),
        ({"content": [{"type": "thinking", "thinking": "a"}]}, "", "a"),
        ({"content": [{"type": "reference", "reference_ids": [1]}, 7]}, "", ""),
        ({"content": {"a": 1}}, '{"a":1}', ""),
        ({"reasoning_content": "a"}, "", "a"),
        ({"reasoning": "a"}, "", "a"),
        ({"reasoning": "a", "reasoning_content": "a"}, "", "a"),
        ({"reasoning": {"odd": 1}, "content": "b"}, "b", ""),
        ({"content": "b", "reasoning": "a"}, "b", "a"),
    ],
)
def test_content_shapes(delta: dict[str, Any], text: str, reasoning: str) -> None:
    """Text and thinking are told apart in every shape, in a delta as in a message, and never twice."""
    for told in (stream(chunk(delta), chunk(finish="stop")), whole(delta)):
        assert (told.text, told.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("finish", "extra", "reason"),
    [
        ("stop", {}, "stop"),
        ("length", {}, "length"),
        ("model_length", {}, "length"),
        ("content_filter", {}, "content_filter"),
        ("a_new_reason", {}, "other"),
        ("stop", {"refusal": "No."}, "content_filter"),
        ("length", {"refusal": "No."}, "length"),
        ("stop", {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "tool_calls"),
        ("length", {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}, "length"),
        ("function_call", {"function_call": {"name": "f", "arguments": "{}"}}, "tool_calls"),
    ],
)
def test_finish_reasons(finish: str, extra: dict[str, Any], reason: str) -> None:
    """A reason is mapped, never made up; calls and refusals show where the provider says `stop`."""
    for told in (stream(chunk(extra), chunk(finish=finish)), whole(extra, finish)):
        assert (told.finish.reason, told.finish.raw_reason) == (reason, finish)
        assert told.text == extra.get("refusal", "")


def test_a_whole_answer_without_a_reason() -> None:
    """A whole answer that does not say why it ended has the reason `other` and no raw one."""
    for finish in (None, ""):
        told = whole({"content": "a"}, finish)
        assert (told.finish.reason, told.finish.raw_reason) == ("other", None)


def test_custom_tool_calls_and_objects_as_arguments() -> None:
    """A custom tool's free text, and arguments that come as an object, are kept as text."""
    told = whole(
        {
            "tool_calls": [
                {"id": "a", "type": "custom", "custom": {"name": "f", "input": "free text"}},
                {"id": "b", "function": {"name": "g", "arguments": {"x": 1}}},
                {"id": "c", "function": None},
                {},
                None,
            ]
        }
    )
    assert told.finish.tool_calls == (
        ToolCall("a", "f", None, "free text"),
        ToolCall("b", "g", {"x": 1}, '{"x":1}'),
        ToolCall("c", "", {}, ""),
    )


def test_only_the_first_of_several_choices_counts() -> None:
    """Other choices are left out of the answer, and one warning says so."""
    other = {"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}]}
    told = stream(other, chunk({"content": "A"}), other, chunk(finish="stop"))
    assert told.text == "A"
    assert [event.code for event in told.events if isinstance(event, ModelWarning)] == ["other_choices"]
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"} for text in "AB"]}
    told = answer(DIALECT, json.dumps(body), stream=False)
    assert told.text == "A"
    assert [event.code for event in told.events if isinstance(event, ModelWarning)] == ["other_choices"]


# -------------------------------------------------------------------------------------- the message kept for replay


def kept(told: Answer) -> Any:
    (part,) = told.finish.parts
    assert part.dialect == "openai_chat"
    return json.loads(part.raw)


def test_plain_text_is_not_kept_twice() -> None:
    """A message of text alone needs no block of its own."""
    assert whole({"role": "assistant", "content": "a", "refusal": None, "annotations": []}).finish.parts == ()
    told = stream(
        chunk({"role": "assistant", "content": ""}), chunk({"content": "a", "token_id": 5}), chunk({}, "stop")
    )
    assert told.finish.parts == ()


def test_a_whole_message_is_kept_byte_for_byte() -> None:
    """A message that holds more is kept as the very bytes that came."""
    raw = '{"role":"assistant",  "content":"a", "reasoning_content":"h\\u006d", "n": 1.0}'
    told = answer(DIALECT, f'{{"choices":[{{"message":{raw},"finish_reason":"stop"}}]}}', stream=False)
    assert told.finish.parts == (Opaque("openai_chat", raw.encode()),)


def test_a_streamed_message_is_rebuilt() -> None:
    """Deltas add up to the message that a whole answer would have held."""
    told = stream(
        chunk({"role": "assistant", "content": "", "reasoning_content": "h"}),
        chunk({"reasoning_content": "m", "channel": "x"}),
        chunk({"content": "a"}),
        chunk({"content": "b", "audio": {"id": "s1"}}),
        chunk({"audio": {"expires_at": 9}}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}, "extra_content": {"seal": "s"}}]}),
        chunk(finish="tool_calls"),
    )
    assert kept(told) == {
        "role": "assistant",
        "content": "ab",
        "reasoning_content": "hm",
        "audio": {"id": "s1", "expires_at": 9},
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"seal": "s"},
            }
        ],
    }


def test_streamed_lists_are_put_together() -> None:
    """Items of one kind and index go on in one item, texts joined, seals kept; others stand alone."""
    told = stream(
        chunk({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "a", "signature": ""}]}),
        chunk({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "b"}]}),
        chunk({"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "seal", "text": None}]}),
        chunk({"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "data": "xyz"}]}),
        chunk({"annotations": [{"type": "url_citation", "url": "1"}]}),
        chunk({"annotations": [{"type": "url_citation", "url": "2"}, "odd"]}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "u"}]}]}),
        chunk({"content": "A"}),
        chunk({"content": [{"type": "text", "text": "B"}]}),
        chunk(finish="stop"),
    )
    assert kept(told) == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "t"}, {"type": "text", "text": "u"}]},
            {"type": "text", "text": "AB"},
        ],
        "reasoning_details": [
            {"type": "reasoning.text", "index": 0, "text": "ab", "signature": "seal"},
            {"type": "reasoning.encrypted", "index": 0, "data": "xyz"},
        ],
        "annotations": [{"type": "url_citation", "url": "1"}, {"type": "url_citation", "url": "2"}, "odd"],
    }
    assert (told.text, told.reasoning) == ("AB", "tu")


# ---------------------------------------------------------------------------------------- ends and errors of streams


@pytest.mark.parametrize("flag", [True, False])
def test_done_marker(flag: bool) -> None:
    """Without `[DONE]` only an endpoint that never sends it may end; with it any may; without a reason none may."""
    full = [chunk({"content": "a"}), chunk(finish="stop")]
    assert stream(*full, done_marker=flag).finish.reason == "stop"
    cut = sse(*full, done=False)
    if flag:
        assert type(failed(DIALECT, cut, stream=True)) is IncompleteStreamError
        assert failed(DIALECT, cut, stream=True).partial == "a"
    else:
        assert answer(DIALECT, cut, stream=True, done_marker=False).finish.reason == "stop"
        torn = cut + 'data: {"choices": [], "usa'
        assert type(failed(DIALECT, torn, stream=True, done_marker=False)) is IncompleteStreamError
    for done in (True, False):
        without = sse(full[0], done=done)
        assert type(failed(DIALECT, without, stream=True, done_marker=flag)) is IncompleteStreamError


def test_usage_after_the_reason_where_no_marker_comes() -> None:
    """Where no `[DONE]` comes, what follows the finish reason still counts."""
    told = stream(
        chunk({"content": "a"}, "stop"),
        chunk({"content": "b"}),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        done=False,
        done_marker=False,
    )
    assert (told.text, told.finish.usage.output_total) == ("ab", 2)


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"message": "m", "type": "server_error"}, ServerError, True),
        ({"message": "m", "code": "rate_limit_exceeded"}, RateLimitError, True),
        ({"message": "m", "code": 429}, RateLimitError, True),
        ({"message": "m", "code": 402}, QuotaError, False),
        ({"message": "m", "code": "502", "metadata": {}}, ServerError, True),
        ({"message": "m", "code": 503}, OverloadedError, True),
        ({"message": "m", "code": "content_filter"}, ContentPolicyError, False),
        ({"message": "m", "type": "invalid_request_error"}, InvalidRequestError, False),
        ({"message": "m", "status_code": 400}, InvalidRequestError, False),
        ("m", ServerError, True),
    ],
)
def test_errors_inside_a_stream(error: Any, kind: type[ProviderError], *, retryable: bool) -> None:
    """An error inside a 200 is raised by its own type or code, with the head's id and the text before it."""
    reader = DIALECT.decoder(head(x_request_id="q1", retry_after="3"), FLAGS, stream=True)
    events, raised = fail(reader, [(sse(chunk({"content": "a"}), done=False) + sse({"error": error})).encode()])
    assert events == [TextDelta("a")]
    assert type(raised) is kind
    assert (raised.status, raised.request_id, raised.retry_after) == (200, "q1", 3.0)
    assert (raised.partial, raised.ambiguous, raised.retryable) == ("a", True, retryable)
    whole_ = failed(DIALECT, json.dumps({"error": error}), stream=False)
    assert type(whole_) is kind
    assert (whole_.partial, whole_.ambiguous) == ("", False)
    instead = failed(DIALECT, json.dumps({"error": error}), stream=True)
    assert type(instead) is kind


@pytest.mark.parametrize(
    "written",
    [
        'event: error\ndata: {"message": "m", "code": 500}\n\n',
        'data: {"object": "error", "message": "m", "code": 500}\n\n',
        'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 500}}]}\n\n',
        'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}\n\n',
        'error: {"error": {"message": "m"}}\n\n',
        "event: error\ndata: not JSON\n\n",
    ],
)
def test_other_shapes_of_errors_inside_a_stream(written: str) -> None:
    """The other ways in which servers tell of a failure are errors too."""
    error = failed(DIALECT, sse(chunk({"content": "a"}), done=False) + written, stream=True)
    assert type(error) is ServerError
    assert error.partial == "a"


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": []}',
        '{"choices": [null]}',
        '{"choices": {}}',
        '{"choices": [{"message": "text"}]}',
        '{"choices": [{"message": {"content": "\\ud8"}}]}',
    ],
)
def test_other_shapes_are_malformed(body: str) -> None:
    """JSON that is no chat completion is malformed, whole or as a chunk."""
    assert type(failed(DIALECT, body, stream=False)) is MalformedResponseError
    if '"message"' not in body and body != '{"choices": []}':
        assert type(failed(DIALECT, f"data: {body}\n\n", stream=True)) is MalformedResponseError


def test_a_whole_answer_to_a_request_for_a_stream() -> None:
    """An endpoint that cannot stream may answer whole; one that streams unasked says so in its content type."""
    body = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})
    assert answer(DIALECT, " \n" + body, stream=True, headers={"content-type": "application/json"}).text == "a"
    events = sse(chunk({"content": "a"}), chunk(finish="stop"))
    for kind, asked in (("text/event-stream", False), ("application/json", True)):
        assert answer(DIALECT, events, stream=asked, headers={"content-type": kind}).text == "a"


def test_a_message_inside_a_stream() -> None:
    """A server that streams whole messages instead of deltas is understood."""
    told = stream({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]})
    assert told.text == "a"


def test_a_long_stream_is_linear() -> None:
    """Thirty thousand chunks with thinking are read and rebuilt without work that grows with their number."""
    one = sse(chunk({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "ab"}]}), done=False)
    reader = DIALECT.decoder(head(), FLAGS, stream=True)
    told = Answer((*reader.feed(one.encode() * 30_000), *reader.feed(sse(chunk(finish="stop")).encode())))
    assert kept(told)["reasoning_details"][0]["text"] == "ab" * 30_000


def test_what_is_said_about_an_answer_is_kept_and_not_sent_back() -> None:
    """Log probabilities, citations and results of search and filter stand in a block that is no part of the turn."""
    a, b = {"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}
    said = {"citations": ["https://x"], "search_results": [{"url": "https://x"}], "moderation": {"flagged": False}}
    filtered = {"hate": {"filtered": False}}
    first = chunk({"content": "a"}, citations=["early"])
    first["choices"][0] |= {"logprobs": {"content": [a], "refusal": None}}
    second = chunk({"content": "b"}, "stop", **said)
    second["choices"][0] |= {"logprobs": {"content": [b]}, "content_filter_results": filtered}
    message = {"content": "ab"}
    choice = {"message": message, "finish_reason": "stop", "logprobs": {"content": [a, b]}}
    one = answer(
        DIALECT, json.dumps({"choices": [choice | {"content_filter_results": filtered}], **said}), stream=False
    )
    for told in (stream(first, second), one):
        (part,) = told.finish.parts
        assert part.dialect == ABOUT
        assert json.loads(part.raw) == said | {"content_filter_results": filtered, "logprobs": {"content": [a, b]}}
        turn = Message("assistant", told.text, native=told.finish.parts)
        assert sent(ask(turn))["messages"] == [{"role": "assistant", "content": "ab"}]
