"""Checking a log: is every entry there, whole, unaltered, in its place and paired? Reads only.

What is checked, level by level (each but quick includes those before it):

    quick       as semantics, but only what came since the last verification (`since`)
    tree        every segment, and every frame but for the bodies in it, is whole (lengths, sequence numbers, the CRC of its
                header; that of its leaf where no checkpoint is over it); the leaves give the root that the checkpoint
                states, and the hashes that each segment begins with
    semantics   every leaf is well-formed; the running numbers of each session have no gap and no repeat; no outcome
                without its intent before it, and at most one for each; the search index and the tiles, where there are
                any, say what the leaves say
    bodies      every leaf agrees with its CRC, every body is whole (CRC) and what its leaf commits to; the torn bytes in
                quarantine are those that their entries name
    anchors     there is something outside the directory to compare with, so that a tail that was cut would show

What was kept elsewhere (`anchors.Anchors`) is compared with at every level, and the checkpoint's signature verified.

What cannot be seen from inside a directory: that a tail was cut off together with the checkpoint over it, or that
all of it was written anew. For that, compare with a checkpoint or a receipt that was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hmac import compare_digest
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from veyra.audit import checkpoint, quarantine, saved, segment
from veyra.audit.anchors import NOTHING, Anchors, Comparison
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.coding import unpack
from veyra.audit.entry import ABANDONED, INTENT, OUTCOME, RECOVERY, commit, parse, parse_blobs
from veyra.audit.frame import Frame
from veyra.audit.line import Line, line_of, read_line
from veyra.audit.tree import Tree, leaf_hash, leaf_hashes
from veyra.audit.verified import Verified
from veyra.audit.walk import Fault, Place, Run, Walk
from veyra.errors import AuditError

Level: TypeAlias = Literal["quick", "tree", "semantics", "bodies", "anchors"]
LEVELS: Final[tuple[Level, ...]] = ("quick", "tree", "semantics", "bodies", "anchors")
Progress: TypeAlias = Callable[[int, int], None]
"""Is told from time to time how many bytes of the log were checked, and how many there are."""
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
        code: `frame`, `segment`, `checkpoint`, `tree`, `leaf`, `session`, `pairing`, `body`, `key`, `signature`,
            `anchor`, `index`, `tile`, `quarantine` or `since`.
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
        since: how many of them an earlier verification had checked, and this one did not read again.
        checkpoint_size: how many entries the checkpoint covers; None where there is none.
        segments, intents, outcomes, bodies: how many were checked now.
        open: intents without an outcome: of calls under way, or of a session that died and is not yet recovered.
        abandoned: outcomes that recovery wrote.
        problems: what is wrong, in the order it was met, at most `MAX_PROBLEMS`; empty for a good log.
        notices: what is worth knowing and no problem, a torn tail among it.
        signed_by: the verifier key whose signature on the checkpoint was verified; None where there is none.
        compared: what was kept outside the directory and compared with.
        undecided: what could not be said, because a key or an anchor is missing.
        gaps: losses that the log itself declares.
        verified: what the next verification needs to go on from the checkpoint; None where that cannot be.
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
    since: int = 0
    verified: Verified | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def verify(
    directory: str | PathLike[str],
    *,
    level: Level = "bodies",
    anchors: Anchors = NOTHING,
    since: Verified | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check the log in `directory`. Ends on any input, and raises no false alarm while others write to it.

    Args:
        directory: the log.
        level: how far to check.
        anchors: what was kept outside the directory. Without, that the log ends where it does is its own word.
        since: `Report.verified` of an earlier verification; what that covers is not read again.
        progress: is told how far it is.

    Raises:
        AuditError: there is no log, or it cannot be read (then nothing is known of it).
    """
    path = Path(directory)
    try:
        report = _verify(path, level, anchors, since, progress)
        # A reader may come upon a torn tail just as it is set aside. What is really wrong is wrong twice, and the second
        # time each leaf is held against its CRC, too, which names the one that a root only says is there.
        return report if report.ok else _verify(path, level, anchors, since, progress, by_root=False)
    except OSError as error:
        msg = f"the audit log at {path} cannot be read: {error.strerror or error}"
        raise AuditError(msg) from error


