"""When a call waits for the log, and what happens while the log cannot be written."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from audit.recording import answer, ask, die, kinds, pair, statuses
from veyra.audit import AuditLog, modes, read_entries, verify
from veyra.audit import log as log_module
from veyra.audit import recorder as recorder_module
from veyra.audit.filesystem import kind_of, require_local
from veyra.audit.modes import Mode
from veyra.audit.sessions import FOLDER as SESSIONS
from veyra.audit.store import Store
from veyra.errors import AuditUnavailableError, AuditWriteError


class Disk:
    """A disk under a log that fails when it is told to: what `Store` does there raises `error`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.error: int | None = None
        self.directory = directory
        for name in ("append", "sync", "_open"):
            monkeypatch.setattr(Store, name, self._failing(getattr(Store, name)))
        monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", 0.0)

    def _failing(self, real: Any) -> Any:
        def act(store: Store, *arguments: Any) -> Any:
            if self.error is not None and store._directory == self.directory:
                raise OSError(self.error, os.strerror(self.error))
            return real(store, *arguments)

        return act


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    """The disk under the log at `tmp_path / "log"`."""
    return Disk(monkeypatch, tmp_path / "log")


def modes_of(directory: Path) -> set[str]:
    """Return the modes that the intents of a log name."""
    leaves = [entry.leaf for entry in read_entries(directory)]
    return {leaf["attributes"][modes.ATTRIBUTE] for leaf in leaves if leaf["kind"] == "call.intent"}


# ------------------------------------------------------------------------------------------------ modes


@pytest.mark.parametrize("mode", modes.MODES)
async def test_every_mode_keeps_every_record(tmp_path: Path, mode: Mode) -> None:
    """After closing, each call has its intent and its outcome, session and intents name the mode, and pairs are exact."""
    log = AuditLog(tmp_path, mode=mode)
    await asyncio.gather(*(pair(log, f"c{number}") for number in range(200)))
    await log.aclose()
    assert kinds(tmp_path) == {"session.open": 1, "call.intent": 200, "call.outcome": 200, "session.close": 1}
    assert modes_of(tmp_path) == {mode}
    assert next(read_entries(tmp_path)).leaf["mode"] == mode
    report = verify(tmp_path)
    assert (report.ok, report.open, report.abandoned) == (True, 0, 0)


async def test_what_is_not_waited_for_has_no_place_yet(tmp_path: Path) -> None:
    """In `ordered` the intent's receipt says where it stands and the outcome's does not; in `async` neither does."""
    ordered = AuditLog(tmp_path / "o", mode="ordered")
    intent = await ask(ordered)
    outcome = await answer(ordered, intent)
    assert (intent.seq, outcome.seq) == (1, None)
    ordered.close()
    assert [entry.leaf["id"] for entry in read_entries(tmp_path / "o")][1:3] == [intent.id, outcome.id]
    loose = AuditLog(tmp_path / "a", mode="async")
    intent = await ask(loose)
    assert (intent.seq, (await answer(loose, intent)).seq) == (None, None)
    loose.close()


def test_queueing_never_suspends_while_there_is_room(tmp_path: Path) -> None:
    """In `async` neither entry makes its caller wait."""
    log = AuditLog(tmp_path, mode="async")
    with pytest.raises(StopIteration) as done:
        ask(log).send(None)
    with pytest.raises(StopIteration):
        answer(log, done.value.value).send(None)
    log.close()
    assert statuses(tmp_path) == {"ok": 1}


