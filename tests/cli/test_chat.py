"""`veyra chat`: typed at a terminal, and read from a file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from click.testing import Result

from commands import Server, run, start
from terminal import BACKSPACE, CTRL_C, CTRL_D, UP, Terminal
from veyra.errors import QuotaError
from veyra.models.mock import MockBackend
from veyra.models.mock_reply import MockReply
from veyra.models.registry import register_backend
from veyra.models.request import MAX_PROMPT_BYTES

Run = Callable[..., Result]
Attempts = Callable[[], list[dict[str, Any]]]

MOCK = ("chat", "-b", "mock")


def _asked(body: bytes) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in json.loads(body)["messages"]]


@pytest.fixture
def parrot() -> Callable[..., MockBackend]:
    """Register a backend `parrot` that answers as told."""

    def register(replies: Any = None) -> MockBackend:
        mock = MockBackend(replies)
        register_backend("parrot", lambda: mock)
        return mock

    return register


# -------------------------------------------------------------------------------------------- at a terminal


def test_a_person_types_and_is_answered(log: Path) -> None:
    """What is typed, edited and recalled is asked with what was said before; Ctrl-D ends; each call is on record."""
    with Terminal(*MOCK, "--verbose") as terminal:
        terminal.wait_for("/help lists the commands")
        terminal.wait_for("> ")
        terminal.type(f"Helo{BACKSPACE}lo you\r")
        terminal.wait_for("begins: Hello you")
        terminal.wait_for("2 tokens in")
        terminal.wait_for("> ")
        terminal.type(UP + "!\r")
        terminal.wait_for("begins: Hello you!")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.shown
    rows = run("audit", "list", "--json", "--dir", str(log)).stdout.splitlines()
    assert [json.loads(row)["status"] for row in rows] == ["ok", "ok"]


def test_ctrl_c_stops_an_answer_and_keeps_the_chat(holding: Server, log: Path) -> None:
    """What came stays on the screen; what was stopped is on record as cancelled and no part of the conversation."""
    with Terminal("chat", "-b", "ollama", "-m", "m", "--base-url", holding.url) as terminal:
        terminal.wait_for("> ")
        terminal.type("A long story\r")
        terminal.wait_for("first\r\n")
        terminal.type(CTRL_C)
        terminal.wait_for("stopped; ")
        terminal.wait_for("> ")
        holding.go_on.set()
        terminal.type("A short one\r")
        terminal.wait_for("first\r\n")
        terminal.wait_for("second" * 3)
        terminal.wait_for("> ")
        terminal.type("And another\r")
        terminal.wait_for("first\r\n")
        terminal.wait_for("> ")
        terminal.type("/quit\r")
        assert terminal.end() == 0
        assert "Traceback" not in terminal.shown
    assert [_asked(body)[-1][1] for body in holding.seen] == ["A long story", "A short one", "And another"]
    assert [content[:11] for _, content in _asked(holding.seen[2])] == ["A short one", "first\nsecon", "And another"]
    rows = run("audit", "list", "--json", "--dir", str(log)).stdout.splitlines()
    assert [json.loads(row)["status"] for row in rows] == ["cancelled", "ok", "ok"]


def test_an_answer_is_shown_as_it_comes(holding: Server) -> None:
    """A piece is on the screen before the next one was sent, whatever is done to the window meanwhile."""
    with Terminal("chat", "-b", "ollama", "-m", "m", "--base-url", holding.url) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hello\r")
        terminal.wait_for("first\r\n")
        terminal.resize(10, 30)
        assert not holding.go_on.is_set()
        terminal.resize(50, 200)
        holding.go_on.set()
        terminal.wait_for("second" * 3)
        terminal.wait_for("> ")
        terminal.resize(24, 60)
        terminal.type("Hello aga")
        terminal.resize(24, 100)
        terminal.type("in\r")
        terminal.wait_for("second" * 3)
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    assert _asked(holding.seen[1])[-1] == ("user", "Hello again")


def test_ctrl_c_at_the_prompt_gives_up_the_line(log: Path) -> None:
    """A new prompt comes; nothing was asked."""
    with Terminal(*MOCK) as terminal:
        terminal.wait_for("> ")
        terminal.type("never mind")
        terminal.wait_for("never mind")
        terminal.interrupt("> ")
        terminal.type('"""\r')
        terminal.wait_for("... ")
        terminal.interrupt("> ")
        terminal.type("Hello\r")
        terminal.wait_for("begins: Hello")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    assert len(run("audit", "list", "--json", "--dir", str(log)).stdout.splitlines()) == 1


