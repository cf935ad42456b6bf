from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from click.testing import Result

from veyra.models.mock import MockBackend
from veyra.models.registry import register_backend

Run = Callable[..., Result]


class _Stuck(MockBackend):
    async def health_check(self) -> bool:
        await asyncio.Event().wait()
        return True


def test_healthy_backends_end_with_0(veyra: Run, providers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one asked is told healthy, and the status is 0."""
    monkeypatch.setenv("OLLAMA_HOST", providers)
    result = veyra("health", "-b", "mock", "-b", "ollama")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [["mock", "healthy"], ["ollama", "healthy"]]


def test_one_that_is_not_healthy_ends_with_1(veyra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that cannot serve gives status 1 and what is known of the reason."""
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    register_backend("ill", lambda: MockBackend(healthy=False))
    result = veyra(
        "health", "-b", "mock", "-b", "ollama", "-b", "openai", "-b", "openai-compatible", "-b", "ill", "--json"
    )
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"name": "mock", "healthy": True, "reason": None},
        {"name": "ollama", "healthy": False, "reason": "no success from http://127.0.0.1:9"},
        {"name": "openai", "healthy": False, "reason": "no key: set OPENAI_API_KEY"},
        {"name": "openai-compatible", "healthy": False, "reason": "no address"},
        {"name": "ill", "healthy": False, "reason": None},
    ]


def test_one_that_does_not_answer_is_not_waited_for(veyra: Run) -> None:
    """After the timeout a backend counts as not healthy."""
    register_backend("stuck", _Stuck)
    result = veyra("health", "-b", "stuck", "--timeout", "0.05")
    assert result.exit_code == 1
    assert "no answer within 0.05 s" in result.stdout


def test_by_default_those_that_are_meant_to_be_used_are_asked(
    veyra: Run, providers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked are the backends whose key or address is set and the mock; with VEYRA_BACKEND that one alone."""
    monkeypatch.setenv("OLLAMA_HOST", providers)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{providers}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "some-key")

    def names() -> list[str]:
        return [json.loads(line)["name"] for line in veyra("health", "--json").stdout.splitlines()]

    assert names() == ["mock", "ollama", "openai"]
    monkeypatch.setenv("VEYRA_BACKEND", "mock")
    assert names() == ["mock"]


def test_an_unknown_backend_is_wrong_use(veyra: Run) -> None:
    """A name that is not known ends with 2 and lists near ones."""
    result = veyra("health", "-b", "olama")
    assert result.exit_code == 2
    assert "'ollama'" in result.stderr
