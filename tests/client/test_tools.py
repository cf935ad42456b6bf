"""The tool loop: what the model is told of functions, what is called, what goes back, what is on record, when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from click.testing import CliRunner

from client.stalling import Stalling
from veyra import AuditLog, Client, Message, ModelResponse, Retry, get_backend, run_tools
from veyra.audit import Entry, read_attempts, verify
from veyra.cli.main import cli
from veyra.client.function import Function
from veyra.errors import (
    AuditUnavailableError,
    AuditWriteError,
    InvalidRequestError,
    OutputMismatchError,
    RateLimitError,
    ServerError,
    ToolRunError,
    VeyraError,
)
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.models.mock_reply import MockReply
from veyra.types import Request, ToolCall, ToolRun, Usage

TESTS = Path(__file__).parents[1]


def asks(*calls: ToolCall, **fields: Any) -> ModelResponse:
    """An answer that asks for tools."""
    return ModelResponse("", "m", "mock", 0.0, 1, 1, None, finish_reason="tool_calls", tool_calls=calls, **fields)


def call(name: str, /, id: str = "c1", **arguments: Any) -> ToolCall:  # noqa: A002  (as in ToolCall)
    return ToolCall(id, name, arguments, json.dumps(arguments))


def gate(*replies: Any, log: AuditLog | None = None) -> tuple[Gate, MockBackend]:
    mock = MockBackend(replies)
    return Gate(mock, log or AuditLog.memory()), mock


def add(left: int, right: int = 1) -> int:
    """Add two numbers.

    This is not told to the model.
    """
    return left + right


async def shout(text: str) -> str:
    """Say it loudly."""
    await asyncio.sleep(0)
    return text.upper()


def fail(text: str) -> str:
    """Fail."""
    raise ValueError(text)


def told(run: ToolRun) -> list[tuple[str, str]]:
    return [(execution.status, execution.result.content) for execution in run.executions]


def tool_entries(log: AuditLog) -> list[Entry]:
    return [entry for entry in log.entries() if entry.leaf.get("backend", "").startswith("tool:")]


# ------------------------------------------------------------------------------------------------ the loop


async def test_functions_are_called_until_the_model_answers() -> None:
    """Sync and async functions are called as asked, in two steps; results go back in order; the last answer is the response."""
    asker, mock = gate(
        asks(call("add", "a", left=2), call("shout", "b", text="hi")), asks(call("add", left=3, right=4)), "7"
    )
    run = await run_tools(asker, "Add", [add, shout], system="Use tools.", max_tokens=9)
    assert run.response.content == "7"
    assert told(run) == [("ok", "3"), ("ok", "HI"), ("ok", "7")]
    assert len(run.responses) == 3
    assert [message.role for message in run.messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [(part.id, part.content) for part in mock.calls[1].messages[2].parts] == [("a", "3"), ("b", "HI")]  # type: ignore[union-attr]
    assert [tool.name for tool in mock.last.tools] == ["add", "shout"]
    assert mock.last.tools[0].description == "Add two numbers."
    assert (mock.last.system, mock.last.max_tokens) == ("Use tools.", 9)


async def test_a_run_goes_on_from_messages_and_with_a_client() -> None:
    """`messages` of one run are the prompt of the next; a client's own policies hold for each call of a run."""
    mock = MockBackend([ServerError("down"), asks(call("add", left=1)), "2", "Bye"])
    client = Client(mock, retry=Retry(base=0.0), audit="memory")
    run = await run_tools(client, "Add", [add], conversation="c")
    assert len(run.responses[0].attempts) == 2
    again = await run_tools(client, [*run.messages, Message("user", "Thanks")], [add])
    assert again.response.content == "Bye"
    assert len(mock.last.messages) == 5
    assert again.executions == ()