def verify_memory(origin: str, entries: Sequence[tuple[bytes, bytes]]) -> Report:
    """Check a log in memory, given as leaf and blobs of each entry, as `verify` checks one on disk."""
    check = _Check("bodies", NOTHING, None)
    check.expect(None, origin)
    for seq, (leaf, blobs) in enumerate(entries):
        check.entry(Frame(seq, 0, 0, leaf, blobs), "")
    return check.report(None, 0)


def _verify(
    path: Path,
    level: Level,
    anchors: Anchors,
    since: Verified | None,
    progress: Progress | None,
    *,
    by_root: bool = True,
) -> Report:
    check = _Check(level, anchors, since)
    known = _checkpoint(path, check)  # read first: the segments can then only be ahead of it
    proven = known.size if by_root and known is not None else 0
    walk = Walk(path, blobs=check.with_bodies, at=None if since is None else since.last, proven=proven)
    if not walk.heads and walk.unread is None and known is None and not check.is_wrong:
        msg = f"there is no audit log at {path}"
        raise AuditError(msg)
    check.expect(known, walk.heads[0][1].origin if walk.heads else "")
    if check.goes_on and _check_entries(walk, check, path, progress):
        check.end(walk.fault, path)
        check.quarantine(path)
        if level != "tree" and not check.is_wrong:
            check.index(path)
            check.tiles(path)
    return check.report(known, len(walk.heads))


def _check_entries(walk: Walk, check: _Check, path: Path, progress: Progress | None) -> bool:
    """Check segment heads and entries; return whether the end was reached."""
    heads = {file: head for file, head, _ in walk.heads}
    ahead = {file: done for (file, _, _), done in zip(walk.heads, _sizes_before(walk), strict=True)}
    total = sum(file.stat().st_size for file in heads)
    entered, name = None, ""
    for file, item in walk if check.with_bodies else walk.runs():
        if file is not entered:
            entered, name = file, _name(path, file)
            check.head(heads[file], name)
        if isinstance(item, Run):
            check.run(item, name)
        else:
            check.entry(item, name)
        if check.is_full:
            return False
        if progress is not None:
            progress(ahead[file] + (item.offsets[-1] if isinstance(item, Run) else item.end), total)
    for file, head, _ in walk.heads[-1:]:
        if file is not entered:  # a segment without an entry
            check.head(head, _name(path, file))
    return True


def _sizes_before(walk: Walk) -> list[int]:
    """Return for each segment how many bytes lie in those before it."""
    sizes = [file.stat().st_size for file, _, _ in walk.heads]
    return [sum(sizes[:number]) for number in range(len(sizes))]


def _checkpoint(path: Path, check: _Check) -> Checkpoint | None:
    try:
        return saved.read_checkpoint(path)
    except ValueError as error:
        check.problem("checkpoint", str(error), checkpoint.FILE)
        return None


def _name(directory: Path, file: Path) -> str:
    return file.relative_to(directory).as_posix()


@lru_cache(maxsize=4)
def _number(file: str) -> int:
    """Return the number of the segment that is named; 0 for a log in memory."""
    return segment.number(Path(file)) if file else 0


