from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, make_dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, Literal, NotRequired, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veyra.errors import InvalidRequestError, MalformedResponseError
from veyra.schema import function_schema, json_schema, parse, strict_schema

V = TypeVar("V")


class Currency(Enum):
    EUR = "eur"
    USD = "usd"


@dataclass
class Item:
    """A thing on the bill."""

    name: Annotated[str, "what it is called"]
    price: int
    currency: Currency = Currency.EUR


@dataclass
class Bill:
    items: list[Item]
    note: str | None = None
    count: int = 1


class Address(TypedDict):
    city: Annotated[str, "the city"]
    zip: NotRequired[Annotated[str, "the postal code"]]


class Point(msgspec.Struct, rename="camel"):
    left_edge: Annotated[int, "from the left"]
    top: Annotated[int, msgspec.Meta(ge=0, description="from the top")] = 0


@dataclass
class Box(Generic[V]):
    content: Annotated[V, "what is in it"]


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    name: str


@dataclass
class Node:
    value: int
    next: Node | None = None


class InvalidError(ValueError):
    """Stands in for pydantic's error: a ValueError that lists what was found."""

    def errors(self) -> list[dict[str, Any]]:
        return [{"loc": ("n", 0), "msg": "Input should be a valid integer"}]


@dataclass
class Row:
    when: dt.date
    sum: Decimal


class Model:
    """Stands in for a pydantic model: what is known of one is its two methods."""

    definition: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "inner": {"$ref": "#/$defs/Inner"}},
        "required": ["n"],
        "$defs": {"Inner": {"type": "string"}},
    }

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        return dict(cls.definition)

    @classmethod
    def model_validate(cls, data: Any) -> Model:
        if not isinstance(data, dict) or not isinstance(data.get("n"), int):
            raise InvalidError
        return cls(data["n"])


class Tree(Model):
    """Stands in for a pydantic model that refers to itself, as pydantic describes one."""

    definition: ClassVar[dict[str, Any]] = {
        "$ref": "#/$defs/Tree",
        "$defs": {"Tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}}}},
    }


class OtherInner(Model):
    definition: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}, "$defs": {"Inner": {"type": "null"}}}


@dataclass
class Holder:
    models: list[Model]


# ---------------------------------------------------------------------------------------------- describing


def test_a_dataclass_is_an_object_at_the_root() -> None:
    """The schema of a dataclass has its fields at the root, its nested types as definitions, defaults as optional."""
    assert json_schema(Bill) == {
        "title": "Bill",
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "count": {"type": "integer", "default": 1},
        },
        "required": ["items"],
        "$defs": {
            "Item": {
                "title": "Item",
                "description": "A thing on the bill.",
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "what it is called"},
                    "price": {"type": "integer"},
                    "currency": {"$ref": "#/$defs/Currency", "default": "eur"},
                },
                "required": ["name", "price"],
            },
            "Currency": {"title": "Currency", "enum": ["eur", "usd"]},
        },
    }


def test_a_typed_dict_keeps_what_is_not_required_optional() -> None:
    """A TypedDict's fields are described, and those not required are not."""
    assert json_schema(Address) == {
        "title": "Address",
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city"},
            "zip": {"type": "string", "description": "the postal code"},
        },
        "required": ["city"],
    }


def test_a_struct_is_described_under_its_names_in_json() -> None:
    """A Struct that renames its fields is described, and read, under the new names."""
    schema = json_schema(Point)
    assert schema["properties"]["leftEdge"] == {"type": "integer", "description": "from the left"}
    assert schema["properties"]["top"]["description"] == "from the top"
    assert parse(Point, '{"leftEdge": 3}') == Point(3)


def test_a_generic_class_is_described() -> None:
    """A parametrized dataclass has the schema of its parameter, and its descriptions."""
    assert json_schema(Box[int])["properties"] == {"content": {"type": "integer", "description": "what is in it"}}


def test_a_class_that_refers_to_itself_keeps_its_definition() -> None:
    """A recursive type has its fields at the root and stays a definition for its own references."""
    schema = json_schema(Node)
    assert schema["type"] == "object"
    assert schema["$defs"]["Node"]["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/Node"}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (int, {"type": "integer"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Any, {}),
        (Currency, {"title": "Currency", "enum": ["eur", "usd"]}),
    ],
)
def test_builtin_types_have_their_schema(kind: Any, schema: dict[str, Any]) -> None:
    """Builtin containers, literals, enumerations and optionals are described as JSON Schema has them."""
    assert json_schema(kind) == schema