def test_any_script_can_be_typed_and_shown() -> None:
    """Accents, wide characters and emoji go both ways, on several lines as on one."""
    with Terminal(*MOCK) as terminal:
        terminal.wait_for("> ")
        terminal.type("Grüße, 世界 🌍\r")
        terminal.wait_for("begins: Grüße, 世界 🌍")
        terminal.wait_for("> ")
        terminal.type("один \\\r")
        terminal.wait_for("... ")
        terminal.type("два\r")
        terminal.wait_for("2 words in 2 lines")
        terminal.wait_for("> ")
        terminal.type('"""drei\r')
        terminal.wait_for("... ")
        terminal.type('/vier"""\r')
        terminal.wait_for("2 words in 2 lines")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_lines_that_are_pasted_are_one_prompt() -> None:
    """A terminal that says where a paste begins and ends has it taken whole: three lines are not three calls."""
    with Terminal(*MOCK) as terminal:
        terminal.wait_for("> ")
        terminal.paste("one\ntwo\nthree")
        terminal.wait_for("three")
        terminal.type("\r")
        terminal.wait_for("3 words in 3 lines")
        terminal.wait_for("> ")
        terminal.type('"""\r')
        terminal.wait_for("... ")
        terminal.paste('four\nfive"""')
        terminal.type("\r")
        terminal.wait_for("2 words in 2 lines")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_ctrl_d_ends_what_was_begun_on_a_line_of_its_own() -> None:
    """The prompt is asked as it is, and its answer does not begin behind the dots."""
    with Terminal(*MOCK) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hello \\\r")
        terminal.wait_for("... ")
        terminal.type(CTRL_D)
        assert terminal.wait_for("This is the mock").endswith("\r\nThis is the mock")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
        assert terminal.shown.endswith("\r\n")


