"""One exchange of the fault server: what goes wrong with it, what is answered, and what the journal says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

from veyra.errors import InvalidRequestError
from veyra.testing.server_answers import Sleep, Sources, form_of, never, send
from veyra.testing.server_http import UNREAD, BadRequestError, Received, Reply
from veyra.testing.server_journal import Journal, Seen
from veyra.testing.server_vendors import Route, route_of, vendor_of
from veyra.transport.faults import OK, Fault, NoConnection, Stall, parse
from veyra.transport.playing import Answer, instead, is_instead, is_silent

FAULT_HEADER = "x-veyra-fault"
JOURNAL_PATH = "/_veyra/journal"


class Exchanges:
    """Answers requests.

    Args:
        sources: where answers come from.
        faults: what goes wrong with calls of a model, step by step.
        journal: where each request is noted.
        sleep: waits so many seconds.
        now: the time in seconds since 1970.
    """

    def __init__(
        self,
        sources: Sources,
        faults: Iterator[Fault | None],
        journal: Journal,
        *,
        sleep: Sleep,
        now: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._faults = faults
        self._journal = journal
        self._sleep = sleep
        self._now = now

    async def answer(self, received: Received, reply: Reply) -> None:
        """Answer a request.

        Raises:
            Gone: the caller has left.
        """
        if received.path == JOURNAL_PATH:
            body = json.dumps([seen.record() for seen in self._journal()]).encode()
            await reply.whole(200, {"content-type": "application/json"}, body)
            return
        route = route_of(received)
        fault: Fault | None = None
        wrong: InvalidRequestError | None = None
        try:
            fault = self._fault(received, route)
        except InvalidRequestError as error:
            wrong = error
        seen = self._journal.open(received, None if fault is None else str(fault))
        request_id = _request_id(seen)
        reply.changed = lambda: self._journal.note(seen.number, status=reply.status, ended=reply.ended)
        try:
            if wrong is not None:
                await _send(vendor_of(received).refusal(wrong, request_id), reply)
            elif route is None or not route.takes(received.method):
                await _send(_misplaced(route, received, request_id), reply)
            else:
                await self._play(fault, route, received, reply, seen.number)
        finally:
            self._journal.close(seen.number)

    async def refuse(self, error: BadRequestError, reply: Reply) -> None:
        """Answer what is no request that can be read; it is noted as far as it was."""
        received = error.received or UNREAD
        seen = self._journal.open(received, None)
        reply.changed = lambda: self._journal.note(seen.number, status=reply.status, ended=reply.ended)
        told = InvalidRequestError(error.message, status=error.status)
        answer = vendor_of(received).refusal(told, _request_id(seen))
        try:
            await reply.whole(error.status, {**answer.headers, "connection": "close"}, b"".join(answer.chunks))
        finally:
            self._journal.close(seen.number)

    def _fault(self, received: Received, route: Route | None) -> Fault | None:
        """Return what goes wrong with a request: what it asks for itself, or else the next step for a call of a model."""
        asked = received.headers.get(FAULT_HEADER)
        if asked is not None:
            return None if asked == OK else parse(asked)
        is_call = route is not None and route.asks.is_call and route.takes(received.method)
        return next(self._faults, None) if is_call else None

    async def _play(self, fault: Fault | None, route: Route, received: Received, reply: Reply, number: int) -> None:
        if await self._is_instead(fault, route, reply, number):
            return
        async with AsyncExitStack() as stack:
            source = await self._sources.source(route, received, number, stack)
            if fault is None and source.fault is not None:
                fault = source.fault
                self._journal.suffer(number, str(fault))
                if await self._is_instead(fault, route, reply, number):
                    return
            await send(source, fault, reply, self._sleep)

    async def _is_instead(self, fault: Fault | None, route: Route, reply: Reply, number: int) -> bool:
        """Play a fault that leaves nothing of the answer, or takes its place; say whether it is one."""
        if is_silent(fault):
            if isinstance(fault, Stall | NoConnection):
                await never()
            reply.reset()
            return True
        if is_instead(fault):
            await _send(instead(fault, lambda: form_of(route, number), now=self._now()), reply)
            return True
        return False


def _request_id(seen: Seen) -> str:
    return f"req_{seen.number:06}"


def _misplaced(route: Route | None, received: Received, request_id: str) -> Answer:
    if route is None:
        return vendor_of(received).misplaced(404, received, request_id)
    methods = {"allow": "GET, HEAD, OPTIONS" if route.method == "GET" else "POST, OPTIONS"}
    if received.method == "OPTIONS":
        return Answer(headers=methods)
    answer = vendor_of(received).misplaced(405, received, request_id)
    return Answer(status=405, headers={**answer.headers, **methods}, chunks=answer.chunks)


async def _send(answer: Answer, reply: Reply) -> None:
    await reply.whole(answer.status, answer.headers, b"".join(answer.chunks))
