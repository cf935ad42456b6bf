"""What the tests of the log record, and how they look at it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from veyra.audit import AuditLog, BodyPart, read_entries, segment
from veyra.audit import log as log_module
from veyra.types import Receipt

ASKED = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "veyra.stream": False}
ANSWERED = {
    "gen_ai.response.model": "m-1-dated",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 2,
    "veyra.request_id": "req-1",
}


def asked_parts(text: bytes = b'{"q":1}') -> list[BodyPart]:
    """Return the body of a request."""
    return [BodyPart("request.wire", text, "application/json")]


async def ask(log: AuditLog, call: str = "c", attributes: dict[str, Any] | None = None) -> Receipt:
    """Record an intent."""
    return await log.intent(
        call=call, attempt=1, backend="mock", attributes=ASKED | (attributes or {}), parts=asked_parts()
    )


async def answer(log: AuditLog, intent: Receipt, call: str = "c", status: str = "ok", **attributes: Any) -> Receipt:
    """Record an outcome."""
    return await log.outcome(
        intent=intent,
        call=call,
        attempt=1,
        backend="mock",
        status=status,
        latency_ns=1_500_000,
        attributes=ANSWERED | attributes,
        parts=[BodyPart("response.wire", b'{"a":1}', "application/json")],
    )


async def pair(log: AuditLog, call: str = "c") -> Receipt:
    """Record an intent and its outcome; return the outcome's receipt."""
    return await answer(log, await ask(log, call), call)


async def filled(directory: Path, pairs: int = 5) -> None:
    """Make a log of so many calls, closed."""
    log = AuditLog(directory)
    for number in range(pairs):
        await pair(log, f"c{number}")
    await log.aclose()


def kinds(directory: Path) -> Counter[str]:
    """Count the entries by kind."""
    return Counter(entry.leaf["kind"] for entry in read_entries(directory))


def statuses(directory: Path) -> Counter[str]:
    """Count the outcomes by status."""
    leaves = [entry.leaf for entry in read_entries(directory)]
    return Counter(leaf["status"] for leaf in leaves if leaf["kind"] == "call.outcome")


def end_of(directory: Path, index: int = -1) -> int:
    """Return where what is in a segment ends and its room begins."""
    with segment.opened(segment.listed(directory)[index]) as fd:
        return segment.content_end(fd)


def tear(directory: Path, data: bytes) -> int:
    """Write behind the last entry, as an append does that is interrupted; return where."""
    end = end_of(directory)
    with segment.listed(directory)[-1].open("r+b") as file:
        os.pwrite(file.fileno(), data, end)
    return end


def rest(log: AuditLog) -> None:
    """Wait until the log's thread, which has just answered, is done: whoever is alone on a loop writes the next entry itself."""
    with log_module._WRITERS[log].busy:
        pass


def die(log: AuditLog) -> None:
    """Let go of a log's files as a process does that dies."""
    writer = log_module._WRITERS.pop(log)
    with writer.busy:
        writer.forget()
        writer._recorder._store = writer._recorder._spool = None
    writer.close()


def run(script: str, *arguments: object, wrap: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a Python script in a process of its own, under `wrap`."""
    command = [*wrap, sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[1]
    )
