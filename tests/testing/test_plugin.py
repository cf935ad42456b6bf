"""The pytest plugin, in runs of its own: what it guards, what its fixtures give, and that it is idle otherwise."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest

from veyra import MockBackend
from veyra.models.registry import make_backend
from veyra.models.wire import WireBackend
from veyra.testing.server import FaultServer
from veyra.transport.tape import TapedTransport

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.timeout(60)  # several runs of pytest in one test, each a process

CLIENTS = """
import asyncio, contextlib, socket, threading
import aiohttp, anyio, httpx, httpx2, pytest, requests, urllib3, uvloop
from veyra import get_backend
{more}

pytestmark = [pytest.mark.veyra(network="{network}"), pytest.mark.parametrize("host", {hosts})]

def run(coroutine, factory=None):
    with asyncio.Runner(loop_factory=factory) as runner, {failing}:
        runner.run(coroutine)

async def by_aiohttp(host):
    async with aiohttp.ClientSession() as session, session.get(f"http://{{host}}:{{PORT}}/"):
        pass

async def by_httpx(host):
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://{{host}}:{{PORT}}/")

async def by_streams(host):
    _, writer = await asyncio.open_connection(host, PORT)
    writer.close()

async def by_veyra(host):
    url = f"http://{{host}}:{{PORT}}/v1"
    async with get_backend("openai", model="m", base_url=url, api_key="k", audit="memory") as backend:
        await backend.generate("hi", timeout=5)

def by_socket(host, method, *data, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as client, {failing}:
        getattr(client, method)(*data, (host, PORT))

def by_thread(host):
    with {failing}:
        socket.create_connection((host, PORT), 2).close()

def test_httpx(host):
    with {failing}: httpx.get(f"http://{{host}}:{{PORT}}/", trust_env=False)
def test_httpx_async(host): run(by_httpx(host))
def test_httpx_anyio(host):
    with {failing}: anyio.run(by_httpx, host)
def test_httpx2(host):
    with {failing}: httpx2.get(f"http://{{host}}:{{PORT}}/", trust_env=False)
def test_requests(host):
    with {failing}: requests.get(f"http://{{host}}:{{PORT}}/", timeout=2)
def test_urllib3(host):
    with {failing}: urllib3.PoolManager(retries=False, timeout=2).request("GET", f"http://{{host}}:{{PORT}}/")
def test_aiohttp(host): run(by_aiohttp(host))
def test_veyra(host): run(by_veyra(host))
def test_asyncio(host): run(by_streams(host))
def test_uvloop(host): run(by_streams(host), uvloop.new_event_loop)
def test_connect(host): by_socket(host, "connect")
def test_connect_ex(host): by_socket(host, "connect_ex")
def test_sendto(host): by_socket(host, "sendto", b"x", kind=socket.SOCK_DGRAM)
def test_sendmsg(host): by_socket(host, "sendmsg", [b"x"], [], 0, kind=socket.SOCK_DGRAM)
def test_thread(host):
    thread = threading.Thread(target=by_thread, args=(host,))
    thread.start()
    thread.join()
"""
TESTS = re.findall(r"^def (test_\w+)", CLIENTS, re.MULTILINE)
LISTENING = """
from veyra.testing.server import FaultServer
SERVER = FaultServer()
SERVER.__enter__()
PORT = SERVER.port
"""


def _run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # Hypothesis's plugin loads Hypothesis at the end of every run, which takes longer than the run.
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments, timeout=30)


@pytest.fixture(autouse=True)
def _asyncio(pytester: pytest.Pytester) -> None:
    """Set what pytest-asyncio warns about while it is not set."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")


# ------------------------------------------------------------------------------------------------ the guard


