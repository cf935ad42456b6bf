from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]


def _told(veyra: Run) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in veyra("backends", "--json").stdout.splitlines()]
    return {row["name"]: row for row in rows}


def test_each_backend_is_listed_with_its_place(veyra: Run) -> None:
    """The built-in backends are there with dialect, address and the variable of their key, sorted by name."""
    told = _told(veyra)
    assert list(told) == sorted(told)
    assert {"anthropic", "mock", "ollama", "openai"} <= set(told)
    assert told["openai"] == {
        "name": "openai",
        "speaks": ["openai_chat", "openai_responses"],
        "where": "https://api.openai.com/v1",
        "key_variable": "OPENAI_API_KEY",
        "key_required": True,
        "key_from": None,
        "key_set": False,
        "address_set": False,
    }
    assert told["mock"]["where"] is None
    assert told["ollama"]["key_required"] is False
    assert told["ollama"]["speaks"] == ["ollama"]


def test_a_key_is_set_or_not_but_never_shown(veyra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a key is set is told; no part of it is."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-key-value")
    assert _told(veyra)["anthropic"]["key_set"] is True
    shown = veyra("backends").stdout
    assert "ANTHROPIC_API_KEY (set)" in shown
    assert "OPENAI_API_KEY (not set)" in shown
    assert "canary" not in shown


def test_the_address_is_the_one_that_would_be_asked(veyra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base URL from the environment is shown; one that is no address, and may hold a password, is not."""
    monkeypatch.setenv("OLLAMA_HOST", "10.0.0.7:11434")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:canary@host.invalid/v1")
    told = _told(veyra)
    assert told["ollama"]["where"] == "http://10.0.0.7:11434"
    assert told["openai"]["where"] == "nowhere: OPENAI_BASE_URL is not an address"
