"""A stand-in for three providers on this machine: their true wire formats, and no model behind them.

It answers OpenAI Chat Completions (`/v1/chat/completions`), Anthropic Messages (`/v1/messages`) and Ollama (`/api/chat`),
streamed or whole, with the ids, usage and headers that the real ones send, and refuses a call without a key as they do.
It needs nothing but Python, prints its address on its first line and runs until it is ended:

    python examples/loopback_providers.py [PORT]
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from typing import Any, ClassVar, TypeAlias

JSON: TypeAlias = dict[str, Any]

PAUSE = 0.01
"""Seconds between two pieces of a stream."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asked for, whichever format it came in, and what is answered."""

    model: str
    words: int
    stream: bool
    pieces: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: how it calls itself, where its key and its request id travel, and how it speaks."""

    name: str
    key_header: str | None
    id_header: str | None
    id_prefix: str
    stream_type: str
    whole: Callable[[Asked], JSON]
    streamed: Callable[[Asked], Iterator[bytes]]
    refusal: JSON


def understood(provider: str, body: JSON) -> Asked:
    """Read a request's body; the three formats agree in what matters here."""
    contents = [message["content"] for message in body["messages"]] + [body.get("system") or ""]
    words = sum(len(text.split()) for content in contents for text in texts(content))
    answer = f"This is {provider}'s wire format on loopback: {words:,} words came in, and no model was asked."
    stream = body.get("stream", provider == "Ollama")
    return Asked(body["model"], words, stream, tuple(re.findall(r"\S+\s*", answer)))


def texts(content: str | list[JSON]) -> list[str]:
    """Return the texts of a message's content: a string, or blocks of which some are text."""
    return [content] if isinstance(content, str) else [block.get("text", "") for block in content]


def sse(data: JSON, event: str | None = None) -> bytes:
    """Write one server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


# ------------------------------------------------------------------------------------------------- OpenAI


def openai_usage(asked: Asked) -> JSON:
    """Count tokens as words."""
    done = len(asked.pieces)
    return {
        "prompt_tokens": asked.words,
        "completion_tokens": done,
        "total_tokens": asked.words + done,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def openai_whole(asked: Asked) -> JSON:
    """Answer as one `chat.completion`."""
    message: JSON = {"role": "assistant", "content": asked.answer, "refusal": None, "annotations": []}
    return {
        "id": f"chatcmpl-{token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": openai_usage(asked),
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }


def openai_streamed(asked: Asked) -> Iterator[bytes]:
    """Answer as `chat.completion.chunk`s: role, text, finish reason, usage, `[DONE]`."""
    common = {
        "id": f"chatcmpl-{token_hex(12)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": asked.model,
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }

    def chunk(delta: JSON, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(common | {"choices": [choice], "usage": None, "obfuscation": token_hex(3)})

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in asked.pieces:
        yield chunk({"content": piece})
    yield chunk({}, "stop")
    yield sse(common | {"choices": [], "usage": openai_usage(asked)})
    yield b"data: [DONE]\n\n"


# ---------------------------------------------------------------------------------------------- Anthropic


def anthropic_usage(asked: Asked, done: int) -> JSON:
    """Count tokens as words; what goes through the cache is counted apart."""
    return {
        "input_tokens": asked.words,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": done,
        "service_tier": "standard",
    }


def anthropic_whole(asked: Asked) -> JSON:
    """Answer as one `message`."""
    return {
        "id": f"msg_{token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": asked.answer}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": anthropic_usage(asked, len(asked.pieces)),
    }


def anthropic_streamed(asked: Asked) -> Iterator[bytes]:
    """Answer as `message_start`, one block of text, `message_delta` with the cumulative usage, `message_stop`."""
    message = anthropic_whole(asked) | {"content": [], "stop_reason": None, "usage": anthropic_usage(asked, 1)}
    block = {"index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}

    def event(kind: str, data: JSON) -> bytes:
        return sse({"type": kind} | data, kind)

    yield event("message_start", {"message": message})
    yield event("content_block_start", block)
    yield event("ping", {})
    for piece in asked.pieces:
        yield event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield event("content_block_stop", {"index": 0})
    yield event("message_delta", delta | {"usage": {"output_tokens": len(asked.pieces)}})
    yield event("message_stop", {})


# ------------------------------------------------------------------------------------------------- Ollama


def ollama_object(asked: Asked, text: str) -> JSON:
    """Write what every object of an answer holds."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": asked.model, "created_at": now, "message": {"role": "assistant", "content": text}}


