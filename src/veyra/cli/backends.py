"""`veyra backends`: what can be asked, where it is, and whether its key is set."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click

from veyra import config, environ
from veyra.cli import show
from veyra.errors import ConfigError, InvalidRequestError
from veyra.models.endpoints import ENDPOINTS, Endpoint
from veyra.models.registry import get_backend, list_backends
from veyra.models.wire import WireBackend
from veyra.wire.base import Dialect

_HEADINGS = ("NAME", "SPEAKS", "WHERE", "KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A backend as it is listed; what only a backend on the network has is None or empty for the others."""

    name: str
    speaks: tuple[str, ...] = ()
    where: str | None = None
    key_variable: str | None = None
    key_required: bool = False
    key_from: str | None = None
    key_set: bool = False
    address_set: bool = False

    @property
    def configured(self) -> bool:
        """Whether somebody here means to use it: it needs nothing, or its key or its address is set."""
        return not self.speaks or self.key_set or self.address_set


def listed(name: str) -> Listed:
    """Describe a backend. A key itself is never part of it, only whether there is one."""
    endpoint = ENDPOINTS.get(name)
    if endpoint is None:
        return Listed(name=name)
    variable = endpoint.key_variable
    settings = config.load()
    source = settings.key_source(name)
    key_set = variable is not None and environ.key(variable) is not None
    address_set = endpoint.base_url_variable is not None and environ.value(endpoint.base_url_variable) is not None
    return Listed(
        name=name,
        speaks=_dialects(endpoint),
        where=_where(endpoint),
        key_variable=variable,
        key_required=endpoint.key_required,
        key_from=None if source is None else source.shown,
        key_set=key_set if source is None else source.is_there(),
        address_set=address_set or "base_url" in settings.backend(name),
    )


@click.command("backends")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each backend and line.")
def command(*, as_json: bool) -> None:
    """List the backends: what they speak, where they are, and whether their key is set.

    \b
    Example:
      veyra backends
    """  # noqa: D301  (\b keeps the lines of the example)
    rows = [listed(name) for name in list_backends()]
    if as_json:
        for row in rows:
            show.record(asdict(row))
        return
    show.table(_HEADINGS, [(row.name, ", ".join(row.speaks) or "-", row.where or "-", _key(row)) for row in rows])


def _dialects(endpoint: Endpoint) -> tuple[str, ...]:
    places = {endpoint.dialect, *endpoint.apis.values()}
    return tuple(sorted(_dialect(place) for place in places))


def _dialect(place: str | type[Dialect]) -> str:
    return place.partition(":")[0].rpartition(".")[2] if isinstance(place, str) else place.name


def _where(endpoint: Endpoint) -> str | None:
    try:
        backend = get_backend(endpoint.name, audit="off").backend
    except InvalidRequestError:  # its address is not shown: it may hold a password
        return f"nowhere: {endpoint.base_url_variable} is not an address"
    except ConfigError:  # of its own settings: those of all were read before
        return "nowhere: see veyra config check"
    return backend.base_url if isinstance(backend, WireBackend) else endpoint.base_url


def _key(row: Listed) -> str:
    place = row.key_from or row.key_variable
    if place is None:
        return "needs none"
    if row.key_set:
        return f"{place} (set)"
    return f"{place} (not set)" if row.key_required else f"{place} (not set, not needed)"
