"""The providers' own SDKs, for Python and for JavaScript, at work in processes of their own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Language: TypeAlias = Literal["python", "javascript"]

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "tests" / "testing" / "sdks"
INSTALLED = ROOT / "build" / "sdk-clients"
"""Where the packages for JavaScript are put; no part of the repository."""

SDKS = {"openai_chat": "/v1", "openai_responses": "/v1", "anthropic": "", "ollama": ""}
"""What is asked for, and what comes after the server's address."""


class MissingError(Exception):
    """Node or the packages for it cannot be had here; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of an SDK.

    Attributes:
        id: what the server is told in `x-job`, and what the result bears.
        timeout: seconds, the SDK's own; deadline: until it is given up.
    """

    id: int
    sdk: str
    url: str
    stream: bool = False
    tools: bool = False
    fault: str = ""
    timeout: float = 10.0
    deadline: float = 12.0


def run(language: Language, jobs: Sequence[Job]) -> dict[int, dict[str, Any]]:
    """Do jobs, eight at a time, and return what came of each, by its id.

    Raises:
        MissingError: they cannot be done here.
    """
    if language == "python":
        command = [sys.executable, str(SOURCES / "client.py")]
    else:
        command = ["node", str(_javascript() / "client.mjs")]
    lines = "".join(json.dumps(asdict(job)) + "\n" for job in jobs)
    result = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    told = [json.loads(line) for line in filter(None, result.stdout.split("\n"))]
    return {seen["id"]: seen for seen in told}


def versions(language: Language) -> dict[str, str]:
    """Return the versions of the SDKs, and of what runs them.

    Raises:
        MissingError: they cannot be had here.
    """
    if language == "python":
        from importlib.metadata import version  # noqa: PLC0415

        import anthropic  # noqa: PLC0415  (dear, and for the table alone)
        import openai  # noqa: PLC0415

        runs = ".".join(map(str, sys.version_info[:2]))
        return {
            "Python": runs,
            "openai": openai.__version__,
            "anthropic": anthropic.__version__,
            "ollama": version("ollama"),
        }
    modules = _javascript() / "node_modules"
    found = {
        name: json.loads((modules / name / "package.json").read_text())["version"]
        for name in ("openai", "@anthropic-ai/sdk", "ollama")
    }
    return {"Node.js": _output("node", "--version").removeprefix("v"), **found}


def _javascript() -> Path:
    """Return the directory of the client for JavaScript with its packages, which are installed where they are not.

    Raises:
        MissingError: there is no Node, or the packages cannot be had.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        msg = "node and npm are not installed"
        raise MissingError(msg)
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:  # several workers of one test run, say
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install()
    return INSTALLED


def _install() -> None:
    wanted = (SOURCES / "package.json").read_text()
    stamp = INSTALLED / "installed.json"
    if not stamp.exists() or stamp.read_text() != wanted:
        (INSTALLED / "package.json").write_text(wanted)
        command = [
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-package-lock",
            "--loglevel=error",
        ]
        try:
            subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, timeout=100, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            msg = f"the packages for JavaScript cannot be installed: {str(error.stderr)[-300:]}"
            raise MissingError(msg) from None
        stamp.write_text(wanted)
    shutil.copy(SOURCES / "client.mjs", INSTALLED)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout.strip()
