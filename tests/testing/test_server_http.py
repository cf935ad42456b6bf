"""The fault server as an HTTP/1.1 server: what it reads, what it refuses, how it frames what it sends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

import virtual
from veyra.models.mock import MockBackend
from veyra.testing.server import FaultServer
from veyra.testing.server_http import BODY_LIMIT, HEAD_LIMIT

ASKED = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
STREAMED = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
CHAT = "/v1/chat/completions"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with FaultServer(MockBackend("Hello there")) as running:
        yield running


def post(body: bytes, path: str = CHAT, *headers: str, version: str = "1.1") -> bytes:
    """Return a request with its length."""
    lines = [f"POST {path} HTTP/{version}", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def said(server: FaultServer, *pieces: bytes) -> bytes:
    """Send pieces over one connection, one after the other, and return all that comes until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


CLOSE = "connection: close"
CHUNKED = f"POST {CHAT} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".encode()


async def test_a_whole_answer_has_its_length(server: FaultServer) -> None:
    """An answer that is not streamed is framed by its length, and the connection ends where that was asked for."""
    answer = await said(server, post(ASKED, CHAT, CLOSE))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert b"connection: close" in head
    assert b'"content":"Hello there"' in body


async def test_a_stream_comes_in_chunks(server: FaultServer) -> None:
    """A streamed answer is chunked, each piece as it comes, and ends with the last chunk."""
    answer = await said(server, post(STREAMED, CHAT, CLOSE))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    sizes = re.findall(rb"(?:^|\r\n)([0-9a-f]+)\r\ndata", body)
    assert len(sizes) == 3


async def test_requests_of_one_connection_are_answered_in_turn(server: FaultServer) -> None:
    """Requests that come together, or in any pieces, are answered in their order over the same connection."""
    both = post(ASKED) + b"\r\n" + post(STREAMED) + b"GET /api/version HTTP/1.1\r\nconnection: close\r\n\r\n"
    for pieces in ([both], [both[:7], both[7:100], both[100:]], [both[i : i + 1] for i in range(len(both))]):
        answer = await said(server, *pieces)
        heads = re.findall(rb"HTTP/1.1 (\d+) .*?\r\ncontent-type: ([\w/-]+)", answer, re.DOTALL)
        assert heads == [(b"200", b"application/json"), (b"200", b"text/event-stream"), (b"200", b"application/json")]
        assert answer.endswith(b'{"version":"0.33.0"}')


async def test_an_old_client_gets_what_it_understands(server: FaultServer) -> None:
    """HTTP/1.0 knows no chunks: a stream ends with the connection, a whole answer has its length, and nothing is kept alive."""
    answer = await said(server, post(STREAMED, version="1.0"))
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")
    answer = await said(server, post(ASKED, version="1.0"))
    assert b"content-length" in answer
    assert b"connection: close" in answer


async def test_a_cut_shows_to_an_old_client(server: FaultServer) -> None:
    """Where the end of the connection would be the end of the body, a cut is a reset."""
    with pytest.raises(ConnectionResetError):
        await said(server, post(STREAMED, CHAT, "x-veyra-fault: cut@event=1", version="1.0"))


async def test_a_body_in_chunks_is_read(server: FaultServer) -> None:
    """A request's body may come in chunks, with extensions and trailers."""
    head = f"POST {CHAT} HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode()
    chunks = b"5;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nx: y\r\n\r\n" % (ASKED[:5], len(ASKED) - 5, ASKED[5:])
    assert b"Hello there" in await said(server, head, chunks)
    assert server.journal[0].body == ASKED


