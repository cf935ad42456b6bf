"""Decoding recorded bytes again: nothing differs where nothing changed, and what changed is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from msgspec import Meta

import corpus
from loopback import Loopback
from models.test_corpus_http import Replay, _ask, _groups
from replay.recording import CALLING, KEY, Asked, begun, call, decoded, only, shredded, streamed, told, whole
from veyra import AuditLog, get_backend, register_backend
from veyra.audit import BodyPart
from veyra.errors import AuditCorruptError, ProviderError
from veyra.models.endpoints import ENDPOINTS
from veyra.models.registry import registering
from veyra.models.wire import WireBackend
from veyra.replay.decode import decode
from veyra.replay.recorded import attempts
from veyra.transport.base import Head
from veyra.transport.script import Answer, NoConnection, Refuse, Reset, ScriptedTransport
from veyra.types import Event, Finish, TextDelta, Timeouts, Usage
from veyra.wire.base import Decoder, Flags
from veyra.wire.ollama import Ollama
from wires import HELLO, WIRES

every_wire = pytest.mark.parametrize("name", WIRES)

ENDS: dict[str, Callable[[str], Asked]] = {
    "streamed": lambda name: Asked(step=streamed(name)),
    "whole": lambda name: Asked(step=whole(name), stream=False),
    "streamed with tools": lambda name: Asked(step=streamed(name, CALLING)),
    "whole with tools": lambda name: Asked(step=whole(name, CALLING), stream=False),
    "byte by byte": lambda name: Asked(step=shredded(name, CALLING)),
    "whole where a stream was asked for": lambda name: Asked(step=whole(name)),
    "stream that is cut": lambda name: Asked(step=begun(name, end="cut")),
    "stream that is cut within an event": lambda name: Asked(step=streamed(name).cut_after(130)),
    "stream that is cut at its end": lambda name: Asked(step=replace(streamed(name), end="cut")),
    "stream that is cut before its last event": lambda name: Asked(
        step=replace(streamed(name), chunks=streamed(name).chunks[:-1], end="cut")
    ),
    "stream without its end": lambda name: Asked(step=begun(name)),
    "whole answer that is cut": lambda name: Asked(step=whole(name).cut_after(20), stream=False),
    "whole answer that is too short": lambda name: Asked(
        step=replace(whole(name).cut_after(20), end="end"), stream=False
    ),
    "empty answer": lambda name: Asked(step=Answer(headers=WIRES[name].head(stream=False)), stream=False),
    "refusal": lambda name: Asked(step=Answer(status=429, headers={"retry-after": "3"}, chunks=[b"slow down"])),
    "refusal in the provider's words": lambda name: Asked(
        step=Answer(
            status=401, headers=WIRES[name].head(stream=False), chunks=[b'{"error":{"message":"no","code":"x"}}']
        )
    ),
    "redirect": lambda name: Asked(step=Answer(status=302, headers={"location": "/"})),
    "error within a stream": lambda name: Asked(step=begun(name, WIRES[name].error)),
    "stream that is no stream": lambda name: Asked(step=begun(name, b"data: {bad\n\n{bad\n")),
    "cancelled": lambda name: Asked(step=streamed(name), stop=True),
    "timeout": lambda name: Asked(step=begun(name, end="stall"), timeout=Timeouts(between_events=0.01)),
}


@every_wire
@pytest.mark.parametrize("end", ENDS)
async def test_what_did_not_change_does_not_differ(name: str, end: str) -> None:
    """However an answer ended, decoding its bytes again gives what is on record."""
    log = AuditLog.memory()
    await call(log, name, ENDS[end](name), system="Be brief.", max_tokens=2000)
    (found,) = await decoded(log)
    assert (found.skipped, told([found])) == (None, [])


@pytest.mark.parametrize("step", [Refuse(), NoConnection(), Reset()])
async def test_where_no_answer_came_there_is_nothing_to_decode(step: Any) -> None:
    """A call without an answer is passed over, with the reason."""
    log = AuditLog.memory()
    await call(log, "chat", Asked(step=step))
    (found,) = await decoded(log)
    assert found.skipped in {"no answer came (connection)", "no answer came (timeout)"}


async def test_what_has_no_bytes_is_passed_over() -> None:
    """A call of a backend that talks to no server is passed over, with the reason."""
    log = AuditLog.memory()
    await get_backend("mock", audit=log).generate("Hi")
    assert [one.skipped for one in await decoded(log)] == ["the backend mock has no bytes on record"]


async def test_what_has_no_outcome_is_passed_over() -> None:
    """A call that is running, and one whose process ended, are passed over, with the reason."""
    log = AuditLog.memory()
    await call(log, "chat", Asked(step=streamed("chat")))
    attempt = only(log)
    attempt.outcome = None
    assert "has no outcome yet" in str((await decode(attempt)).skipped)
    attempt = only(log)
    attempt.row = replace(attempt.row, status="abandoned")
    assert "process ended before" in str((await decode(attempt)).skipped)


async def test_vectors_and_counts_are_decoded_again() -> None:
    """Calls for vectors and for counts of tokens are made again like answers."""
    log = AuditLog.memory()
    vectors = b'{"data":[{"index":0,"embedding":[0.5]}],"model":"e-1","usage":{"prompt_tokens":3}}'
    script = [Answer(chunks=[vectors]), Answer(chunks=[b"{"]), Answer(chunks=[b'{"input_tokens":12}'])]
    transport = ScriptedTransport(script)
    async with get_backend(
        "openai", api="responses", model="m", api_key=KEY, audit=log, transport=transport
    ) as backend:
        await backend.embed("Hi", dimensions=2)
        with pytest.raises(ProviderError):
            await backend.embed("Hi")
        await backend.count_tokens("Hi")
    found = await decoded(log)
    assert [(one.attempt.operation, one.skipped) for one in found] == [
        ("embeddings", None),
        ("embeddings", None),
        ("count_tokens", None),
    ]
    assert told(found) == []


@dataclass
class City:
    name: str


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
@pytest.mark.parametrize("text", ['{"name":"Bonn"}', '{"name":1}', "no json"])
async def test_answers_of_a_type_are_decoded_again(model: str, text: str) -> None:
    """An answer that was asked for as a type, by a mode or by a tool, is decoded so again, whether it fits or not."""
    log = AuditLog.memory()
    said = replace(HELLO, texts=(text,))
    if model == "gpt-4":
        said = replace(HELLO, texts=(), calls=(("c1", "answer", (text,)),), finish="tool_calls")
    await call(log, "chat", Asked(step=whole("chat", said), stream=False), model=model, output=City)
    found = await decoded(log)
    assert found[0].attempt.row.status == ("ok" if "Bonn" in text else "error")
    assert told(found) == []


@dataclass
class Crowd:
    size: Annotated[int, Meta(ge=10)]


@pytest.mark.parametrize("size", [9, 10])
async def test_whether_an_answer_fits_its_type_is_no_difference(size: int) -> None:
    """A type may say more than its schema on record; what it refused, and the schema does not, is no difference."""
    log = AuditLog.memory()
    said = replace(HELLO, texts=(f'{{"size": {size}}}',))
    await call(log, "chat", Asked(step=whole("chat", said), stream=False), output=Crowd)
    found = await decoded(log)
    assert found[0].attempt.row.error == (None if size == 10 else "output_mismatch")
    assert told(found) == []


async def test_warnings_that_were_given_before_sending_are_no_difference() -> None:
    """What was told of the request before it was sent stands in the answer's record, and is told again."""
    log = AuditLog.memory()
    made: dict[str, Any] = {"on_unsupported": "warn", "transport": ScriptedTransport([whole("chat")])}
    async with get_backend("openai", api="chat", model="o3", api_key=KEY, audit=log, **made) as backend:
        response = await backend.generate("Hi", temperature=0.5)
    assert response.warnings
    assert told(await decoded(log)) == []


