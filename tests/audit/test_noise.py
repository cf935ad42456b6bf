"""Random bytes: none of them comes twice, in whatever thread or process it is asked for."""

from __future__ import annotations

import os
import threading
import warnings

from hypothesis import given
from hypothesis import strategies as st

from veyra.audit import noise
from veyra.audit.noise import Noise


@given(st.lists(st.integers(0, 9_000), max_size=20))
def test_as_many_bytes_come_as_are_asked_for(sizes: list[int]) -> None:
    """Any sizes in any order, those beyond a draw included."""
    source = Noise()
    assert [len(source.take(size)) for size in sizes] == sizes


def test_nothing_comes_twice() -> None:
    """Many more pieces than one draw holds are all different."""
    source = Noise()
    assert len({source.take(16) for _ in range(5_000)}) == 5_000


def test_threads_get_different_bytes() -> None:
    """Threads that draw at once never share a piece."""
    pieces: list[bytes] = []
    together = threading.Barrier(4)

    def draw() -> None:
        together.wait()
        pieces.extend([noise.take(16) for _ in range(2_000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pieces)) == 8_000


def test_a_forked_child_draws_anew() -> None:
    """A child never gives what its parent has drawn and will give itself."""
    noise.take(1)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        child = os.fork()
    if child == 0:
        os.write(writing, noise.take(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32) != noise.take(32)
    os.close(reading)
    os.close(writing)
