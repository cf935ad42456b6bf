"""A server on loopback that speaks as the providers do, and fails as they do: for any client, in any language.

    async with FaultServer(MockBackend("Hello"), faults="ok; rate-limit@after=1; cut@event=3") as server:
        ...  # ask server.openai_url, or server.url for Anthropic's, Gemini's and Ollama's clients
    assert server.journal[0].json["model"] == "some-model"

In code that blocks, `with` instead of `async with` runs the server in a thread. `veyra mock serve` is the same as a command.
What is answered at which path says `docs/testing/server.md`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias
from weakref import WeakSet

from veyra.errors import InvalidRequestError
from veyra.models.base import BaseModelBackend
from veyra.models.mock import MockBackend
from veyra.testing.server_answers import BackendSources, Sleep, TapeSources
from veyra.testing.server_exchange import FAULT_HEADER, JOURNAL_PATH, Exchanges
from veyra.testing.server_http import UNREAD, BadRequestError, Connection, Gone, Reply
from veyra.testing.server_journal import Journal, Seen
from veyra.transport.base import Transport
from veyra.transport.faults import Fault, parse_script

__all__ = ["FAULT_HEADER", "JOURNAL_PATH", "FaultServer", "Seen"]

_Running: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Event]
_STEPS = 4
"""Steps of an event loop in which who waits to be accepted gets a connection; asyncio loses what it accepts while its server closes."""


class FaultServer:
    """The server, while its context lasts; it can be entered once.

    Args:
        backend: who answers; a new `MockBackend` where neither it nor a tape is given.
        tape: a transport that answers instead, without a network: a tape that plays, say.
        faults: what goes wrong, one step for each call of a model: the text of a script, or the steps. After their end, and in
            requests that ask for no model, nothing does. A request can ask for one of its own with the header `x-veyra-fault`.
        host, port: where to listen; port 0 takes a free one.
        sleep: waits so many seconds where a fault says so.
        now: the time in seconds since 1970, from which a date in a header counts.
        told: called with each entry of the journal when its exchange has ended, from the server's event loop.

    Raises:
        InvalidRequestError: a step is no fault, or both a backend and a tape are given.
        OSError: (on entering) it cannot listen there.
    """

    def __init__(
        self,
        backend: BaseModelBackend | None = None,
        *,
        tape: Transport | None = None,
        faults: str | Iterable[Fault | None] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = time.time,
        told: Callable[[Seen], None] | None = None,
    ) -> None:
        if backend is not None and tape is not None:
            msg = "a fault server answers from a backend or from a tape, not from both"
            raise InvalidRequestError(msg)
        self._host = host
        self._port = port
        self._journal = Journal(told)
        self._exchanges = Exchanges(
            BackendSources(backend or MockBackend()) if tape is None else TapeSources(tape),
            iter(parse_script(faults) if isinstance(faults, str) else faults),
            self._journal,
            sleep=sleep,
            now=now,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: WeakSet[Connection] = WeakSet()
        self._refusing: socket.socket | None = None
        self._thread: _Thread | None = None

    def __repr__(self) -> str:
        return f"<fault server at {self.url}, {len(self._journal)} requests>"

    @property
    def port(self) -> int:
        """The port it listens at; before the context, the one it was given."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for Anthropic's, Gemini's and Ollama's clients."""
        return f"http://[{self._host}]:{self._port}" if ":" in self._host else f"http://{self._host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients."""
        return f"{self.url}/v1"

    @property
    def refusing_url(self) -> str:
        """A URL at whose port nobody listens while the context lasts: connecting to it is refused.

        Raises:
            InvalidRequestError: the context has not begun, or is over.
        """
        if self._refusing is None:
            msg = "the fault server has an address that refuses inside its context only"
            raise InvalidRequestError(msg)
        return f"http://127.0.0.1:{self._refusing.getsockname()[1]}"

    @property
    def journal(self) -> tuple[Seen, ...]:
        """What it saw, in the order in which the requests came; keys masked."""
        return self._journal()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(loop, self._accept), self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self._refusing = socket.socket()
        self._refusing.bind(("127.0.0.1", 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(_STEPS):  # who has connected just now gets a connection, which is closed like the others
            await asyncio.sleep(0)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            connection.abort()  # also where the other end does not take what was sent
        await asyncio.sleep(0)  # the loop may end right after: it lets go of closed sockets in its next step
        if self._refusing is not None:
            self._refusing.close()
            self._refusing = None

    def __enter__(self) -> Self:
        self._thread = _Thread(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.stop()

    def _accept(self, connection: Connection) -> None:
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: connection.close())  # also where it was cancelled before it began

    async def _serve(self, connection: Connection) -> None:
        """Answer the requests of one connection in turn."""
        try:
            while True:
                received = await connection.request()
                reply = Reply(connection, received)
                await _while_there(connection, self._exchanges.answer(received, reply))
                if reply.is_over:
                    break
        except BadRequestError as error:
            with suppress(Gone):
                await self._exchanges.refuse(error, Reply(connection, error.received or UNREAD))
                await connection.linger()
        except Gone:
            pass


class _Thread:
    """Runs a server on an event loop of its own, in a thread.

    Raises:
        OSError: the server cannot listen.
    """

    def __init__(self, server: FaultServer) -> None:
        started: Future[_Running] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(_run(server, started),), name="veyra-fault-server", daemon=True
        )
        self._thread.start()
        self._loop, self._stop = started.result()

    def stop(self) -> None:
        """End the server, and wait until it has ended."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


async def _run(server: FaultServer, started: Future[_Running]) -> None:
    stop = asyncio.Event()
    try:
        await server.__aenter__()
    except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
        started.set_exception(error)
        return
    started.set_result((asyncio.get_running_loop(), stop))
    try:
        await stop.wait()
    finally:
        await server.__aexit__(None, None, None)


async def _while_there(connection: Connection, work: Coroutine[Any, Any, None]) -> None:
    """Carry out work for a caller; cancel it as soon as the caller has left.

    Raises:
        Gone: the caller left before the work was done.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(connection.left.wait())
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        task.result()
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)
