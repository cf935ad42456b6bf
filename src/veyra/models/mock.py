"""The mock: a backend that asks no model. Deterministic, offline, and on the record like any other.

Reference implementation of a backend that is written as events.
"""

from __future__ import annotations

import asyncio
import math
import re
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from copy import copy
from dataclasses import replace
from hashlib import sha256, shake_256
from inspect import isawaitable
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, Self

from veyra.errors import InvalidRequestError, VeyraError, excerpt
from veyra.models.base import Exchange, events_of
from veyra.models.gate import EventBackend
from veyra.models.mock_reply import MockReply, Scripted, as_reply, check_manner, is_scripted, told, words_asked
from veyra.models.mock_sample import sample
from veyra.models.mock_script import Replies, Rule, Script, rules_of, text_of
from veyra.transport.faults import KINDS, Fault, parse_script
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    ModelInfo,
    ModelResponse,
    Request,
    TokenCount,
    Tool,
    ToolCall,
    Usage,
)

_WORD = re.compile(r"\S+\s*|\s+")
_SHOWN = 20
"""Calls and replies that the message of an assertion lists at most."""
DIMENSIONS = 64
"""Length of the mock's vectors unless another is asked for."""
MOST_DIMENSIONS = 65_536
"""Length of the mock's vectors at most."""


