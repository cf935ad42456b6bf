"""`verify`: it finds what was done to a log, names it, ends on anything, and does not cry wolf."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.recording import answer, ask, filled, pair
from veyra.audit import AuditLog, find, read_attempts, read_entries, segment, verify
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.checkpoint import encode as encode_checkpoint
from veyra.audit.entry import Sealed, session_open
from veyra.audit.frame import Frame, Scan, encode
from veyra.audit.segment import Head
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.verify import MAX_PROBLEMS
from veyra.errors import AuditCorruptError, AuditError


def _segment(directory: Path) -> Path:
    return segment.path(directory, 0)


def _frames(directory: Path) -> list[Frame]:
    with segment.opened(_segment(directory)) as fd:
        head, begin = segment.read(fd)
        return list(Scan(fd, begin, os.fstat(fd).st_size, head.first))


def _rewrite(directory: Path, frames: list[Frame], *, checkpoint: bool = True) -> None:
    """Write a log anew with these leaves and bodies: CRCs, numbers and (if wanted) the checkpoint made to fit."""
    with segment.opened(_segment(directory)) as fd:
        head, begin = segment.read(fd)
    tree = Tree()
    data = [_segment(directory).read_bytes()[:begin]]
    for seq, frame in enumerate(frames):
        data.append(encode(seq, Sealed(session_open(pid=1, mode=""), frame.leaf, b"", frame.blobs or b"")))
        tree.append(leaf_hash(frame.leaf))
    _segment(directory).write_bytes(b"".join(data))
    if checkpoint:
        (directory / "checkpoint").write_bytes(encode_checkpoint(Checkpoint(head.origin, tree.size, tree.root())))


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """A closed log of three calls: eight entries."""
    await filled(tmp_path / "log", 3)
    return tmp_path / "log"


async def test_a_good_log_is_good(log: Path) -> None:
    """The report counts what is there, and says that there is no evidence from outside."""
    report = verify(log)
    assert report.ok
    assert (report.size, report.checkpoint_size, report.segments) == (8, 8, 1)
    assert (report.intents, report.outcomes, report.bodies, report.open, report.abandoned) == (3, 3, 6, 0, 0)
    assert len(report.notices) == 1
    assert "nothing outside the directory" in report.notices[0]
    tree = Tree()
    for entry in read_entries(log):
        tree.append(leaf_hash(entry.raw))
    assert report.root == tree.root().hex()


@pytest.mark.timeout(60)  # thousands of verifications
async def test_every_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    """A bit flipped in any byte of the segment is a problem in that file, at that frame's offset and number."""
    log = tmp_path
    await filled(log, 1)
    good = _segment(log).read_bytes()
    frames = _frames(log)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        _segment(log).write_bytes(bad)
        report = verify(log)
        assert not report.ok, position
        problem = report.problems[0]
        hit = next((frame for frame in frames if frame.offset <= position < frame.end), None)
        assert problem.file == "seg/00000000.vseg"
        assert (problem.offset, problem.seq) == ((hit.offset, hit.seq) if hit else (0, 0)), position


async def test_every_flipped_bit_of_the_checkpoint_is_found(log: Path) -> None:
    """No other checkpoint than the one that was written agrees with the log."""
    good = (log / "checkpoint").read_bytes()
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            (log / "checkpoint").write_bytes(bad)
            report = verify(log)
            # a smaller size with another root, a larger one, another origin, or no checkpoint at all
            assert not report.ok, (position, bit)
            assert report.problems[0].file == "checkpoint"


def _removed(frames: list[Frame]) -> list[Frame]:
    return frames[:3] + frames[4:]


def _swapped(frames: list[Frame]) -> list[Frame]:
    return [*frames[:3], frames[4], frames[3], *frames[5:]]


def _repeated(frames: list[Frame]) -> list[Frame]:
    return [*frames[:4], frames[3], *frames[4:]]


