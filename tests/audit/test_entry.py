"""Leaves: their form, what they take, what they refuse, and what they commit to."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veyra.audit import entry
from veyra.audit.entry import MAX_LEAF, SHAPES, Attempt, BodyPart, new_id, parse, parse_blobs, seal
from veyra.audit.tree import leaf_hash

SID = new_id()
WHICH = Attempt("call-1", 1, "mock")
HOSTILE = ["\x00", "\ud800", "a\udfffb", "\x1b[31m", "\x89VEYRA\r\n", '"},{"', "\u2028", "\U0001f600", "— x\n\n— y"]


def _intent(attributes: dict[str, Any] | None = None, *parts: BodyPart) -> entry.Sealed:
    return seal(entry.intent(WHICH, attributes=attributes or {}, parts=parts), SID, 3)


def _outcome(**attributes: Any) -> dict[str, Any]:
    draft = entry.outcome(WHICH, intent=new_id(), status="ok", latency_ns=5, attributes=attributes)
    return parse(seal(draft, SID, 4).leaf)


def test_a_leaf_is_one_line_of_compact_ascii_json_with_its_keys_in_order() -> None:
    """The leaf's keys are those of its kind, in the order the format gives."""
    sealed = _intent({"b": 1, "a": "x"}, BodyPart("request.wire", b"body", "application/json"))
    leaf = json.loads(sealed.leaf)
    assert sealed.leaf.isascii()
    assert b"\n" not in sealed.leaf
    assert b" " not in sealed.leaf
    assert tuple(leaf) == SHAPES["call.intent"]
    assert list(leaf["attributes"]) == ["a", "b"]
    assert leaf["parts"][0]["size"] == 4
    assert sealed.hash == leaf_hash(sealed.leaf) == hashlib.sha256(b"\0" + sealed.leaf).digest()


@pytest.mark.parametrize(
    "draft",
    [
        entry.session_open(pid=1, mode="strict"),
        entry.session_close(),
        entry.heartbeat(),
        entry.recovered_session(session=SID, abandoned=2),
        entry.recovered_tail(file="quarantine/x", segment=0, offset=1, size=2, digest="00"),
        entry.intent(WHICH, attributes={}),
        entry.abandoned(WHICH, intent=SID),
    ],
    ids=lambda draft: draft.kind,
)
def test_every_kind_is_read_back(draft: entry.Draft) -> None:
    """What is sealed parses, with the session and the running number it was given."""
    leaf = parse(seal(draft, SID, 7).leaf)
    assert tuple(leaf) == SHAPES[draft.kind]
    assert (leaf["kind"], leaf["id"], leaf["sid"], leaf["wseq"]) == (draft.kind, draft.id, SID, 7)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_survives(text: str) -> None:
    """Text of any kind comes back from attributes, names and bodies as it was."""
    data = text.encode("utf-8", "surrogatepass")
    draft = entry.intent(Attempt(text, 1, text), attributes={text: text}, parts=[BodyPart("x", data, text)])
    sealed = seal(draft, SID, 0)
    leaf = parse(sealed.leaf)
    assert (leaf["call"], leaf["backend"], leaf["attributes"]) == (text, text, {text: text})
    assert leaf["parts"][0]["type"] == text
    assert parse_blobs(sealed.blobs)[0].data == data


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()))
)
def test_attributes_come_back_as_they_were(attributes: dict[str, Any]) -> None:
    """Every permitted value is read back equal."""
    assert parse(_intent(attributes).leaf)["attributes"] == attributes


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=3)


@example({"a": 1, "a!": 2, "a b": 3})
@example({"t": 1e16, "u": 1e-5, "d": "\x7f"})
@given(st.dictionaries(st.text(max_size=5) | st.text('ab!"\\ .~\x7f', max_size=4), _VALUES))
def test_attributes_are_written_in_one_form(attributes: dict[str, Any]) -> None:
    """Whichever way they are written, names stand in the order of their JSON text, and numbers and escapes are Python's."""
    expected = {
        name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in sorted(attributes.items(), key=lambda item: json.dumps(item[0]))
    }
    found = _intent(attributes).leaf.split(b'"attributes":', 1)[1]
    assert found == json.dumps(expected, separators=(",", ":")).encode() + b',"parts":[]}'