def test_a_failure_ends_no_chat_with_a_person(tmp_path: Path) -> None:
    """A call that fails, a wrong command and a file that is not there are told, and the next prompt comes."""
    script = tmp_path / "script.jsonl"
    script.write_text('{"error": "QuotaError"}\n{"text": "\\u001b[31mred"}\n')
    with Terminal("chat", "--mock-script", str(script)) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hello\r")
        terminal.wait_for("Error:")
        terminal.wait_for("> ")
        terminal.type("/lod x\r")
        terminal.wait_for("did you mean '/load'")
        terminal.wait_for("> ")
        terminal.type("/load nowhere.json\r")
        terminal.wait_for("cannot be read")
        terminal.wait_for("> ")
        terminal.type("Hello\r")
        terminal.wait_for("␛[31mred")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_the_prompt_is_no_part_of_what_is_written_to_a_file(tmp_path: Path) -> None:
    """Where the answers go elsewhere, the person is asked on standard error."""
    out = tmp_path / "answers"
    with Terminal(*MOCK, out=out) as terminal:
        terminal.wait_for("> ")
        terminal.type("Hello\r")
        terminal.wait_for("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    assert out.read_text().endswith("begins: Hello\n")
    assert out.read_text().count("\n") == 1


# ------------------------------------------------------------------------------------------ from a file


def test_lines_of_a_file_are_prompts_and_answers_alone_are_on_stdout(veyra: Run, parrot: Any) -> None:
    """Each is asked with what was said before; blank lines are none; no prompt sign gets into the output."""
    mock = parrot(["one", "two\n", "three"])
    result = veyra("chat", "-b", "parrot", "--system", "Be brief.", input="a\n\n  \nb\r\nc")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "one\ntwo\nthree\n", "")
    assert [[message.text for message in call.messages] for call in mock.calls][-1] == ["a", "one", "b", "two\n", "c"]
    assert {call.system for call in mock.calls} == {"Be brief."}


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("a\\\nb\n", ["a\nb"]),
        ("a\\", ["a"]),
        ('"""a"""\n', ["a"]),
        ('"""\na\n\n b\n"""\nc\n', ["a\n\n b", "c"]),
        ('  """\n/new\n"""\n', ["/new"]),
        ('"""a\nb', ["a\nb"]),
        ('say """ here\n', ['say """ here']),
        ("//etc\n", ["/etc"]),
        ('""""""\n', []),
        ("\\\n\\\n\n", []),
    ],
)
def test_what_makes_a_prompt(veyra: Run, parrot: Any, typed: str, asked: list[str]) -> None:
    """Backslashes, blocks, and slashes that are no command."""
    mock = parrot()
    assert veyra("chat", "-b", "parrot", input=typed).exit_code == 0
    assert [call.messages[-1].text for call in mock.calls] == asked


def test_commands_change_what_is_asked(veyra: Run, parrot: Any) -> None:
    """Instructions, model, and a new conversation; each is told on standard error."""
    mock = parrot(lambda request: f"{request.model}")
    typed = "a\n/system Be brief.\n/model other\nb\n/new\nc\n/system\n/model\n/quit\nnever\n"
    result = veyra("chat", "-b", "parrot", input=typed)
    assert result.exit_code == 0
    asked = [(len(call.messages), call.system, call.model) for call in mock.calls]
    assert asked == [(1, None, "mock"), (3, "Be brief.", "other"), (1, "Be brief.", "other")]
    assert result.stderr.count("the instructions: Be brief.") == 2
    assert result.stderr.count("the model: other") == 2
    assert result.stdout == "mock\nother\nother\n"


def test_a_conversation_is_saved_and_gone_on_with(veyra: Run, parrot: Any, tmp_path: Path) -> None:
    """By /load and by --load, its instructions with it."""
    place = tmp_path / "chat.json"
    mock = parrot(lambda request: "ok")
    veyra("chat", "-b", "parrot", "--system", "Be brief.", input=f"a\n/save {place}\n")
    assert place.stat().st_mode & 0o777 == 0o600
    result = veyra("chat", "-b", "parrot", "--load", str(place), input=f"b\n/new\n/load {place}\nc\n")
    assert "2 messages from" in result.stderr
    assert [[m.text for m in call.messages] for call in mock.calls] == [["a"], ["a", "ok", "b"], ["a", "ok", "c"]]
    assert [call.system for call in mock.calls] == ["Be brief."] * 3


def test_instructions_come_with_a_conversation(veyra: Run, parrot: Any, tmp_path: Path) -> None:
    """Those of the file go before those set since the chat began; those of the command line go before the file's."""
    place = tmp_path / "chat.json"
    mock = parrot(lambda request: "ok")
    veyra("chat", "-b", "parrot", "--system", "from the file", input=f"a\n/save {place}\n")
    veyra("chat", "-b", "parrot", input=f"/system since\n/load {place}\nb\n/new\nc\n")
    veyra("chat", "-b", "parrot", "--load", str(place), "--system", "from the line", input="d\n/new\ne\n")
    assert [call.system for call in mock.calls] == ["from the file"] * 3 + ["from the line"] * 2
    assert [len(call.messages) for call in mock.calls] == [1, 3, 1, 3, 1]


