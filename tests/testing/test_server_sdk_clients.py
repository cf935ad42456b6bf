"""The providers' own SDKs as clients of the fault server: what they parse is what its backend said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import ollama
import openai
import pytest
from google import genai

from serving import Scripted, provider
from veyra import errors
from veyra.testing.server import FaultServer
from veyra.testing.server_answers import EPOCH
from veyra.types import Event, Finish, Opaque, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage

HELLO = [{"role": "user", "content": "Hi"}]
USAGE = Usage(input_total=10, input_uncached=4, cache_read=6, output_total=7, reasoning=3)
CALLS = (
    ToolCall("call_a", "look", {"at": "sky"}, '{"at": "sky"}'),
    ToolCall("call_b", "look", {"at": "sea"}, '{"at": "sea"}'),
)
TEXT: list[Event] = [
    ReasoningDelta("Hm, "),
    ReasoningDelta("so."),
    TextDelta("It is ☀"),
    TextDelta(" outside."),
    Finish(reason="stop", usage=USAGE),
]
TOOLS: list[Event] = [
    TextDelta("Let me see."),
    ToolCallDelta(0, "call_a", "look", '{"at": '),
    ToolCallDelta(0, arguments='"sky"}'),
    ToolCallDelta(1, "call_b", "look", '{"at": "sea"}'),
    Finish(reason="tool_calls", usage=USAGE, tool_calls=CALLS),
]


@pytest.fixture(scope="module")
def openai_client() -> Iterator[Any]:
    """One client for all tests of OpenAI's SDK: making one takes longer than all that it does here."""
    with openai.OpenAI(api_key="sk-test", base_url="http://127.0.0.1:1/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client() -> Iterator[Any]:
    """One client for all tests of Anthropic's SDK."""
    with anthropic.Anthropic(api_key="sk-test", base_url="http://127.0.0.1:1", max_retries=0) as client:
        yield client


@pytest.fixture
def google_client() -> Iterator[Any]:
    """Makes clients of Google's SDK, which ask one address each, and closes them."""
    with ExitStack() as stack:
        yield lambda at: stack.enter_context(genai.Client(api_key="sk-test", http_options={"base_url": at.url}))


# ----------------------------------------------------------------------------------- OpenAI Chat Completions


def test_openai_chat_whole(openai_client: Any) -> None:
    """OpenAI's SDK parses a whole chat answer: text, usage, ids, and the request id of its head."""
    with provider(TEXT) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        answer = client.chat.completions.create(model="m", messages=HELLO)
    assert (answer.id, answer.model, answer.created, answer._request_id) == (
        "chatcmpl-000001",
        "m",
        EPOCH + 1,
        "req_000001",
    )
    choice = answer.choices[0]
    assert choice.message.content == "It is ☀ outside."
    assert choice.message.reasoning_content == "Hm, so."
    assert choice.finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 7, 17)
    assert answer.usage.prompt_tokens_details.cached_tokens == 6
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


def test_openai_chat_streamed(openai_client: Any) -> None:
    """OpenAI's SDK parses the chunks of a stream, usage on the last of them."""
    with provider(TEXT) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        with client.chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "It is ☀ outside."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 17


@pytest.mark.parametrize("stream", [False, True])
def test_openai_chat_tools(openai_client: Any, stream: bool) -> None:
    """OpenAI's SDK puts the pieces of parallel calls together; its own accumulator is used for the stream."""
    with provider(TOOLS) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        if stream:
            with client.chat.completions.stream(model="m", messages=HELLO) as events:
                answer = events.get_final_completion()
        else:
            answer = client.chat.completions.create(model="m", messages=HELLO)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        (call.id, call.name, call.raw) for call in CALLS
    ]


OPENAI_ERRORS = [
    (errors.InvalidRequestError, openai.BadRequestError, 400, None),
    (errors.AuthenticationError, openai.AuthenticationError, 401, "invalid_api_key"),
    (errors.PermissionDeniedError, openai.PermissionDeniedError, 403, None),
    (errors.NotFoundError, openai.NotFoundError, 404, "model_not_found"),
    (errors.RateLimitError, openai.RateLimitError, 429, "rate_limit_exceeded"),
    (errors.QuotaError, openai.RateLimitError, 429, "insufficient_quota"),
    (errors.ServerError, openai.InternalServerError, 500, None),
    (errors.OverloadedError, openai.InternalServerError, 503, "server_is_overloaded"),
]


