"""Python types and JSON Schema: what a model is asked to answer with, and what its answer is read into.

A *type* is a dataclass, a TypedDict, a `msgspec.Struct`, a pydantic model (known by its methods: pydantic is never
imported), or anything made of builtin containers, `Literal`, `Enum`, `Optional` and `Annotated` around them. A union
of several classes needs tagged Structs. A JSON Schema given as a mapping stands for itself wherever a type may stand.

1. `json_schema` and `function_schema` describe; `parse` reads what `json_schema` describes and nothing else.
2. `strict_schema` says the same in the subset that providers enforce while the model writes. What it makes nullable,
   `parse(..., nulls_absent=True)` reads back as left out.
3. Schemas are JSON Schema 2020-12; a schema whose root is an object has it at the root, not behind a reference.
4. The description of a field or a parameter is a string (or a `Doc`) in its `Annotated`, or
   `msgspec.Meta(description=...)`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
    overload,
)

import msgspec

from veyra.errors import InvalidRequestError, MalformedResponseError, excerpt
from veyra.types import Tool

T = TypeVar("T")
Schema: TypeAlias = Mapping[str, Any]
"""A JSON Schema, as `json.loads` gives it."""

_REF = "#/$defs/"
_DEFINITIONS = ("$defs", "definitions")
_DROPPED = ("default", "discriminator")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NULL = {"type": "null"}


def json_schema(kind: object) -> dict[str, Any]:
    """Return the JSON Schema of a type; a schema given as a mapping comes back as it is.

    Raises:
        InvalidRequestError: the type, or something in it, has no JSON Schema; the message names it.
    """
    if isinstance(kind, Mapping):
        return dict(kind)
    if _is_pydantic(kind):
        return _at_root(_pydantic_schema(kind))
    (schema,), definitions = _components([kind])
    return _at_root({**schema, "$defs": definitions} if definitions else schema)


def function_schema(function: Callable[..., object]) -> Tool:
    """Return a function as a tool: its name, the first paragraph of its docstring, its parameters by annotation.

    A parameter without a default is required; one without an annotation takes anything.

    Raises:
        InvalidRequestError: it is no function or has no name of its own, an annotation cannot be resolved or has no
            JSON Schema, or a parameter cannot be given by name.
    """
    name = getattr(function, "__name__", "")
    if not inspect.isroutine(function) or not name.isidentifier():
        msg = f"a tool is made from a function or method with a name, not from {function!r}"
        raise InvalidRequestError(msg)
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            msg = f"{name}(): a model gives arguments by name, which parameter {str(parameter)!r} does not take"
            raise InvalidRequestError(msg)
    hints = _hints(function)
    kinds = [hints.get(parameter.name, Any) for parameter in parameters]
    schemas, definitions = _components(kinds)
    properties: dict[str, Any] = {}
    for parameter, kind, schema in zip(parameters, kinds, schemas, strict=True):
        properties[parameter.name] = schema | _description(kind) | _default(parameter)
    schema = {
        "type": "object",
        "properties": properties,
        "required": [parameter.name for parameter in parameters if parameter.default is parameter.empty],
    }
    if definitions:
        schema["$defs"] = definitions
    paragraph = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return Tool(name=name, description=" ".join(paragraph.split()), parameters=schema)


def strict_schema(schema: Schema) -> dict[str, Any]:
    """Return a schema in the strict subset: objects closed, every property required, optional ones nullable.

    Defaults and discriminators are left out, `oneOf` becomes `anyOf`, and a reference with keywords beside it is
    replaced by what it refers to. All else is kept: a provider may still refuse a keyword that it does not enforce.

    Raises:
        InvalidRequestError: the schema refers to itself, refers to nothing, or has an object with free keys; the
            message names the place.
    """
    _refuse_recursion(schema)
    return _strict(schema, schema, "$")


@overload
def parse(kind: type[T], text: str, *, nulls_absent: bool = False) -> T: ...
@overload
def parse(kind: object, text: str, *, nulls_absent: bool = False) -> object: ...
def parse(kind: object, text: str, *, nulls_absent: bool = False) -> object:
    """Return the value of a type that a JSON text holds.

    For a schema given as a mapping the value is plain JSON data, checked for its types, enumerations, constants,
    properties and items; bounds, patterns and formats are not checked.

    Args:
        kind: a type, or a JSON Schema.
        text: JSON, with nothing around it.
        nulls_absent: the answer was asked for with `strict_schema`: a null where the schema has an optional property
            that takes none means that the property was left out.

    Raises:
        MalformedResponseError: the text is not JSON, or not of the type. The message says where, as in
            `$.items[2].price: expected int, got str`; `partial` holds the text.
        InvalidRequestError: the type cannot be read from JSON.
    """
    try:
        data = msgspec.json.decode(text)
        if nulls_absent:
            schema = json_schema(kind)
            data = _without_nulls(data, schema, schema)
        return _convert(data, kind)
    except msgspec.ValidationError as error:
        raise MalformedResponseError(_located(str(error)), partial=text) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        msg = f"$: not JSON: {excerpt(str(error))}"
        raise MalformedResponseError(msg, partial=text) from error
    except RecursionError as error:
        msg = "$: nested too deeply"
        raise MalformedResponseError(msg, partial=text) from error


def _convert(data: object, kind: object) -> object:
    if isinstance(kind, Mapping):
        fault = _fault(data, kind, kind, "$")
        if fault:
            raise msgspec.ValidationError(fault)
        return data
    try:
        return msgspec.convert(data, kind, str_keys=True, dec_hook=_validate)
    except TypeError as error:
        raise _no_schema(error) from error


def _validate(kind: type, data: object) -> object:
    """Return data as a pydantic model: the only kind of class that msgspec leaves to others."""
    if not _is_pydantic(kind):
        raise _no_schema(_unsupported(kind))
    try:
        return kind.model_validate(data)  # type: ignore[attr-defined]  # known by its methods
    except ValueError as error:  # pydantic's ValidationError is one, and lists what it found
        first = error.errors()[0]  # type: ignore[attr-defined]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        complaint = f"${place}: {_lower(first['msg'])}"
        raise ValueError(complaint) from error


def _located(message: str) -> str:
    """Return a complaint of msgspec's, of pydantic's within it, or of ours, with its place in front."""
    complaint, found, place = message.rpartition(" - at `")
    if not found:
        complaint, place = message, "$"
    place = place.removesuffix("`")
    if complaint.startswith("$"):
        return excerpt(place + complaint[1:])
    return excerpt(f"{place}: {_lower(complaint.replace('`', ''))}")


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


# ---------------------------------------------------------------------------------------------- describing


def _components(kinds: Sequence[object]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schemas of several types and the definitions that they refer to."""
    foreign: dict[str, Any] = {}
    classes = list(_classes(kinds))
    try:
        schemas, definitions = msgspec.json.schema_components(
            [*kinds, *classes], schema_hook=lambda kind: _hoisted(kind, foreign), ref_template=_REF + "{name}"
        )
    except (TypeError, NameError) as error:
        raise _no_schema(error) from error
    for cls, schema in zip(classes, schemas[len(kinds) :], strict=True):
        body = definitions[schema["$ref"].removeprefix(_REF)]
        for name, hint in _fields(cls).items():
            body["properties"][name] |= _description(hint)
    for name in foreign.keys() & definitions.keys():
        msg = f"two types are both named {name!r}: rename one"
        raise InvalidRequestError(msg)
    return list(schemas[: len(kinds)]), definitions | foreign


