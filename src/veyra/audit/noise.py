"""Random values for ids and salts, made from the kernel's bytes some hundred at a time.

Under load a draw for each costs more than the entry it is for: each lets another thread have the interpreter, and waits
to get it back. A forked child draws anew. The copy of a running machine (a snapshot that is started twice) repeats what
was drawn and not used yet: ids then differ by their time, and of the next salts each stands in both records, so that who
is shown a part of one can try guesses at a part of the other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar
from weakref import WeakSet

T_co = TypeVar("T_co", covariant=True)

_DRAWN: Final = 512


class Noise(Generic[T_co]):
    """Random values, none of which is given twice. Safe to use from several threads, and on both sides of a fork.

    Args:
        size: the random bytes in each value.
        make: makes a value of so many bytes.
    """

    def __init__(self, size: int, make: Callable[[bytes], T_co]) -> None:
        self._size = size
        self._make = make
        self._ready: deque[T_co] = deque()
        _ALL.add(self)

    def take(self) -> T_co:
        """Return a value that no other caller in this process or its children gets."""
        while True:
            try:
                return self._ready.popleft()  # whole or not at all: two threads never get the same
            except IndexError:
                self._ready.extend(self._drawn())

    def forget(self) -> None:
        """Give nothing of what is drawn already."""
        self._ready.clear()

    def _drawn(self) -> Sequence[T_co]:
        drawn, size = os.urandom(_DRAWN * self._size), self._size
        return [self._make(drawn[begin : begin + size]) for begin in range(0, len(drawn), size)]


_ALL: WeakSet[Noise[object]] = WeakSet()


def _forget() -> None:
    for noise in _ALL:
        noise.forget()


os.register_at_fork(after_in_child=_forget)
