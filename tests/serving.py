"""A backend that tells a script, and the fault server in front of it: what a provider's own SDK can talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import TypeAlias

from veyra.errors import VeyraError
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.testing.server import FaultServer
from veyra.types import Event, Request

Script: TypeAlias = Sequence[Event | VeyraError]
"""What is answered: events; an error instead of them, or after some of them, in the answer."""


class Scripted(EventBackend):
    """Answers every call by a script.

    Attributes:
        requests: what was asked, as the server half read it.
        stopped: set when an answer has ended, or was told to end.
    """

    name = "scripted"

    def __init__(self, script: Iterable[Event | VeyraError], *, then_wait: bool = False) -> None:
        self._script = list(script)
        self._then_wait = then_wait
        self.stopped = asyncio.Event()
        self.requests: list[Request] = []

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        try:
            for step in self._script:
                if isinstance(step, VeyraError):
                    raise step
                yield step
            if self._then_wait:
                await asyncio.get_running_loop().create_future()
        finally:
            self.stopped.set()

    async def health_check(self) -> bool:
        return True


def provider(script: Script) -> FaultServer:
    """Return a server that answers by a script; for `with`."""
    return FaultServer(Scripted(script))
