"""What may be asked of one target now: attempts at a time, requests and tokens in a minute, and its own word."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from veyra.policy.limits import Limits
from veyra.policy.meter import LONGEST, Hold, Meter
from veyra.policy.readings import Reading, read

DEFAULT_OUTPUT: Final = 1000
"""Tokens that an answer is taken to have, for limits, where the call sets no `max_tokens`."""

Measure: TypeAlias = Callable[[], int]
"""Estimates the tokens of an attempt: called only where tokens are limited."""


class Ticket:
    """What one attempt has taken of a target's limits.

    Args:
        at: when it was let through.
        measure: estimates its tokens.

    Attributes:
        requests, tokens: what it holds of either; None where they are not counted.
        heard: what the target answered to it was looked at, and told of its limits.
    """

    __slots__ = ("at", "heard", "measure", "requests", "tokens")

    def __init__(self, at: float, measure: Measure) -> None:
        self.at = at
        self.measure = measure
        self.requests: Hold | None = None
        self.tokens: Hold | None = None
        self.heard = False


class Ahead(NamedTuple):
    """What goes before an attempt: so many others, with so many tokens."""

    requests: int
    tokens: int


NOTHING: Final = Ahead(0, 0)


class Gauge:
    """Keeps count of what is asked of one target. Times are arguments, and nothing waits.

    What is under way is counted only once a limit is known: given, told by the target, or guessed from its refusal. It is
    counted then, and so are the requests that have ended of late.

    Args:
        limits: what may be asked; what the target tells besides is learned where they say so.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._requests = Meter(limits.requests_per_minute)
        self._tokens = Meter(limits.tokens_per_minute)
        self._flying: set[Ticket] = set()
        self._closed_until = -math.inf
        self._counts_requests = limits.requests_per_minute is not None
        self._counts_tokens = limits.tokens_per_minute is not None
        self._is_limited = self._counts_requests or self._counts_tokens or limits.concurrency is not None

    @property
    def in_flight(self) -> int:
        """How many attempts are let through and have not ended."""
        return len(self._flying)

    def tokens(self, measure: Measure) -> int:
        """Return how many tokens an attempt counts for: 0 where they are not limited."""
        return measure() if self._counts_tokens else 0

    def fits(self, now: float, tokens: int) -> bool:
        """Tell whether an attempt may be let through now."""
        if not self._is_limited:
            return True
        return (
            now >= self._closed_until
            and (self._limits.concurrency is None or len(self._flying) < self._limits.concurrency)
            and self._requests.fits(now, 1)
            and self._tokens.fits(now, tokens)
        )

    def wait(self, now: float, tokens: int, ahead: Ahead = NOTHING) -> float:
        """Return the seconds until an attempt may be let through at the soonest; how long others take is not known."""
        return max(
            self._closed_until - now,
            self._requests.wait(now, 1, ahead.requests),
            self._tokens.wait(now, tokens, ahead.tokens),
            0.0,
        )

    def narrowest(self, now: float, tokens: int, ahead: Ahead = NOTHING) -> str:
        """Return, in words, what an attempt has to wait for the longest."""
        waits = {
            "it asked to be left alone for now": self._closed_until - now,
            _words("requests a minute", self._requests, now): self._requests.wait(now, 1, ahead.requests),
            _words("tokens a minute", self._tokens, now): self._tokens.wait(now, tokens, ahead.tokens),
        }
        longest = max(waits, key=lambda name: waits[name])
        if waits[longest] <= 0 and self._limits.concurrency is not None:
            return f"the limit of {self._limits.concurrency:,} at a time is reached"
        return longest

    def enter(self, now: float, measure: Measure, tokens: int) -> Ticket:
        """Let an attempt through; `tokens` is what it counts for."""
        ticket = Ticket(now, measure)
        self._flying.add(ticket)
        if self._counts_requests:
            ticket.requests = self._requests.take(now, 1)
        if self._counts_tokens:
            ticket.tokens = self._tokens.take(now, tokens)
        return ticket

    def leave(self, now: float, ticket: Ticket, *, sent: bool, tokens: int | None) -> None:
        """Note that an attempt has ended.

        Args:
            now: the time.
            ticket: what it had taken.
            sent: the target took it on, or may have; otherwise all that it had taken is given back.
            tokens: what it used; None where that is not known, and then the estimate stands.
        """
        self._flying.discard(ticket)
        if ticket.requests is not None:
            self._requests.settle(now, ticket.requests, int(sent), once=True, heard=ticket.heard)
        elif sent:
            self._requests.add(now, 1)
        if ticket.tokens is not None:
            used = ticket.tokens.amount if tokens is None else tokens
            self._tokens.settle(now, ticket.tokens, used if sent else 0, heard=ticket.heard)

    def answered(self, now: float, ticket: Ticket, headers: Mapping[str, str]) -> None:
        """Learn from the headers of the answer to an attempt that is under way."""
        if not self._limits.learn or ticket.heard:
            return
        requests, tokens = read(headers)
        ticket.heard = requests is not None or tokens is not None
        if requests is not None:
            self._count_requests()
            _learn(now, self._requests, ticket.requests, requests, self._limits.requests_per_minute)
        if tokens is not None:
            self._count_tokens()
            _learn(now, self._tokens, ticket.tokens, tokens, self._limits.tokens_per_minute)

    def refused(self, now: float, retry_after: float | None, *, told: bool) -> None:
        """Learn from a refusal (429) of an attempt that has left; `told` where its headers told of the limits."""
        if not self._limits.learn or retry_after is None:  # without a time it tells of a bad moment, not of a limit
            return
        self._is_limited = True
        self._closed_until = max(self._closed_until, now + min(retry_after, LONGEST))
        if not told:
            self._count_requests()
            self._requests.refused(now)

    def _count_requests(self) -> None:
        """Count requests when they begin from now on: those that are under way, too."""
        if self._counts_requests:
            return
        self._counts_requests = self._is_limited = True
        for ticket in sorted(self._flying, key=lambda ticket: ticket.at):
            ticket.requests = self._requests.take(ticket.at, 1)

    def _count_tokens(self) -> None:
        """Count tokens from now on: those of the attempts that are under way, too."""
        if self._counts_tokens:
            return
        self._counts_tokens = self._is_limited = True
        for ticket in sorted(self._flying, key=lambda ticket: ticket.at):
            ticket.tokens = self._tokens.take(ticket.at, ticket.measure())


def _learn(now: float, meter: Meter, hold: Hold | None, reading: Reading, given: int | None) -> None:
    """Take over what was told of a limit: the limit itself only where none was given."""
    if given is None and reading.limit is not None:
        meter.limit = reading.limit
    if hold is not None:
        meter.heard(now, hold, reading)


def _words(unit: str, meter: Meter, now: float) -> str:
    limit = meter.in_force(now)
    return f"its {unit} are used up" if limit is None else f"its limit of {limit:,} {unit} is used up"
