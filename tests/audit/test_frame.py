"""Frames: what is written is read; what is cut, flipped or forged is told from it, and from each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.audit import entry
from veyra.audit.entry import Attempt, BodyPart, Sealed, new_id, seal
from veyra.audit.frame import END, MAGIC, OVERHEAD, Damage, Frame, Scan, encode


class Scanner(Protocol):
    """What the fixture `scan` gives."""

    def __call__(self, data: bytes, seq: int = 0, *, blobs: bool = True) -> tuple[list[Frame], Damage | None]: ...


def _sealed(data: bytes = b"body") -> Sealed:
    part = BodyPart("request.wire", data, "x")
    return seal(entry.intent(Attempt("c", 1, "b"), attributes={}, parts=[part]), new_id(), 0)


@pytest.fixture
def scan(tmp_path: Path) -> Iterator[Scanner]:
    """Write bytes to a file and scan them."""
    opened: list[int] = []

    def scanned(data: bytes, seq: int = 0, *, blobs: bool = True) -> tuple[list[Frame], Damage | None]:
        path = tmp_path / "frames"
        path.write_bytes(data)
        opened.append(fd := os.open(path, os.O_RDONLY))
        found = Scan(fd, 0, len(data), seq, blobs=blobs)
        return list(found), found.damage

    yield scanned
    for fd in opened:
        os.close(fd)


def test_frames_are_read_back(scan: Scanner) -> None:
    """Leaf, bodies, place and number of each frame come back, bodies only when asked for."""
    entries = [_sealed(b"x" * size) for size in (0, 1, 5_000, 3 << 20, 7)]
    frames = [encode(10 + number, sealed) for number, sealed in enumerate(entries)]
    read, damage = scan(b"".join(frames), 10)
    assert damage is None
    assert [(f.seq, f.leaf, f.blobs) for f in read] == [(10 + n, e.leaf, e.blobs) for n, e in enumerate(entries)]
    assert [f.end - f.offset for f in read] == [len(frame) for frame in frames]
    bare, damage = scan(b"".join(frames), 10, blobs=False)
    assert damage is None
    assert [(f.seq, f.leaf, f.blobs) for f in bare] == [(10 + n, e.leaf, None) for n, e in enumerate(entries)]
    for frame, sealed in zip(read, entries, strict=True):
        begin, end = frame.blobs_range
        assert b"".join(frames)[begin:end] == sealed.blobs


def test_every_flipped_bit_is_found(scan: Scanner) -> None:
    """A bit flipped anywhere in a frame with one after it is damage at that frame, and not taken for a torn end."""
    frame, after = encode(0, _sealed()), encode(1, _sealed())
    for position in range(len(frame)):
        bad = bytearray(frame)
        bad[position] ^= 1 << position % 8
        read, damage = scan(bytes(bad) + after)
        assert read == []
        assert damage is not None
        assert (damage.offset, damage.torn) == (0, False), position


def test_bytes_full_of_magics_are_looked_through_once(scan: Scanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a bad frame each place that might begin another costs one small read, not the whole piece again."""
    read, pread = 0, os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    data = b"bad" + MAGIC * 100_000
    _, damage = scan(data)
    assert damage is not None
    assert damage.torn
    assert read < 8 * len(data)
    _, damage = scan(data + encode(1, _sealed()))
    assert damage is not None
    assert not damage.torn


def test_every_cut_is_a_torn_end(scan: Scanner) -> None:
    """A frame cut anywhere at the end of the file leaves the frames before it, and the rest is called torn."""
    first, second = encode(0, _sealed()), encode(1, _sealed())
    for length in range(1, len(second)):
        read, damage = scan(first + second[:length])
        assert len(read) == 1
        assert damage is not None
        assert (damage.offset, damage.torn) == (len(first), True), length


def test_a_body_that_looks_like_frames_is_a_body(scan: Scanner) -> None:
    """Frames forged inside a body are never read as frames, not even when the true frame is torn behind them."""
    forged = b"".join(encode(seq, _sealed()) for seq in (1, 2, 1, 5)) + MAGIC + END
    true = encode(0, _sealed(forged))
    read, damage = scan(true + encode(1, _sealed()))
    assert [frame.seq for frame in read] == [0, 1]
    assert damage is None
    for length in range(OVERHEAD, len(true), 7):
        read, damage = scan(true[:length])
        assert read == []
        assert damage is not None
        assert damage.torn


@pytest.mark.parametrize(("number", "torn"), [(0, True), (1, True), (2, False), (9, False)])
def test_only_a_later_frame_makes_bad_bytes_damage(scan: Scanner, number: int, torn: bool) -> None:
    """Bad bytes at the end are torn, unless a frame that belongs after them follows: then something was overwritten."""
    read, damage = scan(encode(0, _sealed()) + bytes(100) + encode(number, _sealed()) + b"x")
    assert len(read) == 1
    assert damage is not None
    assert damage.torn is torn


@pytest.mark.parametrize("numbers", [(1,), (0, 0), (0, 2), (1, 0)])
def test_frames_out_of_their_order_are_damage(scan: Scanner, numbers: tuple[int, ...]) -> None:
    """A frame that is missing, repeated or swapped is found by its number."""
    read, damage = scan(b"".join(encode(number, _sealed()) for number in numbers))
    assert len(read) == (1 if numbers[0] == 0 else 0)
    assert damage is not None
    assert not damage.torn
    assert "number" in damage.reason


def test_a_frame_of_a_later_version_is_never_torn(scan: Scanner) -> None:
    """A header that is whole was written by somebody: a writer that does not know it may not set it aside."""
    first, second = encode(0, _sealed()), bytearray(encode(1, _sealed()))
    second[8:10] = (2).to_bytes(2)
    second[40:44] = crc32(second[:40]).to_bytes(4)
    for length in (44, 100, len(second)):
        read, damage = scan(first + second[:length])
        assert len(read) == 1
        assert damage is not None
        assert not damage.torn
        assert "version 2" in damage.reason


@given(st.lists(st.sampled_from([b"\0", MAGIC, END, encode(0, _sealed()), encode(1, _sealed())[:60], b"x" * 9])))
def test_a_scan_ends_on_any_input(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    """Whatever the bytes are, the scan ends, and what it did not read it calls damage."""
    data = b"".join(pieces)
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        scan = Scan(fd, 0, len(data), 0)
        read = list(scan)
    finally:
        os.close(fd)
    assert scan.offset == sum(frame.end - frame.offset for frame in read)
    assert (scan.damage is None) == (scan.offset == len(data))
