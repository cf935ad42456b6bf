"""A circuit breaker: a target that keeps failing is left alone for a while, then tried with one call.

1. Closed: calls pass. `Breaker.failures` of them in a row that fail in a way that is the target's fault open it.
2. Open: no call passes until `Breaker.cooldown` seconds have gone by.
3. Half open: one call passes, the probe. Ends it well, or begins its answer, the circuit is closed; fails it, the circuit is
   open again, and the cooldown begins anew.

A refusal by the target (of a key, of a request, for the rate) counts as its being there. What says nothing of it leaves the
circuit as it is, and a probe's place free: a call that was cancelled, one of which nothing was sent, and one whose
total time ran out, which is as short as the caller has made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from veyra.errors import InvalidRequestError, ProviderError
from veyra.policy.retry import check_seconds

_FAULTS: Final = frozenset({"connection", "timeout", "server", "overloaded", "incomplete_stream", "malformed_response"})
"""The kinds of error that say that a target is not well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When a target is left alone.

    Attributes:
        failures: so many in a row open the circuit.
        cooldown: seconds until a probe is let through.

    Raises:
        InvalidRequestError: a value is of another type or out of range.
    """

    failures: int = 5
    cooldown: float = 30.0

    def __post_init__(self) -> None:
        if type(self.failures) is not int or self.failures < 1:
            msg = f"Breaker(failures=...) is an int, 1 or more, not {self.failures!r}"
            raise InvalidRequestError(msg)
        check_seconds("Breaker", "cooldown", self.cooldown)


@dataclass(frozen=True, slots=True)
class Circuit:
    """Where a target's circuit stands.

    Attributes:
        failures: faults in a row.
        retry_at: the time from which a probe may pass; None while the circuit is closed.
        probing: a probe is under way.
    """

    failures: int = 0
    retry_at: float | None = None
    probing: bool = False


CLOSED: Final = Circuit()


def passes(circuit: Circuit, now: float) -> bool:
    """Tell whether a call may pass."""
    return circuit.retry_at is None or (not circuit.probing and now >= circuit.retry_at)


def admitted(circuit: Circuit) -> Circuit:
    """Return the circuit after a call was let through."""
    return circuit if circuit.retry_at is None else Circuit(circuit.failures, circuit.retry_at, probing=True)


def ended(circuit: Circuit, breaker: Breaker, error: BaseException | None, now: float, *, probe: bool) -> Circuit:
    """Return the circuit after a call ended.

    Args:
        circuit: as it stands now.
        breaker: when it opens.
        error: what ended the call; None where it ended well.
        now: seconds, on the clock of `passes`.
        probe: the call was let through as the probe.
    """
    if error is not None and not isinstance(error, ProviderError):
        return unused(circuit, probe=probe)
    if circuit.retry_at is not None and not probe:
        return circuit  # began before the circuit opened: the probe decides
    if error is None or error.kind not in _FAULTS:
        return CLOSED
    failures = circuit.failures + 1
    return Circuit(failures, now + breaker.cooldown) if failures >= breaker.failures else Circuit(failures)


def unused(circuit: Circuit, *, probe: bool) -> Circuit:
    """Return the circuit after a call that said nothing of its target: it was cancelled, say, or nothing was sent."""
    return Circuit(circuit.failures, circuit.retry_at) if probe else circuit
