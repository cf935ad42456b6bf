"""Where a prompt comes from: the argument, standard input, or both."""

from __future__ import annotations

import sys

from veyra.cli.failure import Misuse
from veyra.models.request import MAX_PROMPT_BYTES

_HOW = "give it as an argument (veyra generate 'Why is the sky blue?') or on standard input (veyra generate < FILE)"


def read_prompt(argument: str | None) -> str:
    """Return the prompt: the argument, then a blank line, then standard input; or the one that is there.

    Standard input is read to its end unless it is a terminal, which is never waited for.

    Raises:
        Misuse: there is no prompt, or what there is cannot be read or is not UTF-8.
    """
    parts = [part for part in (argument, _standard_input()) if part and part.strip()]
    if not parts:
        message = "there is no prompt" if argument is None else "the prompt is empty"
        raise Misuse(message, hint=_HOW)
    if argument and not argument.isascii():
        _check_argument(argument)
    return "\n\n".join(parts)


def _check_argument(argument: str) -> None:
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        message = (
            f"the prompt is not UTF-8: byte 0x{ord(error.object[error.start]) & 0xFF:02x} at character {error.start}"
        )
    else:
        return
    raise Misuse(message)


def _standard_input() -> str:
    if sys.stdin is None or sys.stdin.isatty():  # None where the shell closed it: `<&-`
        return ""
    try:
        data = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        message = f"standard input cannot be read: {error.strerror}"
        raise Misuse(message) from None
    if len(data) > MAX_PROMPT_BYTES:
        message = f"standard input is longer than the {MAX_PROMPT_BYTES:,} bytes that a prompt may have"
        raise Misuse(message, hint="shorten the prompt or split it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = f"standard input is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
    raise Misuse(message, hint="convert it first: iconv -t UTF-8")
