"""Gemini: what is sent for a call, and what peculiar answers come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from answers import Answer, answer, fail, failed, head
from veyra.errors import (
    AuthenticationError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
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
from veyra.wire.gemini import UNSEALED, Gemini
from veyra.wire.gemini_answer import ABOUT

DIALECT = Gemini()
FLAGS = Flags(provider="test")
TOOL = Tool(name="weather", description="of a place")
CALL = ToolCall("c1", "weather", {"place": "Bern"}, '{ "place":"Bern" }')
ANY_OBJECT = {"type": "object", "properties": {}}


def ask(*messages: Message, model: str = "m", **options: Any) -> Request:
    said = messages or (Message("user", "Hi"),)
    return Request(prompt=said, messages=said, model=model, **options)


def sent(request: Request) -> Any:
    encoded = DIALECT.encode(request, FLAGS)
    assert dict(encoded.headers) == {"content-type": "application/json"}
    assert dict(encoded.applied) == {}
    return json.loads(encoded.body)


# ------------------------------------------------------------------------------------------------------- encoding

BASE = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-3", False, "/v1beta/models/gemini-3:generateContent"),
        ("gemini-3", True, "/v1beta/models/gemini-3:streamGenerateContent?alt=sse"),
        ("models/gemini-3", False, "/v1beta/models/gemini-3:generateContent"),
        ("tunedModels/mine", False, "/v1beta/tunedModels/mine:generateContent"),
        ("a/b", False, "/v1beta/models/a%2Fb:generateContent"),
        ("models/../x", False, "/v1beta/models/..%2Fx:generateContent"),
        ("a?b=c#d e:f\n", False, "/v1beta/models/a%3Fb%3Dc%23d%20e%3Af%0A:generateContent"),
        ("größe", False, "/v1beta/models/gr%C3%B6%C3%9Fe:generateContent"),
    ],
)
def test_the_path(model: str, *, stream: bool, path: str) -> None:
    """The model is one segment of the path, whatever its name holds, and so is the way of answering."""
    assert DIALECT.encode(ask(model=model, stream=stream), FLAGS).path == path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"system": "Be brief"}, {"systemInstruction": {"parts": [{"text": "Be brief"}]}}),
        ({"system": ""}, {}),
        ({"stream": True}, {}),
        ({"max_tokens": 5}, {"generationConfig": {"maxOutputTokens": 5}}),
        ({"temperature": 0.0, "top_p": 0.5}, {"generationConfig": {"temperature": 0.0, "topP": 0.5}}),
        ({"stop": ("a",), "seed": 0}, {"generationConfig": {"stopSequences": ["a"], "seed": 0}}),
        ({"reasoning": "none"}, {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}),
        ({"reasoning": 0}, {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}),
        (
            {"reasoning": 512},
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": 512, "includeThoughts": True}}},
        ),
        (
            {"reasoning": "low"},
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True}}},
        ),
        (
            {"extra": {"generationConfig": {"topK": 3, "seed": 9}, "safetySettings": []}, "seed": 1, "max_tokens": 5},
            {"generationConfig": {"maxOutputTokens": 5, "seed": 9, "topK": 3}, "safetySettings": []},
        ),
        ({"extra": {"contents": []}}, {"contents": []}),
        ({"tool_choice": "auto"}, {"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}}),
        ({"tool_choice": "none"}, {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}),
        ({"tool_choice": "required"}, {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
        (
            {"tools": (TOOL,), "tool_choice": "weather"},
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "weather", "description": "of a place", "parametersJsonSchema": ANY_OBJECT}
                        ]
                    }
                ],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
            },
        ),
        (
            {"tools": (Tool(name="f", strict=True), Tool(name="g"))},
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "parametersJsonSchema": ANY_OBJECT},
                            {"name": "g", "parametersJsonSchema": ANY_OBJECT},
                        ]
                    }
                ],
                "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}},
            },
        ),
    ],
)
def test_options(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each option has its place; what was not given is not sent; `extra` comes last, its configuration is merged."""
    assert sent(ask(**options)) == BASE | expected


def test_a_strict_tool_that_must_be_called() -> None:
    """A call that is required is held to its schema anyway: the choice is said as it is."""
    body = sent(ask(tools=(Tool(name="f", strict=True),), tool_choice="required"))
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}


