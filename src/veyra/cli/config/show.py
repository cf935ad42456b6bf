"""`veyra config show`: the settings in force, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import click

from veyra import config, environ
from veyra.cli import show
from veyra.cli.profile import profile_option
from veyra.config import KEYS, Config, Origin, Setting
from veyra.config.keys import Name, written
from veyra.config.kinds import MASK, masked, shown
from veyra.errors import AuditUnavailableError
from veyra.models.endpoints import ENDPOINTS

_HEADINGS: Final = ("SETTING", "VALUE", "FROM")


@dataclass(frozen=True, slots=True)
class Row:
    """A setting as it is shown.

    Attributes:
        name: as a file would have it.
        value: without a secret.
        origin: where it came from.
        remark: what else there is to say of it.
    """

    name: str
    value: object
    origin: Origin
    remark: str = ""


@click.command("show")
@profile_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each setting and line.")
def command(*, as_json: bool) -> None:
    """Show the settings in force, and where each came from: a line of a file, a variable, or the built-in default.

    Of keys only that they are set is shown. A backend is listed where something is set for it.

    \b
    Example:
      veyra config show --profile test
    """  # noqa: D301  (\b keeps the lines of the example)
    rows = list(_rows(config.load()))
    if as_json:
        for row in rows:
            show.record(_record(row))
    else:
        show.table(_HEADINGS, [(row.name, shown(row.value), _from(row)) for row in rows])


def _rows(settings: Config) -> Iterator[Row]:
    """Yield what is in force: settings without a star in their name, then the backends."""
    for name in KEYS:
        if "*" not in name:
            setting = settings.setting(written(name))
            default = _default(settings, name) if setting is None else None
            if setting is not None:
                yield _row(setting)
            elif default is not None:
                yield Row(written(name), default, Origin())
    for backend in sorted({*settings.backends(), *filter(_has_variable, ENDPOINTS)}):
        yield from _backend(settings, backend)


def _row(setting: Setting, remark: str = "") -> Row:
    return Row(written(setting.name), setting.masked, setting.origin, remark)


def _default(settings: Config, name: Name) -> object:
    """Return what holds where nothing is set; None where nothing does."""
    try:
        match name:
            case ("audit", "dir"):
                return str(settings.audit_dir)
            case ("audit", "heads"):
                return str(environ.state_dir() / "heads")
            case _:
                return KEYS[name].default
    except AuditUnavailableError:  # this user has no home for it to be in
        return None


def _backend(settings: Config, name: str) -> Iterator[Row]:
    """Yield what holds for a backend: what is set, and what its vendor's variables say besides."""
    own = settings.backend(name)
    for setting in own.values():
        yield _row(setting, "" if settings.vouches(setting) else "not trusted: refused")
    endpoint = ENDPOINTS.get(name)
    if endpoint is not None and "base_url" not in own:
        variable = _set(endpoint.base_url_variable)
        address = endpoint.base_url if variable is None else masked(environ.value(variable) or "")
        if address is not None:
            yield Row(written(("backends", name, "base_url")), address, Origin(variable=variable))
    source = settings.key_source(name)
    if source is not None:
        yield _row(source.setting, "" if source.is_there() else "there is no key")
    elif endpoint is not None and _set(endpoint.key_variable):
        yield Row(written(("backends", name, "api_key")), MASK, Origin(variable=endpoint.key_variable))


def _has_variable(name: str) -> bool:
    """Tell whether one of a vendor's own variables is set."""
    endpoint = ENDPOINTS[name]
    return (_set(endpoint.key_variable) or _set(endpoint.base_url_variable)) is not None


def _set(variable: str | None) -> str | None:
    """Return a variable that is set, else None."""
    return None if variable is None or environ.value(variable) is None else variable


def _from(row: Row) -> str:
    profile = f" (profile {row.origin.profile})" if row.origin.profile else ""
    return f"{row.origin}{profile}{f' ({row.remark})' if row.remark else ''}"


def _record(row: Row) -> dict[str, object]:
    origin = row.origin
    source = "variable" if origin.variable else "default" if origin.path is None else "file"
    return {
        "name": row.name,
        "value": row.value,
        "source": source,
        "path": None if origin.path is None else str(origin.path),
        "line": origin.line,
        "profile": origin.profile,
        "variable": origin.variable,
        "remark": row.remark or None,
    }
