"""`veyra config`, `--profile`, and what commands take from settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from commands import run
from veyra import config

Run = Callable[..., Result]
SECRET = "sk-canary-81f2"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose files of settings count."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.delenv("VEYRA_CONFIG")
    monkeypatch.delenv("VEYRA_SHARED", raising=False)
    return directory


@pytest.fixture
def write(project: Path) -> Callable[[str], Path]:
    """Write the project's file of settings."""

    def put(text: str) -> Path:
        path = project / "veyra.toml"
        path.write_text(text)
        path.chmod(0o600)
        config.reload()
        return path

    return put


def _rows(result: Result) -> dict[str, dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}


# -------------------------------------------------------------------------------------------------- show


def test_show_tells_each_value_and_where_it_came_from(
    veyra: Run, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of a file, a variable or the default: each setting in force says which."""
    path = write('backend = "ollama"\n[client]\ntargets = ["mock", "mock:b"]\n')
    monkeypatch.setenv("VEYRA_AUDIT_MODE", "async")
    result = veyra("config", "show")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["backend"].split() == ["backend", '"ollama"', f"{path}:1"]
    assert lines["client.targets"].split() == ["client.targets", '["mock",', '"mock:b"]', f"{path}:3"]
    assert lines["audit.mode"].split() == ["audit.mode", '"async"', "VEYRA_AUDIT_MODE"]
    assert lines["audit.on_failure"].split() == ["audit.on_failure", '"fail_closed"', "default"]
    assert lines["audit.dir"].split()[-1] == "VEYRA_AUDIT_DIR"
    assert lines["audit.heads"].split()[-1] == "default"
    assert "model" not in lines
    rows = _rows(veyra("config", "show", "--json"))
    assert rows["backend"] == {
        "name": "backend",
        "value": "ollama",
        "source": "file",
        "path": str(path),
        "line": 1,
        "profile": None,
        "variable": None,
        "remark": None,
    }
    assert rows["client.targets"]["value"] == ["mock", "mock:b"]
    assert (rows["audit.mode"]["source"], rows["audit.mode"]["variable"]) == ("variable", "VEYRA_AUDIT_MODE")
    assert (rows["client.retry.attempts"]["source"], rows["client.retry.attempts"]["value"]) == ("default", 3)


def test_show_masks_secrets(veyra: Run, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a key only that it is set is shown, whether it is in a file, in a variable or in a URL."""
    write(
        f"[backends.openai]\napi_key = '{SECRET}'\nproxy = 'http://me:{SECRET}@127.0.0.1:1'\n"
        f"[backends.mock.options]\nreplies = '{SECRET}'\n[backends.anthropic]\napi_key_env = 'WORK_KEY'\n"
    )
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    monkeypatch.setenv("GROQ_BASE_URL", f"http://me:{SECRET}@h")
    for arguments in (["show"], ["show", "--json"]):
        result = veyra("config", *arguments)
        assert SECRET not in result.output
    rows = _rows(result)
    assert rows["backends.openai.api_key"]["value"] == rows["backends.groq.api_key"]["value"] == "***"
    assert rows["backends.groq.api_key"]["variable"] == "GROQ_API_KEY"
    assert rows["backends.openai.proxy"]["value"] == "http://***@127.0.0.1:1"
    assert rows["backends.mock.options"]["value"] == {"replies": "***"}
    assert rows["backends.anthropic.api_key_env"]["value"] == "WORK_KEY"
    assert rows["backends.anthropic.api_key_env"]["remark"] == "there is no key"


def test_show_tells_the_profile_and_what_is_refused(veyra: Run, write: Callable[[str], Path]) -> None:
    """A setting of a profile says so, and one that is not used for want of trust says that."""
    path = write(
        "[backends.vllm]\nbase_url = 'http://far.test/v1'\n[profiles.quick.backends.vllm]\nmodel = 'small'\ntimeout = 5\n"
    )
    result = veyra("config", "show", "--profile", "quick")
    assert f"{path}:4 (profile quick)" in result.stdout
    assert f"{path}:2 (not trusted: refused)" in result.stdout
    assert "VEYRA_PROFILE" not in os.environ
    assert "profile quick" in veyra("--profile", "quick", "config", "show").stdout
    assert "profile quick" not in veyra("config", "show").stdout


def test_a_wrong_file_ends_with_2_and_says_where(veyra: Run, write: Callable[[str], Path]) -> None:
    """Every command that needs settings stops at a wrong one, with file, line and the nearest right key."""
    path = write("[audit]\nmod = 'strict'\n")
    for arguments in (
        ["config", "show"],
        ["generate", "hi"],
        ["models"],
        ["health"],
        ["backends"],
        ["generate", "hi", "--audit", "off"],
    ):
        result = veyra(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr == f"Error: {path}:2: unknown key 'audit.mod'; did you mean 'mode'?\n"
        assert result.stdout == ""
    assert veyra("--help").exit_code == veyra("config", "--help").exit_code == 0


def test_an_unknown_profile_ends_with_2(veyra: Run, write: Callable[[str], Path]) -> None:
    """A profile that no file has is wrong use."""
    write("[profiles.test]\n")
    result = veyra("generate", "hi", "--profile", "tset")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: VEYRA_PROFILE: there is no profile 'tset'; did you mean 'test'? Known are test.\n",
    )


# -------------------------------------------------------------------------------------------------- path


def test_path_lists_the_files(veyra: Run, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files are listed with how they were chosen, whether they are there, and how much is wrong."""
    path = write("backend = 1\n[profiles.a]\n")
    own, found = map(json.loads, veyra("config", "path", "--json").stdout.splitlines())
    assert (own["chosen"], own["there"], own["problems"]) == ("user", False, 0)
    assert found == {"path": str(path), "chosen": "found", "there": True, "profiles": ["a"], "problems": 1}
    shown = veyra("config", "path").stdout.splitlines()
    assert shown[1].endswith("your own                                  not there")
    assert shown[2].endswith("found from the working directory upwards  1 wrong: see veyra config check")
    monkeypatch.setenv("VEYRA_CONFIG", "off")
    result = veyra("config", "path")
    assert (result.stdout, result.stderr) == ("", "veyra: no file of settings is read: VEYRA_CONFIG is off\n")
    assert veyra("config", "path", "--json").stdout == ""


# ------------------------------------------------------------------------------------------------- check


def test_check_finds_nothing_where_all_is_well(veyra: Run, write: Callable[[str], Path]) -> None:
    """A right file, in all its profiles, ends with 0; so does having none."""
    write("backend = 'mock'\n[profiles.test.backends.openai]\nmodel = 'm'\napi_key_file = 'nowhere'\n")
    result = veyra("config", "check")
    assert (result.exit_code, result.stdout) == (0, "OK: 1 file of settings and the variables are right.\n")
    assert veyra("config", "check", "--json").stdout == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bakend = 'a'\nmode = 'x'", ["1: unknown key 'bakend'", "2: unknown key 'mode'"]),
        ("[profiles.p.audit]\non_failure = 'spool'", ["2: audit.on_failure goes with the other"]),
        ("[backends.opnai]\nmodel = 'm'", ["2: backends.opnai.model cannot be used: unknown backend 'opnai'"]),
        ("backend = 'opnai'", ["1: backend names the backend 'opnai', which is not known; did you mean 'openai'"]),
        (
            "[client]\ntargets = ['mock:a', 'mok:b']",
            ["2: client.targets names the backend 'mok', which is not known; did"],
        ),
        ("[profiles.p.backends.opnai]\nmodel = 'm'", ["2: backends.opnai.model cannot be used: unknown backend"]),
        ("[backends.mock]\ntimeout = 3", ["2: backends.mock.timeout is of no use"]),
        (
            "[backends.openai]\nbase_url = 'http://far.test'",
            ["2: backends.openai.base_url decides where keys are sent"],
        ),
        ("[backends.groq]\napi = 'responses'", ["2: backends.groq.api cannot be used: backend 'groq' takes"]),
    ],
)
def test_check_tells_all_that_is_wrong(
    text: str, expected: list[str], veyra: Run, write: Callable[[str], Path]
) -> None:
    """Wrong keys, wrong pairs, unknown backends and what they do not take are found in every profile, each once."""
    path = write(text)
    result = veyra("config", "check")
    assert result.exit_code == 1
    assert [line.removeprefix(f"{path}:")[: len(start)] for line, start in zip(result.stdout.splitlines(), expected, strict=True)] == expected  # fmt: skip
    faults = [json.loads(line) for line in veyra("config", "check", "--json").stdout.splitlines()]
    assert [(fault["path"], fault["line"]) for fault in faults] == [(str(path), int(start[0])) for start in expected]


def test_check_finds_wrong_variables(veyra: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that Veyra does not have is told with the nearest one, and so is a wrong value."""
    monkeypatch.setenv("VEYRA_AUDIT_MOD", "strict")
    monkeypatch.setenv("VEYRA_AUDIT_MODE", "loose")
    result = veyra("config", "check")
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith("VEYRA_AUDIT_MOD: Veyra has no such variable; did you mean 'VEYRA_AUDIT_MODE'")
    assert second == "VEYRA_AUDIT_MODE: audit.mode is one of strict, ordered, async, which this text is not"


# ---------------------------------------------------------------------------------------------- commands


def test_generate_asks_the_backend_and_the_model_of_the_settings(veyra: Run, write: Callable[[str], Path]) -> None:
    """An option goes before a variable, and both before the file, whose model is for its own backend."""
    write(
        "backend = 'mock'\nmodel = 'from-file'\n[backends.mock]\nmodel = 'own'\n[profiles.p]\nmodel = 'from-profile'\n"
    )

    def model(*arguments: str) -> object:
        result = veyra("generate", "hi", "--json", *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return json.loads(result.stdout)["model"]

    assert model() == "from-file"
    assert model("--profile", "p") == "from-profile"
    assert model("-m", "option") == "option"
    write("backend = 'ollama'\nmodel = 'from-file'\n[backends.mock]\nmodel = 'own'\n")
    assert model("-b", "mock") == "own"


def test_models_and_health_ask_the_backend_of_the_settings(veyra: Run, write: Callable[[str], Path]) -> None:
    """Commands that name no backend ask the one that is set."""
    write("backend = 'mock'\n[profiles.bad]\nbackend = 'nobody'\n")
    assert [row.split()[0] for row in veyra("health").stdout.splitlines()[1:]] == ["mock"]
    assert veyra("models").exit_code == 0
    for command in ("models", "health"):
        result = veyra(command, "--profile", "bad")
        assert (result.exit_code, "unknown backend 'nobody'" in result.stderr) == (2, True)


def test_a_backend_whose_settings_are_refused_is_listed_so(veyra: Run, write: Callable[[str], Path]) -> None:
    """One backend that cannot be made as it is set does not keep the others from being listed."""
    write("[backends.vllm]\nbase_url = 'http://far.test/v1'\n")
    rows = {line.split()[0]: line for line in veyra("backends").stdout.splitlines()}
    assert "nowhere: see veyra config check" in rows["vllm"]
    assert "http://127.0.0.1:11434" in rows["ollama"]


def test_a_missing_key_says_where_it_was_looked_for(veyra: Run, write: Callable[[str], Path]) -> None:
    """The command names the place that the settings named, not the vendor's usual variable."""
    path = write("backend = 'openai'\nmodel = 'm'\n[backends.openai]\napi_key_env = 'WORK_KEY'\n")
    result = veyra("generate", "hi")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: openai: no API key: the variable WORK_KEY is not set (backends.openai.api_key_env in {path}:4)\n",
    )
    row = next(line for line in veyra("backends").stdout.splitlines() if line.startswith("openai "))
    assert row.endswith("WORK_KEY (not set)")
    assert "no key: WORK_KEY" in veyra("health", "-b", "openai").stdout


def test_a_refused_key_is_named_by_its_place(veyra: Run, write: Callable[[str], Path], echoing: Any) -> None:
    """A key that the provider does not take is to be checked where the settings say that it is."""
    write(f"backend = 'openai'\nmodel = 'm'\n[backends.openai]\nbase_url = '{echoing.url}'\napi_key_file = 'key'\n")
    Path("key").write_text(f"{SECRET}\n")
    result = veyra("generate", "hi")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"Hint: check the key in {Path.cwd() / 'key'}"
    assert SECRET not in result.output
    assert echoing.seen


def test_the_log_is_where_the_file_says(
    veyra: Run, write: Callable[[str], Path], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are recorded in the directory that the settings name, and the audit commands read it there."""
    monkeypatch.delenv("VEYRA_AUDIT_DIR")
    write("[audit]\ndir = 'log'\nmode = 'ordered'\n")
    assert veyra("generate", "hi").exit_code == 0
    assert (project / "log" / "checkpoint").exists()
    assert "mock" in veyra("audit", "list").stdout


def test_the_installed_command_reads_the_file_of_its_directory(write: Callable[[str], Path]) -> None:
    """In a process of its own the command finds the file, and a profile chosen by a variable."""
    path = write("[profiles.p]\nbackend = 'mock'\n")
    done = run("config", "show", env={"VEYRA_PROFILE": "p"})
    assert f"{path}:2 (profile p)" in done.stdout.decode()
    assert done.returncode == 0
