"""A transport without a network: it plays a script, keeps what it was sent, and watches that its users keep the rules.

    transport = ScriptedTransport([Refuse(), Answer(chunks=[b"{}"])])

Each `open` takes the next step. A step is data, and so is each fault; nothing depends on time except that `Stall` and
`Answer(end="stall")` wait until the caller gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeAlias, assert_never

from veyra.errors import CallTimeoutError, ConnectionFailedError, IncompleteStreamError
from veyra.transport import checks
from veyra.transport.base import Head, Incoming, Outgoing, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, whole or not.

    Attributes:
        status, headers: its head; names in lower case.
        chunks: its body, in the pieces in which it arrives; empty pieces are left out.
        end: what comes after the last chunk: the `end` of the body, a `cut` connection, or nothing at all (`stall`).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Sequence[bytes] = ()
    end: Literal["end", "cut", "stall"] = "end"

    def cut_after(self, size: int) -> Answer:
        """Return this answer with its body cut after `size` bytes, the pieces before that unchanged."""
        kept: list[bytes] = []
        for chunk in self.chunks:
            kept.append(chunk[:size])
            size -= len(kept[-1])
        return Answer(status=self.status, headers=self.headers, chunks=kept, end="cut")


@dataclass(frozen=True, slots=True)
class Refuse:
    """No connection; nothing was sent."""


@dataclass(frozen=True, slots=True)
class NoConnection:
    """No connection within `Outgoing.connect_timeout`; raised at once."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection breaks after the request was sent and before an answer."""


@dataclass(frozen=True, slots=True)
class Stall:
    """The request is taken and never answered."""


Step: TypeAlias = Answer | Refuse | NoConnection | Reset | Stall


class ScriptedTransport(Transport):
    """Plays `script`, one step per `open`.

    Attributes:
        sent: the requests, in the order in which they were opened.
        is_open: how many exchanges are open now.
        left_early: how many exchanges were left before the end of their body.

    Raises (on opening):
        InvalidRequestError: what http would refuse as well.
        AssertionError: the script is at its end; the body is iterated twice, or after its context was left. These are
            mistakes of the user of the transport.
    """

    def __init__(self, script: Iterable[Step]) -> None:
        self._script = iter(script)
        self.sent: list[Outgoing] = []
        self.is_open = 0
        self.left_early = 0

    def open(self, request: Outgoing) -> _Exchange:
        """Take the next step of the script; see `Transport.open`."""
        return _Exchange(self, request)

    def take(self, request: Outgoing) -> Step:
        """Note `request` and return the step that answers it."""
        checks.check(request)
        self.sent.append(request)
        step = next(self._script, None)
        assert step is not None, f"the script has no step for request {len(self.sent)}"
        return step

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
        if self._answer.end == "stall":
            await _nothing()
        self._is_over = True
        if self._answer.end == "cut":
            msg = "the script broke its answer off"
            raise IncompleteStreamError(msg)


async def _answered(step: Step, request: Outgoing) -> Answer:
    """Do what a step says up to the head of its answer."""
    match step:
        case Answer():
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