def test_a_schema_stands_for_itself() -> None:
    """A JSON Schema given as a mapping comes back unchanged, as a copy."""
    schema = {"type": "object", "x-own": 1}
    assert json_schema(schema) == schema
    assert json_schema(schema) is not schema


def test_a_pydantic_model_is_known_by_its_methods() -> None:
    """A class with pydantic's two methods gives its own schema, also inside another type."""
    assert json_schema(Model) == Model.definition
    schema = json_schema(Holder)
    assert schema["properties"]["models"]["items"] == {"$ref": "#/$defs/Model"}
    assert schema["$defs"] == {
        "Inner": {"type": "string"},
        "Model": {key: value for key, value in Model.definition.items() if key != "$defs"},
    }


def test_a_pydantic_model_that_refers_to_itself_is_one_definition() -> None:
    """A recursive model is described at the root, and as one definition inside another type."""
    assert json_schema(Tree)["properties"] == {"left": {"$ref": "#/$defs/Tree"}}
    wood = json_schema(make_dataclass("Wood", [("trees", list[Tree])]))
    assert wood["properties"]["trees"]["items"] == {"$ref": "#/$defs/Tree"}
    assert wood["$defs"] == Tree.definition["$defs"]


def test_pydantic_definitions_of_one_name_are_refused() -> None:
    """Two models whose own definitions share a name but differ are an error."""
    both = make_dataclass("Both", [("one", Model), ("other", OtherInner)])
    with pytest.raises(InvalidRequestError, match="two types are both named 'Inner'"):
        json_schema(both)


def test_real_pydantic_models_work() -> None:
    """A model of the installed pydantic is described, read, and its complaints are located."""
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed; it is no dependency")
    leaf: Any = pydantic.create_model("Leaf", n=(int, ...))
    tree = pydantic.create_model("Tree", leaves=(list.__class_getitem__(leaf), ...))
    schema = strict_schema(json_schema(tree))
    assert schema["$defs"]["Leaf"]["additionalProperties"] is False
    value: Any = parse(tree, '{"leaves": [{"n": 1}]}')
    assert value.leaves[0].n == 1
    with pytest.raises(MalformedResponseError, match=r"^\$\.leaves\[1\]\.n: input should be a valid integer"):
        parse(tree, '{"leaves": [{"n": 1}, {"n": "x"}]}')


@pytest.mark.parametrize(
    "kind", [object, complex, list[complex], Callable[[], int], dict[int, list[object]], Item | Bill, "Item", 3]
)
def test_a_type_without_a_schema_is_refused(kind: Any) -> None:
    """A type that JSON cannot hold is named in an error of ours, whether it is described or read."""
    with pytest.raises(InvalidRequestError, match="cannot be described or read as JSON"):
        json_schema(kind)
    if kind is not object:  # of which any data is an instance
        with pytest.raises(InvalidRequestError, match="cannot be described or read as JSON"):
            parse(kind, '[{"1": [1]}]' if kind == list[complex] else '{"1": [1]}')


def test_two_types_of_one_name_are_refused() -> None:
    """Definitions that would shadow each other are an error, not a mix."""
    inner = make_dataclass("Inner", [("a", int)])
    both = make_dataclass("Both", [("inner", inner), ("model", Model)])
    with pytest.raises(InvalidRequestError, match="two types are both named 'Inner'"):
        json_schema(both)


# -------------------------------------------------------------------------------------------------- tools


def weather(
    city: Annotated[str, "where"], days: int = 3, *, unit: Literal["c", "f"] = "c", near: Address | None = None
) -> str:
    """Tell the weather of
    a city.

    Args:
        city: not shown.
    """  # noqa: D205  (a paragraph of two lines)
    raise NotImplementedError


def test_a_function_becomes_a_tool() -> None:
    """A tool has the function's name, the first paragraph of its docstring and its parameters' types."""
    tool = function_schema(weather)
    assert (tool.name, tool.description) == ("weather", "Tell the weather of a city.")
    assert tool.parameters["properties"] == {
        "city": {"type": "string", "description": "where"},
        "days": {"type": "integer", "default": 3},
        "unit": {"enum": ["c", "f"], "default": "c"},
        "near": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}], "default": None},
    }
    assert tool.parameters["required"] == ["city"]
    assert tool.parameters["$defs"]["Address"]["properties"]["city"]["description"] == "the city"