def test_floats_are_kept_and_those_that_are_not_finite_become_words() -> None:
    """JSON has no NaN, so it is written as a string; a finite float stays a number."""
    found = parse(_intent({"t": 0.25, "n": math.nan, "i": -math.inf}).leaf)["attributes"]
    assert found == {"t": 0.25, "n": "nan", "i": "-inf"}


@pytest.mark.parametrize("value", [b"bytes", {"a": 1}, [1], object(), {1}])
def test_an_attribute_of_another_type_is_refused(value: object) -> None:
    """The error names the attribute and what it may be."""
    with pytest.raises(ValueError, match="attribute 'x' is a"):
        entry.intent(WHICH, attributes={"x": value})


def test_a_leaf_that_would_be_too_long_is_refused() -> None:
    """An entry is either below 65,536 bytes or not drafted at all, whatever its parts are."""
    fits = "x" * (MAX_LEAF - 700)
    assert len(_intent({"x": fits}).leaf) <= MAX_LEAF
    with pytest.raises(ValueError, match="too long for the log"):
        entry.intent(WHICH, attributes={"x": "x" * MAX_LEAF})
    with pytest.raises(ValueError, match="too long for the log"):
        entry.intent(WHICH, attributes={}, parts=[BodyPart("n", b"", "t" * 200)] * 200)


@given(st.integers(0, 120), st.integers(0, 66_000))
def test_what_is_drafted_fits_when_it_is_sealed(parts: int, length: int) -> None:
    """The length that is checked before the place is known is never less than the leaf's."""
    body = [BodyPart("request.wire", b"12345", "application/json")] * parts
    try:
        draft = entry.intent(WHICH, attributes={"x": "y" * length}, parts=body)
    except ValueError:
        return
    assert len(seal(draft, SID, 2**63).leaf) <= MAX_LEAF


def test_an_outcome_cuts_long_strings_and_says_so() -> None:
    """What a provider sends never keeps an outcome out of the log, and what was cut is named."""
    leaf = _outcome(**{"gen_ai.response.id": "r" * 100_000, "ok": "short"})
    assert leaf["attributes"]["gen_ai.response.id"] == "r" * entry.MAX_VALUE
    assert leaf["attributes"]["veyra.truncated"] == ["gen_ai.response.id"]
    assert leaf["attributes"]["ok"] == "short"
    assert leaf["latency"] == "5"


