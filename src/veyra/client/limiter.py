"""Who may ask a target now, and who waits for it: a line, first come, first served.

The rules, each of which the tests break once to see it hold:

1. Where nobody waits and the limits allow it, an attempt is let through at once, without giving way to other tasks.
2. Nobody is let through before who came earlier: a large attempt at the head is not overtaken by small ones.
3. Who would have to wait too long is refused at once, and who has waited too long is refused then.
4. What was let through is given back by `release`, which never waits; who gives up waiting leaves the line.
5. Several event loops, one after the other or in threads, may use one limiter: each waits on its own loop only.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from veyra.errors import RateLimitError
from veyra.policy.gauge import NOTHING, Ahead, Gauge, Measure, Ticket
from veyra.policy.limits import Limits

_LATE = 0.001
"""Seconds by which a timer is set late, for loops run them a little early."""


class Refusal(NamedTuple):
    """A target's word that it was asked too much (429): `retry_after` in seconds, where it said."""

    retry_after: float | None


class Admission(ABC):
    """Lets attempts at a target through; `Limiter` does so for one process.

    The seam for limits that several processes share: `enter` may ask a store that they have in common, and `release` hands
    what it is told to whoever tells the store, as it must not wait.
    """

    @abstractmethod
    def try_enter(self, now: float, measure: Measure) -> Ticket | None:
        """Let an attempt through now, or return None where it has to wait; never waits."""

    @abstractmethod
    async def enter(self, measure: Measure, *, patience: float, told: Callable[[float], None]) -> Ticket:
        """Let an attempt through, now or when its turn has come.

        Args:
            measure: estimates its tokens; called only where tokens are limited.
            patience: seconds that it waits at most.
            told: called with the seconds that are expected, once, where it has to wait.

        Raises:
            RateLimitError: it would have to wait longer than its patience or the target's limits allow.
        """

    @abstractmethod
    def heard(self, now: float, ticket: Ticket, headers: Mapping[str, str]) -> None:
        """Learn from the headers of the answer to an attempt that is under way; never waits."""

    @abstractmethod
    def release(
        self, now: float, ticket: Ticket, *, sent: bool, tokens: int | None = None, refusal: Refusal | None = None
    ) -> None:
        """Note that an attempt that was let through has ended; never waits. To be called once.

        Args:
            now: the time on the running loop's clock.
            ticket: what `enter` gave.
            sent: the target took it on, or may have.
            tokens: what it used, where that is known.
            refusal: the target refused it.
        """


