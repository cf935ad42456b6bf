"""What is found at opening: torn ends, dead sessions, damage, a log that was cut."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from audit.recording import ask, filled, kinds, pair, run, statuses, tear
from veyra.audit import AuditLog, BodyPart, entry, read_entries, verify
from veyra.audit.entry import Attempt, Sealed, new_id, seal
from veyra.audit.frame import encode
from veyra.audit.session import Session
from veyra.errors import AuditCorruptError, AuditUnavailableError

INFINITE = b'{"size":0,"peaks":[],"segment":0,"offset":1e999,"crc":0}'
DIE = """
import asyncio, os, sys
from audit.recording import ask, pair
from veyra.audit import AuditLog
async def main():
    log = AuditLog(sys.argv[1])
    await pair(log)
    await ask(log, "left open")
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def _segment(directory: Path, index: int = 0) -> Path:
    return directory / "seg" / f"{index:08d}.vseg"


def _die(directory: Path) -> None:
    assert run(DIE, directory).returncode == -signal.SIGKILL


async def test_a_dead_sessions_intents_become_abandoned(tmp_path: Path) -> None:
    """After a kill the intent stays open until the log is opened again; then it is abandoned, once."""
    _die(tmp_path)
    assert verify(tmp_path).ok
    assert verify(tmp_path).open == 1
    for _ in range(2):
        await filled(tmp_path, 1)
        report = verify(tmp_path)
        assert (report.ok, report.open, report.abandoned) == (True, 0, 1)
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf["kind"] == "recovery")
    assert (leaf["of"], leaf["abandoned"]) == ("session", 1)
    assert list((tmp_path / "sessions").iterdir()) == []


async def test_a_living_sessions_intents_are_left_alone(tmp_path: Path) -> None:
    """Opening the log beside a session that lives abandons nothing of it."""
    living = AuditLog(tmp_path)
    intent = await ask(living, "under way")
    await filled(tmp_path, 1)
    assert verify(tmp_path).open == 1
    assert statuses(tmp_path) == {"ok": 1}
    await living.outcome(
        intent=intent, call="under way", attempt=1, backend="mock", status="ok", latency_ns=1, attributes={}
    )
    living.close()
    assert statuses(tmp_path) == {"ok": 2}
    assert verify(tmp_path).ok


async def test_several_dead_sessions_are_recovered_at_once(tmp_path: Path) -> None:
    """Each dead session gets its own recovery entry, and each intent one outcome, even where one is recovered twice."""
    _die(tmp_path)
    (session,) = (tmp_path / "sessions").iterdir()
    text = session.read_bytes()
    _die(tmp_path)  # recovers the first, and dies in turn
    session.write_bytes(text)
    await filled(tmp_path, 1)
    assert statuses(tmp_path) == {"ok": 3, "abandoned": 2}
    assert kinds(tmp_path)["recovery"] == 3
    assert verify(tmp_path).ok


async def test_recovery_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    """Where a recovery died after some of its entries, the next one writes the rest and nothing twice."""
    _die(tmp_path)
    session = next((tmp_path / "sessions").iterdir())
    text = session.read_bytes()
    await filled(tmp_path, 1)
    session.write_bytes(text)
    await filled(tmp_path, 1)
    assert statuses(tmp_path)["abandoned"] == 1
    assert verify(tmp_path).ok


async def test_a_session_that_ended_well_is_struck_off_quietly(tmp_path: Path) -> None:
    """Were only the removal of a session's file lost, nothing is recorded but removed now."""
    await filled(tmp_path, 1)
    sid = next(read_entries(tmp_path)).leaf["sid"]
    (tmp_path / "sessions" / sid).write_text("0\n")
    await filled(tmp_path, 1)
    assert "recovery" not in kinds(tmp_path)
    assert list((tmp_path / "sessions").iterdir()) == []


@pytest.mark.parametrize("cut", [1, 20, 63, 64, 300])
async def test_a_torn_end_is_set_aside_and_recorded(tmp_path: Path, cut: int) -> None:
    """Torn bytes move to quarantine, a recovery entry names and hashes them, and the log goes on."""
    _die(tmp_path)
    whole = list(read_entries(tmp_path))
    frame = encode(len(whole), _sealed())[:cut]
    size = tear(tmp_path, frame)
    report = verify(tmp_path)
    assert report.ok
    assert f"torn tail: seg/00000000.vseg ends at offset {size}" in report.notices[0]
    assert len(list(read_entries(tmp_path))) == len(whole)
    await filled(tmp_path, 1)
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf.get("of") == "tail")
    aside = tmp_path / leaf["file"]
    assert aside.read_bytes() == frame
    assert aside.stat().st_mode & 0o777 == 0o600
    assert (leaf["segment"], leaf["offset"], leaf["size"]) == (0, size, cut)
    assert leaf["sha256"] == hashlib.sha256(frame).hexdigest()
    assert [e.raw for e in read_entries(tmp_path)][: len(whole)] == [e.raw for e in whole]
    assert verify(tmp_path).ok
    assert not any("torn" in notice for notice in verify(tmp_path).notices)


