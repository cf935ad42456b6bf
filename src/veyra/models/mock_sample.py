"""A value that a JSON Schema describes, made up: what the mock answers where a type was asked for and no answer is scripted.

1. The value is small: properties that may be left out are left out, lists are as short as is allowed, a text is one word,
   a number lies near its least.
2. Where a choice is left (enumerations, words, numbers, unions), a hash of the seed and of the place makes it: the same
   schema and seed give the same value on every machine and version of Python.
3. Kept to are types, `enum`, `const`, `anyOf`, `oneOf`, `allOf`, references, `required`, lengths, bounds, `multipleOf`,
   `uniqueItems`, the usual formats, and patterns that one of the usual texts fits. Other keywords are not looked at.
4. What a type refuses although its schema allows it (a moment in time, say, that the schema calls a text) is tried again
   with the next of the usual texts in its place.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec

from veyra.errors import InvalidRequestError, MalformedResponseError
from veyra.schema import Schema, json_schema, parse

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "juniper", "kelp", "larch")
_FORMATS: dict[object, Callable[[int], str]] = {
    "date-time": lambda day: f"2025-01-{day:02}T12:00:00Z",
    "date": lambda day: f"2025-01-{day:02}",
    "time": lambda hour: f"{hour % 24:02}:00:00Z",
    "duration": lambda days: f"P{days}D",
    "email": lambda number: f"user{number}@example.com",
    "uri": lambda number: f"https://example.com/{number}",
    "hostname": lambda number: f"host{number}.example.com",
    "ipv4": lambda number: f"192.0.2.{number}",
    "ipv6": lambda number: f"2001:db8::{number}",
    "uuid": lambda number: f"00000000-0000-4000-8000-{number:012}",
    "decimal": str,
    "base64": lambda number: b64encode(_WORDS[number - 1].encode()).decode(),
}
"""Texts of the usual formats, each with a number from 1 to 12 in it."""
_TEXTS: tuple[str, ...] = (
    *(form(1) for form in _FORMATS.values()),
    *("A", "a", "1", "10", "AB", "ABC", "12345", "Ab1", "a-b", "a_b", "1.0", "+15550100", "#a1b2c3", "en-GB", "v1.0.0"),
)
"""Tried, in their order, after the word."""
_TRIES = 200
_ROOT = "$"
_LONGEST = 100_000
"""Characters of a text and items of a list that are made up at most."""
_LARGEST = 2**20
"""Characters that are made up at most, all in all."""
_VALUE = 10
"""For how many characters a value counts, whatever is in it."""
_NO_SCHEMA = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""What keywords lead to whose values are of another kind than theirs: no schema is checked before it is followed."""


