"""A canary key, and everything a person or a program could see of a call that fails."""

from __future__ import annotations

import asyncio
import json
import traceback
from pathlib import Path

import pytest

from loopback import CLOSE, RESET, STALL, Loopback, Play, Received, reply
from veyra import get_backend
from veyra.errors import InvalidRequestError, VeyraError

KEY = "sk-canary-5f0e9d2c7b"
PLACES = {"openai": "/v1", "anthropic": "", "ollama": "", "gemini": ""}


def _echo(request: Received) -> Play:
    """Say the request's headers back in an error, as a careless server would."""
    body = json.dumps({"error": {"message": str(dict(request.headers)), "type": "authentication_error"}})
    return reply(401, {"content-type": "application/json", "x-request-id": KEY}, body.encode())


FAILURES: dict[str, Play | None] = {
    "echo": None,
    "garbage": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n{\xff{"],
    "not http": [b"hello there\r\n\r\n", CLOSE],
    "reset": [RESET],
    "cut": [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {", CLOSE],
    "stall": [STALL],
}


def _seen(error: BaseException) -> str:
    """Everything that shows of an error: its words, its fields and every local variable of every frame."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    fields = repr({name: getattr(error, name, None) for name in ("partial", "provider_code", "request_id")})
    return str(error) + repr(error) + fields + "".join(told.format())


async def _call(name: str, url: str, directory: Path, *, stream: bool, timeout: float = 10) -> BaseException:  # noqa: ASYNC109
    backend = get_backend(name, model="m", api_key=KEY, base_url=url + PLACES[name], audit=directory)
    try:
        async with backend:
            if stream:
                async with backend.stream("Hi", timeout=timeout) as answer:
                    async for _ in answer:
                        pass
            else:
                await backend.generate("Hi", timeout=timeout)
    except VeyraError as error:
        return error
    finally:
        if backend.log is not None:
            await backend.log.aclose()
    msg = "the call must fail"
    raise AssertionError(msg)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_shows_nowhere(
    name: str, failure: str, stream: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No failure shows the key: not in the error, not in a frame of its traceback, not on a stream, not in a file."""
    play = FAILURES[failure]
    async with Loopback(_echo if play is None else lambda _: play) as server:
        wait = 0.5 if failure == "stall" else 10
        error = await _call(name, server.url, tmp_path / "log", stream=stream, timeout=wait)
        assert any(KEY in value for request in server.requests for value in request.headers.values())
    shown = _seen(error) + "".join(capfd.readouterr())
    assert KEY not in shown
    files = [path for path in (tmp_path / "log").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_a_key_does_not_show_where_the_backend_could_not_be_made() -> None:
    """A wrong option beside a key does not bring the key into the traceback of ours."""
    with pytest.raises(InvalidRequestError) as caught:
        get_backend("openai", api_key=KEY, base_url="ftp://nowhere")
    assert KEY not in _seen(caught.value)


async def test_a_connection_that_cannot_be_made_shows_no_key(tmp_path: Path) -> None:
    """Refused, unknown and untrusted hosts: the words say the place and not the key."""
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid", f"https://127.0.0.1:{port}"):
        error = await _call("anthropic", url, tmp_path / "log", stream=False)
        assert KEY not in _seen(error)
        assert url.split("//")[1].split(":")[0] in str(error)
    server.close()
    await server.wait_closed()
