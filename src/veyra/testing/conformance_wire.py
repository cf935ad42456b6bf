"""Checks of backends that talk HTTP: what they send, and what they make of what comes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from veyra.errors import UnsupportedParameterError
from veyra.models.mock_reply import MockReply
from veyra.testing.stage import KEY, MODEL, Group, Stage, Talk, expect
from veyra.types import Event, Message, ModelResponse, Request, TextDelta, Tool, ToolCall, ToolResult, Usage

PROMPT = "What is the weather in Lisbon?"
WEATHER = Tool(
    name="weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALLED = ToolCall("call_1", "weather", {"city": "Lisbon"}, '{"city":"Lisbon"}')
USAGE = Usage(input_total=11, output_total=7)
WAIT = 0.6
"""Seconds that a server lets a backend wait, to see whether it blocks its event loop meanwhile."""

requests = Group("requests", over_http=True)
answers = Group("answers", over_http=True)
usage = Group("usage", over_http=True)
record = Group("record", over_http=True, by_events=True)
secrets = Group("secrets", over_http=True)
concurrency = Group("concurrency", over_http=True)
GROUPS = (requests, answers, usage, record, secrets, concurrency)


async def _sent(stage: Stage, prompt: Any = PROMPT, **options: Any) -> Request:  # noqa: ANN401  (an option of any sort)
    """Return what the server understood of a call."""
    async with stage.talk("Sunny.") as talk:
        await talk.gate.generate(prompt, **options)
        return talk.mock.calls[-1]


async def _is_heeded(stage: Stage, name: str, value: Any) -> None:  # noqa: ANN401  (an option of any sort)
    """See that an option arrives as it was set, or that the backend says that it does not."""
    async with stage.talk("Sunny.") as talk:
        try:
            answer = await talk.gate.generate(PROMPT, **{name: value})
        except UnsupportedParameterError:
            return
        came = getattr(talk.mock.calls[-1], name)
        warned = any(warning.parameter == name for warning in answer.warnings)
    expect(came == value or warned, f"{name} was {value!r}, what was sent says {came!r}, and nothing warns of it")


async def _whole(stage: Stage, reply: MockReply, **options: Any) -> ModelResponse:  # noqa: ANN401  (options of any sort)
    async with stage.talk(reply) as talk:
        return await talk.gate.generate(PROMPT, **options)


async def _streamed(stage: Stage, reply: MockReply, **options: Any) -> tuple[ModelResponse, list[Event]]:  # noqa: ANN401
    async with stage.talk(reply) as talk, talk.gate.stream(PROMPT, **options) as answer:
        events = [event async for event in answer]
        return answer.response, events


# ---------------------------------------------------------------------------------------------- requests


@requests.check
async def sends_the_prompt(stage: Stage) -> None:
    """The prompt arrives, unaltered, as the user's turn."""
    came = [(message.role, message.text) for message in (await _sent(stage)).messages]
    expect(came == [("user", PROMPT)], f"what arrived is {came}")


@requests.check
async def sends_the_model(stage: Stage) -> None:
    """The model that the call names is asked, or else the backend's own."""
    models = (await _sent(stage)).model, (await _sent(stage, model="a-third-model")).model
    expect(models == (MODEL, "a-third-model"), f"asked were {models}")


@requests.check
async def sends_the_turns(stage: Stage) -> None:
    """The turns of a conversation arrive in order, each as who said it."""
    turns = [Message("user", "One."), Message("assistant", "Two."), Message("user", "Three.")]
    came = [(message.role, message.text) for message in (await _sent(stage, turns)).messages]
    expect(came == [(turn.role, turn.text) for turn in turns], f"what arrived is {came}")


@requests.check
async def sends_the_system_text(stage: Stage) -> None:
    """The system's text arrives as such, apart from the user's."""
    request = await _sent(stage, system="Answer in one word.")
    text = request.system or "".join(message.text for message in request.messages if message.role == "system")
    expect(text == "Answer in one word.", f"the system's text arrived as {text!r}")


@requests.check
async def sends_max_tokens(stage: Stage) -> None:
    """`max_tokens` arrives, or is refused or warned of."""
    await _is_heeded(stage, "max_tokens", 77)


@requests.check
async def sends_temperature(stage: Stage) -> None:
    """`temperature` arrives, or is refused or warned of."""
    await _is_heeded(stage, "temperature", 0.25)


@requests.check
async def sends_top_p(stage: Stage) -> None:
    """`top_p` arrives, or is refused or warned of."""
    await _is_heeded(stage, "top_p", 0.5)


@requests.check
async def sends_stop(stage: Stage) -> None:
    """`stop` arrives, or is refused or warned of."""
    await _is_heeded(stage, "stop", ("END",))


