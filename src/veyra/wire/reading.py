"""JSON as providers write it, where a field may be of another kind than its neighbours' or not there at all."""

from __future__ import annotations

import msgspec

from veyra.wire.halves import mended

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What reading JSON raises: of another shape or none, not UTF-8, nested without end."""
_TRUNCATED = "Input data was truncated"
"""What the parser says of JSON that is right as far as it goes."""
_WITHIN_NUMBERS = (b"-", b"+", b".", b"e", b"E")
"""How a number is cut so that it is none; a digit more makes it one, and nothing else that is whole."""


def read(body: bytes) -> object:
    """Return the JSON that `body` is, or None where it is none: whatever stands before a provider may answer for it."""
    try:
        return msgspec.json.decode(mended(body.strip()))
    except UNREADABLE:
        return None


def is_cut(body: bytes) -> bool:
    """Tell whether bytes are the beginning of JSON and no more: what they lack may never have been sent."""
    try:
        msgspec.json.decode(body + b"0" if body.endswith(_WITHIN_NUMBERS) else body)
    except UNREADABLE as error:
        return str(error) == _TRUNCATED
    return False


def as_word(value: object) -> str | None:
    """Return an id, a type or a code as a string: some write numbers, and some leave them empty."""
    if isinstance(value, str):
        return value or None
    return str(value) if type(value) is int else None


def as_count(*values: object) -> int | None:
    """Return the first of the values that is a count, or None where none was stated."""
    for value in values:
        if type(value) is int and value >= 0:
            return value
    return None
