"""Which log an audit command reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from veyra import config

_Command = TypeVar("_Command", bound=Callable[..., Any])


def directory_option(function: _Command) -> _Command:
    """Give a command the option `--dir` (also `--audit`, as `veyra generate` spells it): the `directory` to read."""
    option = click.option(
        "--dir",
        "--audit",
        "directory",
        metavar="DIR",
        type=click.Path(path_type=Path),
        default=lambda: config.load().audit_dir,
        help="The log to read, instead of the usual one.",
    )
    return option(function)