class _Check:
    """The state of one verification."""

    def __init__(self, level: Level, anchors: Anchors, since: Verified | None) -> None:
        self._level: Level = level
        self.with_bodies = level in {"bodies", "anchors"}
        self._anchors = anchors
        self._since = since
        self._comparison: Comparison
        self._origin = ""
        self._tree = Tree() if since is None else since.tree
        self._known: Checkpoint | None = None
        self._next = {} if since is None else dict(since.due)
        self._ended = set[str]() if since is None else set(since.ended)
        self._open = set[str]() if since is None else set(since.open)
        self._counts = {INTENT: 0, OUTCOME: 0}
        self._abandoned = 0
        self._bodies = 0
        self._problems: list[Problem] = []
        self._notices: list[str] = []
        self._set_aside: list[tuple[int, str, object, object]] = []
        self._last: tuple[Place, bytes] | None = None
        self._found_last = False
        self.verified = since
        self.goes_on = True

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
        self._known, self._origin = known, origin
        before = None
        if known is not None and origin and known.origin != origin:
            self.problem("checkpoint", "the checkpoint is of another log", checkpoint.FILE)
        if self._since is not None:
            before = self._since.tree
            if known is None or known.size < before.size:
                message = f"there is no checkpoint over the {before.size} entries that were verified earlier"
                self.problem("checkpoint", message, checkpoint.FILE)
            if origin != self._since.origin:
                self.problem("since", "what was verified last is another log", "")
                self.goes_on = False
        self._comparison = Comparison(
            self._anchors,
            origin,
            known,
            lambda code, message, file, seq: self.problem(code, message, file, None, seq),
            before,
        )
        self._compare_root()

    def head(self, head: segment.Head, file: str) -> None:
        """Check that a segment begins where the tree stands."""
        if head.first == self._tree.size and head.peaks != self._tree.peaks:
            self.problem("tree", "the entries before the segment do not give the hashes it begins with", file, 0)

    def entry(self, frame: Frame, file: str) -> None:
        """Check one entry with its bodies."""
        if self._was_verified(frame.seq, frame.leaf, file):
            return
        self._last = Place(_number(file), frame.offset, frame.seq), frame.leaf
        try:
            leaf = parse(frame.leaf)
        except ValueError as error:
            self.problem("leaf", str(error), file, frame.offset, frame.seq)
        else:
            for code, message in self._semantics(line_of(leaf)):
                self.problem(code, message, file, frame.offset, frame.seq)
            for message in self._check_bodies(leaf, frame.blobs or b""):
                self.problem("body", message, file, frame.offset, frame.seq)
            if leaf["kind"] == RECOVERY and leaf["of"] == "tail":
                self._set_aside.append((frame.seq, str(leaf["file"]), leaf["size"], leaf["sha256"]))
        digest = leaf_hash(frame.leaf)
        self._tree.append(digest)
        self._compare_root()
        self._comparison.entry(frame.seq, frame.leaf, digest, self._tree)

    def run(self, run: Run, file: str) -> None:
        """Check entries without their bodies."""
        first, offsets, leaves = run
        if self._was_verified(first, leaves[0], file):
            first, offsets, leaves = first + 1, offsets[1:], leaves[1:]
        digests = leaf_hashes(leaves)
        stops = self._comparison.awaited(first, leaves)
        if self._known is not None and first < self._known.size <= first + len(leaves):
            stops.add(self._known.size - 1 - first)
        begin = 0
        for stop in sorted(stops):
            self._lines(first + begin, offsets[begin : stop + 1], leaves[begin : stop + 1], file)
            self._tree.extend(digests[begin : stop + 1])
            self._compare_root()
            self._comparison.entry(first + stop, leaves[stop], digests[stop], self._tree)
            begin = stop + 1
        self._lines(first + begin, offsets[begin:], leaves[begin:], file)
        self._tree.extend(digests[begin:])

    def _lines(self, first: int, offsets: Sequence[int], leaves: Sequence[bytes], file: str) -> None:
        """Check what leaves say of their places and pairs."""
        if not leaves:
            return
        self._last = Place(_number(file), offsets[-1], first + len(leaves) - 1), leaves[-1]
        if self._level == "tree":
            return
        for number, leaf in enumerate(leaves):
            try:
                problems = self._semantics(read_line(leaf))
            except ValueError as error:
                problems = [("leaf", str(error))]
            for code, message in problems:
                self.problem(code, message, file, offsets[number], first + number)

    def _was_verified(self, seq: int, leaf: bytes, file: str) -> bool:
        """Tell whether this is the entry that was verified last; it comes first, and must be the same."""
        if self._since is None or self._found_last:
            return False
        self._found_last = True
        if (seq, leaf_hash(leaf)) != (self._since.last.seq, self._since.hash):
            self.problem("since", "there is another entry where the one was that was verified last", file, None, seq)
        return True

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
        if self._since is not None and not self._found_last:
            self.problem("since", "the entry that was verified last is not there any more", "", None, size - 1)

    def quarantine(self, path: Path) -> None:
        """Check that what was set aside is what the entries say; a file is read once, however often it is named."""
        read = lru_cache(maxsize=None)(quarantine.kept)
        for seq, file, size, digest in self._set_aside:
            try:
                found = read(path, file)
            except ValueError as error:
                self.problem("quarantine", str(error), "", None, seq)
                continue
            if found is None:
                self._notices.append(f"{file}, which entry {seq} names, is not there or cannot be read")
            elif found[0] != size or (digest is not None and found[1] != digest):
                self.problem("quarantine", f"it is not what entry {seq} says was set aside", file, None, seq)
            if self.is_full or len(self._notices) >= MAX_PROBLEMS:
                return

    def index(self, path: Path) -> None:
        """Check that the search index, where there is one, says what the leaves say."""
        from veyra.audit import index  # noqa: PLC0415  (who calls a model loads this module with the log, and checks nothing)

        try:
            for seq, message in index.disagreements(path):
                self.problem("index", f"{message}; it is made anew when it is removed", index.FILE, None, seq)
                if self.is_full:
                    return
        except OSError as error:
            self._notices.append(f"index.db: {error}")

    def tiles(self, path: Path) -> None:
        """Check that the tiles, where there are any, are those over the leaves."""
        from veyra.audit import tiles  # noqa: PLC0415  (as in index)

        for file, message in tiles.disagreements(path):
            self.problem("tile", f"{message}; `veyra audit export --tiles` makes it anew", file)
            if self.is_full:
                return

    def report(self, known: Checkpoint | None, segments: int) -> Report:
        """Sum up."""
        seen = self._comparison
        undecided = (
            []
            if self._anchors.show_the_end or self._level != "anchors"
            else ["there is no checkpoint and no receipt from elsewhere"]
        )
        return Report(
            origin=self._origin,
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
            since=0 if self._since is None else self._since.last.seq + 1,
            verified=None if self._problems else self.verified,
        )

    def _compare_root(self) -> None:
        known = self._known
        if known is not None and self._tree.size == known.size and self._tree.root() != known.root:
            message = f"the first {known.size} entries do not give the root of the checkpoint"
            self.problem("tree", message, checkpoint.FILE)
        elif known is not None and self._tree.size == known.size and self._last is not None and self._level != "tree":
            place, leaf = self._last
            self.verified = Verified(
                origin=self._origin,
                last=place,
                hash=leaf_hash(leaf),
                peaks=self._tree.peaks,
                due=dict(self._next),
                ended=frozenset(self._ended),
                open=frozenset(self._open),
            )

    def _semantics(self, line: Line) -> list[tuple[str, str]]:
        """Check an entry's place in its session and its pair; return code and message of what is wrong."""
        kind, id_, sid, wseq, subject, status = line
        wrong: list[tuple[str, str]] = []
        due = self._next.get(sid, 0)
        if sid in self._ended:
            wrong.append(("session", f"session {sid} goes on after its end"))
        elif wseq != due:
            wrong.append(("session", f"session {sid} has entry {wseq} where {due} is due"))
        self._next[sid] = wseq + 1
        if kind == INTENT:
            self._counts[INTENT] += 1
            if id_ in self._open:
                wrong.append(("pairing", f"intent {id_} is there twice"))
            self._open.add(id_)
        elif kind == OUTCOME:
            self._counts[OUTCOME] += 1
            self._abandoned += status == ABANDONED
            if subject in self._open:
                self._open.remove(subject)
            else:
                wrong.append(("pairing", f"an outcome for intent {subject}, which has one already or is not there"))
        elif subject is not None:
            self._ended.add(subject)
            self._next.pop(subject, None)
        return wrong

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
