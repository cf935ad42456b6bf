"""The file that keeps a tape: lines of JSON in UTF-8, to be read by people and compared by version control.

    {"veyra.tape": 1}
    {"request": {"method": "POST", "path": "/v1/chat/completions", "json": {...}}, "response": {"status": 200, ...}}

1. The first line names the version; each line after it is one exchange. Fields that are not known here are passed over.
2. A request's body is one of `json` (the bytes are JSON and stand here as they were), `text` (UTF-8) and `base64`; none of
   them where it is empty.
3. A response has `status`, `headers`, `body` and `end`. `body` is a list of pieces as they arrived, each a list of the
   nanoseconds since the exchange began and the bytes: a string where they are UTF-8, else `{"base64": "..."}`.
4. `end` is `end`, `cut` (the connection broke) or `left` (whoever asked did not read on).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from veyra.transport.base import Head
from veyra.transport.recording import End, Piece, Recording

VERSION: Final = 1
"""The version that is written, and the only one that is read."""


class _First(Struct):
    version: int = msgspec.field(name="veyra.tape")


class _Binary(Struct):
    base64: bytes


class _Request(Struct, omit_defaults=True):
    method: str
    path: str
    json: Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


_Arrived: TypeAlias = tuple[Annotated[int, Meta(ge=0)], str | _Binary]


class _Response(Struct):
    status: Annotated[int, Meta(ge=100, le=999)]
    headers: dict[str, str]
    body: list[_Arrived]
    end: End


class _Line(Struct):
    request: _Request
    response: _Response


_first = msgspec.json.Decoder(_First).decode
_line = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


def write(recordings: Iterable[Recording]) -> bytes:
    """Return the file that keeps these recordings."""
    lines = [_encode(_First(VERSION)), *(_encode(_written(recording)) for recording in recordings)]
    return b"".join(line + b"\n" for line in lines)


def read(data: bytes) -> tuple[Recording, ...]:
    """Return the recordings that a file keeps.

    Raises:
        ValueError: it is no tape, of another version, or a line is not what it should be; the message names the line.
    """
    head, *lines = data.split(b"\n")
    try:
        version = _first(head).version
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        msg = 'line 1 is not {"veyra.tape": 1}, with which a tape begins'
        raise ValueError(msg) from None
    if version != VERSION:
        msg = f"it is a tape of version {version}, and only version {VERSION} is known here"
        raise ValueError(msg)
    return tuple(_read(line, number) for number, line in enumerate(lines, 2) if line.strip())


def _written(recording: Recording) -> _Line:
    request = _Request(recording.method, recording.path)
    body = recording.body
    if _is_line_of_json(body):
        request.json = Raw(body)
    elif (text := _as_text(body)) is None:
        request.base64 = body
    elif text:
        request.text = text
    arrived = [(piece.after, _piece(piece.data)) for piece in recording.pieces]
    head = recording.head
    return _Line(request, _Response(head.status, dict(head.headers), arrived, recording.end))


def _piece(data: bytes) -> str | _Binary:
    text = _as_text(data)
    return _Binary(data) if text is None else text


def _as_text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_line_of_json(data: bytes) -> bool:
    """Tell whether bytes can stand in a line of JSON as they are."""
    if not data or data != data.strip() or b"\n" in data or b"\r" in data:
        return False
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _read(line: bytes, number: int) -> Recording:
    try:
        read = _line(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        msg = f"line {number} is not an exchange of a tape: {error}"
        raise ValueError(msg) from None
    request, response = read.request, read.response
    bodies = [body for body in (request.json, request.text, request.base64) if body is not UNSET]
    if len(bodies) > 1:
        msg = f"line {number}: a request has one of json, text and base64, not several"
        raise ValueError(msg)
    return Recording(
        method=request.method,
        path=request.path,
        body=b"".join(_bytes(body) for body in bodies),
        head=Head(response.status, response.headers),
        pieces=tuple(Piece(after, _bytes(data)) for after, data in response.body),
        end=response.end,
    )


def _bytes(body: object) -> bytes:
    match body:
        case str():
            return body.encode()
        case _Binary():
            return body.base64
        case _:
            return bytes(body)  # type: ignore[call-overload,no-any-return]  # Raw or bytes