RESULT = {"functionResponse": {"name": "weather", "response": {"result": "sunny"}}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([Message("user", (Text("a"), Text(""), Text("b")))], [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]),
        ([Message("user", "a"), Message("assistant", "b")], [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]),
        ([Message("assistant", (Reasoning("hm", "seal"),)), Message("user", "a")], [{"role": "user", "parts": [{"text": "a"}]}]),
        (
            [
                Message("assistant", (Text("So: "), CALL, ToolCall("c2", "f", None, "{"))),
                Message("tool", (ToolResult("c2", "x"),)),
                Message("tool", (ToolResult("c1", "sunny"),)),
                Message("user", "and?"),
            ],
            [
                {
                    "role": "model",
                    "parts": [
                        {"text": "So: "},
                        {"functionCall": {"name": "weather", "args": {"place": "Bern"}, "id": "c1"}, "thoughtSignature": UNSEALED},
                        {"functionCall": {"name": "f", "args": {"INVALID_JSON": "{"}, "id": "c2"}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"name": "f", "response": {"result": "x"}, "id": "c2"}},
                        {"functionResponse": {"name": "weather", "response": {"result": "sunny"}, "id": "c1"}},
                    ],
                },
                {"role": "user", "parts": [{"text": "and?"}]},
            ],
        ),
        ([Message("tool", (ToolResult("c9", "sunny", name="weather"),))], [{"role": "user", "parts": [RESULT]}]),
        (
            [Message("user", (Text("and?"), ToolResult("c9", "sunny", name="weather")))],
            [{"role": "user", "parts": [RESULT, {"text": "and?"}]}],
        ),
        (
            [
                Message(
                    "user",
                    (
                        Media(kind="image", data=b"\x00\x01", media_type="image/png"),
                        Media(kind="audio", data=b"\x00", media_type="audio/mpeg"),
                        Media(kind="document", url="https://x/y.pdf", media_type="application/pdf"),
                        Media(kind="document", file_id="https://g/v1beta/files/1"),
                        Opaque("gemini", b'{"videoMetadata":{}}'),
                    ),
                )
            ],
            [
                {
                    "role": "user",
                    "parts": [
                        {"inlineData": {"mimeType": "image/png", "data": "AAE="}},
                        {"inlineData": {"mimeType": "audio/mpeg", "data": "AA=="}},
                        {"fileData": {"fileUri": "https://x/y.pdf", "mimeType": "application/pdf"}},
                        {"fileData": {"fileUri": "https://g/v1beta/files/1"}},
                        {"videoMetadata": {}},
                    ],
                }
            ],
        ),
        ([Message("assistant", (Opaque("gemini", b'{"executableCode":{}}'),))], [{"role": "model", "parts": [{"executableCode": {}}]}]),
    ],
)  # fmt: skip
def test_messages(messages: list[Message], expected: list[Any]) -> None:
    """Each kind of turn and part has its form; the results of a turn's tools share one turn, each under its tool's name."""
    assert sent(ask(*messages))["contents"] == expected


def test_the_system_text_is_one_instruction() -> None:
    """System messages of the conversation join the system text, in order, and are no turns."""
    body = sent(ask(Message("system", "B"), Message("user", "Hi"), Message("system", ""), system="A"))
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert body["contents"] == BASE["contents"]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ToolResult("c1", "sunny"), {"result": "sunny"}),
        (ToolResult("c1", ""), {"result": ""}),
        (ToolResult("c1", "[1]"), {"result": "[1]"}),
        (ToolResult("c1", "{"), {"result": "{"}),
        (ToolResult("c1", ' {"t": 1.50}'), {"t": 1.5}),
        (ToolResult("c1", '{"t": 1}', is_error=True), {"error": '{"t": 1}'}),
    ],
)
def test_results(result: ToolResult, expected: Any) -> None:
    """A result that is an object is sent as one; other text, and that of a failure, goes under a name."""
    turns = sent(ask(Message("assistant", (CALL,)), Message("tool", (result,))))["contents"]
    assert turns[1]["parts"][0]["functionResponse"]["response"] == expected


