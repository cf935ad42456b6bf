"""A client made as settings say."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from veyra import Client, MockBackend, config
from veyra.client import preset
from veyra.errors import BudgetExceededError, ConfigError, InvalidRequestError, OverloadedError
from veyra.policy.breaker import Breaker
from veyra.policy.budget import Budget
from veyra.policy.fallback import Fallback
from veyra.policy.limits import Limits
from veyra.policy.retry import Retry


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write the file of settings that is read."""
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("VEYRA_CONFIG", str(path))

    def put(text: str) -> Path:
        path.write_text(text)
        config.reload()
        return path

    return put


async def test_a_client_of_no_target_asks_those_that_are_set(write: Callable[[str], Path]) -> None:
    """`Client()` asks the targets of the settings, in their order, and after them those of the fallback."""
    write(
        "[client]\ntargets = ['mock:a', 'mock:b']\nrouting = 'ordered'\n[client.fallback]\nto = ['mock:c']\non = ['server']\n"
    )
    async with Client(audit="memory") as client:
        assert repr(client) == "<Client of mock:a, mock:b, mock:c>"
        assert (await client.generate("hi")).model == "a"
    assert preset.route().fallback == Fallback(("mock:c",), on=("server",))
    async with Client("mock:own", audit="memory") as client:
        assert repr(client) == "<Client of mock:own>"
    async with Client(fallback="mock:d", audit="memory") as client:
        assert repr(client) == "<Client of mock:a, mock:b, mock:d>"


def test_without_targets_the_error_names_both_ways(write: Callable[[str], Path]) -> None:
    """A client without a target says that one is given or set."""
    write("")
    with pytest.raises(InvalidRequestError, match=r"Client\('openai:MODEL'\), say, or client\.targets in veyra\.toml"):
        Client()


def test_a_policy_is_made_of_the_fields_that_are_set(write: Callable[[str], Path]) -> None:
    """Each table makes its policy, the rest of which is as ever; without a table there is none."""
    write("")
    assert preset.policies() == preset.Policies(retry=None, breaker=None, limits=None, budget=None)
    assert preset.cache() is None
    write(
        "[client.retry]\nattempts = 5\n[client.breaker]\ncooldown = 1\n"
        "[client.limits]\nconcurrency = 2\n[client.budget]\nday = 2.5\n"
    )
    assert preset.policies() == preset.Policies(
        retry=Retry(attempts=5),
        breaker=Breaker(cooldown=1),
        limits=Limits(concurrency=2),
        budget=Budget(day=Decimal("2.5")),
    )


async def test_policies_that_are_set_hold_and_those_given_go_before(write: Callable[[str], Path]) -> None:
    """A client keeps to the settings' policies, and to its maker's where there are any."""
    write("[client.retry]\nattempts = 2\nbase = 0\n")

    async def tries(retry: Retry | None = None) -> int:
        mock = MockBackend([OverloadedError("busy")] * 3)
        async with Client(mock, audit="memory", retry=retry) as client:
            with pytest.raises(OverloadedError):
                await client.generate("hi")
        return len(mock.calls)

    assert await tries() == 2
    assert await tries(Retry(attempts=1)) == 1


async def test_a_budget_that_is_set_is_kept(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings allow to be spent is not overspent."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    write("[client.budget]\nclient = 0\nunpriced = 'refuse'\n")
    async with Client("openai:gpt-4o", audit="memory") as client:
        with pytest.raises(BudgetExceededError):
            await client.generate("hi")


async def test_a_cache_that_is_set_answers(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A cache is in memory, or in the directory that is set, and gives an answer again."""
    for text in ("max_entries = 10", "path = 'cache'\nttl = 60\nmax_bytes = 1000000"):
        write(f"[client.cache]\n{text}\n")
        mock = MockBackend()
        async with Client(mock, audit="memory") as client:
            assert (await client.generate("hi")).content == (await client.generate("hi")).content
        assert len(mock.calls) == 1
    assert (tmp_path / "cache").is_dir()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_bytes = 5", r"settings\.toml:2: client\.cache\.max_bytes goes with path"),
        ("path = 'x'\nmax_entries = 5", r"settings\.toml:3: client\.cache\.max_entries is of no use with path"),
    ],
)
def test_a_cache_takes_what_its_place_has(text: str, words: str, write: Callable[[str], Path]) -> None:
    """What bounds a cache in memory bounds none on disk, and the other way round: that is told by its line."""
    write(f"[client.cache]\n{text}\n")
    with pytest.raises(ConfigError, match=words):
        Client("mock")
