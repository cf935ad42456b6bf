"""The shape of the house: floors, circles, what an import costs, which versions are pinned."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "veyra"

FLOORS = "A room imports only floors below it BROKEN"
PLANTED = {
    "upward import": ("errors.py", "import veyra.models.base", FLOORS),
    "import between wings": ("wire/base.py", "import veyra.audit", FLOORS),
    "room without a floor": ("attic.py", "", "attic"),
    "import circle": ("types.py", "import veyra.errors\nimport veyra.transport.base", "No import circles BROKEN"),
    "second user of the HTTP library": ("models/base.py", "import aiohttp", "One file knows the HTTP library BROKEN"),
    "clock in a dialect": ("wire/framing.py", "import time", "Dialects do no I/O BROKEN"),
}

IMPORT = """
import json, os, sys

opened, sockets, threads = [], [], []

def watch(event, args):
    if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR):
        opened.append(str(args[0]))
    elif event.startswith("socket."):
        sockets.append(event)
    elif event in {"_thread.start_new_thread", "_thread.start_joinable_thread"}:
        threads.append(event)

before = set(sys.modules)
sys.addaudithook(watch)
import veyra
loaded = sorted(set(sys.modules) - before)
print(json.dumps({"opened": opened, "sockets": sockets, "threads": threads, "loaded": loaded}))
"""
DEAR = {"asyncio", "ssl", "sqlite3", "socket", "http", "aiohttp", "msgspec", "click", "platformdirs", "truststore"}


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the source tree of `root`."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-logo", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def test_the_import_contracts_hold() -> None:
    """Every import goes to a floor below, none goes in a circle, and one file imports the HTTP library."""
    result = _lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_breaks_its_contract(fault: str, tmp_path: Path) -> None:
    """Each contract can fail: one wrong line in a copy of the source is found and named."""
    name, line, complaint = PLANTED[fault]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copy = tmp_path / "src" / "veyra"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / name).open("a") as file:
        file.write(f"\n{line}\n")
    result = _lint(tmp_path)
    assert result.returncode != 0
    assert complaint in result.stdout


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """What a fresh interpreter does during `import veyra`."""
    result = subprocess.run(
        [sys.executable, "-I", "-B", "-c", IMPORT], capture_output=True, text=True, timeout=15, check=True
    )
    assert not result.stderr
    seen: dict[str, list[str]] = json.loads(result.stdout)
    return seen


@pytest.mark.parametrize("deed", ["opened", "sockets", "threads"])
def test_importing_does_no_io(deed: str, imported: dict[str, list[str]]) -> None:
    """`import veyra` opens no file for writing, touches no socket and starts no thread."""
    assert imported[deed] == []


def test_importing_loads_nothing_dear(imported: dict[str, list[str]]) -> None:
    """`import veyra` loads no event loop, no TLS, no database and none of its dependencies."""
    assert not DEAR & {name.partition(".")[0] for name in imported["loaded"]}


def test_backends_are_asked_at_one_place() -> None:
    """`backend.events` is called once in the source, by the gate: so no attempt goes around the record."""
    found = {str(path.relative_to(SOURCE)): path.read_text().count("backend.events(") for path in SOURCE.rglob("*.py")}
    assert {name: count for name, count in found.items() if count} == {"models/gate.py": 1}


def test_tests_replace_nothing_by_patching() -> None:
    """No test patches with the standard library's mock, or reaches into the registry: what stands in for a provider does so by the kit."""
    patching = re.compile(r"unittest[.]mock|unittest import [m]ock|mock[.]patch|[.]_registered\b")
    tests = [path for folder in ("tests", "examples") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in tests if patching.search(path.read_text())] == []


def test_only_environ_reads_the_environment() -> None:
    """Below the command no module but `environ` reads the environment."""
    reads = re.compile(r"\b(os\.environ|os\.getenv|getenv\(|environb?\[)|from os import .*environ")
    readers = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.parts[len(SOURCE.parts)] != "cli" and reads.search(path.read_text())
    }
    assert readers == {"environ.py"}


def test_every_requirement_is_pinned() -> None:
    """constraints.txt gives one version, and only a version, for every package that pyproject.toml names."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines == sorted(lines, key=str.lower)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    pinned = {_normal(line.partition("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = chain(project["project"]["dependencies"], *project["dependency-groups"].values())
    named = (requirement for requirement in wanted if isinstance(requirement, str))  # the others include a group
    names = {_normal(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]) for requirement in named}
    assert names <= pinned


def _normal(name: str) -> str:
    """Return a package's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
