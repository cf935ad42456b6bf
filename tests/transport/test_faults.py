"""The vocabulary of faults: printed and read back, and what each does to an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairs import PAIRS
from veyra.errors import InvalidRequestError
from veyra.transport import faults
from veyra.transport.base import Head
from veyra.transport.chance import Chance
from veyra.transport.faults import KINDS, Fault, parse, parse_script, print_script
from veyra.transport.playing import Answer, Body, Repeat, apply, is_silent
from veyra.types import Event, Finish, TextDelta, Usage
from veyra.wire.wording import Wording

EVENTS: list[Event] = [
    TextDelta("It is ☀"),
    TextDelta(" out"),
    Finish(reason="stop", usage=Usage(input_total=3, output_total=4)),
]
SSE = {"content-type": "text/event-stream; charset=utf-8"}
ONE, TWO, THREE = b'data: {"n":1}\n\n', b'data: {"n":2}\n\n', "data: ☀\n\n".encode()
STREAM = Answer(headers=SSE, chunks=[ONE, TWO, THREE])
WHOLE = Answer(headers={"content-type": "application/json"}, chunks=[b'{"a":1}'])

_count = st.integers(0, 10**9)
_seconds = st.floats(0, 10**9, allow_nan=False)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "byte": _count,
    "event": _count,
    "after": _count,
    "ms": _count,
    "date": _count,
    "seed": _count,
    "seconds": _seconds,
    "every": _seconds,
    "kind": st.sampled_from(["overloaded", "rate-limit", "server"]),
    "type": st.sampled_from(["text/plain", "application/vnd.x+json"]),
    "status": st.integers(400, 599),
}


@st.composite
def any_fault(draw: st.DrawFn) -> Fault:
    """Draw a fault of any kind, with any fields that go together."""
    kind = draw(st.sampled_from(KINDS))
    names = [field.name for field in fields(kind) if draw(st.booleans())]
    if kind in {faults.Cut, faults.Truncate}:
        names = [draw(st.sampled_from(["byte", "event"]))]
    elif kind in {faults.Stall, faults.RateLimit}:
        names = names[:1]
    return kind(**{name: draw(_VALUES[name]) for name in names})


def played(fault: str, answer: Answer = STREAM, *, dialect: str = "openai_chat", stream: bool = True) -> Answer:
    """Return an answer as a fault leaves it, in the words of a dialect."""
    result = apply(parse(fault), answer, form(dialect, stream=stream), now=1_700_000_000)
    assert isinstance(result, Answer)
    return result


def form(dialect: str, *, stream: bool = True) -> Wording:
    pair = PAIRS[dialect]
    return Wording(pair.server, request_id="req_1", encoder=pair.encoder(stream=stream), streamed=stream)


def answer(dialect: str, *, stream: bool) -> Answer:
    """Return what a server half writes."""
    head, pieces = PAIRS[dialect].written(EVENTS, stream=stream)
    return Answer(status=head.status, headers=head.headers, chunks=pieces)


def body(answer: Answer) -> bytes:
    return b"".join(answer.chunks)


# ---------------------------------------------------------------------------------------------------- texts


@given(any_fault())
def test_a_fault_is_read_back_from_its_text(fault: Fault) -> None:
    """Whatever the kind and the fields, the text of a fault gives the same fault again."""
    assert parse(str(fault)) == fault


def test_the_texts_of_the_vocabulary() -> None:
    """Each kind has a name of its own, and what is usual of it is left out of its text."""
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    assert {str(kind()) for kind in KINDS if kind not in {faults.Cut, faults.Truncate}} == set(names) - {
        "cut",
        "truncate",
    }
    assert str(faults.PingOnly(event=2, every=0.25)) == "ping-only@event=2,every=0.25"
    assert str(faults.SlowHead(seconds=2.0)) == "slow-head@seconds=2"
    assert str(faults.RateLimit(after=9999)) == "rate-limit@after=9999"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cot@event=3", "fault 'cot': there is none; there are cut"),
        ("", "there are refuse, no-connection"),
        ("cut", "one of byte and event"),
        ("cut@", "it takes byte, event, not ''"),
        ("cut@event=1,byte=2", "one of byte and event"),
        ("stall@byte=1,event=2", "one of byte and event, or neither"),
        ("rate-limit@after=1,ms=2", "one of after, ms and date"),
        ("cut@event=x", "event is a whole number, not 'x'"),
        ("cut@event=1.5", "event is a whole number, not '1.5'"),
        ("cut@event=-1", "event is a whole number from 0 to 1000000000, not -1"),
        ("cut@event=" + "9" * 9999, "from 0 to 1000000000"),
        ("cut@event=03", "write 'cut@event=3', not 'cut@event=03'"),
        ("cut@event=\N{ARABIC-INDIC DIGIT ONE}", "write 'cut@event=1'"),
        ("CUT@event=1", "there is none"),
        ("duplicate@", "it takes event, not ''"),
        ("ping-only@every=2,event=1", "write 'ping-only@event=1,every=2'"),
        ("cut@event=1,event=2", "write 'cut@event=2'"),
        ("slow-head@seconds=nan", "from 0 to 1000000000, not nan"),
        ("slow-head@seconds=1e999", "not inf"),
        ("refuse@after=1", "it takes nothing, not 'after'"),
        ("failure@status=200", "from 400 to 599, not 200"),
        ("error@kind=bad", "kind is one of overloaded, rate-limit, server, not 'bad'"),
        ("content-type@type=TEXT", "type is like text/html"),
        ("x" * 100_000, "there is none"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, complaint: str) -> None:
    """A text that no fault prints as is an error of bounded length that says what to write."""
    with pytest.raises(InvalidRequestError, match=re.escape(complaint)) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("given_fields", [{"event": "3"}, {"event": True}, {"event": 1.0}, {"byte": b"1"}])
def test_fields_of_another_type_are_refused(given_fields: dict[str, Any]) -> None:
    """A fault made by hand is checked as one that was read."""
    with pytest.raises(InvalidRequestError, match="is a whole number, not"):
        faults.Cut(**given_fields)


def test_what_is_usual_may_be_written() -> None:
    """A field may be given although it is as it is without; it is left out again when the fault is printed."""
    assert parse("error@event=1,kind=overloaded") == parse("error@event=1") == parse("error") == faults.InBand()
    assert str(parse("slow-head@seconds=5")) == "slow-head"


def test_a_script_is_read_and_printed() -> None:
    """Steps stand on lines or between semicolons, `ok` is no fault, remarks are passed over."""
    steps = parse_script("# first\nok; cut@event=3 ;\n\n overloaded # then\r\nok\n")
    assert steps == (None, faults.Cut(event=3), faults.Overloaded(), None)
    assert print_script(steps) == "ok\ncut@event=3\noverloaded\nok\n"
    assert parse_script(print_script(steps)) == steps
    assert parse_script("") == ()


def test_a_wrong_step_is_named_by_its_line() -> None:
    """An error in a script says which line it is in."""
    with pytest.raises(InvalidRequestError, match=r"one of byte and event \(line 3\)"):
        parse_script("ok\n\nok; cut")


# ------------------------------------------------------------------------------------------- what they do


@pytest.mark.parametrize("text", ["refuse", "no-connection", "reset", "stall"])
def test_some_leave_no_answer(text: str) -> None:
    """Where nothing is answered, the fault itself is what is left."""
    fault = parse(text)
    assert is_silent(fault)
    assert apply(fault, STREAM) is fault


def test_no_fault_leaves_an_answer_as_it_is() -> None:
    """Without a fault nothing of an answer changes, how its pieces fall included."""
    assert apply(None, STREAM) == STREAM
    cut = Answer(headers=SSE, chunks=[ONE[:3]], end="cut", wait=2.0)
    assert apply(None, cut) == cut


SPOILED: dict[str, tuple[Sequence[bytes], object]] = {
    "cut@event=0": ([], "cut"),
    "cut@event=2": ([ONE, TWO], "cut"),
    "cut@event=99": ([ONE, TWO, THREE], "cut"),
    "cut@byte=0": ([], "cut"),
    "cut@byte=20": ([ONE, TWO[:5]], "cut"),
    "cut@byte=999": ([ONE, TWO, THREE], "cut"),
    "truncate@event=1": ([ONE], "end"),
    "truncate@byte=16": ([ONE, TWO[:1]], "end"),
    "stall@event=1": ([ONE], "stall"),
    "stall@byte=0": ([], "stall"),
    "ping-only": ([], Repeat(b": keep-alive\n\n", 1.0)),
    "ping-only@event=2,every=0.5": ([ONE, TWO], Repeat(b": keep-alive\n\n", 0.5)),
    "endless": ([ONE], Repeat(ONE, 0.0)),
    "endless@event=2,every=3": ([ONE, TWO], Repeat(TWO, 3.0)),
    "endless@event=99": ([ONE, TWO, THREE], Repeat(THREE, 0.0)),
    "duplicate": ([ONE, ONE, TWO, THREE], "end"),
    "duplicate@event=99": ([ONE, TWO, THREE], "end"),
    "reorder@event=2": ([ONE, THREE, TWO], "end"),
    "reorder@event=3": ([ONE, TWO, THREE], "end"),
    "invalid-json@event=2": ([ONE, b'data: {"n":2{\n\n', THREE], "end"),
    "slow-head": ([ONE, TWO, THREE], "end"),
    "content-type": ([ONE, TWO, THREE], "end"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_what_a_fault_does_to_a_stream(fault: str) -> None:
    """Each fault changes just what it is about: the pieces that go out, and what comes after them."""
    result = played(fault)
    assert (list(result.chunks), result.end) == SPOILED[fault]
    assert result.status == 200


@pytest.mark.parametrize("fault", SPOILED)
@given(data=st.data())
def test_events_do_not_depend_on_pieces(fault: str, data: st.DataObject) -> None:
    """However the bytes of a stream fall into pieces, a fault leaves the same bytes; `endless` is about a piece itself."""
    whole = body(STREAM)
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    result = played(fault, Answer(headers=SSE, chunks=pieces))
    if fault != "endless":
        chunks, end = SPOILED[fault]
        assert (body(result), result.end) == (b"".join(chunks), end)


def test_events_end_as_the_standard_says() -> None:
    """Events end with two line ends of any kind, also where a piece ends between them; lines of JSON with one."""
    crlf = Answer(headers=SSE, chunks=[b"data: 1\r\n\r", b"\ndata: 2\r\n\r\n", b"data: 3\r\rdata: 4"])
    assert body(played("cut@event=1", crlf)) == b"data: 1\r\n\r\n"
    assert body(played("cut@event=3", crlf)) == b"data: 1\r\n\r\ndata: 2\r\n\r\ndata: 3\r\r"
    assert body(played("duplicate@event=4", crlf)).endswith(b"data: 4data: 4")
    lines = Answer(headers={"content-type": "application/x-ndjson"}, chunks=[b"{}\n{", b"}\n{}\n"])
    assert body(played("truncate@event=2", lines)) == b"{}\n{}\n"


def test_a_whole_body_is_one_event() -> None:
    """In a body that is not streamed there is one event, an error stands in its place, and a sign of life is a space."""
    assert body(played("cut@event=1", WHOLE)) == b'{"a":1}'
    assert played("cut@event=1", WHOLE).end == "cut"
    assert body(played("duplicate", WHOLE)) == b'{"a":1}{"a":1}'
    assert body(played("invalid-json", WHOLE)) == b'{"a":1{'
    assert played("ping-only", WHOLE, stream=False).end == Repeat(b" ", 1.0)
    for event in (0, 1, 9):
        inside = played(f"error@event={event}", WHOLE, stream=False)
        assert body(inside).startswith(b'{"error":{"message":"a fault was asked for: error')
        assert inside.status == 200


@given(seed=st.integers(0, 10**9), text=st.text(min_size=1))
def test_split_pieces_tear_every_character(seed: int, text: str) -> None:
    """Split pieces are the same bytes, 1 to 8 at a time, and no piece holds the beginning of a character and its rest."""
    whole = text.encode("utf-8", "replace")
    result = played(f"split-utf8@seed={seed}" if seed else "split-utf8", Answer(headers=SSE, chunks=[whole]))
    assert body(result) == whole
    assert all(1 <= len(piece) <= 8 for piece in result.chunks)
    for piece in result.chunks:
        for byte, following in pairwise(piece):
            assert not (byte >= 0xC0 and following & 0xC0 == 0x80)


def test_where_nothing_can_be_repeated_nothing_comes() -> None:
    """An endless body without any event is one that stalls."""
    assert played("endless", Answer(headers=SSE)).end == "stall"
    assert played("endless@event=0").end == "stall"


def test_the_head_waits_and_the_type_is_another() -> None:
    """A slow head adds to what an answer waits anyway; a wrong type changes that header alone."""
    assert played("slow-head@seconds=2", Answer(headers=SSE, wait=1.0)).wait == 3.0
    assert played("content-type@type=text/plain").headers == {"content-type": "text/plain"}


INSTEAD = [
    ("html-502", "openai_chat", 502, "text/html", b"<html>"),
    ("overloaded", "anthropic", 529, "application/json", b'"type":"overloaded_error"'),
    ("overloaded", "openai_chat", 529, "application/json", b'"code":"server_is_overloaded"'),
    ("overloaded", "ollama", 529, "application/json; charset=utf-8", b'{"error":"a fault was asked for: overloaded"}'),
    ("quota", "openai_chat", 429, "application/json", b'"code":"insufficient_quota"'),
    ("quota", "anthropic", 402, "application/json", b'"type":"billing_error"'),
    ("spend-limit", "anthropic", 429, "application/json", b'"error_code":"enforced_spend_limit_reached"'),
    ("spend-limit", "openai_responses", 429, "application/json", b'"code":"insufficient_quota"'),
    ("rate-limit", "openai_chat", 429, "application/json", b'"code":"rate_limit_exceeded"'),
    ("rate-limit", "anthropic", 429, "application/json", b'"type":"rate_limit_error"'),
    ("failure", "openai_chat", 500, "application/json", b'"type":"server_error"'),
    ("failure@status=401", "openai_chat", 401, "application/json", b'"code":"invalid_api_key"'),
    ("failure@status=404", "anthropic", 404, "application/json", b'"type":"not_found_error"'),
    ("failure@status=418", "openai_chat", 418, "application/json", b'"type":"invalid_request_error"'),
]


@pytest.mark.parametrize(("fault", "dialect", "status", "kind", "words"), INSTEAD)
def test_what_stands_in_the_place_of_an_answer(fault: str, dialect: str, status: int, kind: str, words: bytes) -> None:
    """Errors before an answer are told with the status and in the words of the format, and say what was asked for."""
    result = played(fault, dialect=dialect)
    assert (result.status, result.headers["content-type"]) == (status, kind)
    assert words in body(result)
    assert fault == "html-502" or fault.encode() in body(result)
    assert not {"retry-after", "retry-after-ms", "x-should-retry"} & set(result.headers)


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        ("rate-limit", {}),
        ("rate-limit@after=9999", {"retry-after": "9999"}),
        ("rate-limit@ms=300", {"retry-after-ms": "300"}),
        ("rate-limit@date=30", {"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}),
    ],
)
def test_when_to_try_again_is_said_as_asked(fault: str, headers: dict[str, str]) -> None:
    """A rate limit says when to try again in the form that was asked for, and in no other."""
    result = played(fault)
    assert {name: value for name, value in result.headers.items() if "retry" in name} == headers


INSIDE = [
    ("openai_chat", "overloaded", b'"code":"server_is_overloaded"'),
    ("openai_chat", "rate-limit", b'"code":"rate_limit_exceeded"'),
    ("openai_responses", "server", b"event: response.failed"),
    ("anthropic", "overloaded", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"'),
    ("ollama", "server", b'{"error":"a fault was asked for'),
    ("gemini", "overloaded", b'data: {"error":{"code":503,"message":"a fault was asked for'),
    ("gemini", "rate-limit", b'"status":"RESOURCE_EXHAUSTED"'),
]


@pytest.mark.parametrize(("dialect", "kind", "words"), INSIDE)
def test_an_error_inside_a_stream(dialect: str, kind: str, words: bytes) -> None:
    """After the events before it, an error comes in the format's words, and ends the body in order."""
    stream = answer(dialect, stream=True)
    text = "error@event=2" if kind == "overloaded" else f"error@event=2,kind={kind}"
    result = played(text, stream, dialect=dialect)
    *before, last = result.chunks
    assert body(stream).startswith(b"".join(before))
    assert last.startswith(words) or words in last
    assert (result.status, result.end) == (200, "end")


