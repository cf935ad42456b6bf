"""OpenAI Chat Completions: reading answers. The rules stand at the head of `openai_chat`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from veyra.types import Event, Finish, FinishReason, ModelWarning, Opaque, ReasoningDelta, TextDelta, Usage
from veyra.wire.calls import Calls
from veyra.wire.decoding import EventStream, WholeBody
from veyra.wire.failures import Origin
from veyra.wire.openai_chat_errors import reported
from veyra.wire.reading import UNREADABLE, as_count, as_word

NAME = "openai_chat"
ABOUT = "openai_chat.answer"
"""The dialect of the block that keeps what is said about an answer, besides its message: it is never sent back."""

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Finish reasons: OpenAI's own, Together's `eos` and Mistral's `model_length`."""

_SAID = ("citations", "search_results", "moderation")
"""Fields of a chunk that say something about the answer, and of which the last counts."""

_CHUNK_ONLY = frozenset({"role", "token_id", "channel", "padding"})
"""Fields of a delta that describe the chunk, and would be wrong in a message sent back."""

_TEXTS = frozenset({"content", "refusal", "reasoning", "reasoning_content"})
_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})

_CACHE_READ = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
"""Where cached tokens stand that are not among the details: Together, Mistral, DeepSeek."""


class _Choice(msgspec.Struct):
    index: Any = 0
    delta: dict[str, Any] | None = None
    message: msgspec.Raw = msgspec.Raw(b"null")
    finish_reason: Any = None
    error: Any = None
    logprobs: Any = None
    content_filter_results: Any = None


class _Chunk(msgspec.Struct):
    """A chunk of a stream, or a whole answer: what we read of it; unknown fields are passed over."""

    id: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None
    object: Any = None
    citations: Any = None
    search_results: Any = None
    moderation: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_MESSAGE: msgspec.json.Decoder[dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None)


class ChatStream(EventStream):
    """Reads a stream of chunks."""

    marker: ClassVar[bytes] = b"[DONE]"

    def __init__(self, origin: Origin, *, done_marker: bool) -> None:
        super().__init__(origin, ChatWhole(origin))
        self._answer = _Answer(origin)
        self._done_marker = done_marker

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._answer.partial

    def event(self, name: str, body: bytes, out: list[Event]) -> None:
        """Read a chunk, an error, or `[DONE]`."""
        if body.startswith(b"[") and body.strip() == self.marker:
            self.stop(out, cut=False, marked=True)
            return
        if name == "error":
            raise reported(self._origin, body, partial=self.partial)
        chunk = self._answer.read(body)
        self._answer.head(chunk, body)
        for choice in chunk.choices or ():
            if choice.index:
                self._answer.skip(out)
                continue
            delta = choice.delta if choice.delta is not None else _message(self._origin, choice)
            if delta:
                self._answer.add(delta, out)
            self._answer.end(choice)

    def stop(self, out: list[Event], *, cut: bool, marked: bool = False) -> None:
        """End the answer: by `[DONE]` (`marked`), or by the body's end where the endpoint sends no marker."""
        if self._answer.finish_reason is None:
            marker = "a finish_reason"
            raise self._origin.incomplete(marker, partial=self.partial)
        if cut or (self._done_marker and not marked):
            marker = "[DONE]"
            raise self._origin.incomplete(marker, partial=self.partial)
        out.append(self._answer.finish(self._answer.rebuilt()))
        self.done = True


class ChatWhole(WholeBody):
    """Reads a whole answer."""

    def read(self, body: bytes, out: list[Event]) -> None:
        """Read the first choice's message."""
        answer = _Answer(self._origin)
        chunk = answer.read(body)
        answer.head(chunk, body)
        if not chunk.choices:
            what = "the answer has no choices"
            raise self._origin.malformed(what, body)
        choice = chunk.choices[0]
        message = _message(self._origin, choice) or {}
        answer.add(message, out, whole=True)
        answer.end(choice)
        if len(chunk.choices) > 1:
            answer.skip(out)
        out.append(answer.finish(bytes(choice.message) if _more_than_text(message) else None))


def _message(origin: Origin, choice: _Choice) -> dict[str, Any] | None:
    try:
        return _MESSAGE.decode(choice.message)
    except UNREADABLE as error:
        what = f"not a message ({error})"
        raise origin.malformed(what, bytes(choice.message)) from None


def _more_than_text(message: Mapping[str, Any]) -> bool:
    for name, value in message.items():
        if value and name not in _CHUNK_ONLY and not (name == "content" and isinstance(value, str)):
            return True
    return False


