"""Every recorded exchange of the dialects we speak, replayed over HTTP through the public interface."""

from __future__ import annotations

import random
from collections import Counter
from importlib import import_module
from typing import Any

import pytest

import answers
import corpus
from corpus import Row
from loopback import Loopback, Play, Received, reply
from veyra import AuditLog, get_backend
from veyra.errors import ProviderError
from veyra.models.endpoints import ENDPOINTS, RESPONSES
from veyra.models.gate import Gate
from veyra.transport.base import Head
from veyra.types import ModelResponse
from veyra.wire.base import Dialect, Flags

_FRAMING = {"content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive"}


class Replay:
    """Answers each request with the row that is set, in pieces cut at places of a fixed chance."""

    def __init__(self) -> None:
        self.row: Row = {}
        self._random = random.Random(1)

    def __call__(self, request: Received) -> Play:
        """Return the play of the row."""
        body = corpus.body(self.row)
        headers = {name: value for name, value in corpus.headers(self.row).items() if name not in _FRAMING}
        cuts = [self._random.randrange(len(body) + 1) for _ in range(self._random.randrange(6))]
        pieces = corpus.pieces(body, cuts)
        return reply(self.row["response"]["status"], headers, pieces, chunked=corpus.streamed(self.row))


async def _ask(backend: Gate, *, stream: bool) -> ModelResponse:
    if not stream:
        return await backend.generate("Hi", model="m")
    async with backend.stream("Hi", model="m") as reading:
        async for _ in reading:
            pass
    return reading.response


def _expected(dialect: Dialect, row: Row, flags: Flags) -> answers.Answer | ProviderError:
    head = Head(row["response"]["status"], corpus.headers(row))
    if head.status >= 300:
        return dialect.failure(head, corpus.body(row), flags)
    try:
        return answers.run(dialect.decoder(head, flags, stream=corpus.streamed(row)), [corpus.body(row)])
    except ProviderError as error:
        return error


def _facts(error: ProviderError) -> tuple[Any, ...]:
    return type(error), error.status, error.provider_type, error.provider_code, error.request_id, error.retryable


def _place(row: Row) -> tuple[str, str | None] | None:
    """Return the backend, and where it has several the api, that a recorded exchange belongs to."""
    provider, endpoint = row["provider"], row["endpoint"]
    if endpoint == "messages":
        return "anthropic", None
    if (provider, endpoint) == ("ollama", "chat"):
        return "ollama", None
    if endpoint == "generate" and provider in {"gemini", "vertex"}:
        return "gemini", None
    name = "ollama-openai" if provider == "ollama" else str(provider)
    if endpoint in {"chat", "openai-chat"}:
        return (name if name in ENDPOINTS and name not in {"anthropic", "gemini"} else "openai-compatible"), None
    if endpoint == "responses":
        return (name if name in ENDPOINTS and "responses" in ENDPOINTS[name].apis else "openai"), "responses"
    return None


def _groups() -> dict[tuple[str, str | None], list[Row]]:
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in corpus.rows("*"):
        place = _place(row)
        if place is not None and row["response"].get("text") is not None:
            groups.setdefault(place, []).append(row)
    return groups


async def _compare(backend: Gate, row: Row, dialect: Dialect, flags: Flags) -> bool:
    """Ask, hold what comes against what the dialect alone makes of the bytes, and say whether it was an answer."""
    expected = _expected(dialect, row, flags)
    if isinstance(expected, ProviderError):
        with pytest.raises(type(expected)) as caught:
            await _ask(backend, stream=corpus.streamed(row))
        assert _facts(caught.value) == _facts(expected), row["id"]
        return False
    response = await _ask(backend, stream=corpus.streamed(row))
    finish = expected.finish
    assert response.content == expected.text, row["id"]
    assert response.reasoning == expected.reasoning, row["id"]
    assert (response.usage, response.tool_calls) == (finish.usage, finish.tool_calls), row["id"]
    assert (response.finish_reason, response.parts) == (finish.reason, finish.parts), row["id"]
    assert response.request_id == (finish.request_id or finish.response_id), row["id"]
    assert (response.response_id, response.model) == (finish.response_id, finish.model or "m"), row["id"]
    return True


@pytest.mark.timeout(180)
async def test_the_public_interface_says_what_the_wire_said() -> None:
    """Content, reasoning, calls, finish reason, usage, ids and errors come through the whole of Veyra unbent."""
    corpus.require()
    replay, counts = Replay(), Counter[tuple[str, str]]()
    async with Loopback(replay) as server:
        for (name, api), rows in _groups().items():
            log = AuditLog.memory()
            options: dict[str, Any] = {} if api is None else {"api": api}
            async with get_backend(name, api_key="sk-test-123", base_url=server.url, audit=log, **options) as backend:
                dialect, flags = _spoken(name, api)
                for row in rows:
                    replay.row = row
                    counts[name, "answers" if await _compare(backend, row, dialect, flags) else "errors"] += 1
            assert len(list(log.attempts())) == len(rows)
    told = {name: (counts[name, "answers"], counts[name, "errors"]) for name in sorted({name for name, _ in counts})}
    print(
        "\n".join(
            f"{name}: {a + e} recorded exchanges over HTTP, {a} answers, {e} errors" for name, (a, e) in told.items()
        )
    )
    assert sum(counts.values()) == len(server.requests) >= 3500


def _spoken(name: str, api: str | None) -> tuple[Dialect, Flags]:
    """Return the dialect and the flags of a backend, from its row."""
    row = ENDPOINTS[name]
    module, _, kind = (RESPONSES if api == "responses" else str(row.dialect)).partition(":")
    dialect = getattr(import_module(module), kind)()
    assert isinstance(dialect, Dialect)
    return dialect, row.flags
