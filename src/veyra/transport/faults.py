"""What can go wrong on the way to a model and back: one vocabulary, as frozen values.

1. A fault is data. What it does to an answer says `veyra.transport.playing`; it does the same in process and over HTTP.
2. Each prints as one short text (`cut@event=3`) and is read back from it: `parse(str(fault)) == fault`. There is one spelling
   for each: fields in their order, numbers as they are printed. What is usual is left out, and may be written.
3. Events are counted from 1: `cut@event=3` cuts after the third, `invalid-json@event=3` spoils the third. A server-sent event
   and a line of JSON are one event each, and a body of another type is one event in all. `byte` counts the bytes of the
   body. A place behind the end of the body is its end; a fault of an event that never comes does nothing.
4. Chance comes from a `seed` in the fault itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, TypeAlias

from veyra.errors import InvalidRequestError

OK = "ok"
"""How a script writes that nothing goes wrong."""

_LIMIT = 1_000_000_000
"""No number of a fault is larger; in seconds that is 31 years."""
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+").fullmatch
_STATUSES = range(400, 600)
_WHOLE: tuple[tuple[type, ...], str] = ((int,), "a whole number")
_SECONDS: tuple[tuple[type, ...], str] = ((int, float), "a number")
_WORD: tuple[tuple[type, ...], str] = ((str,), "a str")
_TYPES = {"seconds": _SECONDS, "every": _SECONDS, "kind": _WORD, "type": _WORD}
"""What the fields hold that are not whole numbers."""

Troubled: TypeAlias = Literal["overloaded", "rate-limit", "server"]
"""What a provider says of itself inside an answer."""
_TROUBLES = ("overloaded", "rate-limit", "server")


def _wrong(name: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"fault {name}: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A fault that can be printed, its fields checked.

    Raises:
        InvalidRequestError: a field is of another type, or a number is negative, not finite, or above a thousand million.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for field, value in self._given():
            kinds, what = _TYPES.get(field, _WHOLE)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise _wrong(self.name, f"{field} is {what}, not {type(value).__name__}")
            if isinstance(value, int | float) and not 0 <= value <= _LIMIT:  # NaN compares as False, and so fails
                raise _wrong(self.name, f"{field} is {what} from 0 to {_LIMIT}, not {value}")
        self._check()

    def __str__(self) -> str:
        given = ",".join(f"{field}={_printed(value)}" for field, value in self._given())
        return f"{self.name}@{given}" if given else self.name

    def _check(self) -> None:
        """Raise what is wrong with the fault besides its numbers."""

    def _given(self) -> Iterator[tuple[str, object]]:
        """Yield the fields that are not as they are by default."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                yield field.name, value


