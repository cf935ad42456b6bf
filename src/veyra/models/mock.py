"""The mock: a backend that asks no model. Deterministic, offline, and on the record like any other.

Reference implementation of a backend that is written as events.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from hashlib import shake_256
from typing import Any, TypeAlias

from veyra.errors import InvalidRequestError
from veyra.models.base import Exchange, events_of
from veyra.models.gate import EventBackend
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    Finish,
    ModelInfo,
    ModelResponse,
    Request,
    TextDelta,
    TokenCount,
    Usage,
)

Scripted: TypeAlias = str | ModelResponse | BaseException
Replies: TypeAlias = Scripted | Sequence[Scripted] | Callable[[Request], Scripted]


DIMENSIONS = 64
"""Length of the mock's vectors unless another is asked for."""


class MockBackend(EventBackend):
    """Answers from a script, or, without one, says what it was asked. Tokens are counted as words.

    Args:
        replies: the answer to every call (a `str`, a `ModelResponse`, or an exception to raise); a sequence of them, one
            for each call; or a function of the request. Without it the mock describes the prompt.
        model: the model's name in answers to calls that name none.
        healthy: what `health_check` says.

    Attributes:
        calls: the requests the mock was asked, in order.
    """

    name = "mock"

    def __init__(self, replies: Replies | None = None, *, model: str = "mock", healthy: bool = True) -> None:
        known = replies is None or isinstance(replies, str | ModelResponse | BaseException | Sequence)
        if not known and not callable(replies):
            kind = type(replies).__name__
            msg = f"replies are a str, a ModelResponse, an exception, a sequence of them or a function, not {kind}"
            raise InvalidRequestError(msg)
        self.model = model
        self.healthy = healthy
        self.calls: list[Request] = []
        self._replies = replies

    def __repr__(self) -> str:
        return f"<mock backend, {len(self.calls)} calls>"

    def defaults(self) -> Mapping[str, Any]:
        """Return the mock's model."""
        return {"model": self.model}

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:  # noqa: ARG002  (no bytes)
        """Yield the scripted answer, word by word."""
        self.calls.append(request)
        reply = self._reply(request)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ModelResponse):
            for event in events_of(reply):
                yield event
            return
        for piece in re.findall(r"\S+\s*|\s+", reply):
            yield TextDelta(piece)
        yield Finish(
            reason="stop",
            usage=Usage(input_total=_words_asked(request), output_total=len(reply.split())),
            model=request.model,
            response_id=f"mock-{len(self.calls)}",
        )

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:  # noqa: ARG002  (no bytes)
        """Return an exchange without bytes."""
        return Exchange(provider=self.name)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:  # noqa: ARG002  (no bytes)
        """Return a vector of length 1 for each text: the same for the same text, always; nothing is near to anything."""
        length = request.dimensions or DIMENSIONS
        return Embedded(
            vectors=tuple(_direction(text, length) for text in request.texts),
            usage=Usage(input_total=sum(len(text.split()) for text in request.texts)),
            model=request.model,
        )

    async def models(self, *, details: bool = False) -> tuple[ModelInfo, ...]:  # noqa: ARG002  (nothing more to tell)
        """Return the mock's one model."""
        return (ModelInfo(id=self.model, owned_by="veyra", capabilities={"chat": True, "embeddings": True}),)

    def prepare_counting(self, request: Request) -> Exchange:  # noqa: ARG002  (no bytes)
        """Return an exchange without bytes."""
        return Exchange(provider=self.name)

    async def counting(self, request: Request, exchange: Exchange) -> TokenCount:  # noqa: ARG002  (no bytes)
        """Count the words, which are the mock's tokens."""
        return TokenCount(tokens=_words_asked(request), estimated=False, source="mock: words")

    async def health_check(self) -> bool:
        """Say what the mock was told to say."""
        return self.healthy

    def _reply(self, request: Request) -> Scripted:
        replies = self._replies
        if replies is None:
            return _describe(request)
        if isinstance(replies, str | ModelResponse | BaseException):
            return replies
        if isinstance(replies, Sequence):
            if len(self.calls) > len(replies):
                msg = f"the mock has {len(replies)} replies and was called {len(self.calls)} times"
                raise InvalidRequestError(msg)
            return replies[len(self.calls) - 1]
        return replies(request)


def _direction(text: str, length: int) -> tuple[float, ...]:
    """Return a vector of length 1 that depends on every byte of the text, drawn from its hash."""
    data = shake_256(text.encode()).digest(4 * length)
    numbers = [number / 2**31 for number in struct.unpack(f"<{length}i", data)]
    norm = math.hypot(*numbers)
    return tuple(number / norm for number in numbers)


def _words_asked(request: Request) -> int:
    return sum(len(message.text.split()) for message in request.messages) + len((request.system or "").split())


def _describe(request: Request) -> str:
    text = request.messages[-1].text
    words = text.split()
    start = " ".join(words[:12]) + (" ..." if len(words) > 12 else "")
    lines = text.count("\n") + (not text.endswith("\n"))
    return (
        f"This is the mock: no model was asked. Your prompt has {_count(len(words), 'word')} in {_count(lines, 'line')} "
        f"and begins: {start}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
