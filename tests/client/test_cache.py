"""Answers that are given again: what is the same call, what is kept, what a hit says and costs, what a damaged file does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import virtual
from client.asked import Scripted
from veyra import AuditLog, Breaker, Cache, Client, Fallback, Message, MockBackend, Retry
from veyra.client.fingerprint import fingerprint
from veyra.client.observe import CallEnded, Observation
from veyra.client.shelf import DiskShelf, MemoryShelf
from veyra.errors import (
    AuditUnavailableError,
    IncompleteStreamError,
    InvalidRequestError,
    OutputMismatchError,
    ServerError,
)
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.models.registry import make_backend
from veyra.models.request import build_embed_request, build_request
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    Finish,
    FinishReason,
    Media,
    Opaque,
    ReasoningDelta,
    Request,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Counting(EventBackend):
    """A backend that counts what it is asked, and says how often it was."""

    name: str = "counting"
    reason: FinishReason = "stop"
    text: str | None = None
    parts: tuple[Opaque, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    asked: int = 0
    texts: list[tuple[str, ...]] = field(default_factory=list)

    def defaults(self) -> dict[str, Any]:
        return {"model": "m"}

    async def health_check(self) -> bool:
        return True

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        self.asked += 1
        yield ReasoningDelta("hm")
        yield TextDelta(f"answer {self.asked}" if self.text is None else self.text)
        for number, call in enumerate(self.calls):
            yield ToolCallDelta(number, call.id, call.name, call.raw)
        yield Finish(
            reason=self.reason,
            raw_reason="end",
            usage=Usage(input_total=7, output_total=5),
            model="m-2",
            response_id="r1",
            request_id="x1",
            tool_calls=self.calls,
            parts=self.parts,
        )

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        return Exchange(provider=self.name)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        self.texts.append(request.texts)
        return Embedded(
            vectors=tuple((0.1, float(len(text))) for text in request.texts), usage=Usage(input_total=3), model="e"
        )


def shelves(tmp_path: Path) -> dict[str, Cache]:
    return {"memory": Cache.memory(), "disk": Cache.disk(tmp_path / "cache")}


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return shelves(tmp_path)[request.param]


# --------------------------------------------------------------------------------------------------- hits


async def test_a_hit_asks_nobody_and_says_so(cache: Cache) -> None:
    """The same call gets the same answer, of no cost, no tokens and no attempts, on record as the hit of the first outcome."""
    backend, log = Counting(parts=(Opaque("openai", b"{}"),)), AuditLog.memory()
    client = Client(backend, audit=log, cache=cache)
    first = await client.generate("Hello", temperature=0)
    again = await client.generate("Hello", temperature=0)
    assert backend.asked == 1
    assert not first.cached
    assert again.cached
    same = ("content", "model", "backend", "reasoning", "finish_reason", "parts", "response_id", "raw_finish_reason")
    assert [getattr(again, name) for name in same] == [getattr(first, name) for name in same]
    assert (again.cost, again.usage, again.prompt_tokens) == (Decimal(0), Usage(input_total=0, output_total=0), 0)
    assert (again.attempts, again.request_id) == ((), None)
    last = [entry.leaf for entry in log.entries()][-1]
    assert again.receipt is not None
    assert first.receipt is not None
    assert (last["kind"], last["id"], last["of"]) == ("cache.hit", again.receipt.id, first.receipt.id)
    assert last["attributes"]["gen_ai.request.model"] == "m"
    assert last["attributes"]["veyra.cache.origin"] == first.receipt.origin
    assert len(list(log.attempts())) == 1
    assert log.verify().ok


async def test_whole_and_streamed_calls_answer_one_another(cache: Cache) -> None:
    """A streamed call replays a whole answer as events, `Finish` last, and leaves what a whole call is given."""
    backend = Counting(calls=(ToolCall("c1", "f", {"a": [1, 2.5, None]}, '{"a":[1,2.5,null]}'),), reason="tool_calls")
    client = Client(backend, audit="memory", cache=cache)
    first = await client.generate("Hello")
    async with client.stream("Hello") as reply:
        events = [event async for event in reply]
    assert [type(event).__name__ for event in events] == ["ReasoningDelta", "TextDelta", "ToolCallDelta", "Finish"]
    assert isinstance(events[-1], Finish)
    assert events[-1].usage == Usage(input_total=0, output_total=0)
    assert (reply.response.cached, reply.response.content) == (True, first.content)
    assert reply.response.tool_calls == first.tool_calls
    async with client.stream("Goodbye") as reply:
        async for _ in reply:
            pass
    assert (await client.generate("Goodbye")).cached
    assert backend.asked == 2


async def test_vectors_are_kept_too(cache: Cache) -> None:
    """The same texts get the same vectors, float for float; other texts, dimensions and prompts are asked for."""
    backend, log = Counting(), AuditLog.memory()
    client = Client(backend, audit=log, cache=cache)
    first = await client.embed(["a", "bb"])
    again = await client.embed(["a", "bb"])
    assert (again.cached, again.vectors, again.cost, again.attempts) == (True, first.vectors, Decimal(0), ())
    assert again.receipt is not None
    await client.embed(["bb", "a"])
    await client.embed(["a", "bb"], dimensions=2)
    assert len(backend.texts) == 3
    assert not (await client.generate("a")).cached


async def test_an_answer_is_read_into_its_type_anew(cache: Cache) -> None:
    """A hit has an `output` of its own, which its taker may change."""
    backend = Counting(text='{"n": [1]}')
    client = Client(backend, audit="memory", cache=cache)
    shape = {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "integer"}}}, "required": ["n"]}
    first = await client.generate("Hello", output=shape)
    again = await client.generate("Hello", output=shape)
    assert again.cached
    assert again.output == first.output == {"n": [1]}
    again.output["n"].append(2)
    assert (await client.generate("Hello", output=shape)).output == {"n": [1]}
    assert not (await client.generate("Hello")).cached


async def test_what_a_caller_does_to_an_answer_is_not_kept() -> None:
    """Arguments of a tool that a caller changed are whole again in the next hit."""
    call = ToolCall("c1", "f", {"a": [1]}, '{"a":[1]}')
    client = Client(Counting(calls=(call,), reason="tool_calls"), audit="memory", cache=Cache.memory())
    for _ in range(3):
        answer = await client.generate("Hello")
        arguments = answer.tool_calls[0].arguments
        assert arguments == {"a": [1]}
        assert arguments is not None
        if answer.cached:
            arguments["a"].append(2)


async def test_observers_are_told_of_the_call_and_of_no_attempt() -> None:
    """A hit is a call that began and ended."""
    seen: list[Observation] = []
    client = Client(Counting(), audit="memory", cache=Cache.memory(), observers=[seen.append])
    await client.generate("Hello")
    seen.clear()
    answer = await client.generate("Hello")
    assert [type(event).__name__ for event in seen] == ["CallStarted", "CallEnded"]
    assert seen[-1].response is answer  # type: ignore[union-attr]


async def test_a_call_ends_once_for_its_observers() -> None:
    """A reader that leaves a replayed answer, or a caller that leaves while an answer is put away, is told nothing of."""
    seen: list[Observation] = []

    class Slow(MemoryShelf):
        async def put(self, key: str, data: bytes) -> None:
            await super().put(key, data)
            await asyncio.sleep(60)

    client = Client(Counting(), audit="memory", cache=Cache(Slow(9)), observers=[seen.append])
    task = asyncio.create_task(client.generate("Hello"))
    while not seen or type(seen[-1]).__name__ != "CallEnded":
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with client.stream("Hello") as reply:
        async for _ in reply:
            break
    ends = [event for event in seen if isinstance(event, CallEnded)]
    assert [end.response is not None and end.error is None for end in ends] == [True, True]


class Stepping(MemoryShelf):
    """A shelf that suspends before and after each thing it does."""

    async def get(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        data = await super().get(key)
        await asyncio.sleep(0)
        return data

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.sleep(0)
        await super().put(key, data)
        await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("steps", range(12))
async def test_cancelling_at_any_step_leaves_nothing_half_done(steps: int, *, stream: bool) -> None:
    """Whenever the caller leaves: one outcome for each intent, one end for each beginning, and what is kept is whole."""
    seen: list[Observation] = []
    log, backend, shelf = AuditLog.memory(), Counting(), Stepping(9)
    client = Client(backend, audit=log, cache=Cache(shelf), observers=[seen.append])

    async def ask() -> None:
        if not stream:
            await client.generate("Hello")
            return
        async with client.stream("Hello") as reply:
            async for _ in reply:
                await asyncio.sleep(0)

    for _ in range(2):  # the second finds what the first has kept, if it has
        task = asyncio.create_task(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    names = [type(event).__name__ for event in seen]
    assert names.count("CallStarted") == names.count("CallEnded")
    assert names.count("AttemptStarted") == names.count("AttemptEnded") == backend.asked
    assert all(row.status != "open" for row in log.attempts())
    assert log.verify().ok
    again = await client.generate("Hello")
    assert again.content == "answer 1" or not again.cached


def test_calls_at_the_same_time_each_ask() -> None:
    """Nobody waits for another's answer (rule 5)."""

    async def ask() -> None:
        backend = Scripted([], takes=5)
        client = Client(backend, audit="memory", cache=Cache.memory())
        await asyncio.gather(*(client.generate("Hello") for _ in range(3)))
        assert backend.made == [0, 0, 0]
        assert (await client.generate("Hello")).cached

    virtual.run(ask())


