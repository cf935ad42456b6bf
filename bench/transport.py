"""What the transport costs: CPU per request and per chunk, beside aiohttp used by hand.

    python bench/transport.py

Both ask the same server, in a process of its own on loopback, and their rounds take turns. What counts is the ratios;
the microseconds are of this machine and this minute.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import TypeAlias

import aiohttp

from veyra.transport.base import Outgoing
from veyra.transport.http import HttpTransport
from veyra.types import Secret

ROUNDS = 15
REQUESTS = 200
STREAMS = 4
CHUNKS = 1000
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "Hello"}]}'
HEADERS = {"content-type": "application/json"}
KEY = "Bearer sk-bench"
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: r\r\ncontent-length: 1000\r\n\r\n"
    + bytes(1000)
)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)

Ask: TypeAlias = Callable[[str], Awaitable[int]]
"""Sends one request to a URL and returns how many pieces its answer came in."""


class Server(asyncio.Protocol):
    """Answers each request, of one packet, at once; a stream chunk by chunk, each in a packet of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the line."""
        assert isinstance(transport, asyncio.Transport)
        self._line = transport

    def data_received(self, data: bytes) -> None:
        """Answer."""
        if not data.startswith(b"POST /stream"):
            self._line.write(ANSWER)
            return
        self._line.write(STREAM)
        self._send(CHUNKS)

    def _send(self, left: int) -> None:
        self._line.write(CHUNK if left else b"0\r\n\r\n")
        if left:
            asyncio.get_running_loop().call_soon(self._send, left - 1)


async def serve() -> None:
    """Serve on a free port, which is printed, until the standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def by_hand(session: aiohttp.ClientSession) -> Ask:
    """Return the least that one can do with the library."""

    async def ask(url: str) -> int:
        pieces = 0
        async with session.post(url, data=BODY, headers={**HEADERS, "authorization": KEY}) as response:
            async for _ in response.content.iter_any():
                pieces += 1
        return pieces

    return ask


def by_transport(transport: HttpTransport) -> Ask:
    """Return the same over the transport."""
    secret = {"authorization": Secret(KEY)}

    async def ask(url: str) -> int:
        pieces = 0
        request = Outgoing(
            method="POST", url=url, headers=HEADERS, secret_headers=secret, body=BODY, connect_timeout=5.0
        )
        async with transport.open(request) as incoming:
            async for _ in incoming.chunks():
                pieces += 1
        return pieces

    return ask


async def cost(ask: Ask, url: str, times: int) -> float:
    """Return the CPU seconds of one request, or where it comes in more than one piece, of one piece."""
    before = time.process_time()
    pieces = sum([await ask(url) for _ in range(times)])
    return (time.process_time() - before) / pieces


async def cost_at_once(ask: Ask, url: str, times: int) -> float:
    """Return the CPU seconds of one request among 64 that are under way."""
    before = time.process_time()
    for _ in range(max(1, times // 64)):
        await asyncio.gather(*(ask(url) for _ in range(64)))
    return (time.process_time() - before) / (max(1, times // 64) * 64)


async def measure(base: str) -> None:
    """Print costs and ratios."""
    transport = HttpTransport()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        contenders = {"aiohttp": by_hand(session), "transport": by_transport(transport)}
        for name, way, path, times in (
            ("request, one at a time", cost, "/", REQUESTS),
            ("request, 64 at once", cost_at_once, "/", REQUESTS * 2),
            ("chunk of a stream", cost, "/stream", STREAMS),
        ):
            rounds = [
                {who: await way(ask, base + path, times) for who, ask in contenders.items()} for _ in range(ROUNDS)
            ]
            hand, ours = (median(costs[who] for costs in rounds[1:]) * 1e6 for who in contenders)
            print(f"{name:<24}{hand:>8.1f} us by hand{ours:>8.1f} us over the transport{ours / hand:>8.2f} x")
    await transport.aclose()


def main() -> None:
    """Start the server and measure."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        asyncio.run(measure(f"http://127.0.0.1:{int(server.stdout.readline())}"))
        server.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
