"""Reading a log: entries with their bodies, and attempts (intent and outcome side by side). Never writes.

Works on a directory that nobody has open as well as on one that others write to, and ends on any input.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

from veyra.audit import segment
from veyra.audit.coding import unpack
from veyra.audit.entry import BLOCKED, INTENT, OUTCOME, Blob, commit, parse, parse_blobs
from veyra.audit.frame import Frame
from veyra.audit.walk import Fault, Place, Walk
from veyra.errors import AuditCorruptError, AuditError

_USAGE: Final = {
    "input_total": "gen_ai.usage.input_tokens",
    "input_uncached": "veyra.usage.input_uncached",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "output_total": "gen_ai.usage.output_tokens",
    "reasoning": "veyra.usage.reasoning",
}
_SEQ = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII).fullmatch
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A body as it is kept beside an entry; `size` is in bytes, `commit` in lower-case hex."""

    name: str
    media_type: str
    size: int
    commit: str
    enc: str
    _load: Callable[[], Blob] = field(repr=False, compare=False)

    @property
    def salt(self) -> bytes:
        """The salt of the commitment, read now; with it and the body anybody can check the leaf."""
        return self._load().salt

    @property
    def data(self) -> bytes:
        """The body, read now and checked against the commitment in the leaf.

        Raises:
            AuditCorruptError: it is not the body that was recorded.
        """
        blob = self._load()
        try:
            data = unpack(self.enc, blob.data, self.size)
        except ValueError as error:
            msg = f"the part {self.name!r} cannot be read: {error}"
            raise AuditCorruptError(msg) from error
        if not compare_digest(commit(blob.salt, self.name, data).hex(), self.commit):
            msg = f"the part {self.name!r} is not what the entry commits to"
            raise AuditCorruptError(msg)
        return data


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log: its place, and its leaf as an object and as bytes."""

    seq: int
    leaf: Mapping[str, Any]
    raw: bytes = field(repr=False)
    _load: Callable[[], list[Blob]] = field(repr=False, compare=False)

    @property
    def parts(self) -> tuple[StoredPart, ...]:
        """The bodies beside the entry. Each is read when its `data` is asked for."""
        described = self.leaf["parts"] if self.leaf["kind"] in {INTENT, OUTCOME} else []
        return tuple(
            StoredPart(
                part["name"], part["type"], part["size"], part["commit"], part["enc"], partial(self._blob, number)
            )
            for number, part in enumerate(described)
        )

    def _blob(self, number: int) -> Blob:
        try:
            return self._load()[number]
        except (ValueError, IndexError) as error:
            msg = f"the bodies beside entry {self.seq} cannot be read: {error}"
            raise AuditCorruptError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt: its intent, and its outcome if there is one.

    Attributes:
        seq, id: of the intent.
        attempt: which try of the call, from 1.
        time: when the intent was recorded, RFC 3339 in UTC with microseconds.
        model: the model that answered, or else the one asked for.
        status: `open` until there is an outcome, then that outcome's; `blocked` where the call was refused before it was sent.
        request_id: the provider's, None where it gave none.
        latency_ms: None until there is an outcome, and for an abandoned one.
        usage: tokens by the names of `veyra.types.Usage`; None where nothing was stated, a None inside where that was not.
        cost: None where unknown.
        error: `error.type` of the outcome.
        outcome: the outcome's id.
    """

    seq: int
    id: str
    call: str
    attempt: int
    time: str
    backend: str
    model: str | None
    status: str = "open"
    request_id: str | None = None
    latency_ms: float | None = None
    usage: Mapping[str, int | None] | None = None
    cost: Decimal | None = None
    error: str | None = None
    outcome: str | None = None


def read_entries(directory: str | os.PathLike[str]) -> Iterator[Entry]:
    """Yield the entries of the log in `directory`, in order. Bodies are read when they are asked for.

    A torn end, as a crash leaves it, ends the log quietly.

    Raises:
        AuditError: there is no log.
        AuditCorruptError: the log is damaged; raised after the entries before the damage.
    """
    return (entry for _, entry in placed_entries(directory))


def placed_entries(directory: str | os.PathLike[str], at: Place | None = None) -> Iterator[tuple[Place, Entry]]:
    """Yield the entries as `read_entries` does, each with its place, from `at` on (see `Walk`)."""
    path = Path(directory)
    walk = Walk(path, at=at)
    if not segment.listed(path):
        msg = f"there is no audit log at {path}"
        raise AuditError(msg)
    for file, frame in walk:
        place = Place(segment.number(file), frame.offset, frame.seq)
        yield place, Entry(frame.seq, _leaf(file, frame), frame.leaf, partial(_load, file, *frame.blobs_range))
    if walk.fault is not None and not walk.fault.torn:
        raise walk.fault.error()