async def test_a_session_that_meets_a_torn_end_as_it_ends_leaves_it_to_the_next(tmp_path: Path) -> None:
    """The torn bytes are moved away before the session's last entry; the next opening records them, for nothing follows that one."""
    log = AuditLog(tmp_path)
    await pair(log)
    tear(tmp_path, encode(3, _sealed())[:50])
    await log.aclose()
    assert kinds(tmp_path)["session.close"] == 1
    assert verify(tmp_path).ok, verify(tmp_path).problems
    await filled(tmp_path, 1)
    (leaf,) = [e.leaf for e in read_entries(tmp_path) if e.leaf.get("of") == "tail"]
    assert (tmp_path / leaf["file"]).stat().st_size == leaf["size"] == 50
    assert verify(tmp_path).ok


async def test_what_was_set_aside_is_held_against_the_entry_that_names_it(tmp_path: Path) -> None:
    """A bit flipped in it is found and named at the levels that read bodies; that it is gone is worth knowing."""
    _die(tmp_path)
    tear(tmp_path, encode(4, _sealed())[:50])
    await filled(tmp_path, 1)
    named = next(e for e in read_entries(tmp_path) if e.leaf.get("of") == "tail")
    aside = tmp_path / named.leaf["file"]
    good = aside.read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        aside.write_bytes(bad)
        problems = verify(tmp_path).problems
        assert [(p.code, p.file, p.seq) for p in problems] == [("quarantine", named.leaf["file"], named.seq)]
    for bad in (good[:-1], good + b"\0"):
        aside.write_bytes(bad)
        assert [p.code for p in verify(tmp_path).problems] == ["quarantine"]
    assert verify(tmp_path, level="semantics").ok
    aside.write_bytes(good)
    aside.rename(aside.with_suffix(".pending"))  # recorded, and not renamed yet
    assert verify(tmp_path).ok
    aside.with_suffix(".pending").unlink()
    report = verify(tmp_path)
    assert report.ok
    assert f"{named.leaf['file']}, which entry {named.seq} names, is not there or cannot be read" in report.notices[0]
    os.mkfifo(aside)
    assert "is not there or cannot be read" in verify(tmp_path).notices[0]


@pytest.mark.parametrize(
    "name", ["../outside.torn", "quarantine/../../outside.torn", "seg/00000000.vseg", "/etc/passwd"]
)
async def test_an_entry_that_names_a_file_elsewhere_makes_nobody_read_it(tmp_path: Path, name: str) -> None:
    """Only what lies in quarantine is read, whatever a leaf says."""
    (tmp_path / "outside.torn").write_bytes(b"x")
    log = tmp_path / "log"
    _die(log)
    session = Session()
    tail = entry.recovered_tail(file=name, segment=0, offset=1, size=1, digest="0" * 64)
    frames = [session.seal(entry.session_open(pid=1, mode="strict")), session.seal(tail)]
    tear(log, b"".join(encode(number, sealed) for number, sealed in enumerate(frames, 4)))
    report = verify(log)
    assert [(p.code, p.seq) for p in report.problems] == [("quarantine", 5)]
    assert "names no file in quarantine" in report.problems[0].message


def _sealed() -> Sealed:
    part = BodyPart("request.wire", b"x" * 500, "x")
    return seal(entry.intent(Attempt("c", 1, "b"), attributes={}, parts=[part]), new_id(), 0)


async def test_a_tail_torn_by_another_process_is_cleared_by_a_living_one(tmp_path: Path) -> None:
    """A writer that meets the torn bytes of another sets them aside and goes on, without opening anew."""
    log = AuditLog(tmp_path)
    await pair(log)
    tear(tmp_path, b"\x89VEYRA\r\n half a frame")
    await pair(log)
    log.close()
    assert kinds(tmp_path) == {
        "session.open": 1,
        "call.intent": 2,
        "call.outcome": 2,
        "recovery": 1,
        "session.close": 1,
    }
    assert verify(tmp_path).ok


async def test_quarantine_that_was_not_recorded_is_recorded_later(tmp_path: Path) -> None:
    """A crash between setting bytes aside and recording it leaves a file that the next opening records."""
    await filled(tmp_path, 1)
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "00000000-77-some-id.pending").write_bytes(b"torn")
    await filled(tmp_path, 1)
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf["kind"] == "recovery")
    assert (leaf["file"], leaf["segment"], leaf["offset"]) == ("quarantine/00000000-77-some-id.torn", 0, 77)
    assert (tmp_path / leaf["file"]).read_bytes() == b"torn"
    assert list((tmp_path / "quarantine").glob("*.pending")) == []


