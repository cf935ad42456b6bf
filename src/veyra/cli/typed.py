"""What a person types, or a file holds, one prompt after the other.

The rules:

1. A line is a prompt. One that ends in a backslash goes on in the next line; the backslash becomes the end of a line.
2. A line that begins with three double quotes begins a block, which goes on until a line ends in them. Nothing in it is looked
   at: where it begins with a slash it gets a second one, so that it is no command.
3. The end of the input ends what was begun: an unfinished block is a prompt.
4. What is pasted is one line, whatever is in it, where the terminal says where a paste begins and ends, and Python can edit lines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from veyra.cli import show
from veyra.cli.failure import Misuse
from veyra.models.request import MAX_PROMPT_BYTES

FENCE = '"""'
_FIRST, _MORE = "> ", "... "


class Typed:
    """Reads prompts from standard input; a person at a terminal is asked for them, and can edit what they type."""

    def __init__(self) -> None:
        self.is_person = sys.stdin is not None and sys.stdin.isatty()
        """Whether a person types, who can be told what was wrong and go on."""
        if self.is_person:
            _load_editing()
        self._line: Callable[[str], str | None] = _typed_line if self.is_person else _read_line

    def next(self) -> str | None:
        """Return the next prompt, without blank lines before it; None at the end of the input.

        Raises:
            KeyboardInterrupt: the person gave up what they were typing.
            Misuse: what is not typed by a person cannot be read, is not UTF-8, or is longer than a prompt may be.
        """
        while True:
            line = self._line(_FIRST)
            if line is None:
                return None
            text = self._block(line) if line.lstrip().startswith(FENCE) else self._continued(line)
            if text.strip():
                return text

    def _continued(self, line: str) -> str:
        rows = [line]
        while rows[-1].endswith("\\"):
            rows[-1] = rows[-1][:-1]
            more = self._line(_MORE)
            if more is None:
                break
            rows.append(more)
        return "\n".join(rows)

    def _block(self, line: str) -> str:
        row: str | None = line.lstrip().removeprefix(FENCE)
        rows: list[str] = []
        while row is not None and not row.rstrip().endswith(FENCE):
            rows.append(row)
            row = self._line(_MORE)
        if row is not None:
            rows.append(row.rstrip().removesuffix(FENCE))
        text = "\n".join(rows).strip("\n")
        return f"/{text}" if text.startswith("/") else text


def _load_editing() -> None:
    """Let `input` edit lines, recall earlier ones and take a paste whole, where this Python can; all in memory only."""
    try:
        readline = import_module("readline")
    except ImportError:
        return
    readline.parse_and_bind("set enable-bracketed-paste on")  # Python turns it off


def _typed_line(prompt: str) -> str | None:
    try:
        return show.ask(prompt)
    except EOFError:
        show.blank()
        return None
    except UnicodeDecodeError as error:
        show.failure(f"what was typed is not {error.encoding}: byte 0x{error.object[error.start]:02x}")
        return ""


def _read_line(_prompt: str) -> str | None:
    if sys.stdin is None:  # where the shell closed it: `<&-`
        return None
    try:
        data = sys.stdin.buffer.readline(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        message = f"standard input cannot be read: {error.strerror}"
        raise Misuse(message) from None
    if len(data) > MAX_PROMPT_BYTES:
        message = f"a line of standard input is longer than the {MAX_PROMPT_BYTES:,} bytes that a prompt may have"
        raise Misuse(message)
    if not data:
        return None
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        message = f"standard input is not UTF-8: byte 0x{data[error.start]:02x} in the line {data[:40]!r}"
    raise Misuse(message, hint="convert it first: iconv -t UTF-8")
