"""A fault at every system call of the writer, one after the other, under strace; after each, nothing is lost.

The run that is faulted recovers a dead session and a torn tail, records calls one by one and side by side, rolls segments,
writes signed checkpoints, and closes, twice. A fault is a kill (the call is not carried out) or an error EIO.
After each fault the next program opens the log, and then:

- every request that the provider saw has an intent, and every answer that a caller got has an outcome `ok`;
- every intent has exactly one outcome;
- the log verifies, bodies and signature and all, and against what was signed last;
- no entry is left in the second place (in the runs that have one).
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.faults.driver import opened
from audit.recording import ask, die, pair
from veyra.audit import AuditLog, custody, read_entries, segment, verify
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
MAX_POINTS = 600


def _can_trace() -> bool:
    return STRACE is not None and subprocess.run([STRACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_trace(), reason="strace is not there or may not trace")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a faulted run: whether the fault struck, and what provider and callers saw."""

    struck: bool
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
    with segment.listed(place / "log")[-1].open("ab") as file:
        file.write(b"\x89VEYRA\r\n and no more")
    return place


def faulted(place: Path, policy: str, call: str, fault: str, when: int) -> Run:
    """Run the program while its system call `call` meets `fault` at the use number `when` in a thread."""
    assert STRACE is not None
    ours, theirs = socket.socketpair()
    trace = place / "trace"
    command = [sys.executable, "-B", "-m", "audit.faults.driver", str(place), str(theirs.fileno()), "3", "5000", policy]
    with ours, subprocess.Popen(command, cwd=TESTS, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as program:
        theirs.close()
        assert ours.recv(5) == b"ready"
        inject = f"inject={call}:{fault}:when={when}"
        watch = [STRACE, "-f", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", inject, "-p", str(program.pid)]
        with subprocess.Popen(watch, stderr=subprocess.PIPE) as tracer:
            while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{program.pid}/status").read_text():
                assert tracer.poll() is None, tracer.stderr and tracer.stderr.read()
                time.sleep(0.002)
            ours.send(b"!")
            data = b"".join(iter(lambda: ours.recv(65_536), b""))
            stderr = program.communicate(timeout=15)[1].decode()
    killed = program.returncode == -signal.SIGKILL
    assert killed or program.returncode == 0 or "INJECTED" in trace.read_text(), stderr
    struck = killed or "INJECTED" in trace.read_text()
    lines = [line.split() for line in data.decode().split("\n")[:-1]]
    sent, answered = ({ident for word, ident in lines if word == letter} for letter in "sa")
    return Run(struck, frozenset(sent), frozenset(answered))


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


async def campaign(template: Path, tmp_path: Path, policy: str, call: str, fault: str, points: range) -> int:
    """Try points until the run is over before the fault would strike; return how many there were."""
    tried = 0
    for when in points:
        place = tmp_path / str(when)
        shutil.copytree(template, place)
        run = faulted(place, policy, call, fault, when)
        await check(place, policy, run)
        shutil.rmtree(place)
        if not run.struck:
            break
        tried += 1
    return tried


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("call", "when"), [("openat", 9), ("write", 5), ("fdatasync", 4), ("rename", 3), ("flock", 8)])
@pytest.mark.parametrize("policy", ["fail_closed", "spool"])
async def test_a_fault_loses_nothing(
    template: Path, tmp_path: Path, policy: str, call: str, fault: str, when: int
) -> None:
    """A sample of the points: one use of each of some system calls."""
    assert await campaign(template, tmp_path, policy, call, fault, range(when, when + 1)) == 1


@pytest.mark.long
@pytest.mark.timeout(590)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("policy", ["fail_closed", "spool"])
async def test_no_fault_at_any_point_loses_anything(
    template: Path, tmp_path: Path, policy: str, call: str, fault: str
) -> None:
    """Every use of every system call that durability rests on, from opening to closing."""
    points = await campaign(template, tmp_path, policy, call, fault, range(1, MAX_POINTS))
    assert points < MAX_POINTS - 1, "there are more points than were tried"
    print(f"{policy} {call} {fault}: {points} points, lost = 0")
