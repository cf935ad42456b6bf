"""Gemini's `batchEmbedContents`.

1. Each text is a request of its own within the batch, so each gets a vector of its own. (The contents of one request
   become one vector together.)
2. Options stand in each of these requests, and `extra` with them: `taskType`, `title`.
3. What it used is told for newer models only.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Embedded, EmbedRequest, Usage
from veyra.wire import payload, vectors
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.gemini_errors import reported
from veyra.wire.gemini_names import resource
from veyra.wire.reading import as_count
from veyra.wire.routes import Embedding, decoded


class _Usage(msgspec.Struct):
    promptTokenCount: Any = None  # noqa: N815  (the provider's spelling)


class _Vector(msgspec.Struct):
    values: tuple[float, ...]


class _Answer(msgspec.Struct):
    embeddings: list[_Vector] | None = None
    embedding: _Vector | None = None
    usageMetadata: _Usage | None = None  # noqa: N815
    error: Any = None


_ANSWER = msgspec.json.Decoder(_Answer)


class GeminiEmbeddings(Embedding):
    """Gemini embeddings: `POST {base_url}/v1beta/models/{model}:batchEmbedContents`."""

    name: ClassVar[str] = "gemini_embeddings"

    def encode(self, request: EmbedRequest, flags: Flags) -> Encoded:
        """Return the bytes that ask for vectors; see `Embedding.encode`."""
        name = resource(request.model or "")
        options = payload.given({"outputDimensionality": request.dimensions}) | dict(request.extra)
        items = [{"model": name, "content": _content(text), **options} for text in request.texts]
        return Encoded(
            path=f"/v1beta/{name}:batchEmbedContents",
            body=payload.dump({"requests": items}, flags),
            headers=payload.JSON_HEADERS,
        )

    def decode(self, head: Head, body: bytes, flags: Flags) -> Embedded:
        """Return the vectors of an answer, of a batch or of a single request; see `Embedding.decode`."""
        origin = Origin.of(head, flags, id_header=None)
        answer = decoded(_ANSWER, body, origin)
        found = answer.embeddings
        if found is None and answer.embedding is not None:
            found = [answer.embedding]
        if found is None:
            raise reported(origin, body) if answer.error else origin.malformed("there are no embeddings in it", body)
        usage = answer.usageMetadata
        return Embedded(
            vectors=vectors.read([vector.values for vector in found], "float", origin),
            usage=Usage(input_total=None if usage is None else as_count(usage.promptTokenCount)),
        )


def _content(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": text}]}
