"""OpenAI Chat Completions: server half, writing answers and errors.

1. A stream begins with a chunk that names the role, and ends with one that has the finish reason, one with the usage
   where that was asked for and is known, and `[DONE]`. An error inside it is an event of its own, and ends it.
2. Reasoning is told as `reasoning_content`, the name that most clients read; OpenAI itself never tells it.
3. What a provider's answer of this format holds besides text, reasoning and calls is told at the end, untouched.
4. A count that is not known is left out, never 0.
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
    ConnectionFailedError,
    ContentPolicyError,
    ContextLengthError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    UnsupportedParameterError,
    VeyraError,
)
from veyra.transport.base import Head
from veyra.types import Finish, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from veyra.wire.base import Refusal, Stamp
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_chat_answer import ABOUT, FINISH, NAME
from veyra.wire.payload import given
from veyra.wire.serving import (
    EVENTS_TYPE,
    JSON_TYPE,
    Block,
    Piece,
    Words,
    Writer,
    reason,
    server_event,
    told,
    untold,
    waiting,
    words,
)

_REASONS: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
_TOLD = frozenset({"role", "content", "refusal", "reasoning", "reasoning_content", "tool_calls", "function_call"})
"""Fields of a message that events tell."""

_OF_CHOICE = ("logprobs", "content_filter_results")
"""What may be said about an answer that stands in its choice."""

_BAD = "invalid_request_error"
_WORDS: Mapping[type[VeyraError], Words] = {
    AuthenticationError: Words(401, _BAD, "invalid_api_key"),
    PermissionDeniedError: Words(403, "permission_error"),
    QuotaError: Words(429, "insufficient_quota", "insufficient_quota"),
    BudgetExceededError: Words(429, "insufficient_quota", "insufficient_quota"),
    NotFoundError: Words(404, _BAD, "model_not_found"),
    InvalidRequestError: Words(400, _BAD),
    ContextLengthError: Words(400, _BAD, "context_length_exceeded"),
    ContentPolicyError: Words(400, _BAD, "content_policy_violation"),
    UnsupportedParameterError: Words(400, _BAD, "unsupported_parameter"),
    RateLimitError: Words(429, "requests", "rate_limit_exceeded"),
    OverloadedError: Words(503, "server_error", "server_is_overloaded"),
    CircuitOpenError: Words(503, "server_error", "server_is_overloaded"),
    ConnectionFailedError: Words(502, "server_error"),
    IncompleteStreamError: Words(502, "server_error"),
    MalformedResponseError: Words(502, "server_error"),
    CallTimeoutError: Words(504, "server_error"),
    VeyraError: Words(500, "server_error"),
}


class _Reply(Writer):
    """Writes an answer, whole or in chunks.

    Args:
        stamp: what the answer bears.
        custom: the names of tools that take free text.
    """

    def __init__(self, stamp: Stamp, custom: frozenset[str]) -> None:
        super().__init__()
        self._stamp = stamp
        self._custom = custom

    def _call(self, block: Block) -> dict[str, Any]:
        if block.name in self._custom:
            return {"id": block.id, "type": "custom", "custom": {"name": block.name, "input": block.text}}
        return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.text}}

    def _delta(self, event: ToolCallDelta, block: Block) -> dict[str, Any]:
        """Return a piece of a call: only the first has its id, type and name."""
        if len(block.pieces) == 1:
            return {"index": event.index, **self._call(block)}
        if block.name in self._custom:
            return {"index": event.index, "custom": {"input": event.arguments}}
        return {"index": event.index, "function": {"arguments": event.arguments}}


class ChatWholeReply(_Reply):
    """Writes a whole answer."""

    def head(self) -> Head:
        """Return the head of a JSON body."""
        return Head(200, {"content-type": JSON_TYPE, "x-request-id": self._stamp.request_id})

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the body."""
        calls = [self._call(block) for block in self.blocks.calls]
        reasoning = self.blocks.text("reasoning")
        message = {
            "role": "assistant",
            "content": self.blocks.text() or (None if calls else ""),
            "refusal": None,
            **({"reasoning_content": reasoning} if reasoning else {}),
            **({"tool_calls": calls} if calls else {}),
            **untold(finish, NAME, _TOLD),
        }
        of_choice, of_answer = _about(finish)
        ended = {"logprobs": None, "finish_reason": reason(finish, FINISH, _REASONS)} | of_choice
        choice = {"index": 0, "message": message, **ended}
        answer = _common(self._stamp, "chat.completion") | {"choices": [choice]} | of_answer
        counts = _usage(finish.usage)
        out.append(msgspec.json.encode(answer | {"usage": counts} if counts else answer))

    def failure(self, error: VeyraError) -> bytes:
        """Return an error's body: a client looks for one in an answer that began well, too."""
        return error_inside(error)


