"""Gemini's `generateContent`: reading answers. The rules stand at the head of `gemini`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.errors import MalformedResponseError
from veyra.types import Event, Finish, FinishReason, ModelWarning, Opaque, ReasoningDelta, TextDelta, Usage
from veyra.wire.calls import Calls
from veyra.wire.decoding import EventStream, WholeBody
from veyra.wire.failures import Origin
from veyra.wire.gemini_arguments import Arguments
from veyra.wire.gemini_errors import reported
from veyra.wire.reading import UNREADABLE, as_count, as_word

NAME = "gemini"
ABOUT = "gemini.candidate"
"""The dialect of the block that keeps what is said about a candidate, besides its content."""

FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "CONTINUATION": "paused",
    # The same as numbers, for those who ask for enums so; from 5 (OTHER) on, the APIs do not count alike.
    "1": "stop",
    "2": "length",
    "3": "content_filter",
    "4": "content_filter",
}
MALFORMED = "MALFORMED_"
"""How the finish reasons begin that say that the model wrote what cannot be read."""

_CONTENT_FIELDS = frozenset({"content", "finishReason", "finishMessage", "index", "tokenCount"})
"""The fields of a candidate that are told otherwise, or say nothing of it."""

_Fields = dict[str, msgspec.Raw]


class _Chunk(msgspec.Struct):
    """A chunk of a stream, or a whole answer: what we read of it; unknown fields are passed over."""

    candidates: list[_Fields] | None = None
    promptFeedback: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815  (the provider's spelling, here and below)
    usageMetadata: Any = None  # noqa: N815
    modelVersion: Any = None  # noqa: N815
    responseId: Any = None  # noqa: N815
    error: Any = None


class _Content(msgspec.Struct):
    parts: list[msgspec.Raw] | None = None


class _Function(msgspec.Struct):
    name: Any = None
    id: Any = None
    args: msgspec.Raw = msgspec.Raw(b"")
    partialArgs: list[dict[str, Any]] | None = None  # noqa: N815
    willContinue: Any = None  # noqa: N815


class _CallPart(msgspec.Struct):
    functionCall: _Function  # noqa: N815


_CHUNK = msgspec.json.Decoder(_Chunk)
_CHUNKS = msgspec.json.Decoder(list[_Chunk])
_CONTENT = msgspec.json.Decoder(_Content | None)
_PART: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_CALL_PART = msgspec.json.Decoder(_CallPart)
_ANY = msgspec.json.Decoder()


class ContentStream(EventStream):
    """Reads a stream of chunks."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin, ContentWhole(origin))
        self._answer = _Answer(origin)

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._answer.partial

    def event(self, name: str, body: bytes, out: list[Event]) -> None:
        """Read a chunk, or an error."""
        if name == "error":
            raise reported(self._origin, body, partial=self.partial)
        self._answer.add(self._answer.read(_CHUNK, body), out)

    def stop(self, out: list[Event], *, cut: bool) -> None:
        """End with the body, if the last chunk was whole and gave a reason."""
        if cut or self._answer.finish_reason is None:
            marker = "a finishReason"
            raise self._origin.incomplete(marker, partial=self.partial)
        out.append(self._answer.finish(out))
        self.done = True


class ContentWhole(WholeBody):
    """Reads a whole answer, or a stream that came as an array of its chunks."""

    def read(self, body: bytes, out: list[Event]) -> None:
        """Read the first candidate's parts."""
        answer = _Answer(self._origin)
        is_array = body.startswith(b"[")
        if is_array and not body.endswith(b"]"):
            marker = "the end of its array"
            raise self._origin.incomplete(marker)
        chunks = answer.read(_CHUNKS, body) if is_array else [answer.read(_CHUNK, body)]
        for chunk in chunks:
            answer.add(chunk, out)
        if not any(chunk.candidates for chunk in chunks) and answer.finish_reason is None:
            what = "the answer has no candidates"
            raise self._origin.malformed(what, body)
        if is_array and answer.finish_reason is None:
            marker = "a finishReason"
            raise self._origin.incomplete(marker, partial=answer.partial)
        out.append(answer.finish(out))


class _OpenCall:
    """A call whose arguments come in pieces: the fields of its part, and the arguments so far."""

    __slots__ = ("arguments", "fields", "position")

    def __init__(self, position: int, fields: dict[str, Any]) -> None:
        self.position = position
        self.fields = fields
        self.arguments = Arguments()


