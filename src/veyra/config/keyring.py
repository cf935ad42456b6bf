"""Keys in the keyring of the operating system, by the package `keyring`, which is not a dependency of Veyra."""

from __future__ import annotations

from importlib import import_module

from veyra.types import Secret


def password(service: str, user: str) -> Secret | str:
    """Return what the keyring holds for a service and a user, or why there is nothing, in words.

    The package's own errors are told by their kind alone: what they quote is not known.
    """
    try:
        keyring = import_module("keyring")
    except ImportError:
        return "the package keyring, which reads the system's keyring, is not installed: pip install keyring"
    try:
        found = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001  (each of its backends raises what it likes; all of them mean "no key")
        return f"the system's keyring cannot be asked ({type(error).__name__})"
    if not isinstance(found, str) or not found.strip():
        return f"the system's keyring holds nothing for {service}:{user}"
    return Secret(found.strip())
