"""Budgets: the amounts they take, and the accounts that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra import Budget
from veyra.errors import InvalidRequestError
from veyra.policy.budget import Account, shown


@pytest.mark.parametrize(
    ("value", "amount"),
    [("2.50", "2.50"), (10, "10"), (Decimal("0.0001"), "0.0001"), ("0", "0"), ("1e3", "1000"), (" 5 ", "5")],
)
def test_amounts_are_kept_as_they_were_written(value: str | int | Decimal, amount: str) -> None:
    """A str, an int or a Decimal is taken as it is, and the amount is a Decimal."""
    budget = Budget(day=value)
    assert budget.amount("day") == Decimal(amount)
    assert budget.day == Decimal(amount)
    assert budget.amount("client") is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"day": 0.1}, "Budget(day=...) takes no float, for 0.1 of them is not a tenth: write day='0.1'"),
        ({"client": "much"}, "Budget(client=...) is an amount of US dollars, 0 or more ('2.50', say), not 'much'"),
        ({"client": "$5"}, "not '$5'"),
        ({"client": ""}, "not ''"),
        ({"run": "-1"}, "0 or more"),
        ({"run": -1}, "0 or more"),
        ({"key": "nan"}, "0 or more"),
        ({"key": Decimal("inf")}, "0 or more"),
        ({"key": "1e999999"}, "0 or more"),
        ({"key": "9" * 10_000}, "0 or more"),
        ({"key": 10**5000}, "0 or more"),
        ({"client": True}, "not bool"),
        ({"client": b"5"}, "not bytes"),
        ({"client": [5]}, "not list"),
        ({"unpriced": "ignore"}, "Budget(unpriced=...) is 'refuse' or 'allow', not 'ignore'"),
    ],
)
def test_a_wrong_value_is_named(values: Mapping[str, Any], words: str) -> None:
    """What is no amount is an error that names it, short, and says what to write."""
    with pytest.raises(InvalidRequestError) as caught:
        Budget(**values)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_budget_is_frozen_and_equal_by_its_amounts() -> None:
    """Two budgets of the same amounts are the same, however they were written."""
    assert Budget(day="1.0") == Budget(day=1) == Budget(day=Decimal("1.00"))
    with pytest.raises(AttributeError):
        Budget().day = "5"  # type: ignore[misc]


amounts = st.decimals(min_value=0, max_value=10**9, places=12, allow_nan=False)


@given(st.lists(st.tuples(amounts, amounts)))
def test_sums_are_exact(attempts: list[tuple[Decimal, Decimal]]) -> None:
    """What was reserved is given back to the last digit, and what was spent adds up, whatever the caller's own context is."""
    account = Account()
    with localcontext() as context:
        context.prec = 3
        for reserved, _ in attempts:
            account.reserve(reserved)
        for reserved, spent in attempts:
            account.settle(reserved, spent)
    assert account.reserved == 0
    with localcontext() as context:
        context.prec = 60
        assert account.spent == sum((spent for _, spent in attempts), Decimal(0))


def test_what_is_assumed_is_spent_and_told_apart() -> None:
    """A reservation that stays, as the cost is not known, is part of what is spent, and is known as assumed."""
    account = Account()
    account.reserve(Decimal(3))
    account.assume(Decimal(3))
    assert (account.spent, account.assumed, account.reserved) == (Decimal(3), Decimal(3), Decimal(0))


def test_there_is_room_up_to_the_limit() -> None:
    """What is spent, reserved and asked for may come to the limit and no further."""
    account = Account()
    account.settle(Decimal(0), Decimal("0.5"))
    account.reserve(Decimal("0.3"))
    assert account.has_room(Decimal("0.2"), Decimal(1))
    assert not account.has_room(Decimal("0.200000000000000000001"), Decimal(1))


def test_amounts_are_shown_in_full() -> None:
    """An amount is shown in dollars without an exponent or trailing zeros."""
    assert [shown(Decimal(text)) for text in ("1.500", "0.0000001", "1e3", "0")] == [
        "$1.5",
        "$0.0000001",
        "$1000",
        "$0",
    ]
