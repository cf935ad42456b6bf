"""Faults to test with: what can go wrong between a program and a model.

    from veyra.testing import faults

    faults.parse("cut@event=3")                      # one of them, from its text
    faults.parse_script("ok; rate-limit@after=1")    # several, in order
    faults.plan(seed=7, rate=0.2)                    # one in five calls, the same ones each time

The same values play in process (`ScriptedTransport`, `MockBackend`) and over HTTP (`FaultServer`, `veyra mock serve`). What each
does is described at its class, and in docs/testing/faults.md with what the providers' own SDKs make of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from veyra.errors import InvalidRequestError
from veyra.transport.chance import Chance
from veyra.transport.faults import (
    KINDS,
    OK,
    BadGateway,
    Cut,
    Duplicate,
    Endless,
    Failure,
    Fault,
    InBand,
    InvalidJson,
    NoConnection,
    Overloaded,
    PingOnly,
    Quota,
    RateLimit,
    Refuse,
    Reorder,
    Reset,
    SlowHead,
    SpendLimit,
    SplitUtf8,
    Stall,
    Truncate,
    WrongType,
    parse,
    parse_script,
    print_script,
)
from veyra.transport.playing import Answer, Form, apply

__all__ = [
    "Answer",
    "BadGateway",
    "Cut",
    "Duplicate",
    "ENDING",
    "Endless",
    "Failure",
    "Fault",
    "Form",
    "InBand",
    "InvalidJson",
    "KINDS",
    "NoConnection",
    "OK",
    "Overloaded",
    "PingOnly",
    "Quota",
    "RateLimit",
    "Refuse",
    "Reorder",
    "Reset",
    "SlowHead",
    "SpendLimit",
    "SplitUtf8",
    "Stall",
    "Truncate",
    "WrongType",
    "apply",
    "parse",
    "parse_script",
    "plan",
    "print_script",
]

Choice: TypeAlias = Fault | type[Fault]
"""A fault as it is, or a kind of fault whose numbers are drawn."""

ENDING: tuple[type[Fault], ...] = tuple(
    kind for kind in KINDS if kind not in {NoConnection, Stall, PingOnly, Endless, SlowHead}
)
"""The kinds that come to an end by themselves, and soon."""

_EVENTS = 6
_SEEDS = 1_000_000
_STATUSES = (400, 401, 403, 404, 500, 503)


def plan(*, seed: int, rate: float, choices: Sequence[Choice] = ENDING) -> Iterator[Fault | None]:
    """Return one step after another, without end: a fault, or None where nothing goes wrong.

    The n-th step depends on the arguments and n only: the same on every run, machine and version of Python.

    Args:
        seed: where chance comes from.
        rate: the share of steps that are faults, from 0 to 1.
        choices: what is chosen from, each as likely as any other.

    Raises:
        InvalidRequestError: the rate is no such share, or there is nothing to choose from.
    """
    if not 0 <= rate <= 1:
        msg = f"the rate of faults is a number from 0 to 1, not {rate}"
        raise InvalidRequestError(msg)
    if not choices:
        msg = "a plan of faults needs at least one to choose from"
        raise InvalidRequestError(msg)
    return _steps(seed, rate, choices)


def _steps(seed: int, rate: float, choices: Sequence[Choice]) -> Iterator[Fault | None]:
    number = 0
    while True:
        number += 1
        chance = Chance(seed, f"plan/{number}")
        if chance.unit() >= rate:
            yield None
            continue
        choice = choices[chance.below(len(choices))]
        yield drawn(choice, chance) if isinstance(choice, type) else choice


def drawn(kind: type[Fault], chance: Chance) -> Fault:
    """Return a fault of a kind, its numbers drawn."""
    if issubclass(kind, Cut | Truncate | Stall | InBand | PingOnly):
        return kind(event=chance.below(_EVENTS))
    if issubclass(kind, Duplicate | Reorder | InvalidJson):
        return kind(event=1 + chance.below(_EVENTS))
    if issubclass(kind, SplitUtf8):
        return kind(seed=chance.below(_SEEDS))
    if issubclass(kind, Failure):
        return kind(status=_STATUSES[chance.below(len(_STATUSES))])
    if issubclass(kind, RateLimit):
        return (kind(), kind(after=1), kind(ms=20), kind(date=1))[chance.below(4)]
    return kind()
