"""Gemini's server half: what is peculiar to its requests, and its answers on the wire."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

import answers
import corpus
from pairs import PAIRS, STAMP
from veyra import errors
from veyra.errors import InvalidRequestError, MalformedResponseError, ProviderError
from veyra.transport.base import Head
from veyra.types import (
    Event,
    Finish,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Request,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from veyra.wire.base import Encoder
from veyra.wire.gemini_answer import ABOUT
from veyra.wire.gemini_server import GeminiServer

PAIR = PAIRS["gemini"]
WHOLE, EVENTS, ARRAY = (
    "/v1beta/models/m:generateContent",
    "/v1beta/models/m:streamGenerateContent?alt=sse",
    "/v1beta/models/m:streamGenerateContent",
)
HELLO = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def read(*, at: str = WHOLE, **fields: Any) -> Request:
    return GeminiServer().at(at).request(json.dumps(HELLO | fields).encode())


def turns(*contents: Any) -> tuple[Message, ...]:
    return read(contents=list(contents)).messages


def encoder(at: str) -> Encoder:
    server = GeminiServer().at(at)
    return server.encoder(server.request(json.dumps(HELLO).encode()), STAMP)


def written(events: list[Event], at: str = EVENTS) -> bytes:
    return b"".join(map(encoder(at).write, events))


def chunks(body: bytes) -> list[Any]:
    """The chunks of a stream of events, whose lines end with CRLF."""
    *blocks, last = body.split(b"\r\n\r\n")
    assert last == b""
    return [json.loads(block.removeprefix(b"data: ")) for block in blocks]


# ----------------------------------------------------------------------------------------------- the path


@pytest.mark.parametrize(
    ("target", "model", "stream"),
    [
        (WHOLE, "m", False),
        (EVENTS, "m", True),
        (ARRAY, "m", True),
        ("/v1/models/a%2Fb:generateContent?key=k", "a/b", False),
        ("/v1alpha/models/ft%3Aa:streamGenerateContent", "ft:a", True),
        ("/v1beta/tunedModels/t:generateContent", "tunedModels/t", False),
    ],
)
def test_the_path_says_who_is_asked_and_how(target: str, model: str, stream: bool) -> None:
    """The model and whether the answer is streamed come from the path; a model in the body does not count."""
    request = read(at=target, model="models/another")
    assert (request.model, request.stream) == (model, stream)
    assert "model" not in request.extra


@pytest.mark.parametrize(
    "target", ["/v1beta/models/:generateContent", "/v1beta/models", "/v2/models/m:generateContent"]
)
def test_a_path_without_a_model_is_refused(target: str) -> None:
    """Where the path names no model, nobody can be asked."""
    with pytest.raises(InvalidRequestError, match="the path: it names no model"):
        read(at=target)


# ---------------------------------------------------------------------------------------------- contents


def test_results_meet_calls_by_name() -> None:
    """Calls and results without ids get ids that fit, in the order of each name, so that any provider can be told of them."""

    def called(name: str) -> Any:
        return {"functionCall": {"name": name, "args": {"at": name}}}

    def gave(name: str, text: str) -> Any:
        return {"functionResponse": {"name": name, "response": {"result": text}}}

    messages = turns(
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [called("look"), called("look"), called("hear")]},
        {"role": "user", "parts": [gave("hear", "3"), gave("look", "1"), gave("look", "2"), gave("odd", "4")]},
    )
    calls = [part for part in messages[1].parts if isinstance(part, ToolCall)]
    results = [part for part in messages[2].parts if isinstance(part, ToolResult)]
    assert messages[2].role == "tool"
    assert [call.id for call in calls] == ["call_0", "call_1", "call_2"]
    assert [(result.id, result.content) for result in results] == [
        ("call_2", "3"),
        ("call_0", "1"),
        ("call_1", "2"),
        ("call_3", "4"),
    ]


def test_ids_that_are_given_are_kept() -> None:
    """A given id ties a result to its call, whatever the order; one of our own is never one of those."""
    messages = turns(
        {"role": "model", "parts": [{"functionCall": {"id": "call_0", "name": "f"}}, {"functionCall": {"name": "f"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}, "id": "call_0"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"error": "none"}}}]},
    )
    ids = [part.id for message in messages for part in message.parts if isinstance(part, ToolCall | ToolResult)]
    assert ids == ["call_0", "call_1", "call_0", "call_1"]
    assert messages[1].parts == (ToolResult("call_0", "{}", "f"),)
    assert messages[2].parts == (ToolResult("call_1", "none", "f", is_error=True),)


def test_what_our_words_do_not_say_is_kept_as_it_came() -> None:
    """Thoughts, seals, parts of a video and unknown parts go back to Gemini as they came, and are there in our words too."""
    model = [
        {"text": "Hm.", "thought": True, "thoughtSignature": "c2VhbA=="},
        {"text": "Yes.", "thoughtSignature": "c2VhbA=="},
        {"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "c2VhbA=="},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
    ]
    user = [{"inlineData": {"mimeType": "image/png", "data": "_w=="}, "mediaResolution": {"level": "LOW"}}]
    messages = turns({"role": "model", "parts": model}, {"role": "user", "parts": user})
    assert messages[0].parts == (
        Reasoning("Hm.", "c2VhbA=="),
        Text("Yes."),
        ToolCall("call_0", "look", {"at": "sky"}, '{"at": "sky"}'),
        Opaque("gemini", json.dumps(model[3]).encode()),
    )
    assert messages[1].parts == (Media(kind="image", media_type="image/png", data=b"\xff"),)
    for message, came in zip(messages, (model, user), strict=True):
        assert [json.loads(part.raw) for part in message.native] == came
    request = Request(prompt="", messages=messages, model="m")
    again = json.loads(PAIR.client.encode(request, PAIR.flags).body)["contents"]
    assert again == [{"role": "model", "parts": model}, {"role": "user", "parts": user}]


@pytest.mark.parametrize(
    ("part", "arrives"),
    [
        (
            {"fileData": {"fileUri": "https://x.invalid/a", "mimeType": "audio/wav"}},
            Media(kind="audio", media_type="audio/wav", url="https://x.invalid/a"),
        ),
        ({"file_data": {"file_uri": "files/a"}}, Media(kind="document", file_id="files/a")),
        ({"inlineData": {"mimeType": "video/mp4", "data": ""}}, None),
        ({"fileData": {"fileUri": "gs://b/a", "mimeType": "video/mp4"}}, None),
    ],
)
def test_media_by_their_type(part: Any, arrives: Media | None) -> None:
    """Media are what their type says; a video, for which there is no word, is a part as it came."""
    (came,) = turns({"role": "user", "parts": [part]})[0].parts
    assert came == (arrives or Opaque("gemini", json.dumps(part).encode()))


def test_system_texts() -> None:
    """The first system text is the request's, others are system messages before the conversation."""
    request = read(systemInstruction={"parts": [{"text": "Be brief."}, {"text": "Be kind."}]})
    assert request.system == "Be brief."
    assert request.messages[0] == Message("system", "Be kind.")
    assert request.extra == {}


