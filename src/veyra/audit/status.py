"""How a log stands: who writes to it, how far its checkpoint reaches, what is open and what is lost. Reads only."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veyra.audit import checkpoint, quarantine, saved, segment, sessions
from veyra.audit.entry import GAP, OPEN, VERSION, parse
from veyra.audit.read import rfc3339
from veyra.audit.walk import Walk
from veyra.errors import AuditError

_GAP: Final = f'{{"v":{VERSION},"kind":"{GAP}"'.encode()
_LOCK_TRIES: Final = 20
_LOCK_PAUSE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSession:
    """A process that has the log open; `since` is RFC 3339, `pid` is its number on the machine it runs on."""

    session: str
    pid: int
    mode: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a log stands.

    Attributes:
        origin: the log's name.
        entries, segments: how many there are.
        size: bytes of the segments, with the room behind the last entry.
        writers: the sessions that are alive; None where that could not be found out.
        checkpoint_size: how many entries the checkpoint covers; None where there is none.
        checkpoint_time: when it was written, RFC 3339.
        lost: intents and outcomes that the log itself declares were not recorded (`gap` entries).
        quarantined: files of torn bytes that recovery set aside.
        fault: what keeps the log from being read to its end; None where nothing does.
    """

    origin: str
    entries: int
    segments: int
    size: int
    writers: tuple[LiveSession, ...] | None
    checkpoint_size: int | None
    checkpoint_time: str | None
    lost: int
    quarantined: int
    fault: str | None


def read_status(directory: str | os.PathLike[str]) -> Status:
    """Return how the log in `directory` stands. Reads every leaf, but no body.

    Raises:
        AuditError: there is no log, or it cannot be read.
    """
    path = Path(directory)
    try:
        return _status(path)
    except OSError as error:
        msg = f"the audit log at {path} cannot be read: {error.strerror or error}"
        raise AuditError(msg) from error


def _status(path: Path) -> Status:
    files = segment.listed(path)
    if not files:
        msg = f"there is no audit log at {path}"
        raise AuditError(msg)
    alive = _alive(path)
    heads = Walk(path).heads
    last = heads[-1][1].first if heads else 0
    tail = Walk(path, last)
    entries = max((frame.seq + 1 for _, frame in tail), default=last)
    covered, written = _checkpoint(path)
    return Status(
        origin=heads[0][1].origin if heads else "",
        entries=entries,
        segments=len(files),
        size=sum(file.stat().st_size for file in files),
        writers=None if alive is None else tuple(_session(path, sid, first) for sid, first in alive),
        checkpoint_size=covered,
        checkpoint_time=written,
        lost=_lost(path),
        quarantined=len(list((path / quarantine.FOLDER).glob("*"))),
        fault=None
        if tail.fault is None
        else f"{tail.fault.file.name} at offset {tail.fault.offset}: {tail.fault.reason}",
    )


def _lost(path: Path) -> int:
    leaves = (leaf for _, run in Walk(path).runs() for leaf in run.leaves if leaf.startswith(_GAP))
    return sum(gap["intents"] + gap["outcomes"] for gap in map(parse, leaves))


def _checkpoint(path: Path) -> tuple[int | None, str | None]:
    try:
        found = saved.read_checkpoint(path)
    except ValueError as error:
        raise AuditError(str(error)) from error
    if found is None:
        return None, None
    return found.size, rfc3339((path / checkpoint.FILE).stat().st_mtime_ns)


def _alive(path: Path) -> list[tuple[str, int]] | None:
    """Return the sessions whose file is locked, and where each began; None where the log's lock is not to be had.

    The log's lock is held meanwhile: so a session is never seen between its file's making and its locking.
    """
    try:
        with _shared(path / "lock") as held:
            files = sorted((path / sessions.FOLDER).iterdir()) if held else []
            return [(file.name, first) for file in files if (first := _begin(file)) is not None] if held else None
    except FileNotFoundError:
        return []  # a copy, without what only writers need
    except PermissionError:
        return None


@contextmanager
def _shared(lock: Path) -> Iterator[bool]:
    """Hold the log's lock together with other readers; without it where a writer keeps it for long."""
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield any(_locked(fd) for _ in range(_LOCK_TRIES))
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_LOCK_PAUSE_SECONDS)
        return False
    return True


def _begin(file: Path) -> int | None:
    """Return the number before which a live session has no entries; None where it is dead."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return sessions.first_of(fd)
    finally:
        os.close(fd)
    return None


def _session(path: Path, sid: str, first: int) -> LiveSession:
    own = f'"sid":"{sid}"'.encode("ascii", "replace")
    for _, frame in Walk(path, first):
        if own in frame.leaf:
            leaf = parse(frame.leaf)
            if leaf["kind"] == OPEN:
                return LiveSession(session=sid, pid=leaf["pid"], mode=leaf["mode"], since=rfc3339(int(leaf["t"])))
            break
    return LiveSession(session=sid, pid=0, mode="not known", since="not known")
