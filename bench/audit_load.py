"""What the log bears: a lone call, 512 callers (also on a signed log), 10,000 calls at once, four processes.

    python bench/audit_load.py [DIRECTORY]

Beside it what the disk itself costs. The log and the floors are measured in one run, in a directory of their own below DIRECTORY (else that for temporary
files), in turns. Exits with 1 when a budget is exceeded. Where DIRECTORY is in memory, syncing costs nothing and the
figures say little.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from statistics import median

from veyra.audit import AuditLog, BodyPart, keys
from veyra.audit import log as log_module
from veyra.audit.keys import SigningKey

ROUNDS = 5
LONE = 200
CALLERS = 512
CROWD = 10_000
PROCESSES = 4
SECONDS = 3.0
RECORD = 1_200
"""About the bytes of a frame with a short body."""
BODY = b'{"model":"m-1","messages":[{"role":"user","content":"' + b"what is the answer? " * 20 + b'"}]}'
BUDGETS = {
    "growth of a lone call beyond two fdatasync": 1e-3,
    "CPU of a record, 512 callers": 0.1e-3,
    "CPU of a record, 512 callers, signed": 0.1e-3,
    "memory of a call among 10,000": 32_768.0,
    "shares of four processes, max/min": 3.0,
}
GOALS = {
    "records per fdatasync, 512 callers": 50.0,
    "records per fdatasync, 512 callers, signed": 50.0,
    "records per second, 512 callers": 20_000.0,
    "records per second, 512 callers, signed": 20_000.0,
}


async def call(log: AuditLog) -> None:
    """Record an intent and an outcome."""
    parts = [BodyPart("request.wire", BODY, "application/json")]
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}
    intent = await log.intent(call="c", attempt=1, backend="mock", attributes=asked, parts=parts)
    answered = {"gen_ai.response.model": "m-1", "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 2}
    await log.outcome(
        intent=intent,
        call="c",
        attempt=1,
        backend="mock",
        status="ok",
        latency_ns=1,
        attributes=answered,
        parts=[BodyPart("response.wire", BODY, "application/json")],
    )


async def timed(act: Callable[[], Awaitable[object]], times: int = LONE) -> float:
    """Return the median seconds of an act."""
    spans: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        await act()
        spans.append(time.perf_counter() - begin)
    return median(spans)


def disk(directory: Path) -> Callable[[], Awaitable[object]]:
    """Return an act that writes a record to a file and syncs it: the floor of the disk."""
    fd = os.open(directory / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    record = bytes(RECORD)

    async def act() -> None:
        os.write(fd, record)
        os.fdatasync(fd)

    return act


def hop() -> Callable[[], Awaitable[object]]:
    """Return an act that goes to another thread and back: the floor of waiting for a writer."""
    queue: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = SimpleQueue()

    def serve() -> None:
        while True:
            loop, future = queue.get()
            loop.call_soon_threadsafe(future.set_result, None)

    threading.Thread(target=serve, daemon=True).start()

    async def act() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        queue.put((loop, future))
        await future

    return act


async def lone(directory: Path) -> dict[str, float]:
    """Measure one call after the other, and the floors, in turns."""
    log, memory = AuditLog(directory / "lone"), AuditLog.memory()
    await call(log)
    acts = {"disk": disk(directory), "hop": hop(), "call": lambda: call(log), "off": lambda: call(memory)}
    rounds = [{name: await timed(act) for name, act in acts.items()} for _ in range(ROUNDS)]
    await log.aclose()
    return {name: median(spans[name] for spans in rounds) for name in acts}


async def many(directory: Path, callers: int, calls: int, *, signed: bool = False) -> dict[str, float]:
    """Measure so many callers at once; the figures are of one record."""
    key = directory / "keys" / "log.key"
    if signed:
        keys.write(key, SigningKey.generate("log.example/bench"))
    log = AuditLog(directory / f"callers-{callers}", key=key if signed else None, heads=directory / "heads")
    await call(log)
    store = log_module._WRITERS[log].store  # noqa: SLF001  (nobody else wants to know how often it syncs)
    assert store is not None
    syncs, before, begin = store.syncs, os.times(), time.perf_counter()

    async def caller() -> None:
        for _ in range(calls):
            await call(log)

    await asyncio.gather(*(caller() for _ in range(callers)))
    span, after, records = time.perf_counter() - begin, os.times(), 2 * callers * calls
    syncs = store.syncs - syncs
    await log.aclose()
    cpu = after.user + after.system - before.user - before.system
    return {"rate": records / span, "cpu": cpu / records, "together": records / syncs}


async def share(directory: Path) -> int:
    """Record for some seconds from a line on standard input; return how many calls there were."""
    log = AuditLog(directory / "shared")
    await call(log)
    print("ready", flush=True)
    sys.stdin.readline()
    calls, end = 0, time.monotonic() + SECONDS

    async def caller() -> None:
        nonlocal calls
        while time.monotonic() < end:
            await call(log)
            calls += 1

    await asyncio.gather(*(caller() for _ in range(8)))
    await log.aclose()
    return calls


def shares(directory: Path) -> list[int]:
    """Return how many calls each of some processes made on one log in the same seconds."""
    command = [sys.executable, __file__, "--share", str(directory)]
    pipes = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipes, stdout=pipes, text=True) for _ in range(PROCESSES)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    return [int(process.communicate("go\n")[0]) for process in [_told(process) for process in started]]


def _told(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


def crowd(directory: Path) -> int:
    """Return the bytes that a process grew by for each of many calls at once; to be run in a process of its own."""
    asyncio.run(many(directory, 1, 100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asyncio.run(many(directory, CROWD, 1))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 // CROWD


def measure(directory: Path) -> dict[str, float]:
    """Measure everything."""
    one = asyncio.run(lone(directory))
    loaded, signed = [], []
    for number in range(ROUNDS):
        loaded.append(asyncio.run(many(directory / f"plain-{number}", CALLERS, 20)))
        signed.append(asyncio.run(many(directory / f"signed-{number}", CALLERS, 20, signed=True)))
    grown = subprocess.run(
        [sys.executable, __file__, "--crowd", directory], stdout=subprocess.PIPE, text=True, check=True
    )
    each = shares(directory)
    print(f"floor: write and fdatasync      {one['disk'] * 1e6:8.0f} us")
    print(f"floor: to a thread and back     {one['hop'] * 1e6:8.0f} us")
    print(f"a call with the log on disk     {one['call'] * 1e6:8.0f} us  (two records, p50)")
    print(f"a call with the log in memory   {one['off'] * 1e6:8.0f} us")
    print(f"calls of four processes         {', '.join(map(str, each))} in {SECONDS:.0f} s\n")
    return {
        "growth of a lone call beyond two fdatasync": one["call"] - one["off"] - 2 * one["disk"],
        **loads("512 callers", loaded),
        **loads("512 callers, signed", signed),
        "memory of a call among 10,000": float(grown.stdout),
        "shares of four processes, max/min": max(each) / max(min(each), 1),
    }


def loads(what: str, rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the figures of some rounds of `many`, each with its name."""
    return {
        f"CPU of a record, {what}": median(figures["cpu"] for figures in rounds),
        f"records per fdatasync, {what}": median(figures["together"] for figures in rounds),
        f"records per second, {what}": max(figures["rate"] for figures in rounds),
    }


def report(figures: dict[str, float]) -> bool:
    """Print the figures beside their bounds; return whether all hold."""
    good = True
    for name, figure in figures.items():
        bound, most = (BUDGETS[name], True) if name in BUDGETS else (GOALS[name], False)
        holds = figure <= bound if most else figure >= bound
        good = good and holds
        print(
            f"{name:45} {figure:14,.6g}  {'at most' if most else 'at least'} {bound:,.6g}  {'' if holds else 'MISSED'}"
        )
    return good


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    match sys.argv[1:]:
        case ["--share", place]:
            print(asyncio.run(share(Path(place))))
        case ["--crowd", place]:
            print(crowd(Path(place)))
        case [*place]:
            with tempfile.TemporaryDirectory(dir=place[0] if place else None) as directory:
                sys.exit(0 if report(measure(Path(directory))) else 1)


if __name__ == "__main__":
    main()