class _Answer:
    """An answer as it grows, out of deltas or out of one message; both are read by the same code."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._text: list[str] = []
        self._fields: dict[str, list[Any]] = {}
        self._calls = Calls()
        self._call_fields: dict[int, dict[str, Any]] = {}
        self._several = False
        self._id: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] = {}
        self._about: dict[str, Any] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self.finish_reason: str | None = None

    @property
    def partial(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def read(self, body: bytes) -> _Chunk:
        """Return the chunk that `body` is.

        Raises:
            MalformedResponseError: it is none.
        """
        try:
            return _CHUNK.decode(body)
        except UNREADABLE as error:
            what = f"not a chat completion ({error})"
            raise self._origin.malformed(what, body, partial=self.partial) from None

    def head(self, chunk: _Chunk, body: bytes) -> None:
        """Take what a chunk says about the whole answer.

        Raises:
            ProviderError: the chunk is, or holds, an error.
        """
        if chunk.error or chunk.object == "error":
            raise reported(self._origin, body, partial=self.partial)
        if self._id is None:
            self._id = as_word(chunk.id)
        if self._model is None:
            self._model = as_word(chunk.model)
        if chunk.citations or chunk.search_results or chunk.moderation:
            said = ((name, getattr(chunk, name)) for name in _SAID)
            self._about.update((name, value) for name, value in said if value)
        usage = chunk.usage
        if not usage and isinstance(chunk.x_groq, dict):
            usage = chunk.x_groq.get("usage")
        if usage and isinstance(usage, dict):
            self._usage = usage

    def skip(self, out: list[Event]) -> None:
        """Warn, once, of choices after the first: an answer here is one answer."""
        if not self._several:
            self._several = True
            out.append(ModelWarning("other_choices", "the provider sent several choices; only the first is kept", "n"))

    def add(self, delta: Mapping[str, Any], out: list[Event], *, whole: bool = False) -> None:
        """Append what a delta, or a whole message, adds."""
        thought = "reasoning_content" if delta.get("reasoning_content") else "reasoning"
        for name, value in delta.items():
            if not value:
                continue
            self._fields.setdefault(name, []).append(value)
            if name == "content":
                self._content(value, out)
            elif name == thought:
                if isinstance(value, str):
                    out.append(ReasoningDelta(value))
            elif name == "refusal":
                self._say(value, out)
            elif name == "tool_calls" and isinstance(value, list):
                for position, call in enumerate(value):
                    self._call(call, out, position if whole else None)
            elif name == "function_call":
                self._call({"function": value}, out, 0)

    def end(self, choice: _Choice) -> None:
        """Take the choice's finish reason, and what is said about the choice.

        Raises:
            ProviderError: the choice ended in an error.
        """
        if choice.error or choice.finish_reason == "error":
            raise reported(self._origin, msgspec.json.encode({"error": choice.error}), partial=self.partial)
        if choice.finish_reason and isinstance(choice.finish_reason, str):
            self.finish_reason = choice.finish_reason
        if choice.content_filter_results:
            self._about["content_filter_results"] = choice.content_filter_results
        if isinstance(choice.logprobs, dict):
            for name, values in choice.logprobs.items():
                if isinstance(values, list):
                    self._logprobs.setdefault(name, []).extend(values)

    def finish(self, message: bytes | None) -> Finish:
        """Return the end of the answer; `message` is the provider's own, where it holds more than text."""
        calls = self._calls.finished()
        reason = FINISH.get(self.finish_reason or "", "other")
        if calls and reason in {"stop", "other"}:
            reason = "tool_calls"
        elif reason == "stop" and "refusal" in self._fields:
            reason = "content_filter"
        return Finish(
            reason=reason,
            raw_reason=self.finish_reason,
            usage=usage(self._usage),
            model=self._model,
            response_id=self._id,
            request_id=self._origin.request_id,
            tool_calls=calls,
            parts=self._kept(message),
        )

    def _kept(self, message: bytes | None) -> tuple[Opaque, ...]:
        """Return the message to be replayed, if any, and behind it what was said about the answer."""
        parts = [] if message is None else [Opaque(NAME, message)]
        about = self._about | ({"logprobs": self._logprobs} if self._logprobs else {})
        if about:
            parts.append(Opaque(ABOUT, msgspec.json.encode(about)))
        return tuple(parts)

    def rebuilt(self) -> bytes | None:
        """Return the message that the deltas add up to, or None where it is only text."""
        message = {name: _joined(name, values) for name, values in self._fields.items() if name not in _CHUNK_ONLY}
        if not _more_than_text(message):
            return None
        if "tool_calls" in message:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.raw},
                    **self._call_fields.get(position, {}),
                }
                for position, call in enumerate(self._calls.finished())
            ]
        return msgspec.json.encode({"role": "assistant", "content": None, **message})

    def _say(self, value: object, out: list[Event]) -> None:
        """Append text; what is no string is a value (an object, where JSON was asked for), and its text is its JSON."""
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        self._text.append(text)
        out.append(TextDelta(text))

    def _content(self, value: object, out: list[Event]) -> None:
        """Append content: a string, or a list of parts of which text and thinking are read."""
        if not isinstance(value, list):
            self._say(value, out)
            return
        for part in value:
            if isinstance(part, str):
                self._say(part, out)
            elif isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
                self._say(part["text"], out)
            elif isinstance(part, dict) and part.get("type") == "thinking":
                out.extend(ReasoningDelta(text) for text in _thinking(part.get("thinking")))

    def _call(self, piece: object, out: list[Event], index: int | None) -> None:
        """Append a piece of a tool call; a `custom` tool's input, which is free text, stands for its arguments."""
        if not isinstance(piece, dict):
            return
        function = piece.get("function") or piece.get("custom")
        function = function if isinstance(function, dict) else {}
        arguments = function.get("arguments", function.get("input"))
        if arguments is not None and not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        name = as_word(function.get("name")) or ""
        if not (name or arguments or piece.get("id")):
            return
        delta = self._calls.add(
            index=piece.get("index") if index is None else index,
            id=as_word(piece.get("id")) or "",
            name=name,
            arguments=arguments or "",
        )
        out.append(delta)
        fields = {name: value for name, value in piece.items() if value and name not in _CALL_FIELDS}
        if fields:
            self._call_fields.setdefault(delta.index, {}).update(fields)


