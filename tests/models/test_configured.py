"""Backends made as settings say."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from veyra import MockBackend, config, get_backend, register_backend
from veyra.audit import AuditLog
from veyra.errors import AuthenticationError, CallTimeoutError, ConfigError, InvalidRequestError
from veyra.models.wire import WireBackend
from veyra.transport.script import Answer, ScriptedTransport, Stall
from veyra.types import Timeouts

SECRET = "sk-canary-81f2"
OK = b'{"model":"m","message":{"role":"assistant","content":"Hi."},"done":true,"done_reason":"stop"}\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write the file of settings that is read."""
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("VEYRA_CONFIG", str(path))

    def put(text: str) -> Path:
        path.write_text(text)
        path.chmod(0o600)
        config.reload()
        return path

    return put


def _wire(name: str, **options: Any) -> WireBackend:
    backend = get_backend(name, audit="off", **options).backend
    assert isinstance(backend, WireBackend)
    return backend


def _answer() -> Answer:
    return Answer(headers={"content-type": "application/x-ndjson"}, chunks=[OK])


def test_settings_are_options_that_were_not_given(write: Callable[[str], Path]) -> None:
    """A backend is made with what its table says, and an argument goes before it; None counts as not given."""
    write("[backends.ollama]\nbase_url = 'http://h.test:1'\nmodel = 'm'\ntimeout = 7\n")
    backend = _wire("ollama", model=None)
    assert (backend.base_url, dict(backend.defaults())) == ("http://h.test:1", {"model": "m", "timeout": 7})
    backend = _wire("ollama", base_url="http://other.test", model="o", timeout=Timeouts(total=3))
    assert backend.base_url == "http://other.test"
    assert dict(backend.defaults()) == {"model": "o", "timeout": Timeouts(total=3)}
    assert _wire("openai").defaults() == {}


def test_a_file_goes_before_the_vendors_variable(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set for Veyra counts more than what is set for every program."""
    monkeypatch.setenv("OLLAMA_HOST", "variable.test")
    write("")
    assert _wire("ollama").base_url == "http://variable.test"
    write("[backends.ollama]\nbase_url = 'http://file.test'\n")
    assert _wire("ollama").base_url == "http://file.test"


async def test_a_key_is_got_when_a_call_needs_it(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a backend reads no key; each call reads it where the settings say, and sends it."""
    path = write("[backends.ollama]\nmodel = 'm'\napi_key_env = 'WORK_KEY'\n")
    monkeypatch.setenv("OLLAMA_API_KEY", "of-every-program")
    transport = ScriptedTransport([_answer(), _answer()])
    backend = get_backend("ollama", transport=transport, audit="memory")
    with pytest.raises(AuthenticationError) as told:
        await backend.generate("hi")
    assert str(told.value) == (
        f"ollama: no API key: the variable WORK_KEY is not set (backends.ollama.api_key_env in {path}:3)"
    )
    assert told.value.provider == "ollama"
    assert await backend.health_check() is False
    for key in ("one", "two"):
        monkeypatch.setenv("WORK_KEY", key)
        await backend.generate("hi")
    sent = [request.secret_headers["authorization"].reveal() for request in transport.sent]
    assert sent == ["Bearer one", "Bearer two"]


async def test_a_function_may_give_the_key() -> None:
    """`api_key` takes a function, which is asked at each call; what it returns is checked like a key."""
    keys: list[Any] = ["one", None, 5, ""]
    transport = ScriptedTransport([_answer(), _answer()])
    backend = get_backend("ollama", model="m", api_key=lambda: keys.pop(0), transport=transport, audit="memory")
    await backend.generate("hi")
    await backend.generate("hi")
    assert [len(request.secret_headers) for request in transport.sent] == [1, 0]
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="api_key is a non-empty str"):
            await backend.generate("hi")


async def test_the_settings_timeout_is_that_of_calls_that_name_none(write: Callable[[str], Path]) -> None:
    """A backend's timeout holds for its calls, for answers and for vectors, and a call's own goes before it."""
    write("[backends.ollama]\nmodel = 'm'\ntimeout = 0.02\n")
    backend = get_backend("ollama", transport=ScriptedTransport([Stall(), Stall(), _answer()]), audit="memory")
    with pytest.raises(CallTimeoutError):
        await backend.generate("hi")
    with pytest.raises(CallTimeoutError):
        await backend.embed("hi")
    assert (await backend.generate("hi", timeout=10)).content == "Hi."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[backends.mock]\nbase_url = 'http://h'", "2: backends.mock.base_url is of no use: that backend takes no 'base_url'"),
        ("[backends.mock]\napi_key_env = 'X'", "2: backends.mock.api_key_env is of no use: that backend takes no 'api_key'"),
        ("[backends.mock.options]\nhealty = true", "1: backends.mock.options is of no use: that backend takes no 'healty'; did"),
        ("[backends.openai]\nmodel = 'm'\n[backends.openai.options]\nloud = 1", "3: backends.openai.options is of no use"),
    ],
)  # fmt: skip
def test_what_a_backend_does_not_take_is_told_by_its_line(text: str, words: str, write: Callable[[str], Path]) -> None:
    """A setting that means nothing to its backend is an error when that backend is made, and not before."""
    path = write(text)
    name = "mock" if "mock" in text else "openai"
    get_backend("ollama", audit="off")
    with pytest.raises(ConfigError) as told:
        get_backend(name, audit="off")
    assert str(told.value).startswith(f"{path}:{words}")


