"""Where the fault server's answers come from: a backend, or a tape; and how one goes out with a fault in it.

1. A backend is asked through the gate's own `Attempt`, unrecorded: whatever serves Veyra can serve here. The mock is asked
   for whole answers: what its script has befall them is played on the wire.
2. Nothing in an answer of a backend depends on the clock: ids count up, times count from `EPOCH`, durations are 10 ms an event.
3. A request to Ollama without a message asks for no answer: it loads or unloads the model, and the server says that it did.
4. An error before the first event is an answer of its own; after it, it ends the answer in the format's words.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from veyra.audit.entry import new_id
from veyra.errors import IncompleteStreamError, OutputMismatchError, VeyraError
from veyra.models.base import BaseModelBackend, events_of
from veyra.models.gate import Attempt, Gate
from veyra.models.mock import MockBackend
from veyra.testing import server_lists
from veyra.testing.server_http import Received, Reply
from veyra.testing.server_journal import keyless
from veyra.testing.server_vendors import OLLAMA, Asks, Route
from veyra.transport.base import Head, Outgoing, Transport
from veyra.transport.faults import Fault
from veyra.transport.playing import Answer, Body, End, Form, Repeat, head
from veyra.types import Event, Request
from veyra.wire.base import Encoder, Stamp
from veyra.wire.wording import Wording

EPOCH = 1_767_225_600
"""When the answers begin: 2026-01-01, in seconds since 1970."""
_PACE = 0.01
_FRAMING = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})
"""Headers of a recorded answer that are about the connection it came over."""

Sleep: TypeAlias = Callable[[float], Awaitable[object]]
"""Waits so many seconds, or has time pass in another way."""


@dataclass(frozen=True, slots=True)
class Source:
    """An answer before any fault: its head, and its body as it comes.

    Attributes:
        head: status and headers.
        pieces: the body; to be iterated once.
        form: the words for a fault in it.
        is_whole: the body comes at once, and is framed by its length.
        fault: what the mock's script has befall the answer.
    """

    head: Head
    pieces: AsyncIterator[bytes]
    form: Form
    is_whole: bool = False
    fault: Fault | None = None


class Sources(ABC):
    """Where answers come from."""

    @abstractmethod
    async def source(self, route: Route, received: Received, number: int, stack: AsyncExitStack) -> Source:
        """Return the answer to a request; an error of ours is an answer, too.

        Args:
            route: what the request asks.
            received: the request.
            number: which request of the server it is, from 1.
            stack: closes what the answer needs, once it has gone out.
        """


def stamp(route: Route, number: int, model: str = "") -> Stamp:
    """Return what the answer to a request bears."""
    name = f"{number:06}"
    return Stamp(id=f"{route.prefix}{name}", request_id=f"req_{name}", model=model, created=float(EPOCH + number))


def form_of(route: Route, number: int) -> Form:
    """Return the words for a fault in the place of an answer."""
    return Wording(route.server or route.vendor.server, request_id=stamp(route, number).request_id)


class BackendSources(Sources):
    """Answers of a backend."""

    def __init__(self, backend: BaseModelBackend) -> None:
        self._backend = backend
        self._gate = Gate(backend, None)

    async def source(self, route: Route, received: Received, number: int, stack: AsyncExitStack) -> Source:
        """Return the backend's answer; see `Sources.source`."""
        marks = stamp(route, number)
        try:
            if route.asks is not Asks.ANSWER or route.server is None:
                answer = await server_lists.answer(route, received, self._gate, marks)
                return _whole(answer, form_of(route, number))
            request = route.server.request(received.body)
        except VeyraError as error:
            return _refused(error, route, number)
        marks = stamp(route, number, request.model or "")
        if route.vendor is OLLAMA and not request.messages and request.system is None:
            return _whole(server_lists.loaded(route.server, request, marks), form_of(route, number))
        encoder = route.server.encoder(request, marks)
        form = Wording(route.server, request_id=marks.request_id, encoder=encoder, streamed=request.stream)
        suffered: list[Fault] = []
        outcomes = await stack.enter_async_context(aclosing(self._outcomes(request, suffered)))
        began = [await anext(outcomes)] if request.stream else [outcome async for outcome in outcomes]
        if isinstance(began[-1], VeyraError):
            return _refused(began[-1], route, number)
        told = _told(encoder, began, outcomes)
        fault = suffered[0] if suffered else None
        return Source(encoder.head(), told, form, is_whole=not request.stream, fault=fault)

    async def _outcomes(self, request: Request, suffered: list[Fault]) -> AsyncGenerator[Event | VeyraError, None]:
        """Yield the events of an answer, and last the error it ends with, if it does.

        What befalls an answer of the mock is added to `suffered` before its first event: it is played on the wire.
        A model whose answer does not fit the schema it was given is no error of a provider: the answer ends as ever.
        """
        backend = self._backend.unspoiled(suffered.append) if isinstance(self._backend, MockBackend) else self._backend
        async with aclosing(Attempt(backend, request, None, call=new_id()).events()) as events:
            try:
                async for event in events:
                    yield event
            except OutputMismatchError as error:
                yield events_of(error.response)[-1]
            except VeyraError as error:
                yield error


