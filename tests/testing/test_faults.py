"""The public face of the faults: what is to be had there, and plans drawn from a seed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.errors import InvalidRequestError
from veyra.testing import faults
from veyra.transport import faults as vocabulary


def steps(
    count: int, *, seed: int = 7, rate: float = 1.0, choices: tuple[faults.Choice, ...] = faults.ENDING
) -> list[str]:
    """Return the first steps of a plan, as a script writes them."""
    return [
        str(step or faults.OK) for step in itertools.islice(faults.plan(seed=seed, rate=rate, choices=choices), count)
    ]


def test_a_plan_is_the_same_everywhere() -> None:
    """A seed draws these steps, on every run, machine and version of Python."""
    assert steps(12, rate=0.6) == [
        "ok",
        "ok",
        "spend-limit",
        "ok",
        "content-type",
        "ok",
        "reset",
        "invalid-json@event=2",
        "ok",
        "reset",
        "invalid-json",
        "cut@event=2",
    ]
    assert steps(8, choices=faults.KINDS) == [
        "stall@event=0",
        "duplicate@event=6",
        "spend-limit",
        "endless",
        "content-type",
        "stall@event=5",
        "reset",
        "split-utf8@seed=293861",
    ]


def test_the_rate_is_the_share_of_faults() -> None:
    """None go wrong at 0, all at 1, and about as many as was asked for in between."""
    assert set(steps(100, rate=0.0)) == {"ok"}
    assert "ok" not in steps(100)
    assert 0.15 < sum(step != "ok" for step in steps(2000, rate=0.2)) / 2000 < 0.25


@given(seed=st.integers(), rate=st.floats(0, 1))
def test_what_is_drawn_can_be_pasted_back(seed: int, rate: float) -> None:
    """Whatever is drawn prints and is read back as the same script."""
    drawn = tuple(itertools.islice(faults.plan(seed=seed, rate=rate, choices=faults.KINDS), 20))
    assert faults.parse_script(faults.print_script(drawn)) == drawn


def test_every_choice_is_drawn() -> None:
    """Each kind comes up, with its numbers drawn; a fault that is given comes as it is."""
    assert {step.partition("@")[0] for step in steps(2000, choices=faults.KINDS)} == {
        kind.name for kind in faults.KINDS
    }
    cuts = set(steps(200, choices=(faults.Cut,)))
    assert cuts == {f"cut@event={event}" for event in range(6)}
    assert set(steps(50, choices=(faults.Cut(byte=9), faults.Overloaded))) == {"cut@byte=9", "overloaded"}


def test_what_never_ends_is_drawn_where_it_is_asked_for() -> None:
    """A plan without choices holds nobody up."""
    endless = {"stall", "no-connection", "ping-only", "endless", "slow-head"}
    assert not endless & {step.partition("@")[0] for step in steps(2000)}


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    """The mistake shows when the plan is made, not with its first step."""
    with pytest.raises(InvalidRequestError, match="a number from 0 to 1"):
        faults.plan(seed=1, rate=rate)


def test_a_plan_needs_something_to_choose_from() -> None:
    """An empty choice is a mistake."""
    with pytest.raises(InvalidRequestError, match="at least one"):
        faults.plan(seed=1, rate=1.0, choices=())


def test_the_face_shows_the_whole_vocabulary() -> None:
    """Every kind of fault is to be had from `veyra.testing.faults`, and is the same there."""
    shown = {name: getattr(faults, name) for name in faults.__all__}
    assert {kind.__name__: kind for kind in vocabulary.KINDS}.items() <= shown.items()
