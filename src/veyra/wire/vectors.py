"""Vectors as providers write them: numbers in JSON, or bytes in base64.

1. A decimal becomes the nearest Python float; a single-precision number becomes the same number.
2. Every vector has at least one number, all have the same length, and none holds NaN or an infinity: whoever compares
   vectors would get nonsense from them without noticing.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Sequence
from typing import Literal, TypeAlias

from veyra.types import Vectors
from veyra.wire.failures import Origin

Written: TypeAlias = tuple[float, ...] | str
"""A vector as it stands in JSON: numbers, or base64."""

_SINGLE = 4


def read(written: Sequence[Written], form: Literal["float", "base64", "int8"], origin: Origin) -> Vectors:
    """Return vectors, checked.

    Args:
        written: the vectors, in order.
        form: what base64 stands for: signed bytes for `int8`, otherwise single-precision numbers, little-endian.
        origin: where they come from.

    Raises:
        MalformedResponseError: they are not what rule 2 says, or not base64 of such numbers.
    """
    vectors = tuple(_vector(vector, form, origin) for vector in written)
    if len({len(vector) for vector in vectors}) > 1:
        what = "the vectors are of different lengths"
        raise origin.malformed(what)
    for vector in vectors:
        if not vector or not math.isfinite(sum(vector)):
            what = "a vector holds a number that is none" if vector else "a vector is empty"
            raise origin.malformed(what)
    return vectors


def _vector(written: Written, form: str, origin: Origin) -> tuple[float, ...]:
    if not isinstance(written, str):
        return written
    try:
        data = binascii.a2b_base64(written.encode(), strict_mode=True)
    except ValueError as error:
        what = f"a vector is not base64 ({error})"
        raise origin.malformed(what, written[:100].encode()) from None
    if form == "int8":
        return tuple(float(number) for number in struct.unpack(f"{len(data)}b", data))
    if len(data) % _SINGLE:
        what = f"a vector of {len(data)} bytes is not made of single-precision numbers"
        raise origin.malformed(what)
    return struct.unpack(f"<{len(data) // _SINGLE}f", data)