def _hoisted(kind: object, foreign: dict[str, Any]) -> dict[str, Any]:
    """Return a reference to a pydantic model inside another type, its definitions moved into `foreign`."""
    if not _is_pydantic(kind):
        raise _unsupported(kind)
    schema = _pydantic_schema(kind)
    found = schema.pop("$defs", {})
    name = kind.__name__  # type: ignore[attr-defined]  # a class
    if "$ref" not in schema:
        found[name] = schema
    for key, definition in found.items():
        if foreign.setdefault(key, definition) != definition:
            msg = f"two types are both named {key!r}: rename one"
            raise InvalidRequestError(msg)
    return {"$ref": _REF + name}


def _classes(kinds: Iterable[object]) -> Iterator[object]:
    """Yield each class with named fields that can be reached from some types, once."""
    seen: set[object] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        origin = get_origin(kind)
        if origin is Literal:
            continue
        if origin is Annotated:
            waiting.append(get_args(kind)[0])
            continue
        waiting.extend(get_args(kind))
        if _has_fields(origin or kind) and kind not in seen:
            seen.add(kind)
            yield kind
            waiting.extend(_hints(origin or kind).values())


def _has_fields(kind: object) -> bool:
    if not isinstance(kind, type):
        return False
    if issubclass(kind, msgspec.Struct):
        return not kind.__struct_config__.array_like
    return dataclasses.is_dataclass(kind) or is_typeddict(kind)


