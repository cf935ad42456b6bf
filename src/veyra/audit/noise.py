"""Random bytes for ids and salts, drawn from the kernel some hundred at a time.

Under load a draw for each costs more than the entry it is for: each lets another thread have the interpreter, and waits
to get it back. A forked child draws anew. The copy of a running machine (a snapshot that is started twice) repeats what
was drawn and not used yet: ids then differ by their time.
"""

from __future__ import annotations

import os
import threading
from typing import Final

_DRAWN: Final = 4_096


class Noise:
    """Random bytes, none of which is given twice. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn = b""
        self._given = 0

    def take(self, size: int) -> bytes:
        """Return `size` random bytes from the kernel's generator."""
        with self._lock:
            begin, end = self._given, self._given + size
            if end > len(self._drawn):
                self._drawn, begin, end = os.urandom(max(_DRAWN, size)), 0, size
            self._given = end
            return self._drawn[begin:end]


_noise = Noise()


def take(size: int) -> bytes:
    """Return `size` random bytes that no other caller in this process or its children gets."""
    return _noise.take(size)


def _forget() -> None:
    global _noise  # noqa: PLW0603  (a child's own: what its parent has drawn, and a lock that may be held, are left behind)
    _noise = Noise()


os.register_at_fork(after_in_child=_forget)
