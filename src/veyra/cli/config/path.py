"""`veyra config path`: the files that settings are read from."""

from __future__ import annotations

from typing import Final

import click

from veyra import config
from veyra.cli import show
from veyra.config import Document

_HEADINGS: Final = ("FILE", "CHOSEN", "")
_HOW: Final = {
    "named": "named by VEYRA_CONFIG",
    "found": "found from the working directory upwards",
    "user": "your own",
}


@click.command("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file and line.")
def command(*, as_json: bool) -> None:
    """List the files that settings are read from: what stands in one goes before what stands in those above it.

    \b
    Example:
      veyra config path
    """  # noqa: D301  (\b keeps the lines of the example)
    documents = config.documents()
    if as_json:
        for document in documents:
            show.record(_record(document))
    elif documents:
        show.table(_HEADINGS, [(str(one.place.path), _HOW[one.place.how], _state(one)) for one in documents])
    else:
        show.note("no file of settings is read: VEYRA_CONFIG is off")


def _record(document: Document) -> dict[str, object]:
    return {
        "path": str(document.place.path),
        "chosen": document.place.how,
        "there": document.is_there,
        "profiles": sorted(document.profiles),
        "problems": len(document.problems),
    }


def _state(document: Document) -> str:
    if document.problems:
        return f"{len(document.problems)} wrong: see veyra config check"
    return "" if document.is_there else "not there"
