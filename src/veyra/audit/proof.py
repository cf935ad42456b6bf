"""Proofs from a log: that an entry stands in it, and that a later checkpoint goes on from an earlier one.

1. A proof is a row of hashes, each the root over a range of leaves (RFC 6962, sections 2.1.1 and 2.1.2). The ranges
   follow from the sizes alone, so one pass over the log's leaves gives all of them, in memory for their hashes only.
2. A bundle is one file of ASCII JSON: for each entry its leaf and its C2SP tlog-proof, the parts that were opened with
   their salts, the key that signed the checkpoint, and the handings-over between keys. `standalone` checks it.
3. What is handed out was checked as its receiver will check it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from veyra.audit import checkpoint, read, saved, standalone
from veyra.audit.anchors import NOTHING, Comparison
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.entry import ROTATED, parse
from veyra.audit.read import Entry
from veyra.audit.standalone import Key
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.walk import Walk
from veyra.errors import AuditCorruptError, AuditError

Range: TypeAlias = tuple[int, int]
"""The leaves from the first number up to, not including, the second."""

_ROTATED = f'{{"v":1,"kind":"{ROTATED}"'.encode()


def inclusion(seq: int, size: int) -> list[Range]:
    """Return the ranges whose roots prove the entry `seq` in a tree of `size`, the leaf's sibling first."""
    assert 0 <= seq < size
    ranges: list[Range] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if seq < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency(old: int, new: int) -> list[Range]:
    """Return the ranges whose roots prove that a tree of size `new` begins with one of size `old`."""
    assert 0 <= old <= new
    ranges: list[Range] = []
    begin, end = 0, new
    while old not in {0, end}:
        middle = begin + _split(end - begin)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if old and begin:  # where the old tree is a subtree of its own, its root is known to whoever checks
        ranges.append((begin, end))
    return ranges[::-1]


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def roots(leaves: Iterable[bytes], ranges: Iterable[Range]) -> dict[Range, bytes]:
    """Return the root over each range, in one pass over the leaf hashes; it stops after the last that is needed."""
    trees = {wanted: Tree() for wanted in ranges}
    begins: dict[int, list[Range]] = {}
    for wanted in trees:
        begins.setdefault(wanted[0], []).append(wanted)
    active: list[Range] = []
    last = max((end for _, end in trees), default=0)
    for seq, leaf in enumerate(leaves):
        if seq >= last:
            break
        active = [wanted for wanted in active if wanted[1] > seq] + begins.get(seq, [])
        for wanted in active:
            trees[wanted].append(leaf)
    return {wanted: tree.root() for wanted, tree in trees.items()}


def prove_consistency(directory: Path, old: Checkpoint) -> tuple[Checkpoint, list[bytes]]:
    """Return the log's checkpoint, and the hashes that prove that it goes on from `old`.

    Raises:
        AuditError: there is no checkpoint.
        AuditCorruptError: the log's checkpoint does not go on from `old`, or its entries are damaged.
    """
    new = read_published(directory)
    if old.origin != new.origin or old.size > new.size:
        what = "is of another log" if old.origin != new.origin else f"is over {old.size} entries, more than {new.size}"
        msg = f"the log at {directory} does not go on from that checkpoint, which {what}"
        raise AuditCorruptError(msg)
    wanted = consistency(old.size, new.size)
    found = roots(map(leaf_hash, leaves(directory, new.size)), wanted)
    path = [found[item] for item in wanted]
    if not standalone.is_consistent(old, new, path):
        msg = f"the log at {directory} does not go on from that checkpoint: its first {old.size} entries are others"
        raise AuditCorruptError(msg)
    return new, path


def encode(seq: int, path: Sequence[bytes], point: Checkpoint) -> bytes:
    """Return a C2SP tlog-proof."""
    lines = [standalone.HEADER, f"index {seq}", *(b64encode(item).decode("ascii") for item in path)]
    return "".join(f"{line}\n" for line in [*lines, ""]).encode("ascii") + checkpoint.encode(point)


