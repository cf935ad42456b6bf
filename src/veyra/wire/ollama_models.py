"""Ollama's `/api/tags`, which lists the models that are installed, and `/api/show`, which tells what one can.

1. `modified_at` is when the model was fetched or made here, not when it was published, so it is not `created`.
2. `context_length` of `/api/show` is what the model was made for; what the server gives it may be less (wire facts, 4).
3. Servers before 0.6 tell no capabilities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import ModelInfo, Opaque
from veyra.wire import listing, payload
from veyra.wire.base import Flags
from veyra.wire.failures import Origin
from veyra.wire.ollama_answer import reported
from veyra.wire.reading import as_count
from veyra.wire.routes import Inventory, Page, Question, decoded

_CAPABILITIES = {
    "completion": "chat",
    "embedding": "embeddings",
    "tools": "tools",
    "thinking": "reasoning",
    "vision": "image",
    "audio": "audio",
}


class _List(msgspec.Struct):
    models: list[msgspec.Raw] | None = None
    error: Any = None


_LIST = msgspec.json.Decoder(_List)
_SHOWN = msgspec.json.Decoder(dict[str, Any])


class OllamaModels(Inventory):
    """Ollama's list of models: `GET {base_url}/api/tags`."""

    name: ClassVar[str] = "ollama_models"

    def first(self, flags: Flags) -> Question:  # noqa: ARG002  (the route is the same everywhere)
        """Return the question for the list; see `Inventory.first`."""
        return Question(path="/api/tags")

    def page(self, head: Head, body: bytes, flags: Flags) -> Page:
        """Return the list, which has one page; see `Inventory.page`."""
        origin = Origin.of(head, flags, id_header=None)
        answer = decoded(_LIST, body, origin)
        if answer.models is None:
            raise reported(origin, body) if answer.error else origin.malformed("there is no list in it", body)
        return Page(models=tuple(_model(raw, origin) for raw in answer.models))

    def details(self, model: ModelInfo, flags: Flags) -> Question | None:
        """Return the question for what a model can."""
        body = payload.dump({"model": model.id}, flags)
        return Question(method="POST", path="/api/show", body=body, headers=payload.JSON_HEADERS)

    def detailed(self, model: ModelInfo, head: Head, body: bytes, flags: Flags) -> ModelInfo:
        """Return a model with its capabilities and its context."""
        told = decoded(_SHOWN, body, Origin.of(head, flags, id_header=None))
        can = told.get("capabilities")
        about = told.get("model_info")
        family = listing.within(about, "general.architecture")
        return replace(
            model,
            capabilities={ours: theirs in can for theirs, ours in _CAPABILITIES.items()}
            if isinstance(can, list)
            else {},
            context_window=as_count(listing.within(about, f"{family}.context_length")),
        )


def _model(raw: msgspec.Raw, origin: Origin) -> ModelInfo:
    told = listing.fields(raw, origin)
    return ModelInfo(
        id=listing.identity(told.get("model") or told.get("name"), origin), raw=Opaque(OllamaModels.name, bytes(raw))
    )
