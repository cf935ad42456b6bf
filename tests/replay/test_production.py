"""A log as production writes it, made again as a whole."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay import production
from veyra.audit import read_attempts
from veyra.cli.main import cli

CALLS = 1_000
SOURCE = Path(__file__).parents[2] / "src" / "veyra"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of calls over HTTP: four formats, streamed and whole, tools and schemas, faults and early stops."""
    place = tmp_path_factory.mktemp("production")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place))
        asyncio.run(production.make(place / "log", CALLS, rate=0.15))
    return place / "log"


def test_a_log_of_a_thousand_calls_replays_without_a_difference(log: Path) -> None:
    """Whatever was asked and however it ended, decoding the log again gives what is on record."""
    ends = Counter(row.status for row in read_attempts(log))
    assert sum(ends.values()) == CALLS
    assert {"ok", "error", "incomplete", "cancelled"} <= ends.keys()
    result = CliRunner().invoke(cli, ["replay", str(log)], prog_name="veyra")
    assert result.exit_code == 0, result.output
    found = re.search(r"^([\d,]+) calls decoded again: nothing differs\.$", result.output, re.MULTILINE)
    assert found is not None, result.output
    assert int(found[1].replace(",", "")) > CALLS * 0.95


@pytest.mark.parametrize(
    ("file", "old", "new", "backend", "field"),
    [
        ("wire/ollama_answer.py", r'"stop": "stop"', '"stop": "length"', "ollama", "veyra.finish_reason"),
        (
            "wire/anthropic_answer.py",
            r"TextDelta\((\w[\w.]*)\)",
            r"TextDelta(\1.upper())",
            "anthropic",
            "message.content",
        ),
        ("wire/openai_chat_answer.py", r"TextDelta\(text\)", "TextDelta(text.upper())", "openai", "message.content"),
        ("wire/openai_responses_answer.py", 'else "stop"', 'else "length"', "openai", "veyra.finish_reason"),
    ],
)
def test_a_planted_change_is_found_and_named(
    file: str, old: str, new: str, backend: str, field: str, log: Path, tmp_path: Path
) -> None:
    """In a copy of the package with one change in a dialect, calls of that dialect differ, in the field that it is about."""
    copy = tmp_path / "veyra"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text, count = re.subn(old, new, (copy / file).read_text())
    assert count
    (copy / file).write_text(text)
    program = "from veyra.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "replay", str(log), "--json", "--status", "ok"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    *rows, totals = map(json.loads, done.stdout.splitlines())
    differing = [row for row in rows if row["differences"]]
    assert {row["backend"] for row in differing} == {backend}
    assert field in {difference["field"] for row in differing for difference in row["differences"]}
    assert totals["totals"]["differing"] == len(differing) > 100