async def test_what_is_asked_for_at_once_runs_at_once() -> None:
    """Four calls that wait for each other all end; results keep the order of the calls, not of the ends."""
    meeting = asyncio.Barrier(3)

    async def meet(number: int) -> int:
        """Meet."""
        await meeting.wait()
        for _ in range(5 - number):
            await asyncio.sleep(0)
        return number

    asker, _ = gate(asks(*(call("meet", str(n), number=n) for n in range(3))), "done")
    run = await run_tools(asker, "Go", [meet])
    assert [content for _, content in told(run)] == ["0", "1", "2"]


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_run_at_once_than_are_allowed(limit: int) -> None:
    """`max_parallel` bounds what runs at the same time."""
    running = most = 0

    async def work(number: int) -> int:
        """Work."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    asker, _ = gate(asks(*(call("work", str(n), number=n) for n in range(10))), "done")
    await run_tools(asker, "Go", [work], max_parallel=limit)
    assert most == limit


async def test_a_function_that_is_not_async_runs_on_a_thread_in_the_callers_context() -> None:
    """It blocks no loop, and sees the caller's context variables."""
    trace: ContextVar[str] = ContextVar("trace")

    def where() -> list[str]:
        """Say where."""
        return [trace.get(), str(threading.current_thread() is threading.main_thread())]

    trace.set("mine")
    asker, _ = gate(asks(call("where")), "done")
    assert told(await run_tools(asker, "Go", [where])) == [("ok", '["mine","False"]')]


async def test_functions_on_threads_leave_the_loops_own_threads_alone() -> None:
    """A function that waits for what needs the loop's executor, as a blocking call does, does not wait for itself."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))

    def ask(text: str) -> str:
        """Ask another model."""
        return asyncio.run_coroutine_threadsafe(asyncio.to_thread(text.upper), loop).result(5)

    asker, _ = gate(asks(call("ask", "a", text="a"), call("ask", "b", text="b")), "done")
    assert told(await run_tools(asker, "Go", [ask])) == [("ok", "A"), ("ok", "B")]


async def test_no_thread_outlasts_a_run() -> None:
    """When a run has ended so have the threads of its functions, those that raised included."""
    before = set(threading.enumerate())
    asker, _ = gate(asks(*(call(name, name + text, text=text) for name in ("slow", "fail") for text in "abc")), "done")

    def slow(text: str) -> str:
        """Run on."""
        return text

    await run_tools(asker, "Go", [slow, fail])
    assert set(threading.enumerate()) == before


def test_a_function_that_outlasts_its_loop_ends_in_silence() -> None:
    """A cancelled run and its loop end at once; the function that goes on on its thread ends later, and nobody hears of it."""
    begun, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def wait() -> None:
        """Wait."""
        threads.append(threading.current_thread())
        begun.set()
        go_on.wait(10)

    async def main() -> None:
        asker, _ = gate(asks(call("wait")))
        task = asyncio.create_task(run_tools(asker, "Go", [wait]))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert threads[0].is_alive()
    go_on.set()
    threads[0].join(10)
    assert not threads[0].is_alive()


async def test_a_forced_tool_is_forced_once() -> None:
    """`tool_choice` that demands a call holds for the first step only: else the model could never answer. Others hold on."""
    for choice, later in (("required", None), ("add", None), ("auto", "auto")):
        asker, mock = gate(asks(call("add", left=1)), "2")
        await run_tools(asker, "Go", [add], tool_choice=choice)
        assert [request.tool_choice for request in mock.calls] == [choice, later]


async def test_a_pause_is_gone_on_from() -> None:
    """A provider that pauses in the middle of its own tools is asked to go on; that is a step."""
    paused = ModelResponse("I am", "m", "mock", 0.0, 1, 1, None, finish_reason="paused")
    asker, mock = gate(paused, "done")
    run = await run_tools(asker, "Go", [add])
    assert (run.response.content, len(mock.calls)) == ("done", 2)
    assert mock.last.messages[-1].text == "I am"
    asker, _ = gate(*[paused] * 3)
    with pytest.raises(ToolRunError):
        await run_tools(asker, "Go", [add], max_steps=3)


# --------------------------------------------------------------------------------- arguments and results


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.0


async def test_arguments_come_as_the_annotated_types() -> None:
    """Dataclasses, enumerations and literals are made from JSON; what is left out, or null for want of it, has its default."""
    got: list[object] = []

    def take(
        point: Point,
        colours: list[Colour],
        size: Literal["s", "m"],
        count: Annotated[int, msgspec.Meta(ge=1)] = 5,
        note: str | None = "none",
    ) -> None:
        """Take."""
        got.extend([point, colours, size, count, note])

    arguments: dict[str, Any] = {"point": {"x": 1}, "colours": ["red"], "size": "m", "count": None, "note": None}
    asker, mock = gate(asks(call("take", **arguments)), "done")
    run = await run_tools(asker, "Go", [take])
    assert got == [Point(1), [Colour.RED], "m", 5, None]
    assert told(run) == [("ok", "null")]
    assert mock.last.tools[0].parameters["required"] == ["point", "colours", "size"]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (call("nope", left=1), "there is no tool 'nope'. The tools are add, shout."),
        (call("ad", left=1), "there is no tool 'ad'; did you mean 'add'? The tools are add, shout."),
        (call("x" * 10_000), f"there is no tool {'x' * 100!r}. The tools are add, shout."),
        (ToolCall("c1", "add", None, '{"left": '), "the arguments are not a JSON object; call the tool again with one"),
        (call("add", left="2"), "the arguments are not what the tool takes: $.left: expected int, got str"),
        (call("add"), "the arguments are not what the tool takes: $: object missing required field left"),
        (call("add", left=1, up=2), "the arguments are not what the tool takes: $: object contains unknown field up"),
        (call("add", left=1.5), "the arguments are not what the tool takes: $.left: expected int, got float"),
    ],
    ids=lambda value: value.name[:9] if isinstance(value, ToolCall) else "",
)
async def test_a_call_that_does_not_fit_goes_back_to_the_model(asked: ToolCall, complaint: str) -> None:
    """Nothing is executed or recorded; the model is told what was wrong, as an error, and can do better."""
    asker, mock = gate(asks(asked), asks(call("add", left=1)), "2")
    run = await run_tools(asker, "Go", [add, shout])
    (status, content), better = told(run)
    assert status == "refused"
    assert content.startswith(complaint)
    assert better == ("ok", "2")
    result: Any = mock.calls[1].messages[-1].parts[0]
    assert (result.is_error, result.content, result.id) == (True, content, "c1")
    assert asker.log is not None
    assert len(tool_entries(asker.log)) == 2


async def test_arguments_nested_without_end_go_back_to_the_model() -> None:
    """Arguments as deep as a hostile model makes them are refused, and break nothing."""
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]

    def take(value: list[int]) -> None:
        """Take."""

    asker, _ = gate(asks(call("take", value=deep)), "done")
    run = await run_tools(asker, "Go", [take])
    assert run.executions[0].status == "refused"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is\n", "as it is\n"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Point(1), '{"x":1,"y":0.0}'),
        (Decimal("1.10"), '"1.10"'),
        (None, "null"),
        ("", ""),
        ("\ud800", "\ud800"),
    ],
)
async def test_a_result_is_text_or_json(result: object, text: str) -> None:
    """A str goes back as it is, all else as JSON, and the record has it."""

    def give() -> object:
        """Give."""
        return result

    log = AuditLog.memory()
    asker, _ = gate(asks(call("give")), "done", log=log)
    assert told(await run_tools(asker, "Go", [give])) == [("ok", text)]
    assert log.verify().ok


async def test_what_has_no_json_form_is_an_error_of_the_tool() -> None:
    """A function that returns an object of a class of its own is told so, through the model's eyes and in the run."""

    def give() -> object:
        """Give."""
        return object()

    asker, _ = gate(asks(call("give")), "done")
    ((status, content),) = told(await run_tools(asker, "Go", [give]))
    assert status == "error"
    assert content.startswith("TypeError: give() returned a object, which has no JSON form")


