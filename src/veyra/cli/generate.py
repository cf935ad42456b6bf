"""`veyra generate`: one prompt, one answer."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from veyra.cli import show
from veyra.cli.asked import asked
from veyra.cli.failure import Misuse
from veyra.cli.profile import profile_option
from veyra.cli.prompt import read_prompt
from veyra.errors import AuditWriteError
from veyra.models.endpoints import ENDPOINTS
from veyra.models.gate import Gate
from veyra.models.registry import get_backend
from veyra.types import ModelResponse, Options, TextDelta

_UNASKED = "no model was asked, this is the mock; ask one with -b BACKEND -m MODEL (see veyra backends)"
_ENDINGS = {
    "length": "the answer stops at the limit of tokens",
    "content_filter": "the provider withheld the answer or a part of it",
    "tool_calls": "the model asked for a tool, which this command does not run",
    "paused": "the provider paused the answer before its end",
    "other": "the provider ended the answer for a reason of its own",
}


class _Printer:
    """Puts an answer on standard output, in pieces or whole, and one newline at its end where it has none."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = ""

    def piece(self, text: str) -> None:
        """Write the next piece."""
        if text and not self._quiet:
            show.answer(text)
            self._last = text[-1]

    def end(self, whole: str) -> None:
        """Write the whole answer where no piece of it was written, and end its last line."""
        if not self._last:
            self.piece(whole)
        if self._last != "\n":
            self.piece("\n")

    def cut(self) -> None:
        """End the last line of an answer that broke off, where something of it came."""
        if self._last:
            self.end("")


@click.command("generate")
@click.argument("prompt", required=False)
@click.option(
    "-b",
    "--backend",
    metavar="NAME",
    envvar="VEYRA_BACKEND",
    show_envvar=True,
    help="Who is asked; see veyra backends.",
)
@click.option("-m", "--model", metavar="NAME", envvar="VEYRA_MODEL", show_envvar=True, help="The model to ask.")
@click.option("--system", metavar="TEXT", help="Instructions that come before the prompt.")
@click.option("--stream/--no-stream", default=True, show_default=True, help="Print the answer as it comes.")
@click.option("--max-tokens", metavar="N", type=click.IntRange(min=0), help="Tokens the answer may have at most.")
@click.option(
    "--temperature", metavar="NUMBER", type=click.FloatRange(min=0), help="How freely the model chooses its words."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How long the answer may take in all.",
)
@click.option("--base-url", metavar="URL", help="Where the backend is, instead of its own address.")
@click.option(
    "--mock-script",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="VEYRA_MOCK_SCRIPT",
    show_envvar=True,
    help="What the mock answers: replies in TOML or JSONL.",
)
@profile_option
@click.option("--audit", metavar="DIR|memory|off", help="Where the call is recorded, instead of the usual log.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole response as one JSON object.")
def command(
    *,
    prompt: str | None,
    backend: str | None,
    model: str | None,
    system: str | None,
    stream: bool,
    max_tokens: int | None,
    temperature: float | None,
    timeout: float | None,
    base_url: str | None,
    mock_script: Path | None,
    audit: str | None,
    as_json: bool,
) -> None:
    """Ask a model and print its answer.

    What is asked is PROMPT, or standard input, or both: first PROMPT, then a blank line, then the input. The answer goes
    to standard output, everything else to standard error. Without a backend the mock answers, which asks no model.

    Exit status: 0 answered, 1 the call failed, 2 wrong use, 130 interrupted.

    \b
    Example:
      veyra generate "Summarise this" -b openai -m MODEL < notes.txt
    """  # noqa: D301  (\b keeps the lines of the example)
    text = read_prompt(prompt)
    backend, model = asked(backend, model)
    if backend in ENDPOINTS and model is None:
        message = f"the {backend} backend needs the name of a model"
        raise Misuse(message, hint="name one with -m MODEL, VEYRA_MODEL, or in veyra.toml")
    script = _script(backend, mock_script)
    gate = _open("mock" if backend is None else backend, audit, base_url=base_url, replies=script)
    if backend is None and script is None:
        show.note(_UNASKED)
    options = _given(model=model, system=system, max_tokens=max_tokens, temperature=temperature, timeout=timeout)
    printer = _Printer(quiet=as_json)
    try:
        response = asyncio.run(_ask(gate, text, cast("Options", options), printer if stream else None))
    except AuditWriteError as error:
        if error.response is not None:  # paid for, so not to be lost; the status still says that it failed
            _finish(error.response, printer, as_json=as_json)
        raise
    except BaseException:
        printer.cut()
        raise
    finally:
        if gate.log is not None:
            gate.log.close()
    _finish(response, printer, as_json=as_json)


def _open(name: str, audit: str | None, **options: object) -> Gate:
    given: dict[str, Any] = _given(**options)
    return get_backend(name, audit=audit, **given)


def _script(backend: str | None, script: Path | None) -> Path | None:
    """Return the mock's script where the mock is asked; one that the environment names is not for others, and no mistake."""
    if backend in {None, "mock"} or script is None:
        return script
    if click.get_current_context().get_parameter_source("mock_script") is ParameterSource.COMMANDLINE:
        message = f"--mock-script says what the mock answers, not {backend}"
        raise Misuse(message, hint="leave out -b, or the script")
    return None


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


async def _ask(gate: Gate, prompt: str, options: Options, printer: _Printer | None) -> ModelResponse:
    async with gate:
        if printer is None:
            return await gate.generate(prompt, **options)
        async with gate.stream(prompt, **options) as reply:
            async for event in reply:
                if isinstance(event, TextDelta):
                    printer.piece(event.text)
        return reply.response


def _finish(response: ModelResponse, printer: _Printer, *, as_json: bool) -> None:
    if as_json:
        show.record(_record(response))
    else:
        printer.end(response.content)
    for warning in response.warnings:
        show.note(f"warning: {warning.message}")
    if response.finish_reason in _ENDINGS:
        show.note(_ENDINGS[response.finish_reason])


def _record(response: ModelResponse) -> dict[str, object]:
    """The response as it is shown by `--json`; the provider's own blocks are in the log."""
    record = asdict(response)
    del record["parts"], record["output"]
    return record