class _Run:
    """Text that goes on from chunk to chunk, and what kind of text it is."""

    __slots__ = ("is_thought", "texts")

    def __init__(self, *, is_thought: bool) -> None:
        self.is_thought = is_thought
        self.texts: list[str] = []

    def whole(self) -> bytes:
        """Return the one part that the pieces are."""
        part: dict[str, Any] = {"text": "".join(self.texts)}
        return msgspec.json.encode(part | {"thought": True} if self.is_thought else part)


class _Answer:
    """An answer as it grows, out of chunks; a whole answer is one chunk."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._text: list[str] = []
        self._parts: list[bytes | _Run] = []
        self._about: dict[str, Any] = {}
        self._calls = Calls()
        self._open: _OpenCall | None = None
        self._several = False
        self._blocked = False
        self._message: str | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] = {}
        self.finish_reason: str | None = None

    @property
    def partial(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def read(self, decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw) -> Any:  # noqa: ANN401  (the decoder's type)
        """Return what `decoder` makes of `body`.

        Raises:
            MalformedResponseError: it is of another shape.
        """
        try:
            return decoder.decode(body)
        except UNREADABLE as error:
            what = f"not generated content ({error})"
            raise self._origin.malformed(what, bytes(body), partial=self.partial) from None

    def add(self, chunk: _Chunk, out: list[Event]) -> None:
        """Append what a chunk adds.

        Raises:
            ProviderError: the chunk is an error.
            MalformedResponseError: something in it is of another shape.
        """
        if chunk.error:
            raise reported(self._origin, msgspec.json.encode({"error": chunk.error}), partial=self.partial)
        self._id = self._id or as_word(chunk.responseId)
        self._model = self._model or as_word(chunk.modelVersion)
        if isinstance(chunk.usageMetadata, dict):
            self._usage.update((name, value) for name, value in chunk.usageMetadata.items() if value is not None)
        self._feedback(chunk.promptFeedback)
        for position, candidate in enumerate(chunk.candidates or ()):
            index = self._value(candidate, "index")
            if position if index is None else index:
                self._skip(out)
            else:
                self._candidate(candidate, out)

    def finish(self, out: list[Event]) -> Finish:
        """Return the end of the answer, after appending what a call that was cut still holds, and a word on the end.

        Raises:
            MalformedResponseError: the provider could not read what the model wrote.
        """
        word = self.finish_reason or ""
        if word.startswith(MALFORMED):
            raise self._origin.error(
                MalformedResponseError,
                self._message or "the model wrote what cannot be read",
                provider_type=word,
                partial=self.partial,
            )
        self._close(out, cut=True)
        calls = self._calls.finished()
        reason = "content_filter" if self._blocked else FINISH.get(word, "other")
        if self._message and reason not in {"stop", "length"}:
            out.append(ModelWarning("refusal" if reason == "content_filter" else "finish", self._message))
        return Finish(
            reason="tool_calls" if calls and reason == "stop" else reason,
            raw_reason=self.finish_reason,
            usage=usage(self._usage),
            model=self._model,
            response_id=self._id,
            request_id=self._origin.request_id,
            tool_calls=calls,
            parts=self._kept(),
        )

    def _kept(self) -> tuple[Opaque, ...]:
        """Return the parts, and behind them what was said about the candidate."""
        parts = [Opaque(NAME, part.whole() if isinstance(part, _Run) else part) for part in self._parts]
        if self._about:
            parts.append(Opaque(ABOUT, msgspec.json.encode(self._about)))
        return tuple(parts)

    def _value(self, fields: _Fields, name: str) -> object:
        return self.read(_ANY, fields[name]) if name in fields else None

    def _skip(self, out: list[Event]) -> None:
        """Warn, once, of candidates after the first: an answer here is one answer."""
        if not self._several:
            self._several = True
            message = "the provider sent several candidates; only the first is kept"
            out.append(ModelWarning("other_choices", message, "candidateCount"))

    def _feedback(self, raw: msgspec.Raw) -> None:
        """Take what is said about the prompt; a prompt that is blocked ends the answer."""
        feedback = self.read(_ANY, raw)
        if feedback:
            self._about["promptFeedback"] = raw
        match feedback:
            case {"blockReason": str() | int() as reason, **rest}:
                self._blocked = True
                self.finish_reason = as_word(reason)
                self._message = as_word(rest.get("blockReasonMessage"))

    def _candidate(self, candidate: _Fields, out: list[Event]) -> None:
        content = self.read(_CONTENT, candidate["content"]) if "content" in candidate else None
        parts = (content.parts if content is not None else None) or []
        for position, raw in enumerate(parts):
            self._part(raw, out, goes_on=position == 0)
        for name, value in candidate.items():
            if name not in _CONTENT_FIELDS:
                self.read(_ANY, value)  # what is kept must be JSON
                self._about[name] = value
        word = as_word(self._value(candidate, "finishReason"))
        if word is not None or parts:
            self.finish_reason = word
            self._message = as_word(self._value(candidate, "finishMessage"))

    def _part(self, raw: msgspec.Raw, out: list[Event], *, goes_on: bool) -> None:
        """Append a part; text that begins a chunk goes on with that of the chunk before."""
        part = self.read(_PART, raw)
        if isinstance(part.get("functionCall"), dict):
            self._call(raw, part, out)
            return
        text, is_thought = part.get("text"), part.get("thought") is True
        if isinstance(text, str):
            if text:
                self._say(text, out, is_thought=is_thought)
            if part.keys() <= {"text", "thought"}:
                self._run(text, is_thought=is_thought, goes_on=goes_on)
                return
        self._parts.append(bytes(raw))

    def _say(self, text: str, out: list[Event], *, is_thought: bool) -> None:
        if is_thought:
            out.append(ReasoningDelta(text))
        else:
            self._text.append(text)
            out.append(TextDelta(text))

    def _run(self, text: str, *, is_thought: bool, goes_on: bool) -> None:
        if not text:  # says nothing, and is refused when it is sent back
            return
        last = self._parts[-1] if self._parts else None
        if not goes_on or not isinstance(last, _Run) or last.is_thought != is_thought:
            last = _Run(is_thought=is_thought)
            self._parts.append(last)
        last.texts.append(text)

    def _call(self, raw: msgspec.Raw, part: dict[str, Any], out: list[Event]) -> None:
        """Append a call, or a piece of one: a piece without a name goes on with the call that is open."""
        told: _Function = self.read(_CALL_PART, raw).functionCall
        if self._open is not None and told.name:
            self._close(out)
        if self._open is None and told.partialArgs is None and not told.willContinue:
            arguments = bytes(told.args).decode()
            self._begin(told, "" if arguments == "null" else arguments, out)
            self._parts.append(bytes(raw))
            return
        if self._open is None:
            self._open = _OpenCall(self._begin(told, "", out), part)
        self._go_on(self._open, told, part)
        if not told.willContinue:
            self._close(out)

    def _begin(self, told: _Function, arguments: str, out: list[Event]) -> int:
        """Begin a call, with the provider's id or one of our own (rule 5), and return its position."""
        position = len(self._calls)
        made_up = f"call_{self._id}_{position}" if self._id else f"call_{position}"
        id_, name = as_word(told.id) or made_up, as_word(told.name) or ""
        out.append(self._calls.add(index=position, id=id_, name=name, arguments=arguments))
        return position

    def _go_on(self, call: _OpenCall, told: _Function, part: dict[str, Any]) -> None:
        call.fields.update((name, value) for name, value in part.items() if name != "functionCall")
        try:
            for piece in told.partialArgs or ():
                call.arguments.add(piece)
        except ValueError as error:
            raise self._origin.malformed(str(error), partial=self.partial) from None

    def _close(self, out: list[Event], *, cut: bool = False) -> None:
        """End the open call. Where the answer ended before it did, its arguments are left open: they are no JSON."""
        call, self._open = self._open, None
        if call is None:
            return
        try:
            text = call.arguments.json()
        except (ValueError, RecursionError) as error:
            raise self._origin.malformed(str(error), partial=self.partial) from None
        out.append(self._calls.add(index=call.position, id="", name="", arguments=text[:-1] if cut else text))
        if not cut:
            begun = call.fields["functionCall"]
            whole = {name: begun[name] for name in ("id", "name") if name in begun} | {
                "args": msgspec.Raw(text.encode())
            }
            self._parts.append(msgspec.json.encode(call.fields | {"functionCall": whole}))


def usage(stated: Mapping[str, Any]) -> Usage:
    """Return the tokens that the merged `usageMetadata` states (wire facts, 7).

    The prompt's count includes cached tokens, and not those that tools put into it; the candidates' count does not include
    thoughts. The provider leaves out zeros, so of the parts of a total the one that is stated is enough.
    """
    prompt, tools = as_count(stated.get("promptTokenCount")), as_count(stated.get("toolUsePromptTokenCount"))
    spoken, thoughts = as_count(stated.get("candidatesTokenCount")), as_count(stated.get("thoughtsTokenCount"))
    cached = as_count(stated.get("cachedContentTokenCount"))
    total = None if prompt is None else prompt + (tools or 0)
    return Usage(
        input_total=total,
        input_uncached=None if total is None or cached is None else max(total - cached, 0),
        cache_read=cached,
        output_total=None if spoken is None and thoughts is None else (spoken or 0) + (thoughts or 0),
        reasoning=thoughts,
    )
