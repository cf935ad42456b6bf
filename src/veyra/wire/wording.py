"""A format's own words for faults: the `veyra.transport.playing.Form` of every dialect with a server half.

1. What is said is what the server half says of an error. Whether and when to try again is left out: a fault says that itself,
   or nobody does.
2. A sign of life is what servers of the format send: an event `ping` (Anthropic), a comment (OpenAI and what follows it), a
   line or an event whose text is empty (Ollama, Gemini), and a space where a body is one JSON document.
"""

from __future__ import annotations

from collections.abc import Mapping

from veyra.errors import ProviderError
from veyra.transport.playing import Answer
from veyra.types import TextDelta
from veyra.wire.base import Encoder, ServerDialect
from veyra.wire.serving import JSON_TYPE

_AGAIN = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})
_PINGS: Mapping[str, bytes] = {
    "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
    "openai_chat": b": keep-alive\n\n",
    "openai_responses": b": keep-alive\n\n",
}


class Wording:
    """The words of one answer.

    Args:
        server: the format's server half.
        request_id: the exchange's id.
        encoder: the answer's own, which an error inside it ends; None where the answer is no model's.
        streamed: whether that is a stream.
    """

    def __init__(
        self, server: ServerDialect, *, request_id: str, encoder: Encoder | None = None, streamed: bool = False
    ) -> None:
        self._server = server
        self._request_id = request_id
        self._encoder = encoder
        self._streamed = streamed

    @property
    def ping(self) -> bytes:
        """A sign of life."""
        if self._encoder is None or not self._streamed or _is_document(self._encoder):
            return b" "
        return _PINGS.get(self._server.name) or self._encoder.write(TextDelta(""))

    def refusal(self, error: ProviderError) -> Answer:
        """Return the answer that tells an error."""
        refusal = self._server.failure(error, self._request_id)
        headers = {name: value for name, value in refusal.head.headers.items() if name not in _AGAIN}
        return Answer(status=refusal.head.status, headers=headers, chunks=[refusal.body])

    def inside(self, error: ProviderError) -> bytes:
        """Return what tells an error inside an answer."""
        if self._encoder is None:
            return self._server.failure(error, self._request_id).body
        return self._encoder.failure(error)


def _is_document(encoder: Encoder) -> bool:
    """Say whether an answer is one JSON document, in pieces or not."""
    return encoder.head().headers["content-type"].startswith(JSON_TYPE)
