"""Walking through a list of models, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from veyra.errors import MalformedResponseError
from veyra.transport.base import Head
from veyra.types import ModelInfo
from veyra.wire.base import Flags
from veyra.wire.routes import Inventory, Question

PAGE_LIMIT = 100
"""Pages that are read at most: a server that passes over the cursor would give the first one for ever."""

Ask: TypeAlias = Callable[[Question], Awaitable[tuple[Head, bytes]]]
"""Sends a question and returns the head and the body of a successful answer."""


async def listed(form: Inventory, flags: Flags, ask: Ask, *, details: bool) -> tuple[ModelInfo, ...]:
    """Return all models of a list; with `details`, with what further questions, one for each model, tell of them.

    Raises:
        MalformedResponseError: the list has more than `PAGE_LIMIT` pages, or is not what the format says.
        ProviderError: what `ask` raises.
    """
    found: list[ModelInfo] = []
    question: Question | None = form.first(flags)
    for _ in range(PAGE_LIMIT):
        if question is None:
            break
        page = form.page(*await ask(question), flags)
        found += page.models
        question = page.following
    if question is not None:
        msg = f"{flags.provider}: the list of models goes on after {PAGE_LIMIT} pages"
        raise MalformedResponseError(msg, provider=flags.provider)
    return tuple([await _detailed(form, model, flags, ask) for model in found]) if details else tuple(found)


async def _detailed(form: Inventory, model: ModelInfo, flags: Flags, ask: Ask) -> ModelInfo:
    question = form.details(model, flags)
    return model if question is None else form.detailed(model, *await ask(question), flags)
