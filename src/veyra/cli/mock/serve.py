"""`veyra mock serve`: the fault server as a command."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack, suppress
from io import FileIO
from pathlib import Path

import click

from veyra.cli import show
from veyra.cli.failure import Failure, Misuse
from veyra.models.mock import MockBackend
from veyra.testing.faults import ENDING, plan
from veyra.testing.server import FaultServer, Seen
from veyra.transport.faults import Fault, parse, parse_script
from veyra.transport.tape import Tape, TapeTransport

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@click.command("serve")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="The port; without it, or with 0, a free one."
)
@click.option(
    "--mock-script",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="VEYRA_MOCK_SCRIPT",
    show_envvar=True,
    help="What the mock answers: replies in TOML or JSONL.",
)
@click.option(
    "--tape",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What was recorded answers, in the place of the mock.",
)
@click.option(
    "--script",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What goes wrong, call by call: faults and ok, one on a line.",
)
@click.option("--fault", "faults", metavar="FAULT", multiple=True, help="What goes wrong; may be given several times.")
@click.option(
    "--rate", metavar="SHARE", type=click.FloatRange(0, 1), help="How many of the calls go wrong, from 0 to 1."
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Which calls these are.")
@click.option(
    "--journal",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Add each request to this file when it is over, as a line of JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the address as one JSON object, and nothing else.")
def command(
    *,
    host: str,
    port: int,
    mock_script: Path | None,
    tape: Path | None,
    script: Path | None,
    faults: tuple[str, ...],
    rate: float | None,
    seed: int,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Speak as OpenAI, Anthropic, Gemini and Ollama do, until interrupted.

    The mock answers, as it does for veyra generate. A request may ask for a fault of its own with the header x-veyra-fault; what was asked is to be had at
    /_veyra/journal, keys masked. Only this machine is served, unless --host says otherwise.

    Exit status: 0 interrupted or terminated, 1 it could not go on, 2 wrong use.

    \b
    Example:
      veyra mock serve --port 8080 --fault rate-limit@after=1 --fault cut@event=3 --rate 0.2 --seed 7
    """  # noqa: D301  (\b keeps the lines of the example)
    if mock_script is not None and tape is not None:
        message = "--mock-script says what is answered, and so does --tape: give one of them"
        raise Misuse(message)
    with ExitStack() as stack:
        file = None if journal is None else stack.enter_context(journal.open("ab", buffering=0))
        service = _Service(file, as_json=as_json)
        server = FaultServer(
            None if mock_script is None else MockBackend.from_file(mock_script),
            tape=None if tape is None else TapeTransport(Tape.load(tape)),
            faults=_steps(script, faults, rate, seed),
            host=host,
            port=port,
            told=service.tell,
        )
        asyncio.run(service.run(server))


def _steps(script: Path | None, faults: tuple[str, ...], rate: float | None, seed: int) -> Iterable[Fault | None]:
    if script is not None:
        if faults or rate is not None:
            message = "--script says what goes wrong, and so do --fault and --rate: give one of them"
            raise Misuse(message)
        try:
            return parse_script(script.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            message = f"{script} is not a text in UTF-8"
            raise Misuse(message) from None
    if rate is None and not faults:
        return ()
    choices = tuple(parse(fault) for fault in faults) or ENDING
    return plan(seed=seed, rate=1.0 if rate is None else rate, choices=choices)


class _Service:
    """A server that runs, what is written of it, and its end.

    Args:
        journal: where requests are written to.
        as_json: whether nothing is shown but the address.
    """

    def __init__(self, journal: FileIO | None, *, as_json: bool) -> None:
        self._journal = journal
        self._as_json = as_json
        self._stop = asyncio.Event()
        self._failure: OSError | None = None

    async def run(self, server: FaultServer) -> None:
        """Serve until a signal comes, or the journal cannot be written.

        Raises:
            Failure: it cannot be served, or the journal cannot be written.
        """
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(server)
            except OSError as error:
                message = f"nothing can be served at {server.url}: {error.strerror or error}"
                raise Failure(message, hint="choose another place with --host and --port") from None
            self._announce(server)
            loop = asyncio.get_running_loop()
            for number in _STOPPING:
                with suppress(NotImplementedError):  # Windows: there, Ctrl-C ends the command as any other
                    loop.add_signal_handler(number, self._stop.set)
            await self._stop.wait()
        if self._failure is not None:
            message = f"the journal cannot be written: {self._failure.strerror or self._failure}"
            raise Failure(message)

    def _announce(self, server: FaultServer) -> None:
        if self._as_json:
            show.record({"url": server.url, "openai_url": server.openai_url, "port": server.port})
            return
        show.note(f"the mock serves at {server.url} (OpenAI's clients: {server.openai_url}); Ctrl-C ends it")

    def tell(self, seen: Seen) -> None:
        """Write down a request that is over."""
        if not self._as_json:
            words = (
                seen.method or "?",
                seen.path or "?",
                str(seen.status or "-"),
                seen.fault,
                None if seen.ended == "answered" else seen.ended,
            )
            show.note(" ".join(word for word in words if word is not None))
        if self._journal is None or self._failure is not None:
            return
        line = json.dumps(seen.record()).encode() + b"\n"
        try:
            while line:
                line = line[self._journal.write(line) :]
        except OSError as error:
            self._failure = error
            self._stop.set()
