"""JSON as providers write it, where a field may be of another kind than its neighbours' or not there at all."""

from __future__ import annotations

import msgspec

from veyra.wire.halves import mended

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What reading JSON raises: of another shape or none, not UTF-8, nested without end."""


def read(body: bytes) -> object:
    """Return the JSON that `body` is, or None where it is none: whatever stands before a provider may answer for it."""
    try:
        return msgspec.json.decode(mended(body.strip()))
    except UNREADABLE:
        return None


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