@pytest.mark.parametrize(("kind", "theirs", "status", "code"), OPENAI_ERRORS)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_errors(
    openai_client: Any,
    api: str,
    kind: type[errors.ProviderError],
    theirs: type[Exception],
    status: int,
    code: str | None,
) -> None:
    """OpenAI's SDK raises its own error of the same kind, with status, code, message and request id."""
    script = [kind("no luck today")]
    with provider(script) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        with pytest.raises(theirs) as caught:
            if api == "chat":
                client.chat.completions.create(model="m", messages=HELLO)
            else:
                client.responses.create(model="m", input="Hi")
    error: Any = caught.value
    assert (error.status_code, error.code, error.request_id) == (status, code, "req_000001")
    assert "no luck today" in error.message


def test_openai_chat_error_inside_a_stream(openai_client: Any) -> None:
    """OpenAI's SDK raises an error that comes after the first words, and hands those out before."""
    with provider([TextDelta("So far"), errors.RateLimitError("too fast")]) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        texts: list[str] = []
        with (
            client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream,
            pytest.raises(openai.APIError, match="too fast") as caught,
        ):
            texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    error: Any = caught.value
    assert error.code == "rate_limit_exceeded"


def test_openai_is_told_what_is_wrong_with_a_request(openai_client: Any) -> None:
    """A request that the server half refuses reaches OpenAI's SDK as its error 400, and names the field."""
    with provider(TEXT) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        with pytest.raises(openai.BadRequestError, match="temperature: Expected") as caught:
            client.chat.completions.create(model="m", messages=HELLO, temperature="hot")
    assert caught.value.type == "invalid_request_error"


def test_openai_waits_as_long_as_it_is_told(openai_client: Any) -> None:
    """OpenAI's SDK tries again where an error says so, and not where it says no."""
    for again, tries in ((True, 2), (False, 1)):
        with provider([errors.RateLimitError("x", retryable=again, retry_after=0.001)]) as at:
            client = openai_client.with_options(base_url=at.openai_url, max_retries=1)
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(model="m", messages=HELLO)
        assert len(at.journal) == tries


# ------------------------------------------------------------------------------------------ OpenAI Responses


def test_openai_responses_whole(openai_client: Any) -> None:
    """OpenAI's SDK parses a whole response: text, reasoning, usage, ids."""
    with provider(TEXT) as at:
        answer = openai_client.with_options(base_url=at.openai_url).responses.create(
            model="m", input="Hi", instructions="Be."
        )
    assert (answer.id, answer.model, answer.status, answer._request_id) == (
        "resp_000001",
        "m",
        "completed",
        "req_000001",
    )
    assert answer.output_text == "It is ☀ outside."
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output[0].summary[0].text == "Hm, so."
    assert answer.instructions == "Be."
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (10, 7, 17)
    assert answer.usage.input_tokens_details.cached_tokens == 6


@pytest.mark.parametrize("script", [TEXT, TOOLS], ids=["text", "tools"])
def test_openai_responses_streamed(openai_client: Any, script: list[Event]) -> None:
    """OpenAI's SDK accumulates a stream of events to the response that its last event holds."""
    with provider(script) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        with client.responses.stream(model="m", input="Hi") as stream:
            events = list(stream)
            answer = stream.get_final_response()
    assert events[-1].type == "response.completed"
    spoken = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert spoken == answer.output_text == "".join(event.text for event in script if isinstance(event, TextDelta))
    called = [(item.call_id, item.name, item.arguments) for item in answer.output if item.type == "function_call"]
    assert called == [(call.id, call.name, call.raw) for call in CALLS] * (script is TOOLS)


def test_openai_responses_incomplete_and_failed(openai_client: Any) -> None:
    """OpenAI's SDK sees why a response is incomplete, and that one failed after its first words."""
    with provider([TextDelta("So"), Finish(reason="length")]) as at:
        answer = openai_client.with_options(base_url=at.openai_url).responses.create(model="m", input="Hi")
    assert (answer.status, answer.incomplete_details.reason, answer.usage) == ("incomplete", "max_output_tokens", None)
    with provider([TextDelta("So"), errors.RateLimitError("too fast")]) as at:
        client = openai_client.with_options(base_url=at.openai_url)
        with client.responses.create(model="m", input="Hi", stream=True) as stream:
            last = list(stream)[-1]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert (last.response.error.code, last.response.error.message) == ("rate_limit_exceeded", "too fast")


# ----------------------------------------------------------------------------------------- Anthropic Messages


