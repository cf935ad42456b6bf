"""`veyra audit status`: who writes, how far the checkpoint reaches, what is open."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from veyra.audit.anchors import usual
from veyra.audit.index import Index
from veyra.audit.keys import Places
from veyra.audit.search import Query, by_status
from veyra.audit.status import Status, read_status
from veyra.cli import show
from veyra.cli.audit.directory import directory_option


@click.command("status")
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, directory: Path, as_json: bool) -> None:
    """Say how the log stands: who writes to it, how far its checkpoint reaches, how its attempts ended, what is lost.

    Open are attempts under way, and those of a process that died, until the log is next opened. Lost are the intents and
    outcomes that the log declares were not recorded: 0, unless calls were allowed to go on without a record.

    \b
    Example:
      veyra audit status
    """  # noqa: D301  (\b keeps the lines of the example)
    status = read_status(directory)
    anchors = {name: point.size for name, point in usual(directory, Places()).points.items()}
    with Index.open(directory) as index:
        statuses = by_status(index, Query())
    if as_json:
        show.record({**asdict(status), "anchors": anchors, "attempts": statuses})
        return
    show.fields(
        {
            "log": str(directory),
            "origin": status.origin,
            "writers": _writers(status),
            "entries": f"{status.entries:,} in {status.segments:,} segments, {status.size:,} bytes",
            "checkpoint": _checkpoint(status),
            "anchors": "; ".join(f"{name}: over {size:,} entries" for name, size in anchors.items()) or "none",
            "attempts": ", ".join(f"{number:,} {name}" for name, number in statuses.items()) or "none",
            "lost": f"{status.lost:,}",
            "quarantined": f"{status.quarantined:,}",
        }
    )
    if status.fault is not None:
        show.line(f"  note: {status.fault}; veyra audit verify says more", "yellow")


def _writers(status: Status) -> str:
    if status.writers is None:
        return "not known: the log's lock is not to be had"
    return "; ".join(f"process {one.pid}, {one.mode}, since {one.since[:19]}Z" for one in status.writers) or "none"


def _checkpoint(status: Status) -> str:
    if status.checkpoint_size is None:
        return "none"
    beyond = status.entries - status.checkpoint_size
    return f"over {status.checkpoint_size:,} entries, of {status.checkpoint_time}; {beyond:,} came since"
