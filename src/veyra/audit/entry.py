"""What the log says: entries, their one line of JSON (the leaf), and the commitments to what is kept beside it.

1. A leaf is one line of ASCII JSON, compact, its keys in the order of `SHAPES`, shorter than 65,536 bytes. Its bytes
   are what is hashed and stored; nothing is ever serialised a second time to check it.
2. Our own keys hold no float: nanoseconds are strings of digits. `attributes` holds OpenTelemetry GenAI names, sorted,
   each a string, a number, a boolean, null or a list of strings. A float that is not finite is written as a string.
3. No prompt and no answer is in a leaf. Bodies lie beside it; the leaf has of each its name, media type, size, coding
   and commitment: HMAC-SHA-256 under a salt of 32 random bytes that lies with the body. So a guess at a body cannot be
   confirmed without the salt, and a body can be forgotten while the leaf and its proof stay.
4. `id` is a UUIDv7 of ours, `sid` the session (one process that has the log open), `wseq` the entry's number within
   the session, from 0 without a gap.
"""

from __future__ import annotations

import json
import math
import struct
import time
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _quote
from types import NoneType
from typing import Any, Final, NamedTuple

import msgspec

from veyra.audit.coding import IDENTITY, Packer
from veyra.audit.noise import Noise
from veyra.audit.tree import leaf_hash

VERSION: Final = 1
MAX_LEAF: Final = 65_535
"""The most bytes a leaf may have: an entry bundle of tlog-tiles gives each a length of 16 bits."""
MAX_VALUE: Final = 2_000
"""The most characters that one string among an outcome's attributes has in JSON: they come from a provider, and no answer
may be without a record because its id is long."""
SALT_SIZE: Final = 32

INTENT: Final = "call.intent"
OUTCOME: Final = "call.outcome"
OPEN: Final = "session.open"
CLOSE: Final = "session.close"
RECOVERY: Final = "recovery"
ROTATED: Final = "key.rotated"
ROLLED_BACK: Final = "rollback.accepted"
GAP: Final = "gap"
IMPORT: Final = "import"
CHANGED: Final = "config.changed"
HEARTBEAT: Final = "heartbeat"
BLOCKED: Final = "call.blocked"
HIT: Final = "cache.hit"

STATUSES: Final = ("ok", "error", "timeout", "cancelled", "incomplete")
"""How an attempt may end; `abandoned` besides is for those whose process ended first."""
ABANDONED: Final = "abandoned"

_COMMON = ("v", "kind", "id", "sid", "wseq")
SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    INTENT: (*_COMMON, "call", "attempt", "t", "tm", "backend", "attributes", "parts"),
    OUTCOME: (*_COMMON, "call", "attempt", "t", "tm", "backend", "intent", "status", "latency", "attributes", "parts"),
    OPEN: (*_COMMON, "t", "tm", "pid", "mode"),
    CLOSE: (*_COMMON, "t", "tm"),
    RECOVERY: (*_COMMON, "t", "tm", "of", "session", "abandoned", "file", "segment", "offset", "size", "sha256"),
    ROTATED: (*_COMMON, "t", "tm", "from", "to", "sig"),
    ROLLED_BACK: (*_COMMON, "t", "tm", "size", "root"),
    GAP: (*_COMMON, "t", "tm", "since", "until", "intents", "outcomes", "reason"),
    IMPORT: (*_COMMON, "t", "tm", "of", "session", "entries", "origin", "size", "root"),
    CHANGED: (*_COMMON, "t", "tm", "of", "backend", "to"),
    HEARTBEAT: (*_COMMON, "t", "tm"),
    BLOCKED: (*_COMMON, "call", "attempt", "t", "tm", "backend", "reason", "attributes"),
    HIT: (*_COMMON, "call", "attempt", "t", "tm", "backend", "of", "attributes"),
}
"""The keys of each kind, in order. A later version may add kinds, and keys after these; readers keep both."""

