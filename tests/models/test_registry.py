from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from veyra import get_backend, list_backends, register_backend
from veyra.audit import AuditLog
from veyra.errors import AuthenticationError, ConfigError, InvalidRequestError, UnknownBackendError, VeyraError
from veyra.models.base import BaseModelBackend
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.models.registry import registering
from veyra.types import ModelResponse


class Echo(BaseModelBackend):
    name = "echo"

    def __init__(self, *, loud: bool = False, model: str = "e") -> None:
        self.loud = loud
        self.model = model

    async def generate(self, prompt: str, **options: Any) -> ModelResponse:
        """Say it back."""
        return ModelResponse(prompt.upper() if self.loud else prompt, self.model, self.name, 0.0, 0, 0, None)

    async def health_check(self) -> bool:
        """Say yes."""
        return True


def test_what_is_registered_in_the_context_is_forgotten_after_it() -> None:
    """At its end names lead where they led before it, whatever happened inside."""
    register_backend("kept", MockBackend)
    with pytest.raises(ZeroDivisionError), registering():
        register_backend("kept", lambda: MockBackend("inside"))
        register_backend("new", MockBackend)
        assert "new" in list_backends()
        raise ZeroDivisionError
    assert "new" not in list_backends()
    assert repr(get_backend("kept", audit="off").backend) == "<mock backend, 0 calls>"


def test_the_built_in_backends_are_listed() -> None:
    """The backends of ADR-0001 are there without any configuration."""
    assert {"mock", "openai", "anthropic", "ollama"} <= set(list_backends())


@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama", "mock"])
def test_making_a_backend_needs_no_key_no_network_and_no_log(name: str, tmp_path: Path) -> None:
    """get_backend touches neither a provider nor the disk."""
    backend = get_backend(name, audit=tmp_path / "log")
    assert isinstance(backend, BaseModelBackend)
    assert backend.name == name
    assert not (tmp_path / "log").exists()


def test_an_unknown_name_lists_near_names() -> None:
    """A misspelt backend is told with the names nearest to it, as a VeyraError that is a KeyError, too."""
    with pytest.raises(UnknownBackendError, match=r"unknown backend 'opnai'; did you mean 'openai'") as caught:
        get_backend("opnai")
    assert isinstance(caught.value, VeyraError)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith("unknown backend")


@pytest.mark.parametrize("name", [None, 3, b"mock"])
def test_a_name_of_another_type_is_told(name: Any) -> None:
    """A backend's name that is no str is refused by its type."""
    with pytest.raises(UnknownBackendError, match="is a str, not"):
        get_backend(name)


async def test_a_registered_class_is_served_through_the_gate() -> None:
    """register_backend makes a class known by name; its options go to it."""
    register_backend("echo", Echo)
    backend = get_backend("echo", audit="memory", loud=True)
    assert (await backend.generate("hi")).content == "HI"
    assert backend.log is not None
    assert [row.backend for row in backend.log.attempts()] == ["echo"]
    assert "echo" in list_backends()


async def test_a_registered_name_goes_before_a_built_in_one() -> None:
    """A test may put its own backend in the place of a provider."""
    register_backend("openai", lambda **_: MockBackend("instead"))
    assert (await get_backend("openai", audit="off").generate("hi")).content == "instead"


async def test_a_place_is_loaded_when_it_is_asked_for() -> None:
    """A string 'module:Class' is imported by get_backend and not before."""
    register_backend("later", "veyra.models.mock:MockBackend")
    register_backend("never", "no.such.module:Class")
    assert (await get_backend("later", audit="off", replies="ok").generate("hi")).content == "ok"
    with pytest.raises(UnknownBackendError, match=r"'never' is registered as 'no.such.module:Class'"):
        get_backend("never")


@pytest.mark.parametrize(("name", "factory"), [("", Echo), ("x", 5), ("x", "no-colon"), (None, Echo)])
def test_a_wrong_registration_is_told(name: Any, factory: Any) -> None:
    """A registration that could never work is refused at once."""
    with pytest.raises(InvalidRequestError):
        register_backend(name, factory)


def test_a_misspelt_constructor_option_names_the_near_one() -> None:
    """An option that the backend does not take is told, with what it takes."""
    with pytest.raises(InvalidRequestError, match=r"'openai' takes no option 'modle'; did you mean 'model'"):
        get_backend("openai", modle="x")


