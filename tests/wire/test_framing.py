"""Lines and server-sent events, however their bytes arrive."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from veyra.wire import framing
from veyra.wire.framing import Lines, ServerEvent, ServerEvents, TooLongError


def lines(pieces: list[bytes]) -> list[bytes]:
    cutter = Lines()
    found = [line for piece in pieces for line in cutter.feed(piece)]
    return [*found, cutter.close()]


def events(pieces: list[bytes]) -> list[ServerEvent]:
    cutter = ServerEvents()
    found = [event for piece in pieces for event in cutter.feed(piece)]
    return [*found, *cutter.close()]


@given(st.data())
def test_lines_do_not_depend_on_pieces(data: st.DataObject) -> None:
    """Any split of the same bytes gives the same lines, also between CR and LF."""
    whole = b"".join(data.draw(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"", "é".encode(), b"\x0b"]))))
    cuts = data.draw(st.lists(st.integers(0, len(whole))))
    expected = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert lines([whole]) == expected
    assert lines(corpus.pieces(whole, cuts)) == expected
    assert lines([whole[i : i + 1] for i in range(len(whole))]) == expected


_TEXTS = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=12)


@given(st.data())
def test_events_do_not_depend_on_pieces(data: st.DataObject) -> None:
    """What is written as events comes back as it was, with any line end, comments between, and any split."""
    sent = data.draw(st.lists(st.tuples(_TEXTS, st.lists(_TEXTS, min_size=1, max_size=3)), max_size=5))
    end = data.draw(st.sampled_from(["\n", "\r", "\r\n"]))
    written = data.draw(st.sampled_from(["", "\ufeff"])) + ": keep-alive" + end
    for name, texts in sent:
        written += f"event: {name}{end}id: 7{end}retry: 10{end}"
        written += "".join(f"data: {text}{end}:{end}" for text in texts) + end
    whole = written.encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole))))
    expected = [(name, "\n".join(texts).encode()) for name, texts in sent]
    assert events([whole]) == expected
    assert events(corpus.pieces(whole, cuts)) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"data:x\n\n", [("", b"x")]),
        (b"\xef\xbb\xbfdata: x\n\n", [("", b"x")]),
        (b"data:  x\n\n", [("", b" x")]),
        (b"data\n\n", [("", b"")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"event: e\n\ndata: x\n\n", [("", b"x")]),
        (b"event: e\ndata: x\n\ndata: y\n\n", [("e", b"x"), ("", b"y")]),
        (b"unknown: x\ndata: y\n\n", [("", b"y")]),
        (b"error: {}\n\n", [("error", b"{}")]),
        (b": only a comment\n\n", []),
        (b"data: never ended", [("", b"never ended")]),
        (b"", []),
    ],
)
def test_event_fields(written: bytes, expected: list[ServerEvent]) -> None:
    """Fields are read as the standard says; an event that the end of the bytes cuts off is given by `close`."""
    assert events([written]) == expected


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that goes on beyond the limit is refused before it fills the memory."""
    monkeypatch.setattr(framing, "MESSAGE_LIMIT", 100)
    cutter = Lines()
    cutter.feed(b"x" * 100)
    with pytest.raises(TooLongError):
        cutter.feed(b"x")


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose data goes on in short lines beyond the limit is refused too."""
    monkeypatch.setattr(framing, "MESSAGE_LIMIT", 100)
    cutter = ServerEvents()
    with pytest.raises(TooLongError):
        cutter.feed(b"data: x\n" * 101)


def test_small_pieces_cost_linear_work() -> None:
    """An event of a megabyte that comes byte by byte is put together once, not at every byte."""
    text = json.dumps({"text": "x" * 1_000_000}).encode()
    cutter = ServerEvents()
    found: list[ServerEvent] = []
    for byte in b"data: " + text + b"\n\n":
        found += cutter.feed(bytes((byte,)))
    assert found == [("", text)]


def test_empty_lines_of_data_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of lines without data is refused, too, when it does not end; one that ends has them all."""
    monkeypatch.setattr(framing, "MESSAGE_LIMIT", 100)
    assert ServerEvents().feed(b"data:\n" * 4 + b"\n") == [("", b"\n\n\n")]
    with pytest.raises(TooLongError):
        ServerEvents().feed(b"data:\n" * 1000)