def test_a_backend_from_elsewhere_gets_its_options(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factory that was registered gets the settings it takes, its key as a str, and more by `options`."""
    seen: dict[str, object] = {}

    def factory(*, token: str, api_key: str, model: str = "m") -> MockBackend:
        seen.update(token=token, api_key=api_key, model=model)
        return MockBackend()

    register_backend("ours", factory)
    write("[backends.ours]\nmodel = 'x'\napi_key_env = 'OUR_KEY'\noptions = { token = 't' }\n")
    monkeypatch.setenv("OUR_KEY", "k")
    get_backend("ours", audit="off")
    assert seen == {"token": "t", "api_key": "k", "model": "x"}
    get_backend("ours", audit="off", api_key="given", token="g")
    assert seen == {"token": "g", "api_key": "given", "model": "x"}


def test_an_address_from_a_file_that_was_found_is_not_used(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend is not made with an address that a foreign directory's file names; an argument is nobody else's."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    path = write("[backends.openai]\nbase_url = 'https://evil.test/v1'\n")
    assert _wire("openai").base_url == "https://evil.test/v1"
    (tmp_path / "clone").mkdir()
    shutil.move(path, tmp_path / "clone" / "veyra.toml")
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.delenv("VEYRA_CONFIG")
    with pytest.raises(ConfigError, match="decides where keys are sent") as told:
        get_backend("openai", audit="off")
    assert SECRET not in "".join(traceback.TracebackException.from_exception(told.value, capture_locals=True).format())
    assert _wire("openai", base_url="https://api.test/v1").base_url == "https://api.test/v1"


async def test_the_log_is_where_and_how_the_settings_say(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Place, mode and policy of the usual log come from the settings, and mode and policy of one given by its directory."""
    monkeypatch.delenv("VEYRA_AUDIT_DIR")
    write("[audit]\ndir = 'log'\nmode = 'ordered'\non_failure = 'spool'\nspool = 'second'\n")
    log = get_backend("mock").log
    assert log is not None
    assert log.directory == tmp_path / "log"
    assert log is get_backend("mock").log
    health = log.health()
    assert (health.mode, health.on_failure) == ("ordered", "spool")
    other = get_backend("mock", audit=tmp_path / "other").log
    assert other is not None
    assert other.health().mode == "ordered"
    assert AuditLog.shared(tmp_path / "other") is not other


async def test_the_signing_key_is_where_the_settings_say(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A signing key that the settings name must be there: without it nothing is recorded, so nothing is sent."""
    write("[audit]\nkey = 'signing.key'\n")
    with pytest.raises(Exception, match=r"signing\.key"):
        await get_backend("mock").generate("hi")


def test_settings_are_read_by_no_import() -> None:
    """`import veyra` loads neither the settings nor their parser."""
    program = "import sys, veyra; print([m for m in ('tomllib', 'veyra.config') if m in sys.modules])"
    from subprocess import run  # noqa: PLC0415  (this test alone starts a process)

    done = run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=15)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "text",
    [
        f"[backends.openai]\napi_key = '{SECRET}'\nmodle = 'm'\n",
        f"[backends.openai]\napi_key = '{SECRET}'\nbase_url = 'x'\n",
        f"[backends.openai]\napi_key = '{SECRET}\n",
        f"[backends.openai]\napi_key = {SECRET}\n",
        f"[backends.openai]\napi_key = ['{SECRET}']\n",
        f"[backends.openai]\nproxy = 'ftp://me:{SECRET}@h'\n",
        f"[backends.openai]\napi_key = '{SECRET}'\n[backends.openai.options]\nloud = '{SECRET}'\n",
    ],
)
def test_no_error_shows_a_secret(text: str, write: Callable[[str], Path]) -> None:
    """Neither the words of an error of the settings nor any variable of its frames holds a key or a password."""
    write(text)
    with pytest.raises(ConfigError) as told:
        get_backend("openai", audit="off")
    frames = traceback.TracebackException.from_exception(told.value, capture_locals=True)
    ours = [frame for frame in frames.stack if "/veyra/" in frame.filename]
    assert SECRET not in str(told.value) + repr(told.value) + repr(vars(told.value))
    assert ours
    assert SECRET not in repr([frame.locals for frame in ours])
    assert told.value.__cause__ is told.value.__context__ is None
