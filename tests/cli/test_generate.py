from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import Result

from veyra import ModelResponse
from veyra.audit import AuditLog, read_entries
from veyra.errors import AuditWriteError, OverloadedError, QuotaError, RateLimitError, ServerError
from veyra.models.mock import MockBackend
from veyra.models.mock_script import Replies
from veyra.models.registry import register_backend
from veyra.models.stand_in import recording_in
from veyra.types import ModelWarning, Usage

Run = Callable[..., Result]
Attempts = Callable[[], list[dict[str, Any]]]
Script = Callable[[Replies], None]


@pytest.fixture
def scripted() -> Script:
    """Register a backend `parrot` that answers as told."""

    def register(replies: Replies) -> None:
        register_backend("parrot", lambda: MockBackend(replies))

    return register


def _said(content: str, **more: Any) -> ModelResponse:
    return ModelResponse(content, "parrot-1", "parrot", 0.0, 3, 4, "req_1", **more)


# ------------------------------------------------------------------------------------------------- answer


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
@pytest.mark.parametrize(
    ("answer", "printed"),
    [("one two", "one two\n"), ("ends\n", "ends\n"), ("two\n\n", "two\n\n"), ("\x1b[31mred\r", "\x1b[31mred\r\n")],
)
def test_the_answer_alone_is_on_stdout(veyra: Run, scripted: Script, how: str, answer: str, printed: str) -> None:
    """Into a pipe goes the text of the answer, untouched, and one newline at its end where it has none."""
    scripted(answer)
    result = veyra("generate", "hi", "-b", "parrot", how)
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, printed.encode(), "")


def test_text_that_is_no_unicode_is_escaped(veyra: Run, scripted: Script) -> None:
    """A lone surrogate, which models do produce, is written as an escape and stops nothing."""
    scripted("half \ud83d an emoji")
    result = veyra("generate", "hi", "-b", "parrot")
    assert (result.exit_code, result.stdout) == (0, "half \\ud83d an emoji\n")


def test_without_a_backend_the_mock_answers_and_says_so(veyra: Run) -> None:
    """Without a backend one line on stderr says that no model was asked, and how to ask one."""
    result = veyra("generate", "hello there")
    assert result.exit_code == 0
    assert "hello there" in result.stdout
    assert result.stderr.count("\n") == 1
    assert "no model was asked" in result.stderr
    assert "-b BACKEND -m MODEL" in result.stderr
    assert veyra("generate", "hello there", "-b", "mock").stderr == ""


