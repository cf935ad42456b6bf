"""Going through a log's frames from one segment to the next, reading only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from veyra.audit import segment
from veyra.audit.frame import Frame, Scan, skim
from veyra.errors import AuditCorruptError


class Fault(NamedTuple):
    """Where a log cannot be read on: `torn` as in `frame.Damage`, and only at the end of the last segment."""

    file: Path
    offset: int
    seq: int
    reason: str
    torn: bool

    def error(self) -> AuditCorruptError:
        """Return the error that says so."""
        return AuditCorruptError(
            f"the audit log is damaged in {self.file} at offset {self.offset}, where entry {self.seq} is due: "
            f"there is {self.reason}"
        )


class Place(NamedTuple):
    """Where a frame begins: the number of its segment, the offset in that, and the frame's sequence number."""

    segment: int
    offset: int
    seq: int


class Run(NamedTuple):
    """Frames that follow one another: the sequence number of the first, where each begins, and their leaves."""

    seq: int
    offsets: list[int]
    leaves: list[bytes]


_Read = TypeVar("_Read", Frame, Run)


class Walk:
    """The frames of the log in `directory`, in order, each with the file it is in.

    Iterating ends at the end of the log or at the first fault, which is then in `fault`. Frames that a later segment
    replaces are left out. Safe while others write: it sees a whole beginning of the log.

    Args:
        directory: the log.
        start: leave out the frames before this sequence number (their segments are not read).
        blobs: read and check the bodies too.
        at: begin at this frame, found by an earlier walk, and read nothing before it. Where the log is no longer the
            one of that walk, the frames are others, or there are none.
        proven: as in `frame.skim`; counts for `runs` alone.

    Attributes:
        heads: the segments with a readable head: file, head, and where the first frame begins.
        unread: the first segment whose head cannot be read, if any; its seq is that of the segment before.
    """

    def __init__(
        self, directory: Path, start: int = 0, *, blobs: bool = False, at: Place | None = None, proven: int = 0
    ) -> None:
        self._start = start
        self._proven = proven
        self._at = at
        self._blobs = blobs
        self._files = segment.listed(directory)
        self._reached: int | None = None
        self.fault: Fault | None = None
        self.heads: list[tuple[Path, segment.Head, int]] = []
        self.unread = self._read_heads()

    def __iter__(self) -> Iterator[tuple[Path, Frame]]:
        return self._go(self._frames)

    def runs(self) -> Iterator[tuple[Path, Run]]:
        """Go through the same frames in runs, without their bodies: several times as quick as one by one."""
        return self._go(self._runs)

    def _go(self, read: Callable[[Path, int, int, int | None], Iterator[_Read]]) -> Iterator[tuple[Path, _Read]]:
        for number, (file, head, start) in enumerate(self.heads):
            first, begin = head.first, start
            if self._at is not None and number <= self._at.segment:
                if number < self._at.segment:
                    continue
                first, begin = self._at.seq, max(start, self._at.offset)
            rest = [later.first for _, later, _ in self.heads[number + 1 :]]
            limit = min(rest, default=None)
            if self._reached is not None and first > self._reached:
                reason = f"a segment that begins at entry {head.first}"
                self.fault = Fault(file, 0, self._reached, reason, torn=False)
                return
            self._reached = first
            if limit is not None and limit <= self._start:
                self._reached = limit
                continue
            for item in read(file, begin, first, limit):
                yield file, item
            if self.fault is not None:
                return
        self.fault = self.unread

    def _frames(self, file: Path, begin: int, first: int, limit: int | None) -> Iterator[Frame]:
        with segment.opened(file) as fd:
            scan = Scan(fd, begin, segment.content_end(fd, begin), first, blobs=self._blobs)
            for frame in scan if limit is None or limit > first else ():
                self._reached = frame.seq + 1
                if frame.seq >= self._start:
                    yield frame
                if frame.seq + 1 == limit:
                    return
            self._judge(file, scan, limit)

    def _runs(self, file: Path, begin: int, first: int, limit: int | None) -> Iterator[Run]:
        with segment.opened(file) as fd:
            seq, offset, end = first, begin, segment.content_end(fd, begin)
            while limit is None or seq < limit:
                for offsets, leaves, stop in skim(fd, offset, end, seq, self._proven):
                    offset = stop
                    count = len(leaves) if limit is None else min(len(leaves), limit - seq)
                    self._reached = seq + count
                    yield Run(seq, offsets[:count], leaves[:count])
                    seq += count
                    if seq == limit:
                        return
                scan = Scan(fd, offset, end, seq, blobs=False)
                frame = next(iter(scan), None)
                if frame is None:
                    self._judge(file, scan, limit)
                    return
                self._reached = seq + 1
                yield Run(seq, [frame.offset], [frame.leaf])
                seq, offset = seq + 1, frame.end

    def _judge(self, file: Path, scan: Scan, limit: int | None) -> None:
        """Note what is wrong with where a scan ended."""
        if limit is not None and scan.seq < limit:
            reason = scan.damage.reason if scan.damage else f"an end, though the next segment begins at entry {limit}"
            self.fault = Fault(file, scan.offset, scan.seq, reason, torn=False)
        elif scan.damage is not None and limit is None:
            self.fault = Fault(file, scan.damage.offset, scan.seq, scan.damage.reason, scan.damage.torn)

    def _read_heads(self) -> Fault | None:
        origin: str | None = None
        for index, file in enumerate(self._files):
            try:
                with segment.opened(file) as fd:
                    head, begin = segment.read(fd)
            except (ValueError, OSError) as error:
                return Fault(file, 0, self._due(), str(error), torn=False)
            if file.name != segment.path(Path(), index).name or head.index != index:
                return Fault(file, 0, self._due(), f"no segment {index}", torn=False)
            if head.origin != (origin or head.origin) or (index == 0 and head.first != 0):
                return Fault(file, 0, self._due(), "a segment of another log", torn=False)
            origin = head.origin
            self.heads.append((file, head, begin))
        return None

    def _due(self) -> int:
        return self.heads[-1][1].first if self.heads else 0
