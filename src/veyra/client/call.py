"""One call: attempts at targets, one after the other, until one answers or the policy says stop.

The rules, each of which the tests break once to see it hold:

1. Every attempt passes the gate, with an intent and an outcome of its own under the call's id.
2. After the first event with content was handed to the caller no other attempt is made.
3. What an attempt holds of its target (its place in a half-open circuit, its share of the limits) and of the client's budgets
   is given back however it ends.
4. A wait holds nothing, and none is begun that would end after the call's deadline.
5. A call that is refused here, with nothing sent, is on record as such.
6. Before a target is asked for the first time, the cache is; what it has is on record before it is handed on.
7. Observers that are told of a call's beginning, and of an attempt's, are told of its end, whatever it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar, cast

from veyra.audit.entry import new_id
from veyra.client import forecast
from veyra.client.cache import Cache, Hit
from veyra.client.fingerprint import fingerprint
from veyra.client.ledger import NOBODY, Ledger, Payer
from veyra.client.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    FirstEvent,
    Observers,
    Waiting,
)
from veyra.client.question import Answering, Embedding, Question, Try
from veyra.client.station import Ended, Lease, Station
from veyra.errors import (
    AuditWriteError,
    BudgetExceededError,
    CircuitOpenError,
    OutputMismatchError,
    ProviderError,
    RateLimitError,
    VeyraError,
)
from veyra.models.base import events_of
from veyra.models.gate import Attempt
from veyra.models.whole import EmbedAttempt
from veyra.policy.fallback import Fallback
from veyra.policy.gauge import Measure, Ticket
from veyra.policy.retry import Again, Onward, Retry, Standing, decide
from veyra.types import AttemptRecord, EmbeddingResponse, Event, Finish, ModelResponse, ModelWarning

T = TypeVar("T", bound=Try[Any])
R = TypeVar("R", ModelResponse, EmbeddingResponse)
V = TypeVar("V")

NOT_ACCEPTED = "not_accepted"
"""What stands for an error in the record of an attempt whose answer `Fallback.accept` turned down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides over a client's calls.

    Attributes:
        retry, fallback: as given to the client.
        observers: who is told.
        chance: draws a number evenly from 0 to 1.
        ledger: what may be spent, and is.
        cache: what was answered before; None for nothing.
    """

    retry: Retry
    fallback: Fallback
    observers: Observers
    chance: Callable[[], float]
    ledger: Ledger
    cache: Cache | None = None


class Call(Generic[T, R]):
    """One call; to be carried out once.

    Args:
        rules: what decides.
        stations: the targets, in the order in which they are to be asked.
        question: what is asked.
        about: attributes of every entry that the call leaves in the log.
        payer: in whose name it is made.
        conversation: the id of the one that it belongs to.

    Raises:
        InvalidRequestError: it cannot be asked at the first target.
    """

    def __init__(
        self,
        rules: Rules,
        stations: Sequence[Station],
        question: Question[T],
        *,
        about: Mapping[str, object] | None = None,
        payer: Payer = NOBODY,
        conversation: str | None = None,
    ) -> None:
        self.id = new_id()
        self._rules = rules
        self._stations = stations
        self._question = question
        self._about = about or {}
        self._payer = payer
        self._conversation = conversation
        self._place = 0
        self._tries = 0
        self._repairs = 0
        self._reason: str | None = None
        self._earlier: tuple[AttemptRecord, ...] = ()
        self._ends: float | None = None
        self._lease: Lease | None = None
        self._error: VeyraError | None = None
        self._is_over = False
        self._looked_for: int | None = None
        self._key: str | None = None
        question.request(stations[0])

    # ------------------------------------------------------------------------------------ before an attempt

    def __enter__(self) -> None:
        """Begin: the call's time runs from here."""
        deadline = self._rules.retry.deadline
        self._ends = None if deadline is None else asyncio.get_running_loop().time() + deadline
        if self._rules.observers:
            started = CallStarted(
                call=self.id,
                operation=self._question.operation,
                stream=self._question.stream,
                conversation=self._conversation,
            )
            self._rules.observers.tell(started)
            trace = self._rules.observers.trace_id(self.id)
            if trace is not None:
                self._about = {**self._about, "veyra.trace_id": trace}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell of what ended the call, if it did not end well."""
        if error is not None:
            self._over(error=error)

    async def _next(self) -> T | R:
        """Return the next attempt, or the answer that the cache has; what an attempt holds is to be given back by `_end`.

        Raises:
            CircuitOpenError: the circuits of all targets that are left are open.
            RateLimitError: it would wait too long for its turn.
            BudgetExceededError: it could cost more than is left of a budget.
            AuditUnavailableError: the cache's answer, or a refusal, could not be recorded.
        """
        lease: Lease | None = None
        while lease is None:
            if self._rules.cache is not None and self._looked_for != self._place:
                answer = await self._recalled(self._rules.cache)
                if answer is not None:
                    return answer
            station, now = self._station, asyncio.get_running_loop().time()
            if not station.passes(now):
                await self._pass_by(now)
                continue
            measure = partial(forecast.tokens, self._question.request(station))
            ticket = station.admission.try_enter(now, measure)
            lease = await self._in_turn(measure) if ticket is None else self._entered(station, ticket)
        station, now = self._station, asyncio.get_running_loop().time()
        try:
            self._charge(lease, station)
            attempt = self._question.attempt(
                station,
                call=self.id,
                earlier=self._earlier,
                notes=self._notes(),
                total=None if self._ends is None else max(self._ends - now, 0.001),
            )
        except BaseException as error:
            lease.end(now, Ended(error=error, sent=False))
            if isinstance(error, BudgetExceededError):
                await self._refuse(error, "budget")
            raise
        self._lease = lease
        self._tries += 1
        if self._rules.observers:
            self._rules.observers.tell(
                AttemptStarted(
                    call=self.id,
                    number=len(self._earlier) + 1,
                    backend=station.backend.name,
                    model=self._question.model(station),
                    reason=self._reason,
                    request=self._question.request(station),
                )
            )
        return attempt

    async def _in_turn(self, measure: Measure) -> Lease | None:
        """Return what an attempt holds of the present target, its turn come; None after going on to the next.

        Raises:
            RateLimitError: that would take too long, and nobody else may be asked.
        """
        station, loop = self._station, asyncio.get_running_loop()
        others = self._has_others(loop.time()) and RateLimitError.kind in self._rules.fallback.on
        patience = self._rules.retry.cap if others else math.inf
        if self._ends is not None:
            patience = min(patience, max(self._ends - loop.time(), 0.0))
        try:
            ticket = await station.admission.enter(measure, patience=patience, told=self._waiting)
        except RateLimitError as error:
            error.model = self._question.model(station)
            if not others:
                await self._refuse(error, "limit")
            self._reason = "limit"
            self._onward()
            return None
        return self._entered(station, ticket)

    @staticmethod
    def _entered(station: Station, ticket: Ticket) -> Lease | None:
        """Return what an attempt holds of a target; None where its circuit opened, or its probe set out, meanwhile."""
        now = asyncio.get_running_loop().time()
        lease = station.enter(ticket, now)
        if lease is None:
            station.admission.release(now, ticket, sent=False)
        return lease

    async def _pass_by(self, now: float) -> None:
        """Go on from a target whose circuit is open.

        Raises:
            CircuitOpenError: there is no other, and nobody was asked.
            ProviderError: there is no other; the last attempt's error.
        """
        if self._onward():
            self._reason = "fallback" if self._earlier else "circuit"
        elif self._error is not None:
            raise self._error
        else:
            await self._refuse(self._open_circuits(now), "circuit")

    def _waiting(self, seconds: float) -> None:
        if self._rules.observers:
            self._rules.observers.tell(Waiting(call=self.id, reason="limit", seconds=seconds))

    def _charge(self, lease: Lease, station: Station) -> None:
        """Set aside what the attempt may cost.

        Raises:
            BudgetExceededError: it could cost more than is left of a budget.
        """
        ledger, most = self._rules.ledger, None
        if ledger.is_bounded:
            most = forecast.dollars(self._question.request(station), station.backend, ledger.now())
        lease.charge(ledger, ledger.reserve(self._payer, most, target=station.name))

    async def _recalled(self, cache: Cache) -> R | None:
        """Return what the cache has of the present target, on record; None where there is nothing."""
        station = self._station
        self._looked_for = self._place
        began = asyncio.get_running_loop().time()
        asked = self._question.request(station)
        self._key = fingerprint(asked, station.backend, station.name)
        hit = None if self._key is None else await self._in_time(cache.find(self._key, asked))
        if hit is None or not self._fits(hit):
            return None
        latency = (asyncio.get_running_loop().time() - began) * 1000.0
        receipt = None
        if station.log is not None and hit.outcome is not None:
            attributes = {
                "gen_ai.operation.name": self._question.operation,
                "gen_ai.request.model": asked.model,
                "gen_ai.response.model": hit.response.model,
                "veyra.stream": self._question.stream,
                "veyra.cache.origin": hit.outcome.origin,
            }
            receipt = await station.log.cache_hit(
                call=self.id,
                backend=station.backend.name,
                of=hit.outcome.id,
                attributes={**self._about, **attributes},
            )
        answer = replace(hit.response, latency_ms=latency, receipt=receipt, attempts=self._earlier)
        self._over(response=answer)
        return cast("R", answer)  # a request for vectors gets vectors

    def _fits(self, hit: Hit) -> bool:
        """Tell whether a hit will do: on record where the call is to be, and accepted where whole answers have to be."""
        if self._station.log is not None and hit.outcome is None:
            return False
        accept = None if self._question.stream else self._rules.fallback.accept
        return accept is None or not isinstance(hit.response, ModelResponse) or accept(hit.response)

    async def _keep(self, response: R) -> None:
        """Leave an answer to the cache, unless it was turned down."""
        if self._rules.cache is not None and self._key is not None and response.attempts[-1].error is None:
            await self._in_time(self._rules.cache.keep(self._key, response))

    async def _in_time(self, work: Awaitable[V]) -> V | None:
        """Return what the cache says within the call's deadline, or None."""
        try:
            async with asyncio.timeout_at(self._ends):
                return await work
        except TimeoutError:
            return None

    @property
    def _station(self) -> Station:
        return self._stations[self._place]

    def _onward(self) -> bool:
        """Go to the next target; False where there is none."""
        if self._place + 1 == len(self._stations):
            return False
        self._place += 1
        self._tries = 0
        return True

    def _has_others(self, now: float) -> bool:
        """Tell whether one of the targets that are left could be asked now."""
        return any(station.passes(now) for station in self._stations[self._place + 1 :])

    def _notes(self) -> Mapping[str, object] | None:
        """Return what an intent says besides the request: what is said of the call, and why an attempt after the first is made."""
        if self._reason is None:
            return self._about or None
        notes: dict[str, object] = {**self._about, "veyra.attempt.reason": self._reason}
        if any(record.ambiguous for record in self._earlier):
            notes["veyra.attempt.may_be_billed_twice"] = True
        return notes

    def _open_circuits(self, now: float) -> CircuitOpenError:
        shut = [station for station in self._stations if not station.passes(now)]
        waits = [wait for wait in (station.retry_in(now) for station in shut) if wait is not None]
        names = ", ".join(station.name for station in shut)
        then = f"in {min(waits):.3g} s" if waits else "when the one that is under way has ended well"
        return CircuitOpenError(
            f"{names} failed too often lately and {'is' if len(shut) == 1 else 'are'} left alone; "
            f"the next call is let through {then}"
        )

    async def _refuse(self, error: VeyraError, reason: str) -> NoReturn:
        """Record that the call was refused here, and raise."""
        station = self._station
        if station.log is not None:
            attributes = {"gen_ai.request.model": self._question.model(station), "error.type": type(error).__name__}
            number = len(self._earlier) + 1
            await station.log.blocked(
                call=self.id,
                attempt=number,
                backend=station.backend.name,
                reason=reason,
                attributes={**self._about, **attributes},
            )
        raise error

    # ------------------------------------------------------------------------------------- after an attempt

    def _end(
        self,
        attempt: T,
        *,
        error: BaseException | None = None,
        response: ModelResponse | EmbeddingResponse | None = None,
    ) -> None:
        """Give back what an attempt held, and tell how it ended. Never waits."""
        if self._lease is not None:
            ended = Ended(
                error=error,
                answer=_answer(error) if response is None else response,
                sent=attempt.sent,
                streamed=attempt.streamed,
                head=attempt.head,
            )
            self._lease.end(asyncio.get_running_loop().time(), ended)
            self._lease = None
        if self._rules.observers:
            exchange, head = attempt.exchange, attempt.head
            outgoing = None if exchange is None else exchange.outgoing
            self._rules.observers.tell(
                AttemptEnded(
                    call=self.id,
                    number=len(self._earlier) + 1,
                    backend=self._station.backend.name,
                    model=self._question.model(self._station),
                    record=attempt.failed if response is None else response.attempts[-1],
                    provider=self._station.backend.name if exchange is None else exchange.provider,
                    url=None if outgoing is None else outgoing.url,
                    status=None if head is None else head.status,
                    response=response,
                    error=error,
                )
            )

    async def _failed(self, attempt: T, error: BaseException, *, handed: bool = False) -> None:
        """Return when another attempt is due; otherwise raise what the caller is to see."""
        self._end(attempt, error=error)
        if attempt.failed is not None:
            self._earlier = (*self._earlier, attempt.failed)
        if isinstance(error, OutputMismatchError):
            self._earlier = error.response.attempts
            if self._question.repair(error, done=self._repairs):
                self._repairs += 1
                self._tries -= 1  # a better answer is asked for; the target answered
                self._reason = "repair"
                return
        if not isinstance(error, VeyraError):
            raise error
        self._error, now = error, asyncio.get_running_loop().time()
        standing = Standing(
            tries=self._tries,
            streamed=attempt.streamed,
            handed=handed,
            others=self._has_others(now),
            shut=not self._station.passes(now),
            remaining=None if self._ends is None else self._ends - now,
        )
        match decide(error, self._rules.retry, standing, self._rules.chance(), self._rules.fallback.on):
            case Again(delay):
                self._reason = "retry"
                if self._rules.observers:
                    self._rules.observers.tell(Waiting(call=self.id, reason="retry", seconds=delay))
                await asyncio.sleep(delay)
            case Onward():
                self._reason = "fallback"
                self._onward()
            case _:
                raise error

    def _over(
        self,
        *,
        error: BaseException | None = None,
        response: ModelResponse | EmbeddingResponse | None = None,
    ) -> None:
        """Tell how the call ended. A second time does nothing."""
        if self._is_over:
            return
        self._is_over = True
        if isinstance(error, VeyraError):
            error.attempts = self._earlier
        if self._rules.observers:
            attempts = self._earlier if response is None else response.attempts
            self._rules.observers.tell(CallEnded(call=self.id, attempts=attempts, response=response, error=error))