async def test_a_masked_key_is_no_difference() -> None:
    """Where the model said the key, the record masks it, in the text as in the bytes."""
    log = AuditLog.memory()
    said = replace(HELLO, texts=(f"Your key is {KEY}.", " Or was", f" it {KEY[:8]}", f"{KEY[8:]}?"))
    await call(log, "chat", Asked(step=streamed("chat", said)))
    assert "*" * len(KEY) in only(log).answer["content"]  # type: ignore[index]
    assert told(await decoded(log)) == []


@pytest.mark.timeout(180)
async def test_recorded_traffic_decodes_as_it_was_handed_on() -> None:
    """Exchanges of real providers, made over HTTP and recorded, decode again without a difference."""
    corpus.require()
    server_side, counts = Replay(), Counter[str]()
    async with Loopback(server_side) as server:
        for (name, api), rows in _groups().items():
            log = AuditLog.memory()
            options: dict[str, Any] = {} if api is None else {"api": api}
            async with get_backend(name, api_key="sk-test-123", base_url=server.url, audit=log, **options) as backend:
                for row in rows[::7]:
                    server_side.row = row
                    try:
                        await _ask(backend, stream=corpus.streamed(row))
                    except ProviderError:
                        counts["errors"] += 1
            found = await decoded(log)
            assert (told(found), [one.skipped for one in found if one.skipped]) == ([], [])
            counts["calls"] += len(found)
    assert counts["calls"] > 450
    assert counts["errors"] > 10


