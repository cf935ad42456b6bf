"""Which sessions live: one file each in `sessions/`, held by flock as long as its process has the log open.

The kernel lets go of the lock when the process ends, however it ends. So a session whose file can be locked is dead,
and nothing is guessed from process numbers or times. A file is made, and tried, only under the log's lock: then no
one takes a session for dead between its file's making and its locking.

The file holds the size of the log when the session began: none of its entries comes earlier.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, NamedTuple

from veyra.audit.files import sync_folder, write_all

FOLDER: Final = "sessions"


class Claim(NamedTuple):
    """A dead session taken on by this process: nobody else recovers it while `fd` is open.

    `first` is the sequence number before which it has no entries.
    """

    path: Path
    first: int
    fd: int

    @property
    def session(self) -> str:
        """The session's id."""
        return self.path.name


def register(directory: Path, session: str, first: int) -> int:
    """Say that `session` lives and return the file that says so as long as it is open (the log's lock is held).

    Durable: write, fsync, fsync of the directory.
    """
    path = directory / FOLDER / session
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_all(fd, f"{first}\n".encode())
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
        text = os.pread(fd, 32, 0).strip()
        claims.append(Claim(path, int(text) if text.isdigit() else 0, fd))
    return claims


def end(path: Path, fd: int) -> None:
    """Strike a session off: unlink, close. Were the unlinking lost in a crash, recovery would find it closed."""
    path.unlink(missing_ok=True)
    os.close(fd)
