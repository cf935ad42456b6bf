"""What a fault does to an answer. Pure: values in, values out; whoever sends them keeps the times.

1. Some faults leave no answer (`is_silent`), some put another in its place (`instead`), and the rest spoil the one there
   is: its `head`, and its body (`Body`). `apply` does all three for an answer that is known whole.
2. Bytes have no meaning here. What has to be said in a format's own words comes from a `Form`.
3. No fault adds, loses or changes a byte but those it is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Literal, Protocol, TypeAlias, TypeGuard

from veyra.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from veyra.transport.base import Head
from veyra.transport.chance import Chance
from veyra.transport.faults import (
    BadGateway,
    Cut,
    Duplicate,
    Endless,
    Failure,
    Fault,
    InBand,
    Instead,
    InvalidJson,
    NoConnection,
    Overloaded,
    PingOnly,
    Quota,
    RateLimit,
    Refuse,
    Reorder,
    Reset,
    SlowHead,
    SpendLimit,
    SplitUtf8,
    Stall,
    Truncate,
    Unanswered,
    WrongType,
)


@dataclass(frozen=True, slots=True)
class Repeat:
    """The body goes on with the same bytes, again and again, `every` seconds."""

    data: bytes
    every: float


End: TypeAlias = Literal["end", "cut", "stall"] | Repeat
"""What comes after the last chunk: the end of the body, a broken connection, nothing at all, or the same for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, whole or not.

    Attributes:
        status, headers: its head; names in lower case.
        chunks: its body, in the pieces in which it arrives; empty pieces are left out.
        end: what comes after the last chunk.
        wait: seconds until the head.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Sequence[bytes] = ()
    end: End = "end"
    wait: float = 0.0

    def cut_after(self, size: int) -> Answer:
        """Return this answer with its body cut after `size` bytes, the pieces before that unchanged."""
        kept: list[bytes] = []
        for chunk in self.chunks:
            kept.append(chunk[:size])
            size -= len(kept[-1])
        return replace(self, chunks=kept, end="cut")


class Form(Protocol):
    """A format's own words for what goes wrong. `veyra.wire.wording` has them for every format with a server half."""

    @property
    def ping(self) -> bytes:
        """A sign of life that tells nothing, as it stands in the body."""
        ...

    def refusal(self, error: ProviderError) -> Answer:
        """Return the answer that tells an error, without a word on when to try again."""
        ...

    def inside(self, error: ProviderError) -> bytes:
        """Return what tells an error in an answer that began well, and ends it."""
        ...


# ------------------------------------------------------------------------------------------------- judgement


def is_silent(fault: Fault | None) -> TypeGuard[Unanswered]:
    """Say whether a fault leaves no answer at all."""
    if isinstance(fault, Stall):
        return fault.byte is None and fault.event is None
    return isinstance(fault, Refuse | NoConnection | Reset)


def is_instead(fault: Fault | None) -> TypeGuard[Instead]:
    """Say whether a fault puts another answer in the place of the model's, which then is not asked."""
    return isinstance(fault, RateLimit | Quota | SpendLimit | Overloaded | Failure | BadGateway)


# ------------------------------------------------------------------------------------------ whole other answers

