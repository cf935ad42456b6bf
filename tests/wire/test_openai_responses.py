"""OpenAI Responses: what is sent for a call, and what peculiar answers come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from answers import Answer, answer, fail, failed, head
from veyra.errors import (
    ContentPolicyError,
    ContextLengthError,
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
from veyra.wire.openai_responses import OpenAIResponses

DIALECT = OpenAIResponses()
NAME = "openai_responses"
FLAGS = Flags(provider="test")
TOOL = Tool(name="weather", description="of a place")
CALL = ToolCall("c1", "weather", {"place": "Bern"}, '{ "place":"Bern" }')
ANY_OBJECT = {"type": "object", "properties": {}}


def ask(*messages: Message, **options: Any) -> Request:
    said = messages or (Message("user", "Hi"),)
    return Request(prompt=said, messages=said, model="m", **options)


def sent(request: Request, flags: Flags = FLAGS) -> Any:
    encoded = DIALECT.encode(request, flags)
    assert encoded.path == "/responses"
    assert dict(encoded.headers) == {"content-type": "application/json"}
    return json.loads(encoded.body)


# ------------------------------------------------------------------------------------------------------- encoding

BASE = {"model": "m", "input": [{"role": "user", "content": "Hi"}], "store": False}
SEALED = ["reasoning.encrypted_content"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"system": "Be brief"}, {"instructions": "Be brief"}),
        ({"system": ""}, {"instructions": ""}),
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
        ({"reasoning": "low"}, {"reasoning": {"effort": "low"}, "include": SEALED}),
        ({"reasoning": "xhigh"}, {"reasoning": {"effort": "xhigh"}, "include": SEALED}),
        ({"reasoning": "none"}, {"reasoning": {"effort": "none"}}),
        ({"metadata": {"team": "x"}}, {"metadata": {"team": "x"}}),
        ({"stream": True}, {"stream": True}),
        ({"tool_choice": "auto"}, {"tool_choice": "auto"}),
        ({"tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"extra": {"store": True}}, {"store": True}),
        (
            {"extra": {"include": [], "top_p": None}, "reasoning": "low"},
            {"reasoning": {"effort": "low"}, "include": [], "top_p": None},
        ),
        ({"extra": {"model": "other", "truncation": "auto"}}, {"model": "other", "truncation": "auto"}),
        (
            {"tools": (TOOL,), "tool_choice": "weather"},
            {
                "tools": [
                    {
                        "type": "function",
                        "name": "weather",
                        "description": "of a place",
                        "parameters": ANY_OBJECT,
                        "strict": False,
                    }
                ],
                "tool_choice": {"type": "function", "name": "weather"},
            },
        ),
        (
            {"tools": (Tool(name="f", strict=True), Tool(name="g", strict=False))},
            {
                "tools": [
                    {"type": "function", "name": "f", "parameters": ANY_OBJECT, "strict": True},
                    {"type": "function", "name": "g", "parameters": ANY_OBJECT, "strict": False},
                ]
            },
        ),
    ],
)
def test_options(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each option has its place; `strict` is always stated, nothing is stored; `extra` comes last and wins."""
    assert sent(ask(**options)) == BASE | expected


