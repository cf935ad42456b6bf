"""The installed command in a process of its own, and the state of a server that it talks to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess, Popen
from typing import IO, TypeAlias

VEYRA = Path(sys.executable).parent / "veyra"


Stream: TypeAlias = int | IO[bytes]


def start(*args: str, stdin: Stream = DEVNULL, stdout: Stream = PIPE, stderr: Stream = PIPE) -> Popen[bytes]:
    """Start the installed command in a process of its own."""
    return Popen([VEYRA, *args], stdin=stdin, stdout=stdout, stderr=stderr)


def run(*args: str, stdin: Stream = DEVNULL, env: Mapping[str, str] | None = None) -> CompletedProcess[bytes]:
    """Run the installed command in a process of its own to its end, with `env` added to the environment."""
    environment = os.environ | (env or {})
    return subprocess.run([VEYRA, *args], stdin=stdin, env=environment, capture_output=True, timeout=15, check=False)


@dataclass
class Server:
    """A server on loopback that runs in a thread: its address, and the bodies it was sent."""

    url: str
    seen: list[bytes] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    cut: bool = False
    first: str = "first\n"
