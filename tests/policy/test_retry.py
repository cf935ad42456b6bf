"""What follows a failed attempt: bounds of the values and of the arithmetic (the table itself: tests/client)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.errors import AuditWriteError, InvalidRequestError, OverloadedError, RateLimitError
from veyra.policy.fallback import Fallback
from veyra.policy.retry import Again, Onward, Retry, Standing, Stop, decide
from veyra.types import ModelResponse


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": 2.0}, "attempts"),
        ({"base": -1}, "base"),
        ({"cap": float("inf")}, "cap"),
        ({"max_retry_after": float("nan")}, "max_retry_after"),
        ({"deadline": "10"}, "deadline"),
        ({"deadline": 0}, "deadline.* above 0, or None"),
        ({"ambiguous": "sometimes"}, "never, unstreamed, always"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, object], says: str) -> None:
    """A value of another type or out of range is an error that names it."""
    with pytest.raises(InvalidRequestError, match=says):
        Retry(**wrong)  # type: ignore[arg-type]


@given(tries=st.integers(1, 10_000), chance=st.floats(0, 1), base=st.floats(0, 1e6), cap=st.floats(0, 1e6))
def test_a_backoff_is_within_its_bounds(tries: int, chance: float, base: float, cap: float) -> None:
    """A drawn wait is never below 0 nor above the cap, however many tries there were."""
    retry = Retry(attempts=20_000, base=base, cap=cap)
    decision = decide(OverloadedError("no"), retry, Standing(tries=tries), chance)
    assert isinstance(decision, Again)
    assert 0 <= decision.delay <= cap


@given(asked=st.floats(-10, 1e9), remaining=st.none() | st.floats(-1, 1e3), others=st.booleans())
def test_no_wait_ends_after_the_deadline(asked: float, remaining: float | None, *, others: bool) -> None:
    """Whatever a provider asks for, the call does not wait beyond its deadline, nor longer than it may."""
    standing = Standing(tries=1, others=others, remaining=remaining)
    decision = decide(RateLimitError("no", retry_after=asked), Retry(), standing, 0.5)
    if isinstance(decision, Again):
        assert 0 <= decision.delay <= (8 if others else 60)
        assert remaining is None or decision.delay < remaining
    elif isinstance(decision, Onward):
        assert others
        assert remaining is None or remaining > 0


def test_an_error_of_the_log_is_never_tried_again() -> None:
    """What is no provider's error ends the call."""
    standing = Standing(tries=1, others=True)
    assert decide(AuditWriteError("full"), Retry(ambiguous="always"), standing, 0.0) == Stop()


def test_fallback_kinds_are_checked() -> None:
    """A kind that no error has would never be met, so it is refused, and a single one may be a string."""
    with pytest.raises(InvalidRequestError, match="'rate_limit'"):
        Fallback(on=("rate_limit",))
    wrong: Any
    for wrong in (3, None, [[]]):
        with pytest.raises(InvalidRequestError, match="takes the kinds"):
            Fallback(on=wrong)
    assert Fallback(on="quota").on == ("quota",)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_predicate_is_a_plain_function() -> None:
    """What cannot be called is refused, and so is what would have to be awaited: its coroutine would accept everything."""

    async def later(_: ModelResponse) -> bool:
        return False

    class Later:
        async def __call__(self, _: ModelResponse) -> bool:
            return False

    for wrong in (3, later, Later()):
        with pytest.raises(InvalidRequestError, match="accept"):
            Fallback(accept=wrong)  # type: ignore[arg-type]
    assert Fallback(accept=bool).accept is bool
