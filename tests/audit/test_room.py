"""Room ahead of the frames: who makes it, who uses it, who cuts it off; and what a loss of power leaves (ADR-0015)."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import struct
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from audit.recording import ask, die, end_of, filled, kinds, pair, tear
from audit.stores import Process, calls
from veyra.audit import AuditLog, read_entries, segment, verify
from veyra.audit import store as store_module
from veyra.audit.frame import UNSAID, Scan, encode

SECTOR = 512


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    """Two processes that have the log open."""
    both = Process(tmp_path / "log"), Process(tmp_path / "log")
    yield both
    for writer in both:
        writer.store.release()


def _size(directory: Path, index: int = -1) -> int:
    return segment.listed(directory)[index].stat().st_size


def _unsynced(directory: Path) -> list[int]:
    """Return what each frame says of those before it."""
    data = segment.path(directory, 0).read_bytes()
    with segment.opened(segment.path(directory, 0)) as fd:
        scan = Scan(fd, segment.read(fd)[1], segment.content_end(fd), 0)
        return [struct.unpack_from(">H", data, frame.offset + 10)[0] for frame in scan]


async def test_entries_one_by_one_do_not_change_the_files_length(tmp_path: Path) -> None:
    """The first makes room, the next are written into it, and so their syncs write no length."""
    log = AuditLog(tmp_path)
    await pair(log)
    size, end = _size(tmp_path), end_of(tmp_path)
    assert size > end
    for _ in range(10):
        await pair(log)
    assert _size(tmp_path) == size
    assert end_of(tmp_path) > end
    for _ in range(100):
        await pair(log)
    assert _size(tmp_path) > size, "when it is used up, there is more"
    await log.aclose()
    assert verify(tmp_path).ok


async def test_a_log_that_nobody_has_open_has_no_room(tmp_path: Path) -> None:
    """A session that ends cuts it off: the file ends with its last frame."""
    await filled(tmp_path, 3)
    assert _size(tmp_path) == end_of(tmp_path)
    assert segment.path(tmp_path, 0).read_bytes().endswith(b"VEYRAEND")


async def test_room_that_a_crash_left_is_no_torn_end(tmp_path: Path) -> None:
    """It is used by whoever comes next; nothing is set aside, and readers see a log that ends well."""
    log = AuditLog(tmp_path)
    await pair(log)
    die(log)
    assert _size(tmp_path) > end_of(tmp_path)
    report = verify(tmp_path)
    assert report.ok
    assert not any("torn" in notice for notice in report.notices)
    await filled(tmp_path, 1)
    assert not (tmp_path / "quarantine").exists()
    assert kinds(tmp_path)["call.outcome"] == 2
    assert verify(tmp_path).ok


def test_a_session_that_ends_leaves_the_others_right(tmp_path: Path, writers: tuple[Process, Process]) -> None:
    """Another's room is cut off while it lives: what it writes next stands where it should, with room behind it again."""
    first, second = writers
    first.append("a")
    second.append("b")
    second.store.sync()
    third = Process(tmp_path / "log")
    third.store.end()
    assert _size(tmp_path / "log") == end_of(tmp_path / "log")
    first.append("c")
    second.append("d")
    first.store.sync()
    assert _size(tmp_path / "log") > end_of(tmp_path / "log")
    assert calls(tmp_path / "log") == ["a", "b", "c", "d"]
    assert verify(tmp_path / "log").ok


def test_a_large_write_makes_no_room(tmp_path: Path, writers: tuple[Process, Process]) -> None:
    """What shares its sync among many entries, or is large itself, is written once and not over zeros."""
    first, _ = writers
    first.store.append([first.seal("large", 1 << 20)])
    assert _size(tmp_path / "log") == end_of(tmp_path / "log")
    first.append("small")
    assert _size(tmp_path / "log") > end_of(tmp_path / "log")
    first.store.sync()
    assert calls(tmp_path / "log") == ["large", "small"]


