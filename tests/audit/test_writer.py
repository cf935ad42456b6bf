"""Who writes an entry: the log's own thread, or a caller that keeps nobody waiting."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.recording import ASKED, answer, ask, kinds, pair, rest, run, statuses
from veyra.audit import AuditLog, checkpoint, verify
from veyra.audit import log as log_module
from veyra.audit import writer as writer_module
from veyra.audit.entry import Attempt, intent
from veyra.audit.keys import Places
from veyra.audit.modes import Manner, Mode
from veyra.audit.recorder import Result
from veyra.audit.writer import Waiting, Writer
from veyra.errors import AuditUnavailableError
from veyra.types import Receipt

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork with threads


def step(work: Coroutine[Any, Any, Receipt]) -> Receipt | None:
    """Take the first step of recording an entry; return its receipt, None where it waits for somebody."""
    try:
        work.send(None)
    except StopIteration as done:
        receipt: Receipt = done.value
        return receipt
    work.close()
    return None


async def test_a_task_alone_on_its_loop_writes_its_entries_itself(tmp_path: Path) -> None:
    """Where no other task could run meanwhile, an entry is durable without a wait for the log's thread."""
    log = AuditLog(tmp_path)
    first = await ask(log, "opens the log")
    rest(log)
    outcome = step(answer(log, first, "opens the log"))
    assert outcome is not None
    intent = step(ask(log, "alone"))
    assert intent is not None
    assert (first.seq, outcome.seq, intent.seq) == (1, 2, 3)
    assert step(answer(log, intent, "alone")) is not None
    await log.aclose()
    assert statuses(tmp_path) == {"ok": 2}
    assert verify(tmp_path).ok


async def test_who_is_told_finds_the_log_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread lets go of the log before it tells whoever waits, who may then write the next entry without it."""
    log = AuditLog(tmp_path)
    await ask(log, "opens the log")
    writer, tell = log_module._WRITERS[log], writer_module._tell
    was_free: list[bool] = []

    def spy(batch: Sequence[Waiting], results: dict[str, Result]) -> None:
        was_free.append(writer.busy.acquire(timeout=2))  # a caller may have it for a moment, this thread may not
        writer.busy.release()
        tell(batch, results)

    monkeypatch.setattr(writer_module, "_tell", spy)
    await asyncio.sleep(0.02)  # that the task was alone counts no longer
    await asyncio.gather(*(ask(log) for _ in range(5)))
    monkeypatch.undo()
    await log.aclose()
    assert set(was_free) == {True}
    assert statuses(tmp_path) == {"abandoned": 6}


async def test_the_first_entry_is_for_the_thread(tmp_path: Path) -> None:
    """Opening and recovering a log takes its time, and never on a loop's own thread."""
    log = AuditLog(tmp_path)
    assert step(ask(log)) is None
    await log.aclose()
    assert statuses(tmp_path) == {"cancelled": 1}


async def test_a_task_in_company_waits_for_the_thread(tmp_path: Path) -> None:
    """Where another task is on the loop, it is not kept waiting for the disk."""
    log = AuditLog(tmp_path)
    other = asyncio.create_task(asyncio.Event().wait())
    await pair(log, "opens the log")
    assert step(ask(log)) is None
    other.cancel()
    await log.aclose()
    assert statuses(tmp_path) == {"ok": 1, "cancelled": 1}


def test_a_task_alone_on_one_loop_says_nothing_of_another(tmp_path: Path) -> None:
    """Two loops share a log: that one has a single task does not make the other's tasks wait for the disk."""
    log = AuditLog(tmp_path)

    async def is_alone() -> bool:
        return log._is_alone(asyncio.get_running_loop())

    async def in_company() -> bool:
        return (await asyncio.gather(is_alone(), is_alone()))[0]

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(is_alone())
        log._look_again_at = float("inf")  # however slow this machine is
        assert first.run(in_company())  # it was not looked again
        assert not second.run(in_company())


async def test_an_entry_on_its_way_goes_first(tmp_path: Path) -> None:
    """A caller does not write past what is queued."""
    log = AuditLog(tmp_path)
    await pair(log, "opens the log")
    writer = log_module._WRITERS[log]
    with writer.busy:
        AuditLog.note_off("mock")
        assert step(ask(log)) is None
    await log.aclose()
    assert list(kinds(tmp_path))[3] == "config.changed"
    assert verify(tmp_path).ok


