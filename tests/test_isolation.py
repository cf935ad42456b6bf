"""The rules of our tests, tried in a run of their own: they reach no other machine and see none of its settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent

PROGRAM = """
import asyncio, os, socket
import pytest

def test_connecting_elsewhere_fails_although_the_error_is_caught():
    with socket.socket() as client, pytest.raises(OSError):
        client.connect(("192.0.2.1", 80))

async def test_looking_up_a_name_fails_although_the_error_is_caught():
    with pytest.raises(OSError):
        await asyncio.open_connection("veyra.example", 443)

def test_a_name_that_nobody_has_is_unknown():
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("nobody.invalid", 443)

def test_loopback_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()

def test_settings_are_hidden(tmp_path):
    assert not {"SOME_API_KEY", "OLLAMA_HOST", "https_proxy", "VEYRA_MODEL", "PYTHONUTF8"} & set(os.environ)
    assert os.environ["VEYRA_AUDIT_DIR"].startswith(str(tmp_path))
    assert os.environ["VEYRA_SHARED"] == "kept"
    assert os.environ["VEYRA_CONFIG"] == "off"
"""


def test_the_rules_of_every_test_hold(tmp_path: Path) -> None:
    """A test that reaches out fails, even where its code takes that for an ordinary error; keys and proxies are hidden."""
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_planted.py").write_text(PROGRAM)
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_mode = auto\nveyra_network = {rules['veyra_network']}\n")
    settings = {
        "SOME_API_KEY": "x",
        "OLLAMA_HOST": "x",
        "https_proxy": "x",
        "VEYRA_MODEL": "x",
        "PYTHONUTF8": "1",
        "VEYRA_SHARED": "kept",
    }
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert "2 failed, 3 passed" in result.stdout, result.stdout
    for test in ("test_connecting_elsewhere", "test_looking_up_a_name"):
        assert f"FAILED test_planted.py::{test}" in result.stdout
