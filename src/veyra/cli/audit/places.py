"""Where the key and the head of the log are, for the commands that need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def places_options(function: _Command) -> _Command:
    """Give a command `--key-file` and `--head`: `key_file` and `heads`, None for the usual places."""
    place = click.Path(path_type=Path)
    key = click.option(
        "--key-file", metavar="FILE", type=place, help="The file with the signing key, instead of the usual one."
    )
    head = click.option(
        "--head",
        "heads",
        metavar="DIR",
        type=place,
        help="Where what was signed last is kept, instead of the usual place.",
    )
    return key(head(function))