def test_no_library_reaches_a_host(pytester: pytest.Pytester) -> None:
    """Each way to a host, by name and by address, fails its test and names both, also where its error is swallowed."""
    hosts = ["api.example", "192.0.2.1"]
    failing = "contextlib.suppress(Exception)"
    pytester.makepyfile(CLIENTS.format(network="blocked", hosts=hosts, more="PORT = 443", failing=failing))
    result = _run(pytester, "-n", "2")
    result.assert_outcomes(failed=len(TESTS) * len(hosts))
    output = result.stdout.str()
    for host, test in itertools.product(hosts, TESTS):
        assert f"::{test}[{host}] tried to reach {host}:443, and the network is blocked in this test" in output


def test_loopback_is_let_through_where_it_is_asked_for(pytester: pytest.Pytester) -> None:
    """With `network="loopback"` each of the same ways reaches a server on this machine, by name and by address."""
    hosts = ["localhost", "127.0.0.1"]
    failing = "contextlib.nullcontext()"
    pytester.makepyfile(CLIENTS.format(network="loopback", hosts=hosts, more=LISTENING, failing=failing))
    _run(pytester, "-n", "2").assert_outcomes(passed=len(TESTS) * len(hosts))


def test_loopback_is_a_host_where_the_network_is_blocked(pytester: pytest.Pytester) -> None:
    """`blocked` lets nothing through but Unix sockets; to listen, and to look up what needs no network, is no attempt."""
    pytester.makepyfile("""
        import socket, pytest
        pytestmark = pytest.mark.veyra(network="blocked")

        def test_tcp():
            with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError):
                socket.create_connection(server.getsockname())

        def test_unix(tmp_path, monkeypatch):
            monkeypatch.chdir(tmp_path)
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind("s")
                server.listen()
                client.connect("s")
            one, other = socket.socketpair()
            one.close(), other.close()

        def test_looking_up():
            assert socket.getaddrinfo("192.0.2.1", 80) and socket.getaddrinfo("localhost", 80)
            assert socket.gethostbyname("127.0.0.1")
            with pytest.raises(socket.gaierror):
                socket.getaddrinfo("nobody.invalid", 80)

        def test_looking_back():
            for number, look in enumerate((socket.gethostbyaddr, lambda host: socket.getnameinfo((host, 1), 0))):
                with pytest.raises(OSError):
                    look(f"192.0.2.{number}")
    """)
    result = _run(pytester)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*::test_tcp tried to reach 127.0.0.1:*",
            *(f"*::test_looking_back tried to reach 192.0.2.{n},*" for n in (0, 1)),
        ]
    )


def test_what_asks_for_the_guard(pytester: pytest.Pytester) -> None:
    """The marker goes before the setting, the setting before the fixtures; of two markers the nearer counts."""
    program = """
        import socket, pytest

        def reach(host):
            with socket.socket() as client:
                client.settimeout(0.01)
                try:
                    client.connect((host, 9))
                except OSError as error:
                    return type(error).__name__ == "NetworkBlockedError"

        def test_plain(): assert reach("127.0.0.1") is {plain}
        def test_fixture(veyra_log): assert reach("127.0.0.1") is {fixture}
        @pytest.mark.veyra(network="allowed")
        def test_marked(veyra_log): assert reach("127.0.0.1") is False
        @pytest.mark.veyra(network="loopback")
        class TestSome:
            def test_class(self): assert reach("127.0.0.1") is False
            @pytest.mark.veyra(network="blocked")
            def test_nearer(self): assert reach("127.0.0.1") is True
    """
    for setting, plain, fixture in (
        ("", False, True),
        ("blocked", True, True),
        ("loopback", False, False),
        ("allowed", False, False),
    ):
        pytester.makepyfile(program.format(plain=plain, fixture=fixture))
        result = _run(pytester, "-o", f"veyra_network={setting}")
        blocked = plain + fixture + 1
        result.assert_outcomes(failed=blocked, passed=5 - blocked)
        assert "assert" not in result.stdout.str()


