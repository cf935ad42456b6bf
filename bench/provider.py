"""A fake provider for measurements and for the documentation's examples: OpenAI chat, Anthropic and Ollama on loopback.

    python bench/provider.py

It answers every call with the same sentence, whole or streamed as the request says, in the provider's own format. The
bytes are made once, and a request is looked at no closer than it must be, so that the provider costs little beside the
client that is measured. It runs in a process of its own, prints its port as the first line, and ends when its standard
input is closed, so it does not outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

TEXT = (
    "The log holds one intent and one outcome for each attempt. The intent is on disk before the first byte leaves, "
    "the outcome before the answer is handed on, and whoever keeps a receipt can show later that nothing was removed."
)
WORDS = re.findall(r"\S+\s*", TEXT)
TOKENS_IN, TOKENS_OUT = 17, len(WORDS)
INVENTORY = json.dumps({"object": "list", "data": [], "version": "0.0.0"}).encode()

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sse(events: Iterable[tuple[str | None, Mapping[str, object]]]) -> bytes:
    lines = [
        (b"" if name is None else f"event: {name}\n".encode()) + b"data: %b\n\n" % _json(data) for name, data in events
    ]
    return b"".join(lines)


def _openai_whole() -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    return _json(
        {
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
            "object": "chat.completion",
            "created": 1795392000,
            "model": "gpt-6-sol-2026-09-01",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": TOKENS_IN,
                "completion_tokens": TOKENS_OUT,
                "total_tokens": TOKENS_IN + TOKENS_OUT,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": "fp_b376dfbbd5",
        }
    )


def _openai_stream() -> bytes:
    chunk = {"id": "chatcmpl-B9MH", "object": "chat.completion.chunk", "created": 1795392000, "model": "gpt-6-sol"}
    usage = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT}
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS)]
    choices: list[dict[str, object]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [(None, chunk | {"choices": [choice], "usage": None}) for choice in choices]
    events.append((None, chunk | {"choices": [], "usage": usage}))
    return _sse(events) + b"data: [DONE]\n\n"


def _anthropic_whole() -> bytes:
    return _json(_anthropic_message([{"type": "text", "text": TEXT}], "end_turn", TOKENS_OUT))


def _anthropic_message(content: Sequence[Mapping[str, str]], reason: str | None, output: int) -> dict[str, object]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": output},
    }


def _anthropic_stream() -> bytes:
    deltas = [{"type": "text_delta", "text": word} for word in WORDS]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[Mapping[str, object]] = [
        {"type": "message_start", "message": _anthropic_message([], None, 1)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": TOKENS_OUT}},
        {"type": "message_stop"},
    ]
    return _sse((cast("str", event["type"]), event) for event in events)


def _ollama(content: str, *, done: bool) -> bytes:
    line: dict[str, object] = {
        "model": "llama3.2",
        "created_at": "2026-11-23T00:00:00Z",
        "message": {"role": "assistant", "content": content},
        "done": done,
    }
    if done:
        line |= {"done_reason": "stop", "prompt_eval_count": TOKENS_IN, "eval_count": TOKENS_OUT}
    return _json(line)


def _ollama_stream() -> bytes:
    return b"".join(_ollama(word, done=False) + b"\n" for word in WORDS) + _ollama("", done=True) + b"\n"


def _answer(media_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\nx-request-id: req_1\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


ANSWERS = {
    (b"/v1/chat/completions", False): _answer("application/json", _openai_whole()),
    (b"/v1/chat/completions", True): _answer("text/event-stream", _openai_stream()),
    (b"/v1/messages", False): _answer("application/json", _anthropic_whole()),
    (b"/v1/messages", True): _answer("text/event-stream", _anthropic_stream()),
    (b"/api/chat", False): _answer("application/json", _ollama(TEXT, done=True)),
    (b"/api/chat", True): _answer("application/x-ndjson", _ollama_stream()),
}
OTHERWISE = _answer("application/json", INVENTORY)


class Provider(asyncio.Protocol):
    """One connection: takes requests one after the other and answers each at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self._transport = cast("asyncio.Transport", transport)
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._data[:head_end]
        length = _LENGTH.search(head)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._data) < end:
            return
        body, self._data = self._data[head_end + 4 : end], self._data[end:]
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        self._transport.write(ANSWERS.get((path, bool(_STREAM.search(body))), OTHERWISE))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
