"""Signed logs for tests: made by the writer, or laid down at once where they are to be long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from audit.recording import pair
from veyra.audit import AuditLog, checkpoint, entry, keys, segment
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.entry import Attempt
from veyra.audit.files import make_folder
from veyra.audit.frame import encode
from veyra.audit.keys import Places, SigningKey
from veyra.audit.segment import Head
from veyra.audit.session import Session
from veyra.audit.tree import Tree

ORIGIN = "log.example/veyra"


def places(root: Path) -> Places:
    """Return where the tests keep key and heads of the log at `root / "log"`."""
    return Places(key=root / "keys" / "log.key", heads=root / "heads")


async def signed(root: Path, pairs: int = 3, *, name: str = ORIGIN) -> SigningKey:
    """Make or go on with a log at `root / "log"`, signed by a key called `name`; return the key."""
    where = places(root)
    assert where.key is not None
    if not where.key.exists():
        keys.write(where.key, SigningKey.generate(name))
    log = opened(root)
    for number in range(pairs):
        await pair(log, f"c{number}")
    await log.aclose()
    return keys.read(where.key)[0]


def opened(root: Path) -> AuditLog:
    """Return the log at `root / "log"` with the tests' places."""
    where = places(root)
    return AuditLog(root / "log", key=where.key, heads=where.heads)


def lay_down(directory: Path, size: int, key: SigningKey, *, starts: Sequence[int] = ()) -> Tree:
    """Write a log of `size` entries, one frame after the other, with segments that begin at `starts`, and sign it."""
    make_folder(directory / segment.FOLDER)
    session, tree = Session(), Tree()
    bounds = [0, *starts, size]
    for index, (first, end) in enumerate(pairwise(bounds)):
        head = Head(origin=ORIGIN, index=index, first=first, peaks=tree.peaks, created=time.time_ns())
        data = [segment.encode(head)]
        for seq in range(first, end):
            draft = entry.intent(Attempt(f"c{seq}", 1, "mock"), attributes={}) if seq else _first(key)
            sealed = session.seal(draft)
            data.append(encode(seq, sealed))
            tree.append(sealed.hash)
        segment.path(directory, index).write_bytes(b"".join(data))
    point = Checkpoint(ORIGIN, size, tree.root())
    point = point._replace(signatures=(key.signature(point),))
    (directory / checkpoint.FILE).write_bytes(checkpoint.encode(point))
    return tree


def _first(key: SigningKey) -> entry.Draft:
    return entry.session_open(pid=1, mode="strict", key=key.verifier.text)