class ChatStreamReply(_Reply):
    """Writes a stream of chunks.

    Args:
        stamp: what the answer bears.
        custom: the names of tools that take free text.
        usage: the request asked for usage.
    """

    def __init__(self, stamp: Stamp, custom: frozenset[str], *, usage: bool) -> None:
        super().__init__(stamp, custom)
        self._common = _common(stamp, "chat.completion.chunk")
        self._usage = usage

    def head(self) -> Head:
        """Return the head of a stream."""
        headers = {"content-type": EVENTS_TYPE, "cache-control": "no-cache", "x-request-id": self._stamp.request_id}
        return Head(200, headers)

    def begin(self, out: list[bytes]) -> None:
        """Append the chunk that names the role."""
        out.append(self._chunk({"role": "assistant", "content": "", "refusal": None}))

    def add(self, event: Piece, out: list[bytes]) -> None:
        """Append the delta that tells a piece."""
        block = self.blocks.add(event)
        match event:
            case TextDelta(text):
                out.append(self._chunk({"content": text}))
            case ReasoningDelta(text):
                out.append(self._chunk({"reasoning_content": text}))
            case ToolCallDelta():
                out.append(self._chunk({"tool_calls": [self._delta(event, block)]}))

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append what is left, the finish reason, the usage where it was asked for, and `[DONE]`."""
        rest = untold(finish, NAME, _TOLD)
        if rest:
            out.append(self._chunk(rest))
        of_choice, of_answer = _about(finish)
        out.append(self._chunk({}, {"finish_reason": reason(finish, FINISH, _REASONS)} | of_choice, of_answer))
        counts = _usage(finish.usage)
        if self._usage and counts:
            out.append(server_event(self._common | {"choices": [], "usage": counts}))
        out.append(b"data: [DONE]\n\n")

    def failure(self, error: VeyraError) -> bytes:
        """Return an error as an event."""
        return b"data: %b\n\n" % error_inside(error)

    def _chunk(
        self, delta: Mapping[str, Any], ended: Mapping[str, Any] | None = None, about: Mapping[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **(ended or {})}
        chunk = {**self._common, "choices": [choice], **(about or {})}
        return server_event(chunk | {"usage": None} if self._usage else chunk)


def refusal(error: VeyraError, request_id: str) -> Refusal:
    """Return the answer that reports `error` in the place of any other."""
    status, body = _told(error)
    return Refusal(Head(status, {"content-type": JSON_TYPE, "x-request-id": request_id, **waiting(error)}), body)


def error_inside(error: VeyraError) -> bytes:
    """Return the body that tells an error inside an answer that began well."""
    return _told(error, status=200)[1]


def _told(error: VeyraError, *, status: int | None = None) -> tuple[int, bytes]:
    def body(how: Words) -> bytes:
        fields = {"message": error.message, "type": how.type, "param": None, "code": how.code}
        return msgspec.json.encode({"error": fields})

    return told(error, words(error, _WORDS), body, OpenAIChat(), status=status)


def _common(stamp: Stamp, kind: str) -> dict[str, Any]:
    return {"id": stamp.id, "object": kind, "created": int(stamp.created), "model": stamp.model}


def _about(finish: Finish) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what else was said about the answer: of its choice, and of all of it."""
    about = untold(finish, ABOUT)
    return {name: about.pop(name) for name in _OF_CHOICE if name in about}, about


def _usage(usage: Usage) -> dict[str, Any]:
    total = None if usage.input_total is None or usage.output_total is None else usage.input_total + usage.output_total
    inputs = given({"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write})
    outputs = given({"reasoning_tokens": usage.reasoning})
    counts = {
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output_total,
        "total_tokens": total,
        "prompt_tokens_details": inputs or None,
        "completion_tokens_details": outputs or None,
    }
    return given(counts)
