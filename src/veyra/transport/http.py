"""The transport over HTTP/1.1, on aiohttp: the only file that imports an HTTP library (ADR-0005).

What is done here because the library does it otherwise, or not at all:

1. At most once. aiohttp sends an idempotent request a second time where its connection breaks; `_Connector` hands one
   connection to an exchange and refuses it another.
2. A connection that the server closed while it lay idle is found before anything is written to it, and another is taken:
   it is readable, which an idle connection in order is not. Between that check and the write the event loop reads
   nothing, so whatever breaks after a connection was handed out broke after the request was written: `ambiguous` is exact.
3. Every error is made anew, outside the `except` block and without the library's traceback, whose frames hold the
   headers. A cancellation stays the same object, but loses its traceback for the same reason.
4. A reader is woken whenever its connection is lost. aiohttp forgets to where the body's framing is broken, or where
   the session is closed.
5. Leaving early aborts the connection. A polite close would wait until a stalled server has read the request, or has
   answered the end of TLS.
6. There is one session per event loop. An asynchronous generator holds it, which the loop shuts down when it ends.
7. An answer that asks to wait and does not say when it was sent is given the time of its arrival as its `date` (RFC 9110,
   section 6.6.1), from which a date to wait for is counted.
8. A forked child leaves its parent's connections to the parent: they count as closed there, and nothing is done to them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import ssl
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar
from weakref import WeakSet, ref

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from yarl import URL

from veyra import __version__, environ
from veyra.errors import (
    CallTimeoutError,
    ConnectionFailedError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    ProviderError,
)
from veyra.transport import checks
from veyra.transport.base import Head, Incoming, Outgoing, Transport
from veyra.transport.tls import PathName, Tls
from veyra.types import Secret

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_E = TypeVar("_E", bound=BaseException)

_READ_SIZE = 2**16
"""Bytes of a body held for a slow reader; above twice as many, reading from the socket stops."""
_LINE_LIMIT = 2**15
"""Bytes of one line of an answer's head."""
_HEADER_LIMIT = 200
"""Headers of an answer."""
_IDLE_LIMIT = 30.0
"""Seconds for which a connection is kept for the next request."""


