"""The audit gate: every attempt passes here, whichever backend serves it and however it was asked.

The rules, each of which the tests break once to see it hold:

1. No record, no call. The intent is durable before the backend is asked for its first event.
2. No answer without a record. The outcome is durable before `Finish` is handed on, and before any error is.
3. One outcome for each intent, whatever happens: `ok`, `error`, `timeout`, `incomplete` or `cancelled`.
4. A backend's own exceptions do not get out; keys do not get out or into the record.
5. `Finish` comes exactly once, last; an answer without one is incomplete.

`Attempt.events` holds the one call of `backend.events` in the house.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Protocol, Self, Unpack

from veyra import schema
from veyra.audit import AuditLog
from veyra.audit.entry import new_id
from veyra.errors import (
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    OutputMismatchError,
)
from veyra.models import record, whole
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.clock import Clock
from veyra.models.contract import check
from veyra.models.entries import Asked, Entries, Said, owned, prepared
from veyra.models.estimate import estimate
from veyra.models.request import MAX_PROMPT_BYTES, build_embed_request, build_request, repaired
from veyra.policy import prices
from veyra.transport.base import Head
from veyra.types import (
    AttemptRecord,
    EmbeddingResponse,
    EmbedOptions,
    Event,
    Finish,
    ModelInfo,
    ModelResponse,
    ModelWarning,
    Options,
    Prompt,
    ReasoningDelta,
    Receipt,
    Request,
    TextDelta,
    Timeouts,
    TokenCount,
)

DEFAULT_TIMEOUTS = Timeouts()
_END: Any = object()
"""Stands for the end of a backend's events."""
HEALTH_TIMEOUTS = Timeouts(first_token=None, between_events=None, total=10.0)
LIST_TIMEOUTS = Timeouts(first_token=None, between_events=None, total=60.0)
"""For a list of models, all of its pages."""


class _Answer(NamedTuple):
    """How an attempt ended: `latency` in ms, `status` as in the log."""

    finish: Finish
    latency: float
    price: prices.Cost | None = None
    status: str = "ok"


class _Outcome(NamedTuple):
    """What is about to be recorded of an attempt whose answer came whole; `failure` where the answer does not fit."""

    answer: _Answer
    response: ModelResponse
    failure: OutputMismatchError | None
    said: Said


