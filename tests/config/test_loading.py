"""Which of several places wins, and what is told of a setting."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from settings import Write
from veyra import config
from veyra.config import Config, KeySource
from veyra.errors import AuditUnavailableError, AuthenticationError, ConfigError
from veyra.types import Secret

SECRET = "sk-canary-81f2"


def _origin(name: str) -> str:
    setting = config.load().setting(name)
    assert setting is not None
    return str(setting.origin)


def test_variables_go_before_profiles_and_profiles_before_files(
    write: Write, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place goes before those below it, and a setting says from which line or variable it is."""
    mine = write('[audit]\nmode = "async"\n', str(own / "veyra.toml"))
    assert (config.load().value("audit.mode"), _origin("audit.mode")) == ("async", f"{mine}:2")
    project = write('\n[audit]\nmode = "ordered"\n')
    assert (config.load().value("audit.mode"), _origin("audit.mode")) == ("ordered", f"{project}:3")
    monkeypatch.setenv("VEYRA_PROFILE", "p")
    write('[audit]\nmode = "async"\n[profiles.p.audit]\nmode = "strict"\n', str(own / "veyra.toml"))
    assert (config.load().value("audit.mode"), _origin("audit.mode")) == ("strict", f"{mine}:4")
    write('\n[audit]\nmode = "ordered"\n[profiles.p.audit]\nmode="async"')
    assert (config.load().value("audit.mode"), _origin("audit.mode")) == ("async", f"{project}:5")
    monkeypatch.setenv("VEYRA_AUDIT_MODE", " ordered ")
    assert (config.load().value("audit.mode"), _origin("audit.mode")) == ("ordered", "VEYRA_AUDIT_MODE")


def test_without_anything_there_are_defaults(project: Path) -> None:
    """What nobody sets has its default, or none."""
    settings = config.load()
    assert settings.value("audit.mode") == "strict"
    assert settings.value("model") is None
    assert settings.setting("audit.mode") is None
    assert settings.table("client.retry") == {}
    assert list(settings.settings()) == []
    assert settings.audit_manner() == {
        "mode": "strict",
        "on_failure": "fail_closed",
        "spool": None,
        "any_filesystem": False,
    }


def test_a_setting_that_is_not_there_is_told(write: Write) -> None:
    """Asking for a setting or a table by a wrong name is an error with the nearest one."""
    write("[backends.openai]\nmodel = 'm'\n")
    settings = config.load()
    assert (settings.value("backends.openai.model"), settings.value("backends.other.model")) == ("m", None)
    assert settings.table("backends.openai") == {"model": "m"}
    for ask in (settings.value, settings.setting, settings.table):
        with pytest.raises(ConfigError, match=r"there is no setting 'client.rety"):
            ask("client.rety.attempts")
    with pytest.raises(ConfigError, match=r"did you mean 'audit\.mode'"):
        settings.value("audit.mod")