def _edited(frames: list[Frame]) -> list[Frame]:
    return [frame._replace(leaf=frame.leaf.replace(b'"m-1"', b'"m-2"')) for frame in frames]


def _cut(frames: list[Frame]) -> list[Frame]:
    return frames[:-2]


@pytest.mark.parametrize("change", [_removed, _swapped, _repeated, _edited, _cut])
async def test_a_change_with_all_crcs_made_to_fit_does_not_agree_with_the_checkpoint(
    log: Path, change: Callable[[list[Frame]], list[Frame]]
) -> None:
    """Who edits, removes, repeats or swaps entries and mends every CRC and number still has another tree."""
    _rewrite(log, change(_frames(log)), checkpoint=False)
    codes = {problem.code for problem in verify(log).problems}
    assert codes & {"tree", "checkpoint"}


@pytest.mark.parametrize("change", [_removed, _swapped, _repeated])
async def test_a_change_with_the_checkpoint_made_to_fit_breaks_numbers_or_pairs(
    log: Path, change: Callable[[list[Frame]], list[Frame]]
) -> None:
    """With a new checkpoint too (it is unsigned yet), running numbers and pairs still tell."""
    _rewrite(log, change(_frames(log)))
    report = verify(log)
    assert {problem.code for problem in report.problems} <= {"session", "pairing"}
    assert not report.ok
    assert all(problem.seq is not None and problem.offset for problem in report.problems)
    assert verify(log, level="tree").ok


async def test_a_body_of_another_call_or_salt_is_found(log: Path) -> None:
    """A body that was changed together with its CRC is not what the leaf commits to."""
    frames = _frames(log)
    for changed in (
        frames[1]._replace(blobs=(frames[1].blobs or b"").replace(b'{"q":1}', b'{"q":2}')),
        frames[1]._replace(blobs=frames[2].blobs),
        frames[1]._replace(blobs=b""),
        frames[1]._replace(blobs=(frames[1].blobs or b"")[:-1]),
        frames[1]._replace(blobs=(frames[1].blobs or b"") * 2),
    ):
        _rewrite(log, [frames[0], changed, *frames[2:]])
        (problem,) = verify(log).problems
        assert (problem.code, problem.seq) == ("body", 1)
        assert verify(log, level="semantics").ok
        with pytest.raises((AuditCorruptError, AssertionError)):
            for part in find(log, 1)[0].parts:
                assert part.data == b'{"q":1}'
                assert changed.blobs != (frames[1].blobs or b"") * 2


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"wseq":2', b'"wseq":3', "session"),
        (b'"status":"ok"', b'"status":"so"', "leaf"),
        (b'"v":1', b'"v":1,"v":1', "leaf"),
        (b'"kind":"call.outcome"', b'"kind":"call.progres"', "pairing"),
    ],
)
async def test_a_leaf_that_is_not_as_the_log_writes_it_is_found(log: Path, old: bytes, new: bytes, code: str) -> None:
    """Form, numbers and pairs are checked in the leaf itself."""
    frames = _frames(log)
    changed = frames[2]._replace(leaf=frames[2].leaf.replace(old, new))
    _rewrite(log, [*frames[:2], changed, *frames[3:]])
    report = verify(log)
    if code == "pairing":  # an outcome that is gone leaves its intent open: not wrong in itself, but counted
        assert report.open == 1
        return
    assert code in {problem.code for problem in report.problems}


async def test_an_outcome_too_many_and_one_without_its_intent_are_found(tmp_path: Path) -> None:
    """Pairs are exact: the log itself never writes these, so they are put there by hand."""
    log = AuditLog(tmp_path)
    first = await ask(log, "a")
    await answer(log, first, "a")
    log.close()
    frames = _frames(tmp_path)
    again = frames[2]._replace(leaf=frames[2].leaf.replace(b'"wseq":2', b'"wseq":3'))
    end = frames[3]._replace(leaf=frames[3].leaf.replace(b'"wseq":3', b'"wseq":4'))
    _rewrite(tmp_path, [*frames[:3], again, end])
    (problem,) = verify(tmp_path).problems
    assert (problem.code, problem.seq) == ("pairing", 3)
    late = frames[2]._replace(leaf=frames[2].leaf.replace(b'"wseq":2', b'"wseq":1'))
    early = frames[1]._replace(leaf=frames[1].leaf.replace(b'"wseq":1', b'"wseq":2'))
    _rewrite(tmp_path, [frames[0], late, early, frames[3]])
    assert [(problem.code, problem.seq) for problem in verify(tmp_path).problems] == [("pairing", 1)]


