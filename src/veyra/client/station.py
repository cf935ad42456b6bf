"""A target in service: who is asked there, where that is recorded, and how it has been doing."""

from __future__ import annotations

from veyra.audit import AuditLog
from veyra.models.base import BaseModelBackend
from veyra.policy import breaker as circuits
from veyra.policy.breaker import CLOSED, Breaker
from veyra.policy.routing import Candidate, smoothed


class Station:
    """One of a client's targets.

    Args:
        name: what tells it from the client's other targets.
        backend: who is asked, without a gate.
        log: where attempts are recorded; None records nothing (`audit="off"`).
        weight: how often it comes first where targets are weighted.
        breaker: when it is left alone; None for never.
    """

    def __init__(
        self,
        name: str,
        backend: BaseModelBackend,
        log: AuditLog | None,
        *,
        weight: float = 1.0,
        breaker: Breaker | None = None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.log = log
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

    def enter(self) -> Lease:
        """Let an attempt in; its lease is to be ended, however the attempt ends."""
        is_probe = self._circuit.retry_at is not None
        self._circuit = circuits.admitted(self._circuit)
        return Lease(self, is_probe=is_probe)

    def left(self, error: BaseException | None, latency: float | None, now: float, *, is_probe: bool) -> None:
        """Note how an attempt ended: `latency` in milliseconds where it ended well."""
        if latency is not None:
            self._latency = smoothed(self._latency, latency)
        if self._breaker is not None:
            self._circuit = circuits.ended(self._circuit, self._breaker, error, now, probe=is_probe)


class Lease:
    """What an attempt holds of its target while it runs, given back by `end`.

    Args:
        station: the target.
        is_probe: the attempt is the one that a half-open circuit let through.
    """

    __slots__ = ("_ended", "_is_probe", "_station")

    def __init__(self, station: Station, *, is_probe: bool) -> None:
        self._station = station
        self._is_probe = is_probe
        self._ended = False

    def end(self, now: float, *, error: BaseException | None = None, latency: float | None = None) -> None:
        """Give it back; never waits. A second time does nothing."""
        if not self._ended:
            self._ended = True
            self._station.left(error, latency, now, is_probe=self._is_probe)