def test_a_method_or_coroutine_without_annotations_is_a_tool_too() -> None:
    """A bound method has no self, an async function is a function, and what is not annotated takes anything."""

    class Shop:
        def order(self, what) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
            pass

    async def wait() -> None:
        pass

    assert function_schema(Shop().order).parameters == {
        "type": "object",
        "properties": {"what": {}},
        "required": ["what"],
    }
    assert function_schema(wait).parameters == {"type": "object", "properties": {}, "required": []}


@pytest.mark.parametrize("function", [lambda: 1, Item, 7])
def test_what_is_no_named_function_is_no_tool(function: Any) -> None:
    """A lambda, a class or any other value is refused as a tool."""
    with pytest.raises(InvalidRequestError, match="a function or method with a name"):
        function_schema(function)


def test_parameters_without_a_name_are_refused() -> None:
    """A parameter that cannot be given by name is named."""

    def positional(a: int, /) -> None: ...
    def rest(*words: str) -> None: ...
    def options(**words: str) -> None: ...

    for function, shown in ((positional, "a: "), (rest, r"\*words"), (options, r"\*\*words")):
        with pytest.raises(InvalidRequestError, match=shown):
            function_schema(function)


def test_an_unknown_annotation_is_refused() -> None:
    """An annotation that cannot be resolved is an error of ours that names it."""

    def lost(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidRequestError, match="Nowhere"):
        function_schema(lost)


# ------------------------------------------------------------------------------------------------- reading


def test_a_value_is_read_into_its_type() -> None:
    """JSON text becomes a value of the type asked for, its nested types and formats included."""
    assert parse(Row, '{"when": "2026-11-01", "sum": "1.50"}') == Row(dt.date(2026, 11, 1), Decimal("1.50"))
    assert parse(Bill, '{"items": [{"name": "a", "price": 1, "currency": "usd"}]}') == Bill(
        [Item("a", 1, Currency.USD)]
    )
    assert parse(Holder, '{"models": [{"n": 1}]}') == Holder([Model(1)])
    assert parse(dict[int, str], '{"1": "a"}') == {1: "a"}


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Bill, '{"items": [{"name": "a", "price": 1}, {"name": "b", "price": "2"}]}', "$.items[1].price: expected int, got str"),
        (Bill, "{}", "$: object missing required field items"),
        (Bill, '{"items": [{"name": "a", "price": 1, "currency": "x"}]}', "$.items[0].currency: invalid enum value 'x'"),
        (int, '"1"', "$: expected int, got str"),
        (int, "true", "$: expected int, got bool"),
        (Model, '{"n": "x"}', "$.n[0]: input should be a valid integer"),
        (Holder, '{"models": [{"n": 1}, {}]}', "$.models[1].n[0]: input should be a valid integer"),
        (int, "", "$: not JSON: Input data was truncated"),
        (int, "```json\n1```", "$: not JSON: JSON is malformed: invalid character (byte 0)"),
        (str, '"\ud800"', "$: not JSON: 'utf-8' codec can't encode character '\\ud800' in position 1: surrogates not allowed"),
        (int, "[" * 100_000, "$: nested too deeply"),
        (object, "NaN", "$: not JSON: JSON is malformed: invalid character (byte 0)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place(kind: Any, text: str, message: str) -> None:
    """Text that is not JSON, or not of the type, is an error that says where and why, and carries the text."""
    with pytest.raises(MalformedResponseError) as caught:
        parse(kind, text)
    assert str(caught.value) == message
    assert caught.value.partial == text


def test_a_long_complaint_is_cut() -> None:
    """An error quotes no more of the model's answer than other errors do."""
    with pytest.raises(MalformedResponseError) as caught:
        parse(Currency, f'"{"x" * 10_000}"')
    assert len(str(caught.value)) <= 500


SCHEMA = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        "size": {"type": ["integer", "null"]},
        "kind": {"enum": ["a", 1]},
        "one": {"const": 1},
        "both": {"allOf": [{"type": "string"}, {"enum": ["x"]}]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"deep": {"type": "string"}}}]},
        "map": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["items"],
    "additionalProperties": False,
    "$defs": {"item": {"type": "object", "properties": {"price": {"type": "integer"}}, "required": ["price"]}},
}


