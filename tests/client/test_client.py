"""The client as its callers see it: targets, routing, breaker, repairs, predicates, what it refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import virtual
from client.asked import Scripted
from veyra import AuditLog, Breaker, Cache, Client, Fallback, Message, MockBackend, Retry, Target, get_backend
from veyra.client.observe import CallEnded, FirstEvent, Observation
from veyra.client.shelf import MemoryShelf
from veyra.errors import (
    AuditWriteError,
    CallTimeoutError,
    CircuitOpenError,
    InvalidRequestError,
    OutputMismatchError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnknownBackendError,
)
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.policy.gauge import Ticket
from veyra.types import Event, Finish, ModelResponse, Request, TextDelta


def down(count: int = 99) -> list[ServerError]:
    """Return as many errors of a server that is down."""
    return [ServerError("down") for _ in range(count)]


async def test_one_line_of_code() -> None:
    """A client of one target needs nothing else, and its answer says who gave it."""
    async with Client("mock", audit="memory") as client:
        answer = await client.generate("Hello")
    assert (answer.backend, len(answer.attempts), answer.attempts[0].status) == ("mock", 1, "ok")


async def test_targets_have_names_of_their_own() -> None:
    """A model goes after the first colon, and targets alike are numbered."""
    client = Client("mock:a:b", Target("mock", weight=2), "mock:a:b", fallback="mock:c", audit="memory")
    assert repr(client) == "<Client of mock:a:b, mock:mock, mock:a:b#2, mock:c>"
    assert (await client.generate("Hello")).model == "a:b"


async def test_one_log_serves_all_targets_and_a_gate_keeps_its_own(tmp_path: Path) -> None:
    """Attempts at all targets are in one log; a backend that was got with a log records there unless the client says where."""
    own = AuditLog.memory()
    gate = get_backend("mock", audit=own)
    assert (await Client(gate).generate("Hello")).receipt is not None
    assert len(list(own.attempts())) == 1
    ours = AuditLog(tmp_path / "log")
    client = Client(Scripted(down()), fallback=gate, audit=ours, retry=Retry(attempts=1))
    await client.generate("Hello")
    ours.close()
    assert [row.status for row in ours.attempts()] == ["error", "ok"]
    assert len(list(own.attempts())) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Client, "needs a target"),
        (lambda: Client(""), "an empty str"),
        (lambda: Client(3), "not int"),  # type: ignore[arg-type]
        (lambda: Client([]), "not list"),  # type: ignore[arg-type]
        (lambda: Client("openai:"), "'openai:' names no model"),
        (lambda: Client("mock", fallback=3), "fallback is"),  # type: ignore[arg-type]
        (lambda: Client("mock", fallback=Fallback(3)), "a target is .*, not int"),  # type: ignore[arg-type]
        (lambda: Client("mock", observers=print), "observers is a sequence of functions"),  # type: ignore[arg-type]
        (lambda: Client("mock", observers=[print, 3]), "observers .* not int"),  # type: ignore[list-item]
        (lambda: Client("mock", observers=[asyncio.sleep]), "an observer is not awaited"),  # type: ignore[list-item]
        (lambda: Client("mock", observers="print"), "observers .* not str"),  # type: ignore[arg-type]
        (lambda: Client("mock", chance=0.5), "chance is a function"),  # type: ignore[arg-type]
        (lambda: Client("mock", now=3), "now is a function"),  # type: ignore[arg-type]
        (lambda: Client("mock", max_prompt_bytes="1"), "max_prompt_bytes is an int"),  # type: ignore[arg-type]
        (lambda: Client("mock", max_prompt_bytes=True), "max_prompt_bytes is an int"),
        (lambda: Client("mock", retry=3), "retry is a Retry or None"),  # type: ignore[arg-type]
        (lambda: Client("mock", breaker=True), "breaker is a Breaker or None"),  # type: ignore[arg-type]
        (lambda: Client("mock", routing="best"), "least_latency"),  # type: ignore[arg-type]
        (lambda: Client(Target("mock", weight=0)), "weight"),
        (lambda: Client("mock", audit=3), "audit is"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_refused(make: Any, says: str) -> None:
    """An error names what was wrong before anything is asked."""
    with pytest.raises(InvalidRequestError, match=says):
        make()


async def test_a_time_without_a_zone_is_refused() -> None:
    """It could be a day off for a budget: the error says so, and nothing is sent or recorded."""
    log = AuditLog.memory()
    with pytest.raises(InvalidRequestError, match=r"now\(\) .* a time zone"):
        await Client("mock", audit=log, now=lambda: datetime(2026, 11, 23)).generate("Hello")  # noqa: DTZ001  (the mistake)
    assert list(log.attempts()) == []


async def test_one_target_of_a_fallback_needs_no_list() -> None:
    """A name, a backend or a `Target` alone is one target, for the client and for `Fallback`."""
    spares: list[Any] = ["mock:b", MockBackend("fine"), Target("mock:b")]
    for spare in spares:
        for fallback in (spare, Fallback(spare)):
            client = Client(Scripted(down()), fallback=fallback, retry=Retry(attempts=1), audit="off")
            assert (await client.generate("Hello")).backend == "mock"


def test_an_unknown_backend_is_refused_when_the_client_is_made() -> None:
    """The error lists near names."""
    with pytest.raises(UnknownBackendError, match="openai"):
        Client("opnai:m", audit="memory")


async def test_wrong_options_are_refused_before_anything_is_asked() -> None:
    """A wrong option, an empty prompt, a model for several targets: nothing is sent or recorded."""
    log = AuditLog.memory()
    client = Client("mock:a", fallback="mock:b", audit=log)
    with pytest.raises(InvalidRequestError, match="temprature"):
        await client.generate("Hello", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidRequestError, match="empty"):
        client.stream(" ")
    with pytest.raises(InvalidRequestError, match="name it there"):
        await client.generate("Hello", model="c")
    with pytest.raises(InvalidRequestError, match="name it there"):
        await client.embed("Hello", model="c")
    with pytest.raises(InvalidRequestError, match="conversation"):
        await client.generate("Hello", conversation="")
    assert list(log.attempts()) == []
    assert (await Client("mock", audit=log).generate("Hello", model="c")).model == "c"


# ----------------------------------------------------------------------------------------------- routing


async def test_weights_and_conversations_choose_the_first_target() -> None:
    """A draw decides who is asked first; a conversation stays where it is."""
    targets = [Target(Scripted([], name=name), weight=weight) for name, weight in (("a", 1), ("b", 1000))]
    client = Client(*targets, routing="weighted", audit="off", chance=lambda: 0.5)
    assert (await client.generate("Hello")).backend == "b"
    where = {(await client.generate("Hello", conversation="c1")).backend for _ in range(5)}
    assert len(where) == 1


async def test_the_quickest_is_asked_first() -> None:
    """After each has answered once, the quicker is asked on; who has not answered yet comes first."""
    backends = [Scripted([], name=name) for name in ("slow", "quick", "new")]
    client = Client(*backends, routing="least_latency", audit="off")
    for station, latency in zip(client._stations, (300.0, 100.0), strict=False):
        station.took(latency, asyncio.get_running_loop().time())
    assert (await client.generate("Hello")).backend == "new"
    client._stations[2].took(100_000.0, asyncio.get_running_loop().time())
    assert (await client.generate("Hello")).backend == "quick"


# -------------------------------------------------------------------------------------- targets left alone


def test_under_load_a_dead_target_costs_one_probe_an_interval() -> None:
    """A thousand calls in a hundred seconds at a dead target: 5 failures, then one probe every 10 s; each call is answered."""

    async def load() -> tuple[Scripted, int]:
        dead, spare = Scripted(down(10_000), name="dead"), Scripted([], name="spare")
        client = Client(
            dead, fallback=spare, retry=Retry(attempts=1), breaker=Breaker(failures=5, cooldown=10.0), audit="off"
        )
        answers = 0
        for _ in range(1_000):
            answers += (await client.generate("Hello")).backend == "spare"
            await asyncio.sleep(0.1)
        return dead, answers

    dead, answers = virtual.run(load())
    assert answers == 1_000
    assert len(dead.made) == 5 + 9  # probes from 10.4 s on
    gaps = [after - before for before, after in zip(dead.made[4:], dead.made[5:], strict=False)]
    assert min(gaps) >= 10.0


def test_calls_at_once_send_one_probe() -> None:
    """Of many concurrent calls after the cooldown one is the probe; the others go elsewhere, and none waits for it."""

    async def burst() -> tuple[int, int]:
        dead, spare = Scripted(down(5) + [None] * 99, name="dead", takes=1.0), Scripted([], name="spare")
        client = Client(
            dead, fallback=spare, retry=Retry(attempts=1), breaker=Breaker(failures=5, cooldown=10.0), audit="off"
        )
        for _ in range(5):
            await client.generate("Hello")
        await asyncio.sleep(10)
        await asyncio.gather(*(client.generate("Hello") for _ in range(100)))
        probes = len(dead.made) - 5
        await client.generate("Hello")
        return probes, len(dead.made) - 5

    assert virtual.run(burst()) == (1, 2)


def test_a_cancelled_probe_gives_its_place_back() -> None:
    """After a cancelled probe the next call is the probe."""

    async def cancelled() -> str:
        dead = Scripted([*down(1), None, None], name="dead", takes=5.0)
        client = Client(
            dead, fallback="mock", retry=Retry(attempts=1), breaker=Breaker(failures=1, cooldown=1.0), audit="memory"
        )
        await client.generate("Hello")
        await asyncio.sleep(1)
        probe = asyncio.ensure_future(client.generate("Hello"))
        await asyncio.sleep(1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        return (await client.generate("Hello")).backend

    assert virtual.run(cancelled()) == "dead"


def test_a_call_that_no_target_takes_is_refused_and_on_record() -> None:
    """With every circuit open the call is an error that says when, and stands in the log as blocked; nothing is sent."""

    async def refused() -> tuple[str, AuditLog, list[Observation]]:
        log, seen = AuditLog.memory(), list[Observation]()
        dead = Scripted(down())
        client = Client(
            dead,
            retry=Retry(attempts=1),
            breaker=Breaker(failures=1, cooldown=30.0),
            audit=log,
            observers=[seen.append],
        )
        with pytest.raises(ServerError):
            await client.generate("Hello")
        with pytest.raises(CircuitOpenError) as caught:
            async with client.stream("Hello") as reply:
                async for _ in reply:
                    pass
        assert len(dead.made) == 1
        return str(caught.value), log, seen

    said, log, seen = virtual.run(refused())
    assert said == "scripted:m failed too often lately and is left alone; the next call is let through in 30 s"
    assert [(row.status, row.error) for row in log.attempts()] == [("error", "server"), ("blocked", "CircuitOpenError")]
    assert isinstance(seen[-1], CallEnded)
    assert isinstance(seen[-1].error, CircuitOpenError)
    assert log.verify().ok


async def test_one_target_has_no_breaker_unless_told() -> None:
    """With nobody else to ask, an error is better than a refusal."""
    target = Scripted(down(6))
    client = Client(target, retry=Retry(attempts=1), audit="off")
    for _ in range(6):
        with pytest.raises(ServerError):
            await client.generate("Hello")
    assert (await client.generate("Hello")).content == "some of scripted"


# -------------------------------------------------------------------------------------- answers turned down


async def test_an_answer_that_is_not_accepted_goes_on_to_the_next_target() -> None:
    """What was turned down stays on record; the answer's attempts tell of it."""
    log = AuditLog.memory()
    fallback = Fallback(["mock"], accept=lambda answer: "mock" in answer.content)
    answer = await Client(Scripted([]), fallback=fallback, audit=log).generate("Hello")
    assert [(one.backend, one.status, one.error) for one in answer.attempts] == [
        ("scripted", "ok", "not_accepted"),
        ("mock", "ok", None),
    ]
    assert [row.status for row in log.attempts()] == ["ok", "ok"]
    assert [w.code for w in answer.warnings] == []


