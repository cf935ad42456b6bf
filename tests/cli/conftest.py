from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from commands import Server
from veyra.cli.main import cli

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def veyra() -> Callable[..., Result]:
    """Run the command in this process: `veyra("generate", "hi", input=...)`."""

    def run(*args: str, input: str | bytes | None = None) -> Result:  # noqa: A002  (click's name)
        result = CliRunner().invoke(cli, args, input=input, prog_name="veyra")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The directory that calls of this test are recorded in."""
    return tmp_path / "audit-log"


@pytest.fixture
def attempts(veyra: Callable[..., Result]) -> Callable[[], list[dict[str, Any]]]:
    """Read the log as `veyra audit list --json` tells it."""

    def read() -> list[dict[str, Any]]:
        result = veyra("audit", "list", "--json")
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    return read


# ------------------------------------------------------------------------------------------------ servers


def _serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def providers() -> Iterator[str]:
    """The address of the example server that speaks the formats of three providers."""
    spec = spec_from_file_location("loopback_providers", ROOT / "examples" / "loopback_providers.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield from _serve(module.Loopback)


@pytest.fixture
def holding() -> Iterator[Server]:
    """An Ollama that sends one piece of an answer and the rest when `go_on` is set."""
    server = Server("")

    def line(content: str, **more: object) -> bytes:
        return json.dumps({"message": {"role": "assistant", "content": content}, "done": False} | more).encode() + b"\n"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.seen.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-ndjson")
            self.end_headers()
            self.wfile.write(line(server.first))
            server.go_on.wait(15)
            if server.cut:
                return
            try:
                for _ in range(2000):
                    self.wfile.write(line("second"))
                self.wfile.write(line("", done=True, done_reason="stop"))
            except ConnectionError:
                return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    for url in _serve(Handler):
        server.url = url
        yield server
        server.go_on.set()


@pytest.fixture
def echoing() -> Iterator[Server]:
    """A provider that refuses every call with an error that holds the headers it was sent."""
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.seen.append(self.rfile.read(int(self.headers["content-length"])))
            said = json.dumps({"error": {"message": f"bad key: {self.headers}", "type": str(self.headers)}}).encode()
            self.send_response(401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.send_header("x-request-id", self.headers.get("authorization", "none").split()[-1])
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    for url in _serve(Handler):
        server.url = url
        yield server
