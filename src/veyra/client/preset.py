"""What settings say of a client (`[client]`), as the values that a client takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from veyra import config
from veyra.client.cache import Cache
from veyra.config import Config
from veyra.policy.breaker import Breaker
from veyra.policy.budget import Budget
from veyra.policy.fallback import Fallback
from veyra.policy.limits import Limits
from veyra.policy.retry import Retry
from veyra.policy.routing import Order

_Policy = TypeVar("_Policy", Retry, Breaker, Limits, Budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Whom a client asks that is given no target."""

    targets: tuple[str, ...]
    fallback: Fallback
    routing: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What a client does that is not told otherwise; None is what it does of itself."""

    retry: Retry | None
    breaker: Breaker | None
    limits: Limits | None
    budget: Budget | None


def route() -> Route:
    """Return whom the settings would have asked.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = config.load()
    routing: Any = settings.value("client.routing")
    own: Any = settings.value("client.targets") or ()
    return Route(targets=own, fallback=Fallback(**settings.table("client.fallback")), routing=routing)


def policies() -> Policies:
    """Return what the settings would have done. Raises as `route`."""
    settings = config.load()
    return Policies(
        retry=_policy(settings, "retry", Retry),
        breaker=_policy(settings, "breaker", Breaker),
        limits=_policy(settings, "limits", Limits),
        budget=_policy(settings, "budget", Budget),
    )


def cache() -> Cache | None:
    """Return the cache that the settings name, a new one each time; None where they name none.

    Raises:
        ConfigError: a setting is wrong, or is not one of that cache.
        InvalidRequestError: the directory cannot be used.
    """
    settings = config.load()
    given = settings.table("client.cache")
    if not given:
        return None
    foreign = "max_entries" if "path" in given else "max_bytes"
    wrong = settings.setting(f"client.cache.{foreign}")
    if wrong is not None:
        what = "goes with path: without it answers are kept in memory, and max_entries bounds them"
        raise wrong.wrong(what if foreign == "max_bytes" else "is of no use with path: max_bytes bounds a directory")
    return Cache.disk(**given) if "path" in given else Cache.memory(**given)


def _policy(settings: Config, table: str, kind: type[_Policy]) -> _Policy | None:
    """Return a policy of the fields that are set, None where none is."""
    given = settings.table(f"client.{table}")
    return kind(**given) if given else None
