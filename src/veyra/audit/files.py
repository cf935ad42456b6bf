"""The file operations that durability rests on; each says which system calls make it durable."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

_PIECE = 1 << 20

if sys.platform == "darwin":
    import fcntl

    def sync_data(fd: int) -> None:
        """Make the file's bytes and length durable: F_FULLFSYNC, as macOS leaves fsync in the drive's cache."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

else:

    def sync_data(fd: int) -> None:
        """Make the file's bytes and length durable: fdatasync."""
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a directory durable: open, fsync, close."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a directory of mode 0700 and what is missing above it, durably: mkdir, fsync of the parent of each new one.

    A directory that is there already stays as it is.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        try:
            new.mkdir(mode=0o700)
        except FileExistsError:
            if not new.is_dir():  # otherwise another process made it just now
                raise
        sync_folder(new.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write `data` where the file stands. Durable only after `sync_data`."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def write_at(fd: int, data: bytes, offset: int) -> tuple[int, OSError | None]:
    """Write `data` at `offset`; return how many bytes of it were written, and what stopped the rest, if anything.

    What was written is the beginning of `data`. Durable only after `sync_data`.
    """
    written = 0
    try:
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:] if written else data, offset + written)
    except OSError as error:
        return written, error
    return written, None


def checksum(fd: int, begin: int, end: int, crc: int = 0) -> int:
    """Return the CRC-32 of the file's bytes from `begin` to `end`, going on from `crc`, that of what is before."""
    while begin < end:
        piece = os.pread(fd, min(_PIECE, end - begin), begin)
        if not piece:
            break
        crc = crc32(piece, crc)
        begin += len(piece)
    return crc


@contextlib.contextmanager
def created(path: Path) -> Iterator[int]:
    """Create the file `path` of mode 0600 in one step, durably, or not at all. One process at a time may do so.

    The block writes to `path` with `.new` behind it. Then: fdatasync, close, rename, fsync of the directory. Where the
    block or one of these fails, that file is removed; one that a crash left is written over.
    """
    beside = path.with_name(f"{path.name}.new")
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield fd
            sync_data(fd)
        finally:
            os.close(fd)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def put(path: Path, data: bytes) -> None:
    """Write a derived file of mode 0600 in one step: write to `path` with `.new` behind it, close, rename.

    Nothing makes it durable: after a crash it may be missing, old or empty, and whoever reads it must see that.
    """
    beside = path.with_name(f"{path.name}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
    beside.rename(path)