@pytest.mark.parametrize("typed", [b"a\n", b"/nope\n", b"\xff\n"])
def test_connections_are_closed_however_the_chat_ends(veyra: Run, typed: bytes) -> None:
    """At the end of the input and after a mistake."""
    closed: list[bool] = []

    class Closing(MockBackend):
        async def aclose(self) -> None:
            closed.append(True)

    register_backend("parrot", Closing)
    veyra("chat", "-b", "parrot", input=typed)
    assert closed == [True]


@pytest.mark.parametrize(
    ("typed", "status", "says"),
    [
        (b"a\xff\n", 2, "not UTF-8: byte 0xff"),
        (b"/nope\n", 1, "there is no command /nope"),
        (b"/save\n", 2, "name a file: /save FILE"),
        (b"/quit now\n", 1, "/quit takes nothing after it, not 'now'"),
        (b"/new and hello\n", 1, "/new takes nothing after it, not 'and hello'"),
        (b"/help me\n", 1, "/help takes nothing after it, not 'me'"),
        (b"/exit\n", 1, "there is no command /exit; did you mean '/quit'?"),
        (b"/load /dev/null/x\n", 2, "/dev/null/x"),
        (b"x" * (MAX_PROMPT_BYTES + 1), 2, "longer than the 8,388,608 bytes"),
    ],
)
def test_nobody_there_to_go_on(veyra: Run, typed: bytes, status: int, says: str) -> None:
    """Where no person types, the first thing that is wrong ends the chat, and says why."""
    result = veyra(*MOCK, input=typed + b"never asked\n")
    assert (result.exit_code, result.stdout) == (status, "")
    assert says in result.stderr
    assert result.stderr.startswith("Error:")


def test_a_failed_call_ends_what_no_person_types(veyra: Run, parrot: Any, attempts: Attempts) -> None:
    """With the error and its hint, and status 1; what was answered before is on standard output."""
    parrot(["one", QuotaError("no credit"), "never"])
    result = veyra("chat", "-b", "parrot", input="a\nb\nc\n")
    assert (result.exit_code, result.stdout) == (1, "one\n")
    assert "Error: no credit" in result.stderr
    assert [row["status"] for row in attempts()] == ["ok", "error"]


def test_verbose_says_what_an_answer_used(veyra: Run, parrot: Any) -> None:
    """Tokens, cost and time; what was not stated is unknown, and not zero."""
    parrot([MockReply("hello")])
    result = veyra("chat", "-b", "parrot", "-v", input="a b\n")
    assert "mock: 2 tokens in, 1 tokens out, cost unknown," in result.stderr


def test_ctrl_c_ends_what_no_person_types(holding: Server, log: Path) -> None:
    """With 130 and no message, as `generate` does; the attempt is on record as cancelled."""
    with start("chat", "-b", "ollama", "-m", "m", "--base-url", holding.url, stdin=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Hello\nnever\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    assert (process.returncode, out, err) == (130, b"", b"")
    rows = run("audit", "list", "--json", "--dir", str(log)).stdout.splitlines()
    assert [json.loads(row)["status"] for row in rows] == ["cancelled"]


def test_a_reader_that_leaves_ends_the_chat() -> None:
    """When nobody reads the answers any more nothing more is asked: status 141, and no message."""
    reading, writing = os.pipe()
    os.close(reading)
    with start(*MOCK, stdin=PIPE, stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(b"Hello\nnever\n", timeout=15)
    assert (process.returncode, err) == (141, b"")


def test_a_closed_or_empty_input_ends_at_once(log: Path) -> None:
    """Nothing is asked, and nothing is wrong."""
    result = run(*MOCK)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert not log.exists()


def test_the_chat_says_that_the_mock_answers(veyra: Run) -> None:
    """Where no backend was chosen, as `generate` does."""
    result = veyra("chat", input="hi\n")
    assert "no model was asked" in result.stderr
    assert result.exit_code == 0
