"""Segments: the files that hold the frames, `seg/00000000.vseg` and on.

A segment begins with a head: a magic, its length, one line of JSON and a CRC. The JSON names the log (`origin`), the
segment's number (`index`), the sequence number of its first frame (`first`) and the tree's compact range before it
(`peaks`), so that the log can be opened by reading its last segment alone.

Zero bytes at its end are room for more frames, made ahead so that a sync need not write the file's length (ADR-0015).
They count as not there: a frame ends with a byte that is not zero.

A segment is sealed as soon as the next one exists. Where that one's `first` is smaller than what this one reaches,
the frames of this one from `first` on are void: the disk had failed to keep them, and they were written again.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from veyra.audit.tree import Tree

FOLDER: Final = "seg"
MAGIC: Final = b"\x89VSEG\r\n\n"
VERSION: Final = 1
_START = struct.Struct(">8sHI")
_CRC = struct.Struct(">I")
_MAX_HEAD = 16_384
_PIECE, _STEP = 1 << 16, 1 << 9
_ZEROS = bytes(_PIECE)
_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How a segment begins; `created` is wall clock time in nanoseconds."""

    origin: str
    index: int
    first: int
    peaks: tuple[bytes, ...]
    created: int

    def tree(self) -> Tree:
        """Return the tree as it stood before the segment's first frame."""
        return Tree(self.first, self.peaks)


def path(directory: Path, index: int) -> Path:
    """Return where the segment `index` of the log in `directory` lies."""
    return directory / FOLDER / f"{index:0{_DIGITS}d}.vseg"


def number(file: Path) -> int:
    """Return the number of the segment that lies at `file`."""
    return int(file.stem)


def listed(directory: Path) -> list[Path]:
    """Return the segments of the log in `directory`, in order; empty where there is no log."""
    try:
        files = list((directory / FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(file for file in files if file.suffix == ".vseg")


def encode(head: Head) -> bytes:
    """Return the bytes a segment begins with."""
    fields = {
        "origin": head.origin,
        "index": head.index,
        "first": head.first,
        "peaks": [peak.hex() for peak in head.peaks],
        "created": str(head.created),
    }
    text = json.dumps(fields, separators=(",", ":")).encode("ascii")
    data = _START.pack(MAGIC, VERSION, len(text)) + text
    return data + _CRC.pack(crc32(data))


def read(fd: int) -> tuple[Head, int]:
    """Return the head of the segment open as `fd`, and where its first frame begins.

    Raises:
        ValueError: the file does not begin with the head of a segment.
    """
    data = os.pread(fd, _MAX_HEAD, 0)
    if len(data) < _START.size + _CRC.size:
        msg = "a head of a segment that is cut short"
        raise ValueError(msg)
    magic, version, size = _START.unpack_from(data)
    end = _START.size + size
    if magic != MAGIC or version != VERSION or end + _CRC.size > len(data):
        msg = f"no head of a segment of version {VERSION}"
        raise ValueError(msg)
    if _CRC.unpack_from(data, end)[0] != crc32(data[:end]):
        msg = "a head of a segment that does not agree with its CRC"
        raise ValueError(msg)
    return _parse(data[_START.size : end]), end + _CRC.size


def content_end(fd: int, start: int = 0) -> int:
    """Return where what is in the segment `fd` ends, and its room begins; `start` where nothing but zeros follows that.

    What is before `start` is not looked at.
    """
    end = os.fstat(fd).st_size
    while end > start:
        begin = max(start, end - _PIECE)
        data = os.pread(fd, end - begin, begin)
        if not _ZEROS.startswith(data):
            return begin + _stripped(data)
        end = begin
    return start


def _stripped(data: bytes) -> int:
    """Return how many bytes are left without the zeros at the end: as `rstrip`, which goes byte by byte, but quickly."""
    end = len(data)
    while end > 0 and _ZEROS.startswith(data[max(end - _STEP, 0) : end]):
        end -= _STEP
    return len(data[: max(end, 0)].rstrip(b"\0"))


@contextmanager
def opened(file: Path) -> Iterator[int]:
    """Open a segment for reading and close it again."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _parse(text: bytes) -> Head:
    try:
        head = _head(json.loads(text.decode("ascii")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"a head of a segment that cannot be read ({error})"
        raise ValueError(msg) from None
    if encode(head)[_START.size : -_CRC.size] != text:
        msg = "a head of a segment that is not written as it should be"
        raise ValueError(msg)
    return head


def _head(fields: dict[str, Any]) -> Head:
    head = Head(
        origin=str(fields["origin"]),
        index=int(fields["index"]),
        first=int(fields["first"]),
        peaks=tuple(bytes.fromhex(peak) for peak in fields["peaks"]),
        created=int(fields["created"]),
    )
    head.tree()
    return head