async def test_a_function_around_an_async_one_is_awaited() -> None:
    """What a plain function returns to be awaited is awaited."""

    def around(text: str) -> Any:
        """Go around."""
        return shout(text)

    asker, _ = gate(asks(call("around", text="x")), "done")
    assert told(await run_tools(asker, "Go", [around])) == [("ok", "X")]


def test_a_function_is_told_by_its_signature() -> None:
    """What cannot be told to a model, or called by name, is refused where it is given."""
    assert Function(add).tool.parameters["properties"]["right"] == {"type": "integer", "default": 1}
    for wrong in (lambda x: x, "add", len.__class__, 3):
        with pytest.raises(InvalidRequestError):
            Function(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------------------------ tools that go wrong


async def test_an_exception_is_told_in_one_bounded_line() -> None:
    """The model hears the kind and the message, at most 500 characters on one line; no traceback; the run goes on."""
    asker, _ = gate(asks(call("fail", text="no\n\x1b way" + "!" * 5_000)), "done")
    run = await run_tools(asker, "Go", [fail])
    execution = run.executions[0]
    assert execution.result.content.startswith("ValueError: no \ufffd way!")
    assert len(execution.result.content) == 500
    assert (execution.result.is_error, execution.error) == (True, "ValueError")
    assert run.response.content == "done"


@pytest.mark.parametrize(
    "kind", [StopIteration, StopAsyncIteration, asyncio.InvalidStateError, TimeoutError, MemoryError]
)
async def test_no_exception_hangs_the_run(kind: type[Exception]) -> None:
    """Exceptions that loops and generators treat in ways of their own are results like others."""

    def strange() -> None:
        """Be strange."""
        raise kind

    async def strange_too() -> None:
        """Be strange."""
        raise kind

    asker, _ = gate(asks(call("strange", "a"), call("strange_too", "b")), "done")
    run = await run_tools(asker, "Go", [strange, strange_too])
    assert [status for status, _ in told(run)] == ["error", "error"]


async def test_an_exception_ends_the_run_where_that_is_wished() -> None:
    """With `on_error="raise"` the run ends with the exception as cause and all that was done; others are cancelled first."""
    log = AuditLog.memory()

    async def wait() -> None:
        """Wait."""
        await asyncio.Event().wait()

    asker, mock = gate(asks(call("wait", "a"), call("add", "b", left=1), call("fail", "c", text="no")), "done", log=log)
    with pytest.raises(ToolRunError, match="the tool fail raised ValueError: no") as caught:
        await run_tools(asker, "Go", [add, fail, wait], on_error="raise", max_parallel=2)
    error = caught.value
    assert (error.reason, type(error.__cause__)) == ("tool", ValueError)
    assert error.run is not None
    assert told(error.run) == [("ok", "2"), ("error", "ValueError: no")]
    assert len(mock.calls) == len(error.run.responses) == 1
    assert sorted(row.status for row in log.attempts()) == ["cancelled", "error", "ok", "ok"]


async def test_an_error_of_a_call_carries_what_was_done() -> None:
    """A call that fails in the middle raises its own error, with the answers paid for and the executions as `run`."""
    asker, _ = gate(asks(call("add", left=1)), RateLimitError("slow down"))
    with pytest.raises(RateLimitError) as caught:
        await run_tools(asker, "Go", [add])
    assert caught.value.run is not None
    assert told(caught.value.run) == [("ok", "2")]
    asker, _ = gate(RateLimitError("slow down"))
    with pytest.raises(RateLimitError) as caught:
        await run_tools(asker, "Go", [add])
    assert caught.value.run is None


async def test_cancelling_cancels_the_tools() -> None:
    """A run that is cancelled while tools run cancels each; each is on record as cancelled, once, and nothing runs on."""
    log = AuditLog.memory()
    running = ended = 0

    async def wait() -> None:
        """Wait."""
        nonlocal running, ended
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    asker, _ = gate(asks(call("wait", "a"), call("wait", "b"), call("wait", "c")), log=log)
    task = asyncio.create_task(run_tools(asker, "Go", [wait], max_parallel=2))
    while running < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (running, ended) == (2, 2)
    assert [row.status for row in log.attempts()] == ["ok", "cancelled", "cancelled"]
    assert len(asyncio.all_tasks()) == 1


async def test_a_function_on_a_thread_is_left_to_end() -> None:
    """Cancelling does not wait for a thread: the record says cancelled, and the function ends by itself."""
    log = AuditLog.memory()
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        """Wait."""
        begun.set()
        go_on.wait(10)
        over.set()

    asker, _ = gate(asks(call("wait")), log=log)
    task = asyncio.create_task(run_tools(asker, "Go", [wait]))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [row.status for row in log.attempts()] == ["ok", "cancelled"]
    assert not over.is_set()
    go_on.set()
    assert await asyncio.to_thread(over.wait, 10)


# ------------------------------------------------------------------------------------------------- bounds


async def test_the_steps_are_bounded() -> None:
    """After `max_steps` calls the run ends with an error that carries it; the tools of the last step are not called."""
    asker, mock = gate(*[asks(call("add", left=1))] * 9)
    with pytest.raises(ToolRunError, match="after 3 calls") as caught:
        await run_tools(asker, "Go", [add], max_steps=3)
    run = caught.value.run
    assert run is not None
    assert (caught.value.reason, len(mock.calls), len(run.responses), len(run.executions)) == ("steps", 3, 3, 2)
    asker, _ = gate(*[asks(call("add", left=1))] * 2, "done")
    assert (await run_tools(asker, "Go", [add], max_steps=3)).response.content == "done"


class Priced(MockBackend):
    """A mock that passes for a provider whose prices are known."""

    def prepare(self, request: Request) -> Any:
        exchange = super().prepare(request)
        exchange.provider = "openai"
        return exchange


async def test_the_cost_is_bounded() -> None:
    """The model is not asked again once the answers cost `max_cost`; it can be overshot by one call, and is said exactly."""
    usage = Usage(input_total=1_000_000, output_total=0)
    reply = ModelResponse("", "gpt-4o", "m", 0.0, 1, 1, None, tool_calls=(call("add", left=1),), usage=usage)
    asker = Gate(mock := Priced([reply] * 9, model="gpt-4o"), AuditLog.memory())
    one = (await asker.generate("Hi")).cost
    assert one is not None
    with pytest.raises(ToolRunError, match=r"cost .* US dollars, and no more than") as caught:
        await run_tools(asker, "Go", [add], max_cost=one * Decimal("1.5"))
    assert (caught.value.reason, len(mock.calls)) == ("cost", 3)
    assert caught.value.run is not None
    assert caught.value.run.cost == 2 * one
    assert len(caught.value.run.executions) == 1


async def test_a_cost_that_is_not_known_keeps_no_bound() -> None:
    """With `max_cost` and an answer without a price the run ends before the next call; a first answer that is the last is fine."""
    asker, _ = gate(asks(call("add", left=1)), "done")
    with pytest.raises(ToolRunError, match="not known") as caught:
        await run_tools(asker, "Go", [add], max_cost=1.0)
    assert caught.value.reason == "cost"
    asker, _ = gate("done")
    assert (await run_tools(asker, "Go", [add], max_cost=1.0)).response.content == "done"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"max_steps": 0}, "max_steps is an int, 1 or more"),
        ({"max_steps": True}, "max_steps is an int"),
        ({"max_parallel": 1.5}, "max_parallel is an int"),
        ({"max_cost": 0}, "max_cost is a number of US dollars above 0"),
        ({"max_cost": "1"}, "max_cost is a number"),
        ({"max_cost": float("nan")}, "max_cost is a number"),
        ({"max_cost": Decimal("sNaN")}, "max_cost is a number"),
        ({"max_cost": True}, "max_cost is a number"),
        ({"on_error": "ignore"}, "on_error is 'tell' or 'raise'"),
        ({"tools": [add]}, "the tools of a run are its functions"),
        ({"functions": []}, "one at least"),
        ({"functions": add}, "a sequence of typed functions"),
        ({"functions": "add"}, "a sequence of typed functions"),
        ({"functions": [add, add]}, "two tools have one name"),
        ({"functions": [lambda x: x]}, "a function or method with a name"),
        ({"client": MockBackend()}, "a run of tools needs a Client"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"max_tokns": 3}, "unknown option 'max_tokns'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_wrong_arguments_are_refused_before_anything_is_asked(given: dict[str, Any], complaint: str) -> None:
    """What is wrong is named, and nothing is sent or recorded."""
    asker, mock = gate("done")
    with pytest.raises(InvalidRequestError, match=complaint):
        await run_tools(**{"client": asker, "prompt": "Go", "functions": [add]} | given)  # type: ignore[arg-type]
    assert mock.calls == []


