"""Gemini's `generateContent`: server half, writing answers and errors.

1. A stream ends with its last chunk, which gives the reason; there is no other marker. Counts are told there.
2. A tool call is one part, told whole, and its seal is known at the end only: in a stream, calls stand in the last chunk.
3. Where the answer's own parts came from this API, a whole answer is made of them, untouched. A stream has told text and
   thoughts before it knows them; its last chunk adds what no event tells: calls as they came, other parts, and the seal of a
   text as that of an empty one, as the provider does.
4. The candidates' count leaves thoughts out. What is not known is left out.
5. An answer that was withheld before its first word is a prompt that was blocked: it has no candidate.
6. The API takes an object as a call's arguments: those that are none stand under `INVALID_JSON`.
7. An error has a code, which is the HTTP status, a status in words (google.rpc.Code), and in its details the reason, where
   a status does not say enough, and how long to wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    ProviderError,
    QuotaError,
    RateLimitError,
    VeyraError,
)
from veyra.transport.base import Head
from veyra.types import Finish, FinishReason, ReasoningDelta, TextDelta, Usage
from veyra.wire.base import Refusal, Stamp
from veyra.wire.calls import as_object
from veyra.wire.failures import by_status
from veyra.wire.gemini import Gemini
from veyra.wire.gemini_answer import ABOUT, FINISH, MALFORMED, NAME
from veyra.wire.gemini_errors import STATUSES
from veyra.wire.payload import given
from veyra.wire.serving import (
    JSON_TYPE,
    Block,
    Blocks,
    Piece,
    Words,
    Writer,
    in_one_line,
    reason,
    told,
    untold,
    waiting,
    words,
)

_TYPE = f"{JSON_TYPE}; charset=UTF-8"
_REASONS: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "paused": "CONTINUATION",
    "other": "OTHER",
}
_BLOCKED = frozenset({"SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR"})
"""Words for why an answer was withheld that are said of a prompt, too."""
_NOTHING: Mapping[str, Any] = {"text": ""}

_WORDS: Mapping[type[VeyraError], Words] = {
    InvalidRequestError: Words(400, "INVALID_ARGUMENT"),
    AuthenticationError: Words(401, "UNAUTHENTICATED"),
    PermissionDeniedError: Words(403, "PERMISSION_DENIED"),
    QuotaError: Words(403, "PERMISSION_DENIED", "BILLING_DISABLED"),
    BudgetExceededError: Words(403, "PERMISSION_DENIED", "BILLING_DISABLED"),
    NotFoundError: Words(404, "NOT_FOUND"),
    RateLimitError: Words(429, "RESOURCE_EXHAUSTED"),
    OverloadedError: Words(503, "UNAVAILABLE"),
    CircuitOpenError: Words(503, "UNAVAILABLE"),
    CallTimeoutError: Words(504, "DEADLINE_EXCEEDED"),
    VeyraError: Words(500, "INTERNAL"),
}


class _Reply(Writer):
    """Writes chunks: a candidate's next parts, the model, and the answer's id."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__()
        self._stamp = stamp

    def _chunk(self, part: Mapping[str, Any]) -> bytes:
        """Return a chunk in the middle of a stream."""
        candidate = {"content": {"parts": [part], "role": "model"}, "index": 0}
        return msgspec.json.encode({"candidates": [candidate], **self._named()})

    def _last(self, parts: list[Any], finish: Finish) -> bytes:
        """Return the chunk that ends an answer, or is all of it."""
        about = untold(finish, ABOUT)
        feedback: Any = about.pop("promptFeedback", None)
        is_blocked = feedback is not None and "blockReason" in msgspec.json.decode(feedback, type=dict[str, Any])
        word = reason(finish, _known(finish.raw_reason), _REASONS)
        if not parts and not any(block.text for block in self.blocks):
            if finish.reason == "content_filter" and feedback is None and finish.raw_reason not in FINISH:
                feedback, is_blocked = {"blockReason": word if word in _BLOCKED else "OTHER"}, True
        else:
            is_blocked = False
        content = {"parts": parts or [_NOTHING], "role": "model"}
        candidate = {"content": content, "finishReason": word, "index": 0, **about}
        told = {
            "candidates": None if is_blocked else [candidate],
            "promptFeedback": feedback,
            "usageMetadata": _usage(finish.usage) or None,
        }
        return msgspec.json.encode({**given(told), **self._named()})

    def _named(self) -> dict[str, str]:
        return {"modelVersion": self._stamp.model, "responseId": self._stamp.id}


class ContentWholeReply(_Reply):
    """Writes a whole answer."""

    def head(self) -> Head:
        """Return the head of a JSON body."""
        return Head(200, {"content-type": _TYPE})

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the body."""
        own = _Own(finish)
        said = [block for block in self.blocks if block.text or block.kind == "call"]
        parts = own.parts if own.tell(self.blocks) else [_part(block) for block in said]
        out.append(self._last(parts, finish))

    def failure(self, error: VeyraError) -> bytes:
        """Return an error's body."""
        return _told(error, status=200)[1]


