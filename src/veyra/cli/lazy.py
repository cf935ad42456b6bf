"""A group of commands that loads each from its own module, and only when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar

import click


class LazyGroup(click.Group):
    """Knows its commands by name, module and one line of help; a module's command is its `command`."""

    homes: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Name -> (module, what it does), in the order of the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the names in the order of the help."""
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's signature)
        """Load the command of that name; None where there is none."""
        if cmd_name not in self.homes:
            return None
        command = import_module(self.homes[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's signature)
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in self.homes.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name.

        Raises:
            NoSuchCommand: there is none; the message lists near names.
        """
        if args[0] not in self.homes and not args[0].startswith("-"):
            raise click.NoSuchCommand(args[0], possibilities=self.homes, ctx=ctx)
        return super().resolve_command(ctx, args)
