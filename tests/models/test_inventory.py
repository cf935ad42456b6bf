"""Lists of models and health checks: free, unrecorded, and never a generation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import virtual
from loopback import Loopback, Received, reply
from veyra import AuditLog, get_backend
from veyra.errors import (
    AuthenticationError,
    CallTimeoutError,
    ConnectionFailedError,
    MalformedResponseError,
    NotFoundError,
    ProviderError,
    RateLimitError,
)
from veyra.models.endpoints import ENDPOINTS
from veyra.models.gate import Gate
from veyra.models.listing import PAGE_LIMIT
from veyra.transport.script import Answer, Refuse, ScriptedTransport, Stall, Step

KEY = "sk-canary-0123456789"
JSON = {"content-type": "application/json"}
GENERATING = re.compile(r"chat|complet|generate|messages|responses|embed|predict|invoke")
"""What stands in the path of every route that makes a model work."""


def _answer(body: Any, status: int = 200) -> Answer:
    return Answer(status=status, headers=JSON, chunks=[json.dumps(body).encode()])


def _backend(name: str, *script: Step, **options: Any) -> tuple[Gate, ScriptedTransport, AuditLog]:
    transport = ScriptedTransport(script)
    log = AuditLog.memory()
    base_url = None if ENDPOINTS[name].base_url else "https://here.invalid/v1"
    options = {"api_key": KEY, "base_url": base_url, "transport": transport, "audit": log} | options
    return get_backend(name, **options), transport, log


PAGES: dict[str, list[tuple[str, Any]]] = {
    "openai": [("https://api.openai.com/v1/models", {"data": [{"id": "a"}, {"id": "b"}]})],
    "anthropic": [
        ("https://api.anthropic.com/v1/models?limit=1000", {"data": [{"id": "a"}], "has_more": True, "last_id": "a"}),
        ("https://api.anthropic.com/v1/models?limit=1000&after_id=a", {"data": [{"id": "b"}], "has_more": False}),
    ],
    "gemini": [
        (
            "https://generativelanguage.googleapis.com/v1beta/models?pageSize=1000",
            {"models": [{"name": "models/a"}], "nextPageToken": "t"},
        ),
        (
            "https://generativelanguage.googleapis.com/v1beta/models?pageSize=1000&pageToken=t",
            {"models": [{"name": "models/b"}]},
        ),
    ],
    "ollama": [("http://127.0.0.1:11434/api/tags", {"models": [{"model": "a"}, {"model": "b"}]})],
    "perplexity": [("https://api.perplexity.ai/v1/models", {"data": [{"id": "a"}, {"id": "b"}]})],
}


@pytest.mark.parametrize("name", PAGES)
async def test_all_pages_of_a_list_are_read_and_nothing_is_recorded(name: str) -> None:
    """Each provider's list is read to its end, with the key in its header, and the log stays empty."""
    backend, transport, log = _backend(name, *(_answer(body) for _, body in PAGES[name]))
    found = await backend.models()
    assert [model.id for model in found] == ["a", "b"]
    assert [request.url for request in transport.sent] == [url for url, _ in PAGES[name]]
    for request in transport.sent:
        assert (request.method, request.body) == ("GET", b"")
        assert any(KEY in secret.reveal() for secret in request.secret_headers.values())
        assert request.headers == ({"anthropic-version": "2023-06-01"} if name == "anthropic" else {})
    assert [entry for entry in log.entries() if entry.leaf["kind"].startswith("call.")] == []
    transport.assert_finished()


async def test_details_are_asked_for_where_there_are_more() -> None:
    """Ollama is asked once more for each model; a list that tells all is asked once."""
    shown = [{"capabilities": ["completion"]}, {"capabilities": ["embedding"]}]
    backend, transport, _ = _backend("ollama", _answer(PAGES["ollama"][0][1]), *map(_answer, shown))
    a, b = await backend.models(details=True)
    assert (a.capabilities["chat"], a.capabilities["embeddings"]) == (True, False)
    assert (b.capabilities["chat"], b.capabilities["embeddings"]) == (False, True)
    assert [json.loads(request.body) for request in transport.sent[1:]] == [{"model": "a"}, {"model": "b"}]
    backend, transport, _ = _backend("openai", _answer(PAGES["openai"][0][1]))
    assert len(await backend.models(details=True)) == 2
    assert len(transport.sent) == 1


