"""Where the key of a backend comes from, and getting it from there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veyra import environ
from veyra.config.keys import written
from veyra.config.settings import Setting
from veyra.errors import AuthenticationError
from veyra.types import Secret

MAX_SIZE: Final = 65_536
"""Bytes of a key's file at most."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """A backend's key, to be got where it is needed: `source()` reads it each time, so that a new one is seen.

    A keyring is asked once, for it may ask its owner.

    Args:
        setting: one of `api_key`, `api_key_env`, `api_key_file` and `api_key_keyring`.
    """

    setting: Setting

    def __call__(self) -> Secret:
        """Return the key. From a keyring this can take as long as its owner takes to unlock it.

        Raises:
            AuthenticationError: there is none; the message says where it was looked for, and who said so.
        """
        match self.setting.value:
            case Secret() as key:
                return key
            case Path() as path:
                return self._in_file(path)
            case text if self.setting.name[-1] == "api_key_env":
                return self._in_variable(str(text))
            case text:
                return self._in_keyring(str(text))

    @property
    def shown(self) -> str:
        """Where the key is: a variable, a file, the keyring's name for it."""
        match self.setting.value:
            case Secret():
                return str(self.setting.origin)
            case text if self.setting.name[-1] == "api_key_keyring":
                return f"the keyring ({text})"
            case place:
                return str(place)

    def is_there(self) -> bool:
        """Tell whether there is a key, as far as that can be told without asking a keyring."""
        if self.setting.name[-1] == "api_key_keyring":
            return True
        try:
            self()
        except AuthenticationError:
            return False
        return True

    def _in_variable(self, variable: str) -> Secret:
        key = environ.key(variable)
        if key is None:
            why = f"the variable {variable} is not set"
            raise self._missing(why)
        return key

    def _in_file(self, path: Path) -> Secret:
        key = _key_in(path)
        if isinstance(key, str):
            why = f"the file {path} {key}"
            raise self._missing(why)
        return key

    def _in_keyring(self, text: str) -> Secret:
        from veyra.config import keyring  # noqa: PLC0415  (it imports what is installed only where it is wanted)

        service, _, user = text.rpartition(":")
        try:
            return keyring.password(service, user)
        except LookupError as error:
            why = str(error)
        raise self._missing(why)

    def _missing(self, why: str) -> AuthenticationError:
        backend = self.setting.name[1]
        return AuthenticationError(
            f"{backend}: no API key: {why} ({written(self.setting.name)} in {self.setting.origin})"
        )


def _key_in(path: Path) -> Secret | str:
    """Return the key that a file holds, or what is wrong with it. Does not wait for a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            data = os.read(fd, MAX_SIZE)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    return Secret(text) if text.isprintable() and text else "does not hold a key: one line of ASCII"