@pytest.mark.parametrize("dialect", PAIRS)
def test_endless_repeats_content(dialect: str) -> None:
    """In what the server halves write, the event that comes again and again is the first with content."""
    result = played("endless", answer(dialect, stream=True), dialect=dialect)
    assert isinstance(result.end, Repeat)
    assert "It is ☀".encode() in result.end.data
    assert b'" out"' not in body(result)


@pytest.mark.parametrize("dialect", PAIRS)
def test_a_sign_of_life_tells_nothing(dialect: str) -> None:
    """A client half reads no event with content from signs of life."""
    pair = PAIRS[dialect]
    decoder = pair.client.decoder(pair.encoder(stream=True).head(), pair.flags, stream=True)
    events = [event for _ in range(3) for event in decoder.feed(form(dialect).ping)]
    assert [event for event in events if getattr(event, "text", "")] == []


def test_a_fault_that_says_something_needs_words() -> None:
    """Without a form, a fault that has to be told is refused, and names itself."""
    for fault in ("overloaded", "error@event=2", "ping-only"):
        with pytest.raises(InvalidRequestError, match=f"fault {fault}: it is told in a format's own words"):
            apply(parse(fault), STREAM)
    assert apply(parse("html-502"), STREAM) is not STREAM


def test_a_body_is_over_once() -> None:
    """After its end a body takes no more pieces, and pieces that are empty make no event."""
    spoiled = Body(parse("cut@event=1"), Head(200, SSE), lambda: form("openai_chat"))
    assert spoiled.begin() == []
    assert spoiled.feed(b"") == []
    assert spoiled.feed(ONE + TWO) == [ONE]
    assert (spoiled.end, spoiled.feed(THREE), spoiled.close()) == ("cut", [], [])