def read_attempts(directory: str | os.PathLike[str]) -> Iterator[AttemptRow]:
    """Yield one row for each intent of the log in `directory`, in order; raises as `read_entries`."""
    return joined(read_entries(directory))


def find(directory: str | os.PathLike[str], key: int | str) -> tuple[Entry, ...]:
    """Return the entries that `key` names, in order; empty where it names none.

    `key` is a sequence number, or an id or its beginning: of an entry, or of a call (then all entries of its attempts).
    An intent comes with its outcome, an outcome with its intent.

    Raises:
        AuditError: there is no log, or the beginning of an id fits more than one entry or call.
        AuditCorruptError: the log is damaged before the entry was found.
    """
    text = str(key)
    seq = int(text) if _SEQ(text) else None
    groups: dict[str, set[str]] = {}
    for entry in read_entries(directory):
        call = entry.leaf.get("call", entry.leaf["id"])
        if entry.seq == seq if seq is not None else (entry.leaf["id"].startswith(text) or call.startswith(text)):
            groups.setdefault(call, set()).add(_subject(entry.leaf))
    if len(groups) > 1:
        msg = f"{text!r} fits {len(groups)} calls, among them {', '.join(sorted(groups)[:_SHOWN])}; give more of the id"
        raise AuditError(msg)
    subjects = set().union(*groups.values())
    return tuple(entry for entry in read_entries(directory) if subjects and _subject(entry.leaf) in subjects)


def memory_entries(entries: Sequence[tuple[bytes, bytes]]) -> Iterator[Entry]:
    """Yield the entries of a log in memory, given as leaf and blobs."""
    for seq, (leaf, blobs) in enumerate(entries):
        yield Entry(seq, parse(leaf), leaf, partial(parse_blobs, blobs))


def joined(entries: Iterable[Entry]) -> Iterator[AttemptRow]:
    """Yield one row for each intent, joined with its outcome, and for each refused call, in order, as soon as read."""
    rows: deque[str] = deque()
    waiting: dict[str, AttemptRow] = {}
    for entry in entries:
        leaf = entry.leaf
        if leaf["kind"] == INTENT:
            rows.append(leaf["id"])
            waiting[leaf["id"]] = opened(entry)
        elif leaf["kind"] == BLOCKED:
            rows.append(leaf["id"])
            waiting[leaf["id"]] = refused(entry)
        elif leaf["kind"] == OUTCOME and leaf["intent"] in waiting:
            waiting[leaf["intent"]] = closed(waiting[leaf["intent"]], leaf)
        while rows and waiting[rows[0]].status != "open":
            yield waiting.pop(rows.popleft())
    yield from waiting.values()


def _subject(leaf: Mapping[str, Any]) -> str:
    """Return what an entry is about: the intent, for an intent and its outcome, otherwise itself."""
    return str(leaf["intent"] if leaf["kind"] == OUTCOME else leaf["id"])


def opened(entry: Entry) -> AttemptRow:
    """Return the row of an intent that has no outcome yet."""
    leaf = entry.leaf
    return AttemptRow(
        seq=entry.seq,
        id=leaf["id"],
        call=leaf["call"],
        attempt=leaf["attempt"],
        time=rfc3339(int(leaf["t"])),
        backend=leaf["backend"],
        model=_text(leaf["attributes"].get("gen_ai.request.model")),
    )


def closed(row: AttemptRow, leaf: Mapping[str, Any]) -> AttemptRow:
    """Return the row of an intent with the outcome `leaf`."""
    attributes = leaf["attributes"]
    usage = {name: _number(attributes.get(attribute)) for name, attribute in _USAGE.items()}
    return replace(
        row,
        status=leaf["status"],
        model=_text(attributes.get("gen_ai.response.model")) or row.model,
        request_id=_text(attributes.get("veyra.request_id")),
        latency_ms=None if leaf["latency"] is None else int(leaf["latency"]) / 1e6,
        usage=usage if any(value is not None for value in usage.values()) else None,
        cost=_amount(attributes.get("veyra.cost.amount")),
        error=_text(attributes.get("error.type")),
        outcome=leaf["id"],
    )


def refused(entry: Entry) -> AttemptRow:
    """Return the row of a call that was refused before anything was sent."""
    return replace(opened(entry), status="blocked", error=_text(entry.leaf["attributes"].get("error.type")))


def rfc3339(nanoseconds: int) -> str:
    """Return wall clock time as RFC 3339 in UTC with microseconds; 1970 where it is out of the calendar."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if type(value) is int else None


def _amount(value: object) -> Decimal | None:
    try:
        return Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None


def _leaf(file: Path, frame: Frame) -> dict[str, Any]:
    try:
        return parse(frame.leaf)
    except ValueError as error:
        raise Fault(file, frame.offset, frame.seq, str(error), torn=False).error() from error


def _load(file: Path, begin: int, end: int) -> list[Blob]:
    with segment.opened(file) as fd:
        return parse_blobs(os.pread(fd, end - begin, begin))