def test_backend_and_model_come_from_the_environment(
    veyra: Run, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VEYRA_BACKEND and VEYRA_MODEL are used where the options are not given."""
    monkeypatch.setenv("VEYRA_BACKEND", "mock")
    monkeypatch.setenv("VEYRA_MODEL", "from-the-environment")
    assert veyra("generate", "hi").stderr == ""
    assert veyra("generate", "hi", "-m", "from-the-option").exit_code == 0
    assert [row["model"] for row in attempts()] == ["from-the-environment", "from-the-option"]


def test_json_tells_the_whole_response(veyra: Run, scripted: Script) -> None:
    """`--json` prints one line with the answer, what it used, how it ended, its warnings and its receipt."""
    warning = ModelWarning("dropped", "seed was not honoured", "seed")
    scripted(_said("hi\ud83d", finish_reason="stop", usage=Usage(input_total=3, output_total=4), warnings=(warning,)))
    result = veyra("generate", "hi", "-b", "parrot", "--json")
    assert result.stdout.count("\n") == 1
    assert result.stdout.isascii()
    told = json.loads(result.stdout)
    assert told["content"] == "hi\ud83d"
    assert told["usage"] == {
        "input_total": 3,
        "input_uncached": None,
        "cache_read": None,
        "cache_write": None,
        "output_total": 4,
        "reasoning": None,
    }
    assert told["warnings"] == [{"code": "dropped", "message": "seed was not honoured", "parameter": "seed"}]
    assert (told["finish_reason"], told["cost"], told["request_id"]) == ("stop", None, "req_1")
    assert told["latency_ms"] >= 0
    assert set(told["receipt"]) == {"origin", "id", "seq", "leaf_hash"}
    assert "warning: seed was not honoured" in result.stderr


@pytest.mark.parametrize(
    ("reason", "words"),
    [("length", "limit of tokens"), ("content_filter", "withheld"), ("tool_calls", "tool"), ("paused", "paused")],
)
def test_an_answer_that_is_not_the_whole_one_is_noted(veyra: Run, scripted: Script, reason: Any, words: str) -> None:
    """A finish reason other than `stop` is told on stderr; the answer and the status stay as they are."""
    scripted(_said("so far", finish_reason=reason))
    result = veyra("generate", "hi", "-b", "parrot")
    assert (result.exit_code, result.stdout) == (0, "so far\n")
    assert words in result.stderr


# ------------------------------------------------------------------------------------------------- prompt


@pytest.mark.parametrize(
    ("argument", "given", "asked"),
    [
        (["from the argument"], None, "from the argument"),
        ([], "from the input\n", "from the input\n"),
        (["first"], "then\nthis\n", "first\n\nthen\nthis\n"),
        (["first"], " \n", "first"),
        ([""], "only the input", "only the input"),
        ([], "caf\u00e9 \u4e2d \U0001f600", "caf\u00e9 \u4e2d \U0001f600"),
    ],
)
def test_the_prompt_is_the_argument_then_the_input(
    veyra: Run, scripted: Script, argument: list[str], given: str | None, asked: str
) -> None:
    """A prompt is the argument, a blank line and standard input, or the one of them that has text."""
    scripted(lambda request: str(request.prompt))
    result = veyra("generate", *argument, "-b", "parrot", input=given)
    assert result.stdout.removesuffix("\n") == asked.removesuffix("\n")


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        ([], "", "there is no prompt"),
        ([" "], " \n", "the prompt is empty"),
        ([], b"caf\xe9 au lait", "standard input is not UTF-8: byte 0xe9 at offset 3"),
        ([], b"a" * (8 * 1024 * 1024 + 1), "longer than the 8,388,608 bytes"),
        (["caf\udce9"], None, "byte 0xe9 at character 3"),
        (["hi", "-b", "opnai"], None, "unknown backend 'opnai'; did you mean 'openai'"),
        (["hi", "-b", "openai"], None, "openai backend needs the name of a model"),
        (["hi", "--max-tokens", "-1"], None, "-1 is not in the range"),
        (["hi", "--temperature", "nan"], None, "temperature is a finite number"),
        (["hi", "--timeout", "0"], None, "0 is not in the range"),
        (["hi", "--max-token", "3"], None, "--max-tokens"),
        (["hi", "-b", "ollama", "-m", "m", "--base-url", "ftp://x"], None, "base_url must look like"),
        (["hi", "-b", "mock", "--base-url", "http://x"], None, "takes no option 'base_url'"),
    ],
)
def test_wrong_use_ends_with_2_and_says_why(
    veyra: Run, log: Path, arguments: list[str], given: str | bytes | None, message: str
) -> None:
    """A command used wrongly prints why on stderr, nothing on stdout, records nothing and ends with 2."""
    result = veyra("generate", *arguments, input=given)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not log.exists()


# ----------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (RateLimitError("slow down", retry_after=7.5), "slow down", "wait 7.5 s and try again"),
        (OverloadedError("no room", request_id="req_9"), "no room (request req_9)", "busy: try again later"),
        (QuotaError("out of credit"), "out of credit", "waiting does not help"),
        (ServerError("broken\nline\x1b[2J", ambiguous=True), "broken line␛[2J", "and may bill it"),
        (RuntimeError("surprise"), "backend 'mock' raised RuntimeError: surprise", None),
    ],
)
def test_a_failed_call_ends_with_1_and_one_line(
    veyra: Run, scripted: Script, error: Exception, message: str, hint: str | None
) -> None:
    """A failed call prints one line on what failed and at most one on what to do, no traceback, and ends with 1."""
    scripted(error)
    result = veyra("generate", "hi", "-b", "parrot")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0] == f"Error: {message}"
    assert len(lines) == (1 if hint is None else 2)
    assert hint is None or hint in lines[1]


def test_a_missing_key_names_its_variable(veyra: Run, log: Path) -> None:
    """Without a key nothing is sent or recorded, and the variable to set is named."""
    result = veyra("generate", "hi", "-b", "openai", "-m", "gpt-6-sol")
    assert result.exit_code == 1
    assert result.stderr == "Error: no API key for openai\nHint: set OPENAI_API_KEY\n"
    assert not log.exists()


def test_a_refused_connection_says_where(veyra: Run, attempts: Attempts) -> None:
    """A server that is not there fails the call with its address in the message."""
    result = veyra("generate", "hi", "-b", "ollama", "-m", "m", "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert [row["status"] for row in attempts()] == ["error"]


# -------------------------------------------------------------------------------------------------- audit


@pytest.mark.parametrize(("audit", "receipt"), [("memory", True), ("off", False)])
def test_audit_can_be_kept_in_memory_or_off(veyra: Run, log: Path, audit: str, receipt: bool) -> None:
    """With `--audit memory` or `off` no file is written."""
    result = veyra("generate", "hi", "-b", "mock", "--audit", audit, "--json")
    assert (json.loads(result.stdout)["receipt"] is not None) is receipt
    assert not log.exists()


def test_audit_can_be_another_directory(veyra: Run, tmp_path: Path, log: Path) -> None:
    """With `--audit DIR` the call is recorded there, and the audit commands read it with `--dir`."""
    other = tmp_path / "other"
    assert veyra("generate", "hi", "-b", "mock", "--audit", str(other)).exit_code == 0
    assert not log.exists()
    assert veyra("audit", "list", "--json", "--dir", str(other)).stdout.count("\n") == 1


def test_the_log_is_closed_with_the_call(veyra: Run, log: Path) -> None:
    """When the command has ended, so has its session in the log."""
    assert veyra("generate", "hi", "-b", "mock").exit_code == 0
    *_, last = read_entries(log)
    assert last.leaf["kind"] == "session.close"


def test_without_a_record_no_call_is_made(veyra: Run, tmp_path: Path) -> None:
    """Where the log cannot be opened the call is refused before the backend is asked, and the hint says what to do."""
    mock = MockBackend("answer")
    register_backend("parrot", lambda: mock)
    occupied = tmp_path / "occupied"
    occupied.write_text("a file, not a directory")
    result = veyra("generate", "hi", "-b", "parrot", "--audit", str(occupied))
    assert (result.exit_code, result.stdout, mock.calls) == (1, "", [])
    assert str(occupied) in result.stderr
    assert "Nothing was sent" in result.stderr
    assert "--audit off" in result.stderr


class _Full(AuditLog):
    """A log with no room for outcomes."""

    async def outcome(self, **_: Any) -> NoReturn:
        """Say so."""
        msg = "no space left"
        raise AuditWriteError(msg)


@pytest.mark.parametrize("how", [["--stream"], ["--no-stream"], ["--json"]])
def test_an_answer_without_a_record_is_shown_and_fails(veyra: Run, scripted: Script, how: list[str]) -> None:
    """Where only the outcome cannot be recorded the answer, which was paid for, is printed, and the status is 1."""
    scripted("paid for")
    with recording_in(_Full.memory()):
        result = veyra("generate", "hi", "-b", "parrot", *how)
    assert result.exit_code == 1
    assert result.stdout.count("paid for") == 1
    assert "no space left" in result.stderr


# --------------------------------------------------------------------------------------------- the mock's script


@pytest.mark.parametrize("arguments", [[], ["-b", "mock"]])
def test_the_mock_answers_from_a_script(
    veyra: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A script that is named by the option or by its variable says what the mock answers."""
    script = tmp_path / "replies.toml"
    script.write_text('[[reply]]\npattern = "(?i)oslo"\ntext = "It snows."\n')
    named = veyra("generate", "Weather in Oslo?", *arguments, "--mock-script", str(script))
    assert (named.exit_code, named.stdout, named.stderr) == (0, "It snows.\n", "")
    monkeypatch.setenv("VEYRA_MOCK_SCRIPT", str(script))
    assert veyra("generate", "oslo", *arguments).stdout == "It snows.\n"
    missed = veyra("generate", "Bergen", *arguments)
    assert missed.exit_code == 2
    assert "no reply for 'Bergen'; nearest of its 1 rules: /(?i)oslo/" in missed.stderr


def test_a_script_is_for_the_mock_alone(veyra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """To name a script for another backend is wrong use; one that the environment names is left alone."""
    refused = veyra("generate", "hi", "-b", "ollama", "-m", "m", "--mock-script", "replies.toml")
    assert refused.exit_code == 2
    assert "--mock-script says what the mock answers, not ollama" in refused.stderr
    monkeypatch.setenv("VEYRA_MOCK_SCRIPT", "nowhere.toml")
    refused = veyra("generate", "hi", "-b", "ollama", "-m", "m", "--base-url", "ftp://x")
    assert "base_url must look like" in refused.stderr
