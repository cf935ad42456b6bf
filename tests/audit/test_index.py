"""The index: it says what the leaves say, however it came about, and can always be thrown away."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from audit.recording import answer, ask, filled
from veyra.audit import AttemptRow, AuditLog, BodyPart, read_attempts
from veyra.audit.index import FILE, Index, disagreements
from veyra.audit.search import Query, by_status, search, sums
from veyra.errors import AuditError

COST: dict[str, Any] = {"veyra.cost.amount": "0.25", "veyra.cost.micro": 250_000, "veyra.cost.currency": "USD"}
OTHER: dict[str, Any] = {"gen_ai.response.model": "m-2", "gen_ai.usage.input_tokens": 90}
SEARCHER = """
import sys
from veyra.audit.index import Index
from veyra.audit.search import Query, search
for _ in range(int(sys.argv[2])):
    with Index.open(sys.argv[1]) as index:
        assert index.damage is None
        print(len(list(search(index, Query()))), flush=True)
"""


def _found(directory: Path, text: str | None = None, **query: Any) -> list[AttemptRow]:
    with Index.open(directory, text=text is not None) as index:
        assert index.damage is None
        return list(search(index, Query(text=text, **query)))


async def _varied(directory: Path) -> None:
    """Record five calls that differ in everything that can be searched for."""
    log = AuditLog(directory)
    first = await ask(log, "c0", {"veyra.actor": "ann", "veyra.trace_id": "t0"})
    await answer(log, first, "c0", **COST)
    await answer(log, await ask(log, "c1"), "c1", "error", **{"error.type": "overloaded"})
    await answer(log, await ask(log, "c2"), "c2", **OTHER)
    said = [BodyPart("request.messages", '{"messages":[{"role":"user","content":"Où est le Café?"}]}'.encode(), "json")]
    third = await log.intent(call="c3", attempt=1, backend="other", attributes={}, parts=said)
    said = [BodyPart("response.message", b'{"content":"On the left \\u0026 up","finish_reason":"stop"}', "json")]
    await log.outcome(
        intent=third,
        call="c3",
        attempt=1,
        backend="other",
        status="ok",
        latency_ns=5,
        attributes={"veyra.request_id": "\ud800\0", "gen_ai.usage.input_tokens": 10**30},
        parts=said,
    )
    await ask(log, "c4")
    log.close()


async def test_the_index_says_what_the_leaves_say(tmp_path: Path) -> None:
    """Every row is the one that reading all of the log gives; what SQLite cannot keep is bounded or escaped."""
    await _varied(tmp_path)
    rows = list(read_attempts(tmp_path))
    odd = replace(rows[3], request_id="\\ud800\0", usage={**(rows[3].usage or {}), "input_total": 2**53 - 1})
    assert _found(tmp_path) == [*rows[:3], odd, *rows[4:]]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ({"backend": "other"}, ["c3"]),
        ({"model": "m-2"}, ["c2"]),
        ({"status": "error"}, ["c1"]),
        ({"status": "abandoned"}, ["c4"]),
        ({"actor": "ann"}, ["c0"]),
        ({"trace": "t0"}, ["c0"]),
        ({"call": "c2"}, ["c2"]),
        ({"request_id": "req-1"}, ["c0", "c1", "c2"]),
        ({"min_cost": Decimal("0.25")}, ["c0"]),
        ({"min_cost": Decimal("0.250001")}, []),
        ({"min_tokens": 92}, ["c2", "c3"]),
        ({"text": "café où"}, ["c3"]),
        ({"text": "LEFT"}, ["c3"]),
        ({"text": "café left"}, []),
        ({"text": "user"}, []),
        ({"text": 'stop" OR "left'}, []),
        ({"text": "q"}, []),
        ({"text": " "}, ["c0", "c1", "c2", "c3", "c4"]),
        ({"text": 'le"ft\0\ud800'}, []),
        ({"request_id": "\ud800\0"}, ["c3"]),
        ({"since": 10**30}, []),
        ({"limit": 2}, ["c3", "c4"]),
        ({"limit": 1, "backend": "mock"}, ["c4"]),
        ({"since": 0, "until": 2**62}, ["c0", "c1", "c2", "c3", "c4"]),
        ({"until": 0}, []),
    ],
)
async def test_attempts_are_found_by(tmp_path: Path, query: dict[str, Any], calls: list[str]) -> None:
    """Each part of a query chooses what it says, and no word of a text is an operator."""
    await _varied(tmp_path)
    assert [row.call for row in _found(tmp_path, **query)] == calls


async def test_times_choose_from_and_before(tmp_path: Path) -> None:
    """`since` takes the attempt recorded at that very nanosecond in, `until` leaves it out."""
    await filled(tmp_path, 3)
    with Index.open(tmp_path) as index:
        moments = [t for (t,) in index.database.execute("SELECT t FROM attempts ORDER BY seq")]
    assert [row.call for row in _found(tmp_path, since=moments[1])] == ["c1", "c2"]
    assert [row.call for row in _found(tmp_path, until=moments[1])] == ["c0"]


async def test_sums_leave_out_what_is_not_known(tmp_path: Path) -> None:
    """Tokens and money are summed by group; where nothing was stated the sum is None, and how many did not is counted."""
    await _varied(tmp_path)
    with Index.open(tmp_path) as index:
        dated, second, third = sums(index, Query(status="ok"), "model")
        assert (second.key, second.attempts, second.input_tokens, second.cost) == (
            "m-1-dated",
            1,
            7,
            {"USD": Decimal("0.25")},
        )
        assert (dated.key, dated.output_tokens, dated.unpriced) == ("", None, 1)
        assert (third.key, third.input_tokens, third.unpriced, third.unstated) == ("m-2", 90, 1, 0)
        (day,) = sums(index, Query(), "day")
        assert (day.attempts, day.ok, day.open, day.unstated) == (5, 3, 0, 1)
        assert [group.key for group in sums(index, Query(), "backend")] == ["mock", "other"]
        assert by_status(index, Query()) == {"ok": 3, "abandoned": 1, "error": 1}


async def test_the_index_follows_the_log(tmp_path: Path) -> None:
    """Entries that came since the last search are in the next; an open attempt gets its outcome."""
    log = AuditLog(tmp_path)
    intent = await ask(log, "a")
    assert [row.status for row in _found(tmp_path)] == ["open"]
    await answer(log, intent, "a")
    await ask(log, "b")
    assert [row.status for row in _found(tmp_path)] == ["ok", "open"]
    log.close()
    assert [row.status for row in _found(tmp_path)] == ["ok", "abandoned"]
    assert _found(tmp_path) == list(read_attempts(tmp_path))


async def test_the_index_of_another_log_is_made_anew(tmp_path: Path) -> None:
    """An index that was made from other leaves, longer or shorter ones, is noticed and replaced."""
    for number, pairs in enumerate((3, 5, 2)):
        await filled(tmp_path / str(number), pairs)
        if number:
            shutil.copy(tmp_path / str(number - 1) / FILE, tmp_path / str(number))
            assert [one.message for one in disagreements(tmp_path / str(number))] == [
                "it was made from other leaves than those of the log"
            ]
        assert len(_found(tmp_path / str(number))) == pairs
        assert _found(tmp_path / str(number), text="nothing") == []
        assert list(disagreements(tmp_path / str(number))) == []


@pytest.mark.parametrize("data", [b"no database at all" * 300, b"SQLite format 3\0", b"", b"\0" * 8192])
async def test_what_is_no_index_is_replaced(tmp_path: Path, data: bytes) -> None:
    """Whatever stands in the index's place, a search answers from the leaves."""
    await filled(tmp_path, 2)
    (tmp_path / FILE).write_bytes(data)
    assert len(_found(tmp_path)) == 2
    assert list(disagreements(tmp_path)) == []


