"""Torn bytes at a segment's end: set aside, never thrown away, and recorded.

They are first moved to `quarantine/SEGMENT-OFFSET-ID.pending`. When the `recovery` entry that names and hashes them is
durable, the file becomes `.torn`. A crash between the two leaves the `.pending` file for the next opening to record.
Verifying compares the file with that entry.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from hashlib import file_digest
from pathlib import Path
from typing import Final, NamedTuple

from veyra.audit.entry import Draft, new_id, recovered_tail
from veyra.audit.files import created, make_folder, sync_data, write_all
from veyra.audit.segment import content_end

FOLDER: Final = "quarantine"
_PENDING: Final = ".pending"
_TORN: Final = ".torn"
_NAME: Final = re.compile(rf"{FOLDER}/[0-9A-Za-z-]{{1,200}}\{_TORN}")
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link, and nothing that keeps its reader waiting."""
_PIECE: Final = 1 << 20


class Tail(NamedTuple):
    """Torn bytes in quarantine that no recovery entry is known to name."""

    path: Path
    segment: int
    offset: int

    def draft(self) -> Draft:
        """Draft the recovery entry: where the bytes were, where they are, their number and SHA-256.

        Bytes that hold a frame's header hold the CRC of its salts, and so the hash confirms no guess at a body. Where a loss of
        power took the header, it may have taken the salts too and left a body: then there is no hash.
        """
        with self.path.open("rb") as data:
            has_header = data.read(1) != b"\0"
            data.seek(0)
            digest = file_digest(data, "sha256").hexdigest() if has_header else None
            size = os.fstat(data.fileno()).st_size
        return recovered_tail(
            file=f"{FOLDER}/{self.path.stem}{_TORN}",
            segment=self.segment,
            offset=self.offset,
            size=size,
            digest=digest,
        )

    def settle(self) -> None:
        """Note that the recovery entry is durable: rename. Another process may have done the same."""
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(self.path.with_suffix(_TORN))


def set_aside(directory: Path, fd: int, segment: int, offset: int) -> None:
    """Move the bytes of the segment `fd` from `offset` on into quarantine (the log's lock is held).

    Durable: the new file (`created`), then ftruncate and fdatasync of the segment. However many bytes there are, few are
    in memory, and long runs of zeros take no room on the disk.
    """
    folder = directory / FOLDER
    make_folder(folder)
    end = content_end(fd, offset)
    with created(folder / f"{segment:08d}-{offset}-{new_id()}{_PENDING}") as torn:
        for begin in range(offset, end, _PIECE):
            piece = os.pread(fd, min(_PIECE, end - begin), begin)
            if piece.count(0) < len(piece):
                os.lseek(torn, begin - offset, os.SEEK_SET)
                write_all(torn, piece)
    os.ftruncate(fd, offset)
    sync_data(fd)


def pending(directory: Path) -> list[Tail]:
    """Return what lies in quarantine without a recovery entry."""
    tails: list[Tail] = []
    for path in sorted((directory / FOLDER).glob(f"*{_PENDING}")):
        segment, offset, _ = path.stem.split("-", 2)
        tails.append(Tail(path, int(segment), int(offset)))
    return tails


def kept(directory: Path, file: str) -> tuple[int, str] | None:
    """Return the size and the SHA-256 (hex) of what lies in the file that a recovery entry names; None where it is not there.

    It is looked for under both names: beside a writer it may just be renamed.

    Raises:
        ValueError: that is no name of a file in quarantine.
    """
    if not _NAME.fullmatch(file):
        msg = f"it names no file in quarantine: {file[:200]!r}"
        raise ValueError(msg)
    path = directory / file
    for name in (path, path.with_suffix(_PENDING), path):
        with contextlib.suppress(OSError), os.fdopen(os.open(name, _READ), "rb") as data:
            state = os.fstat(data.fileno())
            if stat.S_ISREG(state.st_mode):
                return state.st_size, file_digest(data, "sha256").hexdigest()
    return None