async def test_the_last_answer_comes_with_a_warning_where_none_is_accepted() -> None:
    """It was paid for: it is returned, and says that it was not accepted."""
    fallback = Fallback(["mock"], accept=lambda _: False)
    answer = await Client(Scripted([]), fallback=fallback, audit="off").generate("Hello")
    assert (answer.backend, answer.warnings[-1].code) == ("mock", "not_accepted")
    assert [one.error for one in answer.attempts] == ["not_accepted", "not_accepted"]


async def test_what_a_predicate_raises_ends_the_call() -> None:
    """It reaches the caller as it is; the answer is on record, and observers are told of the end."""
    log, seen = AuditLog.memory(), list[Observation]()

    def broken(_: ModelResponse) -> bool:
        msg = "broken"
        raise KeyError(msg)

    client = Client(Scripted([]), fallback=Fallback(["mock"], accept=broken), audit=log, observers=[seen.append])
    with pytest.raises(KeyError, match="broken"):
        await client.generate("Hello")
    assert [row.status for row in log.attempts()] == ["ok"]
    assert isinstance(seen[-1], CallEnded)


async def test_repairs_are_no_retries_and_their_usage_counts() -> None:
    """A bounded number of repairs at the same target; each is an attempt with its own usage."""
    mock = MockBackend(['{"n": "one"}', ServerError("down"), '{"n": "two"}', '{"n": 3}'])
    client = Client(mock, audit="memory", chance=lambda: 0.0)
    answer = await client.generate("Count", output=dict[str, int], repair=2)
    assert answer.output == {"n": 3}
    assert [one.error for one in answer.attempts] == ["output_mismatch", "server", "output_mismatch", None]
    assert all(one.usage.output_total for one in answer.attempts if one.error != "server")
    with pytest.raises(OutputMismatchError) as caught:
        await Client(MockBackend("no"), audit="memory").generate("Count", output=dict[str, int], repair=1)
    assert [one.error for one in caught.value.attempts] == ["output_mismatch", "output_mismatch"]


