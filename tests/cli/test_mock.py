"""`veyra mock serve`: the fault server as a command, in a process of its own."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import Result

from commands import start
from veyra.transport.base import Head
from veyra.transport.recording import Piece, Recording
from veyra.transport.tape import Tape

HELLO = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()


@dataclass
class Service:
    """A command that serves: its process and what it said of its address."""

    process: Popen[bytes]
    said: dict[str, Any]

    def ask(
        self, path: str = "/v1/chat/completions", body: bytes | None = HELLO, *, fault: str = "", key: str = ""
    ) -> tuple[int, bytes]:
        headers = {"x-veyra-fault": fault, "authorization": key}
        request = Request(
            self.said["url"] + path, data=body, headers={name: value for name, value in headers.items() if value}
        )
        try:
            with urlopen(request) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def end(self, with_signal: signal.Signals = signal.SIGTERM) -> tuple[int, bytes, bytes]:
        """End the command, and return its status and what else it wrote."""
        self.process.send_signal(with_signal)
        out, err = self.process.communicate(timeout=15)
        return self.process.returncode, out, err


@contextmanager
def serving(*args: str) -> Iterator[Service]:
    """Run the command while the context lasts."""
    with started("--json", *args) as process:
        assert process.stdout is not None
        yield Service(process, json.loads(process.stdout.readline()))


@contextmanager
def started(*args: str) -> Iterator[Popen[bytes]]:
    """Run the command while the context lasts, whatever happens in it."""
    with start("mock", "serve", *args) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(how: signal.Signals) -> None:
    """It prints where it is, answers, and ends with status 0 and no word on Ctrl-C and on SIGTERM, answers under way or not."""
    with serving() as service, socket.socket() as waiting:
        status, answer = service.ask()
        assert (status, json.loads(answer)["model"]) == (200, "m")
        assert service.said == {
            "url": f"http://127.0.0.1:{service.said['port']}",
            "openai_url": f"http://127.0.0.1:{service.said['port']}/v1",
            "port": service.said["port"],
        }
        waiting.connect(("127.0.0.1", service.said["port"]))
        request = f"POST /api/chat HTTP/1.1\r\nx-veyra-fault: ping-only\r\ncontent-length: {len(HELLO)}\r\n\r\n"
        waiting.sendall(request.encode() + HELLO)
        assert waiting.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert service.end(how) == (0, b"", b"")


def test_a_person_sees_where_it_is_and_what_was_asked() -> None:
    """Without --json the address and a line for each request go to standard error, and nothing to standard output."""
    with started("--fault", "overloaded") as process:
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        url = first.split()[5]
        service = Service(process, {"url": url})
        assert first == f"veyra: the mock serves at {url} (OpenAI's clients: {url}/v1); Ctrl-C ends it\n"
        service.ask()
        service.ask("/api/version", None)
        status, out, err = service.end()
    assert (status, out) == (0, b"")
    assert err.decode().splitlines() == [
        "veyra: POST /v1/chat/completions 529 overloaded",
        "veyra: GET /api/version 200",
    ]


def test_a_script_from_a_file(tmp_path: Path) -> None:
    """A script says what goes wrong call by call."""
    script = tmp_path / "script.txt"
    script.write_text("# two, then none\noverloaded\nrate-limit@after=1; ok\n")
    with serving("--script", str(script)) as service:
        assert [service.ask()[0] for _ in range(4)] == [529, 429, 200, 200]


def test_replies_from_a_file(tmp_path: Path) -> None:
    """The mock answers what its own script says."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"text": "From a file"}\n')
    with serving("--mock-script", str(replies)) as service:
        assert b"From a file" in service.ask()[1]


