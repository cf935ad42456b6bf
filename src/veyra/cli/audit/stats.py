"""`veyra audit stats`: sums by day, model or backend."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from veyra.audit.index import Index
from veyra.audit.search import BY, By, Query, Sums, sums
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.audit.filters import filter_options
from veyra.cli.audit.words import count

_HEADINGS = ("ATTEMPTS#", "OK#", "OPEN#", "IN#", "OUT#", "UNSTATED#", "COST#", "UNPRICED#")


@click.command("stats")
@directory_option
@click.option("--by", type=click.Choice(BY), default=BY[0], show_default=True, help="What the attempts are grouped by.")
@filter_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each group and line.")
def command(*, directory: Path, query: Query, by: By, as_json: bool) -> None:
    """Sum up the attempts in the log: how many, how many tokens, what they cost.

    Days are those of UTC. IN and OUT are the tokens that were stated; UNSTATED counts the attempts that ended without
    stating any, UNPRICED those that ended without a known cost: sums leave them out.

    \b
    Example:
      veyra audit stats --by model --since 30d
    """  # noqa: D301  (\b keeps the lines of the example)
    with Index.open(directory, text=query.text is not None) as index:
        groups = sums(index, query, by)
        if as_json:
            for group in groups:
                fields = asdict(group)
                show.record({by: fields.pop("key"), **fields})
        else:
            show.table((by.upper(), *_HEADINGS), [_cells(group) for group in groups])
        if index.damage is not None:
            raise index.damage  # what stands before it has been summed up


def _cells(group: Sums) -> tuple[str, ...]:
    cost = ", ".join(f"{amount:,.6f} {currency}".rstrip() for currency, amount in group.cost.items())
    tokens = (count(group.input_tokens), count(group.output_tokens), count(group.unstated))
    return (
        group.key or "-",
        count(group.attempts),
        count(group.ok),
        count(group.open),
        *tokens,
        cost or "-",
        count(group.unpriced),
    )
