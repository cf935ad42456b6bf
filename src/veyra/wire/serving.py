"""Writing answers: what the server halves share on the way out.

1. Events make blocks: text and reasoning go on with the block before where that is of their kind, pieces of a tool call
   with their call. A call that only `Finish` tells of is told before it. A call without an id gets one from its place, as
   its result could not be given back otherwise.
2. Warnings have no place in any of the formats.
3. An error is told in the words it came with, if a client of the format reads them as the same kind of error; or
   else in the words that the format has for its kind.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal, TypeAlias, assert_never

import msgspec

from veyra.errors import ProviderError, VeyraError
from veyra.transport.base import Head
from veyra.types import Event, Finish, FinishReason, ModelWarning, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from veyra.wire.base import Dialect, Encoder, Flags
from veyra.wire.calls import as_json, parse

Piece: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta

JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream; charset=utf-8"


def in_one_line(value: object) -> bytes:
    """Return `value` as JSON without an end of a line: blocks that are told untouched may have some between their tokens."""
    data = msgspec.json.encode(value)
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


def server_event(value: object, name: str = "") -> bytes:
    """Return a server-sent event whose data is `value` as JSON."""
    data = in_one_line(value)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else b"data: %b\n\n" % data


# ------------------------------------------------------------------------------------------------ blocks


@dataclass(slots=True, kw_only=True)
class Block:
    """A part of an answer, as it grows.

    Attributes:
        kind: text, reasoning, or a tool call.
        index: its place among the blocks of the answer, from 0.
        pieces: its text, or the JSON of the call's arguments, as it came.
        id, name: the call's.
    """

    kind: Literal["text", "reasoning", "call"]
    index: int
    pieces: list[str] = field(default_factory=list)
    id: str = ""
    name: str = ""
    is_open: bool = True

    @property
    def text(self) -> str:
        """The text so far, or the arguments'."""
        return "".join(self.pieces)

    @property
    def call(self) -> ToolCall:
        """The tool call that the block is."""
        return ToolCall(self.id, self.name, parse(self.text), self.text)

    @property
    def is_whole(self) -> bool:
        """Whether nothing more can come of it once another block has begun: a call's arguments must be complete.

        Reasoning never is: its seal comes with the end of the answer.
        """
        if self.kind == "call":
            return bool(self.text.strip()) and parse(self.text) is not None
        return self.kind == "text"


class Blocks:
    """The blocks of an answer, in the order in which they began."""

    __slots__ = ("_calls", "_list")

    def __init__(self) -> None:
        self._list: list[Block] = []
        self._calls: dict[int, Block] = {}

    def __iter__(self) -> Iterator[Block]:
        return iter(self._list)

    def __len__(self) -> int:
        return len(self._list)

    @property
    def last(self) -> Block | None:
        """The block that began last."""
        return self._list[-1] if self._list else None

    @property
    def calls(self) -> list[Block]:
        """The tool calls."""
        return [block for block in self._list if block.kind == "call"]

    def text(self, kind: Literal["text", "reasoning"] = "text") -> str:
        """Return the answer's text, or its reasoning."""
        return "".join(block.text for block in self._list if block.kind == kind)

    def add(self, event: Piece) -> Block:
        """Put a piece into its block, which is a new one where it begins one, and return the block."""
        match event:
            case TextDelta(text):
                block = self._running("text")
                block.pieces.append(text)
            case ReasoningDelta(text):
                block = self._running("reasoning")
                block.pieces.append(text)
            case ToolCallDelta():
                block = self._calls.get(event.index) or self._begin_call(event)
                block.name = block.name or event.name
                block.pieces.append(event.arguments)
            case _:
                assert_never(event)
        return block

    def ended(self) -> list[Block]:
        """Return the blocks that can be ended, now that another has begun: they end in the order in which they began."""
        before = (block for block in self._list[:-1] if block.is_open)
        return list(takewhile(lambda block: block.is_whole, before))

    def untold(self, calls: tuple[ToolCall, ...]) -> list[ToolCallDelta]:
        """Return the pieces that are missing of the calls that an answer ends with."""
        pieces: list[ToolCallDelta] = []
        for index, call in enumerate(calls):
            block = self._calls.get(index)
            if block is None:
                pieces.append(ToolCallDelta(index, call.id, call.name, as_json(call)))
            elif not block.text and call.arguments:
                pieces.append(ToolCallDelta(index, arguments=as_json(call)))
        return pieces

    def _running(self, kind: Literal["text", "reasoning"]) -> Block:
        last = self.last
        return last if last is not None and last.kind == kind else self._begin(kind)

    def _begin_call(self, event: ToolCallDelta) -> Block:
        block = self._calls[event.index] = self._begin("call")
        block.id = event.id or f"call_{event.index}"
        return block

    def _begin(self, kind: Literal["text", "reasoning", "call"]) -> Block:
        block = Block(kind=kind, index=len(self._list))
        self._list.append(block)
        return block


