from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

import virtual
from veyra.audit import AuditLog
from veyra.errors import (
    AuditUnavailableError,
    AuditWriteError,
    BackendError,
    CallTimeoutError,
    IncompleteStreamError,
    InvalidRequestError,
    OutputMismatchError,
    RateLimitError,
)
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.gate import EventBackend, Gate
from veyra.models.mock import MockBackend
from veyra.types import (
    Event,
    Finish,
    ModelResponse,
    ModelWarning,
    ReasoningDelta,
    Receipt,
    Request,
    Secret,
    TextDelta,
    Timeouts,
    ToolCall,
    Usage,
)

KEY = "sk-canary-0123456789"
Step = Event | BaseException | Callable[[], Any]


class Steps(EventBackend):
    """A backend that does the given steps: yields events, raises exceptions, awaits what functions return."""

    name = "steps"

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.started = 0
        self.closed = 0

    def prepare(self, request: Request) -> Exchange:
        """Name a key, so that masking can be seen."""
        return Exchange(provider="tests", secrets=(Secret(KEY),))

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        """Do the steps."""
        self.started += 1
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
        finally:
            self.closed += 1

    async def health_check(self) -> bool:
        """Fail, as an untidy backend does."""
        msg = "broken"
        raise RuntimeError(msg)


DONE = Finish(reason="stop", raw_reason="end", usage=Usage(input_total=3, output_total=2), model="m-1", response_id="r")


class RefusingLog(AuditLog):
    """A log whose intents or outcomes fail."""

    def __init__(self, *, intents: bool) -> None:
        super().__init__("nowhere")
        self.refuses_intents = intents

    async def intent(self, **_: Any) -> Receipt:
        """Refuse, or let through."""
        if self.refuses_intents:
            msg = "no room"
            raise AuditUnavailableError(msg)
        return Receipt(origin="o", id="i", seq=0, leaf_hash="00")

    async def outcome(self, **_: Any) -> Receipt:
        """Refuse."""
        msg = "no room"
        raise AuditWriteError(msg)


def _row(log: AuditLog) -> Any:
    rows = list(log.attempts())
    assert len(rows) == 1
    return rows[0]


def _body(log: AuditLog, name: str) -> bytes:
    found = [part.data for entry in log.entries() for part in entry.parts if part.name == name]
    assert len(found) == 1
    return bytes(found[0])


async def test_generate_collects_what_the_backend_says() -> None:
    """Text, reasoning, warnings, tool calls, usage and ids of the events are the response's."""
    call = ToolCall("c1", "f", {"a": 1}, '{"a":1}')
    warning = ModelWarning("dropped", "seed is not supported", "seed")
    finish = Finish(
        reason="tool_calls",
        raw_reason="tool_use",
        usage=Usage(input_total=10, cache_read=4, output_total=5),
        model="m-2026",
        response_id="resp",
        request_id="req",
        tool_calls=(call,),
    )
    events: list[Event] = [warning, ReasoningDelta("hm"), TextDelta("a"), TextDelta("b"), finish]
    log = AuditLog.memory()
    response = await Gate(Steps(*events), log).generate("hi")
    assert response.content == "ab"
    assert response.reasoning == "hm"
    assert response.warnings == (warning,)
    assert response.tool_calls == (call,)
    assert (response.prompt_tokens, response.completion_tokens) == (10, 5)
    assert (response.model, response.backend, response.request_id) == ("m-2026", "steps", "req")
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "tool_use")
    assert response.receipt is not None
    assert [(attempt.status, attempt.receipt) for attempt in response.attempts] == [("ok", response.receipt)]


async def test_unstated_usage_is_zero_in_the_old_fields_and_none_in_usage() -> None:
    """Unknown is not zero: only the two ADR fields, which are ints, say 0."""
    response = await Gate(Steps(TextDelta("x"), Finish(reason="stop")), AuditLog.memory()).generate("hi")
    assert (response.prompt_tokens, response.completion_tokens) == (0, 0)
    assert (response.usage.input_total, response.usage.output_total) == (None, None)


async def test_stream_hands_on_the_events_and_then_the_response() -> None:
    """The events come in order, Finish last, and the reply then holds the same response as generate gives."""
    async with Gate(Steps(TextDelta("a"), TextDelta("b"), DONE), AuditLog.memory()).stream("hi") as reply:
        with pytest.raises(InvalidRequestError, match="not been read"):
            _ = reply.response
        events = [event async for event in reply]
    assert events == [TextDelta("a"), TextDelta("b"), DONE]
    assert reply.response.content == "ab"