def usage(stated: Mapping[str, Any]) -> Usage:
    """Return the tokens that a `usage` object states (wire facts, 7).

    xAI counts reasoning apart from `completion_tokens`; its `total_tokens` shows it, and then both are added up.
    """
    inputs = _details(stated, "prompt_tokens_details", "prompt_token_details")
    outputs = _details(stated, "completion_tokens_details", "completion_token_details")
    total, output = as_count(stated.get("prompt_tokens")), as_count(stated.get("completion_tokens"))
    read_ = as_count(inputs.get("cached_tokens"))
    if read_ is None:
        read_ = as_count(*map(stated.get, _CACHE_READ))
    written = as_count(inputs.get("cache_write_tokens"), stated.get("cache_creation_input_tokens"))
    reasoning = as_count(outputs.get("reasoning_tokens"), stated.get("reasoning_tokens"))
    if total is not None and output is not None and reasoning:
        apart = stated.get("total_tokens") == total + output + reasoning
        output += reasoning if apart else 0
    uncached = None if total is None or read_ is None else max(total - read_ - (written or 0), 0)
    return Usage(
        input_total=total,
        input_uncached=uncached,
        cache_read=read_,
        cache_write=written,
        output_total=output,
        reasoning=reasoning,
    )


def _details(stated: Mapping[str, Any], name: str, other: str) -> Mapping[str, Any]:
    """Return the object that parts a count; some spell its name without the plural."""
    details = stated.get(name) or stated.get(other)
    return details if isinstance(details, dict) else {}


def _thinking(value: object) -> list[str]:
    """Return the texts of a thinking part: a string, or a list of text parts."""
    parts = value if isinstance(value, list) else [value]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return [text for text in texts if isinstance(text, str) and text]


def _joined(name: str, values: list[Any]) -> object:
    """Return what the values of one field add up to over all deltas.

    The fields that carry text are joined; lists are put together item by item, objects field by field;
    of anything else the last counts.
    """
    if name in _TEXTS and all(isinstance(value, str) for value in values):
        return "".join(values)
    if any(isinstance(value, list) for value in values):
        items: list[Any] = []
        for value in values:
            for item in value if isinstance(value, list) else [{"type": "text", "text": value}]:
                _merge(items, item)
        return [_closed(item) for item in items]
    if all(isinstance(value, dict) for value in values):
        return {key: field for value in values for key, field in value.items()}
    return values[-1]


def _merge(items: list[Any], item: object) -> None:
    """Put an item of a list behind the others, or into the last one where it goes on with it.

    It goes on where type and index are the same; without an index, only text and thinking do. Texts are joined (kept in
    pieces until `_closed`), lists put together, of other fields the last stated counts.
    """
    if not isinstance(item, dict):
        items.append(item)
        return
    last = items[-1] if items and isinstance(items[-1], dict) else None
    same = last is not None and all(last.get(key) == item.get(key) for key in ("type", "index"))
    if last is None or not same or (item.get("index") is None and item.get("type") not in {"text", "thinking"}):
        items.append({key: _Pieces([value]) if _is_piece(key, value) else value for key, value in item.items()})
        return
    for key, value in item.items():
        known = last.get(key)
        if isinstance(known, _Pieces) and isinstance(value, str):
            known.append(value)
        elif isinstance(known, list) and isinstance(value, list):
            known.extend(value)
        elif value is not None:
            last[key] = _Pieces([value]) if _is_piece(key, value) else value


class _Pieces(list[str]):
    """The pieces of a text that goes on."""


def _is_piece(key: str, value: object) -> bool:
    return key in {"text", "summary", "thinking"} and isinstance(value, str)


def _closed(item: object) -> object:
    if not isinstance(item, dict):
        return item
    return {key: "".join(value) if isinstance(value, _Pieces) else value for key, value in item.items()}