@pytest.mark.parametrize(("extra", "applied"), [({}, {"store": False}), ({"store": True}, {}), ({"store": False}, {})])
def test_what_is_applied(extra: dict[str, Any], applied: dict[str, Any]) -> None:
    """That nothing is stored is reported as applied, unless the caller decided."""
    assert dict(DIALECT.encode(ask(extra=extra), FLAGS).applied) == applied


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message("user", ""), [{"role": "user", "content": ""}]),
        (Message("system", "Be brief"), [{"role": "system", "content": "Be brief"}]),
        (Message("assistant", "Yes"), [{"role": "assistant", "content": "Yes"}]),
        (
            Message("user", (Text("a"), Text("b"))),
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}],
        ),
        (
            Message("assistant", (Reasoning("hm", "seal"), Text("So: "), CALL, Text(""), ToolCall("c2", "f", {}))),
            [
                {"role": "assistant", "content": "So: "},
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{ "place":"Bern" }'},
                {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            ],
        ),
        (
            Message("tool", (ToolResult("c1", "sunny"), ToolResult("c2", "no", is_error=True))),
            [
                {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
                {"type": "function_call_output", "call_id": "c2", "output": "no"},
            ],
        ),
        (
            Message("user", (Text("a"), ToolResult("c1", "sunny"), Text("b"))),
            [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
                {"role": "user", "content": [{"type": "input_text", "text": "b"}]},
            ],
        ),
        (
            Message(
                "user",
                (
                    Media(kind="image", data=b"\x00\x01", media_type="image/png"),
                    Media(kind="image", url="https://x/y.png"),
                    Media(kind="image", file_id="f1"),
                    Media(kind="document", data=b"%PDF", media_type="application/pdf", name="a.pdf"),
                    Media(kind="document", data=b"%PDF", media_type="application/pdf"),
                    Media(kind="document", url="https://x/y.pdf"),
                    Media(kind="document", file_id="f2"),
                ),
            ),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AAE="},
                        {"type": "input_image", "detail": "auto", "image_url": "https://x/y.png"},
                        {"type": "input_image", "detail": "auto", "file_id": "f1"},
                        {
                            "type": "input_file",
                            "filename": "a.pdf",
                            "file_data": "data:application/pdf;base64,JVBERg==",
                        },
                        {
                            "type": "input_file",
                            "filename": "document",
                            "file_data": "data:application/pdf;base64,JVBERg==",
                        },
                        {"type": "input_file", "file_url": "https://x/y.pdf"},
                        {"type": "input_file", "file_id": "f2"},
                    ],
                }
            ],
        ),
        (
            Message(
                "user",
                (
                    Text("a"),
                    Opaque(NAME, b'{"type":"input_image","detail":"high"}'),
                    Opaque(NAME, b'{"type":"computer_call_output"}'),
                ),
            ),
            [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "detail": "high"}],
                },
                {"type": "computer_call_output"},
            ],
        ),
        (
            Message("assistant", (Opaque(NAME, b'{"type":"item_reference","id":"x"}'), Text("a"))),
            [{"type": "item_reference", "id": "x"}, {"role": "assistant", "content": "a"}],
        ),
    ],
)
def test_messages(message: Message, expected: list[Any]) -> None:
    """Each kind of turn and part has its form: messages, or items of their own, in the order they were said."""
    assert sent(ask(message))["input"] == expected


def test_the_system_role_is_the_endpoints() -> None:
    """A system message in a conversation has the role that the endpoint's flags name."""
    flags = Flags(provider="test", system_role="developer")
    assert sent(ask(Message("system", "A")), flags)["input"] == [{"role": "developer", "content": "A"}]


def test_native_items_are_sent_byte_for_byte() -> None:
    """The API's own items go back as the very bytes that came; another dialect's blocks are passed over."""
    raw = b'{"type":"reasoning",  "id":"rs_1", "summary":[], "encrypted_content":"s\\/e"}'
    mine = Message("assistant", "text", native=(Opaque(NAME, raw), Opaque(NAME, b'{"type":"x"}')))
    assert b'"input":[' + raw + b',{"type":"x"}]' in DIALECT.encode(ask(mine), FLAGS).body
    other = Message("assistant", "text", native=(Opaque("openai_chat", b"{}"),))
    assert sent(ask(other))["input"] == [{"role": "assistant", "content": "text"}]


@pytest.mark.parametrize(
    ("fields", "extra", "is_sent"),
    [
        ({"encrypted_content": "e"}, {}, True),
        ({"content": [{"type": "reasoning_text", "text": "hm"}]}, {}, True),
        ({"summary": [{"type": "summary_text", "text": "hm"}]}, {}, False),
        ({"encrypted_content": None, "content": []}, {}, False),
        ({}, {"store": False}, False),
        ({}, {"store": True}, True),
    ],
)
def test_reasoning_that_nobody_kept_is_left_out(
    fields: dict[str, Any], extra: dict[str, Any], *, is_sent: bool
) -> None:
    """A reasoning item goes back where it holds its content, or where the provider was told to keep it."""
    item = {"type": "reasoning", "id": "rs_1", "summary": [], **fields}
    message = {"type": "message", "id": "msg_1"}
    native = tuple(Opaque(NAME, json.dumps(each).encode()) for each in (item, message))
    expected = [item, message] if is_sent else [message]
    assert sent(ask(Message("assistant", "", native=native), extra=extra))["input"] == expected


