"""Faults on the mock: what a backend behind a network makes of each."""

from __future__ import annotations

from typing import Any

import pytest

import virtual
from veyra import MockBackend, get_backend
from veyra.audit import AuditLog
from veyra.errors import (
    CallTimeoutError,
    ConnectionFailedError,
    IncompleteStreamError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from veyra.models.mock_reply import MockReply
from veyra.transport import faults
from veyra.transport.faults import Fault
from veyra.types import Finish, ModelResponse, ModelWarning, TextDelta, Timeouts, ToolCall, Usage

TEXT = "one two three four caf\N{LATIN SMALL LETTER E WITH ACUTE}"
OVER: dict[str, tuple[type[ProviderError] | None, type[ProviderError] | None]] = {
    # fault: what a stream ends with, and what a whole answer does; None is well
    "refuse": (ConnectionFailedError, ConnectionFailedError),
    "no-connection": (CallTimeoutError, CallTimeoutError),
    "reset": (ConnectionFailedError, ConnectionFailedError),
    "slow-head": (None, None),
    "stall": (CallTimeoutError, CallTimeoutError),
    "stall@event=2": (CallTimeoutError, CallTimeoutError),
    "ping-only": (CallTimeoutError, CallTimeoutError),
    "cut@event=3": (IncompleteStreamError, IncompleteStreamError),
    "cut@byte=40": (IncompleteStreamError, IncompleteStreamError),
    "truncate@event=3": (IncompleteStreamError, None),
    "truncate@byte=40": (IncompleteStreamError, MalformedResponseError),
    "error": (OverloadedError, OverloadedError),
    "error@event=2,kind=rate-limit": (RateLimitError, RateLimitError),
    "duplicate@event=3": (None, None),
    "reorder@event=3": (None, None),
    "split-utf8": (None, None),
    "split-utf8@seed=5": (None, None),
    "invalid-json@event=3": (MalformedResponseError, None),
    "invalid-json": (MalformedResponseError, MalformedResponseError),
    "html-502": (ServerError, ServerError),
    "rate-limit": (RateLimitError, RateLimitError),
    "rate-limit@after=3": (RateLimitError, RateLimitError),
    "quota": (QuotaError, QuotaError),
    "spend-limit": (QuotaError, QuotaError),
    "overloaded": (OverloadedError, OverloadedError),
    "failure@status=503": (OverloadedError, OverloadedError),
    "failure": (ServerError, ServerError),
    "content-type": (None, None),
    "endless@every=1": (CallTimeoutError, CallTimeoutError),
}
LIMITS = Timeouts(connect=3.0, first_token=20.0, between_events=20.0, total=60.0)


async def _streamed(mock: MockBackend) -> tuple[str, BaseException | None]:
    text = ""
    try:
        async with mock.stream("hi", timeout=LIMITS) as reply:
            async for event in reply:
                text += event.text if isinstance(event, TextDelta) else ""
    except ProviderError as error:
        return text if error.partial == text else f"{text!r} is not {error.partial!r}", error
    return text, None


async def _whole(mock: MockBackend) -> tuple[str, BaseException | None]:
    try:
        return (await mock.generate("hi", timeout=LIMITS)).content, None
    except ProviderError as error:
        return error.partial, error


@pytest.mark.parametrize("text", OVER)
def test_a_fault_does_what_it_does_on_the_wire(text: str) -> None:
    """A stream and a whole answer end as behind a network: with the same error, after the same text; times are virtual."""
    fault = faults.parse(text)
    for ask, expected in zip((_streamed, _whole), OVER[text], strict=True):
        said, error = virtual.run(ask(MockBackend(MockReply(TEXT, fault=fault))))
        assert type(error) is (expected or type(None)), repr(error)
        if isinstance(error, ProviderError):
            assert (error.provider, error.model) == ("mock", "mock")
        elif not text.startswith(("duplicate", "reorder")):
            assert said == TEXT


def test_every_kind_of_fault_is_tried() -> None:
    """The table above leaves none out."""
    assert {type(faults.parse(text)) for text in OVER} == set(faults.KINDS)


def test_order_is_kept_wrong() -> None:
    """A piece that comes twice is there twice; pieces that change places have changed places."""
    said = {
        text: virtual.run(_streamed(MockBackend(MockReply("a b c", fault=faults.parse(text)))))[0]
        for text in ("duplicate@event=3", "reorder@event=3")
    }
    assert said == {"duplicate@event=3": "a b b c", "reorder@event=3": "a cb "}


@pytest.mark.parametrize(
    ("text", "wait"),
    [("rate-limit@after=3", 3.0), ("rate-limit@ms=1500", 1.5), ("rate-limit@date=9999", 9999.0), ("rate-limit", None)],
)
async def test_when_to_try_again_is_told(text: str, wait: float | None) -> None:
    """Each way to say how long to wait gives the same seconds."""
    with pytest.raises(RateLimitError) as caught:
        await MockBackend(MockReply("x", fault=faults.parse(text))).generate("hi")
    assert (caught.value.retry_after, caught.value.status) == (wait, 429)


async def test_what_the_fault_leaves_alone_comes_through() -> None:
    """All of an answer that the wire can carry is in what comes through a harmless fault."""
    reply = MockReply(
        "text",
        reasoning="thinking",
        tool_calls=[ToolCall("c1", "f", {"a": 1})],
        usage=Usage(input_total=10, output_total=5, cache_read=4, reasoning=2),
        model="m-2025",
        response_id="r",
        request_id="q",
        warnings=[ModelWarning("c", "m")],
        fault=faults.SplitUtf8(seed=1),
    )
    mock = MockBackend(reply)
    async with mock.stream("hi") as streaming:
        assert isinstance([event async for event in streaming][-1], Finish)
    for response in (streaming.response, await mock.generate("hi")):
        assert _core(response) == {
            "content": "text",
            "reasoning": "thinking",
            "finish_reason": "tool_calls",
            "tool_calls": (ToolCall("c1", "f", {"a": 1}, '{"a":1}'),),
            "model": "m-2025",
            "response_id": "r",
            "request_id": "q",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "warnings": (ModelWarning("c", "m"),),
        }
        assert (response.usage.cache_read, response.usage.reasoning) == (4, 2)


def _core(response: ModelResponse) -> dict[str, Any]:
    names = ("content", "reasoning", "finish_reason", "tool_calls", "model", "response_id", "request_id")
    return {name: getattr(response, name) for name in (*names, "prompt_tokens", "completion_tokens", "warnings")}


@pytest.mark.parametrize("fault", [faults.Cut(event=4), MockReply(fault=faults.Cut(event=4))])
async def test_a_fault_alone_befalls_the_answer_of_the_mock(fault: Fault | MockReply) -> None:
    """Where a script gives a fault and no answer, the mock's own suffers it."""
    async with MockBackend(fault).stream("hi") as reply:
        with pytest.raises(IncompleteStreamError) as caught:
            _ = [event async for event in reply]
    assert caught.value.partial == "This is the "


async def test_an_error_of_the_script_suffers_no_fault() -> None:
    """A call that is to fail fails so, and takes its step of the mock's faults."""
    mock = MockBackend([OverloadedError("busy"), "fine"], faults="cut@event=1; ok")
    with pytest.raises(OverloadedError, match="busy"):
        await mock.generate("hi")
    assert (await mock.generate("hi")).content == "fine"


async def test_a_whole_response_can_suffer_a_fault() -> None:
    """A response made by hand, which need not say why the model stopped, goes over the wire as well."""
    mock = MockBackend(ModelResponse("text", "m", "b", 0.0, 1, 1, None), faults="split-utf8; cut@event=2")
    assert (await mock.generate("hi")).content == "text"
    with pytest.raises(IncompleteStreamError):
        await mock.generate("hi")


async def test_a_fault_is_on_record_as_it_is_from_a_provider() -> None:
    """The outcome of a spoiled call names the kind of its error, and how it ended."""
    log = AuditLog.memory()
    with pytest.raises(IncompleteStreamError):
        await get_backend("mock", replies=MockReply(TEXT, fault=faults.Cut(byte=9)), audit=log).generate("hi")
    (row,) = log.attempts()
    assert row.status == "incomplete"