# ------------------------------------------------------------------------------------------ planted changes


class Changed(Decoder):
    """A decoder in which one thing is done differently."""

    def __init__(self, inner: Decoder, change: Callable[[Event], Event | None], *, lenient: bool = False) -> None:
        self._inner, self._change, self._lenient = inner, change, lenient

    def feed(self, data: bytes) -> Iterator[Event]:
        return self._changed(self._inner.feed(data))

    def close(self) -> Iterator[Event]:
        try:
            yield from self._changed(self._inner.close())
        except ProviderError:
            if not self._lenient:
                raise
            yield Finish(reason="stop")

    def _changed(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            changed = self._change(event)
            if changed is not None:
                yield changed
        self.done = self._inner.done


@pytest.fixture
def plant() -> Callable[..., None]:
    """Register a backend in the place of Ollama's whose dialect does one thing differently."""

    def change(event: Callable[[Event], Event | None] = lambda event: event, **more: Any) -> None:
        class Other(Ollama):
            def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
                return Changed(super().decoder(head, flags, stream=stream), event, **more)

        endpoint = replace(ENDPOINTS["ollama"], dialect=Other)
        register_backend("ollama", lambda **options: WireBackend(endpoint, **options))

    return change


def _finish(**changes: Any) -> Callable[[Event], Event]:
    return lambda event: replace(event, **changes) if isinstance(event, Finish) else event


def _texts(change: Callable[[str], str]) -> Callable[[Event], Event]:
    return lambda event: TextDelta(change(event.text)) if isinstance(event, TextDelta) else event


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (
            _finish(reason="length"),
            ['veyra.finish_reason: was "stop", is "length"', 'message.finish_reason: was "stop", is "length"'],
        ),
        (
            _finish(usage=Usage(input_total=6)),
            ["gen_ai.usage.input_tokens: was 5, is 6", "gen_ai.usage.output_tokens: was 1, is nothing"],
        ),
        (_finish(model="other"), ['gen_ai.response.model: was "m-1", is "other"']),
        (_texts(str.upper), ['message.content: was "Hello", is "HELLO"']),
        (
            lambda event: None if isinstance(event, Finish) else event,
            [
                'status: was "ok", is "incomplete"',
                'error.type: was nothing, is "incomplete_stream"',
            ],
        ),
    ],
)
async def test_a_change_in_a_dialect_is_found_and_named(
    change: Callable[[Event], Event | None], differing: list[str], plant: Callable[..., None]
) -> None:
    """What today's decoder does differently is told by field, with both values."""
    log = AuditLog.memory()
    await call(log, "ollama", Asked(step=streamed("ollama")))
    plant(change)
    found = told(await decoded(log))
    assert [line for line in differing if line not in found] == []
    assert len(found) == len(differing) or "status" in found[0]


async def test_an_end_that_is_made_up_is_found(plant: Callable[..., None]) -> None:
    """A decoder that takes a stream without its end for an answer differs, also where the format has no request id."""
    log = AuditLog.memory()
    await call(log, "ollama", Asked(step=begun("ollama")))
    plant(lenient=True)
    assert 'status: was "incomplete", is "ok"' in told(await decoded(log))


async def test_a_change_in_an_interrupted_answer_is_found(plant: Callable[..., None]) -> None:
    """Of an answer that was left, what had been handed on must be the beginning of what is decoded."""
    log = AuditLog.memory()
    await call(log, "ollama", Asked(step=streamed("ollama"), stop=True))
    plant(_texts(str.upper))
    assert told(await decoded(log)) == ['message.content: was "Hel", is "HEL"']


async def test_an_error_that_is_mapped_differently_is_found(plant: Callable[..., None]) -> None:
    """An error whose kind is another today differs in `error.type`."""
    log = AuditLog.memory()
    await call(log, "ollama", Asked(step=begun("ollama", WIRES["ollama"].error)))
    plant(lambda event: TextDelta(1) if isinstance(event, TextDelta) else event)  # type: ignore[arg-type]
    found = told(await decoded(log))
    assert 'error.type: was "overloaded", is "backend"' in found


