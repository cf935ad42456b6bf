"""Vectors and counts of tokens through the gate: recorded like answers, with the same errors, over real formats."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

import virtual
from loopback import RESET, Loopback, Move, Play, Received, reply
from veyra import AuditLog, get_backend
from veyra.errors import (
    AuditUnavailableError,
    AuditWriteError,
    AuthenticationError,
    BackendError,
    CallTimeoutError,
    ConnectionFailedError,
    ContextLengthError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    ProviderError,
    RateLimitError,
    UnsupportedParameterError,
)
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.estimate import SOURCE, estimate
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.models.request import build_embed_request, build_request
from veyra.transport.script import Answer, Refuse, Reset, ScriptedTransport, Stall, Step
from veyra.types import (
    Embedded,
    EmbedRequest,
    Media,
    Message,
    ModelResponse,
    Opaque,
    Reasoning,
    Receipt,
    Request,
    Secret,
    Text,
    Timeouts,
    TokenCount,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

KEY = "sk-canary-0123456789"
JSON = {"content-type": "application/json", "x-request-id": "req-1", "request-id": "req-1"}
OPENAI = json.dumps(
    {"data": [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [0, 1]}], "model": "m-1"}
    | {"usage": {"prompt_tokens": 5, "total_tokens": 5}}
).encode()
BODIES = {
    "openai": OPENAI,
    "ollama": b'{"model":"m-1","embeddings":[[1,0],[0,1]],"prompt_eval_count":5}',
    "gemini": b'{"embeddings":[{"values":[1,0]},{"values":[0,1]}],"usageMetadata":{"promptTokenCount":5}}',
}
BACKENDS = list(BODIES)
TEXTS = ["first text", "second text"]


def _backend(
    name: str, *script: Step, log: AuditLog | None = None, **options: Any
) -> tuple[Gate, ScriptedTransport, AuditLog]:
    transport = ScriptedTransport(script)
    log = log or AuditLog.memory()
    given: dict[str, Any] = {"model": "m", "api_key": KEY, "transport": transport} | options
    return get_backend(name, audit=log, **given), transport, log


def _leaves(log: AuditLog) -> list[Any]:
    return [entry.leaf for entry in log.entries() if entry.leaf["kind"].startswith("call.")]


def _bodies(log: AuditLog) -> dict[str, bytes]:
    return {part.name: bytes(part.data) for entry in log.entries() for part in entry.parts}


# ---------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("name", BACKENDS)
async def test_vectors_have_one_form_whichever_backend_gave_them(name: str) -> None:
    """Vectors, usage, ids and timing are those of the answer, in one value."""
    backend, _, _ = _backend(name, Answer(headers=JSON, chunks=[BODIES[name]]))
    found = await backend.embed(TEXTS)
    assert found.vectors == ((1.0, 0.0), (0.0, 1.0))
    assert (found.backend, found.model) == (name, "m" if name == "gemini" else "m-1")
    assert found.usage == Usage(input_total=5)
    assert found.request_id == ("req-1" if name == "openai" else None)
    assert 0 < found.latency_ms < 60_000
    assert found.warnings == ()
    assert [attempt.status for attempt in found.attempts] == ["ok"]
    assert found.receipt is not None
    assert found.attempts[0].receipt == found.receipt


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_call_for_vectors_is_recorded_like_any_other(name: str) -> None:
    """Intent and outcome stand in the log with the operation's name and the exact bytes; texts only beside the leaf."""
    backend, transport, log = _backend(name, Answer(headers=JSON, chunks=[BODIES[name]]))
    found = await backend.embed(TEXTS, dimensions=2)
    intent, outcome = _leaves(log)
    assert intent["attributes"]["gen_ai.operation.name"] == "embeddings"
    assert intent["attributes"]["gen_ai.request.model"] == "m"
    assert intent["attributes"]["gen_ai.embeddings.dimension.count"] == 2
    assert intent["attributes"]["veyra.texts"] == 2
    assert outcome["status"] == "ok"
    assert outcome["attributes"]["gen_ai.usage.input_tokens"] == 5
    bodies = _bodies(log)
    assert json.loads(bodies["request.messages"]) == {"texts": TEXTS}
    assert bodies["request.wire"] == transport.sent[0].body
    assert bodies["response.wire"] == BODIES[name]
    assert "response.message" not in bodies
    assert "first text" not in json.dumps([intent, outcome])
    assert all(KEY.encode() not in entry.raw for entry in log.entries())
    assert found.receipt is not None
    assert log.verify().ok