def test_a_profile_is_laid_over_key_by_key(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile changes what it names and leaves the rest; a list is replaced."""
    write(
        '[client]\ntargets = ["a", "b"]\n[client.retry]\nattempts = 1\nbase = 2\n'
        '[profiles.p.client]\ntargets = ["c"]\n[profiles.p.client.retry]\nattempts = 5\n'
    )
    monkeypatch.setenv("VEYRA_PROFILE", "p")
    settings = config.load()
    assert settings.table("client.retry") == {"attempts": 5, "base": 2}
    assert settings.value("client.targets") == ("c",)
    setting = settings.setting("client.retry.attempts")
    assert setting is not None
    assert (setting.origin.profile, setting.origin.line) == ("p", 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.work]\n", "there is no profile 'wrk'; did you mean 'work'? Known are work."),
        ("", "there is no profile 'wrk'. No file of settings has one."),
    ],
)
def test_an_unknown_profile_is_told(text: str, words: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that no file has is an error that lists those there are."""
    write(text)
    monkeypatch.setenv("VEYRA_PROFILE", "wrk")
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value) == f"VEYRA_PROFILE: {words}"


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("VEYRA_AUDIT_ANY_FILESYSTEM", "True", "audit.any_filesystem", True),
        ("VEYRA_CLIENT_RETRY_ATTEMPTS", "4", "client.retry.attempts", 4),
        ("VEYRA_CLIENT_RETRY_BASE", "0.25", "client.retry.base", 0.25),
        ("VEYRA_CLIENT_RETRY_BASE", "2", "client.retry.base", 2),
        ("VEYRA_CLIENT_TARGETS", " a:b , c,", "client.targets", ("a:b", "c")),
        ("VEYRA_CLIENT_BUDGET_DAY", "2.50", "client.budget.day", Decimal("2.50")),
        ("VEYRA_AUDIT_DIR", "logs", "audit.dir", Path("logs")),
    ],
)
def test_a_variable_is_read_as_its_type(
    variable: str, text: str, name: str, value: object, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a variable stands for a value of the setting's type."""
    monkeypatch.setenv(variable, text)
    assert config.load().value(name) == value


def test_an_amount_is_exactly_what_was_written(write: Write) -> None:
    """Dollars are decimals, whether they are written as a number or as text."""
    write("[client.budget]\nday = 0.1\nrun = '0.30'\nkey = 5\n")
    assert config.load().table("client.budget") == {"day": Decimal("0.1"), "run": Decimal("0.3"), "key": Decimal(5)}


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("VEYRA_AUDIT_MODE", "loose", "audit.mode is one of strict, ordered, async"),
        ("VEYRA_CLIENT_RETRY_ATTEMPTS", "many", "client.retry.attempts is a whole number, 1 or more"),
        ("VEYRA_CLIENT_RETRY_ATTEMPTS", "1.5", "client.retry.attempts is a whole number, 1 or more"),
        ("VEYRA_CLIENT_RETRY_BASE", "inf", "client.retry.base is a number of 0 or more"),
        ("VEYRA_AUDIT_ANY_FILESYSTEM", "yes", "audit.any_filesystem is true or false"),
        ("VEYRA_AUDIT_DIR", "~nobody-has-this-name/log", "audit.dir is a path"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(
    variable: str, text: str, words: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that holds no value of the type is named, with what would be right."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as told:
        list(config.load().settings())
    assert str(told.value).startswith(f"{variable}: {words}")
    assert told.value.path is None


def test_a_path_starts_at_its_file(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path in a file starts where the file is, wherever the work is done; a tilde is the user's home."""
    write('[audit]\ndir = "log"\nkey = "~/k"\nheads = "/h"\n')
    monkeypatch.setenv("HOME", "/home/me")
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    settings = config.load()
    assert settings.audit_dir == project / "log"
    assert [settings.value(f"audit.{name}") for name in ("key", "heads")] == [Path("/home/me/k"), Path("/h")]


def test_the_log_is_among_the_users_state_otherwise(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setting the log is in the platform's per-user state directory; without a home that is an error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert config.load().audit_dir == tmp_path / "state" / "veyra" / "log"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it gives where nothing is known of the user
    with pytest.raises(AuditUnavailableError, match="VEYRA_AUDIT_DIR"):
        _ = config.load().audit_dir


@pytest.mark.parametrize("text", ['on_failure = "spool"', 'spool = "x"', 'on_failure = "fail_open"\nspool = "x"'])
def test_a_second_place_and_its_policy_go_together(text: str, write: Write) -> None:
    """One of the pair without the other is an error that names its line."""
    write(f"[audit]\n{text}\n")
    with pytest.raises(ConfigError, match=r"veyra\.toml:[23]: audit\.\w+ goes with the other"):
        config.load().audit_manner()


# ------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize(
    ("text", "variables", "backend", "model"),
    [
        ("", {}, "openai", None),
        ('backend = "openai"\nmodel = "m"', {}, "openai", "m"),
        ('backend = "openai"\nmodel = "m"', {}, "ollama", None),
        ('backend = "openai"\nmodel = "m"\n[backends.ollama]\nmodel = "o"', {}, "ollama", "o"),
        ('backend = "openai"\nmodel = "m"\n[backends.openai]\nmodel = "o"', {}, "openai", "m"),
        ('model = "m"', {}, "ollama", "m"),
        ('backend = "openai"\n[profiles.p]\nmodel = "m"', {"VEYRA_PROFILE": "p"}, "openai", "m"),
        ('backend = "openai"\nmodel = "m"\n[profiles.p]\nbackend = "mock"', {"VEYRA_PROFILE": "p"}, "mock", None),
        ('backend = "openai"\nmodel = "m"', {"VEYRA_MODEL": "v"}, "ollama", "v"),
    ],
)
def test_a_model_belongs_to_its_backend(
    text: str,
    variables: dict[str, str],
    backend: str,
    model: str | None,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command's model is asked of the backend that it was named for, and no other is asked for it."""
    write(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert config.load().model(backend) == model


# ------------------------------------------------------------------------------------------------- trust

LEADING = {
    "base_url": "'https://h.test/v1'",
    "proxy": "'http://proxy.test:3128'",
    "ca_file": "'ca.pem'",
    "options": "{ host = 'h' }",
}


def _vouches(name: str) -> bool:
    settings = config.load()
    return settings.vouches(settings.backend("openai")[name])


@pytest.mark.parametrize("name", LEADING)
def test_a_file_that_was_found_does_not_say_where_keys_go(
    name: str, write: Write, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decides where keys go is refused from a file that was found, until its directory or the file is named."""
    path = write(f"[backends.openai]\n{name} = {LEADING[name]}\n")
    settings = config.load()
    with pytest.raises(ConfigError, match=rf"veyra\.toml:2: backends\.openai\.{name} decides where keys are sent"):
        settings.vouched(settings.backend("openai")[name])
    monkeypatch.setenv("VEYRA_CONFIG", str(path))
    assert _vouches(name)
    monkeypatch.delenv("VEYRA_CONFIG")
    for trusted, trusts in ((path.parent / "below", False), (path.parent, True), (path.parent.parent, True)):
        write(f"trusted = ['{trusted}']", str(own / "veyra.toml"))
        assert _vouches(name) is trusts


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:11434"])
def test_loopback_needs_no_trust(host: str, write: Write) -> None:
    """A file that was found may name an address of this machine."""
    write(f"[backends.openai]\nbase_url = 'http://{host}/v1'\nproxy = 'http://{host}'\ntimeout = 3\n")
    assert all(map(_vouches, ("base_url", "proxy", "timeout")))


@pytest.mark.parametrize("host", ["localhost.evil.test", "127.0.0.1.evil.test", "0.0.0.0"])
def test_what_only_looks_like_loopback_does(host: str, write: Write) -> None:
    """An address that begins like one of this machine is another's."""
    write(f"[backends.openai]\nbase_url = 'http://{host}/v1'\n")
    assert not _vouches("base_url")


def test_a_links_directory_is_that_of_its_target(
    write: Write, own: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link in a trusted directory to a file elsewhere is not trusted."""
    target = write("[backends.openai]\nbase_url = 'https://h.test'\n", "elsewhere.toml")
    linked = project / "linked"
    linked.mkdir()
    (linked / "veyra.toml").symlink_to(target)
    monkeypatch.chdir(linked)
    write(f"trusted = ['{linked}']", str(own / "veyra.toml"))
    assert not _vouches("base_url")
    write(f"trusted = ['{project}']", str(own / "veyra.toml"))
    assert _vouches("base_url")


# -------------------------------------------------------------------------------------------------- keys


def _source(settings: Config | None = None) -> KeySource:
    source = (settings or config.load()).key_source("openai")
    assert source is not None
    return source


def test_a_key_is_read_where_the_settings_say(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable, a file, or the file of settings itself holds the key; one that changes is seen."""
    assert config.load().key_source("openai") is None
    write("[backends.openai]\napi_key_env = 'WORK_KEY'\n")
    source = _source()
    for text in ("one", "two"):
        monkeypatch.setenv("WORK_KEY", text)
        assert source() == Secret(text)
    path = write("three\n", "key")
    write("[backends.openai]\napi_key_file = 'key'\n")
    source = _source()
    assert source() == Secret("three")
    path.write_text("four")
    assert source() == Secret("four")
    write("[backends.openai]\napi_key = ' five '\n")
    assert _source()() == Secret("five")
    assert "five" not in repr(_source())


def test_a_higher_layers_source_replaces_the_lower_ones(write: Write, own: Path) -> None:
    """Of the ways to say where a key is, the one of the highest layer counts, whichever way it is."""
    write(f"[backends.openai]\napi_key = '{SECRET}'\n", str(own / "veyra.toml"))
    write("[backends.openai]\napi_key_env = 'WORK_KEY'\n")
    assert _source().shown == "WORK_KEY"
    assert SECRET not in repr(list(config.load().settings()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("api_key_env = 'WORK_KEY'", "the variable WORK_KEY is not set"),
        ("api_key_file = 'nowhere'", "nowhere cannot be read: No such file or directory"),
        ("api_key_file = '.'", "cannot be read: Is a directory"),
        ("api_key_file = 'empty'", "empty does not hold a key: one line of ASCII"),
        ("api_key_file = 'two'", "two does not hold a key: one line of ASCII"),
        ("api_key_file = 'binary'", "binary does not hold a key: one line of ASCII"),
        ("api_key_file = 'zero'", "zero does not hold a key: one line of ASCII"),
        ("api_key_keyring = 'veyra:openai'", "the package keyring, which reads the system's keyring, is not installed"),
    ],
)
def test_a_key_that_is_not_there_is_told_with_its_place(
    text: str, words: str, write: Write, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the call says where the key was looked for and which line said so, and quotes no file."""
    for name, data in {"empty": b"\n", "two": b"canary\ncanary\n", "binary": b"\xffcanary"}.items():
        (project / name).write_bytes(data)
    (project / "zero").symlink_to("/dev/zero")
    monkeypatch.setitem(sys.modules, "keyring", None)
    path = write(f"[backends.openai]\n{text}\n")
    source = _source()
    with pytest.raises(AuthenticationError) as told:
        source()
    assert str(told.value).startswith("openai: no API key: ")
    assert words in str(told.value)
    assert f"in {path}:2)" in str(told.value)
    assert "canary" not in str(told.value)
    assert source.is_there() is ("keyring" in text)


class _Keyring(ModuleType):
    """Stands for the package `keyring`, which is not installed here."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("keyring")
        self.asked: list[tuple[str, str]] = []
        self._answers = list(answers)

    def get_password(self, service: str, user: str) -> object:
        self.asked.append((service, user))
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_a_keyring_is_asked_until_it_has_answered(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that fails, or has nothing, is told without its words; once it has given the key it is not asked again."""
    keyring = _Keyring(OSError(f"no {SECRET}"), None, SECRET)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    write("[backends.openai]\napi_key_keyring = 'https://h:me'\n")
    source = _source()
    assert source.is_there()
    assert keyring.asked == []
    for words in (r"cannot be asked \(OSError\)", r"the keyring has no https://h:me"):
        with pytest.raises(AuthenticationError, match=words) as told:
            source()
        assert SECRET not in str(told.value)
        assert told.value.__context__ is None or SECRET not in str(told.value.__context__)
    assert source() == source() == Secret(SECRET)
    assert keyring.asked == [("https://h", "me")] * 3
