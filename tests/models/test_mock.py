"""The mock: its own answers, its script, how answers come, what it was asked."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import msgspec
import pydantic
import pytest

import virtual
from veyra import AuditLog, MockBackend, Tool, get_backend
from veyra.errors import BackendError, InvalidRequestError, OverloadedError, RateLimitError, ServerError
from veyra.models.base import Exchange
from veyra.models.mock_reply import MockReply
from veyra.transport.faults import Cut, Overloaded
from veyra.types import (
    Event,
    Finish,
    Message,
    ModelResponse,
    ModelWarning,
    ReasoningDelta,
    Request,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)

WEATHER = Tool(
    name="weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
    },
)


@dataclass
class Ticket:
    category: Literal["billing", "delivery", "other"]
    urgent: bool
    summary: str


async def _events(mock: MockBackend, prompt: Any = "hi", **options: Any) -> list[Event]:
    async with mock.stream(prompt, **options) as reply:
        return [event async for event in reply]


# ------------------------------------------------------------------------------------------- its own answers


async def test_without_a_script_it_says_that_no_model_was_asked() -> None:
    """The default answer is honest, useful in a demo, and the same every time."""
    prompt = "one two three four five six seven eight nine ten eleven twelve thirteen\nfourteen"
    first = await MockBackend().generate(prompt)
    again = await MockBackend().generate(prompt)
    assert first.content == again.content
    assert "no model was asked" in first.content
    assert "14 words in 2 lines" in first.content
    assert first.content.endswith("twelve ...")
    assert (first.prompt_tokens, first.finish_reason, first.model) == (14, "stop", "mock")


async def test_its_own_answer_keeps_to_the_limit_of_tokens() -> None:
    """An answer that nobody scripted stops at `max_tokens` words and says so; a scripted one comes as it is written."""
    short = await MockBackend().generate("hi", max_tokens=4)
    assert (short.content, short.finish_reason, short.completion_tokens) == ("This is the mock:", "length", 4)
    assert (await MockBackend().generate("hi", max_tokens=0)).content == ""
    assert (await MockBackend("one two three").generate("hi", max_tokens=1)).content == "one two three"


async def test_it_makes_up_the_value_that_is_asked_for() -> None:
    """With `output` the answer is a value of the type: the same for the same request, another for another."""
    first = await MockBackend().generate("Where is my parcel?", output=Ticket)
    assert isinstance(first.output, Ticket)
    assert first.output == (await MockBackend().generate("Where is my parcel?", output=Ticket)).output
    others = [(await MockBackend().generate(f"question {n}", output=Ticket)).output for n in range(10)]
    seeded = [(await MockBackend(seed=n).generate("question", output=Ticket)).output for n in range(10)]
    drawn = [(await MockBackend().generate("question", seed=n, output=Ticket)).output for n in range(10)]
    assert all(len({repr(value) for value in values}) > 3 for values in (others, seeded, drawn))


@pytest.mark.parametrize(
    "extra",
    [
        {"response_format": {"type": "json_object"}},
        {"generationConfig": {"responseMimeType": "application/json"}},
        {"text": {"format": {"type": "json_object"}}},
        {"format": "json"},
    ],
)
async def test_where_json_is_asked_for_it_answers_in_json(extra: dict[str, Any]) -> None:
    """A request for JSON without a schema, in the words of any format, gets its own answer as an object."""
    answer = await MockBackend().generate("hi", extra=extra)
    assert json.loads(answer.content).keys() == {"answer"}
    assert "no model was asked" in json.loads(answer.content)["answer"]
    others: list[dict[str, Any]] = [
        {"response_format": {"type": "text"}},
        {"text": "json"},
        {"format": {}},
        {"response_format": None},
    ]
    for other in others:
        assert (await MockBackend().generate("hi", extra=other)).content.startswith("This is the mock")


async def test_a_request_of_system_text_alone_is_answered() -> None:
    """What a server may be sent and our own callers cannot: no turn at all; the system text is what was asked."""
    mock = MockBackend(seed=1)
    for system, words in (("Say hello.", "2 words"), (None, "0 words")):
        request = Request(prompt=(), messages=(), system=system, model="m", tool_choice="required")
        (*text, _) = [event async for event in mock.events(request, Exchange(provider="mock"))]
        assert words in "".join(event.text for event in text if isinstance(event, TextDelta))
    assert mock.assert_asked("hello").system == "Say hello."


@pytest.mark.parametrize("choice", ["required", "weather"])
async def test_it_calls_the_tool_that_is_to_be_called(choice: str) -> None:
    """Where a tool must be called the mock calls it, with arguments that fit, until its result is there."""
    turns = [Message("user", "Rain?")]
    answer = await MockBackend().generate(turns, tools=[WEATHER], tool_choice=choice)
    (call,) = answer.tool_calls
    assert (call.name, answer.finish_reason) == ("weather", "tool_calls")
    assert call.arguments is not None
    assert call.arguments["unit"] in {"C", "F"}
    turns += [answer.message, Message("tool", [ToolResult(call.id, "rain")])]
    assert (await MockBackend().generate(turns, tools=[WEATHER], tool_choice=choice)).tool_calls == ()
    assert (await MockBackend().generate("Rain?", tools=[WEATHER], tool_choice="auto")).tool_calls == ()


# -------------------------------------------------------------------------------------------------- its script


async def test_replies_in_turn() -> None:
    """A sequence is one answer for each call, and running out of it is told."""
    answer = ModelResponse("whole", "m", "b", 1.0, 1, 1, "id", finish_reason="length")
    mock = MockBackend(["first", answer, OverloadedError("busy")])
    assert (await mock.generate("a")).content == "first"
    assert (await mock.generate("b")).finish_reason == "length"
    with pytest.raises(OverloadedError):
        await mock.generate("c")
    with pytest.raises(InvalidRequestError, match="has 3 replies and was called 4 times"):
        await mock.generate("d")
    assert [call.prompt for call in mock.calls] == ["a", "b", "c", "d"]


async def test_a_function_sees_the_request() -> None:
    """A function of the request may answer by what was asked."""
    mock = MockBackend(lambda request: f"{request.system}/{request.messages[-1].text}/{request.max_tokens}")
    reply = await mock.generate([Message("user", "hi")], system="s", max_tokens=4)
    assert reply.content == "s/hi/4"


async def test_a_function_may_wait_and_may_leave_the_answer_to_the_mock() -> None:
    """What a function returns may be awaited; None is the mock's own answer."""

    async def later(request: Request) -> str | None:
        await asyncio.sleep(0)
        return "later" if request.prompt == "wait" else None

    mock = MockBackend(later)
    assert (await mock.generate("wait")).content == "later"
    assert "no model was asked" in (await mock.generate("else")).content