def test_a_failure_of_its_own_keeps_its_words(pytester: pytest.Pytester) -> None:
    """A test that fails anyhow shows its own failure, and what it tried to reach beside it; one that is skipped is skipped."""
    pytester.makepyfile("""
        import socket, pytest
        pytestmark = pytest.mark.veyra(network="blocked")

        def tried():
            with pytest.raises(OSError):
                socket.create_connection(("192.0.2.1", 1))

        def test_fails():
            tried()
            assert 1 == 2
        def test_skips():
            tried()
            pytest.skip("no network here")
        @pytest.mark.xfail(strict=True)
        def test_expected(): tried()
        @pytest.fixture
        def early(): tried()
        def test_setup(early): pass
        @pytest.fixture
        def late():
            yield
            tried()
        def test_teardown(late): pass
    """)
    result = _run(pytester)
    result.assert_outcomes(failed=1, skipped=1, xfailed=1, passed=1, errors=2)
    result.stdout.fnmatch_lines(
        ["*assert 1 == 2*", "*Captured veyra call*", "*::test_fails tried to reach 192.0.2.1:1*"]
    )


WRONG = {
    "netwrk='blocked'": "the marker veyra takes no 'netwrk'; did you mean 'network'?",
    "network='none'": "the marker veyra takes a network of blocked, loopback, allowed, not 'none'",
    "'blocked'": "the marker veyra takes its values by name",
    "replies='x', script='y'": "the marker veyra has replies and a script",
    "replies=5": "replies are a str",
    "script='no.toml'": "No such file",
    "faults='nonsense'": "nonsense",
}


def test_a_wrong_marker_is_told(pytester: pytest.Pytester) -> None:
    """What the marker does not take is an error of its test, and of no other."""
    tests = [f"@pytest.mark.veyra({marker})\ndef test_{n}(veyra_mock): pass\n" for n, marker in enumerate(WRONG)]
    pytester.makepyfile("import pytest\n" + "".join(tests) + "def test_right(): pass\n")
    result = _run(pytester)
    result.assert_outcomes(errors=len(WRONG), passed=1)
    for complaint in WRONG.values():
        assert complaint in result.stdout.str()


@pytest.mark.parametrize("setting", ["veyra_network", "veyra_tape"])
def test_a_wrong_setting_is_told(pytester: pytest.Pytester, setting: str) -> None:
    """A setting of the project that means nothing ends the run before it begins."""
    result = _run(pytester, "-o", f"{setting}=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{setting} is one of *, not 'none'*"])


# -------------------------------------------------------------------------------------------------- idle


def test_it_is_idle_unless_it_is_used(pytester: pytest.Pytester) -> None:
    """A project that uses nothing of it has nothing of Veyra loaded but the plugin and its errors, and no hook of events."""
    pytester.makepyfile("""
        import socket, sys

        def test_loaded():
            loaded = {name for name in sys.modules if name.partition(".")[0] == "veyra"}
            assert loaded == {"veyra", "veyra.errors", "veyra.testing", "veyra.testing.plugin"}
            assert "connect" not in vars(socket.socket)
    """)
    result = _run(pytester, "--strict-markers", "--strict-config")
    result.assert_outcomes(passed=1)


def test_it_is_found_by_pytest_and_can_be_switched_off(pytester: pytest.Pytester) -> None:
    """The plugin is there under the name `veyra`, its fixtures are listed, and `-p no:veyra` takes it away."""
    pytester.makepyfile("def test_x(veyra_log): pass")
    listed = _run(pytester, "--fixtures").stdout.str()
    for fixture in ("veyra_log", "veyra_mock", "veyra_server", "veyra_tape"):
        assert re.search(rf"^{fixture} -- .*\n    [A-Z]", listed, re.MULTILINE), fixture
    _run(pytester, "-p", "no:veyra").assert_outcomes(errors=1)


