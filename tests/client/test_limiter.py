"""The line before a target: who is let through when, who is refused, who leaves, on one event loop and on several."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import virtual
from client.asked import Scripted
from client.limited import LimitedServer
from veyra import AuditLog, Breaker, Client, Fallback, Limits, Retry, Target, get_backend
from veyra.client.limiter import Limiter, Refusal
from veyra.client.observe import AttemptStarted, Observation, Waiting
from veyra.errors import InvalidRequestError, RateLimitError, ServerError
from veyra.policy.gauge import Ticket
from veyra.transport.script import Answer, ScriptedTransport


def one() -> int:
    return 1


def now() -> float:
    return asyncio.get_running_loop().time()


async def enter(
    limiter: Limiter, *, patience: float = 1000.0, tokens: int = 1, told: Callable[[float], None] = lambda _: None
) -> Ticket:
    return await limiter.enter(lambda: tokens, patience=patience, told=told)


def stepped(coroutine: Coroutine[Any, Any, Ticket]) -> Ticket | None:
    """Run a coroutine up to where it would give way; None where it does."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        ticket = end.value
        assert isinstance(ticket, Ticket)
        return ticket
    coroutine.close()
    return None


# --------------------------------------------------------------------------------------------- being let through


@pytest.mark.parametrize("limits", [Limits(), Limits(concurrency=1, requests_per_minute=1, tokens_per_minute=5)])
async def test_who_need_not_wait_does_not_give_way(limits: Limits) -> None:
    """Where the limits allow it an attempt is let through without the loop being entered."""
    limiter = Limiter("t", limits)
    assert stepped(enter(limiter)) is not None
    assert limiter.in_flight == 1


def test_first_come_first_served() -> None:
    """Those who wait are let through in the order in which they came, one for each that ends."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1))
        order: list[int] = []

        async def use(number: int) -> None:
            ticket = await enter(limiter)
            order.append(number)
            await asyncio.sleep(1.0)
            limiter.release(now(), ticket, sent=True)

        await asyncio.gather(*(use(number) for number in range(20)))
        assert order == list(range(20))
        assert now() == pytest.approx(20.0)
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    virtual.run(main())


def test_nobody_passes_who_stands_in_line() -> None:
    """A small attempt that would fit waits behind a large one that does not yet."""

    async def main() -> None:
        limiter = Limiter("t", Limits(tokens_per_minute=100))
        limiter.release(now(), await enter(limiter, tokens=50), sent=True, tokens=50)
        large = asyncio.create_task(enter(limiter, tokens=80))
        await asyncio.sleep(0)
        assert limiter.try_enter(now(), one) is None
        small = asyncio.create_task(enter(limiter, tokens=1))
        await asyncio.sleep(50.0)
        assert not small.done()
        await asyncio.gather(large, small)
        assert now() == pytest.approx(60.0, abs=0.5)

    virtual.run(main())


def test_the_wait_is_told_once() -> None:
    """Who has to wait is told for how long, as far as that can be known."""

    async def main() -> None:
        limiter = Limiter("t", Limits(requests_per_minute=1))
        limiter.release(now(), await enter(limiter), sent=True)
        waits: list[float] = []
        await enter(limiter, told=waits.append)
        assert waits == [pytest.approx(60.0, abs=0.5)]
        assert now() == pytest.approx(60.0, abs=0.5)

    virtual.run(main())


# ------------------------------------------------------------------------------------------------- being refused


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    """The error says that nothing was sent, which limit it was, how long it would take and what to do; no time passes."""

    async def main() -> None:
        limiter = Limiter("openai:m", Limits(requests_per_minute=1, max_wait=30.0))
        limiter.release(now(), await enter(limiter), sent=True)
        with pytest.raises(RateLimitError) as caught:
            await enter(limiter)
        assert str(caught.value) == (
            "openai:m: refused here, nothing was sent: its limit of 1 requests a minute is used up, 0 wait already, and this "
            "call would wait for at least 61 s, but it may wait 30 s; ask less often, or set Limits(max_wait=...) or "
            "Limits(max_waiting=...)"
        )
        assert caught.value.status is None
        assert caught.value.retry_after == pytest.approx(60.1, abs=0.2)
        assert caught.value.retryable
        assert now() == 0.0

    virtual.run(main())


def test_who_has_waited_too_long_is_refused_then() -> None:
    """Where nobody can know how long it takes, patience ends the wait."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1, max_wait=30.0))
        ticket = await enter(limiter)
        with pytest.raises(RateLimitError, match=r"the limit of 1 at a time is reached.* it has waited 30 s"):
            await enter(limiter)
        assert now() == 30.0
        with pytest.raises(RateLimitError, match=r"it has waited 5 s"):
            await enter(limiter, patience=5.0)
        assert limiter.waiting == 0
        limiter.release(now(), ticket, sent=True)
        assert stepped(enter(limiter)) is not None

    virtual.run(main())


