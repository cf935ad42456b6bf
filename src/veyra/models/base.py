"""The contract of ADR-0001: what a backend is, and what the base class does for it.

A backend has a name and two methods, `generate` and `health_check`. That is enough: got through `get_backend` or
`Client` it is streamed, timed, recorded and governed like the built-in ones. A backend that can do more overrides
`events` (and `prepare`, where it can say which bytes it will send) and lets `EventBackend` give it the rest.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from veyra.errors import BackendError, MalformedResponseError, UnsupportedParameterError
from veyra.models.request import given_options
from veyra.transport.base import Head, Outgoing
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    Finish,
    ModelInfo,
    ModelResponse,
    ModelWarning,
    Options,
    ReasoningDelta,
    Request,
    Secret,
    TextDelta,
    TokenCount,
    ToolCallDelta,
    Usage,
)

ANSWER_LIMIT = 256 * 1024 * 1024
"""Bytes of an answer that are taken at most."""


class Exchange:
    """The bytes of one attempt: what is sent and what came, kept for the record.

    A backend that talks to a server sets `outgoing` in `prepare` and reports what arrives with `answered` and
    `received`; a backend that does not talk to one leaves it empty.
    """

    __slots__ = (
        "applied",
        "arrivals",
        "body",
        "cut",
        "dialect",
        "head",
        "outgoing",
        "provider",
        "request_id",
        "secrets",
        "size",
        "started_ns",
        "warnings",
    )

    def __init__(
        self,
        *,
        provider: str,
        outgoing: Outgoing | None = None,
        dialect: str | None = None,
        applied: Mapping[str, Any] | None = None,
        warnings: tuple[ModelWarning, ...] = (),
        secrets: tuple[Secret, ...] = (),
    ) -> None:
        self.provider = provider
        """Who is asked, as OpenTelemetry spells it (`gen_ai.provider.name`)."""
        self.outgoing = outgoing
        self.dialect = dialect
        self.applied = applied or {}
        """Options that are sent although the caller did not set them."""
        self.warnings = warnings
        """What will not be sent as the caller asked; told as the first events."""
        self.secrets = secrets
        """Keys in use: masked wherever they turn up in errors and in the record."""
        self.head: Head | None = None
        self.request_id: str | None = None
        """The provider's id for the exchange, from the head: also for an answer that breaks off or does not end."""
        self.body: list[bytes] = []
        self.size = 0
        """Bytes of `body`."""
        self.cut = False
        """The connection broke within the body."""
        self.arrivals: list[int] = []
        """When each piece of `body` came, in ns after the start."""
        self.started_ns = time.monotonic_ns()

    def answered(self, head: Head, *, request_id: str | None = None) -> None:
        """Note the answer's status and headers, and the provider's id for the exchange, where they tell it."""
        self.head = head
        self.request_id = request_id

    def received(self, data: bytes) -> None:
        """Note the next bytes of the answer.

        Raises:
            MalformedResponseError: it is longer than `ANSWER_LIMIT`.
        """
        self.size += len(data)
        if self.size > ANSWER_LIMIT:
            msg = f"{self.provider}: the answer is longer than {ANSWER_LIMIT:,} bytes"
            raise MalformedResponseError(msg)
        self.body.append(data)
        self.arrivals.append(time.monotonic_ns() - self.started_ns)


