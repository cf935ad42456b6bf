"""The checkpoint: what the log says of its size and root, as a C2SP tlog-checkpoint note.

Three lines: the log's origin, the number of entries in decimal, the root hash in base64. Where the log has a key, an
empty line and signature lines follow (C2SP signed-note); a log without one ends the file with the body.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from veyra.audit import standalone
from veyra.audit.standalone import Checkpoint

__all__ = ["Checkpoint", "FILE", "MAX_SIZE", "encode", "parse"]

FILE: Final = "checkpoint"
MAX_SIZE: Final = standalone.MAX_NOTE


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the note: its body, and its signatures if it has any."""
    lines = [
        f"\N{EM DASH} {name} {b64encode(key_id + value).decode('ascii')}\n"
        for name, key_id, value in checkpoint.signatures
    ]
    return checkpoint.body + "".join(["\n", *lines] if lines else []).encode()


def parse(data: bytes) -> Checkpoint:
    """Return the checkpoint that `data` holds. Its signatures are not verified here.

    Raises:
        ValueError: it is not, byte for byte, what `encode` writes.
    """
    msg = "the checkpoint is not the body of a tlog-checkpoint note, with or without signatures"
    try:
        found = standalone.parse_checkpoint(data)
    except ValueError as error:
        raise ValueError(msg) from error
    if encode(found) != data:
        raise ValueError(msg)
    return found
