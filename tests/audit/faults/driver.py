"""A program to be faulted: it opens a log that wants recovery, records calls, rolls segments, and closes.

Arguments: the directory with `log`, `key` and `heads`, the number of a connected socket, the number of calls, and the size
at which segments roll. It says
`ready`, and begins when it reads a byte. What the provider sees and what callers get goes to the socket by `send`, which
no fault touches: `s INTENT` (the provider has the request), `a OUTCOME` (a caller has the answer).
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: F401  (loaded before the faults begin)

from audit.recording import answer, ask
from veyra.audit import AuditLog, store
from veyra.errors import AuditError


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


async def record(place: Path, provider: socket.socket, calls: int) -> None:
    """Make calls one by one and side by side, in two sessions."""
    for _ in range(2):
        log = AuditLog(place / "log", key=place / "key", heads=place / "heads")
        for number in range(calls):
            await call(log, provider, number)
        await asyncio.gather(*(call(log, provider, 100 + number) for number in range(4)))
        await log.aclose()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as provider:
        store.SEGMENT_SIZE = int(sys.argv[4])  # type: ignore[misc]  # smaller than is usual
        provider.send(b"ready")
        provider.recv(1)
        asyncio.run(record(Path(sys.argv[1]), provider, int(sys.argv[3])))