async def test_a_backend_that_is_not_there_any_more_is_a_difference(plant: Callable[..., None]) -> None:
    """A name that no backend has today, or one that speaks no wire format, is told."""
    plant()
    log = AuditLog.memory()
    transport = ScriptedTransport([streamed("ollama")] * 2)
    with registering():
        register_backend("mine", lambda **options: WireBackend(replace(ENDPOINTS["ollama"], name="mine"), **options))
        async with get_backend("mine", model="m", transport=transport, audit=log) as backend:
            await backend.generate("Hi")
        register_backend("mine", "veyra.models.mock:MockBackend")
        assert told(await decoded(log)) == ['backend: was "mine", is nothing']
    assert told(await decoded(log)) == ['backend: was "mine", is nothing']


async def test_a_dialect_that_is_not_spoken_any_more_is_a_difference(plant: Callable[..., None]) -> None:
    """A wire format that the backend does not speak today is told."""
    log = AuditLog.memory()
    await call(log, "ollama", Asked(step=streamed("ollama")))
    endpoint = replace(ENDPOINTS["ollama"], dialect="veyra.wire.gemini:Gemini")
    register_backend("ollama", lambda **options: WireBackend(endpoint, **options))
    assert told(await decoded(log)) == ['veyra.dialect: was "ollama", is nothing']


async def test_a_request_that_would_be_refused_today_is_a_difference() -> None:
    """What was sent and could not be asked any more is told, with the reason."""
    log = AuditLog.memory()
    await call(log, "ollama", Asked(step=streamed("ollama")))
    attempt = only(log)
    attempt.question.options["temperature"] = -1.0  # type: ignore[index]
    assert told([await decode(attempt)]) == [
        'request: was "sent", is "temperature is a finite number, 0 or more, not -1.0"'
    ]


# -------------------------------------------------------------------------------------------- hostile bodies


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "is no JSON object"),
        (b"[]", "is no JSON object"),
        (b"\xff", "is no JSON object"),
        (b"[" * 50_000, "is no JSON object"),
        (b'{"messages":1}', "in no form that is known here"),
        (b'{"messages":[1]}', "in no form that is known here"),
        (b'{"messages":[{"role":"user"}]}', "in no form that is known here"),
        (b'{"messages":[{"role":"king","content":"Hi"}]}', "in no form that is known here"),
        (b'{"messages":[{"role":"user","content":[{"what":1}]}]}', "in no form that is known here"),
        (b'{"messages":[{"role":"user","content":[{"text":1}]}]}', "in no form that is known here"),
        (b'{"messages":[{"role":"user","content":"Hi","native":[{"dialect":"x","raw":"?"}]}]}', "in no form"),
        (b'{"messages":[],"tools":[{"name":1}]}', "in no form that is known here"),
        (b'{"texts":[1]}', "in no form that is known here"),
        (None, "does not say what was asked"),
    ],
)
async def test_a_question_in_no_known_form_is_told(body: bytes | None, words: str) -> None:
    """A recorded question that cannot be read is an error that names the entry, whatever it is."""
    log = AuditLog.memory()
    parts = [] if body is None else [BodyPart("request.messages", body, "application/json")]
    await log.intent(call="c", attempt=1, backend="openai", attributes={}, parts=parts)
    with pytest.raises(AuditCorruptError, match=words) as caught:
        _ = only(log).question
    assert "entry 1 " in str(caught.value)


async def test_attempts_come_with_their_outcomes() -> None:
    """Attempts are yielded when their outcome is read, those without one last, and only those that are meant."""
    log = AuditLog.memory()
    attributes: dict[str, Any] = {"backend": "b", "attempt": 1, "attributes": {}}
    first, second, third = [await log.intent(call=f"c{number}", **attributes) for number in range(3)]
    ending: dict[str, Any] = {"status": "ok", "latency_ns": 1, "intent": third, "call": "c2"}
    await log.outcome(**ending, **attributes)
    assert [(one.row.call, one.row.status) for one in attempts(log.entries())] == [
        ("c2", "ok"),
        ("c0", "open"),
        ("c1", "open"),
    ]
    assert [one.row.call for one in attempts(log.entries(), [second.id, third.id])] == ["c2", "c1"]
    assert first.id not in {one.row.id for one in attempts(log.entries(), ())}
