"""The types of settings: what a value may be, in a file and as the text of a variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from sys import float_info
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from veyra.environ import Proxy
from veyra.types import Secret

Plain: TypeAlias = str | int | float | bool
Value: TypeAlias = Plain | Decimal | Path | Secret | tuple[str, ...] | tuple[Path, ...] | Mapping[str, object]

MASK: Final = "***"
MAX_DIGITS: Final = 20
"""Digits that an amount has before or after its point, at most."""
MAX_DEPTH: Final = 8
"""How deep a table of free form may be nested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type of settings.

    Attributes:
        expected: what it is, in words that go on from "mode is ".
        accepts: tells whether a value, as TOML has it, is one.
        of_text: makes such a value from the text of a variable; what cannot be made into one comes back as it is. None
            where no variable can hold one.
        made: makes the setting from an accepted value, relative paths starting at the directory given.
    """

    expected: str
    accepts: Callable[[object], bool]
    of_text: Callable[[str], object] | None = str
    made: Callable[[object, Path], Value]


def masked(value: Value) -> object:
    """Return a value as JSON has it and a person may see it: without a secret."""
    match value:
        case Secret():
            return MASK
        case Mapping():  # what a backend from elsewhere takes may be a secret
            return dict.fromkeys(value, MASK)
        case tuple():
            return [masked(item) for item in value]
        case bool() | int() | float():
            return value
        case _:
            return _without_user(str(value))


def shown(value: object) -> str:
    """Return what `masked` gave as a file would say it."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return f"{{ {', '.join(f'{key} = {shown(item)}' for key, item in value.items())} }}"
        case list():
            return f"[{', '.join(map(shown, value))}]"
        case str():
            return value if value == MASK else f'"{value}"'
        case _:
            return str(value)


def _without_user(text: str) -> str:
    """Mask the user and the password of a URL."""
    scheme, mark, rest = text.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{MASK}@{place}" if mark and at and user else text


# ------------------------------------------------------------------------------------------------- making


def _as_it_is(value: object, _base: Path) -> Value:
    assert isinstance(value, Plain)
    return value


def _dollars(value: object, _base: Path) -> Value:
    return Decimal(str(value))  # of a float, what was written: 0.1 is a tenth


def _secret(value: object, _base: Path) -> Value:
    return Secret(str(value).strip())


def _path(value: object, base: Path) -> Path:
    return base / Path(str(value)).expanduser()


def _paths(value: object, base: Path) -> Value:
    assert isinstance(value, list)
    return tuple(_path(item, base) for item in value)


def _texts(value: object, _base: Path) -> Value:
    assert isinstance(value, list)
    return tuple(value)


def _table(value: object, _base: Path) -> Value:
    assert isinstance(value, dict)
    return value


# ----------------------------------------------------------------------------------------------- accepting


def _is_line(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_key(value: object) -> bool:
    return _is_line(value) and str(value).isascii()


def _is_pair(value: object) -> bool:
    first, mark, second = str(value).rpartition(":")
    return _is_line(value) and bool(first and mark and second)


def _is_path(value: object) -> bool:
    if not _is_line(value):
        return False
    try:
        Path(str(value)).expanduser()
    except RuntimeError:  # the home of a user who is not known
        return False
    return True


def _are_lines(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_line, value))


def _are_paths(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_path, value))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def _is_dollars(value: object) -> bool:
    if not _is_number(value) and not _is_line(value):
        return False
    try:
        amount = Decimal(str(value))
    except (InvalidOperation, ValueError):
        return False
    return amount.is_finite() and amount >= 0 and abs(amount.adjusted()) <= MAX_DIGITS


def _is_address(value: object) -> bool:
    if not _is_line(value):
        return False
    try:
        parts = urlsplit(str(value))
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        return False
    return bool(usable) and "@" not in parts.netloc and not parts.query and not parts.fragment


def _is_proxy(value: object) -> bool:
    return _is_line(value) and Proxy.parse(Secret(str(value))) is not None


def _is_plain(value: object, depth: int = MAX_DEPTH) -> bool:
    """Tell whether a value is of texts, numbers and booleans, and of lists and tables of these, not nested deeper."""
    if isinstance(value, dict | list):
        below = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(item, depth - 1) for item in below)
    return isinstance(value, Plain)


# ------------------------------------------------------------------------------------------ from a variable


def _of_number(text: str) -> object:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _of_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


def _of_list(text: str) -> object:
    return [item.strip() for item in text.split(",") if item.strip()]


# -------------------------------------------------------------------------------------------------- kinds

TEXT: Final = Kind(expected="one line of text", accepts=_is_line, made=_as_it_is)
TEXTS: Final = Kind(expected="a list of lines of text", accepts=_are_lines, of_text=_of_list, made=_texts)
PAIR: Final = Kind(expected="service:user", accepts=_is_pair, made=_as_it_is)
PATH: Final = Kind(expected="a path (`~` being a home that is known)", accepts=_is_path, made=_path)
PATHS: Final = Kind(expected="a list of paths", accepts=_are_paths, of_text=_of_list, made=_paths)
SECRET: Final = Kind(expected="a key in text: one line of ASCII", accepts=_is_key, of_text=None, made=_secret)
BOOLEAN: Final = Kind(
    expected="true or false", accepts=lambda v: isinstance(v, bool), of_text=_of_boolean, made=_as_it_is
)
DOLLARS: Final = Kind(expected="an amount of US dollars, 0 or more", accepts=_is_dollars, of_text=str, made=_dollars)
ADDRESS: Final = Kind(
    expected="an http or https URL with a host, and without a user, a query or a fragment",
    accepts=_is_address,
    made=_as_it_is,
)
PROXY: Final = Kind(
    expected="the address of a proxy, http://host:port or https://host:port", accepts=_is_proxy, made=_as_it_is
)
TABLE: Final = Kind(
    expected="a table of texts, numbers, booleans, and lists and tables of these",
    accepts=lambda value: isinstance(value, dict) and _is_plain(value),
    of_text=None,
    made=_table,
)


def whole(least: int) -> Kind:
    """Return the type of whole numbers from `least` on."""
    return Kind(
        expected=f"a whole number, {least} or more",
        accepts=lambda value: _is_integer(value) and value >= least,  # type: ignore[operator]
        of_text=_of_number,
        made=_as_it_is,
    )


def number(*, zero: bool) -> Kind:
    """Return the type of finite numbers above 0, with 0 itself or without."""
    return Kind(
        expected=f"a number {'of 0 or more' if zero else 'above 0'}",
        accepts=lambda value: _is_number(value) and (value > 0 or (zero and value == 0)),  # type: ignore[operator]
        of_text=_of_number,
        made=_as_it_is,
    )


def several(*words: str) -> Kind:
    """Return the type of lists of these words."""
    return Kind(
        expected=f"a list of some of {', '.join(words)}",
        accepts=lambda value: isinstance(value, list) and all(item in words for item in value),
        of_text=_of_list,
        made=_texts,
    )


def choice(*words: str) -> Kind:
    """Return the type of these words."""
    return Kind(
        expected=f"one of {', '.join(words)}",
        accepts=lambda value: isinstance(value, str) and value in words,
        made=_as_it_is,
    )
