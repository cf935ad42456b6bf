"""`veyra audit verify`: is the log whole and unaltered?"""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import click

from veyra import environ
from veyra.audit import Problem, Report, verified, verify
from veyra.audit.anchors import Anchors, origin_of, parse_verifier, read_checkpoint, read_receipt, usual
from veyra.audit.keys import Places
from veyra.audit.verified import Verified
from veyra.audit.verify import LEVELS, Level
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.failure import Failure
from veyra.errors import AuditError

ALTERED, UNDECIDED, GAPS = 1, 2, 3


_PATH = click.Path(path_type=Path)


class Undecided(Failure):
    """The log could not be read, so nothing is known of it."""

    exit_code = 2


@click.command("verify")
@directory_option
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="bodies",
    show_default=True,
    help="How far to check; each level includes those before it.",
)
@click.option(
    "--key", "texts", metavar="VERIFIER", multiple=True, help="A verifier key of the log, known from elsewhere."
)
@click.option("--head", "heads", metavar="DIR", type=_PATH, help="Where what was signed last is kept, if elsewhere.")
@click.option("--checkpoint", "points", metavar="FILE", type=_PATH, multiple=True, help="A checkpoint kept elsewhere.")
@click.option("--receipt", "receipts", metavar="FILE", type=_PATH, multiple=True, help="A receipt, kept as JSON.")
@click.option(
    "--since",
    metavar="FILE",
    type=_PATH,
    help="Go on from what FILE says was verified, and keep in it how far; --level quick has a usual one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    directory: Path,
    level: Level,
    texts: tuple[str, ...],
    heads: Path | None,
    points: tuple[Path, ...],
    receipts: tuple[Path, ...],
    since: Path | None,
    as_json: bool,
) -> None:
    """Check that the log is whole and unaltered, and agrees with what was kept elsewhere.

    Level quick reads only what came since it was last run. It does not see what was altered before that, so a full
    verification from time to time is still needed.

    Exit status: 0 it is, 1 it was altered or damaged, 2 that cannot be said (there is no log, or a key or an anchor is
    missing), 3 it is, but for losses that the log itself declares.

    \b
    Example:
      veyra audit verify
      veyra audit verify --level anchors --checkpoint last-month.txt
    """  # noqa: D301  (\b keeps the lines of the example)
    try:
        file = since or (_usual_file(directory) if level == "quick" else None)
        anchors = _anchors(directory, texts, heads, points, receipts)
        start = None if file is None else verified.read(file)
        with show.progress("verifying") as progress:
            report = verify(directory, level=level, anchors=anchors, since=start, progress=progress)
        if file is not None and report.verified is not None:
            _keep(file, report.verified)
    except AuditError as error:
        raise Undecided(error.message) from None
    if as_json:
        fields = {name: value for name, value in asdict(report).items() if name != "verified"}
        show.record({"ok": report.ok, **fields})
    else:
        _print(report, directory)
    ctx.exit(_status(report))


def _usual_file(directory: Path) -> Path | None:
    """Return where the state of quick verifications of this log is kept."""
    origin = origin_of(directory)
    name = None if origin is None else sha256(origin.encode()).hexdigest()[:32]
    return None if name is None else environ.state_dir() / "verified" / f"{name}.json"


def _keep(file: Path, state: Verified) -> None:
    try:
        verified.write(file, state)
    except OSError as error:
        show.note(
            f"{file} cannot be written ({error.strerror or error}): the next verification begins where this one did"
        )


def _anchors(
    directory: Path, texts: tuple[str, ...], heads: Path | None, points: tuple[Path, ...], receipts: tuple[Path, ...]
) -> Anchors:
    own = usual(directory, Places(heads=heads))
    if heads is not None and not own.points:
        msg = f"nothing that was signed for this log is kept in {heads}"
        raise AuditError(msg)
    return Anchors(
        keys=(*own.keys, *map(parse_verifier, texts)),
        points={**own.points, **{str(path): read_checkpoint(path) for path in points}},
        receipts={str(path): read_receipt(path) for path in receipts},
    )


def _status(report: Report) -> int:
    if not report.ok:
        return ALTERED
    if report.undecided:
        return UNDECIDED
    return GAPS if report.gaps else 0


def _print(report: Report, directory: Path) -> None:
    covered = "no checkpoint" if report.checkpoint_size is None else f"the checkpoint covers {report.checkpoint_size:,}"
    show.fields(
        {
            "log": str(directory),
            "origin": report.origin or "not known",
            "segments": f"{report.segments:,}",
            "entries": f"{report.size:,} ({covered})",
            **({"verified earlier": f"{report.since:,}, not read again"} if report.since else {}),
            "root": report.root,
            "attempts": f"{report.intents:,}: {report.outcomes:,} with an outcome, {report.open:,} open, "
            f"{report.abandoned:,} abandoned",
            "bodies": f"{report.bodies:,}" if report.level in {"bodies", "anchors"} else "not checked",
            "signed by": report.signed_by or "nobody whose key is known",
            "compared with": ", ".join(report.compared) or "nothing outside the directory",
        }
    )
    for notice in report.notices:
        show.line(f"  note: {notice}")
    for gap in report.gaps:
        show.line(f"  declared: {gap}", "yellow")
    for reason in report.undecided:
        show.line(f"  not known: {reason}", "yellow")
    for problem in report.problems:
        show.line(f"  {_where(problem)}: {problem.message}", "red")
    if report.ok and report.undecided:
        show.line("NOT KNOWN: nothing is wrong in itself, but that does not answer what was asked.", "yellow")
    elif report.ok:
        show.line("OK: every entry that was checked is whole, unaltered and in its place.", "green")
    else:
        show.line(f"NOT OK: {len(report.problems):,} {'problem' if len(report.problems) == 1 else 'problems'}.", "red")


def _where(problem: Problem) -> str:
    place = problem.file or "the log"
    if problem.offset is not None:
        place += f" at offset {problem.offset}"
    return place if problem.seq is None else f"{place}, entry {problem.seq}"
