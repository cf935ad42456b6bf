from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from veyra.errors import OverloadedError
from veyra.models.mock import MockBackend
from veyra.models.registry import register_backend

Run = Callable[..., Result]
Attempts = Callable[[], list[dict[str, Any]]]

KEYS = (
    "seq",
    "id",
    "call",
    "attempt",
    "time",
    "backend",
    "model",
    "status",
    "request_id",
    "latency_ms",
    "usage",
    "cost",
)


class _Parrot(MockBackend):
    name = "parrot"


@pytest.fixture
def calls(veyra: Run) -> None:
    """Record three calls: two that the mock answers, and one of `parrot` that fails between them."""
    register_backend("parrot", lambda: _Parrot(OverloadedError("no room")))
    assert veyra("generate", "first question", "-b", "mock", "--system", "be brief").exit_code == 0
    assert veyra("generate", "second question", "-b", "parrot", "-m", "p-1").exit_code == 1
    assert veyra("generate", "third\n  question", "-b", "mock", "-m", "m-3").exit_code == 0


# --------------------------------------------------------------------------------------------------- list


@pytest.mark.usefixtures("calls")
def test_list_json_has_one_object_for_each_attempt(attempts: Attempts) -> None:
    """Each line holds the twelve keys; what the provider did not state is null."""
    rows = attempts()
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert [row["model"] for row in rows] == ["mock", "p-1", "m-3"]
    for row in rows:
        assert set(KEYS) <= set(row)
        assert row["attempt"] == 1
        assert row["cost"] is None
        assert row["latency_ms"] > 0
    assert rows[0]["usage"]["input_total"] == 4
    assert rows[0]["usage"]["cache_read"] is None
    assert rows[1]["usage"] is None
    assert rows[1]["request_id"] is None


@pytest.mark.usefixtures("calls")
def test_list_is_a_table_for_a_person(veyra: Run) -> None:
    """Without `--json` the attempts stand in aligned columns under a heading, dashes for what is not known."""
    lines = veyra("audit", "list").stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].split("  ")[0] == "SEQ"
    place = lines[0].index("STATUS")
    assert [line[place:].split()[0] for line in lines[1:]] == ["ok", "error", "ok"]
    assert lines[2].endswith("-    -  -")


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("options", "models"),
    [
        (["--limit", "2"], ["p-1", "m-3"]),
        (["--status", "error"], ["p-1"]),
        (["--backend", "mock"], ["mock", "m-3"]),
        (["--backend", "mock", "--limit", "1"], ["m-3"]),
        (["--status", "timeout"], []),
    ],
)
def test_list_can_be_narrowed(veyra: Run, options: list[str], models: list[str]) -> None:
    """`--status` and `--backend` choose, `--limit` keeps the last ones of those."""
    result = veyra("audit", "list", "--json", *options)
    assert [json.loads(line)["model"] for line in result.stdout.splitlines()] == models


