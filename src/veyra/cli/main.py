"""The `veyra` command: its group, and how any command ends.

Exit status: 0 success, 1 the call or check failed, 2 wrong use, 130 interrupted, 141 nobody read the output.
"""

from __future__ import annotations

from typing import ClassVar

import click

from veyra import __version__
from veyra.cli import show
from veyra.cli.lazy import LazyGroup
from veyra.cli.profile import profile_option
from veyra.errors import VeyraError

INTERRUPTED = 130
BROKEN_PIPE = 141


class Commands(LazyGroup):
    """The commands, and the one place where what escapes from them becomes a message and an exit status."""

    homes: ClassVar = {
        "generate": ("veyra.cli.generate", "Ask a model and print its answer."),
        "chat": ("veyra.cli.chat", "Talk with a model, one prompt after the other."),
        "backends": ("veyra.cli.backends", "List the backends: where they are, and whether their key is set."),
        "health": ("veyra.cli.health", "Ask whether backends could serve a call now; costs nothing."),
        "models": ("veyra.cli.models", "List the models of a backend, and what they can."),
        "mock": ("veyra.cli.mock", "Serve the mock to any client, with the faults of real providers."),
        "audit": ("veyra.cli.audit", "Read and verify the log of calls."),
        "replay": ("veyra.cli.replay", "Make recorded calls again, and show what differs."),
        "conformance": ("veyra.cli.conformance", "Check that a backend does what every backend must do."),
        "config": ("veyra.cli.config", "Show and check the settings, and where each came from."),
    }

    def invoke(self, ctx: click.Context) -> object:
        """Run the chosen command and end as the rules of this module say."""
        show.prepare()
        try:
            return super().invoke(ctx)
        except VeyraError as error:
            from veyra.cli.failure import explain  # noqa: PLC0415  (not before something failed: help stays light)

            raise explain(error) from None
        except show.OutputError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:
            ctx.exit(BROKEN_PIPE)
        except OSError as error:  # a file that was named cannot be read: the system's words say which and why
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="veyra", message="%(prog)s %(version)s")
@profile_option
def cli() -> None:
    """One interface to every model, and every call on the record.

    \b
    Example:
      veyra generate "Why is the sky blue?" -b ollama -m llama3.2
      veyra audit list
    """  # noqa: D301  (\b keeps the lines of the example)


def main() -> None:
    """Run the command with the arguments of this process; ends it."""
    cli(prog_name="veyra")
