"""The wire backend over the scripted transport: what leaves, what comes back, and every way for it to go wrong."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import Any, Literal

import pytest

import virtual
from veyra import AuditLog, get_backend
from veyra.errors import (
    AuditUnavailableError,
    AuthenticationError,
    CallTimeoutError,
    ConnectionFailedError,
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
from veyra.models.endpoints import ENDPOINTS, Endpoint
from veyra.models.gate import Gate
from veyra.models.request import build_request
from veyra.models.wire import WireBackend
from veyra.transport import http
from veyra.transport.script import Answer, NoConnection, Refuse, Reset, ScriptedTransport, Stall, Step
from veyra.types import Message, TextDelta, Timeouts

KEY = "sk-canary-0123456789"
BACKENDS = ["openai", "anthropic", "ollama"]
JSON = {"content-type": "application/json", "x-request-id": "req-1", "request-id": "req-1"}
SSE = {"content-type": "text/event-stream", "x-request-id": "req-1", "request-id": "req-1"}


@dataclass
class City:
    name: str
    people: int


def _sse(*events: Any, names: bool = False, done: bool = False) -> bytes:
    lines = [(f"event: {event['type']}\n" if names else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return ("".join(lines) + "data: [DONE]\n\n" * done).encode()


WHOLE: dict[str, bytes] = {
    "openai": json.dumps(
        {
            "id": "chatcmpl-1",
            "model": "m-1",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
        }
    ).encode(),
    "anthropic": json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m-1",
            "content": [{"type": "text", "text": "Hello"}],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 3,
                "cache_read_input_tokens": 2,
                "cache_creation_input_tokens": 0,
                "output_tokens": 1,
            },
        }
    ).encode(),
    "ollama": json.dumps(
        {
            "model": "m-1",
            "message": {"role": "assistant", "content": "Hello"},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 5,
            "eval_count": 1,
        }
    ).encode(),
}

STREAMED: dict[str, bytes] = {
    "openai": _sse(
        {"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "Hel"}}]},
        {"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "lo"}}]},
        {"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "chatcmpl-1", "model": "m-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
        done=True,
    ),
    "anthropic": _sse(
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m-1",
                "content": [],
                "usage": {"input_tokens": 5, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
        names=True,
    ),
    "ollama": b"".join(
        json.dumps(line).encode() + b"\n"
        for line in (
            {"model": "m-1", "message": {"role": "assistant", "content": "Hel"}, "done": False},
            {"model": "m-1", "message": {"role": "assistant", "content": "lo"}, "done": False},
            {
                "model": "m-1",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 5,
                "eval_count": 1,
            },
        )
    ),
}


def _backend(name: str, *script: Step, **options: Any) -> tuple[Gate, ScriptedTransport, AuditLog]:
    transport = ScriptedTransport(script)
    log = AuditLog.memory()
    if name == "openai":
        options.setdefault("api", "chat")
    backend = get_backend(name, model="m", api_key=KEY, transport=transport, audit=log, **options)
    return backend, transport, log


def _status(log: AuditLog) -> list[str]:
    return [row.status for row in log.attempts()]


@pytest.mark.parametrize("name", BACKENDS)
async def test_one_answer_has_one_form_whichever_backend_gave_it(name: str) -> None:
    """The same logical answer, whole or streamed, is equal in all that Veyra's values can say."""
    whole, _, _ = _backend(name, Answer(headers=JSON, chunks=[WHOLE[name]]))
    r = await whole.generate("Hi")
    assert (r.content, r.model, r.backend, r.finish_reason) == ("Hello", "m-1", name, "stop")
    assert (r.prompt_tokens, r.completion_tokens) == (5, 1)
    media_type = {"content-type": "application/x-ndjson"} if name == "ollama" else {}
    streamed, transport, log = _backend(name, Answer(headers=SSE | media_type, chunks=[STREAMED[name]]))
    async with streamed.stream("Hi") as reply:
        pieces = [event.text async for event in reply if isinstance(event, TextDelta)]
    s = reply.response
    assert "".join(pieces) == s.content == "Hello"
    assert (s.finish_reason, s.prompt_tokens, s.completion_tokens) == ("stop", 5, 1)
    assert s.request_id == ("req-1" if name != "ollama" else s.request_id)
    assert _status(log) == ["ok"]
    assert transport.is_open == 0


