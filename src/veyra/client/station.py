"""A target in service: who is asked there, where that is recorded, and how it has been doing."""

from __future__ import annotations

from decimal import Decimal
from threading import Lock
from typing import NamedTuple

from veyra.audit import AuditLog
from veyra.client import forecast
from veyra.client.ledger import Ledger, Reservation
from veyra.client.limiter import Admission, Limiter, Refusal
from veyra.errors import BackendError, CallTimeoutError, ProviderError, RateLimitError
from veyra.models.base import BaseModelBackend
from veyra.policy import breaker as circuits
from veyra.policy.breaker import CLOSED, Breaker
from veyra.policy.gauge import Ticket
from veyra.policy.limits import Limits
from veyra.policy.routing import FAILED, Candidate, aged, smoothed
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
        self._latency: tuple[float | None, float] = None, 0.0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def candidate(self, now: float) -> Candidate:
        """Return what the order of asking looks at."""
        mean, measured = self._latency
        return Candidate(self.name, self._weight, None if mean is None else aged(mean, now - measured))

    def passes(self, now: float) -> bool:
        """Tell whether its circuit lets a call through."""
        return self._breaker is None or circuits.passes(self._circuit, now)

    def retry_in(self, now: float) -> float | None:
        """Return the seconds until its circuit lets a call through; None where that is for the probe under way to say."""
        if self._circuit.probing:
            return None
        return max((self._circuit.retry_at or now) - now, 0.0)

    def enter(self, ticket: Ticket, now: float) -> Lease | None:
        """Let an attempt in that `admission` gave a ticket to; its lease is to be ended, however the attempt ends.

        None where its circuit lets no call through. Of several callers at once, in threads too, one gets the probe.
        """
        with self._lock:
            if not self.passes(now):
                return None
            is_probe = self._circuit.retry_at is not None
            self._circuit = circuits.admitted(self._circuit)
        return Lease(self, ticket, now, is_probe=is_probe)

    def took(self, latency: float, now: float) -> None:
        """Note how long an answer took to begin, or to come where it came whole, in milliseconds."""
        self._latency = smoothed(self._latency[0], latency), now

    def left(self, error: BaseException | None, now: float, *, is_probe: bool, said: bool = True) -> None:
        """Note how an attempt ended, and whether that says anything of the target."""
        if self._breaker is not None:
            with self._lock:
                if said:
                    self._circuit = circuits.ended(self._circuit, self._breaker, error, now, probe=is_probe)
                else:
                    self._circuit = circuits.unused(self._circuit, probe=is_probe)


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
    def says_of_the_target(self) -> bool:
        """Whether it says anything of how the target is: not where nothing was sent, or the caller's own time ran out."""
        return self.sent and not (isinstance(self.error, CallTimeoutError) and self.error.phase == "total")

    @property
    def cost(self) -> Decimal | None:
        """What it cost; None where that is not known."""
        return None if self.answer is None else self.answer.cost


class Lease:
    """What an attempt holds of its target, and of the client's budgets, while it runs; given back by `end`.

    Args:
        station: the target.
        ticket: what it has taken of the target's limits.
        began: when, on the loop's clock.
        is_probe: the attempt is the one that a half-open circuit let through.
    """

    __slots__ = ("_began", "_ended", "_has_begun", "_is_probe", "_ledger", "_reservation", "_station", "_ticket")

    def __init__(self, station: Station, ticket: Ticket, began: float, *, is_probe: bool) -> None:
        self._station = station
        self._ticket = ticket
        self._began = began
        self._is_probe = is_probe
        self._has_begun = False
        self._ended = False
        self._ledger: Ledger | None = None
        self._reservation: Reservation | None = None

    def charge(self, ledger: Ledger, reservation: Reservation) -> None:
        """Hold what a ledger has set aside for the attempt, too."""
        self._ledger, self._reservation = ledger, reservation

    def first(self, now: float, head: Head | None) -> None:
        """Learn from the beginning of an answer that is on its way, and let a probe have done its work; never waits."""
        self._has_begun = True
        self._station.took((now - self._began) * 1000.0, now)
        if self._is_probe:
            self._station.left(None, now, is_probe=True)
            self._is_probe = False
        self._heard(now, head)

    def _heard(self, now: float, head: Head | None) -> None:
        if head is not None:
            self._station.admission.heard(now, self._ticket, head.headers)

    def end(self, now: float, ended: Ended) -> None:
        """Give it back; never waits. A second time does nothing."""
        if self._ended:
            return
        self._ended = True
        try:  # each is given back, whatever becomes of the others
            if self._ledger is not None and self._reservation is not None:
                self._ledger.settle(self._reservation, ended.cost, billed=ended.is_billed)
        finally:
            try:
                self._release(now, ended)
            finally:
                self._leave(now, ended)

    def _leave(self, now: float, ended: Ended) -> None:
        error, answer = ended.error, ended.answer
        if isinstance(error, ProviderError) and ended.says_of_the_target:
            self._station.took(FAILED, now)
        elif error is None and answer is not None and not self._has_begun:
            self._station.took(answer.latency_ms, now)
        self._station.left(error, now, is_probe=self._is_probe, said=ended.says_of_the_target)

    def _release(self, now: float, ended: Ended) -> None:
        error, admission = ended.error, self._station.admission
        refusal = Refusal(error.retry_after) if isinstance(error, RateLimitError) else None
        try:
            self._heard(now, ended.head)
        finally:
            used = forecast.used(ended.answer)
            admission.release(now, self._ticket, sent=ended.sent, tokens=used, refusal=refusal)
