"""The checkpoint: what the log says of its size and root, as the body of a C2SP tlog-checkpoint note.

Three lines: the log's origin, the number of entries in decimal, the root hash in base64. Signature lines will follow
after an empty line once there are keys; until then the file ends with the body.
"""

from __future__ import annotations

import binascii
from typing import Final, NamedTuple

from veyra.audit.tree import HASH_SIZE

FILE: Final = "checkpoint"
MAX_SIZE: Final = 65_536


class Checkpoint(NamedTuple):
    """A log's size and root at one moment."""

    origin: str
    size: int
    root: bytes


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the note's body."""
    root = binascii.b2a_base64(checkpoint.root, newline=False).decode("ascii")
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n".encode()


def parse(data: bytes) -> Checkpoint:
    """Return the checkpoint that `data` holds.

    Raises:
        ValueError: it is not, byte for byte, what `encode` writes.
    """
    msg = "the checkpoint is not the body of a tlog-checkpoint note"
    try:
        lines = data.decode("utf-8").split("\n")
        found = Checkpoint(lines[0], int(lines[1]), binascii.a2b_base64(lines[2], strict_mode=True))
    except (ValueError, IndexError) as error:
        raise ValueError(msg) from error
    if not found.origin or found.size < 0 or len(found.root) != HASH_SIZE or encode(found) != data:
        raise ValueError(msg)
    return found