def test_a_factory_that_makes_no_backend_is_told() -> None:
    """What a factory returns is checked before the gate is put on."""
    factory: Any = lambda: "not a backend"  # noqa: E731  (what a careless caller passes)
    register_backend("odd", factory)
    with pytest.raises(InvalidRequestError, match="'odd' is a str, not a BaseModelBackend"):
        get_backend("odd")


@pytest.mark.parametrize("audit", [5, "", object()])
def test_a_wrong_audit_is_told(audit: Any) -> None:
    """The log's place is a directory, an AuditLog, 'memory' or 'off'."""
    with pytest.raises(InvalidRequestError, match="audit is a directory"):
        get_backend("mock", audit=audit)


def test_audit_says_where_the_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One directory is one log in a process; without a word it is VEYRA_AUDIT_DIR."""
    log = AuditLog.memory()
    assert get_backend("mock", audit=log).log is log
    assert get_backend("mock", audit="off").log is None
    assert get_backend("mock", audit=tmp_path).log is get_backend("mock", audit=str(tmp_path)).log
    monkeypatch.setenv("VEYRA_AUDIT_DIR", str(tmp_path))
    assert get_backend("mock").log is get_backend("mock", audit=tmp_path).log
    assert get_backend("mock", audit="memory").log is not get_backend("mock", audit="memory").log


async def test_a_missing_key_is_an_error_of_the_first_call_and_names_the_variable() -> None:
    """Without a key the backend can be made; a call says which variable is missing."""
    for name, variable in (("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")):
        backend = get_backend(name, model="m", audit="memory")
        with pytest.raises(AuthenticationError, match=variable):
            await backend.generate("hi")
        assert await backend.health_check() is False


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("base_url", "ftp://x", "base_url must look like"),
        ("base_url", "https://", "base_url must look like"),
        ("base_url", "http://h:99999", "base_url must look like"),
        ("base_url", "https://user:pw@h/v1", "no user, password"),
        ("base_url", "https://h/v1?key=sk-1", "no user, password"),
        ("base_url", 7, "base_url is a str"),
        ("api_key", "", "api_key is a non-empty str"),
        ("api_key", 7, "api_key is a non-empty str"),
    ],
)
def test_a_wrong_address_or_key_is_told_without_showing_it(option: str, value: Any, words: str) -> None:
    """What is wrong with a base URL or a key is said in words that do not repeat it."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        get_backend("openai", **{option: value})
    assert "sk-1" not in str(caught.value)
    assert "user:pw" not in str(caught.value)


PACKAGE = {
    "shout.py": """
from veyra import BaseModelBackend, ModelResponse

class Shout(BaseModelBackend):
    name = "shout"

    async def generate(self, prompt, **options):
        if prompt == "fail":
            raise OSError("its own error")
        return ModelResponse(prompt.upper(), "shout-1", self.name, 0.0, 1, 1, "s-1")

    async def health_check(self):
        return True
""",
    "shout-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shout\nVersion: 1.0\n",
    "shout-1.0.dist-info/entry_points.txt": "[veyra.backends]\nshout = shout:Shout\n",
}

USE = """
import asyncio
from veyra import get_backend, list_backends, AuditLog
from veyra.errors import BackendError

async def main():
    assert "shout" in list_backends()
    log = AuditLog.memory()
    backend = get_backend("shout", audit=log)
    assert (await backend.generate("hi")).content == "HI"
    async with backend.stream("hey") as reply:
        events = [event async for event in reply]
    assert reply.response.content == "HEY", events
    try:
        await backend.generate("fail")
    except BackendError as error:
        assert "its own error" in str(error)
    assert [row.status for row in log.attempts()] == ["ok", "ok", "error"]
    print("served")

asyncio.run(main())
"""


def test_an_installed_package_brings_its_backend_by_entry_point(tmp_path: Path) -> None:
    """A package with an entry point of the group veyra.backends is generated, streamed and recorded like the rest."""
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("served\n", "")


def test_gate_says_what_it_is() -> None:
    """The repr of a backend names it and its log, and nothing secret."""
    backend = get_backend("openai", api_key="sk-canary-1234567", audit="off")
    assert isinstance(backend, Gate)
    assert repr(backend) == "<openai backend, audit off>"
    assert "canary" not in repr(backend.backend) + repr(vars(backend.backend))


