"""One contender of `bench/calls.py`, in a process of its own: makes as many calls as it is told and says what they cost.

    python bench/client.py CONTENDER BASE_URL

Each line of standard input is a number of calls; for each, one line comes back: the CPU seconds (user and system, all
threads of this process) that they took together. The calls go out one at a time over a connection that is kept.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from provider import TEXT, TOKENS_OUT

PROMPT = "In two sentences: what does the log hold, and when is it on disk?"
MODEL, KEY, LIMIT = "gpt-6-sol", "sk-bench", 200

Call: TypeAlias = Callable[[], Awaitable[tuple[str, int]]]
"""Makes one call and returns the answer's text and its tokens."""


@asynccontextmanager
async def _floor(base_url: str) -> AsyncIterator[Call]:
    """The least that a client can do."""
    import aiohttp

    import floor

    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def call() -> tuple[str, int]:
            return await floor.ask(session, base_url, prompt=PROMPT, model=MODEL, max_tokens=LIMIT)

        yield call


@asynccontextmanager
async def _veyra(base_url: str, audit: str) -> AsyncIterator[Call]:
    from veyra import get_backend

    async with get_backend("openai", model=MODEL, api_key=KEY, base_url=base_url, audit=audit) as backend:

        async def call() -> tuple[str, int]:
            response = await backend.generate(PROMPT, max_tokens=LIMIT)
            return response.content, response.completion_tokens

        yield call


def _veyra_memory(base_url: str) -> AbstractAsyncContextManager[Call]:
    """Veyra with its log in memory."""
    return _veyra(base_url, "memory")


@asynccontextmanager
async def _veyra_durable(base_url: str) -> AsyncIterator[Call]:
    """Veyra with its log on disk, every entry synced before the call goes on."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with _veyra(base_url, directory) as call:
            yield call


@asynccontextmanager
async def _veyra_client(base_url: str) -> AsyncIterator[Call]:
    """Veyra's `Client` with its default policies, the log in memory."""
    from veyra import Client, get_backend

    target = get_backend("openai", model=MODEL, api_key=KEY, base_url=base_url, audit="memory")
    async with Client(target) as client:

        async def call() -> tuple[str, int]:
            response = await client.generate(PROMPT, max_tokens=LIMIT)
            return response.content, response.completion_tokens

        yield call


@asynccontextmanager
async def _openai(base_url: str) -> AsyncIterator[Call]:
    """OpenAI's own SDK."""
    from openai import AsyncOpenAI  # pyright: ignore[reportMissingImports]  # of the bench group

    async with AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0) as client:

        async def call() -> tuple[str, int]:
            response = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": PROMPT}], max_completion_tokens=LIMIT
            )
            content, usage = response.choices[0].message.content, response.usage
            if content is None or usage is None:
                raise AssertionError
            return content, usage.completion_tokens

        yield call


CONTENDERS: dict[str, Callable[[str], AbstractAsyncContextManager[Call]]] = {
    "floor": _floor,
    "veyra-memory": _veyra_memory,
    "veyra-client": _veyra_client,
    "veyra-durable": _veyra_durable,
    "openai-sdk": _openai,
}


async def _run(contender: str, base_url: str) -> None:
    async with CONTENDERS[contender](base_url) as call:
        for line in sys.stdin:
            calls = int(line)
            start = time.process_time()
            answers = [await call() for _ in range(calls)]
            spent = time.process_time() - start
            assert set(answers) == {(TEXT, TOKENS_OUT)}
            print(spent, flush=True)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2]))