def test_native_parts_are_sent_byte_for_byte() -> None:
    """The API's own parts go back as the very bytes that came; what is said about them, and other blocks, do not."""
    raw = b'{"thoughtSignature":"s\\/e",  "text":"h\\u006d"}'
    native = (Opaque("gemini", raw), Opaque("gemini", b'{"x":1}'), Opaque(ABOUT, b"{}"), Opaque("anthropic", b"{}"))
    body = DIALECT.encode(ask(Message("assistant", "text", native=native)), FLAGS).body
    assert b'"parts":[' + raw + b',{"x":1}]' in body
    other = Message("assistant", "text", native=(Opaque("openai_chat", b"{}"),))
    assert sent(ask(other))["contents"] == [{"role": "model", "parts": [{"text": "text"}]}]


def test_results_of_native_calls() -> None:
    """A result names its call's tool; it has the id if the provider gave one, and not if we made one up."""
    for id_, expected in ((None, {}), ("g1", {"id": "g1"})):
        call = {"name": "weather", "args": {}} | ({"id": id_} if id_ else {})
        finish = whole({"functionCall": call, "thoughtSignature": "s"}).finish
        (told,) = finish.tool_calls
        turn = Message("assistant", finish.tool_calls, native=finish.parts)
        turns = sent(ask(turn, Message("tool", (ToolResult(told.id, "sunny"),))))["contents"]
        assert turns[0]["parts"] == [{"functionCall": call, "thoughtSignature": "s"}]
        assert turns[1]["parts"] == [{"functionResponse": RESULT["functionResponse"] | expected}]


def test_an_id_that_was_made_up_is_not_sent() -> None:
    """An id that stood in one turn of the caller's making is not taken for the provider's in the next."""
    call = ToolCall("call_r1_0", "weather", {})
    result = Message("tool", (ToolResult(call.id, "sunny"),))
    native = (Opaque("gemini", b'{"functionCall":{"name":"weather"}}'),)
    messages = [Message("assistant", (call,)), result, Message("assistant", (call,), native=native), result]
    turns = sent(ask(*messages))["contents"]
    assert [turn["parts"][0]["functionResponse"].get("id") for turn in turns[1::2]] == ["call_r1_0", None]


def test_an_id_may_come_again() -> None:
    """Where two turns have calls of the same id, a result belongs to the call before it."""
    messages = []
    for name in ("f", "g"):
        messages += [
            Message("assistant", (ToolCall("c", name, {}),)),
            Message("tool", (ToolResult("c", "x"),)),
        ]
    turns = sent(ask(*messages))["contents"]
    assert [turn["parts"][0]["functionResponse"]["name"] for turn in turns[1::2]] == ["f", "g"]


