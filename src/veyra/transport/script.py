"""A transport without a network: it plays a script, keeps what it was sent, and watches that its users keep the rules.

    transport = ScriptedTransport([Refuse(), Answer(chunks=[b"{}"])])
    transport = ScriptedTransport(parse_script("ok; rate-limit@after=2; cut@event=3"), answer=answer, form=form)

Each `open` takes the next step. A step is data, and so is each fault (`veyra.transport.faults`); no clock is read, and time
passes on the event loop only, where a fault waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self, TypeAlias, assert_never

from veyra.errors import CallTimeoutError, ConnectionFailedError, IncompleteStreamError
from veyra.transport import checks
from veyra.transport.base import Head, Incoming, Outgoing, Transport
from veyra.transport.faults import Fault, NoConnection, Refuse, Reset, Stall, Unanswered
from veyra.transport.playing import Answer, Form, Repeat, apply

__all__ = ["Answer", "NoConnection", "Refuse", "Reset", "ScriptedTransport", "Stall", "Step"]

Step: TypeAlias = Answer | Fault | None
"""An answer of its own, or a fault of the script's one answer, or None for that answer as it is."""


class _Over:
    """Stands for the step after the last."""


_OVER = _Over()


class ScriptedTransport(Transport):
    """Plays a script, one step per `open`.

    Args:
        script: the steps.
        answer: what the steps that are no answers of their own are about.
        form: the words for the faults that say something.
        now: seconds since 1970 (UTC), from which a date in a header counts.

    Attributes:
        sent: the requests, in the order in which they were opened.
        is_open: how many exchanges are open now.
        left_early: how many exchanges were left before the end of their body.

    Raises (on opening):
        InvalidRequestError: what http would refuse as well; a step is told in a format's own words, and there is no form.
        AssertionError: the script is at its end; the body is iterated twice, or after its context was left. These are
            mistakes of the user of the transport.
    """

    def __init__(
        self, script: Iterable[Step], *, answer: Answer | None = None, form: Form | None = None, now: float = 0.0
    ) -> None:
        self._script = iter(script)
        self._answer = Answer() if answer is None else answer
        self._form = form
        self._now = now
        self.sent: list[Outgoing] = []
        self.is_open = 0
        self.left_early = 0

    def open(self, request: Outgoing) -> _Exchange:
        """Take the next step of the script; see `Transport.open`."""
        return _Exchange(self, request)

    def take(self, request: Outgoing) -> Answer | Unanswered:
        """Note `request` and return what answers it."""
        checks.check(request)
        self.sent.append(request)
        step = next(self._script, _OVER)
        assert not isinstance(step, _Over), f"the script has no step for request {len(self.sent)}"
        return step if isinstance(step, Answer) else apply(step, self._answer, self._form, now=self._now)

    def assert_finished(self) -> None:
        """Assert that every step was taken and every exchange left."""
        rest = len(list(self._script))
        assert not rest, f"{rest} steps of the script were not taken"
        assert not self.is_open, f"{self.is_open} exchanges are still open"


class _Exchange(Incoming):
    """One request and the step that answers it."""

    def __init__(self, transport: ScriptedTransport, request: Outgoing) -> None:
        self._transport = transport
        self._request = request
        self._was_iterated = False
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._answer = await _answered(self._transport.take(self._request), self._request)
        self.head = Head(self._answer.status, dict(self._answer.headers))
        self._transport.is_open += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.is_open -= 1
        self._transport.left_early += not self._is_over
        self._was_left = True

    _was_left = False

    async def chunks(self) -> AsyncIterator[bytes]:
        assert not self._was_iterated, "a body is iterated once"
        self._was_iterated = True
        for chunk in filter(None, self._answer.chunks):
            assert not self._was_left, "a body is read inside its context"
            yield chunk
            await asyncio.sleep(0)  # as a network would, let others run
        match self._answer.end:
            case "stall":
                await _nothing()
            case Repeat(data, every):
                while True:
                    await asyncio.sleep(every)
                    yield data
            case "cut":
                self._is_over = True
                msg = "the script broke its answer off"
                raise IncompleteStreamError(msg)
            case "end":
                self._is_over = True


async def _answered(step: Answer | Unanswered, request: Outgoing) -> Answer:
    """Do what a step says up to the head of its answer."""
    match step:
        case Answer():
            if step.wait:
                await asyncio.sleep(step.wait)
            return step
        case Refuse():
            msg = "no connection: the script refused it"
            raise ConnectionFailedError(msg)
        case NoConnection():
            limit = request.connect_timeout or 0.0
            msg = f"no connection within {limit} s: the script gave none"
            raise CallTimeoutError(msg, phase="connect", limit=limit)
        case Reset():
            msg = "the script broke the connection after the request was sent and before it answered"
            raise ConnectionFailedError(msg, ambiguous=True)
        case Stall():
            await _nothing()
            raise AssertionError
        case _:
            assert_never(step)


async def _nothing() -> None:
    """Wait for what never comes, until the caller gives up."""
    await asyncio.get_running_loop().create_future()
