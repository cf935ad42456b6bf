"""Four processes on one log, of which one after the other is killed at any moment and another takes its place."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from veyra.audit import AuditLog, custody, read_entries, verify
from veyra.audit.anchors import usual
from veyra.audit.keys import Places

TESTS = Path(__file__).parents[2]


class Caller:
    """A process that records calls until it is killed, and what its provider and its callers saw."""

    def __init__(self, place: Path) -> None:
        self._ours, theirs = socket.socketpair()
        command = [
            sys.executable,
            "-B",
            "-m",
            "audit.faults.driver",
            str(place),
            str(theirs.fileno()),
            "100000",
            "200000",
            "fail_closed",
        ]
        self._process = subprocess.Popen(command, cwd=TESTS, pass_fds=[theirs.fileno()])
        theirs.close()
        self._data = b""

    def begin(self) -> None:
        """Let it go when it is ready."""
        assert self._ours.recv(5) == b"ready"
        self._ours.send(b"!")

    def fileno(self) -> int:
        """The socket, for `select`."""
        return self._ours.fileno()

    def hear(self) -> None:
        """Take in what there is."""
        self._data += self._ours.recv(65_536)

    def kill(self) -> list[tuple[str, str]]:
        """Kill it, and return every whole line: `s` or `a`, and an id."""
        self._process.kill()
        self._process.wait()
        with self._ours, contextlib.suppress(ConnectionResetError):  # it was killed before it began
            self._data += b"".join(iter(lambda: self._ours.recv(65_536), b""))
        words = [line.split() for line in self._data.decode().split("\n")[:-1]]
        return [(word, ident) for word, ident in words]


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(580)])])
async def test_no_kill_among_four_processes_loses_anything(disk_path: Path, kills: int) -> None:
    """Every request has an intent, every answer an outcome, pairs are exact, and the signed log verifies."""
    chance = random.Random(kills)
    custody.generate(disk_path / "log", Places(disk_path / "key", disk_path / "heads"))
    callers = [Caller(disk_path) for _ in range(4)]
    seen: list[tuple[str, str]] = []
    for caller in callers:
        caller.begin()
    for _ in range(kills):
        end = time.monotonic() + chance.random() * 0.3
        while (left := end - time.monotonic()) > 0:
            for caller in select.select(callers, [], [], left)[0]:
                caller.hear()
        number = chance.randrange(4)
        seen += callers[number].kill()
        callers[number] = Caller(disk_path)
        callers[number].begin()
    for caller in callers:
        seen += caller.kill()
    log = AuditLog(disk_path / "log", key=disk_path / "key", heads=disk_path / "heads")
    await log.intent(call="next", attempt=1, backend="mock", attributes={})
    await log.aclose()
    leaves = [entry.leaf for entry in read_entries(disk_path / "log")]
    intents = [leaf["id"] for leaf in leaves if leaf["kind"] == "call.intent"]
    outcomes = [leaf for leaf in leaves if leaf["kind"] == "call.outcome"]
    assert {ident for word, ident in seen if word == "s"} <= set(intents)
    assert {ident for word, ident in seen if word == "a"} <= {leaf["id"] for leaf in outcomes if leaf["status"] == "ok"}
    assert sorted(intents) == sorted(leaf["intent"] for leaf in outcomes)
    report = verify(disk_path / "log", anchors=usual(disk_path / "log", Places(disk_path / "key", disk_path / "heads")))
    assert report.ok, report.problems
    assert seen
    print(f"{kills} kills among 4 processes, {len(seen)} requests and answers, {len(intents)} intents, lost = 0")
