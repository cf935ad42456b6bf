"""OpenAI's `/models`, and what speaks it.

OpenAI tells a model's id, date, owner and, where there is one, the day it is shut down. Others add fields of their own; read
are those whose meaning their documentation gives:

1. OpenRouter: `context_length`, `top_provider.max_completion_tokens`, `expiration_date`; a parameter that is not among
   `supported_parameters` is not supported, a kind that is not among `architecture.input_modalities` is not taken.
2. Mistral: `max_context_length`, `capabilities`. (Its `deprecation` is not read: the documentation tells days of deprecation
   and of retirement apart, and not which of them this is.)
3. llama.cpp: `meta.n_ctx`. vLLM: `max_model_len`.
4. Some answer in pages, as OpenAI's other lists do: `has_more`, `last_id`.
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from veyra.transport.base import Head
from veyra.types import ModelInfo, Opaque
from veyra.wire import listing
from veyra.wire.base import Flags
from veyra.wire.failures import Origin
from veyra.wire.openai_chat_errors import reported
from veyra.wire.reading import as_count, as_word
from veyra.wire.routes import Inventory, Page, Question, decoded

_INPUTS = {"image": "image", "audio": "audio", "file": "document"}
_PARAMETERS = {"tools": "tools", "reasoning": "reasoning", "structured_outputs": "output"}
_MISTRAL = {
    "completion_chat": "chat",
    "function_calling": "tools",
    "reasoning": "reasoning",
    "vision": "image",
    "audio": "audio",
}


class _List(msgspec.Struct):
    data: list[msgspec.Raw] | None = None
    has_more: Any = None
    last_id: Any = None
    error: Any = None


_LIST = msgspec.json.Decoder(_List)


class OpenAIModels(Inventory):
    """OpenAI's list of models: `GET {base_url}/models`."""

    name: ClassVar[str] = "openai_models"

    def first(self, flags: Flags) -> Question:  # noqa: ARG002  (the route is the same everywhere)
        """Return the question for the first page; see `Inventory.first`."""
        return Question(path="/models")

    def page(self, head: Head, body: bytes, flags: Flags) -> Page:
        """Return a page of the list; see `Inventory.page`."""
        origin = Origin.of(head, flags, id_header="x-request-id")
        answer = decoded(_LIST, body, origin)
        if answer.data is None:
            raise reported(origin, body) if answer.error else origin.malformed("there is no list in it", body)
        last = as_word(answer.last_id)
        more = answer.has_more is True and last is not None
        return Page(
            models=tuple(_model(raw, origin) for raw in answer.data),
            following=Question(path=f"/models?after={quote(last, safe='')}") if more and last else None,
        )


def _model(raw: msgspec.Raw, origin: Origin) -> ModelInfo:
    told = listing.fields(raw, origin)
    return ModelInfo(
        id=listing.identity(told.get("id"), origin),
        name=as_word(told.get("name")),
        created=listing.moment(told.get("created")),
        owned_by=as_word(told.get("owned_by")),
        context_window=as_count(
            told.get("context_length"),
            told.get("max_context_length"),
            told.get("max_model_len"),
            listing.within(told, "meta", "n_ctx"),
        ),
        max_output=as_count(listing.within(told, "top_provider", "max_completion_tokens")),
        capabilities=_router(told) | _mistral(told),
        retires_at=listing.moment(told.get("shutdown_date") or told.get("expiration_date")),
        raw=Opaque(OpenAIModels.name, bytes(raw)),
    )


def _router(told: dict[str, Any]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    inputs = listing.within(told, "architecture", "input_modalities")
    if isinstance(inputs, list):
        found |= {ours: theirs in inputs for theirs, ours in _INPUTS.items()}
    parameters = told.get("supported_parameters")
    if isinstance(parameters, list):
        found |= {ours: theirs in parameters for theirs, ours in _PARAMETERS.items()}
    return found


def _mistral(told: dict[str, Any]) -> dict[str, bool]:
    return listing.flags({ours: listing.within(told, "capabilities", theirs) for theirs, ours in _MISTRAL.items()})