async def test_the_cost_of_vectors_is_that_of_their_tokens() -> None:
    """A known model has its price, as exact as an answer's; an unknown one has none."""
    body = OPENAI.replace(b'"m-1"', b'"text-embedding-3-small"').replace(b": 5", b": 1000")
    backend, _, log = _backend("openai", Answer(headers=JSON, chunks=[body]), Answer(headers=JSON, chunks=[OPENAI]))
    assert (await backend.embed(TEXTS)).cost == Decimal("0.00002")
    assert (await backend.embed(TEXTS)).cost is None
    assert [row.cost for row in log.attempts()] == [Decimal("0.00002"), None]


async def test_vectors_are_no_output() -> None:
    """A price list that has a rate for output prices vectors all the same, as none; their usage stays unstated."""
    body = OPENAI.replace(b'"m-1"', b'"mistral-embed"').replace(b": 5", b": 1000")
    backend, _, _ = _backend("mistral", Answer(headers=JSON, chunks=[body]))
    found = await backend.embed(TEXTS)
    assert (found.cost, found.usage.output_total) == (Decimal("0.0001"), None)


async def test_one_text_gives_one_vector() -> None:
    """A `str` is one text."""
    backend, transport, _ = _backend("ollama", Answer(headers=JSON, chunks=[b'{"embeddings":[[1]]}']))
    assert (await backend.embed("alone")).vectors == ((1.0,),)
    assert json.loads(transport.sent[0].body)["input"] == ["alone"]


async def test_what_is_sent_unasked_is_on_the_record() -> None:
    """The bytes that the log keeps are those that left, Ollama's `truncate` among them."""
    backend, _, log = _backend("ollama", Answer(headers=JSON, chunks=[BODIES["ollama"]]))
    await backend.embed(TEXTS)
    assert json.loads(_bodies(log)["request.wire"])["truncate"] is False


async def test_another_length_than_was_asked_for_is_a_warning() -> None:
    """A model that passes over `dimensions` is told of: dropped is not silent."""
    backend, _, _ = _backend("openai", Answer(headers=JSON, chunks=[OPENAI]), Answer(headers=JSON, chunks=[OPENAI]))
    (warning,) = (await backend.embed(TEXTS, dimensions=512)).warnings
    assert (warning.code, warning.parameter) == ("unsupported_parameter", "dimensions")
    assert (await backend.embed(TEXTS, dimensions=2)).warnings == ()


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c"]])
async def test_a_vector_too_many_or_too_few_is_an_error(texts: list[str]) -> None:
    """Where vectors and texts do not meet one to one, nobody gets any, and the log says so."""
    backend, _, log = _backend("ollama", Answer(headers=JSON, chunks=[BODIES["ollama"]]))
    with pytest.raises(MalformedResponseError, match=f"2 vectors came for {len(texts)} texts"):
        await backend.embed(texts)
    assert [row.status for row in log.attempts()] == ["error"]
    assert _bodies(log)["response.wire"] == BODIES["ollama"]


