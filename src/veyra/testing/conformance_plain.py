"""Checks of any backend, be it of two methods: interface, values, streaming, cancellation, loops, the record."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from contextlib import suppress
from typing import get_args

from veyra.errors import VeyraError
from veyra.models.base import BaseModelBackend
from veyra.models.gate import Gate, Reply
from veyra.testing.stage import Group, Stage, Talk, expect
from veyra.types import Event, FinishReason, Message, ModelResponse, Options, TextDelta

PROMPT = "Say hello to the person who reads this."
HOSTILE = 'na\u00efve \U0001f469\u200d\U0001f52c \u0627\u0644\u0639\u0631\u0628\u064a\u0629 e\u0301 \ufeff \x7f </s> {{x}} \\n "quoted" data: [DONE]'
"""Text that has broken clients: joined and combining characters, right-to-left, a mark of byte order, what looks like framing."""
CALLERS = 20

interface = Group("interface")
values = Group("values")
streaming = Group("streaming")
cancellation = Group("cancellation")
loops = Group("loops")
audit = Group("audit")
unicode = Group("unicode")
GROUPS = (interface, values, streaming, cancellation, loops, audit, unicode)


async def _raw(stage: Stage) -> ModelResponse:
    """Return what the backend's own `generate` returns, as it is."""
    async with stage.talk("Hello.") as talk:
        return await talk.backend.generate(PROMPT)


async def _read(reply: Reply) -> list[Event]:
    async with reply:
        return [event async for event in reply]


# --------------------------------------------------------------------------------------------- interface


@interface.check
async def has_a_name(stage: Stage) -> None:
    """`name` is a printable str with something in it."""
    name = getattr(stage.make(), "name", None)
    expect(isinstance(name, str) and name.strip() and name.isprintable(), f"name is {name!r}")


@interface.check
async def is_a_backend(stage: Stage) -> None:
    """It is a `BaseModelBackend`."""
    backend = stage.make()
    expect(isinstance(backend, BaseModelBackend), f"it is a {type(backend).__name__}")


@interface.check
async def takes_options_by_keyword(stage: Stage) -> None:
    """`generate` takes the prompt first, and every option by keyword."""
    signature = inspect.signature(stage.make().generate)
    try:
        signature.bind(PROMPT, **dict.fromkeys(Options.__annotations__))
    except TypeError as error:
        expect(held=False, message=f"generate{signature}: {error}")


@interface.check
async def health_is_a_bool(stage: Stage) -> None:
    """`health_check` returns True or False, and nothing that is merely true or false."""
    async with stage.talk() as talk:
        found = await talk.backend.health_check()
    expect(type(found) is bool, f"health_check() returned {found!r}")


@interface.check
async def closes_twice(stage: Stage) -> None:
    """`aclose` can be called twice, and before anything was asked."""
    backend = stage.make()
    for _ in range(2):
        try:
            await backend.aclose()
        except Exception as error:  # noqa: BLE001  (whatever it raises is what is wrong)
            expect(held=False, message=f"aclose() raised {type(error).__name__}: {error}")


@interface.check
async def serves_after_closing(stage: Stage) -> None:
    """A backend that was closed can be asked again: it opens anew what it needs."""
    async with stage.talk("One.", "Two.") as talk:
        await talk.gate.generate(PROMPT)
        await talk.backend.aclose()
        await talk.gate.generate(PROMPT)


# ------------------------------------------------------------------------------------------------ values


@values.check
async def answers_with_a_response(stage: Stage) -> None:
    """`generate` returns a `ModelResponse`."""
    answer = await _raw(stage)
    expect(isinstance(answer, ModelResponse), f"generate() returned a {type(answer).__name__}")


@values.check
async def content_is_text(stage: Stage) -> None:
    """`content` is a str."""
    content = getattr(await _raw(stage), "content", "")
    expect(isinstance(content, str), f"content is a {type(content).__name__}")


@values.check
async def names_itself(stage: Stage) -> None:
    """`backend` of a response is the backend's name."""
    async with stage.talk("Hello.") as talk:
        answer = await talk.backend.generate(PROMPT)
        found = getattr(answer, "backend", talk.backend.name)
        expect(found == talk.backend.name, f"backend is {found!r}, the backend's name {talk.backend.name!r}")


@values.check
async def model_is_text(stage: Stage) -> None:
    """`model` is a str with something in it."""
    model = getattr(await _raw(stage), "model", "m")
    expect(isinstance(model, str) and model, f"model is {model!r}")


@values.check
async def latency_is_a_time(stage: Stage) -> None:
    """`latency_ms` is a finite number, 0 or more."""
    latency = getattr(await _raw(stage), "latency_ms", 0)
    is_number = isinstance(latency, int | float) and not isinstance(latency, bool)
    expect(is_number and math.isfinite(latency) and latency >= 0, f"latency_ms is {latency!r}")


@values.check
async def counts_are_counts(stage: Stage) -> None:
    """`prompt_tokens` and `completion_tokens` are ints, 0 or more."""
    answer = await _raw(stage)
    for name in ("prompt_tokens", "completion_tokens"):
        count = getattr(answer, name, 0)
        expect(type(count) is int and count >= 0, f"{name} is {count!r}")


@values.check
async def request_id_is_text_or_none(stage: Stage) -> None:
    """`request_id` is a str, or None where the provider gave none."""
    found = getattr(await _raw(stage), "request_id", None)
    expect(found is None or (isinstance(found, str) and found), f"request_id is {found!r}")


