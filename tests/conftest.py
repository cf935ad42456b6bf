"""What holds for every test: no setting of the machine is seen. The plugin's guard sees to it that no other host is reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from veyra.models.registry import registering

settings.register_profile("veyra", derandomize=True, deadline=None, database=None)
settings.load_profile("veyra")

_SETTINGS = ("VEYRA_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "PYTHON")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_KEPT = {"VEYRA_SHARED", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}


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
