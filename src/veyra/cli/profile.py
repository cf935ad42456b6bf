"""The option `--profile`, for every command that settings count for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def profile_option(function: _Command) -> _Command:
    """Give a command the option `--profile`, which chooses as `VEYRA_PROFILE` does and goes before it."""
    option = click.option(
        "--profile",
        metavar="NAME",
        is_eager=True,
        expose_value=False,
        callback=_choose,
        help="Lay this profile over the other settings.  [env var: VEYRA_PROFILE]",
    )
    return option(function)


@contextmanager
def chosen(profile: str) -> Iterator[None]:
    """Let a profile be in force, in this process and those it starts, as long as the context lasts."""
    from veyra.config.loading import PROFILE  # noqa: PLC0415  (help stays light)

    before = os.environ.get(PROFILE)
    os.environ[PROFILE] = profile
    try:
        yield
    finally:
        if before is None:
            del os.environ[PROFILE]
        else:
            os.environ[PROFILE] = before


def _choose(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.with_resource(chosen(value))
