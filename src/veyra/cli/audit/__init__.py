"""`veyra audit`: reading and verifying the log. Its commands never change an entry."""

from __future__ import annotations

from typing import ClassVar

import click

from veyra.cli.lazy import LazyGroup


class AuditCommands(LazyGroup):
    """The commands of `veyra audit`."""

    homes: ClassVar = {
        "list": ("veyra.cli.audit.list", "List the attempts in the log."),
        "show": ("veyra.cli.audit.show", "Show one attempt: what was asked, how it ended, what it used."),
        "stats": ("veyra.cli.audit.stats", "Sum up attempts, tokens and cost by day, model or backend."),
        "status": ("veyra.cli.audit.status", "Say how the log stands: writers, checkpoint, attempts."),
        "export": ("veyra.cli.audit.export", "Write every entry to standard output, for other tools."),
        "checkpoint": (
            "veyra.cli.audit.checkpoint",
            "Print the checkpoint, or prove that the log goes on from an old one.",
        ),
        "prove": ("veyra.cli.audit.prove", "Write the proof that an entry stands in the log."),
        "verify-proof": ("veyra.cli.audit.verify_proof", "Check such a proof."),
        "key": ("veyra.cli.audit.key", "Make, show and replace the key that signs checkpoints."),
        "accept-rollback": ("veyra.cli.audit.rollback", "Go on with a log that lost entries at its end."),
        "verify": ("veyra.cli.audit.verify", "Check that the log is whole and unaltered."),
    }


@click.group("audit", cls=AuditCommands)
def command() -> None:
    """Read and verify the log of calls.

    The log is at VEYRA_AUDIT_DIR, where veyra.toml says, or in the user's state directory. These commands never change an
    entry; to search quickly they keep an index beside them, which may be removed at any time.

    \b
    Example:
      veyra audit list --limit 10
    """  # noqa: D301  (\b keeps the lines of the example)
