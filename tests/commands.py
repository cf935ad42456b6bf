"""The installed command in a process of its own, and the state of a server that it talks to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VEYRA = Path(sys.executable).parent / "veyra"


def start(*args: str, **settings: Any) -> subprocess.Popen[bytes]:
    """Start the installed command in a process of its own, all its streams piped unless said otherwise."""
    environment = os.environ | settings.pop("env", {})
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | settings
    return subprocess.Popen([VEYRA, *args], env=environment, text=False, **streams)


def run(*args: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the installed command in a process of its own to its end."""
    environment = os.environ | settings.pop("env", {})
    if "input" not in settings:
        settings.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([VEYRA, *args], env=environment, capture_output=True, timeout=15, check=False, **settings)


@dataclass
class Server:
    """A server on loopback that runs in a thread: its address, and the bodies it was sent."""

    url: str
    seen: list[bytes] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    cut: bool = False
