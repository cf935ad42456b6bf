"""`veyra audit prove`: evidence that entries stand in the log, for somebody who does not trust us."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from veyra.audit import proof, standalone
from veyra.cli import show
from veyra.cli.audit.directory import directory_option

BUNDLE = "bundle.json"
VERIFIER = "verify_proof.py"


@click.command("prove")
@directory_option
@click.argument("key", metavar="ID|SEQ")
@click.option(
    "--open", "opened", metavar="PART", multiple=True, help="Show this body, request.wire say; may be given again."
)
@click.option("--out", "out", metavar="DIR", type=click.Path(path_type=Path), help="Where to write; else proof-ID.")
def command(*, directory: Path, key: str, opened: tuple[str, ...], out: Path | None) -> None:
    """Write the proof that an entry stands in the log, with the bodies that you choose to open and no others.

    An intent comes with its outcome. Written are bundle.json, which holds all of it; verify_proof.py, which checks it with
    nothing but Python; and for other tools SEQ.leaf and SEQ.tlog-proof.

    \b
    Example:
      veyra audit prove 1 --open response.wire --out evidence
      python evidence/verify_proof.py evidence/bundle.json --key "$(veyra audit key show)"
    """  # noqa: D301  (\b keeps the lines of the example)
    data = proof.bundle(directory, key, opened)
    folder = out or Path(f"proof-{key}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BUNDLE).write_bytes(data)
    shutil.copyfile(standalone.__file__, folder / VERIFIER)
    for made in json.loads(data)["entries"]:
        note = made["proof"].encode()
        seq = standalone.parse_proof(note).seq
        (folder / f"{seq}.leaf").write_text(made["leaf"], encoding="ascii", newline="")
        (folder / f"{seq}.tlog-proof").write_bytes(note)
    for line in standalone.describe(standalone.check_bundle(data, [])):
        show.line(line)
    show.line(f"written to  {folder}")
