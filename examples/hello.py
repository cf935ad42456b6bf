"""One question, one answer, and where it stands in the log. Needs no key: the mock asks no model."""

import asyncio

from veyra import get_backend


async def main() -> None:
    """Ask the mock."""
    async with get_backend("mock") as backend:
        response = await backend.generate("Hello")
    print(response.content)
    print(response.receipt)


asyncio.run(main())
