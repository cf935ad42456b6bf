"""`veyra generate` with others to ask, retries and a budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from client.asked import Scripted
from veyra import config
from veyra.errors import AuthenticationError, ServerError
from veyra.models import registry
from veyra.models.mock import MockBackend
from veyra.models.registry import register_backend

Run = Callable[..., Result]
Attempts = Callable[[], list[dict[str, Any]]]
Register = Callable[..., MockBackend]


@pytest.fixture
def register() -> Register:
    """Register a backend under a name that answers as told, under any model's name."""

    def under(name: str, replies: Any = None) -> MockBackend:
        mock = MockBackend(replies)
        mock.name = name

        def make(model: str = "m") -> MockBackend:
            return mock.for_model(model)

        register_backend(name, make)
        return mock

    return under


def down(count: int) -> list[Exception | str]:
    """Return the replies of a server that is down, and then up; none asks for a wait."""
    return [*(ServerError("down", retry_after=0.0) for _ in range(count)), "up again"]


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_another_is_asked_where_the_first_fails(veyra: Run, register: Register, attempts: Attempts, how: str) -> None:
    """The answer is on standard output, what failed before on standard error, and both are on record."""
    register("first", [ServerError("down")])
    register("second", "hello")
    result = veyra("generate", "hi", "-b", "first", "-m", "a", "--fallback", "second:b", how)
    assert (result.exit_code, result.stdout) == (0, "hello\n")
    assert result.stderr == "veyra: attempt 1, at first:a, failed (server)\n"
    assert [(row["backend"], row["model"], row["status"]) for row in attempts()] == [
        ("first", "a", "error"),
        ("second", "b", "ok"),
    ]


def test_they_are_asked_in_their_order(veyra: Run, register: Register) -> None:
    """And where all fail, the last one's error is the one that is told, the others' before it."""
    for name in ("first", "second", "third"):
        register(name, [ServerError(f"{name} is down")])
    result = veyra("generate", "hi", "-b", "first", "--fallback", "second:b", "--fallback", "third:c")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[:3] == [
        "veyra: attempt 1, at first:m, failed (server)",
        "veyra: attempt 2, at second:b, failed (server)",
        "Error: third is down",
    ]


def test_retries_are_made_as_often_as_asked(veyra: Run, register: Register, attempts: Attempts) -> None:
    """By default none; what was tried before is said."""
    register("flaky", down(1))
    assert veyra("generate", "hi", "-b", "flaky").exit_code == 1
    register("flaky", down(2))
    result = veyra("generate", "hi", "-b", "flaky", "--retries", "2")
    assert (result.exit_code, result.stdout) == (0, "up again\n")
    assert [row["status"] for row in attempts()] == ["error", "error", "error", "ok"]
    assert result.stderr.count("failed (server)") == 2


def test_a_refusal_that_cannot_change_is_not_asked_again(veyra: Run, register: Register, attempts: Attempts) -> None:
    """`--retries` is how often at most."""
    register("closed", [AuthenticationError("no", status=401), "never"])
    result = veyra("generate", "hi", "-b", "closed", "--retries", "3")
    assert (result.exit_code, len(attempts())) == (1, 1)


def test_a_budget_refuses_what_could_cost_more(veyra: Run, attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and the refusal is on record."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    result = veyra("generate", "hi", "-b", "openai", "-m", "gpt-4o", "--max-tokens", "1000", "--budget", "0.000001")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "budget" in result.stderr
    assert "Hint: allow more with --budget, or shorter answers with --max-tokens" in result.stderr
    assert [row["status"] for row in attempts()] == ["blocked"]


def test_an_unknown_price_is_not_zero(veyra: Run) -> None:
    """A budget over calls whose price nobody knows cannot be kept, and that is said."""
    result = veyra("generate", "hi", "-b", "mock", "--budget", "1")
    assert result.exit_code == 1
    assert "no price is known" in result.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--budget", "much"), "'much' is no amount of US dollars"),
        (("--budget", "-1"), "'-1' is no amount of US dollars"),
        (("--retries", "-1"), "--retries"),
        (("--fallback", "openai"), "--fallback takes BACKEND:MODEL, not 'openai'"),
        (("--fallback", ":m"), "--fallback takes BACKEND:MODEL, not ':m'"),
        (("--fallback", "opnai:m"), "did you mean 'openai'"),
    ],
)
def test_wrong_values_are_refused(veyra: Run, attempts: Attempts, args: tuple[str, ...], says: str) -> None:
    """Status 2, a message that names what was wrong, and nothing asked."""
    result = veyra("generate", "hi", "-b", "mock", *args)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_piece_that_was_printed_is_the_last_word(veyra: Run, register: Register, attempts: Attempts) -> None:
    """After it nobody else is asked: two halves of two answers would make no whole."""
    cut = Scripted([ServerError("down")], name="first", after_text=True)
    register_backend("first", lambda: cut)
    register("second", "never")
    result = veyra("generate", "hi", "-b", "first", "--fallback", "second:b", "--retries", "2")
    assert (result.exit_code, result.stdout) == (1, "some \n")
    assert [row["backend"] for row in attempts()] == ["first"]


def test_health_asks_everybody(veyra: Run) -> None:
    """`--all` asks each backend that is known; -b beside it is a mistake."""
    result = veyra("health", "--all", "--timeout", "0.001", "--json")
    assert result.stdout.count("\n") == len(registry.list_backends())
    assert result.exit_code == 1
    wrong = veyra("health", "--all", "-b", "mock")
    assert wrong.exit_code == 2
    assert "--all asks every backend" in wrong.stderr


def test_how_often_is_asked_is_for_the_settings_to_say(
    veyra: Run, register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --retries the settings count, and who sets nothing asks once; with it, they do not."""
    settings = tmp_path / "veyra.toml"
    settings.write_text("client.retry.attempts = 3\n")
    register("first", down(2))
    assert veyra("generate", "hi", "-b", "first", "-m", "a").exit_code == 1
    monkeypatch.setenv("VEYRA_CONFIG", str(settings))
    config.reload()
    register("second", down(2))
    assert veyra("generate", "hi", "-b", "second", "-m", "a").stdout == "up again\n"
    register("third", down(2))
    assert veyra("generate", "hi", "-b", "third", "-m", "a", "--retries", "1").exit_code == 1


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put settings in force."""

    def put(text: str) -> None:
        path = tmp_path / "veyra.toml"
        path.write_text(text)
        monkeypatch.setenv("VEYRA_CONFIG", str(path))
        config.reload()

    return put


def test_an_option_leaves_the_rest_of_a_policy_to_the_settings(
    veyra: Run, register: Register, settings: Callable[[str], None]
) -> None:
    """`--budget` changes the amount alone, and `--retries` the number alone."""
    settings('client.budget.unpriced = "allow"\nclient.retry.deadline = 0.001\n')
    result = veyra("generate", "hi", "-b", "mock", "--budget", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    register("busy", [ServerError("down", retry_after=5.0), "too late"])
    result = veyra("generate", "hi", "-b", "busy", "--retries", "1")
    assert result.exit_code == 1
    assert "too late" not in result.stdout


def test_what_to_do_about_a_price_that_is_not_known(veyra: Run) -> None:
    """More money would not help."""
    result = veyra("generate", "hi", "-b", "mock", "--budget", "1")
    hint = 'Hint: leave --budget out, or set client.budget.unpriced = "allow" (VEYRA_CLIENT_BUDGET_UNPRICED=allow)\n'
    assert result.stderr.endswith(hint)