# ------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("reason", ["length", "content_filter", "paused", "other"])
async def test_an_answer_that_is_not_whole_is_not_kept(reason: FinishReason) -> None:
    """One that was cut, withheld or paused is asked for anew."""
    backend = Counting(reason=reason)
    client = Client(backend, audit="memory", cache=Cache.memory())
    for _ in range(2):
        assert not (await client.generate("Hello")).cached


async def test_failures_are_not_kept() -> None:
    """After an error, a cut stream, or a stream that its reader left, the next call asks."""
    ends: Sequence[Any] = [ServerError("down"), IncompleteStreamError("cut"), None, None]
    backend = Scripted(ends)
    client = Client(backend, audit="memory", cache=Cache.memory(), retry=Retry(attempts=1))
    for kind in (ServerError, IncompleteStreamError):
        with pytest.raises(kind):
            await client.generate("Hello")
    async with client.stream("Hello") as reply:
        async for event in reply:
            if isinstance(event, TextDelta):
                break
    assert not (await client.generate("Hello")).cached
    assert (await client.generate("Hello")).cached
    assert len(backend.made) == 4


async def test_an_unfit_answer_is_not_kept_and_a_repaired_one_is() -> None:
    """What did not fit `output` is asked for again; the answer that fits in the end answers the same question."""
    unfit = Client(Counting(text="no"), audit="memory", cache=Cache.memory(), retry=Retry(attempts=1))
    for _ in range(2):
        with pytest.raises(OutputMismatchError):
            await unfit.generate("Hello", output=int)
    mock = MockBackend(["no", "3"])
    client = Client(mock, audit="memory", cache=Cache.memory())
    assert (await client.generate("Hello", output=int, repair=1)).output == 3
    again = await client.generate("Hello", output=int, repair=1)
    assert (again.cached, again.output, len(mock.calls)) == (True, 3, 2)


