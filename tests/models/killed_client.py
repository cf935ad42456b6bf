"""A caller that is killed again and again: forks a child that asks through Veyra, and waits for its death.

Arguments: base URL, log directory, number of children. Each child asks from eight tasks at once and writes the receipt
of every answer it was given to standard output, one line each, before it asks again. A child that is not killed ends
after some answers. The server kills a child by the number in its prompt.
"""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp  # noqa: F401  (loaded once, before the forks)

from veyra import get_backend
from veyra.models import wire  # noqa: F401
from veyra.transport import http  # noqa: F401
from veyra.wire import openai_chat  # noqa: F401

TASKS = 8
ROUNDS = 6


async def _ask(base_url: str, directory: str) -> None:
    backend = get_backend("openai", model="m", api_key="sk-test-0000", base_url=base_url, audit=directory)

    async def worker() -> None:
        for _ in range(ROUNDS):
            answer = await backend.generate(f"child {os.getpid()} ")
            if answer.receipt is None:
                raise AssertionError
            os.write(1, f"{answer.receipt.id}\n".encode())

    await asyncio.gather(*(worker() for _ in range(TASKS)))
    await backend.aclose()


def main() -> None:
    """Fork and wait, as often as asked."""
    base_url, directory, children = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for _ in range(children):
        child = os.fork()
        if child == 0:
            asyncio.run(_ask(base_url, directory))
            os._exit(0)  # a child does not run its parent's exit handlers
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
            sys.exit(f"a child failed with {os.WEXITSTATUS(status)}")


if __name__ == "__main__":
    main()