@pytest.mark.parametrize(
    ("request_", "kind", "names"),
    [
        (ask(metadata={"team": "x"}), UnsupportedParameterError, "metadata"),
        (ask(reasoning="max"), UnsupportedParameterError, "max"),
        (ask(tool_choice="weather"), InvalidRequestError, "tool_choice"),
        (ask(extra={"generationConfig": 3}), InvalidRequestError, "generationConfig"),
        (ask(Message("user", (Media(kind="image", data=b"x"),))), InvalidRequestError, "media_type"),
        (ask(Message("user", (Media(kind="image"),))), InvalidRequestError, "data"),
        (ask(Message("user", (CALL,))), InvalidRequestError, "ToolCall"),
        (ask(Message("system", (CALL,))), InvalidRequestError, "text only"),
        (ask(Message("tool", "text")), InvalidRequestError, "tool results"),
        (ask(Message("tool", (ToolResult("c9", "x"),))), InvalidRequestError, "'c9' needs a name"),
        (ask(Message("assistant", (ToolResult("c", "r"),))), InvalidRequestError, "ToolResult"),
        (ask(Message("assistant", (Opaque("ollama", b"{}"),))), InvalidRequestError, "ollama"),
        (ask(Message("assistant", "", native=(Opaque("gemini", b"{"),))), InvalidRequestError, "not JSON"),
        (ask(Message("assistant", "", native=(Opaque("gemini", b"[]"),))), InvalidRequestError, "no part"),
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


def chunk(*parts: Any, finish: Any = None, usage: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk; `more` goes to the candidate."""
    candidate: dict[str, Any] = {"index": 0, **more}
    if parts:
        candidate["content"] = {"role": "model", "parts": list(parts)}
    if finish is not None:
        candidate["finishReason"] = finish
    told = {"candidates": [candidate], "modelVersion": "m-1", "responseId": "r1"}
    return told if usage is None else told | {"usageMetadata": usage}


def sse(*chunks: Any) -> str:
    return "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in chunks)


def stream(*chunks: Any) -> Answer:
    return answer(DIALECT, sse(*chunks), stream=True)


def array(*chunks: Any) -> Answer:
    return answer(DIALECT, "[" + "\n,\r\n".join(map(json.dumps, chunks)) + "\n]\n", stream=True)


def whole(*parts: Any, finish: Any = "STOP", **more: Any) -> Answer:
    return answer(DIALECT, json.dumps(chunk(*parts, finish=finish, **more)), stream=False)


def kept(told: Answer) -> list[Any]:
    return [json.loads(part.raw) for part in told.finish.parts if part.dialect == "gemini"]


def about(told: Answer) -> list[Any]:
    return [json.loads(part.raw) for part in told.finish.parts if part.dialect == ABOUT]


def test_ids_and_model() -> None:
    """The answer's id and model come from the body; the exchange has none."""
    end = chunk({"text": "a"}, finish="STOP")
    for told in (whole({"text": "a"}), stream(end), array(end)):
        assert told.text == "a"
        assert (told.finish.response_id, told.finish.request_id, told.finish.model) == ("r1", None, "m-1")
        assert kept(told) == [{"text": "a"}]
        assert about(told) == []


CALLED = {"functionCall": {"name": "f", "args": {}}}


@pytest.mark.parametrize(
    ("word", "parts", "expected"),
    [
        ("STOP", [], "stop"),
        ("STOP", [CALLED], "tool_calls"),
        ("MAX_TOKENS", [], "length"),
        ("MAX_TOKENS", [CALLED], "length"),
        ("SAFETY", [], "content_filter"),
        ("RECITATION", [], "content_filter"),
        ("BLOCKLIST", [], "content_filter"),
        ("PROHIBITED_CONTENT", [], "content_filter"),
        ("SPII", [], "content_filter"),
        ("MODEL_ARMOR", [], "content_filter"),
        ("IMAGE_SAFETY", [], "content_filter"),
        ("CONTINUATION", [], "paused"),
        ("LANGUAGE", [], "other"),
        ("OTHER", [], "other"),
        ("UNEXPECTED_TOOL_CALL", [CALLED], "other"),
        ("TOO_MANY_TOOL_CALLS", [], "other"),
        ("A_NEW_ONE", [], "other"),
        (1, [], "stop"),
        (2, [], "length"),
        (3, [], "content_filter"),
        (99, [], "other"),
    ],
)
def test_finish_reasons(word: str | int, parts: list[Any], expected: str) -> None:
    """The reasons are an open set, in words or as numbers; a call makes of a plain end one for calls."""
    for told in (
        whole(*parts, finish=word),
        stream(chunk(*parts), chunk(finish=word)),
        array(chunk(*parts, finish=word)),
    ):
        assert (told.finish.reason, told.finish.raw_reason) == (expected, str(word))


def test_a_whole_answer_may_not_say_why_it_ended() -> None:
    """A whole answer without a reason is complete, and its end is not made up."""
    finish = whole({"text": "a"}, finish=None).finish
    assert (finish.reason, finish.raw_reason) == ("other", None)


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"])
def test_what_the_model_wrote_cannot_be_read(word: str) -> None:
    """Where the provider could not read what the model wrote there is no answer, but an error with its words."""
    end = chunk(finish=word, finishMessage="Malformed: print(")
    for body in (sse(chunk({"text": "Hel"}), end), json.dumps(end)):
        error = failed(DIALECT, body, stream=True)
        assert type(error) is MalformedResponseError
        assert (error.provider_type, error.status, error.ambiguous) == (word, 200, True)
        assert error.partial == ("Hel" if "Hel" in body else "")
        assert "Malformed: print(" in error.message


def test_a_blocked_prompt() -> None:
    """A prompt that is blocked gets an empty answer that says so, whole or streamed."""
    feedback = {"blockReason": "OTHER", "blockReasonMessage": "No."}
    body = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}, "modelVersion": "m-1"}
    for told in (answer(DIALECT, json.dumps(body), stream=False), stream(body), array(body)):
        assert told.events[:-1] == (ModelWarning("refusal", "No."),)
        assert (told.finish.reason, told.finish.raw_reason, told.finish.model) == ("content_filter", "OTHER", "m-1")
        assert told.finish.usage == Usage(input_total=3)
        assert about(told) == [{"promptFeedback": feedback}]


@pytest.mark.parametrize(
    ("word", "warnings"),
    [
        ("STOP", []),
        ("MAX_TOKENS", []),
        ("SAFETY", [ModelWarning("refusal", "why")]),
        ("UNEXPECTED_TOOL_CALL", [ModelWarning("finish", "why")]),
    ],
)
def test_why_an_answer_ended(word: str, warnings: list[ModelWarning]) -> None:
    """What the provider says about an end that is not an ordinary one is a warning."""
    told = stream(chunk({"text": "a"}), chunk(finish=word, finishMessage="why"))
    assert [event for event in told.events if isinstance(event, ModelWarning)] == warnings


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, Usage()),
        ({"promptTokenCount": 3, "totalTokenCount": 3}, Usage(input_total=3)),
        ({"promptTokenCount": 3, "candidatesTokenCount": 4}, Usage(input_total=3, output_total=4)),
        ({"promptTokenCount": 3, "thoughtsTokenCount": 5}, Usage(input_total=3, output_total=5, reasoning=5)),
        (
            {
                "promptTokenCount": 30,
                "cachedContentTokenCount": 20,
                "toolUsePromptTokenCount": 7,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 5,
            },
            Usage(37, 17, 20, None, 9, 5),
        ),
        ({"promptTokenCount": "3", "candidatesTokenCount": -1}, Usage()),
    ],
)
def test_usage(stated: dict[str, Any], expected: Usage) -> None:
    """Totals include cached tokens, those of tools, and thoughts; what is not stated as a count is unknown."""
    assert whole({"text": "a"}, usage=stated).finish.usage == expected


