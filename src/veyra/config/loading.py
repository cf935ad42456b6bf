"""Reading settings, once in a process, and laying them over each other.

The last of these that says something counts:

    1. the default
    2. a variable of the vendor's (`OPENAI_BASE_URL`)
    3. the user's own file
    4. the file that was found in the working directory or above it
    5. the profile, chosen by `VEYRA_PROFILE`, of the user's own file
    6. the profile of the file that was found
    7. a variable `VEYRA_*`, read each time it is asked for
    8. an argument, or an option of the command

A file that changes later changes nothing in a process that has read it, until `reload`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from veyra import environ
from veyra.config import files
from veyra.config.effective import Config
from veyra.config.files import Place
from veyra.config.keys import KEY_SOURCES, Name
from veyra.config.settings import Document, Origin, Problem, Setting
from veyra.errors import ConfigError, near

PROFILE: Final = "VEYRA_PROFILE"


def load() -> Config:
    """Return the settings in force here and now; files are read once, variables each time.

    Raises:
        ConfigError: a file cannot be read or something in it is wrong, or `VEYRA_PROFILE` names no profile.
    """
    loaded = _loaded(files.places(), environ.value(PROFILE))
    if isinstance(loaded, Config):
        return loaded
    first, *others = loaded
    more = f" ({len(others)} more: see veyra config check)" if others else ""
    msg = f"{first}{more}"
    raise ConfigError(msg, path=first.origin.path, line=first.origin.line)


def documents() -> list[Document]:
    """Return the files that settings come from, each over the one before it, with what is wrong with them."""
    return [_document(place) for place in files.places()]


def reload() -> None:
    """Look for files, and read them, anew from now on."""
    files.forget()
    _document.cache_clear()
    _loaded.cache_clear()


@cache
def _document(place: Place) -> Document:
    content = files.read(place)
    if content is None:
        return Document(place, is_there=False)
    if isinstance(content, str):
        return Document(place, problems=(Problem(Origin(path=place.path), content),))
    from veyra.config.document import check  # noqa: PLC0415  (loads the parser: most processes have no file)

    return check(place, content)


@cache
def _loaded(places: tuple[Place, ...], profile: str | None) -> Config | tuple[Problem, ...]:
    """Return what files say under a profile, or what is wrong."""
    read = [_document(place) for place in places]
    problems = [problem for one in read for problem in one.problems]
    known = {name for one in read for name in one.profiles}
    if profile is not None and profile not in known and not problems:
        which = f"Known are {', '.join(sorted(known))}." if known else "No file of settings has one."
        what = f"there is no profile {profile!r}{near(profile, known)} {which}"
        problems.append(Problem(Origin(variable=PROFILE), what))
    if problems:
        return tuple(problems)
    layers = [one.settings for one in read]
    if profile is not None:
        layers += [one.profiles.get(profile, ()) for one in read]
    return _merged(layers)


def _merged(layers: Sequence[Sequence[Setting]]) -> Config:
    """Lay settings over each other."""
    merged: dict[Name, Setting] = {}
    for layer in layers:
        names = {setting.name for setting in layer}
        if ("backend",) in names:  # whoever names a backend names its model, or leaves it to the backend's own
            merged.pop(("model",), None)
        for setting in layer:
            if setting.name[-1] in KEY_SOURCES:
                for source in KEY_SOURCES:
                    merged.pop((*setting.name[:-1], source), None)
            merged[setting.name] = setting
    return Config(merged)
