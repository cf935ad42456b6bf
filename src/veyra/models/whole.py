"""Attempts whose answer comes whole: vectors, and counts of tokens. They pass the gate by the rules that answers do.

A count is recorded like any other call: the prompt leaves for the provider with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from veyra.audit import AuditLog
from veyra.errors import BackendError, MalformedResponseError
from veyra.models import record
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.clock import Clock
from veyra.models.entries import Asked, Entries, Said, prepared
from veyra.policy import prices
from veyra.transport.base import Head
from veyra.types import (
    AttemptRecord,
    Embedded,
    EmbeddingResponse,
    EmbedRequest,
    ModelWarning,
    Request,
    Timeouts,
    TokenCount,
    Usage,
)

_T = TypeVar("_T")


class EmbedAttempt:
    """One try at the vectors of some texts.

    Args:
        backend: who is asked.
        request: what is asked.
        log: where intent and outcome go; None records nothing (`audit="off"`).
        call: the id of the call that the attempt belongs to.
        earlier: the tries of the call before this one.
        notes: attributes of the intent besides those of the request: why the attempt is made.
    """

    streamed = False
    """Vectors come whole."""

    def __init__(
        self,
        backend: BaseModelBackend,
        request: EmbedRequest,
        log: AuditLog | None,
        *,
        call: str,
        earlier: tuple[AttemptRecord, ...] = (),
        notes: Mapping[str, object] | None = None,
    ) -> None:
        self._backend = backend
        self._request = request
        self._earlier = earlier
        self._notes = notes
        self._entries = Entries(log, backend=backend.name, call=call, number=len(earlier) + 1, model=request.model)
        self._exchange: Exchange | None = None

    @property
    def head(self) -> Head | None:
        """The status and headers that the provider answered with; None where there are none, or none yet."""
        return None if self._exchange is None else self._exchange.head

    @property
    def exchange(self) -> Exchange | None:
        """What is sent and what came of it; None before it is prepared."""
        return self._exchange

    @property
    def failed(self) -> AttemptRecord | None:
        """What is told of the attempt once it has failed; None where nothing of it is on record."""
        return self._entries.failed

    @property
    def sent(self) -> bool:
        """Whether something may have been sent: the intent is on record where there is a log."""
        return self._entries.is_open

    async def collect(self) -> EmbeddingResponse:
        """Carry the attempt out and return its response.

        Raises:
            AuditUnavailableError: the intent could not be recorded; nothing was sent.
            AuditWriteError: the outcome could not be recorded; `embedding` carries the answer.
            ProviderError: the attempt failed.
        """
        request, entries = self._request, self._entries
        exchange = prepared(self._backend, lambda: self._backend.prepare_embedding(request), request.model)
        self._exchange = exchange
        await entries.open(exchange, lambda: self._asked(exchange))
        response, said = await _asked(entries, request.timeout, lambda: self._ask(exchange))
        receipt = await entries.close("ok", said, response)
        row = entries.row(response.model, receipt, usage=response.usage, cost=response.cost)
        return replace(response, receipt=receipt, attempts=(*self._earlier, row))

    def _asked(self, exchange: Exchange) -> Asked:
        attributes = record.embedding_attributes(self._request, exchange)
        return {**attributes, **(self._notes or {})}, record.embedding_parts(self._request, exchange)

    async def _ask(self, exchange: Exchange) -> tuple[EmbeddingResponse, Said]:
        found = await _vectors(self._backend, self._request, exchange)
        latency = self._entries.stop()
        model = found.model or self._request.model or ""
        price = prices.cost(exchange.provider, model, _priced(found), datetime.now(UTC))
        response = EmbeddingResponse(
            vectors=found.vectors,
            model=model,
            backend=self._backend.name,
            latency_ms=latency,
            usage=found.usage,
            cost=None if price is None else price.amount,
            request_id=found.request_id,
            warnings=(*exchange.warnings, *_warnings(self._request, found)),
            attempts=(*self._earlier, self._entries.row(model, None)),
        )
        return response, self._entries.said(response, found=found, price=price)


async def count(
    backend: BaseModelBackend, request: Request, exchange: Exchange, log: AuditLog | None, *, call: str
) -> TokenCount:
    """Carry out one attempt at a count of tokens; `exchange` is what `prepare_counting` gave.

    Raises:
        AuditUnavailableError: the intent could not be recorded; nothing was sent.
        AuditWriteError: the outcome could not be recorded.
        ProviderError: the attempt failed.
    """
    entries = Entries(log, backend=backend.name, call=call, model=request.model)
    await entries.open(
        exchange,
        lambda: (
            record.intent_attributes(request, exchange, operation="count_tokens"),
            record.intent_parts(request, exchange),
        ),
    )

    async def ask() -> tuple[TokenCount, Said]:
        counted = await backend.counting(request, exchange)
        if not isinstance(counted, TokenCount):
            msg = f"backend {backend.name!r} returned {type(counted).__name__} from counting(), not a TokenCount"
            raise BackendError(msg)
        entries.stop()
        return counted, entries.said(counted)

    counted, said = await _asked(entries, request.timeout, ask)
    await entries.close("ok", said)
    return counted


async def _asked(entries: Entries, limits: Timeouts | None, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Return what the backend answers within the limits, or record how the attempt ended and raise."""
    clock = Clock(limits or Timeouts())
    try:
        with clock:
            return await ask()
    except BaseException as error:  # noqa: BLE001  (whatever ends an attempt is recorded; raised again there)
        entries.stop()
        await entries.fail(error)
    finally:
        clock.stop()


async def _vectors(backend: BaseModelBackend, request: EmbedRequest, exchange: Exchange) -> Embedded:
    """Return what the backend found: a vector for each text, no more and no fewer."""
    found = await backend.embedding(request, exchange)
    if not isinstance(found, Embedded):
        msg = f"backend {backend.name!r} returned {type(found).__name__} from embedding(), not Embedded"
        raise BackendError(msg)
    if len(found.vectors) != len(request.texts):
        msg = f"{backend.name}: {len(found.vectors)} vectors came for {len(request.texts)} texts"
        raise MalformedResponseError(msg, request_id=found.request_id)
    return found


def _priced(found: Embedded) -> Usage:
    """Return the usage to be priced: vectors are no output."""
    return Usage(input_total=found.usage.input_total, output_total=0)


def _warnings(request: EmbedRequest, found: Embedded) -> tuple[ModelWarning, ...]:
    length = len(found.vectors[0])
    if request.dimensions in {None, length}:
        return ()
    message = f"the vectors have {length} dimensions, not the {request.dimensions} that were asked for"
    return (ModelWarning("unsupported_parameter", message, "dimensions"),)
