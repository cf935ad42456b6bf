"""Checking a log: is every entry there, whole, unaltered, in its place and paired? Reads only.

What is checked, level by level (each includes those before it):

    tree        every segment, and every frame but for the bodies in it, is whole (lengths, CRCs, sequence numbers); the
                leaves give the root that the checkpoint states, and the hashes that each segment begins with
    semantics   every leaf is well-formed; the running numbers of each session have no gap and no repeat; no outcome
                without its intent before it, and at most one for each
    bodies      every body is whole (CRC) and what its leaf commits to
    anchors     there is something outside the directory to compare with, so that a tail that was cut would show

What was kept elsewhere (`anchors.Anchors`) is compared with at every level, and the checkpoint's signature verified.

What cannot be seen from inside a directory: that a tail was cut off together with the checkpoint over it, or that
all of it was written anew. For that, compare with a checkpoint or a receipt that was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from veyra.audit import checkpoint, saved, segment
from veyra.audit.anchors import NOTHING, Anchors, Comparison
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.coding import unpack
from veyra.audit.entry import CLOSE, INTENT, OUTCOME, RECOVERY, commit, parse, parse_blobs
from veyra.audit.frame import Frame
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.walk import Fault, Walk
from veyra.errors import AuditError

Level: TypeAlias = Literal["tree", "semantics", "bodies", "anchors"]
LEVELS: Final[tuple[Level, ...]] = ("tree", "semantics", "bodies", "anchors")
MAX_PROBLEMS: Final = 1_000
"""After so many problems checking stops: the log is not what it was."""

NO_ANCHOR: Final = (
    "nothing outside the directory was compared with: that the log ends here is its own word (keep a checkpoint or a "
    "receipt elsewhere to know)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it was written: where, and what.

    Attributes:
        code: `frame`, `segment`, `checkpoint`, `tree`, `leaf`, `session`, `pairing`, `body`, `key`, `signature` or
            `anchor`.
        message: what is wrong, in a sentence without a full stop.
        file: within the log's directory; empty for a log in memory.
        offset: in bytes, None where the whole file is meant.
        seq: the entry's sequence number, None where no one entry is meant.
    """

    code: str
    message: str
    file: str = ""
    offset: int | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found.

    Attributes:
        origin: the log's name; empty where no segment could be read.
        level: how far was checked.
        size, root: the entries that were checked, and the root hash over them (lower-case hex).
        checkpoint_size: how many entries the checkpoint covers; None where there is none.
        segments, intents, outcomes, bodies: how many were checked.
        open: intents without an outcome: of calls under way, or of a session that died and is not yet recovered.
        abandoned: outcomes that recovery wrote.
        problems: what is wrong, in the order it was met, at most `MAX_PROBLEMS`; empty for a good log.
        notices: what is worth knowing and no problem, a torn tail among it.
        signed_by: the verifier key whose signature on the checkpoint was verified; None where there is none.
        compared: what was kept outside the directory and compared with.
        undecided: what could not be said, because a key or an anchor is missing.
        gaps: losses that the log itself declares.
    """

    origin: str
    level: Level
    size: int
    root: str
    checkpoint_size: int | None
    segments: int
    intents: int
    outcomes: int
    open: int
    abandoned: int
    bodies: int
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    signed_by: str | None = None
    compared: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def verify(directory: str | PathLike[str], *, level: Level = "bodies", anchors: Anchors = NOTHING) -> Report:
    """Check the log in `directory`. Ends on any input, and raises no false alarm while others write to it.

    Args:
        directory: the log.
        level: how far to check.
        anchors: what was kept outside the directory. Without, that the log ends where it does is its own word.

    Raises:
        AuditError: there is no log, or it cannot be read (then nothing is known of it).
    """
    path = Path(directory)
    try:
        report = _verify(path, level, anchors)
        # A reader may come upon a torn tail just as it is set aside. What is really wrong is wrong twice.
        return report if report.ok else _verify(path, level, anchors)
    except OSError as error:
        msg = f"the audit log at {path} cannot be read: {error.strerror or error}"
        raise AuditError(msg) from error


def verify_memory(origin: str, entries: Sequence[tuple[bytes, bytes]]) -> Report:
    """Check a log in memory, given as leaf and blobs of each entry, as `verify` checks one on disk."""
    check = _Check("bodies", NOTHING)
    check.expect(None, origin)
    for seq, (leaf, blobs) in enumerate(entries):
        check.entry(Frame(seq, 0, 0, leaf, blobs), "")
    return check.report(origin, None, 0)


def _verify(path: Path, level: Level, anchors: Anchors) -> Report:
    check = _Check(level, anchors)
    known = _checkpoint(path, check)  # read first: the segments can then only be ahead of it
    walk = Walk(path, blobs=check.with_bodies)
    if not walk.heads and walk.unread is None and known is None and not check.is_wrong:
        msg = f"there is no audit log at {path}"
        raise AuditError(msg)
    heads = {file: head for file, head, _ in walk.heads}
    origin = next(iter(heads.values())).origin if heads else ""
    check.expect(known, origin)
    entered, name = None, ""
    for file, frame in walk:
        if file is not entered:
            entered, name = file, _name(path, file)
            check.head(heads[file], name)
        check.entry(frame, name)
        if check.is_full:
            break
    else:
        for file, head, _ in walk.heads[-1:]:
            if file is not entered:  # a segment without an entry
                check.head(head, _name(path, file))
        check.end(walk.fault, path)
    return check.report(origin, known, len(heads))


def _checkpoint(path: Path, check: _Check) -> Checkpoint | None:
    try:
        return saved.read_checkpoint(path)
    except ValueError as error:
        check.problem("checkpoint", str(error), checkpoint.FILE)
        return None


def _name(directory: Path, file: Path) -> str:
    return file.relative_to(directory).as_posix()


class _Check:
    """The state of one verification."""

    def __init__(self, level: Level, anchors: Anchors) -> None:
        self._level: Level = level
        self.with_bodies = level in {"bodies", "anchors"}
        self._anchors = anchors
        self._comparison: Comparison
        self._tree = Tree()
        self._known: Checkpoint | None = None
        self._next: dict[str, int] = {}
        self._ended: set[str] = set()
        self._open: dict[str, int] = {}
        self._counts = {INTENT: 0, OUTCOME: 0}
        self._abandoned = 0
        self._bodies = 0
        self._problems: list[Problem] = []
        self._notices: list[str] = []

    @property
    def is_wrong(self) -> bool:
        return bool(self._problems)

    @property
    def is_full(self) -> bool:
        return len(self._problems) >= MAX_PROBLEMS

    def problem(self, code: str, message: str, file: str, offset: int | None = None, seq: int | None = None) -> None:
        self._problems.append(Problem(code=code, message=message, file=file, offset=offset, seq=seq))

    def expect(self, known: Checkpoint | None, origin: str) -> None:
        """Take the checkpoint's word, to be compared when the tree is as large."""
        self._known = known
        if known is not None and origin and known.origin != origin:
            self.problem("checkpoint", "the checkpoint is of another log", checkpoint.FILE)
        self._comparison = Comparison(
            self._anchors, origin, known, lambda code, message, file, seq: self.problem(code, message, file, None, seq)
        )
        self._compare_root()

    def head(self, head: segment.Head, file: str) -> None:
        """Check that a segment begins where the tree stands."""
        if head.first == self._tree.size and head.peaks != self._tree.peaks:
            self.problem("tree", "the entries before the segment do not give the hashes it begins with", file, 0)

    def entry(self, frame: Frame, file: str) -> None:
        """Check one entry at every level asked for."""
        digest = leaf_hash(frame.leaf)
        self._tree.append(digest)
        self._compare_root()
        self._comparison.entry(frame.seq, frame.leaf, digest, self._tree)
        if self._level == "tree":
            return
        try:
            leaf = parse(frame.leaf)
        except ValueError as error:
            self.problem("leaf", str(error), file, frame.offset, frame.seq)
            return
        for code, message in self._semantics(leaf, frame.seq):
            self.problem(code, message, file, frame.offset, frame.seq)
        if self.with_bodies:
            for message in self._check_bodies(leaf, frame.blobs or b""):
                self.problem("body", message, file, frame.offset, frame.seq)

    def end(self, fault: Fault | None, path: Path) -> None:
        """Judge how the log ends."""
        size = self._tree.size
        short = self._known is not None and size < self._known.size
        if fault is not None and fault.torn and not short:
            self._notices.append(
                f"torn tail: {_name(path, fault.file)} ends at offset {fault.offset} in what an interrupted append left "
                f"({fault.reason}); the next opening sets it aside"
            )
        elif fault is not None:
            code = "segment" if fault.offset == 0 else "frame"
            self.problem(code, f"there is {fault.reason}", _name(path, fault.file), fault.offset, fault.seq)
        elif short and self._known is not None:
            message = f"the log ends at entry {size}, but its checkpoint is over {self._known.size}"
            self.problem("checkpoint", message, checkpoint.FILE)
        if fault is None or fault.torn:
            self._comparison.end(size)

    def report(self, origin: str, known: Checkpoint | None, segments: int) -> Report:
        """Sum up."""
        seen = self._comparison
        undecided = (
            []
            if self._anchors or self._level != "anchors"
            else ["there is no checkpoint and no receipt from elsewhere"]
        )
        return Report(
            origin=origin,
            level=self._level,
            size=self._tree.size,
            root=self._tree.root().hex(),
            checkpoint_size=None if known is None else known.size,
            segments=segments,
            intents=self._counts[INTENT],
            outcomes=self._counts[OUTCOME],
            open=len(self._open),
            abandoned=self._abandoned,
            bodies=self._bodies,
            problems=tuple(self._problems),
            notices=(*self._notices, *([] if self._anchors.show_the_end else [NO_ANCHOR])),
            signed_by=None if seen.signed_by is None else seen.signed_by.text,
            compared=(*self._anchors.points, *self._anchors.receipts),
            undecided=(*seen.undecided, *undecided),
            gaps=tuple(seen.gaps),
        )

    def _compare_root(self) -> None:
        known = self._known
        if known is not None and self._tree.size == known.size and self._tree.root() != known.root:
            message = f"the first {known.size} entries do not give the root of the checkpoint"
            self.problem("tree", message, checkpoint.FILE)

    def _semantics(self, leaf: dict[str, Any], seq: int) -> Iterable[tuple[str, str]]:
        """Check an entry's place in its session and its pair; yield code and message of what is wrong."""
        kind, sid, wseq = leaf["kind"], leaf["sid"], leaf["wseq"]
        due = self._next.get(sid, 0)
        if sid in self._ended:
            yield "session", f"session {sid} goes on after its end"
        elif wseq != due:
            yield "session", f"session {sid} has entry {wseq} where {due} is due"
        self._next[sid] = wseq + 1
        if kind == CLOSE or (kind == RECOVERY and leaf["session"] is not None):
            ended = sid if kind == CLOSE else leaf["session"]
            self._ended.add(ended)
            self._next.pop(ended, None)
        elif kind == INTENT:
            self._counts[INTENT] += 1
            if leaf["id"] in self._open:
                yield "pairing", f"intent {leaf['id']} is there twice"
            self._open[leaf["id"]] = seq
        elif kind == OUTCOME:
            self._counts[OUTCOME] += 1
            self._abandoned += leaf["status"] == "abandoned"
            if self._open.pop(leaf["intent"], None) is None:
                yield "pairing", f"an outcome for intent {leaf['intent']}, which has one already or is not there"

    def _check_bodies(self, leaf: dict[str, Any], data: bytes) -> Iterable[str]:
        parts = leaf["parts"] if leaf["kind"] in self._counts else []
        try:
            blobs = parse_blobs(data)
        except ValueError as error:
            yield str(error)
            return
        if len(blobs) != len(parts):
            yield f"{len(blobs)} bodies lie beside an entry that names {len(parts)}"
            return
        for part, blob in zip(parts, blobs, strict=True):
            self._bodies += 1
            name = part["name"]
            try:
                plain = unpack(part["enc"], blob.data, part["size"])
                proof = commit(blob.salt, name, plain).hex()
            except ValueError as error:
                yield f"the part {name!r} cannot be read: {error}"
                continue
            if not compare_digest(proof.encode(), part["commit"].encode()):
                yield f"the part {name!r} is not what the entry commits to"
