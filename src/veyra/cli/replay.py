"""`veyra replay`: recorded calls, decoded again, asked of another backend, or written down as a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from veyra import config
from veyra.audit import find, read_entries
from veyra.audit.index import Index
from veyra.audit.search import Query, search
from veyra.cli import show
from veyra.cli.audit.filters import filter_options
from veyra.cli.audit.words import latency
from veyra.cli.failure import Failure, Misuse
from veyra.models.endpoints import ENDPOINTS
from veyra.models.gate import Gate
from veyra.models.registry import get_backend
from veyra.replay import against, as_test
from veyra.replay.against import Compared
from veyra.replay.decode import Decoded, decode
from veyra.replay.recorded import RecordedAttempt, attempts
from veyra.transport.fields import NOTHING, Difference

DIFFERENT: Final = 1
"""The exit status where anything differs."""
_HEADINGS: Final = ("SEQ#", "MODEL", "TEXT#", "TOOLS", "SCHEMA", "LATENCY#", "NOW#", "COST#", "NOW#", "ERROR")
_SHOWN: Final = 10
"""Calls that were passed over of which the reason is told."""


@click.command("replay")
@click.argument("what", metavar="[ID|LOG]", required=False)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=lambda: config.load().audit_dir,
    help="The log to read, instead of the usual one.",
)
@click.option("--against", "target", metavar="BACKEND[:MODEL]", help="Ask this one what was asked then, and compare.")
@click.option("--base-url", metavar="URL", help="Where that backend is, instead of its own address.")
@click.option("--audit", metavar="DIR|memory|off", help="Where its calls are recorded, instead of the usual log.")
@click.option("--yes", is_flag=True, help="Make calls that may cost money.")
@click.option(
    "--as-test", "test", metavar="FILE", type=click.Path(path_type=Path), help="Write a pytest file and a tape."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the last N.")
@filter_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each call and line.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    what: str | None,
    directory: Path,
    target: str | None,
    base_url: str | None,
    audit: str | None,
    yes: bool,
    test: Path | None,
    limit: int | None,
    query: Query,
    as_json: bool,
) -> None:
    """Make recorded calls again, and show what differs.

    ID is a call, an entry, or a SEQ of veyra audit list; LOG is a log's directory. Without either, the usual log is meant.
    Options that choose are those of veyra audit list.

    The recorded bytes are decoded by this Veyra, and what comes out is compared, field by field, with what was handed on
    then. Nothing is sent. With --against the questions go to another backend instead, and its answers are compared with
    those of then. With --as-test each call is written down as a test that is answered from a tape.

    Exit status: 0 nothing differs, 1 something does, 2 wrong use.

    \b
    Example:
      veyra replay 5
      veyra replay --backend openai --since 24h
      veyra replay --against ollama:llama3.2 --model gpt-4o --limit 20
    """  # noqa: D301  (\b keeps the lines of the example)
    _check_use(target=target, base_url=base_url, audit=audit, yes=yes, test=test)
    query = replace(query, limit=limit)
    if what is None or Path(what).is_dir():
        chosen, number = _searched(directory if what is None else Path(what), query)
    elif query != Query():
        msg = f"{what} is no directory, and so names one call: options that choose go with a log"
        raise click.UsageError(msg)
    else:
        chosen, number = _named(what, directory)
    if target is not None:
        is_same = _against(list(chosen), target, base_url=base_url, audit=audit, yes=yes, as_json=as_json)
    elif test is not None:
        is_same = _as_test(list(chosen), test)
    else:
        is_same = _decode(chosen, number, as_json=as_json)
    if not is_same:
        ctx.exit(DIFFERENT)


def _check_use(*, target: str | None, base_url: str | None, audit: str | None, yes: bool, test: Path | None) -> None:
    if target is None and (base_url is not None or audit is not None or yes):
        msg = "--base-url, --audit and --yes go with --against: without it nothing is sent"
        raise click.UsageError(msg)
    if target is not None and test is not None:
        msg = "--against asks now, --as-test writes down what was asked then: give one of them"
        raise click.UsageError(msg)


def _named(key: str, directory: Path) -> tuple[Iterator[RecordedAttempt], int]:
    """Return the attempts that an id or a number names, and how many they are."""
    entries = find(directory, key)
    found = list(attempts(entries))
    if not found:
        message = f"no call in the log at {directory} has the number or the id {key}, and it is no directory"
        if entries:
            message = f"entry {entries[0].seq} is a {entries[0].leaf['kind']}: nothing was asked with it"
        raise Failure(message, "veyra audit list shows what is there")
    return iter(found), len(found)


def _searched(directory: Path, query: Query) -> tuple[Iterator[RecordedAttempt], int]:
    """Return the attempts of a log that a query means, and how many they are; reading raises where the log is damaged."""
    with Index.open(directory, text=query.text is not None) as index:
        ids = [row.id for row in search(index, query)]
    return attempts(read_entries(directory), ids), len(ids)


# ------------------------------------------------------------------------------------------------ decoding


@dataclass(slots=True)
class _Tally:
    """What decoding came to: how many were decoded, how many of these differ, and which were passed over, and why."""

    decoded: int = 0
    differing: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, found: Decoded) -> None:
        """Count one in."""
        if found.skipped is not None:
            self.skipped.append((_name(found.attempt), found.skipped))
            return
        self.decoded += 1
        self.differing += bool(found.differences)


def _decode(chosen: Iterable[RecordedAttempt], number: int, *, as_json: bool) -> bool:
    """Decode attempts again, show what differs, and say whether nothing does."""
    tally = asyncio.run(_decode_each(chosen, number, as_json=as_json))
    if as_json:
        totals = {"decoded": tally.decoded, "differing": tally.differing, "skipped": len(tally.skipped)}
        show.record({"totals": totals})
        return not tally.differing
    _print_skipped(tally.skipped, "had nothing to decode")
    if not number:
        show.line("No call was chosen, so nothing was decoded.", "yellow")
    elif tally.decoded or not tally.skipped:
        what = _count(tally.differing, "call differs", "calls differ") if tally.differing else "nothing differs"
        show.line(f"{_count(tally.decoded, 'call')} decoded again: {what}.", "red" if tally.differing else "green")
    return not tally.differing


async def _decode_each(chosen: Iterable[RecordedAttempt], number: int, *, as_json: bool) -> _Tally:
    tally = _Tally()
    with show.progress("decoding") as tell:
        for done, attempt in enumerate(chosen, 1):
            found = await decode(attempt)
            tally.add(found)
            if as_json:
                show.record(_record(found))
            elif found.differences:
                _print(found)
            if tell is not None:
                tell(done, number)
    return tally


def _print(found: Decoded) -> None:
    show.line(f"{_name(found.attempt)}: {_count(len(found.differences), 'difference')}", "bold")
    for difference in found.differences:
        show.line(f"  {difference.describe('recorded', 'today')}")


def _record(found: Decoded) -> dict[str, object]:
    differing = [_difference(difference) for difference in found.differences]
    return {**_identity(found.attempt), "skipped": found.skipped, "differences": differing}


def _difference(difference: Difference) -> dict[str, object]:
    """Write a difference; a side that has no such field has no key."""
    sides = {"recorded": difference.one, "today": difference.other}
    return {"field": difference.field} | {name: value for name, value in sides.items() if value is not NOTHING}


# ------------------------------------------------------------------------------------------------ comparing


def _against(
    chosen: Sequence[RecordedAttempt],
    target: str,
    *,
    base_url: str | None,
    audit: str | None,
    yes: bool,
    as_json: bool,
) -> bool:
    """Ask another backend what was asked, show how its answers compare, and say whether they are all the same."""
    reasons = [(attempt, against.unfit(attempt)) for attempt in chosen]
    asked = [attempt for attempt, why in reasons if why is None]
    gate, model = _opened(target, base_url, audit)
    if asked and not yes and not against.is_free(gate):
        message = f"{_count(len(asked), 'call')} would be made to {target}, and may cost money"
        raise Misuse(message, "add --yes to make them, or choose fewer with --limit")
    skipped = [(_name(attempt), why) for attempt, why in reasons if why is not None]
    _print_skipped(skipped, "not asked again", is_note=True)
    results: list[Compared] = []
    try:
        asyncio.run(_ask(gate, asked, model, results, as_json=as_json))
    finally:  # what was paid for is shown, also where it comes to an early end
        if gate.log is not None:
            gate.log.close()
        _print_results(results, as_json=as_json)
    return all(result.is_same for result in results)


def _opened(target: str, base_url: str | None, audit: str | None) -> tuple[Gate, str | None]:
    name, _, model = target.partition(":")
    if name in ENDPOINTS and not model:
        message = f"--against {name} does not say which model to ask"
        raise Misuse(message, f"write --against {name}:MODEL")
    options: dict[str, Any] = {} if base_url is None else {"base_url": base_url}
    if name in ENDPOINTS:
        options["on_unsupported"] = "warn"  # what the other model does not take is left out, and told
    return get_backend(name, audit=audit, **options), model or None


async def _ask(
    gate: Gate, asked: Sequence[RecordedAttempt], model: str | None, results: list[Compared], *, as_json: bool
) -> None:
    with show.progress("asking") as tell:
        async with gate:
            for number, attempt in enumerate(asked, 1):
                result = await against.ask_again(gate, attempt, model=model)
                results.append(result)
                if as_json:
                    show.record(_comparison(result))
                if tell is not None:
                    tell(number, len(asked))


def _print_results(results: Sequence[Compared], *, as_json: bool) -> None:
    totals = against.totals(results)
    if as_json:
        show.record({"totals": asdict(totals)})
        return
    if results:
        show.table(_HEADINGS, [_cells(result) for result in results], {"no": "yellow"})
        show.line()
    show.fields(_summary(totals))
    for message in list(dict.fromkeys(f"{one.error}: {one.message}" for one in results if one.message))[:_SHOWN]:
        show.note(message)


def _cells(result: Compared) -> tuple[str, ...]:
    row, answer = result.attempt.row, result.answer
    return (
        str(row.seq),
        row.model or "-",
        _share(result.similarity),
        _yes(result.same_tools),
        _yes(result.fits),
        latency(row.latency_ms),
        latency(None if answer is None else answer.latency_ms),
        _money(row.cost),
        _money(None if answer is None else answer.cost),
        result.error or "",
    )


def _summary(totals: against.Totals) -> dict[str, str]:
    answered = totals.calls - totals.failed
    values = {"calls": f"{totals.calls:,}, of which {totals.failed:,} failed", "same answer": f"{totals.same:,}"}
    if answered:
        values["text"] = f"{_share(totals.similarity)} alike on average"
        values["tools"] = f"the same in {totals.same_tools:,} of {answered:,}"
        then, now = totals.latency_ms
        values["latency"] = f"{latency(then)} then, {latency(now)} now, in all"
    if totals.shaped:
        values["schema"] = f"kept to in {totals.fitting:,} of {totals.shaped:,}"
    if totals.priced:
        before, after = totals.cost
        values["cost"] = f"{_money(before)} then, {_money(after)} now, where both are known ({totals.priced:,})"
    return values


def _comparison(result: Compared) -> dict[str, object]:
    answer = result.answer
    return {
        **_identity(result.attempt),
        "same_text": result.same_text,
        "similarity": result.similarity,
        "same_tools": result.same_tools,
        "fits": result.fits,
        "error": result.error,
        "message": result.message,
        "latency_ms": result.attempt.row.latency_ms,
        "cost": result.attempt.row.cost,
        "now": None if answer is None else _answer(asdict(answer)),
    }


def _answer(answer: Mapping[str, object]) -> dict[str, object]:
    kept = ("content", "tool_calls", "finish_reason", "model", "latency_ms", "usage", "cost", "warnings", "receipt")
    return {name: answer[name] for name in kept}


# ------------------------------------------------------------------------------------------------- as a test


def _as_test(chosen: Sequence[RecordedAttempt], path: Path) -> bool:
    """Write attempts down as a test, and say whether it would pass."""
    for file in (path, path.with_suffix(".tape.jsonl")):
        if file.exists():
            message = f"{file} is there already, and is not written over"
            raise Misuse(message, "give another name, or remove it first")
    if path.suffix != ".py":
        message = f"{path} does not end in .py, so pytest would not find it"
        raise Misuse(message, "give a name such as test_recorded.py")
    found = [as_test.case(attempt) for attempt in chosen]
    cases = [one for one in found if isinstance(one, as_test.Case)]
    _print_skipped(
        [(_name(one.attempt), one.why) for one in found if isinstance(one, as_test.Refused)], "left out", is_note=True
    )
    if not cases:
        message = "none of these calls can become a test, so nothing was written"
        raise Failure(message)
    tape = as_test.write(cases, path)
    show.line(f"{_count(len(cases), 'test')} in {path}, answered from {tape}")
    return _decode([one.attempt for one in cases], len(cases), as_json=False)


# ---------------------------------------------------------------------------------------------------- words


def _identity(attempt: RecordedAttempt) -> dict[str, object]:
    row = attempt.row
    names = ("seq", "id", "call", "attempt", "backend", "model", "status")
    return {name: getattr(row, name) for name in names}


def _name(attempt: RecordedAttempt) -> str:
    row = attempt.row
    return f"{row.seq} {row.backend}, {row.model or 'no model'}, {row.status}"


def _print_skipped(skipped: Sequence[tuple[str, str]], what: str, *, is_note: bool = False) -> None:
    tell = show.note if is_note else show.line
    for name, why in skipped[:_SHOWN]:
        tell(f"{name}: {what}; {why}")
    if len(skipped) > _SHOWN:
        tell(f"and {_count(len(skipped) - _SHOWN, 'call')} more: {what}")


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _share(number: float | None) -> str:
    return "-" if number is None else f"{int(number * 100)} %"


def _yes(value: bool | None) -> str:  # noqa: FBT001  (one value)
    return "-" if value is None else "yes" if value else "no"


def _money(amount: Decimal | None) -> str:
    return "-" if amount is None else f"{amount:f}"  # and never as 9E-7
