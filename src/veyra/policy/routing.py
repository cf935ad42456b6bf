"""In which order the targets of a call are asked.

    ordered         as they were given
    weighted        each comes first as often as its weight says; the others follow by the same draw
    least_latency   the quickest of late first; who was not asked yet goes before all others. A latency counts half after
                    each minute in which it was not measured anew, so that who was slow once is asked again

Calls of one conversation are sticky: they get the same order as long as the targets are the same (rendezvous hashing by
the conversation's id and the weights), so that a provider's prompt cache is of use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeAlias, get_args

from veyra.errors import InvalidRequestError

Order: TypeAlias = Literal["ordered", "weighted", "least_latency"]
SMOOTHING = 0.2
"""How much the last latency counts in the mean that `least_latency` looks at."""
FAILED = 60_000.0
"""Milliseconds that a failed attempt counts as."""
HALF_LIFE = 60.0
"""Seconds after which a latency counts half."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target, as far as the order of asking goes.

    Attributes:
        name: what tells it from the others.
        weight: above 0; how often it comes first, against the others.
        latency: the smoothed latency of its answers, in milliseconds; None before the first.
    """

    name: str
    weight: float = 1.0
    latency: float | None = None


def check_order(order: object) -> None:
    """See that a word is one of `Order`.

    Raises:
        InvalidRequestError: it is not.
    """
    if order not in get_args(Order):
        msg = f"routing is one of {', '.join(get_args(Order))}, not {order!r}"
        raise InvalidRequestError(msg)


def arranged(
    candidates: Sequence[Candidate], order: Order, *, chances: Sequence[float], conversation: str | None = None
) -> list[int]:
    """Return the places of the candidates in the order in which they are to be asked.

    Args:
        candidates: the targets as they were given.
        order: how they are arranged.
        chances: a number drawn evenly from 0 to 1 for each; looked at for `weighted` alone.
        conversation: the id of the conversation that the call belongs to; looked at unless they are `ordered`.
    """
    places = list(range(len(candidates)))
    if order == "ordered" or len(places) == 1:
        return places
    if conversation is not None:
        chances = [_chance(conversation, candidate.name) for candidate in candidates]
    elif order == "least_latency":
        return sorted(places, key=lambda place: candidates[place].latency or 0.0)
    return sorted(places, key=lambda place: _score(chances[place], candidates[place].weight))


def smoothed(mean: float | None, latency: float) -> float:
    """Return the mean latency after one more, in milliseconds."""
    return latency if mean is None else mean + SMOOTHING * (latency - mean)


def aged(mean: float, seconds: float) -> float:
    """Return what a mean latency counts so many seconds after it was last measured."""
    return mean * math.exp2(-max(seconds, 0.0) / HALF_LIFE)


def _score(chance: float, weight: float) -> float:
    """Return a draw whose smallest is each candidate's as often as its weight says (exponential races)."""
    return -math.log(max(chance, 1e-300)) / weight


def _chance(conversation: str, name: str) -> float:
    digest = sha256(f"{conversation}\0{name}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) + 1) / 2**64