# ---------------------------------------------------------------------------------------- what was used


async def test_usage_and_cost_of_all_attempts_are_counted() -> None:
    """Totals add every attempt, failed repairs too; a refusal that cost nothing is left out; what one did not state is None."""
    replies: list[Any] = [
        RateLimitError("slow"),
        asks(call("add", left=1), usage=Usage(input_total=10, output_total=2)),
        MockReply("{}", usage=Usage(input_total=20, output_total=3)),
        MockReply('{"x": 1}', usage=Usage(input_total=30, output_total=4)),
    ]
    client = Client(MockBackend(replies), retry=Retry(base=0.0), audit="memory")
    run = await run_tools(client, "Go", [add], output=Point, repair=1)
    assert run.response.output == Point(1)
    assert [len(response.attempts) for response in run.responses] == [2, 2]
    assert (run.usage.input_total, run.usage.output_total, run.usage.reasoning) == (60, 9, None)
    asker, _ = gate(asks(call("add", left=1), usage=Usage(input_total=10)), "done")
    assert (await run_tools(asker, "Go", [add])).usage.output_total is None


@pytest.mark.parametrize("through", [Gate, Client])
async def test_a_repaired_answer_counts_its_failed_attempts(through: Any) -> None:
    """Each attempt of a bounded repair is in `attempts` with its own usage and record; one too few ends with all of them."""
    bad = MockReply('{"y": 1}', usage=Usage(input_total=5, output_total=2))
    good = MockReply('{"x": 1}', usage=Usage(input_total=9, output_total=2))
    log = AuditLog.memory()

    def asker(*replies: MockReply) -> Gate | Client:
        mock = MockBackend(replies)
        return Gate(mock, log) if through is Gate else Client(mock, audit=log)

    response = await asker(bad, bad, good).generate("Go", output=Point, repair=2)
    assert [attempt.usage.input_total for attempt in response.attempts] == [5, 5, 9]
    assert [attempt.status for attempt in response.attempts] == ["error", "error", "ok"]
    with pytest.raises(OutputMismatchError) as caught:
        await asker(bad, bad, good).generate("Go", output=Point, repair=1)
    assert [attempt.usage.input_total for attempt in caught.value.response.attempts] == [5, 5]
    assert [row.status for row in log.attempts()] == ["error", "error", "ok", "error", "error"]


