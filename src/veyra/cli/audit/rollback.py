"""`veyra audit accept-rollback`: go on with a log that lost entries which had been signed."""

from __future__ import annotations

from pathlib import Path

import click

from veyra.audit import custody
from veyra.audit.keys import Places
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.audit.places import places_options


@click.command("accept-rollback")
@directory_option
@places_options
def command(*, directory: Path, key_file: Path | None, heads: Path | None) -> None:
    """Record that the log lost entries at its end, and let it be written again.

    For a log that was put back from a backup, say. The loss is not hidden: the log says from now on how large it was,
    and `veyra audit verify` ends with status 3. Checkpoints and receipts from the part that is gone no longer fit.

    \b
    Example:
      veyra audit accept-rollback
    """  # noqa: D301  (\b keeps the lines of the example)
    lost = custody.accept_rollback(directory, Places(key_file, heads))
    show.line(f"recorded: the log had {lost.size:,} entries with the root {lost.root.hex()}")
