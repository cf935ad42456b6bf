"""`veyra audit export`: every entry, for other tools."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import click

from veyra.audit import Entry, StoredPart, read_entries
from veyra.audit.tiles import export
from veyra.audit.tree import leaf_hash
from veyra.cli import show
from veyra.cli.audit.directory import directory_option


@click.command("export")
@directory_option
@click.option("--jsonl", is_flag=True, help="As JSON, one entry on a line; the default.")
@click.option("--bodies", is_flag=True, help="With what was asked and answered, and the salts of the commitments.")
@click.option("--tiles", is_flag=True, help="As a C2SP tlog-tiles site, into the log's own directory or that of --out.")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Where to write the tiles.")
def command(*, directory: Path, jsonl: bool, bodies: bool, tiles: bool, out: Path | None) -> None:
    """Write every entry of the log to standard output, or its tiles into a directory.

    On each line: seq, hash (that of the leaf in the tree), leaf, and raw, the leaf's exact text, which is what was
    hashed. With --bodies also bodies, by name: type, salt, and the body as text, or in base64 where it is no text.

    With --tiles the directory becomes a site that tools for transparency logs read: hash tiles and entry bundles up to
    the checkpoint, without bodies.

    \b
    Example:
      veyra audit export --jsonl > entries.jsonl
      veyra audit export --tiles --out site
    """  # noqa: D301  (\b keeps the lines of the example)
    if tiles or out is not None:
        _write_tiles(directory, out, is_alone=not (jsonl or bodies))
        return
    for entry in read_entries(directory):
        show.record(_record(entry) | ({"bodies": _bodies(entry)} if bodies else {}))


def _write_tiles(directory: Path, out: Path | None, *, is_alone: bool) -> None:
    if not is_alone:
        msg = "tiles hold no bodies and are no JSON: --tiles and --out go without --jsonl and --bodies"
        raise click.UsageError(msg)
    point = export(directory, out)
    show.line(f"{point.size:,} entries under the checkpoint, in {out or directory}")


def _record(entry: Entry) -> dict[str, object]:
    digest = leaf_hash(entry.raw).hex()
    return {"seq": entry.seq, "hash": digest, "leaf": entry.leaf, "raw": entry.raw.decode("ascii")}


def _bodies(entry: Entry) -> dict[str, dict[str, str]]:
    return {part.name: {"type": part.media_type, "salt": part.salt.hex(), **_content(part)} for part in entry.parts}


def _content(part: StoredPart) -> dict[str, str]:
    data = part.data
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode("ascii")}
