"""Every recorded exchange of the three providers, replayed over HTTP through the public interface."""

from __future__ import annotations

import random
from typing import Any

import pytest

import answers
import corpus
from corpus import Row
from loopback import Loopback, Play, Received, reply
from veyra import AuditLog, get_backend
from veyra.errors import ProviderError
from veyra.models.gate import Gate
from veyra.transport.base import Head
from veyra.types import ModelResponse
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat

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


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "dialect", "endpoint", "root", "least"),
    [
        ("openai", OpenAIChat(), ("openai", "chat"), "/v1", 500),
        ("anthropic", Anthropic(), ("anthropic", "messages"), "", 700),
        ("ollama", Ollama(), ("ollama", "chat"), "", 50),
    ],
)
async def test_the_public_interface_says_what_the_wire_said(
    name: str, dialect: Dialect, endpoint: tuple[str, str], root: str, least: int
) -> None:
    """Content, reasoning, calls, finish reason, usage, ids and errors come through the whole of Veyra unbent."""
    rows = [row for row in corpus.rows(f"{name}-*") if (row["provider"], row["endpoint"]) == endpoint]
    replay, log = Replay(), AuditLog.memory()
    async with Loopback(replay) as server:
        backend = get_backend(name, api_key="sk-test-123", base_url=server.url + root, audit=log)
        async with backend:
            for row in rows:
                replay.row = row
                expected = _expected(dialect, row, Flags(provider=name))
                if isinstance(expected, ProviderError):
                    with pytest.raises(type(expected)) as caught:
                        await _ask(backend, stream=corpus.streamed(row))
                    assert _facts(caught.value) == _facts(expected), row["id"]
                    continue
                response = await _ask(backend, stream=corpus.streamed(row))
                finish = expected.finish
                assert response.content == expected.text, row["id"]
                assert response.reasoning == expected.reasoning, row["id"]
                assert (response.usage, response.tool_calls) == (finish.usage, finish.tool_calls), row["id"]
                assert (response.finish_reason, response.parts) == (finish.reason, finish.parts), row["id"]
                assert response.request_id == (finish.request_id or finish.response_id), row["id"]
                assert (response.response_id, response.model) == (finish.response_id, finish.model or "m"), row["id"]
    statuses = [row.status for row in log.attempts()]
    assert len(rows) == len(server.requests) == len(statuses) >= least
    print(f"{name}: {len(rows)} recorded exchanges over HTTP, {statuses.count('ok')} answers, the rest errors")