def test_results_of_custom_tools() -> None:
    """A result is named after its call: that of a custom tool is another item than that of a function."""
    native = (
        Opaque(NAME, b'{"type":"custom_tool_call","call_id":"c1","name":"sql","input":"SELECT"}'),
        Opaque(NAME, b'{"type":"function_call","call_id":"c2","name":"f","arguments":"{}"}'),
    )
    results = Message("tool", (ToolResult("c1", "rows"), ToolResult("c2", "sunny")))
    assert sent(ask(Message("assistant", "", native=native), results))["input"][2:] == [
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "rows"},
        {"type": "function_call_output", "call_id": "c2", "output": "sunny"},
    ]


@pytest.mark.parametrize(
    ("request_", "kind", "names"),
    [
        (ask(cache=True), UnsupportedParameterError, "cache"),
        (ask(stop=("a",)), UnsupportedParameterError, "stop"),
        (ask(seed=0), UnsupportedParameterError, "seed"),
        (ask(reasoning=1000), UnsupportedParameterError, "1000"),
        (ask(reasoning="much"), UnsupportedParameterError, "much"),
        (ask(tool_choice="weather"), InvalidRequestError, "tool_choice"),
        (ask(Message("user", (Media(kind="audio", data=b"x"),))), InvalidRequestError, "audio"),
        (ask(Message("user", (Media(kind="image", data=b"x"),))), InvalidRequestError, "media_type"),
        (ask(Message("user", (Media(kind="document", media_type="a/b"),))), InvalidRequestError, "data"),
        (ask(Message("user", (CALL,))), InvalidRequestError, "ToolCall"),
        (ask(Message("system", (CALL,))), InvalidRequestError, "text only"),
        (ask(Message("tool", "text")), InvalidRequestError, "tool results"),
        (ask(Message("assistant", (ToolResult("c", "r"),))), InvalidRequestError, "ToolResult"),
        (ask(Message("assistant", (Opaque("ollama", b"{}"),))), InvalidRequestError, "ollama"),
        (ask(Message("assistant", "", native=(Opaque(NAME, b"{"),))), InvalidRequestError, "not JSON"),
        (ask(Message("assistant", "", native=(Opaque(NAME, b"[]"),))), InvalidRequestError, "JSON object"),
        (ask(extra={"x": object()}), InvalidRequestError, "object"),
    ],
)
def test_what_cannot_be_said(request_: Request, kind: type[ProviderError], names: str) -> None:
    """What the dialect cannot say is an error of ours that names it."""
    with pytest.raises(kind, match=names) as caught:
        DIALECT.encode(request_, FLAGS)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.provider) == (None, "test")


# ------------------------------------------------------------------------------------------------------- decoding


def message(*texts: str, id: str = "msg_1", **more: Any) -> dict[str, Any]:  # noqa: A002
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": id, "role": "assistant", "content": content, **more}


def function(arguments: str = '{"a":1}', id: str = "fc_1", call_id: str = "c1") -> dict[str, Any]:  # noqa: A002
    return {"type": "function_call", "id": id, "call_id": call_id, "name": "f", "arguments": arguments}


def response(*items: dict[str, Any], status: str | None = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "m-1", "status": status, "output": list(items), **more}


