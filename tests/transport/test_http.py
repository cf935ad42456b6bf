"""What goes over the wire in ordinary days: requests, answers, and connections that are used again."""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asking import ask, post
from loopback import CLOSE, STALL, Loopback, Play, chunk, in_thread, reply, until
from veyra import __version__
from veyra.errors import ConnectionFailedError
from veyra.transport.base import Outgoing
from veyra.transport.http import HttpTransport
from veyra.types import Secret

HEAD = b"HTTP/1.1 200 OK\r\n"


async def test_request_arrives_as_it_was_given(transport: HttpTransport) -> None:
    """Method, target, headers and body arrive byte for byte, and only the headers that HTTP needs are added."""
    async with Loopback([reply()]) as server:
        request = post(
            f"{server.url}/v1/a%2Fb%3Ac/chat?x=%20&y=1",
            b'{"a": "\xc3\xa9"}',
            headers={"Content-Type": "application/json", "X-Trace": "1"},
            secret_headers={"Authorization": Secret("Bearer canary")},
        )
        await ask(transport, request)
    (seen,) = server.requests
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/a%2Fb%3Ac/chat?x=%20&y=1", b'{"a": "\xc3\xa9"}')
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "user-agent": f"veyra/{__version__}",
        "content-type": "application/json",
        "x-trace": "1",
        "authorization": "Bearer canary",
        "content-length": "11",
    }
    assert len(seen.lines) == len(seen.headers), "no header comes twice"


async def test_a_secret_header_overrules_a_plain_one(transport: HttpTransport) -> None:
    """A header that is given in both places, however it is spelt, is sent once, with the secret value."""
    secret = {"Authorization": Secret("Bearer canary")}
    async with Loopback([reply()]) as server:
        await ask(transport, post(server.url, headers={"authorization": "plain"}, secret_headers=secret))
    assert server.requests[0].headers["authorization"] == "Bearer canary"
    assert sum(line.lower().startswith("authorization") for line in server.requests[0].lines) == 1


async def test_get_sends_no_body(transport: HttpTransport) -> None:
    """A GET has neither a body nor a header that speaks of one."""
    async with Loopback([reply(body=b"pong")]) as server:
        head, body = await ask(transport, Outgoing(method="GET", url=server.url + "/api/version"))
    assert (head.status, body) == (200, b"pong")
    assert server.requests[0].method == "GET"
    assert not server.requests[0].headers.keys() & {"content-length", "transfer-encoding", "content-type"}


async def test_head_has_lower_case_names_and_joined_values(transport: HttpTransport) -> None:
    """Header names come in lower case; values of a repeated header are joined; a byte that is no text is replaced."""
    answer = HEAD + b"X-Request-Id: r1\r\nVia: a\r\nvia: b\r\nX-Odd: caf\xe9\r\nContent-Length: 2\r\n\r\n{}"
    async with Loopback([[answer]]) as server:
        head, body = await ask(transport, post(server.url))
    assert body == b"{}"
    assert head.headers == {"x-request-id": "r1", "via": "a, b", "x-odd": "caf\ufffd", "content-length": "2"}


