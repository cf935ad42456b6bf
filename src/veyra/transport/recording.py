"""One recorded exchange: what was asked and what came back, byte for byte, with the time of each piece.

What is kept holds no key: of a request there are the method, the path and the body, no header; of an answer the headers
of `kept_headers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from veyra.transport.base import Head

End: TypeAlias = Literal["end", "cut", "left"]
"""How a body ended: at its end, by a connection that broke, or with a caller who left before."""

_KEPT: Final = frozenset(
    {
        "content-type",
        "date",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "server",
        "x-request-id",
        "x-should-retry",
    }
)
_KEPT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-", "openai-processing-ms", "openai-version", "cf-ray")


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an answer that are kept: those that say what it is, whose, and when to ask again."""
    return {name: value for name, value in headers.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that arrived together; `after` is nanoseconds since the exchange began."""

    after: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One exchange as it went over the wire.

    Attributes:
        method: `GET` or `POST`.
        path: the path of the URL and its query.
        body: the bytes that were sent.
        head: the status and headers of the answer.
        pieces: its body as it arrived.
        end: how the body ended.
    """

    method: str
    path: str
    body: bytes = field(repr=False)
    head: Head
    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    end: End = "end"

    def __str__(self) -> str:
        """Name the request."""
        return f"{self.method} {self.path}"


def path_of(url: str) -> str:
    """Return the path of a URL, with its query."""
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def canonical(method: str, path: str, body: bytes) -> dict[str, object]:
    """Return a request in its canonical form.

    A body of JSON is the value that it stands for, so that spaces, the order of keys and the way a number is written do
    not matter. Any other body is its bytes.
    """
    return {"method": method, "path": path, "body": _value(body)}


def key(request: Mapping[str, object]) -> str:
    """Return a text that two canonical forms share where they are the same request, and only there."""
    kind = type(request["body"]).__name__  # no JSON can pass for bytes
    return f"{kind} {json.dumps(request, sort_keys=True, default=repr)}"


def _value(body: bytes) -> object:
    try:
        value = json.loads(body, parse_float=_number) if body else None
        json.dumps([[value]])  # what is nested too deeply to be written again counts by its bytes
    except (ValueError, RecursionError):
        return body
    return value


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number