_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"
)
_KINDS: Mapping[int, type[ProviderError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}


def instead(fault: Instead, form: Callable[[], Form], *, now: float) -> Answer:
    """Return the answer that a fault puts in the place of the model's.

    Args:
        fault: the fault.
        form: makes the words for it.
        now: seconds since 1970 (UTC), from which a date in a header counts.
    """
    said = _said(fault)
    match fault:
        case BadGateway():
            return Answer(status=502, headers={"content-type": "text/html"}, chunks=[_PAGE])
        case RateLimit():
            answer = form().refusal(RateLimitError(said, status=429))
            return replace(answer, headers={**answer.headers, **_wait(fault, now)})
        case Quota():
            return form().refusal(QuotaError(said))
        case SpendLimit():
            limit = "enforced_spend_limit_reached"
            return form().refusal(
                QuotaError(said, status=429, provider_type="rate_limit_error", provider_code=limit),
            )
        case Overloaded():
            return replace(form().refusal(OverloadedError(said, status=529)), status=529)
        case Failure(status=status):
            usual = ServerError if status >= 500 else InvalidRequestError
            return replace(form().refusal(_KINDS.get(status, usual)(said, status=status)), status=status)


def _said(fault: Fault) -> str:
    """Return the message of an error, by which a failure can be played again."""
    return f"a fault was asked for: {fault}"


def _wait(fault: RateLimit, now: float) -> dict[str, str]:
    if fault.after is not None:
        return {"retry-after": str(fault.after)}
    if fault.ms is not None:
        return {"retry-after-ms": str(fault.ms)}
    if fault.date is None:
        return {}
    return {"retry-after": formatdate(now + fault.date, usegmt=True), "date": formatdate(now, usegmt=True)}


# ---------------------------------------------------------------------------------------------- spoiled answers


def head(fault: Fault | None, sent: Head) -> tuple[float, Head]:
    """Return how many seconds the head of an answer waits, and the head."""
    if isinstance(fault, SlowHead):
        return fault.seconds, sent
    if isinstance(fault, WrongType):
        return 0.0, Head(sent.status, {**sent.headers, "content-type": fault.type})
    return 0.0, sent


class Body:
    """The body of one answer, as a fault leaves it: `begin`, then `feed` for each piece, then `close`.

    Args:
        fault: the fault; None leaves the pieces as they are.
        head: the answer's own head; its content type says what an event is.
        form: makes the words for the fault, at the moment when they are needed.

    Attributes:
        end: what comes after the pieces handed out so far; None while more may come.
    """

    def __init__(self, fault: Fault | None, head: Head, form: Callable[[], Form]) -> None:
        self.end: End | None = None
        self._fault = fault
        self._form = form
        self._events = _Events(head.headers.get("content-type", ""))
        self._chance = Chance(fault.seed, "split") if isinstance(fault, SplitUtf8) else None
        self._left = getattr(fault, "byte", None)
        self._last = b""
        self._held = b""
        self._count = 0

    def begin(self) -> list[bytes]:
        """Return what comes before the first piece."""
        return self._limited([]) if self._left is not None else self._reached()

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next piece, and return what goes out now."""
        if self.end is not None or not piece:
            return []
        if self._fault is None or isinstance(self._fault, SlowHead | WrongType):
            return [piece]
        if self._chance is not None:
            return _torn(piece, self._chance)
        if self._left is not None:
            return self._limited([piece])
        return self._passed(self._events.feed(piece))

    def close(self) -> list[bytes]:
        """Say that the answer has no more pieces, and return what goes out at its end; `end` is known then."""
        out = self._passed(self._events.close())
        if self.end is None:
            if self._held:
                out.append(self._held)
            self.end = "end"
            out += self._ended()
        return out

    def _limited(self, pieces: list[bytes]) -> list[bytes]:
        """Let pieces through up to the byte where the fault stands."""
        out: list[bytes] = []
        for piece in pieces:
            out.append(piece[: self._left])
            self._left = (self._left or 0) - len(out[-1])
        if not self._left:
            self._ended()
        return [piece for piece in out if piece]

    def _passed(self, events: list[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for event in events:
            self._count += 1
            out += self._event(event)
            self._last = event
            out += self._reached()
            if self.end is not None:
                return out
        if events and isinstance(self._fault, Endless) and self._fault.event is None:
            self._ended()
        return out

    def _event(self, event: bytes) -> list[bytes]:
        held, self._held = self._held, b""
        after = [held] if held else []
        match self._fault:
            case Duplicate(event=self._count):
                return [event, event]
            case InvalidJson(event=self._count):
                return [_broken(event)]
            case Reorder(event=self._count):
                self._held = event
                return []
            case InBand() if self._events.is_whole:
                self.end = "end"
                return [self._inside(self._fault)]
            case _:
                return [event, *after]

    def _reached(self) -> list[bytes]:
        """Do what the fault says where its event has just passed."""
        if getattr(self._fault, "event", None) != self._count or (
            self._events.is_whole and isinstance(self._fault, InBand)
        ):
            return []
        return self._ended()

    def _ended(self) -> list[bytes]:
        """End the body as the fault says, and return what is said last."""
        match self._fault:
            case Cut():
                self.end = "cut"
            case Stall():
                self.end = "stall"
            case Truncate():
                self.end = "end"
            case PingOnly(every=every):
                self.end = Repeat(self._form().ping, every)
            case Endless(every=every):
                self.end = Repeat(self._last, every) if self._last else "stall"
            case InBand():
                self.end = "end"
                return [self._inside(self._fault)]
            case _:
                pass
        return []

    def _inside(self, fault: InBand) -> bytes:
        kinds = {"overloaded": OverloadedError, "rate-limit": RateLimitError, "server": ServerError}
        return self._form().inside(kinds[fault.kind](_said(fault)))


class _Events:
    """Cuts a body into its events, which keep their ends.

    Args:
        content_type: of server-sent events, of lines of JSON, or another, whose body is one event in all.
    """

    def __init__(self, content_type: str) -> None:
        self._end = next((end for kind, end in _ENDS.items() if content_type.startswith(kind)), None)
        self._open = bytearray()
        self.is_whole = self._end is None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the events they complete."""
        seen = max(0, len(self._open) - _LONGEST_END)
        self._open += data
        events: list[bytes] = []
        begin = 0
        for end in self._end.finditer(self._open, seen) if self._end else ():
            events.append(bytes(self._open[begin : end.end()]))
            begin = end.end()
        del self._open[:begin]
        return events

    def close(self) -> list[bytes]:
        """Return the event that was under way when the bytes ended, if any."""
        rest = bytes(self._open)
        self._open.clear()
        return [rest] if rest else []


_ENDS = {
    "text/event-stream": re.compile(rb"\r\n\r\n|\n\n|\r\r"),
    "application/x-ndjson": re.compile(rb"\n"),
}
_LONGEST_END = 3
"""Bytes of an event's end that may have come with an earlier piece."""


def _broken(event: bytes) -> bytes:
    """Return an event whose last character is one that ends no JSON."""
    text = event.rstrip(b"\r\n")
    return text[:-1] + b"{" + event[len(text) :]


def _torn(piece: bytes, chance: Chance) -> list[bytes]:
    """Return a piece in pieces of 1 to 8 bytes, the first byte of every character apart from its second."""
    out: list[bytes] = []
    begin = 0
    while begin < len(piece):
        end = min(begin + 1 + chance.below(8), len(piece))
        for place in range(begin + 1, end):
            if piece[place] & 0xC0 == 0x80:  # a character goes on here
                end = place
                break
        out.append(piece[begin:end])
        begin = end
    return out


# ---------------------------------------------------------------------------------------------------- all of it


def apply(fault: Fault | None, answer: Answer, form: Form | None = None, *, now: float = 0.0) -> Answer | Unanswered:
    """Return what is sent for an answer: another answer, or the fault itself where that leaves none.

    Args:
        fault: what goes wrong; None for nothing.
        answer: the answer that would be sent.
        form: the words for the faults that say something.
        now: seconds since 1970 (UTC), from which a date in a header counts.

    Raises:
        InvalidRequestError: the fault says something, and no form was given.
    """

    def said() -> Form:
        if form is None:
            msg = f"fault {fault}: it is told in a format's own words, so give form="
            raise InvalidRequestError(msg)
        return form

    if is_silent(fault):
        return fault
    if is_instead(fault):
        return instead(fault, said, now=now)
    wait, sent = head(fault, Head(answer.status, answer.headers))
    body = Body(fault, Head(answer.status, answer.headers), said)
    chunks = body.begin()
    for chunk in answer.chunks:
        chunks += body.feed(chunk)
    end = body.end
    if end is None:
        chunks += body.close()
        end = body.end if answer.end == "end" and body.end is not None else answer.end
    return Answer(status=sent.status, headers=sent.headers, chunks=chunks, end=end, wait=answer.wait + wait)