def test_usage_of_a_stream() -> None:
    """Counts come with any chunk: of each the last one stated counts."""
    told = stream(
        chunk({"text": "a"}, usage={"promptTokenCount": 3, "candidatesTokenCount": 1}),
        chunk({"text": "b"}, usage={"candidatesTokenCount": 2, "promptTokenCount": None}),
        chunk(finish="STOP", usage={"trafficType": "ON_DEMAND"}),
    )
    assert told.finish.usage == Usage(input_total=3, output_total=2)


def test_text_and_thoughts() -> None:
    """Thoughts are reasoning; text that goes on from chunk to chunk is one part, sealed parts stay as they came."""
    sealed = {"text": "", "thoughtSignature": "s"}
    told = stream(
        chunk({"text": "Hm", "thought": True}),
        chunk({"text": ".", "thought": True}),
        chunk({"text": "He"}),
        chunk({"text": "llo"}),
        chunk({"text": "!", "thoughtSignature": "t"}),
        chunk({"text": "Bye"}),
        chunk({"text": ""}),
        chunk(sealed, finish="STOP"),
    )
    assert (told.reasoning, told.text) == ("Hm.", "Hello!Bye")
    assert kept(told) == [
        {"text": "Hm.", "thought": True},
        {"text": "Hello"},
        {"text": "!", "thoughtSignature": "t"},
        {"text": "Bye"},
        sealed,
    ]
    assert kept(stream(chunk({"text": ""}), chunk({"text": "", "thought": True}, finish="STOP"))) == []
    assert kept(whole({"text": "a"}, {"text": "b"})) == [{"text": "a"}, {"text": "b"}]


def test_calls() -> None:
    """Calls come whole, in parallel too; ids that are missing are made up, the same each time, and never twice."""
    parts = [
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "s"},
        {"functionCall": {"name": "f", "args": {"a": 2}, "id": "g1"}},
        {"functionCall": {"name": "g"}},
        {"functionCall": {"name": "h", "args": None}},
    ]
    for told in (whole(*parts), stream(*(chunk(part) for part in parts), chunk(finish="STOP"))):
        calls = told.finish.tool_calls
        assert [(call.id, call.name, call.arguments) for call in calls] == [
            ("call_r1_0", "f", {"a": 1}),
            ("g1", "f", {"a": 2}),
            ("call_r1_2", "g", {}),
            ("call_r1_3", "h", {}),
        ]
        assert told.arguments(0) == calls[0].raw == '{"a": 1}'
        assert kept(told) == parts
    body = json.dumps({"candidates": [{"content": {"parts": parts[:1]}, "finishReason": "STOP"}]})
    assert answer(DIALECT, body, stream=False).finish.tool_calls[0].id == "call_0"