# ----------------------------------------------------------------------------------------------- options

LOOK = {"name": "look", "parametersJsonSchema": {"type": "object"}}


@pytest.mark.parametrize(
    ("calling", "choice", "strict", "stays"),
    [
        ({"mode": "AUTO"}, "auto", None, False),
        ({"mode": "NONE"}, "none", None, False),
        ({"mode": "ANY"}, "required", None, False),
        ({"mode": "any"}, "required", None, True),
        ({"mode": "ANY", "allowedFunctionNames": ["look"]}, "look", None, False),
        ({"mode": "ANY", "allowedFunctionNames": ["look", "b"]}, "required", None, True),
        ({"mode": "ANY", "allowedFunctionNames": ["b"]}, "required", None, True),
        ({"mode": "VALIDATED"}, None, True, False),
        ({"mode": "MODE_OF_TOMORROW"}, None, None, True),
    ],
)
def test_how_tools_are_chosen(calling: Any, choice: str | None, strict: bool | None, stays: bool) -> None:
    """A mode is a choice in our words; what they do not say, or not exactly, stays in `extra`."""
    config = {"functionCallingConfig": calling}
    request = read(tools=[{"functionDeclarations": [LOOK]}], toolConfig=config)
    assert request.tool_choice == choice
    assert request.tools == (Tool(name="look", parameters={"type": "object"}, strict=strict),)
    assert request.extra == ({"toolConfig": config} if stays else {})


