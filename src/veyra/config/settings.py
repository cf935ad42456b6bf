"""A setting, where it came from, what is wrong with one, and what a file says in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from veyra.config import kinds
from veyra.config.files import Place
from veyra.config.keys import Name, written
from veyra.config.kinds import Value
from veyra.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a setting came from: a line of a file, or a variable; the built-in default where neither.

    Attributes:
        path, line: the file, and the line of it, from 1.
        profile: the profile of the file that it stands in.
        is_found: the file was merely found, in the working directory or above it, and nobody named it.
        variable: the environment variable.
    """

    path: Path | None = None
    line: int | None = None
    profile: str | None = None
    is_found: bool = False
    variable: str | None = None

    def __str__(self) -> str:
        if self.path is None:
            return self.variable or "default"
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"


DEFAULT = Origin()


@dataclass(frozen=True, slots=True)
class Setting:
    """A checked value and its origin. Its repr shows no secret."""

    name: Name
    value: Value = field(repr=False)
    origin: Origin

    @property
    def masked(self) -> object:
        """The value as JSON has it and a person may see it: without a secret."""
        return kinds.masked(self.value)

    def wrong(self, what: str) -> ConfigError:
        """Return the error that says what is wrong with this setting."""
        return Problem(self.origin, f"{written(self.name)} {what}").error()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a setting or with a file, in words that show no value of it."""

    origin: Origin
    what: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}"

    def error(self) -> ConfigError:
        """Return it as an error to raise."""
        return ConfigError(str(self), path=self.origin.path, line=self.origin.line)


@dataclass(frozen=True, slots=True)
class Document:
    """What one file says.

    Attributes:
        place: the file.
        is_there: whether it is there: the user's own need not be.
        settings: those of its base, in the file's order.
        profiles: those of each of its profiles.
        problems: what is wrong, in the file's order.
    """

    place: Place
    is_there: bool = True
    settings: tuple[Setting, ...] = ()
    profiles: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
