"""Two JSON values, compared field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import Final

SHOWN: Final = 64
"""Characters of a value that a description shows at most."""
_BEFORE: Final = 16
"""Characters shown before the first that differs."""


class Nothing(Enum):
    """Stands for a field that is not there, which is not null."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which two values differ: its place (`body.messages[0].content`) and both values."""

    field: str
    one: object
    other: object

    def describe(self, one: str, other: str) -> str:
        """Return the difference in a line, the two values named by these words."""
        left, right = _texts(self.one, self.other)
        return f"{self.field}: {one} {left}, {other} {right}"


def differences(one: object, other: object, name: str = "") -> Iterator[Difference]:
    """Yield the fields in which two JSON values differ, the innermost that do, in the order of `one`.

    `true` and `1` differ; `1` and `1.0` do not.
    """
    waiting = [(name, one, other)]
    while waiting:
        name, one, other = waiting.pop()
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            names = dict.fromkeys([*one, *other])
            inner = [(_below(name, key), one.get(key, NOTHING), other.get(key, NOTHING)) for key in names]
            waiting += reversed(inner)
        elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
            pairs = enumerate(zip_longest(one, other, fillvalue=NOTHING))
            waiting += reversed([(f"{name}[{number}]", left, right) for number, (left, right) in pairs])
        elif one != other or isinstance(one, bool) != isinstance(other, bool):
            yield Difference(name or "value", one, other)


def _below(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _texts(one: object, other: object) -> tuple[str, str]:
    """Return both values as short texts that show where they begin to differ."""
    left, right = _text(one), _text(other)
    if max(len(left), len(right)) <= SHOWN:
        return left, right
    same = next((at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), 0)
    return _around(left, same), _around(right, same)


def _around(text: str, place: int) -> str:
    start = max(0, min(place - _BEFORE, len(text) - SHOWN))
    shown = text[start : start + SHOWN]
    return f"{'…' if start else ''}{shown}{'…' if start + SHOWN < len(text) else ''}"


def _text(value: object) -> str:
    if value is NOTHING:
        return "nothing"
    try:
        return json.dumps(value, ensure_ascii=False, default=_foreign)
    except RecursionError:
        return "a value that is nested too deeply to show"


def _foreign(value: object) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
