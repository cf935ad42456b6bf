"""A target in service: who is asked there, where that is recorded, and how it has been doing."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from veyra.audit import AuditLog
from veyra.client import forecast
from veyra.client.ledger import Ledger, Reservation
from veyra.client.limiter import Admission, Limiter, Refusal
from veyra.errors import BackendError, ProviderError, RateLimitError
from veyra.models.base import BaseModelBackend
from veyra.policy import breaker as circuits
from veyra.policy.breaker import CLOSED, Breaker
from veyra.policy.gauge import Ticket
from veyra.policy.limits import Limits
from veyra.policy.routing import Candidate, smoothed
from veyra.transport.base import Head
from veyra.types import EmbeddingResponse, ModelResponse


class Station:
    """One of a client's targets.

    Args:
        name: what tells it from the client's other targets.
        backend: who is asked, without a gate.
        log: where attempts are recorded; None records nothing (`audit="off"`).
        weight: how often it comes first where targets are weighted.
        breaker: when it is left alone; None for never.
        limits: what may be asked of it; by default what it tells itself.

    Attributes:
        admission: who may ask it now.
    """

    def __init__(
        self,
        name: str,
        backend: BaseModelBackend,
        log: AuditLog | None,
        *,
        weight: float = 1.0,
        breaker: Breaker | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.log = log
        self.admission: Admission = Limiter(name, limits or Limits())
        self._weight = weight
        self._breaker = breaker
        self._circuit = CLOSED
        self._latency: float | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def candidate(self) -> Candidate:
        """What the order of asking looks at."""
        return Candidate(self.name, self._weight, self._latency)

    def passes(self, now: float) -> bool:
        """Tell whether its circuit lets a call through."""
        return self._breaker is None or circuits.passes(self._circuit, now)

    def retry_in(self, now: float) -> float:
        """Return the seconds until its circuit may let a call through: 0 where a probe is under way."""
        return max((self._circuit.retry_at or now) - now, 0.0)

    def enter(self, ticket: Ticket) -> Lease:
        """Let an attempt in that `admission` gave a ticket to; its lease is to be ended, however the attempt ends."""
        is_probe = self._circuit.retry_at is not None
        self._circuit = circuits.admitted(self._circuit)
        return Lease(self, ticket, is_probe=is_probe)

    def left(self, error: BaseException | None, latency: float | None, now: float, *, is_probe: bool) -> None:
        """Note how an attempt ended: `latency` in milliseconds where it ended well."""
        if latency is not None:
            self._latency = smoothed(self._latency, latency)
        if self._breaker is not None:
            self._circuit = circuits.ended(self._circuit, self._breaker, error, now, probe=is_probe)


class Ended(NamedTuple):
    """How an attempt ended.

    Attributes:
        error: what ended it; None where it ended well.
        answer: what came, where that is whole: it may come with an error, where it does not fit or was not recorded.
        sent: its intent was on record, so that something may have been sent.
        streamed: an event with content came.
        head: what the provider answered with.
    """

    error: BaseException | None = None
    answer: ModelResponse | EmbeddingResponse | None = None
    sent: bool = True
    streamed: bool = False
    head: Head | None = None

    @property
    def is_billed(self) -> bool:
        """Whether it may have been billed: unless nothing was sent, or the provider is known to have done nothing."""
        if not self.sent:
            return False
        error = self.error
        if not isinstance(error, ProviderError) or isinstance(
            error, BackendError
        ):  # which tells nothing of the provider
            return True
        return self.streamed or self.answer is not None or error.ambiguous

    @property
    def cost(self) -> Decimal | None:
        """What it cost; None where that is not known."""
        return None if self.answer is None else self.answer.cost


class Lease:
    """What an attempt holds of its target, and of the client's budgets, while it runs; given back by `end`.

    Args:
        station: the target.
        ticket: what it has taken of the target's limits.
        is_probe: the attempt is the one that a half-open circuit let through.
    """

    __slots__ = ("_ended", "_is_probe", "_ledger", "_reservation", "_station", "_ticket")

    def __init__(self, station: Station, ticket: Ticket, *, is_probe: bool) -> None:
        self._station = station
        self._ticket = ticket
        self._is_probe = is_probe
        self._ended = False
        self._ledger: Ledger | None = None
        self._reservation: Reservation | None = None

    def charge(self, ledger: Ledger, reservation: Reservation) -> None:
        """Hold what a ledger has set aside for the attempt, too."""
        self._ledger, self._reservation = ledger, reservation

    def heard(self, now: float, head: Head | None) -> None:
        """Learn from the beginning of an answer that is on its way; never waits."""
        if head is not None:
            self._station.admission.heard(now, self._ticket, head.headers)

    def end(self, now: float, ended: Ended) -> None:
        """Give it back; never waits. A second time does nothing."""
        if self._ended:
            return
        self._ended = True
        answer, error, admission = ended.answer, ended.error, self._station.admission
        latency = answer.latency_ms if answer is not None and error is None else None
        self._station.left(error, latency, now, is_probe=self._is_probe)
        self.heard(now, ended.head)
        refusal = Refusal(error.retry_after) if isinstance(error, RateLimitError) else None
        admission.release(now, self._ticket, sent=ended.sent, tokens=forecast.used(answer), refusal=refusal)
        if self._ledger is not None and self._reservation is not None:
            self._ledger.settle(self._reservation, ended.cost, billed=ended.is_billed)