class _Waiter:
    """One attempt in line."""

    __slots__ = ("future", "loop", "measure", "ticket", "timer", "tokens")

    def __init__(self, loop: asyncio.AbstractEventLoop, measure: Measure, tokens: int) -> None:
        self.loop = loop
        self.measure = measure
        self.tokens = tokens
        self.future: asyncio.Future[None] = loop.create_future()
        self.ticket: Ticket | None = None
        self.timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Limiter(Admission):
    """Keeps the limits of one target for one process; see `Admission`.

    Args:
        name: what the target is called.
        limits: what may be asked of it.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._gauge = Gauge(limits)
        self._line: OrderedDict[_Waiter, None] = OrderedDict()
        self._tokens_waiting = 0
        self._lock = Lock()

    @property
    def in_flight(self) -> int:
        """How many attempts are let through and have not ended."""
        return self._gauge.in_flight

    @property
    def waiting(self) -> int:
        """How many attempts wait."""
        return len(self._line)

    def try_enter(self, now: float, measure: Measure) -> Ticket | None:
        """Let an attempt through now, or return None where it has to wait."""
        with self._lock:
            if self._line:
                return None
            tokens = self._gauge.tokens(measure)
            return self._gauge.enter(now, measure, tokens) if self._gauge.fits(now, tokens) else None

    async def enter(self, measure: Measure, *, patience: float, told: Callable[[float], None]) -> Ticket:
        """Let an attempt through, now or when its turn has come; see `Admission.enter`."""
        loop = asyncio.get_running_loop()
        ticket = self.try_enter(loop.time(), measure)
        if ticket is not None:
            return ticket
        patience = min(patience, self._limits.max_wait)
        waiter, expected = self._join(loop, measure, patience)
        timer: asyncio.TimerHandle | None = None
        try:
            told(expected)
            self._serve(loop)
            timer = loop.call_later(patience, waiter.wake)
            await waiter.future
        except BaseException:
            self._leave(loop, waiter)
            raise
        finally:
            for pending in (timer, waiter.timer):
                if pending is not None:
                    pending.cancel()
        return waiter.ticket or self._out_of_patience(loop, waiter, patience)

    def heard(self, now: float, ticket: Ticket, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer."""
        with self._lock:
            self._gauge.answered(now, ticket, headers)

    def release(
        self, now: float, ticket: Ticket, *, sent: bool, tokens: int | None = None, refusal: Refusal | None = None
    ) -> None:
        """Note that an attempt has ended; see `Admission.release`."""
        with self._lock:
            self._gauge.leave(now, ticket, sent=sent and refusal is None, tokens=tokens)
            if refusal is not None:
                self._gauge.refused(now, refusal.retry_after, told=ticket.heard)
        if self._line:
            self._serve(asyncio.get_running_loop())

    # --------------------------------------------------------------------------------------------- the line

    def _join(self, loop: asyncio.AbstractEventLoop, measure: Measure, patience: float) -> tuple[_Waiter, float]:
        """Stand in line; returns the seconds that are expected as well.

        Raises:
            RateLimitError: that is too long, or the line is.
        """
        with self._lock:
            now = loop.time()
            tokens = self._gauge.tokens(measure)
            ahead = Ahead(len(self._line), self._tokens_waiting)
            expected = self._gauge.wait(now, tokens, ahead)
            if expected > patience or len(self._line) >= self._limits.max_waiting:
                raise self._refusal(now, tokens, ahead, expected, patience)
            waiter = _Waiter(loop, measure, tokens)
            self._line[waiter] = None
            self._tokens_waiting += tokens
        return waiter, expected

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let through who may be, in order, and see that the next is looked after in time."""
        with self._lock:
            now = loop.time()
            while self._line:
                waiter = next(iter(self._line))
                self._measure(waiter)
                if not self._gauge.fits(now, waiter.tokens):
                    if self._attended(waiter, loop, now):
                        return
                    self._remove(waiter)  # its loop is closed: nobody waits there
                    continue
                self._remove(waiter)
                waiter.ticket = self._gauge.enter(now, waiter.measure, waiter.tokens)
                if not _called(waiter.loop, loop, waiter.wake):
                    self._gauge.leave(now, waiter.ticket, sent=False, tokens=None)
                    waiter.ticket = None

    def _attended(self, waiter: _Waiter, loop: asyncio.AbstractEventLoop, now: float) -> bool:
        """See that the head of the line is looked at when something is free; False where its loop is closed."""
        if waiter.loop is not loop:
            return _called(waiter.loop, loop, lambda: self._serve(waiter.loop))
        if loop.is_closed():
            return False
        if waiter.timer is not None:
            waiter.timer.cancel()
        wait = self._gauge.wait(now, waiter.tokens)  # 0 where another attempt has to end: that serves the line
        waiter.timer = loop.call_later(wait + _LATE, self._serve, loop) if wait else None
        return True

    def _measure(self, waiter: _Waiter) -> None:
        """Estimate a waiter's tokens, where they were not limited when it came."""
        if not waiter.tokens:
            waiter.tokens = self._gauge.tokens(waiter.measure)
            self._tokens_waiting += waiter.tokens

    def _remove(self, waiter: _Waiter) -> None:
        del self._line[waiter]
        self._tokens_waiting -= waiter.tokens

    def _leave(self, loop: asyncio.AbstractEventLoop, waiter: _Waiter) -> None:
        """Leave the line, or give back what was got in the same moment."""
        with self._lock:
            if waiter in self._line:
                self._remove(waiter)
            if waiter.ticket is not None:
                self._gauge.leave(loop.time(), waiter.ticket, sent=False, tokens=None)
        self._serve(loop)

    def _out_of_patience(self, loop: asyncio.AbstractEventLoop, waiter: _Waiter, patience: float) -> Ticket:
        """Refuse who has waited too long, unless its turn has come in the same moment."""
        with self._lock:
            if waiter.ticket is not None:
                return waiter.ticket
            now = loop.time()
            first = next(iter(self._line))
            self._remove(waiter)
            wait = self._gauge.wait(now, first.tokens)
            error = self._refusal(now, first.tokens, NOTHING, wait, patience, waited=True)
        self._serve(loop)
        raise error

    def _refusal(
        self, now: float, tokens: int, ahead: Ahead, wait: float, patience: float, *, waited: bool = False
    ) -> RateLimitError:
        why = self._gauge.narrowest(now, tokens, ahead)
        if len(self._line) >= self._limits.max_waiting and not waited:
            bound = f"more than max_waiting={self._limits.max_waiting:,} may not wait"
        else:
            bound = f"it {'has waited' if waited else 'may wait'} {patience:.3g} s"
        needed = f"for at least {math.ceil(wait):,} s" if wait > 0 else "until one of them ends"
        return RateLimitError(
            f"{self._name}: refused here, nothing was sent: {why}, {len(self._line):,} wait already, and this call would "
            f"wait {needed}, but {bound}; ask less often, or set Limits(max_wait=...) or Limits(max_waiting=...)",
            retry_after=max(wait, 0.0) or None,
        )


def _called(where: asyncio.AbstractEventLoop, here: asyncio.AbstractEventLoop, function: Callable[[], object]) -> bool:
    """Call a function on a loop, at once where that is the running one; False where the loop is closed."""
    if where.is_closed():
        return False
    if where is here:
        function()
        return True
    try:
        where.call_soon_threadsafe(function)
    except RuntimeError:  # closed since
        return False
    return True