def _printed(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# ------------------------------------------------------------------------------------------ no answer at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(_Written):
    """No connection; nothing was sent."""

    name: ClassVar[str] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoConnection(_Written):
    """No connection within the time that the caller allows for one."""

    name: ClassVar[str] = "no-connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(_Written):
    """The connection breaks after the request was sent and before an answer."""

    name: ClassVar[str] = "reset"


# ------------------------------------------------------------------------------------- in the place of an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit(_Written):
    """Status 429: too fast. At most one of the fields says how long to wait, and in which form; without one, nobody says.

    Attributes:
        after: `retry-after`, in seconds.
        ms: `retry-after-ms`, in milliseconds.
        date: `retry-after` as a date, so many seconds from now.
    """

    name: ClassVar[str] = "rate-limit"
    after: int | None = None
    ms: int | None = None
    date: int | None = None

    def _check(self) -> None:
        if len(list(self._given())) > 1:
            raise _wrong(self.name, "it takes one of after, ms and date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(_Written):
    """The account is out of credit (OpenAI: 429 `insufficient_quota`): no waiting helps."""

    name: ClassVar[str] = "quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimit(_Written):
    """A limit of spending is reached (Anthropic: 429 `enforced_spend_limit_reached`): no waiting helps."""

    name: ClassVar[str] = "spend-limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overloaded(_Written):
    """Status 529: the provider has no room."""

    name: ClassVar[str] = "overloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(_Written):
    """An error answer with this status, in the words of the format."""

    name: ClassVar[str] = "failure"
    status: int = 500

    def _check(self) -> None:
        if self.status not in _STATUSES:
            raise _wrong(self.name, f"status is from 400 to 599, not {self.status}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BadGateway(_Written):
    """Status 502 with a page of HTML, from something in front of the provider."""

    name: ClassVar[str] = "html-502"


# ------------------------------------------------------------------------------------------- an answer, spoiled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed(_Written):
    """A fault after so many bytes or events of the body: exactly one of the two is given."""

    byte: int | None = None
    event: int | None = None

    def _check(self) -> None:
        if (self.byte is None) is (self.event is None):
            raise _wrong(self.name, "it takes one of byte and event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(_Placed):
    """The connection breaks inside the body."""

    name: ClassVar[str] = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(_Placed):
    """The body ends too early, and properly as far as HTTP can tell."""

    name: ClassVar[str] = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(_Placed):
    """Nothing more comes, and the connection stays; without a place, there is no answer at all."""

    name: ClassVar[str] = "stall"

    def _check(self) -> None:
        if self.byte is not None and self.event is not None:
            raise _wrong(self.name, "it takes one of byte and event, or neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHead(_Written):
    """The answer's head comes after so many seconds, and the rest as ever."""

    name: ClassVar[str] = "slow-head"
    seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOnly(_Written):
    """After so many events nothing but signs of life, one every so many seconds, for ever."""

    name: ClassVar[str] = "ping-only"
    event: int = 0
    every: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless(_Written):
    """One event comes again and again, so many seconds apart, and the body never ends.

    It is the event of that number; without one, the last event of the first piece that has any, which holds the first
    content in what Veyra's own servers write.
    """

    name: ClassVar[str] = "endless"
    event: int | None = None
    every: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InBand(_Written):
    """After so many events of a stream that began well, an error; in a whole answer, an error in its place."""

    name: ClassVar[str] = "error"
    event: int = 1
    kind: Troubled = "overloaded"

    def _check(self) -> None:
        if self.kind not in _TROUBLES:
            raise _wrong(self.name, f"kind is one of {', '.join(_TROUBLES)}, not {self.kind!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(_Written):
    """An event comes twice."""

    name: ClassVar[str] = "duplicate"
    event: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder(_Written):
    """An event comes after the one that follows it."""

    name: ClassVar[str] = "reorder"
    event: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidJson(_Written):
    """An event is no JSON: its last character is another."""

    name: ClassVar[str] = "invalid-json"
    event: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitUtf8(_Written):
    """The body comes in pieces of 1 to 8 bytes drawn from the seed, every character of several bytes torn apart."""

    name: ClassVar[str] = "split-utf8"
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongType(_Written):
    """The head names another content type than the body has."""

    name: ClassVar[str] = "content-type"
    type: str = "text/html"

    def _check(self) -> None:
        if not _MEDIA_TYPE(self.type):
            raise _wrong(self.name, f"type is like text/html, in lower case, not {self.type[:50]!r}")


Unanswered: TypeAlias = Refuse | NoConnection | Reset | Stall
Instead: TypeAlias = RateLimit | Quota | SpendLimit | Overloaded | Failure | BadGateway
Spoiled: TypeAlias = (
    Cut
    | Truncate
    | Stall
    | SlowHead
    | PingOnly
    | Endless
    | InBand
    | Duplicate
    | Reorder
    | InvalidJson
    | SplitUtf8
    | WrongType
)
Fault: TypeAlias = Unanswered | Instead | Spoiled

KINDS: tuple[type[Fault], ...] = (
    Refuse,
    NoConnection,
    Reset,
    SlowHead,
    Stall,
    PingOnly,
    Cut,
    Truncate,
    InBand,
    Duplicate,
    Reorder,
    SplitUtf8,
    InvalidJson,
    BadGateway,
    RateLimit,
    Quota,
    SpendLimit,
    Overloaded,
    Failure,
    WrongType,
    Endless,
)
"""Every kind of fault, in the order in which they are listed for people."""


# ------------------------------------------------------------------------------------------------- reading

_BY_NAME: dict[str, type[Fault]] = {kind.name: kind for kind in KINDS}


def parse(text: str) -> Fault:
    """Return the fault that prints as `text`.

    Raises:
        InvalidRequestError: there is none; the message says what is wrong, with near names or the right spelling.
    """
    name, at, rest = text.partition("@")
    kind = _BY_NAME.get(name)
    if kind is None:
        near = get_close_matches(name[:50], _BY_NAME, n=3) or _BY_NAME
        raise _wrong(repr(name[:50]), f"there is none; there are {', '.join(near)}")
    known = [field.name for field in fields(kind)]
    given = [part.partition("=") for part in rest.split(",")] if at else []
    values: dict[str, Any] = {}
    for field, _, value in given:
        if field not in known:
            raise _wrong(name, f"it takes {', '.join(known) or 'nothing'}, not {field[:50]!r}")
        values[field] = _value(name, field, value)
    fault = kind(**values)
    spelled = [f"{field}={_printed(values[field])}" for field in known if field in values]
    if ",".join(spelled) != rest:
        raise _wrong(name, f"write {str(fault)!r}, not {text[:100]!r}")
    return fault


def _value(name: str, field: str, text: str) -> float | str:
    kinds, what = _TYPES.get(field, _WHOLE)
    if kinds == (str,):
        return text
    try:
        return float(text) if float in kinds else int(text[:20])
    except ValueError:
        raise _wrong(name, f"{field} is {what}, not {text[:50]!r}") from None


def parse_script(text: str) -> tuple[Fault | None, ...]:
    """Return the steps of a script, in order: None where it says `ok`.

    Steps are parted by line ends or semicolons; what comes after `#` on a line is a remark.

    Raises:
        InvalidRequestError: a step is neither a fault nor `ok`; the message names its line.
    """
    steps: list[Fault | None] = []
    for number, line in enumerate(text.splitlines(), 1):
        for step in filter(None, map(str.strip, line.partition("#")[0].split(";"))):
            try:
                steps.append(None if step == OK else parse(step))
            except InvalidRequestError as error:
                raise InvalidRequestError(error.message + f" (line {number})") from None
    return tuple(steps)


def print_script(steps: Iterable[Fault | None]) -> str:
    """Return the script that `parse_script` reads as these steps, one on a line."""
    return "".join(f"{OK if step is None else step}\n" for step in steps)
