"""The search index: `index.db`, made from the leaves and kept beside them. Derived, disposable, and never the truth.

1. Writers do not touch it. Whoever searches first takes in, in one transaction, the entries that were appended since
   the last search. Several may do so at once; SQLite lets one after the other.
2. It remembers the last entry it has taken in: where it is, and its leaf's hash. Where that entry is not found again,
   the log is another one, and the index is made anew; so it is where the file is no index of this version.
3. Where the file cannot be written (a directory for reading only, another user's log), the index is made in memory
   and forgotten.
4. The words of bodies are taken in only when text is searched for, and only of bodies that are not encrypted. The text
   itself is not kept.
5. `disagreements` compares it, row by row, with one made anew: a check of `verify`.

sqlite3 is loaded by the first search, not by importing this module.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from veyra.audit import segment
from veyra.audit.entry import BLOCKED, INTENT, OUTCOME
from veyra.audit.read import AttemptRow, Entry, closed, opened, placed_entries, refused
from veyra.audit.tree import leaf_hash
from veyra.audit.walk import Place
from veyra.errors import AuditCorruptError, AuditError

if TYPE_CHECKING:
    import sqlite3

FILE: Final = "index.db"
VERSION: Final = 2
TOKENS: Final = ("input_total", "input_uncached", "cache_read", "cache_write", "output_total", "reasoning")
ACTOR: Final = "veyra.actor"
TRACE: Final = "veyra.trace_id"

_WAIT_SECONDS: Final = 20.0
MAX_INTEGER: Final = 2**63 - 1
"""The largest integer that SQLite keeps."""
_MAX_COUNT: Final = 2**53 - 1
"""A count above this, which no provider means, is kept as this: sums of such counts still fit."""
_NOTHING: Final = AttemptRow(seq=0, id="", call="", attempt=0, time="", backend="", model=None)
_SAID: Final = frozenset({"request.messages", "response.message"})
_NO_WORDS: Final = frozenset({"role", "type", "finish_reason"})


class Disagreement(NamedTuple):
    """What the index says otherwise than the leaves; `seq` is None where no one entry is meant."""

    seq: int | None
    message: str


class Index:
    """The index of one log, brought up to date when it is opened.

    Attributes:
        database: the connection, for `search`.
        damage: what kept it from taking in the rest of the log; None where it holds all of it.
    """

    def __init__(self, directory: Path, database: sqlite3.Connection, *, text: bool) -> None:
        self.database = database
        with _transaction(database):
            self.damage = _refresh(database, directory, _ATTEMPTS)
            if text:
                self.damage = _refresh(database, directory, _TEXTS) or self.damage

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, text: bool = False) -> Self:
        """Open the index of the log in `directory` and take in what is new; with `text`, the words of bodies, too.

        Raises:
            AuditError: there is no log, it cannot be read, or this Python's SQLite cannot index text.
        """
        import sqlite3  # noqa: PLC0415  (loaded by the first search)

        path = Path(directory)
        if not segment.listed(path):
            msg = f"there is no audit log at {path}"
            raise AuditError(msg)
        if text:
            _require_fts5()
        for _ in range(2):
            try:
                return cls._over(_connect(path / FILE), path, text=text)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    break  # others are at it for long: rule 3
                _discard(path / FILE)  # rule 2; where the file stays, opening it fails again
            except OSError:
                break
        return cls._over(_private(), path, text=text)

    @classmethod
    def _over(cls, database: sqlite3.Connection, path: Path, *, text: bool) -> Self:
        try:
            return cls(path, database, text=text)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def disagreements(directory: Path) -> Iterator[Disagreement]:
    """Yield what the index of the log in `directory` says otherwise than its leaves; nothing where there is no index.

    The index is copied first, so that those who search meanwhile need not wait. Ends on any file.

    Raises:
        OSError: it cannot be read just now.
    """
    import sqlite3  # noqa: PLC0415  (loaded where there is an index)

    try:
        with contextlib.closing(_copy(directory / FILE)) as found:
            yield from _compare(found, directory)
    except FileNotFoundError:
        return
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY_ROLLBACK}:
            msg = f"the index cannot be read just now: {error}"
            raise OSError(msg) from error
        yield Disagreement(None, f"it is no index that can be read ({error})")


# ------------------------------------------------------------------------------------------------- the file


def _connect(file: Path) -> sqlite3.Connection:
    """Open the file for writing, made with mode 0600 where it is not there.

    Raises:
        OSError: it cannot be opened for writing.
        sqlite3.DatabaseError: it is no database, or of another version.
    """
    import sqlite3  # noqa: PLC0415  (as in Index.open)

    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)
    try:
        _require_version(database)
    except BaseException:
        database.close()
        raise
    return database


def _private() -> sqlite3.Connection:
    """Open a database of this process alone; SQLite moves it to a temporary file where it gets large."""
    import sqlite3  # noqa: PLC0415  (as in Index.open)

    return sqlite3.connect("", isolation_level=None)


def _copy(file: Path) -> sqlite3.Connection:
    import sqlite3  # noqa: PLC0415  (as in Index.open)

    file.stat()
    copy = _private()
    name = f"{file.absolute().as_uri()}?mode=ro"
    source = sqlite3.connect(name, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    try:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # waits, and then keeps others from writing,
        source.backup(copy)  # which waits without an end
    except BaseException:
        copy.close()
        raise
    finally:
        source.close()
    return copy


def _discard(file: Path) -> None:
    """Remove what is no index, its journal first, lest that be taken for the next one's."""
    for path in (file.with_name(f"{file.name}-journal"), file):
        with contextlib.suppress(OSError):  # it is tried once more, and then done without
            path.unlink()