@values.check
async def finish_reason_is_one_of_ours(stage: Stage) -> None:
    """`finish_reason` is one of our words, or None."""
    found = getattr(await _raw(stage), "finish_reason", None)
    expect(found is None or found in get_args(FinishReason), f"finish_reason is {found!r}")


@values.check
async def takes_a_conversation(stage: Stage) -> None:
    """A sequence of messages is a prompt as good as a str."""
    turns = [Message("user", "Hello"), Message("assistant", "Hello. What is it?"), Message("user", PROMPT)]
    async with stage.talk("Hello.") as talk:
        await talk.gate.generate(turns)


# --------------------------------------------------------------------------------------------- streaming


@streaming.check
async def pieces_make_the_whole(stage: Stage) -> None:
    """The pieces of a streamed answer are the answer's text."""
    async with stage.talk("One two three.") as talk:
        reply = talk.gate.stream(PROMPT)
        events = await _read(reply)
        whole = await _whole(talk)
    pieces = "".join(event.text for event in events if isinstance(event, TextDelta))
    expect(pieces == whole, f"the pieces are {pieces!r}, the whole answer is {whole!r}")


async def _whole(talk: Talk) -> str:
    """Return what is answered when it is not streamed: by the server's next reply, or by the backend again."""
    if talk.server is not None:
        return "One two three."
    return (await talk.gate.generate(PROMPT)).content


@streaming.check
async def a_stream_can_be_left(stage: Stage) -> None:
    """After a stream that was left at its first event the next one is answered."""
    async with stage.talk("One two three.", "One two three.") as talk:
        with suppress(VeyraError):  # what becomes of the one that is left is for the record to say
            async with talk.gate.stream(PROMPT) as reply:
                async for _ in reply:
                    break
        await _read(talk.gate.stream(PROMPT))


# ------------------------------------------------------------------------------------------ cancellation


@cancellation.check
async def cancelled_means_cancelled(stage: Stage) -> None:
    """A call that is cancelled at any step before its end ends as cancelled."""
    for steps in (0, 1, 2, 3, 5, 8, 13):
        async with stage.talk("One two three.") as talk:
            task = asyncio.ensure_future(talk.backend.generate(PROMPT))
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.cancel():
                (ended,) = await asyncio.gather(task, return_exceptions=True)
                right = isinstance(ended, asyncio.CancelledError)
                expect(right, f"cancelled after {steps} steps, it ended with {type(ended).__name__}")


@cancellation.check
async def a_cancelled_call_leaves_the_backend_usable(stage: Stage) -> None:
    """After a cancelled call the next one is answered."""
    async with stage.talk(*["One two three."] * 9) as talk:
        for steps in (1, 3, 8):
            task = asyncio.ensure_future(talk.gate.generate(PROMPT))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await talk.gate.generate(PROMPT)


# ------------------------------------------------------------------------------------------------- loops


@loops.check
async def many_at_once(stage: Stage) -> None:
    """Twenty calls at once on one backend are twenty answers."""
    async with stage.talk(*["Hello."] * CALLERS) as talk:
        answers = await asyncio.gather(*(talk.gate.generate(PROMPT) for _ in range(CALLERS)))
    expect(len(answers) == CALLERS, f"{len(answers)} answers")


@loops.check
def one_loop_after_another(stage: Stage) -> None:
    """A backend that was asked under one event loop can be asked under the next, and the first one may be gone."""
    _under_loops(stage, in_threads=False)


@loops.check
def loops_in_threads(stage: Stage) -> None:
    """Two threads with an event loop each can ask one backend at the same time."""
    _under_loops(stage, in_threads=True)


def _under_loops(stage: Stage, *, in_threads: bool) -> None:
    with stage.threaded("Hello.", "Hello.") as backend:
        gate = Gate(backend, None)

        async def ask() -> None:
            await gate.generate(PROMPT)
            await backend.aclose()

        if not in_threads:
            for _ in range(2):
                asyncio.run(ask())
            return
        failures: list[BaseException] = []
        barrier = threading.Barrier(2)

        def work() -> None:
            barrier.wait()
            try:
                asyncio.run(ask())
            except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


# ------------------------------------------------------------------------------------------------- audit


@audit.check
async def a_cancelled_call_is_on_record(stage: Stage) -> None:
    """A stream that is left is on record as cancelled."""
    async with stage.talk("One two three.") as talk:
        with suppress(VeyraError):
            async with talk.gate.stream(PROMPT) as reply:
                async for _ in reply:
                    break
        statuses = [row.status for row in talk.log.attempts()]
    expect(statuses == ["cancelled"], f"the record says {', '.join(statuses)}")


# ----------------------------------------------------------------------------------------------- unicode


@unicode.check
async def any_text_is_taken(stage: Stage) -> None:
    """Text of every script, and text that looks like framing, is a prompt."""
    async with stage.talk("Hello.") as talk:
        await talk.gate.generate(HOSTILE)
        if talk.server is not None:
            came = talk.mock.calls[-1].messages[-1].text
            expect(came == HOSTILE, f"sent was {came!r}")


@unicode.check
async def long_text_is_taken(stage: Stage) -> None:
    """A prompt of a million characters is a prompt."""
    text = "x" * 1_000_000
    async with stage.talk("Hello.") as talk:
        await talk.gate.generate(text)
        if talk.server is not None:
            came = len(talk.mock.calls[-1].messages[-1].text)
            expect(came == len(text), f"of {len(text):,} characters {came:,} were sent")