async def test_the_mode_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log given by its directory is written in the mode that `VEYRA_AUDIT_MODE` names; another word is refused."""
    monkeypatch.setenv("VEYRA_AUDIT_MODE", "ordered")
    backend = get_backend("mock", audit=tmp_path)
    await backend.generate("hi")
    assert backend.log is not None
    await backend.log.aclose()
    modes = [
        entry.leaf["attributes"]["veyra.audit.mode"]
        for entry in backend.log.entries()
        if entry.leaf["kind"] == "call.intent"
    ]
    assert modes == ["ordered"]
    monkeypatch.setenv("VEYRA_AUDIT_MODE", "loose")
    with pytest.raises(ConfigError, match=r"VEYRA_AUDIT_MODE: audit\.mode is one of strict, ordered, async"):
        get_backend("mock", audit=tmp_path)


class NeedsToken(Echo):
    """A backend that cannot be made without an option."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token


def test_an_option_that_a_backend_needs_is_asked_for() -> None:
    """A backend whose options are not complete is an error of ours that names what is missing."""
    register_backend("needs", NeedsToken)
    with pytest.raises(InvalidRequestError, match="'needs': missing a required argument: 'token'"):
        get_backend("needs", audit="off")
    assert get_backend("needs", audit="off", token="t").name == "echo"


def test_an_empty_container_that_can_be_called_is_a_factory() -> None:
    """What counts is that a factory can be called, not what it is worth as a condition."""

    class Factory(dict[str, Any]):
        def __call__(self) -> Echo:
            return Echo()

    register_backend("empty", Factory())
    assert isinstance(get_backend("empty", audit="off").backend, Echo)


async def test_a_factory_may_ask_get_backend_itself() -> None:
    """A name for a backend with settings is recorded once, where its caller says."""
    inner = AuditLog.memory()
    register_backend("ours", lambda: get_backend("mock", replies="hello", audit=inner))
    outer = AuditLog.memory()
    response = await get_backend("ours", audit=outer).generate("hi")
    assert response.content == "hello"
    assert [len(list(log.attempts())) for log in (outer, inner)] == [1, 0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (["openai"], {"api_key": "k"}),
        ("mock", {"max_prompt_bytes": "8"}),
        ("mock", {"max_prompt_bytes": -1}),
        ("openai", {"on_unsupported": "ignore"}),
    ],
)
def test_what_get_backend_cannot_take_is_an_error_of_ours(name: Any, options: Any) -> None:
    """A name or a setting of the wrong kind is told at once, in our words."""
    with pytest.raises(VeyraError):
        get_backend(name, audit="off", **options)


async def test_the_model_of_a_backend_is_checked_like_that_of_a_call() -> None:
    """A default is an option like any other: of the wrong type it is refused, by another class it is kept plain."""
    with pytest.raises(InvalidRequestError, match="model is a non-empty str, not 5"):
        await get_backend("mock", model=5, audit="off").generate("hi")
    with pytest.raises(InvalidRequestError, match="model is a non-empty str, not 5"):
        await get_backend("mock", model=5, audit="off").embed("hi")


async def test_that_recording_is_off_is_on_record(tmp_path: Path) -> None:
    """A backend made with `audit="off"` is named in the logs that the process has open; its calls are not."""
    recorded = get_backend("mock", audit=AuditLog(tmp_path))
    await recorded.generate("hi")
    await get_backend("mock", audit="off").generate("hi")
    assert recorded.log is not None
    await recorded.log.aclose()
    leaves = [entry.leaf for entry in recorded.log.entries()]
    changes = [(leaf["of"], leaf["backend"], leaf["to"]) for leaf in leaves if leaf["kind"] == "config.changed"]
    assert changes == [("audit", "mock", "off")]
    assert recorded.log.verify().intents == 1
    assert recorded.log.verify().ok


@pytest.mark.parametrize("word", ["memroy", "Memory", "of", "OFF", "on", "none", "True"])
def test_a_word_that_is_nearly_a_choice_is_no_directory(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt `memory` or `off`, or a switch, is refused with what to write; as a path it is a directory like any."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InvalidRequestError, match=f"'memory' or 'off', not '{word}'; a directory of that name is './{word}'"
    ):
        get_backend("mock", audit=word)
    assert not list(tmp_path.iterdir())
    for directory in (f"./{word}", Path(word), "kept"):
        assert get_backend("mock", audit=directory).log is not None
