"""`veyra audit list`: the attempts in the log, oldest first."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from pathlib import Path

import click

from veyra.audit import AttemptRow, read_attempts
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.audit.words import COLOURS, STATUSES, count, latency
from veyra.errors import AuditCorruptError

_HEADINGS = ("SEQ#", "TIME (UTC)", "BACKEND", "MODEL", "STATUS", "LATENCY#", "IN#", "OUT#", "REQUEST ID")


@click.command("list")
@directory_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the last N.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that ended so.")
@click.option("--backend", metavar="NAME", help="Only those of this backend.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each attempt and line.")
def command(*, directory: Path, limit: int | None, status: str | None, backend: str | None, as_json: bool) -> None:
    """List the attempts in the log, oldest first.

    SEQ is what `veyra audit show` takes. IN and OUT are tokens; a dash is "not stated".

    \b
    Example:
      veyra audit list --status error --limit 20
    """  # noqa: D301  (\b keeps the lines of the example)
    rows: deque[AttemptRow] = deque(maxlen=limit)
    damage = None
    try:
        for row in read_attempts(directory):
            if status in {None, row.status} and backend in {None, row.backend}:
                rows.append(row)
    except AuditCorruptError as error:
        damage = error  # what stands before it is shown first
    if as_json:
        for row in rows:
            show.record(asdict(row))
    else:
        show.table(_HEADINGS, [_cells(row) for row in rows], COLOURS)
    if damage is not None:
        raise damage


def _cells(row: AttemptRow) -> tuple[str, ...]:
    usage = row.usage or {}
    return (
        str(row.seq),
        row.time[:19].replace("T", " "),
        row.backend,
        row.model or "-",
        row.status,
        latency(row.latency_ms),
        count(usage.get("input_total")),
        count(usage.get("output_total")),
        row.request_id or "-",
    )