async def test_damage_before_the_checkpoint_refuses_every_call(tmp_path: Path) -> None:
    """A byte flipped in the last segment, in head, header, leaf or body, is named, and the log is not written to."""
    await filled(tmp_path / "log", 3)
    good = _segment(tmp_path / "log").read_bytes()
    for position in range(0, len(good), 41):
        bad = bytearray(good)
        bad[position] ^= 4
        _segment(tmp_path / "log").write_bytes(bad)
        with pytest.raises(AuditCorruptError, match="damaged or altered and is not written to") as error:
            await ask(AuditLog(tmp_path / "log"))
        assert "00000000.vseg" in error.value.message or "segment 0" in error.value.message
        assert _segment(tmp_path / "log").read_bytes() == bytes(bad)
    _segment(tmp_path / "log").write_bytes(good)
    await filled(tmp_path / "log", 1)
    assert verify(tmp_path / "log").ok


async def test_a_log_cut_below_its_checkpoint_is_refused(tmp_path: Path) -> None:
    """A tail, a segment or all segments that are missing under the checkpoint refuse every call."""
    await filled(tmp_path, 3)
    segment = _segment(tmp_path)
    good = segment.read_bytes()
    entries = list(read_entries(tmp_path))
    segment.write_bytes(good[:-200])
    with pytest.raises(AuditCorruptError, match=r"checkpoint is over 8|there is a"):
        await ask(AuditLog(tmp_path))
    segment.unlink()
    with pytest.raises(AuditCorruptError, match="no segment"):
        await ask(AuditLog(tmp_path))
    segment.write_bytes(good)
    assert [e.raw for e in read_entries(tmp_path)] == [e.raw for e in entries]


async def test_a_log_written_anew_under_an_old_checkpoint_is_refused(tmp_path: Path) -> None:
    """Entries that are whole but not those of the checkpoint are no log of ours."""
    await filled(tmp_path / "a", 3)
    await filled(tmp_path / "b", 3)
    shutil.copy(tmp_path / "b" / "checkpoint", tmp_path / "a" / "checkpoint")
    with pytest.raises(AuditCorruptError, match="another log"):
        await ask(AuditLog(tmp_path / "a"))
    origin = (tmp_path / "a" / "seg" / "00000000.vseg").read_bytes().split(b'"')[3]
    lines = (tmp_path / "b" / "checkpoint").read_bytes().split(b"\n")
    (tmp_path / "a" / "checkpoint").write_bytes(b"\n".join([origin, *lines[1:]]))
    with pytest.raises(AuditCorruptError, match="do not give the root"):
        await ask(AuditLog(tmp_path / "a"))


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b'{"size":1,"peaks":["00"]}', b"\xff", b"[" * 100_000, INFINITE, b'{"size":"x","peaks":0}'],
)
async def test_a_state_that_does_not_prove_itself_is_not_believed(tmp_path: Path, text: bytes) -> None:
    """The saved tree is a shortcut: whatever stands in its place, the log opens and the tree is right."""
    await filled(tmp_path, 3)
    (tmp_path / "state").write_bytes(text)
    await filled(tmp_path, 1)
    (tmp_path / "state").unlink()
    await filled(tmp_path, 1)
    assert verify(tmp_path).ok
    assert verify(tmp_path).checkpoint_size == verify(tmp_path).size


@pytest.mark.parametrize(
    "change", [{"segment": 9}, {"offset": 0, "crc": 0}, {"offset": 10**9}, {"crc": 1}, {"offset": -1}, {"peaks": []}]
)
async def test_a_state_that_is_about_other_bytes_is_not_believed(tmp_path: Path, change: dict[str, int]) -> None:
    """A state whose place or CRC is not that of the segment is left aside, and written anew."""
    await filled(tmp_path, 3)
    state = json.loads((tmp_path / "state").read_bytes())
    (tmp_path / "state").write_text(json.dumps(state | change))
    await filled(tmp_path, 1)
    assert verify(tmp_path).ok
    assert verify(tmp_path).size == 12
    assert json.loads((tmp_path / "state").read_bytes())["size"] == 12


async def test_a_broken_checkpoint_refuses_and_a_missing_one_does_not(tmp_path: Path) -> None:
    """Something else in the checkpoint's place is damage; an unsigned one that is missing is written again."""
    await filled(tmp_path, 1)
    (tmp_path / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(AuditCorruptError, match="not the body of a tlog-checkpoint"):
        await ask(AuditLog(tmp_path))
    (tmp_path / "checkpoint").unlink()
    await filled(tmp_path, 1)
    assert verify(tmp_path).checkpoint_size == 8


async def test_the_refusal_says_what_happened_and_that_nothing_was_sent(tmp_path: Path) -> None:
    """The error of a damaged log is an AuditUnavailableError that names the directory and what to do."""
    await filled(tmp_path, 1)
    (tmp_path / "checkpoint").write_bytes(b"x")
    with pytest.raises(AuditUnavailableError) as error:
        await ask(AuditLog(tmp_path))
    assert str(tmp_path) in error.value.message
    assert "move the directory away" in error.value.message
    assert error.value.message.endswith("Nothing was sent.")


async def test_a_checkpoint_follows_within_a_second(tmp_path: Path) -> None:
    """An idle log writes its checkpoint by itself."""
    log = AuditLog(tmp_path)
    await pair(log)
    while not (tmp_path / "checkpoint").exists():
        await asyncio.sleep(0.02)
    assert verify(tmp_path).checkpoint_size == 3
    log.close()