def _fields(cls: object) -> dict[str, object]:
    """Return the annotations of a class by the names that its fields have in JSON."""
    origin: Any = get_origin(cls) or cls
    hints = _hints(origin)
    if issubclass(origin, msgspec.Struct):
        return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(origin)}
    if dataclasses.is_dataclass(origin):
        return {field.name: hints[field.name] for field in dataclasses.fields(origin)}
    return hints


def _hints(annotated: object) -> dict[str, Any]:
    try:
        return get_type_hints(annotated, include_extras=True)
    except NameError as error:
        raise _no_schema(error) from error


def _description(kind: object) -> dict[str, str]:
    """Return the description in an annotation, as a schema has it, or nothing."""
    while get_origin(kind) in (Required, NotRequired):
        (kind,) = get_args(kind)
    if get_origin(kind) is not Annotated:
        return {}
    for note in get_args(kind)[1:]:
        text = note if isinstance(note, str) else getattr(note, "documentation", None)
        if isinstance(text, str):
            return {"description": text}
    return {}


def _default(parameter: inspect.Parameter) -> dict[str, Any]:
    """Return a default that JSON can show, as a schema has it, or nothing."""
    value = parameter.default
    return {"default": value} if value is None or isinstance(value, str | int | float) else {}


def _at_root(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that is a reference to one of its own definitions with that definition as the root."""
    ref = schema.get("$ref")
    definitions = schema.get("$defs", {})
    if ref is None or not ref.startswith(_REF):
        return schema
    name = ref.removeprefix(_REF)
    root: dict[str, Any] = definitions[name] | {
        key: value for key, value in schema.items() if key not in ("$ref", "$defs")
    }
    if ref not in _references(definitions):
        definitions = {key: value for key, value in definitions.items() if key != name}
    return root | ({"$defs": definitions} if definitions else {})


def _pydantic_schema(model: object) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema()  # type: ignore[attr-defined]  # known by its methods
    return schema


def _is_pydantic(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate")


def _unsupported(kind: object) -> TypeError:
    return TypeError(f"type {kind!r} is not supported")


def _no_schema(error: Exception) -> InvalidRequestError:
    return InvalidRequestError(f"this type cannot be described or read as JSON: {excerpt(str(error))}")


# ------------------------------------------------------------------------------------------------- strict


def _references(node: object) -> Iterator[str]:
    """Yield every reference in a schema, wherever it stands."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _references(item)


def _resolve(ref: str, root: Schema) -> Schema:
    """Return what a reference within a schema points to (RFC 6901)."""
    node: Any = root
    for step in ref.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        node = node.get(key) if isinstance(node, Mapping) else None
    if not ref.startswith("#") or not isinstance(node, Mapping):
        msg = f"the schema refers to {ref!r}, which is not in it"
        raise InvalidRequestError(msg)
    return node


def _refuse_recursion(root: Schema) -> None:
    body = {key: value for key, value in root.items() if key not in _DEFINITIONS}
    done: set[str] = set()

    def visit(ref: str, trail: tuple[str, ...]) -> None:
        if ref in trail:
            msg = f"a strict schema cannot refer to itself: {' -> '.join([*trail, ref])}"
            raise InvalidRequestError(msg)
        if ref not in done:
            for inner in _references(body if ref == "#" else _resolve(ref, root)):
                visit(inner, (*trail, ref))
            done.add(ref)

    visit("#", ())


def _strict(node: Schema, root: Schema, path: str) -> dict[str, Any]:
    node = {key: value for key, value in node.items() if key not in _DROPPED}
    if "$ref" in node and len(node.keys() - set(_DEFINITIONS)) > 1:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _strict({**_resolve(node["$ref"], root), **beside}, root, path)
    strict: dict[str, Any] = {}
    for key, value in node.items():
        if key in _DEFINITIONS:
            strict[key] = {name: _strict(inner, root, f"{path}.{key}.{name}") for name, inner in value.items()}
        elif key in _LISTS:
            strict["anyOf" if key == "oneOf" else key] = [_strict(inner, root, path) for inner in value]
        elif key == "items" and isinstance(value, Mapping):
            strict[key] = _strict(value, root, f"{path}[]")
        else:
            strict[key] = value
    return strict | _closed(node, root, path) if _is_object(node) else strict


def _mapping(schema: object) -> Schema:
    """Return a schema as a mapping: `true`, which takes anything, is the empty one."""
    return schema if isinstance(schema, Mapping) else {}


def _is_object(node: Schema) -> bool:
    kind = node.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in node


def _closed(node: Schema, root: Schema, path: str) -> dict[str, Any]:
    """Return what closes an object: every property required, and no other allowed."""
    properties = node.get("properties")
    others = node.get("additionalProperties", properties is None)
    if others is not False or "patternProperties" in node:
        msg = f"{path}: an object with free keys cannot be strict; name its properties, or use a list of pairs"
        raise InvalidRequestError(msg)
    required = node.get("required", ())
    closed: dict[str, Any] = {}
    for name, value in (properties or {}).items():
        inner = _strict(_mapping(value), root, f"{path}.{name}")
        needs_null = name not in required and not _takes_null(inner, root)
        closed[name] = {"anyOf": [inner, _NULL]} if needs_null else inner
    return {"properties": closed, "required": list(closed), "additionalProperties": False}


# ---------------------------------------------------------------------------------------------- checking

_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or _is_whole(value)),
    "number": lambda value: not isinstance(value, bool) and isinstance(value, int | float),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_NAMES = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def _takes_null(schema: Mapping[str, Any], root: Schema) -> bool:
    return _fault(None, schema, root, "$") is None