FAILURES: list[tuple[Step, type[ProviderError], str]] = [
    (Answer(status=401, headers=JSON, chunks=[b'{"error":{"message":"bad","status":"UNAUTHENTICATED"}}']), AuthenticationError, "error"),
    (Answer(status=404, headers=JSON, chunks=[b'{"error":{"message":"no","status":"NOT_FOUND"}}']), NotFoundError, "error"),
    (Answer(status=429, headers=JSON | {"retry-after": "7"}, chunks=[b"{}"]), RateLimitError, "error"),
    (Answer(status=302, headers={"location": "https://elsewhere.invalid"}), InvalidRequestError, "error"),
    (Answer(headers=JSON, chunks=[b'{"data": [{"emb']), MalformedResponseError, "error"),
    (Answer(headers=JSON, chunks=[b'{"data": [{"emb'], end="cut"), IncompleteStreamError, "incomplete"),
    (Refuse(), ConnectionFailedError, "error"),
    (Reset(), ConnectionFailedError, "error"),
]  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("step", "kind", "status"), FAILURES)
async def test_a_failure_is_of_the_same_tree_and_on_the_record(
    name: str, step: Step, kind: type[ProviderError], status: str
) -> None:
    """Each way to fail has its class and its status in the log, as with answers; one attempt, one outcome."""
    backend, transport, log = _backend(name, step)
    with pytest.raises(kind) as caught:
        await backend.embed(TEXTS)
    assert (caught.value.model, caught.value.provider) == ("m", "gcp.gemini" if name == "gemini" else name)
    assert [row.status for row in log.attempts()] == [status]
    assert transport.is_open == 0
    transport.assert_finished()


def test_a_provider_that_stalls_is_a_timeout_on_the_record() -> None:
    """The limits of a call hold for vectors, too."""
    log = AuditLog.memory()

    async def main() -> None:
        backend, _, _ = _backend("openai", Stall(), log=log)
        await backend.embed(TEXTS, timeout=3)

    with pytest.raises(CallTimeoutError) as caught:
        virtual.run(main())
    assert (caught.value.phase, caught.value.limit) == ("total", 3.0)
    assert [row.status for row in log.attempts()] == ["timeout"]


async def test_a_cancelled_call_leaves_a_cancelled_outcome() -> None:
    """Cancelling the task that waits is recorded, closes the exchange, and stays a cancellation."""
    backend, transport, log = _backend("openai", Stall())
    task = asyncio.create_task(backend.embed(TEXTS))
    while not transport.sent:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [row.status for row in log.attempts()] == ["cancelled"]
    assert transport.is_open == 0