async def test_what_a_function_may_not_return_is_told() -> None:
    """A function that returns no answer is named by what it returned."""
    mock = MockBackend(lambda _: 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="returned int, which is no answer"):
        await mock.generate("hi")


async def test_prompts_and_patterns_choose_the_reply() -> None:
    """A str is the whole prompt, a pattern is found anywhere in it, and the first that fits answers."""
    mock = MockBackend({"refund": "whole", re.compile("(?i)refund"): "found", re.compile(""): "else"})
    answers = [(await mock.generate(prompt)).content for prompt in ("refund", "A Refund, please", "Hello")]
    assert answers == ["whole", "found", "else"]


async def test_a_sequence_under_a_prompt_lasts_through_the_calls_of_tools() -> None:
    """The replies to one prompt follow each other: the results of tools do not make it another prompt."""
    mock = MockBackend({"Rain in Oslo?": [ToolCall("", "weather", {"city": "Oslo"}), "It snows."]})
    turns = [Message("user", "Rain in Oslo?")]
    asked = await mock.generate(turns, tools=[WEATHER])
    assert asked.tool_calls == (ToolCall("call-1-1", "weather", {"city": "Oslo"}, '{"city":"Oslo"}'),)
    turns += [asked.message, Message("tool", [ToolResult("call-1-1", "snow")])]
    assert (await mock.generate(turns, tools=[WEATHER])).content == "It snows."
    mock.assert_finished()
    with pytest.raises(InvalidRequestError, match=re.escape("nearest of its 1 rules: 'Rain in Oslo?' (used up)")):
        await mock.generate(turns)


