"""Which files settings are read from, and their bytes.

1. `VEYRA_CONFIG` names the one file; `off` means that none is read.
2. Otherwise `veyra.toml` of the user's configuration directory, and over it the first `veyra.toml` in the working directory
   or a directory above it.
3. A file that was not named must belong to this user or to root, and must not be writable by everybody: a directory like
   `/tmp` is above many others.
4. No more than `MAX_SIZE` bytes of a regular file are read, and nothing waits for a pipe.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from veyra import environ

FILE: Final = "veyra.toml"
VARIABLE: Final = "VEYRA_CONFIG"
OFF: Final = "off"
MAX_SIZE: Final = 65_536
"""Bytes of a file at most; with `MAX_LINE` this bounds the time that the parser takes, which squares with a key's parts."""
MAX_LINE: Final = 2_000

How: TypeAlias = Literal["named", "found", "user"]
"""How a file came to be read: by the variable, from the working directory upwards, as the user's own."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file that settings may be in."""

    path: Path
    how: How


@dataclass(frozen=True, slots=True)
class Bytes:
    """What is in a file, and whether its owner alone can read it."""

    data: bytes = field(repr=False)
    is_private: bool


def places() -> tuple[Place, ...]:
    """Return the files that are read, each over the one before it; the user's own may not be there."""
    named = environ.value(VARIABLE)
    if named is not None:
        return () if named == OFF else (Place(_absolute(named), "named"),)
    own = environ.config_dir()
    user = () if own is None else (Place(own / FILE, "user"),)
    found = _upwards(_working_directory())
    if found is None or (user and found == user[0].path):
        return user
    return (*user, Place(found, "found"))


def read(place: Place) -> Bytes | str | None:
    """Return what is in a file, what is wrong with it in words, or None where it is the user's own and is not there."""
    try:
        fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if place.how == "user" and not os.path.lexists(place.path):
            return None  # also where this user may not look: a home that was left over from another user's, say
        return "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {_reason(error)}"
    try:
        status = os.fstat(fd)
        wrong = _unfit(status, place.how)
        if wrong is not None:
            return wrong
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        return f"cannot be read: {_reason(error)}"
    finally:
        os.close(fd)
    if len(data) > MAX_SIZE:
        return f"is larger than {MAX_SIZE:,} bytes"
    return Bytes(data, is_private=not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def forget() -> None:
    """Look for files anew from now on."""
    _upwards.cache_clear()


def _unfit(status: os.stat_result, how: How) -> str | None:
    """Say why a file is not read, whatever is in it; None where it is."""
    if not stat.S_ISREG(status.st_mode):
        return "is a directory, not a file" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
    if how == "named":
        return None
    insist = f"to use it nevertheless, name it in {VARIABLE}"
    if status.st_uid not in {0, os.geteuid()}:
        return f"belongs to another user (uid {status.st_uid}), who could say where your keys go; {insist}"
    if status.st_mode & stat.S_IWOTH:
        return f"can be written by everybody: chmod o-w it; {insist}"
    return None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _absolute(text: str) -> Path:
    """Return the path that a variable names, as it is where it cannot be made absolute."""
    try:
        return Path.cwd() / Path(text).expanduser()
    except (OSError, RuntimeError):  # no working directory, no home: opening it says what is wrong
        return Path(text)


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed, or cannot be seen: nothing is above it
        return None


@cache
def _upwards(directory: Path | None) -> Path | None:
    """Return the first file of the name, from a directory upwards; whatever is called so is taken, even a broken link."""
    above: Sequence[Path] = () if directory is None else (directory, *directory.parents)
    for folder in above:
        try:
            os.lstat(folder / FILE)
        except OSError:  # not there, or in a directory that this user may not look into
            continue
        return folder / FILE
    return None
