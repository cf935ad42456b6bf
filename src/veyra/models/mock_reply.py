"""One answer of the mock, as a value, and the events that tell it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias, get_args

import msgspec

from veyra.errors import InvalidRequestError
from veyra.transport.faults import KINDS, Fault
from veyra.types import (
    Event,
    Finish,
    FinishReason,
    ModelResponse,
    ModelWarning,
    ReasoningDelta,
    Request,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from veyra.wire.calls import parse

_WORD = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class MockReply:
    """An answer: what the model says, how it comes, and what goes wrong with it.

    Attributes:
        text: the answer's text; as a sequence, the pieces in which it comes.
        reasoning: what the model says of its thinking, before the text.
        tool_calls: what it calls. A call without an id gets one; without `raw`, that is its arguments as JSON.
        output: a value whose JSON is the text; a dataclass, say, or a dict.
        finish_reason: why the model stops; by default `tool_calls` where it calls something, else `stop`.
        usage: the tokens; by default counted in words.
        model: the model that answers; by default the one that was asked for.
        response_id, request_id: the answer's own id, and that of the exchange.
        warnings: come first.
        error: raised after all of the above, in the place of the end of the answer. With nothing before it, it is an error
            in the place of the answer.
        fault: what happens to the answer on its way; see `veyra.transport.faults`.
        chunk: characters in each piece of text, reasoning and arguments; by default a word.
        delay: seconds before the first event; by default the mock's.
        pace: seconds between one event and the next; by default the mock's.

    Raises:
        InvalidRequestError: a value is of another type or out of range; `text` and `output`, or `error` and `fault`, are
            both given.
    """

    text: str | Sequence[str] = ""
    _: KW_ONLY
    reasoning: str = ""
    tool_calls: Sequence[ToolCall] = ()
    output: Any = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    warnings: Sequence[ModelWarning] = ()
    error: BaseException | None = None
    fault: Fault | None = None
    chunk: int | None = None
    delay: float | None = None
    pace: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            object.__setattr__(self, "text", _several(self.text, str, "text is a str or a sequence of them"))
        object.__setattr__(self, "tool_calls", _several(self.tool_calls, ToolCall, "tool_calls are ToolCalls"))
        object.__setattr__(self, "warnings", _several(self.warnings, ModelWarning, "warnings are ModelWarnings"))
        for name, fits, wanted in (
            ("reasoning", isinstance(self.reasoning, str), "a str"),
            ("finish_reason", self.finish_reason in {None, *get_args(FinishReason)}, "a finish reason of ours"),
            ("usage", isinstance(self.usage, Usage | None), "a Usage"),
            ("error", isinstance(self.error, BaseException | None), "an exception"),
            ("fault", isinstance(self.fault, (*KINDS, type(None))), "a fault of veyra.testing.faults"),
        ):
            if not fits:
                msg = f"a reply's {name} is {wanted}, not {getattr(self, name)!r:.80}"
                raise InvalidRequestError(msg)
        for name in ("model", "response_id", "request_id"):
            if not isinstance(getattr(self, name), str | None):
                msg = f"a reply's {name} is a str, not {getattr(self, name)!r:.80}"
                raise InvalidRequestError(msg)
        check_manner(self.chunk, self.delay, self.pace)
        if self.output is not None and self.text:
            msg = "a reply's output is its text: give one of the two"
            raise InvalidRequestError(msg)
        if self.error is not None and self.fault is not None:
            msg = "a reply ends with its error or suffers its fault: give one of the two"
            raise InvalidRequestError(msg)


Scripted: TypeAlias = str | MockReply | ToolCall | ModelResponse | BaseException | Fault
"""What may stand for a `MockReply`: its text, one call of a tool, an error or a fault; or a whole response."""

_SCRIPTED = (str, MockReply, ToolCall, ModelResponse, BaseException, *KINDS)


def is_scripted(value: object) -> bool:
    """Tell whether a value is an answer, or may stand for one."""
    return isinstance(value, _SCRIPTED)


def as_reply(scripted: str | MockReply | ToolCall | BaseException | Fault) -> MockReply:
    """Return what an answer that is written shorter stands for."""
    match scripted:
        case MockReply():
            return scripted
        case str():
            return MockReply(scripted)
        case ToolCall():
            return MockReply(tool_calls=(scripted,))
        case BaseException():
            return MockReply(error=scripted)
        case fault:
            return MockReply(fault=fault)


def check_manner(chunk: object, delay: object, pace: object) -> None:
    """See that an answer can come in such pieces and at such times; None is not given.

    Raises:
        InvalidRequestError: it cannot.
    """
    if chunk is not None and (type(chunk) is not int or chunk < 1):
        msg = f"chunk is a number of characters, 1 or more, not {chunk!r:.80}"
        raise InvalidRequestError(msg)
    for name, seconds in (("delay", delay), ("pace", pace)):
        if seconds is None:
            continue
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
            msg = f"{name} is a number of seconds, 0 or more, not {seconds!r:.80}"
            raise InvalidRequestError(msg)


def told(reply: MockReply, request: Request, *, number: int, chunk: int | None = None) -> list[Event]:
    """Return the events that tell an answer, `Finish` last, unless it ends with an error; its fault is not in them.

    Args:
        reply: the answer.
        request: what it answers.
        number: which call of the mock this is, from 1: the ids are made of it.
        chunk: characters in a piece where the answer does not say.
    """
    chunk = reply.chunk or chunk
    pieces = _pieces(_json(reply.output), chunk) if reply.output is not None else reply.text
    if isinstance(pieces, str):
        pieces = _pieces(pieces, chunk)
    events: list[Event] = [*reply.warnings]
    events += map(ReasoningDelta, _pieces(reply.reasoning, chunk))
    events += map(TextDelta, pieces)
    calls = tuple(_whole(call, f"call-{number}-{place}") for place, call in enumerate(reply.tool_calls, 1))
    for index, call in enumerate(calls):
        events.append(ToolCallDelta(index, call.id, call.name))
        events += (ToolCallDelta(index, arguments=piece) for piece in _pieces(call.raw, chunk))
    if reply.error is not None:
        return events
    said = _words("".join(pieces), *(call.raw for call in calls))
    thought = _words(reply.reasoning)
    counted = Usage(
        input_total=words_asked(request), output_total=said + thought, reasoning=thought if reply.reasoning else None
    )
    events.append(
        Finish(
            reason=reply.finish_reason or ("tool_calls" if calls else "stop"),
            usage=reply.usage or counted,
            model=reply.model or request.model,
            response_id=reply.response_id or f"mock-{number}",
            request_id=reply.request_id,
            tool_calls=calls,
        )
    )
    return events


def words_asked(request: Request) -> int:
    """Return how many words a request has, which are the mock's tokens."""
    return _words(request.system or "", *(message.text for message in request.messages))


def _several(values: object, kind: type, rule: str) -> tuple[object, ...]:
    if isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray):
        several = tuple(values)
        if all(isinstance(value, kind) for value in several):
            return several
    msg = f"a reply's {rule}, not {values!r:.80}"
    raise InvalidRequestError(msg)


def _pieces(text: str, chunk: int | None) -> list[str]:
    """Return a text in pieces of so many characters, or in words, each with the spaces behind it."""
    if chunk is None:
        return _WORD.findall(text)
    return [text[start : start + chunk] for start in range(0, len(text), chunk)]


def _whole(call: ToolCall, id: str) -> ToolCall:  # noqa: A002  (the field's name)
    raw = call.raw or _json(call.arguments or {})
    return ToolCall(call.id or id, call.name, parse(raw), raw)


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        msg = f"a reply's {type(value).__name__} cannot be written as JSON: {error}"
    raise InvalidRequestError(msg)


def _plain(value: object) -> object:
    """Return a pydantic model as plain data: it is known by its method, and never imported."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        msg = f"{type(value).__name__} has no JSON form"
        raise TypeError(msg)
    return dump(mode="json")


def _words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)
