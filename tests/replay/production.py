"""A log as production writes it: many calls over HTTP, in several formats, answered by a mock that speaks them, some failing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from veyra import AuditLog, get_backend
from veyra.errors import ProviderError
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.testing import faults
from veyra.testing.server import FaultServer
from veyra.types import Message, Options, TextDelta, Timeouts, Tool

KEY = "sk-canary-0123456789"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}}
LOOK = Tool(name="look", description="Looks something up", parameters={"type": "object", "properties": {}})
MOST_AT_ONCE = 16
WAIT = Timeouts(first_token=15.0, between_events=15.0)


async def make(directory: Path, calls: int, *, rate: float) -> None:
    """Make so many calls and record them; a share of them meets a fault."""
    log = AuditLog(directory, mode="ordered")
    plan = faults.plan(seed=1, rate=rate)
    async with FaultServer(MockBackend(), faults=plan) as server:
        backends = [
            get_backend("openai", api="chat", base_url=server.openai_url, model="gpt-4o", api_key=KEY, audit=log),
            get_backend("openai", api="responses", base_url=server.openai_url, model="gpt-4o", api_key=KEY, audit=log),
            get_backend("anthropic", base_url=server.url, model="claude-haiku-4-5", api_key=KEY, audit=log),
            get_backend("ollama", base_url=server.url, model="llama3.2", audit=log),
        ]
        room = asyncio.Semaphore(MOST_AT_ONCE)
        chance = random.Random(1)
        plans = [(backends[number % len(backends)], chance.random(), number) for number in range(calls)]
        await asyncio.gather(*(_one(room, *plan) for plan in plans))
        for backend in backends:
            await backend.aclose()
    await log.aclose()


async def _one(room: asyncio.Semaphore, backend: Gate, chance: float, number: int) -> None:
    options: Options = {"timeout": WAIT}
    prompt: Any = f"Question {number} ☀: " + "why is that so? " * (number % 40)
    if chance < 0.2:
        prompt = [Message("user", "Hello"), Message("assistant", "Hi."), Message("user", prompt)]
    elif chance < 0.3:
        options |= {"output": SCHEMA}
    elif chance < 0.4:
        options |= {"tools": [LOOK]} if backend.name == "ollama" else {"tools": [LOOK], "tool_choice": "look"}
    elif chance < 0.5:
        options |= {"system": "Be brief.", "max_tokens": 500}
    async with room:
        try:
            if number % 3 == 0:
                await backend.generate(prompt, **options)
                return
            async with backend.stream(prompt, **options) as reply:
                async for event in reply:
                    if number % 20 == 1 and isinstance(event, TextDelta):
                        return  # leaves early
        except ProviderError:
            return