# ---------------------------------------------------------------------------------------------- the record


async def test_each_execution_is_on_record() -> None:
    """An intent before and an outcome after, with OpenTelemetry's names, arguments and result beside them, and whose answer asked."""
    log = AuditLog.memory()
    seen: list[list[str]] = []

    def look(city: str) -> str:
        """Look."""
        seen.append([entry.leaf["kind"] for entry in tool_entries(log)])
        return f"snow in {city}"

    asker, _ = gate(asks(call("look", "call-7", city="Oslo"), call("fail", "call-8", text="no")), "done", log=log)
    run = await run_tools(asker, "Go", [look, fail], max_parallel=1)
    assert seen == [["call.intent"]]
    opened, closed, _, failed = tool_entries(log)
    assert run.responses[0].receipt is not None
    assert opened.leaf["attributes"] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": "call-7",
        "gen_ai.tool.type": "function",
        "veyra.parent": run.responses[0].receipt.id,
    }
    assert [(part.name, part.data) for part in opened.parts] == [("tool.arguments", b'{"city": "Oslo"}')]
    assert (closed.leaf["status"], closed.leaf["attributes"]) == ("ok", {})
    assert [(part.name, part.data) for part in closed.parts] == [("tool.result", b"snow in Oslo")]
    assert (failed.leaf["status"], failed.leaf["attributes"]) == ("error", {"error.type": "ValueError"})
    assert len({row.call for row in log.attempts()}) == 4
    assert run.executions[0].receipt is not None
    assert run.executions[0].receipt.id == closed.leaf["id"]
    assert run.executions[0].latency_ms > 0
    assert log.verify().ok


