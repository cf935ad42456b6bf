"""A client over HTTP: what the server saw, the attempts that are told, and the records are the same number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from loopback import RESET, Loopback, Play, reply
from veyra import AuditLog, Client, Retry, get_backend
from veyra.errors import ConnectionFailedError, IncompleteStreamError, QuotaError, RateLimitError, VeyraError

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


async def _asked(plays: Sequence[Play], log: AuditLog, *, stream: bool = False) -> tuple[int, Any]:
    """Return how many requests the server saw, and the answer or error."""
    async with Loopback(plays) as server:
        target = get_backend("openai", model="gpt-x", api_key="sk-test", base_url=f"{server.url}/v1", audit=log)
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
    ("kind", "code"),
    [
        ("insufficient_quota", "insufficient_quota"),
        ("insufficient_quota", "billing_hard_limit_reached"),
    ],
)
async def test_a_quota_is_asked_once(kind: str, code: str, *, stream: bool) -> None:
    """Out of credit or over a spend limit: one request, one attempt, one record, although it is a 429."""
    log = AuditLog.memory()
    requests, end = await _asked([_refusal(kind, code, **{"retry-after": "1"})] * 3, log, stream=stream)
    assert isinstance(end, QuotaError)
    assert (requests, len(end.attempts), len(list(log.attempts()))) == (1, 1, 1)


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