async def test_expect_is_answered_before_the_body(server: FaultServer) -> None:
    """Whoever waits for leave to send its body gets it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head, _, body = post(ASKED, CHAT, CLOSE, "expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    await writer.wait_closed()


async def test_head_has_no_body(server: FaultServer) -> None:
    """HEAD is GET without the body, and the connection serves on."""
    both = b"HEAD /api/tags HTTP/1.1\r\n\r\nGET /api/version HTTP/1.1\r\nconnection: close\r\n\r\n"
    first, second = (await said(server, both)).split(b"\r\n\r\n", 1)
    assert re.search(rb"content-length: [1-9]", first)
    assert second.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("request_line", "allowed"), [(f"OPTIONS {CHAT}", "POST, OPTIONS"), ("OPTIONS /v1/models", "GET, HEAD, OPTIONS")]
)
async def test_options_are_told(server: FaultServer, request_line: str, allowed: str) -> None:
    """OPTIONS says how a path is asked."""
    answer = await said(server, f"{request_line} HTTP/1.1\r\n{CLOSE}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert f"allow: {allowed}\r\n".encode() in answer


BAD = {
    "no http": (b"nonsense\r\n\r\n", 400, b"first line"),
    "another version": (b"GET / HTTP/2.0\r\n\r\n", 400, b"first line"),
    "no header": (b"GET / HTTP/1.1\r\nfoo bar\r\n\r\n", 400, b"header line"),
    "space before the colon": (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400, b"header line"),
    "long headers": (b"GET / HTTP/1.1\r\nx: " + b"y" * HEAD_LIMIT * 2 + b"\r\n\r\n", 431, b"headers are longer"),
    "length and chunks": (
        f"POST {CHAT} HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n".encode(),
        400,
        b"with its length or in chunks",
    ),
    "another coding": (f"POST {CHAT} HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".encode(), 400, b"no other coding"),
    "no length": (f"POST {CHAT} HTTP/1.1\r\ncontent-length: -1\r\n\r\n".encode(), 400, b"content-length is not"),
    "two lengths": (
        f"POST {CHAT} HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".encode(),
        400,
        b"content-length is not",
    ),
    "huge": (f"POST {CHAT} HTTP/1.1\r\ncontent-length: {BODY_LIMIT + 1}\r\n\r\n".encode(), 413, b"body is longer"),
    "huge in chunks": (
        f"POST {CHAT} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3000000\r\n".encode(),
        413,
        b"body is longer",
    ),
    "bad chunk": (
        f"POST {CHAT} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".encode(),
        400,
        b"a chunk does not",
    ),
    "long chunk": (
        f"POST {CHAT} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabcd\r\n".encode(),
        400,
        b"a chunk is longer",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_read_is_refused(server: FaultServer, case: str) -> None:
    """What is too large or not HTTP is answered with the status that says so, in a vendor's form, and the connection ends."""
    sent, status, words = BAD[case]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert words in answer
    assert b'{"error":' in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"\x00", b" GET / HTTP/1.1", b"\xff"])
async def test_what_does_not_begin_like_a_request_is_answered_at_once(server: FaultServer, sent: bytes) -> None:
    """A client that speaks TLS, say, is refused with its first byte: it would wait for an answer, and send no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


async def test_what_was_refused_is_in_the_journal(server: FaultServer) -> None:
    """A request that was too large or not HTTP was seen as well: as far as it was read, with what was answered."""
    for case in ("huge", "no http"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(BAD[case][0])
        writer.write_eof()
        answer = await reader.read()
        assert (b"req_000001" in answer) is (case == "huge")
        writer.close()
        await writer.wait_closed()
    seen = [(seen.number, seen.method, seen.path, seen.body, seen.status, seen.ended) for seen in server.journal]
    assert seen == [(1, "POST", CHAT, b"", 413, "answered"), (2, "", "", b"", 400, "answered")]
    assert server.journal[0].headers == {"content-length": str(BODY_LIMIT + 1)}


async def test_a_huge_body_under_way_is_answered(server: FaultServer) -> None:
    """A caller that is still sending a body that is too long gets to read why it was refused."""
    sent = f"POST {CHAT} HTTP/1.1\r\ncontent-length: {BODY_LIMIT + 1}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent + b"x" * 1_000_000)
    answer = await reader.readuntil(b"}}")
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_request_that_does_not_arrive_is_given_up() -> None:
    """A caller that begins a request and does not go on is told so after a minute; one that begins none may wait."""

    async def waited() -> tuple[bytes, float]:
        async with FaultServer() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(600)
            writer.write(b"POST /v1/chat")
            answer = await reader.readuntil(b"\r\n")
            at = asyncio.get_running_loop().time()
            writer.close()
            await writer.wait_closed()
            return answer, at

    answer, at = virtual.run(waited())
    assert answer == b"HTTP/1.1 408 Request Timeout\r\n"
    assert 660 <= at < 670


async def test_a_slow_reader_holds_nobody_up(server: FaultServer) -> None:
    """While one caller does not read its answer, which never ends, another is served."""
    slow_reader, slow = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    slow.write(post(STREAMED, CHAT, "x-veyra-fault: endless"))
    await slow_reader.readuntil(b"Hello")
    for _ in range(3):
        assert b"Hello there" in await said(server, post(ASKED, CHAT, CLOSE))
    slow.transport.abort()


async def test_whoever_does_not_read_holds_no_end_up() -> None:
    """The server ends although somebody does not take what was sent."""
    async with FaultServer(MockBackend("word " * 100_000)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(post(STREAMED, CHAT, "x-veyra-fault: endless"))
        await reader.readuntil(b"word")
    assert server.journal[0].ended == "left"
    writer.transport.abort()


@given(data=st.binary(max_size=300), begin=st.sampled_from([b"", b"GET / HTTP/1.1\r\n", post(ASKED)[:-9], CHUNKED]))
def test_no_bytes_do_harm(data: bytes, begin: bytes) -> None:
    """Whatever is sent, the connection comes to an end, and the server serves on."""

    async def send() -> None:
        async with FaultServer(MockBackend("Hello there")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(begin + data)
            writer.write_eof()
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            assert b"Hello there" in await said(server, post(ASKED, CHAT, CLOSE))

    asyncio.run(send())


async def test_half_a_request_is_no_request(server: FaultServer) -> None:
    """A caller that goes away in the middle of its request leaves no trace, and no error."""
    for part in (b"", b"POST", post(ASKED)[:-3]):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(part)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert server.journal == ()
