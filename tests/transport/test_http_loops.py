"""Event loops that come and go, tasks that are cancelled, and what is closed when."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest
import trustme

from asking import ask, post
from loopback import STALL, Loopback, Play, chunk, in_thread, reply, until
from veyra.errors import ConnectionFailedError, IncompleteStreamError
from veyra.transport.http import HttpTransport, _Exchange

HEAD = b"HTTP/1.1 200 OK\r\n"
BEGUN: Play = [HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk(b"abc"), STALL]

THREE_RUNS = """
import asyncio, logging, sys
logging.getLogger("asyncio").setLevel(logging.ERROR)  # a slow step is a busy machine's, and no fault
from asking import ask, post
from loopback import Loopback, in_thread, reply
from veyra.transport.http import HttpTransport

transport = HttpTransport()

async def main():
    for _ in range(2):
        _, body = await ask(transport, post(server.url))
        print(body.decode())

with in_thread(Loopback(lambda request: reply(body=b"ok"))) as server:
    for _ in range(3):
        asyncio.run(main())
print(len(server.links), "connections")
"""


def test_one_transport_over_three_runs_of_asyncio() -> None:
    """One transport serves three event loops in turn, and says nothing: not under `-X dev`, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", THREE_RUNS],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parent.parent)},
        timeout=15,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n") == [*["ok"] * 6, "3 connections", ""]


def test_a_loop_closes_its_connections_when_it_ends() -> None:
    """The end of `asyncio.run` closes what was kept: the server sees it, and the transport keeps nothing."""
    transport = HttpTransport()
    with in_thread(Loopback(lambda _: reply())) as server:
        asyncio.run(_ask(transport, server))
        assert server.links[0].left.wait(1)
    assert transport._held == {}


async def _ask(transport: HttpTransport, server: Loopback) -> bytes:
    return (await ask(transport, post(server.url)))[1]


def test_threads_with_a_loop_each() -> None:
    """One transport serves several threads at once, each with a loop and connections of its own."""
    transport, answers = HttpTransport(), []

    async def several() -> None:
        answers.extend([await _ask(transport, server) for _ in range(20)])

    with in_thread(Loopback(lambda _: reply(body=b"ok"))) as server:
        threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"ok"] * 80
    assert [len(link.requests) for link in server.links] == [20] * 4
    assert transport._held == {}


def test_a_loop_closed_by_hand_after_aclose_leaves_nothing() -> None:
    """A loop that does not shut its generators down leaves nothing behind where `aclose` was called."""
    transport = HttpTransport()
    with in_thread(Loopback(lambda _: reply(body=b"ok"))) as server:
        for _ in range(2):
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(_ask(transport, server)) == b"ok"
            loop.run_until_complete(transport.aclose())
            loop.close()
            gc.collect()
            assert transport._held == {}


def test_a_loop_closed_by_hand_without_aclose_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """After a loop was closed over open connections the next loop works; only Python itself warns, of the sockets."""
    transport = HttpTransport()
    with in_thread(Loopback(lambda _: reply(body=b"ok"))) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(_ask(transport, server)) == b"ok"
        loop.close()
        assert asyncio.run(_ask(transport, server)) == b"ok"
        gc.collect()
        assert server.links[0].left.wait(1)
    assert transport._held == {}
    said = {str(warning.message).split(" <")[0] for warning in caught}
    assert said <= {
        "unclosed",
        "unclosed transport",
    }  # a socket, a transport; the library says "Unclosed client session"
    assert caplog.messages == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_requests_that_begin_together_after_a_loop_was_closed_by_hand_share_a_session() -> None:
    """Letting go of an older loop's session does not let the new loop's requests make a session each."""
    transport = HttpTransport()

    async def sessions() -> int:
        found = await asyncio.gather(*(transport._session() for _ in range(5)))
        return len({id(session) for session in found})

    with in_thread(Loopback(lambda _: reply(body=b"ok"))) as server:
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(_ask(transport, server)) == b"ok"
        loop.close()
        assert asyncio.run(sessions()) == 1
        gc.collect()
    assert transport._held == {}


async def test_the_transport_works_again_after_aclose() -> None:
    """`aclose` closes what is kept, may be called twice, and is no end."""
    transport = HttpTransport()
    async with Loopback(lambda _: reply()) as server:
        await transport.aclose()
        await _ask(transport, server)
        await transport.aclose()
        await asyncio.wait_for(until(server.links[0].left), 1)
        await transport.aclose()
        await _ask(transport, server)
        await transport.aclose()
    assert len(server.links) == 2


