"""Searching the index: which attempts, and sums over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from veyra.audit.index import MAX_INTEGER, TOKENS, Index
from veyra.audit.read import AttemptRow

By: TypeAlias = Literal["day", "model", "backend"]
BY: Final[tuple[By, ...]] = ("day", "model", "backend")

_MICRO: Final = Decimal(1_000_000)
_KEYS: Final[Mapping[By, str]] = {
    "day": "date(t / 1000000000, 'unixepoch')",
    "model": "coalesce(model, '')",
    "backend": "backend",
}
_EQUAL: Final = ("backend", "status", "actor", "trace", "call", "request_id")
_ROW: Final = (
    "seq, id, call, attempt, time, backend, model, status, request_id, latency, cost, error, outcome, "
    + ", ".join(TOKENS)
)
_TEXT: Final = """(seq IN (SELECT rowid FROM texts WHERE texts MATCH ?)
    OR ended IN (SELECT rowid FROM texts WHERE texts MATCH ?))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which attempts are meant: those for which everything that is not None holds.

    Attributes:
        since, until: recorded at or after, and before, this time (wall clock, nanoseconds).
        backend, model, status, actor, trace, call, request_id: exactly this. A status as in `AttemptRow`.
        text: all these words are in what was asked, or all are in what was answered; small and capital letters alike.
        min_tokens: at least so many tokens, of prompt and answer together, were stated.
        min_cost: it is known to have cost at least so much, in the currency of its price.
        limit: only the last so many.
    """

    since: int | None = None
    until: int | None = None
    backend: str | None = None
    model: str | None = None
    status: str | None = None
    actor: str | None = None
    trace: str | None = None
    call: str | None = None
    request_id: str | None = None
    text: str | None = None
    min_tokens: int | None = None
    min_cost: Decimal | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What a group of attempts comes to.

    Attributes:
        key: the day (UTC), the model or the backend; empty for no model.
        attempts, ok, open: how many, how many that were answered, how many without an outcome yet.
        input_tokens, output_tokens: the sums of what was stated; None where nothing was.
        unstated: attempts with an outcome that states no usage.
        cost: by currency, of what is known.
        unpriced: attempts with an outcome whose cost is not known.
    """

    key: str
    attempts: int
    ok: int
    open: int
    input_tokens: int | None
    output_tokens: int | None
    unstated: int
    cost: Mapping[str, Decimal]
    unpriced: int


def search(index: Index, query: Query) -> Iterator[AttemptRow]:
    """Yield the attempts that `query` means, oldest first. For `text`, the index must have been opened with text."""
    where, values = _where(query)
    found = f"SELECT {_ROW} FROM attempts WHERE {where}"  # noqa: S608  (our own words; values are bound)
    if query.limit is not None:
        found = f"SELECT * FROM ({found} ORDER BY seq DESC LIMIT {query.limit:d})"  # noqa: S608  (as above)
    for row in index.database.execute(f"{found} ORDER BY seq", values):
        yield _attempt(row)


def sums(index: Index, query: Query, by: By) -> list[Sums]:
    """Return the sums of the attempts that `query` means (its limit left aside), in the order of their keys."""
    where, values = _where(query)
    key = _KEYS[by]
    groups = index.database.execute(
        f"""SELECT {key}, count(*), sum(status = 'ok'), sum(ended IS NULL), sum(input_total), sum(output_total),
            sum(ended IS NOT NULL AND input_total IS NULL AND output_total IS NULL),
            sum(ended IS NOT NULL AND micro IS NULL)
            FROM attempts WHERE {where} GROUP BY 1 ORDER BY 1""",  # noqa: S608  (as above)
        values,
    ).fetchall()
    costs: dict[str, dict[str, Decimal]] = {}
    for group, currency, micro in index.database.execute(
        f"""SELECT {key}, coalesce(currency, ''), sum(micro) FROM attempts
            WHERE {where} AND micro IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2""",  # noqa: S608  (as above)
        values,
    ):
        costs.setdefault(group, {})[currency] = micro / _MICRO
    return [
        Sums(
            key=row[0],
            attempts=row[1],
            ok=row[2],
            open=row[3],
            input_tokens=row[4],
            output_tokens=row[5],
            unstated=row[6],
            cost=costs.get(row[0], {}),
            unpriced=row[7],
        )
        for row in groups
    ]


def by_status(index: Index, query: Query) -> dict[str, int]:
    """Return how many of the attempts that `query` means (its limit left aside) stand in each status, the most first."""
    where, values = _where(query)
    ask = f"SELECT status, count(*) FROM attempts WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608  (as above)
    return dict(index.database.execute(ask, values).fetchall())


def _where(query: Query) -> tuple[str, list[int | str]]:
    """Return the condition, and the values for its question marks."""
    terms: list[tuple[str, int | str | None]] = [(f"{name} = ?", getattr(query, name)) for name in _EQUAL]
    terms += [("t >= ?", query.since), ("t < ?", query.until), ("model = ?", query.model)]
    terms.append(("coalesce(input_total, 0) + coalesce(output_total, 0) >= ?", query.min_tokens))
    terms.append(("micro >= ?", None if query.min_cost is None else int(query.min_cost * _MICRO)))
    chosen = [(term, _bound(value)) for term, value in terms if value is not None]
    conditions, values = [term for term, _ in chosen], [value for _, value in chosen]
    words = _words(query.text or "")
    if words:
        conditions.append(_TEXT)
        values += [words, words]
    return " AND ".join(conditions) or "1", values


def _words(text: str) -> str:
    """Return the words as FTS5 takes them: each quoted, so that none of them is an operator; all must be there."""
    words = str(_bound(text)).replace("\0", " ").split()
    return " ".join('"' + word.replace('"', '""') + '"' for word in words)


def _bound(value: int | str) -> int | str:
    """Return a value as SQLite takes it, as the index holds it: within 64 bits, and without half characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return max(min(value, MAX_INTEGER), -MAX_INTEGER)


def _attempt(row: tuple[Any, ...]) -> AttemptRow:
    seq, ident, call, attempt, time, backend, model, status, request_id, latency, cost, error, outcome, *tokens = row
    usage: dict[str, int | None] = dict(zip(TOKENS, tokens, strict=True))
    return AttemptRow(
        seq=seq,
        id=ident,
        call=call,
        attempt=attempt,
        time=time,
        backend=backend,
        model=model,
        status=status,
        request_id=request_id,
        latency_ms=None if latency is None else latency / 1e6,
        usage=usage if any(value is not None for value in tokens) else None,
        cost=None if cost is None else Decimal(cost),
        error=error,
        outcome=outcome,
    )
