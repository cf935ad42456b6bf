"""A program to be faulted: it opens a log that wants recovery, records calls, rolls segments, and closes.

Arguments: the directory with `log`, `key`, `heads` and `spool`, the number of a connected socket, the number of calls, the
size at which segments roll, and the policy. It says `ready`, and begins when it reads a byte. What the provider sees and what
callers get goes to the socket by `send`, which no fault touches: `s INTENT` (the provider has the request), `a OUTCOME` (a
caller has the answer).

With `threads` as a further argument, each thread of the log says `t THREAD` when it starts, and begins when it reads a byte:
so faults can be given to one of them.

Under the policy `spool` the log's disk fails for every other call, so that entries go to the second place and back.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: F401  (loaded before the faults begin)

from audit.recording import answer, ask
from veyra.audit import AuditLog, recorder, store, writer
from veyra.errors import AuditError


class Disk:
    """The disk under the log, which fails while it is told to."""

    def __init__(self, directory: Path) -> None:
        self.fails = False
        for name in ("_open", "append", "sync"):
            setattr(store.Store, name, self._failing(getattr(store.Store, name), directory))

    def _failing(self, real: Any, directory: Path) -> Any:
        def act(opened: store.Store, *arguments: Any) -> Any:
            if self.fails and opened._directory == directory:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(opened, *arguments)

        return act


def opened(place: Path, policy: str) -> AuditLog:
    """Return the log, not opened yet, with the second place where that is the policy."""
    if policy == "spool":
        return AuditLog(
            place / "log", key=place / "key", heads=place / "heads", on_failure="spool", spool=place / "spool"
        )
    return AuditLog(place / "log", key=place / "key", heads=place / "heads")


async def call(log: AuditLog, provider: socket.socket, number: int) -> None:
    """Make a call: a record, a request, a record, an answer."""
    try:
        intent = await ask(log, f"c{number}")
    except AuditError:
        return
    provider.send(f"s {intent.id}\n".encode())
    try:
        outcome = await answer(log, intent, f"c{number}")
    except AuditError:
        return
    provider.send(f"a {outcome.id}\n".encode())


async def record(place: Path, provider: socket.socket, calls: int, policy: str) -> None:
    """Make calls one by one and side by side, in two sessions."""
    disk = Disk(place / "log") if policy == "spool" else None
    for session in range(2):
        log = opened(place, policy)
        for number in range(calls):
            if disk is not None:
                disk.fails = (number + session) % 2 == 1
            await call(log, provider, number)
        await asyncio.gather(*(call(log, provider, 100 + number) for number in range(4)))
        await log.aclose()


def announce_threads(provider: socket.socket) -> None:
    """Have each thread of the log say that it starts, and wait until it may."""
    real, one_by_one = threading.Thread.run, threading.Lock()

    def run(self: threading.Thread) -> None:
        if self.name.startswith("veyra-audit"):
            with one_by_one:
                provider.send(f"t {threading.get_native_id()}\n".encode())
                provider.recv(1)
        real(self)

    threading.Thread.run = run  # type: ignore[method-assign]  # there is no other place to say so


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as provider:
        if sys.argv[6:] == ["threads"]:
            announce_threads(provider)
            writer._SAVE_ENTRIES = 4  # type: ignore[misc]  # so that checkpoints are written beside entries, too
        store.SEGMENT_SIZE = int(sys.argv[4])  # type: ignore[misc]  # smaller than is usual
        recorder._RETRY_SECONDS = 0.0  # type: ignore[misc]
        provider.send(b"ready")
        provider.recv(1)
        asyncio.run(record(Path(sys.argv[1]), provider, int(sys.argv[3]), sys.argv[5]))
