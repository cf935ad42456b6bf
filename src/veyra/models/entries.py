"""The two entries of one attempt, whatever is asked in it, and the judgement of what went wrong between them.

Of the gate's rules (`veyra.models.gate`) these are kept here: one outcome for each intent, and no foreign exception and
no key in what gets out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import NoReturn, TypeAlias, TypeVar

from veyra.audit import AuditLog, BodyPart
from veyra.audit.redact import redact_text
from veyra.errors import (
    AuditWriteError,
    BackendError,
    CallTimeoutError,
    IncompleteStreamError,
    ProviderError,
    VeyraError,
)
from veyra.models import record
from veyra.models.base import BaseModelBackend, Exchange
from veyra.policy.prices import Cost
from veyra.types import (
    AttemptRecord,
    Embedded,
    EmbeddingResponse,
    Finish,
    ModelResponse,
    Receipt,
    Secret,
    TokenCount,
    Usage,
)

_E = TypeVar("_E", bound=Exchange | None)

Asked: TypeAlias = tuple[Mapping[str, object], list[BodyPart]]
"""What an intent says: its attributes and its bodies."""
Said: TypeAlias = tuple[Mapping[str, object], list[BodyPart]]
"""What an outcome says: the same."""


_NOT_STATED = Usage()


class Entries:
    """Writes the intent and the outcome of one attempt.

    Args:
        log: where they go; None records nothing (`audit="off"`).
        backend: the name of the backend that is asked.
        call: the id of the call that the attempt belongs to.
        number: which try of the call this is, from 1.
        model: the model that is asked for.
    """

    def __init__(self, log: AuditLog | None, *, backend: str, call: str, number: int = 1, model: str | None) -> None:
        self._log = log
        self._backend = backend
        self._call = call
        self._number = number
        self._model = model
        self._exchange = Exchange(provider=backend)
        self._intent: Receipt | None = None
        self._latency = 0
        self.failed: AttemptRecord | None = None
        """What is told of the attempt once it has failed and that is on record."""
        self.is_open = False
        """The intent is durable where there is a log: from here on something may be sent."""

    async def open(self, exchange: Exchange, asked: Callable[[], Asked]) -> None:
        """Make the intent durable; the attempt's time runs from here.

        Args:
            exchange: what is about to be made.
            asked: says what the intent says; called only where there is a log.

        Raises:
            AuditUnavailableError: it could not be recorded, so nothing may be sent.
        """
        self._exchange = exchange
        if self._log is not None:
            attributes, parts = asked()
            self._intent = await self._log.intent(
                call=self._call, attempt=self._number, backend=self._backend, attributes=attributes, parts=parts
            )
        self.is_open = True
        exchange.started_ns = time.monotonic_ns()

    def stop(self) -> float:
        """Stop the attempt's time and return it, in milliseconds."""
        self._latency = time.monotonic_ns() - self._exchange.started_ns
        return self._latency / 1e6

    def said(
        self,
        answer: ModelResponse | EmbeddingResponse | TokenCount | None,
        *,
        finish: Finish | None = None,
        found: Embedded | None = None,
        price: Cost | None = None,
        error: BaseException | None = None,
    ) -> Said:
        """Return what the outcome says: nothing where there is no log. The arguments are those of `record`."""
        if self._log is None:
            return {}, []
        attributes = record.outcome_attributes(self._exchange, finish=finish, found=found, price=price, error=error)
        if isinstance(answer, TokenCount):
            attributes["veyra.tokens"] = answer.tokens
        return attributes, record.outcome_parts(self._exchange, answer)

    async def close(
        self,
        status: str,
        said: Said,
        answer: ModelResponse | EmbeddingResponse | None = None,
    ) -> Receipt | None:
        """Make the outcome durable, and return where it stands.

        All that it says is worked out before: from here on nothing but the log can fail.

        Raises:
            AuditWriteError: it could not be recorded; carries the answer.
        """
        if self._log is None or self._intent is None:
            return None
        attributes, parts = said
        try:
            return await self._log.outcome(
                intent=self._intent,
                call=self._call,
                attempt=self._number,
                backend=self._backend,
                status=status,
                latency_ns=self._latency,
                attributes=attributes,
                parts=parts,
            )
        except AuditWriteError as error:
            if isinstance(answer, ModelResponse):
                error.response = answer
            elif isinstance(answer, EmbeddingResponse):
                error.embedding = answer
            raise

    async def fail(self, error: BaseException, *, text: str = "", partial: ModelResponse | None = None) -> NoReturn:
        """Record how the attempt ended, and raise what the caller is to see. The attempt's time has been stopped.

        Args:
            error: what ended it.
            text: the text that came before.
            partial: the same as an answer, for the record.
        """
        status, seen = self._judge(error, text)
        receipt = await self.close(status, self.said(partial, error=seen), partial)
        kind = seen.kind if isinstance(seen, ProviderError) else type(seen).__name__
        failed = self.row(self._model, receipt, status=status, error=kind)
        self.failed = replace(
            failed, ambiguous=partial is not None or (isinstance(seen, ProviderError) and seen.ambiguous)
        )
        if seen is error:
            raise seen
        raise seen from error

    def complete(self, failure: ProviderError, text: str = "") -> None:
        """Add what only the gate knows to an error, and mask keys in it."""
        failure.provider = failure.provider or self._exchange.provider
        failure.model = failure.model or self._model
        failure.partial = failure.partial or text
        if failure.status is None and self._exchange.head is not None:
            failure.status = self._exchange.head.status
            failure.request_id = failure.request_id or self._exchange.request_id
        masked(failure, self._exchange.secrets)

    def row(
        self,
        model: str | None,
        receipt: Receipt | None,
        *,
        status: str = "ok",
        error: str | None = None,
        usage: Usage = _NOT_STATED,
        cost: Decimal | None = None,
    ) -> AttemptRecord:
        """Return what a response tells of the attempt: `status` as in the log, `error` None where it ended well."""
        return AttemptRecord(
            number=self._number,
            backend=self._backend,
            model=model,
            status=status,
            latency_ms=self._latency / 1e6,
            error=error,
            usage=usage,
            cost=cost,
            receipt=receipt,
        )

    def _judge(self, error: BaseException, text: str) -> tuple[str, BaseException]:
        """Return the status of an attempt that ended so, and the error that the caller is to see."""
        failure = owned(error, self._backend, self._exchange.provider)
        if isinstance(failure, ProviderError):
            self.complete(failure, text)
            if isinstance(failure, CallTimeoutError):
                return "timeout", failure
            return "incomplete" if isinstance(failure, IncompleteStreamError) else "error", failure
        return "error" if isinstance(failure, VeyraError) else "cancelled", failure


def prepared(backend: BaseModelBackend, prepare: Callable[[], _E], model: str | None) -> _E:
    """Return what a backend prepares for a call; nothing is recorded or sent yet.

    Raises:
        ProviderError: the request cannot be made with this backend.
    """
    try:
        return prepare()
    except Exception as error:
        failure = owned(error, backend.name, backend.name)
        if isinstance(failure, ProviderError):
            failure.model = failure.model or model
        if failure is error:
            raise
        raise failure from error


def owned(error: BaseException, backend: str, provider: str) -> BaseException:
    """Return an error of ours in the place of an exception of the backend's own; what is no failure stays as it is."""
    if not isinstance(error, Exception) or isinstance(error, VeyraError):
        return error
    return BackendError(f"backend {backend!r} raised {type(error).__name__}: {error}", provider=provider)


def masked(failure: ProviderError, secrets: tuple[Secret, ...]) -> ProviderError:
    """Mask the keys wherever they turn up in an error, and return it."""
    for name in ("message", "partial", "provider_type", "provider_code", "request_id"):
        value = getattr(failure, name)
        if value:
            setattr(failure, name, redact_text(value, secrets))
    failure.args = (failure.message,)
    return failure
