"""The store itself: two of them on one directory stand for two processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.recording import end_of
from audit.stores import Process, calls
from veyra.audit import read_entries, segment, verify
from veyra.audit import store as store_module
from veyra.audit.files import make_folder
from veyra.audit.frame import encode
from veyra.audit.segment import Head
from veyra.errors import AuditCorruptError


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    """Two processes with the log open."""
    first, second = Process(tmp_path), Process(tmp_path)
    yield first, second
    first.store.release()
    second.store.release()


def _drop_pages(directory: Path, offset: int) -> None:
    """Do to a segment what a kernel may do after a failed sync: forget what was not durable."""
    path = segment.path(directory, 0)
    data = path.read_bytes()
    path.write_bytes(data[:offset] + bytes(len(data) - offset))


def test_numbers_go_on_across_processes(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """Each process takes in what the other appended before it numbers its own."""
    first, second = processes
    seqs = []
    for process, call in ((first, "a"), (second, "b"), (second, "c"), (first, "d")):
        placed, failure = process.store.append([process.seal(call)])
        assert failure is None
        seqs += [item.seq for item in placed]
    assert seqs == [2, 3, 4, 5]
    assert calls(tmp_path) == ["a", "b", "c", "d"]
    assert verify(tmp_path).ok


def test_a_failed_sync_writes_again_in_a_new_segment(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """After a failed sync all that was not durable stands in the next segment, at the same numbers."""
    first, _ = processes
    placed, _ = first.store.append([first.seal("a"), first.seal("b")])
    first.store._poisoned = True  # as after an fdatasync that failed
    first.store.sync()
    assert [item.seq for item in placed] == [2, 3]
    with segment.opened(segment.path(tmp_path, 1)) as fd:
        assert segment.read(fd)[0].first <= 2
    assert calls(tmp_path) == ["a", "b"]
    assert verify(tmp_path).ok
    assert verify(tmp_path).segments == 2


def test_what_the_disk_forgot_is_written_from_memory(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """Frames that can no longer be read after a failed sync are appended again."""
    first, second = processes
    second.store.append([second.seal("before")])
    first.store.append([first.seal("durable")])
    first.store.sync()
    size = end_of(tmp_path)
    placed, _ = first.store.append([first.seal("a"), first.seal("b")])
    _drop_pages(tmp_path, size)
    first.store._poisoned = True
    first.store.sync()
    assert [item.seq for item in placed] == [4, 5]
    assert calls(tmp_path) == ["before", "durable", "a", "b"]
    assert verify(tmp_path).ok


def test_another_process_finds_its_entries_in_the_new_segment(
    tmp_path: Path, processes: tuple[Process, Process]
) -> None:
    """Whose entries were copied by another process's recovery from a failed sync keeps their numbers."""
    first, second = processes
    first.store.append([first.seal("a")])
    placed, _ = second.store.append([second.seal("b")])
    first.store._poisoned = True
    first.store.sync()
    second.store.sync()
    assert [item.seq for item in placed] == [3]
    second.store.append([second.seal("c")])
    second.store.sync()
    assert calls(tmp_path) == ["a", "b", "c"]
    assert verify(tmp_path).ok