async def test_an_answer_that_was_not_accepted_is_not_kept() -> None:
    """`Fallback.accept` decides over what is kept as over what is given."""
    backend, cache = Counting(text="no"), Cache.memory()
    client = Client(backend, fallback=Fallback((), accept=lambda r: False), audit="memory", cache=cache)
    for _ in range(2):
        assert (await client.generate("Hello")).warnings[-1].code == "not_accepted"
    assert not (await Client(backend, audit="memory", cache=cache).generate("Hello")).cached


async def test_a_kept_answer_is_accepted_like_another() -> None:
    """One that was streamed, or kept for a client that takes anything, is asked for anew where it is turned down."""
    backend, cache = Counting(), Cache.memory()
    picky = Fallback((), accept=lambda response: response.content != "answer 1")
    client = Client(backend, fallback=picky, audit="memory", cache=cache)
    async with client.stream("Hello") as reply:
        async for _ in reply:
            pass
    assert reply.response.content == "answer 1"
    assert [(await client.generate("Hello")).content for _ in range(2)] == ["answer 2", "answer 2"]
    assert backend.asked == 2


async def test_text_that_no_shelf_takes_is_not_kept(cache: Cache) -> None:
    """An answer with a lone surrogate, or with a huge number for a tool, is handed on and asked for anew."""
    client = Client(Counting(text="\ud800"), audit="memory", cache=cache)
    assert (await client.generate("Hello")).content == "\ud800"
    assert not (await client.generate("Hello")).cached
    call = ToolCall("c1", "f", {"a": 10**30}, "")
    client = Client(Counting(calls=(call,), reason="tool_calls"), audit="memory", cache=cache)
    assert (await client.generate("Hello")).tool_calls == (call,)
    assert not (await client.generate("Hello")).cached


