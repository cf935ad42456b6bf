"""Ollama's native chat: reading answers and errors. The rules stand at the head of `ollama`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from veyra.errors import (
    ContextLengthError,
    IncompleteStreamError,
    InvalidRequestError,
    ProviderError,
    ServerError,
    UnsupportedParameterError,
    excerpt,
)
from veyra.types import Event, Finish, FinishReason, Opaque, ReasoningDelta, TextDelta, Usage
from veyra.wire.calls import Calls
from veyra.wire.decoding import Streamed, WholeBody
from veyra.wire.failures import Origin, as_status, by_status
from veyra.wire.framing import Lines
from veyra.wire.halves import Halves, Named
from veyra.wire.reading import UNREADABLE, as_count, as_word, is_cut, read

NAME = "ollama"
ABOUT = "ollama.answer"
"""The dialect of the block that keeps what is said about an answer, besides its message: it is never sent back."""

_T = TypeVar("_T")

FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
"""What the server's reasons are in our words."""


_WORDS = frozenset({"role", "content", "thinking"})
_KNOWN_OF_CALL = frozenset({"id", "type", "function"})
_KNOWN_OF_FUNCTION = frozenset({"name", "arguments", "index"})


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: Any = None


class _Calling(msgspec.Struct):
    """The calls of a message: the one field of which the bytes matter, as the arguments are kept as they came."""

    tool_calls: list[_Call] | None = None


class _Words(msgspec.Struct, forbid_unknown_fields=True):
    """A message of words alone, as nearly all are."""

    role: Any = None
    content: str | None = None
    thinking: str | None = None


class _Told(msgspec.Struct):
    """A line of a stream, or a whole answer: what we read of it, the message apart; unknown fields are passed over."""

    model: Any = None
    done: Any = None
    done_reason: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    error: Any = None
    logprobs: Any = None


class _Line(_Told):
    message: msgspec.Raw = msgspec.Raw(b"null")


class _PlainLine(_Told):
    message: _Words | None = None


_LINE = msgspec.json.Decoder(_Line)
_PLAIN_LINE = msgspec.json.Decoder(_PlainLine)
_MESSAGE: msgspec.json.Decoder[dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None)
_CALLING = msgspec.json.Decoder(_Calling)