async def test_a_session_that_goes_on_after_its_end_is_found(log: Path) -> None:
    """Nothing of a session may come after its session.close."""
    frames = _frames(log)
    _rewrite(log, [*frames[:1], frames[7]._replace(leaf=frames[7].leaf.replace(b'"wseq":7', b'"wseq":1')), frames[2]])
    assert "goes on after its end" in " ".join(problem.message for problem in verify(log).problems)


async def test_a_missing_or_foreign_segment_is_found(log: Path, tmp_path: Path) -> None:
    """Segments follow one another without a gap and belong to one log."""
    origin = verify(log).origin
    tree = Tree()
    for entry in read_entries(log):
        tree.append(leaf_hash(entry.raw))

    right = Head(origin=origin, index=1, first=8, peaks=tree.peaks, created=1)

    def add(number: int, head: Head) -> str:
        path = segment.path(log, number)
        path.write_bytes(segment.encode(head))
        report = verify(log)
        path.unlink()
        return report.problems[0].message if report.problems else ""

    assert add(1, right) == ""
    assert "no segment 1" in add(2, replace(right, index=2))
    assert "no segment 1" in add(1, replace(right, index=5))
    assert "another log" in add(1, replace(right, origin="other"))
    assert "begins at entry 9" in add(1, replace(right, first=9, peaks=(b"x" * 32, b"y" * 32)))
    assert "do not give the hashes" in add(1, replace(right, peaks=(b"x" * 32,)))
    _segment(log).unlink()
    assert not verify(log).ok


async def test_what_a_later_segment_replaces_is_left_out(log: Path) -> None:
    """Frames that were written again in a new segment are void in the old one."""
    frames = _frames(log)
    tree = Tree()
    for frame in frames[:5]:
        tree.append(leaf_hash(frame.leaf))
    head = Head(origin=verify(log).origin, index=1, first=5, peaks=tree.peaks, created=1)
    again = [encode(f.seq, Sealed(session_open(pid=1, mode=""), f.leaf, b"", f.blobs or b"")) for f in frames[5:]]
    segment.path(log, 1).write_bytes(segment.encode(head) + b"".join(again))
    damaged = bytearray(_segment(log).read_bytes())
    damaged[frames[6].offset + 50] ^= 1
    _segment(log).write_bytes(damaged)
    report = verify(log)
    assert (report.ok, report.size, report.segments) == (True, 8, 2)
    assert [entry.seq for entry in read_entries(log)] == list(range(8))
    await filled(log, 1)
    assert verify(log).ok


def test_where_there_is_no_log_there_is_nothing_to_say(tmp_path: Path) -> None:
    """A directory without a log, a missing one and a file are errors, not good logs."""
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        for reader in (verify, lambda path: list(read_entries(path)), lambda path: list(read_attempts(path))):
            with pytest.raises(AuditError, match=r"there is no audit log at|cannot be read"):
                reader(place)


async def test_reading_and_verifying_write_nothing(log: Path) -> None:
    """Neither changes a byte, a name or a time of the directory."""

    def seen() -> list[tuple[str, int, int]]:
        return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in [log, *log.rglob("*")])

    before = seen()
    verify(log)
    list(read_attempts(log))
    find(log, 1)
    assert seen() == before