def ended(*items: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": response(*items, status=status, **more)}


def added(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, index: int, piece: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": piece, **more}


def sse(*events: dict[str, Any], end: str = "") -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events) + end


def stream(*events: dict[str, Any], end: str = "") -> Answer:
    return answer(DIALECT, sse(*events, end=end), stream=True, headers={"x-request-id": "req_1"})


def whole(*items: dict[str, Any], **more: Any) -> Answer:
    return answer(DIALECT, json.dumps(response(*items, **more)), stream=False, headers={"x-request-id": "req_1"})


def kept(told: Answer) -> list[Any]:
    assert all(part.dialect == NAME for part in told.finish.parts)
    return [json.loads(part.raw) for part in told.finish.parts]


def test_ids_and_model() -> None:
    """The answer's id and model come from the body, the exchange's id from the head; `[DONE]` may follow."""
    for told in (whole(message("a")), stream(ended(message("a"))), stream(ended(message("a")), end="data: [DONE]\n\n")):
        assert told.text == "a"
        assert (told.finish.response_id, told.finish.request_id, told.finish.model) == ("resp_1", "req_1", "m-1")
        assert (told.finish.reason, told.finish.raw_reason) == ("stop", "completed")


@pytest.mark.parametrize(
    ("items", "more", "expected"),
    [
        ([message("a")], {}, ("stop", "completed")),
        ([function()], {}, ("tool_calls", "completed")),
        ([message("a"), function()], {}, ("tool_calls", "completed")),
        ([message("a")], {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ("length", "max_output_tokens")),
        ([function("{")], {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ("length", "max_output_tokens")),
        ([message("a")], {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ("content_filter", "content_filter")),
        ([message("a")], {"status": "incomplete", "incomplete_details": {"reason": "steered"}}, ("other", "steered")),
        ([message("a")], {"status": "incomplete"}, ("other", "incomplete")),
    ],
)  # fmt: skip
def test_finish_reasons(items: list[dict[str, Any]], more: dict[str, Any], expected: tuple[str, str]) -> None:
    """Why the model stopped is told by the status, by its reason where there is one, and by what the answer holds."""
    for told in (whole(*items, **more), stream(ended(*items, **more))):
        assert (told.finish.reason, told.finish.raw_reason) == expected


@pytest.mark.parametrize(
    ("status", "expected"), [("queued", "paused"), ("in_progress", "paused"), ("cancelled", "other"), (None, "other")]
)
def test_an_answer_without_its_end(status: str | None, expected: str) -> None:
    """An answer that the provider goes on with in the background is paused, and can be fetched by its id."""
    finish = whole(status=status).finish
    assert (finish.reason, finish.raw_reason, finish.response_id) == (expected, status, "resp_1")


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(input_total=3, output_total=4)),
        (
            {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 4},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(30, 6, 20, 4, 9, 5),
        ),
        ({"input_tokens": 30, "input_tokens_details": {"cached_tokens": 0}}, Usage(30, 30, 0)),
        ({"input_tokens": "30", "output_tokens": -1, "input_tokens_details": [], "output_tokens_details": 3}, Usage()),
        (7, Usage()),
    ],
)
def test_usage(stated: object, expected: Usage) -> None:
    """Totals include cached and reasoning tokens; what is not stated as a count is unknown."""
    assert whole(message("a"), usage=stated).finish.usage == expected


def test_texts_come_in_pieces() -> None:
    """Deltas are handed on as they come, and what the later events repeat is not told again."""
    told = stream(
        {"type": "response.created", "response": response(status="in_progress")},
        added(0, message()),
        delta("output_text", 0, "He"),
        delta("output_text", 0, "llo"),
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hello"},
        done(0, message("Hello")),
        ended(message("Hello")),
    )
    assert told.events[:-1] == (TextDelta("He"), TextDelta("llo"))
    assert kept(told) == [message("Hello")]


@pytest.mark.parametrize(
    "events",
    [
        [ended(message("Hello", id="x"))],
        [done(0, message("Hello")), ended(message("Hello"))],
        [added(0, message()), delta("output_text", 0, "He"), ended(message("Hello"))],
        [added(0, message()), delta("output_text", 0, "He"), done(0, message("Hello")), ended()],
        [delta("output_text", 0, "He"), ended(message("Hello"))],
        [delta("output_text", 0, "He"), ended(message("Hello", id="other"))],
        [added(0, message()), delta("output_text", 0, "Hello"), done(0, message("Hello", id="other")), ended(message("Hello", id="third"))],
        [added(0, message()), delta("output_text", 0, "Hello", content_index=1), done(0, message("Hello")), ended(message("Hello"))],
        [added(0, message()), {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hel"}, ended(message("Hello"))],
        [added(0, message()), delta("output_text", 0, "He"), {"type": "response.output_text.done", "output_index": 0, "text": "Hello"}, ended(message("Hello"))],
        [done(1, message("Hello")), ended(message("Hello"))],
        [added(0, message()), delta("output_text", 0, "Hello"), ended(message("Good day"))],
        [done(0, message("He")), ended(message("Hello"))],
    ],
    ids=[
        "last event only",
        "whole item",
        "rest in the last event",
        "no output in the last event",
        "no item begun",
        "no item begun, unknown id",
        "another id in each event",
        "another content index",
        "no output index",
        "rest in the done event",
        "another output index",
        "the last event contradicts",
        "the last event tells more",
    ],
)  # fmt: skip
def test_every_text_is_told_once(events: list[dict[str, Any]]) -> None:
    """Whichever events tell a text, and however they name its item, it is told once and whole."""
    assert stream(*events).text == "Hello"


def test_items_that_change_their_ids() -> None:
    """Items that are named anew by the last event are told apart by their order among those of their type."""
    begun = [added(0, message()), added(1, function("", id="fc_1")), added(2, message(id="msg_2"))]
    pieces = [delta("output_text", 0, "a"), delta("output_text", 2, "b")]
    final = [message("aa", id="x"), function(id="y"), message("bb", id="z")]
    told = stream(*begun, *pieces, ended(*final))
    assert told.text == "abab"
    assert [call.raw for call in told.finish.tool_calls] == ['{"a":1}']


def test_items_of_the_last_event_count() -> None:
    """What goes back in the next turn comes from the last event, where reasoning may be sealed anew."""
    first = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "one"}
    last = first | {"encrypted_content": "two"}
    assert kept(stream(done(0, first), done(1, message("a")), ended(last, message("a")))) == [last, message("a")]
    assert kept(stream(done(1, message("a")), done(0, first), ended())) == [message("a"), first]


def test_several_messages_and_parts() -> None:
    """Texts of several messages and parts follow each other, streamed or not."""
    items = [message("a", "b"), message("a", "c", id="msg_2")]
    assert whole(*items).text == "abac"
    assert stream(*(done(index, item) for index, item in enumerate(items)), ended(*items)).text == "abac"
    pieces = [
        delta("output_text", 0, "a", content_index=0),
        delta("output_text", 0, "b", content_index=1),
        delta("output_text", 1, "a", content_index=0),
        delta("output_text", 1, "c", content_index=1),
    ]
    assert stream(*pieces, ended(*items)).text == "abac"


def test_a_refusal() -> None:
    """A refusal is text that ends with `content_filter`, streamed or not."""
    item = {"type": "message", "id": "msg_1", "content": [{"type": "refusal", "refusal": "I cannot"}]}
    pieces = [delta("refusal", 0, "I can"), {"type": "response.refusal.done", "output_index": 0, "refusal": "I cannot"}]
    for told in (whole(item), stream(ended(item)), stream(*pieces, ended(item))):
        assert (told.text, told.finish.reason, kept(told)) == ("I cannot", "content_filter", [item])


def test_reasoning() -> None:
    """Summaries and open thinking are reasoning, not text; the item is kept with its seal."""
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
        "encrypted_content": "e",
    }
    pieces = [
        delta("reasoning_summary_text", 0, "One.", summary_index=0),
        delta("reasoning_summary_text", 0, "Two", summary_index=1),
        {"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 1, "text": "Two."},
        delta("reasoning_text", 0, "Hm", content_index=0),
    ]
    for told in (whole(item, message("a")), stream(*pieces, ended(item, message("a")))):
        assert (told.reasoning, told.text) == ("One.Two.Hm.", "a")
        assert kept(told)[0] == item


def test_function_calls() -> None:
    """Calls have the id that their results must name, and arguments as the model wrote them, interleaved or not."""
    items = [function('{"a" :1}'), function("", id="fc_2", call_id="c2"), function("{", id="fc_3", call_id="c3")]
    calls = (ToolCall("c1", "f", {"a": 1}, '{"a" :1}'), ToolCall("c2", "f", {}, ""), ToolCall("c3", "f", None, "{"))
    begun = [added(index, item | {"arguments": ""}) for index, item in enumerate(items)]
    pieces = [
        delta("function_call_arguments", 0, '{"a"'),
        delta("function_call_arguments", 2, "{"),
        delta("function_call_arguments", 0, " :1}"),
    ]
    streams = (stream(*begun, *pieces, ended(*items)), stream(*begun, ended(*items)), stream(ended(*items)))
    for told in (whole(*items), *streams):
        assert told.finish.tool_calls == calls
        assert told.finish.reason == "tool_calls"
        for index, call in enumerate(calls):
            assert told.arguments(index) == call.raw
            named = [e for e in told.events if isinstance(e, ToolCallDelta) and e.index == index and e.name]
            assert [(event.id, event.name) for event in named] == [(call.id, "f")]


def test_calls_that_are_named_by_their_item() -> None:
    """Pieces that name no place in the output belong to the call of the item with their id."""
    items = [function(), function('{"b":2}', id="fc_2", call_id="c2")]
    begun = [{"type": "response.output_item.added", "item": item | {"arguments": ""}} for item in items]
    texts = [("fc_1", '{"a"'), ("fc_2", '{"b"'), ("fc_1", ":1}"), ("fc_2", ":2}")]
    pieces = [{"type": "response.function_call_arguments.delta", "item_id": id_, "delta": text} for id_, text in texts]
    told = stream(*begun, *pieces, ended(*items))
    assert [(call.id, call.raw) for call in told.finish.tool_calls] == [("c1", '{"a":1}'), ("c2", '{"b":2}')]
    assert told.arguments(1) == '{"b":2}'


def test_a_call_whose_name_comes_late() -> None:
    """Pieces that come before their item is named belong to its call."""
    pieces = [delta("function_call_arguments", 0, '{"a":1}'), done(0, function()), ended(function())]
    assert stream(*pieces).finish.tool_calls == (ToolCall("c1", "f", {"a": 1}, '{"a":1}'),)


@pytest.mark.parametrize(
    ("tools", "is_call"),
    [
        (None, True),
        ([], True),
        ([{"type": "custom", "name": "sql"}], True),
        ([{"type": "namespace", "tools": [{"type": "custom", "name": "sql"}]}], True),
        ([{"type": "x_search"}, {"type": "namespace", "tools": [3]}], False),
    ],
)
def test_custom_tools(tools: Any, *, is_call: bool) -> None:
    """A custom tool's input is free text; where the request had no such tool, the provider called its own."""
    item = {"type": "custom_tool_call", "id": "ct_1", "call_id": "c1", "name": "sql", "input": "SELECT 1"}
    created = {"type": "response.created", "response": response(status="in_progress", tools=tools)}
    pieces = [added(0, item | {"input": ""}), delta("custom_tool_call_input", 0, "SELECT")]
    for told in (whole(item, tools=tools), stream(created, *pieces, ended(item, tools=tools))):
        assert told.finish.tool_calls == ((ToolCall("c1", "sql", None, "SELECT 1"),) if is_call else ())
        assert told.finish.reason == ("tool_calls" if is_call else "stop")
        assert kept(told) == [item]


def test_what_is_unknown_is_kept_or_passed_over() -> None:
    """Items of unknown types are kept; unknown events, parts and fields, and gaps in the numbers, do no harm."""
    items: list[dict[str, Any]] = [
        {"type": "web_search_call", "id": "ws_1", "action": {"query": "x"}},
        {"type": "brand_new", "content": "text"},
        {"type": {"odd": 1}},
        {},
        message("a", new=1) | {"content": [{"type": "output_text", "text": "a"}, {"type": "new"}, 7, {"type": []}]},
        message() | {"id": "msg_2", "content": "text"},
    ]
    events: list[dict[str, Any]] = [
        {"type": "keepalive", "sequence_number": 9},
        {"type": "response.brand_new.delta", "delta": "x", "sequence_number": 2},
        {"type": 7},
        {"type": "response.output_text.delta", "delta": {"odd": 1}},
    ]
    for told in (whole(*items), stream(*events, ended(*items))):
        assert (told.text, told.finish.reason, kept(told)) == ("a", "stop", items)


# --------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("server_error", ServerError, True),
        ("rate_limit_exceeded", RateLimitError, True),
        ("insufficient_quota", QuotaError, False),
        ("server_is_overloaded", OverloadedError, True),
        ("invalid_prompt", ContentPolicyError, False),
        ("bio_policy", ContentPolicyError, False),
        ("image_content_policy_violation", ContentPolicyError, False),
        ("misalignment_policy_violation", ContentPolicyError, False),
        ("invalid_image_url", InvalidRequestError, False),
        ("empty_image_file", InvalidRequestError, False),
        ("context_length_exceeded", ContextLengthError, False),
        ("vector_store_timeout", ServerError, True),
        ("a_new_code", ServerError, True),
        (None, ServerError, True),
    ],
)
def test_failures_inside_a_200(code: str | None, kind: type[ProviderError], *, retryable: bool) -> None:
    """A failed response and an `error` event are raised by their code, with what came before and the request id."""
    told = {"code": code, "message": "it failed"}
    gone = response(status="failed", error=told)
    heads = {"x-request-id": "req_1"}
    errors = [
        failed(DIALECT, json.dumps(gone), stream=False, headers=heads),
        failed(DIALECT, json.dumps(gone | {"status": None}), stream=False, headers=heads),
        failed(DIALECT, sse({"type": "response.failed", "response": gone}), stream=True, headers=heads),
        failed(DIALECT, sse({"type": "error", **told, "param": None}), stream=True, headers=heads),
        failed(DIALECT, sse({"type": "error", "error": told}), stream=True, headers=heads),
        failed(DIALECT, json.dumps({"error": told}), stream=True, headers=heads),
    ]
    for error in errors:
        assert type(error) is kind
        assert (error.status, error.provider_code, error.provider_type) == (200, code, None)
        assert (error.request_id, error.retryable, error.ambiguous) == ("req_1", retryable, False)
        assert "it failed" in error.message


