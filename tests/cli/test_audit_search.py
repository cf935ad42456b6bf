"""Searching the log, summing it up, and saying how it stands, on the command line."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import Result

from audit.recording import answer, ask, filled, pair
from veyra.audit import AuditLog, BodyPart, read_entries, segment
from veyra.audit.entry import commit, gap, session_close, session_open
from veyra.audit.frame import encode
from veyra.audit.session import Session
from veyra.audit.tree import leaf_hash
from veyra.cli import show
from veyra.cli.audit.filters import Amount, Moment

Run = Callable[..., Result]
COST: dict[str, Any] = {"veyra.cost.amount": "0.25", "veyra.cost.micro": 250_000, "veyra.cost.currency": "USD"}


@pytest.fixture
async def calls(log: Path) -> None:
    """Record three calls: one that is priced, one that failed, and one whose bodies are no text."""
    recorder = AuditLog(log)
    await answer(recorder, await ask(recorder, "c0", {"veyra.actor": "ann"}), "c0", **COST)
    await answer(recorder, await ask(recorder, "c1"), "c1", "error")
    parts = [BodyPart("request.wire", b"\xff\x00", "application/octet-stream")]
    await recorder.intent(call="c2", attempt=1, backend="other", attributes={}, parts=parts)
    recorder.close()


def _rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


# ------------------------------------------------------------------------------------------------ filters


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("options", "calls_found"),
    [
        (["--since", "1h"], ["c0", "c1", "c2"]),
        (["--until", "1h"], []),
        (["--since", "2999-01-01"], []),
        (["--actor", "ann"], ["c0"]),
        (["--min-cost", "0.2"], ["c0"]),
        (["--min-tokens", "9", "--limit", "1"], ["c1"]),
        (["--model", "m-1-dated", "--status", "ok"], ["c0"]),
        (["--call", "c1"], ["c1"]),
        (["--backend", "other"], ["c2"]),
    ],
)
def test_list_chooses(veyra: Run, options: list[str], calls_found: list[str]) -> None:
    """Options that choose are put together; the rows are those that all of them mean."""
    assert [row["call"] for row in _rows(veyra("audit", "list", "--json", *options))] == calls_found


@pytest.mark.parametrize("value", ["yesterday", "7", "7y", "2026-13-01", ""])
def test_what_is_no_time_is_wrong_use(veyra: Run, value: str) -> None:
    """A time that cannot be read is said so, with the ways to write one, and nothing is searched."""
    result = veyra("audit", "list", "--since", value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "2026-01-31T13:30" in result.stderr


def test_times_are_read_as_written() -> None:
    """A date, a date and time, a zone, and a time ago are nanoseconds since 1970; UTC is meant where no zone is said."""
    parameter = Moment()
    day = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp()) * 10**9
    assert parameter.convert("2026-01-31", None, None) == day
    assert parameter.convert("2026-01-31T00:00:00.000001", None, None) == day + 1000
    assert parameter.convert("2026-01-31T02:00+02:00", None, None) == day
    assert abs(time.time_ns() - parameter.convert("1d", None, None) - timedelta(days=1).total_seconds() * 1e9) < 1e10


@pytest.mark.parametrize("value", ["", "much", "nan", "inf"])
def test_what_is_no_amount_is_wrong_use(value: str) -> None:
    """Only a finite number is an amount."""
    assert Amount().convert("0.05", None, None) == Decimal("0.05")
    with pytest.raises(click.BadParameter, match="no amount"):
        Amount().convert(value, None, None)


# -------------------------------------------------------------------------------------------------- stats


@pytest.mark.usefixtures("calls")
def test_stats_json_has_one_object_for_each_group(veyra: Run) -> None:
    """Sums leave out what is not known, and say how much that is."""
    (day,) = _rows(veyra("audit", "stats", "--json"))
    assert day == {
        "day": datetime.now(UTC).date().isoformat(),
        "attempts": 3,
        "ok": 1,
        "open": 0,
        "input_tokens": 14,
        "output_tokens": 4,
        "unstated": 1,
        "cost": {"USD": "0.25"},
        "unpriced": 2,
    }
    backends = _rows(veyra("audit", "stats", "--by", "backend", "--json"))
    assert [(row["backend"], row["input_tokens"]) for row in backends] == [("mock", 14), ("other", None)]


@pytest.mark.usefixtures("calls")
def test_stats_is_a_table_for_a_person(veyra: Run) -> None:
    """Money is shown with its currency, a dash where nothing is known."""
    lines = veyra("audit", "stats", "--by", "backend").stdout.splitlines()
    assert lines[0].split() == ["BACKEND", "ATTEMPTS", "OK", "OPEN", "IN", "OUT", "UNSTATED", "COST", "UNPRICED"]
    assert lines[1].split() == ["mock", "2", "1", "0", "14", "4", "0", "0.250000", "USD", "1"]
    assert lines[2].split() == ["other", "1", "0", "0", "-", "-", "1", "-", "1"]


# ------------------------------------------------------------------------------------------------- status


async def test_status_names_the_writers(veyra: Run, log: Path) -> None:
    """A process that has the log open is named with its mode; one that has closed it is not."""
    recorder = AuditLog(log)
    await pair(recorder)
    (told,) = _rows(veyra("audit", "status", "--json"))
    assert (told["entries"], told["segments"], told["attempts"], told["quarantined"]) == (3, 1, {"ok": 1}, 0)
    assert [(writer["mode"]) for writer in told["writers"]] == ["strict"]
    assert "strict" in veyra("audit", "status").stdout
    await ask(recorder)
    recorder.close()
    (told,) = _rows(veyra("audit", "status", "--json"))
    assert (told["writers"], told["attempts"]) == ([], {"abandoned": 1, "ok": 1})
    assert told["checkpoint_size"] == told["entries"] == 6
    assert (told["lost"], told["anchors"]) == (0, {})
    shown = veyra("audit", "status").stdout
    assert "over 6 entries" in shown
    assert "writers      none" in shown


async def test_status_counts_what_the_log_declares_lost(veyra: Run, tmp_path: Path) -> None:
    """The numbers of `gap` entries are added up, whatever else there is."""
    await filled(tmp_path / "log", 1)
    session = Session()
    drafts = [gap(since=1, until=2, intents=3, outcomes=number, reason="no room") for number in (0, 4)]
    sealed = [session.seal(draft) for draft in (session_open(pid=1, mode="strict"), *drafts, session_close())]
    with segment.path(tmp_path / "log", 0).open("ab") as file:
        file.write(b"".join(encode(4 + number, entry) for number, entry in enumerate(sealed)))
    (told,) = _rows(veyra("audit", "status", "--json", "--dir", str(tmp_path / "log")))
    assert told["lost"] == 10


@pytest.mark.usefixtures("calls")
def test_status_tells_of_a_log_that_cannot_be_read_to_its_end(veyra: Run, log: Path) -> None:
    """Damage in the last segment is a note; a missing log an error."""
    (file,) = (log / "seg").iterdir()
    data = bytearray(file.read_bytes())
    data[data.index(b'"call":"c1"')] ^= 1
    file.write_bytes(data)
    result = veyra("audit", "status")
    assert "note: 00000000.vseg at offset" in result.stdout
    missing = veyra("audit", "status", "--dir", str(log / "nowhere"))
    assert (missing.exit_code, missing.stdout) == (1, "")


# ------------------------------------------------------------------------------------------------- export


@pytest.mark.usefixtures("calls")
def test_export_has_every_entry_as_it_was_hashed(veyra: Run, log: Path) -> None:
    """Each line holds the exact text of the leaf, and its hash."""
    rows = _rows(veyra("audit", "export", "--jsonl"))
    entries = list(read_entries(log))
    assert [row["raw"].encode() for row in rows] == [entry.raw for entry in entries]
    for row in rows:
        assert row["hash"] == leaf_hash(row["raw"].encode()).hex()
        assert json.loads(row["raw"]) == row["leaf"]
        assert "bodies" not in row


@pytest.mark.usefixtures("calls")
def test_export_of_bodies_can_be_checked(veyra: Run) -> None:
    """With the salt that is exported, each body gives the commitment in its leaf."""
    rows = _rows(veyra("audit", "export", "--bodies"))
    checked = 0
    for row in rows:
        for part in row["leaf"].get("parts", ()):
            body = row["bodies"][part["name"]]
            data = body["text"].encode() if "text" in body else base64.b64decode(body["base64"])
            assert commit(bytes.fromhex(body["salt"]), part["name"], data).hex() == part["commit"]
            checked += 1
    assert checked == 5


# ------------------------------------------------------------------------------------------------- verify


@pytest.mark.usefixtures("calls")
async def test_verify_quick_goes_on_from_the_last_time(veyra: Run, log: Path, tmp_path: Path) -> None:
    """The first time everything is read, the next only what came since; a file given by hand works alike."""
    assert _rows(veyra("audit", "verify", "--level", "quick", "--json"))[0]["since"] == 0
    recorder = AuditLog(log)
    await pair(recorder)
    recorder.close()
    told = _rows(veyra("audit", "verify", "--level", "quick", "--json"))[0]
    assert (told["since"], told["intents"], told["ok"]) == (8, 1, True)
    file = str(tmp_path / "state")
    for since in (0, 12):
        assert _rows(veyra("audit", "verify", "--since", file, "--json"))[0]["since"] == since
    assert "12, not read again" in veyra("audit", "verify", "--since", file).stdout
    (tmp_path / "state").write_text("{")
    assert veyra("audit", "verify", "--since", file).exit_code == 2


@pytest.mark.usefixtures("calls")
def test_verify_tells_when_the_index_says_otherwise(veyra: Run, log: Path) -> None:
    """An index that was altered is a problem of its own, named with its file."""
    import sqlite3  # noqa: PLC0415  (this test alone)

    assert veyra("audit", "list").exit_code == 0
    with sqlite3.connect(log / "index.db") as database:
        database.execute("UPDATE attempts SET status = 'ok' WHERE call = 'c1'")
    database.close()
    result = veyra("audit", "verify", "--json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert (problem["code"], problem["file"], problem["seq"]) == ("index", "index.db", 3)
    assert veyra("audit", "verify", "--level", "tree").exit_code == 0


def test_progress_is_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a long work tells how far it is and wipes that away; elsewhere it says nothing."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with show.progress("working") as tell:
        assert tell is None
    terminal = Terminal()
    moments = iter([0.0, 0.5, 1.5, 1.5, 1.55, 1.9, 1.9])
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("veyra.cli.show.time", SimpleNamespace(monotonic=lambda: next(moments)))
    with show.progress("working") as tell:
        assert tell is not None
        for done in (1, 50, 60, 100):
            tell(done, 100)
    assert terminal.getvalue() == "\rveyra: working:  50 %\rveyra: working: 100 %\r\x1b[K"