def test_a_sealed_segment_has_no_room(
    tmp_path: Path, writers: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who begins the next segment cuts the room of the last one off."""
    first, second = writers
    first.append("a")
    monkeypatch.setattr(store_module, "SEGMENT_SIZE", 1)
    second.append("b")
    first.append("c")
    monkeypatch.undo()
    first.append("d")
    first.store.sync()
    assert len(segment.listed(tmp_path / "log")) > 1
    assert [_size(tmp_path / "log", index) for index in (0, 1)] == [end_of(tmp_path / "log", i) for i in (0, 1)]
    assert calls(tmp_path / "log") == ["a", "b", "c", "d"]
    assert verify(tmp_path / "log").ok


@pytest.mark.parametrize("place", [0, 7, 8, 5_000, -1])
async def test_a_bit_flipped_in_the_room_is_found(tmp_path: Path, place: int) -> None:
    """It is told as torn, set aside by the next opening, and no entry is lost by it."""
    log = AuditLog(tmp_path)
    await pair(log)
    die(log)
    path, end = segment.path(tmp_path, 0), end_of(tmp_path)
    data = bytearray(path.read_bytes())
    data[place if place < 0 else end + place] ^= 4
    path.write_bytes(data)
    report = verify(tmp_path)
    assert report.ok
    assert f"ends at offset {end}" in report.notices[0]
    await filled(tmp_path, 1)
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf.get("of") == "tail")
    assert (leaf["offset"], leaf["size"]) == (end, len(bytes(data[end:]).rstrip(b"\0")))
    assert (leaf["sha256"] is None) is (place != 0), "what begins with zeros may be a body without its salt"
    aside = tmp_path / leaf["file"]
    aside.write_bytes(aside.read_bytes() + b"x")
    assert [problem.code for problem in verify(tmp_path).problems] == ["quarantine"]
    os.truncate(aside, leaf["size"])
    assert kinds(tmp_path)["call.outcome"] == 2
    assert verify(tmp_path).ok


async def test_bytes_that_another_tore_are_met_by_who_knew_the_room(tmp_path: Path) -> None:
    """A living writer looks at where it is about to write: what stands there is set aside, and never written over."""
    log = AuditLog(tmp_path)
    await pair(log)
    torn = encode(3, Process(tmp_path / "other").seal("x"))[:70]
    end = tear(tmp_path, torn)
    await pair(log)
    await log.aclose()
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf.get("of") == "tail")
    assert (leaf["offset"], leaf["size"]) == (end, 70)
    assert (tmp_path / leaf["file"]).read_bytes() == torn
    assert verify(tmp_path).ok


def test_frames_say_what_was_durable_before_them(tmp_path: Path, writers: tuple[Process, Process]) -> None:
    """Each counts those that its writer has not seen synced: its own batch, and what others wrote meanwhile."""
    first, second = writers
    first.append("a")
    first.store.sync()
    first.append("b", "c", "d")
    second.append("e")
    first.store.sync()
    first.append("f")
    first.store.sync()
    first.append("g")
    opened = 2  # the two sessions' first entries, the second of which had seen no sync
    assert _unsynced(tmp_path / "log")[opened:] == [1, 0, 1, 2, 4, 1, 0]


def test_a_frame_with_too_many_before_it_vouches_for_none(tmp_path: Path) -> None:
    """The count ends at 65,535, which says nothing: bad bytes before such a frame may be torn."""
    sealed = Process(tmp_path / "log").seal("x")
    for unsynced, torn in ((0, False), (69_999, False), (UNSAID, True), (10**9, True), (70_000, True)):
        path = tmp_path / "frames"
        path.write_bytes(bytes([1] * 100) + encode(70_000, sealed, unsynced))
        with segment.opened(path) as fd:
            scan = Scan(fd, 0, path.stat().st_size, 0)
            assert list(scan) == []
        assert scan.damage is not None
        assert scan.damage.torn is (torn or unsynced >= UNSAID), unsynced


async def test_torn_bytes_far_behind_the_end_are_set_aside_in_pieces(tmp_path: Path) -> None:
    """Zeros without end and one byte behind them: what is set aside is exactly that, and neither memory nor disk holds the zeros."""
    await filled(tmp_path, 1)
    path, end, size = segment.path(tmp_path, 0), end_of(tmp_path), 256 << 20
    os.truncate(path, end + size - 1)
    with path.open("ab") as file:
        file.write(b"x")
    tracemalloc.start()
    await filled(tmp_path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf.get("of") == "tail")
    assert (leaf["offset"], leaf["size"]) == (end, size)
    aside = (tmp_path / leaf["file"]).stat()
    assert aside.st_size == size
    assert aside.st_blocks * 512 < size / 8
    assert peak < 16 << 20
    assert verify(tmp_path).ok


def test_a_copy_is_good_where_the_log_is_locked_meanwhile(tmp_path: Path, writers: tuple[Process, Process]) -> None:
    """Read piece by piece while entries are written, room has zeros that were entries when the next piece was read."""
    writer, path = writers[0], segment.path(tmp_path / "log", 0)
    writer.append("a")
    writer.store.sync()
    whole = tmp_path / "locked"
    with (tmp_path / "log" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=writer.append, args=["b"])
        thread.start()
        shutil.copytree(tmp_path / "log", whole)
    thread.join()
    assert calls(whole) == ["a"]
    assert verify(whole).ok
    copied, end = tmp_path / "not locked" / "seg" / path.name, end_of(tmp_path / "log")
    copied.parent.mkdir(parents=True)
    before = path.read_bytes()[: end + 100]
    for call in "cd":
        writer.append(call)
        writer.store.sync()
    copied.write_bytes(before + path.read_bytes()[end + 100 :])
    assert not verify(tmp_path / "not locked").ok
    assert verify(tmp_path / "log").ok


# ------------------------------------------------------------------------------------------- loss of power


def _lost(data: bytes, durable: int, sectors: Sequence[int]) -> bytes:
    """Return a file of which some sectors were never written: what is before `durable` is there in any case."""
    left = bytearray(data)
    for sector in sectors:
        begin, end = max(sector * SECTOR, durable), (sector + 1) * SECTOR
        left[begin:end] = bytes(len(left[begin:end]))
    return bytes(left)


async def test_a_loss_of_power_leaves_what_was_synced(tmp_path: Path, writers: tuple[Process, Process]) -> None:
    """Whichever sectors of unsynced appends are lost, what was durable is read, nothing is called damage, and the log goes on."""
    first, second = writers
    first.append("durable")
    first.store.sync()
    durable = end_of(tmp_path / "log")
    second.append("b", "c")
    first.append("d")
    data, end = segment.path(tmp_path / "log", 0).read_bytes(), end_of(tmp_path / "log")
    sectors = range(durable // SECTOR, end // SECTOR + 1)
    outcomes: set[tuple[str, ...]] = set()
    for number, lost in enumerate(itertools.chain.from_iterable(itertools.combinations(sectors, n) for n in range(9))):
        log = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "log" / "seg", log / "seg")
        segment.path(log, 0).write_bytes(_lost(data, durable, lost))
        report = verify(log)
        assert report.ok, (lost, report.problems)
        there = calls(log)
        assert ["durable", "b", "c", "d"][: len(there)] == there
        assert there, lost
        outcomes.add(tuple(there))
        await filled(log, 1)
        assert verify(log).ok, lost
        assert calls(log) == [*there, "c0"]
        shutil.rmtree(log)
    assert len(outcomes) > 2, "some were lost, and some kept"


def test_what_was_synced_is_damage_where_a_later_frame_vouches_for_it(
    tmp_path: Path, writers: tuple[Process, Process]
) -> None:
    """A byte changed in a durable entry is no torn end while one frame stands that was written after the sync."""
    first, second = writers
    begin = end_of(tmp_path / "log")
    first.append("durable")
    first.store.sync()
    end = end_of(tmp_path / "log")
    second.append("b")
    path = segment.path(tmp_path / "log", 0)
    good = path.read_bytes()
    first.append("c")
    vouched = path.read_bytes()
    for position in range(begin, end):
        for data, found in ((good, False), (vouched, True)):
            bad = bytearray(data)
            bad[position] ^= 1 << position % 8
            path.write_bytes(bad)
            report = verify(tmp_path / "log")
            assert report.ok is not found, position
            assert any("torn" in notice for notice in report.notices) is not found, position


async def test_a_torn_end_with_whole_frames_is_set_aside_whole(tmp_path: Path) -> None:
    """What stands behind the torn frame goes with it, and its bytes are kept."""
    log = AuditLog(tmp_path)
    await pair(log)
    intents = [await ask(log, "kept")]
    die(log)
    writer = Process(tmp_path)
    before = end_of(tmp_path)
    writer.append("torn", "whole")
    writer.store.release()
    path = segment.path(tmp_path, 0)
    data = bytearray(path.read_bytes())
    data[before + 60] ^= 1
    path.write_bytes(data)
    kept = bytes(data[before:]).rstrip(b"\0")
    await filled(tmp_path, 1)
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf.get("of") == "tail")
    assert (tmp_path / leaf["file"]).read_bytes() == kept
    assert kept.endswith(b"VEYRAEND")
    assert {"torn", "whole"}.isdisjoint(calls(tmp_path))
    assert len(intents) == 1
    assert verify(tmp_path).ok
