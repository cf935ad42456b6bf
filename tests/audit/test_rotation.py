"""Segments roll at a size and at an age, whoever writes; and a log goes through a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.recording import kinds, pair, statuses
from veyra.audit import AuditLog, read_entries, segment, store, verify
from veyra.audit.segment import Head

TESTS = Path(__file__).parents[1]
ROLLING = """
import asyncio, sys
from audit.recording import pair
from veyra.audit import AuditLog, store
store.SEGMENT_SIZE, store.SEGMENT_AGE_NS = int(sys.argv[2]), int(sys.argv[3])
async def main():
    log = AuditLog(sys.argv[1])
    await asyncio.gather(*(pair(log, str(number)) for number in range(5)))
    for number in range(25):
        await pair(log, str(number))
    await log.aclose()
asyncio.run(main())
"""


def _run(directory: Path, size: int, age_ns: int) -> None:
    """Let four processes record 30 calls each."""
    command = [sys.executable, "-c", ROLLING, str(directory), str(size), str(age_ns)]
    processes = [subprocess.Popen(command, cwd=TESTS) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


@pytest.mark.parametrize(("size", "age_ns"), [(10_000, 10**18), (1 << 30, 20_000_000)], ids=["size", "age"])
def test_segments_roll_while_processes_write(tmp_path: Path, size: int, age_ns: int) -> None:
    """Several segments come of it, each going on where the one before ends, and nothing is lost or doubled."""
    _run(tmp_path, size, age_ns)
    files = segment.listed(tmp_path)
    assert len(files) > 2
    assert [entry.seq for entry in read_entries(tmp_path)] == list(range(4 * 30 * 2 + 8))
    assert statuses(tmp_path) == {"ok": 4 * 30}
    report = verify(tmp_path)
    assert (report.ok, report.open, report.segments) == (True, 0, len(files)), report.problems
    if age_ns == 10**18:
        assert all(file.stat().st_size >= size for file in files[:-1])


async def test_a_log_that_lay_unused_begins_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment older than a day takes no more entries."""
    log = AuditLog(tmp_path)
    await pair(log)
    log.close()
    monkeypatch.setattr(store, "SEGMENT_AGE_NS", 0)
    await pair(log)
    log.close()
    heads: list[Head] = []
    for file in segment.listed(tmp_path):
        with segment.opened(file) as fd:
            heads.append(segment.read(fd)[0])
    assert len(heads) > 1
    assert heads[1].first == 4
    assert verify(tmp_path).ok


def _fork() -> None:
    """Fork a child that ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


async def test_a_child_leaves_what_is_queued_to_its_parent(tmp_path: Path) -> None:
    """Entries that nobody waits for are written once, by the process that took them, whatever it forks meanwhile."""
    log = AuditLog(tmp_path, mode="async")
    for number in range(20):
        await pair(log, f"parent {number}")
        if number % 10 == 5:
            _fork()
    await log.aclose()
    assert kinds(tmp_path) == {"session.open": 1, "call.intent": 20, "call.outcome": 20, "session.close": 1}
    assert verify(tmp_path).ok