async def test_no_record_no_execution(tmp_path: Path) -> None:
    """Where the intent cannot be written, the function is not called, and the answer that was paid for is on the error."""
    called: list[int] = []

    def note(number: int) -> None:
        """Note."""
        called.append(number)

    class Full(AuditLog):
        async def intent(self, **fields: Any) -> Any:
            if fields["backend"].startswith("tool:"):
                msg = "the disk is full"
                raise AuditUnavailableError(msg)
            return await super().intent(**fields)

    asker, _ = gate(asks(call("note", number=1)), "done", log=Full.memory())
    with pytest.raises(AuditUnavailableError) as caught:
        await run_tools(asker, "Go", [note])
    assert called == []
    assert caught.value.run is not None
    assert len(caught.value.run.responses) == 1


async def test_an_outcome_that_cannot_be_written_ends_the_run() -> None:
    """The function ran and its end is not on record: an error that carries the answer paid for last."""

    class Full(AuditLog):
        async def outcome(self, **fields: Any) -> Any:
            if fields["backend"].startswith("tool:"):
                msg = "the disk is full"
                raise AuditWriteError(msg)
            return await super().outcome(**fields)

    asker, _ = gate(asks(call("add", left=1)), "done", log=Full.memory())
    with pytest.raises(AuditWriteError) as caught:
        await run_tools(asker, "Go", [add])
    assert caught.value.response is not None
    assert caught.value.response.tool_calls[0].name == "add"


