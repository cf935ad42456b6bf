"""Backends by name: the built-in ones, those registered by hand, and those of installed packages.

Looked up in this order: `register_backend`, the built-in names, then the entry-point group `veyra.backends`. A name maps
to a factory; nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from os import PathLike
from typing import TypeAlias

from veyra import environ
from veyra.audit import AuditLog
from veyra.audit.modes import MODES
from veyra.errors import InvalidRequestError, UnknownBackendError, near
from veyra.models.base import BaseModelBackend
from veyra.models.endpoints import ENDPOINTS
from veyra.models.gate import Gate
from veyra.models.request import MAX_PROMPT_BYTES
from veyra.models.stand_in import Factory, made, usual_log
from veyra.types import Secret

GROUP = "veyra.backends"
"""The entry-point group: `[project.entry-points."veyra.backends"]`, `name = "package.module:Class"`."""

Audit: TypeAlias = AuditLog | str | PathLike[str] | None

_BUILT_IN = {"mock": "veyra.models.mock:MockBackend"} | dict.fromkeys(ENDPOINTS, "veyra.models.wire:WireBackend")
_registered: dict[str, Factory | str] = {}


def get_backend(name: str, *, audit: Audit = None, max_prompt_bytes: int = MAX_PROMPT_BYTES, **options: object) -> Gate:
    """Return the backend of that name, behind the audit gate. Needs no key and no network.

    Args:
        name: one of `list_backends()`.
        audit: where calls are recorded: a directory, an `AuditLog`, `"memory"`, or `"off"`. By default the durable log
            at `VEYRA_AUDIT_DIR`, else in the user's state directory. It is opened by the first call.
        max_prompt_bytes: text of a prompt that is let through, as UTF-8 bytes.
        options: what the backend itself takes: `model`, `api_key`, `base_url`, ...

    Raises:
        UnknownBackendError: nothing has that name; the message lists the names nearest to it.
        InvalidRequestError: the backend does not take one of the options or needs another, `audit` or `max_prompt_bytes`
            is of another type, or `VEYRA_AUDIT_MODE` names no mode.
    """
    _hide_key(name, options)
    if not isinstance(max_prompt_bytes, int) or max_prompt_bytes < 0:
        msg = f"max_prompt_bytes is an int, 0 or more, not {max_prompt_bytes!r}"
        raise InvalidRequestError(msg)
    return Gate(make_backend(name, **options), audit_log(audit, name), max_prompt_bytes=max_prompt_bytes)


def make_backend(name: str, **options: object) -> BaseModelBackend:
    """Return the backend of that name, without a gate: for doors that put one on. Arguments and errors as `get_backend`."""
    _hide_key(name, options)
    factory = _factory(name)
    _check_options(name, factory, options)
    backend = made(name, factory, options)
    if isinstance(backend, Gate):  # from a factory that asks get_backend: behind two gates a call is recorded twice
        backend = backend.backend
    if not isinstance(backend, BaseModelBackend):
        msg = f"backend {name!r} is a {type(backend).__name__}, not a BaseModelBackend"
        raise InvalidRequestError(msg)
    if not isinstance(getattr(backend, "name", None), str):
        backend.name = name
    return backend


def _hide_key(name: str, options: dict[str, object]) -> None:
    """Put a key of ours where a traceback that shows the variables of a frame does not show it."""
    key = options.get("api_key")
    if isinstance(key, str) and isinstance(name, str) and name in ENDPOINTS and name not in _registered:
        options["api_key"] = Secret(key)
        del key


def register_backend(name: str, factory: Factory | str) -> None:
    """Make a backend known under a name, before any other of that name.

    Args:
        name: what `get_backend` is to be given.
        factory: the class, anything else that returns a `BaseModelBackend` when called, or `"package.module:Class"`.

    Raises:
        InvalidRequestError: the name is empty, or the factory is neither callable nor such a string.
    """
    if not isinstance(name, str) or not name.strip():
        msg = f"a backend's name is a non-empty str, not {name!r}"
        raise InvalidRequestError(msg)
    if not callable(factory) and not (isinstance(factory, str) and ":" in factory):
        msg = f"backend {name!r}: give a class, a callable or 'package.module:Class', not {factory!r}"
        raise InvalidRequestError(msg)
    _registered[name] = factory


def list_backends() -> list[str]:
    """Return the names that `get_backend` knows, sorted."""
    return sorted({*_BUILT_IN, *_registered, *_installed()})


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _factory(name: str) -> Factory:
    if not isinstance(name, str):
        msg = f"a backend's name is a str, not {type(name).__name__}"
        raise UnknownBackendError(msg)
    found = _registered.get(name, _BUILT_IN.get(name))
    if found is None:
        point = _installed().get(name)
        if point is None:
            names = list_backends()
            msg = f"unknown backend {name!r}{near(name, names)} Known are {', '.join(names)}."
            raise UnknownBackendError(msg)
        found = point.value
    factory = _load(name, found) if isinstance(found, str) else found
    return partial(factory, ENDPOINTS[name]) if name in ENDPOINTS and name not in _registered else factory


def _load(name: str, place: str) -> Factory:
    module, _, attribute = place.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        msg = f"backend {name!r} is registered as {place!r}, which cannot be loaded: {error}"
        raise UnknownBackendError(msg) from error
    if not callable(factory):
        msg = f"backend {name!r} is registered as {place!r}, which is not callable"
        raise UnknownBackendError(msg)
    return factory  # type: ignore[no-any-return]  # what it returns is checked where it is called


def _check_options(name: str, factory: Factory, options: dict[str, object]) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # a callable written in C tells no signature
        return
    known = [p.name for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_open = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for option in options:
        if option not in known and not is_open:
            takes = ", ".join(["audit", "max_prompt_bytes", *known])
            msg = f"backend {name!r} takes no option {option!r}{near(option, known)} It takes {takes}."
            raise InvalidRequestError(msg)
    try:
        signature.bind(**options)
    except TypeError as error:
        msg = f"backend {name!r}: {error}"
        raise InvalidRequestError(msg) from None


def audit_log(audit: Audit, name: str) -> AuditLog | None:
    """Return the log that `audit=` names, as `get_backend` says; None for `"off"`, which the logs that are open note of `name`."""
    if audit is None:
        return usual_log() or _shared_log(environ.audit_dir())
    if isinstance(audit, AuditLog):
        return audit
    if audit == "memory":
        return AuditLog.memory()
    if audit == "off":
        AuditLog.note_off(name)
        return None
    if isinstance(audit, str | PathLike) and str(audit):
        return _shared_log(audit)
    msg = f"audit is a directory, an AuditLog, 'memory' or 'off', not {audit!r}"
    raise InvalidRequestError(msg)


def _shared_log(directory: str | PathLike[str]) -> AuditLog:
    asked = environ.audit_mode()
    for mode in MODES:
        if mode == asked:
            return AuditLog.shared(directory, mode=mode)
    msg = f"VEYRA_AUDIT_MODE is one of {', '.join(MODES)}, not {asked!r}"
    raise InvalidRequestError(msg)
