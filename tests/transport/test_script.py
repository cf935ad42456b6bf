"""The fake: plays what it was given, keeps what it was sent, and holds its users to the rules."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import virtual
from asking import ask, ask_in_pieces, post
from loopback import CLOSE, RESET, Loopback, Play, chunk
from pairs import PAIRS
from veyra.errors import (
    CallTimeoutError,
    ConnectionFailedError,
    IncompleteStreamError,
    InvalidRequestError,
    ProviderError,
)
from veyra.transport.base import Transport
from veyra.transport.faults import parse_script
from veyra.transport.http import HttpTransport
from veyra.transport.playing import Repeat
from veyra.transport.script import Answer, NoConnection, Refuse, Reset, ScriptedTransport, Stall, Step
from veyra.types import Finish, TextDelta
from veyra.wire.wording import Wording

URL = "http://provider.test/v1"


async def test_plays_answers_in_turn() -> None:
    """Each request gets the next answer; what was sent is kept, as it was given."""
    transport = ScriptedTransport([Answer(chunks=[b"a", b"", b"b"]), Answer(status=429, headers={"retry-after": "1"})])
    first, second = post(URL, b"1"), post(URL, b"2")
    head, body = await ask(transport, first)
    assert (head.status, body) == (200, b"ab")
    head, body = await ask(transport, second)
    assert (head.status, head.headers, body) == (429, {"retry-after": "1"}, b"")
    assert transport.sent == [first, second]
    transport.assert_finished()


@pytest.mark.parametrize(
    ("step", "kind", "ambiguous"),
    [
        (Refuse(), ConnectionFailedError, False),
        (Reset(), ConnectionFailedError, True),
        (NoConnection(), CallTimeoutError, False),
        (Answer(end="cut"), IncompleteStreamError, True),
    ],
)
async def test_faults_are_the_errors_of_the_contract(step: Step, kind: type[ProviderError], ambiguous: bool) -> None:
    """Each fault raises what `Transport` promises for it."""
    arrived, error = await ask_in_pieces(ScriptedTransport([step]), post(URL, connect_timeout=2.5))
    assert (type(error), arrived) == (kind, b"")
    assert isinstance(error, ProviderError)
    assert error.ambiguous is ambiguous
    if isinstance(error, CallTimeoutError):
        assert (error.phase, error.limit) == ("connect", 2.5)


@pytest.mark.parametrize("step", [Stall(), Answer(chunks=[b"a"], end="stall")])
async def test_a_stall_lasts_until_the_caller_gives_up(step: Step) -> None:
    """A stalled answer waits, without a clock of its own, and is left when it is cancelled."""
    transport = ScriptedTransport([step])
    task = asyncio.create_task(ask(transport, post(URL)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.is_open == 0


def test_faults_of_the_vocabulary_are_steps() -> None:
    """A script of faults plays on the one answer it is given, in the words of its form, and waits on the loop only."""
    pair = PAIRS["openai_chat"]
    head, pieces = pair.written([TextDelta("Hi"), Finish(reason="stop")], stream=True)
    form = Wording(pair.server, request_id="req_1", encoder=pair.encoder(stream=True), streamed=True)
    transport = ScriptedTransport(
        parse_script("ok; cut@event=1; rate-limit@after=2; refuse; slow-head@seconds=3600"),
        answer=Answer(headers=head.headers, chunks=pieces),
        form=form,
    )
    whole = b"".join(pieces)

    async def asked() -> list[object]:
        outcomes: list[object] = []
        for _ in range(5):
            arrived, error = await ask_in_pieces(transport, post(URL))
            outcomes.append(type(error) if error else arrived)
        return [*outcomes, asyncio.get_running_loop().time() >= 3600]

    limited = b'"code":"rate_limit_exceeded"'
    first, cut, limit, refused, slow, waited = virtual.run(asked())
    assert (first, cut, refused, slow, waited) == (whole, IncompleteStreamError, ConnectionFailedError, whole, True)
    assert isinstance(limit, bytes)
    assert limited in limit
    transport.assert_finished()


def test_what_repeats_goes_on_until_the_caller_gives_up() -> None:
    """Signs of life come for ever, so far apart as was asked for."""

    async def heard() -> tuple[list[bytes], float]:
        transport = ScriptedTransport([Answer(chunks=[b"a"], end=Repeat(b".", 60.0))])
        async with transport.open(post(URL)) as incoming:
            chunks = incoming.chunks()
            heard = [await anext(chunks) for _ in range(4)]
        assert transport.left_early == 1
        return heard, asyncio.get_running_loop().time()

    assert virtual.run(heard()) == ([b"a", b".", b".", b"."], 180.0)


def test_a_fault_without_its_words_is_refused_on_opening() -> None:
    """A step that has to be told in a format's words fails where the script has no form."""
    _, error = asyncio.run(ask_in_pieces(ScriptedTransport(parse_script("overloaded")), post(URL)))
    assert isinstance(error, InvalidRequestError)


