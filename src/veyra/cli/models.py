"""`veyra models`: which models a backend has, and what its provider tells of them."""

from __future__ import annotations

import asyncio

import click

from veyra.cli import show
from veyra.cli.asked import asked
from veyra.cli.profile import profile_option
from veyra.models.gate import Gate
from veyra.models.registry import get_backend
from veyra.types import ModelInfo

_HEADINGS = ("MODEL", "READS#", "WRITES#", "CAN", "UNTIL")


@click.command("models")
@click.option(
    "-b",
    "--backend",
    metavar="NAME",
    envvar="VEYRA_BACKEND",
    show_envvar=True,
    default=lambda: asked(None)[0] or "mock",
    show_default="mock",
    help="Whose models; see veyra backends.",
)
@click.option("--base-url", metavar="URL", help="Where the backend is, instead of its own address.")
@profile_option
@click.option("--details", is_flag=True, help="Ask on for what the list lacks, once for each model (Ollama).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model and line.")
def command(*, backend: str, base_url: str | None, details: bool, as_json: bool) -> None:
    """List the models of a backend. It costs nothing, loads no model, and is not recorded.

    READS and WRITES are limits in tokens, UNTIL is the day on which a model is to stop. What the provider does not tell is
    left empty, and null in JSON.

    Exit status: 0 listed, 1 the list could not be had, 2 wrong use.

    \b
    Example:
      veyra models -b ollama --details
    """  # noqa: D301  (\b keeps the lines of the example)
    found = asyncio.run(_list(_open(backend, base_url), details=details))
    if as_json:
        for model in found:
            show.record(_record(model))
    else:
        show.table(_HEADINGS, map(_cells, found))


def _open(name: str, base_url: str | None) -> Gate:
    if base_url is None:
        return get_backend(name, audit="off")
    return get_backend(name, audit="off", base_url=base_url)


async def _list(gate: Gate, *, details: bool) -> tuple[ModelInfo, ...]:
    async with gate:
        return await gate.models(details=details)


def _record(model: ModelInfo) -> dict[str, object]:
    return {
        "id": model.id,
        "name": model.name,
        "created": model.created and model.created.isoformat(),
        "owned_by": model.owned_by,
        "context_window": model.context_window,
        "max_output": model.max_output,
        "capabilities": model.capabilities,
        "lifecycle": model.lifecycle,
        "retires_at": model.retires_at and model.retires_at.isoformat(),
    }


def _cells(model: ModelInfo) -> tuple[str, ...]:
    limits = ("" if limit is None else f"{limit:,}" for limit in (model.context_window, model.max_output))
    can = ", ".join(name for name, able in model.capabilities.items() if able)
    return (model.id, *limits, can, f"{model.retires_at:%Y-%m-%d}" if model.retires_at else model.lifecycle or "")
