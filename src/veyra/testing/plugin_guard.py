"""The guard: while a test is watched, it reaches no host that it may not reach, whatever library it uses.

1. Watched are the interpreter's own events of sockets (PEP 578): connecting, sending to an address, looking up a name or an
   address. They come from every library that uses Python's sockets, and from every thread. A name that is given to a socket itself
   is looked up before its event comes; so the methods of `socket.socket` that take an address are watched as well.
2. uvloop opens connections without Python's sockets: where it has been imported, the methods of its loop are watched.
3. Sockets of other families than IPv4 and IPv6 (Unix sockets, say) are let through, as is a socket that is connected already.
4. What is refused is noted: the test fails, even where its code takes the refusal for an ordinary failure.
5. Names under `.invalid` are unknown, as they are everywhere (RFC 6761); to look one up is no attempt to reach a host.
6. An event hook cannot be taken away again. There is one, set when the first test is watched, and it asks who watches now.

Not seen are other processes, and libraries that open sockets in their own C code (pycurl, grpc).
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import ipaddress
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

Level: TypeAlias = Literal["blocked", "loopback"]
"""What a watched test may reach: no host, or this machine's loopback alone."""

_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_OF_SOCKETS = ("connect", "connect_ex", "sendto", "sendmsg")
"""Methods of a socket whose last argument is an address."""
_OF_LOOPS = ("create_connection", "create_datagram_endpoint", "getaddrinfo")


class NetworkBlockedError(OSError):
    """A test tried to reach a host that it may not reach; says which test, and which host."""


class Watch:
    """What one test may reach, and what it tried.

    Attributes:
        level: what it may reach.
        test: its name.
        attempts: what was refused and not told of yet, each once.
    """

    def __init__(self, level: Level, test: str) -> None:
        self.level = level
        self.test = test
        self.attempts: dict[str, None] = {}

    def taken(self) -> list[str]:
        """Return what was refused, as messages, and forget it."""
        attempts, self.attempts = list(self.attempts), {}
        return attempts

    def judge(self, host: object, port: object, *, asked: bool = False) -> None:
        """Let a host through, or refuse it. To look up (`asked`) what leaves this machine in no case is never refused.

        Raises:
            NetworkBlockedError: the test may not reach it.
            socket.gaierror: the name is under `.invalid`.
        """
        name = _name(host)
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if _is_here(name) and (asked or self.level == "loopback"):
            return
        if asked and _address(name) is not None:
            return
        where = f"[{name}]" if ":" in name else name or "this machine"
        place = where if port in {None, 0, ""} else f"{where}:{port}"
        allowed = "the network is blocked" if self.level == "blocked" else "nothing but loopback may be reached"
        msg = f"{self.test} tried to reach {place}, and {allowed} in this test"
        self.attempts[msg] = None
        raise NetworkBlockedError(errno.ENETUNREACH, msg)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Refuse, in all threads, what a test may not reach, while the context lasts. Where several watch, each refuses."""
    _set_hook()
    _watches.append(watch)
    taken_over = _take_over()
    try:
        yield
    finally:
        for owner, name in reversed(taken_over):
            delattr(owner, name)
        _watches.remove(watch)


# ------------------------------------------------------------------------------------------------ the events

_watches: list[Watch] = []
_hooks: list[object] = []


def _set_hook() -> None:
    if not _hooks:
        _hooks.append(_on_event)
        sys.addaudithook(_on_event)


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if not _watches or not event.startswith("socket."):
        return
    match event, args:
        case "socket.connect" | "socket.sendto" | "socket.sendmsg", (opened, address):
            _judge_address(opened, address)
        case "socket.getaddrinfo", (host, port, *_):
            _judge(host, port, asked=True)
        case "socket.gethostbyname", (host,):
            _judge(host, None, asked=True)
        case "socket.gethostbyaddr", (host,) if not _is_here(_name(host)):
            _judge(host, None)
        case "socket.getnameinfo", ((host, *_),) if not _is_here(_name(host)):
            _judge(host, None)
        case _:
            pass


def _judge_address(opened: socket.socket, address: object) -> None:
    match address:
        case (host, port, *_) if opened.family in _INTERNET:
            _judge(host, port)
        case _:
            pass


def _judge(host: object, port: object, *, asked: bool = False) -> None:
    for watch in tuple(_watches):
        watch.judge(host, port, asked=asked)


def _name(host: object) -> str:
    if isinstance(host, bytes | bytearray):
        return bytes(host).decode("ascii", "backslashreplace")
    return "" if host is None else str(host)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_here(name: str) -> bool:
    """Tell whether a host, by name or address, is this machine: its loopback, no host at all, or its own name."""
    if name.lower() in {"", "localhost", "localhost.localdomain", socket.gethostname().lower()}:
        return True
    address = _address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


# ---------------------------------------------------------------------------- what comes before, or without, events


def _take_over() -> list[tuple[type, str]]:
    """Put ours in front of the methods that are to be watched, and return them; of several watches the first does."""
    if len(_watches) > 1:
        return []
    ours: list[tuple[type, str, object]] = [(socket.socket, name, _socket_method(name)) for name in _OF_SOCKETS]
    loop = getattr(sys.modules.get("uvloop"), "Loop", None)
    if loop is not None:
        ours += [(loop, name, _loop_method(loop, name)) for name in _OF_LOOPS]
    taken: list[tuple[type, str]] = []
    for owner, name, method in ours:
        if name not in vars(owner):  # it is inherited: what is put in front can be taken away and leaves no trace
            setattr(owner, name, method)
            taken.append((owner, name))
    return taken


def _socket_method(name: str) -> Callable[..., object]:
    inherited: Callable[..., object] = getattr(socket.socket, name)

    def method(self: socket.socket, *args: object) -> object:
        if args:
            _judge_address(self, args[-1])
        return inherited(self, *args)

    return method


def _loop_method(loop: type, name: str) -> Callable[..., Awaitable[object]]:
    inherited: Callable[..., Awaitable[object]] = getattr(loop, name)
    signature = inspect.Signature.from_callable(getattr(asyncio.AbstractEventLoop, name))

    async def method(self: object, *args: object, **options: object) -> object:
        given = signature.bind(self, *args, **options).arguments
        match given.get("remote_addr"):
            case (host, port, *_):
                pass
            case _:
                host, port = given.get("host"), given.get("port")
        if host is not None:
            _judge(host, port, asked=name == "getaddrinfo")
        return await inherited(self, *args, **options)

    return method