def test_the_thread_is_told_once_that_entries_want_a_checkpoint(tmp_path: Path) -> None:
    """It may sleep until a heartbeat is due, and does not see what others write."""
    writer = Writer(tmp_path, Places(None, None), Manner())
    drafts = [intent(Attempt(f"c{number}", 1, "mock"), attributes=ASKED) for number in range(3)]
    writer._recorder.record(drafts[:1])
    assert all(isinstance(writer.record_here(draft), Receipt) for draft in drafts[1:])
    assert writer._queue.get_nowait().name == "LOOK"  # type: ignore[union-attr]
    assert writer._queue.empty()
    writer.forget()


@pytest.mark.parametrize("mode", ["ordered", "async"])
async def test_in_other_modes_the_thread_writes(tmp_path: Path, mode: Mode) -> None:
    """Entries that nobody waits for are on their way there: a caller who does wait goes behind them."""
    log = AuditLog(tmp_path, mode=mode)
    await pair(log, "opens the log")
    while log.health().deferred:
        await asyncio.sleep(0)
    receipt = step(ask(log))
    assert receipt is None or receipt.seq is None
    await log.aclose()
    assert verify(tmp_path).ok


async def test_entries_go_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """Nobody who records waits for a checkpoint, be it this process's own or another's; the next one covers all."""
    log = AuditLog(tmp_path)
    await pair(log, "opens the log")
    with (tmp_path / "checkpoint.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(6):
            await asyncio.gather(*(pair(log) for _ in range(100)))
        assert not (tmp_path / checkpoint.FILE).exists()
    await log.aclose()
    assert checkpoint.parse((tmp_path / checkpoint.FILE).read_bytes()).size == 1_204
    assert verify(tmp_path).ok


async def test_what_a_checkpoint_finds_altered_is_told_to_the_next_caller(tmp_path: Path) -> None:
    """Where something else stands in the checkpoint's place, the log takes no more."""
    log = AuditLog(tmp_path)
    await pair(log, "opens the log")
    (tmp_path / checkpoint.FILE).write_bytes(b"something else")
    with pytest.raises(AuditUnavailableError, match="damaged or altered"):
        while True:
            await ask(log)
    log.close()


async def test_a_fork_waits_for_a_checkpoint(tmp_path: Path) -> None:
    """Whenever a process forks, its child finds a log that it can write, and takes nothing from its parent's."""
    log = AuditLog(tmp_path)
    for _ in range(12):
        await asyncio.gather(*(pair(log) for _ in range(100)))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                worker = threading.Thread(target=asyncio.run, args=(_pair_and_close(log),))
                worker.start()
                worker.join()
                code = 0
            finally:
                os._exit(code)
        assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
    await log.aclose()
    assert statuses(tmp_path) == {"ok": 1_212}
    assert verify(tmp_path).ok


async def _pair_and_close(log: AuditLog) -> None:
    await pair(log, "child")
    await log.aclose()


INTERRUPTED = """
import asyncio, sys
from audit.recording import answer, ask, pair, rest
from veyra.audit import AuditLog, checkpoint

async def main():
    log = AuditLog(sys.argv[1])
    before = await ask(log, "before")
    rest(log)
    await answer(log, before, "before")
    armed = True

    def signal(event, arguments):
        nonlocal armed
        if armed and event == "fcntl.flock":
            armed = False
            {act}

    sys.addaudithook(signal)
    {then}

asyncio.run(main())
"""


def interrupted(directory: Path, act: str, then: str) -> None:
    """Run a program whose signal's handler does something in the middle of an entry that the program writes itself."""
    done = run(INTERRUPTED.format(act=act, then=then), directory)
    assert done.returncode == 0, done.stderr


def test_a_handler_that_raises_in_the_middle_of_an_entry_leaves_a_log_in_order(tmp_path: Path) -> None:
    """The session is then given up as dead: the next entry recovers it, and says what was open in it."""
    then = """
    intent = await ask(log, "open")
    armed = True
    try:
        await ask(log, "interrupted")
    except KeyboardInterrupt:
        await pair(log, "after")
    else:
        raise AssertionError
    log.close()
    """
    interrupted(tmp_path, "raise KeyboardInterrupt", f"armed = False{then}")
    assert statuses(tmp_path) == {"ok": 2, "abandoned": 1}
    assert verify(tmp_path).ok


def test_a_handler_may_close_the_log_in_the_middle_of_an_entry(tmp_path: Path) -> None:
    """It does not wait for the entry that it interrupts; the session ends when that is written."""
    interrupted(tmp_path, "log.close()", "await ask(log, 'closed meanwhile')")
    report = verify(tmp_path)
    assert report.ok
    assert kinds(tmp_path)["call.intent"] == 2
