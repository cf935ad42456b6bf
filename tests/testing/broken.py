"""For every check of the conformance suite, a backend that is broken so that this check fails, and no other.

What breaks is often tied to the words that one check uses: what matters is that the check sees it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, cast

from veyra import MockBackend
from veyra.errors import (
    AuthenticationError,
    ConnectionFailedError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.gate import EventBackend
from veyra.models.registry import make_backend
from veyra.testing.conformance_faults import TEXT
from veyra.testing.conformance_plain import CALLERS
from veyra.testing.conformance_wire import PROMPT, WAIT
from veyra.testing.stage import KEY, MODEL, Make
from veyra.types import (
    Event,
    Finish,
    Message,
    ModelResponse,
    Prompt,
    Request,
    Secret,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)

Break = Callable[..., BaseModelBackend]
PLAIN: dict[str, Break] = {}
"""Backends that talk to nobody, by the check that they fail."""
OVER_HTTP: dict[str, Break] = {}
"""Backends that speak Chat Completions, by the check that they fail."""


# ------------------------------------------------------------------------------------- backends of two methods


class Plain(MockBackend):
    """A good backend, of which one thing is broken in each class below. It takes a few steps to answer."""

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        for _ in range(4):
            await asyncio.sleep(0)
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                yield event
                await asyncio.sleep(0)


def plain(check: str) -> Callable[[Break], Break]:
    def add(made: Break) -> Break:
        PLAIN[check] = made
        return made

    return add


def answering(**changed: Any) -> Break:
    """Return a backend whose own `generate` returns a response with these values."""

    class Answering(Plain):
        async def generate(self, prompt: Prompt, **options: Any) -> ModelResponse:
            return replace(await super().generate(prompt, **options), **changed)

    return Answering


PLAIN["content-is-text"] = answering(content=None)
PLAIN["names-itself"] = answering(backend="another")
PLAIN["model-is-text"] = answering(model="")
PLAIN["latency-is-a-time"] = answering(latency_ms=float("nan"))
PLAIN["counts-are-counts"] = answering(completion_tokens=-1)
PLAIN["request-id-is-text-or-none"] = answering(request_id=7)
PLAIN["finish-reason-is-one-of-ours"] = answering(finish_reason="end_turn")


@plain("has-a-name")
class Nameless(Plain):
    name = ""


class Duck:
    def __init__(self) -> None:
        self._plain = Plain()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


PLAIN["is-a-backend"] = cast("Break", Duck)


@plain("takes-options-by-keyword")
class Stubborn(Plain):
    async def generate(self, prompt: Prompt) -> ModelResponse:  # type: ignore[override]
        return await super().generate(prompt)


@plain("health-is-a-bool")
class Feeling(Plain):
    async def health_check(self) -> bool:
        return "fine"  # type: ignore[return-value]


@plain("closes-twice")
class ClosedOnce(Plain):
    def __init__(self) -> None:
        super().__init__()
        self._closed_by = set[int]()

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        self._closed_by.discard(threading.get_ident())
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                yield event

    async def aclose(self) -> None:
        if threading.get_ident() in self._closed_by:
            msg = "it is closed"
            raise RuntimeError(msg)
        self._closed_by.add(threading.get_ident())


@plain("serves-after-closing")
class ClosedForGood(Plain):
    _closed_in: asyncio.AbstractEventLoop | None = None

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if self._closed_in is asyncio.get_running_loop():
            msg = "it is closed"
            raise RuntimeError(msg)
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                yield event

    async def aclose(self) -> None:
        self._closed_in = asyncio.get_running_loop()


@plain("answers-with-a-response")
class JustText(Plain):
    async def generate(self, prompt: Prompt, **options: Any) -> ModelResponse:
        return (await super().generate(prompt, **options)).content  # type: ignore[return-value]


@plain("a-stream-can-be-left")
class Sulking(Plain):
    _was_left = False

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if self._was_left:
            msg = "it was left"
            raise ServerError(msg)
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                self._was_left = request.stream and not isinstance(event, Finish)
                yield event
                self._was_left = False


@plain("cancelled-means-cancelled")
class Deaf(Plain):
    async def generate(self, prompt: Prompt, **options: Any) -> ModelResponse:
        with suppress(asyncio.CancelledError):
            return await super().generate(prompt, **options)
        return await super().generate(prompt, **options)


@plain("a-cancelled-call-leaves-the-backend-usable")
class Hurt(Plain):
    _is_hurt = False

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if self._is_hurt:
            msg = "it was cancelled"
            raise ServerError(msg)
        try:
            async with aclosing(super().events(request, exchange)) as events:
                async for event in events:
                    yield event
        except asyncio.CancelledError:
            self._is_hurt = True
            raise


@plain("a-cancelled-call-is-on-record")
class Complaining(Plain):
    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                try:
                    yield event
                except GeneratorExit:
                    if isinstance(event, Finish):
                        raise
                    msg = "nobody listens"
                    raise ServerError(msg) from None


class Refusing(Plain):
    """Refuses a request where `refuses` says so."""

    def refuses(self, request: Request) -> bool:
        raise NotImplementedError

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if self.refuses(request):
            msg = "not that"
            raise ServerError(msg)
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                yield event


@plain("takes-a-conversation")
class OnlyText(Refusing):
    def refuses(self, request: Request) -> bool:
        return not isinstance(request.prompt, str)


@plain("pieces-make-the-whole")
class Shortened(Plain):
    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                if not (request.stream and isinstance(event, TextDelta) and event.text.startswith("begins")):
                    yield event


@plain("many-at-once")
class OneByOne(Plain):
    _open = 0

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        self._open += 1
        try:
            if self._open > CALLERS // 2:
                msg = "too many"
                raise ServerError(msg)
            async with aclosing(super().events(request, exchange)) as events:
                async for event in events:
                    yield event
        finally:
            self._open -= 1


class Bound(Refusing):
    """Remembers the first event loop and thread it was asked in."""

    _first: tuple[asyncio.AbstractEventLoop, int] | None = None

    def refuses(self, request: Request) -> bool:
        here = asyncio.get_running_loop(), threading.get_ident()
        if self._first is None:
            self._first = here
        return self.is_wrong(self._first, here)

    def is_wrong(
        self, first: tuple[asyncio.AbstractEventLoop, int], here: tuple[asyncio.AbstractEventLoop, int]
    ) -> bool:
        raise NotImplementedError


@plain("one-loop-after-another")
class BoundToALoop(Bound):
    def is_wrong(
        self, first: tuple[asyncio.AbstractEventLoop, int], here: tuple[asyncio.AbstractEventLoop, int]
    ) -> bool:
        return first[0] is not here[0] and first[1] == here[1]


@plain("loops-in-threads")
class BoundToAThread(Bound):
    def is_wrong(
        self, first: tuple[asyncio.AbstractEventLoop, int], here: tuple[asyncio.AbstractEventLoop, int]
    ) -> bool:
        return first[1] != here[1]


@plain("any-text-is-taken")
class OnlyAscii(Refusing):
    def refuses(self, request: Request) -> bool:
        return not request.messages[-1].text.isascii()


@plain("long-text-is-taken")
class OnlyShort(Refusing):
    def refuses(self, request: Request) -> bool:
        return len(request.messages[-1].text) > 100_000


# ----------------------------------------------------------------------------------- backends that talk HTTP


class Wire(EventBackend):
    """A good backend that speaks Chat Completions, of which one thing is broken in each class below."""

    def __init__(self, **options: Any) -> None:
        self._wire = make_backend("openai", api="chat", **options)
        self.name = self._wire.name

    def __repr__(self) -> str:
        return repr(self._wire)

    def defaults(self) -> Mapping[str, Any]:
        return self._wire.defaults()

    def prepare(self, request: Request) -> Exchange:
        return self._wire.prepare(self.asked(request))

    def asked(self, request: Request) -> Request:
        """Return what is asked in the place of a request."""
        return request

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(self.told(self._wire.events(request, exchange), request, exchange)) as events:
                async for event in events:
                    yield event
        except ProviderError as error:
            raise self.raised(error, exchange) from None

    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        """Yield what is told in the place of events."""
        async with aclosing(events):
            async for event in events:
                changed = self.event(event, request, exchange)
                if changed is not None:
                    yield changed

    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        """Return what is told in the place of an event."""
        return event

    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        """Return what is raised in the place of an error."""
        return error

    async def health_check(self) -> bool:
        return await self._wire.health_check()

    async def aclose(self) -> None:
        await self._wire.aclose()


def wire(check: str) -> Callable[[type[Wire]], type[Wire]]:
    def add(made: type[Wire]) -> type[Wire]:
        OVER_HTTP[check] = made
        return made

    return add


def asking(check: str, change: Callable[[Request], Request]) -> None:
    """Break what is asked."""

    class Asking(Wire):
        def asked(self, request: Request) -> Request:
            return change(request)

    OVER_HTTP[check] = Asking


def telling(check: str, change: Callable[[Event, Request, Exchange], Event | None]) -> None:
    """Break what is told."""

    class Telling(Wire):
        def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
            return change(event, request, exchange)

    OVER_HTTP[check] = Telling


def finishing(check: str, change: Callable[[Finish, Request], Finish]) -> None:
    """Break how an answer ends."""
    telling(check, lambda event, request, _: change(event, request) if isinstance(event, Finish) else event)


def raising(check: str, change: Callable[[ProviderError], ProviderError | None]) -> None:
    """Break which error is raised, where `change` returns another."""

    class Raising(Wire):
        def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
            return change(error) or error

    OVER_HTTP[check] = Raising


def as_kind(kind: type[ProviderError], error: ProviderError, **changed: Any) -> ProviderError:
    """Return an error of another kind that says the same."""
    same = {name: value for name, value in vars(error).items() if name in _SAID}
    return kind(error.message, **(same | changed))


_SAID = ("provider", "model", "status", "request_id", "retry_after", "partial", "ambiguous")


def turn(number: int, **changed: Any) -> Callable[[Request], Request]:
    """Return a change of one message of a request."""

    def change(request: Request) -> Request:
        messages = list(request.messages)
        messages[number] = replace(messages[number], **changed)
        return replace(request, messages=tuple(messages))

    return change


asking("sends-the-prompt", lambda r: turn(0, content="Something else.")(r) if r.messages[-1].text == PROMPT else r)
asking("sends-the-model", lambda r: replace(r, model=MODEL) if r.model == "a-third-model" else r)
asking("sends-the-turns", lambda r: replace(r, messages=r.messages[::-1]) if not r.tools else r)
asking("sends-the-system-text", lambda r: replace(r, system=None))
asking("sends-max-tokens", lambda r: replace(r, max_tokens=None))
asking("sends-temperature", lambda r: replace(r, temperature=None))
asking("sends-top-p", lambda r: replace(r, top_p=None))
asking("sends-seed", lambda r: replace(r, seed=None))
asking("sends-stop", lambda r: replace(r, stop=()))
asking("sends-tools", lambda r: replace(r, tools=tuple(replace(tool, description="") for tool in r.tools)))
asking("sends-extra", lambda r: replace(r, extra={}))


def _forgetting_results(request: Request) -> Request:
    def forgotten(message: Message) -> Message:
        parts = [replace(p, content="") if isinstance(p, ToolResult) else p for p in message.parts]
        return replace(message, content=parts)

    return replace(request, messages=tuple(map(forgotten, request.messages))) if request.tools else request


asking("sends-tool-results", _forgetting_results)


@wire("asks-to-stream-when-streaming")
class AtOnce(Wire):
    def asked(self, request: Request) -> Request:
        return self._whole(request)

    @staticmethod
    def _whole(request: Request) -> Request:
        return replace(request, stream=False) if request.messages[0].text.startswith("Stream") else request

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        async with aclosing(super().events(self._whole(request), exchange)) as events:
            async for event in events:
                yield event


@wire("asks-once")
class Insisting(Wire):
    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except ServerError:
            async with aclosing(self._wire.events(request, self._wire.prepare(request))) as again:
                async for _ in again:
                    pass
            raise


@wire("a-health-check-asks-no-model")
class Trying(Wire):
    async def health_check(self) -> bool:
        if not await super().health_check():
            return False
        await self.generate("Are you there?")
        return True


telling(
    "reads-text",
    lambda e, r, _: TextDelta(e.text.replace("\n", " ")) if isinstance(e, TextDelta) and not r.stream else e,
)
telling(
    "reads-streamed-text",
    lambda e, r, _: TextDelta(e.text.replace("\n", " ")) if isinstance(e, TextDelta) and r.stream else e,
)


@wire("hands-text-on-in-pieces")
class Hoarding(Wire):
    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        text = ""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta) and (text or event.text.startswith("One")):
                    text += event.text
                    continue
                if text:
                    yield TextDelta(text)
                yield event


@wire("reads-an-empty-answer")
class Demanding(Wire):
    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        said = False
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Finish) and not said and not event.tool_calls:
                    msg = "it says nothing"
                    raise MalformedResponseError(msg)
                said = True
                yield event


def _calling(check: str, change: Callable[[tuple[ToolCall, ...]], tuple[ToolCall, ...]], *, stream: bool) -> None:
    finishing(check, lambda e, r: replace(e, tool_calls=change(e.tool_calls)) if r.stream is stream else e)


_calling("reads-a-tool-call", lambda c: tuple(replace(x, arguments=x.arguments and {}) for x in c), stream=False)
_calling("reads-a-streamed-tool-call", lambda c: () if len(c) == 1 else c, stream=True)
_calling("tells-tool-calls-apart", lambda c: c[::-1], stream=True)
_calling(
    "keeps-arguments-that-are-no-json",
    lambda c: tuple(x if x.arguments else replace(x, arguments={}) for x in c),
    stream=False,
)


@wire("says-that-it-stopped")
class Vague(Wire):
    _was_sunny = False

    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        if isinstance(event, Finish) and event.reason == "stop" and exchange.size and not request.stream:
            return replace(event, reason="other") if b'"Sunny."' in b"".join(exchange.body) else event
        return event


finishing("says-that-it-hit-the-limit", lambda e, _: replace(e, reason="stop") if e.reason == "length" else e)
finishing("says-that-it-was-withheld", lambda e, _: replace(e, reason="stop") if e.reason == "content_filter" else e)
finishing("names-the-model-that-answered", lambda e, _: replace(e, model=MODEL))
finishing("tells-the-request-id", lambda e, _: replace(e, request_id=None))


def _miscounting(check: str, *, stream: bool) -> None:
    def change(event: Finish, request: Request) -> Finish:
        if request.stream is not stream or event.usage.cache_read or event.usage.output_total != 7:
            return event
        return replace(event, usage=replace(event.usage, output_total=70))

    finishing(check, change)


_miscounting("counts-tokens", stream=False)
_miscounting("counts-streamed-tokens", stream=True)
finishing("counts-cached-tokens-once", lambda e, _: replace(e, usage=replace(e.usage, cache_read=None)))
finishing(
    "unknown-is-not-zero",
    lambda e, _: e if e.usage.output_total is not None else replace(e, usage=Usage(input_total=0, output_total=0)),
)


@wire("what-was-sent-is-on-record")
class Misquoting(Wire):
    def prepare(self, request: Request) -> Exchange:
        exchange = super().prepare(request)
        self._real = exchange.outgoing
        if not request.stream and exchange.outgoing is not None and b"Lisbon" in exchange.outgoing.body:
            exchange.outgoing = replace(exchange.outgoing, body=exchange.outgoing.body + b" ")
        return exchange

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        exchange.outgoing = self._real
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                yield event


@wire("what-came-is-on-record")
class Forgetful(Wire):
    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        if isinstance(event, Finish) and not request.stream:
            exchange.body.clear()
            exchange.arrivals.clear()
        return event


@wire("the-key-goes-in-a-header")
class Careless(Wire):
    def prepare(self, request: Request) -> Exchange:
        exchange = super().prepare(request)
        assert exchange.outgoing is not None
        exchange.outgoing = replace(exchange.outgoing, headers={**exchange.outgoing.headers, "x-debug": KEY})
        return exchange


@wire("the-key-is-not-in-the-repr")
class Chatty(Wire):
    def __repr__(self) -> str:
        return f"<a backend with the key {KEY}>"


@wire("the-key-is-not-on-record")
class Unmasked(Wire):
    def prepare(self, request: Request) -> Exchange:
        exchange = super().prepare(request)
        exchange.secrets = ()
        return exchange

    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        exchange.secrets = (Secret(KEY),)
        return error


@wire("answers-are-not-mixed-up")
class Muddled(Wire):
    """Keeps in itself what is asked, and so answers what it was asked last."""

    _latest = ""

    def prepare(self, request: Request) -> Exchange:
        self._latest = request.messages[-1].text
        return super().prepare(request)

    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        is_mixed_up = request.messages[-1].text != self._latest
        return TextDelta("") if is_mixed_up and isinstance(event, TextDelta) else event


@wire("waiting-does-not-block")
class Blocking(Wire):
    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        if request.messages[-1].text.startswith("Hold the line"):
            threading.Event().wait(WAIT)
        async with aclosing(events):
            async for event in events:
                yield event


# ------------------------------------------------------------------------------------------------- errors


def _mistaking(check: str, status: int, kind: type[ProviderError], **changed: Any) -> None:
    raising(check, lambda e: as_kind(kind, e, **changed) if e.status == status else None)


raising(
    "status-400",
    lambda e: as_kind(NotFoundError, e) if e.status == 400 else None,
)
_mistaking("status-401", 401, PermissionDeniedError)
_mistaking("status-403", 403, AuthenticationError)
_mistaking("status-404", 404, InvalidRequestError)
raising("status-429", lambda e: _final(e) if e.retry_after == 1 else None)
_mistaking("status-500", 500, OverloadedError)
_mistaking("status-503", 503, InvalidRequestError)
_mistaking("status-529", 529, ServerError)
_mistaking("a-page-of-html", 502, MalformedResponseError)


def _final(error: ProviderError) -> ProviderError:
    error.retryable = False
    return error


def _quota(check: str, words: str) -> None:
    raising(check, lambda e: as_kind(RateLimitError, e) if words in e.message else None)


_quota("a-quota-is-no-rate-limit", "asked for: quota")
_quota("a-spend-limit-is-no-rate-limit", "asked for: spend-limit")


def _waiting(check: str, wrong: Callable[[float], bool], told: float | None) -> None:
    def change(error: ProviderError) -> ProviderError | None:
        if error.retry_after is not None and wrong(error.retry_after):
            error.retry_after = told
        return None

    raising(check, change)


_waiting("a-wait-in-seconds", lambda s: s == 7, None)
_waiting("a-wait-in-milliseconds", lambda s: s == 1.5, 1500.0)
_waiting("a-wait-until-a-date", lambda s: 60 <= s <= 121, None)
_waiting("a-long-wait", lambda s: s == 9999, 60.0)


@wire("no-wait-is-made-up")
class Guessing(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        if isinstance(error, RateLimitError) and error.retry_after is None:
            error.retry_after = 1.0
        return error


@wire("an-error-says-who-was-asked")
class Blaming(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        error.model = "another"
        return error


@wire("an-error-has-the-request-id")
class Anonymous(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        error.request_id = None
        return error


@wire("an-error-is-bounded")
class Quoting(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        error.message += b"".join(exchange.body).decode("utf-8", "replace") * (100 if error.status == 502 else 0)
        return error


@wire("an-error-does-not-show-the-key")
class Telltale(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        if error.status == 401:
            exchange.secrets = ()
            error.message += f" (the key is {KEY})"
        return error


@wire("an-error-is-on-record")
class Covering(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        if error.status == 400:
            exchange.head = None
        return error


# ------------------------------------------------------------------------------------------------- faults


@wire("a-refused-connection")
class Suspicious(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        if isinstance(error, ConnectionFailedError):
            error.ambiguous = True
        return error


@wire("where-nobody-listens-is-not-healthy")
class Optimistic(Wire):
    async def health_check(self) -> bool:
        await super().health_check()
        return True


raising(
    "a-connection-that-breaks-before-the-answer",
    lambda e: as_kind(ConnectionFailedError, e, ambiguous=False) if isinstance(e, ConnectionFailedError) else None,
)


@wire("after-a-failure-the-next-call-is-answered")
class Broken(Wire):
    _is_broken = False

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if self._is_broken:
            msg = "it was broken off"
            raise ServerError(msg)
        async with aclosing(super().events(request, exchange)) as events:
            async for event in events:
                yield event

    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        self._is_broken = isinstance(error, ConnectionFailedError)
        return error


def _is_cut(error: ProviderError) -> bool:
    """Tell whether the connection broke, and did not just end too early."""
    return isinstance(error, IncompleteStreamError) and "broke" in error.message


@wire("a-cut-stream-is-incomplete")
class Renaming(Wire):
    _pieces = 0

    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        self._pieces += isinstance(event, TextDelta)
        return event

    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        return as_kind(ConnectionFailedError, error) if self._pieces == 1 and _is_cut(error) else error


@wire("a-truncated-stream-is-incomplete")
class MadeUp(Wire):
    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except IncompleteStreamError as error:
            if _is_cut(error):
                raise
            yield Finish(reason="stop")


@wire("a-cut-answer-may-be-billed")
class Cheap(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        if isinstance(error, IncompleteStreamError):
            error.ambiguous = False
        return error


@wire("a-cut-answer-is-on-record")
class Shredding(Wire):
    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        if isinstance(error, IncompleteStreamError):
            exchange.head = None
        return error


raising(
    "an-error-inside-a-stream",
    lambda e: as_kind(IncompleteStreamError, e) if e.status == 200 and isinstance(e, OverloadedError) else None,
)


class Ticking(Wire):
    """Says that something came while nothing did, where `lives` says so."""

    def lives(self, exchange: Exchange, size: int) -> bool:
        raise NotImplementedError

    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        size = 0
        waiting: asyncio.Future[Event | None] | None = None
        async with aclosing(events):
            try:
                while True:
                    waiting = waiting or asyncio.ensure_future(anext(events, None))
                    done, _ = await asyncio.wait({waiting}, timeout=0.1)
                    if not done:
                        if self.lives(exchange, size):
                            yield TextDelta("")
                        size = exchange.size
                        continue
                    event, waiting = waiting.result(), None
                    if event is None:
                        return
                    yield event
            finally:
                if waiting is not None:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)


@wire("a-server-that-says-nothing")
class Impatient(Ticking):
    def lives(self, exchange: Exchange, size: int) -> bool:
        return exchange.head is None


@wire("an-answer-that-stalls")
class Hopeful(Ticking):
    def lives(self, exchange: Exchange, size: int) -> bool:
        return exchange.head is not None and exchange.size == size


@wire("signs-of-life-are-no-answer")
class Pinged(Ticking):
    def lives(self, exchange: Exchange, size: int) -> bool:
        return exchange.head is not None and exchange.size > size > 0


_LEFT: list[AsyncIterator[Event]] = []


@wire("leaving-closes-the-connection")
class Leaking(Wire):
    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        events = self._wire.events(request, exchange)
        _LEFT.append(events)  # kept, and so not closed before the event loop is
        async for event in events:
            yield event


@wire("characters-torn-apart")
class Ascii(Wire):
    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        if isinstance(event, TextDelta) and exchange.body and len(exchange.body[0]) <= 8:
            return TextDelta(event.text.encode("ascii", "replace").decode())
        return event


raising(
    "an-event-that-is-no-json", lambda e: as_kind(ServerError, e) if isinstance(e, MalformedResponseError) else None
)


@wire("a-body-of-another-type")
class Trusting(Wire):
    def event(self, event: Event, request: Request, exchange: Exchange) -> Event | None:
        kind = "" if exchange.head is None else exchange.head.headers.get("content-type", "")
        return TextDelta("<html>") if isinstance(event, TextDelta) and "html" in kind else event

    def raised(self, error: ProviderError, exchange: Exchange) -> BaseException:
        return error


@wire("events-that-come-twice")
class Strict(Wire):
    async def told(
        self, events: AsyncGenerator[Event, None], request: Request, exchange: Exchange
    ) -> AsyncGenerator[Event, None]:
        text = ""
        async with aclosing(events):
            async for event in events:
                text += event.text if isinstance(event, TextDelta) else ""
                if isinstance(event, Finish) and request.stream and TEXT[-8:] in text and text != TEXT:
                    raise KeyError(text)
                yield event


def subject_of(name: str) -> Make:
    """Return what makes the backend that is broken for a check."""
    return PLAIN[name] if name in PLAIN else OVER_HTTP[name]
