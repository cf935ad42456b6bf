"""Where in a TOML text each key stands, which the parser of the standard library does not tell.

The text has been parsed before, so it is known to be valid; this finds the keys and tells everything else apart from
them: comments, strings of four kinds, dates, arrays, inline tables.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final, TypeAlias

Name: TypeAlias = tuple[str | int, ...]
"""A place in a document: keys of tables, and numbers of elements of arrays, from 0."""

_BASIC: Final = r'"(?:[^"\\\n]|\\.)*"'
_LITERAL: Final = r"'[^'\n]*'"
_STRING: Final = re.compile(
    rf'"""(?:[^\\]|\\.)*?"{{3,5}}|\'\'\'.*?\'{{3,5}}|{_BASIC}|{_LITERAL}',
    re.DOTALL,  # two more quotes than end a string may belong to it
)
_PART: Final = re.compile(rf"{_BASIC}|{_LITERAL}|[A-Za-z0-9_-]+")
_DOT: Final = re.compile(r"[ \t]*\.[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PLAIN: Final = re.compile(r"[^,\]}\r\n#]+")


def lines(text: str) -> dict[Name, int]:
    """Return the line, from 1, on which each key, table and element of an array first stands.

    A table that is only implied, as `a` by `[a.b]`, stands where that stands.

    Args:
        text: what `tomllib.loads` takes.
    """
    return _Scan(text).lines


class _Scan:
    """One way through the text, from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Name, int] = {}
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self._elements: dict[Name, int] = {}
        table: Name = ()
        self._skip()
        while self._at < len(text):
            if self._take("[["):
                table = self._element(self._key())
                self._at += len("]]")
            elif self._take("["):
                table = self._resolved(self._key())
                self._note((), table)
                self._at += len("]")
            else:
                self._pair(table)
            self._skip()

    def _skip(self) -> None:
        """Pass whitespace and comments."""
        self._pass(_GAP)

    def _take(self, token: str) -> bool:
        """Pass a token, if it stands here."""
        found = self._text.startswith(token, self._at)
        self._at += len(token) * found
        return found

    def _pass(self, pattern: re.Pattern[str]) -> str:
        """Pass what a pattern matches here, and return it."""
        match = pattern.match(self._text, self._at)
        if match is None:
            msg = "this text is not TOML"
            raise ValueError(msg)
        self._at = match.end()
        return match[0]

    def _key(self) -> tuple[str, ...]:
        """Pass a key, dotted or not, and the space around it."""
        self._skip()
        parts = [_plain(self._pass(_PART))]
        while _DOT.match(self._text, self._at):
            self._pass(_DOT)
            parts.append(_plain(self._pass(_PART)))
        self._skip()
        return tuple(parts)

    def _pair(self, table: Name) -> None:
        """Pass a key and its value."""
        start = self._at
        name = (*table, *self._key())
        self._note(table, name, at=start)
        self._at += len("=")
        self._skip()
        self._value(name)

    def _value(self, name: Name) -> None:
        """Pass a value; note what stands in it."""
        if self._take("["):
            self._skip()
            number = 0
            while not self._take("]"):
                self._note(name, (*name, number))
                self._value((*name, number))
                self._comma()
                number += 1
        elif self._take("{"):
            self._skip()
            while not self._take("}"):
                self._pair(name)
                self._comma()
        elif self._text[self._at] in "\"'":
            self._pass(_STRING)
        else:
            self._pass(_PLAIN)

    def _comma(self) -> None:
        self._skip()
        self._take(",")
        self._skip()

    def _element(self, key: tuple[str, ...]) -> Name:
        """Return the name of the next element of the array of tables that a header names."""
        array = (*self._resolved(key[:-1]), key[-1])
        number = self._elements[array] = self._elements.get(array, -1) + 1
        self._note((), (*array, number))
        return (*array, number)

    def _resolved(self, key: tuple[str, ...]) -> Name:
        """Return what a header names: where a part of it is an array of tables, the last element of that."""
        name: Name = ()
        for part in key:
            name = (*name, part)
            if name in self._elements:
                name = (*name, self._elements[name])
        return name

    def _note(self, known: Name, name: Name, *, at: int | None = None) -> None:
        """Note the line of a name, and of all between `known` and it that were not seen before."""
        line = self._line(self._at if at is None else at)
        for length in range(len(known) + 1, len(name) + 1):
            self.lines.setdefault(name[:length], line)

    def _line(self, at: int) -> int:
        """Return the line of a place that is not before the last one asked for."""
        start, line = self._counted
        line += self._text.count("\n", start, at)
        self._counted = (at, line)
        return line


def _plain(part: str) -> str:
    """Return a part of a key without its quotes and escapes."""
    if part[0] == "'":
        return part[1:-1]
    return next(iter(tomllib.loads(f"{part} = 0"))) if part[0] == '"' else part
