"""`veyra audit list`: the attempts in the log, oldest first."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from veyra.audit import AttemptRow
from veyra.audit.index import Index
from veyra.audit.search import Query, search
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.audit.filters import filter_options
from veyra.cli.audit.words import COLOURS, count, latency

_HEADINGS = ("SEQ#", "TIME (UTC)", "BACKEND", "MODEL", "STATUS", "LATENCY#", "IN#", "OUT#", "REQUEST ID")


@click.command("list")
@directory_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the last N.")
@filter_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each attempt and line.")
def command(*, directory: Path, query: Query, limit: int | None, as_json: bool) -> None:
    """List the attempts in the log, oldest first.

    SEQ is what `veyra audit show` takes. IN and OUT are tokens; a dash is "not stated". Options that choose are put
    together: an attempt is listed where all of them hold.

    \b
    Example:
      veyra audit list --status error --since 24h
      veyra audit list --model gpt-5 --text "annual report" --limit 20
    """  # noqa: D301  (\b keeps the lines of the example)
    with Index.open(directory, text=query.text is not None) as index:
        rows = search(index, replace(query, limit=limit))
        if as_json:
            for row in rows:
                show.record(asdict(row))
        else:
            show.table(_HEADINGS, [_cells(row) for row in rows], COLOURS)
        if index.damage is not None:
            raise index.damage  # what stands before it has been shown


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
