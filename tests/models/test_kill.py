"""Killed at random moments: what the provider saw, what the caller printed and what the log says must agree."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from veyra import AuditLog, get_backend
from veyra.audit import verify

CLIENT = Path(__file__).parent / "killed_client.py"
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }
).encode()


class Killer(ThreadingHTTPServer):
    """A provider that counts what it sees and now and then kills who asked, at one of five moments of the exchange."""

    daemon_threads = True

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.requests = 0
        self.killed: set[int] = set()
        self.faults: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over connections that the dead left behind; anything else is the test's own fault."""
        if not isinstance(sys.exc_info()[1], OSError):
            self.faults.append(repr(sys.exc_info()[1]))

    def moment(self) -> str | None:
        """Count a request and say when to kill its sender, if at all."""
        with self.lock:
            self.requests += 1
            if self.random.random() > 0.06:
                return None
            return self.random.choice(["at once", "before the answer", "amid the answer", "after it", "soon after"])

    def kill(self, child: int) -> None:
        """Kill a child, once."""
        with self.lock:
            if child not in self.killed:
                self.killed.add(child)
                os.kill(child, signal.SIGKILL)


class Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Killer  # pyright: ignore[reportIncompatibleVariableOverride]  # it serves this one only

    def do_POST(self) -> None:
        """Answer, or kill."""
        body = self.rfile.read(int(self.headers["content-length"]))
        found = re.search(rb"child (\d+) ", body)
        assert found
        child = int(found[1])
        moment = self.server.moment()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()
        steps = {"at once": b"", "before the answer": head, "amid the answer": ANSWER[:40], "after it": ANSWER[40:]}
        try:
            for name, data in steps.items():
                self.wfile.write(data)
                self.wfile.flush()
                if name == moment:
                    self.server.kill(child)
            if moment == "soon after":
                threading.Timer(self.server.random.random() / 200, self.server.kill, [child]).start()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base's name)
        """Say nothing."""


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(580)])])
def test_no_kill_loses_a_record(kills: int, disk_path: Path) -> None:
    """Every request has an intent, every printed answer an outcome, and reopening marks the rest abandoned."""
    log, printed, seen, killed = disk_path / "log", set[str](), 0, 0
    rounds = 0
    while killed < kills:
        rounds += 1
        assert rounds < 20, "the server never kills"
        with Killer(seed=rounds) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/v1"
            children = max(5, min(50, kills - killed))
            done = subprocess.run(
                [sys.executable, CLIENT, url, log, str(children)], capture_output=True, text=True, check=False
            )
            server.shutdown()
        assert done.returncode == 0, done.stderr[-2000:]
        assert not server.faults
        printed |= set(done.stdout.split())
        seen += server.requests
        killed += len(server.killed)

    _reopen(log)
    entries = list(AuditLog(log).entries())
    intents = {entry.leaf["id"] for entry in entries if entry.leaf["kind"] == "call.intent"}
    outcomes = [entry.leaf for entry in entries if entry.leaf["kind"] == "call.outcome"]
    told = [outcome["intent"] for outcome in outcomes]
    assert seen <= len(intents)
    assert printed <= {outcome["id"] for outcome in outcomes if outcome["status"] == "ok"}
    assert sorted(told) == sorted(intents), "each intent has exactly one outcome"
    assert {outcome["status"] for outcome in outcomes} == {"ok", "abandoned"}
    assert verify(log).ok
    print(f"{killed} kills, {seen} requests, {len(intents)} intents, {len(printed)} answers printed, lost = 0")


def _reopen(log: Path) -> None:
    """Open the log as the next program would: with its first call."""
    asyncio.run(get_backend("mock", audit=log).generate("hi"))