def test_anthropic_whole(anthropic_client: Any) -> None:
    """Anthropic's SDK parses a whole message: thinking, text, usage, ids."""
    with provider(TEXT) as at:
        client = anthropic_client.with_options(base_url=at.url)
        answer = client.messages.create(model="m", max_tokens=9, messages=HELLO)
    assert (answer.id, answer.model, answer._request_id) == ("msg_000001", "m", "req_000001")
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert (answer.content[0].thinking, answer.content[1].text) == ("Hm, so.", "It is ☀ outside.")
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (4, 6, 7)


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_tools(anthropic_client: Any, stream: bool) -> None:
    """Anthropic's SDK puts text and the inputs of parallel calls together."""
    with provider(TOOLS) as at:
        client = anthropic_client.with_options(base_url=at.url)
        if stream:
            with client.messages.stream(model="m", max_tokens=9, messages=HELLO) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(model="m", max_tokens=9, messages=HELLO)
    assert answer.stop_reason == "tool_use"
    text, *calls = answer.content
    assert text.text == "Let me see."
    assert [(call.id, call.name, call.input) for call in calls] == [
        (call.id, call.name, call.arguments) for call in CALLS
    ]
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 7)


def test_anthropic_seals_in_a_stream(anthropic_client: Any) -> None:
    """Anthropic's SDK accumulates thinking with its signature, so that it can send the turn back."""
    parts = (
        Opaque("anthropic", b'{"type":"thinking","thinking":"Hm, so.","signature":"c2VhbA=="}'),
        Opaque("anthropic", '{"type":"text","text":"It is ☀ outside."}'.encode()),
    )
    with provider([*TEXT[:-1], Finish(reason="stop", parts=parts)]) as at:
        client = anthropic_client.with_options(base_url=at.url)
        with client.messages.stream(model="m", max_tokens=9, messages=HELLO) as events:
            answer = events.get_final_message()
    assert answer.content[0].signature == "c2VhbA=="
    assert answer.content[1].text == "It is ☀ outside."


ANTHROPIC_ERRORS = [
    (errors.InvalidRequestError, anthropic.BadRequestError, 400, "invalid_request_error"),
    (errors.AuthenticationError, anthropic.AuthenticationError, 401, "authentication_error"),
    (errors.PermissionDeniedError, anthropic.PermissionDeniedError, 403, "permission_error"),
    (errors.NotFoundError, anthropic.NotFoundError, 404, "not_found_error"),
    (errors.RateLimitError, anthropic.RateLimitError, 429, "rate_limit_error"),
    (errors.ServerError, anthropic.InternalServerError, 500, "api_error"),
    (errors.OverloadedError, anthropic.InternalServerError, 529, "overloaded_error"),
]


@pytest.mark.parametrize(("kind", "theirs", "status", "word"), ANTHROPIC_ERRORS)
def test_anthropic_errors(
    anthropic_client: Any,
    kind: type[errors.ProviderError],
    theirs: type[Exception],
    status: int,
    word: str,
) -> None:
    """Anthropic's SDK raises its own error of the same kind, with status, type, message and request id."""
    with provider([kind("no luck today")]) as at:
        client = anthropic_client.with_options(base_url=at.url)
        with pytest.raises(theirs, match="no luck today") as caught:
            client.messages.create(model="m", max_tokens=9, messages=HELLO)
    error: Any = caught.value
    assert (error.status_code, error.body["error"]["type"], error.request_id) == (status, word, "req_000001")


def test_anthropic_error_inside_a_stream(anthropic_client: Any) -> None:
    """Anthropic's SDK raises an error that comes after the first words, with its type."""
    with provider([TextDelta("So far"), errors.OverloadedError("no room")]) as at:
        client = anthropic_client.with_options(base_url=at.url)
        texts: list[str] = []
        with (
            client.messages.stream(model="m", max_tokens=9, messages=HELLO) as stream,
            pytest.raises(anthropic.APIStatusError, match="no room") as caught,
        ):
            texts.extend(stream.text_stream)
    assert texts == ["So far"]
    error: Any = caught.value
    assert error.body["error"]["type"] == "overloaded_error"


# ---------------------------------------------------------------------------------------------------- Ollama


def ollama_client(url: str) -> Any:
    return ollama.Client(host=url)


