"""Backends by name: the built-in ones, those registered by hand, and those of installed packages.

Looked up in this order: `register_backend`, the built-in names, then the entry-point group `veyra.backends`. A name maps
to a factory; nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

from veyra import config
from veyra.audit import AuditLog
from veyra.errors import InvalidRequestError, UnknownBackendError, near
from veyra.models.base import BaseModelBackend
from veyra.models.configured import configured
from veyra.models.endpoints import ENDPOINTS
from veyra.models.gate import Gate
from veyra.models.request import MAX_PROMPT_BYTES, check_prompt_limit
from veyra.models.stand_in import Factory, made, usual_log
from veyra.types import Secret

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "veyra.backends"
"""The entry-point group: `[project.entry-points."veyra.backends"]`, `name = "package.module:Class"`."""

Audit: TypeAlias = AuditLog | str | PathLike[str] | None

_WORDS = ("memory", "off")
_SWITCHES = frozenset({"on", "yes", "no", "true", "false", "none", "default", "0", "1"})
"""What somebody may write for `audit` who takes it for a switch."""
_BUILT_IN = {"mock": "veyra.models.mock:MockBackend"} | dict.fromkeys(ENDPOINTS, "veyra.models.wire:WireBackend")
_registered: dict[str, Factory | str] = {}


def get_backend(name: str, *, audit: Audit = None, max_prompt_bytes: int = MAX_PROMPT_BYTES, **options: object) -> Gate:
    """Return the backend of that name, behind the audit gate. Needs no key and no network.

    Args:
        name: one of `list_backends()`.
        audit: where calls are recorded: a directory, an `AuditLog`, `"memory"`, or `"off"`. By default the durable log
            that settings name (`VEYRA_AUDIT_DIR`, `audit.dir`), else in the user's state directory. It is opened by the first call.
        max_prompt_bytes: text of a prompt that is let through, as UTF-8 bytes.
        options: what the backend itself takes: `model`, `api_key`, `base_url`, ... Those that are not given are taken from
            `[backends.NAME]` of the settings.

    Raises:
        UnknownBackendError: nothing has that name; the message lists the names nearest to it.
        InvalidRequestError: the backend does not take one of the options or needs another, `audit` or `max_prompt_bytes`
            is of another type.
        ConfigError: a setting is wrong; the message says where it stands.
    """
    _hide_key(name, options)
    check_prompt_limit(max_prompt_bytes)
    return Gate(make_backend(name, **options), audit_log(audit, name), max_prompt_bytes=max_prompt_bytes)


def make_backend(name: str, **options: object) -> BaseModelBackend:
    """Return the backend of that name, without a gate: for doors that put one on. Arguments and errors as `get_backend`."""
    _hide_key(name, options)
    factory = _factory(name)
    takes = _takes(factory)
    _check_known(name, takes, options)
    options = configured(name, options, takes, key_at_call=_is_row(name))
    _check_complete(name, factory, options)
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
    if isinstance(key, str) and isinstance(name, str) and _is_row(name):
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


@contextmanager
def registering() -> Iterator[None]:
    """Forget, at the end of the context, what was registered inside it: for tests."""
    before = dict(_registered)
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(before)


def list_backends() -> list[str]:
    """Return the names that `get_backend` knows, sorted."""
    return sorted({*_BUILT_IN, *_registered, *_installed()})


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415  (as dear as a tenth of the HTTP library, and for a name of nobody else's)

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
    return partial(factory, ENDPOINTS[name]) if _is_row(name) else factory


def _is_row(name: str) -> bool:
    """Tell whether a name is that of a vendor's row, and of nothing that was registered in its place."""
    return name in ENDPOINTS and name not in _registered


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


def _takes(factory: Factory) -> list[str] | None:
    """Return the options that a factory takes, None where it takes any or does not tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a callable written in C tells no signature
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _check_known(name: str, takes: Sequence[str] | None, options: Mapping[str, object]) -> None:
    for option in options:
        if takes is not None and option not in takes:
            listed = ", ".join(["audit", "max_prompt_bytes", *takes])
            msg = f"backend {name!r} takes no option {option!r}{near(option, takes)} It takes {listed}."
            raise InvalidRequestError(msg)


def _check_complete(name: str, factory: Factory, options: Mapping[str, object]) -> None:
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        msg = f"backend {name!r}: {error}"
        raise InvalidRequestError(msg) from None
    except ValueError:  # a callable written in C tells no signature
        return


def audit_log(audit: Audit, name: str) -> AuditLog | None:
    """Return the log that `audit=` names, as `get_backend` says; None for `"off"`, which the logs that are open note of `name`."""
    if audit is None:
        return usual_log() or _shared_log(config.load().audit_dir)
    if isinstance(audit, AuditLog):
        return audit
    if audit == "memory":
        return AuditLog.memory()
    if audit == "off":
        AuditLog.note_off(name)
        return None
    if isinstance(audit, str | PathLike) and str(audit):
        if isinstance(audit, str):
            _check_directory(audit)
        return _shared_log(audit)
    msg = f"audit is a directory, an AuditLog, 'memory' or 'off', not {audit!r}"
    raise InvalidRequestError(msg)


def _check_directory(audit: str) -> None:
    """Refuse a word that was hardly meant as the name of a directory: calls would be recorded where nobody looks."""
    from difflib import get_close_matches  # noqa: PLC0415  (only who names a directory waits for it)

    word = audit.strip().lower()
    if "/" not in word and (word in _SWITCHES or get_close_matches(word, _WORDS, n=1, cutoff=0.75)):
        msg = f"audit is a directory, an AuditLog, 'memory' or 'off', not {audit!r}; a directory of that name is './{audit}'"
        raise InvalidRequestError(msg)


def _shared_log(directory: str | PathLike[str]) -> AuditLog:
    return AuditLog.shared(directory, **config.load().audit_manner())
