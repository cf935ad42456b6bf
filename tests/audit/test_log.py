"""`AuditLog` as its callers see it: on disk and in memory, cancelled, closed, shared, forked."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from audit.recording import answer, ask, asked_parts, kinds, pair, run, statuses
from veyra.audit import AuditLog, BodyPart, read_attempts, read_entries, verify
from veyra.audit import log as log_module
from veyra.audit.index import Index
from veyra.audit.search import Query, by_status
from veyra.audit.tree import leaf_hash
from veyra.errors import AuditUnavailableError, AuditWriteError

HOSTILE = ["\x00", "\ud800", "\x1b[31m", "\x89VEYRA\r\n", "— origin\n1\n\n— x"]


@pytest.fixture(params=["memory", "disk"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> AuditLog:
    """A log of each sort."""
    return AuditLog.memory() if request.param == "memory" else AuditLog(tmp_path / "log")


async def test_what_is_recorded_is_read_back(log: AuditLog) -> None:
    """Entries come back in order with their attributes and bodies, and receipts say where they stand."""
    intent = await ask(log, "call-1")
    outcome = await answer(log, intent, "call-1")
    entries = list(log.entries())
    assert [entry.leaf["kind"] for entry in entries] == ["session.open", "call.intent", "call.outcome"]
    assert [entry.seq for entry in entries] == [0, 1, 2]
    assert [entry.leaf["wseq"] for entry in entries] == [0, 1, 2]
    for receipt, entry in zip((intent, outcome), entries[1:], strict=True):
        assert (receipt.id, receipt.seq) == (entry.leaf["id"], entry.seq)
        assert receipt.leaf_hash == leaf_hash(entry.raw).hex()
        assert receipt.origin == log.verify().origin
    assert entries[1].parts[0].data == b'{"q":1}'
    assert entries[2].leaf["intent"] == intent.id
    assert entries[2].parts[0].media_type == "application/json"
    assert log.verify().ok
    log.close()


async def test_an_attempt_is_one_row(log: AuditLog) -> None:
    """A row joins the intent with its outcome: who answered, how long it took, what it used."""
    intent = await ask(log, "call-1")
    (row,) = log.attempts()
    assert (row.seq, row.id, row.call, row.attempt, row.backend) == (1, intent.id, "call-1", 1, "mock")
    assert (row.status, row.model, row.latency_ms, row.usage, row.outcome) == ("open", "m-1", None, None, None)
    assert row.time.endswith("Z")
    outcome = await answer(log, intent, "call-1", "error", **{"error.type": "server"})
    (row,) = log.attempts()
    assert (row.status, row.model, row.latency_ms, row.request_id) == ("error", "m-1-dated", 1.5, "req-1")
    assert (row.error, row.outcome, row.cost) == ("server", outcome.id, None)
    assert row.usage is not None
    assert (row.usage["input_total"], row.usage["output_total"], row.usage["cache_read"]) == (7, 2, None)
    log.close()


async def test_rows_are_in_the_order_of_the_intents(log: AuditLog) -> None:
    """Outcomes may come in any order; rows stand where their intents do."""
    first, second, third = [await ask(log, name) for name in "abc"]
    await answer(log, third, "c")
    await answer(log, second, "b", "timeout")
    assert [(row.call, row.status) for row in log.attempts()] == [("a", "open"), ("b", "timeout"), ("c", "ok")]
    await answer(log, first, "a")
    assert [row.status for row in log.attempts()] == ["ok", "timeout", "ok"]
    log.close()


async def test_hostile_text_survives(log: AuditLog) -> None:
    """NUL, lone surrogates, escapes and text that looks like a frame or a note come back from leaf and body."""
    for text in HOSTILE:
        data = text.encode("utf-8", "surrogatepass")
        await log.intent(
            call=text, attempt=1, backend=text, attributes={text: text}, parts=[BodyPart("request.wire", data, text)]
        )
    found = [entry for entry in log.entries() if entry.leaf["kind"] == "call.intent"]
    assert [entry.leaf["call"] for entry in found] == HOSTILE
    assert [entry.leaf["attributes"][text] for entry, text in zip(found, HOSTILE, strict=True)] == HOSTILE
    assert [e.parts[0].data.decode("utf-8", "surrogatepass") for e in found] == HOSTILE
    assert log.verify().ok
    log.close()


async def test_an_intent_that_cannot_be_written_down_is_refused(log: AuditLog) -> None:
    """A leaf that is too long or holds a foreign type refuses the call, and leaves no trace and no gap."""
    for attributes in ({"x": "y" * 70_000}, {"x": object()}, {1: "x"}):
        with pytest.raises(AuditUnavailableError, match="Nothing was sent"):
            await log.intent(call="c", attempt=1, backend="b", attributes=attributes, parts=asked_parts())  # type: ignore[arg-type]
    await pair(log)
    assert log.verify().ok
    assert log.verify().intents == 1
    log.close()


async def test_an_intent_takes_one_outcome(log: AuditLog) -> None:
    """A second outcome, or one for an intent of another log, is refused, and the pairs stay exact."""
    intent = await ask(log)
    await answer(log, intent)
    foreign = await ask(AuditLog.memory())
    for receipt in (intent, foreign):
        with pytest.raises(AuditWriteError, match="not open in this session"):
            await answer(log, receipt)
    report = log.verify()
    assert (report.ok, report.intents, report.outcomes) == (True, 1, 1)
    log.close()


async def test_a_status_of_another_name_is_refused(log: AuditLog) -> None:
    """`abandoned` is recovery's own word, and the statuses are few."""
    intent = await ask(log)
    for status in ("abandoned", "fine", ""):
        with pytest.raises(AuditWriteError, match="status is one of"):
            await answer(log, intent, status=status)
    await answer(log, intent, status="incomplete")
    log.close()


