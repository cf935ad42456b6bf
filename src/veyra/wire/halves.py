r"""Halves of characters: escapes of UTF-16 surrogates in JSON that stand alone (`"\ud83d"`).

JSON allows them (RFC 8259, section 8.2) and no reader of ours takes them, since they are no characters. Servers that cut
their text by UTF-16 units write them: an emoji then comes as two halves, one at the end of a delta, one at the
beginning of the next.

1. Halves that meet in neighbouring messages of a stream become one character, in the second of them.
2. A half that meets no other is U+FFFD.
3. Everything else stays byte for byte as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

Named: TypeAlias = tuple[str, bytes]
"""A message of a stream, and its name (empty where it has none)."""

_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(
    rb"(?P<pair>" + _HIGH + _LOW + rb")"
    rb"|(?P<left>" + _HIGH + rb')"|"(?P<right>' + _LOW + rb")"
    rb"|(?P<lone>" + _LOW + rb"|" + _HIGH + rb'(?!"|' + _LOW + rb"))"
    rb"|\\.",
    re.DOTALL,
)
"""Every escape, read from left to right, so that `\\\\ud83d` (a backslash, then letters) and `\\"` are told apart.

`left` ends its string and `right` begins it. One escape at a time: a run of them would keep a place to go back to for
each, and possessive runs, which do not, are misread by Python before 3.11.4.
"""
_REPLACEMENT = rb"\ufffd"


def mended(body: bytes) -> bytes:
    """Return JSON text with every lone half replaced by U+FFFD."""
    return _changed(body, {"left": _replaced, "right": _replaced, "lone": _replaced}) if _may_hold(body) else body


class Halves:
    """Mends the messages of a stream. One that ends a string with half a character waits for the next message."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: Named | None = None

    def passes(self, body: bytes) -> bool:
        """Tell whether a message can be read at once, as it is; any other goes through `take`."""
        return self._waiting is None and (b"\\" not in body or not _may_hold(body))

    def take(self, name: str, body: bytes) -> list[Named]:
        """Take the next message, and return those that are ready, in order."""
        if self.passes(body):
            return [(name, body)]
        ready: list[Named] = []
        if self._waiting is not None:
            first, body = _joined(self._waiting[1], body)
            ready.append((self._waiting[0], mended(first)))
            self._waiting = None
        if _may_hold(body) and any(_of("left", body)):
            self._waiting = (name, body)
        else:
            ready.append((name, mended(body)))
        return ready

    def close(self) -> list[Named]:
        """Return the message that still waits, if any."""
        if self._waiting is None:
            return []
        name, body = self._waiting
        self._waiting = None
        return [(name, mended(body))]


def _may_hold(body: bytes) -> bool:
    return b"\\ud" in body or b"\\uD" in body


def _of(kind: str, body: bytes) -> Iterator[bytes]:
    """Yield the halves of a kind, as they are written."""
    return (match[kind] for match in _ESCAPE.finditer(body) if match.lastgroup == kind)


def _joined(first: bytes, second: bytes) -> tuple[bytes, bytes]:
    """Return two neighbours with the halves that meet moved into the second; they meet where each has its other."""
    if sum(1 for _ in _of("left", first)) != sum(1 for _ in _of("right", second)):
        return first, second
    left = _of("left", first)

    def filled(match: re.Match[bytes]) -> bytes:
        return b'"' + next(left) + match["right"]

    return _changed(first, {"left": lambda _: b'"'}), _changed(second, {"right": filled})


def _replaced(match: re.Match[bytes]) -> bytes:
    return match[0].replace(match[match.lastgroup or 0], _REPLACEMENT)


def _changed(body: bytes, changes: Mapping[str, Callable[[re.Match[bytes]], bytes]]) -> bytes:
    """Return `body` with some kinds of escapes changed; takes little more memory than the result."""
    out, end = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        change = changes.get(match.lastgroup or "")
        if change is not None:
            out += body[end : match.start()]
            out += change(match)
            end = match.end()
    return bytes(out + body[end:]) if end else body
