"""`veyra config`: which settings are in force, and where each came from."""

from __future__ import annotations

from typing import ClassVar

import click

from veyra.cli.lazy import LazyGroup


class ConfigCommands(LazyGroup):
    """The commands of `veyra config`."""

    homes: ClassVar = {
        "show": ("veyra.cli.config.show", "Show the settings in force, and where each came from."),
        "path": ("veyra.cli.config.path", "List the files that settings are read from."),
        "check": ("veyra.cli.config.check", "Check every setting, in all profiles."),
    }


@click.group("config", cls=ConfigCommands)
def command() -> None:
    """Show and check the settings.

    They come from VEYRA_* variables, from the first veyra.toml in the working directory or above it, and from veyra.toml in
    your configuration directory.

    \b
    Example:
      veyra config show
    """  # noqa: D301  (\b keeps the lines of the example)
