"""`veyra audit verify`: is the log whole and unaltered?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from veyra.audit import Problem, Report, verify
from veyra.audit.verify import LEVELS, Level
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.failure import Failure
from veyra.errors import AuditError

ALTERED = 1


class Undecided(Failure):
    """The log could not be read, so nothing is known of it."""

    exit_code = 2


@click.command("verify")
@directory_option
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default=LEVELS[-1],
    show_default=True,
    help="How far to check; each level includes those before it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def command(ctx: click.Context, *, directory: Path, level: Level, as_json: bool) -> None:
    """Check that the log is whole and unaltered.

    Exit status: 0 it is, 1 it was altered or damaged, 2 that cannot be said (there is no log, or it cannot be read).

    \b
    Example:
      veyra audit verify
    """  # noqa: D301  (\b keeps the lines of the example)
    try:
        report = verify(directory, level=level)
    except AuditError as error:
        raise Undecided(error.message) from None
    if as_json:
        show.record({"ok": report.ok, **asdict(report)})
    else:
        _print(report, directory)
    if not report.ok:
        ctx.exit(ALTERED)


def _print(report: Report, directory: Path) -> None:
    covered = "no checkpoint" if report.checkpoint_size is None else f"the checkpoint covers {report.checkpoint_size:,}"
    show.fields(
        {
            "log": str(directory),
            "origin": report.origin or "not known",
            "segments": f"{report.segments:,}",
            "entries": f"{report.size:,} ({covered})",
            "root": report.root,
            "attempts": f"{report.intents:,}: {report.outcomes:,} with an outcome, {report.open:,} open, "
            f"{report.abandoned:,} abandoned",
            "bodies": f"{report.bodies:,}" if report.level == "bodies" else "not checked",
        }
    )
    for notice in report.notices:
        show.line(f"  note: {notice}")
    for problem in report.problems:
        show.line(f"  {_where(problem)}: {problem.message}", "red")
    if report.ok:
        show.line("OK: every entry that was checked is whole, unaltered and in its place.", "green")
    else:
        show.line(f"NOT OK: {len(report.problems):,} {'problem' if len(report.problems) == 1 else 'problems'}.", "red")


def _where(problem: Problem) -> str:
    place = problem.file or "the log"
    if problem.offset is not None:
        place += f" at offset {problem.offset}"
    return place if problem.seq is None else f"{place}, entry {problem.seq}"