def piece(path: str, value: Any, *, goes_on: bool = False) -> dict[str, Any]:
    kind = "stringValue" if isinstance(value, str) else "numberValue"
    return {"jsonPath": path, kind: value, "willContinue": goes_on}


def test_calls_in_pieces() -> None:
    """Arguments that come in pieces are told when they are whole; a piece with a name begins another call."""
    told = stream(
        chunk({"functionCall": {"name": "f", "id": "g1", "willContinue": True}, "thoughtSignature": "s"}),
        chunk({"functionCall": {"partialArgs": [piece("$.a", "He", goes_on=True)], "willContinue": True}}),
        chunk({"functionCall": {"partialArgs": [piece("$.a", "llo"), piece("$.b[0]", 2)], "willContinue": True}}),
        chunk({"functionCall": {}}),
        chunk({"functionCall": {"name": "g", "willContinue": True}}),
        chunk({"functionCall": {"name": "h", "partialArgs": [piece("$.c", 1)]}}),
        chunk({"text": "done"}, finish="STOP"),
    )
    assert [(call.id, call.name, call.raw) for call in told.finish.tool_calls] == [
        ("g1", "f", '{"a":"Hello","b":[2]}'),
        ("call_r1_1", "g", "{}"),
        ("call_r1_2", "h", '{"c":1}'),
    ]
    assert told.arguments(0) == '{"a":"Hello","b":[2]}'
    assert kept(told) == [
        {"functionCall": {"id": "g1", "name": "f", "args": {"a": "Hello", "b": [2]}}, "thoughtSignature": "s"},
        {"functionCall": {"name": "g", "args": {}}},
        {"functionCall": {"name": "h", "args": {"c": 1}}},
        {"text": "done"},
    ]


def test_a_call_that_was_cut() -> None:
    """Arguments that the output limit cut off are no JSON object, and the call is not kept for the next turn."""
    told = stream(
        chunk({"functionCall": {"name": "f", "partialArgs": [piece("$.a", "He", goes_on=True)], "willContinue": True}}),
        chunk(finish="MAX_TOKENS"),
    )
    (call,) = told.finish.tool_calls
    assert (call.arguments, call.raw, told.finish.reason) == (None, '{"a":"He"', "length")
    assert kept(told) == []


@pytest.mark.parametrize("pieces", [[{"jsonPath": "a", "numberValue": 1}], [{}], [piece("$.a", 1), piece("$.a.b", 1)]])
def test_pieces_that_fit_nowhere(pieces: list[Any]) -> None:
    """Pieces without a place, or with places that contradict each other, make the answer malformed."""
    body = sse(chunk({"text": "Hel"}), chunk({"functionCall": {"name": "f", "partialArgs": pieces}}, finish="STOP"))
    error = failed(DIALECT, body, stream=True)
    assert (type(error), error.partial) == (MalformedResponseError, "Hel")


def test_what_is_said_about_the_candidate() -> None:
    """Citations and ratings are kept in a last block that never goes back; of each field the last one counts."""
    told = stream(
        chunk({"text": "a"}, safetyRatings=[1], groundingMetadata={"old": True}),
        chunk(finish="STOP", groundingMetadata={"webSearchQueries": ["q"]}, avgLogprobs=-0.50),
    )
    assert about(told) == [
        {"safetyRatings": [1], "groundingMetadata": {"webSearchQueries": ["q"]}, "avgLogprobs": -0.5}
    ]
    turn = Message("assistant", "a", native=told.finish.parts)
    assert sent(ask(turn))["contents"] == [{"role": "model", "parts": [{"text": "a"}]}]


