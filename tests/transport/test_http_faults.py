"""What goes wrong, and what is said about it: one error of ours each, exact about whether the request was sent."""

from __future__ import annotations

import asyncio
import gc
import gzip
import itertools
import logging
import socket
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from asking import ask, ask_in_pieces, post
from loopback import CLOSE, RESET, STALL, Loopback, Play, chunk, in_thread, reply, until
from veyra.errors import (
    CallTimeoutError,
    ConnectionFailedError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
)
from veyra.transport.http import HttpTransport

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
SQUEEZED = HEAD + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No failure leaves a message of the event loop or the library behind (`never retrieved`, `unclosed`)."""
    with caplog.at_level(logging.DEBUG):
        yield
        gc.collect(1)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not said


# --------------------------------------------------------------------------------- before the request is sent


async def test_refused(transport: HttpTransport) -> None:
    """Where nobody listens, the error names the address and asks whether the server runs; nothing was sent."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
        with pytest.raises(ConnectionFailedError, match=f"127.0.0.1:{port}: refused: is the server running") as caught:
            await ask(transport, post(f"http://127.0.0.1:{port}/v1"))
    assert (caught.value.ambiguous, caught.value.retryable, caught.value.status) == (False, True, None)


async def test_unknown_name(transport: HttpTransport) -> None:
    """A name that nobody knows is named, and the base URL is what to look at."""
    with pytest.raises(ConnectionFailedError, match=r"no\.such\.host\.invalid:443: the name is not known") as caught:
        await ask(transport, post("https://no.such.host.invalid/v1"))
    assert not caught.value.ambiguous


@pytest.mark.parametrize("host", ["127.1", "2130706433", f"{'a' * 64}.test", "a..test"])
async def test_impossible_name(transport: HttpTransport, host: str) -> None:
    """What cannot be the name or the address of a host is a mistake in the request."""
    with pytest.raises(InvalidRequestError, match=f"{host} cannot be the name or the address of a host"):
        await ask(transport, post(f"http://{host}/v1"))


