"""What a record costs. Ratios and counts are judged, times only loosely: machines differ."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from audit.recording import pair
from veyra.audit import AuditLog, verify
from veyra.audit import log as log_module

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


async def _record(log: AuditLog, tasks: int, pairs: int) -> tuple[float, float]:
    """Record pairs from so many tasks; return CPU and wall time for a record, in microseconds."""

    async def worker() -> None:
        for _ in range(pairs // tasks):
            await pair(log)

    before, began = os.times(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(tasks)))
    after, records = os.times(), pairs // tasks * tasks * 2
    cpu = after.user + after.system - before.user - before.system
    return cpu / records * 1e6, (time.perf_counter() - began) / records * 1e6


def _syncs(log: AuditLog) -> int:
    store = log_module._WRITERS[log].store
    assert store is not None
    return store.syncs


async def test_a_record_in_memory_is_cheap() -> None:
    """A record in memory costs some 25 us of CPU."""
    best = min([await _record(AuditLog.memory(), 1, 2_000) for _ in range(5)])
    print(f"in memory: {best[0]:.0f} us of CPU per record")
    assert best[0] < 60


async def test_many_callers_share_a_sync_and_pay_little(disk_path: Path) -> None:
    """512 callers commit at least 50 records per fdatasync, at no more than 0.1 ms of CPU for each."""
    log = AuditLog(disk_path)
    await pair(log)
    results = []
    for _ in range(3):
        before = _syncs(log)
        cpu, wall = await _record(log, 512, 10_240)
        results.append((cpu, 1e6 / wall, 20_480 / (_syncs(log) - before)))
        print(
            f"512 callers: {cpu:.0f} us of CPU per record, {1e6 / wall:,.0f} records/s, {results[-1][2]:.0f} per fdatasync"
        )
    log.close()
    cpu, _, together = min(results)
    assert together >= 50
    assert cpu <= 100
    assert verify(disk_path).ok


async def test_a_lone_caller_waits_for_two_syncs(disk_path: Path) -> None:
    """A lone call pays for the disk twice, and little beside that."""
    with (disk_path / "file").open("ab", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(300):
            file.write(bytes(1_000))
            os.fdatasync(file.fileno())
        sync = (time.perf_counter() - began) / 300 * 1e6
    log = AuditLog(disk_path / "log")
    await pair(log)
    cpu, wall = await _record(log, 1, 300)
    log.close()
    print(
        f"alone: {cpu:.0f} us of CPU and {wall:.0f} us per record, of which an fdatasync on this disk takes {sync:.0f} us"
    )
    assert 2 * wall < 4 * sync + 5_000