# ----------------------------------------------------------------------------------------------- every fault


def test_the_same_seed_gives_the_same_bytes_everywhere() -> None:
    """What every fault leaves of every format's answers has one digest, on every run and machine."""
    digest = sha256()
    for dialect in PAIRS:
        for stream in (True, False):
            for text in ("cut@event=2", "split-utf8@seed=7", "rate-limit@date=9", *_plain_texts()):
                fault = parse(text)
                left = apply(fault, answer(dialect, stream=stream), form(dialect, stream=stream), now=1_700_000_000)
                digest.update(repr(left).encode())
    assert digest.hexdigest() == "572e805aae34b167c5963bb38e29ec1f6a8aec557877522e2484070af8e69553"


def _plain_texts() -> list[str]:
    return [kind.name for kind in KINDS if kind not in {faults.Cut, faults.Truncate}]


def test_chance_is_fixed_and_fair() -> None:
    """The numbers of a seed are these for ever; they stay in their range and fill it."""
    chance = Chance(7, "x")
    assert [chance.below(1000) for _ in range(6)] == [128, 526, 215, 818, 31, 843]
    assert 0.45 < sum(Chance(seed).unit() for seed in range(1000)) / 1000 < 0.55
    assert {Chance(seed).below(3) for seed in range(50)} == {0, 1, 2}
    assert Chance(7, "x").unit() != Chance(7, "y").unit()
