"""What is saved of the log's size and tree: the checkpoint, and a state that lets the log be opened quickly.

`state` is derived and disposable: JSON with the tree's size and compact range at the checkpoint, where in which segment
that is, and the CRC of that segment up to there. It is believed only where its hashes give the checkpoint's root, and
the CRC is that of the bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from veyra.audit import checkpoint
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.files import created, put, write_all
from veyra.audit.tree import Tree

STATE: Final = "state"


class State(NamedTuple):
    """The tree at the checkpoint, and the place that is: `crc` is over the segment's bytes before `offset`."""

    tree: Tree
    segment: int
    offset: int
    crc: int


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


def read_state(directory: Path, saved: Checkpoint | None) -> State | None:
    """Return the state at the checkpoint `saved`, None where it is missing or its tree does not prove itself.

    The CRC is the caller's to check.
    """
    if saved is None:
        return None
    try:
        fields = json.loads((directory / STATE).read_bytes())
        tree = Tree(int(fields["size"]), map(bytes.fromhex, fields["peaks"]))
        state = State(tree, int(fields["segment"]), int(fields["offset"]), int(fields["crc"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return state if (tree.size, tree.root()) == (saved.size, saved.root) else None


def write(directory: Path, point: Checkpoint, state: State) -> None:
    """Save a checkpoint and the state at it; the entries it covers must be durable (the log's lock is held).

    Durable: the checkpoint (see `created`). The state need not be: without it the log is opened more slowly.
    """
    tree = state.tree
    fields = {
        "size": tree.size,
        "peaks": [peak.hex() for peak in tree.peaks],
        "segment": state.segment,
        "offset": state.offset,
        "crc": state.crc,
    }
    put(directory / STATE, json.dumps(fields, separators=(",", ":")).encode("ascii"))
    with created(directory / checkpoint.FILE) as fd:
        write_all(fd, checkpoint.encode(point))
