"""What every stream must hold, on recorded streams of every dialect: chunks, cuts, garbage."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corpus
from answers import Answer, fail, run
from corpus import Row
from veyra.errors import IncompleteStreamError, MalformedResponseError, ProviderError, excerpt
from veyra.transport.base import Head
from veyra.types import Event, Finish, TextDelta
from veyra.wire import decoding, framing
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Decoder, Dialect, Flags
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses

_SAMPLES: dict[str, tuple[Dialect, str, Callable[[Row], bool]]] = {
    "openai_chat": (
        OpenAIChat(),
        "*-chat*",
        lambda row: row["provider"] in {"openai", "mistral", "openrouter", "azure"},
    ),
    "anthropic": (Anthropic(), "anthropic-messages*", lambda _: True),
    "ollama": (Ollama(), "ollama-chat*", lambda _: True),
    "openai_responses": (OpenAIResponses(), "*-responses*", lambda row: row["endpoint"] == "responses"),
    # A reason to finish that is not the last one looks like the end where the stream is cut after it.
    "gemini": (Gemini(), "*-generate*", lambda row: corpus.body(row).count(b"finishReason") == 1),
}
_MARKED = sorted(set(_SAMPLES) - {"gemini"})
"""The dialects with a terminal marker: the others' streams end with the body."""


def event_end(name: str) -> bytes:
    return b"\n" if name == "ollama" else b"\n\n"


@functools.cache
def sample(name: str, number: int = 24) -> tuple[Row, ...]:
    """A fixed choice of recorded streams that end well, of very different shapes, none of them long."""
    _, pattern, chosen = _SAMPLES[name]
    told = corpus.oracle()
    rows = [
        row
        for row in corpus.rows(pattern)
        if corpus.streamed(row)
        and chosen(row)
        and 300 < len(corpus.body(row)) < 60_000
        and told.get(row["id"], {"ok": name == "gemini"})["ok"]  # there is no oracle for Gemini
        and ends(name, row)
    ]
    rows.sort(key=lambda row: (row["shape"], row["id"]))
    return tuple(random.Random(7).sample(rows, min(number, len(rows))))


def ends(name: str, row: Row) -> bool:
    try:
        run(decoder(name, row), [corpus.body(row)])
    except IncompleteStreamError:
        return False
    return True


def decoder(name: str, row: Row) -> Decoder:
    head = Head(row["response"]["status"], corpus.headers(row))
    return _SAMPLES[name][0].decoder(head, Flags(provider=row["provider"]), stream=True)


@pytest.fixture(params=sorted(_SAMPLES))
def name(request: pytest.FixtureRequest) -> str:
    """A dialect."""
    return str(request.param)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_split_gives_the_same_events(name: str, data: st.DataObject) -> None:
    """However the bytes are cut, the same events come out, one by one."""
    row = data.draw(st.sampled_from(sample(name)), label="row")
    body = corpus.body(row)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=40))
    assert run(decoder(name, row), corpus.pieces(body, cuts)) == run(decoder(name, row), [body])


def test_byte_by_byte_gives_the_same_events(name: str) -> None:
    """Bytes that come one at a time give the same events, also with whole bodies and inside UTF-8."""
    rows = sorted(sample(name), key=lambda row: len(corpus.body(row)))[:10]
    for row in rows:
        body = corpus.body(row)
        assert run(decoder(name, row), (body[i : i + 1] for i in range(len(body)))) == run(decoder(name, row), [body])


def test_line_ends_do_not_matter(name: str) -> None:
    """CR, LF and CRLF end lines alike."""
    for row in sample(name)[:8]:
        body = corpus.body(row).replace(b"\r\n", b"\n")
        whole = run(decoder(name, row), [body])
        for end in (b"\r\n", b"\r"):
            other = body.replace(b"\n", end)
            assert run(decoder(name, row), [other]) == whole
            assert run(decoder(name, row), (other[i : i + 7] for i in range(0, len(other), 7))) == whole


def test_a_stream_cut_between_events_is_incomplete(name: str) -> None:
    """Cut after any event before the terminal marker, a stream is an error that holds the text so far."""
    for row in sample(name)[:12]:
        body = corpus.body(row).replace(b"\r\n", b"\n").rstrip() + b"\n\n"
        whole = run(decoder(name, row), [body])
        events = [event + event_end(name) for event in body.split(event_end(name)) if event.strip()]
        for length in range(len(events)):
            cut = b"".join(events[:length])
            if is_whole(name, row, cut):
                assert length >= len(events) - 2  # what follows the marker may be missing
                continue
            before, error = fail(decoder(name, row), [cut])
            assert type(error) is IncompleteStreamError
            assert (error.ambiguous, error.retryable, error.status) == (True, True, row["response"]["status"])
            assert error.partial == "".join(event.text for event in before if isinstance(event, TextDelta))
            assert whole.text.startswith(error.partial)
            assert tuple(before) == whole.events[: len(before)]


