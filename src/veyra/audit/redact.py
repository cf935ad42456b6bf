"""Masking keys before anything is written: bytes of bodies and text of errors."""

from __future__ import annotations

from collections.abc import Sequence

from veyra.types import Secret

SHORTEST = 6
"""A key shorter than this is not looked for: it would mask innocent text."""


def redact_bytes(data: bytes, secrets: Sequence[Secret]) -> bytes:
    """Return `data` with every key in it replaced by as many `*`, so that lengths and offsets stay true."""
    return mask(data, wanted(secrets))


def wanted(secrets: Sequence[Secret]) -> list[bytes]:
    """Return the bytes of the keys to look for, for `mask`."""
    keys = [secret.reveal().encode() for secret in secrets]
    return [key for key in keys if len(key) >= SHORTEST]


def mask(data: bytes, keys: Sequence[bytes]) -> bytes:
    """Do what `redact_bytes` does, with keys that `wanted` returned: for several bodies under the same keys."""
    for key in keys:
        if key in data:
            data = data.replace(key, b"*" * len(key))
    return data


def redact_text(text: str, secrets: Sequence[Secret]) -> str:
    """Return `text` with every key in it replaced by `***`."""
    for secret in secrets:
        key = secret.reveal()
        if len(key) >= SHORTEST:
            text = text.replace(key, "***")
    return text