@requests.check
async def sends_seed(stage: Stage) -> None:
    """`seed` arrives, or is refused or warned of."""
    await _is_heeded(stage, "seed", 7)


@requests.check
async def sends_tools(stage: Stage) -> None:
    """A tool arrives with its name, its description and its parameters."""
    tools = (await _sent(stage, tools=[WEATHER])).tools
    came = [(tool.name, tool.description, dict(tool.parameters)) for tool in tools]
    expect(came == [(WEATHER.name, WEATHER.description, dict(WEATHER.parameters))], f"what arrived is {came}")


@requests.check
async def sends_tool_results(stage: Stage) -> None:
    """What a tool gave back arrives, tied to the call that asked for it."""
    turns = [
        Message("user", PROMPT),
        Message("assistant", [CALLED]),
        Message("tool", [ToolResult(CALLED.id, "Sunny, 21 degrees.", name=CALLED.name)]),
    ]
    parts = [part for message in (await _sent(stage, turns, tools=[WEATHER])).messages for part in message.parts]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    results = [part for part in parts if isinstance(part, ToolResult)]
    right = len(calls) == len(results) == 1 and calls[0].id == results[0].id and calls[0].name == CALLED.name
    expect(right and results[0].content == "Sunny, 21 degrees.", f"what arrived is {calls} and {results}")


@requests.check
async def sends_extra(stage: Stage) -> None:
    """What `extra` holds is sent untouched."""
    async with stage.talk("Sunny.") as talk:
        await talk.gate.generate(PROMPT, extra={"x_conformance": {"kept": [1, 2.5, None]}})
        assert talk.server is not None
        came = talk.server.journal[-1].json.get("x_conformance")
    expect(came == {"kept": [1, 2.5, None]}, f"x_conformance arrived as {came!r}")


@requests.check_of_events
async def asks_to_stream_when_streaming(stage: Stage) -> None:
    """A streamed call asks the provider to stream."""
    async with stage.talk("Sunny.") as talk:
        async with talk.gate.stream("Stream, please.") as reply:
            async for _ in reply:
                pass
        expect(talk.mock.calls[-1].stream, "the provider was not asked to stream")


@requests.check
async def asks_once(stage: Stage) -> None:
    """An attempt is one request, whatever comes of it: retries are the client's."""
    for faults in ("", "failure", "rate-limit@after=0"):
        async with stage.talk("Sunny.", "Sunny.", faults=faults) as talk:
            await _asked(talk)
            assert talk.server is not None
            paths = [seen.path for seen in talk.server.journal]
        expect(len(paths) == 1, f"after {faults or 'an answer'} these were requested: {', '.join(paths)}")


async def _asked(talk: Talk) -> Exception | None:
    """Ask; what comes of it does not matter here."""
    try:
        await talk.gate.generate(PROMPT)
    except Exception as error:  # noqa: BLE001  (the check is about requests)
        return error
    return None


@requests.check
async def a_health_check_asks_no_model(stage: Stage) -> None:
    """`health_check` asks the server, and no model: it costs nothing."""
    async with stage.talk("Sunny.") as talk:
        healthy = await talk.backend.health_check()
        assert talk.server is not None
        methods = [seen.method for seen in talk.server.journal]
    expect(healthy and set(methods) == {"GET"}, f"healthy is {healthy}, and the requests were {', '.join(methods)}")


# ----------------------------------------------------------------------------------------------- answers


@answers.check
async def reads_text(stage: Stage) -> None:
    """The text of an answer is what the model wrote."""
    answer = await _whole(stage, MockReply("Sunny, 21\u00b0.\nBring \U0001f576."))
    expect(answer.content == "Sunny, 21\u00b0.\nBring \U0001f576.", f"content is {answer.content!r}")


@answers.check
async def reads_streamed_text(stage: Stage) -> None:
    """The text of a streamed answer is what the model wrote."""
    answer, _ = await _streamed(stage, MockReply("Sunny, 21\u00b0.\nBring \U0001f576."))
    expect(answer.content == "Sunny, 21\u00b0.\nBring \U0001f576.", f"content is {answer.content!r}")


@answers.check_of_events
async def hands_text_on_in_pieces(stage: Stage) -> None:
    """A streamed answer is handed on as it comes, not at its end."""
    _, events = await _streamed(stage, MockReply("One two three four five."))
    count = sum(isinstance(event, TextDelta) for event in events)
    expect(count > 1, f"the text came in {count} piece")


@answers.check
async def reads_an_empty_answer(stage: Stage) -> None:
    """An answer without text is an answer."""
    answer = await _whole(stage, MockReply(""))
    expect((answer.content, answer.finish_reason) == ("", "stop"), f"content is {answer.content!r}")


