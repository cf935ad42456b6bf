"""The log as a C2SP tlog-tiles site: `checkpoint`, hash tiles `tile/L/N`, and entry bundles `tile/entries/N`.

They are derived from the segments, the same bytes each time, and hold no body. They are written on demand and not with
each checkpoint: nothing in the log reads them, and a tile that is not full is another file each second, which would
cost a call more than its own entry does. A site that was written before is brought up to date; files that stay the
same are not touched.

The site goes up to the checkpoint, not to the log's end. The checkpoint is written last, so whoever finds it finds its
tiles.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from veyra.audit import checkpoint, proof
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.files import make_folder, put
from veyra.audit.tree import Tree, leaf_hash
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


def _write(folder: Path, leaves: Iterator[bytes], progress: Callable[[int], None]) -> bytes:
    """Write the tiles over these leaves; return the root over them."""
    levels: list[_Level] = []
    tree, number = Tree(), 0
    while bundle := list(islice(leaves, WIDTH)):
        entries = b"".join(len(leaf).to_bytes(2) + leaf for leaf in bundle)
        _put_tile(folder / "entries", number, len(bundle), entries)
        for digest in map(leaf_hash, bundle):
            tree.append(digest)
            _grow(folder, levels, digest)
        number += 1
        progress(tree.size)
    for level in levels:
        level.flush()
    return tree.root()


def _grow(folder: Path, levels: list[_Level], digest: bytes) -> None:
    """Add a leaf hash, and the root of each tile that becomes full to the level above."""
    height = 0
    up: bytes | None = digest
    while up is not None:
        if height == len(levels):
            levels.append(_Level(folder / str(height)))
        up = levels[height].add(up)
        height += 1


class _Level:
    """The open tile of one level: its number, and the hashes in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._hashes: list[bytes] = []

    def add(self, digest: bytes) -> bytes | None:
        """Add a hash; write the tile when it is full, and return its root then."""
        self._hashes.append(digest)
        if len(self._hashes) < WIDTH:
            return None
        tile = Tree()
        for item in self._hashes:
            tile.append(item)
        self.flush()
        self._hashes.clear()
        self._number += 1
        return tile.root()

    def flush(self) -> None:
        """Write the tile as it is; an empty one is no file."""
        if self._hashes:
            _put_tile(self._folder, self._number, len(self._hashes), b"".join(self._hashes))


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
