"""`veyra audit verify-proof`: does a bundle prove what it says?"""

from __future__ import annotations

from pathlib import Path

import click

from veyra.audit import standalone
from veyra.audit.anchors import parse_verifier
from veyra.cli import show
from veyra.cli.failure import Misuse
from veyra.errors import AuditError

NOT_PROVEN, UNDECIDED = 1, 2


@click.command("verify-proof")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", "texts", metavar="VERIFIER", multiple=True, help="The log's verifier key, known from elsewhere.")
@click.pass_context
def command(ctx: click.Context, *, file: Path, texts: tuple[str, ...]) -> None:
    """Check a bundle from `veyra audit prove`. No log is needed.

    Exit status: 0 it proves its entries, 1 it does not, 2 it would if the key in it is the log's (give --key).

    \b
    Example:
      veyra audit verify-proof evidence/bundle.json --key "$(cat verifier.txt)"
    """  # noqa: D301  (\b keeps the lines of the example)
    try:
        keys = [parse_verifier(text) for text in texts]
    except AuditError as error:
        raise Misuse(error.message) from None
    with file.open("rb") as opened:
        data = opened.read(standalone.MAX_BUNDLE + 1)
    try:
        verdict = standalone.check_bundle(data, keys)
    except ValueError as error:
        show.line(f"NOT PROVEN: {error}", "red")
        ctx.exit(NOT_PROVEN)
    for line in standalone.describe(verdict):
        show.line(line)
    if not verdict.trusted:
        show.line("NOT KNOWN: the proofs are right if that key is the log's: give --key.", "yellow")
        ctx.exit(UNDECIDED)
    show.line("PROVEN: each entry stands in this log, unaltered.", "green")
