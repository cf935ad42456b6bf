"""HTTP/1.1 on loopback, as far as the fault server speaks it: requests are read whole, answers go out byte for byte.

1. A request is bounded: `HEAD_LIMIT` for its line and headers, `BODY_LIMIT` for its body, `PATIENCE` seconds from its first byte
   to its last. What is larger, slower or not HTTP is answered with the status that says so, and the connection ends. That a
   request does not begin like one (with TLS, say) shows in its first byte.
2. A body comes with its length or in chunks, never with both. `Expect: 100-continue` is answered before the body is read.
3. Requests of one connection are answered in turn. A caller that leaves, or closes its half, ends the answer under way.
4. Answers are framed by their length where that is known, else in chunks; for HTTP/1.0 by the end of the connection.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers, together."""
BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of a request's body."""
PATIENCE = 60.0
"""Seconds that a request may take to arrive, once its first byte is there."""
LINGER = 2.0
"""Seconds that the rest of a refused request is taken and dropped."""

_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])").fullmatch
_BEGIN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]").fullmatch
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n").fullmatch


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived: header names in lower case, the values of a repeated one joined by commas."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_old: bool = False
    """Whether it is of HTTP/1.0."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def keeps(self) -> bool:
        """Whether the connection stays for another request."""
        wish = self.headers.get("connection", "").lower()
        return "keep-alive" in wish if self.is_old else "close" not in wish


UNREAD = Received("", "", {}, b"")
"""Stands for a request of which nothing could be read."""


class BadRequestError(Exception):
    """What came cannot be answered as what it is meant to be: `status` and `message` say why, and the connection ends.

    `received` is the request as far as it was read; None where not even its line was.
    """

    def __init__(self, status: int, message: str, received: Received | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.received = received


class Gone(Exception):  # noqa: N818  (no error: the caller left)
    """The connection is over."""


class Connection(asyncio.StreamReaderProtocol):
    """One connection: requests are read from it in turn, and answered.

    Args:
        loop: the running event loop.
        made: called once the connection stands.

    Attributes:
        left: set when the other end closed its half, or the connection broke.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, made: Callable[[Connection], None]) -> None:
        self._incoming = asyncio.StreamReader(limit=HEAD_LIMIT, loop=loop)
        super().__init__(self._incoming, loop=loop)
        self._made = made
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.left = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        super().connection_made(transport)
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self._line = transport
        self._made(self)

    def eof_received(self) -> bool:
        """Note that the other end sends no more."""
        super().eof_received()
        self.left.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is over."""
        super().connection_lost(exc)
        self.left.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        """Note that the other end takes its bytes more slowly than they come."""
        super().pause_writing()
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Note that there is room again."""
        super().resume_writing()
        self._may_write.set()

    # ------------------------------------------------------------------------------------------- reading

    async def request(self) -> Received:
        """Return the next request.

        Raises:
            BadRequestError: it is none that can be answered.
            Gone: the other end closed before it was whole.
        """
        try:
            first = await self._incoming.readexactly(1)
            async with asyncio.timeout(PATIENCE):
                return await self._read(first)
        except TimeoutError:
            raise BadRequestError(408, f"the request did not arrive within {PATIENCE:g} seconds") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone from None

    async def _read(self, first: bytes) -> Received:
        while first in {b"\r", b"\n"}:  # RFC 9112, 2.2: an empty line before a request is passed over
            first = await self._incoming.readexactly(1)
        if not _BEGIN(first):
            raise BadRequestError(400, "this is not an HTTP/1 request; the server's address begins with http://")
        try:
            head = first + await self._incoming.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise BadRequestError(431, f"the headers are longer than {HEAD_LIMIT} bytes") from None
        line, *rest = head.decode("latin-1").split("\r\n")[:-2]
        found = _LINE(line)
        if found is None:
            raise BadRequestError(400, "the first line is not that of an HTTP/1 request")
        headers: dict[str, str] = {}
        received = Received(found[1], found[2], headers, b"", is_old=found[3] == "0")
        for text in rest:
            header = _HEADER(text)
            if header is None:
                raise BadRequestError(400, "a header line is not of the form name: value", received)
            name = header[1].lower()
            headers[name] = f"{headers[name]}, {header[2]}" if name in headers else header[2]
        return await self._with_body(received)

    async def _with_body(self, received: Received) -> Received:
        headers = received.headers
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is None and length is None:
            return received
        if coding is not None and (length is not None or coding.lower() != "chunked"):
            raise BadRequestError(400, "a body comes with its length or in chunks, in no other coding", received)
        if length is not None and not _LENGTH(length):
            raise BadRequestError(400, "content-length is not a number", received)
        if length is not None and int(length) > BODY_LIMIT:
            raise BadRequestError(413, f"the body is longer than {BODY_LIMIT} bytes", received)
        if headers.get("expect", "").lower() == "100-continue":
            self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._incoming.readexactly(int(length)) if length is not None else await self._chunks(received)
        return Received(received.method, received.target, headers, body, is_old=received.is_old)

    async def _chunks(self, received: Received) -> bytes:
        body = bytearray()
        while True:
            try:
                found = _CHUNK(await self._incoming.readuntil(b"\r\n"))
            except asyncio.LimitOverrunError:
                found = None
            if found is None:
                raise BadRequestError(400, "a chunk does not begin with its size", received)
            size = int(found[1], 16)
            if len(body) + size > BODY_LIMIT:
                raise BadRequestError(413, f"the body is longer than {BODY_LIMIT} bytes", received)
            if size == 0:
                break
            body += await self._incoming.readexactly(size)
            if await self._incoming.readexactly(2) != b"\r\n":
                raise BadRequestError(400, "a chunk is longer than its size", received)
        try:
            while await self._incoming.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers say nothing here
        except asyncio.LimitOverrunError:
            raise BadRequestError(431, f"a trailer is longer than {HEAD_LIMIT} bytes", received) from None
        return bytes(body)

    # ------------------------------------------------------------------------------------------- writing

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait while the other end takes them more slowly than they come.

        Raises:
            Gone: the connection is over.
        """
        await self._may_write.wait()
        if self._line.is_closing():
            raise Gone
        self._line.write(data)
        await asyncio.sleep(0)  # what comes from the other end is seen between two pieces

    def close(self) -> None:
        """End the connection in order, after what was sent."""
        self._line.close()

    async def linger(self) -> None:
        """Say that nothing more is sent, and take what still comes for a while: closing at once would lose what was sent."""
        with suppress(TimeoutError, OSError):
            self._line.write_eof()
            async with asyncio.timeout(LINGER):
                while await self._incoming.read(HEAD_LIMIT):
                    pass

    def abort(self) -> None:
        """End the connection at once; what it did not take yet is lost."""
        self._line.abort()

    def reset(self) -> None:
        """Break the connection, so that the other end is told of a reset; what it did not take yet is lost."""
        line: socket.socket = self._line.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._line.abort()


class Reply:
    """The answer to one request, on its way out.

    Args:
        connection: where it goes.
        received: the request.

    Attributes:
        status: what was answered; None before the head is sent.
        ended: how the answer ended: with its last byte, or by a broken connection; None while it goes on.
        is_over: the connection cannot serve again.
        changed: called when `status` or `ended` is known, before the bytes that show it are sent.
    """

    def __init__(self, connection: Connection, received: Received) -> None:
        self._connection = connection
        self._is_bodiless = received.method == "HEAD"
        self._is_old = received.is_old
        self._in_chunks = False
        self.status: int | None = None
        self.ended: Literal["answered", "broken"] | None = None
        self.is_over = not received.keeps
        self.changed: Callable[[], None] = _nothing

    async def begin(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        """Send the head; a body whose `length` is not given is sent in chunks."""
        self.status = status
        self.changed()
        framing: dict[str, str] = {}
        if length is not None:
            framing["content-length"] = str(length)
        elif self._is_old:
            self.is_over = True
        else:
            framing["transfer-encoding"] = "chunked"
            self._in_chunks = True
        if self.is_over:
            framing["connection"] = "close"
        lines = [
            f"HTTP/1.1 {status} {_phrase(status)}",
            *(f"{name}: {text}" for name, text in {**framing, **headers}.items()),
        ]
        await self._connection.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if data and not self._is_bodiless:
            await self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._in_chunks else data)

    async def end(self) -> None:
        """Say that the body is whole."""
        self._end("answered")
        if self._in_chunks and not self._is_bodiless:
            await self._connection.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """End the connection in the middle of the body."""
        self.is_over = True
        self._end("broken")
        if self._is_old:
            self._connection.reset()  # the end of the connection alone would be the end of the body
        else:
            self._connection.close()

    def reset(self) -> None:
        """Break the connection."""
        self.is_over = True
        self._end("broken")
        self._connection.reset()

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send an answer that is known whole."""
        await self.begin(status, headers, length=len(body))
        self._end("answered")
        await self.write(body)

    def _end(self, how: Literal["answered", "broken"]) -> None:
        self.ended = how
        self.changed()


def _nothing() -> None:
    """Nobody wants to know."""


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in {known.value for known in HTTPStatus} else "Unknown"
