"""Random values: none of them comes twice, in whatever thread or process it is asked for."""

from __future__ import annotations

import os
import threading
import warnings

from hypothesis import given
from hypothesis import strategies as st

from veyra.audit.noise import Noise


@given(st.integers(1, 64))
def test_a_value_is_made_of_as_many_bytes_as_it_wants(size: int) -> None:
    """Each is made from that many bytes of the kernel's, by the function given, beyond one draw as well."""
    source = Noise(size, lambda drawn: (len(drawn), type(drawn)))
    assert {source.take() for _ in range(300)} == {(size, bytes)}


def test_nothing_comes_twice() -> None:
    """Many more values than one draw holds are all different."""
    source = Noise(16, bytes)
    assert len({source.take() for _ in range(5_000)}) == 5_000


def test_threads_get_different_values() -> None:
    """Threads that draw at once never share a value."""
    source = Noise(16, bytes)
    values: list[bytes] = []
    together = threading.Barrier(4)

    def draw() -> None:
        together.wait()
        values.extend([source.take() for _ in range(2_000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(values)) == 8_000


def test_a_forked_child_draws_anew() -> None:
    """A child never gives what its parent has drawn and will give itself."""
    source = Noise(32, bytes)
    source.take()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        child = os.fork()
    if child == 0:
        os.write(writing, source.take())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32) != source.take()
    os.close(reading)
    os.close(writing)