async def test_who_comes_when_the_queue_is_full_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on its way is bounded: beyond it a caller waits until its entry is durable."""
    monkeypatch.setattr("veyra.audit.writer.MAX_DEFERRED", 0)
    log = AuditLog(tmp_path, mode="async")
    intent = await ask(log)
    assert intent.seq == 1
    assert (await answer(log, intent)).seq == 2
    log.close()


async def test_what_nobody_waits_for_is_kept_until_it_can_be_written(tmp_path: Path, disk: Disk) -> None:
    """While the disk fails, queued entries stay, calls wait and are refused; afterwards all that was taken is there."""
    log = AuditLog(tmp_path / "log", mode="async")
    await pair(log, "before")
    await log.aclose()
    disk.error = errno.EIO
    intent = await ask(log, "queued")
    while log_module._WRITERS[log].has_room():
        await asyncio.sleep(0)
    with pytest.raises(AuditUnavailableError, match="Nothing was sent"):
        await ask(log, "refused")
    with pytest.raises(AuditWriteError):
        await answer(log, intent, "queued", "error")
    assert log.health().deferred == 1
    disk.error = None
    await pair(log, "after")
    await log.aclose()
    calls = [entry.leaf["call"] for entry in read_entries(tmp_path / "log") if entry.leaf["kind"] == "call.intent"]
    assert calls == ["before", "queued", "after"]
    assert verify(tmp_path / "log").ok


async def test_closing_says_what_could_not_be_written(tmp_path: Path, disk: Disk) -> None:
    """A log that ends with entries that nobody waited for and that are not on record says how many."""
    disk.error = errno.ENOSPC
    log = AuditLog(tmp_path / "log", mode="async")
    await ask(log)
    with pytest.raises(AuditWriteError, match=r"1 entries are not on record.*the disk is full"):
        log.close()


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "loose"}, {"on_failure": "panic"}, {"on_failure": "spool"}, {"spool": "x"}],
)
def test_words_that_name_no_mode_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Mode and policy are one of their words, and `spool` comes with its place."""
    with pytest.raises(ValueError, match=r"one of|go together"):
        AuditLog(tmp_path, **wrong)


# -------------------------------------------------------------------------------------------- fail_closed


async def test_calls_are_refused_while_the_log_cannot_be_written(tmp_path: Path, disk: Disk) -> None:
    """By default an intent that cannot be written refuses the call, and the next one tries again."""
    log = AuditLog(tmp_path / "log")
    await pair(log)
    disk.error = errno.EIO
    with pytest.raises(AuditUnavailableError, match="Nothing was sent"):
        await ask(log)
    assert log.health().reason is not None
    disk.error = None
    await pair(log)
    assert log.health().writable
    log.close()
    assert verify(tmp_path / "log").ok


# ------------------------------------------------------------------------------------------------- spool


def spooling(tmp_path: Path) -> AuditLog:
    """Return a log with a second place."""
    return AuditLog(tmp_path / "log", on_failure="spool", spool=tmp_path / "spool")


@pytest.mark.parametrize("opened", [True, False])
async def test_the_second_place_is_taken_into_the_log(tmp_path: Path, disk: Disk, opened: bool) -> None:
    """Entries of a bad time are in the log afterwards, in order, in their session; an `import` entry says how many."""
    log = spooling(tmp_path)
    first = await ask(log, "before") if opened else None
    disk.error = errno.EIO
    spooled = await ask(log, "meanwhile")
    assert (spooled.seq, log.health().spooled > 0, log.health().writable) == (None, True, False)
    if first is not None:
        await answer(log, first, "before")
    disk.error = None
    await answer(log, spooled, "meanwhile")
    await pair(log, "after")
    log.close()
    leaves = [entry.leaf for entry in read_entries(tmp_path / "log")]
    assert [leaf["wseq"] for leaf in leaves] == list(range(len(leaves)))
    assert len({leaf["sid"] for leaf in leaves}) == 1
    assert statuses(tmp_path / "log") == {"ok": 3 if opened else 2}
    assert kinds(tmp_path / "log")["import"] == 1
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    report = verify(tmp_path / "log")
    assert (report.ok, report.gaps, report.open) == (True, (), 0)


async def test_a_log_that_never_comes_back_leaves_all_in_the_second_place(tmp_path: Path, disk: Disk) -> None:
    """What was still there when the process ended is taken in by the next one, and nothing of it is abandoned."""
    log = spooling(tmp_path)
    before = await ask(log, "before")
    disk.error = errno.EIO
    await answer(log, before, "before")
    await pair(log, "meanwhile")
    log.close()
    disk.error = None
    assert statuses(tmp_path / "log") == {}
    later = AuditLog(tmp_path / "log")  # it is not told of the second place: the dead session's file names it
    await pair(later, "later")
    later.close()
    assert statuses(tmp_path / "log") == {"ok": 3}
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert list((tmp_path / "log" / SESSIONS).iterdir()) == []
    assert verify(tmp_path / "log").ok


async def test_a_session_that_never_saw_the_log_is_taken_in(tmp_path: Path, disk: Disk) -> None:
    """A process that had only the second place loses nothing: whoever has the same one takes it in."""
    disk.error = errno.EROFS
    log = spooling(tmp_path)
    await pair(log, "alone")
    log.close()
    disk.error = None
    later = spooling(tmp_path)
    await pair(later, "later")
    later.close()
    assert statuses(tmp_path / "log") == {"ok": 2}
    assert verify(tmp_path / "log").ok


async def test_a_session_that_never_saw_the_log_and_died_has_its_intents_abandoned(tmp_path: Path, disk: Disk) -> None:
    """The log does not know such a session: who takes in its second place ends its intents, once, even when asked twice."""
    disk.error = errno.EIO
    log = spooling(tmp_path)
    await pair(log, "whole")
    await ask(log, "open")
    die(log)
    disk.error = None
    shutil.copytree(tmp_path / "spool", tmp_path / "kept")
    for number in range(2):
        shutil.rmtree(tmp_path / "spool")
        shutil.copytree(tmp_path / "kept", tmp_path / "spool")
        later = spooling(tmp_path)
        await pair(later, "later")
        later.close()
        assert statuses(tmp_path / "log") == {"ok": 2 + number, "abandoned": 1}
        report = verify(tmp_path / "log")
        assert (report.problems, report.open) == ((), 0)


async def test_a_return_that_is_cut_short_takes_nothing_in_twice(tmp_path: Path, disk: Disk) -> None:
    """Where the second place was in the log already when a crash came, its entries are known and not written again."""
    log = spooling(tmp_path)
    await pair(log, "before")
    disk.error = errno.EIO
    await pair(log, "meanwhile")
    shutil.copytree(tmp_path / "spool", tmp_path / "kept")
    disk.error = None
    await pair(log, "after")
    die(log)
    shutil.rmtree(tmp_path / "spool")
    (tmp_path / "kept").rename(tmp_path / "spool")
    later = spooling(tmp_path)
    await pair(later, "later")
    later.close()
    assert statuses(tmp_path / "log") == {"ok": 4}
    assert verify(tmp_path / "log").ok


async def test_logs_may_share_a_second_place(tmp_path: Path, disk: Disk) -> None:
    """What one log left there goes into that log, and into no other."""
    disk.error = errno.EIO
    log = spooling(tmp_path)
    await pair(log, "mine")
    log.close()
    disk.error = None
    other = AuditLog(tmp_path / "other" / "log", on_failure="spool", spool=tmp_path / "spool")
    await pair(other, "theirs")
    other.close()
    assert statuses(tmp_path / "other" / "log") == {"ok": 1}
    later = spooling(tmp_path)
    await pair(later, "later")
    later.close()
    assert statuses(tmp_path / "log") == {"ok": 2}


async def test_a_second_place_that_fails_too_refuses_calls(tmp_path: Path, disk: Disk) -> None:
    """Where neither place can be written, the call is refused."""
    (tmp_path / "spool").write_text("a file stands here")
    log = spooling(tmp_path)
    disk.error = errno.EIO
    with pytest.raises(AuditUnavailableError, match="Nothing was sent"):
        await ask(log)
    disk.error = None
    await pair(log)
    log.close()
    assert statuses(tmp_path / "log") == {"ok": 1}


# ----------------------------------------------------------------------------------------------- fail_open


