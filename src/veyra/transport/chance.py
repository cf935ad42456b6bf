"""Chance that can be repeated: the same seed draws the same numbers, on every run, machine and version of Python.

The numbers come from SHA-256 over the seed and a counter, as `random` promises no such thing for most of its methods.
"""

from __future__ import annotations

from hashlib import sha256

_BYTES = 8
_RANGE = 1 << (8 * _BYTES)


class Chance:
    """Draws numbers.

    Args:
        seed: where they come from.
        name: tells draws with one seed apart that are for different things.
    """

    __slots__ = ("_count", "_name")

    def __init__(self, seed: int, name: str = "") -> None:
        self._name = f"{seed}/{name}/"
        self._count = 0

    def unit(self) -> float:
        """Draw a number from 0 up to, and without, 1."""
        return self.below(1 << 53) / (1 << 53)

    def below(self, limit: int) -> int:
        """Draw a whole number from 0 up to, and without, `limit`, which is 1 or more and far below 2 ** 64."""
        self._count += 1
        digest = sha256(f"{self._name}{self._count}".encode()).digest()
        return int.from_bytes(digest[:_BYTES], "big") * limit // _RANGE