async def test_a_wait_is_told_with_the_time_from_which_it_counts() -> None:
    """An answer that names a wait and no time is given that of its arrival; the provider's own stays, and no other gets one."""
    wait, own = {"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, {"date": "Tue, 14 Nov 2023 22:13:00 GMT"}
    transport = HttpTransport(clock=lambda: 1_700_000_000.0)
    async with Loopback([reply(429, wait), reply(429, wait | own), reply()]) as server:
        dates = [(await ask(transport, post(server.url)))[0].headers.get("date") for _ in range(3)]
    await transport.aclose()
    assert dates == ["Tue, 14 Nov 2023 22:13:20 GMT", own["date"], None]


@pytest.mark.parametrize("status", [200, 204, 301, 307, 401, 404, 418, 429, 500, 503, 529])
async def test_every_status_is_an_answer(transport: HttpTransport, status: int) -> None:
    """No status is an error here, and no redirect is followed."""
    async with Loopback([reply(status, {"location": "/elsewhere"}), reply()]) as server:
        head, _ = await ask(transport, post(server.url))
    assert head.status == status
    assert len(server.requests) == 1


async def test_interim_answers_are_skipped(transport: HttpTransport) -> None:
    """Answers with status 1xx are no answer yet."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with Loopback([[interim, *reply(body=b"ok")]]) as server:
        head, body = await ask(transport, post(server.url))
    assert (head.status, body) == (200, b"ok")


async def test_cookies_are_not_kept(transport: HttpTransport) -> None:
    """A cookie that a server sets is not sent back."""
    async with Loopback([reply(headers={"set-cookie": "id=1; Path=/"}), reply()]) as server:
        for _ in range(2):
            await ask(transport, post(f"http://localhost:{server.port}"))
    assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize(
    ("coding", "squeezed"),
    [
        ("gzip", gzip.compress(b"hello" * 1000)),
        ("deflate", zlib.compress(b"hello" * 1000)),
        ("gzip", gzip.compress(b"hello" * 500) + gzip.compress(b"hello" * 500)),
    ],
    ids=["gzip", "deflate", "gzip of two members"],
)
async def test_content_coding_is_undone(transport: HttpTransport, coding: str, squeezed: bytes) -> None:
    """A compressed body comes out as it was before."""
    async with Loopback([reply(headers={"content-encoding": coding}, body=squeezed)]) as server:
        assert (await ask(transport, post(server.url)))[1] == b"hello" * 1000


async def test_a_body_without_framing_ends_with_its_connection(transport: HttpTransport) -> None:
    """Without length or chunks, a clean close is the end of the body (RFC 9112, section 6.3)."""
    async with Loopback([[HEAD + b"\r\nabc", CLOSE]]) as server:
        assert (await ask(transport, post(server.url)))[1] == b"abc"


async def test_pieces_come_as_they_arrive(transport: HttpTransport) -> None:
    """A piece of the body is handed out before the server has sent the next."""
    gates = [threading.Event() for _ in range(3)]
    pieces = [b"one", b"two", b"three"]
    play: list[bytes | threading.Event] = [HEAD + b"transfer-encoding: chunked\r\n\r\n"]
    for gate, piece in zip(gates, pieces, strict=True):
        play += [gate, chunk(piece)]
    async with Loopback([[*play, b"0\r\n\r\n"]]) as server, transport.open(post(server.url)) as incoming:
        arriving = incoming.chunks()
        for gate, piece in zip(gates, pieces, strict=True):
            gate.set()
            assert await anext(arriving) == piece
        assert [data async for data in arriving] == []


@settings(max_examples=40)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8), cuts=st.lists(st.integers(1, 120), min_size=1, max_size=9))
def test_any_split_of_the_same_bytes_is_the_same_body(pieces: list[bytes], cuts: list[int]) -> None:
    """However the server cuts its bytes, the same body arrives, in pieces none of which is empty."""
    wire = b"".join(move for move in reply(body=pieces, chunked=True) if isinstance(move, bytes))
    moves: list[bytes] = []
    while wire:
        size = cuts[len(moves) % len(cuts)]
        moves.append(wire[:size])
        wire = wire[size:]

    async def body() -> list[bytes]:
        transport = HttpTransport()
        async with Loopback([moves]) as server, transport.open(post(server.url)) as incoming:
            return [data async for data in incoming.chunks()]

    arrived = asyncio.run(body())
    assert b"".join(arrived) == b"".join(pieces)
    assert all(arrived)


async def test_a_connection_is_used_again_after_the_end_of_a_body(transport: HttpTransport) -> None:
    """Answers read to their end share one connection, whatever their framing and status."""
    plays: list[Play] = [reply(body=b"1"), reply(500, body=[b"2", b"3"], chunked=True), reply(204), reply(body=b"4")]
    async with Loopback(plays) as server:
        for _ in plays:
            await ask(transport, post(server.url))
    assert [len(link.requests) for link in server.links] == [4]


async def test_leaving_early_closes_the_connection(transport: HttpTransport) -> None:
    """Whoever leaves before the end of the body closes the connection, and the next request takes another."""
    cut: Play = [HEAD + b"content-length: 9\r\n\r\nabc", STALL]
    async with Loopback([cut, reply()]) as server:
        async with transport.open(post(server.url)) as incoming:
            assert await anext(incoming.chunks()) == b"abc"
        await asyncio.wait_for(until(server.links[0].left), 1)
        await ask(transport, post(server.url))
    assert [len(link.requests) for link in server.links] == [1, 1]


async def test_leaving_without_reading_closes_the_connection(transport: HttpTransport) -> None:
    """An answer whose body is still to come costs its connection when it is not read at all."""
    async with Loopback([[HEAD + b"content-length: 9\r\n\r\n", STALL]]) as server:
        async with transport.open(post(server.url)):
            pass
        await asyncio.wait_for(until(server.links[0].left), 1)


async def test_a_connection_closed_while_idle_is_replaced(transport: HttpTransport) -> None:
    """A connection that the server closed between two requests is noticed, and the request goes over a new one."""
    async with Loopback([[*reply(), CLOSE], reply()]) as server:
        await ask(transport, post(server.url))
        await until(server.links[0].closed)
        await ask(transport, post(server.url))
    assert [len(link.requests) for link in server.links] == [1, 1]


def test_a_close_that_the_loop_has_not_seen_is_noticed() -> None:
    """The end of an idle connection that still waits in the kernel is found before the request is written to it."""
    closing = threading.Event()

    async def ask_twice(server: Loopback) -> None:
        transport = HttpTransport()
        await ask(transport, post(server.url))
        closing.set()
        server.links[0].closed.wait()  # and the client's loop stands still meanwhile
        await ask(transport, post(server.url))

    with in_thread(Loopback([[*reply(), closing, CLOSE], reply()])) as server:
        asyncio.run(ask_twice(server))
    assert [len(link.requests) for link in server.links] == [1, 1]


async def test_get_is_sent_once(transport: HttpTransport) -> None:
    """Even a request that could be repeated is sent once: repeating is the caller's decision."""
    async with Loopback([reply(), [CLOSE], reply()]) as server:
        probe = Outgoing(method="GET", url=server.url)
        await ask(transport, probe)
        with pytest.raises(ConnectionFailedError) as caught:
            await ask(transport, probe)
    assert caught.value.ambiguous
    assert len(server.requests) == 2


async def test_large_bodies_go_both_ways(transport: HttpTransport) -> None:
    """Ten megabytes are sent and received whole."""
    sent = bytes(range(256)) * 40_960
    async with Loopback(lambda request: reply(body=request.body)) as server:
        assert (await ask(transport, post(server.url, sent)))[1] == sent


async def test_many_at_once(transport: HttpTransport) -> None:
    """A hundred exchanges at once each get their own answer."""
    async with Loopback(lambda request: reply(body=request.body)) as server:
        bodies = [b"%d" % number for number in range(100)]
        answers = await asyncio.gather(*(ask(transport, post(server.url, body)) for body in bodies))
    assert [body for _, body in answers] == bodies


async def test_a_name_with_several_addresses_is_tried_at_each(transport: HttpTransport) -> None:
    """`localhost` is reached although nobody listens at one of its addresses."""
    async with Loopback([reply(body=b"here")]) as server:
        assert (await ask(transport, post(f"http://localhost:{server.port}")))[1] == b"here"
