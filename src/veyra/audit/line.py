"""What the verifier needs of a leaf, read quickly: two leaves out of three that a log holds take this way.

A leaf of an intent or an outcome that is, byte for byte, what comes out when it is decoded into its types and encoded
again has its kind's keys in their order, none twice, and values of the right types. Any other (of another kind, with keys
of a later version, with escapes for what is not ASCII) is read by `entry.parse`, which says what is wrong, if anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from veyra.audit.entry import CLOSE, INTENT, MAX_LEAF, OUTCOME, RECOVERY, is_nanoseconds, parse

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Value = str | int | float | bool | list[str] | None


class Line(NamedTuple):
    """An entry's place in its session and its pair.

    Attributes:
        kind, id, sid, wseq: as in the leaf.
        subject: the intent that an outcome ends, the session that an entry ends; None for others.
        status: of an outcome.
    """

    kind: str
    id: str
    sid: str
    wseq: int
    subject: str | None = None
    status: str | None = None


class _Part(msgspec.Struct, gc=False):
    name: str
    type: str
    size: _Count
    commit: str
    enc: str


class _Intent(msgspec.Struct, gc=False):
    v: Literal[1]
    kind: Literal["call.intent"]
    id: str
    sid: str
    wseq: _Count
    call: str
    attempt: _Count
    t: str
    tm: str
    backend: str
    attributes: dict[str, _Value]
    parts: list[_Part]


class _Outcome(msgspec.Struct, gc=False):
    v: Literal[1]
    kind: Literal["call.outcome"]
    id: str
    sid: str
    wseq: _Count
    call: str
    attempt: _Count
    t: str
    tm: str
    backend: str
    intent: str
    status: Literal["ok", "error", "timeout", "cancelled", "incomplete", "abandoned"]
    latency: str | None
    attributes: dict[str, _Value]
    parts: list[_Part]


_INTENT: Final = f'{{"v":1,"kind":"{INTENT}","'.encode()
_OUTCOME: Final = f'{{"v":1,"kind":"{OUTCOME}","'.encode()
_decode_intent: Final = msgspec.json.Decoder(_Intent).decode
_decode_outcome: Final = msgspec.json.Decoder(_Outcome).decode
_encode: Final = msgspec.json.Encoder().encode


def read_line(leaf: bytes) -> Line:
    """Return what `leaf` says of its place.

    Raises:
        ValueError: as `entry.parse`.
    """
    return _typed(leaf) or line_of(parse(leaf))


def line_of(leaf: Mapping[str, Any]) -> Line:
    """Return what a leaf that `entry.parse` has read says of its place."""
    kind, subject, status = leaf["kind"], None, None
    if kind == OUTCOME:
        subject, status = leaf["intent"], leaf["status"]
    elif kind == CLOSE:
        subject = leaf["sid"]
    elif kind == RECOVERY:
        subject = leaf["session"]
    return Line(kind, leaf["id"], leaf["sid"], leaf["wseq"], subject, status)


def _typed(leaf: bytes) -> Line | None:
    if len(leaf) > MAX_LEAF or not leaf.isascii():
        return None
    try:
        if leaf.startswith(_OUTCOME):
            end = _decode_outcome(leaf)
            timed = is_nanoseconds(end.t) and (end.latency is None or is_nanoseconds(end.latency))
            fits = timed and _encode(end) == leaf
            return Line(OUTCOME, end.id, end.sid, end.wseq, end.intent, end.status) if fits else None
        if leaf.startswith(_INTENT):
            start = _decode_intent(leaf)
            fits = is_nanoseconds(start.t) and _encode(start) == leaf
            return Line(INTENT, start.id, start.sid, start.wseq) if fits else None
    except (msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError):
        return None  # `parse` says what it is
    return None