def test_what_is_unknown_is_kept_or_passed_over() -> None:
    """Parts of unknown kinds are kept; unknown fields, empty contents and chunks without candidates do no harm."""
    parts = [
        {"executableCode": {"code": "1"}},
        {"codeExecutionResult": {"output": "1"}},
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}, "thoughtSignature": "s"},
        {"brandNew": 1},
        {"text": {"odd": 1}},
        {"functionCall": "odd"},
    ]
    none = [{"usageMetadata": {}}, {"candidates": []}, {"candidates": None}, {"candidates": [{"content": {}}]}, {}]
    for told in (whole(*parts), stream(*none, chunk(*parts), chunk(finish="STOP", brandNew=1))):
        assert (told.text, told.finish.reason, kept(told)) == ("", "stop", parts)


def test_other_candidates() -> None:
    """Candidates after the first are passed over, with one warning, wherever they stand."""
    first, second = chunk({"text": "a"}, finish="STOP"), chunk({"text": "x"}, finish="SAFETY")
    second["candidates"][0]["index"] = 1
    both = first | {"candidates": first["candidates"] + second["candidates"]}
    turned = both | {"candidates": both["candidates"][::-1]}
    bare = both | {"candidates": [{"content": c["content"], "finishReason": "STOP"} for c in both["candidates"]]}
    streams = [stream(second, both), stream(first, second), stream(turned)]
    for told in (*streams, *(answer(DIALECT, json.dumps(each), stream=False) for each in (both, turned, bare))):
        assert told.text == "a"
        assert told.finish.reason == "stop"
        assert [event.code for event in told.events if isinstance(event, ModelWarning)] == ["other_choices"]


def test_a_reason_that_is_not_the_last() -> None:
    """Where the provider goes on after a reason to finish, the answer goes on too, and needs another."""
    code = chunk({"executableCode": {"code": "1"}}, finish="STOP")
    result = chunk({"codeExecutionResult": {"output": "1"}})
    assert stream(code, result, chunk({"text": "1"}, finish="MAX_TOKENS")).finish.reason == "length"
    assert type(failed(DIALECT, sse(code, result), stream=True)) is IncompleteStreamError


@pytest.mark.parametrize("cut", ["data: {", 'data: {"candidates": [', "data: x"])
def test_a_chunk_that_was_cut(cut: str) -> None:
    """A chunk that is not whole is not looked at, and the answer is incomplete, also after a reason to finish."""
    error = failed(DIALECT, sse(chunk({"text": "Hel"}, finish="STOP")) + cut, stream=True)
    assert (type(error), error.partial) == (IncompleteStreamError, "Hel")


# --------------------------------------------------------------------------------------------------------- errors


def body(status: str | None, code: int, *details: Any, **more: Any) -> dict[str, Any]:
    told = {"code": code, "message": "it failed", **({"status": status} if status else {}), **more}
    return {"error": told | ({"details": list(details)} if details else {})}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}


