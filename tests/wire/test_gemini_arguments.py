"""Arguments of a call put together from places and values."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.wire.gemini_arguments import Arguments


def gather(*pieces: dict[str, Any]) -> Any:
    arguments = Arguments()
    for piece in pieces:
        arguments.add(piece)
    return json.loads(arguments.json())


def at(path: str, value: object) -> dict[str, Any]:
    kinds = {str: "stringValue", bool: "boolValue", type(None): "nullValue"}
    return {"jsonPath": path, kinds.get(type(value), "numberValue"): value}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], {}),
        ([at("$.a", "x")], {"a": "x"}),
        ([at("$.a", "x"), at("$.a", "y"), at("$.a", "")], {"a": "xy"}),
        ([at("$.a", "x"), at("$.b", "1"), at("$.a", "y")], {"a": "xy", "b": "1"}),
        (
            [at("$.a", 1), at("$.b", 0.5), {"jsonPath": "$.c", "boolValue": True}, at("$.d", None)],
            {"a": 1, "b": 0.5, "c": True, "d": None},
        ),
        ([{"jsonPath": "$.a", "nullValue": "NULL_VALUE"}], {"a": None}),
        ([at("$.a[0]", 1), at("$.a[1]", 2)], {"a": [1, 2]}),
        ([at("$.a[0].b", 1), at("$.a[0].c", 2), at("$.a[1].b", 3)], {"a": [{"b": 1, "c": 2}, {"b": 3}]}),
        ([at("$.a[0][0]", 1), at("$.a[0][1]", 2)], {"a": [[1, 2]]}),
        ([at("$['a b']['c.d']", 1), at('$["e"]', 2)], {"a b": {"c.d": 1}, "e": 2}),
        ([at(r"$['it\'s']", 1), at(r"$['b\\s']", 2)], {"it's": 1, "b\\s": 2}),
        ([at("$.größe", 1)], {"größe": 1}),
    ],
)
def test_pieces_find_their_place(pieces: list[dict[str, Any]], expected: Any) -> None:
    """Each value stands where its path says; text goes on where its path comes again."""
    assert gather(*pieces) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [{"stringValue": "x"}],
        [{"jsonPath": 3, "stringValue": "x"}],
        [{"jsonPath": "$.a"}],
        [{"jsonPath": "$.a", "numberValue": 1, "boolValue": True}],
        [at("", 1)],
        [at("$", 1)],
        [at("a", 1)],
        [at("$a", 1)],
        [at("$.", 1)],
        [at("$.a[", 1)],
        [at("$.a[-1]", 1)],
        [at("$.a[*]", 1)],
        [at("$..a", 1)],
        [at("$[0]", 1)],
        [at("$.a[1]", 1)],
        [at("$.a[999999999]", 1)],
        [at("$.a", 1), at("$.a.b", 1)],
        [at("$.a", 1), at("$['a']", 2)],
        [at("$.a.b", 1), at("$.a[0]", 1)],
        [at("$.a", 1), at("$.a", "x")],
    ],
)
def test_pieces_without_a_place(pieces: list[dict[str, Any]]) -> None:
    """A piece without a place or a value, and places that are not understood or contradict each other, are refused."""
    with pytest.raises(ValueError, match=re.compile("piece|place")):
        gather(*pieces)


_VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text("ab\"'\\.[é", max_size=4),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=3), inner, min_size=1),
    max_leaves=10,
)


def taken_apart(value: Any, path: str) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        named = [(re.sub(r"([\\'])", r"\\\1", key), inner) for key, inner in value.items()]
        return [piece for key, inner in named for piece in taken_apart(inner, f"{path}['{key}']")]
    if isinstance(value, list):
        return [piece for index, inner in enumerate(value) for piece in taken_apart(inner, f"{path}[{index}]")]
    if isinstance(value, str) and value:
        return [at(path, character) for character in value]
    return [at(path, value)]


@given(st.dictionaries(st.text(max_size=3), _VALUES))
def test_what_is_taken_apart_comes_together(value: dict[str, Any]) -> None:
    """Any object, taken apart into places and characters, comes together as it was."""
    assert gather(*taken_apart(value, "$")) == value
