"""Anthropic's `/v1/models`: with limits, capabilities, and how far a model is from its end (wire facts, 3.3)."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from veyra.transport.base import Head
from veyra.types import ModelInfo, Opaque
from veyra.wire import listing
from veyra.wire.anthropic_errors import reported
from veyra.wire.base import Flags
from veyra.wire.failures import Origin
from veyra.wire.reading import as_count, as_word
from veyra.wire.routes import Inventory, Page, Question, decoded

_ROUTE = "/v1/models?limit=1000"
_CAPABILITIES = {
    "thinking": "reasoning",
    "structured_outputs": "output",
    "image_input": "image",
    "pdf_input": "document",
}


class _List(msgspec.Struct):
    data: list[msgspec.Raw] | None = None
    has_more: Any = None
    last_id: Any = None
    error: Any = None


_LIST = msgspec.json.Decoder(_List)


class AnthropicModels(Inventory):
    """Anthropic's list of models: `GET {base_url}/v1/models`."""

    name: ClassVar[str] = "anthropic_models"

    def first(self, flags: Flags) -> Question:
        """Return the question for the first page; see `Inventory.first`."""
        return _question(_ROUTE, flags)

    def page(self, head: Head, body: bytes, flags: Flags) -> Page:
        """Return a page of the list; see `Inventory.page`."""
        origin = Origin.of(head, flags, id_header="request-id")
        answer = decoded(_LIST, body, origin)
        if answer.data is None:
            raise reported(origin, body) if answer.error else origin.malformed("there is no list in it", body)
        last = as_word(answer.last_id)
        more = answer.has_more is True and last is not None
        return Page(
            models=tuple(_model(raw, origin) for raw in answer.data),
            following=_question(f"{_ROUTE}&after_id={quote(last, safe='')}", flags) if more and last else None,
        )


def _question(path: str, flags: Flags) -> Question:
    version = {} if flags.api_version is None else {"anthropic-version": flags.api_version}
    return Question(path=path, headers=version)


def _model(raw: msgspec.Raw, origin: Origin) -> ModelInfo:
    told = listing.fields(raw, origin)
    can = told.get("capabilities")
    return ModelInfo(
        id=listing.identity(told.get("id"), origin),
        name=as_word(told.get("display_name")),
        created=listing.moment(told.get("created_at")),
        context_window=as_count(told.get("max_input_tokens")),
        max_output=as_count(told.get("max_tokens")),
        capabilities=listing.flags(
            {ours: listing.within(can, theirs, "supported") for theirs, ours in _CAPABILITIES.items()}
        ),
        lifecycle=as_word(told.get("lifecycle")),
        retires_at=listing.moment(told.get("retires_at")),
        raw=Opaque(AnthropicModels.name, bytes(raw)),
    )