class _Unwritable(int):
    """A number that has no form."""

    def __format__(self, spec: str) -> str:
        raise OverflowError(spec)


async def test_a_number_that_cannot_be_written_is_refused_in_our_words(log: AuditLog) -> None:
    """Whatever a number's type raises, the caller gets an error of the log's, and the pair stays exact."""
    with pytest.raises(AuditUnavailableError, match="Nothing was sent"):
        await log.intent(call="c", attempt=_Unwritable(1), backend="mock", attributes={})
    intent = await ask(log)
    with pytest.raises(AuditWriteError, match="not on record"):
        await log.outcome(
            intent=intent, call="c", attempt=1, backend="mock", status="ok", latency_ns=_Unwritable(1), attributes={}
        )
    await answer(log, intent)
    log.close()


async def test_appending_to_memory_never_suspends() -> None:
    """A log in memory answers before the event loop is asked."""
    log = AuditLog.memory()
    with pytest.raises(StopIteration) as done:
        ask(log).send(None)
    assert done.value.value.seq == 1


async def test_memory_closes_as_often_as_one_likes() -> None:
    """Closing a log in memory keeps what is in it."""
    log = AuditLog.memory()
    await pair(log)
    log.close()
    await log.aclose()
    assert len(list(log.attempts())) == 1


# ------------------------------------------------------------------------------------------- on disk


def test_making_a_log_touches_nothing(tmp_path: Path) -> None:
    """Neither `AuditLog(directory)` nor closing it makes a file."""
    log = AuditLog(tmp_path / "log")
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert "log" in repr(log)
    assert log.directory == tmp_path / "log"
    assert AuditLog.memory().directory is None


async def test_directories_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Directories have mode 0700 and files 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        log = AuditLog(tmp_path / "deep" / "log")
        await pair(log)
        await log.aclose()
    finally:
        os.umask(before)
    for path in (tmp_path / "deep").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "deep" / "log").stat().st_mode) == 0o700