async def test_a_key_that_is_said_back_is_masked() -> None:
    """A provider's error that quotes the key shows it neither to the caller nor in the log."""
    body = json.dumps({"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}}).encode()
    backend, _, log = _backend("openai", Answer(status=401, headers=JSON, chunks=[body]))
    with pytest.raises(AuthenticationError, match=r"key: \*\*\*") as caught:
        await backend.embed(TEXTS)
    assert KEY not in repr(caught.value)
    assert all(KEY.encode() not in data for data in _bodies(log).values())


def _echo(request: Received) -> list[Move]:
    """Say the request's headers back in an error, as a careless server would."""
    return reply(401, JSON, json.dumps({"error": {"message": str(dict(request.headers))}}).encode())


_ASK: dict[str, Callable[[Gate], Awaitable[object]]] = {
    "embed": lambda gate: gate.embed("x"),
    "count_tokens": lambda gate: gate.count_tokens("x"),
    "models": lambda gate: gate.models(),
}


@pytest.mark.parametrize("play", [_echo, lambda _: [RESET], lambda _: reply(headers=JSON, body=b"{\xff")])
@pytest.mark.parametrize("asked", _ASK)
async def test_no_failure_shows_the_key(asked: str, play: Callable[[Received], Play]) -> None:
    """Neither the error nor any variable of any frame of its traceback holds the key, whatever was asked."""
    async with Loopback(play) as server:
        backend = get_backend("gemini", model="m", api_key=KEY, base_url=server.url, audit="off")
        with pytest.raises(ProviderError) as caught:
            await _ASK[asked](backend)
        await backend.aclose()
        assert server.requests[0].headers["x-goog-api-key"] == KEY
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in str(caught.value) + "".join(frames.format())


class RefusingLog(AuditLog):
    """A log whose intents or outcomes fail."""

    def __init__(self, *, intents: bool) -> None:
        super().__init__("nowhere")
        self.refuses_intents = intents

    async def intent(self, **_: Any) -> Receipt:
        """Refuse, or let through."""
        if self.refuses_intents:
            msg = "no room"
            raise AuditUnavailableError(msg)
        return Receipt(origin="o", id="i", seq=0, leaf_hash="00")

    async def outcome(self, **_: Any) -> Receipt:
        """Refuse."""
        msg = "no room"
        raise AuditWriteError(msg)


@pytest.mark.parametrize("asked", ["embed", "count_tokens"])
async def test_without_an_intent_nothing_is_sent(asked: str) -> None:
    """No record, no call: a log that cannot take the intent refuses it, and the provider sees nothing."""
    backend, transport, _ = _backend("gemini", log=RefusingLog(intents=True))
    with pytest.raises(AuditUnavailableError):
        await _ASK[asked](backend)
    assert transport.sent == []


async def test_an_outcome_that_cannot_be_written_carries_the_vectors() -> None:
    """What was paid for is not lost."""
    backend, _, _ = _backend("ollama", Answer(headers=JSON, chunks=[BODIES["ollama"]]), log=RefusingLog(intents=False))
    with pytest.raises(AuditWriteError) as caught:
        await backend.embed(TEXTS)
    assert caught.value.response is None
    assert caught.value.embedding is not None
    assert caught.value.embedding.vectors == ((1.0, 0.0), (0.0, 1.0))


class Looking(MockBackend):
    """A mock that notes what the log holds when it is asked."""

    def __init__(self, log: AuditLog) -> None:
        super().__init__()
        self.log = log
        self.seen: list[str] = []

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        """Look into the log first."""
        self.seen = [leaf["kind"] for leaf in _leaves(self.log)]
        return await super().embedding(request, exchange)


async def test_the_intent_is_recorded_before_the_backend_is_asked() -> None:
    """When the backend is asked, its intent stands in the log and its outcome does not."""
    log = AuditLog.memory()
    backend = Looking(log)
    await Gate(backend, log).embed("x")
    assert backend.seen == ["call.intent"]


async def test_audit_off_records_nothing_and_gives_no_receipt() -> None:
    """Without a log there is no receipt, and the vectors are the same."""
    backend = get_backend("mock", audit="off")
    found = await backend.embed("x")
    assert found.receipt is None
    assert found.vectors == (await get_backend("mock", audit="memory").embed("x")).vectors


async def test_a_backend_without_embeddings_says_so() -> None:
    """Anthropic has none: the call is refused by name, nothing is sent, nothing recorded."""
    backend, transport, log = _backend("anthropic")
    with pytest.raises(UnsupportedParameterError, match="'anthropic' has no embeddings"):
        await backend.embed(TEXTS)
    assert transport.sent == []
    assert _leaves(log) == []


class TwoMethods(BaseModelBackend):
    """A third party's backend: what ADR-0001 asks for, and no more."""

    name = "two"

    async def generate(self, prompt: str, **options: Any) -> ModelResponse:
        """Answer."""
        return ModelResponse("hello", "m", "two", 1.0, 1, 1, None)

    async def health_check(self) -> bool:
        """Say yes."""
        return True


class Untidy(TwoMethods):
    """One that has more, and breaks its contract."""

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        """Name a key, so that masking can be seen."""
        return Exchange(provider="tests", secrets=(Secret(KEY),))

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        """Raise, or return something else."""
        if request.texts == ("raise",):
            raise KeyError(KEY)
        return [[1.0]]  # type: ignore[return-value]

    async def models(self, *, details: bool = False) -> Any:
        """Raise what is not ours."""
        raise KeyError


async def test_two_methods_are_enough() -> None:
    """A backend of two methods has no embeddings and no list, says so, and estimates tokens."""
    log = AuditLog.memory()
    gate = Gate(TwoMethods(), log)
    with pytest.raises(UnsupportedParameterError, match="'two' has no embeddings"):
        await gate.embed("x")
    with pytest.raises(UnsupportedParameterError, match="'two' has no list of models"):
        await gate.models()
    assert (await gate.count_tokens("four")).estimated
    assert _leaves(log) == []


async def test_a_backend_that_breaks_its_contract_is_told() -> None:
    """A foreign exception or a foreign value is a `BackendError`, recorded and without the key."""
    log = AuditLog.memory()
    gate = Gate(Untidy(), log)
    with pytest.raises(BackendError, match="returned list from embedding") as caught:
        await gate.embed("x")
    with pytest.raises(BackendError, match="raised KeyError") as caught:
        await gate.embed("raise")
    assert isinstance(caught.value.__cause__, KeyError)
    assert KEY not in str(caught.value)
    assert [row.status for row in log.attempts()] == ["error", "error"]
    with pytest.raises(BackendError, match="raised KeyError"):
        await gate.models()


async def test_the_base_does_not_carry_out_what_it_did_not_prepare() -> None:
    """A backend that prepares what it has no code for is told by name."""
    with pytest.raises(BackendError, match="does not make them"):
        await TwoMethods().embedding(EmbedRequest(texts=("x",)), Exchange(provider="two"))
    request = build_request("x", {}, stream=False)
    with pytest.raises(BackendError, match="does not make them"):
        await TwoMethods().counting(request, Exchange(provider="two"))


@pytest.mark.parametrize(
    ("texts", "options", "error", "says"),
    [
        ([], {}, InvalidRequestError, "there is no text"),
        ("", {}, InvalidRequestError, "text 0 is empty"),
        (["a", ""], {}, InvalidRequestError, "text 1 is empty"),
        (["a", 1], {}, InvalidRequestError, "text 1 is int"),
        (b"a", {}, InvalidRequestError, "not bytes"),
        (None, {}, InvalidRequestError, "not NoneType"),
        (["a", "\ud800"], {}, InvalidRequestError, "text 1 is not valid Unicode"),
        ("a", {"dimension": 3}, InvalidRequestError, "did you mean 'dimensions'"),
        ("a", {"dimensions": 0}, InvalidRequestError, "1 or more"),
        ("a", {"dimensions": True}, InvalidRequestError, "1 or more"),
        ("a", {"dimensions": 1.5}, InvalidRequestError, "1 or more"),
        ("a", {"model": ""}, InvalidRequestError, "model"),
        ("a", {"timeout": 0}, InvalidRequestError, "timeout"),
        ("a", {"extra": [1]}, InvalidRequestError, "extra"),
        ("a" * 11, {}, ContextLengthError, "11 bytes"),
        (["é" * 5, "a"], {}, ContextLengthError, "11 bytes"),
    ],
)
async def test_wrong_texts_and_options_are_told_before_anything_is_sent(
    texts: Any, options: Any, error: type[Exception], says: str
) -> None:
    """What is wrong is named; nothing is sent and nothing recorded."""
    backend, transport, log = _backend("openai", max_prompt_bytes=10)
    with pytest.raises(error, match=says):
        await backend.embed(texts, **options)
    assert transport.sent == []
    assert _leaves(log) == []


def test_options_that_are_none_are_not_given() -> None:
    """None counts as not given, and the backend's model fills in; other defaults are no affair of vectors."""
    request = build_embed_request("a", {"model": None, "dimensions": None}, defaults={"model": "m", "temperature": 1})
    assert request == EmbedRequest(texts=("a",), model="m")
    assert build_embed_request("a", {"timeout": 2}).timeout == Timeouts(total=2.0)


async def test_a_model_must_be_named() -> None:
    """Without a model there is no call, and the message says where to name one."""
    backend, _, _ = _backend("openai", model=None)
    with pytest.raises(InvalidRequestError, match="no model named"):
        await backend.embed("x")


async def test_perplexitys_vectors_are_signed_bytes_of_a_route_of_their_own() -> None:
    """The row's data is used: the path with its version, and bytes read as numbers from -128 to 127."""
    backend, transport, _ = _backend("perplexity", Answer(headers=JSON, chunks=[b'{"data":[{"embedding":"AYA="}]}']))
    assert (await backend.embed("x")).vectors == ((1.0, -128.0),)
    assert transport.sent[0].url == "https://api.perplexity.ai/v1/embeddings"


async def test_vectors_over_http() -> None:
    """Over a real connection the answer comes in chunks and is read whole; the key travels in its header only."""
    pieces = [OPENAI[:40], OPENAI[40:41], OPENAI[41:]]
    async with Loopback([reply(headers=JSON, body=pieces, chunked=True)]) as server:
        async with get_backend(
            "openai", model="m", api_key=KEY, base_url=f"{server.url}/v1", audit="memory"
        ) as backend:
            assert (await backend.embed(TEXTS)).vectors == ((1.0, 0.0), (0.0, 1.0))
        (asked,) = server.requests
    assert (asked.method, asked.target) == ("POST", "/v1/embeddings")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(asked.body) == {"model": "m", "input": TEXTS, "encoding_format": "base64"}


# ---------------------------------------------------------------------------------------------- the mock


async def test_the_mocks_vectors_depend_on_the_text_alone() -> None:
    """The same text has the same vector, always, of length 1; another text has another."""
    a = await MockBackend().embed(["one", "two", "one"])
    b = await MockBackend().embed("one", model="other")
    assert a.vectors[0] == a.vectors[2] == b.vectors[0] != a.vectors[1]
    assert len(a.vectors[0]) == 64
    assert sum(number * number for number in a.vectors[0]) == pytest.approx(1)
    assert a.vectors[0][0] == pytest.approx(0.0286504760, abs=1e-9)
    assert (a.usage.input_total, b.model) == (3, "other")
    assert len((await MockBackend().embed("x", dimensions=5)).vectors[0]) == 5


async def test_the_mocks_vectors_are_on_the_record() -> None:
    """Where there are no bytes of an answer, the vectors themselves are kept."""
    log = AuditLog.memory()
    found = await get_backend("mock", audit=log).embed("x", dimensions=2)
    assert json.loads(_bodies(log)["response.message"]) == {"vectors": [list(found.vectors[0])]}


# ---------------------------------------------------------------------------------------------- counts

COUNTS = {
    "anthropic": (b'{"input_tokens": 7}', "/v1/messages/count_tokens"),
    "gemini": (b'{"totalTokens": 7}', "/v1beta/models/m:countTokens"),
    "openai": (b'{"input_tokens": 7}', "/v1/responses/input_tokens"),
}


@pytest.mark.parametrize("name", COUNTS)
async def test_the_provider_counts_and_the_log_knows(name: str) -> None:
    """The prompt leaves for the provider, so its count is recorded like a call; the source says who counted."""
    body, route = COUNTS[name]
    backend, transport, log = _backend(name, Answer(headers=JSON, chunks=[body]))
    counted = await backend.count_tokens("Hi", system="Be brief")
    provider = "gcp.gemini" if name == "gemini" else name
    assert counted == TokenCount(tokens=7, estimated=False, source=f"{provider} {route}")
    assert transport.sent[0].url.endswith(route)
    intent, outcome = _leaves(log)
    assert intent["attributes"]["gen_ai.operation.name"] == "count_tokens"
    assert (outcome["status"], outcome["attributes"]["veyra.tokens"]) == ("ok", 7)
    assert "gen_ai.usage.input_tokens" not in outcome["attributes"]
    bodies = _bodies(log)
    assert bodies["request.wire"] == transport.sent[0].body
    assert json.loads(bodies["response.message"]) == {"tokens": 7}


@pytest.mark.parametrize("name", ["ollama", "groq", "openai"])
async def test_where_nobody_counts_it_is_an_estimate_that_says_so(name: str) -> None:
    """Without a route for it (OpenAI's Chat Completions among them) nothing is sent, nothing recorded, and it is an estimate."""
    options: dict[str, Any] = {"api": "chat"} if name == "openai" else {}
    backend, transport, log = _backend(name, **options)
    counted = await backend.count_tokens("Hi there")
    assert (counted.estimated, counted.source) == (True, SOURCE)
    assert transport.sent == []
    assert _leaves(log) == []


async def test_a_count_that_fails_is_on_the_record() -> None:
    """An error of the count is of the same tree, and is no estimate in disguise."""
    backend, _, log = _backend(
        "anthropic", Answer(status=404, headers=JSON, chunks=[b'{"error":{"type":"not_found_error"}}'])
    )
    with pytest.raises(NotFoundError):
        await backend.count_tokens("Hi")
    assert [row.status for row in log.attempts()] == ["error"]


async def test_a_model_that_does_not_reason_is_counted_without_reasoning() -> None:
    """A count fits the request to its model as a call does."""
    backend, transport, _ = _backend("openai", Answer(headers=JSON, chunks=[b'{"input_tokens": 7}']), model="gpt-4.1")
    await backend.count_tokens("Hi", reasoning="none")
    assert "reasoning" not in json.loads(transport.sent[0].body)


async def test_the_mock_counts_words() -> None:
    """The mock's tokens are words, in its counts as in its answers; used directly, it records nothing."""
    assert await MockBackend().count_tokens("two words", system="one") == TokenCount(
        tokens=3, estimated=False, source="mock: words"
    )


def _estimated(prompt: Any, **options: Any) -> int:
    return estimate(build_request(prompt, options, stream=False)).tokens


@pytest.mark.parametrize(
    ("prompt", "options", "tokens"),
    [
        ("abcd", {}, 4 + 1),
        ("abcde", {}, 4 + 2),
        ("日本", {}, 4 + 2),
        ("abcdé", {}, 4 + 2),
        ("abcd", {"system": "abcd"}, 8 + 2),
        ([Message("user", "abcd"), Message("assistant", "abcd")], {}, 8 + 2),
        ([Message("user", (Text("abcd"), Reasoning("abcd"), Opaque("d", b"abcd")))], {}, 4 + 3),
        ([Message("user", "abcd"), Message("tool", (ToolResult("i", "abcdefgh"),))], {}, 8 + 3),
        ([Message("assistant", (ToolCall("i", "f", {"a": 1}, '{"a":1}'),))], {}, 4 + 3),
        ([Message("assistant", (ToolCall("i", "f", {"a": 1}),))], {}, 4 + 3),
        ("abcd", {"tools": [Tool(name="f", description="d", parameters={})]}, 4 + 1 + 12),
        ("abcd", {"output": {"type": "object"}}, 4 + 1 + 5),
    ],
)
def test_the_rule_of_the_estimate(prompt: Any, options: Any, tokens: int) -> None:
    """4 ASCII characters or 1 other to a token, 4 tokens to a message, JSON as the text it is, rounded up."""
    assert _estimated(prompt, **options) == tokens


def test_a_picture_is_not_estimated() -> None:
    """What nothing here can tell is refused, not made up."""
    picture = Message("user", (Media(kind="image", media_type="image/png", data=b"x"),))
    with pytest.raises(UnsupportedParameterError, match="with image in it"):
        estimate(build_request([picture], {}, stream=False))


async def test_a_request_is_not_changed_by_being_counted() -> None:
    """Values are frozen: what the caller holds is what it was."""
    request: Request = build_request("Hi", {"temperature": 0.5}, stream=False)
    estimate(request)
    assert request.temperature == 0.5
