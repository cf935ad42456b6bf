"""Gemini: the arguments of a call that come in pieces, each with the place in them where it belongs.

A piece is a value and its JSONPath (RFC 9535; only names and indexes occur): `{"jsonPath": "$.rooms[0].name",
"stringValue": "hall"}`. Text may go on in the next piece of the same place. Arguments are put together when they are
whole: before that, they are no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec

_SEGMENT = re.compile(
    r"""\.(?P<name>[^.\[\]'"\s]+) | \[(?P<index>\d{1,6})\] | \['(?P<single>(?:[^'\\]|\\.)*)'\] | \["(?P<double>(?:[^"\\]|\\.)*)"\]""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
_VALUES = ("numberValue", "boolValue")


class Arguments:
    """The arguments of one call, as far as they came."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take a piece.

        Raises:
            ValueError: it has no place, or no value that is known.
        """
        path, text = piece.get("jsonPath"), piece.get("stringValue")
        if not isinstance(path, str):
            msg = "a piece of a call's arguments has no jsonPath"
            raise ValueError(msg)  # noqa: TRY004  (of the provider's making, not a wrong type in a program)
        if isinstance(text, str):
            known = self._values.setdefault(path, [])
            if not isinstance(known, list):
                raise _contradiction(path)
            known.append(text)
        elif "nullValue" in piece:
            self._values[path] = None
        else:
            values = [piece[name] for name in _VALUES if name in piece]
            if len(values) != 1:
                msg = f"the piece of a call's arguments at {path} has no value that is known"
                raise ValueError(msg)
            self._values[path] = values[0]

    def json(self) -> str:
        """Return the arguments as a JSON object.

        Raises:
            ValueError: the places contradict each other, or one of them is not understood.
            RecursionError: they nest without end.
        """
        root: dict[str, Any] = {}
        for path, value in self._values.items():
            _place(root, path, "".join(value) if isinstance(value, list) else value)
        return msgspec.json.encode(root).decode()


def _place(root: dict[str, Any], path: str, value: object) -> None:
    keys = list(_keys(path))
    node: Any = root
    for key, following in pairwise(keys):
        node = _child(node, key, path, [] if isinstance(following, int) else {})
    if _child(node, keys[-1], path, value) is not value:
        raise _contradiction(path)


def _child(node: Any, key: str | int, path: str, new: object) -> Any:  # noqa: ANN401  (JSON)
    """Return what stands in `node` under `key`, put there now where nothing was; lists grow by one."""
    if isinstance(node, dict) and isinstance(key, str):
        return node.setdefault(key, new)
    if isinstance(node, list) and isinstance(key, int) and key <= len(node):
        if key == len(node):
            node.append(new)
        return node[key]
    raise _contradiction(path)


def _keys(path: str) -> Iterator[str | int]:
    """Yield a path's names and indexes.

    Raises:
        ValueError: it is not made of these alone, or begins with no name.
    """
    position, count = 1, 0
    while path.startswith("$") and position < len(path):
        match = _SEGMENT.match(path, position)
        if match is None:
            break
        index = match["index"]
        name = match["name"] or match["single"] or match["double"] or ""
        yield int(index) if index is not None else _ESCAPE.sub(r"\1", name)
        position, count = match.end(), count + 1
    if not count or position < len(path):
        msg = f"the place {path} in a call's arguments is not understood"
        raise ValueError(msg)


def _contradiction(path: str) -> ValueError:
    return ValueError(f"the place {path} in a call's arguments contradicts what came before it")
