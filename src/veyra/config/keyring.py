"""Keys in the keyring of the operating system, by the package `keyring`, which is not a dependency of Veyra."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from veyra.types import Secret


@cache
def password(service: str, user: str) -> Secret:
    """Return what the keyring holds for a service and a user; asked once in a process, unless it failed.

    Raises:
        LookupError: there is nothing; the message says why. Of an error of the package only the kind is told, for what it
            quotes is not known.
    """
    try:
        keyring = import_module("keyring")
    except ImportError:
        msg = "the package keyring, which reads the system's keyring, is not installed: pip install keyring"
        raise LookupError(msg) from None
    failure = ""
    try:
        found = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001  (its parts raise what they like, and all of it means that there is no key)
        found, failure = None, type(error).__name__
    if not isinstance(found, str) or not found.strip():
        msg = f"the system's keyring cannot be asked ({failure})" if failure else f"the keyring has no {service}:{user}"
        raise LookupError(msg)
    return Secret(found.strip())
