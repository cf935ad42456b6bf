from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

import virtual
from veyra.errors import CallTimeoutError
from veyra.models.clock import Clock
from veyra.types import Timeouts

LIMITS = Timeouts(first_token=5, between_events=2, total=60)


async def _wait(clock: Clock, seconds: float) -> None:
    with clock:
        await asyncio.sleep(seconds)


def _expired(limits: Timeouts, *waits: float) -> CallTimeoutError:
    """Wait that often, each wait bringing an event, and return the timeout that must end it."""

    async def main() -> None:
        clock = Clock(limits)
        for seconds in waits:
            await _wait(clock, seconds)
            clock.content()

    with pytest.raises(CallTimeoutError) as caught:
        virtual.run(main())
    return caught.value


@pytest.mark.parametrize(
    ("limits", "waits", "phase", "limit"),
    [
        (LIMITS, (5.1,), "first_token", 5),
        (LIMITS, (4.9, 2.1), "between_events", 2),
        (Timeouts(first_token=None, between_events=None, total=3), (1, 1, 1.5), "total", 3),
        (Timeouts(first_token=50, between_events=50, total=3), (3.5,), "total", 3),
    ],
)
def test_the_clock_that_ran_out_is_named(limits: Timeouts, waits: tuple[float, ...], phase: str, limit: float) -> None:
    """A timeout says which of the clocks ran out and how it was set."""
    error = _expired(limits, *waits)
    assert (error.phase, error.limit) == (phase, limit)
    assert f"{limit} s" in str(error)
    assert error.retryable
    assert error.ambiguous


def test_each_event_starts_the_clock_between_events_again() -> None:
    """A long answer is fine as long as its pieces come in time."""

    async def main() -> float:
        clock = Clock(LIMITS)
        for _ in range(20):
            await _wait(clock, 1.9)
            clock.content()
        clock.stop()
        return asyncio.get_running_loop().time()

    assert virtual.run(main()) == pytest.approx(38)


def test_a_short_attempt_sets_one_timer() -> None:
    """However many events come, and whichever clocks run, a timer is set once, and again only when it has fired."""

    class Counting(virtual.VirtualLoop):
        timers = 0

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]  # as loosely typed as it is called
            self.timers += 1
            return super().call_at(when, callback, *args, context=context)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Counting)
        clock = Clock(Timeouts(first_token=50, between_events=20, total=600))
        for _ in range(10):
            with clock:
                pass
            clock.content()
        clock.stop()
        return loop.timers

    with asyncio.Runner(loop_factory=Counting) as runner:
        assert runner.run(main()) == 1


def test_a_slow_caller_is_not_a_slow_provider() -> None:
    """Time that the caller spends between two events cancels nothing while it is spent."""

    async def main() -> None:
        clock = Clock(Timeouts(first_token=5, between_events=2, total=None))
        await _wait(clock, 1)
        await asyncio.sleep(100)
        clock.content()
        await _wait(clock, 1)
        clock.stop()

    virtual.run(main())


def test_a_slow_caller_leaves_the_provider_all_of_its_time() -> None:
    """However long the caller took over an event, the next one has the whole of its limit."""

    async def main() -> None:
        clock = Clock(Timeouts(first_token=5, between_events=2, total=None))
        await _wait(clock, 1)
        for _ in range(3):
            clock.content()
            await asyncio.sleep(100)
            await _wait(clock, 1.9)
        clock.content()
        await asyncio.sleep(100)
        with pytest.raises(CallTimeoutError):
            await _wait(clock, 2.1)

    virtual.run(main())


def test_the_total_runs_on_while_the_caller_is_busy() -> None:
    """`total` is for the whole attempt, the caller's own time included."""

    async def main() -> None:
        clock = Clock(Timeouts(first_token=5, between_events=2, total=50))
        await _wait(clock, 1)
        clock.content()
        await asyncio.sleep(100)
        with pytest.raises(CallTimeoutError) as caught:
            await _wait(clock, 0)
        assert caught.value.phase == "total"

    virtual.run(main())


def test_a_task_that_outlived_a_cancellation_has_timeouts_like_any_other() -> None:
    """A cancellation that was caught before the call is not taken for a new one: the clock's error is seen."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        with pytest.raises(CallTimeoutError):
            await _wait(Clock(LIMITS), 100)
        assert task.cancelling() == 1

    virtual.run(main())


def test_no_limits_no_timeout() -> None:
    """With every limit None an attempt may take any time."""

    async def main() -> None:
        await _wait(Clock(Timeouts(connect=None, first_token=None, between_events=None, total=None)), 1e6)

    virtual.run(main())


def test_a_cancelled_task_stays_cancelled() -> None:
    """A cancellation from outside passes the clock as it is, also when the clock ran out at the same moment."""

    async def main() -> None:
        task = asyncio.create_task(_wait(Clock(LIMITS), 100))
        asyncio.get_running_loop().call_at(5.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual.run(main())


def test_a_timeout_is_seen_where_the_wait_swallows_its_cancellation() -> None:
    """Code that eats the cancellation cannot make an attempt outlive its clock."""

    async def main() -> None:
        with Clock(LIMITS), contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        msg = "the clock did not tell"
        raise AssertionError(msg)

    with pytest.raises(CallTimeoutError):
        virtual.run(main())


def test_the_task_can_go_on_after_a_timeout() -> None:
    """A timeout leaves no cancellation behind."""

    async def main() -> int:
        with pytest.raises(CallTimeoutError):
            await _wait(Clock(LIMITS), 100)
        await asyncio.sleep(1)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert virtual.run(main()) == 0
