"""A reader that goes forward through a log's leaves, from one checkpoint to the next, and gives the tree there."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from veyra.audit import segment
from veyra.audit.frame import Scan, skim
from veyra.audit.segment import Head
from veyra.audit.tree import Tree, leaf_hash, leaf_hashes
from veyra.errors import AuditCorruptError


class Cursor:
    """Stands in the files of the log in `directory`, before an entry; `tree` is over all entries before it.

    It trusts nothing but the hashes at the head of the segment it begins in. Whoever moves it compares its root at a
    place that is known; all it reads afterwards then goes on from there.

    Args:
        directory: the log.
        size: where the first move will lead at most; it begins in the last segment that begins at or before that.

    Raises:
        AuditCorruptError: a segment's head cannot be read, or no segment begins there.
        OSError: a file cannot be read.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        for index in reversed(range(len(segment.listed(directory)))):
            found = self._head(index)
            if found is not None and found[0].first <= size:
                self._enter(index, *found)
                return
        self._refuse(f"no segment begins at or before entry {size}")

    def advance(self, size: int) -> Tree:
        """Go on until `size` entries lie behind, and return the tree over them. Where it is further already, stay.

        Raises:
            AuditCorruptError: the log ends before, or is damaged; or what was read before now has another root.
            OSError: a file cannot be read.
        """
        while self.tree.size < size:
            following = self._head(self._index + 1)
            self._read(size if following is None else min(size, following[0].first))
            if self.tree.size >= size:
                break
            if following is None:
                self._refuse(f"it ends at entry {self.tree.size}, before entry {size}")
            self._go_on(*following)
        return self.tree

    def _go_on(self, head: Head, begin: int) -> None:
        """Enter the next segment; where it writes again what was read already, that must be the same."""
        seen = self.tree
        if head.first > seen.size:
            self._refuse(f"a segment begins at entry {head.first}, where entry {seen.size} is due")
        self._enter(self._index + 1, head, begin)
        if self.advance(seen.size).root() != seen.root():
            self._refuse(f"segment {self._index} does not go on where the one before it ends")

    def _enter(self, index: int, head: Head, begin: int) -> None:
        self._index, self._offset, self.tree = index, begin, head.tree()

    def _read(self, size: int) -> None:
        if self.tree.size >= size:
            return
        with segment.opened(segment.path(self._directory, self._index)) as fd:
            end = segment.content_end(fd, self._offset)
            while self._skim(fd, end, size) < size:
                frame = next(iter(Scan(fd, self._offset, end, self.tree.size, blobs=False)), None)
                if frame is None:
                    return
                self.tree.append(leaf_hash(frame.leaf))
                self._offset = frame.end

    def _skim(self, fd: int, end: int, size: int) -> int:
        """Go on through plain frames until `size` entries lie behind, at most; return how many do."""
        for offsets, leaves, stop in skim(fd, self._offset, end, self.tree.size):
            count = min(len(leaves), size - self.tree.size)
            self.tree.extend(leaf_hashes(leaves[:count]))
            self._offset = stop if count == len(leaves) else offsets[count]
            if self.tree.size == size:
                break
        return self.tree.size

    def _head(self, index: int) -> tuple[Head, int] | None:
        try:
            with segment.opened(segment.path(self._directory, index)) as fd:
                return segment.read(fd)
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._refuse(f"segment {index}: {error}")

    def _refuse(self, what: str) -> NoReturn:
        msg = f"the audit log at {self._directory} is damaged: {what}"
        raise AuditCorruptError(msg)
