"""Which log an audit command reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from veyra import environ
from veyra.cli.failure import Failure

_Command = TypeVar("_Command", bound=Callable[..., Any])


def directory_option(function: _Command) -> _Command:
    """Give a command the option `--dir` (also `--audit`, as `veyra generate` spells it)."""
    option = click.option("--dir", "--audit", "directory", metavar="DIR", help="The log to read, instead of the usual.")
    return option(function)


def existing(directory: str | None) -> Path:
    """Return the log's directory.

    Raises:
        Failure: nothing was recorded there yet.
    """
    path = environ.audit_dir() if directory is None else Path(directory)
    if not path.is_dir():
        message = f"there is no log at {path}"
        raise Failure(message, "it begins with the first call; name another with --dir DIR")
    return path