@answers.check
async def reads_a_tool_call(stage: Stage) -> None:
    """A tool's call has its name and its arguments, parsed, and the answer says that it ended so."""
    answer = await _whole(stage, MockReply(tool_calls=[CALLED]), tools=[WEATHER])
    _expect_call(answer)


@answers.check
async def reads_a_streamed_tool_call(stage: Stage) -> None:
    """So has one that is streamed."""
    answer, _ = await _streamed(stage, MockReply(tool_calls=[CALLED]), tools=[WEATHER])
    _expect_call(answer)


def _expect_call(answer: ModelResponse) -> None:
    calls = [(call.name, call.arguments) for call in answer.tool_calls]
    expect(calls == [("weather", {"city": "Lisbon"})], f"the calls are {calls}")
    expect(answer.finish_reason == "tool_calls", f"finish_reason is {answer.finish_reason!r}")


@answers.check
async def tells_tool_calls_apart(stage: Stage) -> None:
    """Two calls of one answer keep their own arguments, in order, and have ids of their own."""
    other = ToolCall("call_2", "weather", {"city": "Porto"}, '{"city":"Porto"}')
    answer, _ = await _streamed(stage, MockReply(tool_calls=[CALLED, other]), tools=[WEATHER])
    cities = [(call.arguments or {}).get("city") for call in answer.tool_calls]
    ids = {call.id for call in answer.tool_calls}
    expect(cities == ["Lisbon", "Porto"] and len(ids) == 2, f"the calls are {answer.tool_calls}")


@answers.check_of("openai_chat", "openai_responses")
async def keeps_arguments_that_are_no_json(stage: Stage) -> None:
    """Arguments that are no JSON object are None, with what the model wrote in `raw`."""
    broken = ToolCall("call_1", "weather", None, '{"city": Lis')
    answer = await _whole(stage, MockReply(tool_calls=[broken]), tools=[WEATHER])
    calls = [(call.arguments, call.raw) for call in answer.tool_calls]
    expect(calls == [(None, '{"city": Lis')], f"arguments and raw are {calls}")


@answers.check
async def says_that_it_stopped(stage: Stage) -> None:
    """An answer that came to its end has `stop`."""
    reason = (await _whole(stage, MockReply("Sunny."))).finish_reason
    expect(reason == "stop", f"finish_reason is {reason!r}")


@answers.check
async def says_that_it_hit_the_limit(stage: Stage) -> None:
    """An answer that was ended by the limit of tokens has `length`."""
    reason = (await _whole(stage, MockReply("Sun", finish_reason="length"))).finish_reason
    expect(reason == "length", f"finish_reason is {reason!r}")


@answers.check_of("openai_chat", "openai_responses", "anthropic", "gemini")
async def says_that_it_was_withheld(stage: Stage) -> None:
    """An answer that the provider withheld has `content_filter`."""
    reason = (await _whole(stage, MockReply("Sun", finish_reason="content_filter"))).finish_reason
    expect(reason == "content_filter", f"finish_reason is {reason!r}")


@answers.check
async def names_the_model_that_answered(stage: Stage) -> None:
    """`model` is the one that the provider says has answered."""
    model = (await _whole(stage, MockReply("Sunny."), model="another-model")).model
    expect(model == "another-model", f"model is {model!r}, and another-model has answered")


@answers.check_of("openai_chat", "openai_responses", "anthropic")
async def tells_the_request_id(stage: Stage) -> None:
    """`request_id` is the provider's."""
    found = (await _whole(stage, MockReply("Sunny."))).request_id
    expect(found == "req_000001", f"request_id is {found!r}")


# ------------------------------------------------------------------------------------------------ record


@record.check
async def what_was_sent_is_on_record(stage: Stage) -> None:
    """The log keeps the bytes that the provider got, and no others."""
    async with stage.talk("Sunny.") as talk:
        await talk.gate.generate(PROMPT)
        kept = _kept(talk, "request.wire")
        assert talk.server is not None
        came = talk.server.journal[-1].body
    expect(kept == came, f"the log keeps {kept[:200]!r}, the provider got {came[:200]!r}")


@record.check
async def what_came_is_on_record(stage: Stage) -> None:
    """The log keeps the bytes of the answer, so that it can be decoded again."""
    async with stage.talk("Sunny in Lisbon.") as talk:
        await talk.gate.generate(PROMPT)
        kept = _kept(talk, "response.wire")
    expect(b"Sunny in Lisbon." in kept, f"the log keeps {kept[:200]!r}")


def _kept(talk: Talk, name: str) -> bytes:
    return b"".join(part.data for entry in talk.log.entries() for part in entry.parts if part.name == name)


# ------------------------------------------------------------------------------------------------- usage