# ------------------------------------------------------------------------------------- several targets


async def test_each_target_has_its_own_answers() -> None:
    """The answer of a fallback stands for that one: the first is asked first, and what stands in for it may be a hit."""
    first, second = Scripted([ServerError("down"), ServerError("down"), None], name="a"), Counting(name="b")
    client = Client(first, fallback=[second], retry=Retry(attempts=1), audit="memory", cache=Cache.memory())
    assert (await client.generate("Hello")).backend == "b"
    again = await client.generate("Hello")
    assert (again.backend, again.cached, [row.status for row in again.attempts]) == ("b", True, ["error"])
    assert (await client.generate("Hello")).backend == "a"
    assert (second.asked, len(first.made)) == (1, 3)
    assert (await client.generate("Hello")).cached


async def test_a_hit_needs_no_closed_circuit() -> None:
    """A target that is left alone still answers from the cache, and so does the one that is asked in its place."""
    first, second = Scripted([None, ServerError("down")], name="a"), Counting(name="b")
    breaker = Breaker(failures=1)
    client = Client(
        first, fallback=[second], breaker=breaker, retry=Retry(attempts=1), audit="memory", cache=Cache.memory()
    )
    await client.generate("kept")
    assert (await client.generate("Hello")).backend == "b"
    assert (await client.generate("kept")).backend == "a"
    again = await client.generate("Hello")
    assert (again.backend, again.cached, again.attempts) == ("b", True, ())


async def test_backends_that_do_not_say_what_they_are_do_not_share() -> None:
    """Two of one name and model in a client keep their answers apart."""
    one, two = MockBackend("one"), MockBackend("two")
    cache = Cache.memory()
    client = Client(
        one, two, routing="weighted", chance=iter([0.0, 0.9, 0.9, 0.0] * 2).__next__, audit="off", cache=cache
    )
    answers = [(await client.generate("Hello")).content for _ in range(4)]
    assert sorted(answers) == ["one", "one", "two", "two"]
    assert len(one.calls) == len(two.calls) == 1


# -------------------------------------------------------------------------------------------- the record


async def test_an_answer_without_a_record_is_no_hit_for_a_recorded_call() -> None:
    """What was asked with the log off does not get into an answer on record; with the log off it does."""
    backend, cache = Counting(), Cache.memory()
    off = Client(backend, audit="off", cache=cache)
    await off.generate("Hello")
    assert (await off.generate("Hello")).receipt is None
    assert not (await Client(backend, audit="memory", cache=cache).generate("Hello")).cached
    assert (await Client(backend, audit="memory", cache=cache).generate("Hello")).cached


async def test_a_hit_that_cannot_be_recorded_is_not_handed_on(tmp_path: Path) -> None:
    """No record, no answer: not even one that costs nothing."""
    backend, cache, seen = Counting(), Cache.memory(), list[Observation]()
    await Client(backend, audit="memory", cache=cache).generate("Hello")
    (tmp_path / "file").write_text("")
    client = Client(backend, audit=tmp_path / "file", cache=cache, observers=[seen.append])
    with pytest.raises(AuditUnavailableError):
        await client.generate("Hello")
    assert type(seen[-1]).__name__ == "CallEnded"
    assert backend.asked == 1


# -------------------------------------------------------------------------------------- what is the same

