"""The settings that are in force: variables over what files say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from veyra import environ
from veyra.config import files
from veyra.config.credentials import KeySource
from veyra.config.keys import KEY_SOURCES, KEYS, Name, pattern, variable, written
from veyra.config.kinds import Value
from veyra.config.settings import Origin, Problem, Setting
from veyra.errors import ConfigError, near


class Config:
    """What is set. Names are written as in a file: `config.value("audit.mode")`.

    Args:
        settings: those of files, by name.
    """

    def __init__(self, settings: Mapping[Name, Setting]) -> None:
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Config of {len(self._settings)} settings from files>"

    def setting(self, name: str) -> Setting | None:
        """Return what sets a setting, None where nothing does.

        Raises:
            ConfigError: there is no such setting, or its variable holds something else; the message names it.
        """
        return self._set(_known(name, KEYS))

    def value(self, name: str) -> Value | None:
        """Return the value of a setting, else its default. Raises as `setting`."""
        setting = self.setting(name)
        return KEYS[pattern(tuple(name.split(".")))].default if setting is None else setting.value

    def table(self, name: str) -> dict[str, Any]:
        """Return what is set in a table (`"client.retry"`), by its keys: values of their kinds, no defaults.

        Raises as `setting`.
        """
        above = _known(name, {key[:-1] for key in KEYS if len(key) > 1})
        found = (self._set((*above, key[-1])) for key in KEYS if key[:-1] == pattern(above))
        return {setting.name[-1]: setting.value for setting in found if setting is not None}

    def settings(self) -> Iterator[Setting]:
        """Yield all that is set, in the order of `KEYS`, the backends by name. Raises as `setting`."""
        names = {*self._settings, *(key for key in KEYS if "*" not in key)}
        for name in sorted(names, key=_rank):
            setting = self._set(name)
            if setting is not None:
                yield setting

    def _set(self, name: Name) -> Setting | None:
        told = variable(name)
        text = None if told is None else environ.value(told)
        return self._settings.get(name) if told is None or text is None else _of_variable(name, told, text)

    # ------------------------------------------------------------------------------------------ backends

    def backends(self) -> list[str]:
        """Return the names in `[backends.*]`, sorted."""
        return sorted({name[1] for name in self._settings if name[0] == "backends"})

    def backend(self, name: str) -> dict[str, Setting]:
        """Return what is set for a backend, by its keys; where its key comes from is left to `key_source`."""
        return {
            setting.name[2]: setting
            for setting in self._settings.values()
            if setting.name[:2] == ("backends", name) and setting.name[2] not in KEY_SOURCES
        }

    def key_source(self, name: str) -> KeySource | None:
        """Return where the key of a backend comes from, None where no file says."""
        found = (self._settings.get(("backends", name, source)) for source in KEY_SOURCES)
        setting = next((setting for setting in found if setting is not None), None)
        return None if setting is None else KeySource(setting)

    def model(self, backend: str) -> str | None:
        """Return the model that the command asks of a backend, None where nothing names one.

        It is `model` where the files' `backend` is this one or is not set, else the backend's own.
        """
        told = self.setting("model")
        if told is not None and told.origin.variable is None:
            asked = self._settings.get(("backend",))
            told = told if asked is None or asked.value == backend else None
        told = told or self._settings.get(("backends", backend, "model"))
        return None if told is None else str(told.value)

    def vouched(self, setting: Setting) -> Setting:
        """Return a setting that `vouches`.

        A file that was merely found, as in a directory that somebody sent, must not lead the user's keys to another place.
        Loopback is no such place.

        Raises:
            ConfigError: it is not trusted; the message says how to.
        """
        if self.vouches(setting):
            return setting
        what = (
            "decides where keys are sent, and its file was only found here, not chosen: read it, then name its directory "
            f"in `trusted` of your own {files.FILE}, or the file in {files.VARIABLE}"
        )
        raise setting.wrong(what)

    def vouches(self, setting: Setting) -> bool:
        """Tell whether a setting may decide where keys are sent, or does not."""
        path = setting.origin.path
        leads = KEYS[pattern(setting.name)].leads and not _is_loopback(setting.value)
        if not leads or not setting.origin.is_found or path is None:
            return True
        where = Path(os.path.realpath(path))
        trusted = self.value("trusted")
        directories = trusted if isinstance(trusted, tuple) else ()
        return any(where.is_relative_to(os.path.realpath(directory)) for directory in directories)

    # --------------------------------------------------------------------------------------------- audit

    @property
    def audit_dir(self) -> Path:
        """The directory of the log that records calls which name no other.

        Raises:
            ConfigError: `VEYRA_AUDIT_DIR` is no path.
            AuditUnavailableError: nothing names one, and this user has no home to have one in.
        """
        directory = self.value("audit.dir")
        return directory if isinstance(directory, Path) else environ.state_dir() / "log"

    def audit_manner(self) -> dict[str, Any]:
        """Return how a log is written that is given by its directory: what `AuditLog` takes besides that.

        Raises:
            ConfigError: a setting is wrong, or `on_failure = "spool"` goes without `spool`, or that without it.
        """
        manner = {name: self.value(f"audit.{name}") for name in ("mode", "on_failure", "spool", "any_filesystem")}
        if (manner["on_failure"] == "spool") != (manner["spool"] is not None):
            wrong = self.setting("audit.on_failure" if manner["spool"] is None else "audit.spool")
            assert wrong is not None
            what = 'goes with the other: on_failure = "spool" and spool = "DIRECTORY"'
            raise wrong.wrong(what)
        return manner


def _known(name: str, names: Iterable[Name]) -> Name:
    keys = tuple(name.split("."))
    if pattern(keys) not in names:
        msg = f"there is no setting {name!r}{near(name, map('.'.join, names))}"
        raise ConfigError(msg)
    return keys


def _rank(name: Name) -> tuple[int, str, int]:
    """Return where a setting stands among all: sections as in `KEYS`, backends by name."""
    order = list(KEYS)
    section = next(number for number, key in enumerate(order) if key[0] == name[0])
    return section, "" if name in KEYS else name[1], order.index(pattern(name))


def _of_variable(name: Name, told: str, text: str) -> Setting:
    kind = KEYS[name].kind
    assert kind.of_text is not None
    value = kind.of_text(text)
    origin = Origin(variable=told)
    if not kind.accepts(value):
        raise Problem(origin, f"{written(name)} is {kind.expected}, which this text is not").error()
    return Setting(name, kind.made(value, Path()), origin)


def _is_loopback(value: Value) -> bool:
    """Tell whether an address is this machine's own; a path is not."""
    text = str(value)
    host = urlsplit(text if "://" in text else f"http://{text}").hostname if isinstance(value, str) else None
    return host in {"localhost", "127.0.0.1", "::1"}
