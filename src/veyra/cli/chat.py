"""`veyra chat`: a conversation at the terminal, or from a file of prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Unpack

import click

from veyra.cli import show
from veyra.cli.answer import Printer, tell, tell_failed
from veyra.cli.asking import Chosen, asking_options, opened
from veyra.cli.failure import Failure, explain
from veyra.cli.typed import Typed
from veyra.client.client import Client
from veyra.client.conversation import Conversation
from veyra.errors import InvalidRequestError, VeyraError, excerpt, near
from veyra.types import ModelResponse, Options, TextDelta

_WELCOME = "/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends"
_HELP = (
    ("/new", "begin a new conversation"),
    ("/system [TEXT]", "set the instructions, or show them"),
    ("/model [NAME]", "ask another model of the same backend, or show which is asked"),
    ("/save FILE", "write the conversation to a file"),
    ("/load FILE", "go on with a conversation from a file"),
    ("/quit", "end; so does Ctrl-D"),
    ("/help", "show this"),
    ("//...", "a prompt that begins with a slash"),
    ('TEXT\\ or """', "go on in the next line; a block of lines until the next three quotes"),
)
_ALONE = {"/new", "/help", "/quit"}
_SLASH = "/help lists the commands; a prompt that begins with a slash begins with two: //"


@click.command("chat")
@asking_options
@click.option(
    "--load", "file", metavar="FILE", type=click.Path(path_type=Path), help="Go on with a conversation from a file."
)
@click.option("-v", "--verbose", is_flag=True, help="Say what each answer used and cost.")
def command(*, file: Path | None, verbose: bool, **chosen: Unpack[Chosen]) -> None:
    """Talk with a model: each prompt is asked with all that was said before.

    Prompts are typed, or read from standard input, one to a line. A line that ends in a backslash goes on in the next, and
    three double quotes begin and end a block of lines. The answers go to standard output, everything else to standard error.
    /help lists the commands. Ctrl-C stops an answer, which is then no part of the conversation, and Ctrl-D ends the chat.

    Every call is on the record, stopped ones too. The conversation itself is kept only by /save.

    Exit status: 0 ended, 1 a call failed and nobody was there to go on, 2 wrong use.

    \b
    Example:
      veyra chat -b ollama -m llama3.2 --system "Answer briefly."
    """  # noqa: D301  (\b keeps the lines of the example)
    with opened(chosen) as (client, options), asyncio.Runner() as runner:
        try:
            chat = Chat(client, options, runner, Typed(), verbose=verbose)
            if file is not None:
                chat.load(str(file))
                if chosen["system"] is not None:
                    chat.instruct(chosen["system"])
            chat.run()
        finally:
            runner.run(client.aclose())


