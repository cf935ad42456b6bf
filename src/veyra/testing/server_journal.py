"""What the fault server saw: one entry for each request, without keys.

1. A value of a header that carries a key is masked, and that of a query (`?key=`), and so is the key wherever else it turns
   up: path, headers, body.
2. An entry is there, with the status, before the first byte of its answer is sent, and how the answer ended before the last.
3. The journal is bounded: the last `ENTRIES` are kept, fewer where their bodies are more than `KEPT` bytes together, and of each
   body the first `BODY_KEPT`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote_plus

from veyra.audit.redact import redact_bytes, redact_text
from veyra.testing.server_http import Received
from veyra.types import Secret

ENTRIES = 10_000
BODY_KEPT = 1024 * 1024
KEPT = 256 * 1024 * 1024
MASK = "***"

_SECRET = re.compile(r"authorization|cookie|(^|-)(api-?)?key$|token$|secret").search
_QUERY = re.compile(r"([?&](?:key|access_token)=)([^&]*)")
_SCHEME = re.compile(r"((?:Bearer|Basic|Token) +)?(.*)", re.DOTALL).fullmatch

Ended: TypeAlias = Literal["answered", "broken", "left"]
"""How an exchange ended: with a whole answer, by a fault, or with a caller who left before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request, and what became of it.

    Attributes:
        number: from 1, in the order in which the requests came.
        method, path: as they came; the query belongs to the path. Empty where what came was not HTTP.
        headers: names in lower case, keys masked.
        body: the bytes, keys masked, cut where they are too many.
        fault: the text of the fault that was played; None for none.
        status: what was answered; None while nothing was, or nothing is.
        ended: how it ended; None while it goes on.
    """

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    fault: str | None = None
    status: int | None = None
    ended: Ended | None = None

    @property
    def json(self) -> Any:  # noqa: ANN401  (JSON is of any shape)
        """The body, parsed.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.body)

    def record(self) -> dict[str, object]:
        """Return the entry as JSON has it: the body parsed where it is JSON, else as text."""
        try:
            body: object = self.json if self.body else None
        except (ValueError, RecursionError):
            body = self.body.decode("utf-8", "replace")
        return {
            "number": self.number,
            "method": self.method,
            "path": self.path,
            "headers": dict(self.headers),
            "body": body,
            "fault": self.fault,
            "status": self.status,
            "ended": self.ended,
        }


class Journal:
    """The entries, in the order in which the requests came.

    Args:
        told: called with each entry when its exchange has ended.
        entries: how many are kept.
        kept: how many bytes of bodies are kept, together.
    """

    def __init__(self, told: Callable[[Seen], None] | None = None, *, entries: int = ENTRIES, kept: int = KEPT) -> None:
        self._most = entries
        self._kept = kept
        self._entries: deque[Seen] = deque()
        self._told = told
        self._count = 0
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __call__(self) -> tuple[Seen, ...]:
        """Return the entries there are now."""
        return tuple(self._entries)

    def open(self, received: Received, fault: str | None) -> Seen:
        """Note a request, and return its entry."""
        self._count += 1
        secrets = _secrets(received)
        seen = Seen(
            number=self._count,
            method=received.method,
            path=redact_text(_QUERY.sub(rf"\1{MASK}", received.target), secrets),
            headers={name: _masked(name, value, secrets) for name, value in received.headers.items()},
            body=redact_bytes(received.body[:BODY_KEPT], secrets),
            fault=fault,
        )
        self._entries.append(seen)
        self._size += len(seen.body)
        while len(self._entries) > self._most or self._size > self._kept:
            self._size -= len(self._entries.popleft().body)
        return seen

    def suffer(self, number: int, fault: str) -> None:
        """Add to an entry the fault that shows only with its answer."""
        place = self._place(number)
        if place is not None:
            self._entries[place] = replace(self._entries[place], fault=fault)

    def note(self, number: int, *, status: int | None, ended: Ended | None) -> None:
        """Add to an entry what is known by now of its answer."""
        place = self._place(number)
        if place is not None:
            self._entries[place] = replace(self._entries[place], status=status, ended=ended)

    def close(self, number: int) -> None:
        """Say that an exchange is over: one whose end nobody has noted was left by its caller."""
        place = self._place(number)
        if place is None:
            return
        seen = self._entries[place]
        if seen.ended is None:
            seen = self._entries[place] = replace(seen, ended="left")
        if self._told is not None:
            self._told(seen)

    def _place(self, number: int) -> int | None:
        """Return where an entry is, or None where it is kept no longer."""
        place = number - 1 - (self._count - len(self._entries))
        return place if place >= 0 else None


def keyless(target: str) -> str:
    """Return a request's target without a key in its query."""
    path, _, query = target.partition("?")
    kept = [field for field in query.split("&") if field and not _QUERY.match(f"?{field}")]
    return f"{path}?{'&'.join(kept)}" if kept else path


def _secrets(received: Received) -> tuple[Secret, ...]:
    carried = [_parts(value)[1] for name, value in received.headers.items() if _SECRET(name)]
    queried = [form for _, value in _QUERY.findall(received.target) for form in (value, unquote_plus(value))]
    return tuple(map(Secret, (*carried, *queried)))


def _masked(name: str, value: str, secrets: tuple[Secret, ...]) -> str:
    return _parts(value)[0] + MASK if _SECRET(name) else redact_text(value, secrets)


def _parts(value: str) -> tuple[str, str]:
    """Return the scheme that a key is given with, and the key."""
    found = _SCHEME(value)
    return ("", value) if found is None else (found[1] or "", found[2])
