"""`veyra mock`: the mock as a provider of its own."""

from __future__ import annotations

from typing import ClassVar

import click

from veyra.cli.lazy import LazyGroup


class MockCommands(LazyGroup):
    """The commands of `veyra mock`."""

    homes: ClassVar = {
        "serve": ("veyra.cli.mock.serve", "Speak as the providers do, and fail as they do, on loopback."),
    }


@click.group("mock", cls=MockCommands)
def command() -> None:
    """Test against a provider that is none: no key, no network, no cost.

    \b
    Example:
      veyra mock serve --port 8080 --fault rate-limit@after=1 --rate 0.2
    """  # noqa: D301  (\b keeps the lines of the example)
