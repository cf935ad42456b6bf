"""The text of a file of settings, checked: its settings, those of its profiles, and everything that is wrong with it.

Nothing is raised here. What is wrong is returned, so that a traceback never passes a frame that holds the file's text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

from veyra.config.files import MAX_LINE, Bytes, Place
from veyra.config.keys import KEY_SOURCES, KEYS, PROFILES, Name, children, is_table, pattern, written
from veyra.config.lines import Name as Spot
from veyra.config.lines import lines
from veyra.config.settings import Document, Origin, Problem, Setting
from veyra.errors import near

_AT_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$| \(at end of document\)$")


def check(place: Place, content: Bytes) -> Document:
    """Return what a file says, and what is wrong with it."""
    parsed = _parsed(content.data)
    if isinstance(parsed, tuple):
        line, what = parsed
        return Document(place, problems=(Problem(Origin(path=place.path, line=line), what),))
    return _Check(place, content, parsed).document()


def _parsed(data: bytes) -> dict[str, object] | tuple[int | None, str]:
    """Return the tables in a file's bytes, or the line and the words of what is wrong with them."""
    try:
        text = _text(data)
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1, "is not UTF-8"
    for line, row in enumerate(text.split("\n"), 1):
        if len(row) > MAX_LINE:
            return line, f"is longer than {MAX_LINE:,} characters"
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _line(str(error), text), f"is not TOML: {_AT_LINE.sub('', str(error))}"
    except RecursionError:
        return None, "is not read: it is nested too deep"
    except ValueError:  # a number of more digits, or a date of other months, than Python has
        return None, "is not TOML: a number or a date in it is none"


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig")  # editors on Windows begin a file with a mark


def _line(message: str, text: str) -> int | None:
    found = _AT_LINE.search(message)
    if found is None:
        return None
    return text.rstrip().count("\n") + 1 if found[1] is None else int(found[1])


class _Check:
    """One file's tables, walked through."""

    def __init__(self, place: Place, content: Bytes, tables: dict[str, object]) -> None:
        self._place = place
        self._is_private = content.is_private
        self._tables = tables
        self._lines = lines(_text(content.data))
        self._problems: list[Problem] = []

    def document(self) -> Document:
        """Return what the file says."""
        profiles = self._tables.get(PROFILES, {})
        base = {key: value for key, value in self._tables.items() if key != PROFILES}
        settings = tuple(self._settings(base, (), ()))
        found: dict[str, tuple[Setting, ...]] = {}
        if not isinstance(profiles, dict):
            self._wrong((PROFILES,), "profiles is a table of profiles: [profiles.NAME]")
            profiles = {}
        for name, table in profiles.items():
            if isinstance(table, dict):
                found[name] = tuple(self._settings(table, (), (PROFILES, name)))
            else:
                self._wrong((PROFILES, name), f"a profile is a table: [{written((PROFILES, name))}]")
        problems = sorted(self._problems, key=lambda problem: problem.origin.line or 0)
        return Document(self._place, settings=settings, profiles=found, problems=tuple(problems))

    def _settings(self, table: Mapping[str, object], name: Name, above: Spot) -> Iterator[Setting]:
        """Yield the settings of a table and of those in it; `above` is what leads to a profile."""
        self._one_source(table, name, above)
        for key, value in table.items():
            full = (*name, key)
            spot = (*above, *full)
            if pattern(full) in KEYS:
                setting = self._setting(full, value, spot, above)
                if setting is not None:
                    yield setting
            elif not is_table(full):
                self._wrong(spot, f"unknown key {written(full)!r}{_hint(full)}")
            elif isinstance(value, dict):
                yield from self._settings(value, full, above)
            else:
                self._wrong(spot, f"{written(full)} is a table: [{written(full)}]")

    def _setting(self, name: Name, value: object, spot: Spot, above: Spot) -> Setting | None:
        key, last = KEYS[pattern(name)], name[-1]
        if not key.kind.accepts(value):
            self._wrong(spot, f"{written(name)} is {key.kind.expected}, which {_described(value)} is not")
        elif above and not key.profiled:
            self._wrong(spot, f"{written(name)} stands at the top of a file, not in a profile")
        elif last == "trusted" and self._place.how == "found":
            self._wrong(spot, "trusted counts in the user's own file, not in one that was found")
        elif last == "api_key" and not self._is_private:
            self._wrong(
                spot, f"{written(name)} stands in a file that others can read: chmod 600 it, or use api_key_env"
            )
        elif isinstance(value, dict) and (doubled := [one for one in value if (*pattern(name)[:-1], one) in KEYS]):
            self._wrong((*spot, doubled[0]), f"{doubled[0]} stands outside of {written(name)}")
        else:
            return Setting(name, key.kind.made(value, self._place.path.parent), self._origin(spot))
        return None

    def _one_source(self, table: Mapping[str, object], name: Name, above: Spot) -> None:
        """See that a backend's key has one source."""
        if len(name) == 2 and pattern(name) == ("backends", "*"):
            first, *others = [key for key in KEY_SOURCES if key in table] or [""]
            for other in others:
                self._wrong((*above, *name, other), f"{written((*name, other))} and {first} exclude each other")

    def _wrong(self, spot: Spot, what: str) -> None:
        self._problems.append(Problem(self._origin(spot), what))

    def _origin(self, spot: Spot) -> Origin:
        profile = str(spot[1]) if len(spot) > 1 and spot[0] == PROFILES else None
        return Origin(
            path=self._place.path,
            line=self._lines.get(spot),
            profile=profile,
            is_found=self._place.how == "found",
        )


def _hint(name: Name) -> str:
    """Say where a key of that name would be right, or which is nearest to it."""
    *above, key = name
    homes = [known for known in KEYS if known[-1] == key]
    if homes:
        table = ".".join(homes[0][:-1]).replace("*", "NAME")
        return f": it belongs {f'in [{table}]' if table else 'at the top of the file, before any [table]'}."
    hint = near(key, [*children(tuple(above)), *([] if above else [PROFILES])])
    return hint if hint != "." else near(key, sorted({known[-1] for known in KEYS}))


def _described(value: object) -> str:
    """Name a value's type, without the value: it may be a secret in the wrong place."""
    match value:
        case bool():
            return "this boolean"
        case str():
            return "this text"
        case int() | float():
            return "this number"
        case list():
            return "this list"
        case dict():
            return "this table"
        case _:
            return "this date or time"