class AnswerCall(Call[Attempt, ModelResponse]):
    """A call that wants an answer: whole, by `collect`, or as it comes, by `events`.

    Attributes:
        response: the whole answer, once it has ended well.
    """

    def __init__(
        self,
        rules: Rules,
        stations: Sequence[Station],
        question: Answering,
        *,
        about: Mapping[str, object] | None = None,
        payer: Payer = NOBODY,
        conversation: str | None = None,
    ) -> None:
        super().__init__(rules, stations, question, about=about, payer=payer, conversation=conversation)
        self.response: ModelResponse | None = None
        self._turned_down: ModelResponse | None = None

    async def collect(self) -> ModelResponse:
        """Carry the call out and return its response; errors as `Client.generate`."""
        with self:
            try:
                self.response = await self._answered()
            except (ProviderError, CircuitOpenError, BudgetExceededError):
                if self._turned_down is None:
                    raise
                self.response = self._last_resort(self._turned_down)
                self._over(response=self.response)
            return self.response

    async def _answered(self) -> ModelResponse:
        """Return the first answer that is accepted, or the last one where no target is left."""
        while True:
            attempt = await self._next()
            if isinstance(attempt, ModelResponse):
                return attempt
            try:
                response = await attempt.collect()
            except BaseException as error:  # noqa: BLE001  (rule 3; raised again there, unless another attempt follows)
                await self._failed(attempt, error)
                continue
            self._end(attempt, response=response)
            accepted = self._accepted(response)
            if accepted is not None:
                self._over(response=accepted)
                await self._keep(accepted)
                return accepted

    async def events(self) -> AsyncGenerator[Event, None]:
        """Carry the call out and yield the events of the answer; errors as `Client.stream`.

        Warnings are kept until the first event with content: those of an attempt that fails before it are not handed on.
        """
        with self:
            while True:
                attempt = await self._next()
                if isinstance(attempt, ModelResponse):
                    self.response, rest = attempt, events_of(attempt)
                    break
                handed, rest = False, []
                try:
                    async with aclosing(attempt.events()) as events:
                        async for event in events:
                            if isinstance(event, Finish) or (isinstance(event, ModelWarning) and not handed):
                                rest.append(event)
                                continue
                            if not handed:
                                handed = True
                                self._first(attempt)
                                for warning in rest:
                                    yield warning
                                rest.clear()
                            yield event
                except BaseException as error:  # noqa: BLE001  (rule 3; raised again there, unless another attempt follows)
                    await self._failed(attempt, error, handed=handed)
                    continue
                await self._succeeded(attempt)
                break
            for event in rest:
                yield event

    async def _succeeded(self, attempt: Attempt) -> None:
        """Do all that is due after an answer: a reader may leave as soon as `Finish` is handed out."""
        if attempt.response is None:  # events end with Finish or an error
            raise AssertionError
        self.response = attempt.response
        self._end(attempt, response=self.response)
        self._over(response=self.response)
        await self._keep(self.response)

    def _first(self, attempt: Attempt) -> None:
        if self._lease is not None:
            self._lease.first(asyncio.get_running_loop().time(), attempt.head)
        if self._rules.observers:
            self._rules.observers.tell(FirstEvent(call=self.id, number=attempt.number))

    def _accepted(self, response: ModelResponse) -> ModelResponse | None:
        """Return the answer, with a warning where it will not do and nobody else can be asked; None to ask the next."""
        accept = self._rules.fallback.accept
        if accept is None or accept(response):
            return response
        self._earlier = (*response.attempts[:-1], replace(response.attempts[-1], error=NOT_ACCEPTED))
        if not self._onward():
            return self._last_resort(response)
        self._turned_down = response
        self._reason = "fallback"
        return None

    def _last_resort(self, response: ModelResponse) -> ModelResponse:
        """Return an answer that was turned down, and paid for, with a warning that says so."""
        warning = ModelWarning(NOT_ACCEPTED, "no target gave an answer that was accepted; this is the last one's")
        return replace(response, attempts=self._earlier, warnings=(*response.warnings, warning))


class EmbedCall(Call[EmbedAttempt, EmbeddingResponse]):
    """A call that wants vectors."""

    def __init__(
        self,
        rules: Rules,
        stations: Sequence[Station],
        question: Embedding,
        *,
        about: Mapping[str, object] | None = None,
        payer: Payer = NOBODY,
    ) -> None:
        super().__init__(rules, stations, question, about=about, payer=payer)

    async def collect(self) -> EmbeddingResponse:
        """Carry the call out and return its response; errors as `Client.embed`."""
        with self:
            while True:
                attempt = await self._next()
                if isinstance(attempt, EmbeddingResponse):
                    return attempt
                try:
                    response = await attempt.collect()
                except BaseException as error:  # noqa: BLE001  (rule 3; raised again there, unless another attempt follows)
                    await self._failed(attempt, error)
                else:
                    self._end(attempt, response=response)
                    self._over(response=response)
                    await self._keep(response)
                    return response


def _answer(error: BaseException | None) -> ModelResponse | EmbeddingResponse | None:
    """Return the whole answer that an error carries, if it does."""
    match error:
        case OutputMismatchError():
            return error.response
        case AuditWriteError():
            return error.response or error.embedding
        case _:
            return None
