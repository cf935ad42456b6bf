"""The circuit: closed, open, half open, and what does not move it."""

from __future__ import annotations

import asyncio

import pytest

from veyra.errors import (
    AuditUnavailableError,
    AuthenticationError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
)
from veyra.policy.breaker import CLOSED, Breaker, Circuit, admitted, ended, passes

BREAKER = Breaker(failures=2, cooldown=10.0)
DOWN = ServerError("down")


def _opened() -> Circuit:
    once = ended(CLOSED, BREAKER, DOWN, 0.0, probe=False)
    assert passes(once, 0.0)
    return ended(once, BREAKER, DOWN, 1.0, probe=False)


def test_it_opens_after_failures_in_a_row() -> None:
    """So many faults in a row open it, for the cooldown."""
    circuit = _opened()
    assert not passes(circuit, 1.0)
    assert not passes(circuit, 10.9)
    assert passes(circuit, 11.0)


def test_one_probe_is_let_through() -> None:
    """After the cooldown one call passes; the next waits for what becomes of it."""
    probing = admitted(_opened())
    assert not passes(probing, 1e9)


def test_a_probe_that_ends_well_closes_it() -> None:
    """Then every call passes, and the count begins anew."""
    assert ended(admitted(_opened()), BREAKER, None, 12.0, probe=True) == CLOSED


def test_a_probe_that_fails_opens_it_again() -> None:
    """And the cooldown begins anew."""
    circuit = ended(admitted(_opened()), BREAKER, DOWN, 12.0, probe=True)
    assert not passes(circuit, 21.9)
    assert passes(circuit, 22.0)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), AuditUnavailableError("full"), GeneratorExit()])
def test_a_probe_that_says_nothing_leaves_its_place(error: BaseException) -> None:
    """A cancelled probe decides nothing: the next call is the probe."""
    assert passes(ended(admitted(_opened()), BREAKER, error, 12.0, probe=True), 12.0)


@pytest.mark.parametrize("error", [AuthenticationError("no"), RateLimitError("slow"), InvalidRequestError("no")])
def test_who_answers_is_well(error: Exception) -> None:
    """A refusal shows that the target is there."""
    once = ended(CLOSED, BREAKER, DOWN, 0.0, probe=False)
    assert ended(once, BREAKER, error, 0.0, probe=False) == CLOSED


def test_late_news_of_calls_from_before_do_not_move_an_open_circuit() -> None:
    """A call that began while the circuit was closed, and ends now, neither closes nor prolongs it."""
    circuit = _opened()
    assert ended(circuit, BREAKER, None, 5.0, probe=False) == circuit
    assert ended(circuit, BREAKER, DOWN, 5.0, probe=False) == circuit


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"failures": 1.5}, {"cooldown": -1}, {"cooldown": "30"}])
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    """A value of another type or out of range is an error that names it."""
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        Breaker(**wrong)  # type: ignore[arg-type]
