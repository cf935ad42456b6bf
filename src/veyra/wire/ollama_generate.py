"""Ollama's native completion of a prompt: server half, which says in a conversation's words what it is asked.

1. `system` is the system text, `prompt` and `images` are the one turn of the user; all else is as in a chat.
2. A request without prompt and images asks for nothing: it has no message, and no system text either.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from veyra.types import Request
from veyra.wire.base import Encoder, Stamp
from veyra.wire.intake import Fields
from veyra.wire.ollama_reply import GenerateStreamReply, GenerateWholeReply
from veyra.wire.ollama_server import OllamaServer


class OllamaGenerateServer(OllamaServer):
    """Ollama's completion: `POST {base_url}/api/generate`."""

    path: ClassVar[str] = "/api/generate"

    def request(self, body: bytes) -> Request:
        """Return what a request asks for; see `ServerDialect.request`."""
        fields = Fields(body)
        system, prompt = fields.take("system", str), fields.take("prompt", str)
        images = fields.take("images", list[str])
        turns: list[dict[str, Any]] = []
        if prompt or images:
            turns = [{"role": "system", "content": system}] if system else []
            turns.append({"role": "user", "content": prompt or "", **({"images": images} if images else {})})
        rest = {name: value for name, value in fields.value().items() if name not in {"system", "prompt", "images"}}
        return super().request(msgspec.json.encode({**rest, "messages": turns}))

    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for an answer; see `ServerDialect.encoder`."""
        return GenerateStreamReply(stamp) if request.stream else GenerateWholeReply(stamp)
