"""`veyra conformance`: which checks a backend passes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from inspect import isawaitable
from itertools import count
from pathlib import Path
from typing import get_args

import click

from veyra.cli import show
from veyra.cli.failure import Failure, Misuse
from veyra.errors import VeyraError
from veyra.models.base import BaseModelBackend
from veyra.models.endpoints import ENDPOINTS
from veyra.models.registry import make_backend
from veyra.models.request import build_request
from veyra.testing.badge import badge
from veyra.testing.conformance import Make, Report, Result, Speaks, Subject, checks, run
from veyra.testing.stage import KEY, MODEL

_HEADINGS = ("GROUP", "CHECK", "", "")
_COLOURS: dict[str, show.Colour] = {"passed": "green", "failed": "red"}


@click.command("conformance")
@click.argument("target")
@click.option(
    "--speaks",
    type=click.Choice(get_args(Speaks)),
    help="The format in which the backend talks HTTP; known for Veyra's own.",
)
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="What the backend is made with.")
@click.option("--all", "everything", is_flag=True, help="List the checks that passed, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each check and line.")
@click.option("--badge", "picture", metavar="FILE", help="Write a picture of the result (SVG).")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    target: str,
    speaks: Speaks | None,
    options: tuple[str, ...],
    everything: bool,
    as_json: bool,
    picture: str | None,
) -> None:
    """Check that a backend does what every backend must do.

    TARGET is package.module:Class, any other callable that returns a backend, or a name of veyra backends. A backend that
    talks HTTP is asked to talk to a server on loopback, which plays the provider and its faults: with --speaks it is made with
    base_url, api_key and model. Needs no key and no network.

    Exit status: 0 it passes, 1 it fails a check, 2 wrong use.

    \b
    Example:
      veyra conformance my_package.backends:MyBackend --speaks openai_chat
      veyra conformance anthropic
    """  # noqa: D301  (\b keeps the lines of the example)
    subject = _subject(target, speaks, dict(map(_option, options)))
    report = run(subject, told=_tell) if as_json else _checked(subject)
    if not as_json:
        _print(report, everything=everything)
    if picture is not None:
        _draw(report, Path(picture))
    if not report.ok:
        ctx.exit(Failure.exit_code)


def _checked(subject: Subject) -> Report:
    """Check a backend, and show how far it is."""
    every, done = checks(), count(1)
    with show.progress("checking") as tell:
        return run(subject, every, told=None if tell is None else lambda _: tell(next(done), len(every)))


def _draw(report: Report, path: Path) -> None:
    try:
        path.write_text(badge(report), encoding="utf-8")
    except OSError as error:
        message = f"the badge {path} cannot be written: {error.strerror or error}"
        raise Failure(message) from error


def _option(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        message = f"an option is NAME=VALUE, not {text!r}"
        raise Misuse(message)
    return name, value


def _subject(target: str, speaks: Speaks | None, options: Mapping[str, str]) -> Subject:
    """Return what TARGET names, and see that it can be made."""
    make = partial(_loaded(target), **options) if ":" in target else partial(make_backend, target, **options)
    if ":" not in target and target in ENDPOINTS and speaks is None:
        speaks = _format(make)
    given = {} if speaks is None else {"base_url": "http://127.0.0.1:9/v1", "api_key": KEY, "model": MODEL}
    try:
        made = make(**given)
    except VeyraError:
        raise
    except (Exception, SystemExit) as error:
        message = f"{target} cannot be made with {', '.join((*options, *given)) or 'nothing'}: {error}"
        raise Misuse(message, hint="set what it needs with -o NAME=VALUE") from error
    if isawaitable(made):
        close = getattr(made, "close", None)  # a coroutine complains where nobody waits for it
        if close is not None:
            close()
    if not isinstance(made, BaseModelBackend):
        message = f"{target} gives a {type(made).__name__}, which is no BaseModelBackend"
        raise Misuse(message, hint="derive it from veyra.BaseModelBackend, and give it a name and two methods")
    return Subject(make=make, speaks=speaks)


def _format(make: Make) -> Speaks:
    """Return the format that a backend of ours speaks."""
    request = build_request("Hello", {"model": MODEL}, stream=False)
    dialect = make(base_url="http://127.0.0.1:9/v1", api_key=KEY, model=MODEL).prepare(request).dialect
    for known in get_args(Speaks):
        if known == dialect:
            return known  # type: ignore[no-any-return]  # one of its words
    message = (
        f"there is no server on loopback yet that speaks {dialect}, so nothing of this backend can be checked offline"
    )
    raise Misuse(message)


def _loaded(place: str) -> Make:
    module, _, attribute = place.partition(":")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  (as python -m has it)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        message = f"{place} cannot be loaded: {error}"
        raise Misuse(message, hint="write package.module:Class, as Python imports it from here") from error
    except (Exception, SystemExit) as error:
        message = f"{place} cannot be loaded: importing {module} raised {type(error).__name__}: {error}"
        raise Misuse(message, hint=f"see that python -c 'import {module}' works here") from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        message = f"{place} is a {type(found).__name__}, and cannot be called to make a backend"
        raise Misuse(message)
    return found  # type: ignore[no-any-return]  # what it returns is checked where it is called


def _tell(result: Result) -> None:
    show.record(
        {
            "group": result.check.group,
            "check": result.check.name,
            "verdict": result.verdict,
            "says": result.check.says,
            "reason": result.reason or None,
            "seconds": round(result.seconds, 3),
        }
    )


def _print(report: Report, *, everything: bool) -> None:
    rows = [
        (one.check.group, one.check.name, one.verdict, one.reason or one.check.says)
        for one in report.results
        if everything or one.verdict == "failed"
    ]
    if rows:
        show.table(_HEADINGS, rows, _COLOURS)
    counts = f"{report.count('passed')} passed, {report.count('failed')} failed"
    left = report.count("not applicable")
    show.line(f"{counts}, {left} not applicable of {len(report.results)} checks", "green" if report.ok else "red")
    if left and not everything:
        reasons = sorted({one.reason for one in report.results if one.verdict == "not applicable"})
        show.line(f"Not applicable: {'; '.join(reasons)}. --all lists them.")
