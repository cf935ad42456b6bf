"""The tree against RFC 6962, section 2.1, written down once more as it stands there."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.audit.tree import EMPTY_ROOT, Tree, leaf_hash


def _root(leaves: list[bytes]) -> bytes:
    """The definition: MTH of the list, split at the largest power of two below its length."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + _root(leaves[:split]) + _root(leaves[split:])).digest()


def test_roots_of_known_trees() -> None:
    """The roots are those of the test vectors that Certificate Transparency's implementations share."""
    leaves = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_size_up_to_300_agrees_with_the_definition() -> None:
    """The incremental root is the recursive one, at every size."""
    leaves: list[bytes] = []
    tree = Tree()
    for size in range(301):
        assert tree.root() == _root(leaves)
        assert tree.size == size
        leaves.append(b"leaf %d" % size)
        tree.append(leaf_hash(leaves[-1]))


@given(st.lists(st.binary(max_size=8), max_size=80), st.integers(0, 80))
def test_a_tree_goes_on_from_its_compact_range(leaves: list[bytes], split: int) -> None:
    """A tree made from size and peaks grows as the one they came from."""
    first = Tree()
    for leaf in leaves[:split]:
        first.append(leaf_hash(leaf))
    second = Tree(first.size, first.peaks)
    for leaf in leaves[split:]:
        second.append(leaf_hash(leaf))
    assert second.root() == _root(leaves)


def test_a_copy_grows_on_its_own() -> None:
    """Appending to a copy leaves the original as it was."""
    tree = Tree()
    tree.append(leaf_hash(b"a"))
    other = tree.copy()
    other.append(leaf_hash(b"b"))
    assert (tree.size, tree.root()) == (1, _root([b"a"]))
    assert (other.size, other.root()) == (2, _root([b"a", b"b"]))


@pytest.mark.parametrize(("size", "peaks"), [(1, []), (0, [b"x" * 32]), (3, [b"x" * 32]), (1, [b"x"]), (-1, [])])
def test_peaks_that_do_not_fit_the_size_are_refused(size: int, peaks: list[bytes]) -> None:
    """A compact range has one hash for each binary 1 of the size."""
    with pytest.raises(ValueError, match="compact range"):
        Tree(size, peaks)


@given(st.integers(0, 70), st.lists(st.integers(0, 40), max_size=6))
def test_leaves_added_together_give_the_tree_of_leaves_added_one_by_one(start: int, counts: list[int]) -> None:
    """`extend`, however the leaves are divided, leaves the same compact range as `append`."""
    one, many = Tree(), Tree()
    for number in range(start):
        one.append(leaf_hash(b"%d" % number))
        many.append(leaf_hash(b"%d" % number))
    for count in counts:
        leaves = [leaf_hash(b"%d" % number) for number in range(one.size, one.size + count)]
        for leaf in leaves:
            one.append(leaf)
        many.extend(leaves)
        assert (many.size, many.peaks, many.root()) == (one.size, one.peaks, one.root())