async def test_the_verifier_ends_on_hostile_input_and_never_says_ok(log: Path) -> None:
    """A thousand logs with bytes overwritten, cut, doubled or put in are all refused."""
    good = _segment(log).read_bytes()
    chance = random.Random(7)
    for _ in range(1_000):
        bad = bytearray(good)
        at, length = chance.randrange(len(bad)), chance.randrange(1, 200)
        match chance.randrange(4):
            case 0:
                bad[at : at + length] = chance.randbytes(length)
            case 1:
                del bad[at : at + length]
            case 2:
                bad[at:at] = bad[max(at - length, 0) : at + 1]
            case _:
                bad[at:at] = bytes(length)
        _segment(log).write_bytes(bad)
        if bytes(bad) != good:
            assert not verify(log).ok
        try:
            list(read_attempts(log))
        except AuditError:
            continue


@given(st.binary(max_size=300))
def test_the_verifier_ends_on_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A segment or checkpoint of any bytes is a problem, never a crash."""
    directory = tmp_path_factory.mktemp("log")
    (directory / "seg").mkdir()
    _segment(directory).write_bytes(data)
    (directory / "checkpoint").write_bytes(data)
    assert not verify(directory).ok
    shutil.rmtree(directory)


async def test_problems_are_bounded(tmp_path: Path) -> None:
    """After a thousand problems the verifier stops looking."""
    log = AuditLog(tmp_path)
    await asyncio.gather(*(pair(log) for _ in range(700)))
    log.close()
    frames = _frames(tmp_path)
    _rewrite(tmp_path, [frame._replace(leaf=frame.leaf.replace(b'"v":1', b'"v":3')) for frame in frames])
    assert len(verify(tmp_path).problems) == MAX_PROBLEMS


async def test_verifying_beside_writers_raises_no_alarm(tmp_path: Path) -> None:
    """However often one verifies while others append, every report is ok and none goes back."""
    logs = [AuditLog(tmp_path) for _ in range(3)]
    await pair(logs[0])
    done = asyncio.Event()

    async def write(log: AuditLog) -> None:
        while not done.is_set():
            await asyncio.gather(*(pair(log) for _ in range(5)))

    writers = [asyncio.ensure_future(write(log)) for log in logs]
    sizes = []
    for _ in range(25):
        report = await asyncio.to_thread(verify, tmp_path)
        assert report.ok, report.problems
        sizes.append(report.size)
    done.set()
    await asyncio.gather(*writers)
    for log in logs:
        log.close()
    assert sizes == sorted(sizes)
    assert verify(tmp_path).ok


async def test_entries_are_found_by_number_id_call_and_their_beginnings(tmp_path: Path) -> None:
    """`find` returns an intent with its outcome, whatever of them was named."""
    log = AuditLog(tmp_path)
    intent = await ask(log, "call-a")
    outcome = await answer(log, intent, "call-a")
    other = await ask(log, "call-b")
    log.close()
    ids = [intent.id, outcome.id]
    for key in (1, "1", 2, intent.id, outcome.id, intent.id[:-2], "call-a"):
        assert [entry.leaf["id"] for entry in find(tmp_path, key)] == ids, key
    assert [entry.seq for entry in find(tmp_path, other.id)] == [3, 4]
    assert [entry.leaf["kind"] for entry in find(tmp_path, 0)] == ["session.open"]
    assert find(tmp_path, "nothing") == ()
    assert find(tmp_path, 77) == ()
    with pytest.raises(AuditError, match="fits 2 calls"):
        find(tmp_path, "call-")


async def test_a_body_is_checked_when_it_is_read(log: Path) -> None:
    """Reading a body that was changed raises, though the entries around it are read."""
    data = bytearray(_segment(log).read_bytes())
    at = data.index(b'{"q":1}')
    data[at + 5 : at + 6] = b"2"
    _segment(log).write_bytes(data)
    entries = list(read_entries(log))
    with pytest.raises(AuditCorruptError, match="commits to"):
        _ = entries[1].parts[0].data
    assert json.loads(entries[1].raw)["parts"][0]["size"] == 7
