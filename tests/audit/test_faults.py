"""The disk fails: system calls are made to fail, or to kill, one after the other (strace), and files to end early.

After each: what was acknowledged is in the log, pairs are exact, the log verifies, and the next program goes on.
"""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from audit.recording import filled, run
from veyra.audit import read_attempts, read_entries, segment, verify

STRACE = shutil.which("strace")

RECORD = """
import asyncio, os, sys
from audit.recording import answer, ask
from veyra.audit import AuditLog
from veyra.errors import AuditError
async def call(log, number):
    try:
        intent = await ask(log, f"c{number}")
    except AuditError as error:
        print("refused", error.message, flush=True)
        return
    os.write(1, f"i {intent.id}\\n".encode())
    try:
        outcome = await answer(log, intent, f"c{number}")
    except AuditError as error:
        print("unwritten", error.message, flush=True)
        return
    os.write(1, f"o {outcome.id}\\n".encode())
async def main():
    log = AuditLog(sys.argv[1])
    for number in range(int(sys.argv[2])):
        await call(log, number)
    await asyncio.gather(*(call(log, 100 + number) for number in range(4)))
    await log.aclose()
asyncio.run(main())
"""


def _can_trace() -> bool:
    return STRACE is not None and subprocess.run([STRACE, "true"], capture_output=True, check=False).returncode == 0


traced = pytest.mark.skipif(not _can_trace(), reason="strace is not there or may not trace")


def _inject(directory: Path, call: str, fault: str, calls: int = 3) -> subprocess.CompletedProcess[str]:
    """Record some calls while the system calls `call` on files of the log meet `fault`."""
    assert STRACE is not None
    trace = directory.with_name("trace")
    paths = [option for path in _paths(directory) for option in ("-P", str(path))]
    wrap = (STRACE, "-f", "-qq", "-y", "-o", str(trace), *paths, "-e", f"trace={call}", "-e", f"inject={call}:{fault}")
    return run(RECORD, directory, calls, wrap=wrap)


def _paths(directory: Path) -> list[Path]:
    return [directory / "seg", *(segment.path(directory, index) for index in range(6))]


def _acknowledged(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split()[1] for line in done.stdout.split("\n") if re.fullmatch(r"[io] [0-9a-f-]{36}", line)]


async def _check(directory: Path, done: subprocess.CompletedProcess[str]) -> None:
    """See that the log keeps its promises after a fault, and goes on."""
    await filled(directory, 1)
    entries = {entry.leaf["id"] for entry in read_entries(directory)}
    assert set(_acknowledged(done)) <= entries, "an acknowledged entry is lost"
    report = verify(directory)
    assert report.ok, (report.problems, done.stdout)
    assert (report.open, report.intents) == (0, report.outcomes)
    ok = {row.outcome for row in read_attempts(directory) if row.status == "ok"}
    assert ok >= {line[2:] for line in done.stdout.split("\n") if line.startswith("o ")}
    refused = [line for line in done.stdout.split("\n") if line.startswith("refused")]
    assert all(line.endswith("Nothing was sent.") for line in refused)


@traced
@pytest.mark.parametrize("when", ["1", "2", "3", "5", "1+2", "2+"])
async def test_a_sync_that_fails_never_acknowledges_what_may_be_lost(tmp_path: Path, when: str) -> None:
    """An fdatasync of a segment that fails is not repeated on that file; the entries are written again in a new one."""
    log = tmp_path / "log"
    await filled(log, 2)
    done = _inject(log, "fdatasync", f"error=EIO:when={when}")
    assert done.returncode == 0, done.stderr
    failed: set[str] = set()
    for name, result in re.findall(r"fdatasync\(\d+<(.*?)>\) += (-?\d+)", (tmp_path / "trace").read_text()):
        assert name not in failed, "a sync that failed was tried again on the same file"
        if result != "0":
            failed.add(name)
    assert failed
    assert segment.path(log, 1).exists()
    await _check(log, done)


