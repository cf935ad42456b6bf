"""A fault at every system call of the writer, one after the other, under strace; after each, nothing is lost.

The run that is faulted recovers a dead session and a torn tail, records calls one by one and side by side, rolls segments,
writes signed checkpoints beside them, and closes, twice. A fault is a kill (the call is not carried out) or an error EIO.
It is given to one thread alone: strace counts by thread, so that a count over all of them would end a run at the first
thread to come so far, and never reach the others' uses of that number.
After each fault the next program opens the log, and then:

- every request that the provider saw has an intent, and every answer that a caller got has an outcome `ok`;
- every intent has exactly one outcome;
- the log verifies, bodies and signature and all, and against what was signed last;
- no entry is left in the second place (in the runs that have one).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from audit.faults.driver import opened
from audit.recording import ask, die, pair, tear
from veyra.audit import AuditLog, custody, read_entries, verify
from veyra.audit.anchors import usual
from veyra.audit.keys import Places
from veyra.audit.spool import left_in, place_of
from veyra.audit.walk import Walk

STRACE = shutil.which("strace")
TESTS = Path(__file__).parents[2]
CALLS = (
    *("openat", "write", "pwrite64", "fdatasync", "fsync", "rename", "renameat2"),
    *("flock", "close", "ftruncate", "unlink", "unlinkat", "rmdir", "mkdir"),
)
FAULTS = ("signal=KILL", "error=EIO")
MAX_USES = 300
MAX_THREADS = 8


def _can_trace() -> bool:
    return STRACE is not None and subprocess.run([STRACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_trace(), reason="strace is not there or may not trace")


class Point(NamedTuple):
    """Where a fault strikes: which thread (the first is 0), and which of its uses of the call (the first is 1)."""

    thread: int
    use: int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a faulted run: whether the fault struck, how many threads there were, what provider and callers saw."""

    struck: bool
    threads: int
    sent: frozenset[str]
    answered: frozenset[str]


