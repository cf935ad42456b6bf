"""A key is in no error, however much of it is printed: message, repr, or a traceback with every local variable."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Callable, Coroutine
from typing import TypeAlias

import pytest

from asking import ask, post
from loopback import CLOSE, RESET, STALL, Loopback, Move, reply
from veyra.errors import ProviderError
from veyra.transport.http import HttpTransport
from veyra.types import Secret

CANARY = "sk-canary-4711"
HEAD = b"HTTP/1.1 200 OK\r\n"

Failing: TypeAlias = Callable[[HttpTransport], Coroutine[None, None, None]]


def _played(*play: Move) -> Failing:
    async def fail(transport: HttpTransport) -> None:
        async with Loopback([play]) as server:
            await ask(transport, post(server.url, secret_headers=_secret()))

    return fail


def _secret(extra: str = "") -> dict[str, Secret]:
    return {"authorization": Secret(f"Bearer {CANARY}{extra}")}


async def _refused(transport: HttpTransport) -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        await ask(transport, post(f"http://127.0.0.1:{line.getsockname()[1]}", secret_headers=_secret()))


async def _unknown(transport: HttpTransport) -> None:
    await ask(transport, post("http://no.such.host.invalid", secret_headers=_secret()))


async def _no_tls(transport: HttpTransport) -> None:
    async with Loopback([], on_accept=[[b"HTTP/1.1 400 Bad\r\n\r\n", CLOSE]]) as server:
        await ask(transport, post(f"https://127.0.0.1:{server.port}", secret_headers=_secret()))


async def _line_break(transport: HttpTransport) -> None:
    await ask(transport, post("http://127.0.0.1:9", secret_headers=_secret("\n")))


async def _wrong_scheme(transport: HttpTransport) -> None:
    await ask(transport, post("ftp://127.0.0.1:9", secret_headers=_secret()))


async def _stalled_head(transport: HttpTransport) -> None:
    async with Loopback([[STALL]]) as server, asyncio.timeout(0.05):
        await ask(transport, post(server.url, secret_headers=_secret()))


async def _stalled_body(transport: HttpTransport) -> None:
    async with Loopback([[HEAD + b"content-length: 9\r\n\r\nabc", STALL]]) as server, asyncio.timeout(0.05):
        await ask(transport, post(server.url, secret_headers=_secret()))


async def _stalled_connect(transport: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never says a word of TLS
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        await ask(transport, post(url, secret_headers=_secret(), connect_timeout=0.05))


FAILING: dict[str, Failing] = {
    "refused": _refused,
    "unknown name": _unknown,
    "no TLS": _no_tls,
    "no connection in time": _stalled_connect,
    "closed": _played(CLOSE),
    "reset": _played(RESET),
    "not HTTP": _played(b"garbage\r\n\r\n", STALL),
    "endless head": _played(HEAD + b"x: " + b"a" * 100_000, STALL),
    "body cut": _played(HEAD + b"content-length: 9\r\n\r\nabc", CLOSE),
    "body malformed": _played(*reply(headers={"content-encoding": "gzip"}, body=b"abc")),
    "header with a line break": _line_break,
    "wrong scheme": _wrong_scheme,
    "cancelled before the head": _stalled_head,
    "cancelled within the body": _stalled_body,
}


@pytest.mark.parametrize("fail", FAILING.values(), ids=FAILING)
async def test_no_traceback_shows_a_key(transport: HttpTransport, fail: Failing) -> None:
    """A traceback with all local variables, over all linked errors, shows no key and no frame of the HTTP library."""
    with pytest.raises((ProviderError, TimeoutError)) as caught:
        await fail(transport)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "in ask" in shown, "the traceback leads here"
    assert CANARY not in shown
    assert "aiohttp/" not in shown
    linked: BaseException | None = caught.value
    while linked is not None:
        assert CANARY not in f"{linked} {linked!r} {vars(linked)}"
        linked = linked.__context__


@pytest.mark.parametrize("fail", [f for name, f in FAILING.items() if "cancelled" not in name])
async def test_an_error_refers_to_no_other(transport: HttpTransport, fail: Failing) -> None:
    """An error of ours has neither a cause nor a context: what it comes from is in its message."""
    with pytest.raises(ProviderError) as caught:
        await fail(transport)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_reprs_show_no_key(transport: HttpTransport) -> None:
    """What a caller holds while an exchange is open shows no key."""
    async with Loopback([reply()]) as server:
        request = post(server.url, secret_headers=_secret())
        async with transport.open(request) as incoming:
            assert CANARY not in f"{request!r} {transport!r} {incoming!r} {incoming.head!r} {incoming.chunks()!r}"
