from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]

BACKENDS = """
from veyra import BaseModelBackend, ModelResponse

class Good(BaseModelBackend):
    name = "good"
    async def generate(self, prompt, **options):
        return ModelResponse("Hi.", "m", "good", 1.0, 1, 1, None)
    async def health_check(self):
        return True

class Bad(Good):
    async def health_check(self):
        return "yes"

class Needy(Good):
    def __init__(self, *, place):
        self.place = place

def text():
    return "no backend"

async def later():
    return Good()

class Unlicensed(Good):
    def __init__(self):
        raise RuntimeError("no licence")
"""
BROKEN = {"raising": "raise RuntimeError('at import')", "unfinished": "def f(:", "leaving": "raise SystemExit(4)"}
"""Modules that cannot be imported."""


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conforming_backends.py").write_text(BACKENDS)
    for name, program in BROKEN.items():
        (tmp_path / f"{name}_backends.py").write_text(program)
    monkeypatch.chdir(tmp_path)


def test_a_backend_that_passes(veyra: Run) -> None:
    """What was passed is counted, and what does not apply is said with its reason."""
    result = veyra("conformance", "conforming_backends:Good")
    assert result.exit_code == 0, result.output
    assert "0 failed" in result.stdout
    assert "Not applicable: the backend does not talk HTTP" in result.stdout


def test_a_backend_that_fails(veyra: Run, tmp_path: Path) -> None:
    """The check that failed stands in a table with what came, the badge counts it, and the status is 1."""
    result = veyra("conformance", "conforming_backends:Bad", "--badge", "badge.svg")
    assert result.exit_code == 1
    assert "health-is-a-bool  failed  health_check() returned 'yes'" in result.stdout
    assert "24 of 25 checks" in (tmp_path / "badge.svg").read_text()


def test_a_badge_that_cannot_be_written_is_told_after_the_report(veyra: Run) -> None:
    """What was found is shown all the same; the status is 1."""
    result = veyra("conformance", "conforming_backends:Good", "--badge", "nowhere/badge.svg")
    assert result.exit_code == 1
    assert "25 passed, 0 failed" in result.stdout
    assert "the badge nowhere/badge.svg cannot be written: No such file or directory" in result.stderr


def test_json_has_a_line_for_each_check(veyra: Run) -> None:
    """Each line is one check with its verdict."""
    result = veyra("conformance", "conforming_backends:Bad", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    verdicts = {row["check"]: row["verdict"] for row in rows}
    assert verdicts["health-is-a-bool"] == "failed"
    assert verdicts["has-a-name"] == "passed"
    assert verdicts["reads-text"] == "not applicable"


def test_a_backend_of_ours_is_known_by_its_name(veyra: Run) -> None:
    """Its format is known, so that it is driven over HTTP."""
    result = veyra("conformance", "ollama", "--all")
    assert result.exit_code == 0, result.output
    assert "reads-text" in result.stdout


def test_a_backend_is_made_with_options(veyra: Run) -> None:
    """What it needs is given with -o; without it, the error says so."""
    assert veyra("conformance", "conforming_backends:Needy", "-o", "place=here").exit_code == 0
    result = veyra("conformance", "conforming_backends:Needy")
    assert result.exit_code == 2
    assert "place" in result.stderr
    assert "-o NAME=VALUE" in result.stderr


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("conforming_backends:Missing", "has no attribute 'Missing'"),
        ("no_such_module:Backend", "No module named 'no_such_module'"),
        ("conforming_backends:BACKENDS_", "has no attribute"),
        ("conforming_backends:__name__", "cannot be called"),
        ("conforming_backends:text", "which is no BaseModelBackend"),
        ("conforming_backends:later", "gives a coroutine, which is no BaseModelBackend"),
        ("conforming_backends:Unlicensed", "cannot be made with nothing: no licence"),
        ("raising_backends:Backend", "importing raising_backends raised RuntimeError: at import"),
        ("unfinished_backends:Backend", "importing unfinished_backends raised SyntaxError: invalid syntax"),
        ("leaving_backends:Backend", "importing leaving_backends raised SystemExit: 4"),
        ("olama", "did you mean"),
    ],
)
def test_what_is_no_backend_is_refused(veyra: Run, target: str, says: str) -> None:
    """Wrong use has status 2 and says what was wrong."""
    result = veyra("conformance", target)
    assert result.exit_code == 2
    assert says in result.stderr
