"""Quick values are frozen dataclasses like any other, made sooner."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import KW_ONLY, FrozenInstanceError, asdict, dataclass, field, fields, replace
from inspect import signature, unwrap
from typing import Any

import pytest

from veyra.quick import quick
from veyra.transport.base import Outgoing
from veyra.types import AttemptRecord, Finish, ModelResponse, Receipt, Request, Usage


@quick
@dataclass(frozen=True, slots=True)
class Value:
    """Has fields of every kind."""

    first: int
    second: str = "two"
    _: KW_ONLY
    third: Mapping[str, int] = field(default_factory=dict)
    fourth: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Derived(Value):
    """Has one field more."""

    fifth: int = field(default=5, kw_only=True)


def test_fields_are_those_given_and_the_defaults() -> None:
    """Positional and keyword arguments, defaults and factories work as in any dataclass."""
    value = Value(1, third={"a": 1})
    assert (value.first, value.second, value.third, value.fourth) == (1, "two", {"a": 1}, ())
    assert Value(1).third == {}
    assert Value(1).third is not Value(1).third
    assert Value(first=1, second="x") == Value(1, "x")
    assert type(value) is Value


def test_a_value_does_not_change() -> None:
    """Neither its fields nor new ones can be set, and nothing can be deleted."""
    value = Value(1)
    with pytest.raises(FrozenInstanceError):
        value.first = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        delattr(value, "first")
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        value.other = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [(), (1, "two", {})])
def test_wrong_arguments_are_refused_in_the_usual_words(arguments: tuple[Any, ...]) -> None:
    """What is missing, or too much, is a TypeError that names `__init__`."""
    with pytest.raises(TypeError, match="__init__"):
        Value(*arguments)
    with pytest.raises(TypeError, match="nothing"):
        Value(1, nothing=2)  # type: ignore[call-arg]


def test_a_value_is_copied_replaced_pickled_and_shown() -> None:
    """All that works on dataclasses works on it."""
    value = Value(1, "x", third={"a": 1}, fourth=(4,))
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == replace(value) == value
    assert replace(value, first=2) == Value(2, "x", third={"a": 1}, fourth=(4,))
    assert asdict(value) == {"first": 1, "second": "x", "third": {"a": 1}, "fourth": (4,)}
    assert repr(value) == "Value(first=1, second='x', third={'a': 1}, fourth=(4,))"


def test_a_derived_class_is_made_as_dataclasses_are() -> None:
    """Its own fields are set, and it is frozen, too."""
    value = Derived(1, fourth=(4,), fifth=6)
    assert (value.first, value.third, value.fourth, value.fifth) == (1, {}, (4,), 6)
    assert type(value) is Derived
    with pytest.raises(FrozenInstanceError):
        value.fifth = 7  # type: ignore[misc]


@pytest.mark.parametrize("kind", [AttemptRecord, Finish, ModelResponse, Outgoing, Receipt, Request, Usage])
def test_what_a_call_is_made_of_is_made_the_same(kind: type[Any]) -> None:
    """With every argument given, and with as few as possible, both ways make the same value, by the same signature."""
    slowly = unwrap(kind.__init__)
    parameters = list(signature(slowly).parameters.values())[1:]
    assert signature(kind.__init__) == signature(slowly)
    for chosen in (parameters, [one for one in parameters if one.default is one.empty]):
        arguments = {one.name: f"value of {one.name}" for one in chosen}
        value, other = kind(**arguments), object.__new__(kind)
        slowly(other, **arguments)
        assert type(value) is kind
        assert [getattr(value, one.name) for one in fields(kind)] == [getattr(other, one.name) for one in fields(kind)]
