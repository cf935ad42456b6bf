"""The blocking twins, in the eight situations in which code without `await` is run, and that they say what their originals say.

What needs an interpreter of its own (exit, fork) runs in one that takes warnings for errors, and may write nothing to
standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import assert_type

import pytest

import veyra
from client.stalling import Stalling, answer, over_http
from loopback import Loopback, in_thread
from veyra import AuditLog, BlockingClient, BlockingConversation, Client, Conversation, Message, Retry
from veyra.audit import read_attempts, read_entries, verify
from veyra.client.blocking import BlockingReply
from veyra.client.tools import run_tools
from veyra.errors import InvalidRequestError, ServerError, VeyraError
from veyra.models.base import Exchange
from veyra.models.mock import MockBackend
from veyra.models.stand_in import recording_in
from veyra.types import EmbeddingResponse, Event, ModelResponse, Request, ToolCall, ToolRun

TESTS = Path(__file__).parents[1]


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own that takes every warning for an error."""
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    return subprocess.run(
        [*command, "-c", program, *args],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def loops() -> int:
    return [thread.name for thread in threading.enumerate()].count("veyra-loop")


def statuses(log: AuditLog) -> list[str]:
    return [row.status for row in log.attempts()]


@pytest.fixture(autouse=True)
def _in_memory() -> Iterator[None]:
    """Keep the usual log in memory: no thread of it opens files while they are counted."""
    with recording_in(AuditLog.memory()):
        yield


# ---------------------------------------------------------------------------------- the same as the original


@pytest.mark.parametrize(
    ("twin", "original", "names"),
    [
        (BlockingClient, Client, {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}),
        (BlockingConversation, Conversation, {}),
    ],
)
def test_a_twin_takes_what_its_original_takes(twin: type, original: type, names: dict[str, str]) -> None:
    """Every public method of the original is there, with the same parameters, defaults and annotations; so is the class."""
    made, twins = inspect.signature(original).parameters, inspect.signature(twin).parameters
    assert list(twins) == list(made)
    assert list(twins.values())[1:] == list(made.values())[1:]
    for name, member in inspect.getmembers(original):
        if name.startswith("_") and name not in names:
            continue
        other = getattr(twin, names.get(name, name))
        if callable(member):
            asked, given = inspect.signature(member).parameters, inspect.signature(other).parameters
            assert list(asked) == list(given), name
            assert [p.default for p in asked.values()] == [p.default for p in given.values()], name
            plain = [p.annotation for p in asked.values() if p.annotation not in {"Asker", "BlockingClient"}]
            assert plain == [p.annotation for p in given.values() if p.annotation not in {"Asker", "BlockingClient"}]
        assert name.startswith("_") or inspect.getdoc(other), name


def test_the_tool_loop_takes_what_its_original_takes() -> None:
    """`BlockingClient.run_tools` has the parameters of `run_tools` after the client."""
    assert (
        list(inspect.signature(run_tools).parameters.values())[1:]
        == list(inspect.signature(BlockingClient.run_tools).parameters.values())[1:]
    )


def check_types(client: BlockingClient) -> None:
    """What type checkers know of the twins; never run, and an unused ignore is an error."""
    assert_type(client.generate("x", max_tokens=3, conversation="c"), ModelResponse)
    assert_type(client.embed(["x"], dimensions=3), EmbeddingResponse)
    assert_type(client.health_check(), bool)
    assert_type(client.stream("x"), BlockingReply)
    assert_type(client.run_tools("x", [len], max_steps=3), ToolRun)
    assert_type(BlockingConversation(client, system="s").send("x"), ModelResponse)
    client.generate("x", max_tokns=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.generate(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.run_tools("x", [len], max_step=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    BlockingClient("mock", retr=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    BlockingConversation(Client("mock"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_the_twins_are_public() -> None:
    """`veyra` hands on the twins, conversations and the tool loop."""
    assert veyra.BlockingClient is BlockingClient
    assert veyra.BlockingConversation is BlockingConversation
    assert (veyra.Conversation, veyra.run_tools) == (Conversation, run_tools)


# --------------------------------------------------------------------------------------- 1. without a loop


def test_all_methods_work_without_a_loop() -> None:
    """A script asks, reads, embeds, checks and closes, and every call is on record."""
    log = AuditLog.memory()
    with BlockingClient(Stalling(), fallback=["mock"], audit=log) as client:
        assert client.generate("Hi").content == "Hello there"
        with client.stream("Hi") as answered:
            assert [event.kind for event in answered] == ["text", "text", "finish"]
            assert answered.response.content == "Hello there"
            assert list(answered) == []
        assert client.health_check() is True
        assert client.log is log
        assert repr(client) == "<BlockingClient of stalling:m, mock:mock>"
    with BlockingClient("mock", audit=log) as client:
        assert len(client.embed(["a", "b"]).vectors) == 2
    client.close()
    assert statuses(log) == ["ok", "ok", "ok"]
    assert log.verify().ok


def test_errors_are_those_of_the_client() -> None:
    """What fails raises what `Client` raises, with the attempts made; a wrong prompt does so before `stream` returns."""
    with BlockingClient(MockBackend([ServerError("down")] * 2), retry=Retry(attempts=2, base=0.0)) as client:
        with pytest.raises(ServerError) as caught:
            client.generate("Hi")
        assert len(caught.value.attempts) == 2
        with pytest.raises(InvalidRequestError, match="empty"):
            client.stream("")
    with pytest.raises(InvalidRequestError, match="needs a target"):
        BlockingClient()


def test_a_reply_has_no_response_before_its_end() -> None:
    """`response` asks for the answer to be read first, as the original's does."""
    with BlockingClient("mock").stream("Hi") as answered:
        next(answered)
        with pytest.raises(InvalidRequestError, match="not been read"):
            _ = answered.response


def test_a_reply_that_is_left_early_is_cancelled_and_closed() -> None:
    """Leaving the context in the middle of an answer records it as cancelled; nothing more comes, and closing twice is fine."""
    log = AuditLog.memory()
    client = BlockingClient(Stalling(), audit=log)
    with client.stream("Hi") as answered:
        assert next(answered).kind == "text"
    assert statuses(log) == ["cancelled"]
    assert next(answered, None) is None
    with answered:
        pass


def test_a_reply_that_was_never_read_made_no_call() -> None:
    """A stream that is not iterated sends and records nothing."""
    log = AuditLog.memory()
    with BlockingClient(Stalling(), audit=log).stream("Hi"):
        pass
    assert statuses(log) == []


def test_a_reply_that_is_dropped_is_cancelled() -> None:
    """A loop over a reply without its context that is broken off ends the call when the reply goes."""
    log = AuditLog.memory()
    client = BlockingClient(Stalling(), audit=log)
    answered = client.stream("Hi")
    next(answered)
    del answered
    gc.collect()
    for _ in range(100):
        if statuses(log) == ["cancelled"]:
            break
        client.health_check()
    assert statuses(log) == ["cancelled"]


def test_a_stream_is_read_by_one_task() -> None:
    """A backend that holds a timeout over its events is entered, and left, in the same task."""

    class Timed(Stalling):
        async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
            async with asyncio.timeout(10):
                async for event in super().events(request, exchange):
                    yield event

    with BlockingClient(Timed()).stream("Hi") as answered:
        assert [next(answered).kind, next(answered).kind] == ["text", "text"]


def test_the_callers_context_is_seen() -> None:
    """Context variables of the calling thread (a trace, say) hold in the call, whole or streamed."""
    trace: ContextVar[str] = ContextVar("trace", default="none")
    client = BlockingClient(MockBackend(lambda _: trace.get()))
    token = trace.set("mine")
    assert client.generate("Hi").content == "mine"
    with client.stream("Hi") as answered:
        assert "".join(getattr(event, "text", "") for event in answered) == "mine"
    trace.reset(token)
    assert client.generate("Hi").content == "none"


# ------------------------------------------------------------------- 2. and 7. where a loop is running already


async def test_it_works_inside_a_running_loop() -> None:
    """In a coroutine a call works, and holds the coroutine's loop up until it is answered."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    before = ticks
    with BlockingClient("mock") as client, client.stream("Hi") as answered:
        assert list(answered)[-1].kind == "finish"
    assert ticks == before
    ticking.cancel()


def test_it_works_cell_by_cell_in_a_notebooks_loop() -> None:
    """A loop that is kept running, as a notebook's is, runs cells with blocking and with awaited calls in turn."""
    log = AuditLog.memory()
    client = BlockingClient("mock", audit=log)
    awaited = Client("mock", audit=log)

    async def cell(number: int) -> str:
        return client.generate("Hi").content if number % 2 else (await awaited.generate("Hi")).content

    with asyncio.Runner() as notebook:
        assert len({notebook.run(cell(number)) for number in range(6)}) == 1
    assert statuses(log) == ["ok"] * 6


def test_the_loop_that_would_wait_for_itself_says_so() -> None:
    """A blocking call made by a backend, which runs on the loop that is to carry it out, is refused and does not hang."""
    client = BlockingClient("mock")
    outer = BlockingClient(MockBackend(lambda _: client.generate("Hi")))
    with pytest.raises(InvalidRequestError, match="use Client there"):
        outer.generate("Hi")
    assert client.generate("Hi").content


# ------------------------------------------------------------------------------------------- 3. in threads


def test_many_threads_share_a_client_and_one_loop() -> None:
    """Sixteen threads ask and read at once: every answer comes, every call is on record, and there is one loop."""
    log = AuditLog.memory()
    client = BlockingClient(MockBackend(lambda request: request.messages[-1].text), audit=log)

    def work(number: int) -> bool:
        whole = client.generate(f"call {number}").content
        with client.stream(f"call {number}") as answered:
            streamed = "".join(getattr(event, "text", "") for event in answered)
        return whole == streamed == f"call {number}"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(200)))
    assert statuses(log) == ["ok"] * 400
    assert loops() == 1


# -------------------------------------------------------------------------------- 4. across many asyncio.run


def test_loops_that_come_and_go_do_not_concern_it() -> None:
    """Between and during runs of other loops one connection is kept and used again."""
    log = AuditLog.memory()

    async def other(client: BlockingClient) -> None:
        async with Client("mock", audit=log) as own:
            await own.generate("Hi")
        client.generate("Hi")

    with in_thread(Loopback(answer)) as server, over_http(server.url, log) as client:
        for _ in range(5):
            client.generate("Hi")
            asyncio.run(other(client))
        assert len(server.links) == 1
    assert statuses(log) == ["ok"] * 15


# ------------------------------------------------------------------------------------------- 5. after fork

FORKED = """
import os, sys
from client.stalling import over_http
client = over_http(sys.argv[1], sys.argv[2])
client.generate("parent")
reply = client.stream("stall" if len(sys.argv) > 3 else "parent")
child = os.fork()
client.generate("child" if child == 0 else "parent")
if child:
    _, status = os.waitpid(child, 0)
    client.generate("parent")
    sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_has_a_loop_and_connections_of_its_own(tmp_path: Path) -> None:
    """After a fork parent and child ask on, each over a connection and in a session of its own, and both end cleanly."""
    with in_thread(Loopback(answer)) as server:
        done = run(FORKED, server.url, str(tmp_path / "log"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        askers = [{request.body.count(b"child") for request in link.requests} for link in server.links]
        assert sorted(askers, key=str) == [{0}, {1}]
    rows = list(read_attempts(tmp_path / "log"))
    assert [row.status for row in rows] == ["ok"] * 4
    opened = [entry for entry in read_entries(tmp_path / "log") if entry.leaf["kind"] == "session.open"]
    assert len(opened) == 2
    assert verify(tmp_path / "log").ok


def test_a_reply_does_not_cross_a_fork() -> None:
    """A reply that was begun before a fork cannot be read on in the child: that is said, and nothing hangs."""
    client = BlockingClient(Stalling(), audit="off")
    answered = client.stream("Hi")
    next(answered)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            next(answered)
        except VeyraError:
            code = 0 if client.generate("Hi").content == "Hello there" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(answered)) == 2


# ------------------------------------------------------------------------------------------------ 6. exit

LEFT_OPEN = """
import sys, threading
from client.stalling import Stalling, over_http
from veyra import BlockingClient
whole = over_http(sys.argv[1], sys.argv[2])
whole.generate("Hi")
stalling = Stalling()
client = BlockingClient(stalling, audit=sys.argv[2])
reply = client.stream("Hi")
next(reply)
threading.Thread(target=client.generate, args=("stall",), daemon=True).start()
stalling.is_stalled.wait()
"""


def test_the_exit_leaves_nothing_open(tmp_path: Path) -> None:
    """A program that closes nothing, with a reply half read and a daemon thread waiting, ends at once and without a warning.

    Its calls end as cancelled on record, its log is closed, its connection is gone.
    """
    with in_thread(Loopback(answer)) as server:
        done = run(LEFT_OPEN, server.url, str(tmp_path / "log"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert server.links[0].closed.wait(5)
    rows = [row.status for row in read_attempts(tmp_path / "log")]
    assert rows == ["ok", "cancelled", "cancelled"]
    kinds = [entry.leaf["kind"] for entry in read_entries(tmp_path / "log")]
    assert (kinds[-1], kinds.count("session.close")) == ("session.close", 1)
    assert list((tmp_path / "log" / "sessions").iterdir()) == []


LATE = """
import atexit
def late():
    try:
        print(client.generate("Hi"))
    except veyra.errors.VeyraError as error:
        print("refused:", error)
atexit.register(late)
import veyra, veyra.errors
client = veyra.BlockingClient("mock", audit="off")
client.generate("Hi")
"""


def test_a_call_after_the_end_is_refused() -> None:
    """What is asked at exit, when the loop has ended, is an error that says so, and does not hang."""
    done = run(LATE)
    assert done.stdout.startswith("refused: no call can be made: the interpreter is exiting")
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------------------------------------- 8. Ctrl-C


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_ctrl_c_cancels_the_call(*, stream: bool) -> None:
    """KeyboardInterrupt is raised when the cancelled call is on record; the client goes on."""
    log = AuditLog.memory()
    client = BlockingClient(Stalling(interrupt), audit=log)
    with pytest.raises(KeyboardInterrupt):
        if stream:
            with client.stream("stall") as answered:
                for _ in answered:
                    pass
        else:
            client.generate("stall")
    assert statuses(log) == ["cancelled"]
    assert client.generate("Hi").content == "Hello there"
    assert log.verify().ok


def test_a_second_ctrl_c_does_not_wait() -> None:
    """Where a cancelled call does not end, the next Ctrl-C gives up waiting for it."""
    going = threading.Event()

    class Stubborn(Stalling):
        async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
            try:
                async for event in super().events(request, exchange):
                    yield event
            finally:
                interrupt()
                while not going.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.001)

    log = AuditLog.memory()
    client = BlockingClient(Stubborn(interrupt), audit=log)
    with pytest.raises(KeyboardInterrupt):
        client.generate("stall")
    assert statuses(log) == ["open"]
    going.set()
    for _ in range(1000):
        if statuses(log) != ["open"]:
            break
        client.health_check()
    assert statuses(log) == ["cancelled"]


def test_what_another_signals_handler_raises_goes_on() -> None:
    """A handler's own exception cancels the call likewise, and is what the caller sees."""

    class EnoughError(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise EnoughError

    before = signal.signal(signal.SIGUSR1, handler)
    log = AuditLog.memory()
    stop = lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)  # noqa: E731
    try:
        with pytest.raises(EnoughError):
            BlockingClient(Stalling(stop), audit=log).generate("stall")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert statuses(log) == ["cancelled"]


def test_a_task_that_exits_does_not_end_the_loop() -> None:
    """SystemExit from an async tool reaches the caller, and later calls find the loop running."""

    async def leave() -> None:
        """Leave."""
        sys.exit(3)

    asks = ModelResponse("", "m", "mock", 0.0, 0, 0, None, tool_calls=(ToolCall("1", "leave", {}),))
    log = AuditLog.memory()
    client = BlockingClient(MockBackend([asks, "after"]), audit=log)
    with pytest.raises(SystemExit):
        client.run_tools("Hi", [leave])
    assert client.generate("Hi").content == "after"
    assert statuses(log) == ["ok", "cancelled", "ok"]


# ----------------------------------------------------------------------------------------- conversations


def test_a_conversation_goes_on_without_a_loop(tmp_path: Path) -> None:
    """The twin sends, streams, appends, saves and loads what the original does, and refuses a client that awaits."""
    client = BlockingClient(Stalling())
    chat = BlockingConversation(client, system="Be brief.")
    chat.send("Hi")
    with chat.stream("Again") as answered:
        list(answered)
    chat.append(Message("user", "More"))
    chat.send()
    chat.save(tmp_path / "chat.json")
    loaded = BlockingConversation.load(tmp_path / "chat.json", client)
    assert (loaded.id, loaded.messages, loaded.system) == (chat.id, chat.messages, "Be brief.")
    assert [message.role for message in loaded.messages] == ["user", "assistant"] * 3
    assert repr(loaded) == f"<BlockingConversation {chat.id} of 6 messages>"
    with pytest.raises(InvalidRequestError, match="needs a BlockingClient, not Client"):
        BlockingConversation(Client("mock"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidRequestError, match="BlockingConversation"):
        Conversation(client)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -------------------------------------------------------------------------------------------- many calls


def _counts() -> tuple[int, int, int]:
    """Return the blocks of memory, open files and threads of this process."""
    gc.collect()
    return sys.getallocatedblocks(), len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208


def _many(calls: int, directory: Path, *, before: int) -> None:
    """Make calls, and so many before that what remembers the last ones is full; then nothing may grow."""
    log = AuditLog(directory)
    client = BlockingClient(Stalling(), audit=log)

    def work(number: int) -> None:
        client.generate("Hi")
        with client.stream("Hi") as answered:
            if number % 2:
                next(answered)
            else:
                list(answered)

    for number in range(before // 2):
        work(number)
    log.close()  # its thread opens files at times of its own
    blocks, files, threads = _counts()
    for number in range(calls // 2):
        work(number)
    log.close()
    blocks_now, files_now, threads_now = _counts()
    assert files_now <= files
    assert threads_now <= threads
    assert blocks_now - blocks < 1_000


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_calls_leave_nothing_behind(tmp_path: Path) -> None:
    """Hundreds of calls, whole, streamed and left early, leave no open file, no thread and no memory taken."""
    _many(400, tmp_path, before=100)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_calls_over_http_leave_nothing_behind() -> None:
    """Many clients, one after the other, over sockets, leave no open file and no thread."""
    with in_thread(Loopback(answer)) as server:
        with over_http(server.url, "off") as client:
            client.generate("Hi")
        _, files, threads = _counts()
        for _ in range(30):
            with over_http(server.url, "off") as client:
                client.generate("Hi")
        for link in server.links:
            link.closed.wait(5)
        _, files_now, threads_now = _counts()
        assert files_now <= files
        assert threads_now <= threads


@pytest.mark.long
@pytest.mark.timeout(570)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_ten_thousand_calls_leave_nothing_behind(tmp_path: Path) -> None:
    """Ten thousand calls grow neither memory nor descriptors."""
    _many(10_000, tmp_path, before=11_000)
