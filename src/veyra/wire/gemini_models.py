"""Gemini's `/v1beta/models`: what a model can is told by the methods it answers to."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from veyra.transport.base import Head
from veyra.types import ModelInfo, Opaque
from veyra.wire import listing
from veyra.wire.base import Flags
from veyra.wire.failures import Origin
from veyra.wire.gemini_errors import reported
from veyra.wire.reading import as_count, as_word
from veyra.wire.routes import Inventory, Page, Question, decoded

_ROUTE = "/v1beta/models?pageSize=1000"
_METHODS = {"generateContent": "chat", "embedContent": "embeddings"}


class _List(msgspec.Struct):
    models: list[msgspec.Raw] | None = None
    nextPageToken: Any = None  # noqa: N815  (the provider's spelling)
    error: Any = None


_LIST = msgspec.json.Decoder(_List)


class GeminiModels(Inventory):
    """Gemini's list of models: `GET {base_url}/v1beta/models`."""

    name: ClassVar[str] = "gemini_models"

    def first(self, flags: Flags) -> Question:  # noqa: ARG002  (the route is the same everywhere)
        """Return the question for the first page; see `Inventory.first`."""
        return Question(path=_ROUTE)

    def page(self, head: Head, body: bytes, flags: Flags) -> Page:
        """Return a page of the list, which may be empty; see `Inventory.page`."""
        origin = Origin.of(head, flags, id_header=None)
        answer = decoded(_LIST, body, origin)
        if answer.error:
            raise reported(origin, body)
        token = as_word(answer.nextPageToken)
        return Page(
            models=tuple(_model(raw, origin) for raw in answer.models or ()),
            following=None if token is None else Question(path=f"{_ROUTE}&pageToken={quote(token, safe='')}"),
        )


def _model(raw: msgspec.Raw, origin: Origin) -> ModelInfo:
    told = listing.fields(raw, origin)
    methods = told.get("supportedGenerationMethods")
    can = {ours: theirs in methods for theirs, ours in _METHODS.items()} if isinstance(methods, list) else {}
    return ModelInfo(
        id=listing.identity(told.get("name"), origin).removeprefix("models/"),
        name=as_word(told.get("displayName")),
        context_window=as_count(told.get("inputTokenLimit")),
        max_output=as_count(told.get("outputTokenLimit")),
        capabilities=can | listing.flags({"reasoning": told.get("thinking")}),
        raw=Opaque(GeminiModels.name, bytes(raw)),
    )