def _places(place: Path) -> Places:
    return Places(place / "key", place / "heads")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed log with a session that died amid two calls, and a torn tail."""
    place = tmp_path_factory.mktemp("template")
    custody.generate(place / "log", _places(place))

    async def leave() -> None:
        log = AuditLog(place / "log", key=place / "key", heads=place / "heads")
        await pair(log, "whole")
        await asyncio.gather(ask(log, "open"), ask(log, "open, too"))
        die(log)

    asyncio.run(leave())
    tear(place / "log", b"\x89VEYRA\r\n and no more")
    return place


def faulted(place: Path, policy: str, call: str, fault: str, point: Point) -> Run:
    """Run the program while the system call `call` meets `fault` at one point."""
    ours, theirs = socket.socketpair()
    trace, said, begun = place / "trace", b"", 0
    command = [sys.executable, "-B", "-m", "audit.faults.driver", str(place), str(theirs.fileno()), "3", "5000", policy]
    command.append("threads")
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={point.use}")
    with ours, subprocess.Popen(command, cwd=TESTS, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as program:
        theirs.close()
        assert ours.recv(5) == b"ready"
        with contextlib.ExitStack() as stack:
            threads = [str(program.pid)]
            while True:
                for thread in threads[begun:]:
                    if begun == point.thread:
                        stack.enter_context(attached(program.pid, thread, trace, inject))
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it was killed as a thread began
                        ours.send(b"!")
                    begun += 1
                if not (more := _heard(ours)):
                    break
                said += more
                threads[1:] = [name for word, name in _words(said) if word == "t"]
            stderr = program.communicate(timeout=15)[1].decode()
    killed = program.returncode == -signal.SIGKILL
    struck = killed or (trace.exists() and "INJECTED" in trace.read_text())
    assert struck or program.returncode == 0, stderr
    sent, answered = (frozenset(name for word, name in _words(said) if word == letter) for letter in "sa")
    return Run(struck, begun, sent, answered)


@contextlib.contextmanager
def attached(process: int, thread: str, trace: Path, inject: Sequence[str]) -> Iterator[None]:
    """Have strace at one thread of a process."""
    assert STRACE is not None
    watch = [STRACE, "-qq", "-o", str(trace), *inject, "-p", thread]
    with subprocess.Popen(watch, stderr=subprocess.PIPE) as tracer:
        while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{process}/task/{thread}/status").read_text():
            assert tracer.poll() is None, tracer.stderr and tracer.stderr.read()
            time.sleep(0.002)
        yield


def _heard(program: socket.socket) -> bytes:
    """Take in what there is; nothing where the program has ended, in whatever way."""
    try:
        return program.recv(65_536)
    except ConnectionResetError:
        return b""


def _words(said: bytes) -> list[tuple[str, str]]:
    """Return what was said in whole lines, each a letter and a name."""
    return [(line[0], line[2:]) for line in said.decode().split("\n")[:-1]]


async def check(place: Path, policy: str, run: Run) -> None:
    """Open the log as the next program does, and see that nothing is lost."""
    log = opened(place, policy)
    await pair(log, "next")
    await log.aclose()
    leaves = [entry.leaf for entry in read_entries(place / "log")]
    intents = [leaf["id"] for leaf in leaves if leaf["kind"] == "call.intent"]
    outcomes = [leaf for leaf in leaves if leaf["kind"] == "call.outcome"]
    assert run.sent <= set(intents), "a request without an intent"
    assert run.answered <= {leaf["id"] for leaf in outcomes if leaf["status"] == "ok"}, "an answer without an outcome"
    assert sorted(intents) == sorted(leaf["intent"] for leaf in outcomes), "an intent without its one outcome"
    report = verify(place / "log", anchors=usual(place / "log", _places(place)))
    assert report.ok, report.problems
    assert report.signed_by is not None
    assert report.open == 0
    left = left_in(place_of(place / "spool", place / "log"))
    assert not [entry for folder in left for entry in Walk(folder)], "entries in the second place"


async def campaign(template: Path, tmp_path: Path, policy: str, call: str, fault: str) -> list[int]:
    """Try every use in one thread after the other, until there is no more; return how many each thread had."""
    tried: list[int] = []
    for thread in range(MAX_THREADS):
        for use in range(1, MAX_USES):
            run = await tried_at(template, tmp_path, policy, call, fault, Point(thread, use))
            if not run.struck:
                break
        else:
            pytest.fail("there are more points than were tried")
        if thread >= run.threads:
            return tried
        tried.append(use - 1)
    pytest.fail("there are more threads than were tried")


async def tried_at(template: Path, tmp_path: Path, policy: str, call: str, fault: str, point: Point) -> Run:
    """Try one point, and see that nothing is lost."""
    place = tmp_path / f"{point.thread}-{point.use}"
    shutil.copytree(template, place)
    run = faulted(place, policy, call, fault, point)
    await check(place, policy, run)
    shutil.rmtree(place)
    return run


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("call", "point"),
    [
        ("openat", Point(1, 9)),
        ("pwrite64", Point(0, 3)),
        ("fdatasync", Point(1, 4)),
        ("rename", Point(2, 1)),
        ("flock", Point(3, 8)),
    ],
)
@pytest.mark.parametrize("policy", ["fail_closed", "spool"])
async def test_a_fault_loses_nothing(
    template: Path, tmp_path: Path, policy: str, call: str, fault: str, point: Point
) -> None:
    """A sample of the points: one use of each of some system calls, or an earlier one where the thread had fewer."""
    for use in range(point.use, 0, -1):  # how many entries a caller writes itself hangs on what the log's thread is at
        if (await tried_at(template, tmp_path, policy, call, fault, Point(point.thread, use))).struck:
            return
    pytest.fail("no use was struck")


@pytest.mark.long
@pytest.mark.timeout(590)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("policy", ["fail_closed", "spool"])
async def test_no_fault_at_any_point_loses_anything(
    template: Path, tmp_path: Path, policy: str, call: str, fault: str
) -> None:
    """Every use of every system call that durability rests on, in every thread, from opening to closing."""
    tried = await campaign(template, tmp_path, policy, call, fault)
    each = " + ".join(map(str, tried))
    print(f"{policy} {call} {fault}: {sum(tried)} points ({each} in {len(tried)} threads), lost = 0")
