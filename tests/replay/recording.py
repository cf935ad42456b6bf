"""Calls on record: every way for an exchange to end, in every wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from veyra import AuditLog, get_backend
from veyra.errors import ProviderError
from veyra.replay.decode import Decoded, decode
from veyra.replay.recorded import RecordedAttempt, attempts
from veyra.transport.script import Answer, ScriptedTransport, Step
from veyra.types import Prompt, TextDelta, Timeouts, Usage
from wires import HELLO, WIRES, Said

KEY = "sk-canary-0123456789"
CALLING = Said(
    thoughts=("Let me", " see."),
    texts=("One", " moment."),
    calls=(("c1", "look", ('{"at":', '"x"}')), ("c2", "look", ("{}",))),
    finish="tool_calls",
    usage=Usage(input_total=7, output_total=4),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a call is made: `stop` leaves the stream at its first text."""

    step: Step
    stream: bool = True
    stop: bool = False
    timeout: float | Timeouts | None = None


def streamed(name: str, said: Said = HELLO, **more: Any) -> Answer:
    return Answer(headers=WIRES[name].head(stream=True), chunks=WIRES[name].stream(said), **more)


def whole(name: str, said: Said = HELLO, **more: Any) -> Answer:
    return Answer(headers=WIRES[name].head(stream=False), chunks=[WIRES[name].whole(said)], **more)


def begun(name: str, *more: bytes, end: Any = "end") -> Answer:
    """The events of a stream up to its first text, and what comes after them."""
    wire = WIRES[name]
    events = wire.stream(HELLO)
    first = next(number for number, event in enumerate(events) if b'"Hel"' in event)
    return Answer(headers=wire.head(stream=True), chunks=[*events[: first + 1], *more], end=end)


def shredded(name: str, said: Said) -> Answer:
    """A stream that arrives byte by byte."""
    data = b"".join(WIRES[name].stream(said))
    return Answer(headers=WIRES[name].head(stream=True), chunks=[data[at : at + 1] for at in range(len(data))])


async def call(log: AuditLog, name: str, asked: Asked, prompt: Prompt = "Hi", **options: Any) -> None:
    """Make one call in a wire format, and let it fail as it does."""
    wire = WIRES[name]
    given = {"timeout": asked.timeout, **options}
    made = {"model": "m", "api_key": KEY, "audit": log, "transport": ScriptedTransport([asked.step]), **wire.options}
    async with get_backend(wire.backend, **made) as backend:
        try:
            if not asked.stream:
                await backend.generate(prompt, **given)
                return
            async with backend.stream(prompt, **given) as reply:
                async for event in reply:
                    if asked.stop and isinstance(event, TextDelta):
                        return
        except ProviderError:
            return


async def decoded(log: AuditLog) -> list[Decoded]:
    return [await decode(attempt) for attempt in attempts(log.entries())]


def only(log: AuditLog) -> RecordedAttempt:
    (attempt,) = attempts(log.entries())
    return attempt


def told(found: Sequence[Decoded]) -> list[str]:
    return [difference.describe("was", "is") for one in found for difference in one.differences]