_PLAIN = frozenset({str, int, bool, NoneType})
_TEXTS = frozenset({str})
_ODD = b"\\ !" + bytes(range(0x7F, 0x100))
"""What, in text, is not written here as msgspec writes it, or makes names stand in another order than their JSON."""
_encode = msgspec.json.Encoder(order="deterministic").encode

_PART = ("name", "type", "size", "commit", "enc")
_BLOB = struct.Struct(">B32sQ")
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_INNER_REST, _OUTER_REST = (bytes([pad]) * (64 - SALT_SIZE) for pad in (0x36, 0x5C))
"""What HMAC does to a key: each byte is changed by a pad, and the rest of the hash's block of 64 bytes is the pad."""
_PART_OVERHEAD = len(',{"name":"","type":"","size":,"commit":"","enc":"identity"}') + 64 + 20
_COMMON_OVERHEAD = len('{"v":1,"kind":"call.outcome","id":"","sid":"","wseq":,,"parts":[]}') + 36 + 36 + 20


def _tail(drawn: bytes) -> str:
    """Return the last two groups of a UUID: the variant in two bits, then 62 random ones."""
    digits = drawn.hex()
    return f"{'89ab'[drawn[0] >> 6]}{digits[1:4]}-{digits[4:]}"


_tails, _salts = Noise(8, _tail), Noise(SALT_SIZE, bytes)


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): milliseconds, then the fraction of the millisecond in 12 bits, then 62 random bits."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    digits = f"{(milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | rest * 4096 // 1_000_000:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:]}-{_tails.take()}"


class BodyPart(NamedTuple):
    """A body to keep beside an entry: its exact bytes, under a name such as `request.wire` or `response.wire`."""

    name: str
    data: bytes
    media_type: str

    def __repr__(self) -> str:
        """Show what it is, and nothing of what it says."""
        return f"BodyPart(name={self.name!r}, media_type={self.media_type!r})"


class Attempt(NamedTuple):
    """Which attempt of which call an intent or an outcome is about, and at which backend."""

    call: str
    number: int
    backend: str


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An entry that waits for its place: all of it but `sid`, `wseq` and the commitments.

    `attempt` is set for intents and outcomes, `intent` (the id of the intent it ends) for outcomes.
    """

    kind: str
    id: str
    body: str
    parts: Sequence[BodyPart] = ()
    attempt: Attempt | None = None
    intent: str | None = None


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An entry as it is written: the leaf, its RFC 6962 hash, and the blobs that lie beside it."""

    draft: Draft
    leaf: bytes
    hash: bytes
    blobs: bytes


class Blob(NamedTuple):
    """A body as it is kept: its salt, and its bytes in the coding that the leaf names."""

    salt: bytes
    data: bytes


# ------------------------------------------------------------------------------------------------ writing


def intent(attempt: Attempt, *, attributes: Mapping[str, object], parts: Sequence[BodyPart] = ()) -> Draft:
    """Draft the entry that says: this attempt is about to be sent.

    Raises:
        ValueError: an attribute or a part cannot be written, or the leaf would be too long.
    """
    body = f"{_attempt(attempt)},{_attributes(attributes, limit=None)}"
    return _checked(Draft(INTENT, new_id(), body, parts, attempt))


def outcome(
    attempt: Attempt,
    *,
    intent: str,
    status: str,
    latency_ns: int | None,
    attributes: Mapping[str, object],
    parts: Sequence[BodyPart] = (),
) -> Draft:
    """Draft the entry that says how the attempt of the intent `intent` ended.

    A string among the attributes that is longer than `MAX_VALUE` characters is cut there, and its name is listed
    in the attribute `veyra.truncated`.

    Raises:
        ValueError: an attribute or a part cannot be written, or the leaf would be too long.
    """
    latency = "null" if latency_ns is None else f'"{latency_ns:d}"'
    end = f'"intent":{_quote(intent)},"status":{_quote(status)},"latency":{latency}'
    body = f"{_attempt(attempt)},{end},{_attributes(attributes, limit=MAX_VALUE)}"
    return _checked(Draft(OUTCOME, new_id(), body, parts, attempt, intent))


def abandoned(attempt: Attempt, *, intent: str) -> Draft:
    """Draft the outcome of an intent whose process, or whose log, ended before it did."""
    return outcome(attempt, intent=intent, status=ABANDONED, latency_ns=None, attributes={})


def session_open(*, pid: int, mode: str, key: str | None = None) -> Draft:
    """Draft the first entry of a session; `key` is the verifier key under which it signs checkpoints, if it does."""
    signed = "" if key is None else f',"key":{_quote(key)}'
    return Draft(OPEN, new_id(), f'{_times()},"pid":{pid:d},"mode":{_quote(mode)}{signed}')


def session_close() -> Draft:
    """Draft the last entry of a session."""
    return Draft(CLOSE, new_id(), _times())


def heartbeat() -> Draft:
    """Draft the entry that says: the session lives, and had nothing else to record for some time."""
    return Draft(HEARTBEAT, new_id(), _times())


def recovered_session(*, session: str, abandoned: int) -> Draft:
    """Draft the entry that says: this session died, and so many of its intents were marked abandoned."""
    body = f'"of":"session","session":{_quote(session)},"abandoned":{abandoned:d}'
    nothing = '"file":null,"segment":null,"offset":null,"size":null,"sha256":null'
    return Draft(RECOVERY, new_id(), f"{_times()},{body},{nothing}")


def recovered_tail(*, file: str, segment: int, offset: int, size: int, digest: str | None) -> Draft:
    """Draft the entry that says: these torn bytes at a segment's end were set aside in `file`."""
    said = "null" if digest is None else _quote(digest)
    where = f'"file":{_quote(file)},"segment":{segment:d},"offset":{offset:d},"size":{size:d},"sha256":{said}'
    return Draft(RECOVERY, new_id(), f'{_times()},"of":"tail","session":null,"abandoned":null,{where}')


def key_rotated(*, old: str, new: str, signature: bytes) -> Draft:
    """Draft the entry that says: from here on the key `new` signs; `old` signed that (`standalone.handover_text`)."""
    proof = b64encode(signature).decode("ascii")
    return Draft(ROTATED, new_id(), f'{_times()},"from":{_quote(old)},"to":{_quote(new)},"sig":{_quote(proof)}')


def rollback_accepted(*, size: int, root: bytes) -> Draft:
    """Draft the entry that says: the log once had `size` entries and this root, and an operator took its loss as it is."""
    return Draft(ROLLED_BACK, new_id(), f'{_times()},"size":{size:d},"root":"{root.hex()}"')


def gap(*, since: int, until: int, intents: int, outcomes: int, reason: str) -> Draft:
    """Draft the entry that says: between two moments (wall clock, ns) so many intents and outcomes were not recorded."""
    span = f'"since":"{since:d}","until":"{until:d}","intents":{intents:d},"outcomes":{outcomes:d}'
    return Draft(GAP, new_id(), f'{_times()},{span},"reason":{_quote(reason[:MAX_VALUE])}')


def imported_spool(*, session: str, entries: int, origin: str, size: int, root: bytes) -> Draft:
    """Draft the entry that says: these entries of a session stood in a second place, of this name, size and root."""
    place = f'"origin":{_quote(origin)},"size":{size:d},"root":"{root.hex()}"'
    return Draft(IMPORT, new_id(), f'{_times()},"of":"spool","session":{_quote(session)},"entries":{entries:d},{place}')


def audit_off(*, backend: str) -> Draft:
    """Draft the entry that says: in this process a backend was made whose calls are not recorded."""
    return Draft(CHANGED, new_id(), f'{_times()},"of":"audit","backend":{_quote(backend)},"to":"off"')


def blocked(attempt: Attempt, *, reason: str, attributes: Mapping[str, object]) -> Draft:
    """Draft the entry that says: this call was refused here (by a limit, a budget, an open circuit); nothing was sent.

    Raises:
        ValueError: an attribute cannot be written, or the leaf would be too long.
    """
    said = f'"reason":{_quote(reason[:MAX_VALUE])},{_attributes(attributes, limit=MAX_VALUE)}'
    return _checked(Draft(BLOCKED, new_id(), f"{_attempt(attempt)},{said}"))


def cache_hit(attempt: Attempt, *, of: str, attributes: Mapping[str, object]) -> Draft:
    """Draft the entry that says: this call was answered with what the outcome `of` gave before; nobody was asked.

    Raises:
        ValueError: an attribute cannot be written, or the leaf would be too long.
    """
    said = f'"of":{_quote(of)},{_attributes(attributes, limit=MAX_VALUE)}'
    return _checked(Draft(HIT, new_id(), f"{_attempt(attempt)},{said}"))


def seal(draft: Draft, sid: str, wseq: int, packer: Packer | None = None) -> Sealed:
    """Give a draft its place in a session: commit to its parts, pack them where there is a packer, write its leaf."""
    head = f'{{"v":{VERSION},"kind":"{draft.kind}","id":"{draft.id}","sid":"{sid}","wseq":{wseq},{draft.body}'
    if draft.kind is not INTENT and draft.kind is not OUTCOME:
        leaf = f"{head}}}".encode("ascii")
        return Sealed(draft, leaf, leaf_hash(leaf), b"")
    described: list[str] = []
    blobs: list[bytes] = []
    for name, data, media_type in draft.parts:
        form, salt, size = _form(name, media_type), _salts.take(), len(data)
        proof = _commit(salt, form.committed, data).hex()
        coding, kept = (IDENTITY, data) if packer is None else packer.pack(data)
        described.append(f'{form.described}{size},"commit":"{proof}","enc":"{coding}"}}')
        blobs += (_BLOB.pack(0, salt, len(kept)), kept)
    leaf = f'{head},"parts":[{",".join(described)}]}}'.encode("ascii")
    return Sealed(draft, leaf, leaf_hash(leaf), b"".join(blobs))


class _Form(NamedTuple):
    """What is the same in all parts of one name and media type."""

    room: int
    described: str
    committed: bytes


@lru_cache(maxsize=64)
def _form(name: str, media_type: str) -> _Form:
    """Return what every part of this name and media type has: the most room it takes, and how its texts begin.

    Raises:
        ValueError: the name is not printable ASCII.
    """
    if not (name.isascii() and name.isprintable()):
        msg = f"the name of a part is printable ASCII, not {name!r}"
        raise ValueError(msg)
    room = 2 * len(name) + 12 * len(media_type) + _PART_OVERHEAD  # the longest they can get in JSON
    described = f'{{"name":{_quote(name)},"type":{_quote(media_type)},"size":'
    return _Form(room, described, _INNER_REST + b"veyra.part.v1\0%b\0" % name.encode("ascii"))


def commit(salt: bytes, name: str, data: bytes) -> bytes:
    """Return the commitment to a part: HMAC-SHA-256(salt, "veyra.part.v1" || 0 || name || 0 || u64 length || data).

    HMAC (RFC 2104) is spelled out for a salt of `SALT_SIZE` bytes: what is in `hmac` takes twice as long to begin.
    """
    return _commit(salt, _form(name, "").committed, data)


def _commit(salt: bytes, before: bytes, data: bytes) -> bytes:
    inner = sha256(salt.translate(_INNER) + before + len(data).to_bytes(8))
    inner.update(data)
    return sha256(salt.translate(_OUTER) + _OUTER_REST + inner.digest()).digest()


def _attempt(attempt: Attempt) -> str:
    call, number, backend = attempt
    return f'"call":{_quote(call)},"attempt":{number:d},{_times()},"backend":{_quote(backend)}'


def _times() -> str:
    return f'"t":"{time.time_ns()}","tm":"{time.monotonic_ns()}"'


def _attributes(attributes: Mapping[str, object], *, limit: int | None) -> str:
    text = _plain_attributes(attributes)
    if text is None or (limit is not None and len(text) > limit):
        text = _any_attributes(attributes, limit)
    return f'"attributes":{text}'


def _plain_attributes(attributes: Mapping[str, object]) -> str | None:
    """Return attributes as `_any_attributes` does, several times as quickly, where msgspec writes them so; else None.

    It does for all but some numbers, and text that needs an escape or is sorted otherwise because of its JSON form.
    """
    odd = [value for value in attributes.values() if type(value) not in _PLAIN]
    if (odd and not all(map(_is_plain, odd))) or not _TEXTS.issuperset(map(type, attributes)):
        return None
    try:
        text: bytes = _encode(attributes if type(attributes) is dict else dict(attributes))
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return text.decode("ascii") if len(text.translate(None, _ODD)) == len(text) else None


def _is_plain(value: object) -> bool:
    """Tell whether both write a value the same that is neither text nor a whole number, a truth value or None."""
    if type(value) is float:
        return value == 0 or 1e-4 <= abs(value) < 1e16
    return type(value) is list and bool(value) and _TEXTS.issuperset(map(type, value))


def _any_attributes(attributes: Mapping[str, object], limit: int | None) -> str:
    written: dict[str, str] = {}
    cut: list[str] = []
    for name, value in attributes.items():
        kept = value if limit is None else _shortened(value, limit)
        written[_quote(name)] = _value(name, kept)
        if kept is not value and kept != value:
            cut.append(name)
    if cut:
        written['"veyra.truncated"'] = _value("veyra.truncated", cut)
    return f"{{{','.join([f'{name}:{value}' for name, value in sorted(written.items())])}}}"


def _shortened(value: object, limit: int) -> object:
    """Return a value of whose texts no more is kept than `limit` characters say in JSON: outside ASCII, one takes up to 12."""
    if isinstance(value, list):
        return [_shortened(item, limit // len(value)) for item in value]
    if not isinstance(value, str):
        return value
    lengths = range(min(len(value), limit) + 1)
    return value[: bisect_right(lengths, limit, key=lambda length: len(_quote(value[:length])) - 2) - 1]


def _value(name: str, value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return int.__repr__(value)
        case float():
            return float.__repr__(value) if math.isfinite(value) else _quote(float.__repr__(value))
        case str():
            return _quote(value)
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return f"[{','.join(map(_quote, value))}]"
    msg = (
        f"the attribute {name!r} is a {type(value).__name__}; it may be a str, int, float, bool, None or a list of str"
    )
    raise ValueError(msg)


def _checked(draft: Draft) -> Draft:
    room = MAX_LEAF - len(draft.body) - _COMMON_OVERHEAD
    for part in draft.parts:
        room -= _form(part.name, part.media_type).room
    if room < 0:
        msg = f"an entry of up to {MAX_LEAF - room:,} bytes is too long for the log (at most {MAX_LEAF:,}); shorten it"
        raise ValueError(msg)
    return draft


# ------------------------------------------------------------------------------------------------ reading


def parse(leaf: bytes) -> dict[str, Any]:
    """Return a leaf's JSON object.

    Raises:
        ValueError: it is not one line of ASCII JSON with an object, or a key comes twice, or it is too long,
            or it is of a kind known here and does not have that kind's keys in their order.
    """
    if len(leaf) > MAX_LEAF or not leaf.isascii() or b"\n" in leaf:
        msg = f"a leaf is one line of ASCII, at most {MAX_LEAF:,} bytes"
        raise ValueError(msg)
    try:
        value = _decode(leaf.decode("ascii"))
    except RecursionError:
        msg = "a leaf is nested too deeply"
        raise ValueError(msg) from None
    if not isinstance(value, dict):
        msg = "a leaf is a JSON object"
        raise ValueError(msg)  # noqa: TRY004  (callers ask whether the bytes are a leaf, not for a type)
    shape = SHAPES.get(kind) if isinstance(kind := value.get("kind"), str) else _COMMON
    shape = shape or _COMMON
    if tuple(value)[: len(shape)] != shape or value["v"] != VERSION:
        msg = f"a leaf of version {VERSION} and its kind has the keys {', '.join(shape)}, in this order"
        raise ValueError(msg)
    _check_types(value)
    return value


def parse_blobs(data: bytes) -> list[Blob]:
    """Return the bodies that lie beside a leaf.

    Raises:
        ValueError: the bytes are not a row of blobs.
    """
    blobs: list[Blob] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < _BLOB.size:
            msg = "a blob is cut short"
            raise ValueError(msg)
        state, salt, size = _BLOB.unpack_from(data, offset)
        offset += _BLOB.size
        if state != 0 or size > len(data) - offset:
            msg = "a blob is of an unknown state or longer than what is there"
            raise ValueError(msg)
        blobs.append(Blob(salt, data[offset : offset + size]))
        offset += size
    return blobs


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        msg = "a key comes twice in a leaf"
        raise ValueError(msg)
    return value


def _constant(name: str) -> None:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant).decode


def _check_types(leaf: Mapping[str, Any]) -> None:
    right = isinstance(leaf["id"], str) and isinstance(leaf["sid"], str) and _is_count(leaf["wseq"])
    if right and leaf["kind"] in {INTENT, OUTCOME}:
        right = (
            isinstance(leaf["call"], str)
            and _is_count(leaf["attempt"])
            and is_nanoseconds(leaf["t"])
            and isinstance(leaf["backend"], str)
            and isinstance(leaf["attributes"], dict)
            and isinstance(leaf["parts"], list)
            and all(map(_is_part, leaf["parts"]))
        )
    if right and leaf["kind"] == OUTCOME:
        latency = leaf["latency"]
        right = (
            isinstance(leaf["intent"], str)
            and (leaf["status"] in STATUSES or leaf["status"] == ABANDONED)
            and (latency is None or is_nanoseconds(latency))
        )
    if right and leaf["kind"] == ROTATED:
        right = all(isinstance(leaf[name], str) for name in ("from", "to", "sig"))
    if right and leaf["kind"] == ROLLED_BACK:
        right = _is_count(leaf["size"]) and isinstance(leaf["root"], str)
    if right and leaf["kind"] == GAP:
        right = all(map(is_nanoseconds, (leaf["since"], leaf["until"]))) and isinstance(leaf["reason"], str)
        right = right and all(map(_is_count, (leaf["intents"], leaf["outcomes"])))
    if right and leaf["kind"] in {BLOCKED, HIT}:
        texts = ("call", "backend", "reason" if leaf["kind"] == BLOCKED else "of")
        right = all(isinstance(leaf[name], str) for name in texts) and isinstance(leaf["attributes"], dict)
        right = right and _is_count(leaf["attempt"]) and is_nanoseconds(leaf["t"])
    if right and leaf["kind"] == CHANGED:
        right = all(isinstance(leaf[name], str) for name in ("of", "backend", "to"))
    if right and leaf["kind"] == IMPORT:
        right = all(isinstance(leaf[name], str) for name in ("of", "session", "origin", "root"))
        right = right and all(map(_is_count, (leaf["entries"], leaf["size"])))
    if not right:
        msg = "a leaf has a value of the wrong type"
        raise ValueError(msg)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def is_nanoseconds(value: object) -> bool:
    """Tell whether a value of a leaf is a time: a string of up to 20 digits."""
    return isinstance(value, str) and value.isdecimal() and len(value) <= 20


def _is_part(value: object) -> bool:
    if not isinstance(value, dict) or tuple(value)[:5] != _PART:
        return False
    name, media_type, size, proof, enc = list(value.values())[:5]
    return type(name) is type(media_type) is type(proof) is type(enc) is str and _is_count(size)
