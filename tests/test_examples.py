"""The examples and the demo run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRIAGE = {"triage.py": 120, "test_triage.py": 60}


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


def test_hello_prints_an_answer_and_its_receipt() -> None:
    """The first example asks the mock and shows where the call stands in the log."""
    done = _run(sys.executable, "examples/hello.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no model was asked" in done.stdout
    assert "Receipt(origin=" in done.stdout


def test_a_backend_of_two_methods_is_streamed_and_recorded() -> None:
    """The example backend, class and all, has at most 25 lines of code, and gets events and a receipt."""
    done = _run(sys.executable, "examples/own_backend.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "TextDelta(text='GOOD MORNING')" in done.stdout
    assert "Receipt(origin=" in done.stdout
    code = (ROOT / "examples" / "own_backend.py").read_text().splitlines()
    assert len([line for line in code if line.strip() and not line.strip().startswith('"""')]) <= 25


def test_the_triage_is_small_and_so_are_its_tests() -> None:
    """The sample application runs without a key, in under 120 lines, and is tested in under 60."""
    done = _run(sys.executable, "examples/triage/triage.py", "Where is order 1042?", "I want my money back!")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    lines = {name: len((ROOT / "examples" / "triage" / name).read_text().splitlines()) for name in TRIAGE}
    assert {name: count for name, count in lines.items() if count >= TRIAGE[name]} == {}


@pytest.mark.timeout(60)
@pytest.mark.skipif(
    not (ROOT / ".venv" / ".installed-dev").exists(), reason="scripts/setup has not run: it would install"
)
def test_the_demo_ends_with_the_verified_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo makes four calls without key or network, lists them, verifies the log, and leaves nothing behind."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary-of-the-user")
    monkeypatch.setenv("VEYRA_BACKEND", "no-such-backend")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = _run("scripts/demo")
    assert done.returncode == 0, done.stderr
    assert re.findall(r" (mock|openai|anthropic|ollama) .* (ok) ", done.stdout) == [
        ("mock", "ok"),
        ("openai", "ok"),
        ("anthropic", "ok"),
        ("ollama", "ok"),
    ]
    assert done.stdout.rstrip().splitlines()[-1].startswith("OK: ")
    assert "canary" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
