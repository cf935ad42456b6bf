"""The installed command as a shell sees it: pipes, signals, streams that are closed, what it loads."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import Server, run, start

OLLAMA = ("-b", "ollama", "-m", "m")


def _attempts(log: Path) -> list[dict[str, Any]]:
    listed = run("audit", "list", "--json", "--dir", str(log))
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def _first_piece(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_stream_is_written_as_it_comes(holding: Server, log: Path) -> None:
    """A piece of the answer is on standard output before the next one was sent."""
    with start("generate", "hi", *OLLAMA, "--base-url", holding.url) as process:
        assert _first_piece(process) == b"first\n"
        assert process.poll() is None
        holding.go_on.set()
        out, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (0, b"")
    assert out == b"second" * 2000 + b"\n"
    assert [row["status"] for row in _attempts(log)] == ["ok"]


def test_ctrl_c_ends_quietly_and_is_recorded(holding: Server, log: Path) -> None:
    """SIGINT ends the command with 130, no traceback, what came on stdout, and the attempt recorded as cancelled."""
    with start("generate", "hi", *OLLAMA, "--base-url", holding.url) as process:
        assert _first_piece(process) == b"first\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert [row["status"] for row in _attempts(log)] == ["cancelled"]


def test_a_reader_that_leaves_ends_the_call(holding: Server, log: Path) -> None:
    """When nobody reads the answer any more the command ends with 141 and no message, recorded as cancelled."""
    with start("generate", "hi", *OLLAMA, "--base-url", holding.url) as process:
        assert _first_piece(process) == b"first\n"
        assert process.stdout is not None
        process.stdout.close()
        holding.go_on.set()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert [row["status"] for row in _attempts(log)] == ["cancelled"]


def test_a_list_whose_reader_leaves_ends_quietly(log: Path) -> None:
    """`veyra audit list | head -1` prints no complaint about the closed pipe."""
    for _ in range(2):
        assert run("generate", "hi", "-b", "mock").returncode == 0
    reading, writing = os.pipe()
    os.close(reading)
    with start("audit", "list", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (141, b"")


def test_what_came_before_a_failure_ends_its_line(holding: Server) -> None:
    """The text of an answer that breaks off stays on stdout, its last line ended."""
    holding.first, holding.cut = "half a sent", True
    holding.go_on.set()
    done = run("generate", "hi", *OLLAMA, "--base-url", holding.url)
    assert (done.returncode, done.stdout) == (1, b"half a sent\n")


def test_an_answer_that_takes_too_long_is_given_up(holding: Server, log: Path) -> None:
    """After `--timeout` seconds the call fails, with the option to allow more named, and is recorded as timed out."""
    done = run("generate", "hi", *OLLAMA, "--base-url", holding.url, "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (1, b"first\n")
    assert b"not complete within 0.5 s" in done.stderr
    assert b"--timeout SECONDS" in done.stderr
    assert [row["status"] for row in _attempts(log)] == ["timeout"]


@pytest.mark.parametrize("fault", ["cut", "refused"])
def test_a_failure_is_a_line_and_no_traceback(fault: str, holding: Server, log: Path) -> None:
    """A stream cut before its end, or a server that is not there, gives status 1 and plain words."""
    url = holding.url if fault == "cut" else "http://127.0.0.1:9"
    if fault == "cut":
        holding.cut = True
        holding.go_on.set()
    done = run("generate", "hi", *OLLAMA, "--base-url", url)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: ")
    assert b"Traceback" not in done.stderr
    assert done.stdout == (b"first\n" if fault == "cut" else b"")
    assert [row["status"] for row in _attempts(log)] == ["incomplete" if fault == "cut" else "error"]


def test_a_terminal_is_never_waited_for() -> None:
    """Without a prompt and with a terminal for standard input the command says how to give a prompt, and ends with 2."""
    keyboard, terminal = pty.openpty()
    try:
        done = run("generate", stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == 2
    assert b"there is no prompt" in done.stderr
    assert b"veyra generate < FILE" in done.stderr


def test_a_terminal_gets_no_control_characters() -> None:
    """On a terminal an answer's escape sequences show as symbols."""
    screen, terminal = pty.openpty()
    try:
        with start("generate", "\x1b]0;owned\x07 last-word", "-b", "mock", stdout=terminal) as process:
            os.close(terminal)
            shown = b""
            while b"last-word" not in shown:
                shown += os.read(screen, 4096)
            process.communicate(timeout=15)
    finally:
        os.close(screen)
    assert b"\x1b" not in shown
    assert "␛]0;owned␇".encode() in shown


def test_closed_streams_are_no_failure() -> None:
    """With standard input and output closed the call is made and recorded all the same."""
    command = f"{Path(sys.executable).parent / 'veyra'} generate hi -b mock <&- >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=15, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_a_full_disk_is_said_in_words(how: str) -> None:
    """An answer that cannot be written ends the command with 1 and one line."""
    with Path("/dev/full").open("wb") as full, start("generate", "hi", "-b", "mock", how, stdout=full) as process:
        _, err = process.communicate(timeout=15)
    assert (process.returncode, err.count(b"\n")) == (1, 1)
    assert err.startswith(b"Error: standard output cannot be written")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_error_loses_no_answer() -> None:
    """A note that cannot be written is no reason to fail."""
    with Path("/dev/full").open("wb") as full, start("generate", "hi", stderr=full) as process:
        out, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    assert out.startswith(b"This is the mock")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_any_answer_can_be_printed(locale: str) -> None:
    """Text beyond the locale's characters goes out as UTF-8 where the locale has no other encoding."""
    done = run("generate", "caf\u00e9 \U0001f600", "-b", "mock", env={"LC_ALL": locale})
    assert done.returncode == 0
    assert "caf\u00e9 \U0001f600".encode() in done.stdout


def test_the_help_loads_no_library_it_does_not_need() -> None:
    """`veyra --help` and `--version` load no event loop, no HTTP library and no room of the house but the command's."""
    code = (
        "import sys; from veyra.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, timeout=15, check=True)
        loaded = set(eval(done.stderr))
        assert not {"aiohttp", "asyncio", "msgspec", "ssl", "sqlite3", "veyra.types", "veyra.models"} & loaded


CANARY = "canary-5f1d0c9ab2e74d63"


@pytest.mark.timeout(60)  # it starts a dozen processes
def test_a_key_is_nowhere(echoing: Server, log: Path, tmp_path: Path) -> None:
    """A key that the provider sends back in errors, header names and ids is in no output and no file."""
    keys = {"OPENAI_API_KEY": CANARY, "ANTHROPIC_API_KEY": CANARY, "OLLAMA_API_KEY": CANARY}
    said = b""
    for backend in ("openai", "anthropic", "ollama"):
        for how in ("--stream", "--json"):
            done = run("generate", "hi", "-b", backend, "-m", "m", "--base-url", echoing.url, how, env=keys)
            assert done.returncode == 1
            said += done.stdout + done.stderr
    for command in (
        ("backends",),
        ("backends", "--json"),
        ("health", "-b", "openai"),
        ("audit", "list"),
        ("audit", "show", "1", "--bodies"),
        ("audit", "show", "1", "--json", "--bodies"),
        ("audit", "verify", "--json"),
    ):
        done = run(*command, env=keys)
        said += done.stdout + done.stderr
    assert b"OPENAI_API_KEY (set)" in said
    assert len(echoing.seen) == 6
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert CANARY.encode() not in said
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