class Writer(Encoder):
    """Writes an answer: a format says how it begins, goes on and ends."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.elapsed = 0.0
        self._begun = False

    def write(self, event: Event, *, elapsed: float = 0.0) -> bytes:
        """Return the bytes that tell an event; see `Encoder.write`."""
        if isinstance(event, ModelWarning):
            return b""
        self.elapsed = elapsed
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            self.begin(out)
        if isinstance(event, Finish):
            for piece in self.blocks.untold(event.tool_calls):
                self.add(piece, out)
            self.end(event, out)
        else:
            self.add(event, out)
        return b"".join(out)

    def begin(self, out: list[bytes]) -> None:
        """Append what comes before the first event."""

    def add(self, event: Piece, out: list[bytes]) -> None:  # noqa: ARG002  (an answer told whole tells nothing yet)
        """Append what a piece of the answer adds."""
        self.blocks.add(event)

    @abstractmethod
    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the end of the answer, or all of it where it is told whole."""


def reason(finish: Finish, known: Mapping[str, FinishReason], words: Mapping[FinishReason, str]) -> str:
    """Return the word for why the model stopped.

    That is the provider's own, where a client reads it as the same reason; else the format's; else, as the format has
    none, the provider's own or ours.

    Args:
        finish: the end of the answer.
        known: how a client of the format reads its words.
        words: the format's word for each reason it has one for.
    """
    meant = finish.reason or "other"
    own = finish.raw_reason
    if own and known.get(own) == meant:
        return own
    return words.get(meant) or own or meant


def untold(finish: Finish, dialect: str, events: Collection[str] = ()) -> dict[str, msgspec.Raw]:
    """Return, untouched, the fields of an answer's own block that no event tells.

    Args:
        finish: the end of the answer.
        dialect: the block's, which is one at most.
        events: the fields that events tell.
    """
    blocks = [part.raw for part in finish.parts if part.dialect == dialect][:1]
    return {
        name: value
        for raw in blocks
        for name, value in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items()
        if name not in events and bytes(value) != b"null"
    }


# ------------------------------------------------------------------------------------------------ errors


@dataclass(frozen=True, slots=True)
class Words:
    """How a format tells an error: the status before an answer, and its type and code in the body."""

    status: int
    type: str | None = None
    code: str | None = None


def words(error: VeyraError, table: Mapping[type[VeyraError], Words]) -> Words:
    """Return a format's words for an error: those of its class, or of the nearest class above it that has some."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def told(
    error: VeyraError,
    usual: Words,
    body: Callable[[Words], bytes],
    client: Dialect,
    *,
    status: int | None = None,
) -> tuple[int, bytes]:
    """Return the status and the body that tell an error (rule 3).

    Args:
        error: the error.
        usual: the format's own words for it.
        body: writes the body, given the words.
        client: the client half, which must read the same kind of error.
        status: that of the answer in which the error comes, where its head is already sent.
    """
    if isinstance(error, ProviderError) and (error.provider_type or error.provider_code):
        before = error.status if error.status is not None and error.status >= 400 else usual.status
        own = Words(before, error.provider_type or usual.type, error.provider_code)
        written = body(own)
        if type(client.failure(Head(status or before, {}), written, Flags(provider=""))) is type(error):
            return before, written
    return usual.status, body(usual)


def waiting(error: VeyraError) -> dict[str, str]:
    """Return the headers that say whether, and after how long, to try again."""
    if not isinstance(error, ProviderError):
        return {}
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
        headers["retry-after-ms"] = f"{error.retry_after * 1000:.0f}"
    return headers
