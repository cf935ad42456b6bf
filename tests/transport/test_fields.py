"""JSON values compared field by field, and how a difference is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.transport.fields import NOTHING, SHOWN, Difference, differences

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int, inside: object) -> object:
    for _ in range(depth):
        inside = [inside]
    return inside


@given(_json)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    """Equal values have no differences."""
    assert list(differences(value, value)) == []


@given(_json, _json)
def test_what_differs_has_a_difference(one: Any, other: Any) -> None:
    """Values that are not equal differ in at least one field, and the same ones whichever comes first."""
    found = [(found.field, found.one, found.other) for found in differences(one, other)]
    assert bool(found) or one == other
    assert sorted(map(repr, found)) == sorted(
        repr((back.field, back.other, back.one)) for back in differences(other, one)
    )


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (1, 1.0, []),
        (1, True, [("value", 1, True)]),
        (0, None, [("value", 0, None)]),
        ({"a": 1, "b": 2}, {"b": 3, "a": 1}, [("b", 2, 3)]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}}, [("a.b[1]", 2, 3), ("a.b[2]", NOTHING, 4)]),
        ({"a": None}, {}, [("a", None, NOTHING)]),
        ([], {}, [("value", [], {})]),
        ((1, 2), [1, 2], []),
        ({"b": 1, "a": 1}, {"c": 1}, [("b", 1, NOTHING), ("a", 1, NOTHING), ("c", NOTHING, 1)]),
    ],
)
def test_the_innermost_fields_are_named(one: Any, other: Any, found: list[tuple[str, Any, Any]]) -> None:
    """A difference is told where it is, in the order of the first value; an absent field is not null."""
    assert [(each.field, each.one, each.other) for each in differences(one, other)] == found


def test_a_value_of_any_depth_is_compared() -> None:
    """Values that are nested deeper than Python calls are compared, and said to be too deep to show."""
    (found,) = differences(nested(5_000, 1), nested(5_000, 2))
    assert (found.field, found.one, found.other) == ("[0]" * 5_000, 1, 2)
    shown = Difference("x", nested(100_000, 1), 1).describe("was", "is")
    assert shown == "x: was a value that is nested too deeply to show, is 1"


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("a", 1, 'f: was "a", is 1'),
        (NOTHING, None, "f: was nothing, is null"),
        (b"1234", {"é": "\n"}, 'f: was "4 bytes", is {"é": "\\n"}'),
        ("x" * 100, "x" * 100 + "y", f'f: was …{"x" * (SHOWN - 1)}", is …{"x" * (SHOWN - 2)}y"'),
        ("a" + "x" * 100, "b", f'f: was "a{"x" * (SHOWN - 2)}…, is "b"'),
        ("x" * 200 + "a" + "y" * 200, "x" * 200 + "b", f'f: was …{"x" * 16}a{"y" * 47}…, is …{"x" * 62}b"'),
    ],
)
def test_long_values_are_cut_around_where_they_differ(one: Any, other: Any, shown: str) -> None:
    """A description is one line, shows where the values begin to differ, and no more than is needed."""
    assert Difference("f", one, other).describe("was", "is") == shown
