"""When another target is asked instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from veyra.errors import InvalidRequestError, ProviderError
from veyra.policy.retry import FALLBACK_KINDS
from veyra.types import ModelResponse


@dataclass(frozen=True, slots=True)
class Fallback:
    """Targets to ask after the first have failed, and when.

    Attributes:
        to: the targets, in order, as a client takes them; they come after all others.
        on: kinds of error (`ProviderError.kind`) after which the next target is asked.
        accept: says of an answer whether it will do; where it says no, the next target is asked, and the answer that was
            turned down stays on record and is paid for. The last target's answer is returned with a warning
            (`not_accepted`). Not asked of streams, which the caller has seen by then, nor of vectors. What it raises
            ends the call.

    Raises:
        InvalidRequestError: a kind is not one of an error of `veyra.errors`, or `accept` cannot be called or is async.
    """

    to: Sequence[Any] = ()
    on: tuple[str, ...] = FALLBACK_KINDS
    accept: Callable[[ModelResponse], bool] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", _several(self.to))
        object.__setattr__(self, "on", _several(self.on))
        known = _kinds(ProviderError)
        for kind in self.on:
            if not isinstance(kind, str) or kind not in known:
                msg = f"Fallback(on=...) takes the kinds {', '.join(sorted(known))}, not {kind!r}"
                raise InvalidRequestError(msg)
        if self.accept is not None and not callable(self.accept):
            msg = f"Fallback(accept=...) is a function of a ModelResponse, not {self.accept!r}"
            raise InvalidRequestError(msg)
        if iscoroutinefunction(self.accept) or iscoroutinefunction(getattr(self.accept, "__call__", None)):  # noqa: B004  (its own)
            msg = f"Fallback(accept=...) is not awaited, so a plain function, not the async {self.accept!r}"
            raise InvalidRequestError(msg)


def _several(value: Any) -> tuple[Any, ...]:  # noqa: ANN401  (who uses the items looks at them)
    """Return the items of a sequence; what is none is the only item."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)


def _kinds(root: type[ProviderError]) -> set[str]:
    return {root.kind}.union(*(_kinds(kind) for kind in root.__subclasses__()))