def test_tools_of_the_providers_own_stay() -> None:
    """A search beside functions stays in `extra`, with the functions beside it, which are there in our words, too."""
    tools = [{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT"}}]}, {"googleSearch": {}}]
    request = read(tools=tools)
    assert request.tools == (Tool(name="look", parameters={"type": "object"}),)
    assert request.extra == {"tools": tools}


@pytest.mark.parametrize(
    ("thinking", "reasoning", "stays"),
    [
        ({"thinkingBudget": 0}, "none", False),
        ({"thinkingBudget": 99, "includeThoughts": True}, 99, False),
        ({"thinkingBudget": 99}, 99, True),
        ({"thinkingBudget": -1}, None, True),
        ({"thinkingLevel": "low", "includeThoughts": True}, "low", False),
        ({"thinkingLevel": "HIGH"}, "high", True),
        ({"thinkingLevel": "dazed"}, None, True),
        ({"includeThoughts": True}, None, True),
    ],
)
def test_how_much_is_thought(thinking: Any, reasoning: str | int | None, stays: bool) -> None:
    """A budget or a level is reasoning in our words; what else is said of it stays as it came."""
    request = read(generationConfig={"thinkingConfig": thinking})
    assert request.reasoning == reasoning
    assert request.extra == ({"generationConfig": {"thinkingConfig": thinking}} if stays else {})


def test_a_schema_of_openapi_is_read_and_stays() -> None:
    """A `responseSchema` is the output's schema in our words, and is sent on as it came, in the place of ours."""
    options = {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}},
    }
    request = read(generationConfig=options)
    assert request.output == {"type": "object", "properties": {"at": {"type": "string"}}}
    assert json.loads(PAIR.client.encode(request, PAIR.flags).body)["generationConfig"] == options


@pytest.mark.parametrize(
    "options",
    [
        {"responseMimeType": "application/json"},
        {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}},
        {"topK": 3, "candidateCount": 1},
    ],
)
def test_options_without_a_word_stay(options: Any) -> None:
    """JSON without a schema, another type, and options that we have no word for stay in `extra`."""
    request = read(generationConfig=options)
    assert request.output is None
    assert request.extra == {"generationConfig": options}


# --------------------------------------------------------------------------------------- the wire as it is

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
CALL = {"functionCall": {"id": "call_a", "name": "look", "args": {"at": "sky"}}}
COUNTS = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 6,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 17,
}


def test_a_stream_on_the_wire() -> None:
    """Each piece is a chunk; the last one has the calls, the reason and the counts, without thoughts, and nothing follows it."""
    body = written(ANSWER)
    told = chunks(body)
    assert encoder(EVENTS).head().headers == {"content-type": "text/event-stream"}
    assert b"[DONE]" not in body
    assert b"\n" not in body.replace(b"\r\n", b"")
    assert [chunk["candidates"][0]["content"] for chunk in told] == [
        {"parts": [part], "role": "model"}
        for part in ({"text": "Hm.", "thought": True}, {"text": "It is "}, {"text": "sunny."}, CALL)
    ]
    assert [chunk["candidates"][0].get("finishReason") for chunk in told] == [None, None, None, "STOP"]
    assert [chunk.get("usageMetadata") for chunk in told] == [None, None, None, COUNTS]
    assert {(chunk["modelVersion"], chunk["responseId"]) for chunk in told} == {("some-model", "id_1")}


