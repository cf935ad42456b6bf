"""A conversation in a file: one JSON object in ASCII, version 1.

    {"veyra": "conversation", "version": 1, "id": "...", "system": null, "messages": [
      {"role": "user", "content": "Hello", "native": []},
      {"role": "assistant", "content": [{"type": "text", "text": "Hi"}], "native": [{"dialect": "anthropic", "raw": "e30="}]}]}

1. A part has the fields of its class in `veyra.types`, and `type`. Bytes are base64, so that what a provider signed comes back
   byte for byte.
2. What is read is what would be written: an unknown key, a missing one or a value of another type is damage, and is named by
   its place. A file of a later version is refused as such.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from veyra.audit.files import created, write_all
from veyra.errors import InvalidRequestError, excerpt
from veyra.types import Media, Message, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolResult

T = TypeVar("T")

VERSION: Final = 1
_KIND: Final = "conversation"
_PARTS: Final[dict[str, type[Part]]] = {
    "text": Text,
    "media": Media,
    "reasoning": Reasoning,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "opaque": Opaque,
}


class Saved(NamedTuple):
    """What is kept of a conversation."""

    id: str
    system: str | None
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class _File:
    """The keys of the whole."""

    veyra: Literal["conversation"]
    version: Literal[1]
    id: str
    system: str | None
    messages: list[Any]


@dataclass(frozen=True, slots=True)
class _Turn:
    """The keys of a message."""

    role: Role
    content: str | list[Any]
    native: list[Any]


class _DamageError(Exception):
    """What is read is not what would be written; says where and why."""


def write(path: str | PathLike[str], saved: Saved) -> None:
    """Write a conversation into a file of mode 0600, in one step and durably (`veyra.audit.files.created`).

    Raises:
        InvalidRequestError: it cannot be written there, or holds what has no JSON form.
    """
    try:
        file = _File(_KIND, VERSION, saved.id, saved.system, [_written(message) for message in saved.messages])
        text = json.dumps(msgspec.to_builtins(file), indent=1, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the conversation cannot be saved: {excerpt(str(error))}"
        raise InvalidRequestError(msg) from error
    try:
        with created(Path(path)) as fd:
            write_all(fd, f"{text}\n".encode("ascii"))
    except OSError as error:
        msg = f"{fspath(path)}: the conversation cannot be written: {error.strerror or error}"
        raise InvalidRequestError(msg) from error


def read(path: str | PathLike[str]) -> Saved:
    """Return the conversation in a file.

    Raises:
        InvalidRequestError: the file cannot be read, or is not what `write` writes; the message says where.
    """
    try:
        return _read(json.loads(Path(path).read_bytes().decode("ascii")))
    except OSError as error:
        why = f"the conversation cannot be read: {error.strerror or error}"
    except UnicodeDecodeError as error:
        why = _damage(f"byte {error.start} is not ASCII")
    except json.JSONDecodeError as error:
        why = _damage(f"line {error.lineno}: {error.msg}")
    except RecursionError:
        why = _damage("it is nested too deeply")
    except _DamageError as error:
        why = _damage(str(error))
    msg = f"{fspath(path)}: {why}"
    raise InvalidRequestError(msg)


def _damage(what: str) -> str:
    return f"this is no conversation, or a damaged one: {excerpt(what)}"


# ------------------------------------------------------------------------------------------------ writing


def _written(message: Message) -> dict[str, object]:
    content = message.content if isinstance(message.content, str) else [_tagged(part) for part in message.content]
    return {"role": message.role, "content": content, "native": message.native}


def _tagged(part: Part) -> dict[str, object]:
    tag = next(tag for tag, kind in _PARTS.items() if isinstance(part, kind))
    fields_of_part: dict[str, object] = msgspec.to_builtins(part)
    return {"type": tag} | fields_of_part


# ------------------------------------------------------------------------------------------------ reading


def _read(data: object) -> Saved:
    if isinstance(data, dict) and data.get("veyra") == _KIND and data.get("version") != VERSION:
        msg = f"it is of version {data.get('version')!r}, and this Veyra reads version {VERSION}"
        raise _DamageError(msg)
    file = _value(_File, data, "$")
    if not file.id:
        msg = "$: the id is empty"
        raise _DamageError(msg)
    messages = [_message(item, f"$.messages[{number}]") for number, item in enumerate(file.messages)]
    return Saved(file.id, file.system, tuple(messages))


def _message(data: object, place: str) -> Message:
    turn = _value(_Turn, data, place)
    native = tuple(_value(Opaque, item, f"{place}.native[{number}]") for number, item in enumerate(turn.native))
    if isinstance(turn.content, str):
        return Message(turn.role, turn.content, native)
    return Message(
        turn.role,
        tuple(_part(item, f"{place}.content[{number}]") for number, item in enumerate(turn.content)),
        native,
    )


def _part(data: object, place: str) -> Part:
    tag = data.get("type") if isinstance(data, dict) else None
    kind = _PARTS.get(tag) if isinstance(tag, str) else None
    if kind is None or not isinstance(data, dict):
        msg = f"{place}: its type is one of {', '.join(_PARTS)}, not {tag!r}"
        raise _DamageError(msg)
    return _value(kind, {name: value for name, value in data.items() if name != "type"}, place)


def _value(kind: type[T], data: object, place: str) -> T:
    """Return data as a value of a dataclass, all of whose fields are there, and no other."""
    if not isinstance(data, dict):
        msg = f"{place}: an object is expected"
        raise _DamageError(msg)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # they are dataclasses all
    if data.keys() != names:
        key = min(data.keys() ^ names)
        msg = f"{place}: {'the key is missing' if key in names else 'there is an unknown key'}: {key!r}"
        raise _DamageError(msg)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        msg = f"{place}: {error}"
        raise _DamageError(msg) from None