async def test_strange_ids_do_not_stop_a_run() -> None:
    """Ids of calls that are empty, the same twice, very long or no text break neither the run nor the record."""
    log = AuditLog.memory()
    ids = ["", "x", "x", "y" * 100_000, "\ud800\x00"]
    asker, _ = gate(asks(*(ToolCall(id, "add", {"left": 1}) for id in ids)), "done", log=log)  # noqa: A001
    run = await run_tools(asker, "Go", [add])
    assert told(run) == [("ok", "2")] * 5
    assert [execution.result.id for execution in run.executions] == ids
    assert log.verify().ok


async def test_without_a_log_tools_run_unrecorded() -> None:
    """`audit="off"` holds for executions, too."""
    mock = MockBackend([asks(call("add", left=1)), "done"])
    run = await run_tools(Gate(mock, None), "Go", [add])
    assert told(run) == [("ok", "2")]
    assert run.executions[0].receipt is None


KILLED = """
import asyncio, os, signal, sys
from client.test_tools import asks, call
from veyra import get_backend, run_tools
def die() -> None:
    "Die."
    os.kill(os.getpid(), signal.SIGKILL)
backend = get_backend("mock", replies=[asks(call("die")), "done"], audit=sys.argv[1])
asyncio.run(run_tools(backend, "Go", [die]))
"""


async def test_a_crash_leaves_the_execution_abandoned(tmp_path: Path) -> None:
    """A process that is killed by its own tool leaves an intent, which the next opening marks as abandoned."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        check=False,
        timeout=15,
    )
    assert done.returncode == -9
    log = AuditLog(tmp_path)
    await get_backend("mock", audit=log).generate("Hi")
    log.close()
    rows = [(row.backend, row.status) for row in read_attempts(tmp_path)]
    assert rows == [("mock", "ok"), ("tool:die", "abandoned"), ("mock", "ok")]
    assert verify(tmp_path).ok


async def test_the_command_shows_executions(tmp_path: Path) -> None:
    """`veyra audit list`, `show` and `verify` show an execution like an attempt, its arguments and result with `--bodies`."""
    log = AuditLog(tmp_path)
    asker, _ = gate(asks(call("shout", "c1", text="hi")), "done", log=log)
    run = await run_tools(asker, "Go", [shout])
    log.close()
    execution = run.executions[0].receipt
    assert execution is not None

    def veyra(*args: str) -> str:
        result = CliRunner().invoke(cli, ["audit", args[0], *args[1:], "--dir", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return result.output

    row = [json.loads(line) for line in veyra("list", "--backend", "tool:shout", "--json").splitlines()]
    assert [(found["backend"], found["status"], found["model"]) for found in row] == [("tool:shout", "ok", None)]
    shown = veyra("show", execution.id, "--bodies")
    assert "gen_ai.tool.call.id    c1" in shown
    assert shown.index('arguments\n  {"text": "hi"}') < shown.index("result\n  HI")
    assert json.loads(veyra("show", execution.id, "--bodies", "--json"))["result"] == "HI"
    parent = json.loads(veyra("show", execution.id, "--json"))["entries"][0]["attributes"]["veyra.parent"]
    assert "tool_calls" in veyra("show", parent, "--bodies")
    assert "OK" in veyra("verify")


async def test_stalled_calls_end_a_run_like_any_call() -> None:
    """A run whose call of the model is cancelled records that and nothing else."""
    log = AuditLog.memory()
    backend = Stalling()
    task = asyncio.create_task(run_tools(Gate(backend, log), "stall", [add]))
    while not backend.is_stalled.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [row.status for row in log.attempts()] == ["cancelled"]


def test_every_error_of_a_run_is_ours() -> None:
    """`ToolRunError` is a `VeyraError`, and carries no run unless one was made."""
    error = ToolRunError("no", reason="steps")
    assert isinstance(error, VeyraError)
    assert error.run is None