async def test_closing_ends_the_session(tmp_path: Path) -> None:
    """After close the last entry is session.close, a checkpoint covers it, and no session is left alive."""
    log = AuditLog(tmp_path)
    await pair(log)
    await log.aclose()
    log.close()
    assert kinds(tmp_path) == {"session.open": 1, "call.intent": 1, "call.outcome": 1, "session.close": 1}
    assert list((tmp_path / "sessions").iterdir()) == []
    report = verify(tmp_path)
    assert report.ok
    assert report.checkpoint_size == report.size == 4


async def test_a_closed_log_opens_again(tmp_path: Path) -> None:
    """An entry after close begins a new session; numbers go on, running numbers begin anew."""
    log = AuditLog(tmp_path)
    await pair(log)
    log.close()
    receipt = await pair(log)
    log.close()
    assert receipt.seq == 6
    assert [entry.leaf["wseq"] for entry in read_entries(tmp_path)] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len({entry.leaf["sid"] for entry in read_entries(tmp_path)}) == 2
    assert verify(tmp_path).ok


async def test_closing_marks_what_is_open_as_abandoned(tmp_path: Path) -> None:
    """An intent whose outcome never came has one when the session ends."""
    log = AuditLog(tmp_path)
    intent = await ask(log)
    log.close()
    assert statuses(tmp_path) == {"abandoned": 1}
    with pytest.raises(AuditWriteError, match="not open"):
        await answer(log, intent)
    log.close()
    assert verify(tmp_path).ok


async def test_entries_are_there_before_the_caller_goes_on(tmp_path: Path) -> None:
    """When intent or outcome returns, another reader of the directory sees the entry."""
    log = AuditLog(tmp_path)
    intent = await ask(log)
    assert [row.status for row in read_attempts(tmp_path)] == ["open"]
    await answer(log, intent)
    assert [row.status for row in read_attempts(tmp_path)] == ["ok"]
    log.close()


