"""A fake provider for measurements: answers every request with one and the same chat completion.

    python bench/provider.py

The answer's bytes are made once, and a request is looked at no closer than to find its end, so that the provider costs
little beside the client that is measured. It runs in a process of its own, prints its port on the first line, and
ends when its standard input is closed, so it does not outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import cast

TEXT = (
    "The log holds one intent and one outcome for each attempt. The intent is on disk before the first byte leaves, "
    "the outcome before the answer is handed on, and whoever keeps a receipt can show later that nothing was removed."
)
TOKENS_IN, TOKENS_OUT = 17, 41

_BODY = json.dumps(
    {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion",
        "created": 1795392000,
        "model": "gpt-6-sol-2026-09-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
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
).encode()
_HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: {len(_BODY)}\r\n\r\n"
)
_ANSWER = _HEAD.encode() + _BODY
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Provider(asyncio.Protocol):
    """One connection: takes requests one after the other and answers each as soon as it is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self._transport = cast("asyncio.Transport", transport)
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Answer, if this was the end of a request."""
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._data, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._data) >= end:
            self._data = self._data[end:]
            self._transport.write(_ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