TOOL = Tool(name="f", parameters={"type": "object", "properties": {"a": {"type": "string"}}})
PICTURE = Media(kind="image", media_type="image/png", data=b"\x89PNG")
SAME: dict[str, Any] = {
    "messages": [Message("user", "Hello")],
    "stream": True,
    "timeout": 3,
    "extra": {"b": 1, "a": [1, {"d": 0, "c": 0}]},
}
OTHER: list[dict[str, Any]] = [
    {"messages": "hello"},
    {"messages": "Hello "},
    {"messages": [Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "?")]},
    {"messages": [Message("user", [Text("Hello"), PICTURE])]},
    {"messages": [Message("user", [Text("Hello"), replace(PICTURE, data=b"\x89PNH")])]},
    {"messages": [Message("user", "Hello", native=(Opaque("openai", b"{}"),))]},
    {"model": "n"},
    {"system": "Be brief."},
    {"max_tokens": 1},
    {"temperature": 1},
    {"temperature": 1.0},
    {"top_p": 1.0},
    {"stop": "x"},
    {"stop": ["x", "y"]},
    {"seed": 1},
    {"tools": [TOOL]},
    {"tools": [replace(TOOL, description="does")]},
    {"tools": [TOOL], "tool_choice": "f"},
    {"output": int},
    {"output": str},
    {"reasoning": "low"},
    {"reasoning": 1024},
    {"cache": True},
    {"metadata": {"user": "a"}},
    {"extra": {"b": 1, "a": [1, {"d": 0, "c": False}]}},
    {"extra": {"b": "1", "a": [1, {"d": 0, "c": 0}]}},
]


def _print(backend: Any = None, target: str = "t", **options: Any) -> str | None:
    prompt = options.pop("messages", "Hello")
    request = build_request(prompt, {"model": "m"} | options, stream=options.pop("stream", False))
    return fingerprint(request, Counting() if backend is None else backend, target)


def test_what_can_change_an_answer_counts() -> None:
    """Each of these is another question, and no two of them are the same."""
    assert len({_print(**other) for other in [{}, *OTHER]}) == len(OTHER) + 1


def test_what_cannot_change_an_answer_does_not_count() -> None:
    """The form of the prompt, streaming, time limits, repairs and the order of keys make no other question."""
    base = {"extra": {"a": [1, {"c": 0, "d": 0}], "b": 1}}
    request = build_request("Hello", {"model": "m", **base}, stream=False)
    other = build_request(SAME["messages"], {"model": "m", "timeout": 3, "extra": SAME["extra"]}, stream=True)
    assert fingerprint(request, Counting(), "t") == fingerprint(other, Counting(), "t")
    assert _print(output=int) == _print(output=int, repair=2)


def test_every_field_of_a_request_counts_or_is_named() -> None:
    """A field that is added to a request is part of the fingerprint unless somebody decides otherwise."""
    counted = {name for other in OTHER for name in other}
    assert {f.name for f in fields(Request)} - counted == {"prompt", "stream", "timeout", "repair"}


def test_who_is_asked_counts() -> None:
    """Address, format and settings of a backend tell it from others of its name; its key does not."""

    def name(backend: str = "openai", **options: Any) -> str | None:
        return _print(make_backend(backend, model="m", **options), target="any")

    others = [
        name(),
        name(base_url="http://127.0.0.1:1/v1"),
        name(api="chat"),
        name(on_unsupported="warn"),
        name("ollama"),
        name("anthropic"),
        name("anthropic", api_version="2030-01-01"),
    ]
    assert len(set(others)) == len(others)
    assert name(api_key="one") == name(api_key="two") == name()
    assert _print(target="t") != _print(target="t#2")