async def test_the_intent_is_recorded_before_the_backend_is_asked() -> None:
    """No record, no call: at the first step of the backend its intent is already in the log."""
    log = AuditLog.memory()
    seen: list[str] = []

    async def look() -> None:
        seen.extend(entry.leaf["kind"] for entry in log.entries())

    await Gate(Steps(look, DONE), log).generate("hi")
    assert "call.intent" in seen
    assert "call.outcome" not in seen


async def test_without_an_intent_nothing_is_sent() -> None:
    """A log that cannot take the intent refuses the call, and the backend is never asked."""
    backend = Steps(DONE)
    with pytest.raises(AuditUnavailableError):
        await Gate(backend, RefusingLog(intents=True)).generate("hi")
    assert backend.started == 0


async def test_the_outcome_is_recorded_before_finish_is_handed_on() -> None:
    """No answer without a record: when Finish arrives, the outcome is in the log."""
    log = AuditLog.memory()
    async with Gate(Steps(TextDelta("a"), DONE), log).stream("hi") as reply:
        statuses = [(type(event).__name__, _row(log).status) async for event in reply]
    assert statuses == [("TextDelta", "open"), ("Finish", "ok")]


async def test_an_outcome_that_cannot_be_written_carries_the_answer() -> None:
    """What was paid for is not lost: AuditWriteError holds the response."""
    with pytest.raises(AuditWriteError) as caught:
        await Gate(Steps(TextDelta("paid"), DONE), RefusingLog(intents=False)).generate("hi")
    assert caught.value.response is not None
    assert caught.value.response.content == "paid"