class Chat:
    """A conversation, and the person or file that it is had with.

    Args:
        client: who is asked.
        options: what each call gets; `system` goes with the conversation.
        runner: runs the calls, all on one loop, so that connections are kept.
        typed: what is asked.
        verbose: say what each answer used and cost.
    """

    def __init__(
        self, client: Client, options: Options, runner: asyncio.Runner, typed: Typed, *, verbose: bool
    ) -> None:
        self._client = client
        self._options = options
        self._runner = runner
        self._typed = typed
        self._verbose = verbose
        self._conversation = Conversation(client, **options)

    def run(self) -> None:
        """Ask what is typed until its end, or until /quit.

        Raises:
            VeyraError: a call failed, and it was no person who typed.
            Failure: a command was wrong, and it was no person who typed.
            KeyboardInterrupt: Ctrl-C was pressed, and it was no person who typed.
        """
        typed = self._typed
        if typed.is_person:
            show.note(_WELCOME)
        while True:
            try:
                text = typed.next()
                if text is None or not self._take(text):
                    return
            except KeyboardInterrupt:
                if not typed.is_person:
                    raise
                show.blank()
            except (VeyraError, Failure) as error:
                if not typed.is_person:
                    raise
                (error if isinstance(error, Failure) else explain(error)).show()

    def _take(self, text: str) -> bool:
        """Obey a command or ask a prompt; tell whether to go on."""
        if text.strip() == "/quit":
            return False
        if not text.startswith("/") or text.startswith("//"):
            self._ask(text.removeprefix("/") if text.startswith("//") else text)
            return True
        word, *rest = text.split(maxsplit=1)
        argument = rest[0].strip() if rest else ""
        if word in _ALONE and argument:
            message = f"{word} takes nothing after it, not {excerpt(argument)!r}"
            raise Failure(message, hint=_SLASH)
        command = self._commands.get(word)
        if command is None:
            message = f"there is no command {word}{near(word, (*self._commands, '/quit'))}"
            raise Failure(message, hint=_SLASH)
        command(self, argument)
        return True

    def _ask(self, prompt: str) -> None:
        printer = Printer()
        try:
            response = self._runner.run(self._answer(prompt, printer))
        except KeyboardInterrupt:
            printer.cut()
            if not self._typed.is_person:
                raise
            show.blank()
            show.note("stopped; what was asked and answered just now is no part of the conversation")
            return
        except VeyraError as error:
            printer.cut()
            tell_failed(error.attempts[:-1])
            raise
        printer.end(response.content)
        tell(response)
        if self._verbose:
            show.note(_used(response))

    async def _answer(self, prompt: str, printer: Printer) -> ModelResponse:
        async with self._conversation.stream(prompt) as reply:
            async for event in reply:
                if isinstance(event, TextDelta):
                    printer.piece(event.text)
        return reply.response

    # ------------------------------------------------------------------------------------------ commands

    def instruct(self, text: str) -> None:
        """Set the instructions of the conversation, and of those that are begun after it."""
        self._options["system"] = text
        self._go_on()

    def load(self, name: str) -> None:
        """Go on with the conversation in a file, and with its instructions."""
        _needs(name, "/load FILE")
        options = self._options.copy()
        options.pop("system", None)
        self._conversation = Conversation.load(name, self._client, **options)
        self._options = options
        if self._conversation.system is not None:
            options["system"] = self._conversation.system
        show.note(f"{len(self._conversation.messages)} messages from {name}")

    def _save(self, name: str) -> None:
        _needs(name, "/save FILE")
        self._conversation.save(name)
        show.note(f"{len(self._conversation.messages)} messages to {name}")

    def _new(self, _rest: str) -> None:
        self._conversation = Conversation(self._client, **self._options)
        show.note("a new conversation")

    def _system(self, text: str) -> None:
        if text:
            self.instruct(text)
        show.note(f"the instructions: {self._conversation.system or 'none'}")

    def _model(self, name: str) -> None:
        if name:
            self._options["model"] = name
            self._go_on()
        show.note(f"the model: {self._options.get('model', 'that of the backend')}")

    def _help(self, _rest: str) -> None:
        for what, meaning in _HELP:
            show.note(f"{what:<16} {meaning}")

    def _go_on(self) -> None:
        """Go on with the same conversation and the options as they are now."""
        before = self._conversation
        self._conversation = Conversation(self._client, id=before.id, messages=before.messages, **self._options)

    _commands: ClassVar[dict[str, Callable[[Chat, str], None]]] = {
        "/new": _new,
        "/system": _system,
        "/model": _model,
        "/save": _save,
        "/load": load,
        "/help": _help,
    }


def _needs(name: str, usage: str) -> None:
    if not name:
        message = f"name a file: {usage}"
        raise InvalidRequestError(message)


def _used(response: ModelResponse) -> str:
    usage = response.usage
    counts = [
        f"{'an unknown number of' if count is None else format(count, ',')} tokens {way}"
        for count, way in ((usage.input_total, "in"), (usage.output_total, "out"))
    ]
    cost = "cost unknown" if response.cost is None else f"${response.cost:f}"
    return f"{response.model or response.backend}: {', '.join(counts)}, {cost}, {response.latency_ms:,.0f} ms"
