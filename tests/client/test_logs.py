"""The lines of standard logging: one for every attempt, and what is never in them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from client.asked import Scripted
from veyra import AuditLog, Breaker, Cache, Client, MockBackend, Retry
from veyra.client.logs import log_calls
from veyra.client.observe import Observation
from veyra.errors import CircuitOpenError, OutputMismatchError, ServerError


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    caplog.set_level(logging.INFO, "veyra.calls")
    return lambda: [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "veyra.calls"]


async def test_each_attempt_is_a_line(
    lines: Callable[[], list[tuple[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    """A failed one is a warning; the one that answered says what it used; the values are on the record, too."""
    backend = Scripted([ServerError("the prompt was Hello", status=503, request_id="req_1")])
    client = Client(backend, audit="memory", observers=[log_calls()], chance=lambda: 0.0)
    answer = await client.generate("Hello")
    (first, second) = lines()
    assert first[0] == "WARNING"
    assert "status=error error=server backend=scripted model=m" in first[1]
    assert second[0] == "INFO"
    assert "status=ok backend=scripted model=m" in second[1]
    assert "attempt=2" in second[1]
    assert "input_tokens=3 output_tokens=2" in second[1]
    values: Any = [record.veyra for record in caplog.records if record.name == "veyra.calls"]  # type: ignore[attr-defined]
    assert [value["attempt"] for value in values] == [1, 2]
    assert values[0]["request_id"] == "req_1"
    assert values[1]["latency_ms"] == round(answer.latency_ms, 1)
    assert "Hello" not in str(lines())
    assert answer.content not in str(values)


async def test_calls_without_an_attempt_are_a_line_each(lines: Callable[[], list[tuple[str, str]]]) -> None:
    """An answer from the cache, and a call that was refused here."""
    client = Client(
        Scripted([None, ServerError("down")]),
        cache=Cache.memory(),
        breaker=Breaker(failures=1),
        retry=Retry(attempts=1),
        audit="memory",
        observers=[log_calls()],
    )
    await client.generate("Hello")
    await client.generate("Hello")
    with pytest.raises(ServerError):
        await client.generate("Goodbye")
    with pytest.raises(CircuitOpenError):
        await client.generate("Goodbye")
    assert [(level, line.partition(" call=")[0]) for level, line in lines()] == [
        ("INFO", "status=ok backend=scripted model=m"),
        ("INFO", "status=cached backend=scripted model=m"),
        ("WARNING", "status=error error=server backend=scripted model=m"),
        ("WARNING", "status=refused error=CircuitOpenError"),
    ]


async def test_an_answer_that_does_not_fit_and_a_reader_that_leaves(lines: Callable[[], list[tuple[str, str]]]) -> None:
    """The first is a warning, the second is not."""
    client = Client(MockBackend(["no", "one two"]), audit="memory", retry=Retry(attempts=1), observers=[log_calls()])
    with pytest.raises(OutputMismatchError):
        await client.generate("Hello", output=int)
    async with client.stream("Hello") as reply:
        async for _ in reply:
            break
    levels = [level for level, _ in lines()]
    assert levels == ["WARNING", "INFO"]
    assert "output_mismatch" in lines()[0][1]
    assert "status=cancelled error=GeneratorExit" in lines()[1][1]


async def test_a_line_stays_a_line(lines: Callable[[], list[tuple[str, str]]]) -> None:
    """What somebody else wrote into a value cannot begin another line."""
    backend = Scripted([], model="m\nstatus=ok backend=forged")
    await Client(backend, audit="memory", observers=[log_calls()]).generate("Hello")
    ((_, line),) = lines()
    assert "\n" not in line
    assert r"model='m\nstatus=ok backend=forged'" in line


async def test_any_logger_will_do(caplog: pytest.LogCaptureFixture) -> None:
    """The one that is given is used, at the level that it has."""
    mine = logging.getLogger("mine")
    caplog.set_level(logging.WARNING, "mine")
    client = Client(Scripted([ServerError("down")]), audit="memory", observers=[log_calls(mine)], chance=lambda: 0.0)
    await client.generate("Hello")
    assert [record.name for record in caplog.records] == ["mine"]


async def test_an_observer_that_fails_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is told or asked, what it raises is logged once, and a trace that is none is not recorded."""

    class Broken:
        def __call__(self, observation: Observation) -> None:
            msg = "broken"
            raise RuntimeError(msg)

        def trace_id(self, call: str) -> str:
            raise KeyError(call)

    class Odd(Broken):
        def trace_id(self, call: str) -> Any:
            return 3

    with caplog.at_level(logging.WARNING, "veyra.client"):
        log = AuditLog.memory()
        client = Client(MockBackend(), audit=log, observers=[Broken(), Odd()])
        for _ in range(2):
            assert (await client.generate("Hello")).content
    assert len(caplog.records) == 2
    assert not any("veyra.trace_id" in row.leaf.get("attributes", {}) for row in log.entries())