@pytest.mark.parametrize(
    ("steps", "error", "status"),
    [
        ([TextDelta("par"), RateLimitError("slow down", retry_after=2)], RateLimitError, "error"),
        ([TextDelta("par"), IncompleteStreamError("cut")], IncompleteStreamError, "incomplete"),
        ([TextDelta("par")], IncompleteStreamError, "incomplete"),
        ([TextDelta("par"), CallTimeoutError("late", phase="total", limit=1)], CallTimeoutError, "timeout"),
        ([TextDelta("par"), ValueError("its own")], BackendError, "error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_recorded_and_carries_the_partial_text(
    steps: list[Step], error: type[Exception], status: str, stream: bool
) -> None:
    """Each way to fail has its status in the log, and its error holds the text that had come."""
    log = AuditLog.memory()
    gate = Gate(Steps(*steps), log)
    with pytest.raises(error) as caught:
        if stream:
            async with gate.stream("hi", model="m") as reply:
                async for _ in reply:
                    pass
        else:
            await gate.generate("hi", model="m")
    assert caught.value.partial == "par"  # type: ignore[attr-defined]
    assert caught.value.model == "m"  # type: ignore[attr-defined]
    assert caught.value.provider == "tests"  # type: ignore[attr-defined]
    assert _row(log).status == status
    assert b"par" in _body(log, "response.message")


async def test_a_foreign_exception_is_wrapped_and_kept_as_its_cause() -> None:
    """A backend's own exception does not get out; it is the cause of ours."""
    with pytest.raises(BackendError, match="'steps' raised ValueError: its own") as caught:
        await Gate(Steps(ValueError("its own")), None).generate("hi")
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_cancelled_task_leaves_a_cancelled_outcome() -> None:
    """Cancelling the task that waits for an answer is recorded, and stays a cancellation."""
    log = AuditLog.memory()
    backend = Steps(TextDelta("par"), lambda: asyncio.Event().wait())
    task = asyncio.create_task(Gate(backend, log).generate("hi"))
    while not backend.started:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _row(log).status == "cancelled"
    assert backend.closed == 1


async def test_leaving_a_stream_early_closes_it_and_is_recorded() -> None:
    """A reply left before its end closes the backend's events and is recorded as cancelled, with its text."""
    log = AuditLog.memory()
    backend = Steps(TextDelta("par"), TextDelta("tial"), DONE)
    async with Gate(backend, log).stream("hi") as reply:
        async for _ in reply:
            break
    assert backend.closed == 1
    assert _row(log).status == "cancelled"
    assert b'"par"' in _body(log, "response.message")


async def test_a_stream_that_is_never_read_is_no_call() -> None:
    """The call begins with the first event asked for."""
    log = AuditLog.memory()
    backend = Steps(DONE)
    async with Gate(backend, log).stream("hi"):
        pass
    assert backend.started == 0
    assert not list(log.attempts())


async def test_nothing_after_finish_is_read() -> None:
    """Finish ends an answer: the backend is closed, and what it would have said is not."""
    backend = Steps(DONE, TextDelta("more"), DONE)
    async with Gate(backend, None).stream("hi") as reply:
        assert [event async for event in reply] == [DONE]
    assert backend.closed == 1


def test_a_stalled_backend_is_a_timeout_on_the_record() -> None:
    """Warnings are no content: a backend that says nothing else runs into the first-event clock."""
    log = AuditLog.memory()

    async def main() -> None:
        backend = Steps(ModelWarning("w", "m"), lambda: asyncio.sleep(100), DONE)
        await Gate(backend, log).generate("hi", timeout=Timeouts(first_token=3))

    with pytest.raises(CallTimeoutError) as caught:
        virtual.run(main())
    assert caught.value.phase == "first_token"
    assert _row(log).status == "timeout"


async def test_a_key_shows_neither_in_errors_nor_in_the_record() -> None:
    """A key that a server or a backend says back is masked in the error and in every body."""
    log = AuditLog.memory()
    steps = (TextDelta(f"your key is {KEY}"), RateLimitError(f"bad {KEY}", provider_code=KEY, request_id=KEY))
    with pytest.raises(RateLimitError) as caught:
        await Gate(Steps(*steps), log).generate("hi")
    error = caught.value
    seen = [str(error), repr(error), error.partial, error.provider_code, error.request_id]
    seen += [repr(entry.raw) + repr([bytes(part.data) for part in entry.parts]) for entry in log.entries()]
    assert KEY not in " ".join(map(str, seen))
    assert "your key is ***" in error.partial


async def test_health_that_raises_is_not_healthy() -> None:
    """A health check that fails in whatever way says False."""
    assert await Gate(Steps(), None).health_check() is False


class TwoMethods(BaseModelBackend):
    """A third party's backend: what ADR-0001 asks for, and no more."""

    name = "two"

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, Mapping[str, Any]]] = []

    async def generate(self, prompt: str, **options: Any) -> ModelResponse:
        """Answer as told."""
        self.asked.append((prompt, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    async def health_check(self) -> bool:
        """Say yes."""
        return True


def _answer(**more: Any) -> ModelResponse:
    return ModelResponse("hello", "m", "elsewhere", 1.0, 7, 2, "req-1", **more)


async def test_two_methods_are_enough_to_be_generated_streamed_and_recorded() -> None:
    """A backend of two methods gets the stream, the response and the record of the built-in ones."""
    log = AuditLog.memory()
    backend = TwoMethods(_answer())
    gate = Gate(backend, log)
    response = await gate.generate("hi", max_tokens=5, system="s")
    async with gate.stream("hi") as reply:
        events = [event async for event in reply]
    assert backend.asked[0] == ("hi", {"max_tokens": 5, "system": "s"})
    assert response.content == reply.response.content == "hello"
    assert response.backend == "two"
    assert (response.prompt_tokens, response.usage.input_total) == (7, 7)
    assert response.finish_reason is None
    assert events[0] == TextDelta("hello")
    assert [row.status for row in log.attempts()] == ["ok", "ok"]


async def test_a_backend_that_returns_something_else_is_told() -> None:
    """A generate() that does not return a ModelResponse broke its contract."""
    with pytest.raises(BackendError, match="returned str from generate"):
        await Gate(TwoMethods("just text"), None).generate("hi")


async def test_audit_off_records_nothing_and_gives_no_receipt() -> None:
    """Without a log there is no receipt, and the rest is as always."""
    response = await Gate(Steps(TextDelta("x"), DONE), None).generate("hi")
    assert response.receipt is None


async def test_bodies_of_the_record_hold_what_was_asked_and_answered() -> None:
    """The messages and the answer stand in the log as they were."""
    log = AuditLog.memory()
    await Gate(Steps(TextDelta("Grüße \ud800"), DONE), log).generate("Was nun?", system="knapp")
    assert b'"Was nun?"' in _body(log, "request.messages")
    assert b'"knapp"' in _body(log, "request.messages")
    assert rb"\ud800" in _body(log, "response.message")


def test_options_are_checked_before_the_stream_begins() -> None:
    """A wrong option is told when the stream is asked for, not when it is read."""
    with pytest.raises(InvalidRequestError, match="max_tokens"):
        Gate(Steps(DONE), None).stream("hi", max_tokens=-1)


@dataclass
class City:
    name: str
    people: int


async def test_output_is_read_into_the_type_that_was_asked_for() -> None:
    """The text of the answer, read as the type, is the response's output."""
    log = AuditLog.memory()
    response = await Gate(Steps(TextDelta('{"name": "Bern",'), TextDelta(' "people": 134000}'), DONE), log).generate(
        "Which?", output=City
    )
    assert response.output == City("Bern", 134000)


async def test_an_answer_that_does_not_fit_is_an_error_with_its_text_and_its_usage_on_the_record() -> None:
    """An answer of the wrong shape names the place, keeps the text, and counts what it used."""
    log = AuditLog.memory()
    text = '{"name": "Bern", "people": "many"}'
    with pytest.raises(OutputMismatchError, match=r"\$\.people: expected int") as caught:
        await Gate(Steps(TextDelta(text), DONE), log).generate("Which?", output=City)
    assert caught.value.partial == text
    row = _row(log)
    assert (row.status, row.error) == ("error", "output_mismatch")
    assert caught.value.response.content == text
    assert caught.value.response.receipt is not None
    assert row.usage["output_total"] == 2


async def test_an_answer_that_does_not_fit_is_asked_for_again_as_often_as_allowed() -> None:
    """A repair is an attempt of the same call: it carries the answer and what is wrong with it, and its use is told."""
    log = AuditLog.memory()
    mock = MockBackend(['{"name": "Bern"}', "no JSON", '{"name": "Bern", "people": 134000}'])
    response = await Gate(mock, log).generate("Which?", output=City, repair=2)
    assert response.output == City("Bern", 134000)
    assert [(a.number, a.status, a.error) for a in response.attempts] == [
        (1, "error", "output_mismatch"),
        (2, "error", "output_mismatch"),
        (3, "ok", None),
    ]
    assert [a.usage.output_total for a in response.attempts] == [2, 2, 4]
    rows = list(log.attempts())
    assert [row.status for row in rows] == ["error", "error", "ok"]
    assert len({row.call for row in rows}) == 1
    asked = mock.calls[1].messages
    assert [message.role for message in asked] == ["user", "assistant", "user"]
    assert asked[1].text == '{"name": "Bern"}'
    assert "people" in asked[2].text


async def test_repairs_are_bounded() -> None:
    """After the last repair the mismatch is raised; other errors are never repaired."""
    mock = MockBackend(["bad", "bad", "bad"])
    with pytest.raises(OutputMismatchError):
        await Gate(mock, None).generate("Which?", output=City, repair=1)
    assert len(mock.calls) == 2
    failing = MockBackend([RateLimitError("slow")])
    with pytest.raises(RateLimitError):
        await Gate(failing, None).generate("Which?", output=City, repair=3)
    assert len(failing.calls) == 1


@pytest.mark.parametrize("options", [{"repair": 6, "output": City}, {"repair": -1, "output": City}, {"repair": 1}])
async def test_a_repair_that_cannot_be_is_told(options: Any) -> None:
    """A repair needs a type to fit, and a bound."""
    with pytest.raises(InvalidRequestError, match="repair"):
        await Gate(Steps(DONE), None).generate("Which?", **options)


def test_a_stream_is_not_repaired() -> None:
    """What was handed on cannot be taken back."""
    with pytest.raises(InvalidRequestError, match="repair"):
        Gate(Steps(DONE), None).stream("Which?", output=City, repair=1)


async def test_tool_calls_and_refusals_are_no_output() -> None:
    """Where the model called a tool or would not answer, there is nothing to read, and no error."""
    finish = Finish(reason="content_filter")
    response = await Gate(Steps(TextDelta("I will not."), finish), None).generate("Which?", output=City)
    assert response.output is None
    assert response.finish_reason == "content_filter"


async def test_an_output_type_without_a_json_form_is_told() -> None:
    """A type that no JSON can hold is refused before anything is sent."""
    backend = Steps(DONE)
    with pytest.raises(InvalidRequestError):
        await Gate(backend, None).generate("Which?", output=asyncio.Event)
    assert backend.started == 0


async def test_a_typed_function_is_a_tool() -> None:
    """A function among the tools is described by its annotations."""

    def weather(city: str) -> str:
        """Say the weather."""
        return city

    backend = TwoMethods(_answer())
    await Gate(backend, None).generate("hi", tools=[weather])
    (tool,) = backend.asked[0][1]["tools"]
    assert (tool.name, tool.description) == ("weather", "Say the weather.")
    assert tool.parameters["properties"]["city"]["type"] == "string"