@pytest.mark.parametrize(
    "text",
    [
        '{"items": []}',
        '{"items": [{"price": 1, "more": 2}, {"price": 2.0}], "size": null, "kind": 1, "one": 1, "both": "x"}',
        '{"items": [], "either": 3, "map": {"a": 1, "b": 1.5}, "pair": [1, "a"]}',
        '{"items": [], "either": {"deep": "x"}}',
    ],
)
def test_data_that_fits_a_schema_is_plain_data(text: str) -> None:
    """For a schema given as a mapping the value is the JSON data itself."""
    assert parse(SCHEMA, text) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "$: expected object, got array"),
        ("{}", "$: misses the property items"),
        ('{"items": [{"price": 1}, {"price": "a"}]}', "$.items[1].price: expected integer, got string"),
        ('{"items": [{"price": true}]}', "$.items[0].price: expected integer, got boolean"),
        ('{"items": [{"price": 1.5}]}', "$.items[0].price: expected integer, got number"),
        ('{"items": [{}]}', "$.items[0]: misses the property price"),
        ('{"items": [], "other": 1}', "$: has a property other that is not in the schema"),
        ('{"items": [], "pair": [1, 2]}', "$.pair[1]: expected string, got integer"),
        ('{"items": [], "pair": [1, "a", 3]}', "$.pair: expected 2 items, got 3"),
        ('{"items": [], "size": "x"}', "$.size: expected integer or null, got string"),
        ('{"items": [], "kind": true}', "$.kind: expected one of 'a', 1"),
        ('{"items": [], "one": 2}', "$.one: expected one of 1"),
        ('{"items": [], "both": "y"}', "$.both: expected one of 'x'"),
        ('{"items": [], "either": {"deep": 1}}', "$.either.deep: expected string, got integer"),
        ('{"items": [], "map": {"a": "b"}}', "$.map.a: expected number, got string"),
    ],
)
def test_data_that_does_not_fit_a_schema_is_named_with_its_place(text: str, message: str) -> None:
    """For a schema given as a mapping the same errors come, with the same places."""
    with pytest.raises(MalformedResponseError) as caught:
        parse(SCHEMA, text)
    assert str(caught.value) == message


def test_a_schema_that_never_ends_is_an_error_of_ours() -> None:
    """A schema that only refers to itself ends in an error, not in a crash."""
    with pytest.raises(MalformedResponseError, match="nested too deeply"):
        parse({"$ref": "#"}, "1")


# -------------------------------------------------------------------------------------------------- strict


def test_strict_closes_objects_and_makes_optionals_nullable() -> None:
    """In a strict schema objects are closed, all properties required, those that were optional nullable."""
    assert strict_schema(json_schema(Bill)) == {
        "title": "Bill",
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["items", "note", "count"],
        "additionalProperties": False,
        "$defs": {
            "Item": {
                "title": "Item",
                "description": "A thing on the bill.",
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "what it is called"},
                    "price": {"type": "integer"},
                    "currency": {"anyOf": [{"$ref": "#/$defs/Currency"}, {"type": "null"}]},
                },
                "required": ["name", "price", "currency"],
                "additionalProperties": False,
            },
            "Currency": {"title": "Currency", "enum": ["eur", "usd"]},
        },
    }


def test_strict_replaces_a_reference_that_has_keywords_beside_it() -> None:
    """A described reference, which providers refuse, becomes what it refers to with that description."""
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}, "b": {"oneOf": [{"type": "null"}]}},
        "required": ["a", "b"],
        "$defs": {"A": {"type": "object", "properties": {}, "description": "its own"}},
    }
    strict = strict_schema(schema)
    assert strict["properties"]["a"] == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
        "description": "mine",
    }
    assert strict["properties"]["b"] == {"anyOf": [{"type": "null"}]}


def test_what_is_referred_to_twice_is_no_recursion() -> None:
    """Two references to one definition are allowed."""
    schema = json_schema(make_dataclass("Two", [("first", Item), ("second", list[Item])]))
    assert strict_schema(schema)["required"] == ["first", "second"]


def test_an_object_without_properties_is_strict_where_it_is_closed() -> None:
    """An object that may have no property at all is closed, and stays so."""
    assert strict_schema({"type": "object", "additionalProperties": False}) == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def test_strict_leaves_what_it_was_given_alone() -> None:
    """Making a schema strict changes no part of the original, and a strict schema stays as it is."""
    schema = json_schema(Bill)
    strict = strict_schema(schema)
    assert schema == json_schema(Bill)
    assert strict_schema(strict) == strict


