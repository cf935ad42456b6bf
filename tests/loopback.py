r"""A raw HTTP/1.1 server on loopback that does what it is told, byte for byte, and keeps a journal of what it saw.

    async with Loopback([reply(body=b"{}"), [b"HTTP/1.1 200 OK\r\n", RESET]]) as server:
        ...  # ask server.url
    assert server.requests[0].body == b"..."

A play is a list of moves made for one request: bytes to send, a `threading.Event` to wait for, a function to call, or one
of STALL, CLOSE and RESET. After its last move the connection waits for its next request. Instead of a list of plays, a function from request to
play can be given. `in_thread` runs the same server on an event loop of its own, for tests that use several loops or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self, TypeAlias


class Act(Enum):
    STALL = auto()
    CLOSE = auto()
    RESET = auto()


STALL, CLOSE, RESET = Act.STALL, Act.CLOSE, Act.RESET
Move: TypeAlias = bytes | threading.Event | Callable[[], object] | Act
Play: TypeAlias = Sequence[Move]


@dataclass(frozen=True)
class Received:
    """A request as it arrived: header names in lower case, a repeated header once per line in `lines`."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    lines: tuple[str, ...]


@dataclass
class Link:
    """One connection that was accepted: `left` is set when its other end closed it, `closed` when it is closed here."""

    requests: list[Received] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)


async def until(event: threading.Event) -> None:
    """Wait for an event of the server, in whatever thread it is set."""
    while not event.is_set():
        await asyncio.sleep(0.001)


def reply(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] = b"",
    *,
    chunked: bool = False,
) -> list[Move]:
    """Return the play of an ordinary answer, framed by its length or in chunks (each piece of `body` is one)."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {sum(map(len, pieces))}"
    lines = [f"HTTP/1.1 {status} Said", framing, *(f"{name}: {value}" for name, value in (headers or {}).items())]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if not chunked:
        return [head + b"".join(pieces)]
    return [head, *(chunk(piece) for piece in pieces if piece), b"0\r\n\r\n"]


def chunk(data: bytes) -> bytes:
    """Return one piece in the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Loopback:
    """The server. `plays` answers request after request, over all connections; when it is at its end, they are closed.

    Attributes:
        url: `http://127.0.0.1:port` (https with `tls`), known inside the context.
        requests: all that arrived, in order; links: the connections, in the order they were accepted.
    """

    def __init__(
        self,
        plays: Iterable[Play] | Callable[[Received], Play],
        *,
        on_accept: Iterable[Play] = (),
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._answer = plays if callable(plays) else _in_turn(plays)
        self._on_accept = iter(on_accept)
        self._tls = tls
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Received] = []
        self.links: list[Link] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link()
        self.links.append(link)
        try:
            await _play(next(self._on_accept, ()), reader, writer)
            while not writer.is_closing():
                request = await _request(reader)
                link.requests.append(request)
                self.requests.append(request)
                await _play(self._answer(request), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            link.left.set()
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            link.closed.set()


def _in_turn(plays: Iterable[Play]) -> Callable[[Received], Play]:
    turns = iter(plays)
    return lambda _: next(turns, (CLOSE,))


async def _request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = first.split(" ")
    return Received(method, target, headers, body, tuple(lines))


async def _play(play: Play, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for move in play:
        match move:
            case bytes():
                writer.write(move)
                await writer.drain()
            case threading.Event():
                await until(move)
            case Act.STALL:
                await _read_to_end(reader)
            case Act.CLOSE:
                writer.close()
                return
            case Act.RESET:
                _reset(writer)
                return
            case _:
                move()


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    """Take and drop what comes until the other end closes, and say so by raising."""
    while await reader.readexactly(1):
        await reader.read(65536)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other end gets RST: with what it sent unread, or without any lingering."""
    line: socket.socket = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def in_thread(server: Loopback) -> Iterator[Loopback]:
    """Run `server` on an event loop in a thread of its own while the context lasts."""
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        stop.set()
        thread.join()