def test_the_line_is_only_so_long() -> None:
    """One more than may wait is refused, and the error says so."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1, max_waiting=2))
        ticket = await enter(limiter)
        waiting = [asyncio.create_task(enter(limiter)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimitError, match=r"2 wait already.*more than max_waiting=2 may not wait"):
            await enter(limiter)
        limiter.release(now(), ticket, sent=True)
        limiter.release(now(), await waiting[0], sent=True)
        await waiting[1]

    virtual.run(main())


# ------------------------------------------------------------------------------------------------------ leaving


def test_who_gives_up_leaves_the_line() -> None:
    """A waiter that is cancelled, at the head or behind, keeps nobody from being let through."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1))
        ticket = await enter(limiter)
        waiting = [asyncio.create_task(enter(limiter)) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.sleep(0)
        assert limiter.waiting == 2
        limiter.release(now(), ticket, sent=True)
        limiter.release(now(), await waiting[1], sent=True)
        limiter.release(now(), await waiting[3], sent=True)
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    virtual.run(main())


def test_who_is_cancelled_when_its_turn_comes_gives_it_back() -> None:
    """A waiter that is let through and cancelled in the same moment holds nothing, and the next is let through."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1))
        ticket = await enter(limiter)
        first, second = asyncio.create_task(enter(limiter)), asyncio.create_task(enter(limiter))
        await asyncio.sleep(0)
        limiter.release(now(), ticket, sent=True)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        limiter.release(now(), await second, sent=True)
        assert limiter.in_flight == 0

    virtual.run(main())


def test_an_observer_that_raises_leaves_the_line() -> None:
    """Whatever is raised while somebody is told of the wait, the line is left."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1))
        await enter(limiter)

        def fail(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await enter(limiter, told=fail)
        assert limiter.waiting == 0

    virtual.run(main())


def test_a_refusal_keeps_those_in_line_waiting() -> None:
    """A 429 with a time closes the target for who waits, too; what was refused does not count."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1, requests_per_minute=1))
        ticket = await enter(limiter)
        task = asyncio.create_task(enter(limiter))
        await asyncio.sleep(1.0)
        limiter.release(now(), ticket, sent=True, refusal=Refusal(20.0))
        await task
        assert now() == pytest.approx(21.0, abs=0.1)

    virtual.run(main())


def test_tokens_that_are_limited_later_are_estimated_for_who_waits() -> None:
    """Who came before a limit on tokens was known is let through by its estimate all the same."""

    async def main() -> None:
        limiter = Limiter("t", Limits(concurrency=1))
        ticket = await enter(limiter)
        task = asyncio.create_task(enter(limiter, tokens=700))
        await asyncio.sleep(0)
        limiter.heard(now(), ticket, {"x-ratelimit-limit-tokens": "1000"})
        limiter.release(now(), ticket, sent=True, tokens=400)
        await task
        assert now() == pytest.approx(60.0, abs=0.5)

    virtual.run(main())


# ------------------------------------------------------------------------------------------------- several loops


def test_several_loops_one_after_the_other() -> None:
    """What was let through on one event loop counts on the next, and a line of a loop that is over stops nobody."""
    limiter = Limiter("t", Limits(concurrency=1))
    held: list[Ticket] = []

    async def hold() -> None:
        held.append(await enter(limiter))

    async def abandon() -> None:
        asyncio.get_running_loop().create_task(enter(limiter))
        await asyncio.sleep(0)
        assert limiter.waiting == 1

    async def take() -> None:
        limiter.release(now(), held[0], sent=True)
        limiter.release(now(), await enter(limiter), sent=True)

    for main in (hold, abandon, take):
        virtual.run(main())
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_a_loop_that_was_closed_with_somebody_in_line() -> None:
    """Waiters whose loop was closed under them are passed over, and hold nothing when they are told of it."""
    limiter = Limiter("t", Limits(concurrency=1))
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(enter(limiter))
    coroutines = [enter(limiter) for _ in range(3)]

    async def stand() -> None:
        for coroutine in coroutines:
            coroutine.send(None)

    loop.run_until_complete(stand())
    loop.close()
    assert limiter.waiting == 3
    with pytest.raises(RuntimeError, match="closed"):
        coroutines[0].throw(RuntimeError("closed"))

    async def main() -> None:
        limiter.release(now(), held, sent=True)
        assert limiter.waiting == 0
        ticket = stepped(enter(limiter))
        assert ticket is not None
        limiter.release(now(), ticket, sent=True)

    asyncio.run(main())
    for coroutine in coroutines[1:]:
        with pytest.raises(RuntimeError, match="closed"):
            coroutine.throw(RuntimeError("closed"))
    assert limiter.in_flight == 0


def test_loops_in_threads() -> None:
    """Loops in threads wait for each other's places, never more at a time than are allowed, and all have their turn."""
    limiter = Limiter("t", Limits(concurrency=3))
    lock, inside, most, done = threading.Lock(), [0], [0], [0]

    async def use() -> None:
        ticket = await enter(limiter)
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        await asyncio.sleep(0)
        with lock:
            inside[0] -= 1
            done[0] += 1
        limiter.release(now(), ticket, sent=True)

    async def main() -> None:
        await asyncio.gather(*(use() for _ in range(200)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15.0)
    assert done == [800]
    assert most[0] <= 3
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


# ---------------------------------------------------------------------------------------------- in a client's call


def slow(name: str = "slow") -> Scripted:
    return Scripted([], name=name, takes=10.0)


def test_a_client_waits_and_says_so() -> None:
    """A call that waits for its turn tells the observers for how long, and is answered then."""

    async def main() -> None:
        seen: list[Observation] = []
        client = Client(slow(), limits=Limits(requests_per_minute=1), audit="memory", observers=[seen.append])
        await client.generate("a")
        await client.generate("b")
        waits = [event for event in seen if isinstance(event, Waiting)]
        assert [wait.reason for wait in waits] == ["limit"]
        assert waits[0].seconds == pytest.approx(60.1)
        assert now() == pytest.approx(80.1, abs=0.1)

    virtual.run(main())


def test_a_client_refuses_on_record() -> None:
    """A call that would wait too long is refused with a record of it, and nothing is sent."""

    async def main() -> None:
        log, backend = AuditLog.memory(), slow()
        client = Client(backend, limits=Limits(requests_per_minute=1, max_wait=5.0), audit=log)
        await client.generate("a")
        with pytest.raises(RateLimitError, match="refused here, nothing was sent") as caught:
            await client.generate("b")
        assert caught.value.model == "m"
        assert len(backend.made) == 1
        assert [(row.status, row.error) for row in log.attempts()] == [("ok", None), ("blocked", "RateLimitError")]
        leaves = [entry.leaf for entry in log.entries() if entry.leaf["kind"] == "call.blocked"]
        assert [leaf["reason"] for leaf in leaves] == ["limit"]

    virtual.run(main())


def test_a_client_asks_another_target_instead() -> None:
    """Where another target may be asked, no longer wait than a retry's is made, and the other's attempt says why it was."""

    async def main() -> None:
        seen: list[Observation] = []
        busy = Target(slow("busy"), limits=Limits(requests_per_minute=1))
        client = Client(busy, fallback=Scripted([], name="other"), audit="memory", observers=[seen.append])
        first, second = await client.generate("a"), await client.generate("b")
        assert (first.backend, second.backend) == ("busy", "other")
        assert now() == 10.0
        started = [event for event in seen if isinstance(event, AttemptStarted)]
        assert [event.reason for event in started] == [None, "limit"]

    virtual.run(main())


def test_a_client_does_not_go_on_where_that_is_not_wanted() -> None:
    """Where the fallback is not for rate limits, the call waits, and is refused in the end."""

    async def main() -> None:
        busy = Target(slow("busy"), limits=Limits(requests_per_minute=1))
        client = Client(busy, fallback=Fallback([Scripted([], name="other")], on=("server",)), audit="off")
        await client.generate("a")
        assert (await client.generate("b")).backend == "busy"
        assert now() == pytest.approx(80.1, abs=0.1)

    virtual.run(main())


def test_no_wait_goes_beyond_the_deadline() -> None:
    """A call is refused at once where its turn would come after its deadline."""

    async def main() -> None:
        client = Client(slow(), limits=Limits(requests_per_minute=1), retry=Retry(deadline=20.0), audit="off")
        await client.generate("a")
        with pytest.raises(RateLimitError, match="may wait 20 s"):
            await client.generate("b")
        assert now() == 10.0

    virtual.run(main())


def test_a_circuit_that_opens_while_a_call_waits() -> None:
    """A call whose target fails while it is in line gives its place back and asks the next."""

    async def main() -> None:
        down = Scripted([ServerError("down")], name="down", takes=3.0)
        target = Target(down, limits=Limits(concurrency=1))
        client = Client(
            target,
            fallback=Scripted([], name="other"),
            breaker=Breaker(failures=1),
            retry=Retry(attempts=1),
            audit="off",
        )
        answers = await asyncio.gather(*(client.generate(prompt) for prompt in "abc"))
        assert [answer.backend for answer in answers] == ["other"] * 3
        assert len(down.made) == 1
        limiter = client._stations[0].admission
        assert isinstance(limiter, Limiter)
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    virtual.run(main())


def test_a_stream_teaches_before_it_ends() -> None:
    """What the head of a streamed answer tells is followed from its first event on, not from its end."""

    async def main() -> None:
        server = LimitedServer("sliding", requests=1, tokens=None, slowest=0.0)
        client = Client(server, audit="off", retry=Retry(attempts=1))
        async with client.stream("a") as reply:
            async for _ in reply:
                break
            waiting = asyncio.create_task(client.generate("b"))
            await asyncio.sleep(1.0)
            assert server.sent == 1
        await waiting
        assert not server.refused

    virtual.run(main())


def test_limits_of_another_type_are_refused() -> None:
    """Limits are `Limits`, for the client and for a target."""
    with pytest.raises(InvalidRequestError, match="limits is a Limits or None, not int"):
        Client("mock", limits=5, audit="off")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="limits is a Limits or None, not dict"):
        Target("mock", limits={})  # type: ignore[arg-type]


def test_limits_are_learned_over_the_wire() -> None:
    """The headers of a real format's answer reach the limits: the next call waits until there is something left."""
    head = {
        "content-type": "application/json",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "30s",
    }
    body = b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    body += b'"content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    transport = ScriptedTransport([Answer(headers=head, chunks=[body]), Answer(chunks=[body])])

    async def main() -> None:
        backend = get_backend("openai", api="chat", model="m", api_key="sk-test", transport=transport, audit="off")
        client = Client(backend, audit="off")
        await client.generate("a")
        assert now() == 0.0
        await client.generate("b")
        assert now() == pytest.approx(30.0, abs=0.1)

    virtual.run(main())
    transport.assert_finished()
