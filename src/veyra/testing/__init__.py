"""What tests of code that calls models need: faults, a server that has them, the conformance suite; each in its own module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veyra.testing.contract import BackendContract
    from veyra.testing.server import FaultServer

__all__ = ["BackendContract", "FaultServer"]

_HOMES = {"BackendContract": "veyra.testing.contract", "FaultServer": "veyra.testing.server"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)