async def test_a_request_that_nothing_answers_names_the_nearest_rules() -> None:
    """The three nearest prompts and patterns are listed, the nearest first, in few words however long they are."""
    replies: dict[str | re.Pattern[str], str] = {f"unrelated {n}": "" for n in range(50)}
    replies |= {"the capital of France": "Paris", re.compile("the capitol of .*"): "", "x" * 10_000: ""}
    with pytest.raises(InvalidRequestError) as caught:
        await MockBackend(replies).generate("the capital of Frence")
    message = str(caught.value)
    assert message.startswith(
        "the mock has no reply for 'the capital of Frence'; nearest of its 53 rules: 'the capital of France', /the capitol"
    )
    assert len(message) < 500


async def test_a_huge_prompt_costs_a_bounded_search() -> None:
    """What is compared of a prompt and of a key is bounded."""
    with pytest.raises(InvalidRequestError, match="has no reply for 'a a a"):
        await MockBackend({"b " * 10_000: "x"}).generate("a " * 1_000_000)


@pytest.mark.parametrize(
    ("replies", "complaint"),
    [
        (5, "replies are a str"),
        (object(), "replies are a str"),
        (b"x", "replies are a str"),
        (OverloadedError, "replies are a str"),
        ([1], "reply 1 of the script is of the type int"),
        (["a", None], "reply 2 of the script is of the type NoneType"),
        ({5: "x"}, "found by a prompt"),
        ({re.compile(b"x"): "x"}, "found by a prompt"),
        ({"x": 5}, "replies are a str"),
        ({"x": ["a", 5]}, "reply 2 of the script"),
    ],
)
def test_a_script_of_another_type_is_told(replies: Any, complaint: str) -> None:
    """A script that is none is refused when the mock is made."""
    with pytest.raises(InvalidRequestError, match=complaint):
        MockBackend(replies)


async def test_an_error_of_the_script_is_new_for_each_call() -> None:
    """What one call adds to its error is not seen by the next; an exception of the user's own is the very one."""
    failure, own = RateLimitError("slow", retry_after=2.0), KeyError("x")
    mock = MockBackend([failure, failure, own])
    caught = []
    for model in ("a", "b"):
        with pytest.raises(RateLimitError) as info:
            await mock.generate("hi", model=model)
        caught.append(info.value)
    assert [(error.model, error.retry_after) for error in caught] == [("a", 2.0), ("b", 2.0)]
    assert failure.model is None
    with pytest.raises(BackendError, match="raised KeyError") as foreign:
        await mock.generate("hi")
    assert foreign.value.__cause__ is own


# ------------------------------------------------------------------------------------------------- one reply


async def test_a_reply_says_all_that_an_answer_can() -> None:
    """Reasoning, text, calls, usage, ids and warnings of a reply are those of the response."""
    usage = Usage(input_total=10, output_total=5, cache_read=4)
    reply = MockReply(
        "text",
        reasoning="thinking hard",
        tool_calls=[ToolCall("c1", "weather", {"city": "Oslo"}), ToolCall("", "weather", None, "no json")],
        finish_reason="paused",
        usage=usage,
        model="m-2025",
        response_id="r",
        request_id="q",
        warnings=[ModelWarning("c", "m")],
    )
    response = await MockBackend(reply).generate("hi", model="m")
    assert (response.content, response.reasoning, response.finish_reason) == ("text", "thinking hard", "paused")
    assert response.tool_calls == (
        ToolCall("c1", "weather", {"city": "Oslo"}, '{"city":"Oslo"}'),
        ToolCall("call-1-2", "weather", None, "no json"),
    )
    assert (response.usage, response.prompt_tokens, response.model) == (usage, 10, "m-2025")
    assert (response.response_id, response.request_id) == ("r", "q")
    assert response.warnings == (ModelWarning("c", "m"),)


