"""What a log is compared with besides itself: verifier keys, checkpoints and receipts that were kept elsewhere.

1. A checkpoint kept elsewhere gives a size and a root: the log must be as large, and have that root there. Where it is
   signed by a key that is known, that signature must verify.
2. A receipt gives a place and a leaf hash: that entry must stand there.
3. The log says itself under which key it is signed: in the first entry of each session, and in `key.rotated`, which the
   old key has signed. The checkpoint must be signed by the newest key named before its end. Keys given from outside
   must include one that leads to it; without any, the log's own word for its key is all there is.
4. A log that names a key, or was signed when it was last looked at, may not have an unsigned checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from veyra.audit import checkpoint, keys, segment, signer
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.entry import GAP, OPEN, ROLLED_BACK, ROTATED, parse
from veyra.audit.keys import Places
from veyra.audit.standalone import Key, handover_text, is_signature, parse_key, unbase64
from veyra.audit.tree import Tree
from veyra.errors import AuditError
from veyra.types import Receipt

MAX_KEYS: Final = 1_000
"""A log that names more keys than this is not checked further for them."""
MAX_FILE: Final = 65_536
_MARKED: Final = tuple(f'{{"v":1,"kind":"{kind}"'.encode() for kind in (OPEN, ROTATED, ROLLED_BACK, GAP))

_CALL: Final = b'{"v":1,"kind":"call.'

Tell = Callable[[str, str, str, int | None], None]
"""Takes a problem: its code, message, file and sequence number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """What was kept outside a log's directory; checkpoints and receipts by the name to call them in a message.

    Attributes:
        keys: verifier keys that are known to be the log's, or to have been.
        points: checkpoints; they need no signature, as they were kept where only their owner writes.
        receipts: of entries.
    """

    keys: tuple[Key, ...] = ()
    points: Mapping[str, Checkpoint] = field(default_factory=dict)
    receipts: Mapping[str, Receipt] = field(default_factory=dict)

    @property
    def show_the_end(self) -> bool:
        """Whether there is anything that says how far the log must reach."""
        return bool(self.points or self.receipts)


NOTHING: Final = Anchors()
"""Nothing was kept elsewhere."""


def usual(directory: Path, places: Places) -> Anchors:
    """Return what this user has kept of the log in `directory` by signing it: what was signed last, and the key.

    Raises:
        AuditError: one of them is there and cannot be read.
    """
    origin = origin_of(directory)
    head = None if origin is None else signer.read_head(places.head_of(origin), origin)
    if origin is None or head is None:
        return NOTHING
    try:
        found = tuple(key.verifier for key in keys.read(places.key_of(origin)))
    except FileNotFoundError:
        found = ()
    return Anchors(keys=found, points={"what was signed last": head})


