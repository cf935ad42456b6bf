"""`veyra audit export`: every entry, for other tools."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import click

from veyra.audit import Entry, StoredPart, read_entries
from veyra.audit.tree import leaf_hash
from veyra.cli import show
from veyra.cli.audit.directory import directory_option


@click.command("export")
@directory_option
@click.option("--jsonl", is_flag=True, help="As JSON, one entry on a line; the default, and so far the only form.")
@click.option("--bodies", is_flag=True, help="With what was asked and answered, and the salts of the commitments.")
def command(*, directory: Path, jsonl: bool, bodies: bool) -> None:  # noqa: ARG001  (one form so far; the option names it)
    """Write every entry of the log to standard output.

    On each line: seq, hash (that of the leaf in the tree), leaf, and raw, the leaf's exact text, which is what was
    hashed. With --bodies also bodies, by name: type, salt, and the body as text, or in base64 where it is no text.

    \b
    Example:
      veyra audit export --jsonl > entries.jsonl
    """  # noqa: D301  (\b keeps the lines of the example)
    for entry in read_entries(directory):
        show.record(_record(entry) | ({"bodies": _bodies(entry)} if bodies else {}))


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
