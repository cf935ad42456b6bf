"""The log as a C2SP tlog-tiles site: `checkpoint`, hash tiles `tile/L/N`, and entry bundles `tile/entries/N`.

They are derived from the segments, the same bytes each time, and hold no body. They are written on demand and not with
each checkpoint: nothing in the log reads them, and a tile that is not full is another file each second, which would
cost a call more than its own entry does. A site that was written before is brought up to date; files that stay the
same are not touched. Verifying a log compares the tiles that it finds there.

The site goes up to the checkpoint, not to the log's end. The checkpoint is written last, so whoever finds it finds its
tiles.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from veyra.audit import checkpoint, proof
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.files import make_folder, put
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.walk import Walk
from veyra.errors import AuditCorruptError

WIDTH: Final = 256
FOLDER: Final = "tile"


def export(directory: Path, site: Path | None = None, progress: Callable[[int], None] = lambda _: None) -> Checkpoint:
    """Write the log in `directory` as a tlog-tiles site into `site`, else into itself; return the checkpoint it is under.

    Args:
        directory: the log; only its `tile` folder is ever written, and only where `site` is None.
        site: another directory, made where it is missing.
        progress: called with the number of entries done, once for each bundle.

    Raises:
        AuditError: there is no checkpoint.
        AuditCorruptError: the log is damaged, or its entries do not give its checkpoint.
        OSError: the site cannot be written.
    """
    point = proof.read_published(directory)
    root = directory if site is None else site
    make_folder(root)
    if _write(root / FOLDER, proof.leaves(directory, point.size), progress) != point.root:
        msg = f"the audit log at {directory} was altered: its entries do not give the root of its checkpoint"
        raise AuditCorruptError(msg)
    if site is not None:
        _put(root / checkpoint.FILE, checkpoint.encode(point))
    return point


def place(number: int) -> str:
    """Return a tile's number as its path: `1234067` is `x001/x234/067`."""
    text = f"{number % 1000:03d}"
    while number >= 1000:
        number //= 1000
        text = f"x{number % 1000:03d}/{text}"
    return text


def disagreements(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the tiles of the log in `directory`: a file, as it is named in there, and what it is not.

    A tile that is missing is no fault: it can be made. Only what is there when it is called is looked at, so that nothing is
    wrong because others write meanwhile. Nothing where there are no tiles.
    """
    folder = directory / FOLDER
    found = {path for path in folder.rglob("*") if path.is_file()}
    if not found:
        return
    for tile in _tiles(leaf for _, run in Walk(directory).runs() for leaf in run.leaves):
        full = folder / tile.folder / place(tile.number)
        for path in [full, *sorted(full.with_name(f"{full.name}.p").glob("*"))]:
            if path in found:
                found.remove(path)
                if not _agrees(path, tile, is_partial=path is not full):
                    yield path.relative_to(directory).as_posix(), "it is not the tile over these entries"
    for path in sorted(found):
        if path.exists():
            yield path.relative_to(directory).as_posix(), "it is no tile over the entries that are there"


class _Tile(NamedTuple):
    """A tile: its level's folder, its number there, and what is in it, one item for each hash or entry."""

    folder: str
    number: int
    items: list[bytes]


def _agrees(path: Path, tile: _Tile, *, is_partial: bool) -> bool:
    width = int(path.name) if is_partial and path.name.isdecimal() else WIDTH
    if width > len(tile.items) or (is_partial and path.name != str(width)):
        return False
    try:
        return path.read_bytes() == b"".join(tile.items[:width])
    except FileNotFoundError:  # a partial tile goes when the full one comes
        return True


def _tiles(leaves: Iterable[bytes]) -> Iterator[_Tile]:
    """Yield the tiles over these leaves: each as it becomes full, and the partial ones at the end."""
    levels: list[_Level] = []
    rest = iter(leaves)
    number = 0
    while bundle := list(islice(rest, WIDTH)):
        yield _Tile("entries", number, [len(leaf).to_bytes(2) + leaf for leaf in bundle])
        number += 1
        for leaf in bundle:
            up: bytes | None = leaf_hash(leaf)
            height = 0
            while up is not None:
                if height == len(levels):
                    levels.append(_Level(str(height)))
                level = levels[height]
                full, up = level.add(up)
                if full is not None:
                    yield full
                height += 1
    for level in levels:
        if level.hashes:
            yield _Tile(level.folder, level.number, level.hashes)


class _Level:
    """The open tile of one level: its number, and the hashes in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.number = 0
        self.hashes: list[bytes] = []

    def add(self, digest: bytes) -> tuple[_Tile | None, bytes | None]:
        """Add a hash; return the tile and its root where that makes it full."""
        self.hashes.append(digest)
        if len(self.hashes) < WIDTH:
            return None, None
        full = _Tile(self.folder, self.number, self.hashes)
        tree = Tree()
        tree.extend(self.hashes)
        self.hashes = []
        self.number += 1
        return full, tree.root()


def _write(folder: Path, leaves: Iterator[bytes], progress: Callable[[int], None]) -> bytes:
    """Write the tiles over these leaves; return the root over them."""
    tree = Tree()

    def counted() -> Iterator[bytes]:
        for leaf in leaves:
            tree.append(leaf_hash(leaf))
            yield leaf

    for tile in _tiles(counted()):
        _put_tile(folder / tile.folder, tile.number, len(tile.items), b"".join(tile.items))
        if tile.folder == "entries":
            progress(tree.size)
    return tree.root()


def _put_tile(folder: Path, number: int, width: int, data: bytes) -> None:
    """Write a tile; a full one takes the place of those that were partial."""
    path = folder / place(number)
    partial = path.with_name(f"{path.name}.p")
    if width < WIDTH:
        path = partial / str(width)
    elif partial.is_dir():
        shutil.rmtree(partial)
    _put(path, data)


def _put(path: Path, data: bytes) -> None:
    """Write a file, unless it is there with these bytes."""
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    put(path, data)
