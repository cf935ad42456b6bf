"""A server half behind a socket: what a provider's own SDK can talk to."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from loopback import Loopback, Play, Received, in_thread, reply
from pairs import STAMP
from veyra.errors import VeyraError
from veyra.types import Event, Request
from veyra.wire.base import ServerDialect

Script: TypeAlias = Sequence[Event | VeyraError]
"""What is answered: events; an error instead of them, or after some of them, in the answer."""


class Provider:
    """Answers requests of one dialect by a script, and keeps what was asked.

    Attributes:
        requests: what was asked, as the server half read it.
        url: what the SDK is given as its base URL.
    """

    def __init__(self, server: ServerDialect, script: Script, *, prefix: str = "") -> None:
        self._server = server
        self._script = script
        self._prefix = prefix
        self.requests: list[Request] = []
        self.url = ""

    def answer(self, received: Received) -> Play:
        """The play for one request."""
        assert received.method == "POST"
        assert received.target == self._prefix + self._server.path
        try:
            request = self._server.request(received.body)
        except VeyraError as error:
            return self._refuse(error)
        self.requests.append(request)
        first = self._script[0]
        if isinstance(first, VeyraError):
            return self._refuse(first)
        encoder = self._server.encoder(request, STAMP)
        times = itertools.count(1)
        pieces = [
            encoder.failure(step) if isinstance(step, VeyraError) else encoder.write(step, elapsed=0.25 * next(times))
            for step in self._script
        ]
        head = encoder.head()
        return reply(head.status, head.headers, pieces, chunked=request.stream)

    def _refuse(self, error: VeyraError) -> Play:
        refusal = self._server.failure(error, STAMP.request_id)
        return reply(refusal.head.status, refusal.head.headers, refusal.body)


@contextlib.contextmanager
def provider(server: ServerDialect, script: Script, *, prefix: str = "") -> Iterator[Provider]:
    """Serve a script on loopback while the context lasts."""
    serving = Provider(server, script, prefix=prefix)
    with in_thread(Loopback(serving.answer)) as line:
        serving.url = line.url + prefix
        yield serving