class HttpTransport(Transport):
    """Reaches providers over HTTP/1.1 and TLS, through a proxy where one is named.

    Connections are kept for 30 seconds and used again. Their number has no limit: how much runs at once is the caller's
    to decide, and a queue here would count as time to connect. How an origin is reached (proxy, TLS) is found out by its
    first request and stays so for the life of the transport.

    `asyncio.run` and `asyncio.Runner` close what a loop holds. Where a loop is closed by hand, call `aclose` before, or
    `loop.shutdown_asyncgens`: on a closed loop nothing can be closed in order, and Python warns of the sockets left.
    """

    def __init__(
        self,
        *,
        ca_file: PathName | None = None,
        client_cert: PathName | None = None,
        client_key: PathName | None = None,
        proxy: str | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        """Make a transport; no file is read and no connection made before the first request.

        Args:
            ca_file, client_cert, client_key: see `veyra.transport.tls.Tls`.
            proxy: the URL of a proxy for every request; None for the environment's (see `veyra.environ.proxy_for`).
            clock: says what time it is, in seconds since 1970, where an answer does not (rule 7).

        Raises:
            InvalidRequestError: `proxy` is not an http or https URL.
        """
        self._tls = Tls(ca_file=ca_file, client_cert=client_cert, client_key=client_key)
        self._proxy = None if proxy is None else environ.Proxy.parse(Secret(proxy))
        if proxy is not None and self._proxy is None:
            proxy = None  # it may hold a password, and this frame is part of the traceback
            msg = "proxy must be the address of a proxy: http://host:port or https://host:port"
            raise InvalidRequestError(msg)
        self.clock = clock
        self._routes: dict[checks.Target, _Route] = {}
        self._context: ssl.SSLContext | None = None
        self._loading = threading.Lock()
        self._held: dict[asyncio.AbstractEventLoop, _Held] = {}
        _transports.add(self)

    def open(self, request: Outgoing) -> _Exchange:
        """Send `request` once and hand out its answer while the context lasts; see `Transport.open`.

        Raises (on entering, beside what `Transport.open` names):
            InvalidRequestError: the request cannot be sent over HTTP, or a file of the TLS settings cannot be used.
            MalformedResponseError: what came back is not HTTP, or its head is larger than any provider's.
        """
        return _Exchange(request, self)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; exchanges that are open on it break off."""
        held = self._held.get(asyncio.get_running_loop())
        if held is not None:
            await held.lifetime.aclose()

    def forget(self) -> None:
        """In a forked child: leave to the parent what is the parent's (rule 8)."""
        for held in self._held.values():
            if isinstance(held.session.connector, _Connector):
                held.session.connector.forget()
            held.session.detach()
        self._held.clear()
        self._loading = threading.Lock()

    async def way(self, request: Outgoing) -> tuple[aiohttp.ClientSession, _Route]:
        """Return the running loop's session, and the way that `request` takes, if it can be sent at all."""
        target = checks.check(request)
        route = self._routes.get(target) or await self._find_route(target, request.url)
        return await self._session(), route

    async def _find_route(self, target: checks.Target, url: str) -> _Route:
        proxy = self._proxy or environ.proxy_for(url)
        has_tls = target.scheme == "https" or (proxy is not None and proxy.url.startswith("https:"))
        context = await asyncio.to_thread(self._load_context) if has_tls else None
        route = self._routes[target] = _Route(target, proxy, context)
        return route

    def _load_context(self) -> ssl.SSLContext:
        with self._loading:
            if self._context is None:
                self._context = self._tls.context()
            return self._context

    async def _session(self) -> aiohttp.ClientSession:
        """Return the running loop's session. Making one also lets go of those whose loop was closed by hand."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            lifetime = _session_lifetime(lambda: self._held.pop(loop, None))
            held = self._held[loop] = _Held(await anext(lifetime), lifetime)
            for other in [other for other in list(self._held) if other.is_closed()]:
                left = self._held.pop(other, None)  # another thread may be at it, too
                if left is not None:
                    await left.lifetime.aclose()
        return held.session


_transports: WeakSet[HttpTransport] = WeakSet()


def _after_fork_in_child() -> None:
    for transport in list(_transports):
        transport.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


@dataclass(frozen=True, slots=True)
class _Route:
    """The way to an origin: straight or through a proxy, and how origin and proxy are known (None for no TLS at all)."""

    target: checks.Target
    proxy: environ.Proxy | None
    context: ssl.SSLContext | None

    def __str__(self) -> str:
        return f"{self.target} (through {self.proxy.url})" if self.proxy else str(self.target)

    def proxy_headers(self) -> dict[str, str]:
        """Return the headers for the proxy's eyes."""
        if self.proxy is None or self.proxy.authorization is None:
            return {}
        return {"proxy-authorization": self.proxy.authorization.reveal()}


class _Held(NamedTuple):
    """A loop's session, and the generator that closes it."""

    session: aiohttp.ClientSession
    lifetime: AsyncGenerator[aiohttp.ClientSession, None]


async def _session_lifetime(forget: Callable[[], object]) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Yield a session once and close it when the generator is closed: by us, or by the event loop at its end."""
    session = aiohttp.ClientSession(
        connector=_Connector(limit=0, keepalive_timeout=_IDLE_LIMIT),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_SIZE,
        max_line_size=_LINE_LIMIT,
        max_field_size=_LINE_LIMIT,
        max_headers=_HEADER_LIMIT,
    )
    try:
        yield session
    finally:
        forget()
        await session.close()


class _Exchange(Incoming):
    """One request and its answer: the context that `open` returns, and the iterator over the body."""

    def __init__(self, request: Outgoing, transport: HttpTransport) -> None:
        self._request = request
        self._transport = transport
        self._line: asyncio.Transport | None = None
        self._protocol: ResponseHandler | None = None
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Self:
        request = self._request
        session, self._route = await self._transport.way(request)
        token = _asking.set(ref(self))
        try:
            self._response = await _sent(session, request, self._route)
        except BaseException as error:  # noqa: BLE001  (rule 3: nothing passes with the library's traceback)
            failure = self._unanswered(error)
        else:
            self._content = self._response.content
            self.head = _head(self._response, self._transport.clock)
            return self
        finally:
            _asking.reset(token)
        self._abort()
        try:
            raise failure
        finally:
            del failure  # it would refer to itself through this frame

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._response is not None
        if not self._content.is_eof():
            self._abort()
        self._response.close()

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._content.readany()
        except BaseException as error:  # noqa: BLE001  (rule 3)
            if isinstance(error, Exception) and (data := self._arrived()):
                return data
            failure = _broken_off(error, self._library_error(), self._route)
        else:
            if data:
                return data
            if not self._was_reset():
                raise StopAsyncIteration
            failure = _broken_off(ConnectionResetError(), None, self._route)
        try:
            raise failure
        finally:
            del failure

    def _unanswered(self, error: BaseException) -> BaseException:
        """Return what to raise for a failure before the answer's head."""
        if not isinstance(error, Exception):
            return _bare(error)
        if not self.is_connected:
            return _not_connected(error, self._request.connect_timeout, self._route)
        return _not_answered(error, self._route)

    @property
    def is_connected(self) -> bool:
        """True from the moment the request may be written."""
        return self._line is not None

    def connected(self, protocol: ResponseHandler, line: asyncio.Transport) -> None:
        """Take the connection over which the request will be sent."""
        self._protocol, self._line = protocol, line

    def lost(self) -> None:
        """Wake the reader: the connection is gone."""
        if self._response is not None and not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientConnectionError())

    def _arrived(self) -> bytes:
        """Return what had arrived before the failure that the library puts in front of it."""
        return self._content._read_nowait(-1)  # noqa: SLF001  (its public twin raises the failure)

    def _library_error(self) -> BaseException | None:
        """Return what the library holds against the connection."""
        return None if self._protocol is None else self._protocol.exception()

    def _was_reset(self) -> bool:
        """Tell whether the body came without framing and ended in a reset, which the library takes for its end."""
        is_framed = "content-length" in self.head.headers or "transfer-encoding" in self.head.headers
        return not is_framed and isinstance(self._library_error(), OSError)

    def _abort(self) -> None:
        if self._line is not None:
            self._line.abort()


