"""Checks of what a backend makes of connections that break, answers that are cut, and servers that say nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from veyra.errors import (
    CallTimeoutError,
    ConnectionFailedError,
    IncompleteStreamError,
    MalformedResponseError,
    OverloadedError,
    ProviderError,
    ServerError,
)
from veyra.models.gate import Gate
from veyra.models.mock_reply import MockReply
from veyra.testing.stage import LONG, SHORT, Group, Stage, expect
from veyra.types import TextDelta

PROMPT = "What is the weather in Lisbon?"
TEXT = "Sunny, 21\u00b0, and a light wind from the west."

PIECE = 4

connections = Group("connections", over_http=True)
cuts = Group("cuts", over_http=True, by_events=True)
silence = Group("silence", over_http=True)
damage = Group("damage", over_http=True)
GROUPS = (connections, cuts, silence, damage)


async def _read(
    stage: Stage, faults: str, *, short: bool = False, in_step: bool = False
) -> tuple[str, ProviderError | None]:
    """Stream an answer; return the text that came and the error it ended with."""
    text = ""
    async with stage.talk(MockReply(TEXT, chunk=PIECE), faults=faults, in_step=in_step) as talk:
        try:
            async with talk.gate.stream(PROMPT, timeout=SHORT if short else LONG) as reply:
                async for event in reply:
                    text += event.text if isinstance(event, TextDelta) else ""
        except ProviderError as error:
            return text, error
    return text, None


# ------------------------------------------------------------------------------------------- connections


@connections.check
async def a_refused_connection(stage: Stage) -> None:
    """Where nobody listens, it is `ConnectionFailedError`; nothing was sent, so nothing is billed."""
    async with stage.talk() as talk:
        assert talk.server is not None
        backend = stage.make(talk.server.refusing_url)
        try:
            await Gate(backend, None).generate(PROMPT)
        except ProviderError as error:
            right = type(error) is ConnectionFailedError and error.retryable and not error.ambiguous
            expect(right, f"it came as {type(error).__name__}, ambiguous {error.ambiguous}: {error}")
        else:
            expect(held=False, message="an answer came")
        finally:
            await backend.aclose()


@connections.check
async def where_nobody_listens_is_not_healthy(stage: Stage) -> None:
    """`health_check` says False where nobody listens, and raises nothing."""
    async with stage.talk() as talk:
        assert talk.server is not None
        backend = stage.make(talk.server.refusing_url)
        healthy = None
        try:
            healthy = await backend.health_check()
        except Exception as error:  # noqa: BLE001  (whatever it raises is what is wrong)
            expect(held=False, message=f"health_check() raised {type(error).__name__}: {error}")
        finally:
            await backend.aclose()
    expect(healthy is False, f"health_check() returned {healthy!r}")


@connections.check
async def a_connection_that_breaks_before_the_answer(stage: Stage) -> None:
    """A connection that breaks after the request was sent is `ConnectionFailedError`; the work may be billed."""
    _, error = await _read(stage, "reset")
    right = type(error) is ConnectionFailedError and error.ambiguous
    expect(right, f"it came as {type(error).__name__}: {error}")


@connections.check
async def after_a_failure_the_next_call_is_answered(stage: Stage) -> None:
    """After a connection that broke the next call is answered."""
    async with stage.talk("Sunny.", faults="reset") as talk:
        with suppress(ProviderError):
            await talk.gate.generate(PROMPT)
        await talk.gate.generate(PROMPT)


# -------------------------------------------------------------------------------------------------- cuts


@cuts.check
async def a_cut_stream_is_incomplete(stage: Stage) -> None:
    """A stream whose connection breaks, after whichever event, is `IncompleteStreamError`, with the text that came."""
    await _expect_incomplete(stage, "cut")


@cuts.check
async def a_truncated_stream_is_incomplete(stage: Stage) -> None:
    """A stream that ends properly without its terminal marker is no answer: `IncompleteStreamError`."""
    await _expect_incomplete(stage, "truncate")


async def _expect_incomplete(stage: Stage, fault: str) -> None:
    for count in range(1, len(TEXT) // PIECE + 1):  # in every format the text alone makes as many events
        text, error = await _read(stage, f"{fault}@event={count}")
        expect(type(error) is IncompleteStreamError, f"{fault} after event {count}: {type(error).__name__}: {error}")
        partial = None if error is None else error.partial
        expect(partial == text, f"{fault} after event {count}: partial is {partial!r}, what came is {text!r}")


@cuts.check
async def a_cut_answer_may_be_billed(stage: Stage) -> None:
    """An answer that was cut is ambiguous."""
    _, error = await _read(stage, "cut@event=5")
    expect(error is not None and error.ambiguous, "it is not ambiguous")


@cuts.check
async def a_cut_answer_is_on_record(stage: Stage) -> None:
    """It is on record as incomplete, with the text that came."""
    async with stage.talk(MockReply(TEXT, chunk=PIECE), faults="cut@event=8") as talk:
        with suppress(ProviderError):
            async with talk.gate.stream(PROMPT) as reply:
                async for _ in reply:
                    pass
        statuses = [row.status for row in talk.log.attempts()]
        kept = [part.name for entry in talk.log.entries() for part in entry.parts]
    expect(statuses == ["incomplete"], f"the record says {', '.join(statuses)}")
    expect("response.wire" in kept, "the bytes that came are not on record")


@cuts.check
async def an_error_inside_a_stream(stage: Stage) -> None:
    """An error that the provider tells inside a stream is that error, and no cut."""
    _, error = await _read(stage, "error@event=3")
    expect(isinstance(error, OverloadedError | ServerError), f"it came as {type(error).__name__}: {error}")


# ----------------------------------------------------------------------------------------------- silence


async def _expect_timeout(stage: Stage, faults: str, phase: str) -> CallTimeoutError:
    _, error = await _read(stage, faults, short=True)
    expect(isinstance(error, CallTimeoutError), f"with {faults} it came as {type(error).__name__}: {error}")
    assert isinstance(error, CallTimeoutError)
    expect(error.phase == phase, f"with {faults} the clock {error.phase} ran out, not {phase}")
    return error


@silence.check
async def a_server_that_says_nothing(stage: Stage) -> None:
    """A request that is never answered is `CallTimeoutError` of the first token."""
    await _expect_timeout(stage, "stall", "first_token")


@silence.check_of_events
async def an_answer_that_stalls(stage: Stage) -> None:
    """A stream that stalls is `CallTimeoutError` between events, with the text that came."""
    error = await _expect_timeout(stage, "stall@event=6", "between_events")
    expect(error.partial and TEXT.startswith(error.partial), f"partial is {error.partial!r}")


@silence.check_of_events
async def signs_of_life_are_no_answer(stage: Stage) -> None:
    """Pings and comments do not keep a stalled answer alive."""
    await _expect_timeout(stage, "ping-only@event=6,every=0.05", "between_events")


@silence.check_of_events
async def leaving_closes_the_connection(stage: Stage) -> None:
    """Leaving an endless answer closes its connection within a second."""
    async with stage.talk(MockReply(TEXT, chunk=PIECE), faults="endless@every=0.01") as talk:
        async with talk.gate.stream(PROMPT) as reply:
            async for _ in reply:
                break
        assert talk.server is not None
        end = time.monotonic() + 1.0
        while talk.server.journal[-1].ended is None and time.monotonic() < end:  # noqa: ASYNC110  (the server tells nobody)
            await asyncio.sleep(0.01)
        ended = talk.server.journal[-1].ended
    expect(ended == "left", "a second after it was left the connection still stands")


# ------------------------------------------------------------------------------------------------ damage


@damage.check
async def characters_torn_apart(stage: Stage) -> None:
    """A body that comes in pieces of a few bytes, characters torn apart, is the same answer."""
    for seed in ("", "@seed=1", "@seed=2"):
        text, error = await _read(stage, f"split-utf8{seed}", in_step=True)
        expect(text == TEXT and error is None, f"the text is {text!r}, the error {error}")


@damage.check_of_events
async def an_event_that_is_no_json(stage: Stage) -> None:
    """An event that is no JSON is `MalformedResponseError`: nothing is guessed, nothing is left out."""
    _, error = await _read(stage, "invalid-json@event=3")
    expect(type(error) is MalformedResponseError, f"it came as {type(error).__name__}: {error}")


@damage.check
async def a_body_of_another_type(stage: Stage) -> None:
    """A body that is not of the type it is said to be is read, or is an error of ours."""
    text, error = await _read(stage, "content-type")
    expect(error is not None or text == TEXT, f"the text is {text!r}, and no error came")


@damage.check_of_events
async def events_that_come_twice(stage: Stage) -> None:
    """An event that comes twice or in another order ends in an answer or in an error of ours, and never in another's."""
    for fault in ("duplicate", "reorder"):
        for count in range(1, 6):
            _, error = await _read(stage, f"{fault}@event={count}" if count > 1 else fault)
            own = error is None or error.kind != "backend"
            expect(own, f"{fault} of event {count} came as {error}")
