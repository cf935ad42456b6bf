"""The clocks of one attempt: first event, between events, total."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal

from veyra.errors import CallTimeoutError
from veyra.types import Timeouts

Phase = Literal["first_token", "between_events", "total"]


class Clock:
    """Cancels the task that waits inside `with clock:` when the attempt has taken too long.

    One timer is kept for the whole attempt and set anew only when it fires, so that an event costs two
    assignments. It is never set for later than the clock between events could run out, so that no event makes it too
    late. Nothing outside of the `with` block is ever cancelled, and the clock between events runs only inside of
    it: a caller may take its time between events. The total alone runs on meanwhile.
    """

    __slots__ = (
        "_between",
        "_cancelling",
        "_deadline",
        "_end",
        "_expired",
        "_is_new",
        "_limits",
        "_loop",
        "_phase",
        "_timer",
        "_waiting",
    )

    def __init__(self, limits: Timeouts) -> None:
        self._limits = limits
        self._between = limits.between_events
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._end = None if limits.total is None else now + limits.total
        self._phase: Phase = "first_token"
        self._deadline: float | None = self._earliest(now, limits.first_token)
        self._waiting: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired = False
        self._is_new = False
        self._timer: asyncio.TimerHandle | None = None

    def content(self) -> None:
        """Note that an event with content came: the clock between events starts again with the next wait."""
        self._phase = "between_events"
        self._is_new = True

    def stop(self) -> None:
        """End the clock; it fires no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._waiting = asyncio.current_task(self._loop)
        self._cancelling = 0 if self._waiting is None else self._waiting.cancelling()
        now = self._loop.time()
        if self._is_new:
            self._is_new = False
            self._deadline = self._earliest(now, self._between)
        if self._deadline is not None:
            if now >= self._deadline:
                self._expired = True
                raise self._timeout()
            if self._timer is None:
                self._set(now, self._deadline)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._waiting = self._waiting, None
        if not self._expired or task is None:
            return
        is_ours = task.uncancel() <= self._cancelling  # else somebody wants the task cancelled, too: that goes before
        if is_ours or kind is None or not issubclass(kind, asyncio.CancelledError):
            raise self._timeout() from None

    def _earliest(self, now: float, limit: float | None) -> float | None:
        if limit is None:
            return self._end
        return now + limit if self._end is None else min(now + limit, self._end)

    def _set(self, now: float, deadline: float) -> None:
        when = deadline if self._between is None else min(deadline, now + self._between)
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._deadline is None or self._waiting is None:
            return  # the caller is busy with an event; the clock is set again when it asks for the next
        now = self._loop.time()
        if now < self._deadline:
            self._set(now, self._deadline)
            return
        self._expired = True
        self._waiting.cancel()

    def _timeout(self) -> CallTimeoutError:
        phase: Phase = "total" if self._deadline == self._end else self._phase
        limit = getattr(self._limits, phase)
        wanted = {
            "first_token": "no answer began",
            "between_events": "the answer stalled: nothing with content came",
            "total": "the answer was not complete",
        }[phase]
        return CallTimeoutError(
            f"{wanted} within {limit:g} s; raise it with timeout=Timeouts({phase}=...)", phase=phase, limit=limit
        )
