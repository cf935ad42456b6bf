"""A disk that is full: calls are refused before anything is sent, and outcomes of calls under way are kept."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.recording import answer, ask, pair, statuses
from veyra.audit import AuditLog, ballast, verify
from veyra.errors import AuditUnavailableError
from veyra.types import Receipt

IN_FLIGHT = 40
PAGE = 4_096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path, room: int) -> Path:
    """Fill a disk up to so many bytes; return the file that does."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - room or 1)
    return filler


async def _until_refused(log: AuditLog) -> list[Receipt]:
    """Record intents until one is refused."""
    late: list[Receipt] = []
    with pytest.raises(AuditUnavailableError, match=r"the disk is full.*Nothing was sent"):
        while len(late) < 2_000:
            late.append(await ask(log, f"late {len(late)}"))
    return late


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 5, 8])
async def test_a_full_disk_refuses_calls_and_keeps_outcomes(disk: Path, pages: int) -> None:
    """Whatever room is left, no outcome of a call under way is lost, and work goes on when there is room again."""
    log = AuditLog(disk / "log")
    open_ = await asyncio.gather(*(ask(log, f"c{number}") for number in range(IN_FLIGHT)))
    filler = fill(disk, pages * PAGE)
    late = await _until_refused(log)
    assert log.health().reason is not None
    outcomes = await asyncio.gather(*(answer(log, intent) for intent in (*open_, *late)))
    assert all(outcome.seq is not None for outcome in outcomes)
    with pytest.raises(AuditUnavailableError):
        await ask(log)
    filler.unlink()
    await pair(log)
    assert ballast.is_kept(disk / "log")
    await log.aclose()
    assert statuses(disk / "log") == {"ok": len(open_) + len(late) + 1}
    report = verify(disk / "log")
    assert (report.ok, report.open) == (True, 0), report.problems


async def test_a_disk_without_room_for_the_ballast_refuses_the_first_call(disk: Path) -> None:
    """A log does not begin where it could not keep its promise, and begins when there is room."""
    filler = fill(disk, ballast.SIZE // 2)
    log = AuditLog(disk / "log")
    with pytest.raises(AuditUnavailableError, match="the disk is full"):
        await ask(log)
    filler.unlink()
    await pair(log)
    await log.aclose()
    assert verify(disk / "log").ok


async def test_a_full_disk_sends_entries_to_the_second_place(disk: Path, tmp_path: Path) -> None:
    """Under `spool` no call is refused, and everything is in the log when there is room again."""
    log = AuditLog(disk / "log", on_failure="spool", spool=tmp_path / "spool")
    await pair(log, "before")
    filler = fill(disk, 0)
    for number in range(160):
        await pair(log, f"c{number}")
    assert log.health().spooled > 0
    filler.unlink()
    await log.aclose()
    assert statuses(disk / "log") == {"ok": 161}
    report = verify(disk / "log")
    assert (report.ok, report.open) == (True, 0), report.problems
