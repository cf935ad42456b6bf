"""Anthropic Messages: reading answers. The rules stand at the head of `anthropic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.types import (
    Event,
    Finish,
    FinishReason,
    ModelWarning,
    Opaque,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from veyra.wire.anthropic_errors import reported
from veyra.wire.calls import INVALID_JSON, Calls, parse
from veyra.wire.decoding import EventStream, WholeBody
from veyra.wire.failures import Origin
from veyra.wire.reading import UNREADABLE, as_count, as_word

NAME = "anthropic"

FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "paused",
}
"""What the API's stop reasons are in our words."""
_INPUT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class _Message(msgspec.Struct):
    """A whole answer, or what a stream says of it at its start."""

    type: Any = None
    id: Any = None
    model: Any = None
    content: list[msgspec.Raw] | None = None
    stop_reason: Any = None
    stop_details: Any = None
    usage: Any = None
    error: Any = None


class _Event(msgspec.Struct):
    """An event of a stream; `delta` is that of a block or of the message."""

    type: Any = None
    index: int | None = None
    message: _Message | None = None
    content_block: msgspec.Raw = msgspec.Raw(b"null")
    delta: dict[str, Any] | None = None
    usage: Any = None


_MESSAGE = msgspec.json.Decoder(_Message)
_EVENT = msgspec.json.Decoder(_Event)
_BLOCK: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class _RawInput(msgspec.Struct):
    """The one field of a block whose bytes matter apart: what the model wrote for a tool."""

    input: msgspec.Raw = msgspec.Raw(b"")


_INPUT = msgspec.json.Decoder(_RawInput)


class MessageStream(EventStream):
    """Reads a stream of events."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin, MessageWhole(origin))
        self._answer = _Answer(origin)

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._answer.partial

    def stop(self, out: list[Event], *, cut: bool) -> None:  # noqa: ARG002  (no other end counts, whole or cut)
        """Refuse to end without `message_stop`."""
        marker = "message_stop"
        raise self._origin.incomplete(marker, partial=self.partial)

    def event(self, name: str, body: bytes, out: list[Event]) -> None:
        """Read an event; one of an unknown type is passed over."""
        try:
            event = _EVENT.decode(body)
        except UNREADABLE as error:
            if name == "error":
                raise reported(self._origin, body, partial=self.partial) from None
            what = f"not an event of a message ({error})"
            raise self._origin.malformed(what, body, partial=self.partial) from None
        match event.type or name:
            case "content_block_delta":
                self._answer.add(event.index, event.delta or {}, out)
            case "content_block_start":
                self._answer.begin(event.index, bytes(event.content_block), out)
            case "content_block_stop":
                self._answer.close(event.index, out)
            case "message_start" if event.message is not None:
                self._answer.head(event.message)
            case "message_delta":
                self._answer.end(event.delta or {}, event.usage, out)
            case "message_stop":
                out.append(self._answer.finish(out))
                self.done = True
            case "error":
                raise reported(self._origin, body, partial=self.partial)


class MessageWhole(WholeBody):
    """Reads a whole answer."""

    def read(self, body: bytes, out: list[Event]) -> None:
        """Read the message's blocks."""
        try:
            message = _MESSAGE.decode(body)
        except UNREADABLE as error:
            what = f"not a message ({error})"
            raise self._origin.malformed(what, body) from None
        if message.error is not None or message.type == "error":
            raise reported(self._origin, body)
        if message.content is None:
            what = "the answer has no content"
            raise self._origin.malformed(what, body)
        answer = _Answer(self._origin)
        answer.head(message)
        for index, block in enumerate(message.content):
            answer.begin(index, bytes(block), out)
            answer.close(index, out)
        answer.end({"stop_reason": message.stop_reason, "stop_details": message.stop_details}, None, out)
        out.append(answer.finish(out))


class _Block:
    """A block under way: its first form, exact, and the texts and values that deltas add to it."""

    __slots__ = ("fields", "is_call", "open", "start", "texts", "values")

    def __init__(self, start: bytes, fields: dict[str, Any]) -> None:
        self.start = start
        self.fields = fields
        self.is_call = fields.get("type") == "tool_use"
        self.open = True
        self.texts: dict[str, list[str]] = {}
        self.values: dict[str, list[Any]] = {}

    def add(self, delta: Mapping[str, Any]) -> None:
        """Take a delta of any type: what is new is kept under the field it belongs to."""
        for name, value in delta.items():
            if isinstance(value, str):
                if name != "type":
                    self.texts.setdefault(name, []).append(value)
            elif value is not None:
                self.values.setdefault(name, []).append(value)

    def whole(self) -> bytes:
        """Return the block's JSON: as it came where no delta followed, or else rebuilt."""
        if not self.texts and not self.values:
            return self.start
        fields = dict(self.fields)
        for name, pieces in self.texts.items():
            text = "".join(pieces)
            if name != "partial_json":
                start = fields.get(name)
                fields[name] = start + text if isinstance(start, str) else text
            elif text.strip():
                fields["input"] = msgspec.Raw(text.encode()) if parse(text) is not None else {INVALID_JSON: text}
        for name, values in self.values.items():
            if name == "citation":
                start = fields.get("citations")
                fields["citations"] = start + values if isinstance(start, list) else values
            else:
                fields[name] = values[-1]
        return msgspec.json.encode(fields)


