"""Reading request bodies: what the server halves share on the way in.

1. A field that is null is one that was not given. A field of the wrong type is an error that names it.
2. What our words say of a request is held against the client half: where that would not write what came, what came
   is kept. So nothing is lost, known or unknown, and what our words can say is not said twice.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from veyra.errors import InvalidRequestError
from veyra.types import Media, MediaKind, Message, Opaque, Request, Tool
from veyra.wire.base import Dialect, Flags
from veyra.wire.framing import MESSAGE_LIMIT
from veyra.wire.reading import UNREADABLE

_T = TypeVar("_T")
_NULL = b"null"
_IN_WORDS = frozenset({"model", "stream"})
"""Fields of every format that our words say whole, although the client half may leave out a default."""


def wrong(place: str, what: object) -> InvalidRequestError:
    """Return the error for a field (`messages[0].content`) of a request."""
    return InvalidRequestError(f"{place}: {what}")


class Fields:
    """The fields of a JSON object of a request, typed as they are taken.

    Args:
        raw: the object's JSON.
        place: where it stands in the request; empty for the request itself.

    Raises:
        InvalidRequestError: it is no JSON object.
    """

    __slots__ = ("_fields", "_place", "raw")

    def __init__(self, raw: bytes | msgspec.Raw, place: str = "") -> None:
        self.raw = bytes(raw)
        self._place = place
        if len(self.raw) > MESSAGE_LIMIT:
            raise wrong(place or "the body", f"longer than {MESSAGE_LIMIT} bytes")
        try:
            self._fields = msgspec.json.decode(self.raw, type=dict[str, msgspec.Raw])
        except UNREADABLE as error:
            raise wrong(place or "the body", error) from None

    def place(self, name: str) -> str:
        """Return where a field stands in the request."""
        return f"{self._place}.{name}" if self._place else name

    def has(self, name: str) -> bool:
        """Say whether a field was given."""
        raw = self._fields.get(name, _NULL)
        return len(raw) != len(_NULL) or bytes(raw) != _NULL

    def take(self, name: str, kind: type[_T]) -> _T | None:
        """Return a field's value, or None where it was not given.

        Raises:
            InvalidRequestError: it is of another type.
        """
        if not self.has(name):
            return None
        try:
            return msgspec.json.decode(self._fields[name], type=kind)
        except UNREADABLE as error:
            raise wrong(self.place(name), error) from None

    def need(self, name: str, kind: type[_T]) -> _T:
        """Return a field's value.

        Raises:
            InvalidRequestError: it is missing or of another type.
        """
        value = self.take(name, kind)
        if value is None:
            raise wrong(self.place(name), "this field is required")
        return value

    def object(self, name: str) -> Fields:
        """Return a field that is an object.

        Raises:
            InvalidRequestError: it is missing or no object.
        """
        return Fields(self.need(name, msgspec.Raw), self.place(name))

    def objects(self, name: str) -> list[Fields]:
        """Return the objects of a field that is a list of them; none where it was not given.

        Raises:
            InvalidRequestError: it is no list, or something in it is no object.
        """
        items = self.take(name, list[msgspec.Raw]) or []
        return [Fields(item, f"{self.place(name)}[{number}]") for number, item in enumerate(items)]

    def is_text(self, name: str) -> bool:
        """Say whether a field is a string."""
        return bytes(memoryview(self._fields.get(name, _NULL))[:1]) == b'"'

    def value(self) -> dict[str, Any]:
        """Return the object as plain values, null fields left out.

        Raises:
            InvalidRequestError: it has no such form (a string that is not UTF-8, say).
        """
        try:
            values = msgspec.json.decode(self.raw, type=dict[str, Any])
        except UNREADABLE as error:
            raise wrong(self._place or "the body", error) from None
        return {name: value for name, value in values.items() if value is not None}


def data(text: str, place: str) -> bytes:
    """Return the bytes that base64 text stands for.

    Raises:
        InvalidRequestError: it is no base64.
    """
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise wrong(place, error) from None


def linked(kind: MediaKind, url: str, place: str, *, name: str | None = None) -> Media:
    """Return media given by a URL, which may hold the data itself.

    Raises:
        InvalidRequestError: it is a `data:` URL that is not in base64.
    """
    if not url.startswith("data:"):
        return Media(kind=kind, url=url, name=name)
    media_type, marker, text = url.removeprefix("data:").partition(";base64,")
    if not marker:
        raise wrong(place, "a data URL is in base64 here")
    return Media(kind=kind, media_type=media_type, data=data(text, place), name=name)


def strings(fields: Fields, name: str) -> tuple[str, ...]:
    """Return a field that is a string or a list of them.

    Raises:
        InvalidRequestError: it is something else.
    """
    if fields.is_text(name):
        return (fields.need(name, str),)
    return tuple(fields.take(name, list[str]) or ())


def number(fields: Fields, name: str) -> float | None:
    """Return a field that is a number; a whole one stays whole.

    Raises:
        InvalidRequestError: it is something else.
    """
    return fields.take(name, int | float)  # type: ignore[arg-type]  # msgspec takes unions


def limit(fields: Fields, name: str) -> int | None:
    """Return a field that limits the tokens of an answer.

    Raises:
        InvalidRequestError: it is no whole number, or negative.
    """
    count = fields.take(name, int)
    if count is not None and count < 0:
        raise wrong(fields.place(name), "a number of tokens, 0 or more")
    return count


def declared(fields: Fields, parameters: str) -> Tool:
    """Return the tool that an object declares; one without a schema of its arguments takes none.

    Args:
        fields: the object.
        parameters: the field with the schema.

    Raises:
        InvalidRequestError: it has no name, or a field of the wrong type.
    """
    schema = fields.take(parameters, dict[str, Any])
    return Tool(
        name=fields.need("name", str),
        description=fields.take("description", str) or "",
        parameters={"type": "object", "properties": {}} if schema is None else schema,
        strict=fields.take("strict", bool),
    )


def openai_cache(fields: Fields) -> bool | str | None:
    """Return how the prompt is to be cached, where `prompt_cache_options` says no more than our words do.

    Raises:
        InvalidRequestError: it is no object.
    """
    match fields.take("prompt_cache_options", dict[str, Any]):
        case {"mode": "implicit", **rest} if not rest:
            return True
        case {"ttl": str(time), **rest} if not rest:
            return time
    return None


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation, as it came and as we say it.

    Attributes:
        message: what our words say of it.
        came: it as plain values: what the client half should write for the message, mostly one object.
        native: the blocks to keep where it writes something else, as JSON.
    """

    message: Message
    came: Sequence[dict[str, Any]]
    native: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Mirror:
    """A dialect's client half, which shows what our words say of a request.

    Attributes:
        dialect: the client half.
        flags: how it is to speak, so that it can write what came.
        turns_field: the field that holds the conversation.
    """

    dialect: Dialect
    flags: Flags
    turns_field: str = "messages"

    def turns(self, turns: Sequence[Turn]) -> tuple[Message, ...]:
        """Return the messages, each with its native form where the client half would not write what came."""
        messages = tuple(turn.message for turn in turns)
        if self._writes(messages, [item for turn in turns for item in turn.came]):
            return messages
        return tuple(self._turn(turn) for turn in turns)

    def _turn(self, turn: Turn) -> Message:
        if self._writes((turn.message,), turn.came):
            return turn.message
        return replace(turn.message, native=tuple(Opaque(self.dialect.name, raw) for raw in turn.native))

    def _writes(self, messages: tuple[Message, ...], came: Sequence[object]) -> bool:
        """Say whether the client half writes for messages what came."""
        try:
            said = self.said(Request(prompt="", messages=messages, model=""))
        except InvalidRequestError:  # they hold something that only a native form says
            return False
        return bool(said[self.turns_field] == came)

    def rest(self, request: Request, fields: Fields, *, always: Iterable[str] = ()) -> Request:
        """Return a request with everything in `extra` that the client half would not write as it came.

        Args:
            request: what our words say.
            fields: the request as it came.
            always: fields that are kept even so, as the answer depends on them.
        """
        rules = tuple(message for message in request.messages if message.role == "system")
        try:
            said = self.said(replace(request, messages=rules))
        except InvalidRequestError:  # the client half asks more of a schema than this request keeps to
            request = replace(request, output=None)
            said = self.said(replace(request, messages=rules))
        extra = {
            name: value
            for name, value in fields.value().items()
            if name not in _IN_WORDS and name != self.turns_field and (name in always or said.get(name) != value)
        }
        return replace(request, extra=extra)

    def said(self, request: Request) -> dict[str, Any]:
        """Return what the client half writes for a request, as plain values."""
        return msgspec.json.decode(self.dialect.encode(request, self.flags).body, type=dict[str, Any])
