"""The two halves of each dialect, facing each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import answers
from veyra.transport.base import Head
from veyra.types import Event, Request
from veyra.wire.anthropic import Anthropic
from veyra.wire.anthropic_server import AnthropicServer
from veyra.wire.base import Dialect, Encoder, Flags, ServerDialect, Stamp
from veyra.wire.gemini import Gemini
from veyra.wire.gemini_server import GeminiServer
from veyra.wire.ollama import Ollama
from veyra.wire.ollama_server import OllamaServer
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_chat_server import OpenAIChatServer
from veyra.wire.openai_responses import OpenAIResponses
from veyra.wire.openai_responses_server import OpenAIResponsesServer

STAMP = Stamp(id="id_1", request_id="req_1", model="some-model", created=1_700_000_000.25)


@dataclass(frozen=True)
class Pair:
    """A dialect, and the flags with which its client half can say all that its server half reads."""

    client: Dialect
    server: ServerDialect
    flags: Flags

    def arrives(self, request: Request) -> Request:
        """What the server half reads of what the client half sends."""
        encoded = self.client.encode(request, self.flags)
        return self.server.at(encoded.path).request(encoded.body)

    def reads(self, body: bytes, model: str = "m") -> Request:
        """What the server half reads of a body that is sent to where it listens."""
        return self.server.at(self.server.path.format(model=model)).request(body)

    def written(
        self, events: Iterable[Event], *, stream: bool, stamp: Stamp = STAMP, pause: float = 0.5
    ) -> tuple[Head, list[bytes]]:
        """What the server half writes for events that come `pause` seconds apart."""
        encoder = self.encoder(stream=stream, stamp=stamp)
        times = itertools.count(1)
        return encoder.head(), [encoder.write(event, elapsed=pause * next(times)) for event in events]

    def encoder(self, *, stream: bool, stamp: Stamp = STAMP) -> Encoder:
        """An encoder for an answer to a request that asks for usage, where that must be asked for."""
        extra = {"stream_options": {"include_usage": True}} if self.client.name == "openai_chat" else {}
        request = Request(prompt="", messages=(), model="some-model", max_tokens=9, stream=stream, extra=extra)
        return self.server.encoder(request, stamp)

    def read(self, head: Head, pieces: Sequence[bytes], *, stream: bool) -> answers.Answer:
        """What the client half reads of that."""
        return answers.run(self.client.decoder(head, self.flags, stream=stream), pieces)


PAIRS = {
    "openai_chat": Pair(OpenAIChat(), OpenAIChatServer(), Flags(provider="test", prompt_cache_options=True)),
    "openai_responses": Pair(
        OpenAIResponses(), OpenAIResponsesServer(), Flags(provider="test", prompt_cache_options=True)
    ),
    "anthropic": Pair(Anthropic(), AnthropicServer(), Flags(provider="test")),
    "ollama": Pair(Ollama(), OllamaServer(), Flags(provider="test")),
    "gemini": Pair(Gemini(), GeminiServer(), Flags(provider="test")),
}