def test_a_property_that_takes_anything_may_be_said_by_true() -> None:
    """`true` as a property's schema is the schema that takes anything, in all that is done with it."""
    schema = {"type": "object", "properties": {"any": True}}
    assert strict_schema(schema)["properties"] == {"any": {}}
    assert parse(schema, '{"any": [1]}', nulls_absent=True) == {"any": [1]}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Node, r"cannot refer to itself: # -> #/\$defs/Node -> #/\$defs/Node"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "cannot refer to itself: # -> #"),
        (Box[dict[str, int]], r"^\$\.content: an object with free keys"),
        (list[dict[str, Any]], r"^\$\[\]: an object with free keys"),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, r"^\$: an object with free keys"),
        ({"type": "object", "properties": {}, "additionalProperties": True}, r"^\$: an object with free keys"),
        ({"type": "object", "patternProperties": {"a": {}}, "properties": {}}, r"^\$: an object with free keys"),
        ({"$ref": "#/$defs/none"}, "refers to '#/\\$defs/none', which is not in it"),
        ({"$ref": "other.json"}, "refers to 'other.json', which is not in it"),
    ],
)
def test_what_cannot_be_strict_is_named(kind: Any, message: str) -> None:
    """Recursion, free keys and dangling references are refused, with their place."""
    with pytest.raises(InvalidRequestError, match=message):
        strict_schema(json_schema(kind))


def test_a_null_for_an_optional_property_is_read_as_left_out() -> None:
    """What a strict schema makes a model write as null is read back as the default."""
    text = '{"items": [{"name": "a", "price": 1, "currency": null}], "note": null, "count": null}'
    assert parse(Bill, text, nulls_absent=True) == Bill([Item("a", 1)])
    with pytest.raises(MalformedResponseError, match=r"^\$\.count: expected int, got null$"):
        parse(Bill, '{"items": [], "count": null}')


def test_a_null_is_read_by_the_choice_that_it_belongs_to() -> None:
    """In a union the nulls of the choice that fits are read as left out."""
    assert parse(list[Cat | Dog], '[{"type": "Cat", "lives": null}]', nulls_absent=True) == [Cat()]
    with pytest.raises(MalformedResponseError, match=r"^\$\[0\]\.name: expected str, got null$"):
        parse(list[Cat | Dog], '[{"type": "Dog", "name": null}]', nulls_absent=True)


def test_a_null_for_a_required_property_is_still_wrong() -> None:
    """Only properties that may be left out are read from null."""
    with pytest.raises(MalformedResponseError, match=r"^\$\.items\[0\]\.price: expected int, got null$"):
        parse(Bill, '{"items": [{"name": "a", "price": null}]}', nulls_absent=True)


@dataclass
class Everything:
    number: int
    words: list[str] = field(default_factory=list)
    maybe: float | None = None
    place: Point | None = None
    flag: bool = False
    choice: Literal["a", "b"] = "a"
    bills: list[Bill] = field(default_factory=list)


EVERYTHING = json_schema(Everything)
BILLS = st.builds(
    Bill,
    st.lists(st.builds(Item, st.text(max_size=3), st.integers(0, 9), st.sampled_from(Currency)), max_size=2),
    st.none() | st.text(max_size=3),
    st.integers(0, 9),
)


@settings(max_examples=50)
@given(
    st.builds(
        Everything,
        number=st.integers(-(2**53), 2**53),
        words=st.lists(st.text(max_size=3), max_size=2),
        maybe=st.none() | st.floats(-1e9, 1e9),
        place=st.none() | st.builds(Point, st.integers(0, 9), st.integers(0, 9)),
        flag=st.booleans(),
        choice=st.sampled_from(["a", "b"]),
        bills=st.lists(BILLS, max_size=2),
    )
)
def test_what_is_written_is_read_back(value: Everything) -> None:
    """Any value, written as JSON, fits its schema and its strict schema, and is read back equal."""
    text = msgspec.json.encode(value).decode()
    schema = EVERYTHING
    assert parse(Everything, text, nulls_absent=True) == value
    assert parse(schema, text) == msgspec.json.decode(text)
    assert parse(strict_schema(schema), text) == msgspec.json.decode(text)


@settings(max_examples=50)
@given(
    st.sampled_from([Bill, Holder, Currency, SCHEMA]),
    st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3), st.lists, max_leaves=5),
)
def test_only_our_errors_come_out(kind: Any, data: Any) -> None:
    """Any JSON at all is either read or refused with an error of ours."""
    with suppress(MalformedResponseError):
        parse(kind, msgspec.json.encode({"items": data, "models": data}).decode(), nulls_absent=True)