async def test_tokens_are_words() -> None:
    """What was asked, said, thought and written as arguments is counted in words."""
    reply = MockReply("a b c", reasoning="d e", tool_calls=[ToolCall("", "f", None, "g h")])
    response = await MockBackend(reply).generate("i j k l", system="m")
    assert response.usage == Usage(input_total=5, output_total=7, reasoning=2)


class _Model(pydantic.BaseModel):
    name: str


class _Struct(msgspec.Struct):
    name: str


@pytest.mark.parametrize("value", [{"name": "Bern"}, _Model(name="Bern"), _Struct("Bern")])
async def test_an_output_is_written_as_json(value: object) -> None:
    """The output of a reply may be plain data, or a value of any type that can be asked for."""
    response = await MockBackend(MockReply(output=value)).generate("hi", output=_Struct)
    assert response.output == _Struct("Bern")


async def test_an_output_without_a_json_form_is_told() -> None:
    """A value that cannot be written names its type."""
    with pytest.raises(InvalidRequestError, match="object has no JSON form"):
        await MockBackend(MockReply(output=object())).generate("hi")


async def test_an_error_after_text_ends_the_answer() -> None:
    """The text of a reply that ends with an error comes before it, and is the error's `partial`."""
    seen: list[Event] = []
    async with MockBackend(MockReply("half an answer", error=ServerError("gone"))).stream("hi") as reply:
        with pytest.raises(ServerError) as caught:
            _ = [event async for event in _noting(reply, seen)]
    assert caught.value.partial == "half an answer"
    assert seen == [TextDelta("half "), TextDelta("an "), TextDelta("answer")]


async def _noting(events: AsyncIterable[Event], seen: list[Event]) -> AsyncIterator[Event]:
    async for event in events:
        seen.append(event)
        yield event


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"text": 5}, "text is a str"),
        ({"text": ["a", 5]}, "text is a str"),
        ({"text": b"x"}, "text is a str"),
        ({"reasoning": None}, "reasoning is a str"),
        ({"tool_calls": [{"name": "x"}]}, "tool_calls are ToolCalls"),
        ({"finish_reason": "end_turn"}, "finish_reason is"),
        ({"usage": {"input_total": 1}}, "usage is a Usage"),
        ({"model": 5}, "model is a str"),
        ({"warnings": ["x"]}, "warnings are ModelWarnings"),
        ({"error": "x"}, "error is an exception"),
        ({"fault": "cut@event=1"}, "fault is a fault"),
        ({"chunk": 0}, "chunk is a number of characters"),
        ({"chunk": True}, "chunk is a number of characters"),
        ({"delay": -1}, "delay is a number of seconds"),
        ({"pace": float("nan")}, "pace is a number of seconds"),
        ({"pace": float("inf")}, "pace is a number of seconds"),
        ({"text": "x", "output": {}}, "give one of the two"),
        ({"error": ServerError("x"), "fault": Overloaded()}, "give one of the two"),
    ],
)
def test_what_a_reply_cannot_be_is_told(values: Any, complaint: str) -> None:
    """A value of another type, or out of range, is refused when the reply is made."""
    with pytest.raises(InvalidRequestError, match=complaint):
        MockReply(**values)


