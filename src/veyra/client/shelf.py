"""Where a cache keeps its answers: bytes under a key, in memory or in a directory.

A shelf is asked for a key and gives what was put there, whole and unaltered, or nothing. The keys are 64 hex digits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Final, Protocol

from veyra.errors import InvalidRequestError

_LOGGER = logging.getLogger("veyra.client")

_MAGIC: Final = b"veyra answer 1\n"
_HEAD: Final = len(_MAGIC) + 32
_PART: Final = 16
"""The part of a directory's room that is written between two looks at how full it is, and made free at once."""
_STALE_SECONDS: Final = 3600.0


class Shelf(Protocol):
    """Keeps bytes under keys."""

    async def get(self, key: str) -> bytes | None:
        """Return what was put under a key, or None where nothing is there any more. Raises nothing."""

    async def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key, in the place of what was there. Where that fails, it is logged and nothing is raised."""


class MemoryShelf:
    """Keeps bytes in this process. It may be used from several threads.

    Args:
        max_entries: how many are kept; the one that was longest not asked for goes first.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"memory, {len(self._kept)} of {self._max_entries} answers"

    async def get(self, key: str) -> bytes | None:
        """Return what was put under a key, or None."""
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    async def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key."""
        with self._lock:
            self._kept[key] = data
            self._kept.move_to_end(key)
            while len(self._kept) > self._max_entries:
                self._kept.popitem(last=False)


class DiskShelf:
    """Keeps bytes in files of a directory, for this and other processes of the same user, now and later.

    Each answer is a file of its own (mode 0600), written beside its place and renamed into it: a reader sees it whole or not
    at all. A file begins with the SHA-256 of its key and content; one that is damaged, or stands in another's place,
    is taken away with a warning and is as if it had never been. That finds damage, not forgery: whoever may write to
    the directory decides what it answers, so one that others may write to is refused.

    What is written is not synced: after a power failure an answer may be missing, or be found damaged.

    Args:
        directory: where the files are; made with mode 0700 by the first answer.
        max_bytes: room that they take together, in each process's eyes: several that write at once may go beyond it by
            a sixteenth each. The files that were longest not asked for go first.

    Raises:
        InvalidRequestError: there is something else than a directory, or it is another user's, or others may write to it.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        _check(directory)
        self._directory = directory
        self._max_bytes = max_bytes
        self._unseen: int | None = None
        """Bytes that were written since the directory was last looked through; None before the first look."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"at {self._directory}"

    async def get(self, key: str) -> bytes | None:
        """Return what was put under a key, or None; read on a thread."""
        return await asyncio.to_thread(self._read, key)

    async def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key; written on a thread."""
        await asyncio.to_thread(self._write, key, data)

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / key

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOGGER.warning("the cache %r cannot be read: %s", self, error)
            return None
        if content[:_HEAD] == _MAGIC + _digest(key, content[_HEAD:]):
            return content[_HEAD:]
        _LOGGER.warning("the cache's file %s is damaged; it is removed, and the answer is asked for anew", path)
        with suppress(OSError):  # it is in nobody's way: the next answer is renamed over it
            path.unlink()
        return None

    def _write(self, key: str, data: bytes) -> None:
        size = _HEAD + len(data)
        if size > self._max_bytes // _PART:
            return
        path = self._path(key)
        passing = path.with_name(f"{key}.{token_hex(8)}.new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._make_room(size)
            try:
                with open(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
                    file.write(_MAGIC + _digest(key, data))
                    file.write(data)
                passing.replace(path)
            except BaseException:
                passing.unlink(missing_ok=True)
                raise
        except OSError as error:
            _LOGGER.warning("the cache %r cannot be written, so an answer is not kept: %s", self, error)

    def _make_room(self, size: int) -> None:
        """Count what is about to be written; look through the directory where a part of its room was, and remove the oldest."""
        part = self._max_bytes // _PART
        with self._lock:
            if self._unseen is not None and self._unseen + size <= part:
                self._unseen += size
                return
            self._unseen = size
            files = sorted(self._files())
            total = sum(length for _, length, _ in files)
            for _, length, path in files:
                if total <= self._max_bytes - part:
                    break
                path.unlink(missing_ok=True)
                total -= length

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return when each file was last asked for, its size and its path; what a dead writer left is removed."""
        found: list[tuple[float, int, Path]] = []
        for path in self._directory.glob("??/*"):
            try:
                about = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            if path.suffix != ".new":
                found.append((about.st_mtime, about.st_size, path))
            elif about.st_mtime < time() - _STALE_SECONDS:
                path.unlink(missing_ok=True)
        return found


def _digest(key: str, data: bytes) -> bytes:
    digest = sha256(key.encode("ascii"))
    digest.update(data)
    return digest.digest()


def _check(directory: Path) -> None:
    """See that a directory, where it is there, is ours alone to write to."""
    try:
        about = directory.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        msg = f"the cache's directory cannot be looked at: {error}"
        raise InvalidRequestError(msg) from error
    if not stat.S_ISDIR(about.st_mode):
        msg = f"{directory} is not a directory: a cache needs one, or a name under which it can make one"
        raise InvalidRequestError(msg)
    if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"others may write to {directory}, and so decide what is answered: choose another, or chmod go-w {directory}"
        raise InvalidRequestError(msg)