def ollama_end(asked: Asked) -> JSON:
    """Write what the last object holds besides; times are in nanoseconds."""
    return {
        "done": True,
        "done_reason": "stop",
        "total_duration": 181_000_000,
        "load_duration": 41_000_000,
        "prompt_eval_count": asked.words,
        "prompt_eval_duration": 28_000_000,
        "eval_count": len(asked.pieces),
        "eval_duration": 112_000_000,
    }


def ollama_whole(asked: Asked) -> JSON:
    """Answer as one object."""
    return ollama_object(asked, asked.answer) | ollama_end(asked)


def ollama_streamed(asked: Asked) -> Iterator[bytes]:
    """Answer as one JSON object on each line."""
    for piece in asked.pieces:
        yield json.dumps(ollama_object(asked, piece) | {"done": False}).encode() + b"\n"
    yield json.dumps(ollama_object(asked, "") | ollama_end(asked)).encode() + b"\n"


# ------------------------------------------------------------------------------------------------- server

PROVIDERS = {
    "/v1/chat/completions": Provider(
        name="OpenAI",
        key_header="authorization",
        id_header="x-request-id",
        id_prefix="req_",
        stream_type="text/event-stream; charset=utf-8",
        whole=openai_whole,
        streamed=openai_streamed,
        refusal={
            "error": {
                "message": "You didn't provide an API key.",
                "type": "invalid_request_error",
                "param": None,
                "code": "invalid_api_key",
            }
        },
    ),
    "/v1/messages": Provider(
        name="Anthropic",
        key_header="x-api-key",
        id_header="request-id",
        id_prefix="req_01",
        stream_type="text/event-stream; charset=utf-8",
        whole=anthropic_whole,
        streamed=anthropic_streamed,
        refusal={
            "type": "error",
            "error": {"type": "authentication_error", "message": "x-api-key header is required"},
        },
    ),
    "/api/chat": Provider(
        name="Ollama",
        key_header=None,
        id_header=None,
        id_prefix="",
        stream_type="application/x-ndjson",
        whole=ollama_whole,
        streamed=ollama_streamed,
        refusal={},
    ),
}
INVENTORY: dict[str, JSON] = {
    "/v1/models": {"object": "list", "data": [{"id": "loopback-1", "object": "model"}]},
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest"}]},
}


class Loopback(BaseHTTPRequestHandler):
    """Routes a request to its provider and writes the answer, chunked where it is streamed."""

    protocol_version = "HTTP/1.1"
    server_version = "loopback"
    json_type: ClassVar = "application/json"

    def handle(self) -> None:
        """Serve a connection until the caller hangs up; a provider stops generating then, too."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Answer the routes that ask for no generation."""
        found = INVENTORY.get(self.path.partition("?")[0])
        self.answer(404 if found is None else 200, found or {"error": "not found"}, {})

    def do_POST(self) -> None:
        """Answer one call."""
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        provider = PROVIDERS.get(self.path)
        if provider is None:
            self.answer(404, {"error": "not found"}, {})
            return
        ids = {provider.id_header: provider.id_prefix + token_hex(12)} if provider.id_header else {}
        if provider.key_header and not self.headers.get(provider.key_header):
            self.answer(401, provider.refusal, ids)
            return
        asked = understood(provider.name, json.loads(data))
        if not asked.stream:
            self.answer(200, provider.whole(asked), ids)
            return
        self.begin(200, ids | {"content-type": provider.stream_type, "transfer-encoding": "chunked"})
        for piece in provider.streamed(asked):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(PAUSE)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, value: JSON, headers: dict[str, str]) -> None:
        """Write a whole answer."""
        body = json.dumps(value).encode()
        self.begin(status, headers | {"content-type": self.json_type, "content-length": str(len(body))})
        self.wfile.write(body)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Write status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
        """Say nothing: whoever started the server reads its first line only."""


def main() -> None:
    """Listen on loopback, at the port given or a free one."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with ThreadingHTTPServer(("127.0.0.1", port), Loopback) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
