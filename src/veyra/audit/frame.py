"""The frame around an entry in a segment, and how frames are told from what a crash or a hand left.

    header   44 bytes  magic, version, unsynced, seq, lengths of leaf and blobs, CRC of each, CRC of the header
    leaf               one line of JSON
    blobs              the bodies that lie beside it
    trailer  20 bytes  length of the whole frame, CRC of the header again, end magic

Numbers are big-endian. CRC-32 finds a torn write and a flipped bit; that nobody changed what is there only the tree
can say. The header's CRC covers the CRCs of leaf and blobs, and so the whole frame: only 64 bytes depend on the
sequence number, and everything else is computed before the log's lock is taken.

`unsynced` says how many of the entries directly before this one were not known to be durable when it was written, so
that it vouches for all that came before those. After a loss of power, of what was not synced any part may be missing; of
what is vouched for, none.

Frames are found by going forward from a place that is known to be good, by length. Bytes inside a body that look
like a frame are therefore never taken for one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

from veyra.audit.entry import MAX_LEAF, Sealed

MAGIC: Final = b"\x89VEYRA\r\n"
END: Final = b"VEYRAEND"
VERSION: Final = 1
_FIELDS = struct.Struct(">8sHHQIQII")
_CRC = struct.Struct(">I")
UNSAID: Final = 0xFFFF
"""So many unsynced entries, or more: the frame vouches for nothing."""
_BEGIN = struct.pack(">8sH", MAGIC, VERSION)
_HEADER = struct.Struct(">10sHQIQIII")
_TRAILER = struct.Struct(">QI8s")
HEADER_SIZE: Final = _FIELDS.size + _CRC.size
OVERHEAD: Final = HEADER_SIZE + _TRAILER.size
_CHUNK = 1 << 19


class Frame(NamedTuple):
    """A frame that was read: `offset` and `end` are its place in the file.

    `blobs` is None where the scan was told to leave the bodies unread, and so unchecked.
    """

    seq: int
    offset: int
    end: int
    leaf: bytes
    blobs: bytes | None

    @property
    def blobs_range(self) -> tuple[int, int]:
        """Where in the file the bodies begin and end."""
        return self.offset + HEADER_SIZE + len(self.leaf), self.end - _TRAILER.size


class Damage(NamedTuple):
    """Bytes that are no frame, where one should begin.

    `torn` is True where they can be what an interrupted append left: the frame is cut by the end of the file, or
    no frame follows that vouches for it.
    """

    offset: int
    reason: str
    torn: bool


class _Unknown(str):
    """What there is instead of a header of ours: one that is whole. Somebody wrote it; no crash makes one out of another."""

    __slots__ = ()


class _Header(NamedTuple):
    unsynced: int
    seq: int
    leaf_size: int
    blobs_size: int
    leaf_crc: int
    blobs_crc: int
    crc: int

    @property
    def size(self) -> int:
        return OVERHEAD + self.leaf_size + self.blobs_size

    def vouches_for(self, seq: int) -> bool:
        """Tell whether the entry `seq` was known to be durable when this frame was written."""
        return self.unsynced < UNSAID and seq < self.seq - self.unsynced


def encode(seq: int, entry: Sealed, unsynced: int = 0) -> bytes:
    """Return the frame of `entry` at the place `seq` of the log; `unsynced` entries before it may not be durable."""
    leaf, blobs = entry.leaf, entry.blobs
    leaf_size, blobs_size = len(leaf), len(blobs)
    fields = _FIELDS.pack(MAGIC, VERSION, min(unsynced, UNSAID), seq, leaf_size, blobs_size, crc32(leaf), crc32(blobs))
    check = crc32(fields)
    return b"".join(
        (fields, _CRC.pack(check), leaf, blobs, _TRAILER.pack(OVERHEAD + leaf_size + blobs_size, check, END))
    )


def skim(fd: int, start: int, end: int, seq: int, proven: int = 0) -> Iterator[tuple[list[int], list[bytes], int]]:
    """Yield the frames from `start` on in runs: where each begins, its leaf, and where the run ends.

    All but the bodies is checked, several times as quickly as by `Scan`. The leaves before the sequence number `proven` are
    not held against their CRCs: whoever asks so holds them against a root, which says more.

    It ends at the first bytes that are not plainly the next whole frame, or are one larger than a run: `Scan` tells then
    what there is.
    """
    fields = _HEADER.unpack_from
    trailer, trailing = _TRAILER.pack, _TRAILER.size
    while start < end:
        data = _pread(fd, start, min(_CHUNK, end - start))
        at, offsets, leaves = 0, list[int](), list[bytes]()
        try:
            while True:
                begin, _, number, leaf_size, blobs_size, leaf_crc, _, check = fields(data, at)
                body = at + HEADER_SIZE
                leaf = data[body : body + leaf_size]
                stop = body + leaf_size + blobs_size + trailing
                if (
                    number != seq
                    or begin != _BEGIN
                    or (seq >= proven and crc32(leaf) != leaf_crc)
                    or crc32(data[at : at + _FIELDS.size]) != check
                    or data[stop - trailing : stop] != trailer(stop - at, check, END)
                    or not 0 < leaf_size <= MAX_LEAF
                ):
                    break
                offsets.append(start + at)
                leaves.append(leaf)
                seq += 1
                at = stop
        except struct.error:
            pass  # a header that goes beyond the run: the next begins with it
        if not leaves:
            return
        start += at
        yield offsets, leaves, start


class Scan:
    """The frames of a file from `start` to `end`, in order, the first one having the sequence number `seq`.

    Iterating ends at the end of the range, or at the first bytes that are no valid frame with the next sequence
    number; then `damage` says what is there. It ends on any input, in time proportional to the range.

    Args:
        fd: a file open for reading; its position is neither used nor moved.
        start, end: the range, in bytes.
        seq: the sequence number of the frame at `start`.
        blobs: read and check the bodies too. Without, a frame's `blobs` is None.
    """

    def __init__(self, fd: int, start: int, end: int, seq: int, *, blobs: bool = True) -> None:
        self._fd = fd
        self._end = end
        self._with_blobs = blobs
        self._buffer = b""
        self._base = start
        self.offset = start
        self.seq = seq
        self.damage: Damage | None = None

    def __iter__(self) -> Iterator[Frame]:
        while self.offset < self._end:
            read = self._frame()
            if isinstance(read, str):
                self.damage = Damage(self.offset, read, self._is_torn())
                return
            self.offset = read.end
            self.seq += 1
            yield read

    def _frame(self) -> Frame | str:
        """Return the frame at `offset`, or say what there is instead."""
        header = _parse(self._bytes(self.offset, HEADER_SIZE))
        if isinstance(header, str):
            return header
        if header.seq != self.seq:
            return f"a frame with the number {header.seq}"
        if self.offset + OVERHEAD + header.leaf_size + header.blobs_size > self._end:
            return "a frame that is cut short"
        return self._body(header)

    def _body(self, header: _Header) -> Frame | str:
        _, seq, leaf_size, blobs_size, leaf_crc, blobs_crc, check = header
        size = OVERHEAD + leaf_size + blobs_size
        end = self.offset + size
        trailer = _TRAILER.pack(size, check, END)
        blobs = None
        if self._with_blobs:
            payload = self._bytes(self.offset + HEADER_SIZE, size - HEADER_SIZE)
            leaf, blobs, found = payload[:leaf_size], payload[leaf_size : -len(trailer)], payload[-len(trailer) :]
        else:
            leaf = self._bytes(self.offset + HEADER_SIZE, leaf_size)
            found = self._bytes(end - len(trailer), len(trailer))
        if crc32(leaf) != leaf_crc:
            return "a leaf that does not agree with its CRC"
        if blobs is not None and crc32(blobs) != blobs_crc:
            return "bodies that do not agree with their CRC"
        if found != trailer:
            return "a trailer that does not agree with its header"
        return Frame(seq, self.offset, end, leaf, blobs)

    def _bytes(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer where the range ends first; read ahead in large pieces."""
        size = min(size, self._end - offset)
        at = offset - self._base
        if at + size > len(self._buffer) or at < 0:
            self._base, at = offset, 0
            self._buffer = _pread(self._fd, offset, min(max(size, _CHUNK), self._end - offset))
        return self._buffer[at : at + size]

    def _is_torn(self) -> bool:
        """Tell whether the bytes at `offset` can be the rest of one interrupted append."""
        header = _parse(self._bytes(self.offset, HEADER_SIZE))
        if isinstance(header, _Unknown):
            return False
        if isinstance(header, str):
            return not self._is_vouched_for(self.offset + 1)
        if header.seq != self.seq:
            return False
        end = self.offset + header.size
        return not self._is_vouched_for(end)  # where it is cut, nothing can follow

    def _is_vouched_for(self, start: int) -> bool:
        """Tell whether a later frame that begins at or after `start` vouches for the entry that is due.

        Only header and trailer are looked at: bounded work for each place where the magic stands.
        """
        while start < self._end:
            piece = self._bytes(start, _CHUNK)
            at = piece.find(MAGIC)
            while at >= 0:
                if self._vouches(start + at):
                    return True
                at = piece.find(MAGIC, at + 1)
            start += max(len(piece) - len(MAGIC) + 1, 1)
        return False

    def _vouches(self, start: int) -> bool:
        """Tell whether a frame begins at `start`, as far as header and trailer say, that vouches for the entry that is due."""
        header = _parse(_pread(self._fd, start, min(HEADER_SIZE, self._end - start)))
        if isinstance(header, str) or not header.vouches_for(self.seq) or start + header.size > self._end:
            return False
        trailer = _pread(self._fd, start + header.size - _TRAILER.size, _TRAILER.size)
        return trailer == _TRAILER.pack(header.size, header.crc, END)


def _parse(data: bytes) -> _Header | str:
    """Return the header in `data`, or say what there is instead."""
    if len(data) < HEADER_SIZE:
        return "a header that is cut short"
    magic, version, unsynced, seq, leaf_size, blobs_size, leaf_crc, blobs_crc = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        return "no frame"
    (check,) = _CRC.unpack_from(data, _FIELDS.size)
    if crc32(data[: _FIELDS.size]) != check:
        return "a header that does not agree with its CRC"
    if version != VERSION or not 0 < leaf_size <= MAX_LEAF:
        return _Unknown(f"a frame of a form not known here (version {version}, leaf of {leaf_size} bytes)")
    return _Header(unsynced, seq, leaf_size, blobs_size, leaf_crc, blobs_crc, check)


def _pread(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