_asking: ContextVar[ref[_Exchange]] = ContextVar("asking")
"""The exchange for which a connection is being made. Weak: the event loop keeps the context with the connection."""


class _SecondTimeError(Exception):
    """The library wants to send a request a second time."""


class _Connector(aiohttp.TCPConnector):
    """Hands out a connection that is open and in order, once per exchange, and tells its user when it is lost."""

    def __init__(self, *, limit: int, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        self._lines: dict[ResponseHandler, _Line] = {}

    def forget(self) -> None:
        """Count as closed, and touch no connection."""
        self._conns.clear()
        self._closed = True

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  (the library's signature)
    ) -> Connection:
        exchange = _asking.get()()
        if exchange is None or exchange.is_connected:
            raise _SecondTimeError
        while True:
            connection = await super().connect(req, traces, timeout)
            if self._take(connection, exchange):
                return connection

    def _take(self, connection: Connection, exchange: _Exchange) -> bool:
        """Give `connection` to `exchange` if it is in order; close it otherwise.

        Raises:
            ServerDisconnectedError: it was made just now and is closed already.
        """
        protocol, line = connection.protocol, connection.transport
        assert protocol is not None
        known = self._lines.get(protocol)
        if line is None or line.is_closing() or not (known is None or known.is_idle(protocol)):
            connection.close()
            if known is None:
                raise aiohttp.ServerDisconnectedError
            return False
        if known is None:
            known = self._lines[protocol] = _Line(line)
            if protocol.closed is not None:
                protocol.closed.add_done_callback(partial(self._lost, protocol))
        known.user = ref(exchange)
        exchange.connected(protocol, line)
        return True

    def _lost(self, protocol: ResponseHandler, closed: asyncio.Future[None]) -> None:
        closed.exception()  # seen: the exchange has its own
        user = self._lines.pop(protocol).user
        exchange = None if user is None else user()
        if exchange is not None:
            exchange.lost()


class _Line:
    """A connection that is open, and the last exchange that used it."""

    def __init__(self, line: asyncio.Transport) -> None:
        self.user: ref[_Exchange] | None = None
        self._number = line.get_extra_info("socket").fileno()
        if sys.platform != "win32":
            self._poll = select.poll()
            self._poll.register(self._number, select.POLLIN)

    def is_idle(self, protocol: ResponseHandler) -> bool:
        """Tell whether nothing came since the last answer: not the end of the stream, not an error, not a byte."""
        if protocol.should_close:
            return False
        if sys.platform == "win32":
            return not select.select([self._number], [], [], 0)[0]
        return not self._poll.poll(0)


def _sent(session: aiohttp.ClientSession, request: Outgoing, route: _Route) -> Awaitable[aiohttp.ClientResponse]:
    """Return the library's answer to `request`, to be awaited. No frame of ours holds the headers meanwhile."""
    return session.request(
        request.method,
        _library_url(request.url),
        headers=_headers(request, route),
        data=_Body(request.body) if request.body else None,
        allow_redirects=False,
        ssl=True if route.context is None else route.context,
        proxy=None if route.proxy is None else _library_url(route.proxy.url),
        proxy_headers=route.proxy_headers(),
        timeout=_clocks(request.connect_timeout),
    )


class _Body(aiohttp.Payload):
    """The bytes of a request; the library's own class warns of every body above a megabyte."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._data)


@lru_cache(maxsize=256)
def _library_url(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=64)
def _clocks(connect: float | None) -> aiohttp.ClientTimeout:
    """Return the only clock that the library keeps. It would round up to whole seconds above `ceil_threshold`."""
    return aiohttp.ClientTimeout(connect=connect, ceil_threshold=float("inf"))


def _headers(request: Outgoing, route: _Route) -> dict[str, str]:
    """Return all headers but those of the message's framing, names in lower case; later ones overrule."""
    headers = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": f"veyra/{__version__}"}
    if route.target.scheme == "http":  # no tunnel: the proxy reads this request
        headers |= route.proxy_headers()
    headers |= {name.lower(): value for name, value in request.headers.items()}
    return headers | {name.lower(): secret.reveal() for name, secret in request.secret_headers.items()}


def _head(response: aiohttp.ClientResponse, clock: Callable[[], float]) -> Head:
    """Return the answer's head; a header that came several times has its values joined (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        lower = name.lower()
        text = value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    if "retry-after" in headers and "date" not in headers:
        headers["date"] = formatdate(clock(), usegmt=True)
    return Head(response.status, headers)


# ------------------------------------------------------------------------------------------------ errors


def _not_answered(error: Exception, route: _Route) -> ProviderError:
    """Return what to raise where the request was written and no answer's head came."""
    if _find(error, ContentEncodingError):
        return _undecodable(route)
    if isinstance(error, aiohttp.ClientResponseError):
        return MalformedResponseError(f"{route} answered with something that is not HTTP, or with an endless head")
    said = f"{route} broke the connection after the request was sent and before it answered{_tls_reason(error)}"
    return ConnectionFailedError(said, ambiguous=True)


def _broken_off(error: BaseException, held: BaseException | None, route: _Route) -> BaseException:
    """Return what to raise for a failure within the body; `held` is what the library holds against the connection."""
    if not isinstance(error, Exception):
        return _bare(error)
    if _find(error, ContentEncodingError):
        return _undecodable(route)
    if isinstance(held, HttpProcessingError):
        return MalformedResponseError(f"{route} sent a body that is not framed as HTTP says")
    return IncompleteStreamError(f"{route} broke its answer off")


def _undecodable(route: _Route) -> MalformedResponseError:
    return MalformedResponseError(f"{route} sent a body whose compression is broken or was not asked for")


def _bare(error: BaseException) -> BaseException:
    """Return a cancellation (or what else is no `Exception`) without the library's frames."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _not_connected(error: Exception, limit: float | None, route: _Route) -> ProviderError:
    """Return what to raise where no connection came about."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as refusal):
            return _untrusted(refusal, route)
        case aiohttp.ClientConnectorSSLError():
            said = f"no connection to {route}: no agreement on TLS{_tls_reason(error)}: does the server speak https?"
            return ConnectionFailedError(said, retryable=False)
        case TimeoutError() if limit is not None:
            return CallTimeoutError(f"no connection to {route} within {limit} s", phase="connect", limit=limit)
        case ValueError():
            return InvalidRequestError(f"{route.target.host} cannot be the name or the address of a host")
        case _:
            return ConnectionFailedError(f"no connection to {route}: {_hindrance(error)}")


def _hindrance(error: Exception) -> str:
    """Return what was in the way of a connection, and what to do about it."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the name is not known: check the base URL, or the network"
        case aiohttp.ClientHttpProxyError(status=status):
            hint = ": name its user and password" if status == 407 else ""
            return f"the proxy refused with status {status}{hint}"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=errno.ECONNREFUSED)):
            return "refused: is the server running, and is the port right?"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return os.strerror(number)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "closed before anything was sent"
        case _:
            return type(error).__name__


def _untrusted(refusal: ssl.SSLCertVerificationError, route: _Route) -> ConnectionFailedError:
    """Return the error for a certificate that was not accepted; trying again does not help."""
    said = f"no connection to {route}: its certificate is not trusted ({refusal.verify_message})"
    return ConnectionFailedError(f"{said}; name the certificate of its authority by ca_file", retryable=False)


def _tls_reason(error: Exception) -> str:
    """Return OpenSSL's reason for `error`, in brackets; nothing where TLS is not the matter."""
    inner = _find(getattr(error, "os_error", error), ssl.SSLError)
    return f" ({inner.reason.lower().replace('_', ' ')})" if inner and inner.reason else ""


def _find(error: BaseException | None, kind: type[_E]) -> _E | None:
    """Return the first error of a kind in a chain of causes."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error