@pytest.mark.parametrize("stream", [False, True])
def test_ollama_text(stream: bool) -> None:
    """Ollama's SDK parses thinking, text, counts and times, whole or line by line."""
    with provider(TEXT) as at, ollama_client(at.url) as client:
        answered = client.chat(model="m", messages=HELLO, stream=stream)
        parts = list(answered) if stream else [answered]
    assert "".join(part.message.content or "" for part in parts) == "It is ☀ outside."
    assert "".join(part.message.thinking or "" for part in parts) == "Hm, so."
    last = parts[-1]
    assert (last.model, last.done, last.done_reason) == ("m", True, "stop")
    assert (last.prompt_eval_count, last.eval_count) == (10, 7)
    assert (last.total_duration, last.prompt_eval_duration, last.eval_duration) == (
        50_000_000,
        10_000_000,
        40_000_000,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_ollama_completes_a_prompt(stream: bool) -> None:
    """Ollama's SDK parses the answer to a prompt alone, and an error in its place; an empty prompt loads the model."""
    with provider(TEXT) as at, ollama_client(at.url) as client:
        answered = client.generate(model="m", prompt="Hi", stream=stream)
        parts = list(answered) if stream else [answered]
        assert client.generate(model="m", keep_alive=0).done_reason == "unload"
    assert "".join(part.response for part in parts) == "It is ☀ outside."
    assert "".join(part.thinking or "" for part in parts) == "Hm, so."
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].eval_count) == (True, "stop", 7)
    with provider([errors.NotFoundError("no such model")]) as at, ollama_client(at.url) as client:
        with pytest.raises(ollama.ResponseError, match="no such model") as caught:
            client.generate(model="m", prompt="Hi")
        assert caught.value.status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_ollama_tools(stream: bool) -> None:
    """Ollama's SDK parses calls with objects as arguments."""
    with provider(TOOLS) as at, ollama_client(at.url) as client:
        answered = client.chat(model="m", messages=HELLO, stream=stream)
        parts = list(answered) if stream else [answered]
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [(call.function.name, dict(call.function.arguments)) for call in calls] == [
        (call.name, call.arguments) for call in CALLS
    ]
    assert parts[-1].done_reason == "stop"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InvalidRequestError, 400),
        (errors.AuthenticationError, 401),
        (errors.NotFoundError, 404),
        (errors.RateLimitError, 429),
        (errors.ServerError, 500),
        (errors.OverloadedError, 503),
    ],
)
def test_ollama_errors(kind: type[errors.ProviderError], status: int) -> None:
    """Ollama's SDK raises its error with the status and the message."""
    with (
        provider([kind("no luck today")]) as at,
        ollama_client(at.url) as client,
        pytest.raises(ollama.ResponseError, match="no luck today") as caught,
    ):
        client.chat(model="m", messages=HELLO)
    assert caught.value.status_code == status


def test_ollama_error_inside_a_stream() -> None:
    """Ollama's SDK raises an error that comes after the first words."""
    with (
        provider([TextDelta("So far"), errors.ServerError("the runner died")]) as at,
        ollama_client(at.url) as client,
    ):
        texts: list[str] = []
        with pytest.raises(ollama.ResponseError, match="the runner died"):
            texts.extend(part.message.content or "" for part in client.chat(model="m", messages=HELLO, stream=True))
    assert texts == ["So far"]


# ------------------------------------------------------------------------------------------------ Gemini


@pytest.mark.parametrize("stream", [False, True])
def test_gemini_text(google_client: Any, stream: bool) -> None:
    """Google's SDK reads text, thoughts, counts, the model and the answer's id, whole and from the chunks of a stream."""
    with provider(TEXT) as at:
        models = google_client(at).models
        ask = models.generate_content_stream if stream else models.generate_content
        answer = ask(model="m", contents="Hi")
        chunks = list(answer) if stream else [answer]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.thought) == "Hm, so."
    assert "".join(part.text for part in parts if not part.thought) == "It is ☀ outside."
    assert len(chunks) == (5 if stream else 1)
    last = chunks[-1]
    assert (last.candidates[0].finish_reason, last.model_version, last.response_id) == ("STOP", "m", "000001")
    counts = last.usage_metadata
    assert (counts.prompt_token_count, counts.cached_content_token_count, counts.total_token_count) == (10, 6, 17)
    assert (counts.candidates_token_count, counts.thoughts_token_count) == (4, 3)


