"""What a client tells those who watch it: frozen values, handed to plain callables.

An observer is for metrics, traces and progress. It is called on the event loop, between the steps of a call, so it must not
block. Whatever it raises is logged once for each observer (`veyra.client`, a warning) and changes nothing: what may not
fail is a stage of the call, and no observer.

No key is in any of these values. Prompts are in `AttemptStarted.request`, answers in `response` and in the `error` of an answer
that broke off or did not fit; a `repr` shows no prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from veyra.errors import InvalidRequestError
from veyra.types import AttemptRecord, EmbeddingResponse, EmbedRequest, ModelResponse, Request

_LOGGER = logging.getLogger("veyra.client")

_LONGEST_ID = 128

Operation: TypeAlias = Literal["chat", "embeddings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A call begins; `call` is its id in the log, `conversation` the id of the one that it belongs to."""

    call: str
    operation: Operation
    stream: bool
    conversation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An attempt is about to be made: `number` counts from 1, `reason` says why it is not the first, `request` what is asked."""

    call: str
    number: int
    backend: str
    model: str | None
    reason: str | None
    request: Request | EmbedRequest = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstEvent:
    """The first event of a streamed answer is about to be handed to the caller."""

    call: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """An attempt has ended: with a `response`, or with an `error`. `model` is the one that was asked for.

    `record` is what the response's or error's `attempts` tell of it; None where nothing of it is on record. `provider` is
    who was asked, as OpenTelemetry spells it; `url` is where it was sent, and `status` the HTTP status that came, where
    there is such a thing.
    """

    call: str
    number: int
    backend: str
    model: str | None
    record: AttemptRecord | None
    provider: str
    url: str | None = None
    status: int | None = None
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


@runtime_checkable
class Tracing(Protocol):
    """An observer that knows which trace a call belongs to: that goes on record with each of the call's entries."""

    def __call__(self, observation: Observation, /) -> object:
        """Take an observation."""

    def trace_id(self, call: str) -> str | None:
        """Return the id of the trace that a call belongs to; asked once, after `CallStarted` was told."""


class Observers:
    """Hands observations on; false where nobody watches, so that none need be made.

    Args:
        observers: who watches, in the order in which they are told.

    Raises:
        InvalidRequestError: one cannot be called, or would have to be awaited.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = _checked(observers)
        self._tracing = [(place, one) for place, one in enumerate(self._observers) if isinstance(one, Tracing)]
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, observation: Observation) -> None:
        """Tell each observer; what one raises is logged, once for each."""
        for place, observer in enumerate(self._observers):
            try:
                observer(observation)
            except Exception as error:  # noqa: BLE001  (the rule at the head: an observer changes nothing)
                self._note(place, error)

    def trace_id(self, call: str) -> str | None:
        """Return the id of the trace that a call belongs to, from the first observer that knows; None where none does."""
        for place, observer in self._tracing:
            try:
                found = observer.trace_id(call)
            except Exception as error:  # noqa: BLE001  (as above)
                self._note(place, error)
                continue
            if isinstance(found, str) and found and len(found) <= _LONGEST_ID:
                return found
        return None

    def _note(self, place: int, error: Exception) -> None:
        if place not in self._failed:
            self._failed.add(place)
            _LOGGER.warning("the observer %r raised %s; it is told on", self._observers[place], type(error).__name__)


def _checked(observers: object) -> tuple[Observer, ...]:
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        msg = f"observers is a sequence of functions, [function, ...], not {type(observers).__name__}"
        raise InvalidRequestError(msg)
    several = tuple(observers)
    for one in several:
        if not callable(one):
            msg = f"observers are functions of an observation, not {type(one).__name__}"
            raise InvalidRequestError(msg)
        if iscoroutinefunction(one) or iscoroutinefunction(getattr(one, "__call__", None)):  # noqa: B004  (its own)
            msg = f"an observer is not awaited, so a plain function, not the async {one!r}"
            raise InvalidRequestError(msg)
    return several
