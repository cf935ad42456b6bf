"""`veyra config check`: everything that is wrong with the settings, in all profiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final

import click

from veyra import config
from veyra.cli import show
from veyra.cli.failure import Failure
from veyra.cli.profile import chosen
from veyra.config import Config
from veyra.config.keys import KEYS, VARIABLES, variable
from veyra.errors import ConfigError, VeyraError, near
from veyra.models.registry import get_backend, list_backends

_KNOWN: Final = {*VARIABLES, *filter(None, map(variable, KEYS))}


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each fault and line.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Check every setting, in all profiles: unknown keys, wrong types, unknown backends and what they do not take.

    Nothing is asked of a backend, and no key is read.

    Exit status: 0 all is well, 1 something is wrong, 2 wrong use.

    \b
    Example:
      veyra config check
    """  # noqa: D301  (\b keeps the lines of the example)
    faults = list(dict.fromkeys(_faults()))
    for path, line, message in faults:
        if as_json:
            show.record({"path": path, "line": line, "message": message})
        else:
            show.line(message)
    if faults:
        ctx.exit(Failure.exit_code)
    if not as_json:
        read = [document for document in config.documents() if document.is_there]
        show.line(
            f"OK: {len(read)} file{'' if len(read) == 1 else 's'} of settings and the variables are right.", "green"
        )


def _faults() -> Iterator[tuple[str | None, int | None, str]]:
    """Yield what is wrong: the file, its line, and the words, which begin with both."""
    documents = config.documents()
    for problem in (problem for document in documents for problem in document.problems):
        yield _fault(problem.error())
    for name in sorted(os.environ):
        if name.startswith("VEYRA_") and name not in _KNOWN:
            yield None, None, f"{name}: Veyra has no such variable{near(name, _KNOWN)}"
    if not any(document.problems for document in documents):
        for profile in (None, *sorted({name for document in documents for name in document.profiles})):
            with nullcontext() if profile is None else chosen(profile):
                yield from _faults_in_force()


def _faults_in_force() -> Iterator[tuple[str | None, int | None, str]]:
    """Yield what is wrong with the settings in force, apart from what is wrong with their files."""
    try:
        settings = config.load()
        list(settings.settings())
        settings.audit_manner()
    except ConfigError as error:
        yield _fault(error)
        return
    yield from _unknown_backends(settings)
    for name in settings.backends():
        try:
            get_backend(name, audit="off")
        except ConfigError as error:
            yield _fault(error)
        except VeyraError as error:
            first = min(settings.backend(name).values(), key=lambda setting: setting.origin.line or 0, default=None)
            yield _fault(ConfigError(str(error)) if first is None else first.wrong(f"cannot be used: {error}"))


def _unknown_backends(settings: Config) -> Iterator[tuple[str | None, int | None, str]]:
    """Yield the settings that name a backend which is not known."""
    known = list_backends()
    for place in ("backend", "client.targets", "client.fallback.to"):
        setting = settings.setting(place)
        value = () if setting is None else setting.value
        for target in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
            name = str(target).partition(":")[0]
            if setting is not None and name not in known:
                yield _fault(setting.wrong(f"names the backend {name!r}, which is not known{near(name, known)}"))


def _fault(error: ConfigError) -> tuple[str | None, int | None, str]:
    return None if error.path is None else str(error.path), error.line, str(error)