async def test_aclose_breaks_off_what_is_open(transport: HttpTransport) -> None:
    """An exchange that is open when the transport is closed ends in an error; it does not wait for ever."""
    reading = asyncio.Event()

    async def read() -> None:
        async with transport.open(post(server.url)) as incoming:
            async for _ in incoming.chunks():
                reading.set()

    async with Loopback([BEGUN]) as server, asyncio.timeout(5):
        task = asyncio.create_task(read())
        await reading.wait()
        await transport.aclose()
        with pytest.raises(IncompleteStreamError):
            await task


async def test_aclose_breaks_off_what_is_not_answered_yet(transport: HttpTransport) -> None:
    """A request without an answer yet is ambiguous when the transport is closed."""
    async with Loopback([[STALL]]) as server, asyncio.timeout(5):
        task = asyncio.create_task(_ask(transport, server))
        while not server.requests:
            await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ConnectionFailedError) as caught:
            await task
    assert caught.value.ambiguous


@pytest.mark.parametrize("where", ["before the head", "within the body"])
async def test_cancelling_closes_the_connection(transport: HttpTransport, where: str) -> None:
    """A cancelled task closes its connection at once, and stays cancelled."""
    play: Play = BEGUN if where == "within the body" else [STALL]
    async with Loopback([play]) as server:
        task = asyncio.create_task(_ask(transport, server))
        while not server.requests:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        await asyncio.wait_for(until(server.links[0].left), 1)
    assert caught.value.args == ("why",)
    assert task.cancelled()


async def test_cancelling_while_the_request_is_sent_closes_the_connection(transport: HttpTransport) -> None:
    """A server that does not read its request cannot keep a cancelled connection open."""
    never = threading.Event()
    async with Loopback([], on_accept=[[never]]) as server:
        exchange = transport.open(post(server.url, bytes(20_000_000)))
        task = asyncio.create_task(_enter(exchange))
        while exchange._line is None or not exchange._line.get_write_buffer_size():
            await asyncio.sleep(0)
        line = exchange._line.get_extra_info("socket")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert line.fileno() == -1, "closed"


async def _enter(exchange: _Exchange) -> None:
    async with exchange:
        pass


def test_leaving_does_not_wait_for_the_end_of_tls(tmp_path: Path) -> None:
    """An exchange that is left early closes its socket at once, although the server never answers the end of TLS."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    resume = threading.Event()

    async def leave_early() -> None:
        transport = HttpTransport(ca_file=tmp_path / "ca.pem")
        exchange = transport.open(post(server.url))
        async with exchange as incoming:
            assert await anext(incoming.chunks()) == b"abc"
            assert exchange._line is not None
            line = exchange._line.get_extra_info("socket")
        await asyncio.sleep(0)
        assert line.fileno() == -1, "closed"

    begun = [*BEGUN[:2], resume.wait]  # the server's loop stands still
    with in_thread(Loopback([begun], tls=context)) as server:
        try:
            asyncio.run(leave_early())
        finally:
            resume.set()


async def test_a_deadline_around_an_exchange_is_a_timeout(transport: HttpTransport) -> None:
    """`asyncio.timeout` around an exchange raises TimeoutError, as around anything else."""
    async with Loopback([[STALL]]) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await _ask(transport, server)


async def test_an_idle_connection_keeps_nothing_of_its_last_request(transport: HttpTransport) -> None:
    """What was sent and what answered are let go of when the exchange is over, although the connection is kept."""
    async with Loopback(lambda _: reply()) as server:
        exchange = transport.open(post(server.url))
        async with exchange as incoming:
            async for _ in incoming.chunks():
                pass
        gone = weakref.ref(exchange)
        del exchange, incoming
        gc.collect()
    assert gone() is None


async def test_an_error_is_no_reference_to_itself(transport: HttpTransport) -> None:
    """An error that was handled is freed at once, with all that its traceback holds, and not by the collector."""
    gone = None
    gc.disable()
    try:
        await ask(transport, post("http://127.0.0.1:1"))
    except ConnectionFailedError as error:
        gone = weakref.ref(error)
    finally:
        gc.enable()
    assert gone is not None
    assert gone() is None