class _Impossible(Exception):  # noqa: N818  (a turn to take, no failure: the next choice may be possible)
    """No value can be made up at a place, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")


def sample(kind: object, *, seed: str) -> str:
    """Return JSON that `veyra.schema.parse` reads into the type: a small value, the same for the same seed.

    Args:
        kind: a type, or a JSON Schema.
        seed: decides what is left open.

    Raises:
        InvalidRequestError: none can be made up (a pattern that nothing here fits, say); the message names the place.
    """
    try:
        return _fitting(kind, _Maker(json_schema(kind), seed))
    except (_Impossible, RecursionError) as error:
        why = str(error) if isinstance(error, _Impossible) else "the schema is nested too deeply"
    except _NO_SCHEMA as error:
        why = f"the schema has a keyword with a value that it cannot have ({error})"
    msg = f"the mock cannot make up what was asked for: {why}; script the reply"
    raise InvalidRequestError(msg)


def _fitting(kind: object, maker: _Maker) -> str:
    for _ in range(_TRIES):
        text = msgspec.json.encode(maker.whole()).decode()
        try:
            parse(kind, text)
        except MalformedResponseError as error:
            place, _, why = str(error).partition(": ")
            if place in maker.passed and maker.passed[place] > len(_TEXTS):
                raise _Impossible(place, why) from None
            maker.passed[place] += 1
        else:
            return text
    raise _Impossible(_ROOT, f"none of {_TRIES} values was taken")


class _Maker:
    """Makes up values of one schema; `trail` names the references that are being followed.

    Attributes:
        passed: how many of the usual texts are passed over, by place (any item of a list being the same place).
    """

    def __init__(self, root: Schema, seed: str) -> None:
        self._root = root
        self._seed = seed
        self._left = _LARGEST
        self.passed: Counter[str] = Counter()

    def whole(self) -> object:
        """Return a value of the whole schema."""
        return self.value(self._root, _ROOT, ())

    def value(self, schema: object, path: str, trail: tuple[str, ...]) -> object:
        if schema is False:
            raise _Impossible(path, "the schema allows nothing")
        self._spend(_VALUE, path)
        node, trail = self._whole(schema if isinstance(schema, Mapping) else {}, path, trail)
        if "const" in node:
            return self._given(node["const"], path)
        if node.get("enum"):
            return self._given(self._chosen(node["enum"], path), path)
        for key in ("anyOf", "oneOf"):
            if node.get(key):
                rest = {name: value for name, value in node.items() if name != key}
                return self._first(node[key], rest, path, trail)
        makers: dict[object, Callable[[], object]] = {
            "object": partial(self._object, node, path, trail),
            "array": partial(self._array, node, path, trail),
            "string": partial(self._text, node, path),
            "integer": partial(self._integer, node, path),
            "number": partial(self._number, node, path),
            "boolean": lambda: bool(self._drawn(path, 2)),
            "null": lambda: None,
        }
        kind = _kind(node)
        if kind not in makers:
            raise _Impossible(path, f"{kind!r} is no type of JSON")
        return makers[kind]()

    def _whole(self, schema: Schema, path: str, trail: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return a schema with what it refers to and all parts of `allOf` merged into it."""
        node = dict(schema)
        while "$ref" in node:
            ref = str(node.pop("$ref"))
            if ref in trail:
                raise _Impossible(path, "the schema refers to itself without end")
            trail = (*trail, ref)
            node = _merged(self._resolved(ref, path), node)
        for part in node.pop("allOf", ()):
            inner, trail = self._whole(part if isinstance(part, Mapping) else {}, path, trail)
            node = _merged(node, inner)
        return node, trail

    def _resolved(self, ref: str, path: str) -> Mapping[str, Any]:
        """Return what a reference within the schema points to (RFC 6901)."""
        found: Any = self._root
        for step in ref.removeprefix("#").split("/")[1:]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not ref.startswith("#") or not isinstance(found, Mapping):
            raise _Impossible(path, f"the schema refers to {ref!r}, which is not in it")
        return found

    def _first(self, choices: Sequence[Any], rest: dict[str, Any], path: str, trail: tuple[str, ...]) -> object:
        """Return a value of the first choice that has one, begun with at a drawn place, null last."""
        start = self._drawn(f"{path}|", len(choices))
        turned = [*choices[start:], *choices[:start]]
        turned.sort(key=lambda choice: isinstance(choice, Mapping) and choice.get("type") == "null")
        why = None
        for choice in turned:
            try:
                return self.value(_merged(rest, choice) if isinstance(choice, Mapping) else choice, path, trail)
            except _Impossible as error:
                why = why or error
        assert why is not None
        raise why

    def _object(self, node: dict[str, Any], path: str, trail: tuple[str, ...]) -> dict[str, Any]:
        properties = node.get("properties", {})
        required = node.get("required", ())
        names = [name for name in properties if name in required]
        names += [name for name in required if name not in properties]
        spare = [name for name in properties if name not in names]
        names += spare[: max(0, node.get("minProperties", 0) - len(names))]
        others = node.get("additionalProperties", True)
        names += [f"{_WORDS[0]}{number}" for number in range(len(names), node.get("minProperties", 0))]
        return {name: self.value(properties.get(name, others), f"{path}.{name}", trail) for name in names}

    def _array(self, node: dict[str, Any], path: str, trail: tuple[str, ...]) -> list[Any]:
        first = node.get("prefixItems", ())
        rest = node.get("items", True)
        items: list[Any] = []
        for number in range(_bounded(node.get("minItems", len(first)), path)):
            inner = first[number] if number < len(first) else rest
            tries = (self.value(inner, f"{path}[{number}]{'~' * again}", trail) for again in range(50))
            fresh = [item for item in tries if item not in items] if node.get("uniqueItems") else [next(tries)]
            if not fresh:
                raise _Impossible(path, f"there are not {node['minItems']} different items")
            items.append(fresh[0])
        return items

    def _text(self, node: dict[str, Any], path: str) -> str:
        drawn = self._drawn(path, len(_WORDS))
        passed = self.passed[re.sub(r"\[\d+\]~*", "[...]", path)]
        form = node.get("format", node.get("contentEncoding"))
        if form in _FORMATS and not passed:
            return _FORMATS[form](drawn + 1)
        least = _bounded(node.get("minLength", 0), path)
        most = node.get("maxLength", _LONGEST)
        texts = [_sized(text, least, most) for text in (_WORDS[drawn], *_TEXTS)]
        fitting = [text for text in texts if _fits(node.get("pattern", ""), text, path)]
        if passed >= len(fitting):
            raise _Impossible(path, f"no text that the mock knows fits {node.get('pattern') or node}")
        self._spend(len(fitting[passed]), path)
        return fitting[passed]

    def _integer(self, node: dict[str, Any], path: str) -> int:
        step = node.get("multipleOf", 1)
        low, high = _bounds(node, 1)
        step = int(step) if float(step).is_integer() and step >= 1 else 1
        first = math.ceil(low / step) * step if math.isfinite(low) else min(0, math.floor(high / step) * step)
        last = min(high, first + 9 * step)
        if last < first:
            raise _Impossible(path, "there is no number within the bounds")
        return int(first + step * self._drawn(path, int((last - first) // step) + 1))

    def _number(self, node: dict[str, Any], path: str) -> float | int:
        try:
            return self._integer(node, path)
        except _Impossible:
            low, high = _bounds(node, 0)
            if "multipleOf" in node or low > high:
                raise
            return (low + high) / 2

    def _given(self, value: object, path: str) -> object:
        """Return a value that the schema itself holds."""
        self._spend(len(msgspec.json.encode(value)), path)
        return value

    def _spend(self, size: int, path: str) -> None:
        """Count what is made up."""
        self._left -= size
        if self._left < 0:
            raise _Impossible(path, f"the value is larger than the {_LARGEST:,} characters that are made up")

    def _chosen(self, values: Sequence[object], path: str) -> object:
        return values[self._drawn(path, len(values))]

    def _drawn(self, path: str, count: int) -> int:
        """Return a number from 0 to `count - 1`, drawn for a place."""
        return int.from_bytes(sha256(f"{self._seed}\n{path}".encode()).digest()[:8], "big") % count


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of both schemas: of the second where both have one, except what lists and properties say together."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def _kind(node: Mapping[str, Any]) -> object:
    """Return the type of a schema: the first that is not null; where none is named, the one its keywords speak of."""
    kind = node.get("type")
    if isinstance(kind, list):
        return next((one for one in kind if one != "null"), "null")
    if kind is not None:
        return kind
    if node.keys() & {"properties", "required", "minProperties"}:
        return "object"
    if node.keys() & {"items", "prefixItems", "minItems"}:
        return "array"
    return "number" if node.keys() & {"minimum", "maximum", "multipleOf"} else "string"


def _bounds(node: Mapping[str, Any], step: int) -> tuple[float, float]:
    """Return the least and the greatest number allowed; `step` is what an open bound is moved by."""
    low = max(node.get("minimum", -math.inf), _opened(node, "exclusiveMinimum", -math.inf, step))
    high = min(node.get("maximum", math.inf), _opened(node, "exclusiveMaximum", math.inf, -step))
    return (0 if low == -math.inf and high >= 0 else low), high


def _opened(node: Mapping[str, Any], key: str, absent: float, step: int) -> float:
    """Return a bound that is itself not allowed as one that is: the nearest whole number within."""
    bound: float = node.get(key, absent)
    if not math.isfinite(bound) or not step:
        return bound
    return math.floor(bound) + step if step > 0 else math.ceil(bound) + step


def _sized(text: str, least: int, most: int) -> str:
    """Return a text as long as it must be."""
    return text[:most] if len(text) > most else text + text[-1] * (least - len(text))


def _fits(pattern: str, text: str, path: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        raise _Impossible(path, f"{pattern!r} is no pattern that Python knows") from None


def _bounded(count: int, path: str) -> int:
    if count > _LONGEST:
        raise _Impossible(path, f"{count:,} is more than the {_LONGEST:,} that are made up")
    return count
