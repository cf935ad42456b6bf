"""Several processes on one directory, and processes killed at any moment."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from audit.recording import filled, statuses
from veyra.audit import read_entries, verify

TESTS = Path(__file__).parents[1]


def _start(directory: Path, tasks: int, calls: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "audit.writer_process", str(directory), str(tasks), str(calls)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS)


def test_processes_write_to_one_directory_at_once(disk_path: Path) -> None:
    """Four processes record side by side: every acknowledged entry is there once, numbers and pairs are exact."""
    writers = [_start(disk_path, 8, 30) for _ in range(4)]
    lines = [line for writer in writers for line in writer.communicate()[0].decode().split("\n") if line]
    assert [writer.returncode for writer in writers] == [0] * 4
    entries = list(read_entries(disk_path))
    assert Counter(line.split()[1] for line in lines) == Counter(
        entry.leaf["id"] for entry in entries if entry.leaf["kind"].startswith("call.")
    )
    assert len(lines) == 4 * 8 * 30 * 2
    report = verify(disk_path)
    assert report.ok, report.problems
    assert report.checkpoint_size == report.size == len(lines) + 8


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(580)])])
async def test_a_kill_at_any_moment_loses_nothing_acknowledged(disk_path: Path, kills: int) -> None:
    """Up to four processes at once, killed at random: what was acknowledged is there, pairs are exact, the rest abandoned."""
    chance = random.Random(kills)
    acknowledged: list[str] = []
    for done in range(0, kills, 4):
        writers = [_start(disk_path, chance.choice([1, 4, 32]), 0) for _ in range(min(4, kills - done))]
        for writer in writers:
            acknowledged += _kill(writer, chance.random() * 0.4)
    await filled(disk_path, 1)
    ids = [entry.leaf["id"] for entry in read_entries(disk_path)]
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(ids), "an acknowledged entry is lost"
    report = verify(disk_path)
    assert report.ok, report.problems
    assert report.open == 0
    assert report.intents == report.outcomes
    assert set(statuses(disk_path)) <= {"ok", "abandoned"}
    assert list((disk_path / "sessions").iterdir()) == []
    print(
        f"{kills} kills, {len(acknowledged)} acknowledged, {report.abandoned} abandoned of {report.intents}, lost = 0"
    )


def _kill(writer: subprocess.Popen[bytes], seconds: float) -> list[str]:
    """Read a writer's output for a while after its first line, kill it, and return the whole ids it wrote."""
    assert writer.stdout is not None
    data, end = b"", None
    fd = writer.stdout.fileno()
    while end is None or time.monotonic() < end:
        if select.select([fd], [], [], 0.05 if end is None else max(end - time.monotonic(), 0))[0]:
            data += os.read(fd, 65_536)
            end = end or time.monotonic() + seconds
    writer.kill()
    data += writer.stdout.read()
    writer.stdout.close()
    writer.wait()
    return [line.split()[1] for line in data.decode().split("\n")[:-1]]
