"""Tiles: where they lie, that they are the same bytes each time, and that they follow the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.signing import lay_down, signed
from veyra.audit import read_entries, segment, tiles, verify
from veyra.audit.frame import HEADER_SIZE
from veyra.audit.keys import SigningKey
from veyra.audit.tree import leaf_hash
from veyra.audit.walk import Walk
from veyra.errors import AuditError

KEY = SigningKey.generate("log.example/veyra")


def _files(site: Path) -> dict[str, bytes]:
    return {
        path.relative_to(site).as_posix(): path.read_bytes() for path in (site / "tile").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("number", "place"),
    [
        (0, "000"),
        (255, "255"),
        (999, "999"),
        (1000, "x001/000"),
        (1234067, "x001/x234/067"),
        (10**9, "x001/x000/x000/000"),
    ],
)
def test_a_tiles_number_is_a_path(number: int, place: str) -> None:
    """Three digits to a directory, all but the last with an x before them."""
    assert tiles.place(number) == place


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (0, set()),
        (1, {"tile/0/000.p/1", "tile/entries/000.p/1"}),
        (255, {"tile/0/000.p/255", "tile/entries/000.p/255"}),
        (256, {"tile/0/000", "tile/entries/000", "tile/1/000.p/1"}),
        (300, {"tile/0/000", "tile/0/001.p/44", "tile/entries/000", "tile/entries/001.p/44", "tile/1/000.p/1"}),
    ],
)
def test_a_site_has_the_tiles_of_its_size_and_no_others(tmp_path: Path, size: int, names: set[str]) -> None:
    """Full tiles and one partial tile on each level; an empty tile is no file."""
    lay_down(tmp_path / "log", size, KEY)
    assert tiles.export(tmp_path / "log", tmp_path / "site").size == size
    files = _files(tmp_path / "site")
    assert set(files) == names
    hashes = [leaf_hash(entry.raw) for entry in read_entries(tmp_path / "log")] if size else []
    leaves = b"".join(data for name, data in sorted(files.items()) if name.startswith("tile/0/"))
    assert leaves == b"".join(hashes)
    assert (tmp_path / "site" / "checkpoint").read_bytes() == (tmp_path / "log" / "checkpoint").read_bytes()


async def test_a_site_that_is_brought_up_to_date_is_the_one_made_anew(tmp_path: Path) -> None:
    """Partial tiles give way to full ones, full tiles are not touched, and the rest is bit for bit the same."""
    log, grown, anew = tmp_path / "log", tmp_path / "grown", tmp_path / "anew"
    await signed(tmp_path, 100)
    tiles.export(log, grown)
    await signed(tmp_path, 60)
    tiles.export(log, grown)
    full = (grown / "tile" / "0" / "000").stat().st_mtime_ns
    partial = set(_files(grown))
    await signed(tmp_path, 1)
    tiles.export(log, grown)
    tiles.export(log, anew)
    assert (grown / "tile" / "0" / "000").stat().st_mtime_ns == full
    assert _files(grown).items() >= _files(anew).items()
    assert set(_files(grown)) - set(_files(anew)) < partial  # of earlier checkpoints, and not in the way
    assert not (grown / "tile" / "0" / "000.p").exists()


async def test_the_site_may_be_the_logs_own_directory(tmp_path: Path) -> None:
    """Then only `tile` is added, and the checkpoint stays the file it was."""
    await signed(tmp_path)
    before = {path.name for path in (tmp_path / "log").iterdir()}
    time = (tmp_path / "log" / "checkpoint").stat().st_mtime_ns
    tiles.export(tmp_path / "log")
    assert {path.name for path in (tmp_path / "log").iterdir()} == before | {"tile"}
    assert (tmp_path / "log" / "checkpoint").stat().st_mtime_ns == time


def test_progress_is_told_for_each_bundle(tmp_path: Path) -> None:
    """With the number of entries that are done."""
    lay_down(tmp_path / "log", 600, KEY)
    told: list[int] = []
    tiles.export(tmp_path / "log", tmp_path / "site", told.append)
    assert told == [256, 512, 600]


def test_without_a_checkpoint_there_is_no_site(tmp_path: Path) -> None:
    """What nobody vouches for is not written."""
    with pytest.raises(AuditError, match="no checkpoint"):
        tiles.export(tmp_path, tmp_path / "site")
    assert not (tmp_path / "site").exists()


# ------------------------------------------------------------------------------------- tiles that are there


def _wrong(log: Path) -> set[str]:
    report = verify(log, level="semantics")
    assert {problem.code for problem in report.problems} <= {"tile"}
    return {problem.file for problem in report.problems}


def test_verifying_finds_a_changed_bit_in_any_tile(tmp_path: Path) -> None:
    """The tiles beside a log are compared with its leaves, and the file that is not theirs is named."""
    log = tmp_path / "log"
    lay_down(log, 300, KEY)
    tiles.export(log)
    assert _wrong(log) == set()
    for name, data in _files(log).items():
        for at in (0, len(data) // 2, len(data) - 1):
            (log / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert _wrong(log) == {name}
        (log / name).write_bytes(data[:-1])
        assert _wrong(log) == {name}
        (log / name).write_bytes(data)
    assert _wrong(log) == set()


def test_verifying_finds_a_tile_that_is_none(tmp_path: Path) -> None:
    """A tile of another log's, one over more entries than there are, and a file that is no tile are named."""
    log = tmp_path / "log"
    lay_down(log, 300, KEY)
    tiles.export(log)
    for name in ("tile/0/002", "tile/0/001.p/45", "tile/0/001.p/044", "tile/7/000.p/1", "tile/x"):
        (log / name).parent.mkdir(parents=True, exist_ok=True)
        (log / name).write_bytes(b"\0" * 32)
        assert _wrong(log) == {name}
        (log / name).unlink()


def test_a_missing_or_an_older_tile_is_no_fault(tmp_path: Path) -> None:
    """Tiles are derived: they may be missing, and a partial one may be from when the log was shorter."""
    log = tmp_path / "log"
    lay_down(log, 300, KEY)
    tiles.export(log)
    newest = log / "tile/0/001.p/44"
    (newest.parent / "20").write_bytes(newest.read_bytes()[: 20 * 32])
    (log / "tile/1/000.p/1").unlink()
    assert _wrong(log) == set()


# ----------------------------------------------------------------------------- leaves that a root answers for


def test_a_leafs_crc_is_looked_at_where_no_checkpoint_is_over_it(tmp_path: Path) -> None:
    """At the level tree a changed leaf is found, and named, before and behind the checkpoint's size."""
    log = tmp_path / "log"
    lay_down(log, 300, KEY)
    path = segment.path(log, 0)
    data = path.read_bytes()
    offsets = [frame.offset for _, frame in Walk(log)]
    point = log / "checkpoint"
    kept = point.read_bytes()
    for seq in (3, 200):
        at = offsets[seq] + HEADER_SIZE + 20
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        for covered in (True, False):
            if not covered:
                point.unlink()
            problems = verify(log, level="tree").problems
            assert ("frame", seq) in {(problem.code, problem.seq) for problem in problems}
            point.write_bytes(kept)
    path.write_bytes(data)
    assert verify(log, level="tree").ok