@pytest.mark.parametrize("name", BACKENDS)
async def test_what_leaves_is_what_the_log_says_left(name: str) -> None:
    """The exact bytes of the request and of the answer stand in the log; the key stands nowhere but in its header."""
    backend, transport, log = _backend(name, Answer(headers=JSON, chunks=[WHOLE[name]]))
    await backend.generate(
        [Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Go")], system="Be brief"
    )
    sent = transport.sent[0]
    bodies = {part.name: bytes(part.data) for entry in log.entries() for part in entry.parts}
    assert bodies["request.wire"] == sent.body
    assert bodies["response.wire"] == WHOLE[name]
    assert "Be brief" in sent.body.decode()
    assert KEY not in repr(sent)
    assert KEY in "".join(secret.reveal() for secret in sent.secret_headers.values())
    assert all(KEY.encode() not in entry.raw for entry in log.entries())


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_stream_without_its_end_is_an_error_with_the_partial_text(name: str) -> None:
    """Cut cleanly or not, an answer without its terminal marker is incomplete, says what came, and is recorded so."""
    stream = STREAMED[name]
    cut = Answer(headers=SSE, chunks=[stream[: stream.index(b'"lo"')]])
    for script in (cut, cut.cut_after(len(cut.chunks[0]))):
        backend, _, log = _backend(name, script)
        with pytest.raises(IncompleteStreamError) as caught:
            async with backend.stream("Hi") as reply:
                async for _ in reply:
                    pass
        assert caught.value.partial == "Hel"
        assert caught.value.ambiguous
        assert _status(log) == ["incomplete"]


@pytest.mark.parametrize(("name", "header"), [("openai", "x-request-id"), ("anthropic", "request-id")])
@pytest.mark.parametrize("end", ["cut", "stall"])
def test_an_answer_that_breaks_off_or_stalls_keeps_its_status_and_id(
    name: str, header: str, end: Literal["cut", "stall"]
) -> None:
    """Whoever takes an answer that broke off, or did not go on, to its provider has the id that its head told."""
    stream = STREAMED[name]
    step = Answer(headers=SSE | {header: "req-7"}, chunks=[stream[: stream.index(b'"lo"')]], end=end)
    backend, _, log = _backend(name, step)

    async def ask() -> None:
        with pytest.raises(IncompleteStreamError if end == "cut" else CallTimeoutError) as caught:
            async with backend.stream("Hi") as reply:
                async for _ in reply:
                    pass
        assert (caught.value.status, caught.value.request_id, caught.value.partial) == (200, "req-7", "Hel")

    virtual.run(ask())
    assert [row.request_id for row in log.attempts()] == ["req-7"]


ERRORS: list[tuple[Step, type[ProviderError], bool | None]] = [
    (Answer(status=401, headers=JSON, chunks=[b'{"error":{"message":"bad key","type":"authentication_error"}}']), AuthenticationError, False),
    (Answer(status=404, headers=JSON, chunks=[b'{"error":{"message":"no model","type":"not_found_error"}}']), NotFoundError, False),
    (Answer(status=429, headers=JSON | {"retry-after": "7"}, chunks=[b'{"error":{"message":"slow","type":"rate_limit_error"}}']), RateLimitError, True),
    (Answer(status=500, headers=JSON, chunks=[b'{"error":{"message":"oops"}}']), ServerError, True),
    (Answer(status=502, headers={"content-type": "text/html"}, chunks=[b"<html>" + b"x" * 5000]), ServerError, True),
    (Answer(status=503, headers=JSON, chunks=[b'{"error":"server busy, please try again"}']), ProviderError, True),
    (Answer(status=302, headers={"location": "http://elsewhere.invalid/"}, chunks=[]), ProviderError, None),
    (Answer(headers=JSON, chunks=[b"{not json"]), MalformedResponseError, None),
    (Answer(headers=JSON, chunks=[]), MalformedResponseError, None),
    (Answer(headers=JSON, chunks=[b'{"id":"\xff\xfe"}']), MalformedResponseError, None),
    (Answer(headers={"content-type": "text/html"}, chunks=[b"<html>hello</html>"]), MalformedResponseError, None),
    (Refuse(), ConnectionFailedError, True),
    (NoConnection(), CallTimeoutError, True),
    (Reset(), ConnectionFailedError, True),
]  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("step", "kind", "retryable"), ERRORS)
async def test_every_failure_is_an_error_of_ours(
    name: str, stream: bool, step: Step, kind: type[ProviderError], retryable: bool | None
) -> None:
    """Whatever a server does, the caller sees one of our errors, short, without the key, and the log has its outcome."""
    backend, transport, log = _backend(name, step)
    kinds = (kind, IncompleteStreamError) if stream and kind is MalformedResponseError else kind
    with pytest.raises(kinds) as caught:
        if stream:
            async with backend.stream("Hi") as reply:
                async for _ in reply:
                    pass
        else:
            await backend.generate("Hi")
    error = caught.value
    assert error.provider == name
    assert error.model == "m"
    assert retryable is None or error.retryable is retryable
    assert len(str(error)) < 1000
    assert KEY not in str(error)
    assert _status(log)[0] in {"error", "timeout", "incomplete"}
    assert len(transport.sent) == 1
    assert transport.is_open == 0
    if isinstance(step, Answer) and step.status >= 400:
        assert error.status == step.status