def _require_version(database: sqlite3.Connection) -> None:
    import sqlite3  # noqa: PLC0415  (as in Index.open)

    if _version(database) not in {0, VERSION}:
        msg = "it is an index of another version"
        error = sqlite3.DatabaseError(msg)
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise error


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _require_fts5() -> None:
    with contextlib.closing(_private()) as database:
        if not database.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()[0]:
            msg = "this Python's SQLite cannot index text: it was built without FTS5"
            raise AuditError(msg)


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.rollback()
        raise
    database.commit()


# ------------------------------------------------------------------------------------------------ taking in


class _Table(NamedTuple):
    """What is taken in: a table, the statements that make it, and how it takes an entry."""

    name: str
    statements: tuple[str, ...]
    take: Callable[[sqlite3.Connection, Entry], None]


class _Mark(NamedTuple):
    """The last entry that was taken in."""

    place: Place
    hash: bytes


class _AnotherLogError(Exception):
    """The entry at the mark is not there: the table was made from other leaves."""


def _refresh(
    database: sqlite3.Connection, directory: Path, table: _Table, until: int = MAX_INTEGER
) -> AuditCorruptError | None:
    """Take in the entries after the mark, up to the number `until`, within a transaction.

    Returns what kept it from going on to the end of the log.
    """
    for statement in table.statements:
        database.execute(statement)
    try:
        return _follow(database, directory, table, until)
    except _AnotherLogError:
        database.execute(f"DROP TABLE {table.name}")  # one of our own names
        database.execute("DELETE FROM mark WHERE name = ?", (table.name,))
        for statement in table.statements:
            database.execute(statement)
        return _follow(database, directory, table, until)


def _follow(database: sqlite3.Connection, directory: Path, table: _Table, until: int) -> AuditCorruptError | None:
    mark = _mark(database, table.name)
    entries = placed_entries(directory, None if mark is None else mark.place)
    damage = None
    taken: _Mark | None = None
    try:
        if mark is not None:
            found = next(entries, None)
            if found is None or _Mark(found[0], leaf_hash(found[1].raw)) != mark:
                raise _AnotherLogError
        for place, entry in entries:
            if place.seq > until:
                break
            table.take(database, entry)
            taken = _Mark(place, leaf_hash(entry.raw))
    except AuditCorruptError as error:
        if mark is not None and taken is None:
            raise _AnotherLogError from None  # or there is damage at the mark: made anew, it is met again
        damage = error
    if taken is not None:
        values = (table.name, *taken.place, taken.hash)
        database.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?, ?)", values)
    return damage


def _mark(database: sqlite3.Connection, name: str) -> _Mark | None:
    row = database.execute("SELECT segment, offset, seq, hash FROM mark WHERE name = ?", (name,)).fetchone()
    return None if row is None else _Mark(Place(*row[:3]), row[3])


def _take(database: sqlite3.Connection, entry: Entry) -> None:
    leaf = entry.leaf
    if leaf["kind"] == INTENT:
        database.execute(_INTENT, _intent(entry))
    elif leaf["kind"] == OUTCOME:
        database.execute(_OUTCOME, _outcome(entry))
    elif leaf["kind"] == BLOCKED:
        database.execute(_INTENT, _intent(entry))
        row = refused(entry)
        database.execute(_BLOCKED, (row.status, _plain(row.error), entry.seq, entry.seq))


def _intent(entry: Entry) -> list[object]:
    row, leaf = opened(entry), entry.leaf
    actor, trace = (leaf["attributes"].get(name) for name in (ACTOR, TRACE))
    moment = min(int(leaf["t"]), MAX_INTEGER)
    names = [_plain(text) for text in (actor, trace, row.backend, row.model)]
    return [entry.seq, _plain(row.id), _plain(row.call), _count(row.attempt), moment, row.time, *names]