class ChatStream(Streamed):
    """Reads a stream of lines."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin)
        self._lines = Lines()
        self._halves = Halves()
        self._answer = _Answer(origin)

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._answer.partial

    def take(self, data: bytes, out: list[Event]) -> None:
        """Read the lines that `data` completes."""
        for line in self._lines.feed(data):
            if not line or line.isspace():
                continue
            if self._halves.passes(line):
                self.done = self._answer.add(line, out)
            else:
                self._read(self._halves.take("", line), out)
            if self.done:
                return

    def end(self, out: list[Event]) -> None:
        """Read a last line without an end, if it is whole; without `done` the answer was cut."""
        rest = self._lines.close().strip()
        if rest and not is_cut(rest):
            self._read(self._halves.take("", rest), out)
        self._read(self._halves.close(), out)
        if not self.done:
            raise self._answer.ended(rest)

    def _read(self, lines: Iterable[Named], out: list[Event]) -> None:
        for _, line in lines:
            if not self.done:
                self.done = self._answer.add(line, out)


class ChatWhole(WholeBody):
    """Reads a whole answer, which is one line of a stream with everything in it."""

    def read(self, body: bytes, out: list[Event]) -> None:
        """Read the message."""
        if not _Answer(self._origin).add(body, out):
            what = "the answer is not done"
            raise self._origin.malformed(what, body)


class _Answer:
    """An answer as it grows, line by line."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._text: list[str] = []
        self._calls = Calls()
        self._thinking: list[str] = []
        self._fields: dict[str, Any] = {}
        self._has_more = False
        self._whole = b""
        self._lines = 0
        self._strange = b""
        self._logprobs: list[Any] = []

    @property
    def partial(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def add(self, body: bytes, out: list[Event]) -> bool:
        """Append what a line adds, and return whether it was the last.

        Raises:
            ProviderError: the line is an error.
            IncompleteStreamError: the last line does not say why the answer ended (rule 1).
            MalformedResponseError: it is not a line of an answer.
        """
        line = _plain(body) or self._decoded(_LINE, body)
        if line.error:
            raise reported(self._origin, body, partial=self.partial)
        if isinstance(line, _Line):
            self._message(bytes(line.message), out)
        elif line.message is not None:
            self._lines += 1
            self._say(line.message.thinking, line.message.content, out)
        if isinstance(line.logprobs, list):
            self._logprobs += line.logprobs
        done = line.done is True
        if not (done or self._lines or self._strange):
            self._strange = body
        if done:
            out.append(self._finish(line))
        return done

    def ended(self, rest: bytes) -> ProviderError:
        """Return the error for a stream that ended before its last line; `rest` is the line that was cut, if one was."""
        if self._strange and not self._lines:
            what = "not an answer of /api/chat"
            return self._origin.malformed(what, self._strange)
        if self._lines:
            return self._origin.incomplete("a line with done: true", partial=self.partial)
        what = (
            f"the stream was cut within its first line: {excerpt(rest)}"
            if rest
            else "the stream is empty: not one line came"
        )
        return self._origin.error(IncompleteStreamError, what)

    def _decoded(self, decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
        try:
            return decoder.decode(body)
        except UNREADABLE as error:
            what = f"not an answer of /api/chat ({error})"
            raise self._origin.malformed(what, body, partial=self.partial) from None

    def _say(self, thinking: str | None, content: str | None, out: list[Event]) -> None:
        if thinking:
            self._thinking.append(thinking)
            out.append(ReasoningDelta(thinking))
        if content:
            self._text.append(content)
            out.append(TextDelta(content))

    def _message(self, raw: bytes, out: list[Event]) -> None:
        """Append a message of any kind, and keep what we have no word for."""
        message = self._decoded(_MESSAGE, raw)
        if message is None:
            return
        self._lines += 1
        self._whole = raw
        self._say(self._words(message, "thinking"), self._words(message, "content"), out)
        if message.get("tool_calls"):
            self._call(self._decoded(_CALLING, raw).tool_calls or [], out)
        self._has_more = self._has_more or _has_more(message)
        for name, value in message.items():
            if value and name not in _WORDS:
                self._keep(name, value)

    def _keep(self, name: str, value: object) -> None:
        """Keep a field: lists of several lines are put together, of all else the last counts."""
        known = self._fields.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known.extend(value)
        else:
            self._fields[name] = value

    def _words(self, message: dict[str, Any], name: str) -> str:
        value = message.get(name) or ""
        if not isinstance(value, str):
            what = f"not an answer of /api/chat (its {name} is no text)"
            raise self._origin.malformed(what, partial=self.partial)
        return value

    def _call(self, calls: Iterable[_Call], out: list[Event]) -> None:
        for call in calls:
            position = len(self._calls)
            out.append(
                self._calls.add(
                    index=position,
                    id=as_word(call.id) or f"call_{position}",
                    name=call.function.name,
                    arguments=self._arguments(call.function.arguments),
                )
            )

    def _arguments(self, raw: msgspec.Raw) -> str:
        """Return the arguments' text; some servers put the object into a string, as OpenAI does."""
        try:
            text = bytes(raw).decode()
            return msgspec.json.decode(text, type=str) if text.startswith('"') else text
        except UNREADABLE as error:
            what = f"not the arguments of a tool call ({error})"
            raise self._origin.malformed(what, bytes(raw), partial=self.partial) from None

    def _finish(self, line: _Told) -> Finish:
        if line.done_reason == "":
            marker = "a done_reason: the runner was lost"
            raise self._origin.incomplete(marker, partial=self.partial)
        raw = as_word(line.done_reason)
        calls = self._calls.finished()
        reason = FINISH.get(raw or "", "other")
        return Finish(
            reason="tool_calls" if calls and (reason == "stop" or raw is None) else reason,
            raw_reason=raw,
            usage=Usage(input_total=as_count(line.prompt_eval_count), output_total=as_count(line.eval_count)),
            model=as_word(line.model),
            request_id=self._origin.request_id,
            tool_calls=calls,
            parts=tuple(self._kept()),
        )

    def _kept(self) -> Iterator[Opaque]:
        """Yield the message, where it holds what we have no word for, and what was said about the answer."""
        if self._has_more:
            yield Opaque(NAME, self._whole if self._lines == 1 else msgspec.json.encode(self._rebuilt()))
        if self._logprobs:
            yield Opaque(ABOUT, msgspec.json.encode({"logprobs": self._logprobs}))

    def _rebuilt(self) -> dict[str, Any]:
        """Return the message that the lines add up to."""
        thinking = {"thinking": "".join(self._thinking)} if self._thinking else {}
        return {"role": "assistant", "content": self.partial, **thinking, **self._fields}


def _plain(body: bytes) -> _PlainLine | None:
    """Return a line whose message is words alone, or None for any other."""
    try:
        return _PLAIN_LINE.decode(body)
    except UNREADABLE:
        return None


def _has_more(message: Mapping[str, Any]) -> bool:
    """Tell whether a message holds what `Event` has no word for, itself or in its calls."""
    for name, value in message.items():
        if value and name not in _WORDS and name != "tool_calls":
            return True
    for call in message.get("tool_calls") or ():
        if call.keys() - _KNOWN_OF_CALL or call["function"].keys() - _KNOWN_OF_FUNCTION:
            return True
    return False


def reported(origin: Origin, body: bytes, *, partial: str = "") -> ProviderError:
    """Return the error that `body` reports: `{"error": "text"}`, or what a proxy in front of the server says."""
    value = read(body)
    fields = value if isinstance(value, dict) else {}
    told = fields.get("error")
    message = told if isinstance(told, str) and told else excerpt(body)
    status = origin.head.status
    if origin.is_success:
        status = as_status(fields.get("status_code")) or status
    kind = by_status(status) if status >= 300 else ServerError
    if kind is InvalidRequestError:
        kind = _by_message(message)
    if status == 404:
        message += " (a model that is not there is fetched with `ollama pull`)"
    return origin.error(kind, message, partial=partial, status=status)


def _by_message(message: str) -> type[ProviderError]:
    """Return the class of a refused request by the server's own sentences; it has no codes."""
    if "does not support" in message:
        return UnsupportedParameterError
    if "context length" in message or "context size" in message:
        return ContextLengthError
    return InvalidRequestError
