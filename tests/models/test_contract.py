"""Backends that break the contract: whatever they do is an error of ours, and one outcome on the record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from veyra.audit import AuditLog
from veyra.errors import BackendError, IncompleteStreamError, ProviderError, RateLimitError
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.gate import EventBackend, Gate
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    Finish,
    ModelResponse,
    Request,
    TextDelta,
    TokenCount,
    ToolCall,
    Usage,
)

ANY: Any = object()
DONE = Finish(reason="stop")


def _finish(**fields: Any) -> Finish:
    return Finish(reason="stop", **fields)


class Says(EventBackend):
    """A backend that yields what it is given, of whatever type."""

    name = "says"

    def __init__(self, *said: Any) -> None:
        self.said = said

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        """Say it."""
        for event in self.said:
            yield event

    async def health_check(self) -> bool:
        """Say yes."""
        return True


class Answers(BaseModelBackend):
    """A backend of two methods that returns what it is given."""

    name = "answers"

    def __init__(self, **fields: Any) -> None:
        seven = ("hello", "m", "elsewhere", 1.0, 7, 2, "req-1")
        names = ("content", "model", "backend", "latency_ms", "prompt_tokens", "completion_tokens", "request_id")
        self.fields: Any = dict(zip(names, seven, strict=True)) | fields

    async def generate(self, prompt: str, **options: Any) -> ModelResponse:
        """Return it."""
        return ModelResponse(**self.fields)

    async def health_check(self) -> bool:
        """Say yes."""
        return True


def _statuses(log: AuditLog) -> list[str]:
    return [row.status for row in log.attempts()]


@pytest.mark.parametrize(
    "said",
    [
        "hello",
        None,
        ANY,
        TextDelta(ANY),
        _finish(usage=ANY),
        _finish(usage=Usage(input_total=ANY)),
        _finish(model=ANY),
        _finish(response_id=7),
        _finish(tool_calls=("call",)),
        _finish(tool_calls=[ToolCall("a", "b", {})]),
    ],
)
async def test_what_is_no_event_is_the_backends_error(said: Any) -> None:
    """What a backend yields beside events does not reach the caller, and the attempt has its outcome."""
    log = AuditLog.memory()
    seen = []
    with pytest.raises(BackendError, match="'says' yielded"):
        async with Gate(Says(TextDelta("a"), said, DONE), log).stream("hi") as reply:
            seen = [event async for event in reply]
    assert not seen
    assert _statuses(log) == ["error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": 7},
        {"model": ANY},
        {"request_id": 7},
        {"prompt_tokens": "many"},
        {"usage": None},
        {"warnings": ("careful",)},
        {"tool_calls": None},
        {"tool_calls": ("call",)},
    ],
)
async def test_a_response_of_the_wrong_types_is_the_backends_error(fields: Any) -> None:
    """A response made of the wrong things is a `BackendError`, and the attempt has its outcome."""
    log = AuditLog.memory()
    with pytest.raises(BackendError):
        await Gate(Answers(**fields), log).generate("hi")
    assert _statuses(log) == ["error"]


async def test_arguments_too_deep_to_be_written_are_an_error_on_the_record() -> None:
    """An answer that cannot be recorded is not handed on, and the attempt does not stay open."""
    log = AuditLog.memory()
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(BackendError, match="RecursionError"):
        await Gate(Says(_finish(tool_calls=(ToolCall("1", "f", deep),))), log).generate("hi")
    assert _statuses(log) == ["error"]


async def test_no_events_at_all_is_an_incomplete_answer() -> None:
    """A backend that ends without a word has not answered."""
    log = AuditLog.memory()
    with pytest.raises(IncompleteStreamError):
        await Gate(Says(), log).generate("hi")
    assert _statuses(log) == ["incomplete"]


class Prepares(Says):
    """A backend whose preparations fail."""

    def __init__(self, error: Exception) -> None:
        super().__init__(DONE)
        self.error = error

    def prepare(self, request: Request) -> Exchange:
        """Fail."""
        raise self.error

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        """Fail."""
        raise self.error

    def prepare_counting(self, request: Request) -> Exchange | None:
        """Fail."""
        raise self.error


@pytest.mark.parametrize(
    "ask", [lambda gate: gate.generate("hi"), lambda gate: gate.embed("hi"), lambda gate: gate.count_tokens("hi")]
)
async def test_a_preparation_that_fails_is_an_error_of_ours(ask: Callable[[Gate], Any]) -> None:
    """A foreign exception before anything was recorded is a `BackendError`; one of ours is handed on as it is."""
    log = AuditLog.memory()
    with pytest.raises(BackendError, match="raised ZeroDivisionError") as caught:
        await ask(Gate(Prepares(ZeroDivisionError("odd")), log))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(RateLimitError):
        await ask(Gate(Prepares(RateLimitError("slow")), log))
    assert not _statuses(log)


class Wholes(Says):
    """A backend whose vectors and counts are as given."""

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        """Prepare nothing."""
        return Exchange(provider=self.name)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        """Return what was given."""
        return self.said[0]  # type: ignore[no-any-return]

    def prepare_counting(self, request: Request) -> Exchange:
        """Prepare nothing."""
        return Exchange(provider=self.name)

    async def counting(self, request: Request, exchange: Exchange) -> TokenCount:
        """Return what was given."""
        return self.said[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ("embed", None),
        ("embed", Embedded(vectors=(ANY,))),
        ("embed", Embedded(vectors=((1.0,),), usage=ANY)),
        ("count_tokens", None),
        ("count_tokens", 7),
    ],
)
async def test_vectors_and_counts_of_the_wrong_types_are_an_error_on_the_record(method: str, found: Any) -> None:
    """Whatever a backend returns for vectors or a count, the intent has its outcome."""
    log = AuditLog.memory()
    with pytest.raises(ProviderError):
        await getattr(Gate(Wholes(found), log), method)("hi")
    assert _statuses(log) == ["error"]