# ------------------------------------------------------------------------------------------ waits, deadline


def test_a_retry_after_of_hours_does_not_hang_a_call() -> None:
    """A wait that would end after the deadline, or is longer than may be waited, ends the call at once."""

    async def ask(retry: Retry) -> float:
        target = Scripted([RateLimitError("slow", retry_after=9999.0)])
        with pytest.raises(RateLimitError):
            await Client(target, retry=retry, audit="off").generate("Hello")
        return asyncio.get_running_loop().time()

    assert virtual.run(ask(Retry())) == 0.0
    assert virtual.run(ask(Retry(deadline=30.0, max_retry_after=100_000))) == 0.0


def test_the_deadline_ends_an_attempt() -> None:
    """The last attempt gets what is left of the call's time, and the error says which clock ran out."""

    async def ask() -> tuple[float, str]:
        target = Scripted([*down(1), None], takes=4.0)
        with pytest.raises(CallTimeoutError) as caught:
            await Client(target, retry=Retry(deadline=7.0), chance=lambda: 1.0, audit="memory").generate("Hello")
        assert [one.status for one in caught.value.attempts] == ["error", "timeout"]
        return asyncio.get_running_loop().time(), caught.value.phase

    assert virtual.run(ask()) == (7.0, "total")


# -------------------------------------------------------------------------------------------------- others


