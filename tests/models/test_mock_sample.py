"""Values made up from a schema."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from veyra.errors import InvalidRequestError
from veyra.models.mock_sample import sample
from veyra.schema import json_schema, parse


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Node:
    name: Annotated[str, msgspec.Meta(min_length=9)]
    children: list[Node]
    parent: Node | None
    kind: Literal["a", "b", "c"]
    colour: Colour
    at: dt.datetime
    day: dt.date
    hour: dt.time
    lasts: dt.timedelta
    price: decimal.Decimal
    id: uuid.UUID
    count: Annotated[int, msgspec.Meta(gt=3, le=7)]
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    pair: tuple[int, str]
    several: Annotated[set[int], msgspec.Meta(min_length=3)]
    free: dict[str, int]
    data: bytes
    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}$")]
    anything: Any
    optional: int = 5


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: list[str]


class Order(TypedDict):
    number: int
    note: NotRequired[str]


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=3, max_length=4)
    price: decimal.Decimal
    at: dt.datetime
    amount: int = pydantic.Field(gt=10, multiple_of=4)
    link: pydantic.AnyUrl
    choice: Literal["x"] | int
    share: float = pydantic.Field(gt=0.2, lt=0.9)
    later: Model | None = None


@pytest.mark.parametrize("kind", [Node, Cat | Dog, Order, Model, list[Model], int | None, Colour, dict[str, Node], str])
@pytest.mark.parametrize("seed", ["", "1", "2", "3"])
def test_what_is_made_up_is_of_the_type(kind: Any, seed: str) -> None:
    """The value is read into the type it was made up for, and is the same when made again."""
    text = sample(kind, seed=seed)
    parse(kind, text)
    assert sample(kind, seed=seed) == text


def test_the_value_is_small() -> None:
    """What may be left out is left out, lists are short, a text is a word."""
    value = json.loads(sample(Node, seed="1"))
    assert "optional" not in value
    assert value["children"] == []
    assert value["free"] == {}
    assert len(value["several"]) == 3


def test_null_is_the_last_choice() -> None:
    """Where a value or nothing may stand, a value does."""
    assert "null" not in {sample(int | None, seed=str(seed)) for seed in range(20)}
    assert {sample(Literal["a", "b"] | None, seed=str(seed)) for seed in range(20)} == {'"a"', '"b"'}


_NAMES = st.sampled_from(["a", "b", "c"])
_LEAVES = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.just({}),
    st.builds(
        lambda a, n: {"type": "integer", "minimum": a, "maximum": a + n}, st.integers(-50, 50), st.integers(0, 9)
    ),
    st.builds(lambda a: {"type": "integer", "exclusiveMinimum": a}, st.floats(-50, 50)),
    st.builds(lambda a: {"type": "integer", "exclusiveMaximum": a}, st.integers(-50, 50)),
    st.builds(lambda a, m: {"type": "integer", "minimum": a, "multipleOf": m}, st.integers(-50, 50), st.integers(1, 9)),
    st.builds(lambda a: {"type": "number", "exclusiveMinimum": a, "exclusiveMaximum": a + 1}, st.floats(-50, 50)),
    st.builds(
        lambda a, n: {"type": "string", "minLength": a, "maxLength": a + n}, st.integers(0, 30), st.integers(0, 9)
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text() | st.none(), min_size=1)),
    st.builds(lambda value: {"const": value}, st.integers() | st.text()),
    st.sampled_from(["date", "date-time", "time", "uuid", "email", "uri", "ipv4", "ipv6", "hostname", "duration"]).map(
        lambda form: {"type": "string", "format": form}
    ),
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required, closed: {
            "type": "object",
            "properties": properties,
            "required": sorted(required),
            **({"additionalProperties": False} if closed and set(required) <= set(properties) else {}),
        },
        st.dictionaries(_NAMES, inner, max_size=3),
        st.sets(_NAMES, max_size=3),
        st.booleans(),
    )


_SCHEMAS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        st.builds(lambda item, n: {"type": "array", "items": item, "minItems": n}, inner, st.integers(0, 3)),
        st.builds(lambda items: {"type": "array", "prefixItems": items, "items": False}, st.lists(inner, max_size=3)),
        st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one, other: {"allOf": [one, other]}, _objects(_LEAVES), st.just({"type": "object"})),
        st.just({"$ref": "#/$defs/x"}),
    ),
    max_leaves=8,
)


@given(_SCHEMAS, st.text())
def test_what_is_made_up_is_what_the_schema_says(schema: dict[str, Any], seed: str) -> None:
    """Another reader of schemas finds nothing wrong with the value."""
    schema = schema | {"$defs": {"x": {"type": "integer"}}}
    value = json.loads(sample(schema, seed=seed))
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "string", "pattern": "^zzz$"}, r"\$: no text that the mock knows fits \^zzz\$; script the reply"),
        ({"type": "string", "pattern": "("}, "is no pattern that Python knows"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "refers to itself without end"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}, "required": ["b"]}}},
            r"\$.b: the schema refers to itself without end",
        ),
        ({"$ref": "#/nowhere"}, "which is not in it"),
        ({"$ref": "https://example.com/schema"}, "which is not in it"),
        ({"type": "array", "minItems": 10**9}, "1,000,000,000 is more than the 100,000"),
        ({"type": "string", "minLength": 10**10}, "10,000,000,000 is more than"),
        ({"type": "wide"}, "'wide' is no type of JSON"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no number within the bounds"),
        ({"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": "boolean"}}, "not 3 different items"),
        ({"properties": {"a": False}, "required": ["a"]}, r"\$.a: the schema allows nothing"),
        ({"anyOf": [{"type": "wide"}, {"type": "string", "pattern": "zzz"}]}, "no type of JSON|no text"),
    ],
)
def test_what_cannot_be_made_up_is_told(schema: dict[str, Any], complaint: str) -> None:
    """The message names the place, says why, and what to do."""
    with pytest.raises(InvalidRequestError, match=complaint):
        sample(schema, seed="")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": 5},
        {"type": "object", "required": ["a"], "properties": [1]},
        {"type": "array", "minItems": "x"},
        {"type": "array", "minItems": 1.5},
        {"type": "string", "pattern": 5},
        {"type": "integer", "minimum": "a"},
        {"type": "integer", "multipleOf": 0},
        {"type": "number", "minimum": 10**400},
        {"type": ["integer", {}]},
        {"type": {"a": 1}},
        {"enum": 5},
        {"anyOf": 5},
        {"allOf": 5},
        {"$ref": 5},
    ],
)
def test_what_is_no_schema_is_told(schema: dict[str, Any]) -> None:
    """A keyword with a value of another kind than it has is an error of whoever sent the schema, or does no harm."""
    try:
        made = sample(schema, seed="")
    except InvalidRequestError as error:
        assert "the mock cannot make up what was asked for" in error.message  # noqa: PT017  (some are made up)
    else:
        json.loads(made)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "array", "minItems": 90_000, "items": {"type": "integer"}},
        {"type": "string", "minLength": 90_000},
        {"const": ["x"] * 1_000},
    ],
)
def test_a_value_without_measure_is_refused(item: dict[str, Any]) -> None:
    """Bounds that are harmless one by one do not multiply to a value that fills the memory."""
    with pytest.raises(InvalidRequestError, match="larger than the 1,048,576 characters that are made up"):
        sample({"type": "array", "minItems": 90_000, "items": item}, seed="")


def test_a_deep_schema_is_refused_and_not_followed_for_ever() -> None:
    """A schema nested beyond all reason ends in an error of ours."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(900):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    with pytest.raises(InvalidRequestError):
        sample(schema, seed="")


def test_the_schema_is_left_as_it_was() -> None:
    """Making up a value changes nothing in the schema."""
    schema = json_schema(Node)
    before = json.dumps(schema)
    sample(schema, seed="x")
    assert json.dumps(schema) == before