def test_what_has_no_form_has_no_fingerprint() -> None:
    """An object of an unknown type, a key that is no str or is one of ours, and a value that holds itself give no name."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), {1: 2}, {"\0bytes": "x"}, endless, {1, 2}):
        assert _print(extra={"a": value}) is None


async def test_a_call_without_a_fingerprint_is_made() -> None:
    """It is neither kept nor looked for."""
    backend = Counting()
    client = Client(backend, audit="off", cache=Cache.memory())
    for _ in range(2):
        await client.generate("Hello", extra={"a": frozenset()})
    assert backend.asked == 2


def test_texts_and_prompts_are_different_questions() -> None:
    """A call for vectors never shares a fingerprint with a call for an answer."""
    asked = build_embed_request("Hello", {"model": "m"})
    assert fingerprint(asked, Counting(), "t") != _print()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, _JSON)
def test_fingerprints_are_equal_exactly_where_values_are(one: Any, two: Any) -> None:
    """Two values of `extra` have one fingerprint if and only if they are the same JSON."""
    prints = [_print(extra={"a": value}) for value in (one, two)]
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert None in prints or (prints[0] == prints[1]) == same


# ------------------------------------------------------------------------------------------- age and size


async def test_an_answer_grows_old() -> None:
    """After `ttl` seconds, and where the clock was set back, it is asked for anew."""
    now = [1000.0]
    backend = Counting()
    client = Client(backend, audit="memory", cache=Cache(MemoryShelf(9), ttl=10, clock=lambda: now[0]))
    for at, expected in ((1000.0, False), (1009.9, True), (1010.0, False), (1005.0, False)):
        now[0] = at
        assert (await client.generate("Hello")).cached is expected


async def test_memory_keeps_those_asked_for_last() -> None:
    """Of more than `max_entries` answers the one longest not asked for goes."""
    client = Client(Counting(), audit="memory", cache=Cache.memory(max_entries=2))
    seen = [(await client.generate(prompt)).cached for prompt in ("a", "b", "a", "c", "a", "b")]
    assert seen == [False, False, True, False, True, False]


async def test_a_directory_keeps_within_its_room(tmp_path: Path) -> None:
    """The files together never take more than `max_bytes`, and those longest not asked for go first."""
    shelf = DiskShelf(tmp_path / "cache", 16_000)
    keys = [f"{number:064x}" for number in range(60)]
    for number, key in enumerate(keys):
        await shelf.put(key, bytes(900))
        os.utime(tmp_path / "cache" / key[:2] / key, (number, number))
        assert await shelf.get(keys[0]) is not None, "it was asked for just now"
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/*")) <= 16_000
    assert await shelf.get(keys[0]) is not None
    assert await shelf.get(keys[1]) is None
    assert await shelf.get(keys[-1]) is not None
    await shelf.put("f" * 64, bytes(2000))
    assert await shelf.get("f" * 64) is None, "more than a sixteenth of the room"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Cache.memory(max_entries=0), "max_entries is an int, 1 or more"),
        (lambda: Cache.memory(max_entries=True), "max_entries"),
        (lambda: Cache.memory(ttl=0), "ttl is a number of seconds above 0"),
        (lambda: Cache.memory(ttl="1"), "ttl"),  # type: ignore[arg-type]
        (lambda: Cache.memory(ttl=float("nan")), "ttl"),
        (lambda: Cache.disk(""), "a cache's path is a directory"),
        (lambda: Cache.disk(3), "a cache's path"),  # type: ignore[arg-type]
        (lambda: Cache.disk("x", max_bytes=0), "max_bytes"),
        (lambda: Client("mock", cache=True), "cache is a Cache or None"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_refused(make: Any, says: str) -> None:
    """An error names what was wrong."""
    with pytest.raises(InvalidRequestError, match=says):
        make()


# ------------------------------------------------------------------------------------------------ on disk


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*/*"))


def test_answers_outlast_the_process_and_are_the_users_alone(tmp_path: Path) -> None:
    """Another process finds them; directory and files are closed to others."""
    directory = tmp_path / "deep" / "cache"
    program = (
        "import asyncio, sys\nfrom veyra import Cache, Client\n"
        "client = Client('mock', audit='off', cache=Cache.disk(sys.argv[1]))\n"
        "print(asyncio.run(client.generate('Hello')).cached)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert [line.strip() for line in said] == ["False", "True"]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in _files(directory)] == [0o600]


SEVERAL = """
import asyncio, sys
from veyra import Cache, Client

async def main():
    client = Client("mock", audit="off", cache=Cache.disk(sys.argv[1], max_bytes=16_000))
    for _ in range(3):
        for number in range(40):
            answer = await client.generate(f"number {number}")
            assert answer.content.endswith(f"begins: number {number}"), answer.content