def test_a_failure_after_text() -> None:
    """What came before a failure is told first, and is the error's partial answer: it may be billed."""
    reader = DIALECT.decoder(head(), FLAGS, stream=True)
    gone = {"type": "response.failed", "response": response(status="failed", error={"code": "server_error"})}
    events, error = fail(reader, [sse(delta("output_text", 0, "Hel"), gone).encode()])
    assert events == [TextDelta("Hel")]
    assert (type(error), error.partial, error.ambiguous) == (ServerError, "Hel", True)


def test_an_error_that_is_no_json() -> None:
    """An `error` event with plain text is an error of the provider's, with that text."""
    error = failed(DIALECT, "event: error\ndata: upstream gone\n\n", stream=True)
    assert type(error) is ServerError
    assert "upstream gone" in error.message


@pytest.mark.parametrize(
    "end", ["", "data: [DONE]\n\n", "data: {\n\n", 'event: response.completed\ndata: {"type": "x"}\n\n']
)
def test_no_other_end_counts(end: str) -> None:
    """Without its terminal event a stream is cut, or garbled, whatever else ends it."""
    error = failed(DIALECT, sse(delta("output_text", 0, "Hel"), end=end), stream=True)
    assert type(error) is (MalformedResponseError if "{\n" in end else IncompleteStreamError)
    assert error.partial == "Hel"


