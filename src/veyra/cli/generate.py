"""`veyra generate`: one prompt, one answer."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Unpack

import click

from veyra.cli import show
from veyra.cli.answer import Printer, tell, tell_failed
from veyra.cli.asking import Chosen, asking_options, opened
from veyra.cli.prompt import read_prompt
from veyra.client.client import Client
from veyra.errors import AuditWriteError, VeyraError
from veyra.types import ModelResponse, Options, TextDelta


@click.command("generate")
@click.argument("prompt", required=False)
@asking_options
@click.option(
    "--fallback",
    "fallback",
    metavar="BACKEND:MODEL",
    multiple=True,
    help="Who is asked where that fails; may be given again.",
)
@click.option("--stream/--no-stream", default=True, show_default=True, help="Print the answer as it comes.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole response as one JSON object.")
def command(
    *, prompt: str | None, fallback: tuple[str, ...], stream: bool, as_json: bool, **chosen: Unpack[Chosen]
) -> None:
    """Ask a model and print its answer.

    What is asked is PROMPT, or standard input, or both: first PROMPT, then a blank line, then the input. The answer goes
    to standard output, everything else to standard error. Without a backend the mock answers, which asks no model.

    Nobody else is asked, and nothing again, once a piece of an answer was printed.

    Exit status: 0 answered, 1 the call failed, 2 wrong use, 130 interrupted.

    \b
    Example:
      veyra generate "Summarise this" -b openai -m MODEL < notes.txt
      veyra generate "Hello" -b openai -m MODEL --fallback ollama:llama3.2
    """  # noqa: D301  (\b keeps the lines of the example)
    text = read_prompt(prompt)
    with opened(chosen, fallback) as (client, options):
        printer = Printer(quiet=as_json)
        try:
            response = asyncio.run(_ask(client, text, options, printer if stream else None))
        except AuditWriteError as error:
            if error.response is not None:  # paid for, so not to be lost; the status still says that it failed
                _finish(error.response, printer, as_json=as_json)
            raise
        except BaseException as error:
            printer.cut()
            if isinstance(error, VeyraError):
                tell_failed(error.attempts[:-1])
            raise
    _finish(response, printer, as_json=as_json)


async def _ask(client: Client, prompt: str, options: Options, printer: Printer | None) -> ModelResponse:
    async with client:
        if printer is None:
            return await client.generate(prompt, **options)
        async with client.stream(prompt, **options) as reply:
            async for event in reply:
                if isinstance(event, TextDelta):
                    printer.piece(event.text)
        return reply.response


def _finish(response: ModelResponse, printer: Printer, *, as_json: bool) -> None:
    if as_json:
        show.record(_record(response))
    else:
        printer.end(response.content)
    tell(response)


def _record(response: ModelResponse) -> dict[str, object]:
    """The response as it is shown by `--json`; the provider's own blocks are in the log."""
    record = asdict(response)
    del record["parts"], record["output"]
    return record
