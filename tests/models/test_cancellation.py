"""Cancelled at every point: one outcome for each intent, no connection left open, no task left running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from types import coroutine
from typing import Any, TypeVar

import pytest

from veyra.audit import AuditLog
from veyra.models.gate import Gate
from veyra.models.registry import get_backend
from veyra.transport.script import Answer, ScriptedTransport

T = TypeVar("T")

CHUNKS = [
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"par"}}]}\n\n',
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"tial"},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
WHOLE = [
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,',
    b'"message":{"role":"assistant","content":"partial"},"finish_reason":"stop"}]}',
]


@coroutine
def _cancelled_at(number: int, asked: Awaitable[T], cancel: Callable[[], object]) -> Generator[Any, Any, T]:
    """Await something, and have the task cancelled when it suspends for the given time."""
    steps = asked.__await__()
    sent: Any = None
    count = 0
    while True:
        try:
            waited = steps.send(sent)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        count += 1
        if count == number:
            cancel()
        try:
            sent = yield waited
        except BaseException as error:  # noqa: BLE001  (handed on to where it belongs)
            try:
                waited = steps.throw(error)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            sent = yield waited


async def _generate(gate: Gate) -> str:
    return (await gate.generate("hi")).content


async def _stream(gate: Gate) -> str:
    async with gate.stream("hi") as reply:
        async for _ in reply:
            await asyncio.sleep(0)
    return reply.response.content


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize(("ask", "chunks"), [(_generate, WHOLE), (_stream, CHUNKS)])
async def test_a_call_can_be_cancelled_wherever_it_waits(
    ask: Callable[[Gate], Awaitable[str]], chunks: list[bytes], where: str, tmp_path: Path
) -> None:
    """A call that is cancelled at its k-th suspension leaves one outcome, a closed exchange and no task, for every k."""
    for number in range(1, 100):
        log = AuditLog.memory() if where == "memory" else AuditLog(tmp_path / str(number))
        script = [Answer(headers={"content-type": "text/event-stream"} if ask is _stream else {}, chunks=chunks)]
        transport = ScriptedTransport(script)
        gate = get_backend("groq", model="m", api_key="sk-canary", transport=transport, audit=log)

        async def call(number: int = number, gate: Gate = gate) -> str:
            task = asyncio.current_task()
            assert task is not None
            return await _cancelled_at(number, ask(gate), task.cancel)

        task = asyncio.create_task(call())
        await asyncio.wait([task])
        await log.aclose()
        rows = list(log.attempts())
        assert transport.is_open == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert log.verify().ok
        assert len(rows) == 1
        assert [entry.leaf["kind"] for entry in log.entries()].count("call.outcome") == 1
        if not task.cancelled():
            assert task.result() == "partial"
            assert rows[0].status == "ok"
            assert number > 1
            return
        assert rows[0].status in {"cancelled", "ok"}
        assert (rows[0].status == "cancelled") or transport.sent
    pytest.fail("the call never came to its end")
