from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from settings import Write
from veyra import config


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    """Forget what other tests have read."""
    config.reload()
    yield
    config.reload()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory below which, and above which, files of settings count."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.delenv("VEYRA_CONFIG")
    monkeypatch.delenv("VEYRA_AUDIT_DIR")
    return directory


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory of settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    directory = tmp_path / "home" / "veyra"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def write(project: Path) -> Write:
    """Write a file of settings in the project, or elsewhere by its whole path; what was read is forgotten."""

    def put(text: str | bytes, name: str = "veyra.toml", *, mode: int = 0o600) -> Path:
        path = project / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        config.reload()
        return path

    return put


@pytest.fixture
def problems() -> Callable[[], list[str]]:
    """What is wrong with the files, each as `LINE: words`."""

    def found() -> list[str]:
        return [
            f"{problem.origin.line}: {problem.what}" for document in config.documents() for problem in document.problems
        ]

    return found