class Attempt:
    """One try at one backend: its events, and, when they have ended well, its `response`.

    Args:
        backend: who is asked.
        request: what is asked.
        log: where intent and outcome go; None records nothing (`audit="off"`).
        call: the id of the call that the attempt belongs to.
        earlier: the tries of the call before this one.
        notes: attributes of the intent besides those of the request: why the attempt is made.

    Attributes:
        streamed: whether an event with content came.
    """

    def __init__(
        self,
        backend: BaseModelBackend,
        request: Request,
        log: AuditLog | None,
        *,
        call: str,
        earlier: tuple[AttemptRecord, ...] = (),
        notes: Mapping[str, object] | None = None,
    ) -> None:
        self.backend = backend
        self.request = request
        self.call = call
        self.number = number = len(earlier) + 1
        self.earlier = earlier
        self.response: ModelResponse | None = None
        self.streamed = False
        self._notes = notes
        self._exchange: Exchange | None = None
        self._entries = Entries(log, backend=backend.name, call=call, number=number, model=request.model)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._warnings: list[ModelWarning] = []
        self._output: object = None

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

    async def events(self) -> AsyncGenerator[Event, None]:
        """Carry the attempt out and yield its events. To be iterated once, and closed.

        Raises:
            AuditUnavailableError: the intent could not be recorded; nothing was sent.
            AuditWriteError: the outcome could not be recorded; carries the answer.
            ProviderError: the attempt failed; `partial` holds the text that came.
        """
        exchange = prepared(self.backend, lambda: self.backend.prepare(self.request), self.request.model)
        self._exchange = exchange
        await self._entries.open(exchange, lambda: self._asked(exchange))
        clock = Clock(self.request.timeout or DEFAULT_TIMEOUTS)
        try:
            async with aclosing(self.backend.events(self.request, exchange)) as events:
                while True:
                    with clock:
                        event = await anext(events, _END)
                    if event is _END:
                        raise self._cut()  # noqa: TRY301  (one place judges all failures)
                    check(event, self.backend.name)
                    if isinstance(event, Finish):
                        break
                    self._keep(event)
                    if not isinstance(event, ModelWarning):
                        self.streamed = True
                        clock.content()
                    yield event
            outcome = self._ended(event, exchange)
        except BaseException as error:  # noqa: BLE001  (rule 3: whatever ends an attempt is recorded; raised again there)
            await self._fail(error)
        finally:
            clock.stop()
        await self._succeed(outcome)
        yield event

    async def collect(self) -> ModelResponse:
        """Carry the attempt out and return its response; raises as `events`."""
        async with aclosing(self.events()) as events:
            async for _ in events:
                pass
        if self.response is None:  # events ends with Finish or an error
            raise AssertionError
        return self.response

    def _keep(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._text.append(event.text)
        elif isinstance(event, ReasoningDelta):
            self._reasoning.append(event.text)
        elif isinstance(event, ModelWarning):
            self._warnings.append(event)

    def _asked(self, exchange: Exchange) -> Asked:
        attributes = record.intent_attributes(self.request, exchange)
        return {**attributes, **(self._notes or {})}, record.intent_parts(self.request, exchange)

    def _ended(self, finish: Finish, exchange: Exchange) -> _Outcome:
        """Work out all that is recorded of an answer; what is wrong with it shows here, while there is no outcome yet."""
        latency = self._entries.stop()
        price = prices.cost(
            exchange.provider, finish.model or self.request.model or "", finish.usage, datetime.now(UTC)
        )
        unfit = self._read_output(finish)
        answer = _Answer(finish, latency, price, "ok" if unfit is None else "error")
        response = self._respond(answer)
        failure = None if unfit is None else OutputMismatchError(unfit, response=response)
        said = self._entries.said(response, finish=finish, price=price, error=failure)
        return _Outcome(answer, response, failure, said)

    async def _succeed(self, outcome: _Outcome) -> None:
        answer, response, failure, said = outcome
        receipt = await self._entries.close(answer.status, said, response)
        if receipt is not None:
            _place(response, receipt)
        if failure is not None:
            self._entries.complete(failure, response.content)
            raise failure
        self.response = response

    def _read_output(self, finish: Finish) -> str | None:
        """Read the answer into the type that was asked for, and return what is wrong with it, if anything.

        Where the model called tools or would not answer, there is nothing to read.
        """
        if self.request.output is None or finish.reason in {"tool_calls", "content_filter", "paused"}:
            return None
        try:
            self._output = schema.parse(self.request.output, "".join(self._text), nulls_absent=True)
        except MalformedResponseError as error:
            return str(error)
        return None

    async def _fail(self, error: BaseException) -> NoReturn:
        """Record how the attempt ended, with what had come, and raise what the caller is to see."""
        latency = self._entries.stop()
        partial = self._respond(_Answer(Finish(reason=None), latency)) if self._text or self._reasoning else None
        await self._entries.fail(error, text="".join(self._text), partial=partial)

    def _cut(self) -> IncompleteStreamError:
        return IncompleteStreamError(f"{self.backend.name}: the answer ended without its terminal marker")

    def _respond(self, answer: _Answer) -> ModelResponse:
        finish, usage = answer.finish, answer.finish.usage
        model = finish.model or self.request.model or ""
        cost = None if answer.price is None else answer.price.amount
        error = None if answer.status == "ok" else OutputMismatchError.kind
        done = self._entries.row(model, None, status=answer.status, error=error, usage=usage, cost=cost)
        return ModelResponse(
            content="".join(self._text),
            model=model,
            backend=self.backend.name,
            latency_ms=answer.latency,
            prompt_tokens=usage.input_total or 0,
            completion_tokens=usage.output_total or 0,
            request_id=finish.request_id or finish.response_id,
            finish_reason=finish.reason,
            tool_calls=finish.tool_calls,
            reasoning="".join(self._reasoning),
            output=self._output,
            usage=usage,
            cost=cost,
            warnings=tuple(self._warnings),
            attempts=(*self.earlier, done),
            parts=finish.parts,
            response_id=finish.response_id,
            raw_finish_reason=finish.raw_reason,
        )


def _place(response: ModelResponse, receipt: Receipt) -> None:
    """Write where a response stands in the log into it and its attempt. Nobody has been handed it yet."""
    for value in (response, response.attempts[-1]):
        object.__setattr__(value, "receipt", receipt)


class Source(Protocol):
    """What a `Reply` reads: an attempt, or a call of several."""

    @property
    @abstractmethod
    def response(self) -> ModelResponse | None:
        """The whole answer, once it has ended well."""

    @abstractmethod
    def events(self) -> AsyncGenerator[Event, None]:
        """Carry it out and yield its events. To be iterated once, and closed."""


class Reply:
    """An answer that is being read: iterate it for its events; afterwards `response` is the whole answer.

    Leaving its context early closes the connection and records the attempt as cancelled, with what had come.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._events = source.events()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    @property
    def response(self) -> ModelResponse:
        """The whole answer, once every event has been read.

        Raises:
            InvalidRequestError: the answer has not been read to its end.
        """
        if self._source.response is None:
            msg = "the answer has not been read to its end: iterate the reply first"
            raise InvalidRequestError(msg)
        return self._source.response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._events.aclose()


class Gate(BaseModelBackend):
    """A backend behind the audit gate: what `get_backend` returns.

    Args:
        backend: the backend that serves.
        log: where its calls are recorded; None only for `audit="off"`.
        max_prompt_bytes: text of a prompt that is let through, as UTF-8 bytes.
    """

    def __init__(
        self, backend: BaseModelBackend, log: AuditLog | None, *, max_prompt_bytes: int = MAX_PROMPT_BYTES
    ) -> None:
        self.backend = backend
        self.log = log
        self.name = backend.name
        self._max_prompt_bytes = max_prompt_bytes

    def __repr__(self) -> str:
        where = "off" if self.log is None else repr(self.log)
        return f"<{self.name} backend, audit {where}>"

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> ModelResponse:
        """Ask once and return the whole answer, its record durable.

        Args:
            prompt: a `str`, or the conversation so far as a sequence of `Message`.
            options: see `veyra.types.Options`; the same spelling for every backend.

        Raises:
            InvalidRequestError: the prompt or an option is wrong; nothing was sent or recorded.
            AuditUnavailableError: the intent could not be recorded; nothing was sent.
            AuditWriteError: the outcome could not be recorded; `response` carries the answer.
            OutputMismatchError: the answer does not fit `output`, and did not after as many repairs as `repair` says.
            ProviderError: the attempt failed; its class says how.
        """
        request, call = self._request(prompt, options, stream=False), new_id()
        earlier: tuple[AttemptRecord, ...] = ()
        while True:
            try:
                return await Attempt(self.backend, request, self.log, call=call, earlier=earlier).collect()
            except OutputMismatchError as error:
                earlier = error.response.attempts
                again = repaired(request, error.response, str(error), done=len(earlier) - 1)
                if again is None:
                    raise
                request = again

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Reply:
        """Ask, and read the answer as it comes: `async with backend.stream(...) as reply: async for event in reply`.

        The call begins with the first event asked for. Raises, while iterated, what `generate` raises; the prompt and
        the options are checked at once.
        """
        return Reply(Attempt(self.backend, self._request(prompt, options, stream=True), self.log, call=new_id()))

    async def embed(self, texts: str | Sequence[str], **options: Unpack[EmbedOptions]) -> EmbeddingResponse:
        """Return a vector for each text, the call's record durable.

        Args:
            texts: one or several, none of them empty. How many fit into one call is the provider's affair.
            options: see `veyra.types.EmbedOptions`.

        Raises:
            InvalidRequestError: the texts or an option are wrong; nothing was sent or recorded.
            UnsupportedParameterError: the backend has no embeddings; nothing was sent or recorded.
            AuditUnavailableError: the intent could not be recorded; nothing was sent.
            AuditWriteError: the outcome could not be recorded; `embedding` carries the answer.
            ProviderError: the attempt failed; its class says how.
        """
        request = build_embed_request(
            texts, options, defaults=self.backend.defaults(), max_prompt_bytes=self._max_prompt_bytes
        )
        return await whole.EmbedAttempt(self.backend, request, self.log, call=new_id()).collect()

    async def count_tokens(self, prompt: Prompt, **options: Unpack[Options]) -> TokenCount:
        """Count the tokens of a prompt: by the provider, its record durable, or else by an estimate that says so.

        Args:
            prompt: as for `generate`.
            options: as for `generate`; those that are part of the prompt count (`system`, `tools`, `output`).

        Raises:
            InvalidRequestError: the prompt or an option is wrong, or it cannot be estimated; nothing was sent or recorded.
            AuditUnavailableError: the intent could not be recorded; nothing was sent.
            AuditWriteError: the outcome could not be recorded.
            ProviderError: the attempt failed; its class says how.
        """
        request = self._request(prompt, options, stream=False)
        exchange = prepared(self.backend, lambda: self.backend.prepare_counting(request), request.model)
        if exchange is None:
            return estimate(request)
        return await whole.count(self.backend, request, exchange, self.log, call=new_id())

    async def models(self, *, details: bool = False) -> tuple[ModelInfo, ...]:
        """Return the models there are to ask; costs nothing, loads no model, is not recorded.

        Args:
            details: ask on for what the list does not tell, one request for each model, where the provider has it so
                (Ollama: capabilities and context).

        Raises:
            UnsupportedParameterError: the backend has no list.
            ProviderError: the list could not be had; its class says how.
        """
        clock = Clock(LIST_TIMEOUTS)
        try:
            with clock:
                return tuple(await self.backend.models(details=details))
        except Exception as error:
            failure = owned(error, self.name, self.name)
            if failure is error:
                raise
            raise failure from error
        finally:
            clock.stop()

    async def health_check(self) -> bool:
        """Say whether the backend could serve a call now; costs nothing, is not recorded, raises nothing.

        A backend that has not said so within 10 seconds could not.
        """
        clock = Clock(HEALTH_TIMEOUTS)
        try:
            with clock:
                return bool(await self.backend.health_check())
        except Exception:  # noqa: BLE001  (the contract: a backend whose check fails, in whatever way, is not healthy)
            return False
        finally:
            clock.stop()

    async def aclose(self) -> None:
        """Close the backend's connections; the log stays open for others and is closed at exit."""
        await self.backend.aclose()

    def _request(self, prompt: Prompt, options: Mapping[str, Any], *, stream: bool) -> Request:
        return build_request(
            prompt,
            options,
            stream=stream,
            defaults=self.backend.defaults(),
            max_prompt_bytes=self._max_prompt_bytes,
        )


class EventBackend(BaseModelBackend):
    """A backend written as events: implement `events` and `health_check`, and `generate` and `stream` follow.

    Used directly, without `get_backend` or `Client`, its calls are checked and timed but not recorded.
    """

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> ModelResponse:
        """Ask once and return the whole answer, unrecorded; see `Gate.generate`."""
        return await Gate(self, None).generate(prompt, **options)

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Reply:
        """Read the answer as it comes, unrecorded; see `Gate.stream`."""
        return Gate(self, None).stream(prompt, **options)

    async def embed(self, texts: str | Sequence[str], **options: Unpack[EmbedOptions]) -> EmbeddingResponse:
        """Return a vector for each text, unrecorded; see `Gate.embed`."""
        return await Gate(self, None).embed(texts, **options)

    async def count_tokens(self, prompt: Prompt, **options: Unpack[Options]) -> TokenCount:
        """Count the tokens of a prompt, unrecorded; see `Gate.count_tokens`."""
        return await Gate(self, None).count_tokens(prompt, **options)