class MockBackend(EventBackend):
    """Answers from a script, or, without one, by itself; keeps what it was asked. Tokens are counted as words.

    Without a script it says what it was asked, makes up a value of the type that `output` asks for, and calls a tool where
    `tool_choice` says that one is to be called. Where `extra` asks for JSON without a schema, what it says is an object. The same request gets the same answer, always and everywhere.

    Args:
        replies: the answer to every call (a `str`, a `MockReply`, a `ToolCall`, a `ModelResponse`, an exception to raise, or
            a fault); a function of the request that returns one of these, or None for the mock's own answer; a sequence of
            them, one for each call; a mapping from prompts, or compiled patterns, to any of these; or the path of a file
            (see `veyra.models.mock_file`).
        model: the model's name in answers to calls that name none.
        healthy: what `health_check` says.
        seed: decides what is made up.
        chunk: characters in each piece of an answer; by default a word.
        delay: seconds before an answer's first event.
        pace: seconds between one event and the next.
        faults: what befalls the calls, one step for each: the text of a script (`"ok; cut@event=3"`), or faults, None being
            nothing. After the last, nothing does.
        sleep: waits for so many seconds; asked only where there are some.

    Attributes:
        calls: the requests the mock was asked, in order.

    Raises:
        InvalidRequestError: `replies` is of another type, the script's file is not right, a step is no fault, or a number is out
            of range.
    """

    name = "mock"

    def __init__(
        self,
        replies: Replies | PathLike[str] | None = None,
        *,
        model: str = "mock",
        healthy: bool = True,
        seed: int = 0,
        chunk: int | None = None,
        delay: float = 0.0,
        pace: float = 0.0,
        faults: str | Iterable[Fault | None] = (),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        check_manner(chunk, delay, pace)
        self._script = None if replies is None else Script(_rules(replies))
        self.model = model
        self.healthy = healthy
        self.calls: list[Request] = []
        self._seed = seed
        self._chunk = chunk
        self._delay = delay
        self._pace = pace
        self._faults = iter(parse_script(faults) if isinstance(faults, str) else faults)
        self._numbers = count(1)
        self._sleep = sleep
        self._suffer: Callable[[Fault], object] | None = None

    @classmethod
    def from_file(cls, path: str | PathLike[str], **options: Any) -> Self:  # noqa: ANN401  (they are those of the class)
        """Return a mock that plays the script in a file; `options` are those of the class."""
        return cls(Path(path), **options)

    def __repr__(self) -> str:
        return f"<mock backend, {len(self.calls)} calls>"

    def for_model(self, model: str) -> Self:
        """Return the mock under another model's name: it plays the same script on, and its calls are among `calls`."""
        other = copy(self)
        other.model = model
        return other

    def unspoiled(self, tell: Callable[[Fault], object]) -> Self:
        """Return the mock for a server that plays its faults on a wire of its own.

        It answers whole, and tells the fault that befalls an answer before the first of its events.
        """
        other = copy(self)
        other._suffer = tell  # noqa: SLF001  (a copy of this very object)
        return other

    # ---------------------------------------------------------------------------------------- the backend

    def defaults(self) -> Mapping[str, Any]:
        """Return the mock's model."""
        return {"model": self.model}

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:  # noqa: ARG002  (no bytes)
        """Yield the answer, in pieces."""
        self.calls.append(request)
        number = next(self._numbers)
        scripted = await self._scripted(request)
        if isinstance(scripted, ModelResponse):
            reply, events = MockReply(), events_of(scripted)
        else:
            reply = self._completed(as_reply(scripted), request)
            events = told(reply, request, number=number, chunk=self._chunk)
        fault = reply.fault or self._befalls()
        if fault is not None and reply.error is None and self._suffer is not None:
            self._suffer(fault)
        elif fault is not None and reply.error is None:  # an error of the script's own is what it is
            from veyra.models.mock_fault import spoiled  # noqa: PLC0415  (most mocks speak no wire format)

            async with aclosing(spoiled(events, fault, request, self.name)) as left:
                async for event in left:
                    yield event
            return
        wait = self._delay if reply.delay is None else reply.delay
        for event in events:
            if wait:
                await self._sleep(wait)
            yield event
            wait = self._pace if reply.pace is None else reply.pace
        if reply.error is not None:
            raise copy(reply.error) if isinstance(reply.error, VeyraError) else reply.error  # each call has its own

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:  # noqa: ARG002  (no bytes)
        """Return an exchange without bytes."""
        return Exchange(provider=self.name)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:  # noqa: ARG002  (no bytes)
        """Return a vector of length 1 for each text: the same for the same text, always; nothing is near to anything."""
        length = request.dimensions or DIMENSIONS
        if length > MOST_DIMENSIONS:
            msg = f"the mock's vectors have {MOST_DIMENSIONS:,} dimensions at most, not {length:,}"
            raise InvalidRequestError(msg)
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
        return TokenCount(tokens=words_asked(request), estimated=False, source="mock: words")

    async def health_check(self) -> bool:
        """Say what the mock was told to say."""
        return self.healthy

    # ------------------------------------------------------------------------------------ what it was asked

    @property
    def last(self) -> Request:
        """The request of the last call; an `AssertionError` where there was none."""
        self.assert_called()
        return self.calls[-1]

    def assert_called(self, times: int | None = None) -> None:
        """Assert that the mock was asked, or that it was asked so many times."""
        asked = len(self.calls)
        if not asked and times != 0:
            _fail("the mock was not asked")
        if times not in {None, asked}:
            _fail(f"the mock was asked {_count(asked, 'time')}, not {times}{self._shown()}")

    def assert_called_once(self) -> Request:
        """Assert that the mock was asked once, and return what."""
        self.assert_called(1)
        return self.calls[0]

    def assert_not_called(self) -> None:
        """Assert that the mock was not asked."""
        self.assert_called(0)

    def assert_asked(self, what: str | re.Pattern[str]) -> Request:
        """Assert that a call's last user message holds a text, or matches a pattern, and return the first that does."""
        pattern = re.compile(re.escape(what)) if isinstance(what, str) else what
        found = next((request for request in self.calls if pattern.search(text_of(request))), None)
        if found is None:
            shown = repr(what) if isinstance(what, str) else f"/{what.pattern}/"
            _fail(f"the mock was not asked for {shown}{self._shown() or '; it was asked nothing'}")
        return found

    def assert_finished(self) -> None:
        """Assert that every reply of the script was given, as often as it is to be given."""
        unused = [] if self._script is None else self._script.unused()
        if unused:
            shown = "".join(f"\n  for {rule}: {rule.answer!r:.80}" for rule in unused[:_SHOWN])
            _fail(f"{_count(len(unused), 'reply')} of the mock's script not given:{shown}")

    def _shown(self) -> str:
        """Return what the mock was asked, a line for each call, for the message of an assertion."""
        lines = [f"\n  {number}. {excerpt(text_of(request))[:100]!r}" for number, request in enumerate(self.calls, 1)]
        return f"; it was asked:{''.join(lines[:_SHOWN])}" if lines else ""

    # ------------------------------------------------------------------------------------------- its answers

    def _befalls(self) -> Fault | None:
        """Return the next of the mock's faults."""
        fault = next(self._faults, None)
        if not isinstance(fault, (*KINDS, type(None))):
            msg = f"a mock's faults are those of veyra.testing.faults, or None, not {fault!r:.80}"
            raise InvalidRequestError(msg)
        return fault

    async def _scripted(self, request: Request) -> Scripted:
        """Return what the script answers, or the mock's own answer where it leaves that to the mock."""
        entry = self._own(request) if self._script is None else self._script.take(request)
        if not callable(entry):
            return entry
        found = entry(request)
        if isawaitable(found):
            found = await found
        if found is None:
            return self._own(request)
        if not is_scripted(found):
            msg = f"the mock's function returned {type(found).__name__}, which is no answer: see MockBackend"
            raise InvalidRequestError(msg)
        return found

    def _completed(self, reply: MockReply, request: Request) -> MockReply:
        """Return a reply that has a fault, and nothing that could suffer it, with what the mock itself answers."""
        if reply.fault is None or reply.text or reply.reasoning or reply.tool_calls or reply.output is not None:
            return reply
        own = self._own(request)
        return replace(reply, text=own.text, tool_calls=own.tool_calls, finish_reason=own.finish_reason)

    def _own(self, request: Request) -> MockReply:
        """Return the answer of a mock without a script: a call of the tool that is to be called, a value, or a description."""
        seed = sha256(f"{self._seed}\n{request.seed}\n{text_of(request)}".encode()).hexdigest()
        tool = _demanded(request)
        if tool is not None:
            arguments = sample(tool.parameters, seed=seed)
            return MockReply(tool_calls=(ToolCall("", tool.name, None, arguments),))
        if request.output is not None:
            return MockReply(sample(request.output, seed=seed))
        text = _describe(request)
        if _wants_json(request.extra):
            return MockReply(output={"answer": text})
        words = _WORD.findall(text)
        if request.max_tokens is None or len(words) <= request.max_tokens:
            return MockReply(text)
        return MockReply("".join(words[: request.max_tokens]).rstrip(), finish_reason="length")


def _fail(message: str) -> NoReturn:
    """Fail an assertion; `assert` itself says more in a test run, where pytest rewrites it."""
    raise AssertionError(message)


def _rules(replies: Replies | PathLike[str]) -> list[Rule]:
    if isinstance(replies, PathLike):
        from veyra.models.mock_file import read_script  # noqa: PLC0415  (most mocks need no TOML)

        return read_script(replies)
    return rules_of(replies)


def _demanded(request: Request) -> Tool | None:
    """Return the tool that a request wants to be called; once the results of tools are there, none."""
    if request.tool_choice is None or (request.messages and request.messages[-1].role == "tool"):
        return None
    wanted = (tool for tool in request.tools if request.tool_choice in {"required", tool.name})
    return next(wanted, None)


def _wants_json(extra: Mapping[str, Any]) -> bool:
    """Tell whether JSON without a schema is asked for, in the words of whichever format: ours have none for it."""
    texts = extra.get("text")
    generation = extra.get("generationConfig")
    if isinstance(generation, Mapping) and generation.get("responseMimeType") == "application/json":
        return True
    forms = (extra.get("response_format"), texts.get("format") if isinstance(texts, Mapping) else None)
    return extra.get("format") == "json" or {"type": "json_object"} in forms


def _direction(text: str, length: int) -> tuple[float, ...]:
    """Return a vector of length 1 that depends on every byte of the text, drawn from its hash."""
    data = shake_256(text.encode()).digest(4 * length)
    numbers = [number / 2**31 for number in struct.unpack(f"<{length}i", data)]
    norm = math.hypot(*numbers)
    return tuple(number / norm for number in numbers)


def _describe(request: Request) -> str:
    text = text_of(request)
    words = text.split()
    start = " ".join(words[:12]) + (" ..." if len(words) > 12 else "")
    lines = text.count("\n") + (not text.endswith("\n"))
    return (
        f"This is the mock: no model was asked. Your prompt has {_count(len(words), 'word')} in {_count(lines, 'line')} "
        f"and begins: {start}"
    )


def _count(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"