@pytest.mark.parametrize("options", [{"chunk": 0}, {"delay": "1"}, {"pace": -0.1}])
def test_what_a_mock_cannot_be_is_told(options: Any) -> None:
    """The mock's own pieces and times are checked like those of a reply."""
    with pytest.raises(InvalidRequestError, match="is a number of"):
        MockBackend(**options)


# ------------------------------------------------------------------------------------------ how answers come


async def test_the_stream_comes_in_words_and_keeps_every_space() -> None:
    """Joined, the pieces are the answer, byte for byte."""
    text = "  two  words\n\tand more "
    events = await _events(MockBackend(text), "x")
    assert isinstance(events[-1], Finish)
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(pieces) == text
    assert len(pieces) > 3


async def test_pieces_are_as_long_as_is_asked() -> None:
    """A number of characters cuts text, reasoning and arguments; the reply's goes before the mock's; a list is as it is."""
    call = ToolCall("c", "f", {}, "abcde")
    events = await _events(MockBackend(MockReply("abc", reasoning="de", tool_calls=[call], chunk=2), chunk=1))
    assert events[:-1] == [
        ReasoningDelta("de"),
        TextDelta("ab"),
        TextDelta("c"),
        ToolCallDelta(0, "c", "f"),
        ToolCallDelta(0, arguments="ab"),
        ToolCallDelta(0, arguments="cd"),
        ToolCallDelta(0, arguments="e"),
    ]
    assert (await _events(MockBackend("ab", chunk=1)))[:-1] == [TextDelta("a"), TextDelta("b")]
    assert (await _events(MockBackend(MockReply(["a b", "", "c"]))))[:-1] == list(map(TextDelta, ["a b", "", "c"]))


def test_times_pass_on_the_clock_of_the_loop() -> None:
    """`delay` comes before the first event and `pace` between all; on a virtual clock nobody waits."""

    async def times() -> list[float]:
        loop = asyncio.get_running_loop()
        async with MockBackend("a b c", delay=60.0, pace=10.0).stream("hi") as reply:
            return [loop.time() async for _ in reply]

    assert virtual.run(times()) == [60.0, 70.0, 80.0, 90.0]


