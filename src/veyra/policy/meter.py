"""What is free of one limit, and when: for requests or for tokens.

The rules, by which a server is asked for no more than it allows, whether it counts by the minutes of its clock, by the last
60 seconds or by a bucket that fills evenly:

1. What was let through counts until a `PERIOD` after the server has seen it, and it has seen it by the end of the attempt, or
   `LAG` after the attempt was let through. Nothing is let through that would make what counts more than the limit.
2. At the end of the attempt what was used takes the place of what was taken, and counts for a `PERIOD` from then. So a server
   that counts at the end is served as well, as long as attempts end within `LAG` and a `PERIOD`.
3. What a server says is left goes down by all that it may not have seen when it said so, and holds until the time of which
   it said that all is there again, or for `LONGEST`.

Times are seconds on a clock of the caller's, and are arguments: nothing here reads one or waits.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Final

from veyra.policy.readings import Reading

PERIOD: Final = 60.0
"""Seconds that limits are counted over."""
LAG: Final = 10.0
"""Seconds after which a request that was let through has arrived: as long as a connection may take by default."""
LONGEST: Final = 300.0
"""Seconds for which a server's word that nothing is left is taken, so that a word misread does not lock it out for long."""
DOUBT: Final = 600.0
"""Seconds after which twice as much as a limit that was guessed from a refusal is tried."""
_EVIDENCE: Final = 5
"""Attempts that were let through in a `PERIOD` before a refusal tells of a limit."""
_GRAIN: Final = 0.1
_KEPT: Final = PERIOD + _GRAIN
"""Seconds for which what was seen counts: a little longer, for clocks do not run alike."""


class _Slot:
    """What the server saw within a tenth of a second."""

    __slots__ = ("amount", "first", "last", "over")

    def __init__(self, now: float) -> None:
        self.first = self.last = now
        self.amount = 0
        self.over = False


class Hold:
    """What one attempt has taken of a limit.

    Attributes:
        amount: so much of it.
        taken, others: what had been taken in all, this included, and what others held when it was taken.
    """

    __slots__ = ("amount", "at", "others", "slot", "taken")

    def __init__(self, at: float, amount: int, taken: int, others: int) -> None:
        self.at = at
        self.amount = amount
        self.taken = taken
        self.others = others
        self.slot: _Slot | None = None