def _without_nulls(value: object, schema: Mapping[str, Any], root: Schema) -> object:
    """Return a value without the nulls that stand for properties left out; see `parse`."""
    if "$ref" in schema:
        return _without_nulls(value, _resolve(schema["$ref"], root), root)
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        chosen = _without_nulls(value, choice, root)
        if _fault(chosen, choice, root, "$") is None:
            return chosen
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_without_nulls(item, schema["items"], root) for item in value]
    if isinstance(value, dict):
        properties = {name: _mapping(inner) for name, inner in schema.get("properties", {}).items()}
        required = schema.get("required", ())
        return {
            name: _without_nulls(item, properties.get(name, {}), root)
            for name, item in value.items()
            if item is not None or name in required or _takes_null(properties.get(name, {}), root)
        }
    return value


def _fault(value: object, schema: Schema, root: Schema, path: str) -> str | None:
    """Return what is wrong with a value, its place in front, or None where it is what the schema says."""
    if "$ref" in schema:
        fault = _fault(value, _resolve(schema["$ref"], root), root, path)
        if fault:
            return fault
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_TYPES[kind](value) for kind in kinds if kind in _TYPES):
        return f"{path}: expected {' or '.join(kinds)}, got {_NAMES.get(type(value), 'object')}"
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if allowed is not None and not any(_same(value, one) for one in allowed):
        return f"{path}: expected one of {', '.join(repr(one) for one in allowed)}"
    return _choice_fault(value, schema, root, path) or _inner_fault(value, schema, root, path)


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _choice_fault(value: object, schema: Schema, root: Schema, path: str) -> str | None:
    for part in schema.get("allOf", ()):
        fault = _fault(value, part, root, path)
        if fault:
            return fault
    for key in ("anyOf", "oneOf"):
        faults = [_fault(value, choice, root, path) for choice in schema.get(key, ())]
        if faults and all(faults):
            return max(faults, key=lambda fault: len(fault.partition(": ")[0]) if fault else 0)
    return None


def _inner_fault(value: object, schema: Schema, root: Schema, path: str) -> str | None:
    if isinstance(value, list):
        first = schema.get("prefixItems", ())
        rest = schema.get("items")
        for number, item in enumerate(value):
            inner = first[number] if number < len(first) else rest
            if inner is False:
                return f"{path}: expected {number} items, got {len(value)}"
            fault = _fault(item, inner, root, f"{path}[{number}]") if isinstance(inner, Mapping) else None
            if fault:
                return fault
    if isinstance(value, dict):
        return _object_fault(value, schema, root, path)
    return None


def _object_fault(value: dict[str, Any], schema: Schema, root: Schema, path: str) -> str | None:
    for name in schema.get("required", ()):
        if name not in value:
            return f"{path}: misses the property {name}"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, item in value.items():
        inner = properties.get(name, others)
        if inner is False:
            return f"{path}: has a property {name} that is not in the schema"
        fault = _fault(item, inner, root, f"{path}.{name}") if isinstance(inner, Mapping) else None
        if fault:
            return fault
    return None
