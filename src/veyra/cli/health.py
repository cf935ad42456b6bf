"""`veyra health`: which backends could serve a call now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click

from veyra.cli import show
from veyra.cli.asked import asked
from veyra.cli.backends import Listed, listed
from veyra.cli.failure import Failure, Misuse
from veyra.cli.profile import profile_option
from veyra.models.gate import Gate
from veyra.models.registry import get_backend, list_backends

_HEADINGS = ("NAME", "HEALTH", "")
_COLOURS: dict[str, show.Colour] = {"healthy": "green", "not healthy": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a backend's check said, and, where it said no, what is known of the reason."""

    name: str
    healthy: bool
    reason: str | None = None


@click.command("health")
@click.option("-b", "--backend", "names", multiple=True, metavar="NAME", help="Ask this one; may be given again.")
@click.option("--all", "ask_all", is_flag=True, help="Ask every backend that is known.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long a backend may take to answer.",
)
@profile_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each backend and line.")
@click.pass_context
def command(ctx: click.Context, *, names: tuple[str, ...], ask_all: bool, timeout: float, as_json: bool) -> None:
    """Ask whether backends could serve a call now. It costs nothing and loads no model.

    Asked is the backend of VEYRA_BACKEND or of veyra.toml, or, where none is set, each one whose key or
    address is set, and the mock.

    Exit status: 0 all are healthy, 1 at least one is not, 2 wrong use.

    \b
    Example:
      veyra health -b ollama
    """  # noqa: D301  (\b keeps the lines of the example)
    if ask_all and names:
        message = "--all asks every backend, -b one of them"
        raise Misuse(message, hint="give one of the two")
    gates = {name: get_backend(name, audit="off") for name in (list_backends() if ask_all else names or _usual())}
    rows = asyncio.run(_ask_all(gates, timeout))
    if as_json:
        for row in rows:
            show.record(asdict(row))
    else:
        show.table(_HEADINGS, [_cells(row) for row in rows], _COLOURS)
    if not all(row.healthy for row in rows):
        ctx.exit(Failure.exit_code)


def _usual() -> Sequence[str]:
    chosen, _ = asked(None)
    return [chosen] if chosen else [name for name in list_backends() if listed(name).configured]


async def _ask_all(gates: dict[str, Gate], timeout: float) -> list[Health]:  # noqa: ASYNC109  (each has its own)
    return await asyncio.gather(*(_ask(name, gate, timeout) for name, gate in gates.items()))


async def _ask(name: str, gate: Gate, timeout: float) -> Health:  # noqa: ASYNC109  (the check has none)
    try:
        async with gate, asyncio.timeout(timeout):
            healthy = await gate.health_check()
    except TimeoutError:
        return Health(name=name, healthy=False, reason=f"no answer within {timeout:g} s")
    return Health(name=name, healthy=healthy, reason=None if healthy else _reason(listed(name)))


def _reason(backend: Listed) -> str | None:
    if backend.key_required and not backend.key_set:
        return f"no key: {backend.key_from or f'set {backend.key_variable}'}"
    if backend.where is None:
        return "no address" if backend.speaks else None
    return f"no success from {backend.where}"


def _cells(row: Health) -> tuple[str, ...]:
    return row.name, "healthy" if row.healthy else "not healthy", row.reason or ""
