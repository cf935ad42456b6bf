"""Anthropic Messages: server half, writing answers and errors.

1. Blocks end in the order in which they began: text when another block begins, a tool's when its arguments are complete as
   well, thinking at the end of the answer, for its seal is known only then. Clients keep blocks in that order.
2. `message_start` must state counts, and states what was counted so far: nothing. `message_delta` states the totals; one
   that is not known is null there, as in a whole answer.
3. Where the answer's own blocks came from this API, a whole answer is made of them, untouched. A stream has told text,
   thinking and calls before it knows them; it adds the seals, and at its end the blocks that no event tells.
4. The API takes an object as a tool's input: in a whole answer, arguments that are none stand under `INVALID_JSON`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.errors import (
    AuthenticationError,
    BudgetExceededError,
    CallTimeoutError,
    CircuitOpenError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    VeyraError,
)
from veyra.transport.base import Head
from veyra.types import Finish, FinishReason, Usage
from veyra.wire.anthropic import Anthropic
from veyra.wire.anthropic_answer import FINISH, NAME
from veyra.wire.base import Refusal, Stamp
from veyra.wire.calls import as_object
from veyra.wire.payload import given
from veyra.wire.serving import (
    EVENTS_TYPE,
    JSON_TYPE,
    Block,
    Blocks,
    Piece,
    Words,
    Writer,
    reason,
    server_event,
    told,
    waiting,
    words,
)

_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "paused": "pause_turn",
}
_TOLD = frozenset({"text", "thinking", "tool_use"})
"""Types of blocks that events tell."""

_WORDS: Mapping[type[VeyraError], Words] = {
    InvalidRequestError: Words(400, "invalid_request_error"),
    AuthenticationError: Words(401, "authentication_error"),
    QuotaError: Words(402, "billing_error"),
    BudgetExceededError: Words(402, "billing_error"),
    PermissionDeniedError: Words(403, "permission_error"),
    NotFoundError: Words(404, "not_found_error"),
    RateLimitError: Words(429, "rate_limit_error"),
    CallTimeoutError: Words(504, "timeout_error"),
    OverloadedError: Words(529, "overloaded_error"),
    CircuitOpenError: Words(529, "overloaded_error"),
    VeyraError: Words(500, "api_error"),
}


class MessageWholeReply(Writer):
    """Writes a whole answer."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__()
        self._stamp = stamp

    def head(self) -> Head:
        """Return the head of a JSON body."""
        return Head(200, {"content-type": JSON_TYPE, "request-id": self._stamp.request_id})

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the body."""
        own = _Own(finish)
        content = own.blocks if own.tell(self.blocks) else [_whole(block) for block in self.blocks]
        ended = {"stop_reason": reason(finish, FINISH, _REASONS), "usage": _usage(finish.usage)}
        out.append(msgspec.json.encode(_message(self._stamp) | {"content": content} | ended))

    def failure(self, error: VeyraError) -> bytes:
        """Return an error's body: a client looks for one in an answer that began well, too."""
        return _told(error, self._stamp.request_id, status=200)[1]


class MessageStreamReply(Writer):
    """Writes a stream of events."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__()
        self._stamp = stamp

    def head(self) -> Head:
        """Return the head of a stream."""
        headers = {"content-type": EVENTS_TYPE, "cache-control": "no-cache", "request-id": self._stamp.request_id}
        return Head(200, headers)

    def begin(self, out: list[bytes]) -> None:
        """Append the message as it begins."""
        _tell(out, "message_start", message=_message(self._stamp))

    def add(self, event: Piece, out: list[bytes]) -> None:
        """Append a piece to its block, which may begin with it, and end the blocks that are complete by that."""
        count = len(self.blocks)
        block = self.blocks.add(event)
        if len(self.blocks) > count:
            for other in self.blocks.ended():
                self._stop(other, out)
            _tell(out, "content_block_start", index=block.index, content_block=_start(block))
        piece = block.pieces[-1]
        if piece:
            _tell(out, "content_block_delta", index=block.index, delta=_delta(block, piece))

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the seals, the ends of blocks, the blocks that no event told, and the end of the message."""
        own = _Own(finish)
        for block in self.blocks:
            seal = own.seals.get(block.text) if block.kind == "reasoning" else None
            if seal is not None:
                delta = {"type": "signature_delta", "signature": seal}
                _tell(out, "content_block_delta", index=block.index, delta=delta)
            if block.is_open:
                self._stop(block, out)
        for index, rest in enumerate(own.rest, len(self.blocks)):
            _tell(out, "content_block_start", index=index, content_block=rest)
            _tell(out, "content_block_stop", index=index)
        ended = {"stop_reason": reason(finish, FINISH, _REASONS), "stop_sequence": None}
        _tell(out, "message_delta", delta=ended, usage=_usage(finish.usage))
        _tell(out, "message_stop")

    def failure(self, error: VeyraError) -> bytes:
        """Return an error as an event."""
        return b"event: error\ndata: %b\n\n" % _told(error, self._stamp.request_id, status=200)[1]

    @staticmethod
    def _stop(block: Block, out: list[bytes]) -> None:
        block.is_open = False
        _tell(out, "content_block_stop", index=block.index)


