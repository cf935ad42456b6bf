"""The pytest plugin: no real network in tests, the log in memory, and fixtures for the mock, tapes and the fault server.

It is installed with Veyra and idle until it is asked for. A test is *watched* (`veyra.testing.plugin_guard`) where the first
of these that says something asks for it:

1. its marker, `@pytest.mark.veyra(network="blocked" | "loopback" | "allowed")`;
2. the project's setting `veyra_network`, which takes the same words;
3. one of the fixtures below, by which the network is `blocked`.

`veyra_server` needs loopback, and makes `blocked` into `loopback`. A tape that may be recorded needs the network: but in the mode
`replay`, a test with `veyra_tape` is not watched. Every fixture puts the log of its test in memory.

Nothing but pytest is imported before one of these is used. Needs pytest 8 or newer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, cast

import pytest

from veyra.errors import InvalidRequestError, near

if TYPE_CHECKING:
    from pathlib import Path

    from veyra.audit import AuditLog
    from veyra.models.base import BaseModelBackend
    from veyra.models.mock import MockBackend
    from veyra.models.stand_in import Factory
    from veyra.testing.plugin_guard import Watch
    from veyra.testing.server import FaultServer
    from veyra.transport.tape import Mode, TapedTransport

_NETWORKS: Final = ("blocked", "loopback", "allowed")
_MODES: Final = ("replay", "auto", "record", "off")
_FIXTURES: Final = frozenset({"veyra_log", "veyra_mock", "veyra_server", "veyra_tape"})
_SETTINGS: Final = ("network", "replies", "script", "seed", "faults", "tape")
_NO_KEY: Final = "no-key-in-tests"
_LONGEST: Final = 100
"""Characters of a tape's name."""
_WATCH: Final[pytest.StashKey[Watch]] = pytest.StashKey()
_HAS_FAILED: Final = pytest.StashKey[bool]()
_STACK: Final[pytest.StashKey[ExitStack]] = pytest.StashKey()


# ----------------------------------------------------------------------------------------------- settings


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings, which change nothing while they are not set."""
    parser.addini("veyra_network", "What tests may reach: blocked, loopback or allowed.", default="")
    parser.addini("veyra_tape", "What veyra_tape does: replay, auto, record or off.", default="replay")
    group = parser.getgroup("veyra")
    group.addoption(
        "--veyra-tape", choices=_MODES, help="What veyra_tape does, in the place of the setting veyra_tape."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and check the settings."""
    config.addinivalue_line(
        "markers",
        "veyra(network=..., replies=..., script=..., seed=..., faults=..., tape=...): what the test may reach, and what the "
        "fixtures veyra_mock, veyra_server and veyra_tape do in it.",
    )
    for name, known in (("veyra_network", ("", *_NETWORKS)), ("veyra_tape", _MODES)):
        value = config.getini(name)
        if value not in known:
            msg = f"{name} is one of {', '.join(filter(None, known))}, not {value!r}"
            raise pytest.UsageError(msg)


def _marked(item: pytest.Item) -> dict[str, Any]:
    """Return what the markers of a test say; of two that say the same thing, the nearer one counts."""
    settings: dict[str, Any] = {}
    for marker in item.iter_markers("veyra"):
        if marker.args:
            _refuse("the marker veyra takes its values by name, as in veyra(network='loopback')")
        for name, value in marker.kwargs.items():
            if name not in _SETTINGS:
                _refuse(f"the marker veyra takes no {name!r}{near(name, _SETTINGS)} It takes {', '.join(_SETTINGS)}.")
            settings.setdefault(name, value)
    if settings.get("network", "blocked") not in _NETWORKS:
        _refuse(f"the marker veyra takes a network of {', '.join(_NETWORKS)}, not {settings['network']!r}")
    return settings


def _refuse(msg: str) -> NoReturn:
    pytest.fail(msg, pytrace=False)


def _mode(config: pytest.Config) -> Mode:
    return cast("Mode", config.getoption("veyra_tape") or config.getini("veyra_tape"))


# ------------------------------------------------------------------------------------------------- the guard


def _network(item: pytest.Item) -> Literal["blocked", "loopback", "allowed", ""]:
    """Return what a test may reach; empty where nobody asked."""
    used = _FIXTURES.intersection(getattr(item, "fixturenames", ()))
    network: Literal["blocked", "loopback", "allowed", ""]
    network = _marked(item).get("network") or item.config.getini("veyra_network") or ("blocked" if used else "")
    if "veyra_tape" in used and _mode(item.config) != "replay":
        return "allowed"
    return "loopback" if network == "blocked" and "veyra_server" in used else network


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Begin to watch a test, where that is asked for."""
    network = _network(item)
    if network == "blocked" or network == "loopback":  # noqa: PLR1714  (a type checker follows this)
        from veyra.testing.plugin_guard import Watch, watching  # noqa: PLC0415  (idle unless asked for)

        item.stash[_WATCH] = Watch(network, item.nodeid)
        item.stash[_STACK] = ExitStack()
        item.stash[_STACK].enter_context(watching(item.stash[_WATCH]))
    return (yield from _watched(item, "setup"))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that tried to reach what it may not."""
    return (yield from _watched(item, "call"))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """End the watch, when the fixtures of the test are gone."""
    try:
        return (yield from _watched(item, "teardown"))
    finally:
        stack = item.stash.get(_STACK, None)
        if stack is not None:
            stack.close()


def _watched(item: pytest.Item, when: str) -> Generator[None, object, object]:
    """Run a phase of a test, and fail it if it tried to reach what it may not; what has failed anyhow says so besides."""
    try:
        result = yield
    except BaseException:
        item.stash[_HAS_FAILED] = True
        attempts = _attempts(item)
        if attempts:
            item.add_report_section(when, "veyra", "\n".join(attempts))
        raise
    attempts = _attempts(item)
    if attempts:
        hint = "allow it with @pytest.mark.veyra(network=...), or let a tape or the fault server answer"
        _refuse("\n".join([*attempts, hint]))
    return result