async def test_an_index_of_another_version_is_replaced(tmp_path: Path) -> None:
    """A version that is not known here is not guessed at."""
    await filled(tmp_path, 2)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    assert [one.message for one in disagreements(tmp_path)] == ["it is an index of version 99, not 2"]
    assert len(_found(tmp_path)) == 2


async def test_without_a_place_for_the_file_the_index_is_in_memory(tmp_path: Path) -> None:
    """Where no index can be written the answer is the same."""
    await filled(tmp_path, 2)
    (tmp_path / FILE).mkdir()
    assert len(_found(tmp_path)) == 2
    assert len(_found(tmp_path, text="1")) == 0
    assert (tmp_path / FILE).is_dir()


async def test_a_search_while_another_holds_the_index_for_long_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked index is waited for, and then done without; it stays as it is."""
    monkeypatch.setattr("veyra.audit.index._WAIT_SECONDS", 0.05)
    await filled(tmp_path, 2)
    assert len(_found(tmp_path)) == 2
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert len(_found(tmp_path)) == 2
        with pytest.raises(OSError, match="just now"):
            list(disagreements(tmp_path))
    holder.close()
    assert list(disagreements(tmp_path)) == []


def test_where_there_is_no_log_no_index_is_made(tmp_path: Path) -> None:
    """Searching what is no log is an error and leaves nothing behind."""
    with pytest.raises(AuditError, match="there is no audit log"):
        Index.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert list(disagreements(tmp_path)) == []


async def test_damage_is_told_after_what_stands_before_it(tmp_path: Path) -> None:
    """A damaged log is searched as far as it can be read, each time."""
    await filled(tmp_path, 4)
    (segment,) = (tmp_path / "seg").iterdir()
    data = bytearray(segment.read_bytes())
    data[data.index(b'"call":"c2"')] ^= 1
    segment.write_bytes(data)
    for _ in range(2):
        with Index.open(tmp_path) as index:
            assert "damaged" in str(index.damage)
            assert [row.call for row in search(index, Query())] == ["c0", "c1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE attempts SET status = 'ok' WHERE seq = 3", None),
        ("UPDATE attempts SET micro = 1 WHERE seq = 1", "seq 1"),
        ("UPDATE attempts SET model = 'm-9' WHERE seq = 3", "seq 3"),
        ("DELETE FROM attempts WHERE seq = 3", "seq 3"),
        ("INSERT INTO attempts (seq, id, call, attempt, t, time, backend) VALUES (9, '', '', 1, 1, '', '')", "seq 9"),
        ("UPDATE mark SET hash = x'00'", "other leaves"),
        ("UPDATE mark SET seq = 900", "other leaves"),
        ("DROP TABLE attempts", "no index"),
        ("DELETE FROM mark", "seq 1"),
    ],
)
async def test_an_index_that_says_otherwise_than_the_leaves_is_found(
    tmp_path: Path, change: str, message: str | None
) -> None:
    """Every changed, missing or additional row is named."""
    await filled(tmp_path, 2)
    _found(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(change)
    database.close()
    found = [f"seq {one.seq}: {one.message}" for one in disagreements(tmp_path)]
    assert (found == []) if message is None else (found and message in found[0])


async def test_several_search_at_once_while_others_write(tmp_path: Path) -> None:
    """Processes that bring the index up to date together see it grow, and in the end it agrees with the leaves."""
    log = AuditLog(tmp_path)
    await answer(log, await ask(log))
    command = [sys.executable, "-c", SEARCHER, str(tmp_path), "15"]
    searchers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]  # noqa: ASYNC220  (it starts at once)
    while any(searcher.poll() is None for searcher in searchers):
        await answer(log, await ask(log))
        await asyncio.to_thread(lambda: list(disagreements(tmp_path)))
    log.close()
    for searcher in searchers:
        numbers = list(map(int, searcher.communicate()[0].split()))
        assert searcher.returncode == 0
        assert len(numbers) == 15
        assert numbers == sorted(numbers)
    assert _found(tmp_path) == list(read_attempts(tmp_path))
    assert list(disagreements(tmp_path)) == []
