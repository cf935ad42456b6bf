"""What holds for every test: no host but this one is reached, and no setting of the machine is seen."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("veyra", derandomize=True, deadline=None, database=None)
settings.load_profile("veyra")

_SETTINGS = ("VEYRA_", "OPENAI_", "ANTHROPIC_", "OLLAMA_", "PYTHON")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_KEPT = {"VEYRA_SHARED", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}

_escapes: list[str] = []


def _is_here(host: object) -> bool:
    """Tell whether a host, by name or address, is this machine's loopback (or nothing to look up)."""
    if host in {None, "", "localhost", b"localhost"}:
        return True
    name = host.decode("idna") if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _stay_here(event: str, args: tuple[object, ...]) -> None:
    """Refuse, as an audit hook of the interpreter, to look up or connect to anything but loopback.

    Names under `.invalid` (RFC 6761) are unknown, as they are everywhere. Any other attempt is refused and noted, so
    that the test fails even where its code takes the refusal for an ordinary failure.
    """
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if _is_here(host):
        return
    if not str(host).endswith(".invalid"):
        _escapes.append(f"{event} to {host!r}")
    if event == "socket.getaddrinfo":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    msg = "Network is unreachable"
    raise OSError(msg)


sys.addaudithook(_stay_here)


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    """Fail a test that tried to reach another host."""
    _escapes.clear()
    yield
    assert not _escapes, f"a test may reach loopback only: {_escapes}"


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
