"""Ollama's `/api/embed`.

A text longer than the context is cut silently unless `truncate` is false; it is sent as false, and reported as applied,
unless the caller sets it in `extra` (wire facts, 4).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Embedded, EmbedRequest, Usage
from veyra.wire import payload, vectors
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.ollama_answer import reported
from veyra.wire.reading import as_count, as_word
from veyra.wire.routes import Embedding, decoded


class _Answer(msgspec.Struct):
    embeddings: list[tuple[float, ...]] | None = None
    model: Any = None
    prompt_eval_count: Any = None
    error: Any = None


_ANSWER = msgspec.json.Decoder(_Answer)


class OllamaEmbeddings(Embedding):
    """Ollama embeddings: `POST {base_url}/api/embed`."""

    name: ClassVar[str] = "ollama_embeddings"

    def encode(self, request: EmbedRequest, flags: Flags) -> Encoded:
        """Return the bytes that ask for vectors; see `Embedding.encode`."""
        applied = {} if "truncate" in request.extra else {"truncate": False}
        body: dict[str, Any] = {"model": request.model, "input": request.texts, **applied}
        body.update(payload.given({"dimensions": request.dimensions}))
        body.update(request.extra)
        return Encoded(path="/api/embed", body=payload.dump(body, flags), headers=payload.JSON_HEADERS, applied=applied)

    def decode(self, head: Head, body: bytes, flags: Flags) -> Embedded:
        """Return the vectors of an answer; see `Embedding.decode`."""
        origin = Origin.of(head, flags, id_header=None)
        answer = decoded(_ANSWER, body, origin)
        if answer.embeddings is None:
            raise reported(origin, body) if answer.error else origin.malformed("there are no embeddings in it", body)
        return Embedded(
            vectors=vectors.read(answer.embeddings, "float", origin),
            usage=Usage(input_total=as_count(answer.prompt_eval_count)),
            model=as_word(answer.model),
        )
