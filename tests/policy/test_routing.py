"""The order in which targets are asked."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.errors import InvalidRequestError
from veyra.policy.routing import Candidate, arranged, check_order, smoothed

THREE = [Candidate("a", 1.0), Candidate("b", 2.0), Candidate("c", 7.0)]


def test_ordered_is_as_given() -> None:
    """Nothing is drawn."""
    assert arranged(THREE, "ordered", chances=()) == [0, 1, 2]


def test_weights_say_how_often_each_comes_first() -> None:
    """Over many draws each is first as often as its weight says."""
    draw = random.Random(1)
    first = [arranged(THREE, "weighted", chances=[draw.random() for _ in THREE])[0] for _ in range(20_000)]
    shares = [first.count(place) / len(first) for place in range(3)]
    assert shares == pytest.approx([0.1, 0.2, 0.7], abs=0.015)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_every_target_is_in_the_order_once(chances: list[float]) -> None:
    """Whatever is drawn, 0 and 1 included, nobody is left out."""
    assert sorted(arranged(THREE, "weighted", chances=chances)) == [0, 1, 2]


def test_the_quickest_comes_first_after_who_was_not_asked() -> None:
    """Latencies decide; a target without one is asked to have one."""
    three = [Candidate("a", latency=300.0), Candidate("b", latency=100.0), Candidate("c")]
    assert arranged(three, "least_latency", chances=(0.5, 0.5, 0.5)) == [2, 1, 0]


@pytest.mark.parametrize("order", ["weighted", "least_latency"])
def test_a_conversation_keeps_its_order(order: str) -> None:
    """Calls of one conversation go the same way, whatever is drawn; many conversations keep to the weights."""
    orders = {tuple(arranged(THREE, order, chances=(c, 0.5, 1 - c), conversation="x")) for c in (0.0, 0.3, 0.9)}  # type: ignore[arg-type]
    assert len(orders) == 1
    first = [arranged(THREE, "weighted", chances=(), conversation=f"chat {n}")[0] for n in range(5_000)]
    assert [first.count(place) / len(first) for place in range(3)] == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_without_a_target_a_conversation_moves_as_little_as_may_be() -> None:
    """Where a target is taken away, only the conversations that were at it go elsewhere."""
    for number in range(200):
        before = arranged(THREE, "weighted", chances=(), conversation=f"chat {number}")
        after = arranged(THREE[:2], "weighted", chances=(), conversation=f"chat {number}")
        assert after == [place for place in before if place != 2]


def test_the_mean_follows_slowly() -> None:
    """One slow answer does not decide."""
    assert smoothed(None, 100.0) == 100.0
    assert smoothed(100.0, 200.0) == pytest.approx(120.0)


def test_an_unknown_order_is_refused() -> None:
    """The error lists the words there are."""
    with pytest.raises(InvalidRequestError, match="ordered, weighted, least_latency, not 'fastest'"):
        check_order("fastest")
