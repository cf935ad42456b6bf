"""What a call asks, and how an attempt at it is made for each target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from veyra.client.observe import Operation
from veyra.client.station import Station
from veyra.errors import OutputMismatchError
from veyra.models.base import Exchange
from veyra.models.gate import DEFAULT_TIMEOUTS, Attempt
from veyra.models.request import build_embed_request, build_request, repaired
from veyra.models.whole import EmbedAttempt
from veyra.transport.base import Head
from veyra.types import AttemptRecord, EmbeddingResponse, EmbedRequest, ModelResponse, Prompt, Request, Timeouts

R_co = TypeVar("R_co", bound=ModelResponse | EmbeddingResponse, covariant=True)
T_co = TypeVar("T_co", bound="Try[Any]", covariant=True)


class Try(Protocol[R_co]):
    """An attempt, as far as the call that makes it goes."""

    @property
    @abstractmethod
    def streamed(self) -> bool:
        """Whether an event with content came."""

    @property
    @abstractmethod
    def failed(self) -> AttemptRecord | None:
        """What is told of it once it has failed."""

    @property
    @abstractmethod
    def sent(self) -> bool:
        """Whether something may have been sent."""

    @property
    @abstractmethod
    def head(self) -> Head | None:
        """What the provider answered with."""

    @property
    @abstractmethod
    def exchange(self) -> Exchange | None:
        """What is sent and what came of it; None before it is prepared."""

    @abstractmethod
    async def collect(self) -> R_co:
        """Carry it out."""


class Question(Protocol[T_co]):
    """What is asked, whoever is asked it."""

    operation: Operation
    stream: bool

    @abstractmethod
    def request(self, station: Station) -> Request | EmbedRequest:
        """Return what a target is asked; raises `InvalidRequestError` where it cannot be asked there."""

    @abstractmethod
    def model(self, station: Station) -> str | None:
        """Return the model that is asked for at a target."""

    @abstractmethod
    def attempt(
        self,
        station: Station,
        *,
        call: str,
        earlier: tuple[AttemptRecord, ...],
        notes: Mapping[str, object] | None,
        total: float | None,
    ) -> T_co:
        """Return an attempt at a target that takes `total` seconds at most."""

    @abstractmethod
    def repair(self, error: OutputMismatchError, *, done: int) -> bool:
        """Ask from now on for a better answer at the same target; False where that has been done often enough."""


class Answering:
    """A prompt that wants an answer.

    Args:
        prompt: as given.
        options: as given.
        stream: whether the answer is read as it comes.
        max_prompt_bytes: text that is let through.
    """

    operation: Operation = "chat"

    def __init__(self, prompt: Prompt, options: Mapping[str, Any], *, stream: bool, max_prompt_bytes: int) -> None:
        self.stream = stream
        self._prompt = prompt
        self._options = options
        self._max_prompt_bytes = max_prompt_bytes
        self._station: Station | None = None
        self._request: Request | None = None

    def request(self, station: Station) -> Request:
        """Return what a target is asked: built once for as long as it is the one that is asked.

        Raises:
            InvalidRequestError: the prompt or an option is wrong.
        """
        if self._request is None or self._station is not station:
            self._station = station
            self._request = build_request(
                self._prompt,
                self._options,
                stream=self.stream,
                defaults=station.backend.defaults(),
                max_prompt_bytes=self._max_prompt_bytes,
            )
        return self._request

    def model(self, station: Station) -> str | None:
        """Return the model that is asked for at a target."""
        return self.request(station).model

    def attempt(
        self,
        station: Station,
        *,
        call: str,
        earlier: tuple[AttemptRecord, ...],
        notes: Mapping[str, object] | None,
        total: float | None,
    ) -> Attempt:
        """Return an attempt at a target that takes `total` seconds at most."""
        request = self.request(station)
        if total is not None:
            request = replace(request, timeout=_within(request.timeout, total))
        return Attempt(station.backend, request, station.log, call=call, earlier=earlier, notes=notes)

    def repair(self, error: OutputMismatchError, *, done: int) -> bool:
        """Ask from now on for a better answer at the same target; False where that has been done often enough."""
        if self._request is None:
            return False
        again = repaired(self._request, error.response, str(error), done=done)
        if again is None:
            return False
        self._request = again
        return True


class Embedding:
    """Texts that want vectors; the arguments as for `Answering`."""

    operation: Operation = "embeddings"
    stream = False

    def __init__(self, texts: str | Sequence[str], options: Mapping[str, Any], *, max_prompt_bytes: int) -> None:
        self._texts = texts
        self._options = options
        self._max_prompt_bytes = max_prompt_bytes

    def request(self, station: Station) -> EmbedRequest:
        """Return what a target is asked; raises `InvalidRequestError` where the texts or an option are wrong."""
        return build_embed_request(
            self._texts, self._options, defaults=station.backend.defaults(), max_prompt_bytes=self._max_prompt_bytes
        )

    def model(self, station: Station) -> str | None:
        """Return the model that is asked for at a target."""
        return self.request(station).model

    def attempt(
        self,
        station: Station,
        *,
        call: str,
        earlier: tuple[AttemptRecord, ...],
        notes: Mapping[str, object] | None,
        total: float | None,
    ) -> EmbedAttempt:
        """Return an attempt at a target that takes `total` seconds at most."""
        request = self.request(station)
        if total is not None:
            request = replace(request, timeout=_within(request.timeout, total))
        return EmbedAttempt(station.backend, request, station.log, call=call, earlier=earlier, notes=notes)

    def repair(self, error: OutputMismatchError, *, done: int) -> bool:  # noqa: ARG002  (vectors have no form to miss)
        """Say that there is nothing to repair."""
        return False


def _within(timeouts: Timeouts | None, total: float) -> Timeouts:
    timeouts = DEFAULT_TIMEOUTS if timeouts is None else timeouts
    return replace(timeouts, total=total if timeouts.total is None else min(total, timeouts.total))
