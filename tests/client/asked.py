"""Backends whose attempts end as a test says, and the time at which each was made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from veyra.errors import (
    AuthenticationError,
    BackendError,
    CallTimeoutError,
    ConnectionFailedError,
    ContentPolicyError,
    ContextLengthError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedParameterError,
)
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.types import Embedded, EmbedRequest, Event, Finish, ModelWarning, Request, TextDelta, Usage


def failures() -> list[ProviderError]:
    """Return an error of each kind, and both of a kind that may be billed, or is tried again, in some cases only."""
    return [
        AuthenticationError("no"),
        PermissionDeniedError("no"),
        QuotaError("no", status=429),
        NotFoundError("no"),
        InvalidRequestError("no"),
        InvalidRequestError("no", status=409, retryable=True),
        ContextLengthError("no"),
        ContentPolicyError("no"),
        UnsupportedParameterError("no"),
        RateLimitError("no"),
        RateLimitError("no", retry_after=2.0),
        RateLimitError("no", retry_after=20.0),
        RateLimitError("no", retry_after=9999.0),
        RateLimitError("no", retryable=False),
        OverloadedError("no"),
        OverloadedError("no", retry_after=0.0),
        ServerError("no"),
        ServerError("no", status=501, retryable=False),
        ServerError("no", status=504, ambiguous=True),
        ConnectionFailedError("no"),
        ConnectionFailedError("no", ambiguous=True),
        CallTimeoutError("no", phase="connect", limit=1.0),
        CallTimeoutError("no", phase="first_token", limit=1.0),
        IncompleteStreamError("no"),
        MalformedResponseError("no"),
        BackendError("no"),
    ]


def again(error: ProviderError) -> ProviderError:
    """Return an error like another: one is raised once."""
    return next(e for e in failures() if _traits(e) == _traits(error))


def _traits(error: ProviderError) -> tuple[object, ...]:
    return type(error), error.ambiguous, error.retryable, error.retry_after


@dataclass
class Scripted(EventBackend):
    """A backend whose attempts end one after the other as `ends` says: with an error, or, where that is None, well.

    It has vectors only where it says so, and then as many attempts at them.

    Attributes:
        made: when each attempt was made, in seconds on the loop's clock.
        after_text: errors come after a piece of the answer.
        takes: seconds that an attempt takes before it ends.
        embeds: it has vectors.
    """

    ends: Sequence[ProviderError | None]
    name: str = "scripted"
    model: str = "m"
    after_text: bool = False
    takes: float = 0.0
    embeds: bool = False
    made: list[float] = field(default_factory=list)

    def defaults(self) -> Mapping[str, Any]:
        return {"model": self.model}

    async def health_check(self) -> bool:
        return True

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        return Exchange(provider=self.name) if self.embeds else super().prepare_embedding(request)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        end = self._begun()
        if end is not None:
            raise end
        return Embedded(vectors=((1.0,),) * len(request.texts), usage=Usage(input_total=1), model=self.model)

    def _begun(self) -> ProviderError | None:
        """Note that an attempt begins, and return how it ends."""
        end = self.ends[len(self.made)] if len(self.made) < len(self.ends) else None
        self.made.append(asyncio.get_running_loop().time())
        return end

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        end = self._begun()
        yield ModelWarning("test", f"attempt {len(self.made)} of {self.name}")
        if end is None or self.after_text:
            yield TextDelta("some ")
        if self.takes:
            await asyncio.sleep(self.takes)
        if end is not None:
            raise end
        yield TextDelta(f"of {self.name}")
        yield Finish(reason="stop", usage=Usage(input_total=3, output_total=2), model=self.model)
