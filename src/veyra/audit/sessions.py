"""Which sessions live: one file each in `sessions/`, held by flock as long as its process has the log open.

The kernel lets go of the lock when the process ends, however it ends. So a session whose file can be locked is dead,
and nothing is guessed from process numbers or times. A file is made, and tried, only under the log's lock: then no
one takes a session for dead between its file's making and its locking.

The file holds the size of the log when the session began: none of its entries comes earlier. A second line names the
session's second place (`spool.py`), where it has one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, NamedTuple

from veyra.audit.files import sync_folder, write_all

FOLDER: Final = "sessions"
_MAX_SIZE: Final = 8_192


class Claim(NamedTuple):
    """A dead session taken on by this process: nobody else recovers it while `fd` is open.

    `first` is the sequence number before which it has no entries; `spool` is its second place, if it has one.
    """

    path: Path
    first: int
    fd: int
    spool: Path | None = None

    @property
    def session(self) -> str:
        """The session's id."""
        return self.path.name


def register(directory: Path, session: str, first: int, spool: Path | None = None) -> int:
    """Say that `session` lives and return the file that says so as long as it is open (the log's lock is held).

    Durable: write, fsync, fsync of the directory.
    """
    path = directory / FOLDER / session
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_all(fd, os.fsencode(f"{first}\n" if spool is None else f"{first}\n{spool}\n"))
        os.fsync(fd)
        sync_folder(path.parent)
    except BaseException:
        end(path, fd)
        raise
    return fd


def claim_dead(directory: Path) -> list[Claim]:
    """Take on every dead session that nobody else has taken on (the log's lock is held)."""
    claims: list[Claim] = []
    for path in sorted((directory / FOLDER).iterdir()):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        claims.append(Claim(path, first_of(fd), fd, _spool_of(fd)))
    return claims


def is_registered(directory: Path, session: str) -> bool:
    """Tell whether a session has a file here: whoever opens the log next after its death then recovers it."""
    return (directory / FOLDER / session).exists()


def first_of(fd: int) -> int:
    """Return the number before which the session whose file is open as `fd` has no entries; 0 where that is not known."""
    first = os.pread(fd, 32, 0).split(b"\n", 1)[0]
    return int(first) if first.isdigit() else 0


def _spool_of(fd: int) -> Path | None:
    lines = os.pread(fd, _MAX_SIZE, 0).split(b"\n")
    return Path(os.fsdecode(lines[1])) if len(lines) > 2 else None


def end(path: Path, fd: int) -> None:
    """Strike a session off: unlink, close. Were the unlinking lost in a crash, recovery would find it closed."""
    path.unlink(missing_ok=True)
    os.close(fd)