asyncio.run(main())
"""


def test_several_processes_share_a_directory(tmp_path: Path) -> None:
    """While all write, read and make room, each gets the answers to its own questions, and nothing is amiss."""
    command = [sys.executable, "-W", "error", "-c", SEVERAL, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate(timeout=15)[1] for process in processes] == [b""] * 4
    assert sum(path.stat().st_size for path in _files(tmp_path / "cache")) <= 16_000 * (1 + 4 / 16)
    assert not list((tmp_path / "cache").glob("*/*.new"))


@pytest.mark.parametrize("what", ["flipped", "cut", "empty", "swapped", "grown"])
async def test_a_damaged_file_is_a_miss(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happened to a file, its answer is asked for anew, with a warning that names it, and kept again."""
    backend = Counting()
    client = Client(backend, audit="memory", cache=Cache.disk(tmp_path / "cache"))
    await client.generate("Hello")
    (path,) = _files(tmp_path / "cache")
    content = path.read_bytes()
    match what:
        case "flipped":
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "cut":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "grown":
            path.write_bytes(content + b"\0")
        case _:
            await client.generate("Goodbye")
            (other,) = (name for name in _files(tmp_path / "cache") if name != path)
            path.write_bytes(other.read_bytes())
    asked = backend.asked
    with caplog.at_level(logging.WARNING, "veyra.client"):
        again = await client.generate("Hello")
    assert (again.cached, again.content, backend.asked) == (False, f"answer {asked + 1}", asked + 1)
    assert str(path) in caplog.text
    assert (await client.generate("Hello")).cached


async def test_content_of_another_version_is_a_miss(tmp_path: Path) -> None:
    """What is whole but says something else is asked for anew."""
    client = Client(Counting(), audit="memory", cache=Cache.disk(tmp_path / "cache"))
    await client.generate("Hello")
    (path,) = _files(tmp_path / "cache")
    await DiskShelf(tmp_path / "cache", 1 << 20).put(path.name, b"\x81\xa1a\x01")
    assert not (await client.generate("Hello")).cached
    await DiskShelf(tmp_path / "cache", 1 << 20).put(path.name, b"\xc1")
    assert not (await client.generate("Hello")).cached
    assert (await client.generate("Hello")).cached


async def test_a_directory_that_cannot_be_written_changes_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is handed on, with a warning, and nothing is left behind."""
    directory = tmp_path / "cache"
    client = Client(Counting(), audit="memory", cache=Cache.disk(directory))
    directory.write_text("in the way")
    with caplog.at_level(logging.WARNING, "veyra.client"):
        assert (await client.generate("Hello")).content == "answer 1"
    assert "cannot be written" in caplog.text
    assert "cannot be read" in caplog.text


async def test_what_a_dead_writer_left_goes(tmp_path: Path) -> None:
    """A file that never got its name is removed an hour later; a younger one is left to its writer."""
    shelf = DiskShelf(tmp_path, 1 << 20)
    (tmp_path / "00").mkdir()
    old, young = tmp_path / "00" / "a.new", tmp_path / "00" / "b.new"
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    await shelf.put("0" * 64, b"x")
    assert not old.exists()
    assert young.exists()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Whoever writes there decides what is answered; a file in its place is refused, too."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(InvalidRequestError, match="chmod go-w"):
        Cache.disk(tmp_path / "open")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequestError, match="is not a directory"):
        Cache.disk(tmp_path / "file")
    with pytest.raises(InvalidRequestError, match="cannot be looked at"):
        Cache.disk(tmp_path / "file" / "below")


async def test_writers_and_readers_never_meet_half_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While several shelves write a key and read it, each reading is one that was written."""
    shelves = [DiskShelf(tmp_path, 1 << 26) for _ in range(4)]
    written = {bytes([number]) * 100_000 for number in range(4)}

    async def use(shelf: DiskShelf, data: bytes) -> set[bytes | None]:
        found = set()
        for _ in range(25):
            await shelf.put("0" * 64, data)
            found.add(await shelf.get("0" * 64))
        return found

    for found in await asyncio.gather(*map(use, shelves, written)):
        assert found <= written
    assert not caplog.records
