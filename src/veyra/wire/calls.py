"""Tool calls that arrive in pieces, and the JSON of their arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.errors import InvalidRequestError
from veyra.types import ToolCall, ToolCallDelta
from veyra.wire.halves import mended
from veyra.wire.reading import UNREADABLE

INVALID_JSON = "INVALID_JSON"
"""The key under which arguments that are no JSON object are sent back to a dialect that takes objects only."""


def parse(raw: str | bytes) -> dict[str, Any] | None:
    """Return a call's arguments, or None where `raw` is not a JSON object; no text at all means no arguments."""
    if not raw.strip():
        return {}
    try:
        value = msgspec.json.decode(mended(raw.encode() if isinstance(raw, str) else raw))
    except UNREADABLE:
        return None
    return value if isinstance(value, dict) else None


def as_json(call: ToolCall) -> str:
    """Return a call's arguments as JSON text: what the model wrote, or else what the caller built.

    Raises:
        InvalidRequestError: what the caller built has no JSON form.
    """
    return call.raw or _written(call, call.arguments or {}).decode()


def as_object(call: ToolCall) -> msgspec.Raw:
    """Return a call's arguments as a JSON object; what is none goes under the key `INVALID_JSON`.

    Raises:
        InvalidRequestError: the arguments have no JSON form.
    """
    if parse(call.raw) is None or (call.arguments is None and not call.raw):
        return msgspec.Raw(_written(call, {INVALID_JSON: call.raw}))
    return msgspec.Raw((as_json(call).strip() or "{}").encode())


def _written(call: ToolCall, arguments: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(arguments)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        msg = f"the arguments of the tool call {call.name!r} have no JSON form: {error}"
        raise InvalidRequestError(msg) from error


class _Open:
    """A call under way."""

    __slots__ = ("arguments", "id", "key", "name")

    def __init__(self, key: object) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class Calls:
    """Puts the pieces of tool calls together.

    Which piece belongs to which call (wire facts, 2.2 and 6): by the provider's index; where that is missing, by the id;
    where that is missing too, the piece goes to the call begun last. A piece with an index already taken and another
    id begins a new call, as does one without index that names a function again.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[_Open] = []

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, *, index: object, id: str, name: str, arguments: str) -> ToolCallDelta:  # noqa: A002
        """Take a piece and return it as an event: the position of its call, and id and name where they are new."""
        position = self._position(index, id, name)
        if position is None:
            position = len(self._calls)
            self._calls.append(_Open(index))
        call = self._calls[position]
        new_id = id if id and not call.id else ""
        new_name = name if name and not call.name else ""
        call.id = call.id or new_id
        call.name = call.name or new_name
        if arguments:
            call.arguments.append(arguments)
        return ToolCallDelta(position, new_id, new_name, arguments)

    def finished(self) -> tuple[ToolCall, ...]:
        """Return the calls, whole, in the order in which they began."""
        return tuple(self._finish(call) for call in self._calls)

    @staticmethod
    def _finish(call: _Open) -> ToolCall:
        raw = "".join(call.arguments)
        return ToolCall(call.id, call.name, parse(raw), raw)

    def _position(self, index: object, id: str, name: str) -> int | None:  # noqa: A002
        for position in range(len(self._calls) - 1, -1, -1):
            call = self._calls[position]
            if index is not None and call.key == index:
                return None if id and call.id and id != call.id else position
            if index is None and id and call.id == id:
                return position
        if index is None and self._calls and not id and not name:
            return len(self._calls) - 1
        return None