def _attempts(item: pytest.Item) -> list[str]:
    watch = item.stash.get(_WATCH, None)
    return [] if watch is None else watch.taken()


# ------------------------------------------------------------------------------------------------ the fixtures


@pytest.fixture
def veyra_log() -> Iterator[AuditLog]:
    """The log of this test, in memory: where calls are recorded whose backend was given no `audit`.

    What the test registers with `register_backend` is forgotten after it.
    """
    from veyra.audit import AuditLog  # noqa: PLC0415  (idle unless used; so are the imports below)
    from veyra.models.registry import registering  # noqa: PLC0415
    from veyra.models.stand_in import recording_in  # noqa: PLC0415

    log = AuditLog.memory()
    with recording_in(log), registering():
        yield log


@pytest.fixture
def _veyra_answers(request: pytest.FixtureRequest) -> MockBackend:
    """The mock that the marker describes; its faults are the server's where there is one."""
    from veyra.models.mock import MockBackend  # noqa: PLC0415

    marked = _marked(request.node)
    if "replies" in marked and "script" in marked:
        _refuse("the marker veyra has replies and a script: give one of the two")
    replies = request.path.parent / marked["script"] if "script" in marked else marked.get("replies")
    faults = () if "veyra_server" in request.fixturenames else marked.get("faults", ())
    return MockBackend(replies, seed=marked.get("seed", 0), faults=faults)


@pytest.fixture
def veyra_mock(
    request: pytest.FixtureRequest, _veyra_answers: MockBackend, veyra_log: AuditLog
) -> Iterator[MockBackend]:
    """A mock in the place of every backend that is asked for by name; `replies`, `script`, `seed` and `faults` are the marker's.

    Where the test uses `veyra_server` as well, the mock answers behind the server, and names lead to the server.
    """
    del veyra_log  # it is there
    if "veyra_server" in request.fixturenames:
        yield _veyra_answers
        return
    from veyra.models.stand_in import standing_in  # noqa: PLC0415

    def make(name: str, factory: Factory, options: Mapping[str, object]) -> BaseModelBackend:
        if name == "mock" and options.get("replies") is not None:  # a mock that the test itself has made
            return factory(**options)
        model = options.get("model")
        return _veyra_answers.for_model(model) if isinstance(model, str) else _veyra_answers

    with standing_in(make):
        yield _veyra_answers


@pytest.fixture
def veyra_server(
    request: pytest.FixtureRequest, _veyra_answers: MockBackend, veyra_log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultServer]:
    """A fault server on loopback, to which `openai`, `anthropic`, `gemini`, `ollama` and the vendors' own clients are led.

    `replies`, `script`, `seed` and `faults` are the marker's. The environment names the server and a key that is none.
    """
    del veyra_log  # it is there
    from veyra.testing.server import FaultServer  # noqa: PLC0415

    with FaultServer(_veyra_answers, faults=_marked(request.node).get("faults", ())) as server:
        for variable, value in {
            "OPENAI_BASE_URL": server.openai_url,
            "ANTHROPIC_BASE_URL": server.url,
            "GOOGLE_GEMINI_BASE_URL": server.url,
            "OLLAMA_HOST": server.url,
            "OPENAI_API_KEY": _NO_KEY,
            "ANTHROPIC_API_KEY": _NO_KEY,
            "GEMINI_API_KEY": _NO_KEY,
            "no_proxy": "127.0.0.1,localhost",
        }.items():
            monkeypatch.setenv(variable, value)
        yield server


@pytest.fixture
def veyra_tape(request: pytest.FixtureRequest, veyra_log: AuditLog) -> Iterator[TapedTransport]:
    """A tape through which every backend goes that is asked for by name and speaks over a network.

    Its file is `tapes/MODULE/TEST.jsonl` beside the test's, or the marker's `tape`. In the mode `replay`, the usual one, nothing is
    sent and no key is needed, and a test that leaves a recording unplayed fails.
    """
    del veyra_log  # it is there
    from veyra.models.stand_in import standing_in  # noqa: PLC0415

    path = request.path.parent / _marked(request.node).get("tape", _tape_name(request.node))
    mode = _mode(request.config)
    tape = _opened(path, mode)

    def make(name: str, factory: Factory, options: Mapping[str, object]) -> BaseModelBackend:
        del name
        takes = inspect.signature(factory).parameters
        taped: dict[str, object] = {**options}
        if "transport" in takes:
            taped.setdefault("transport", tape)
        if "api_key" in takes and mode == "replay":
            taped.setdefault("api_key", _NO_KEY)
        return factory(**taped)

    with standing_in(make):
        yield tape
    if mode == "replay" and not request.node.stash.get(_HAS_FAILED, False):  # one failure is enough to read
        tape.assert_finished()
    tape.save()


def _opened(path: Path, mode: Mode) -> TapedTransport:
    from veyra.transport.tape import TapedTransport  # noqa: PLC0415  (idle unless used)

    try:
        return TapedTransport(path, mode=mode)
    except InvalidRequestError as error:
        complaint = f"{error}; to record it, run this test with --veyra-tape=record"
    _refuse(complaint)


def _tape_name(item: pytest.Item) -> str:
    """Return the usual place of a test's tape: of letters, digits, dashes, dots and underscores, whatever its parameters are."""
    name = re.sub(r"[^\w.-]+", "-", item.nodeid.partition("::")[2].replace("::", ".")).strip("-")
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"
    return f"tapes/{item.path.stem}/{name}.jsonl"