async def _told(
    encoder: Encoder, began: Iterable[Event | VeyraError], going_on: AsyncIterator[Event | VeyraError]
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes that tell what an answer is made of."""
    count = 0

    def written(outcome: Event | VeyraError) -> bytes:
        nonlocal count
        count += 1
        return (
            encoder.failure(outcome)
            if isinstance(outcome, VeyraError)
            else encoder.write(outcome, elapsed=_PACE * count)
        )

    for outcome in began:
        yield written(outcome)
    async for outcome in going_on:
        yield written(outcome)


class TapeSources(Sources):
    """Answers that a transport gives without a network: a tape that plays, or a script."""

    def __init__(self, tape: Transport) -> None:
        self._tape = tape

    async def source(self, route: Route, received: Received, number: int, stack: AsyncExitStack) -> Source:
        """Return what the tape has for the request; see `Sources.source`."""
        outgoing = Outgoing(
            method=received.method,
            url=f"http://tape{keyless(received.target)}",
            headers={"content-type": received.headers.get("content-type", "application/json")},
            body=received.body,
        )
        try:
            incoming = await stack.enter_async_context(self._tape.open(outgoing))
        except VeyraError as error:
            return _refused(error, route, number)
        headers = {name: value for name, value in incoming.head.headers.items() if name not in _FRAMING}
        return Source(Head(incoming.head.status, headers), incoming.chunks(), self._form(route, received, number))

    @staticmethod
    def _form(route: Route, received: Received, number: int) -> Form:
        if route.asks is not Asks.ANSWER or route.server is None:
            return form_of(route, number)
        try:
            request = route.server.request(received.body)
        except VeyraError:  # the tape may answer what our server half does not read
            return form_of(route, number)
        marks = stamp(route, number, request.model or "")
        encoder = route.server.encoder(request, marks)
        return Wording(route.server, request_id=marks.request_id, encoder=encoder, streamed=request.stream)


def _refused(error: VeyraError, route: Route, number: int) -> Source:
    answer = route.vendor.refusal(error, stamp(route, number).request_id)
    return _whole(answer, form_of(route, number))


def _whole(answer: Answer, form: Form) -> Source:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for chunk in answer.chunks:
            yield chunk

    return Source(Head(answer.status, answer.headers), pieces(), form, is_whole=True)


# ---------------------------------------------------------------------------------------------------- sending


async def send(source: Source, fault: Fault | None, reply: Reply, sleep: Sleep) -> None:
    """Send an answer as a fault leaves it. Returns when that is over; where it never is, it waits to be cancelled."""
    wait, sent = head(fault, source.head)
    if wait:
        await sleep(wait)
    if fault is None and source.is_whole:
        await reply.whole(sent.status, sent.headers, b"".join([piece async for piece in source.pieces]))
        return
    await reply.begin(sent.status, sent.headers)
    body = Body(fault, source.head, lambda: source.form)
    try:
        await _write(body, source.pieces, reply)
    except IncompleteStreamError:  # the tape was cut here
        reply.cut()
        return
    await _end(body.end or "end", reply, sleep)


async def _write(body: Body, pieces: AsyncIterator[bytes], reply: Reply) -> None:
    for data in body.begin():
        await reply.write(data)
    while body.end is None:
        piece = await anext(pieces, None)
        for data in body.close() if piece is None else body.feed(piece):
            await reply.write(data)


async def _end(end: End, reply: Reply, sleep: Sleep) -> None:
    match end:
        case "end":
            await reply.end()
        case "cut":
            reply.cut()
        case "stall":
            await never()
        case Repeat(data, every):
            while True:
                await sleep(every)
                await reply.write(data)
        case _:
            assert_never(end)


async def never() -> None:
    """Wait until cancelled."""
    await asyncio.get_running_loop().create_future()