@pytest.mark.parametrize("end", ["cut", "stall"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_status_of_a_failure_counts_whatever_comes_of_its_body(end: Literal["cut", "stall"], stream: bool) -> None:
    """A refusal whose body breaks off or does not come is that refusal, not a cut answer to try again."""
    step = Answer(status=401, headers=JSON, chunks=[b'{"error":{"mess'], end=end)
    backend, transport, log = _backend("openai", step)

    async def ask() -> float:
        with pytest.raises(AuthenticationError) as caught:
            if stream:
                async with backend.stream("Hi") as reply:
                    await anext(aiter(reply))
            else:
                await backend.generate("Hi")
        assert not caught.value.retryable
        assert not caught.value.ambiguous
        return asyncio.get_running_loop().time()

    assert virtual.run(ask()) <= 10
    assert _status(log) == ["error"]
    assert transport.is_open == 0


def test_a_server_that_says_nothing_is_not_healthy() -> None:
    """A health check of a server that takes requests and does not answer ends, and says no."""
    backend, transport, _ = _backend("openai", Stall())

    async def ask() -> float:
        assert await backend.health_check() is False
        return asyncio.get_running_loop().time()

    assert virtual.run(ask()) <= 10
    assert transport.is_open == 0


def test_threads_that_begin_together_share_one_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads make the first call at once, they use one transport, which is the one that is closed."""
    together = Barrier(8)

    class Made(http.HttpTransport):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            together.wait()

    monkeypatch.setattr(http, "HttpTransport", Made)
    backend = get_backend("openai", model="m", api_key=KEY, audit="off").backend
    assert isinstance(backend, WireBackend)
    with ThreadPoolExecutor(8) as threads:
        found = {future.result() for future in [threads.submit(backend._connection) for _ in range(8)]}
    assert found == {backend._connection()}


async def test_retry_after_is_handed_on() -> None:
    """The wait that the provider asks for is on the error."""
    with_it = Answer(status=429, headers=JSON | {"retry-after": "7"}, chunks=[b"{}"])
    without = Answer(status=429, headers=JSON, chunks=[b"{}"])
    backend, _, _ = _backend("openai", with_it, without)
    with pytest.raises(RateLimitError) as caught:
        await backend.generate("Hi")
    assert caught.value.retry_after == 7
    with pytest.raises(RateLimitError) as caught:
        await backend.generate("Hi")
    assert caught.value.retry_after is None


async def test_a_quota_is_not_a_rate_limit() -> None:
    """429 insufficient_quota never clears by waiting and says so."""
    body = b'{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}'
    backend, _, _ = _backend("openai", Answer(status=429, headers=JSON, chunks=[body]))
    with pytest.raises(QuotaError) as caught:
        await backend.generate("Hi")
    assert not caught.value.retryable
    assert caught.value.provider_code == "insufficient_quota"


async def test_an_error_inside_a_stream_keeps_the_text_and_the_request_id() -> None:
    """An error after the stream began is mapped by its type, with what came before and the id of the head."""
    stream = _sse(
        {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 5}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        names=True,
    )
    backend, _, log = _backend("anthropic", Answer(headers=SSE, chunks=[stream]))
    with pytest.raises(OverloadedError) as caught:
        async with backend.stream("Hi") as reply:
            async for _ in reply:
                pass
    assert (caught.value.partial, caught.value.request_id) == ("Hel", "req-1")
    assert _status(log) == ["error"]


async def test_a_key_that_the_server_says_back_is_masked() -> None:
    """A hostile or careless server cannot make the key show in an error or in the log."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}).encode()
    backend, _, log = _backend("openai", Answer(status=401, headers=JSON, chunks=[body]))
    with pytest.raises(AuthenticationError) as caught:
        await backend.generate("Hi")
    seen = str(caught.value) + repr(caught.value) + repr(caught.value.provider_code)
    seen += repr([(entry.raw, [bytes(part.data) for part in entry.parts]) for entry in log.entries()])
    assert KEY not in seen


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("status", [200, 400])
async def test_nothing_that_a_provider_says_is_too_long_for_the_record(name: str, status: int) -> None:
    """Names, ids, reasons, codes and media types without end, in any script, are on record as far as there is room."""
    endless = "\U0001f600" * 5_000
    body = WHOLE[name]
    for word in ("m-1", "chatcmpl-1", "msg_1", "stop", "end_turn"):
        body = body.replace(f'"{word}"'.encode(), json.dumps(endless).encode())
    if status != 200:
        body = json.dumps({"error": {"message": endless, "type": endless, "code": endless}}).encode()
    headers = {
        "content-type": "application/json; x=" + "y" * 9_000,
        "x-request-id": "z" * 9_000,
        "request-id": "z" * 9_000,
    }
    backend, _, log = _backend(name, Answer(status=status, headers=headers, chunks=[body]))
    if status == 200:
        assert (await backend.generate("Hi")).model == endless
    else:
        with pytest.raises(InvalidRequestError):
            await backend.generate("Hi")
    assert _status(log) == ["ok" if status == 200 else "error"]
    assert [part.data for entry in log.entries() for part in entry.parts if part.name == "response.wire"] == [body]


@pytest.mark.parametrize(
    ("step", "phase"),
    [
        (Stall(), "first_token"),
        (Answer(headers=SSE, chunks=[b": keep-alive\n\n"], end="stall"), "first_token"),
        (
            Answer(
                headers=SSE,
                chunks=[STREAMED["openai"].partition(b"lo")[0].rpartition(b"data:")[0], b": ping\n\n"],
                end="stall",
            ),
            "between_events",
        ),
    ],
)
def test_keep_alives_do_not_keep_a_dead_stream_alive(step: Step, phase: str) -> None:
    """A stream that brings nothing with content runs into its clock, and its connection is closed."""

    async def main() -> AuditLog:
        backend, transport, log = _backend("openai", step)
        with pytest.raises(CallTimeoutError) as caught:
            async with backend.stream("Hi", timeout=Timeouts(first_token=5, between_events=2)) as reply:
                async for _ in reply:
                    pass
        assert caught.value.phase == phase
        assert transport.is_open == 0
        return log

    assert _status(virtual.run(main())) == ["timeout"]


async def test_a_body_is_read_to_its_end_after_the_terminal_marker() -> None:
    """What comes after the marker is read, and kept on the record, so that the connection can be used again."""
    late = Answer(headers=SSE, chunks=[STREAMED["openai"], b": bye\n\n"])
    backend, transport, log = _backend("openai", late)
    async with backend.stream("Hi") as reply:
        assert [event.text async for event in reply if isinstance(event, TextDelta)] == ["Hel", "lo"]
    assert transport.left_early == 0
    bodies = {part.name: bytes(part.data) for entry in log.entries() for part in entry.parts}
    assert bodies["response.wire"].endswith(b": bye\n\n")


@pytest.mark.parametrize("end", ["stall", "cut"])
def test_what_comes_after_the_terminal_marker_cannot_spoil_an_answer(end: Literal["stall", "cut"]) -> None:
    """A connection that hangs or breaks after the end of the answer costs a moment, not the answer."""

    async def main() -> float:
        backend, _, log = _backend("openai", Answer(headers=SSE, chunks=[STREAMED["openai"]], end=end))
        async with backend.stream("Hi") as reply:
            assert [event.text async for event in reply if isinstance(event, TextDelta)] == ["Hel", "lo"]
        assert _status(log) == ["ok"]
        return asyncio.get_running_loop().time()

    assert virtual.run(main()) <= 0.1


async def test_an_endless_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without an end is given up at the limit, with what had come."""
    monkeypatch.setattr("veyra.models.base.ANSWER_LIMIT", 5000)
    start, _, _ = STREAMED["openai"].partition(
        b'data: {"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "delta": {}'
    )
    endless = [start, *[start[start.rindex(b"data:") :]] * 100]
    backend, transport, log = _backend("openai", Answer(headers=SSE, chunks=endless))
    with pytest.raises(MalformedResponseError, match="longer than 5,000 bytes") as caught:
        async with backend.stream("Hi") as reply:
            async for _ in reply:
                pass
    assert caught.value.partial.startswith("Hellolo")
    assert _status(log) == ["error"]
    assert transport.left_early == 1


@pytest.mark.parametrize("place", ["file", "below a file", "/proc/veyra-log"])
@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_log_nothing_leaves(place: str, stream: bool, tmp_path: Path) -> None:
    """Where the log cannot be written, the call is refused in words that name the place, and nothing is sent."""
    (tmp_path / "file").write_text("not a directory")
    log = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "log"}.get(place, Path(place))
    transport = ScriptedTransport([Answer(headers=JSON, chunks=[WHOLE["openai"]])])
    backend = get_backend("openai", model="m", api_key=KEY, transport=transport, audit=log, api="chat")
    with pytest.raises(AuditUnavailableError, match=str(log)):
        if stream:
            async with backend.stream("Hi") as reply:
                async for _ in reply:
                    pass
        else:
            await backend.generate("Hi")
    assert not transport.sent


async def test_cancelling_closes_the_connection() -> None:
    """A cancelled call leaves no exchange open and a cancelled outcome."""
    backend, transport, log = _backend("openai", Stall())
    task = asyncio.create_task(backend.generate("Hi"))
    while not transport.sent:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.is_open == 0
    assert _status(log) == ["cancelled"]


async def test_without_a_model_nothing_is_sent() -> None:
    """A call that names no model says how to name one."""
    backend = get_backend("openai", api_key=KEY, audit="memory", transport=ScriptedTransport([]))
    with pytest.raises(InvalidRequestError, match=r"no model named; pass model="):
        await backend.generate("Hi")


@pytest.mark.parametrize(
    ("name", "path"), [("openai", "/models"), ("anthropic", "/v1/models"), ("ollama", "/api/version")]
)
async def test_health_asks_a_free_route(name: str, path: str) -> None:
    """A health check is one GET that generates nothing, and is not recorded."""
    script: list[Step] = [Answer(headers=JSON, chunks=[b"{}"]), Answer(status=500), Refuse()]
    backend, transport, log = _backend(name, *script)
    assert [await backend.health_check() for _ in script] == [True, False, False]
    assert {(sent.method, sent.url.endswith(path), sent.body) for sent in transport.sent} == {("GET", True, b"")}
    assert not list(log.entries()) or _status(log) == []


@pytest.mark.parametrize(
    ("given", "variable", "url"),
    [
        ("http://127.0.0.1:9/v1/", None, "http://127.0.0.1:9/v1/chat/completions"),
        (None, "http://localhost:8/v1", "http://localhost:8/v1/chat/completions"),
        (None, None, "https://api.openai.com/v1/chat/completions"),
    ],
)
async def test_the_base_url_is_the_given_one_else_the_variable_else_the_vendors(
    given: str | None, variable: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given goes before the environment, and that before the row."""
    if variable:
        monkeypatch.setenv("OPENAI_BASE_URL", variable)
    backend, transport, _ = _backend("openai", Answer(headers=JSON, chunks=[WHOLE["openai"]]), base_url=given)
    await backend.generate("Hi")
    assert transport.sent[0].url == url


async def test_ollama_host_may_be_a_bare_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_HOST is often host:port only."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:11500")
    backend, transport, _ = _backend("ollama", Answer(headers=JSON, chunks=[WHOLE["ollama"]]))
    await backend.generate("Hi")
    assert transport.sent[0].url == "http://127.0.0.1:11500/api/chat"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "https://api.openai.com/v1/responses"),
        ({"api": "chat"}, "https://api.openai.com/v1/chat/completions"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "http://127.0.0.1:9/v1/chat/completions"),
        ({"base_url": "http://127.0.0.1:9/v1", "api": "responses"}, "http://127.0.0.1:9/v1/responses"),
    ],
)
def test_responses_is_spoken_to_the_vendor_and_chat_to_those_compatible_with_it(
    options: dict[str, Any], path: str
) -> None:
    """OpenAI's own endpoint is spoken to in Responses; another address in Chat Completions; `api` decides before both."""
    gate = get_backend("openai", model="m", api_key=KEY, audit="off", **options)
    exchange = gate.backend.prepare(build_request("Hi", {"model": "m"}, stream=False))
    assert exchange.outgoing is not None
    assert exchange.outgoing.url == path


def test_an_api_that_a_vendor_does_not_speak_is_told() -> None:
    """The apis to choose from are named."""
    with pytest.raises(InvalidRequestError, match=r"'openai' takes 'chat' or 'responses', not api='rest'"):
        get_backend("openai", api="rest")
    with pytest.raises(InvalidRequestError, match="'anthropic' takes no api option"):
        get_backend("anthropic", api="chat")


async def test_the_cost_is_in_the_response_and_in_the_log() -> None:
    """Where the table has the model's price, the exact cost is told; elsewhere it is None."""
    body = WHOLE["openai"].replace(b"m-1", b"gpt-4o-mini")
    answers = [Answer(headers=JSON, chunks=[body]), Answer(headers=JSON, chunks=[WHOLE["openai"]])]
    backend, _, log = _backend("openai", *answers)
    priced, unpriced = await backend.generate("Hi"), await backend.generate("Hi")
    assert priced.cost == Decimal(
        "0.0000012"
    )  # 3 fresh tokens at 0.15, 2 cached at 0.075, 1 written at 0.6 per million
    assert unpriced.cost is None
    assert [row.cost for row in log.attempts()] == [priced.cost, None]


@pytest.mark.parametrize(("model", "mode"), [("gpt-6-sol", "native"), ("gpt-4", "tool")])
async def test_structured_output_by_the_model_s_own_mode_or_by_a_tool(model: str, mode: str) -> None:
    """A model with a mode of its own for schemas is asked in it; one without is made to call a tool; both give a value."""
    text = '{"name": "Bern", "people": 134000}'
    call = {"id": "c", "type": "function", "function": {"name": "answer", "arguments": text}}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if mode == "tool":
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = json.dumps(
        {"id": "x", "model": model, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    )
    backend, transport, _ = _backend("openai", Answer(headers=JSON, chunks=[body.encode()]))
    response = await backend.generate("Which?", model=model, output=City)
    assert response.output == City("Bern", 134000)
    assert response.finish_reason == "stop"
    assert ("response_format" in json.loads(transport.sent[0].body)) == (mode == "native")
    assert ("tools" in json.loads(transport.sent[0].body)) == (mode == "tool")


async def test_without_an_address_a_call_says_how_to_give_one() -> None:
    """A vendor whose customers have addresses of their own needs one with the first call."""
    backend = get_backend("azure", model="m", api_key=KEY, audit="memory")
    with pytest.raises(InvalidRequestError, match="AZURE_OPENAI_BASE_URL"):
        await backend.generate("Hi")
    assert await backend.health_check() is False


async def test_what_a_model_does_not_take_is_an_error_or_a_recorded_warning() -> None:
    """By policy, an option that the model refuses stops the call before it is sent, or is left out and told."""
    strict, transport, log = _backend("openai")
    with pytest.raises(UnsupportedParameterError, match="temperature"):
        await strict.generate("Hi", model="gpt-5", temperature=0.5)
    assert not transport.sent
    assert not list(log.attempts())
    answer = Answer(headers=JSON, chunks=[WHOLE["openai"]])
    lenient, transport, log = _backend("openai", answer, on_unsupported="warn")
    response = await lenient.generate("Hi", model="gpt-5", temperature=0.5)
    assert [warning.parameter for warning in response.warnings] == ["temperature"]
    assert b"temperature" not in transport.sent[0].body
    told = [bytes(part.data) for entry in log.entries() for part in entry.parts if part.name == "response.message"]
    assert b"temperature was left out" in told[0]


@pytest.mark.parametrize("row", ENDPOINTS.values(), ids=lambda row: row.name)
async def test_every_row_can_be_called(row: Endpoint) -> None:
    """Each vendor's row makes a backend that sends its key, where it has one, in its own header, and to its own path."""
    transport = ScriptedTransport([Answer(status=500, headers=JSON, chunks=[b"{}"])])
    address: dict[str, Any] = {} if row.base_url else {"base_url": "https://customer.invalid/v1"}
    backend = get_backend(row.name, model="m", api_key=KEY, transport=transport, audit="memory", **address)
    with pytest.raises(ServerError):
        await backend.generate("Hi")
    sent = transport.sent[0]
    assert sent.url.startswith(row.base_url or "https://customer.invalid/v1")
    header = "authorization" if row.auth == "bearer" else row.auth
    assert KEY in sent.secret_headers[header].reveal()


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-schl\u00fcssel", "\u201csk-a\u201d"])
async def test_a_key_that_no_header_can_hold_is_refused_by_the_name_of_its_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key with a line break or a quotation mark of a text editor's is told by where it stands, not by its header."""
    log = AuditLog.memory()
    monkeypatch.setenv("OPENAI_API_KEY", key)
    for given, where in ((None, "OPENAI_API_KEY"), (key, "that was given")):
        backend = get_backend("openai", model="m", api_key=given, transport=ScriptedTransport([]), audit=log)
        with pytest.raises(InvalidRequestError, match=f"the key {where} holds a line break") as caught:
            await backend.generate("Hi")
        assert key not in str(caught.value)
    assert _status(log) == []