class _Answer:
    """An answer as it grows, out of events or out of a whole message; both are read by the same code."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._text: list[str] = []
        self._blocks: list[_Block] = []
        self._by_index: dict[int | None, _Block] = {}
        self._calls = Calls()
        self._id: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None

    @property
    def partial(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def head(self, message: _Message) -> None:
        """Take what is said of the whole answer."""
        self._id = as_word(message.id)
        self._model = as_word(message.model)
        self._count(message.usage)

    def begin(self, index: int | None, start: bytes, out: list[Event]) -> None:
        """Begin a block, which may already hold everything."""
        try:
            fields = _BLOCK.decode(start)
        except UNREADABLE as error:
            what = f"not a block ({error})"
            raise self._origin.malformed(what, start, partial=self.partial) from None
        self.close(index, out)
        block = _Block(start, fields)
        self._blocks.append(block)
        self._by_index[index] = block
        if block.is_call:
            out.append(self._piece(index, block, ""))
        elif fields.get("type") == "fallback":
            self._fall_back(fields, out)
        self._say(fields, out)

    def add(self, index: int | None, delta: dict[str, Any], out: list[Event]) -> None:
        """Add a delta to its block."""
        block = self._by_index.get(index)
        if block is None:
            what = f"a delta for block {index}, which was not begun"
            raise self._origin.malformed(what, partial=self.partial)
        block.add(delta)
        piece = delta.get("partial_json")
        if piece and isinstance(piece, str) and block.is_call:
            out.append(self._piece(index, block, piece))
        self._say(delta, out)

    def close(self, index: int | None, out: list[Event]) -> None:
        """End a block: a call whose input came with its beginning, and in no delta, is told now."""
        block = self._by_index.get(index)
        if block is not None:
            self._close(index, block, out)

    def end(self, delta: Mapping[str, Any], stated: object, out: list[Event]) -> None:
        """Take why the model stopped, and the tokens counted so far; a refusal's explanation is a warning."""
        self._count(stated)
        reason = delta.get("stop_reason")
        if reason and isinstance(reason, str):
            self._stop_reason = reason
        details = delta.get("stop_details")
        if isinstance(details, dict) and details.get("explanation"):
            out.append(ModelWarning("refusal", str(details["explanation"])))

    def finish(self, out: list[Event]) -> Finish:
        """Return the end of the answer, after appending what blocks that were not ended still hold."""
        for index, block in self._by_index.items():
            self._close(index, block, out)
        return Finish(
            reason=FINISH.get(self._stop_reason or "", "other"),
            raw_reason=self._stop_reason,
            usage=usage(self._usage),
            model=self._model,
            response_id=self._id,
            request_id=self._origin.request_id,
            tool_calls=self._calls.finished(),
            parts=tuple(Opaque(NAME, block.whole()) for block in self._blocks),
        )

    def _count(self, stated: object) -> None:
        """Merge a usage object: what it states counts, what it leaves out stays."""
        if isinstance(stated, dict):
            self._usage.update((name, value) for name, value in stated.items() if value is not None)

    def _close(self, index: int | None, block: _Block, out: list[Event]) -> None:
        if block.is_call and block.open and not any(block.texts.get("partial_json", ())):
            raw = bytes(_INPUT.decode(block.start).input)
            if raw:
                out.append(self._piece(index, block, raw.decode()))
        block.open = False

    def _fall_back(self, block: Mapping[str, Any], out: list[Event]) -> None:
        """Take the model that goes on with the answer in the place of the one asked for."""
        match block:
            case {"to": {"model": str(model)}}:
                self._model = model
                out.append(ModelWarning("other_model", f"the provider fell back to {model}", "model"))

    def _piece(self, index: int | None, block: _Block, arguments: str) -> ToolCallDelta:
        return self._calls.add(
            index=index,
            id=as_word(block.fields.get("id")) or "",
            name=as_word(block.fields.get("name")) or "",
            arguments=arguments,
        )

    def _say(self, piece: Mapping[str, Any], out: list[Event]) -> None:
        """Append the text or the thinking that a block's beginning or a delta holds."""
        match piece:
            case {"type": "text" | "text_delta", "text": str(text)} if text:
                self._text.append(text)
                out.append(TextDelta(text))
            case {"type": "thinking" | "thinking_delta", "thinking": str(text)} if text:
                out.append(ReasoningDelta(text))


def usage(stated: Mapping[str, Any]) -> Usage:
    """Return the tokens that the merged `usage` objects state; the total has what went through the cache (rule 2)."""
    fresh, read_, written = (as_count(stated.get(name)) for name in _INPUT_COUNTS)
    details = stated.get("output_tokens_details")
    return Usage(
        input_total=None if fresh is None else fresh + (read_ or 0) + (written or 0),
        input_uncached=fresh,
        cache_read=read_,
        cache_write=written,
        output_total=as_count(stated.get("output_tokens")),
        reasoning=as_count(details.get("thinking_tokens")) if isinstance(details, dict) else None,
    )
