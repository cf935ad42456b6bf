"""The log's files, as one process's session sees them. Every public method blocks; `writer.py` calls them.

    lock             held (flock) while somebody looks at the log's end and appends to it
    checkpoint.lock  held (flock) while somebody writes a checkpoint: nobody who appends waits for that
    seg/             the truth: frames, see segment.py and frame.py
    sessions/        who has the log open, see sessions.py
    ballast          room kept for outcomes, see ballast.py
    quarantine/      torn bytes that recovery set aside, see quarantine.py
    checkpoint       size and root at a recent moment, and the tree then: see saved.py
    state

1. Appending: lock, take in what other processes appended, number the frames, one write, unlock. Durable after
   `sync`, an fdatasync outside the lock: it covers what everybody wrote to the file before it.
2. A frame that is whole in the file is never removed, whoever wrote it and whether or not it was acknowledged, unless
   it stands behind a torn one, and so was not.
3. An fdatasync that failed is never tried again on the same file: the kernel may have dropped the pages and report
   success the next time. A new segment is begun at the last place known to be durable, and what stood after it is
   written there again. Whoever else had appended to the old one finds the new one after its own sync, and sees
   whether it holds all that it had written.
4. A sealed segment is durable: it is synced before the next one appears.
5. Few bytes are written into room: zeros that were written ahead, so that a sync need not write the file's length
   (ADR-0015). What is not used is cut off when a session ends; what a crash leaves of it is used by whoever comes next.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from veyra.audit import ballast, checkpoint, quarantine, saved, segment, sessions
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.entry import Sealed, new_id
from veyra.audit.files import checksum, created, make_folder, sync_data, write_all, write_at
from veyra.audit.frame import Scan, encode
from veyra.audit.lock import Lock
from veyra.audit.saved import State
from veyra.audit.segment import Head
from veyra.audit.sessions import Claim
from veyra.audit.tree import Tree, leaf_hash
from veyra.errors import AuditCorruptError

SEGMENT_SIZE: Final = 64 << 20
SEGMENT_AGE_NS: Final = 24 * 3600 * 10**9
_SYNC_TRIES = 3
_ROOM = 128 << 10
_SMALL = 16 << 10
"""What is larger shares its sync among many entries: it is written behind the room, and makes none."""
_MARGIN = 8
"""So much of the room is looked at before something is written there: a frame begins with other bytes."""


class TornTailError(Exception):
    """The log ends in bytes that an interrupted append left; `Store.set_aside` moves them away."""


class Placed:
    """An entry in the log and its sequence number, final once `Store.sync` has returned."""

    __slots__ = ("entry", "seq")

    def __init__(self, entry: Sealed) -> None:
        self.entry = entry
        self.seq = -1


class Mark(NamedTuple):
    """A place in a segment up to which everything is durable, and the tree there, which is not to be changed."""

    segment: int
    offset: int
    tree: Tree


class Store:
    """A log open for appending, in one session. Made by `Store.open`; used by one thread at a time, and `save` by another.

    Attributes:
        syncs: how many times `sync` has been asked to go to the disk.
    """

    def __init__(self, directory: Path, session: str, spool: Path | None = None) -> None:
        self._directory = directory
        self._spool = spool
        self._session = directory / sessions.FOLDER / session
        self._session_fd = -1
        self._lock = Lock(directory / "lock")
        self._saving = Lock(directory / f"{checkpoint.FILE}.lock")
        self._fd = -1
        self._head: Head
        self._next: str
        self._offset = 0
        self._room_end = -1
        self._tree = Tree()
        self._durable = Mark(0, 0, Tree())
        self._summed = (0, 0, 0)
        self._pending: list[Placed] = []
        self._doubtful: dict[int, Placed] = {}
        self._poisoned = False
        self._checkpointed = 0
        self.syncs = 0

    @property
    def origin(self) -> str:
        """The log's name, chosen when it was made."""
        return self._head.origin

    @property
    def size(self) -> int:
        """The number of entries in the log, as far as this session has seen it; the last may not be durable yet."""
        return self._tree.size

    @property
    def durable(self) -> Tree:
        """The tree over what is known to be durable; not to be changed."""
        return self._durable.tree

    @property
    def mark(self) -> Mark:
        """The place up to which everything is known to be durable."""
        return self._durable

    @property
    def unsaved(self) -> int:
        """How many durable entries there are that no checkpoint of this process covers."""
        return max(self._durable.tree.size - self._checkpointed, 0)

    # ------------------------------------------------------------------------------- opening and closing

    @classmethod
    def open(cls, directory: Path, session: str, *, spool: Path | None = None) -> Store:
        """Open the log in `directory`, making it where there is none, and register `session` as alive.

        The session's file says where its second place is, if it has one.

        Durable afterwards: the directories, the first segment, the session's file. A torn tail is left for `append`
        to find.

        Raises:
            OSError: the directory cannot be made, read or written.
            AuditCorruptError: the log was damaged or cut before its end.
        """
        store = cls(directory, session, spool)
        try:
            store._open()
        except BaseException:
            store.release()
            raise
        return store

    def end(self) -> None:
        """Strike the session off and let go of the files. Its last entry must be durable."""
        with contextlib.suppress(OSError, TornTailError, AuditCorruptError), self._lock:
            self._follow()
            self._cut_room()  # where that fails, the room stays for whoever comes next
        sessions.end(self._session, self._session_fd)
        self._session_fd = -1
        self.release()

    def release(self) -> None:
        """Let go of the files. A session that was not ended is dead from now on, for the next opening to recover."""
        for fd in (self._fd, self._session_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._session_fd = -1
        self._lock.release()
        self._saving.release()

    def _open(self) -> None:
        for folder in (self._directory, self._directory / segment.FOLDER, self._directory / sessions.FOLDER):
            make_folder(folder)
        known = self._read_checkpoint()
        with self._lock:
            if not segment.listed(self._directory):
                self._begin_log(known)
        self._enter_last(known)
        with self._lock:
            with contextlib.suppress(TornTailError):
                self._follow()
            if known is not None and self._tree.size < known.size:
                self._refuse(f"it ends at entry {self._tree.size}, but its checkpoint is over {known.size}")
            self._session_fd = sessions.register(self._directory, self._session.name, self._tree.size, self._spool)

    def _begin_log(self, known: Checkpoint | None) -> None:
        if known is not None:
            self._refuse(f"it has a checkpoint over {known.size} entries, but no segment")
        head = Head(origin=f"veyra-log/{new_id()}", index=0, first=0, peaks=(), created=time.time_ns())
        with created(segment.path(self._directory, 0)) as fd:
            write_all(fd, segment.encode(head))

    def _enter_last(self, known: Checkpoint | None) -> None:
        """Go to the last segment's end; its entries must give the checkpoint's root, where that lies in it."""
        self._enter(len(segment.listed(self._directory)) - 1)
        if known is not None and known.origin != self.origin:
            self._refuse("its checkpoint is of another log")
        end = segment.content_end(self._fd, self._offset)
        state = saved.read_state(self._directory, known)
        if state is not None and self._is_here(state, end):
            self._offset, self._tree = state.offset, state.tree
            self._summed = (state.segment, state.offset, state.crc)
        scan = Scan(self._fd, self._offset, end, self._tree.size)
        for frame in scan:
            self._tree.append(leaf_hash(frame.leaf))
            if known is not None and self._tree.size == known.size and self._tree.root() != known.root:
                self._refuse("its entries do not give the root of its checkpoint")
        if scan.damage is not None and known is not None and scan.seq < known.size:
            self._refuse_damage(scan)
        self._offset = scan.offset

    def _is_here(self, state: State, end: int) -> bool:
        """Tell whether a saved state is about this segment, and its bytes are still those of then."""
        if state.segment != self._head.index or not self._offset <= state.offset <= end:
            return False
        return checksum(self._fd, 0, state.offset) == state.crc

    # ------------------------------------------------------------------------------------------ appending

    def append(self, entries: Sequence[Sealed]) -> tuple[list[Placed], OSError | None]:
        """Write entries to the end of the log; return those that are in it, and what stopped the rest, if anything.

        Those returned are the first of `entries`. They are durable after `sync`.

        Raises (and then nothing was written):
            TornTailError: the log ends in torn bytes.
            OSError: the log's end cannot be read, or a new segment not be begun.
            AuditCorruptError: the log was damaged.
        """
        if self._poisoned:
            self._replace()
        with self._lock:
            self._follow()
            self._restore()
            self._roll_if_due()
            placed = [Placed(entry) for entry in entries]
            written, failure = self._write(placed)
            self._pending += placed[:written]
            return placed[:written], failure

    def sync(self) -> None:
        """Make everything appended durable: fdatasync, and a new segment where that fails.

        Raises:
            OSError: the disk does not take it. What was appended is in doubt, and the next `append` or `sync` writes
                it again.
            AuditCorruptError: the log was damaged meanwhile.
        """
        self.syncs += 1
        for _ in range(_SYNC_TRIES):
            if not self._poisoned:
                self._poisoned = True  # rule 3: what failed, or was interrupted, is not tried again but written again
                self._poisoned = not self._reaches_disk()
            if self._poisoned:
                self._replace()
            elif not (self._doubtful or self._is_overtaken()):
                self._pending.clear()
                self._durable = self._here()
                return
            else:
                with self._lock:
                    self._follow()
                    self._restore()
        msg = f"it failed to sync {_SYNC_TRIES} times"
        raise OSError(msg)

    def _reaches_disk(self) -> bool:
        try:
            sync_data(self._fd)
        except OSError:
            return False
        return True

    def set_aside(self) -> None:
        """Move torn bytes at the log's end into quarantine; `quarantine.pending` then names them."""
        with self._lock:
            try:
                self._follow()
            except TornTailError:
                quarantine.set_aside(self._directory, self._fd, self._head.index, self._offset)

    def claim_dead(self) -> list[Claim]:
        """Take on the dead sessions that nobody else has taken on."""
        with self._lock:
            return sessions.claim_dead(self._directory)

    def keep_room(self) -> None:
        """See that the ballast is there. Raises as `ballast.keep`."""
        if not ballast.is_kept(self._directory):
            with self._lock:
                ballast.keep(self._directory)

    def give_up_room(self) -> bool:
        """Give the ballast up, and tell whether there was any. Raises nothing: without it, writing fails as before."""
        try:
            with self._lock:
                return ballast.give_up(self._directory)
        except OSError:
            return False

    def save(self, signed: Checkpoint | None = None, *, at: Mark | None = None) -> None:
        """Write a checkpoint over what is durable, unless another process has written a later one.

        Args:
            signed: the checkpoint to write, where the log has a key. Without, a signed one is left as it is.
            at: what was `mark`, and is covered; else what is.

        Raises:
            OSError: it cannot be written; the log itself is as good as before.
            AuditCorruptError: something else stands in the checkpoint's place, and stays there.
        """
        mark = at or self._durable
        point = signed or Checkpoint(self.origin, mark.tree.size, mark.tree.root())
        crc = self._sum(mark)
        with self._saving:
            known = self._read_checkpoint()
            if point.size == mark.tree.size and _replaces(point, known):
                saved.write(self._directory, point, State(mark.tree, mark.segment, mark.offset, crc))
        self._checkpointed = mark.tree.size

    def _sum(self, mark: Mark) -> int:
        """Return the CRC of a segment's bytes up to a mark, going on from the last one in that segment."""
        known, begin, crc = self._summed
        if known != mark.segment:
            begin = crc = 0
        with segment.opened(segment.path(self._directory, mark.segment)) as fd:
            crc = checksum(fd, begin, mark.offset, crc)
        self._summed = (mark.segment, mark.offset, crc)
        return crc

    def _here(self) -> Mark:
        return Mark(self._head.index, self._offset, self._tree.copy())

    # ------------------------------------------------------------------- the log's end (the lock is held)

    def _follow(self) -> None:
        """Go to the log's end through what others appended; raises as `append`."""
        while True:
            size, is_overtaken = os.lseek(self._fd, 0, os.SEEK_END), self._is_overtaken()
            if size < self._offset and not is_overtaken:
                self._refuse(f"segment {self._head.index} was cut: it ended at {self._offset}, and ends at {size}")
            scan = None if self._is_at_end(size) else self._take_in()
            if is_overtaken:
                self._enter_next()
            elif scan is None or scan.damage is None:
                self._room_end = size
                return
            elif scan.damage.torn and not self._is_covered(scan.seq):
                raise TornTailError
            else:
                self._refuse_damage(scan)

    def _is_covered(self, seq: int) -> bool:
        """Tell whether the checkpoint is over the entry `seq`, which so was durable."""
        known = self._read_checkpoint()
        return known is not None and known.size > seq

    def _is_at_end(self, size: int) -> bool:
        """Tell whether the file still ends where the room did, and that room begins where it did: whoever writes begins there."""
        return size == self._room_end and not os.pread(self._fd, _MARGIN, self._offset).rstrip(b"\0")

    def _take_in(self) -> Scan:
        """Go on through the frames that follow, up to the first bytes that are none."""
        scan = Scan(self._fd, self._offset, segment.content_end(self._fd, self._offset), self._tree.size)
        for frame in scan:
            digest = leaf_hash(frame.leaf)
            self._tree.append(digest)
            if self._doubtful and (own := self._doubtful.get(frame.seq)) and own.entry.hash == digest:
                del self._doubtful[frame.seq]
        self._offset = scan.offset
        return scan

    def _write(self, placed: Sequence[Placed]) -> tuple[int, OSError | None]:
        """Append frames; return how many are whole in the file. After a failure, cut what is not."""
        first, begin = self._tree.size, self._offset
        durable = self._durable.tree.size
        frames = [encode(seq, item.entry, seq - durable) for seq, item in enumerate(placed, first)]
        data = b"".join(frames)
        size = len(data)
        if begin + size > self._room_end and size <= _SMALL:
            data += bytes(_ROOM)
        written, failure = write_at(self._fd, data, begin)
        self._room_end = max(self._room_end, begin + written)
        if written >= size:
            failure = None  # a room that is not whole is done without
        else:
            ends = list(accumulate(map(len, frames), initial=0))
            count = bisect_right(ends, written) - 1
            placed, size = placed[:count], ends[count]
        self._offset = begin + size
        self._tree.extend([item.entry.hash for item in placed])
        for seq, item in enumerate(placed, first):
            item.seq = seq
        if failure is not None and os.lseek(self._fd, 0, os.SEEK_END) > self._offset:  # whatever it said of how much
            with contextlib.suppress(OSError):  # then the torn bytes stay, and the next append finds them
                self._cut_room()
        return len(placed), failure

    def _cut_room(self) -> None:
        """Cut off what is behind the last frame: room, or torn bytes of our own."""
        os.ftruncate(self._fd, self._offset)
        self._room_end = self._offset

    def _restore(self) -> None:
        """Append again those entries of ours that a new segment left out."""
        if not self._doubtful:
            return
        lost = sorted(self._doubtful.values(), key=lambda item: item.seq)
        written, failure = self._write(lost)
        self._doubtful = {item.seq: item for item in lost[written:]}
        if failure is not None:
            raise failure

    def _replace(self) -> None:
        """Write what is not known to be durable again, in a new segment: rule 3."""
        with self._lock:
            if self._is_overtaken():
                self._follow()
                self._restore()
                return
            _, offset, start = self._durable
            tree = start.copy()
            scan = Scan(self._fd, offset, segment.content_end(self._fd, offset), tree.size)
            found: set[tuple[int, bytes]] = set()
            for frame in scan:
                digest = leaf_hash(frame.leaf)
                tree.append(digest)
                found.add((frame.seq, digest))
            frames = [os.pread(self._fd, scan.offset - offset, offset)]
            lost = [
                item
                for item in self._pending
                if self._doubtful.get(item.seq) is item
                or (item.seq >= start.size and (item.seq, item.entry.hash) not in found)
            ]
            places = range(tree.size, tree.size + len(lost))
            for item, seq in zip(lost, places, strict=True):
                frames.append(encode(seq, item.entry, seq - start.size))
                tree.append(item.entry.hash)
            self._begin(start, frames)
            for item, seq in zip(lost, places, strict=True):
                item.seq = seq
            self._doubtful = {}
            self._offset, self._tree = os.fstat(self._fd).st_size, tree

    def _roll_if_due(self) -> None:
        """Seal the segment and begin the next where it is large or old. Durable: fdatasync, then `_begin`."""
        if self._tree.size == self._head.first:
            return
        if self._offset < SEGMENT_SIZE and time.time_ns() - self._head.created < SEGMENT_AGE_NS:
            return
        with contextlib.suppress(OSError):  # room in a sealed segment is in nobody's way
            self._cut_room()
        try:
            sync_data(self._fd)
        except OSError:
            self._poisoned = True
            raise
        self._pending.clear()
        self._begin(self._tree, [])

    def _begin(self, tree: Tree, frames: Sequence[bytes]) -> None:
        """Make the next segment, which goes on after `tree` with `frames`, and enter it. Durable: see `created`."""
        index = self._head.index + 1
        head = Head(origin=self.origin, index=index, first=tree.size, peaks=tree.peaks, created=time.time_ns())
        with created(segment.path(self._directory, index)) as fd:
            write_all(fd, b"".join((segment.encode(head), *frames)))
        self._enter(index)

    def _is_overtaken(self) -> bool:
        return os.access(self._next, os.F_OK)

    def _enter_next(self) -> None:
        """Go on to the segment that another process began after this one."""
        before = self._tree
        self._enter(self._head.index + 1)
        if self._head.first > before.size or (self._head.first == before.size and self._head.peaks != before.peaks):
            self._refuse(f"segment {self._head.index} does not go on where the one before it ends")
        self._doubtful |= {item.seq: item for item in self._pending if item.seq >= self._head.first}

    def _enter(self, index: int) -> None:
        """Open a segment and stand before its first frame; what is before that is durable (rule 4)."""
        try:
            fd = os.open(segment.path(self._directory, index), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            self._refuse(f"segment {index} is missing")
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._room_end = -1
        try:
            self._head, self._offset = segment.read(fd)
        except ValueError as error:
            self._refuse(f"segment {index}: {error}")
        if self._head.index != index:
            self._refuse(f"segment {index} says it is segment {self._head.index}")
        self._next = str(segment.path(self._directory, index + 1))
        self._tree = self._head.tree()
        self._durable = self._here()
        self._poisoned = False

    # -------------------------------------------------------------------------------------------- other

    def _read_checkpoint(self) -> Checkpoint | None:
        try:
            return saved.read_checkpoint(self._directory)
        except ValueError as error:
            self._refuse(str(error))

    def _refuse_damage(self, scan: Scan) -> NoReturn:
        reason = scan.damage.reason if scan.damage else ""
        name = segment.path(self._directory, self._head.index).name
        self._refuse(f"in {name} at offset {scan.offset}, where entry {scan.seq} is due, there is {reason}")

    def _refuse(self, what: str) -> NoReturn:
        msg = (
            f"the audit log at {self._directory} was damaged or altered and is not written to: {what}. "
            "`veyra audit verify` says more; to go on, move the directory away and keep it."
        )
        raise AuditCorruptError(msg)


def _replaces(point: Checkpoint, known: Checkpoint | None) -> bool:
    """Tell whether `point` may take the place of `known`: a later one may, and never an unsigned one that of a signed."""
    if known is None:
        return True
    if not point.signatures:
        return not known.signatures and known.size < point.size
    return known.size < point.size or (known.size == point.size and known != point)