async def test_no_connection_in_time(transport: HttpTransport) -> None:
    """A connection that does not stand within the limit is a timeout of the phase `connect`, and not ambiguous."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        with socket.create_connection(address), _half_open(address):  # the queue is full now
            request = post(f"http://127.0.0.1:{address[1]}", connect_timeout=0.05)
            with pytest.raises(CallTimeoutError, match=r"within 0\.05 s") as caught:
                await ask(transport, request)
    assert (caught.value.phase, caught.value.limit, caught.value.ambiguous) == ("connect", 0.05, False)


def _half_open(address: tuple[str, int]) -> socket.socket:
    line = socket.socket()
    line.settimeout(0)
    line.connect_ex(address)
    return line


async def test_closed_before_the_request(transport: HttpTransport) -> None:
    """A server that closes what it has just accepted is not asked, where the close is seen before the request is sent."""
    with in_thread(Loopback([], on_accept=itertools.repeat([RESET]))) as server:
        _, error = await ask_in_pieces(transport, post(server.url))
    assert isinstance(error, ConnectionFailedError)
    assert server.requests == []


# ---------------------------------------------------------------------------------- after the request was sent

UNANSWERED = {
    "closed": [CLOSE],
    "reset": [RESET],
    "closed within the status line": [b"HTTP/1.", CLOSE],
    "closed within the head": [HEAD + b"content-le", CLOSE],
    "reset within the head": [HEAD + b"content-le", RESET],
}


@pytest.mark.parametrize("play", UNANSWERED.values(), ids=UNANSWERED)
async def test_broken_before_the_head(transport: HttpTransport, play: Play) -> None:
    """A connection that breaks between request and head is ambiguous: the provider may have done the work."""
    async with Loopback([play]) as server:
        with pytest.raises(ConnectionFailedError, match=f"127.0.0.1:{server.port} broke the connection") as caught:
            await ask(transport, post(server.url))
    assert (caught.value.ambiguous, caught.value.retryable) == (True, True)
    assert len(server.requests) == 1


async def test_broken_before_the_head_on_a_kept_connection(transport: HttpTransport) -> None:
    """A kept connection that breaks after the request was written is ambiguous, and the request is not sent again."""
    async with Loopback([reply(), [CLOSE], reply()]) as server:
        await ask(transport, post(server.url))
        with pytest.raises(ConnectionFailedError) as caught:
            await ask(transport, post(server.url))
    assert caught.value.ambiguous
    assert [len(link.requests) for link in server.links] == [2]


async def test_broken_while_a_large_request_is_sent(transport: HttpTransport) -> None:
    """A server that breaks off in the middle of a request leaves one error and no task behind."""
    async with Loopback([], on_accept=[[RESET]]) as server:
        with pytest.raises(ConnectionFailedError):
            await ask(transport, post(server.url, bytes(8_000_000)))


NOT_HTTP = {
    "words": [b"garbage garbage\r\n\r\n", STALL],
    "bytes": [bytes(range(256)), STALL],
    "ssh": [b"SSH-2.0-OpenSSH_9.9\r\n", STALL],
    "http/2": [b"HTTP/2 200 OK\r\n\r\n", STALL],
    "status is no number": [b"HTTP/1.1 abc OK\r\n\r\n", STALL],
    "negative length": [HEAD + b"content-length: -9\r\n\r\nabc", STALL],
    "two lengths": [HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", STALL],
    "length and chunks": [HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", STALL],
    "header without end": [HEAD + b"x: " + b"a" * 200_000, STALL],
    "headers without end": [HEAD, *[b"x: 1\r\n" * 10] * 100, STALL],
    "status line without end": [b"HTTP/1.1 200 " + b"O" * 200_000, STALL],
    "unknown coding": [HEAD + b"content-encoding: br\r\ncontent-length: 3\r\n\r\nabc", STALL],
}


@pytest.mark.parametrize("play", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_answer_is_not_http(transport: HttpTransport, play: Play) -> None:
    """What is not HTTP, or has no end to its head, is malformed, and the connection is closed."""
    async with Loopback([play]) as server:
        with pytest.raises(MalformedResponseError, match=f"127.0.0.1:{server.port}") as caught:
            await ask(transport, post(server.url))
        await asyncio.wait_for(until(server.links[0].closed), 1)
    assert caught.value.ambiguous


# ------------------------------------------------------------------------------------------- within the body

CUT = {
    "length": [HEAD + b"content-length: 9\r\n\r\nabc", CLOSE],
    "length, reset": [HEAD + b"content-length: 9\r\n\r\nabc", RESET],
    "chunks": [CHUNKED, chunk(b"abc"), CLOSE],
    "chunks, reset": [CHUNKED, chunk(b"abc"), RESET],
    "within a chunk": [CHUNKED, b"9\r\nabc", CLOSE],
    "within a chunk's length": [CHUNKED, chunk(b"abc"), b"1", CLOSE],
    "before the last line end": [CHUNKED, chunk(b"abc"), b"0\r\n", CLOSE],
    "no framing, reset": [HEAD + b"\r\nabc", RESET],
    "gzip": [SQUEEZED, chunk(gzip.compress(b"abc")), RESET],
}


@pytest.mark.parametrize("slow", [False, True], ids=["read at once", "read late"])
@pytest.mark.parametrize("play", CUT.values(), ids=CUT)
async def test_broken_within_the_body(transport: HttpTransport, play: list[Any], slow: bool) -> None:
    """A body that breaks off is an incomplete stream, after everything that arrived, however late it is read."""
    async with Loopback([play]) as server:
        arrived = b""
        with pytest.raises(IncompleteStreamError, match=f"127.0.0.1:{server.port}") as caught:
            async with transport.open(post(server.url)) as incoming:
                if slow:
                    await until(server.links[0].closed)
                    for _ in range(10):
                        await asyncio.sleep(0)
                async for data in incoming.chunks():
                    arrived += data
    assert arrived == b"abc"
    assert (caught.value.ambiguous, caught.value.retryable) == (True, True)


BROKEN = {
    "length of a chunk": [CHUNKED, chunk(b"abc"), b"zz\r\nabc\r\n", STALL],
    "end of a chunk": [CHUNKED, chunk(b"abc"), b"3\r\nabcdef\r\n", STALL],
    "trailers without end": [CHUNKED, chunk(b"abc"), b"0\r\n" + b"x: 1\r\n" * 100_000, STALL],
    "gzip": [SQUEEZED, chunk(gzip.compress(b"abc")), chunk(b"not gzip at all"), STALL],
    "no gzip": [SQUEEZED, chunk(b"not gzip at all"), STALL],
    "checksum": [SQUEEZED, chunk(gzip.compress(b"abc")[:-8] + bytes(8)), b"0\r\n\r\n", STALL],
}


@pytest.mark.parametrize("play", BROKEN.values(), ids=BROKEN)
async def test_malformed_within_the_body(transport: HttpTransport, play: list[Any]) -> None:
    """A body whose framing or compression is broken is malformed, and its reader is not left waiting."""
    ready = threading.Event()
    async with Loopback([[play[0], ready, *play[1:]]]) as server, asyncio.timeout(5):
        with pytest.raises(MalformedResponseError, match=f"127.0.0.1:{server.port}") as caught:
            async with transport.open(post(server.url)) as incoming:
                ready.set()
                async for _ in incoming.chunks():
                    pass
    assert caught.value.ambiguous


@pytest.mark.parametrize("seen", [False, True], ids=["in the kernel", "seen by the loop"])
def test_bytes_after_the_end_are_nobodys_answer(seen: bool) -> None:
    """What a server sends beyond its answer is not taken for the answer to the next request."""
    ready, sent = threading.Event(), threading.Event()
    evil = [*reply(body=b"abc"), ready, *reply(body=b"evil"), sent.set, STALL]

    async def ask_twice(server: Loopback) -> bytes:
        transport = HttpTransport()
        await ask(transport, post(server.url))
        ready.set()
        sent.wait()  # the client's loop stands still
        for _ in range(10 * seen):
            await asyncio.sleep(0)
        return (await ask(transport, post(server.url)))[1]

    with in_thread(Loopback([evil, reply(body=b"good")])) as server:
        assert asyncio.run(ask_twice(server)) == b"good"


async def test_a_gzip_bomb_arrives_in_pieces(transport: HttpTransport) -> None:
    """A body that grows a thousandfold is unpacked as it is read, never as a whole."""
    squeezer = zlib.compressobj(9, wbits=31)
    bomb = squeezer.compress(bytes(64 * 2**20)) + squeezer.flush()
    largest = size = 0
    play = reply(headers={"content-encoding": "gzip"}, body=bomb)
    async with Loopback([play]) as server, transport.open(post(server.url)) as incoming:
        async for data in incoming.chunks():
            largest, size = max(largest, len(data)), size + len(data)
    assert size == 64 * 2**20
    assert largest < 2**20
