"""What tests put in the place of backends and of the usual log, for code that asks `get_backend` by name.

What is put there counts for the whole process, its threads included, and is taken away in the reverse order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from veyra.audit import AuditLog
from veyra.models.base import BaseModelBackend

Factory: TypeAlias = Callable[..., BaseModelBackend]
Make: TypeAlias = Callable[[str, Factory, Mapping[str, object]], BaseModelBackend]
"""Makes a backend from the name that was asked for, the factory that has that name, and the options, checked."""

_makes: list[Make] = []
_logs: list[AuditLog] = []


@contextmanager
def standing_in(make: Make) -> Iterator[None]:
    """Let `make` make every backend that is asked for by name, as long as the context lasts."""
    _makes.append(make)
    try:
        yield
    finally:
        _makes.remove(make)


@contextmanager
def recording_in(log: AuditLog) -> Iterator[None]:
    """Record in `log` the calls of backends that are got without `audit`, as long as the context lasts."""
    _logs.append(log)
    try:
        yield
    finally:
        _logs.remove(log)


def made(name: str, factory: Factory, options: Mapping[str, object]) -> BaseModelBackend:
    """Return the backend of that name: from what stands in for it, else from its own factory."""
    return _makes[-1](name, factory, options) if _makes else factory(**options)


def usual_log() -> AuditLog | None:
    """Return the log that stands in for the usual one, or None."""
    return _logs[-1] if _logs else None
