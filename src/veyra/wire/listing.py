"""Lists of models as providers write them: what the formats share on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from veyra.wire.failures import Origin
from veyra.wire.reading import UNREADABLE


def fields(raw: msgspec.Raw, origin: Origin) -> dict[str, Any]:
    """Return the fields of one model of a list.

    Raises:
        MalformedResponseError: it is not an object.
    """
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except UNREADABLE as error:
        what = f"a model of the list is not an object ({error})"
        raise origin.malformed(what, bytes(raw)) from None


def identity(value: object, origin: Origin) -> str:
    """Return a model's id.

    Raises:
        MalformedResponseError: it has none.
    """
    if isinstance(value, str) and value:
        return value
    what = "a model of the list has no id"
    raise origin.malformed(what)


def moment(value: object) -> datetime | None:
    """Return a time in UTC, or None where none is told: seconds since 1970, RFC 3339, or a date.

    0, and its date, stand for "not known" (Anthropic says so; others do so).
    """
    when: datetime | None = None
    try:
        if isinstance(value, str):
            when = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            when = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    if when is None:
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return when if when.timestamp() else None


def within(value: object, *names: str) -> object:
    """Return what stands under the names, each within the one before, or None where one is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def flags(told: Mapping[str, object]) -> dict[str, bool]:
    """Return the capabilities that are told, those that are True or False."""
    return {name: value for name, value in told.items() if isinstance(value, bool)}
