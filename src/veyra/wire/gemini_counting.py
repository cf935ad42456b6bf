"""Gemini's `countTokens`: the conversation alone, or, where there is more than that, the whole request."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Request
from veyra.wire import payload
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.gemini import Gemini
from veyra.wire.gemini_names import resource
from veyra.wire.routes import Counting, decoded, fields_of, prompt_only


class _Count(msgspec.Struct):
    totalTokens: int  # noqa: N815  (the provider's spelling)


_COUNT = msgspec.json.Decoder(_Count)


class GeminiCounting(Counting):
    """Gemini's counting: `POST {base_url}/v1beta/models/{model}:countTokens`."""

    name: ClassVar[str] = "gemini_counting"

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes that ask for the count; see `Counting.encode`."""
        name = resource(request.model or "")
        body: dict[str, Any] = fields_of(Gemini().encode(prompt_only(request), flags).body)
        if body.keys() != {"contents"}:
            body = {"generateContentRequest": {"model": name, **body}}
        return Encoded(path=f"/v1beta/{name}:countTokens", body=payload.dump(body, flags), headers=payload.JSON_HEADERS)

    def decode(self, head: Head, body: bytes, flags: Flags) -> int:
        """Return the count; see `Counting.decode`."""
        return decoded(_COUNT, body, Origin.of(head, flags, id_header=None)).totalTokens
