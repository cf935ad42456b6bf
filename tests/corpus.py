"""The recorded traffic of real providers, which lies beside the repository: where it is, and its rows.

Tests that need it call `rows` or `oracle`; where it is not there they are skipped, with the reason.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Row: TypeAlias = Mapping[str, Any]


def shared() -> Path | None:
    """Return the directory of shared test data (`$VEYRA_SHARED`, or `shared` beside the repository), or None."""
    named = os.environ.get("VEYRA_SHARED")
    place = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return place if (place / "corpus").is_dir() else None


def require() -> Path:
    """Return the corpus's directory, or skip the test that asks."""
    place = shared()
    if place is None:
        pytest.skip("no recorded traffic: set VEYRA_SHARED to a directory with a `corpus` in it")
    return place / "corpus"


@functools.cache
def _lines(path: Path) -> tuple[Row, ...]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


@functools.cache
def oracle() -> Mapping[str, Row]:
    """Return what the vendors' own SDKs make of the recordings, by row id."""
    return {row["id"]: row for row in _lines(require() / "oracle.jsonl.gz")}


def rows(*patterns: str) -> list[Row]:
    """Return the rows of the files that match the patterns (`openai-chat*`), in a stable order."""
    place = require()
    paths = sorted({path for pattern in patterns for path in place.glob(f"{pattern}.jsonl.gz")})
    return [row for path in paths for row in _lines(path) if "id" in row and "response" in row]


def body(row: Row) -> bytes:
    """Return the recorded body of an answer, as bytes."""
    return str(row["response"]["text"] or "").encode()


def streamed(row: Row) -> bool:
    """Say whether the answer came as a stream."""
    return str(row["response"]["stream"]) != "none"


def headers(row: Row) -> dict[str, str]:
    """Return the answer's recorded headers."""
    return dict(row["response"]["headers"])


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return `data` cut at the given places, without empty pieces."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]
