"""What is saved of the log's size and tree: the checkpoint, and a state that lets the log be opened quickly.

`state` is derived and disposable: JSON with the tree's size and compact range. It is believed only where its hashes
give the root that the checkpoint states for the same size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from veyra.audit import checkpoint
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.files import created, write_all
from veyra.audit.tree import Tree

STATE: Final = "state"


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """Return the log's checkpoint, None where there is none.

    Raises:
        ValueError: there is something else in its place.
    """
    try:
        with (directory / checkpoint.FILE).open("rb") as file:
            return checkpoint.parse(file.read(checkpoint.MAX_SIZE))
    except FileNotFoundError:
        return None


def read_tree(directory: Path, saved: Checkpoint | None) -> Tree | None:
    """Return the tree at the checkpoint `saved`, None where the state is missing or does not prove itself."""
    if saved is None:
        return None
    try:
        fields = json.loads((directory / STATE).read_bytes())
        tree = Tree(int(fields["size"]), map(bytes.fromhex, fields["peaks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tree if (tree.size, tree.root()) == (saved.size, saved.root) else None


def write(directory: Path, point: Checkpoint, tree: Tree) -> None:
    """Save the checkpoint `point` over `tree`, and its state; the entries must be durable (the log's lock is held).

    Durable: see `created`, for each file.
    """
    fields = {"size": tree.size, "peaks": [peak.hex() for peak in tree.peaks]}
    with created(directory / STATE) as fd:
        write_all(fd, json.dumps(fields, separators=(",", ":")).encode("ascii"))
    with created(directory / checkpoint.FILE) as fd:
        write_all(fd, checkpoint.encode(point))