async def test_the_waiting_can_be_given() -> None:
    """Another function may do the waiting; it is not asked where there is nothing to wait for."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    mock = MockBackend(["a b", MockReply("a b", delay=2, pace=0)], delay=1.0, pace=0.5, sleep=note)
    await mock.generate("hi")
    await mock.generate("hi")
    assert waited == [1.0, 0.5, 0.5, 2]


async def test_the_same_seed_gives_the_same_bytes() -> None:
    """All that the mock makes up, on any run and machine, has one digest."""
    mock = MockBackend(seed=7, chunk=3)
    told: list[object] = []
    for prompt in ("one", "two \N{SNOWMAN} words", "three\nlines\nhere"):
        told += await _events(mock, prompt)
        told += await _events(mock, prompt, output=Ticket)
        told += await _events(mock, prompt, tools=[WEATHER], tool_choice="required")
        told.append((await mock.embed(prompt, dimensions=3)).vectors)
    text = repr([dataclasses.asdict(item) if dataclasses.is_dataclass(item) else item for item in told])  # type: ignore[arg-type]
    assert sha256(text.encode()).hexdigest() == "cad787572f11056795e70f1814fbc9fa2a8ffe508ac0a28017814790897ad212"


# ------------------------------------------------------------------------------------------ what it was asked


async def test_a_vector_without_measure_is_refused() -> None:
    """A number of dimensions that no model has does not fill the memory."""
    with pytest.raises(InvalidRequestError, match="65,536 dimensions at most, not 1,000,000,000"):
        await MockBackend().embed("hi", dimensions=1_000_000_000)


async def test_the_mock_says_what_it_was_asked() -> None:
    """The last request, the only one, and one that holds some words are found."""
    mock = MockBackend("x")
    mock.assert_not_called()
    await mock.generate("a question of Oslo", system="s")
    assert mock.assert_called_once() is mock.last is mock.calls[0]
    assert mock.last.system == "s"
    assert mock.assert_asked("Oslo") is mock.assert_asked(re.compile("^a .* Oslo$")) is mock.last
    await mock.generate("another")
    mock.assert_called()
    mock.assert_called(2)
    mock.assert_finished()


async def test_an_assertion_that_fails_lists_what_was_asked() -> None:
    """The message says what was expected and what came, a line for each call."""
    mock = MockBackend(["x", "y", "z"])
    with pytest.raises(AssertionError, match=r"the mock was not asked$"):
        _ = mock.last
    with pytest.raises(AssertionError, match="not asked for 'x'; it was asked nothing"):
        mock.assert_asked("x")
    await mock.generate("first " * 1000)
    await mock.generate("second")
    for asserting in (mock.assert_not_called, mock.assert_called_once, lambda: mock.assert_asked(re.compile("third"))):
        with pytest.raises(AssertionError, match=r"1\. 'first first.*\n  2\. 'second'") as caught:
            asserting()
        assert len(str(caught.value)) < 300
    with pytest.raises(AssertionError, match=r"1 reply of the mock's script not given:\n  for any prompt: 'z'"):
        mock.assert_finished()


async def test_the_mock_under_another_name_is_the_same_mock() -> None:
    """`for_model` answers by the same script and is seen in the same calls."""
    mock = MockBackend(["a", "b"])
    other = mock.for_model("m-2")
    assert (await mock.generate("1")).model == "mock"
    assert ((await other.generate("2")).content, other.last.model) == ("b", "m-2")
    assert [call.prompt for call in mock.calls] == ["1", "2"]


async def test_health_is_as_told() -> None:
    """The mock is healthy unless told otherwise."""
    assert await MockBackend().health_check()
    assert not await get_backend("mock", healthy=False, audit="off").health_check()


async def test_the_mock_costs_nothing_that_is_known_and_is_no_provider() -> None:
    """Under the name of a model that has a price, too, the cost is unknown, and the record names the mock."""
    log = AuditLog.memory()
    response = await get_backend("mock", replies="x", model="gpt-4o", audit=log).generate("hi")
    assert response.cost is None
    (row,) = log.attempts()
    leaves = [entry.leaf for entry in log.entries() if entry.leaf["kind"] == "call.intent"]
    assert (row.backend, row.cost) == ("mock", None)
    assert "'gen_ai.provider.name': 'mock'" in str(leaves)


@pytest.mark.parametrize("faults", [[Overloaded(), None, Cut(event=1)], "overloaded; ok; cut@event=1"])
async def test_faults_befall_calls_in_turn(faults: Any) -> None:
    """The mock's faults are one for each call; where there are no more, calls go well."""
    mock = MockBackend("fine", faults=faults)
    with pytest.raises(OverloadedError):
        await mock.generate("hi")
    assert (await mock.generate("hi")).content == "fine"
    with pytest.raises(Exception, match="broke its answer off"):
        await mock.generate("hi")
    assert (await mock.generate("hi")).content == "fine"


async def test_what_is_no_fault_is_told() -> None:
    """A step that is none is refused when the mock is made, or, among values, when its turn comes."""
    with pytest.raises(InvalidRequestError, match="nonsense"):
        MockBackend(faults="ok; nonsense")
    with pytest.raises(InvalidRequestError, match="not 'cut@event=1'"):
        await MockBackend(faults=["cut@event=1"]).generate("hi")  # type: ignore[list-item]


def test_what_is_typed_is_taken() -> None:
    """A mapping by prompts alone, or by patterns alone, is replies to a type checker, too."""
    prompts: dict[str, str] = {"a": "b"}
    patterns: dict[re.Pattern[str], ToolCall] = {re.compile("a"): ToolCall("", "f", {})}
    assert MockBackend(prompts).calls == MockBackend(patterns).calls == []