def test_another_process_writes_its_lost_entries_again(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """Whose entries were forgotten by the disk before they could be copied appends them at new numbers."""
    first, second = processes
    size = end_of(tmp_path)
    second.store.append([second.seal("x")])
    placed, _ = second.store.append([second.seal("y")])
    first.store.append([first.seal("a")])
    _drop_pages(tmp_path, size)
    first.store._poisoned = True
    first.store.sync()
    assert calls(tmp_path) == ["a"]
    second.store.sync()
    assert calls(tmp_path) == ["a", "x", "y"]
    assert [item.seq for item in placed] == [4]
    assert verify(tmp_path).ok


def test_both_processes_fail_to_sync(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """Two failures on one segment make one new segment, and nothing is there twice."""
    first, second = processes
    first.store.append([first.seal("a")])
    second.store.append([second.seal("b")])
    first.store._poisoned = second.store._poisoned = True
    first.store.sync()
    second.store.sync()
    assert calls(tmp_path) == ["a", "b"]
    assert len(segment.listed(tmp_path)) == 2
    assert verify(tmp_path).ok


def test_a_process_that_fails_to_sync_after_another_was_further(
    tmp_path: Path, processes: tuple[Process, Process]
) -> None:
    """Two failures on one segment: what the second process had not read yet of it is no reason to refuse the log."""
    first, second = processes
    placed, _ = first.store.append([first.seal("a")])
    second.store.append([second.seal("b")])
    second.store.sync()
    second.store.append([second.seal("c")])
    first.store._poisoned = second.store._poisoned = True
    second.store.sync()
    first.store.sync()
    assert [item.seq for item in placed] == [2]
    first.store.append([first.seal("d")])
    first.store.sync()
    assert calls(tmp_path) == ["a", "b", "c", "d"]
    assert verify(tmp_path).ok


def test_an_entry_whose_place_was_taken_is_written_again(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """Where the disk forgot an entry and another process wrote in its place, that one's entry is not taken for it."""
    first, second = processes
    size = end_of(tmp_path)
    placed, _ = first.store.append([first.seal("a")])
    _drop_pages(tmp_path, size)
    second.store.append([second.seal("b")])
    first.store._poisoned = True
    first.store.sync()
    assert [item.seq for item in placed] == [3]
    assert calls(tmp_path) == ["b", "a"]
    second.store.sync()
    assert calls(tmp_path) == ["b", "a"]
    assert verify(tmp_path).ok


def test_a_sync_waits_for_what_could_not_be_written_again(
    tmp_path: Path, processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that a new segment left out, and that could not be appended to it at once, is in it before a sync says yes."""
    first, second = processes
    size = end_of(tmp_path)
    second.store.append([second.seal("x")])
    _drop_pages(tmp_path, size)
    first.store._poisoned = True
    first.store.sync()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(store_module, "write_at", lambda *_: (0, OSError(errno.ENOSPC, "full")))
        second.store.append([second.seal("y")])
    second.store.sync()
    assert calls(tmp_path) == ["x"]
    assert verify(tmp_path).ok


def test_what_a_checkpoint_covers_is_never_set_aside_by_a_living_writer(
    tmp_path: Path, processes: tuple[Process, Process]
) -> None:
    """A byte changed in entries that no later frame vouches for is damage to a writer that had not read them, where a checkpoint has."""
    first, second = processes
    end = end_of(tmp_path)
    first.store.append([first.seal(call) for call in "abc"])
    first.store.sync()
    first.store.save()
    path = segment.path(tmp_path, 0)
    bad = bytearray(path.read_bytes())
    bad[end + 60] ^= 1
    path.write_bytes(bad)
    with pytest.raises(AuditCorruptError, match="entry 2 is due"):
        second.store.append([second.seal("d")])
    with pytest.raises(AuditCorruptError, match="entry 2 is due"):
        second.store.set_aside()
    assert path.read_bytes() == bytes(bad)


def test_an_append_after_a_failed_sync_begins_with_what_was_lost(
    tmp_path: Path, processes: tuple[Process, Process]
) -> None:
    """Where even the new segment could not be made, the next append makes it first."""
    first, _ = processes
    first.store.append([first.seal("a")])
    blocker = tmp_path / "seg" / "00000001.vseg.new"
    blocker.mkdir()
    first.store._poisoned = True
    with pytest.raises(IsADirectoryError):
        first.store.sync()
    entries = [first.seal("b")]
    with pytest.raises(IsADirectoryError):
        first.store.append(entries)
    blocker.rmdir()
    first.store.append(entries)
    first.store.sync()
    assert calls(tmp_path) == ["a", "b"]
    assert verify(tmp_path).ok


@pytest.mark.parametrize(("room", "beyond"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 63), (3, 0)])
def test_of_a_write_that_ends_early_the_whole_frames_are_kept(
    tmp_path: Path, processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch, room: int, beyond: int
) -> None:
    """Ended within a frame or exactly at its end: what is returned is what is in the file, and no more."""
    first, _ = processes
    entries = [first.seal("a"), first.seal("b"), first.seal("c")]
    sizes = [len(encode(0, entry)) for entry in entries]
    before, count = end_of(tmp_path), first.store.size + 1

    def end_early(fd: int, data: bytes, offset: int) -> tuple[int, OSError]:
        return os.pwrite(fd, data[: sum(sizes[:room]) + beyond], offset), OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store_module, "write_at", end_early)
    placed, failure = first.store.append(entries)
    assert (failure is None) == (room == len(entries)), "what fails behind the entries is only room"
    assert [item.entry for item in placed] == entries[:room]
    assert [item.seq for item in placed] == list(range(count, count + room))
    assert end_of(tmp_path) == before + sum(sizes[:room])
    assert len(list(read_entries(tmp_path))) == first.store.size == count + room


def test_what_a_write_left_that_told_of_nothing_is_cut_off(
    tmp_path: Path, processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that wrote all and fails all the same wrote nothing: its frames are not found, and then written once more."""
    first, second = processes
    entries = [first.seal("a"), first.seal("b")]
    with monkeypatch.context() as patch:

        def lie(fd: int, data: bytes, offset: int) -> tuple[int, OSError]:
            os.pwrite(fd, data, offset)
            return 0, OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr(store_module, "write_at", lie)
        placed, failure = first.store.append(entries)
    assert (placed, failure is not None) == ([], True)
    second.store.append([second.seal("c")])
    first.store.append(entries)
    first.store.sync()
    assert calls(tmp_path) == ["c", "a", "b"]
    assert verify(tmp_path).ok


def test_of_a_file_that_is_cut_while_it_is_written_nothing_counts(
    tmp_path: Path, processes: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write fails and the file is shorter than it was: no entry is said to be in it, and the log is refused then."""
    first, _ = processes

    def cut(fd: int, _: bytes, offset: int) -> tuple[int, OSError]:
        os.ftruncate(fd, offset - 1)
        return 0, OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store_module, "write_at", cut)
    placed, failure = first.store.append([first.seal("a"), first.seal("b")])
    assert (placed, failure is not None) == ([], True)
    with pytest.raises(AuditCorruptError, match="was cut"):
        first.store.append([first.seal("c")])


def test_a_large_segment_is_sealed(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """At 64 MiB a new segment begins; the other process follows, and a log opened later begins there."""
    first, second = processes
    for number in range(9):
        first.store.append([first.seal(str(number), 8 << 20)])
    first.store.sync()
    second.store.append([second.seal("other")])
    second.store.sync()
    assert len(segment.listed(tmp_path)) == 2
    third = Process(tmp_path)
    third.store.append([third.seal("late")])
    third.store.sync()
    third.store.release()
    assert calls(tmp_path) == [*map(str, range(9)), "other", "late"]
    assert verify(tmp_path).ok
    assert verify(tmp_path).segments == 2


def test_an_old_segment_is_sealed(tmp_path: Path) -> None:
    """A segment begun more than a day ago is closed by the next append, unless it is empty."""
    make_folder(tmp_path / "seg")
    head = Head(origin="veyra-log/old", index=0, first=0, peaks=(), created=1)
    segment.path(tmp_path, 0).write_bytes(segment.encode(head))
    process = Process(tmp_path)
    assert len(segment.listed(tmp_path)) == 1
    process.store.append([process.seal("a")])
    process.store.sync()
    process.store.release()
    assert len(segment.listed(tmp_path)) == 2
    assert calls(tmp_path) == ["a"]
    assert verify(tmp_path).ok


def test_a_checkpoint_never_goes_back(tmp_path: Path, processes: tuple[Process, Process]) -> None:
    """Who saves with fewer entries than the checkpoint covers leaves it as it is."""
    first, second = processes
    first.store.append([first.seal("a")])
    first.store.sync()
    second.store.append([second.seal("b")])
    second.store.sync()
    second.store.save()
    before = (tmp_path / "checkpoint").read_bytes()
    assert first.store.unsaved > 0
    first.store.save()
    assert first.store.unsaved == 0
    assert (tmp_path / "checkpoint").read_bytes() == before
    assert verify(tmp_path).checkpoint_size == 4
