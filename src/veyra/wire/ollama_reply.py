"""Ollama's native chat: server half, writing answers and errors.

1. A tool call is told whole, so calls come at the end, in a line of their own before the last.
2. The last line states what is known of tokens and times: times in nanoseconds, counted from the answer's beginning to its
   first piece and to its end. How long a model took to load is never known here, and left out.
3. This format has one word each for an end and for a limit; any other reason is told in its provider's word, or ours.
4. What a provider's answer of this format holds besides text, thinking and calls is told in the last line, untouched.
5. An error has a message and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from veyra.errors import (
    AuthenticationError,
    BudgetExceededError,
    CallTimeoutError,
    CircuitOpenError,
    ConnectionFailedError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    VeyraError,
)
from veyra.transport.base import Head
from veyra.types import Finish, FinishReason, ReasoningDelta, TextDelta
from veyra.wire.base import Refusal, Stamp
from veyra.wire.calls import as_object
from veyra.wire.failures import by_status
from veyra.wire.ollama_answer import ABOUT, FINISH, NAME
from veyra.wire.payload import given
from veyra.wire.serving import JSON_TYPE, Piece, Words, Writer, in_one_line, reason, untold, waiting, words

_REASONS: Mapping[FinishReason, str] = {"stop": "stop", "length": "length", "tool_calls": "stop"}
_TOLD = frozenset({"role", "content", "thinking", "tool_calls"})
"""Fields of a message that events tell."""
_WORDS: Mapping[type[VeyraError], Words] = {
    InvalidRequestError: Words(400),
    AuthenticationError: Words(401),
    QuotaError: Words(402),
    BudgetExceededError: Words(402),
    PermissionDeniedError: Words(403),
    NotFoundError: Words(404),
    RateLimitError: Words(429),
    ConnectionFailedError: Words(502),
    IncompleteStreamError: Words(502),
    MalformedResponseError: Words(502),
    OverloadedError: Words(503),
    CircuitOpenError: Words(503),
    CallTimeoutError: Words(504),
    VeyraError: Words(500),
}


class _Reply(Writer):
    """Writes objects, each with the model and the time."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__()
        self._stamp = stamp
        self._first: float | None = None

    def add(self, event: Piece, out: list[bytes]) -> None:
        """Note when the first piece came."""
        super().add(event, out)
        if self._first is None:
            self._first = self.elapsed

    def failure(self, error: VeyraError) -> bytes:
        """Return an error as a line."""
        return _body(error) + b"\n"

    def _object(self, message: Mapping[str, Any], **rest: object) -> bytes:
        moment = datetime.fromtimestamp(self._stamp.created + self.elapsed, UTC)
        created = f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
        fields = {"model": self._stamp.model, "created_at": created, **self._turn(message)}
        return in_one_line(fields | rest)

    def _turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the field that holds a message."""
        return {"message": {"role": "assistant", **message}}

    def _calls(self) -> dict[str, Any]:
        calls = [
            {"id": block.id, "function": {"index": index, "name": block.name, "arguments": as_object(block.call)}}
            for index, block in enumerate(self.blocks.calls)
        ]
        return {"tool_calls": calls} if calls else {}

    def _last(self, message: Mapping[str, Any], finish: Finish) -> bytes:
        message = {**message, **untold(finish, NAME, _TOLD)}
        begun = self.elapsed if self._first is None else self._first
        counts = {
            "total_duration": _nanoseconds(self.elapsed),
            "prompt_eval_count": finish.usage.input_total,
            "prompt_eval_duration": _nanoseconds(begun),
            "eval_count": finish.usage.output_total,
            "eval_duration": _nanoseconds(self.elapsed - begun),
        }
        ended = {"done": True, "done_reason": reason(finish, FINISH, _REASONS)}
        return self._object(message, **ended, **given(counts), **untold(finish, ABOUT))


class ChatWholeReply(_Reply):
    """Writes a whole answer."""

    def head(self) -> Head:
        """Return the head of a JSON body."""
        return Head(200, {"content-type": JSON_TYPE + "; charset=utf-8"})

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the body."""
        thinking = self.blocks.text("reasoning")
        message = {"content": self.blocks.text(), **({"thinking": thinking} if thinking else {}), **self._calls()}
        out.append(self._last(message, finish))


class ChatStreamReply(_Reply):
    """Writes a stream of lines."""

    def head(self) -> Head:
        """Return the head of a stream."""
        return Head(200, {"content-type": "application/x-ndjson"})

    def add(self, event: Piece, out: list[bytes]) -> None:
        """Append the line that tells a piece, unless it is one of a call."""
        super().add(event, out)
        match event:
            case TextDelta(text):
                out.append(self._object({"content": text}, done=False) + b"\n")
            case ReasoningDelta(text):
                out.append(self._object({"content": "", "thinking": text}, done=False) + b"\n")

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the calls and the last line."""
        calls = self._calls()
        if calls:
            out.append(self._object({"content": "", **calls}, done=False) + b"\n")
        out.append(self._last({"content": ""}, finish) + b"\n")


class _Generated(_Reply):
    """Writes objects that answer a prompt: text and thinking stand by themselves, and calls have no place."""

    def _turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        thinking = {"thinking": message["thinking"]} if "thinking" in message else {}
        return {"response": message["content"], **thinking}


class GenerateWholeReply(_Generated, ChatWholeReply):
    """Writes a whole answer to a prompt."""


class GenerateStreamReply(_Generated, ChatStreamReply):
    """Writes a stream of lines that answers a prompt."""


def refusal(error: VeyraError) -> Refusal:
    """Return the answer that reports `error` in the place of any other; the provider's own status, if it is of its kind."""
    status = words(error, _WORDS).status
    own = error.status if isinstance(error, ProviderError) else None
    if own is not None and own >= 400 and by_status(own) is by_status(status):
        status = own
    headers = {name: value for name, value in waiting(error).items() if name == "retry-after"}
    return Refusal(Head(status, {"content-type": JSON_TYPE + "; charset=utf-8", **headers}), _body(error))


def _body(error: VeyraError) -> bytes:
    return msgspec.json.encode({"error": error.message})


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