async def test_calls_that_went_on_without_a_record_are_declared(tmp_path: Path, disk: Disk) -> None:
    """Under `fail_open` calls go on; when the log is back a `gap` entry says how many, and verifying declares it."""
    log = AuditLog(tmp_path / "log", on_failure="fail_open")
    known = await ask(log, "known")
    disk.error = errno.EIO
    await answer(log, known, "known")
    receipt = await pair(log, "lost")
    late = await ask(log, "late")
    assert (receipt.seq, receipt.origin, log.health().unrecorded) == (None, "", 4)
    disk.error = None
    await pair(log, "after")
    await answer(log, late, "late")
    await log.aclose()
    gaps = [entry.leaf for entry in read_entries(tmp_path / "log") if entry.leaf["kind"] == "gap"]
    assert [(gap["intents"], gap["outcomes"], gap["reason"]) for gap in gaps] == [
        (2, 2, "Input/output error"),
        (0, 1, "the intent was not recorded"),
    ]
    report = verify(tmp_path / "log")
    assert (report.ok, report.open, len(report.gaps)) == (True, 0, 2)
    assert statuses(tmp_path / "log") == {"ok": 1, "abandoned": 1}


@pytest.mark.parametrize("policy", ["fail_closed", "spool", "fail_open"])
async def test_a_damaged_log_is_refused_under_every_policy(tmp_path: Path, policy: Any) -> None:
    """That a log was altered is no failure to write: the call is refused."""
    log = AuditLog(tmp_path / "log")
    await pair(log)
    log.close()
    (tmp_path / "log" / "checkpoint").write_text("nonsense")
    log = AuditLog(tmp_path / "log", on_failure=policy, spool=tmp_path / "spool" if policy == "spool" else None)
    with pytest.raises(AuditUnavailableError, match="damaged or altered"):
        await ask(log)
    log.close()


# ------------------------------------------------------------------------------------- health, file systems


def test_health_says_whether_a_log_can_be_written(tmp_path: Path) -> None:
    """Without an entry yet, a block is written where the log would be; nothing is left there."""
    health = AuditLog(tmp_path / "a" / "log", mode="ordered").health()
    assert (health.writable, health.reason, health.mode, health.on_failure) == (True, None, "ordered", "fail_closed")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert AuditLog(tmp_path / "file" / "log").health().reason == "Not a directory"
    assert AuditLog.memory().health().writable


MOUNTS = """22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:1 - nfs4 server:/home rw
31 30 0:41 / /home/me/my\\040disk rw - tmpfs none rw
32 22 0:42 / /mnt/s rw - fuse.sshfs me@host: rw
broken line
33 22 0:43 / /over rw - tmpfs none rw
34 33 0:44 / /over rw - cifs //host/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/log", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/log", "nfs4"),
        ("/homework", "ext4"),
        ("/home/me/my disk/log", "tmpfs"),
        ("/mnt/s/log", "fuse.sshfs"),
        ("/over/log", "cifs"),
    ],
)
def test_the_nearest_mount_says_what_a_file_system_is(path: str, kind: str) -> None:
    """Of the mounts above a path the longest counts, and of two on one place the later."""
    assert kind_of(path, MOUNTS) == kind


async def test_a_network_file_system_is_refused_unless_somebody_insists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log on NFS or FUSE is not opened, and the message says why; `any_filesystem` opens it."""
    mounts = tmp_path / "mounts"
    mounts.write_text("1 1 0:1 / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr("veyra.audit.filesystem._MOUNTS", mounts)
    with pytest.raises(AuditUnavailableError, match=r"nfs4.*choose a directory on a disk of this machine"):
        await ask(AuditLog(tmp_path / "log"))
    assert not (tmp_path / "log").exists()
    log = AuditLog(tmp_path / "log", any_filesystem=True)
    await pair(log)
    log.close()
    monkeypatch.setattr("veyra.audit.filesystem._MOUNTS", tmp_path / "none")
    require_local(tmp_path)
