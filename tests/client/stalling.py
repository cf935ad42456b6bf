"""A backend that answers at once, or stands still in the middle until somebody gives up; and a server that answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from loopback import STALL, Play, Received, reply
from veyra import AuditLog, BlockingClient, get_backend
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.types import Event, Finish, Request, TextDelta, Usage

GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def answer(received: Received) -> Play:
    """A good answer of Chat Completions; none at all to a prompt with `stall` in it."""
    if b"stall" in received.body:
        return [STALL]
    return reply(headers={"content-type": "application/json"}, body=json.dumps(GOOD).encode())


def over_http(url: str, log: AuditLog | str) -> BlockingClient:
    return BlockingClient(get_backend("openai", model="gpt-x", api_key="sk-test", base_url=f"{url}/v1", audit=log))


class Stalling(EventBackend):
    """Answers in two pieces; a prompt with `stall` in it gets the first and nothing more.

    It keeps nothing of what it was asked, so that what grows over many calls is not here.

    Args:
        stalled: called on the loop's thread when an answer stands still.
    """

    name = "stalling"

    def __init__(self, stalled: Callable[[], object] = lambda: None) -> None:
        self._stalled = stalled
        self.is_stalled = threading.Event()

    def defaults(self) -> Mapping[str, Any]:
        return {"model": "m"}

    async def health_check(self) -> bool:
        return True

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        yield TextDelta("Hello ")
        if "stall" in request.messages[-1].text:
            self.is_stalled.set()
            self._stalled()
            await asyncio.Event().wait()
        yield TextDelta("there")
        yield Finish(reason="stop", usage=Usage(input_total=1, output_total=2), model="m")
