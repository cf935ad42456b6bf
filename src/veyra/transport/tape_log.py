"""From a log of calls to recordings: the exchanges of its attempts, as the log has them.

This room knows no log. It reads what the form of the log says of an intent and an outcome (docs/audit-format.md): the
bodies `request.wire`, `response.wire` and `meta`, and where the request went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from veyra.errors import AuditCorruptError, InvalidRequestError
from veyra.transport.base import Head
from veyra.transport.recording import Piece, Recording

_INTENT: Final = "call.intent"
_OUTCOME: Final = "call.outcome"
_LEFT: Final = frozenset({"cancelled", "timeout"})


class LoggedPart(Protocol):
    """A body beside an entry."""

    @property
    def name(self) -> str:
        """Its name, `request.wire` say."""
        ...

    @property
    def data(self) -> bytes:
        """Its bytes."""
        ...


class LoggedEntry(Protocol):
    """An entry of a log."""

    @property
    def seq(self) -> int:
        """Its place, from 0."""
        ...

    @property
    def leaf(self) -> Mapping[str, Any]:
        """What it says."""
        ...

    @property
    def parts(self) -> Sequence[LoggedPart]:
        """The bodies beside it."""
        ...


class Log(Protocol):
    """What has entries: an `AuditLog`."""

    def entries(self) -> Iterator[LoggedEntry]:
        """Return them in order."""
        ...


class _Meta(msgspec.Struct):
    status: int
    headers: dict[str, str]
    arrivals: list[tuple[int, int]]
    cut: bool = False


def recordings(log: Log, ids: Sequence[int | str]) -> tuple[Recording, ...]:
    """Return the exchanges of a log's attempts, in the order in which they were begun.

    Args:
        log: where they are.
        ids: which of them: the sequence number of an entry, or an id, or its beginning, of an entry or of a call. None at all
            means every attempt that got an answer.

    Raises:
        InvalidRequestError: an id names no attempt, or one that got no answer.
        AuditCorruptError: a body of the log is not what was recorded.
    """
    found: dict[int, Recording] = {}
    named: set[int | str] = set()
    for intent, outcome in _attempts(log):
        naming = {wanted for wanted in ids if _is_named(wanted, intent, outcome)}
        if naming or not ids:
            recording = exchange(intent, outcome)
            if recording is not None:
                found[intent.seq] = recording
                named |= naming
    missing = [repr(wanted) for wanted in ids if wanted not in named]
    if missing:
        msg = f"nothing in the log with an answer that can be played is named by {', '.join(missing)}"
        raise InvalidRequestError(msg)
    return tuple(found[seq] for seq in sorted(found))


def exchange(intent: LoggedEntry, outcome: LoggedEntry) -> Recording | None:
    """Return the exchange of an attempt; None where no answer came, or its backend had no bytes to record.

    An attempt that was cancelled, or whose time ran out, left its answer.

    Raises:
        AuditCorruptError: a body is not what was recorded, or `meta` does not fit the answer's bytes.
    """
    bodies = {part.name: part for entry in (intent, outcome) for part in entry.parts}
    if "meta" not in bodies or "response.wire" not in bodies:
        return None
    try:
        meta = msgspec.json.decode(bodies["meta"].data, type=_Meta)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        msg = f"the part 'meta' of entry {outcome.seq} cannot be read: {error}"
        raise AuditCorruptError(msg) from None
    pieces = _pieces(bodies["response.wire"].data, meta.arrivals)
    if pieces is None:
        msg = f"the part 'meta' of entry {outcome.seq} does not fit the bytes of its answer"
        raise AuditCorruptError(msg)
    attributes = intent.leaf["attributes"]
    path, query = attributes.get("url.path") or "/", attributes.get("url.query")
    return Recording(
        method="POST",  # what is on record is always sent so
        path=f"{path}?{query}" if query else path,
        body=bodies["request.wire"].data if "request.wire" in bodies else b"",
        head=Head(meta.status, meta.headers),
        pieces=pieces,
        end="cut" if meta.cut else "left" if outcome.leaf["status"] in _LEFT else "end",
    )


def _attempts(log: Log) -> Iterator[tuple[LoggedEntry, LoggedEntry]]:
    intents: dict[str, LoggedEntry] = {}
    for entry in log.entries():
        if entry.leaf["kind"] == _INTENT:
            intents[entry.leaf["id"]] = entry
        elif entry.leaf["kind"] == _OUTCOME and entry.leaf["intent"] in intents:
            yield intents.pop(entry.leaf["intent"]), entry


def _is_named(wanted: int | str, intent: LoggedEntry, outcome: LoggedEntry) -> bool:
    if isinstance(wanted, int) or wanted.isdecimal():
        return int(wanted) in {intent.seq, outcome.seq}
    names = (intent.leaf["id"], outcome.leaf["id"], intent.leaf["call"])
    return bool(wanted) and any(name.startswith(wanted) for name in names)


def _pieces(body: bytes, arrivals: Sequence[tuple[int, int]]) -> tuple[Piece, ...] | None:
    """Return a body in the pieces in which it arrived; None where their sizes do not come to its size."""
    pieces: list[Piece] = []
    start = 0
    for size, after in arrivals:
        pieces.append(Piece(after, body[start : start + size]))
        start += size
    return tuple(pieces) if start == len(body) and all(size >= 0 for size, _ in arrivals) else None