def origin_of(directory: Path) -> str | None:
    """Return the name of the log in `directory`, None where there is none or its first segment cannot be read."""
    try:
        with segment.opened(segment.path(directory, 0)) as fd:
            return segment.read(fd)[0].origin
    except (OSError, ValueError):
        return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint kept in a file.

    Raises:
        AuditError: the file holds none.
    """
    try:
        with path.open("rb") as file:
            return checkpoint.parse(file.read(checkpoint.MAX_SIZE))
    except (OSError, ValueError) as error:
        msg = f"{path}: {error.strerror if isinstance(error, OSError) else error}"
        raise AuditError(msg) from None


def read_receipt(path: Path) -> Receipt:
    """Return the receipt kept in a file: a JSON object with `origin`, `id`, `seq` and `leaf_hash`.

    Raises:
        AuditError: the file holds none.
    """
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(MAX_FILE))
        receipt = Receipt(
            origin=str(fields["origin"]), id=str(fields["id"]), seq=int(fields["seq"]), leaf_hash=fields["leaf_hash"]
        )
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise AuditError(msg) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        msg = f"{path}: not a receipt: a JSON object with origin, id, seq and leaf_hash"
        raise AuditError(msg) from None
    return receipt


def parse_verifier(text: str) -> Key:
    """Return the verifier key written as NAME+HASH+BASE64.

    Raises:
        AuditError: it is none.
    """
    try:
        return parse_key(text.strip())
    except ValueError as error:
        msg = f"{text!r} is {error}"
        raise AuditError(msg) from None


class Comparison:
    """One verification's look at the anchors, fed with the log's entries in order.

    Attributes:
        signed_by: the key whose signature on the checkpoint was verified.
        undecided: what could not be said for want of a key.
        gaps: losses that the log itself declares.
    """

    def __init__(
        self, anchors: Anchors, origin: str, known: Checkpoint | None, tell: Tell, before: Tree | None = None
    ) -> None:
        self._anchors = anchors
        self._origin = origin
        self._known = known
        self._tell = tell
        self._named: dict[str, Key] = {}
        self._newest: Key | None = None
        self._trusted = set(anchors.keys)
        self._sizes: dict[int, list[str]] = {}
        self._places: dict[int, list[str]] = {}
        self.signed_by: Key | None = None
        self.undecided: list[str] = []
        self.gaps: list[str] = []
        for name, point in anchors.points.items():
            if point.origin != origin:
                tell("anchor", f"{name} is of another log", "", None)
            else:
                self._sizes.setdefault(point.size, []).append(name)
        for name, receipt in anchors.receipts.items():
            if receipt.origin != origin or receipt.seq is None:
                tell("anchor", f"{name} is of another log", "", None)
            else:
                self._places.setdefault(receipt.seq, []).append(name)
        if before is not None:
            self._leave_out(before.size)
        self._compare_points(Tree() if before is None else before)

    def _leave_out(self, size: int) -> None:
        """Do without what lies in the first `size` entries, which were verified earlier."""
        points = {due: names for due, names in self._sizes.items() if due < size}
        places = {due: names for due, names in self._places.items() if due < size}
        for due, names in (*points.items(), *places.items()):
            self.undecided += [f"{name} is for entry {due}, before what was verified now" for name in names]
        self._sizes = {due: names for due, names in self._sizes.items() if due not in points}
        self._places = {due: names for due, names in self._places.items() if due not in places}

    def awaited(self, first: int, leaves: Sequence[bytes]) -> set[int]:
        """Return which of a run of leaves, the first having the number `first`, `entry` must be given."""
        due = {*self._places, *(size - 1 for size in self._sizes)}
        marked = {
            number for number, leaf in enumerate(leaves) if not leaf.startswith(_CALL) and leaf.startswith(_MARKED)
        }
        return marked | {seq - first for seq in due if first <= seq < first + len(leaves)}

    def entry(self, seq: int, leaf: bytes, digest: bytes, tree: Tree) -> None:
        """Take the next entry, its hash, and the tree that ends with it."""
        for name in self._places.pop(seq, ()):
            if self._anchors.receipts[name].leaf_hash != digest.hex():
                self._tell("anchor", f"the entry is not the one that {name} is for", "", seq)
        if seq + 1 in self._sizes:
            self._compare_points(tree)
        if leaf.startswith(_MARKED):
            self._mark(seq, leaf)

    def end(self, size: int) -> None:
        """Judge what was not met in `size` entries, and who signed the checkpoint."""
        for due, names in sorted(self._sizes.items()):
            for name in names:
                self._tell(
                    "anchor", f"the log ends at entry {size}, but {name} is over {due}: it was rolled back", "", None
                )
        for due, names in sorted(self._places.items()):
            for name in names:
                self._tell("anchor", f"the log ends at entry {size}, before that of {name}", "", due)
        self._judge_points()
        self._judge_signature()

    def _judge_points(self) -> None:
        """See that no kept checkpoint has a line of a known key that does not verify."""
        for name, point in self._anchors.points.items():
            for key in {*self._named.values(), *self._trusted} if point.origin == self._origin else ():
                try:
                    point.is_signed_by(key)
                except ValueError as error:
                    self._tell("anchor", f"{name} is not as it was signed: {error}", "", None)

    def _compare_points(self, tree: Tree) -> None:
        for name in self._sizes.pop(tree.size, ()):
            if self._anchors.points[name].root != tree.root():
                self._tell("anchor", f"the first {tree.size} entries do not give the root of {name}", "", None)

    def _mark(self, seq: int, raw: bytes) -> None:
        try:
            leaf = parse(raw)
        except ValueError:
            return  # said at the level that checks leaves
        if leaf["kind"] == ROLLED_BACK:
            self.gaps.append(f"entry {seq}: an operator accepted that entries up to {leaf['size']} were lost")
        elif leaf["kind"] == GAP:
            self.gaps.append(
                f"entry {seq}: {leaf['intents']} intents and {leaf['outcomes']} outcomes were not recorded: {leaf['reason']}"
            )
        elif len(self._named) < MAX_KEYS and (self._known is None or seq < self._known.size or not self._named):
            try:
                self._name(leaf)
            except ValueError as error:
                self._tell("key", str(error), "", seq)

    def _name(self, leaf: dict[str, Any]) -> None:
        """Take the key that an entry names.

        Raises:
            ValueError: no key that counted before has handed over to it.
        """
        text = leaf["to"] if leaf["kind"] == ROTATED else leaf.get("key")
        if text is None or (text in self._named and (leaf["kind"] == OPEN or self._named[text] == self._newest)):
            return
        key = parse_key(text)
        if leaf["kind"] == ROTATED:
            self._hand_over(leaf, key)
        elif self._newest is not None and key not in self._anchors.keys:
            msg = f"a session signs with the key {key.name}+{key.id.hex()}, to which no key before it handed over"
            raise ValueError(msg)
        self._named[text] = self._newest = key

    def _hand_over(self, leaf: dict[str, Any], key: Key) -> None:
        old = parse_key(leaf["from"])
        text = handover_text(self._origin, leaf["from"], leaf["to"])
        if old != (self._newest or old) or not is_signature(old.public, text, unbase64(leaf["sig"])):
            msg = f"the key before {key.name}+{key.id.hex()} did not hand over to it"
            raise ValueError(msg)
        if old in self._trusted:
            self._trusted.add(key)

    def _judge_signature(self) -> None:
        known, file = self._known, checkpoint.FILE
        must = self._newest is not None or self._trusted or any(p.signatures for p in self._anchors.points.values())
        if known is None or not known.signatures:
            if must:
                self._tell("signature", "the log is signed, but there is no signed checkpoint", file, None)
            return
        try:
            signers = [key for key in (self._newest, *self._trusted) if key is not None and known.is_signed_by(key)]
        except ValueError as error:
            self._tell("signature", str(error), file, None)
            return
        if self._newest is not None and self._newest not in signers:
            message = f"the checkpoint is not signed by the log's key {self._newest.name}+{self._newest.id.hex()}"
            self._tell("signature", message, file, None)
        elif self._trusted and not self._trusted & set(signers):
            self._tell(
                "signature", "the checkpoint is not signed by the key that was given, or one it led to", file, None
            )
        elif not signers:
            self.undecided.append("the checkpoint is signed by a key that is not known: give --key")
        else:
            self.signed_by = signers[0]
