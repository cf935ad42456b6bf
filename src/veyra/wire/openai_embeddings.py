"""OpenAI's `/embeddings`, and what speaks it.

1. Where the endpoint takes it, vectors are asked for in base64: less than half the bytes, read faster, and exact
   (`Flags.vectors`). What comes is read by what it is, since some servers pass over the wish.
2. Vectors are put in the order of their `index`. Where no vector has one, they are in order; where some lack one, or two
   have the same, nobody can say which text is whose, and the answer is malformed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Embedded, EmbedRequest, Usage
from veyra.wire import payload, vectors
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.openai_chat_errors import reported
from veyra.wire.reading import as_count, as_word
from veyra.wire.routes import Embedding, decoded


class _Usage(msgspec.Struct):
    prompt_tokens: Any = None


class _Item(msgspec.Struct):
    embedding: tuple[float, ...] | str
    index: int | None = None


class _List(msgspec.Struct):
    data: list[_Item] | None = None
    model: Any = None
    id: Any = None
    usage: _Usage | None = None
    error: Any = None


_LIST = msgspec.json.Decoder(_List)


class OpenAIEmbeddings(Embedding):
    """OpenAI embeddings: `POST {base_url}/embeddings`."""

    name: ClassVar[str] = "openai_embeddings"

    def encode(self, request: EmbedRequest, flags: Flags) -> Encoded:
        """Return the bytes that ask for vectors; see `Embedding.encode`."""
        body: dict[str, Any] = {"model": request.model, "input": request.texts}
        options = {
            "dimensions": request.dimensions,
            "encoding_format": "base64" if flags.vectors == "base64" else None,
        }
        body.update(payload.given(options))
        body.update(request.extra)
        return Encoded(path="/embeddings", body=payload.dump(body, flags), headers=payload.JSON_HEADERS)

    def decode(self, head: Head, body: bytes, flags: Flags) -> Embedded:
        """Return the vectors of an answer; see `Embedding.decode`."""
        origin = Origin.of(head, flags, id_header="x-request-id")
        answer = decoded(_LIST, body, origin)
        if answer.data is None:
            raise reported(origin, body) if answer.error else origin.malformed("there is no data in it", body)
        return Embedded(
            vectors=vectors.read([item.embedding for item in _ordered(answer.data, origin)], flags.vectors, origin),
            usage=Usage(input_total=None if answer.usage is None else as_count(answer.usage.prompt_tokens)),
            model=as_word(answer.model),
            request_id=origin.request_id or as_word(answer.id),
        )


def _ordered(items: list[_Item], origin: Origin) -> list[_Item]:
    indexes = [item.index for item in items]
    if all(index is None for index in indexes):
        return items
    numbers = {index: item for index, item in zip(indexes, items, strict=True) if index is not None}
    if sorted(numbers) != list(range(len(items))):
        what = f"the vectors are numbered {indexes[:10]}, so that nobody can say which text is whose"
        raise origin.malformed(what)
    return [numbers[index] for index in sorted(numbers)]