@given(st.text(min_size=1, max_size=60), st.integers(1, 200), st.integers(0, 3))
def test_what_is_cut_is_as_much_as_fits(piece: str, times: int, rest: int) -> None:
    """Of text in any script, in a list too, as much is kept as its JSON has room for, and no character more."""
    text = piece * times * 40
    leaf = _outcome(alone=text, listed=[text, *["x"] * rest])["attributes"]
    for kept, limit in ((leaf["alone"], entry.MAX_VALUE), (leaf["listed"][0], entry.MAX_VALUE // (rest + 1))):
        assert text.startswith(kept)
        assert len(json.dumps(kept)) - 2 <= limit
        assert kept == text or len(json.dumps(text[: len(kept) + 1])) - 2 > limit
    assert set(leaf.get("veyra.truncated", ())) == {name for name in ("alone", "listed") if text not in leaf[name]}


@pytest.mark.parametrize("name", ["päth", "a\nb", "\ud800", "a\0b"])
def test_a_part_is_named_in_printable_ascii(name: str) -> None:
    """A part's name is ours, so anything odd in it is a mistake."""
    with pytest.raises(ValueError, match="name of a part"):
        entry.intent(WHICH, attributes={}, parts=[BodyPart(name, b"", "x")])


def test_the_commitment_is_the_one_of_the_format() -> None:
    """HMAC-SHA-256, spelled out by hand, over tag, name, length and bytes, with the salt that lies beside it."""
    data = b"the body \x00\xff"
    sealed = _intent({}, BodyPart("request.wire", data, "x/y"))
    blob = parse_blobs(sealed.blobs)[0]
    assert sealed.blobs == b"\0" + blob.salt + len(data).to_bytes(8) + data
    message = b"veyra.part.v1\0request.wire\0" + len(data).to_bytes(8) + data
    key = blob.salt.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(x ^ 0x36 for x in key) + message).digest()
    outer = hashlib.sha256(bytes(x ^ 0x5C for x in key) + inner).hexdigest()
    assert parse(sealed.leaf)["parts"][0]["commit"] == outer


def test_no_body_and_no_plain_hash_of_one_is_in_a_leaf() -> None:
    """A guess at a body finds nothing in the leaf to be confirmed by, and two equal bodies look different."""
    secret = b"only yes or no"
    first, second = (_intent({}, BodyPart("request.wire", secret, "x")) for _ in range(2))
    for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        assert hashlib.new(algorithm, secret).hexdigest().encode() not in first.leaf
    assert secret not in first.leaf
    assert parse(first.leaf)["parts"][0]["commit"] != parse(second.leaf)["parts"][0]["commit"]


def test_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    """An id carries its millisecond, version and variant; later ids sort later."""
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)
    assert before <= int(ids[0].replace("-", "")[:12], 16) <= time.time_ns() // 1_000_000
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"[]",
        b"null",
        b'{"v":1}',
        b'{"v":2,"kind":"x","id":"i","sid":"s","wseq":0}',
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":-1}',
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":true}',
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":0,"n":NaN}',
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":0,"a":1,"a":2}',
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":0}\n',
        b'{"v":1,"kind":"x","sid":"s","id":"i","wseq":0}',
        b'{"v":1,"kind":["x"],"id":3,"sid":"s","wseq":0}',
        b'{"v":1,"kind":"call.intent","id":"i","sid":"s","wseq":0}',
        '{"v":1,"kind":"ä","id":"i","sid":"s","wseq":0}'.encode(),
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":0,"x":"' + b"x" * 65_536 + b'"}',
        b'{"v":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"v":1,"kind":"x","id":"i","sid":"s","wseq":' + b"9" * 5_000 + b"}",
    ],
)
def test_what_the_log_would_not_write_is_not_read(leaf: bytes) -> None:
    """The parser takes only what the printer could have printed, and ends on anything."""
    with pytest.raises(ValueError, match=r"leaf|JSON|Expecting|digits|delimiter|Extra"):
        parse(leaf)


def test_kinds_and_keys_of_later_versions_survive() -> None:
    """An unknown kind, and unknown keys after those that are known, are read and kept."""
    leaf = parse(b'{"v":1,"kind":"access","id":"i","sid":"s","wseq":0,"new":[1]}')
    assert leaf["new"] == [1]
    known = seal(entry.session_close(), SID, 0).leaf
    assert parse(known[:-1] + b',"tenant":"t"}')["tenant"] == "t"


@pytest.mark.parametrize("wrong", [{"t": "1.5"}, {"parts": [{}]}, {"attempt": "1"}, {"attributes": []}])
def test_a_value_of_the_wrong_type_is_not_read(wrong: dict[str, Any]) -> None:
    """Each key of an intent has its type."""
    leaf = json.loads(_intent().leaf) | wrong
    with pytest.raises(ValueError, match="wrong type"):
        parse(json.dumps(leaf).encode())


@given(st.binary(max_size=200))
def test_parsing_ends_on_any_bytes(data: bytes) -> None:
    """Leaves and blobs of any bytes are read or refused with ValueError, nothing else."""
    for reader in (parse, parse_blobs):
        try:
            reader(data)
        except ValueError:
            continue


def test_blobs_that_are_cut_or_of_an_unknown_state_are_refused() -> None:
    """A row of blobs is read whole or not at all."""
    blobs = _intent({}, BodyPart("a", b"one", "x"), BodyPart("b", b"", "x")).blobs
    assert [blob.data for blob in parse_blobs(blobs)] == [b"one", b""]
    for end in set(range(1, len(blobs))) - {44}:
        with pytest.raises(ValueError, match="blob"):
            parse_blobs(blobs[:end])
    with pytest.raises(ValueError, match="unknown state"):
        parse_blobs(b"\x01" + blobs[1:])