class BaseModelBackend(ABC):
    """A way to ask models: implement `generate` and `health_check` and set `name`.

    A backend handles its own provider's errors: what it raises should be a `veyra.errors.ProviderError`. Anything
    else that escapes is wrapped in a `BackendError` by the gate.
    """

    name: str

    @abstractmethod
    async def generate(self, prompt: str, **options: Unpack[Options]) -> ModelResponse:
        """Ask once and return the whole answer.

        Called by the gate with the prompt as the caller gave it (a `str` or a sequence of `Message`) and with the
        options that were set; a backend may ignore options it does not know only if it says so in `warnings`.

        Raises:
            ProviderError: the attempt failed.
        """

    @abstractmethod
    async def health_check(self) -> bool:
        """Say whether the backend could serve a call now. Costs nothing, loads no model, raises nothing."""

    def defaults(self) -> Mapping[str, Any]:
        """Return the options that a call gets where its caller gave none (`model`, say)."""
        return {}

    def identity(self) -> Mapping[str, object] | None:
        """Return what tells it from others of its name and class, apart from keys: plain values and frozen dataclasses.

        Where two backends give the same, an answer of one may stand for one of the other, from a cache. None, as this
        default says, where it does not tell.
        """
        return None

    def prepare(self, request: Request) -> Exchange:  # noqa: ARG002  (a backend without bytes needs no request)
        """Return the exchange that a call would make, with the exact bytes to send where there are any.

        Runs before the intent is recorded, so it must not do I/O.

        Raises:
            ProviderError: the request cannot be made with this backend; nothing is recorded or sent.
        """
        return Exchange(provider=self.name)

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:  # noqa: ARG002
        """Carry out an attempt and yield its events, exactly one `Finish` last. Called by the gate alone.

        This default serves backends of two methods: it asks `generate` and tells its answer as events.
        """
        response = await self.generate(request.prompt, **given_options(request))  # type: ignore[arg-type]  # ADR: str
        if not isinstance(response, ModelResponse):
            msg = f"backend {self.name!r} returned {type(response).__name__} from generate(), not a ModelResponse"
            raise BackendError(msg, provider=self.name)
        for event in events_of(response):
            yield event

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        """Return the exchange that a call for vectors would make, as `prepare` does for an answer.

        Raises:
            UnsupportedParameterError: the backend has no embeddings, as this default says.
            ProviderError: the request cannot be made with this backend; nothing is recorded or sent.
        """
        msg = f"backend {self.name!r} has no embeddings: ask one that has"
        raise UnsupportedParameterError(msg, provider=self.name, model=request.model)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:  # noqa: ARG002
        """Carry out an attempt and return the vectors. Called by the gate alone, after `prepare_embedding`."""
        msg = f"backend {self.name!r} prepares calls for vectors and does not make them"
        raise BackendError(msg, provider=self.name)

    async def models(self, *, details: bool = False) -> tuple[ModelInfo, ...]:  # noqa: ARG002  (nothing to tell)
        """Return what there is to ask; costs nothing, loads no model, is not recorded.

        Args:
            details: ask on for what the list does not tell, one request for each model, where the provider has it so.

        Raises:
            UnsupportedParameterError: the backend has no list, as this default says.
            ProviderError: the list could not be had.
        """
        msg = f"backend {self.name!r} has no list of models"
        raise UnsupportedParameterError(msg, provider=self.name)

    def prepare_counting(self, request: Request) -> Exchange | None:  # noqa: ARG002  (nobody is asked)
        """Return the exchange that counts the tokens of a prompt, or None where nobody counts and it is estimated.

        Raises:
            ProviderError: the request cannot be made with this backend; nothing is recorded or sent.
        """
        return None

    async def counting(self, request: Request, exchange: Exchange) -> TokenCount:  # noqa: ARG002
        """Carry out an attempt and return the count. Called by the gate alone, after `prepare_counting` gave an exchange."""
        msg = f"backend {self.name!r} prepares counts of tokens and does not make them"
        raise BackendError(msg, provider=self.name)

    async def aclose(self) -> None:  # noqa: B027  (a backend that holds nothing has nothing to close)
        """Close what the backend holds open. It can be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def events_of(response: ModelResponse) -> list[Event]:
    """Tell a whole response as events, `Finish` last. Token counts of 0 without a usage are "not stated"."""
    events: list[Event] = list(response.warnings)
    if response.reasoning:
        events.append(ReasoningDelta(response.reasoning))
    if response.content:
        events.append(TextDelta(response.content))
    events += [ToolCallDelta(i, call.id, call.name, call.raw) for i, call in enumerate(response.tool_calls)]
    usage = response.usage
    if usage == Usage():
        usage = Usage(input_total=response.prompt_tokens or None, output_total=response.completion_tokens or None)
    events.append(
        Finish(
            reason=response.finish_reason,
            raw_reason=response.raw_finish_reason,
            usage=usage,
            model=response.model,
            response_id=response.response_id,
            request_id=response.request_id,
            tool_calls=response.tool_calls,
            parts=response.parts,
        )
    )
    return events