@pytest.mark.parametrize(
    "body",
    [
        '{"id": "resp_1", "output": "text"}',
        '{"id": "resp_1", "output": [3]}',
        '{"id": "resp_1", "choices": []}',
        '{"id": "resp_1", "output": null}',
    ],
)
def test_another_shape_is_malformed(body: str) -> None:
    """A body that is no response, or has items that are no objects, is malformed."""
    assert type(failed(DIALECT, body, stream=False)) is MalformedResponseError
    event = json.dumps({"type": "response.output_item.done", "item": 3})
    assert type(failed(DIALECT, f"data: {event}\n\n", stream=True)) is MalformedResponseError


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"error": {"code": "model_not_found", "type": "invalid_request_error"}}, NotFoundError, "model_not_found"),
        (400, {"error": {"code": "context_length_exceeded"}}, ContextLengthError, "context_length_exceeded"),
        (400, {"error": {"code": "unsupported_value"}}, UnsupportedParameterError, "unsupported_value"),
        (429, {"error": {"code": "insufficient_quota"}}, QuotaError, "insufficient_quota"),
        (400, {"code": "invalid-argument", "error": "Incorrect API key provided."}, InvalidRequestError, "invalid-argument"),
    ],
)  # fmt: skip
def test_failures(status: int, body: dict[str, Any], kind: type[ProviderError], code: str) -> None:
    """An answer with an error status is an error by its code, and keeps the request id of the head."""
    error = DIALECT.failure(head(status, x_request_id="req_1"), json.dumps(body).encode(), FLAGS)
    assert type(error) is kind
    assert (error.status, error.provider_code, error.request_id) == (status, code, "req_1")


def test_a_turn_goes_round() -> None:
    """An answer put back as a message is sent as the very items it came as, and its call's result after them."""
    items = [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}, function()]
    finish = whole(*items).finish
    turn = Message("assistant", finish.tool_calls, native=finish.parts)
    result = Message("tool", (ToolResult(finish.tool_calls[0].id, "sunny"),))
    assert sent(ask(Message("user", "Hi"), turn, result))["input"] == [
        {"role": "user", "content": "Hi"},
        *items,
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
