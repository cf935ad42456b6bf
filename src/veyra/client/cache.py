"""The answers that a client gives again without asking: `Client(cache=Cache.memory())`.

The rules:

1. A call is answered from the cache where exactly the same was asked of the same target before: `fingerprint.py` says what
   counts. Calls that are streamed and calls that are not answer one another.
2. Kept is what was answered whole and well: nothing that failed, was cut (by the token limit, too), withheld or paused, did not fit
   `output`, or was not accepted (`Fallback.accept`).
3. A hit is on record before it is handed on, and names the outcome of the answer it repeats. An answer that is on no record
   is no hit for a call that is to be recorded; nor is one that `Fallback.accept` turns down, where it is asked.
4. A hit asks nobody: it makes no attempt, waits for no limit, costs nothing and uses no tokens.
5. Calls that run at the same time do not wait for one another: each that finds nothing asks. What one would save, another's
   slowness, failure or cancellation would cost.
6. A cache that cannot be read or written changes no call.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Final, NamedTuple, Self, TypeVar

import msgspec

from veyra import schema
from veyra.client.shelf import DiskShelf, MemoryShelf, Shelf
from veyra.errors import InvalidRequestError, MalformedResponseError
from veyra.types import (
    EmbeddingResponse,
    EmbedRequest,
    FinishReason,
    ModelResponse,
    ModelWarning,
    Opaque,
    Receipt,
    Request,
    ToolCall,
    Usage,
    Vectors,
)

_LOGGER = logging.getLogger("veyra.client")
_T = TypeVar("_T")

_FREE: Final = Usage(input_total=0, output_total=0)
_WHOLE: Final[frozenset[FinishReason | None]] = frozenset({"stop", "tool_calls", None})
"""How an answer ends that is kept; None only where a backend of two methods did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer as it is kept: what there is of it whoever asks again, when it came, and where that is recorded."""

    at: float
    outcome: Receipt | None
    content: str
    model: str
    backend: str
    finish_reason: FinishReason | None
    tool_calls: tuple[ToolCall, ...]
    reasoning: str
    warnings: tuple[ModelWarning, ...]
    parts: tuple[Opaque, ...]
    response_id: str | None
    raw_finish_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVectors:
    """Vectors as they are kept; the fields as of `KeptAnswer`."""

    at: float
    outcome: Receipt | None
    vectors: Vectors
    model: str
    backend: str
    warnings: tuple[ModelWarning, ...]


class Hit(NamedTuple):
    """An answer that is given again: it has no record yet, and `outcome` is where the answer that it repeats is recorded."""

    response: ModelResponse | EmbeddingResponse
    outcome: Receipt | None


class Cache:
    """Keeps answers and vectors for the clients that are given it; made by `Cache.memory` or `Cache.disk`.

    What is kept holds the content of answers in the clear. It may be used by several clients, threads and event loops.

    Args:
        shelf: where answers are kept.
        ttl: seconds after which an answer is asked for anew; None for never.
        clock: says what time it is, in seconds since 1970.

    Raises:
        InvalidRequestError: a value is of another type or out of range.
    """

    def __init__(self, shelf: Shelf, *, ttl: float | None = None, clock: Callable[[], float] = time) -> None:
        is_number = isinstance(ttl, int | float) and not isinstance(ttl, bool)
        if ttl is not None and not (is_number and ttl > 0):
            msg = f"ttl is a number of seconds above 0, or None, not {ttl!r}"
            raise InvalidRequestError(msg)
        self._shelf = shelf
        self._ttl = ttl
        self._clock = clock

    @classmethod
    def memory(cls, *, max_entries: int = 1000, ttl: float | None = None) -> Self:
        """Return a cache in this process's memory; of more than `max_entries` the one longest not asked for goes first.

        Raises:
            InvalidRequestError: a value is of another type or out of range.
        """
        return cls(MemoryShelf(_count("max_entries", max_entries)), ttl=ttl)

    @classmethod
    def disk(
        cls, path: str | os.PathLike[str], *, ttl: float | None = None, max_bytes: int = 256 * 1024 * 1024
    ) -> Self:
        """Return a cache in a directory, for all processes of this user (`shelf.DiskShelf` says what it withstands).

        Args:
            path: the directory; made by the first answer.
            ttl: as for the class.
            max_bytes: room that the files take together; an answer of more than a sixteenth of it is not kept.

        Raises:
            InvalidRequestError: a value is of another type or out of range, `path` is no directory, or others may write to it.
        """
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            msg = f"a cache's path is a directory, not {path!r}"
            raise InvalidRequestError(msg)
        return cls(DiskShelf(Path(path).absolute(), _count("max_bytes", max_bytes)), ttl=ttl)

    def __repr__(self) -> str:
        return f"<Cache {self._shelf!r}>"

    async def find(self, key: str, asked: Request | EmbedRequest) -> Hit | None:
        """Return what is kept under a key; None where nothing is.

        Args:
            key: the fingerprint of what is asked.
            asked: what is asked; an answer is read into its `output` anew.
        """
        return await (self._answer(key, asked) if isinstance(asked, Request) else self._vectors(key))

    async def _answer(self, key: str, request: Request) -> Hit | None:
        kept = await self._get(key, KeptAnswer)
        if kept is None:
            return None
        output = None
        if request.output is not None and kept.finish_reason != "tool_calls":
            try:
                output = schema.parse(request.output, kept.content, nulls_absent=True)
            except MalformedResponseError:  # a type of the same schema may ask for more
                return None
        response = ModelResponse(
            content=kept.content,
            model=kept.model,
            backend=kept.backend,
            latency_ms=0.0,
            prompt_tokens=0,
            completion_tokens=0,
            request_id=None,
            finish_reason=kept.finish_reason,
            tool_calls=kept.tool_calls,
            reasoning=kept.reasoning,
            output=output,
            usage=_FREE,
            cost=Decimal(0),
            warnings=kept.warnings,
            parts=kept.parts,
            response_id=kept.response_id,
            raw_finish_reason=kept.raw_finish_reason,
            cached=True,
        )
        return Hit(response, kept.outcome)

    async def _vectors(self, key: str) -> Hit | None:
        kept = await self._get(key, KeptVectors)
        if kept is None:
            return None
        response = EmbeddingResponse(
            vectors=kept.vectors,
            model=kept.model,
            backend=kept.backend,
            latency_ms=0.0,
            usage=_FREE,
            cost=Decimal(0),
            warnings=kept.warnings,
            cached=True,
        )
        return Hit(response, kept.outcome)

    async def keep(self, key: str, response: ModelResponse | EmbeddingResponse) -> None:
        """Keep an answer that was accepted under a key, where rule 2 lets it be kept. Raises nothing but a cancellation."""
        kept: KeptAnswer | KeptVectors
        if isinstance(response, EmbeddingResponse):
            kept = KeptVectors(
                at=self._clock(),
                outcome=response.receipt,
                vectors=response.vectors,
                model=response.model,
                backend=response.backend,
                warnings=response.warnings,
            )
        elif response.finish_reason not in _WHOLE:
            return
        else:
            kept = KeptAnswer(
                at=self._clock(),
                outcome=response.receipt,
                content=response.content,
                model=response.model,
                backend=response.backend,
                finish_reason=response.finish_reason,
                tool_calls=response.tool_calls,
                reasoning=response.reasoning,
                warnings=response.warnings,
                parts=response.parts,
                response_id=response.response_id,
                raw_finish_reason=response.raw_finish_reason,
            )
        try:
            data = msgspec.msgpack.encode(kept)
        except (
            UnicodeEncodeError,
            OverflowError,
            TypeError,
        ) as error:  # a lone surrogate, or arguments of a tool of other types
            _LOGGER.info("an answer is not kept: it has no form on the shelf (%s)", type(error).__name__)
            return
        await self._shelf.put(key, data)

    async def _get(self, key: str, kind: type[_T]) -> _T | None:
        data = await self._shelf.get(key)
        if data is None:
            return None
        try:
            kept = msgspec.msgpack.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):  # of another version of Veyra
            return None
        age = self._clock() - kept.at  # type: ignore[attr-defined]
        return kept if self._ttl is None or 0 <= age < self._ttl else None


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        msg = f"{name} is an int, 1 or more, not {value!r}"
        raise InvalidRequestError(msg)
    return value