async def test_a_cancelled_outcome_is_still_written(tmp_path: Path) -> None:
    """Cancelling the waiting, again and again, loses nothing that was queued."""
    log = AuditLog(tmp_path)
    intent = await ask(log)
    with log_module._WRITERS[log].busy:  # nothing is written meanwhile: the outcome is queued, and waits
        task = asyncio.ensure_future(answer(log, intent, status="cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert statuses(tmp_path) == {}
    log.close()
    assert statuses(tmp_path) == {"cancelled": 1}


async def test_an_intent_cancelled_while_it_waits_gets_its_outcome(tmp_path: Path) -> None:
    """Nobody holds the receipt of such an intent, so the log itself records that nothing was sent."""
    log = AuditLog(tmp_path)
    task = asyncio.ensure_future(ask(log))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await pair(log)
    log.close()
    assert statuses(tmp_path) == {"cancelled": 1, "ok": 1}
    leaf = next(e.leaf for e in read_entries(tmp_path) if e.leaf.get("status") == "cancelled")
    assert leaf["attributes"] == {"veyra.sent": False}
    assert verify(tmp_path).ok


async def test_many_callers_share_a_sync(tmp_path: Path) -> None:
    """Entries that come together are written and synced together, each caller being told its own place."""
    log = AuditLog(tmp_path)
    await pair(log)
    receipts = await asyncio.gather(*(pair(log, f"c{number}") for number in range(200)))
    assert len({receipt.seq for receipt in receipts}) == 200
    by_seq = {entry.seq: entry for entry in log.entries()}
    for number, receipt in enumerate(receipts):
        assert receipt.seq is not None
        assert by_seq[receipt.seq].leaf["id"] == receipt.id
        assert by_seq[receipt.seq].leaf["call"] == f"c{number}"
    log.close()
    assert verify(tmp_path).ok


def test_several_event_loops_and_threads_use_one_log(tmp_path: Path) -> None:
    """Loops one after the other and loops in threads at once record into the same session."""
    log = AuditLog(tmp_path)

    async def some() -> None:
        await asyncio.gather(*(pair(log) for _ in range(10)))

    asyncio.run(some())
    threads = [threading.Thread(target=asyncio.run, args=(some(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(some())
    log.close()
    assert kinds(tmp_path) == {"session.open": 1, "call.intent": 60, "call.outcome": 60, "session.close": 1}
    assert verify(tmp_path).ok


def test_a_loop_that_closes_early_does_not_disturb_the_others(tmp_path: Path) -> None:
    """An entry whose waiter is gone with its loop is written, and the writer goes on."""
    log = AuditLog(tmp_path)
    loop = asyncio.new_event_loop()
    waiting = ask(log)

    async def begin() -> None:
        waiting.send(None)

    loop.run_until_complete(begin())
    loop.close()
    asyncio.run(_pair_and_close(log))
    waiting.close()
    log.close()
    assert kinds(tmp_path)["call.intent"] == 2
    assert verify(tmp_path).ok


async def _pair_and_close(log: AuditLog) -> None:
    await pair(log)
    await log.aclose()


async def test_a_log_is_shared_within_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One directory, however it is spelled, is one log."""
    monkeypatch.chdir(tmp_path)
    log = AuditLog.shared("log")
    assert AuditLog.shared(tmp_path / "x" / ".." / "log") is log
    assert AuditLog.shared(tmp_path / "other") is not log
    await pair(log)
    log.close()
    assert (tmp_path / "log" / "seg").is_dir()


async def test_two_logs_of_a_process_write_to_one_directory(tmp_path: Path) -> None:
    """Two instances are two sessions, as two processes would be."""
    logs = [AuditLog(tmp_path) for _ in range(2)]
    await asyncio.gather(*(pair(log, f"c{number}") for log in logs for number in range(20)))
    for log in logs:
        log.close()
    assert kinds(tmp_path) == {"session.open": 2, "call.intent": 40, "call.outcome": 40, "session.close": 2}
    assert verify(tmp_path).ok


async def test_a_forked_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    """A child can record through the log it inherited, and its end is not its parent's."""
    log = AuditLog(tmp_path)
    intent = await ask(log, "parent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads, which is what is tested
        child = os.fork()
    if child == 0:
        code = 1
        try:
            worker = threading.Thread(target=asyncio.run, args=(_pair_and_close(log),))
            worker.start()
            worker.join()
            code = 0 if len(list((tmp_path / "sessions").iterdir())) == 1 else 2
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    await answer(log, intent, "parent")
    log.close()
    assert kinds(tmp_path) == {"session.open": 2, "call.intent": 2, "call.outcome": 2, "session.close": 2}
    assert statuses(tmp_path) == {"ok": 2}
    assert verify(tmp_path).ok


OUTLIVED = """
import asyncio, os, sys, warnings
from audit.recording import ask
from veyra.audit import AuditLog
warnings.simplefilter("ignore")
async def main():
    await ask(AuditLog(sys.argv[1]))
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(1)
        os.write(writing, b"let go")
        sys.stdin.read()
        os._exit(0)
    os.read(reading, 6)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_a_child_that_outlives_its_parent_does_not_keep_its_session_alive(tmp_path: Path) -> None:
    """A parent that dies is seen to be dead though its child, which inherited its open files, lives on."""
    command = [sys.executable, "-c", OUTLIVED, str(tmp_path)]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tests) as parent:  # noqa: ASYNC220
        await asyncio.to_thread(parent.wait)
        await _pair_and_close(AuditLog(tmp_path))
        assert statuses(tmp_path) == {"abandoned": 1, "ok": 1}


def test_the_end_of_the_interpreter_closes_the_log(tmp_path: Path) -> None:
    """A program that never closes its log leaves a session that has ended well."""
    done = run(
        "import asyncio, sys; from veyra.audit import AuditLog; from audit.recording import pair;"
        "asyncio.run(pair(AuditLog(sys.argv[1])))",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert kinds(tmp_path)["session.close"] == 1
    assert list((tmp_path / "sessions").iterdir()) == []


def test_importing_the_log_loads_no_event_loop() -> None:
    """`veyra.audit` is there without asyncio, ssl and sqlite3, and without a thread."""
    done = run(
        "import sys, threading, veyra.audit;"
        "print([name for name in ('asyncio', 'ssl', 'sqlite3', 'socket') if name in sys.modules], threading.active_count())"
    )
    assert done.stdout == "[] 1\n"


# ------------------------------------------------------------------------------------ it cannot be written


@pytest.mark.parametrize("inside", ["", "below", "seg/00000000.vseg/x"])
async def test_a_file_in_the_way_refuses_the_call(tmp_path: Path, inside: str) -> None:
    """The error names the place and what to do, and the log works once the way is clear."""
    place = tmp_path / "log"
    place.write_bytes(b"mine")
    log = AuditLog(place / inside)
    with pytest.raises(
        AuditUnavailableError, match=r"a file stands where a directory is needed.*Nothing was sent"
    ) as e:
        await ask(log)
    assert str(place) in e.value.message
    assert place.read_bytes() == b"mine"
    place.unlink()
    await pair(log)
    log.close()
    assert verify(place / inside).ok


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_directory_that_may_not_be_written_refuses_the_call(tmp_path: Path) -> None:
    """The error says to make it writable."""
    (tmp_path / "log").mkdir(mode=0o500)
    with pytest.raises(AuditUnavailableError, match="make it writable"):
        await ask(AuditLog(tmp_path / "log"))


async def test_an_outcome_that_cannot_be_opened_for_is_refused_as_an_outcome(tmp_path: Path) -> None:
    """Where the log cannot be opened, an outcome's error is AuditWriteError."""
    intent = await ask(AuditLog.memory())
    (tmp_path / "log").write_bytes(b"")
    with pytest.raises(AuditWriteError, match="not on record"):
        await answer(AuditLog(tmp_path / "log"), intent)


# ------------------------------------------------------------------------------ refused calls, cached answers


async def test_a_refused_call_is_a_row_of_its_own(tmp_path: Path) -> None:
    """A call that was refused here stands in the list as blocked, with why; it is no intent, and the log verifies."""
    log = AuditLog(tmp_path / "log")
    about = {"error.type": "BudgetExceededError", "gen_ai.request.model": "m"}
    receipt = await log.blocked(call="c1", attempt=1, backend="mock", reason="budget", attributes=about)
    log.close()
    (row,) = log.attempts()
    assert (row.seq, row.call, row.status, row.error, row.model) == (
        receipt.seq,
        "c1",
        "blocked",
        "BudgetExceededError",
        "m",
    )
    assert log.verify().ok
    with Index.open(tmp_path / "log") as index:
        assert by_status(index, Query()) == {"blocked": 1}


async def test_a_cached_answer_names_the_outcome_it_is_from(tmp_path: Path) -> None:
    """What was answered from a cache is on record, and is no attempt."""
    log = AuditLog(tmp_path / "log")
    await log.cache_hit(call="c2", backend="mock", of="an-outcome", attributes={"gen_ai.request.model": "m"})
    log.close()
    leaves = [entry.leaf for entry in log.entries()]
    assert [(leaf["call"], leaf["of"], leaf["attempt"]) for leaf in leaves if leaf["kind"] == "cache.hit"] == [
        ("c2", "an-outcome", 0)
    ]
    assert list(log.attempts()) == []
    assert log.verify().ok


async def test_what_cannot_be_noted_is_an_error() -> None:
    """An attribute that has no JSON form stops the note as it would stop an intent."""
    with pytest.raises(AuditUnavailableError, match="odd"):
        await AuditLog.memory().blocked(call="c", attempt=1, backend="b", reason="limit", attributes={"odd": object()})
