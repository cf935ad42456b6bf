"""A backend of your own: a name and two methods. It is streamed, timed and recorded like the built-in ones."""

import asyncio

from veyra import BaseModelBackend, ModelResponse, get_backend, register_backend


class Shout(BaseModelBackend):
    """Says loudly what it was asked."""

    name = "shout"

    async def generate(self, prompt: str, **options: object) -> ModelResponse:
        """Answer in capitals."""
        loud = prompt.upper()
        return ModelResponse(loud, "shout-1", self.name, 0.0, len(prompt.split()), len(loud.split()), None)

    async def health_check(self) -> bool:
        """Shouting always works."""
        return True


async def main() -> None:
    """Ask it through the registry, as any other."""
    register_backend("shout", Shout)
    async with get_backend("shout") as backend, backend.stream("good morning") as reply:
        async for event in reply:
            print(event)
        print(reply.response.receipt)


asyncio.run(main())