def test_what_was_put_in_front_is_taken_away(pytester: pytest.Pytester) -> None:
    """After a watched test, sockets and loops are as they were."""
    pytester.makepyfile("""
        import socket, pytest, uvloop

        @pytest.mark.veyra(network="blocked")
        def test_watched():
            assert "connect" in vars(socket.socket) and "create_connection" in vars(uvloop.Loop)
        def test_after():
            assert not {"connect", "connect_ex", "sendto", "sendmsg"} & vars(socket.socket).keys()
            assert not {"create_connection", "getaddrinfo"} & vars(uvloop.Loop).keys()
    """)
    _run(pytester).assert_outcomes(passed=2)


# ------------------------------------------------------------------------------------------------ the fixtures

FIXTURES = """
import asyncio, os
import pytest
from veyra import Client, get_backend
from veyra.errors import OverloadedError, RateLimitError

async def ask(name="openai", prompt="hi", **options):
    async with get_backend(name, model="m-1", **options) as backend:
        return await backend.generate(prompt)

def rows(log):
    return [(row.backend, row.status) for row in log.attempts()]

@pytest.mark.veyra(replies={"hi": "Hello"})
def test_every_name_leads_to_the_mock(veyra_mock, veyra_log):
    for name in ("openai", "anthropic", "mock"):
        response = asyncio.run(ask(name))
        assert (response.content, response.model) == ("Hello", "m-1")
    assert rows(veyra_log) == [("mock", "ok")] * 3
    veyra_mock.assert_called(3)

@pytest.mark.asyncio
@pytest.mark.veyra(replies=["a"], faults="overloaded")
async def test_asyncio(veyra_mock, veyra_log):
    with pytest.raises(OverloadedError):
        await ask()
    assert rows(veyra_log) == [("mock", "error")]

@pytest.mark.anyio
@pytest.mark.veyra(script="replies.toml")
async def test_anyio(veyra_mock, veyra_log, anyio_backend):
    assert (await ask(prompt="Oslo")).content == "It snows."
    assert rows(veyra_log) == [("mock", "ok")]

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.veyra(replies="Hello")
async def test_client(veyra_mock, veyra_log):
    async with Client("openai:gpt-x", fallback=["anthropic:claude-x"]) as client:
        assert (await client.generate("hi")).model == "gpt-x"
    assert rows(veyra_log) == [("mock", "ok")]

def test_a_mock_of_the_tests_own(veyra_mock):
    assert asyncio.run(ask("mock", replies="own")).content == "own"
    veyra_mock.assert_not_called()

@pytest.mark.veyra(replies="Hello", faults="rate-limit@after=1; ok")
def test_server(veyra_server, veyra_log):
    for name in ("openai", "anthropic", "ollama", "gemini"):
        if name == "openai":
            with pytest.raises(RateLimitError):
                asyncio.run(ask(name))
        assert asyncio.run(ask(name)).content == "Hello"
    assert [seen.status for seen in veyra_server.journal] == [429, 200, 200, 200, 200]
    assert rows(veyra_log) == [("openai", "error"), ("openai", "ok"), ("anthropic", "ok"), ("ollama", "ok"), ("gemini", "ok")]

@pytest.mark.veyra(replies="Hello")
def test_sdk(veyra_server, veyra_mock):
    import openai
    with openai.OpenAI() as client:
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "Hello"
    assert veyra_mock.last.model == "m"

def test_the_log_is_empty(veyra_log):
    assert rows(veyra_log) == []

def test_after():
    assert "OPENAI_BASE_URL" not in os.environ
    assert get_backend("openai", model="m").name == "openai"
"""


@pytest.mark.parametrize("where", [("-n", "2"), ("--random-order",)], ids=["xdist", "random"])
def test_the_fixtures_give_what_they_promise(pytester: pytest.Pytester, where: tuple[str, ...]) -> None:
    """The mock, the server and the log are there for each test anew, in any order, process and kind of test."""
    pytester.makepyfile(FIXTURES)
    pytester.path.joinpath("replies.toml").write_text('[[reply]]\npattern = "Oslo"\ntext = "It snows."\n')
    result = _run(pytester, "-o", "asyncio_mode=auto", "-W", "error", *where)
    result.assert_outcomes(passed=9)


