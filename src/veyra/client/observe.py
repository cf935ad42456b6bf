"""What a client tells those who watch it: frozen values, handed to plain callables.

An observer is for metrics, traces and progress. It is called on the event loop, between the steps of a call, so it must not
block. Whatever it raises is logged once for each observer (`veyra.client`, a warning) and changes nothing: what may not
fail is a stage of the call, and no observer.

No key is in any of these values; prompts are in none, answers in `AttemptEnded.response` and `CallEnded.response`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from veyra.types import AttemptRecord, EmbeddingResponse, ModelResponse

_LOGGER = logging.getLogger("veyra.client")

Operation: TypeAlias = Literal["chat", "embeddings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A call begins; `call` is its id in the log."""

    call: str
    operation: Operation
    stream: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An attempt is about to be made: `number` counts from 1, `reason` says why it is not the first."""

    call: str
    number: int
    backend: str
    model: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstEvent:
    """The first event of a streamed answer is about to be handed to the caller."""

    call: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """An attempt has ended: with a `response`, or with an `error`.

    `record` is what the response's or error's `attempts` tell of it; None where nothing of it is on record.
    """

    call: str
    number: int
    backend: str
    record: AttemptRecord | None
    response: ModelResponse | EmbeddingResponse | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The call waits, for a retry's backoff (`seconds` of it) or in line for a limit (`seconds` is what is expected)."""

    call: str
    reason: Literal["retry", "limit"]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """The call has ended: with a `response` (from a cache where `response.cached`), or with an `error`."""

    call: str
    attempts: tuple[AttemptRecord, ...]
    response: ModelResponse | EmbeddingResponse | None = None
    error: BaseException | None = None


Observation: TypeAlias = CallStarted | AttemptStarted | FirstEvent | AttemptEnded | Waiting | CallEnded
Observer: TypeAlias = Callable[[Observation], object]


class Observers:
    """Hands observations on; false where nobody watches, so that none need be made.

    Args:
        observers: who watches, in the order in which they are told.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, observation: Observation) -> None:
        """Tell each observer; what one raises is logged, once for each."""
        for place, observer in enumerate(self._observers):
            try:
                observer(observation)
            except Exception as error:  # noqa: BLE001  (the rule at the head: an observer changes nothing)
                if place not in self._failed:
                    self._failed.add(place)
                    _LOGGER.warning("the observer %r raised %s; it is told on", observer, type(error).__name__)