async def test_a_list_without_an_end_is_an_error() -> None:
    """A server that passes over the cursor is asked so many times and no more."""
    page = _answer({"data": [{"id": "a"}], "has_more": True, "last_id": "a"})
    backend, transport, _ = _backend("anthropic", *[page] * (PAGE_LIMIT + 1))
    with pytest.raises(MalformedResponseError, match="goes on after"):
        await backend.models()
    assert len(transport.sent) == PAGE_LIMIT


async def test_the_last_page_that_is_read_may_be_the_last() -> None:
    """A list of exactly as many pages as are read is whole."""
    page = _answer({"data": [{"id": "a"}], "has_more": True, "last_id": "a"})
    backend, _, _ = _backend("anthropic", *[page] * (PAGE_LIMIT - 1), _answer({"data": [{"id": "z"}]}))
    assert len(await backend.models()) == PAGE_LIMIT


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (
            _answer({"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}}, 401),
            AuthenticationError,
        ),
        (_answer({"detail": "Not Found"}, 404), NotFoundError),
        (_answer({}, 429), RateLimitError),
        (Answer(status=200, headers=JSON, chunks=[f"not JSON, your key is {KEY}".encode()]), MalformedResponseError),
        (Refuse(), ConnectionFailedError),
    ],
)
async def test_a_list_that_cannot_be_had_is_an_error_without_the_key(step: Step, kind: type[ProviderError]) -> None:
    """Each way to fail has its class and names the provider; a key that is said back is masked."""
    backend, _, _ = _backend("openai", step)
    with pytest.raises(kind) as caught:
        await backend.models()
    assert caught.value.provider == "openai"
    assert KEY not in str(caught.value)


async def test_without_a_key_nothing_is_asked() -> None:
    """A backend that needs a key says which variable holds it."""
    backend, transport, _ = _backend("openai", api_key=None)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        await backend.models()
    assert transport.sent == []


def test_a_list_that_does_not_come_is_a_timeout() -> None:
    """A server that does not answer is waited for a minute."""

    async def main() -> None:
        backend, _, _ = _backend("openai", Stall())
        await backend.models()

    with pytest.raises(CallTimeoutError) as caught:
        virtual.run(main())
    assert (caught.value.phase, caught.value.limit) == ("total", 60.0)


async def test_a_list_over_http() -> None:
    """Over a real connection, pages share it."""

    def play(request: Received) -> Any:
        first = "after_id" not in request.target
        body = {"data": [{"id": "a" if first else "b"}], "has_more": first, "last_id": "a"}
        return reply(headers=JSON, body=json.dumps(body).encode())

    async with Loopback(play) as server:
        async with get_backend("anthropic", api_key=KEY, base_url=server.url, audit="off") as backend:
            assert [model.id for model in await backend.models()] == ["a", "b"]
        assert [request.headers["x-api-key"] for request in server.requests] == [KEY, KEY]


async def test_the_mock_lists_itself() -> None:
    """The mock has the one model it was made with."""
    (model,) = await get_backend("mock", model="m-1", audit="off").models()
    assert model.id == "m-1"
    assert model.capabilities == {"chat": True, "embeddings": True}


# ---------------------------------------------------------------------------------------------- health


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_health_check_never_generates(name: str) -> None:
    """Every backend's check is one GET without a body, to a route that no model works for, and leaves no record."""
    backend, transport, log = _backend(name, _answer({}))
    assert await backend.health_check()
    (request,) = transport.sent
    assert (request.method, request.body) == ("GET", b"")
    path = request.url.removeprefix(str(getattr(backend.backend, "base_url", "")))
    assert not GENERATING.search(path), path
    assert [entry for entry in log.entries() if entry.leaf["kind"].startswith("call.")] == []


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_nor_does_a_list_of_models(name: str) -> None:
    """No list, with details or without, goes to a route that makes a model work."""
    steps = [_answer({"data": [{"id": "a"}], "models": [{"name": "a"}]}), _answer({})]
    backend, transport, _ = _backend(name, *steps)
    await backend.models(details=True)
    for request in transport.sent:
        path = request.url.removeprefix(str(getattr(backend.backend, "base_url", "")))
        assert not GENERATING.search(path), path


async def test_a_health_check_over_http_asks_once() -> None:
    """What the server sees of a check is one GET, whether it answers or fails."""
    async with Loopback([reply(body=b"{}"), reply(500)]) as server:
        async with get_backend("ollama", base_url=server.url, audit="off") as backend:
            assert await backend.health_check()
            assert not await backend.health_check()
        assert [(request.method, request.target) for request in server.requests] == [("GET", "/api/version")] * 2