class Meter:
    """Keeps count of one limit.

    Args:
        limit: so much in a `PERIOD`; None for what is not limited, as far as is known.

    Attributes:
        limit: the same; it can be set when it is learned.
        used: what counts now, as of the last time that was told.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._held = 0
        self._taken = 0
        self._flights: deque[Hold] = deque()
        self._slots: deque[_Slot] = deque()
        self._guess: int | None = None
        self._guess_ends = -math.inf
        self._left = 0
        self._left_ends = -math.inf
        self._heard_of = 0

    def in_force(self, now: float) -> int | None:
        """Return the limit that holds: what was set, or was guessed, if that is less."""
        if self._guess is None:
            return self.limit
        while now >= self._guess_ends:
            self._guess = min(self._guess * 2, sys.maxsize)
            self._guess_ends += DOUBT
        return self._guess if self.limit is None else min(self._guess, self.limit)

    # ------------------------------------------------------------------------------------------ what is free

    def fits(self, now: float, amount: int) -> bool:
        """Tell whether so much is free now. More than the whole limit fits where nothing else counts."""
        if now < self._left_ends and self._left < amount:
            return False
        limit = self.in_force(now)
        if limit is None:
            return True
        self._advance(now)
        return self.used + min(amount, limit) <= limit

    def wait(self, now: float, amount: int, ahead: int = 0) -> float:
        """Return the seconds until so much is free after so much more that goes before it; 0 for now.

        It is the least that it will be: nobody else takes anything, and attempts take no time.
        """
        told = self._left_ends - now if now < self._left_ends and self._left < ahead + amount else 0.0
        limit = self.in_force(now)
        if limit is None:
            return told
        self._advance(now)
        rounds, place = divmod(ahead + max(min(amount, limit), 1) - 1, limit)
        over = self.used + place + 1 - limit
        return max(told, rounds * _KEPT + (self._freed(over) - now if over > 0 else 0.0))

    def _freed(self, amount: int) -> float:
        """Return the time by which so much of what counts does so no more."""
        for slot in self._slots:
            amount -= slot.amount
            if amount <= 0:
                return slot.last + _KEPT
        for hold in self._flights:
            amount -= hold.amount
            if amount <= 0:
                return hold.at + LAG + _KEPT
        raise AssertionError  # slots and flights are all that counts

    # ------------------------------------------------------------------------------------- what is taken

    def take(self, now: float, amount: int) -> Hold:
        """Take so much, whether it is free or not."""
        self._taken += amount
        hold = Hold(now, amount, self._taken, self._held)
        self._held += amount
        self.used += amount
        self._left -= amount
        self._flights.append(hold)
        return hold

    def settle(self, now: float, hold: Hold, amount: int, *, once: bool = False, heard: bool = False) -> None:
        """Put what was used in the place of what was taken; it was seen by now.

        Args:
            now: the time.
            hold: what was taken; it is not to be used again.
            amount: what was used in all; 0 gives all of it back.
            once: it was seen when the attempt began, and by now if that is not long ago; not when it ended.
            heard: the server has already said what is left after it.
        """
        self._advance(now)
        self._held -= hold.amount
        if not heard:
            self._left += hold.amount - amount
        if once and hold.slot is not None and amount:
            return
        self._drop(hold)
        if amount:
            self._seen(now, amount)

    def add(self, now: float, amount: int) -> None:
        """Count what was seen by now and was not taken before."""
        if not self._slots or now - self._slots[-1].first > _GRAIN:
            self._advance(now)
        self._seen(now, amount)

    def _drop(self, hold: Hold) -> None:
        if hold.slot is None or not hold.slot.over:
            self.used -= hold.amount
        if hold.slot is not None:
            hold.slot.amount -= hold.amount
        hold.amount = 0

    def _seen(self, now: float, amount: int) -> _Slot:
        slot = self._slots[-1] if self._slots else None
        if slot is None or now - slot.first > _GRAIN:
            slot = _Slot(now)
            self._slots.append(slot)
        slot.last = max(slot.last, now)
        slot.amount += amount
        self.used += amount
        return slot

    def _advance(self, now: float) -> None:
        """Move what has arrived by now to what was seen, and forget what counts no more."""
        flights, slots = self._flights, self._slots
        while flights and (not flights[0].amount or flights[0].at + LAG <= now):
            hold = flights.popleft()
            if hold.amount:
                self.used -= hold.amount
                hold.slot = self._seen(hold.at + LAG, hold.amount)
        while slots and slots[0].last + _KEPT <= now:
            slot = slots.popleft()
            slot.over = True
            self.used -= slot.amount

    # ------------------------------------------------------------------------------------ what is learned

    def heard(self, now: float, hold: Hold, reading: Reading) -> None:
        """Note what the server said is left, in answer to the attempt that holds `hold`.

        What others took since, or held when it began, is taken as not counted in that, as far as it counts at all. What was
        said in answer to an earlier attempt than the last heard of is old, and is left aside.
        """
        if reading.remaining is None or (now < self._left_ends and hold.taken < self._heard_of):
            return
        self._advance(now)
        self._heard_of = hold.taken
        self._left = reading.remaining - min(self._taken - hold.taken + hold.others, self.used)
        self._left_ends = now + min(PERIOD if reading.reset is None else reading.reset, LONGEST)

    def refused(self, now: float) -> None:
        """Note that a server that tells no limit refused an attempt: what it has let through of late is the limit, it seems.

        Where that is next to nothing, it says more of others than of a limit.
        """
        self._advance(now)
        if self.used >= _EVIDENCE:
            self._guess, self._guess_ends = self.used, now + DOUBT