class ContentStreamReply(_Reply):
    """Writes a stream of server-sent events, whose lines end with CRLF."""

    def head(self) -> Head:
        """Return the head of a stream."""
        return Head(200, {"content-type": "text/event-stream"})

    def add(self, event: Piece, out: list[bytes]) -> None:
        """Append the chunk that tells a piece, unless it is one of a call."""
        super().add(event, out)
        match event:
            case TextDelta(text):
                out.append(self._framed(self._chunk({"text": text})))
            case ReasoningDelta(text):
                out.append(self._framed(self._chunk({"text": text, "thought": True})))

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the last chunk."""
        own = _Own(finish)
        parts = own.rest if own.tell(self.blocks) else [_part(block) for block in self.blocks.calls]
        out.append(self._framed(self._last(parts, finish), is_last=True))

    def failure(self, error: VeyraError) -> bytes:
        """Return an error as a chunk, after which nothing comes."""
        return self._framed(_told(error, status=200)[1], is_last=True)

    def _framed(self, chunk: bytes, *, is_last: bool = False) -> bytes:  # noqa: ARG002  (an event does not say that it is the last)
        return b"data: %b\r\n\r\n" % in_one_line(msgspec.Raw(chunk))


class ContentArrayReply(ContentStreamReply):
    """Writes a stream as a JSON array of its chunks, which is what comes without `alt=sse`."""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__(stamp)
        self._is_open = False

    def head(self) -> Head:
        """Return the head of an array."""
        return Head(200, {"content-type": _TYPE})

    def _framed(self, chunk: bytes, *, is_last: bool = False) -> bytes:
        before = b",\r\n" if self._is_open else b"["
        self._is_open = not is_last  # an error that comes later takes the place of the whole array
        return before + chunk + (b"]" if is_last else b"")


class _Own:
    """The answer's parts that came from this API."""

    def __init__(self, finish: Finish) -> None:
        raws = [part.raw for part in finish.parts if part.dialect == NAME]
        self.parts = [msgspec.Raw(raw) for raw in raws]
        self._fields = [msgspec.json.decode(raw, type=dict[str, Any]) for raw in raws]

    @property
    def rest(self) -> list[Any]:
        """What no event tells: parts that are no text, and what a text bears besides."""
        rest: list[Any] = []
        for raw, part in zip(self.parts, self._fields, strict=True):
            if "functionCall" in part or not isinstance(part.get("text"), str):
                rest.append(raw)
            elif not part.keys() <= {"text", "thought"}:
                rest.append({**part, "text": ""})
        return rest

    def tell(self, blocks: Blocks) -> bool:
        """Say whether they are there, and are what the events told."""
        return bool(self.parts) and (
            self._text(thought=False) == blocks.text()
            and self._text(thought=True) == blocks.text("reasoning")
            and self._calls() == [(block.name, block.call.arguments) for block in blocks.calls]
        )

    def _text(self, *, thought: bool) -> str:
        texts = (part for part in self._fields if "functionCall" not in part and isinstance(part.get("text"), str))
        return "".join(part["text"] for part in texts if (part.get("thought") is True) == thought)

    def _calls(self) -> list[tuple[object, object]]:
        calls = [part["functionCall"] for part in self._fields if isinstance(part.get("functionCall"), dict)]
        return [(call.get("name"), call.get("args") or {}) for call in calls]


def _known(word: str | None) -> Mapping[str, FinishReason]:
    """Return how a client reads reasons, the given one included: any word in capitals that it does not know is `other`."""
    if word is None or not word.isupper() or word.startswith(MALFORMED):
        return {}
    return {word: FINISH.get(word, "other")}


def _part(block: Block) -> dict[str, Any]:
    """Return a block as a part."""
    match block.kind:
        case "text":
            return {"text": block.text}
        case "reasoning":
            return {"text": block.text, "thought": True}
        case "call":
            return {"functionCall": {"id": block.id, "name": block.name, "args": as_object(block.call)}}


def _usage(usage: Usage) -> dict[str, int]:
    """Return the totals."""
    spoken = usage.output_total
    thoughts = None if spoken is None else usage.reasoning
    total = None if spoken is None or usage.input_total is None else usage.input_total + spoken
    counts = {
        "promptTokenCount": usage.input_total,
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": None if spoken is None else max(spoken - (thoughts or 0), 0),
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": total,
    }
    return given(counts)


# ------------------------------------------------------------------------------------------------- errors


def refusal(error: VeyraError, *, in_array: bool = False) -> Refusal:
    """Return the answer that reports `error` in the place of any other."""
    status, body = _told(error)
    headers = {name: value for name, value in waiting(error).items() if name == "retry-after"}
    return Refusal(Head(status, {"content-type": _TYPE, **headers}), b"[%b]" % body if in_array else body)


def _told(error: VeyraError, *, status: int | None = None) -> tuple[int, bytes]:
    usual = _usual(error)

    def body(how: Words) -> bytes:
        details = list(_details(error, how.code))
        fields = {"code": how.status, "message": error.message, "status": how.type}
        return msgspec.json.encode({"error": {**fields, **({"details": details} if details else {})}})

    if isinstance(error, ProviderError) and error.provider_type in STATUSES:
        return told(error, usual, body, Gemini(), status=status)
    return usual.status, body(usual)


def _usual(error: VeyraError) -> Words:
    """Return the format's words for an error; the provider's own status, if it is of its kind, and the word for that."""
    usual = words(error, _WORDS)
    own = error.status if isinstance(error, ProviderError) else None
    if own is None or own < 400 or by_status(own) is not by_status(usual.status):
        return usual
    word = next((word for word, (_, code) in STATUSES.items() if code == own), usual.type)
    return replace(usual, status=own, type=usual.type if own == usual.status else word)


def _details(error: VeyraError, code: str | None) -> list[dict[str, str]]:
    details: list[dict[str, str]] = []
    if code is not None and not code.isdecimal():
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "googleapis.com"}
        details.append(info)
    if isinstance(error, ProviderError) and error.retry_after is not None:
        wait = f"{error.retry_after:.9f}".rstrip("0").rstrip(".")
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"})
    return details
