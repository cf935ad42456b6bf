"""`veyra audit checkpoint`: the log's checkpoint, to keep elsewhere, and whether the log goes on from an older one."""

from __future__ import annotations

from pathlib import Path

import click

from veyra.audit import checkpoint, proof
from veyra.audit.anchors import read_checkpoint
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.errors import AuditCorruptError

NOT_CONSISTENT = 1


@click.command("checkpoint")
@directory_option
@click.option(
    "--check", "old", metavar="OLD", type=click.Path(path_type=Path), help="Prove that the log goes on from this."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the hashes of the proof.")
@click.pass_context
def command(ctx: click.Context, *, directory: Path, old: Path | None, as_json: bool) -> None:
    """Print the log's checkpoint, as it is signed, to be kept elsewhere; or prove that the log goes on from one that was.

    Exit status with --check: 0 the log goes on from it, 1 it does not.

    \b
    Example:
      veyra audit checkpoint > kept.txt
      veyra audit checkpoint --check kept.txt
    """  # noqa: D301  (\b keeps the lines of the example)
    point = proof.read_published(directory)
    if old is None:
        if as_json:
            show.record(
                {"origin": point.origin, "size": point.size, "root": point.root.hex(), "signed": bool(point.signatures)}
            )
        else:
            show.body(checkpoint.encode(point))
        return
    kept = read_checkpoint(old)
    try:
        point, path = proof.prove_consistency(directory, kept)
    except AuditCorruptError as error:
        show.line(f"NOT CONSISTENT: {error.message}", "red")
        ctx.exit(NOT_CONSISTENT)
    if as_json:
        show.record(
            {"origin": point.origin, "from": kept.size, "to": point.size, "proof": [item.hex() for item in path]}
        )
    else:
        show.line(f"CONSISTENT: the {point.size:,} entries begin with the {kept.size:,} of {old}.", "green")