class _Own:
    """The answer's blocks that came from this API."""

    def __init__(self, finish: Finish) -> None:
        parts = [part.raw for part in finish.parts if part.dialect == NAME]
        self._fields = [msgspec.json.decode(raw, type=dict[str, Any]) for raw in parts]
        self.blocks = [msgspec.Raw(raw) for raw in parts]

    @property
    def seals(self) -> dict[str, str]:
        """The signatures of thinking, by its text."""
        return {block["thinking"]: block["signature"] for block in self._of("thinking") if block.get("signature")}

    @property
    def rest(self) -> list[msgspec.Raw]:
        """The blocks that no event tells: those of other types, and thinking without a text."""
        return [
            raw
            for raw, block in zip(self.blocks, self._fields, strict=True)
            if block.get("type") not in _TOLD or block.get("thinking") == ""
        ]

    def tell(self, blocks: Blocks) -> bool:
        """Say whether they are there, and are what the events told."""
        return bool(self.blocks) and (
            "".join(block.get("text", "") for block in self._of("text")) == blocks.text()
            and "".join(block.get("thinking", "") for block in self._of("thinking")) == blocks.text("reasoning")
            and [block.get("id") for block in self._of("tool_use")] == [block.id for block in blocks.calls]
        )

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [block for block in self._fields if block.get("type") == kind]


def refusal(error: VeyraError, request_id: str) -> Refusal:
    """Return the answer that reports `error` in the place of any other."""
    status, body = _told(error, request_id)
    return Refusal(Head(status, {"content-type": JSON_TYPE, "request-id": request_id, **waiting(error)}), body)


def _told(error: VeyraError, request_id: str, *, status: int | None = None) -> tuple[int, bytes]:
    def body(how: Words) -> bytes:
        fields: dict[str, Any] = {"type": how.type, "message": error.message}
        if how.code is not None:
            fields["details"] = {"error_code": how.code}
        return msgspec.json.encode({"type": "error", "error": fields, "request_id": request_id})

    return told(error, words(error, _WORDS), body, Anthropic(), status=status)


def _tell(out: list[bytes], kind: str, **fields: object) -> None:
    out.append(server_event({"type": kind, **fields}, kind))


def _message(stamp: Stamp) -> dict[str, Any]:
    """Return a message as it begins."""
    return {
        "id": stamp.id,
        "type": "message",
        "role": "assistant",
        "model": stamp.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _start(block: Block) -> dict[str, Any]:
    """Return a block as it begins."""
    match block.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "call":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}


def _delta(block: Block, piece: str) -> dict[str, str]:
    match block.kind:
        case "text":
            return {"type": "text_delta", "text": piece}
        case "reasoning":
            return {"type": "thinking_delta", "thinking": piece}
        case "call":
            return {"type": "input_json_delta", "partial_json": piece}


def _whole(block: Block) -> dict[str, Any]:
    """Return a block that is whole."""
    match block.kind:
        case "text":
            return {"type": "text", "text": block.text}
        case "reasoning":
            return {"type": "thinking", "thinking": block.text, "signature": ""}
        case "call":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": as_object(block.call)}


def _usage(usage: Usage) -> dict[str, Any]:
    """Return the totals; this API counts as input what came from no cache and went into none."""
    fresh = usage.input_uncached
    if fresh is None and usage.input_total is not None:
        fresh = usage.input_total - (usage.cache_read or 0) - (usage.cache_write or 0)
    cached = {"cache_creation_input_tokens": usage.cache_write, "cache_read_input_tokens": usage.cache_read}
    counts = {"input_tokens": fresh, **given(cached), "output_tokens": usage.output_total}
    if usage.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts
