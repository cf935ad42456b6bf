"""A client over HTTP: what the server saw, the attempts that are told, and the records are the same number."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

import virtual
from loopback import RESET, Loopback, Play, reply
from veyra import AuditLog, Client, Retry, get_backend
from veyra.errors import ConnectionFailedError, IncompleteStreamError, QuotaError, RateLimitError, VeyraError
from veyra.transport.script import Answer, ScriptedTransport
from veyra.types import ModelResponse

GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def _answer(value: object, status: int = 200, **headers: str) -> Play:
    return [
        *reply(body=json.dumps(value).encode(), status=status, headers={"content-type": "application/json", **headers})
    ]


def _refusal(kind: str, code: str, **headers: str) -> Play:
    return _answer({"error": {"message": "no", "type": kind, "code": code}}, 429, **headers)


async def _asked(
    plays: Sequence[Play], log: AuditLog, *, stream: bool = False, name: str = "openai"
) -> tuple[int, Any]:
    """Return how many requests the server saw, and the answer or error."""
    async with Loopback(plays) as server:
        target = get_backend(name, model="gpt-x", api_key="sk-test", base_url=f"{server.url}/v1", audit=log)
        async with Client(target, retry=Retry(base=0.001), chance=lambda: 1.0) as client:
            try:
                if stream:
                    async with client.stream("Hello") as r:
                        async for _ in r:
                            pass
                    end: Any = r.response
                else:
                    end = await client.generate("Hello")
            except VeyraError as error:
                end = error
        return len(server.requests), end


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("openai", 429, {"type": "insufficient_quota", "code": "insufficient_quota"}),
        ("openai", 429, {"type": "insufficient_quota", "code": "billing_hard_limit_reached"}),
        ("anthropic", 429, {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}),
        ("anthropic", 429, {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}}),
        ("anthropic", 402, {"type": "billing_error"}),
        ("openrouter", 402, {"code": 402}),
    ],
)
async def test_a_quota_is_asked_once(name: str, status: int, error: dict[str, Any], *, stream: bool) -> None:
    """Out of credit or over a spend limit: one request, one attempt, one record, though it is a 429 that says how to wait."""
    log = AuditLog.memory()
    refusal = _answer(
        {"type": "error", "error": {"message": "no", **error}}, status, **{"retry-after": "0", "x-should-retry": "true"}
    )
    requests, end = await _asked([refusal] * 3, log, stream=stream, name=name)
    assert isinstance(end, QuotaError)
    assert (requests, len(end.attempts), len(list(log.attempts()))) == (1, 1, 1)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:20 GMT", "date": "Tue, 14 Nov 2023 22:13:30 GMT"}, 0.0),
        ({"retry-after": "60"}, 60.0),
        ({"retry-after": "61"}, None),
        ({"retry-after": "9999"}, None),
        ({"retry-after": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529, 500])
def test_the_wait_is_the_one_that_was_asked_for(headers: dict[str, str], wait: float | None, status: int) -> None:
    """Seconds, milliseconds or a date, up to a minute; a longer one is not waited for; where none is named one is drawn."""
    refusal = Answer(status=status, headers=headers, chunks=[b'{"error": {"message": "no"}}'])
    good = Answer(chunks=[json.dumps(GOOD).encode()])
    transport = ScriptedTransport([refusal, good])

    async def ask() -> tuple[float, Any]:
        target = get_backend("groq", model="gpt-x", api_key="sk-test", transport=transport)
        async with Client(target, audit="memory", chance=lambda: 1.0) as client:
            (end,) = await asyncio.gather(client.generate("Hello"), return_exceptions=True)
        return asyncio.get_running_loop().time(), end

    waited, end = virtual.run(ask())
    assert len(transport.sent) == len(end.attempts) == (1 if wait is None else 2)
    assert waited == pytest.approx(wait or 0.0)
    assert isinstance(end, VeyraError if wait is None else ModelResponse)


async def test_requests_attempts_and_records_are_the_same_number() -> None:
    """Two rate limits, a broken connection that was never answered, and what follows: nothing is sent twice in between."""
    log = AuditLog.memory()
    slow = _refusal("requests", "rate_limit_exceeded", **{"retry-after-ms": "1"})
    requests, end = await _asked([slow, slow, _answer(GOOD)], log)
    assert [attempt.error for attempt in end.attempts] == ["rate_limited", "rate_limited", None]
    assert (requests, len(list(log.attempts()))) == (3, 3)

    log = AuditLog.memory()
    requests, end = await _asked([slow] * 9, log)
    assert isinstance(end, RateLimitError)
    assert (requests, len(end.attempts), len(list(log.attempts()))) == (3, 3, 3)

    log = AuditLog.memory()
    requests, end = await _asked([[RESET], [RESET], [RESET]], log)
    assert isinstance(end, ConnectionFailedError)
    assert (requests, len(end.attempts), len(list(log.attempts()))) == (3, 3, 3)
    assert all(attempt.ambiguous for attempt in end.attempts)


async def test_a_cut_stream_is_not_asked_again() -> None:
    """The caller has seen the beginning: the error carries it, and there was one request."""
    piece = {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "gpt-x",
        "choices": [{"index": 0, "delta": {"content": "Hi"}}],
    }
    body = f"data: {json.dumps(piece)}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
    log = AuditLog.memory()
    requests, end = await _asked([[head + body, RESET]] * 3, log, stream=True)
    assert isinstance(end, IncompleteStreamError)
    assert (requests, end.partial, len(list(log.attempts()))) == (1, "Hi", 1)


async def test_a_fallback_over_http_is_asked_once_for_each_attempt() -> None:
    """Whatever fails in whatever way at two providers: each saw as many requests as there are attempts and records of it."""
    log = AuditLog.memory()
    down = [_answer({"error": {"message": "no"}}, status) for status in (500, 529, 503)]
    async with Loopback(down) as first, Loopback([[RESET], _answer(GOOD)]) as second:
        urls = {"groq": first.url, "openrouter": second.url}
        targets = [
            get_backend(name, model="gpt-x", api_key="sk-test", base_url=f"{url}/v1") for name, url in urls.items()
        ]
        async with Client(targets[0], fallback=targets[1:], retry=Retry(base=0.0), audit=log) as client:
            end = await client.generate("Hello")
        seen = [len(server.requests) for server in (first, second)]
    asked = [attempt.backend for attempt in end.attempts]
    assert asked == ["groq"] * 3 + ["openrouter"] * 2
    assert seen == [3, 2]
    assert [row.backend for row in log.attempts()] == asked