async def test_vectors_go_the_same_way() -> None:
    """A backend without embeddings ends the call; one that fails is tried again, and attempts are told."""

    @dataclass
    class Failing(MockBackend):
        left = 2

        async def embedding(self, request: Any, exchange: Exchange) -> Any:
            self.left -= 1
            if self.left >= 0:
                msg = "down"
                raise ServerError(msg)
            return await super().embedding(request, exchange)

        def __init__(self) -> None:
            super().__init__()

    log = AuditLog.memory()
    found = await Client(Failing(), audit=log, chance=lambda: 0.0).embed(["a", "b"])
    assert len(found.vectors) == 2
    assert [one.status for one in found.attempts] == ["error", "error", "ok"]
    assert [row.status for row in log.attempts()] == ["error", "error", "ok"]
    assert found.attempts[-1].usage.input_total == 2


async def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged once; the others are told."""
    seen: list[Observation] = []

    def broken(_: Observation) -> None:
        msg = "broken"
        raise RuntimeError(msg)

    client = Client("mock", audit="memory", observers=[broken, seen.append])
    async with client.stream("Hello") as reply:
        async for _ in reply:
            pass
    assert [type(one).__name__ for one in seen] == [
        "CallStarted", "AttemptStarted", "FirstEvent", "AttemptEnded", "CallEnded",
    ]  # fmt: skip
    assert isinstance(seen[2], FirstEvent)
    assert len(caplog.records) == 1


async def test_a_failing_log_ends_the_call_with_the_answer() -> None:
    """An outcome that cannot be recorded is no reason to ask again: it would be paid for twice."""

    class Full(AuditLog):
        async def outcome(self, **_: Any) -> Any:
            msg = "full"
            raise AuditWriteError(msg)

    target = Scripted([])
    with pytest.raises(AuditWriteError) as caught:
        await Client(target, fallback="mock", audit=Full.memory()).generate("Hello")
    assert isinstance(caught.value.response, ModelResponse)
    assert len(target.made) == 1


async def test_who_is_healthy() -> None:
    """A client is healthy where one of its targets is."""
    assert await Client(MockBackend(healthy=False), fallback="mock", audit="off").health_check()
    assert not await Client(MockBackend(healthy=False), audit="off").health_check()


async def test_messages_are_asked_as_they_are() -> None:
    """A conversation goes to whichever target is asked."""
    mock = MockBackend("fine")
    await Client(Scripted(down()), fallback=mock, retry=Retry(attempts=1), audit="off").generate(
        [Message("user", "Hi")]
    )
    assert mock.calls[0].messages == (Message("user", "Hi"),)


# ---------------------------------------------------------------------------------------------- cancelling


@dataclass
class Slow(EventBackend):
    """A backend of many awaits, which counts how many of its attempts are under way."""

    name: str = "slow"
    open: int = 0
    asked: int = 0

    async def health_check(self) -> bool:
        return True

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        self.open += 1
        self.asked += 1
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if self.asked % 2:
                msg = "down"
                raise ServerError(msg)
            for word in ("a", "b"):
                yield TextDelta(word)
                await asyncio.sleep(0)
            yield Finish(reason="stop")
        finally:
            self.open -= 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_cancelled_anywhere_a_call_leaves_one_end_each(tmp_path: Path, kind: str, *, stream: bool) -> None:
    """Cancelled after each step of the loop in turn: every intent has one outcome, nothing stays open, the probe's place is free."""

    async def ask(client: Client) -> None:
        if not stream:
            await client.generate("Hello")
            return
        async with client.stream("Hello") as reply:
            async for _ in reply:
                pass

    log = AuditLog.memory() if kind == "memory" else AuditLog(tmp_path / "log")
    finished = 0
    steps = 0
    while finished < 2:
        backend = Slow()
        client = Client(
            backend, audit=log, breaker=Breaker(failures=1, cooldown=0.0), retry=Retry(attempts=2), chance=lambda: 0.0
        )
        task = asyncio.ensure_future(ask(client))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        finished += ended is None
        assert ended is None or isinstance(ended, asyncio.CancelledError)
        assert backend.open == 0
        await client.generate("Hello")  # a probe, if the circuit is open: its place is free
        steps += 1 + (steps // 8 if kind == "disk" else 0)  # the disk takes many steps of the loop
        assert steps < 1_000_000
    log.close()
    statuses = [row.status for row in log.attempts()]
    assert "open" not in statuses
    assert "abandoned" not in statuses
    assert {"ok", "error", "cancelled"} <= set(statuses)
    assert log.verify().ok


# ------------------------------------------------------------------------------- what a fresh reader found


async def test_a_reader_that_leaves_at_finish_has_the_answer() -> None:
    """When Finish is handed out all is done: the response is there, and observers, the log and the budget say that it went well."""
    log, seen = AuditLog.memory(), list[Observation]()
    client = Client(Scripted([]), audit=log, observers=[seen.append], cache=Cache.memory())
    for number in range(2):  # the second time from the cache
        async with client.stream("Hello") as reply:
            async for event in reply:
                if isinstance(event, Finish):
                    break
            assert reply.response.content == "some of scripted"
            assert reply.response.cached is (number == 1)
        assert isinstance(seen[-1], CallEnded)
        assert seen[-1].error is None
    assert [row.status for row in log.attempts()] == ["ok"]


async def test_an_answer_that_was_turned_down_is_better_than_an_error() -> None:
    """It was paid for: where those asked after it fail, it is returned with the warning, and the attempts tell all."""
    fallback = Fallback([Scripted(down(), name="b")], accept=lambda _: False)
    client = Client(Scripted([], name="a"), fallback=fallback, retry=Retry(attempts=1), audit="memory")
    answer = await client.generate("Hello")
    assert (answer.backend, answer.warnings[-1].code) == ("a", "not_accepted")
    assert [(one.backend, one.error) for one in answer.attempts] == [("a", "not_accepted"), ("b", "server")]


def test_where_the_others_are_left_alone_the_first_is_waited_for() -> None:
    """A target whose circuit is open is nobody to go to: the wait that the first asked for is taken, or its error raised."""

    async def ask(error: ProviderError) -> tuple[object, float]:
        first, second = Scripted([error], name="a"), Scripted(down(), name="b")
        client = Client(
            first, fallback=second, retry=Retry(attempts=2), breaker=Breaker(failures=1, cooldown=1e6), audit="memory"
        )
        client._fallback[0].left(ServerError("down"), 0.0, is_probe=False)
        began = asyncio.get_running_loop().time()
        (end,) = await asyncio.gather(client.generate("Hello"), return_exceptions=True)
        assert second.made == []
        return end, asyncio.get_running_loop().time() - began

    end, waited = virtual.run(ask(RateLimitError("slow", retry_after=9.0)))
    assert isinstance(end, ModelResponse)
    assert waited == 9.0
    end, _ = virtual.run(ask(QuotaError("empty")))
    assert isinstance(end, QuotaError)
    assert [one.error for one in end.attempts] == ["quota"]


def test_a_circuit_that_opens_in_mid_call_is_not_waited_for() -> None:
    """The next target is asked at once, and its intent says that it is a fallback."""

    async def ask() -> tuple[float, list[object]]:
        log = AuditLog.memory()
        first = Scripted([ServerError("down", retry_after=5.0)], name="a")
        client = Client(first, fallback="mock", breaker=Breaker(failures=1), audit=log)
        await client.generate("Hello")
        intents = [entry.leaf for entry in log.entries() if entry.leaf["kind"] == "call.intent"]
        reasons = [leaf["attributes"].get("veyra.attempt.reason") for leaf in intents]
        return asyncio.get_running_loop().time(), reasons

    assert virtual.run(ask()) == (0.0, [None, "fallback"])


class Picky(Scripted):
    """Refuses a request before anything is sent, where it is told to."""

    refuses = False

    def prepare(self, request: Request) -> Exchange:
        if self.refuses:
            msg = "not that"
            raise InvalidRequestError(msg)
        return super().prepare(request)


def test_what_was_never_sent_says_nothing_of_a_target() -> None:
    """A request that is refused here neither closes an open circuit nor ends a row of failures."""

    async def ask() -> int:
        dead = Picky(down(), name="dead")
        client = Client(
            dead, fallback="mock", retry=Retry(attempts=1), breaker=Breaker(failures=2, cooldown=10.0), audit="off"
        )
        for number in range(4):
            dead.refuses = number % 2 == 1
            await asyncio.gather(client.generate("Hello"), return_exceptions=True)
        await asyncio.sleep(10.0)
        dead.refuses = True
        with pytest.raises(InvalidRequestError):
            await client.generate("Hello")
        dead.refuses = False
        for _ in range(20):
            await client.generate("Hello")
        return len(dead.made)

    assert virtual.run(ask()) == 2 + 1  # the probe alone after the circuit opened


def test_a_probe_has_done_its_work_when_its_answer_begins() -> None:
    """However long its reader takes, the target is in service again."""

    async def ask() -> list[str]:
        target = Scripted(down(1), name="a")
        client = Client(
            target, fallback="mock", retry=Retry(attempts=1), breaker=Breaker(failures=1, cooldown=1.0), audit="off"
        )
        await client.generate("Hello")
        await asyncio.sleep(1.0)
        async with client.stream("Hello") as reply:
            await anext(aiter(reply))
            return [(await client.generate("Hello")).backend for _ in range(2)]

    assert virtual.run(ask()) == ["a", "a"]


def test_while_a_probe_is_under_way_the_refusal_says_so() -> None:
    """It names no time that is not known."""

    async def ask() -> str:
        target = Scripted([*down(1), None], takes=5.0)
        client = Client(target, retry=Retry(attempts=1), breaker=Breaker(failures=1, cooldown=1.0), audit="memory")
        await asyncio.gather(client.generate("Hello"), return_exceptions=True)
        await asyncio.sleep(1.0)
        probe = asyncio.ensure_future(client.generate("Hello"))
        await asyncio.sleep(1.0)
        with pytest.raises(CircuitOpenError) as caught:
            await client.generate("Hello")
        await probe
        return str(caught.value)

    assert virtual.run(ask()).endswith("the next call is let through when the one that is under way has ended well")


def test_the_callers_own_short_time_does_not_open_a_circuit() -> None:
    """A total that runs out says how patient the caller is, and nothing of the target."""

    async def ask() -> str:
        target = Scripted([], name="a", takes=1.0)
        client = Client(target, fallback="mock", retry=Retry(attempts=1), breaker=Breaker(failures=1), audit="off")
        for _ in range(3):
            with pytest.raises(CallTimeoutError):
                await client.generate("Hello", timeout=0.2)
        return (await client.generate("Hello")).backend

    assert virtual.run(ask()) == "a"


async def test_of_many_threads_one_sends_the_probe() -> None:
    """Looking at a circuit and taking its probe's place is one step."""
    client = Client(Scripted([]), fallback="mock", breaker=Breaker(failures=1, cooldown=0.0), audit="off")
    station = client._stations[0]
    barrier = threading.Barrier(8)
    for _ in range(50):
        station.left(ServerError("down"), 0.0, is_probe=False)

        def take() -> object:
            barrier.wait()
            return station.enter(Ticket(1.0, lambda: 1), 1.0)

        with ThreadPoolExecutor(8) as threads:
            taken = [future.result() for future in [threads.submit(take) for _ in range(8)]]
        assert sum(lease is not None for lease in taken) == 1
        station.left(None, 1.0, is_probe=True)


def test_the_quickest_is_chosen_from_what_was_seen_lately() -> None:
    """A target that fails counts as slow, and one that was slow once is asked again after a while."""

    async def ask() -> tuple[int, bool]:
        failing, good = Scripted([QuotaError("empty") for _ in range(99)], name="a"), Scripted([], name="b")
        client = Client(failing, good, routing="least_latency", breaker=None, audit="off")
        for _ in range(10):
            await client.generate("Hello")
        asked = len(failing.made)
        for station in client._stations:
            station.took(1_000.0 if station.backend is failing else 10.0, asyncio.get_running_loop().time())
        failing.ends = []
        await asyncio.sleep(30.0)
        for _ in range(40):
            await asyncio.sleep(120.0)
            await client.generate("Hello")
        return asked, len(failing.made) > asked

    assert virtual.run(ask()) == (1, True)


def test_a_slow_shelf_does_not_hold_a_call_beyond_its_deadline() -> None:
    """What the cache does not say in time is a miss; what it cannot keep in time is not kept."""

    class SlowShelf(MemoryShelf):
        async def get(self, key: str) -> bytes | None:
            await asyncio.sleep(1.0)
            return await super().get(key)

        async def put(self, key: str, data: bytes) -> None:
            await asyncio.sleep(100.0)

    async def ask() -> float:
        client = Client(Scripted([]), cache=Cache(SlowShelf(10)), retry=Retry(deadline=3.0), audit="memory")
        assert (await client.generate("Hello")).content == "some of scripted"
        return asyncio.get_running_loop().time()

    assert virtual.run(ask()) == 3.0