@pytest.mark.usefixtures("calls")
def test_list_shows_what_stands_before_damage(veyra: Run, log: Path) -> None:
    """Of a damaged log the attempts before the damage are listed; the damage is an error, and the status 1."""
    _flip(log, b"m-3")
    result = veyra("audit", "list", "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["ok", "error"]
    assert "damaged" in result.stderr


# --------------------------------------------------------------------------------------------------- show


@pytest.mark.usefixtures("calls")
def test_show_tells_intent_and_outcome(veyra: Run, attempts: Attempts) -> None:
    """An attempt is found by number, by id and by the beginning of an id; its outcome and usage are shown."""
    row = attempts()[0]
    by_number = veyra("audit", "show", str(row["seq"]))
    assert by_number.exit_code == 0
    for key in (row["id"], row["call"], row["outcome"], row["id"][:-2]):
        assert veyra("audit", "show", key).stdout == by_number.stdout
    for words in (
        "call.intent",
        "call.outcome",
        ": ok",
        "input_total 4",
        "gen_ai.usage.input_tokens",
        "request.messages",
    ):
        assert words in by_number.stdout
    assert "first question" not in by_number.stdout


@pytest.mark.usefixtures("calls")
def test_show_bodies_quotes_what_was_said(veyra: Run, attempts: Attempts) -> None:
    """With `--bodies` system text, messages and answer are shown, indented line by line."""
    shown = veyra("audit", "show", str(attempts()[0]["seq"]), "--bodies").stdout
    assert "\nsystem\n  be brief\n" in shown
    assert "\nuser\n  first question\n" in shown
    assert "\nanswer\n  This is the mock" in shown
    assert "\nuser\n  third\n    question\n" in veyra("audit", "show", str(attempts()[2]["seq"]), "--bodies").stdout


@pytest.mark.usefixtures("calls")
def test_show_json_holds_the_leaves(veyra: Run, attempts: Attempts) -> None:
    """`--json` prints the row, both leaves as they are in the log, and with `--bodies` what was said."""
    row = attempts()[1]
    told = json.loads(veyra("audit", "show", str(row["seq"]), "--json", "--bodies").stdout)
    assert {key: told[key] for key in KEYS} == {key: row[key] for key in KEYS}
    assert [entry["kind"] for entry in told["entries"]] == ["call.intent", "call.outcome"]
    assert told["entries"][1]["attributes"]["error.type"] == "overloaded"
    assert told["messages"]["messages"][0]["content"] == "second question"
    assert told["answer"] is None


def test_show_raw_writes_the_exact_bytes(veyra: Run, providers: str, attempts: Attempts, monkeypatch: Any) -> None:
    """`--raw` writes one body as it went over the wire, and nothing else."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "some-key")
    asked = veyra("generate", "caf\u00e9?", "-b", "anthropic", "-m", "m", "--base-url", providers)
    assert asked.exit_code == 0, asked.stderr
    seq = str(attempts()[0]["seq"])
    sent = json.loads(veyra("audit", "show", seq, "--raw", "request.wire").stdout_bytes)
    assert (sent["model"], sent["stream"]) == ("m", True)
    came = veyra("audit", "show", seq, "--raw", "response.wire").stdout_bytes
    assert came.startswith(b"event: message_start\n")
    assert came.endswith(b"\n\n")


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["9999"], "nothing in the log"),
        (["01"], "fits"),
        (["1", "--raw", "no.such"], "no body 'no.such'"),
        (["0", "--raw", "meta"], "there are none"),
    ],
)
def test_show_says_what_it_cannot_find(veyra: Run, arguments: list[str], message: str) -> None:
    """A number, id or body that is not there, or a beginning that fits several, is an error in words, status 1."""
    result = veyra("audit", "show", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


@pytest.mark.usefixtures("calls")
def test_show_takes_an_entry_that_is_no_attempt(veyra: Run) -> None:
    """The entries of sessions can be shown, too."""
    assert veyra("audit", "show", "0").stdout.startswith("session.open, entry 0\n")
    assert json.loads(veyra("audit", "show", "0", "--json").stdout)["entries"][0]["kind"] == "session.open"


# ------------------------------------------------------------------------------------------------- verify


@pytest.mark.usefixtures("calls")
def test_verify_of_a_good_log_ends_with_0(veyra: Run) -> None:
    """A log as it was written verifies, and the report counts its attempts."""
    result = veyra("audit", "verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("OK: ")
    told = json.loads(veyra("audit", "verify", "--json").stdout)
    assert (told["ok"], told["intents"], told["outcomes"], told["open"]) == (True, 3, 3, 0)
    assert told["problems"] == []


@pytest.mark.usefixtures("calls")
def test_verify_names_what_was_altered(veyra: Run, log: Path) -> None:
    """One changed letter in a recorded prompt ends with 1 and names file, offset and entry."""
    _flip(log, b"second question")
    result = veyra("audit", "verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("NOT OK: ")
    told = json.loads(veyra("audit", "verify", "--json").stdout)
    assert told["ok"] is False
    assert told["problems"][0]["file"].endswith(".vseg")
    assert f"at offset {told['problems'][0]['offset']}, entry {told['problems'][0]['seq']}" in result.stdout


def test_verify_without_a_log_ends_with_2(veyra: Run, tmp_path: Path) -> None:
    """Where there is no log, nothing can be said of it."""
    result = veyra("audit", "verify", "--dir", str(tmp_path / "nowhere"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no audit log" in result.stderr


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "1"]])
def test_a_missing_log_is_said_in_words(veyra: Run, log: Path, arguments: list[str]) -> None:
    """Reading a log that is not there names the place, ends with 1, and makes nothing."""
    result = veyra("audit", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"no audit log at {log}" in result.stderr
    assert not log.exists()


def _flip(log: Path, text: bytes) -> None:
    """Change a bit of `text` where it stands in the log."""
    (file,) = (log / "seg").glob("*.vseg")
    data = bytearray(file.read_bytes())
    data[data.index(text)] ^= 1
    file.write_bytes(data)
