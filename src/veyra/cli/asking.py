"""Who a command asks, and how: the options that commands which ask have in common, and the client that they choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click
from click.core import ParameterSource

from veyra.cli import show
from veyra.cli.asked import asked
from veyra.cli.failure import Misuse
from veyra.cli.profile import profile_option
from veyra.client import preset
from veyra.client.client import Client
from veyra.errors import InvalidRequestError
from veyra.models.endpoints import ENDPOINTS
from veyra.models.registry import make_backend
from veyra.policy.budget import Budget
from veyra.policy.retry import Retry
from veyra.types import Options

_UNASKED = "no model was asked, this is the mock; ask one with -b BACKEND -m MODEL (see veyra backends)"

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Chosen(TypedDict):
    """The values of the options that `asking_options` gives a command."""

    backend: str | None
    model: str | None
    system: str | None
    max_tokens: int | None
    temperature: float | None
    timeout: float | None
    retries: int | None
    budget: Decimal | None
    base_url: str | None
    mock_script: Path | None
    audit: str | None


def _budget(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    try:
        return Budget(client=value).amount("client")
    except InvalidRequestError:
        message = f"{value!r} is no amount of US dollars: 2.50, say"
    raise click.BadParameter(message)


_OPTIONS = (
    click.option(
        "-b",
        "--backend",
        metavar="NAME",
        envvar="VEYRA_BACKEND",
        show_envvar=True,
        help="Who is asked; see veyra backends.",
    ),
    click.option("-m", "--model", metavar="NAME", envvar="VEYRA_MODEL", show_envvar=True, help="The model to ask."),
    click.option("--system", metavar="TEXT", help="Instructions that come before the prompt."),
    click.option("--max-tokens", metavar="N", type=click.IntRange(min=0), help="Tokens an answer may have at most."),
    click.option(
        "--temperature", metavar="NUMBER", type=click.FloatRange(min=0), help="How freely the model chooses its words."
    ),
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        help="How long an answer may take in all.",
    ),
    click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(min=0, max=20),
        help="How often to ask again where that can help, instead of what the settings say, or never.",
    ),
    click.option("--budget", metavar="USD", callback=_budget, help="What may be spent; nothing is asked beyond it."),
    click.option("--base-url", metavar="URL", help="Where the backend is, instead of its own address."),
    click.option(
        "--mock-script",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="VEYRA_MOCK_SCRIPT",
        show_envvar=True,
        help="What the mock answers: replies in TOML or JSONL.",
    ),
    profile_option,
    click.option("--audit", metavar="DIR|memory|off", help="Where calls are recorded, instead of the usual log."),
)


def asking_options(function: _Command) -> _Command:
    """Give a command the options that say who is asked, and how."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@contextmanager
def opened(chosen: Chosen, fallback: Sequence[str] = ()) -> Iterator[tuple[Client, Options]]:
    """Return the client that was chosen, and the options of its calls; its log is closed when the context is left.

    Args:
        chosen: what the options say.
        fallback: who is asked where that fails, as `BACKEND:MODEL`.

    Raises:
        Misuse: a backend that needs a model got none, or a script was given to another than the mock.
        VeyraError: a backend is not known, or a setting is wrong.
    """
    backend, model = asked(chosen["backend"], chosen["model"])
    if backend in ENDPOINTS and model is None:
        message = f"the {backend} backend needs the name of a model"
        raise Misuse(message, hint="name one with -m MODEL, VEYRA_MODEL, or in veyra.toml")
    script = _script(backend, chosen["mock_script"])
    options = _given(
        model=None if fallback else model,
        system=chosen["system"],
        max_tokens=chosen["max_tokens"],
        temperature=chosen["temperature"],
        timeout=chosen["timeout"],
    )
    client = Client(
        make_backend(
            "mock" if backend is None else backend,
            **_given(base_url=chosen["base_url"], replies=script, model=model if fallback else None),
        ),
        fallback=[_target(spec) for spec in fallback],
        **_policies(chosen["retries"], chosen["budget"]),
        audit=chosen["audit"],
    )
    if backend is None and script is None:
        show.note(_UNASKED)
    try:
        yield client, options
    finally:
        if client.log is not None:
            client.log.close()


class _Policies(TypedDict):
    retry: Retry
    budget: Budget | None


def _policies(retries: int | None, dollars: Decimal | None) -> _Policies:
    """Return what the settings say, with the values that options give in the place of theirs. Whoever sets nothing asks once."""
    settings = preset.policies()
    retry, budget = settings.retry or Retry(attempts=1), settings.budget
    if retries is not None:
        retry = replace(retry, attempts=retries + 1)
    if dollars is not None:
        budget = replace(budget or Budget(), client=dollars)
    return _Policies(retry=retry, budget=budget)


def _target(spec: str) -> str:
    """Return a fallback with its model, from the settings where it names none."""
    name, _, model = spec.partition(":")
    if not model:
        model = asked(name)[1] or ""
    if not name or (name in ENDPOINTS and not model):
        message = f"--fallback takes BACKEND:MODEL, not {spec!r}"
        raise Misuse(message, hint="anthropic:MODEL, say")
    return f"{name}:{model}" if model else name


def _script(backend: str | None, script: Path | None) -> Path | None:
    """Return the mock's script where the mock is asked; one that the environment names is not for others, and no mistake."""
    if backend in {None, "mock"} or script is None:
        return script
    if click.get_current_context().get_parameter_source("mock_script") is ParameterSource.COMMANDLINE:
        message = f"--mock-script says what the mock answers, not {backend}"
        raise Misuse(message, hint="leave out -b, or the script")
    return None


def _given(**values: Any) -> Any:  # noqa: ANN401  (options of whoever takes them)
    return {name: value for name, value in values.items() if value is not None}
