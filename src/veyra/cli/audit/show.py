"""`veyra audit show`: one attempt, from its intent to its outcome, and on request what was said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import click

from veyra.audit import AttemptRow, Entry, find
from veyra.audit.entry import OUTCOME
from veyra.audit.read import joined
from veyra.cli import show
from veyra.cli.audit.directory import directory_option
from veyra.cli.audit.words import COLOURS, count, latency
from veyra.cli.failure import Failure

_SAID = {
    "messages": "request.messages",
    "answer": "response.message",
    "arguments": "tool.arguments",
    "result": "tool.result",
}
_OF_TOOLS = ("arguments", "result")
_APART = {"attributes", "parts"}


@click.command("show")
@click.argument("key", metavar="ID|SEQ")
@directory_option
@click.option("--bodies", is_flag=True, help="Show what was asked and answered, too.")
@click.option("--raw", metavar="NAME", help="Write the exact bytes of one body, request.wire say, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each attempt and line.")
def command(*, key: str, directory: Path, bodies: bool, raw: str | None, as_json: bool) -> None:
    """Show one attempt: what was asked of whom, how it ended, how long it took, what it used.

    ID is the id of an entry or of a call, or its beginning; SEQ is a number from `veyra audit list`.

    \b
    Example:
      veyra audit show 5 --bodies
      veyra audit show 5 --raw request.wire > request.json
    """  # noqa: D301  (\b keeps the lines of the example)
    entries = find(directory, key)
    if not entries:
        message = f"nothing in the log at {directory} has the number or the id {key}"
        raise Failure(message, "veyra audit list shows what is there")
    if raw is not None:
        show.body(_part(entries, raw))
        return
    for number, (row, group) in enumerate(_grouped(entries)):
        if as_json:
            show.record(_record(row, group, bodies=bodies))
            continue
        if number:
            show.line()
        _print(row, group, bodies=bodies)


def _part(entries: Iterable[Entry], name: str) -> bytes:
    parts = [part for entry in entries for part in entry.parts]
    named = [part for part in parts if part.name == name]
    if len(named) == 1:
        return named[0].data
    message = f"{len(named)} attempts have a body {name!r}" if named else f"there is no body {name!r}"
    hint = "name one attempt by its SEQ" if named else f"there are {', '.join(part.name for part in parts) or 'none'}"
    raise Failure(message, hint)


def _grouped(entries: Iterable[Entry]) -> Iterator[tuple[AttemptRow | None, list[Entry]]]:
    """Put each intent together with its outcome; an entry that belongs to no attempt stands alone."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        subject = entry.leaf["intent"] if entry.leaf["kind"] == OUTCOME else entry.leaf["id"]
        groups.setdefault(subject, []).append(entry)
    for group in groups.values():
        yield next(joined(group), None), group


# ------------------------------------------------------------------------------------------------ as JSON


def _record(row: AttemptRow | None, group: list[Entry], *, bodies: bool) -> dict[str, object]:
    record: dict[str, object] = {} if row is None else asdict(row)
    record["entries"] = [{"seq": entry.seq, **entry.leaf} for entry in group]
    if bodies:
        said = {name: _said(group, part) for name, part in _SAID.items()}
        record |= {name: value for name, value in said.items() if value is not None or name not in _OF_TOOLS}
    return record


def _said(group: list[Entry], name: str) -> object:
    """Return a body that is JSON, parsed; as text where it is not; None where it is not there."""
    for entry in group:
        for part in entry.parts:
            if part.name == name:
                text = part.data.decode("utf-8", "replace")
                try:
                    return json.loads(text)
                except (ValueError, RecursionError):
                    return text
    return None


# -------------------------------------------------------------------------------------------- for a person


def _print(row: AttemptRow | None, group: list[Entry], *, bodies: bool) -> None:
    if row is not None:
        show.line(f"Attempt {row.attempt} of call {row.call}: {row.status}", COLOURS.get(row.status, "plain"))
        show.fields(_summary(row))
        show.line()
    for number, entry in enumerate(group):
        if number:
            show.line()
        show.line(f"{entry.leaf['kind']}, entry {entry.seq}", "bold")
        show.fields(_leaf(entry))
    if bodies:
        _print_asked(_said(group, "request.messages"))
        _print_answered(_said(group, "response.message"))
        for name in _OF_TOOLS:
            _quote(name, _said(group, _SAID[name]))


def _summary(row: AttemptRow) -> dict[str, str]:
    usage = ", ".join(f"{name} {count(number)}" for name, number in (row.usage or {}).items() if number is not None)
    values = {
        "time": row.time,
        "backend": row.backend,
        "model": row.model,
        "latency": latency(row.latency_ms),
        "usage": usage or "not stated",
        "cost": None if row.cost is None else str(row.cost),
        "request id": row.request_id,
        "error": row.error,
    }
    return {name: value for name, value in values.items() if value is not None}


def _leaf(entry: Entry) -> dict[str, str]:
    own: dict[str, object] = {name: value for name, value in entry.leaf.items() if name not in _APART}
    attributes = entry.leaf.get("attributes")
    if isinstance(attributes, Mapping):
        own |= attributes
    parts = {part.name: f"{part.size:,} bytes, {part.media_type}" for part in entry.parts}
    return {name: _text(value) for name, value in own.items()} | parts


def _print_asked(asked: object) -> None:
    match asked:
        case {"messages": list() as messages, **others}:
            for name, value in others.items():
                _quote(str(name), value)
            for message in messages:
                match message:
                    case {"role": str() as role, "content": content}:
                        _quote(role, content)
                    case _:
                        _quote("message", message)
        case _:
            _quote("asked", asked)


def _print_answered(answered: object) -> None:
    match answered:
        case {"content": content, **others}:
            for name in ("reasoning", "tool_calls"):
                if name in others:
                    _quote(name, others[name])
            _quote("answer", content)
        case _:
            _quote("answer", answered)


def _quote(who: str, content: object) -> None:
    if content is not None:
        show.line()
        show.line(who, "bold")
        show.quotation(_text(content))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
