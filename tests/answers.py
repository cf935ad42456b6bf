"""Running a dialect's decoder over bytes, and looking at what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from veyra.errors import ProviderError
from veyra.transport.base import Head
from veyra.types import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta
from veyra.wire.base import Decoder, Dialect, Flags


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything a decoder yielded."""

    events: tuple[Event, ...]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ReasoningDelta))

    @property
    def finish(self) -> Finish:
        """The end of the answer; there is exactly one, and nothing comes after it."""
        ends = [event for event in self.events if isinstance(event, Finish)]
        assert len(ends) == 1
        assert self.events[-1] is ends[0]
        return ends[0]

    def arguments(self, index: int) -> str:
        """The argument pieces of a tool call, joined."""
        deltas = (event for event in self.events if isinstance(event, ToolCallDelta))
        return "".join(event.arguments for event in deltas if event.index == index)


def run(decoder: Decoder, pieces: Iterable[bytes]) -> Answer:
    """Feed the pieces, stop where the decoder says it is done, and close it."""
    events: list[Event] = []
    for piece in pieces:
        events.extend(decoder.feed(piece))
        if decoder.done:
            break
    events.extend(decoder.close())
    assert decoder.done
    return Answer(tuple(events))


def fail(decoder: Decoder, pieces: Iterable[bytes]) -> tuple[list[Event], ProviderError]:
    """Feed the pieces to a decoder that must raise; return the events before, and the error."""
    events: list[Event] = []
    with pytest.raises(ProviderError) as caught:
        for piece in pieces:
            for event in decoder.feed(piece):
                events.append(event)  # noqa: PERF402  (what came before the error must not be lost)
        for event in decoder.close():
            events.append(event)  # noqa: PERF402
    assert not decoder.done
    assert not any(isinstance(event, Finish) for event in events)
    return events, caught.value


def head(status: int = 200, **headers: str) -> Head:
    """A head; header names are written with underscores."""
    return Head(status, {name.replace("_", "-"): value for name, value in headers.items()})


def answer(  # the shapes of the three dialects differ only in these
    dialect: Dialect,
    body: bytes | str,
    *,
    stream: bool,
    headers: Mapping[str, str] | None = None,
    **flags: Any,
) -> Answer:
    """Decode a body that came in one piece."""
    data = body.encode() if isinstance(body, str) else body
    decoder = dialect.decoder(Head(200, headers or {}), Flags(provider="test", **flags), stream=stream)
    return run(decoder, [data])


def failed(
    dialect: Dialect,
    body: bytes | str,
    *,
    stream: bool,
    headers: Mapping[str, str] | None = None,
    **flags: Any,
) -> ProviderError:
    """Decode a body that must raise, and return the error."""
    data = body.encode() if isinstance(body, str) else body
    decoder = dialect.decoder(Head(200, headers or {}), Flags(provider="test", **flags), stream=stream)
    return fail(decoder, [data])[1]