def is_whole(name: str, row: Row, body: bytes) -> bool:
    return not isinstance(end(decoder(name, row), body), ProviderError)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_stream_cut_anywhere_is_incomplete(name: str, data: st.DataObject) -> None:
    """Cut at any byte, also inside an event or a character, a stream is incomplete and nothing else."""
    row = data.draw(st.sampled_from(sample(name)), label="row")
    body = corpus.body(row)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    whole = run(decoder(name, row), [body])
    outcome = end(decoder(name, row), cut)
    if isinstance(outcome, ProviderError):
        assert type(outcome) is IncompleteStreamError
        assert whole.text.startswith(outcome.partial)
    else:
        assert outcome == whole.events


def end(reader: Decoder, body: bytes) -> tuple[Event, ...] | ProviderError:
    """What a body comes to: all its events, or our error."""
    try:
        return (*reader.feed(body), *reader.close())
    except ProviderError as error:
        return error


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_garbled_stream_ends_in_an_answer_or_our_error(name: str, data: st.DataObject) -> None:
    """Bytes put in, taken out or changed give an answer or one of our errors, never another exception."""
    row = data.draw(st.sampled_from(sample(name)), label="row")
    body = bytearray(corpus.body(row))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(body) - 1))
        garbage = data.draw(
            st.sampled_from([b"", b"\xff", b"{", b"]", b'"', b"null", b"-1", b"\\ud800", b"\r\n\r\n", b"[]"])
        )
        body[place : place + data.draw(st.integers(0, 30))] = garbage
    outcome = end(decoder(name, row), bytes(body))
    if not isinstance(outcome, ProviderError):
        assert tuple(event for event in outcome if isinstance(event, Finish)) == outcome[-1:]


@pytest.mark.parametrize("name", _MARKED)
def test_nothing_after_the_end_belongs_to_the_answer(name: str) -> None:
    """Bytes after the terminal marker are passed over, whatever they are, and closing again is quiet."""
    for row in sample(name)[:6]:
        reader = decoder(name, row)
        answer = Answer(tuple(reader.feed(corpus.body(row) + b'data: {"error": {}}\n\n{"error": "x"}\n')))
        assert isinstance(answer.finish, Finish)
        assert reader.done
        assert list(reader.feed(b"more")) == []
        assert list(reader.close()) == []


@pytest.mark.parametrize("stream", [True, False])
def test_an_empty_answer_is_an_error(name: str, *, stream: bool) -> None:
    """No bytes at all are no answer: a stream that never began, or a body that is not what the format says."""
    for body in (b"", b" \r\n \n"):
        reader = _SAMPLES[name][0].decoder(Head(200, {}), Flags(provider="test"), stream=stream)
        _, error = fail(reader, [body] if body else [])
        assert error.kind == ("incomplete_stream" if stream else "malformed_response")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "body",
    [b"<html><body>502</body></html>", b'{"choices": ', b'{"a": "\xff"', b"[]", b'"text"', b"{}", b"[" * 100_000],
)
def test_what_is_no_answer_is_malformed(name: str, body: bytes, *, stream: bool) -> None:
    """HTML, broken JSON, JSON of another shape and what is not UTF-8 are malformed, with a short excerpt."""
    reader = _SAMPLES[name][0].decoder(
        Head(200, {"request-id": "r", "x-request-id": "r"}), Flags(provider="test"), stream=stream
    )
    _, error = fail(reader, [body])
    cut = (name == "ollama" and stream and body == b'{"choices": ') or (name == "gemini" and body.startswith(b"[["))
    assert error.kind == ("incomplete_stream" if cut else "malformed_response")
    assert error.request_id == (None if name in {"ollama", "gemini"} else "r")
    assert len(error.message) < 700


@pytest.mark.parametrize("stream", [True, False])
def test_an_endless_answer_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, *, stream: bool) -> None:
    """A body, or a message in a stream, that goes on beyond the limit is malformed before it fills the memory."""
    monkeypatch.setattr(decoding, "MESSAGE_LIMIT", 1000)
    monkeypatch.setattr(framing, "MESSAGE_LIMIT", 1000)
    reader = _SAMPLES[name][0].decoder(Head(200, {}), Flags(provider="test"), stream=stream)
    endless = (b"data: " + b"x" * 90 for _ in range(1_000_000))
    _, error = fail(reader, endless)
    assert error.kind == "malformed_response"
    assert "1000 bytes" in error.message


NO_STREAMS = [
    b"hello, this is no stream\n",
    b"null",
    b"42\n",
    b"\xff\xfe\x00\x01abc",
    b"<!doctype html>\n<p>Log in</p>\n",
    b"{broken\n",
    b"{broken",
]


@pytest.mark.parametrize("body", NO_STREAMS)
def test_what_never_was_a_stream_is_malformed_and_quoted(name: str, body: bytes) -> None:
    """A body of which no part can be an answer's is not told as a cut one: the error shows how it begins."""
    error = end(decoder(name, sample(name)[0]), body)
    assert type(error) is MalformedResponseError
    assert excerpt(body)[:6] in error.message


def test_an_empty_stream_is_incomplete_and_said_to_be_empty(name: str) -> None:
    """A stream in which nothing came is the shortest cut one; the error does not make it look like the end of an answer."""
    for body in (b"", b"\n\n"):
        error = end(decoder(name, sample(name)[0]), body)
        assert type(error) is IncompleteStreamError
        assert "the stream is empty" in error.message
