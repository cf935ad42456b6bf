"""What holds for every test: no setting of the machine is seen, and its files are in memory where there is room.

The plugin's guard sees to it that no other host is reached.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from veyra.models.registry import registering

settings.register_profile("veyra", derandomize=True, deadline=None, database=None)
settings.load_profile("veyra")

_SETTINGS = ("VEYRA_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "PYTHON")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_KEPT = {"VEYRA_SHARED", "PYTHONPATH", "PYTHONHOME"}

_IN_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30
_TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
"""Pytest's own variable for the place of its temporary files."""


def pytest_configure(config: pytest.Config) -> None:
    """Put the temporary files into memory where there is room, and neither `--basetemp` nor a variable says where they go.

    A process that is killed loses nothing of what it wrote, on a disk as in memory, and a system call that strace lets fail
    comes to neither: waiting for the disk would show nothing more. Where it matters that a sync takes its time, as entries
    gather meanwhile, a test has `disk_path`.

    A run in the background of a shell ignores Ctrl-C, and so would every command that it starts: not here.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    is_told = config.getoption("basetemp") is not None or {_TEMPORARY, "TMPDIR"} & os.environ.keys()
    if not is_told and os.access(_IN_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_IN_MEMORY).free >= _ROOM:
        os.environ[_TEMPORARY] = str(_IN_MEMORY)


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory of the test's own where this machine has its temporary files: on a disk, unless they are in memory anyway."""
    with TemporaryDirectory(prefix="veyra-") as directory:
        place = Path(directory, "test")
        place.mkdir()
        yield place


@pytest.fixture(autouse=True)
def _own_registrations() -> Iterator[None]:
    """Forget the backends that a test registers."""
    with registering():
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the machine's keys, proxies and settings, read no file of them, and put the log into the test's own directory.

    Settings of Python are among them: a command that is run by a test behaves as it does for most users.
    """
    for name in os.environ:
        foreign = name.endswith("_API_KEY") or name.startswith(_SETTINGS) or name.lower() in _PROXIES
        if foreign and name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("VEYRA_AUDIT_DIR", str(tmp_path / "audit-log"))
    monkeypatch.setenv("VEYRA_CONFIG", "off")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path.with_name(f"{tmp_path.name}-state")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path.with_name(f"{tmp_path.name}-config")))