def bundle(directory: Path, key: int | str, opened: Sequence[str] = ()) -> bytes:
    """Return a bundle that proves the entries that `key` names (see `read.find`), with these parts opened.

    Raises:
        AuditError: there is no such entry, no checkpoint over it yet, none that is signed, or no part of that name.
        AuditCorruptError: the log is damaged, or its entries do not give its checkpoint.
    """
    entries = read.find(directory, key)
    if not entries:
        msg = f"there is no entry {key!r} in the log at {directory}"
        raise AuditError(msg)
    point = read_published(directory)
    if entries[-1].seq >= point.size:
        msg = f"entry {entries[-1].seq} is not covered by a checkpoint yet ({point.size} entries are)"
        raise AuditError(msg)
    survey = _Survey(directory, point, [inclusion(entry.seq, point.size) for entry in entries])
    _check_names(entries, opened)
    made = {
        "veyra.proof": 1,
        "key": survey.key.text,
        "handovers": survey.handovers,
        "entries": [
            {
                "leaf": entry.raw.decode("ascii"),
                "proof": encode(entry.seq, path, point).decode("utf-8"),
                "parts": [_open(part) for part in entry.parts if part.name in opened],
            }
            for entry, path in zip(entries, survey.paths, strict=True)
        ],
    }
    data = json.dumps(made, indent=1).encode("ascii") + b"\n"
    try:
        standalone.check_bundle(data, [survey.key])
    except ValueError as error:
        msg = f"the log at {directory} was altered: {error}"
        raise AuditCorruptError(msg) from None
    return data


def _check_names(entries: Sequence[Entry], opened: Sequence[str]) -> None:
    there = {part.name for entry in entries for part in entry.parts}
    for name in opened:
        if name not in there:
            msg = f"there is no part {name!r}; there are {', '.join(sorted(there)) or 'none'}"
            raise AuditError(msg)


def _open(part: read.StoredPart) -> dict[str, str]:
    return {"name": part.name, "salt": part.salt.hex(), "data": b64encode(part.data).decode("ascii")}


class _Survey:
    """One pass over a log for proofs under its checkpoint: their hashes, the key, and the handings-over before it."""

    def __init__(self, directory: Path, point: Checkpoint, wanted: Sequence[Sequence[Range]]) -> None:
        self.handovers: list[dict[str, Any]] = []
        self._directory = directory
        self._faults: list[str] = []
        self._seen = Comparison(NOTHING, point.origin, point, lambda _, message, __, ___: self._faults.append(message))
        hashes = self._hashes(leaves(directory, point.size))
        found = roots(hashes, {item for path in wanted for item in path})
        self.paths = [[found[item] for item in path] for path in wanted]
        self._seen.end(point.size)
        if self._faults:
            msg = f"the audit log at {directory} was altered: {self._faults[0]}"
            raise AuditCorruptError(msg)

    @property
    def key(self) -> Key:
        """The key that signed the checkpoint."""
        if self._seen.signed_by is None:
            msg = f"the checkpoint of the log at {self._directory} is not signed: see `veyra audit key generate`"
            raise AuditError(msg)
        return self._seen.signed_by

    def _hashes(self, leaves: Iterator[bytes]) -> Iterator[bytes]:
        tree = Tree()
        for seq, leaf in enumerate(leaves):
            digest = leaf_hash(leaf)
            self._seen.entry(seq, leaf, digest, tree)
            if leaf.startswith(_ROTATED):
                fields = parse(leaf)
                self.handovers.append({name: fields[name] for name in ("from", "to", "sig")})
            yield digest


def read_published(directory: Path) -> Checkpoint:
    """Return the log's checkpoint.

    Raises:
        AuditError: there is none.
        AuditCorruptError: something else stands in its place.
    """
    try:
        point = saved.read_checkpoint(directory)
    except ValueError as error:
        raise AuditCorruptError(str(error)) from None
    if point is None:
        msg = f"there is no checkpoint at {directory}"
        raise AuditError(msg)
    return point


def leaves(directory: Path, size: int) -> Iterator[bytes]:
    """Yield the first `size` leaves.

    Raises:
        AuditCorruptError: the log ends before.
    """
    walk, seen = Walk(directory), 0
    if size == 0:
        return
    for _, frame in walk:
        yield frame.leaf
        seen = frame.seq + 1
        if seen == size:
            return
    msg = f"the audit log at {directory} can be read up to entry {seen} only, before its checkpoint over {size}"
    raise AuditCorruptError(msg)