@pytest.mark.parametrize("stream", [False, True])
def test_gemini_tools(google_client: Any, stream: bool) -> None:
    """Google's SDK reads parallel calls with their arguments, and the turn that it sends back arrives with their results."""
    turns: list[Any] = ["Hi"]
    with provider(TOOLS) as at:
        models = google_client(at).models
        chunks = list(models.generate_content_stream(model="m", contents=turns)) if stream else []
        answer = chunks[-1] if stream else models.generate_content(model="m", contents=turns)
        calls = answer.function_calls
        assert [(call.id, call.name, call.args) for call in calls] == [
            (call.id, call.name, call.arguments) for call in CALLS
        ]
        results = [
            genai.types.Part.from_function_response(name=call.name, response={"result": call.args["at"]})
            for call in calls
        ]
        models.generate_content(model="m", contents=[*turns, answer.candidates[0].content, *results])
        sent = at.journal[-1].json["contents"]
    assert [turn["role"] for turn in sent] == ["user", "model", "user"]


def test_gemini_options_arrive(google_client: Any) -> None:
    """What Google's SDK is told, in its own spelling of names, arrives in our words."""
    config = {
        "system_instruction": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "stop_sequences": ["END"],
        "seed": 7,
        "response_mime_type": "application/json",
        "response_schema": {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}},
        "thinking_config": {"thinking_budget": 0},
        "tools": [{"function_declarations": [{"name": "look", "parameters": {"type": "OBJECT"}}]}],
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["look"]}},
    }
    script = Scripted(TEXT)
    with FaultServer(script) as at:
        google_client(at).models.generate_content(model="m", contents="Hi", config=config)
    (request,) = script.requests
    assert (request.system, request.max_tokens, request.temperature, request.top_p) == ("Be brief.", 9, 0.5, 0.25)
    assert (request.stop, request.seed, request.reasoning, request.tool_choice) == (("END",), 7, "none", "look")
    assert request.output == {"type": "object", "properties": {"at": {"type": "string"}}}
    assert [tool.parameters for tool in request.tools] == [{"type": "object"}]


GEMINI_ERRORS = [
    (errors.InvalidRequestError, genai.errors.ClientError, 400, "INVALID_ARGUMENT"),
    (errors.AuthenticationError, genai.errors.ClientError, 401, "UNAUTHENTICATED"),
    (errors.PermissionDeniedError, genai.errors.ClientError, 403, "PERMISSION_DENIED"),
    (errors.QuotaError, genai.errors.ClientError, 403, "PERMISSION_DENIED"),
    (errors.NotFoundError, genai.errors.ClientError, 404, "NOT_FOUND"),
    (errors.RateLimitError, genai.errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
    (errors.ServerError, genai.errors.ServerError, 500, "INTERNAL"),
    (errors.OverloadedError, genai.errors.ServerError, 503, "UNAVAILABLE"),
]


@pytest.mark.parametrize(("kind", "theirs", "status", "word"), GEMINI_ERRORS)
@pytest.mark.parametrize("stream", [False, True])
def test_gemini_errors(
    google_client: Any,
    stream: bool,
    kind: type[errors.ProviderError],
    theirs: type[Exception],
    status: int,
    word: str,
) -> None:
    """Google's SDK raises its own error of the same kind, with code, status and message."""
    with provider([kind("no luck today")]) as at:
        models = google_client(at).models
        with pytest.raises(theirs, match="no luck today") as caught:
            list((models.generate_content_stream if stream else models.generate_content)(model="m", contents="Hi"))
    error: Any = caught.value
    assert (error.code, error.status) == (status, word)


def test_gemini_error_inside_a_stream(google_client: Any) -> None:
    """Google's SDK hands out the first words, and raises the error that comes after them."""
    texts: list[str] = []
    with provider([TextDelta("So far"), errors.OverloadedError("no room")]) as at:
        stream = google_client(at).models.generate_content_stream(model="m", contents="Hi")
        with pytest.raises(genai.errors.APIError, match="no room") as caught:
            texts.extend(chunk.text for chunk in stream)
    assert (texts, caught.value.code, caught.value.status) == (["So far"], 503, "UNAVAILABLE")


@pytest.mark.parametrize("stream", [False, True])
def test_gemini_prompt_that_is_blocked(google_client: Any, stream: bool) -> None:
    """Google's SDK reads why a prompt was blocked, and no candidate."""
    with provider([Finish(reason="content_filter")]) as at:
        models = google_client(at).models
        ask = models.generate_content_stream if stream else models.generate_content
        answer = ask(model="m", contents="Hi")
        (told,) = list(answer) if stream else [answer]
    assert (told.candidates, told.prompt_feedback.block_reason) == (None, "SAFETY")