TAPED = """
import asyncio
import pytest
from veyra import get_backend

async def ask(*prompts):
    async with get_backend("openai", model="m", api="chat"{more}) as backend:
        return [(await backend.generate(prompt)).content for prompt in prompts]

@pytest.mark.parametrize("prompt", ["hi", "caf\\u00e9 / ?"])
def test_taped(veyra_tape, veyra_log, prompt):
    assert asyncio.run(ask(prompt)) == ["Hello"]
    assert len(list(veyra_log.attempts())) == 1

@pytest.mark.veyra(tape="shared.jsonl")
def test_named(veyra_tape):
    assert asyncio.run(ask({prompts})) == ["Hello"] * {count}
"""


def test_a_tape_is_recorded_and_played(pytester: pytest.Pytester) -> None:
    """With `--veyra-tape=record` the answers of a server go on tapes; afterwards they are played without it and without a key."""
    serving = "\nfrom veyra.testing.server import FaultServer\nfrom veyra import MockBackend\n"
    program = TAPED.format(more=", base_url=URL, api_key='sk-secret-key'", prompts="'a', 'b'", count=2)
    test = pytester.makepyfile(
        test_tapes=f"{serving}SERVER = FaultServer(MockBackend('Hello'))\nSERVER.__enter__()\nURL = SERVER.openai_url\n{program}"
    )
    _run(pytester).assert_outcomes(errors=3)
    _run(pytester, "--veyra-tape=record").assert_outcomes(passed=3)
    tapes = sorted(path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*.jsonl"))
    assert tapes == [
        "shared.jsonl",
        "tapes/test_tapes/test_taped-caf-xe9.jsonl",
        "tapes/test_tapes/test_taped-hi.jsonl",
    ]
    assert "sk-secret" not in "".join(pytester.path.joinpath(tape).read_text() for tape in tapes)
    test.write_text(TAPED.format(more="", prompts="'a', 'b'", count=2))
    _run(pytester).assert_outcomes(passed=3)


async def test_a_tape_that_does_not_fit_fails_the_test(pytester: pytest.Pytester) -> None:
    """A recording that is not played fails its test, and so does a request that is not on the tape."""
    path = pytester.path / "shared.jsonl"
    async with FaultServer(MockBackend("Hello")) as server:
        asked = {"api": "chat", "model": "m", "transport": TapedTransport(path, mode="record")}
        async with make_backend("openai", base_url=server.openai_url, api_key="k", **asked) as backend:
            assert isinstance(backend, WireBackend)
            for prompt in ("a", "b"):
                await backend.generate(prompt)
    test = pytester.makepyfile(TAPED.format(more="", prompts="'a'", count=1))
    unplayed = _run(pytester, "-k", "named")
    unplayed.assert_outcomes(passed=1, errors=1)
    unplayed.stdout.fnmatch_lines(["*1 of 2 recordings were not played: *"])
    test.write_text(TAPED.format(more="", prompts="'a', 'c'", count=2))
    missed = _run(pytester, "-k", "named")
    missed.assert_outcomes(failed=1)
    missed.stdout.fnmatch_lines(["*no recording answers this*", '*recorded "?", asked "c"*'])


def test_a_tape_that_is_not_there_is_told(pytester: pytest.Pytester) -> None:
    """Where nothing was recorded the test does not run, and says how to record."""
    pytester.makepyfile(test_t=TAPED.format(more="", prompts="'a'", count=1))
    result = _run(pytester)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        ["*tapes/test_t/test_taped-hi.jsonl*; to record it, run this test with --veyra-tape=record"]
    )
    assert "another exception" not in result.stdout.str()


# ------------------------------------------------------------------------------------------------------ cost


def test_loading_it_costs_little() -> None:
    """What the plugin loads besides pytest is a handful of modules, none of them dear."""
    program = "import pytest, sys; before = set(sys.modules); import veyra.testing.plugin; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"asyncio", "ssl", "sqlite3", "aiohttp", "msgspec", "click", "cryptography"}