@pytest.mark.parametrize(
    ("word", "code", "kind", "retryable"),
    [
        ("INVALID_ARGUMENT", 400, InvalidRequestError, False),
        ("FAILED_PRECONDITION", 400, InvalidRequestError, False),
        ("OUT_OF_RANGE", 400, InvalidRequestError, False),
        ("UNAUTHENTICATED", 401, AuthenticationError, False),
        ("PERMISSION_DENIED", 403, PermissionDeniedError, False),
        ("NOT_FOUND", 404, NotFoundError, False),
        ("ABORTED", 409, InvalidRequestError, True),
        ("RESOURCE_EXHAUSTED", 429, RateLimitError, True),
        ("CANCELLED", 499, ServerError, True),
        ("INTERNAL", 500, ServerError, True),
        ("UNKNOWN", 500, ServerError, True),
        ("UNIMPLEMENTED", 501, ServerError, False),
        ("UNAVAILABLE", 503, OverloadedError, True),
        ("DEADLINE_EXCEEDED", 504, ServerError, True),
        ("A_NEW_ONE", 418, InvalidRequestError, False),
        (None, 503, OverloadedError, True),
    ],
)
def test_statuses(word: str | None, code: int, kind: type[ProviderError], *, retryable: bool) -> None:
    """The status in words decides, before the answer and inside it, alone or in a list of one."""
    told = body(word, code)
    errors = [
        DIALECT.failure(head(code), json.dumps(told).encode(), FLAGS),
        DIALECT.failure(head(code), json.dumps([told]).encode(), FLAGS),
        failed(DIALECT, json.dumps(told), stream=True),
        failed(DIALECT, json.dumps([told]), stream=True),
        failed(DIALECT, sse(told), stream=True),
    ]
    for error in errors:
        assert type(error) is kind
        assert (error.provider_type, error.provider_code, error.retryable) == (word, str(code), retryable)
        assert "it failed" in error.message
    assert [error.status for error in errors] == [code, code, 200, 200, 200]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("API_KEY_INVALID", AuthenticationError),
        ("ACCESS_TOKEN_EXPIRED", AuthenticationError),
        ("BILLING_DISABLED", QuotaError),
        ("A_NEW_ONE", InvalidRequestError),
    ],
)
def test_reasons(reason: str, kind: type[ProviderError]) -> None:
    """The reason among the details says more than the status, and is kept as the code."""
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    told = body("INVALID_ARGUMENT", 400, {"@type": "other"}, "odd", detail)
    error = DIALECT.failure(head(400), json.dumps(told).encode(), FLAGS)
    assert type(error) is kind
    assert (error.provider_type, error.provider_code) == ("INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(
    ("delay", "headers", "seconds"),
    [
        ("37.5s", {}, 37.5),
        ("37s", {}, 37.0),
        ("0s", {}, 0.0),
        ("37s", {"retry_after": "5"}, 5.0),
        ("37", {}, None),
        ("s", {}, None),
        ("-1s", {}, None),
        ("infs", {}, None),
        ({"seconds": 37}, {}, None),
    ],
)
def test_how_long_to_wait(delay: object, headers: dict[str, str], seconds: float | None) -> None:
    """The seconds to wait stand in the details, unless the head says them."""
    told = json.dumps(body("RESOURCE_EXHAUSTED", 429, RETRY | {"retryDelay": delay})).encode()
    assert DIALECT.failure(head(429, **headers), told, FLAGS).retry_after == seconds


def test_an_error_after_text() -> None:
    """What came before an error is told first, and is the error's partial answer."""
    reader = DIALECT.decoder(head(), FLAGS, stream=True)
    events, error = fail(reader, [sse(chunk({"text": "Hel"}), body("UNAVAILABLE", 503, RETRY)).encode()])
    assert events == [TextDelta("Hel")]
    assert (type(error), error.partial, error.ambiguous, error.retry_after) == (OverloadedError, "Hel", True, 37.5)
    later = json.dumps([chunk({"text": "Hel"}), body("UNAVAILABLE", 503)])
    assert failed(DIALECT, later, stream=True).partial == "Hel"
    named = failed(DIALECT, sse(chunk({"text": "Hel"})) + "event: error\ndata: gone\n\n", stream=True)
    assert (type(named), named.partial) == (ServerError, "Hel")


@pytest.mark.parametrize("end", ["", "\n", ",", ', {"candidates"'])
def test_an_array_that_was_cut(end: str) -> None:
    """A stream that came as an array and was cut is incomplete, and so is one that never says why it ended."""
    cut = "[" + json.dumps(chunk({"text": "Hel"}, finish="STOP")) + end
    assert type(failed(DIALECT, cut, stream=True)) is IncompleteStreamError
    error = failed(DIALECT, json.dumps([chunk({"text": "Hel"})]), stream=True)
    assert (type(error), error.partial) == (IncompleteStreamError, "Hel")


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"candidates": []},
        {"candidates": None, "usageMetadata": {}},
        {"promptFeedback": {"safetyRatings": []}},
        {"candidates": [3]},
        {"candidates": [{"content": 3}]},
        {"candidates": [{"content": {"parts": [3]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"partialArgs": 3}}]}}]},
        [],
        [3],
        3,
    ],
)
def test_another_shape_is_malformed(told: Any) -> None:
    """A body without candidates, or with candidates of another shape, is malformed."""
    assert type(failed(DIALECT, json.dumps(told), stream=False)) is MalformedResponseError


def test_what_is_kept_about_a_candidate_is_json() -> None:
    """What is said about a candidate is kept unread, but only if it can be read: not with bytes that are no UTF-8."""
    body = b'{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP","novelty":"\xff"}]}'
    assert type(failed(DIALECT, body, stream=False)) is MalformedResponseError
    assert type(failed(DIALECT, b"data: " + body + b"\n\n", stream=True)) is MalformedResponseError