def test_without_alt_a_stream_is_an_array() -> None:
    """The same chunks come as a JSON array that grows, of which a whole answer is one."""
    body = written(ANSWER, ARRAY)
    assert json.loads(body) == chunks(written(ANSWER))
    assert encoder(ARRAY).head().headers == {"content-type": "application/json; charset=UTF-8"}
    whole = json.loads(written(ANSWER, WHOLE))
    assert whole["candidates"] == [
        {
            "content": {
                "parts": [{"text": "Hm.", "thought": True}, {"text": "It is sunny."}, CALL],
                "role": "model",
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ]
    assert whole["usageMetadata"] == COUNTS


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_an_error_ends_an_array(begun: bool, ended: bool) -> None:
    """The error is the array's last item; one that takes the place of an answer that was told is all of it."""
    of = encoder(ARRAY)
    said: list[Event] = [TextDelta("So far"), Finish(reason="stop")]
    events = said[:begun] + said[1:] * ended
    before = b"".join(map(of.write, events))
    body = of.failure(errors.RateLimitError("too fast"))
    items = json.loads(body if ended else before + body)
    assert len(items) == 1 + (begun and not ended)
    assert items[-1]["error"] == {"code": 429, "message": "too fast", "status": "RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize("at", [WHOLE, EVENTS, ARRAY])
def test_a_prompt_that_is_blocked_has_no_candidate(at: str) -> None:
    """An answer withheld before its first word has the reason in `promptFeedback`; one withheld later has a candidate."""
    for raw, word in ((None, "SAFETY"), ("refusal", "SAFETY")):
        body = written([Finish(reason="content_filter", raw_reason=raw, usage=Usage(input_total=3))], at)
        (told,) = chunks(body) if at == EVENTS else json.loads(body if at == ARRAY else b"[%b]" % body)
        assert told["promptFeedback"] == {"blockReason": word}
        assert "candidates" not in told
        assert told["usageMetadata"] == {"promptTokenCount": 3}
    assert b'"finishReason":"SAFETY"' in written([TextDelta("Oh"), Finish(reason="content_filter")], at)
    assert b'"finishReason":"RECITATION"' in written([Finish(reason="content_filter", raw_reason="RECITATION")], at)


def test_what_is_not_known_is_left_out() -> None:
    """Without counts there is no `usageMetadata`, and thoughts alone, without a total, are no count of output."""
    assert b"usageMetadata" not in written([TextDelta("Hi"), Finish(reason="stop")], WHOLE)
    assert b"usageMetadata" not in written([TextDelta("Hi"), Finish(reason="stop", usage=Usage(reasoning=3))], WHOLE)


# --------------------------------------------------------------------------------------- the provider's own parts

SEALED = (
    b'{"text":"Hm.","thought":true}',
    b'{"text":"Yes.","thoughtSignature":"c2VhbA=="}',
    b'{"inlineData":{"mimeType":"image/png","data":""}}',
    b'{"functionCall":{"name":"look","args":{"at":"sky"}},"thoughtSignature":"c2VhbDI="}',
)
OWN: list[Event] = [
    ReasoningDelta("Hm."),
    TextDelta("Yes."),
    ToolCallDelta(0, "call_r_0", "look", '{"at":"sky"}'),
    Finish(
        reason="tool_calls",
        parts=(
            *(Opaque("gemini", raw) for raw in SEALED),
            Opaque(ABOUT, b'{"groundingMetadata":{"webSearchQueries":["q"]},"promptFeedback":{"safetyRatings":[]}}'),
        ),
    ),
]


def test_a_whole_answer_has_its_parts_as_they_came() -> None:
    """Parts of Gemini's own go out byte for byte, and what was said of the candidate and the prompt is where it was."""
    body = written(OWN, WHOLE)
    assert b",".join(SEALED) in body
    told = json.loads(body)
    assert told["candidates"][0]["groundingMetadata"] == {"webSearchQueries": ["q"]}
    assert told["promptFeedback"] == {"safetyRatings": []}


def test_a_stream_adds_what_no_event_told() -> None:
    """The seal of a text comes on an empty one, calls and other parts come as they were, all in the last chunk."""
    *_, last = chunks(written(OWN))
    assert last["candidates"][0]["content"]["parts"] == [
        {"text": "", "thoughtSignature": "c2VhbA=="},
        json.loads(SEALED[2]),
        json.loads(SEALED[3]),
    ]
    read_back = PAIR.read(encoder(EVENTS).head(), [written(OWN)], stream=True)
    assert (read_back.text, read_back.reasoning) == ("Yes.", "Hm.")
    kept = b"".join(part.raw for part in read_back.finish.parts)
    assert kept.count(b"c2VhbA==") == kept.count(b"c2VhbDI=") == 1


@pytest.mark.parametrize("raw", [b'{"functionCall":{"name":"look","args":{"at":"555"}}}', b'{"text":"555"}'])
def test_parts_that_are_not_what_was_told_are_not_used(raw: bytes) -> None:
    """Where the events say other arguments or another text than the parts do, the events count."""
    events: list[Event] = [*OWN[:-1], Finish(reason="tool_calls", parts=(Opaque("gemini", raw),))]
    for at in (WHOLE, EVENTS):
        assert b"555" not in written(events, at)


@pytest.mark.parametrize("at", [WHOLE, EVENTS, ARRAY])
def test_recorded_answers_come_out_as_they_were_read(at: str, tally: Counter[tuple[str, str]]) -> None:
    """A real answer that is read, written again and read again says the same, seals and ratings included."""
    told = f"answers written at {at.rpartition(':')[2]}"
    different: list[str] = []
    for row in corpus.rows("gemini-generate*", "vertex-generate*"):
        head = Head(row["response"]["status"], corpus.headers(row))
        if head.status >= 400:
            continue
        stream = corpus.streamed(row) or "streamGenerateContent" in (row.get("request") or {}).get("path", "")
        try:
            first = answers.run(PAIR.client.decoder(head, PAIR.flags, stream=stream), [corpus.body(row)])
        except MalformedResponseError:  # the model wrote a malformed call
            tally[told, "excused"] += 1
            continue
        server = GeminiServer().at(at)
        marks = replace(STAMP, id=first.finish.response_id or "", model=first.finish.model or "")
        of = server.encoder(server.request(json.dumps(HELLO).encode()), marks)
        wrote = [of.write(event) for event in first.events]
        again = PAIR.read(of.head(), wrote, stream=at == EVENTS)
        same = same_answer(first, again, exactly=at == WHOLE)
        tally[told, "equal" if same else "different"] += 1
        if not same:
            different.append(row["id"])
    assert tally[told, "equal"]
    assert different == []


def same_answer(first: answers.Answer, again: answers.Answer, *, exactly: bool) -> bool:
    """Say whether two answers say the same, apart from space within arguments, and a reason's word that is none or a number.

    Of a stream, parts may come in another order, and the text apart from its seal.
    """
    ends = [answer.finish for answer in (first, again)]
    calls = [tuple(replace(call, raw="") for call in end.tool_calls) for end in ends]
    ends = [replace(end, parts=(), tool_calls=told) for end, told in zip(ends, calls, strict=True)]
    if (ends[0].raw_reason or "0").isdecimal():
        ends[1] = replace(ends[1], raw_reason=ends[0].raw_reason)
    parts = [[json.loads(part.raw) for part in answer.finish.parts] for answer in (first, again)]
    same = parts[0] == parts[1] if exactly else sorted(seals(parts[0])) == sorted(seals(parts[1]))
    return same and ends[0] == ends[1] and (first.text, first.reasoning) == (again.text, again.reasoning)


def seals(parts: list[Any]) -> list[str]:
    """What parts hold besides text."""
    rest = [{name: value for name, value in part.items() if name not in {"text", "thought"}} for part in parts]
    return [json.dumps(part, sort_keys=True) for part in rest if part]


# ------------------------------------------------------------------------------------------------- errors


def test_an_error_says_how_long_to_wait_in_its_details() -> None:
    """A wait stands in `google.rpc.RetryInfo`, exactly, and is read from there."""
    refusal = PAIR.server.failure(errors.RateLimitError("x", retry_after=1.5), "req_9")
    assert json.loads(refusal.body)["error"]["details"] == [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}
    ]
    headless = Head(refusal.head.status, {})
    assert PAIR.client.failure(headless, refusal.body, PAIR.flags).retry_after == 1.5


def test_out_of_credit_has_its_reason() -> None:
    """A quota that no waiting mends is a permission that is denied, for the reason that nothing is billed."""
    refusal = PAIR.server.failure(errors.QuotaError("spent", status=429), "req_9")
    told = json.loads(refusal.body)["error"]
    assert (refusal.head.status, told["code"], told["status"]) == (403, 403, "PERMISSION_DENIED")
    assert told["details"][0]["reason"] == "BILLING_DISABLED"


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (errors.ServerError("x", status=502), 502, "INTERNAL"),
        (errors.ServerError("x", status=504), 504, "DEADLINE_EXCEEDED"),
        (errors.InvalidRequestError("x", status=409), 409, "ABORTED"),
        (errors.InvalidRequestError("x", status=405), 405, "INVALID_ARGUMENT"),
        (errors.NotFoundError("x", status=410), 404, "NOT_FOUND"),
        (errors.ServerError("x", status=200), 500, "INTERNAL"),
        (
            errors.InvalidRequestError("x", status=422, provider_type="odd", provider_code="odder"),
            422,
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_a_status_of_its_kind_is_kept(error: ProviderError, status: int, word: str) -> None:
    """The code in the body is that of the head, and the word is Google's for it."""
    refusal = PAIR.server.failure(error, "req_9")
    told = json.loads(refusal.body)["error"]
    assert (refusal.head.status, told["code"], told["status"]) == (status, status, word)
    assert "details" not in told


def test_an_error_in_the_place_of_an_array_is_one() -> None:
    """Who asks for an array is refused with one, of one item, which the client half reads."""
    refusal = GeminiServer().at(ARRAY).failure(errors.NotFoundError("no model"), "req_9")
    assert [item["error"]["code"] for item in json.loads(refusal.body)] == [404]
    assert type(PAIR.client.failure(refusal.head, refusal.body, PAIR.flags)) is errors.NotFoundError
    assert GeminiServer().at(EVENTS).failure(errors.NotFoundError("no"), "r").body.startswith(b"{")
