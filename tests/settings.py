"""Files of settings, as tests write them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Write(Protocol):
    """Writes a file of settings and returns its path."""

    def __call__(self, text: str | bytes, name: str = "veyra.toml", *, mode: int = 0o600) -> Path: ...
