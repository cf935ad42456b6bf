from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from veyra.models.mock import MockBackend
from veyra.models.registry import register_backend
from veyra.types import ModelInfo
from veyra.wire.listing import moment

Run = Callable[..., Result]


class _Several(MockBackend):
    async def models(self, *, details: bool = False) -> tuple[ModelInfo, ...]:
        known = ModelInfo(
            id="big",
            name="Big",
            created=moment(1700000000),
            owned_by="us",
            context_window=1_000_000,
            max_output=128_000 if details else None,
            capabilities={"chat": True, "tools": False, "image": True},
            lifecycle="deprecated",
            retires_at=moment("2026-11-30T00:00:00Z"),
        )
        return known, ModelInfo(id="old\x1b[31m", lifecycle="retired"), ModelInfo(id="small")


@pytest.fixture(autouse=True)
def _several() -> None:
    register_backend("several", _Several)


def test_models_are_listed_with_what_is_told(veyra: Run) -> None:
    """Limits, what a model can, and its end have a column each; what is not told is left empty, control codes show."""
    result = veyra("models", "-b", "several")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["MODEL", "READS", "WRITES", "CAN", "UNTIL"],
        ["big", "1,000,000", "chat,", "image", "2026-11-30"],
        ["old\N{SYMBOL FOR ESCAPE}[31m", "retired"],
        ["small"],
    ]


def test_details_are_asked_for(veyra: Run) -> None:
    """`--details` asks on."""
    assert "128,000" in veyra("models", "-b", "several", "--details").stdout


def test_json_has_one_object_for_each_model(veyra: Run) -> None:
    """Times are RFC 3339, what is not told is null."""
    first, _, last = (json.loads(line) for line in veyra("models", "-b", "several", "--json").stdout.splitlines())
    assert first == {
        "id": "big",
        "name": "Big",
        "created": "2023-11-14T22:13:20+00:00",
        "owned_by": "us",
        "context_window": 1_000_000,
        "max_output": None,
        "capabilities": {"chat": True, "tools": False, "image": True},
        "lifecycle": "deprecated",
        "retires_at": "2026-11-30T00:00:00+00:00",
    }
    assert last == dict.fromkeys(first) | {"id": "small", "capabilities": {}}


def test_the_backend_may_come_from_the_environment(veyra: Run, providers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """VEYRA_BACKEND names it, and without that it is the mock; an address may be given."""
    assert veyra("models").stdout.splitlines()[1].split()[0] == "mock"
    monkeypatch.setenv("VEYRA_BACKEND", "ollama")
    result = veyra("models", "--base-url", providers)
    assert result.stdout.splitlines()[1].split() == ["llama3.2:latest"]


def test_nothing_is_recorded(veyra: Run, attempts: Callable[[], list[object]]) -> None:
    """A list leaves no entry in the log."""
    veyra("models", "-b", "several")
    assert veyra("generate", "x", "--json").exit_code == 0
    assert len(attempts()) == 1


def test_a_list_that_cannot_be_had_ends_with_1(veyra: Run) -> None:
    """A server that is not there, or a missing key, is a failure with a hint."""
    result = veyra("models", "-b", "ollama", "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "Error:" in result.stderr
    result = veyra("models", "-b", "openai")
    assert result.exit_code == 1
    assert "OPENAI_API_KEY" in result.stderr


def test_an_unknown_backend_is_wrong_use(veyra: Run) -> None:
    """A name that is not known ends with 2."""
    assert veyra("models", "-b", "olama").exit_code == 2
