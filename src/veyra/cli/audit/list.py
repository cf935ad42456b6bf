"""`veyra audit list`: the attempts in the log, oldest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import click

from veyra.audit import AttemptRow, read_attempts
from veyra.cli import show
from veyra.cli.audit.directory import directory_option, existing

STATUSES = ("open", "ok", "error", "timeout", "cancelled", "incomplete", "abandoned", "blocked")

_HEADINGS = ("SEQ#", "TIME (UTC)", "BACKEND", "MODEL", "STATUS", "LATENCY#", "IN#", "OUT#", "REQUEST ID")
_COLOURS: dict[str, show.Colour] = {
    "ok": "green",
    "open": "yellow",
    **dict.fromkeys(("error", "timeout", "incomplete", "abandoned"), "red"),
}


@click.command("list")
@directory_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the last N.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that ended so.")
@click.option("--backend", metavar="NAME", help="Only those of this backend.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each attempt and line.")
def command(
    *, directory: str | None, limit: int | None, status: str | None, backend: str | None, as_json: bool
) -> None:
    """List the attempts in the log, oldest first.

    \b
    Example:
      veyra audit list --status error --limit 20
    """  # noqa: D301  (\b keeps the lines of the example)
    found = _chosen(read_attempts(existing(directory)), status, backend)
    rows: Iterable[AttemptRow] = found if limit is None else deque(found, maxlen=limit)
    if as_json:
        for row in rows:
            show.record(asdict(row))
    else:
        show.table(_HEADINGS, map(_cells, rows), _COLOURS)


def _chosen(rows: Iterable[AttemptRow], status: str | None, backend: str | None) -> Iterator[AttemptRow]:
    return (row for row in rows if status in {None, row.status} and backend in {None, row.backend})


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


def latency(milliseconds: float | None) -> str:
    """Write a time for a person, or a dash where it is not known."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"


def count(number: int | None) -> str:
    """Write a number for a person, or a dash where it is not stated."""
    return "-" if number is None else f"{number:,}"
