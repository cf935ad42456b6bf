"""Everything the command prints: no other module of it writes to a stream.

The rules:

1. What was asked for goes to standard output; notes, warnings and failures go to standard error.
2. Into a pipe or a file an answer goes as it is. On a terminal its control characters, which could move the cursor,
   change the title or feed the keyboard, are shown as symbols; only newline and tab do what they mean.
3. Tables, notes and failures are made of lines: a character that does not print shows as a symbol, wherever they go.
4. JSON is ASCII, one value on a line.
5. A call to any function here that writes to standard output may raise `BrokenPipeError` or `OutputError`.
6. Colour is for a person: only on a terminal, and never where `NO_COLOR` is set.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Literal, TextIO, TypeAlias

Colour: TypeAlias = Literal["plain", "green", "yellow", "red", "bold"]

_CODES: dict[Colour, str] = {"plain": "", "bold": "1", "red": "31", "green": "32", "yellow": "33"}
_SYMBOLS = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}
_TERMINAL = {code: symbol for code, symbol in _SYMBOLS.items() if chr(code) not in "\n\t"}


class OutputError(Exception):
    """Standard output cannot be written, for another reason than that its reader has gone."""


# ------------------------------------------------------------------------------------------------- answers


def answer(text: str) -> None:
    """Write a piece of an answer to standard output and flush it.

    Raises:
        BrokenPipeError: nobody reads any more.
        OutputError: it cannot be written.
    """
    _out(text.translate(_TERMINAL) if _is_terminal(sys.stdout) else text)


def body(data: bytes) -> None:
    """Write recorded bytes to standard output, untouched unless that is a terminal."""
    if _is_terminal(sys.stdout):
        answer(data.decode("utf-8", "replace"))
        return
    if sys.stdout is not None:
        with _checked():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def record(value: Mapping[str, object]) -> None:
    """Write a value as one line of ASCII JSON to standard output; what JSON has no word for goes as its text."""
    _out(json.dumps(value, default=str) + "\n")


# -------------------------------------------------------------------------------------------- lines, tables


def line(text: str = "", colour: Colour = "plain") -> None:
    """Write a line to standard output."""
    _out(_paint(printable(text), colour, sys.stdout) + "\n")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], colours: Mapping[str, Colour] | None = None) -> None:
    """Write rows under their headings in aligned columns; a cell whose whole text is in `colours` gets that colour.

    A column whose heading ends in a space-free `#` mark is set to the right, without the mark.
    """
    titles = [heading.removesuffix("#") for heading in headings]
    right = [heading.endswith("#") for heading in headings]
    cells = [titles, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        if number and colours:
            padded = [
                _paint(shown, colours.get(cell, "plain"), sys.stdout) for shown, cell in zip(padded, row, strict=True)
            ]
        text = "  ".join(padded).rstrip()
        _out((_paint(text, "bold", sys.stdout) if number == 0 else text) + "\n")


def fields(values: Mapping[str, str]) -> None:
    """Write names and values, one pair on a line, the values aligned and indented."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        _out(f"  {printable(name):<{width}}  {printable(value)}".rstrip() + "\n")


def quotation(text: str) -> None:
    """Write recorded text, each of its lines indented, so that nothing in it can pass for a line of ours."""
    for row in text.split("\n"):
        _out(f"  {row.translate(_TERMINAL)}".rstrip() + "\n")


def printable(text: str) -> str:
    """Return `text` as it may stand in a line: what does not print is shown as a symbol."""
    if text.isprintable():
        return text
    shown = text.translate(_SYMBOLS)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)


# ------------------------------------------------------------------------------------------ standard error


def note(text: str) -> None:
    """Write a line for the person at the terminal to standard error."""
    _err(f"veyra: {printable(text)}\n")


def blank() -> None:
    """End the line that the person at the terminal is on."""
    _err("\n")


def ask(prompt: str) -> str:
    """Ask the person at the terminal for a line, which they can edit; where an answer goes elsewhere, on standard error.

    Raises:
        EOFError: there is no more.
        KeyboardInterrupt: they gave it up.
        UnicodeDecodeError: what was typed is not in the terminal's encoding.
    """
    if _is_terminal(sys.stdout):
        return input(prompt)
    _err(prompt)
    return input()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show how far a long work is, on one line of standard error that goes away; None where that is no terminal.

    Nothing is shown in the first second, nor more often than ten times in one.
    """
    if not _is_terminal(sys.stderr):
        yield None
        return
    next_at = time.monotonic() + 1.0
    shown = False

    def tell(done: int, total: int) -> None:
        nonlocal next_at, shown
        if time.monotonic() >= next_at:
            next_at, shown = time.monotonic() + 0.1, True
            _err(f"\rveyra: {what}: {min(done * 100 // max(total, 1), 100):3d} %")

    try:
        yield tell
    finally:
        if shown:
            _err("\r\x1b[K")


def failure(message: str, hint: str | None = None) -> None:
    """Write what went wrong, on one line, and what to do about it, on another, to standard error."""
    _err(f"{_paint('Error:', 'red', sys.stderr)} {printable(' '.join(message.split()))}\n")
    if hint is not None:
        _err(f"Hint: {printable(hint)}\n")


# ------------------------------------------------------------------------------------------------- streams


def prepare() -> None:
    """Let no character stop the output: what a stream's encoding lacks is written as a backslash escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _out(text: str) -> None:
    if sys.stdout is not None:  # None where the shell closed it: `>&-`
        with _checked():
            sys.stdout.write(text)
            sys.stdout.flush()


def _err(text: str) -> None:
    if sys.stderr is not None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # nobody could be told, and a note is no reason to lose an answer
            _silence(sys.stderr)


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _silence(sys.stdout)
        raise
    except OSError as error:
        _silence(sys.stdout)
        msg = f"standard output cannot be written: {error.strerror or error}"
        raise OutputError(msg) from error


def _silence(stream: TextIO) -> None:
    """Send what a stream still holds nowhere: Python would try to write it again at its end, and fail again."""
    with suppress(OSError, ValueError):  # a stream without a descriptor holds nothing back
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _paint(text: str, colour: Colour, stream: TextIO | None) -> str:
    if colour == "plain" or not _is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"