@given(chunks=st.lists(st.binary(max_size=5), max_size=6), size=st.integers(0, 40))
def test_an_answer_is_cut_at_any_byte(chunks: list[bytes], size: int) -> None:
    """A cut answer gives exactly the bytes before the cut, and then breaks off."""
    transport = ScriptedTransport([Answer(status=201, chunks=chunks).cut_after(size)])
    arrived, error = asyncio.run(ask_in_pieces(transport, post(URL)))
    assert arrived == b"".join(chunks)[:size]
    assert isinstance(error, IncompleteStreamError)


async def test_leaving_early_is_counted() -> None:
    """An exchange that is left before its end is counted, and one that is read to its end is not."""
    transport = ScriptedTransport([Answer(chunks=[b"a", b"b"]), Answer(chunks=[b"a"])])
    async with transport.open(post(URL)) as incoming:
        assert transport.is_open == 1
        assert await anext(incoming.chunks()) == b"a"
    await ask(transport, post(URL))
    assert (transport.is_open, transport.left_early) == (0, 1)


async def test_a_script_that_is_too_short_or_too_long_is_a_mistake() -> None:
    """A request without a step fails, and so does a step without a request."""
    transport = ScriptedTransport([Answer()])
    with pytest.raises(AssertionError, match="1 steps of the script were not taken"):
        ScriptedTransport([Answer()]).assert_finished()
    await ask(transport, post(URL))
    with pytest.raises(AssertionError, match="no step for request 2"):
        await ask(transport, post(URL))


async def test_an_exchange_that_is_never_left_is_a_mistake() -> None:
    """`assert_finished` finds an exchange that is still open."""
    transport = ScriptedTransport([Answer()])
    async with transport.open(post(URL)):
        with pytest.raises(AssertionError, match="1 exchanges are still open"):
            transport.assert_finished()


async def test_a_body_is_read_once_and_inside_its_context() -> None:
    """Reading a body twice, or after its context was left, is a mistake of the reader."""
    transport = ScriptedTransport([Answer(chunks=[b"a", b"b"]), Answer(chunks=[b"a", b"b"])])
    async with transport.open(post(URL)) as incoming:
        assert [data async for data in incoming.chunks()] == [b"a", b"b"]
        with pytest.raises(AssertionError, match="once"):
            await anext(incoming.chunks())
    async with transport.open(post(URL)) as incoming:
        arriving = incoming.chunks()
    with pytest.raises(AssertionError, match="inside its context"):
        await anext(arriving)


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TWINS: dict[str, tuple[Step, Play]] = {
    "whole": (Answer(chunks=[b"ab", b"c"]), [HEAD, chunk(b"ab"), chunk(b"c"), b"0\r\n\r\n"]),
    "cut": (Answer(chunks=[b"ab"], end="cut"), [HEAD, chunk(b"ab"), CLOSE]),
    "reset": (Reset(), [RESET]),
}


@pytest.mark.parametrize(("step", "play"), TWINS.values(), ids=TWINS)
async def test_the_fake_does_what_http_does(transport: HttpTransport, step: Step, play: Play) -> None:
    """The same exchange ends alike over the fake and over a real connection."""

    async def outcome(over: Transport, url: str) -> tuple[object, ...]:
        arrived, error = await ask_in_pieces(over, post(url))
        return arrived, type(error), getattr(error, "ambiguous", None), getattr(error, "retryable", None)

    async with Loopback([play]) as server:
        assert await outcome(ScriptedTransport([step]), URL) == await outcome(transport, server.url)