@traced
async def test_a_disk_that_fails_for_good_refuses_calls(tmp_path: Path) -> None:
    """While no sync succeeds at all, every call is refused with the reason, and none is lost afterwards."""
    log = tmp_path / "log"
    await filled(log, 1)
    assert STRACE is not None
    wrap = (STRACE, "-f", "-qq", "-o", str(tmp_path / "t"), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO")
    done = run(RECORD, log, 2, wrap=wrap)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") == 6
    assert "Input/output error" in done.stdout
    await _check(log, done)


@traced
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
async def test_a_write_that_fails_refuses_the_call_and_leaves_no_gap(tmp_path: Path, error: str) -> None:
    """Each write to a segment fails once: that entry is refused, the session goes on without a gap."""
    for when in range(1, 6):
        log = tmp_path / f"{when}" / "log"
        await filled(log, 1)
        done = _inject(log, "pwrite64", f"error={error}:when={when}")
        assert done.returncode == 0, done.stderr
        if error == "EIO":  # when the disk is full, outcomes get the room of the ballast
            assert done.stdout.count("refused") + done.stdout.count("unwritten") >= 1
        else:
            assert "unwritten" not in done.stdout
        await _check(log, done)


@traced
@pytest.mark.parametrize(
    "call", ["openat", "write", "pwrite64", "fdatasync", "fsync", "rename", "close", "flock", "unlink", "ftruncate"]
)
async def test_a_kill_at_a_system_call_loses_nothing(tmp_path: Path, call: str) -> None:
    """Killed at the first, second ... use of a call, from opening to closing: reopened, the log is whole."""
    await _kill_at_each(tmp_path, call, step=5)


@traced
@pytest.mark.long
@pytest.mark.timeout(580)
@pytest.mark.parametrize(
    "call", ["openat", "write", "pwrite64", "fdatasync", "fsync", "rename", "close", "flock", "unlink", "ftruncate"]
)
async def test_a_kill_at_every_system_call_loses_nothing(tmp_path: Path, call: str) -> None:
    """The same at every number; of the uses that have it in several threads, the first to come is struck (see faults/)."""
    await _kill_at_each(tmp_path, call, step=1)


async def _kill_at_each(tmp_path: Path, call: str, step: int) -> None:
    points = 0
    for when in range(1, 400, step):
        log = tmp_path / f"{when}" / "log"
        log.parent.mkdir()
        done = _kill_at(log, call, when)
        if done.returncode == 0:
            assert points, f"{call} was never used"
            break
        assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
        points += 1
        if log.exists():
            await _check(log, done)
    print(f"{call}: {points} points, lost = 0")


def _kill_at(directory: Path, call: str, when: int) -> subprocess.CompletedProcess[str]:
    """Record, being killed at the use number `when` of a system call, by a thread, once the log is being touched."""
    assert STRACE is not None
    paths: list[str] = []
    if call in {"openat", "close"}:  # the interpreter uses them itself, so only those on the log's files count
        beside = ("checkpoint", "checkpoint.new", "checkpoint.lock", "state.new")
        names = ("", "lock", "seg", "sessions", "seg/00000000.vseg.new", *beside)
        watched = (*(directory / name for name in names), *_paths(directory))
        paths = [option for path in watched for option in ("-P", str(path))]
    wrap = (STRACE, "-f", "-qq", "-o", "/dev/null", *paths, "-e", f"trace={call}")
    return run(RECORD, directory, 2, wrap=(*wrap, "-e", f"inject={call}:signal=KILL:when={when}"))


@pytest.mark.parametrize("room", [1, 900, 2_000, 3_100, 4_500, 5_500])
async def test_a_file_that_may_not_grow_keeps_whole_frames_and_nothing_else(tmp_path: Path, room: int) -> None:
    """A write that stops in the middle of a batch keeps the frames that are whole, refuses the rest, cuts the torn one."""
    log = tmp_path / "log"
    await filled(log, 1)
    limit = segment.path(log, 0).stat().st_size + room
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY}))\n"
    done = run(script + RECORD, log, 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") + done.stdout.count("unwritten") >= 1
    assert "File too large" in done.stdout
    assert segment.path(log, 0).stat().st_size <= limit
    report = verify(log)
    assert report.ok
    assert not any("torn" in notice for notice in report.notices)
    await _check(log, done)