def test_a_tape_from_a_file(tmp_path: Path) -> None:
    """What was recorded answers, once each; what was not is an error that says what is nearest."""
    asked = Recording(
        method="POST",
        path="/v1/chat/completions",
        body=HELLO,
        head=Head(200, {"content-type": "application/json", "x-request-id": "req_taped"}),
        pieces=(Piece(0, b'{"from":"tape"}'),),
    )
    Tape((asked,)).save(tmp_path / "tape.jsonl")
    with serving("--tape", str(tmp_path / "tape.jsonl")) as service:
        assert service.ask() == (200, b'{"from":"tape"}')
        status, told = service.ask()
        assert status >= 400
        assert b"was played" in told


def test_faults_by_rate_and_seed() -> None:
    """The same seed makes the same calls go wrong; without a rate all do; a request's own header goes before."""
    args = ("--fault", "overloaded", "--fault", "failure@status=403", "--rate", "0.5", "--seed", "7")
    seen: list[list[int]] = []
    for _ in range(2):
        with serving(*args) as service:
            seen.append([service.ask()[0] for _ in range(12)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 403, 529}
    with serving("--fault", "html-502") as service:
        assert [service.ask()[0], service.ask()[0], service.ask(fault="ok")[0]] == [502, 502, 200]


def test_the_journal_is_a_file_and_a_path(tmp_path: Path) -> None:
    """Each request is added to the file as a line of JSON, keys masked; the same is told over HTTP."""
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"from": "before"}\n')
    with serving("--journal", str(journal), "--fault", "overloaded") as service:
        service.ask(key="Bearer sk-canary-0123456789")
        told = json.loads(service.ask("/_veyra/journal", None)[1])
        service.end()
    first, second = map(json.loads, journal.read_text().splitlines())
    assert (first, [second]) == ({"from": "before"}, told)
    assert (second["path"], second["fault"], second["status"], second["ended"]) == (
        "/v1/chat/completions",
        "overloaded",
        529,
        "answered",
    )
    assert second["headers"]["authorization"] == "Bearer ***"
    assert second["body"]["model"] == "m"


def test_a_journal_that_cannot_be_written_ends_it() -> None:
    """Where the file takes no more, the command says so and ends with status 1."""
    with serving("--journal", "/dev/full") as service:
        service.ask()
        _, err = service.process.communicate(timeout=15)
    assert service.process.returncode == 1
    assert err == b"Error: the journal cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["--fault", "cot@event=3"], 2, "fault 'cot': there is none; there are cut"),
        (["--fault", "cut"], 2, "fault cut: it takes one of byte and event"),
        (
            ["--script", "{file}", "--fault", "overloaded"],
            2,
            "--script says what goes wrong, and so do --fault and --rate",
        ),
        (["--script", "{file}", "--rate", "0.5"], 2, "give one of them"),
        (["--script", "{file}"], 2, "fault 'nonsense': there is none"),
        (["--script", "{binary}"], 2, "binary is not a text in UTF-8"),
        (["--script", "{missing}"], 1, "No such file or directory"),
        (["--journal", "{missing}/x"], 1, "No such file or directory"),
        (["--mock-script", "{file}", "--tape", "{file}"], 2, "--mock-script says what is answered, and so does --tape"),
        (["--mock-script", "{missing}"], 2, "missing"),
        (["--tape", "{missing}"], 2, "cannot be read: No such file"),
        (["--rate", "1.5"], 2, "not in the range 0<=x<=1"),
        (["--port", "70000"], 2, "not in the range 0<=x<=65535"),
        (["--host", "no.such.host.invalid"], 1, "nothing can be served at http://no.such.host.invalid:0: "),
    ],
)
def test_wrong_use_is_told(
    veyra: Callable[..., Result], tmp_path: Path, args: list[str], status: int, words: str
) -> None:
    """What is wrong is named, on one line, before anything is served."""
    (tmp_path / "file").write_text("ok\nnonsense\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    places = {name: str(tmp_path / name) for name in ("file", "binary", "missing")}
    result = veyra("mock", "serve", *[arg.format(**places) for arg in args])
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_told(veyra: Callable[..., Result]) -> None:
    """A taken port is an error with a hint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = veyra("mock", "serve", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "in use" in result.stderr
    assert "Hint: choose another place with --host and --port" in result.stderr