@usage.check
async def counts_tokens(stage: Stage) -> None:
    """Usage is what the provider stated, and the ADR's two counts agree with it."""
    answer = await _whole(stage, MockReply("Sunny.", usage=USAGE))
    _expect_usage(answer)


@usage.check
async def counts_streamed_tokens(stage: Stage) -> None:
    """So it is for a streamed answer."""
    answer, _ = await _streamed(stage, MockReply("Sunny.", usage=USAGE))
    _expect_usage(answer)


def _expect_usage(answer: ModelResponse) -> None:
    stated = answer.usage.input_total, answer.usage.output_total
    expect(stated == (11, 7), f"stated were 11 and 7 tokens, usage says {stated[0]} and {stated[1]}")
    counts = answer.prompt_tokens, answer.completion_tokens
    expect(counts == (11, 7), f"stated were 11 and 7 tokens, the counts are {counts[0]} and {counts[1]}")


@usage.check_of("openai_chat", "openai_responses", "anthropic", "gemini")
async def counts_cached_tokens_once(stage: Stage) -> None:
    """Tokens from a cache are told, and are part of the total."""
    stated = Usage(input_total=11, input_uncached=4, cache_read=7, output_total=7)
    found = (await _whole(stage, MockReply("Sunny.", usage=stated))).usage
    expect((found.input_total, found.cache_read) == (11, 7), f"usage is {found}")


@usage.check_of("openai_chat", "gemini", "ollama")
async def unknown_is_not_zero(stage: Stage) -> None:
    """Where the provider states no usage, it is None, and not 0."""
    found = (await _whole(stage, MockReply("Sunny.", usage=Usage()))).usage
    expect((found.input_total, found.output_total) == (None, None), f"usage is {found}")


# ----------------------------------------------------------------------------------------------- secrets


@secrets.check_of_events
async def the_key_goes_in_a_header(stage: Stage) -> None:
    """The key is sent in a header, and neither in the URL nor in the body."""
    async with stage.talk("Sunny.") as talk:
        await talk.gate.generate(PROMPT)
        exchange = talk.backend.prepare(talk.mock.calls[-1])
        outgoing = exchange.outgoing
    expect(outgoing is not None, "prepare() does not say what is sent")
    assert outgoing is not None
    values = [secret.reveal() for secret in outgoing.secret_headers.values()]
    expect(any(KEY in value for value in values), "no secret header carries the key")
    shown = outgoing.url, dict(outgoing.headers), outgoing.body
    expect(KEY not in repr(shown), "the key is in the URL, in a plain header or in the body")


@secrets.check
async def the_key_is_not_in_the_repr(stage: Stage) -> None:
    """`repr` of the backend does not show the key."""
    expect(KEY not in repr(stage.make()), "repr() shows the key")


@secrets.check_of_events
async def the_key_is_not_on_record(stage: Stage) -> None:
    """No entry of the log, and no body beside it, holds the key, though the model repeats it."""
    async with stage.talk(f"Your key is {KEY}.") as talk:
        await talk.gate.generate(PROMPT)
        kept = [entry.raw for entry in talk.log.entries()]
        kept += [part.data for entry in talk.log.entries() for part in entry.parts]
    expect(not any(KEY.encode() in data for data in kept), "the log holds the key")


# ------------------------------------------------------------------------------------------- concurrency


@concurrency.check
async def answers_are_not_mixed_up(stage: Stage) -> None:
    """Calls at once, streamed and whole, each get the answer to what they asked."""
    questions = [f"Question {number}: what is the weather?" for number in range(10, 30)]
    async with stage.talk() as talk:  # the mock says back how the question begins
        asked = (_answered(talk, question, stream=bool(number % 2)) for number, question in enumerate(questions))
        answers = await asyncio.gather(*asked)
    wrong = [pair for pair in zip(questions, answers, strict=True) if pair[0] not in pair[1]]
    expect(not wrong, f"{len(wrong)} of {len(questions)} calls got another's answer, as in {wrong[:1]}")


async def _answered(talk: Talk, question: str, *, stream: bool) -> str:
    if not stream:
        return (await talk.gate.generate(question)).content
    async with talk.gate.stream(question) as reply:
        async for _ in reply:
            pass
    return reply.response.content


@concurrency.check
async def waiting_does_not_block(stage: Stage) -> None:
    """While an answer is waited for, the event loop goes on."""
    async with stage.talk("Sunny.") as talk:
        await talk.gate.generate(PROMPT)  # what a first call loads is loaded
    async with stage.talk("Sunny.", faults=f"slow-head@seconds={WAIT}") as talk:
        task = asyncio.ensure_future(talk.gate.generate("Hold the line, please."))
        longest, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.wait({task}, timeout=0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await task
    expect(longest < WAIT * 0.75, f"while it waited, nothing else ran for {longest:.1f} s")