def _outcome(entry: Entry) -> list[object]:
    leaf = entry.leaf
    row, attributes = closed(_NOTHING, leaf), leaf["attributes"]
    latency = None if leaf["latency"] is None else min(int(leaf["latency"]), MAX_INTEGER)
    tokens = [_count((row.usage or {}).get(name)) for name in TOKENS]
    micro, currency = (attributes.get(name) for name in ("veyra.cost.micro", "veyra.cost.currency"))
    cost = None if row.cost is None else str(row.cost)
    end = [cost, _count(micro), _plain(currency), _plain(row.error), _plain(row.outcome), entry.seq]
    start = [_plain(row.model), row.status, _plain(row.request_id), latency]
    return [*start, *tokens, *end, _plain(leaf["intent"])]


def _plain(value: object) -> str | None:
    """Return text as SQLite takes it: half a character, which JSON can hold, is written as an escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return max(min(value, _MAX_COUNT), -_MAX_COUNT) if type(value) is int else None


def _take_words(database: sqlite3.Connection, entry: Entry) -> None:
    said = [part.data for part in entry.parts if part.name in _SAID]
    if said:
        words = "\n".join(word for data in said for word in _words(data))
        database.execute("INSERT INTO texts (rowid, words) VALUES (?, ?)", (entry.seq, _plain(words)))


def _words(data: bytes) -> Iterator[str]:
    """Yield the texts in a body: the strings of its JSON but for keys, or all of it where it is no JSON."""
    text = data.decode("utf-8", "replace")
    try:
        waiting: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        yield text
        return
    while waiting:
        match waiting.pop():
            case str() as value:
                yield value
            case list() as items:
                waiting.extend(reversed(items))
            case dict() as fields:
                waiting.extend(value for name, value in fields.items() if name not in _NO_WORDS)
            case _:
                pass


_MARKS: Final = """CREATE TABLE IF NOT EXISTS mark (
    name TEXT PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL
) WITHOUT ROWID"""
_ATTEMPTS: Final = _Table(
    "attempts",
    (
        f"PRAGMA user_version = {VERSION}",
        _MARKS,
        f"""CREATE TABLE IF NOT EXISTS attempts (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL, call TEXT NOT NULL, attempt INTEGER NOT NULL,
            t INTEGER NOT NULL, time TEXT NOT NULL, actor TEXT, trace TEXT, backend TEXT NOT NULL, model TEXT,
            status TEXT NOT NULL DEFAULT 'open', request_id TEXT, latency INTEGER,
            {", ".join(f"{name} INTEGER" for name in TOKENS)},
            cost TEXT, micro INTEGER, currency TEXT, error TEXT, outcome TEXT, ended INTEGER
        )""",
        *(f"CREATE INDEX IF NOT EXISTS by_{name} ON attempts ({name})" for name in ("id", "call", "request_id", "t")),
        "CREATE INDEX IF NOT EXISTS by_ended ON attempts (ended)",
    ),
    _take,
)
_TEXTS: Final = _Table(
    "texts", (_MARKS, "CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5 (words, content='')"), _take_words
)
_INTENT: Final = """INSERT INTO attempts (seq, id, call, attempt, t, time, actor, trace, backend, model)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ENDING: Final = ("status", "request_id", "latency", *TOKENS, "cost", "micro", "currency", "error", "outcome", "ended")
_OUTCOME: Final = (
    f"UPDATE attempts SET model = coalesce(?, model), {', '.join(f'{name} = ?' for name in _ENDING)} "  # noqa: S608  (our own words)
    "WHERE id = ? AND ended IS NULL"
)
_BLOCKED: Final = "UPDATE attempts SET status = ?, error = ?, ended = ? WHERE seq = ?"


# ------------------------------------------------------------------------------------------------ comparing


def _compare(found: sqlite3.Connection, directory: Path) -> Iterator[Disagreement]:
    version = _version(found)
    if version != VERSION:
        if version or found.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            yield Disagreement(None, f"it is an index of version {version}, not {VERSION}")
        return
    (state,) = found.execute("PRAGMA integrity_check(1)").fetchone()
    if state != "ok":
        yield Disagreement(None, f"its file is damaged ({state})")
        return
    with contextlib.closing(_private()) as right:
        mark = _mark(found, _ATTEMPTS.name)
        with _transaction(right):
            _refresh(right, directory, _ATTEMPTS, -1 if mark is None else mark.place.seq)
        if mark != _mark(right, _ATTEMPTS.name):
            yield Disagreement(None, "it was made from other leaves than those of the log")
            return
        ask = "SELECT * FROM attempts ORDER BY seq"
        for ours, theirs in zip_longest(right.execute(ask), found.execute(ask)):
            if ours != theirs:
                yield Disagreement((ours or theirs)[0], "its row is not what the leaves say")
