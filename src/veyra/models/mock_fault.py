"""An answer of the mock on its way through a fault: what a backend behind a network makes of the same fault.

The answer is written as a server of Chat Completions writes it, spoiled, and read again by the backend that serves every
vendor: so its events and its errors are those that production would see. Of the times, only those of the fault are kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from veyra.models.endpoints import Endpoint
from veyra.models.gate import Attempt
from veyra.models.wire import WireBackend
from veyra.transport.faults import Fault
from veyra.transport.playing import Answer, apply
from veyra.transport.script import ScriptedTransport, Step
from veyra.types import Event, Finish, Message, ModelWarning, Request, Timeouts
from veyra.wire.base import Flags, Stamp
from veyra.wire.openai_chat_server import OpenAIChatServer
from veyra.wire.wording import Wording

_USUAL = Timeouts()


async def spoiled(
    events: Sequence[Event], fault: Fault, request: Request, provider: str
) -> AsyncGenerator[Event, None]:
    """Yield what is left of an answer's events, and raise what a backend would raise.

    Args:
        events: the whole answer, `Finish` last.
        fault: what happens to it.
        request: what it answers.
        provider: who is said to have answered.

    Raises:
        ProviderError: what the fault leads to.
    """
    for event in events:
        if isinstance(event, ModelWarning):  # ours: no format has a place for them
            yield event
    asked = _asked(request)
    endpoint = Endpoint(
        name=provider, base_url="http://mock.invalid/v1", key_required=False, flags=Flags(provider=provider)
    )
    backend = WireBackend(endpoint, transport=ScriptedTransport([_sent(events, fault, asked)]))
    async with aclosing(Attempt(backend, asked, None, call="").events()) as left:
        async for event in left:
            yield event


def _asked(request: Request) -> Request:
    """Return the least that is answered in the same form, and leaves the clocks but the connection's to the mock's caller."""
    connect = (request.timeout or _USUAL).connect
    return Request(
        prompt="mock",
        messages=(Message("user", "mock"),),
        stream=request.stream,
        model=request.model or "mock",
        timeout=Timeouts(connect=connect, first_token=None, between_events=None, total=None),
        extra={"stream_options": {"include_usage": True}} if request.stream else {},
    )


def _sent(events: Sequence[Event], fault: Fault, request: Request) -> Step:
    """Return what a server sends for an answer that suffers a fault."""
    finish = next(event for event in events if isinstance(event, Finish))
    stamp = Stamp(
        id=finish.response_id or "mock",
        request_id=finish.request_id or f"req-{finish.response_id}",
        model=finish.model or request.model or "mock",
        created=0.0,
    )
    server = OpenAIChatServer()
    encoder = server.encoder(request, stamp)
    head = encoder.head()
    chunks = [encoder.write(event) for event in events]
    form = Wording(server, request_id=stamp.request_id, encoder=encoder, streamed=request.stream)
    return apply(fault, Answer(status=head.status, headers=head.headers, chunks=chunks), form, now=stamp.created)
