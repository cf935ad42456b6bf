"""Recorded questions put to another backend, and what its answers are compared by."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.recording import KEY, Asked, call, whole
from veyra import AuditLog, MockBackend, get_backend
from veyra.errors import AuditUnavailableError, RateLimitError
from veyra.models.gate import Gate
from veyra.replay.against import Compared, ask_again, is_free, likeness, totals, unfit
from veyra.replay.recorded import RecordedAttempt, attempts
from veyra.transport.script import ScriptedTransport
from veyra.types import Message, ModelResponse, Tool, ToolCall, Usage

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def answer(content: str = "", **more: Any) -> ModelResponse:
    return ModelResponse(content, "m-1", "mock", 1.0, 0, 0, None, finish_reason="stop", **more)


async def asked_of(reply: Any, prompt: Any = "Hi", **options: Any) -> RecordedAttempt:
    """Record a call of the mock and return it."""
    log = AuditLog.memory()
    await Gate(MockBackend(reply), log).generate(prompt, **options)
    (attempt,) = attempts(log.entries())
    return attempt


async def compared(then: Any, now: Any, **options: Any) -> Compared:
    return await ask_again(Gate(MockBackend(now), None), await asked_of(then, **options))


async def test_the_same_answer_is_the_same() -> None:
    """The same text without tools is the same in everything that is compared."""
    result = await compared("to be or not", "to be or not")
    assert (result.similarity, result.same_tools, result.fits, result.error) == (1.0, True, None, None)
    assert result.is_same


async def test_other_spaces_are_another_text() -> None:
    """A text of the same words with other spaces between them is wholly alike, and not the same."""
    result = await compared("to be", "to  be")
    assert (result.similarity, result.same_text, result.is_same) == (1.0, False, False)


async def test_another_text_is_alike_by_its_words() -> None:
    """Of four words three are the same, in their order."""
    result = await compared("to be or not", "to be and not")
    assert result.similarity == 0.75
    assert not result.is_same


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ([("look", {"a": 1})], True),
        ([("look", {"a": 2})], False),
        ([("see", {"a": 1})], False),
        ([("look", {"a": 1}), ("look", {"a": 1})], False),
        ([], False),
    ],
)
async def test_tool_calls_are_compared_by_name_and_arguments(now: list[tuple[str, Any]], same: bool) -> None:
    """The same tools with the same arguments are the same calls, whatever their ids."""
    tools = [Tool(name="look"), Tool(name="see")]
    then = answer(tool_calls=(ToolCall("id-1", "look", {"a": 1}, '{"a":1}'),))
    calls = tuple(ToolCall(f"x{number}", name, given, "{}") for number, (name, given) in enumerate(now))
    result = await compared(then, answer(tool_calls=calls), tools=tools)
    assert (result.same_tools, result.is_same) == (same, same)


@pytest.mark.parametrize(("text", "fits"), [('{"n": 2}', True), ('{"n": "2"}', False), ("no", False)])
async def test_an_answer_is_held_against_its_schema(text: str, fits: bool) -> None:
    """Where a schema was asked for, it is asked for again, and the answer fits it or not."""
    result = await compared('{"n": 1}', text, output=SCHEMA)
    assert (result.fits, result.error, result.is_same) == (fits, None, False)


async def test_a_failure_is_a_result() -> None:
    """A call that fails has its kind, and nothing that could be compared."""
    result = await compared("Hi", RateLimitError("slow down"))
    assert (result.error, result.answer, result.similarity, result.same_tools) == ("rate_limited", None, None, None)
    assert not result.is_same


async def test_a_log_that_cannot_be_written_ends_it(tmp_path: Any) -> None:
    """Where the new call cannot be recorded it is not made, and the error gets out."""
    (tmp_path / "file").write_text("")
    backend = MockBackend("x")
    with pytest.raises(AuditUnavailableError):
        await ask_again(Gate(backend, AuditLog(tmp_path / "file" / "log")), await asked_of("x"))
    assert not backend.calls


async def test_what_was_asked_is_asked_again() -> None:
    """Messages and options go to the other backend; the model is the other's."""
    mock = MockBackend("x", model="other")
    conversation = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    options: dict[str, Any] = {"system": "s", "temperature": 0.5, "stop": ("END",), "seed": 3, "extra": {"deep": 1}}
    attempt = await asked_of("x", conversation, model="first", **options)
    await ask_again(Gate(mock, None), attempt)
    await ask_again(Gate(mock, None), attempt, model="third")
    first, second = mock.calls
    assert first.messages == tuple(conversation)
    assert (first.system, first.temperature, first.stop, first.seed) == ("s", 0.5, ("END",), 3)
    assert (first.model, second.model) == ("other", "third")


async def test_what_one_provider_knows_goes_to_the_same_provider_only() -> None:
    """`extra` is sent again to the provider that it was sent to, and left out elsewhere."""
    log = AuditLog.memory()
    await call(log, "chat", Asked(step=whole("chat"), stream=False), extra={"service_tier": "flex"})
    (attempt,) = attempts(log.entries())
    for name, is_sent in (("openai", True), ("groq", False)):
        transport = ScriptedTransport([whole("chat")])
        gate = get_backend(name, api_key=KEY, transport=transport, audit=AuditLog.memory(), base_url="http://x.invalid")
        result = await ask_again(gate, attempt, model="m-2")
        assert result.is_same
        assert (b"service_tier" in transport.sent[0].body) == is_sent


async def test_only_what_was_answered_is_asked_again() -> None:
    """A call that failed, and one that asked for no answer, say why they are passed over."""
    log = AuditLog.memory()
    mock = Gate(MockBackend([RateLimitError("slow down"), "x"]), log)
    with pytest.raises(RateLimitError):
        await mock.generate("Hi")
    await mock.generate("Hi")
    await mock.embed("Hi")
    await mock.count_tokens("Hi")
    assert [unfit(attempt) for attempt in attempts(log.entries())] == [
        "it was not answered (error)",
        None,
        "it asked for embeddings, not for an answer",
        "it asked for count_tokens, not for an answer",
    ]


@pytest.mark.parametrize(
    ("name", "url", "free"),
    [
        ("mock", None, True),
        ("ollama", None, True),
        ("ollama", "http://localhost:1", True),
        ("openai", "http://[::1]:1/v1", True),
        ("openai", "http://127.0.0.9/v1", True),
        ("openai", None, False),
        ("ollama", "http://10.0.0.1", False),
        ("ollama", "http://127.0.0.1.example.com", False),
    ],
)
def test_what_costs_nothing_is_known(name: str, url: str | None, free: bool) -> None:
    """The mock and servers on this machine cost nothing; of all others it is not known."""
    options: dict[str, Any] = {} if url is None else {"base_url": url}
    assert is_free(get_backend(name, audit=AuditLog.memory(), **options)) == free


async def test_results_are_summed_up() -> None:
    """Totals count what is known: costs and times where both are, similarity where there is an answer."""
    one = await compared("a b c d", "a b x d")
    priced = replace(
        one,
        attempt=await asked_of("x"),
        answer=answer("x", cost=Decimal("0.5"), usage=Usage()),
        same_text=True,
        similarity=1.0,
        fits=True,
    )
    priced.attempt.row = replace(priced.attempt.row, cost=Decimal("0.25"), latency_ms=None)
    failed = await compared("x", RateLimitError("no"))
    found = totals([one, priced, failed])
    assert (found.calls, found.failed, found.same, found.similarity) == (3, 1, 1, 0.875)
    assert (found.same_tools, found.fitting, found.shaped) == (2, 1, 1)
    assert (found.cost, found.priced) == ((Decimal("0.25"), Decimal("0.5")), 1)
    then, now = found.latency_ms
    assert one.answer is not None
    assert (then, now) == (one.attempt.row.latency_ms, one.answer.latency_ms)
    assert totals([]).similarity is None


@given(st.text(alphabet="ab ", max_size=20), st.text(alphabet="ab ", max_size=20))
def test_likeness_is_a_share(one: str, other: str) -> None:
    """Two texts are alike by a share from 0 to 1, a text and itself wholly."""
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, one) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a " * 1_000, "a b " * 500),
        (" ".join(f"w{n * n % 101}" for n in range(1_000)), " ".join(f"w{n * n % 103}" for n in range(1_000))),
        ("a " * 50_000, "b a a " * 20_000),
        (" ".join(f"word{n % 5000}" for n in range(50_000)), " ".join(f"word{n % 4999}" for n in range(50_000))),
    ],
)
def test_no_text_takes_long_to_compare(one: str, other: str) -> None:
    """Texts that are long, or made to be hard to compare, are compared within the time of a test."""
    assert 0 <= likeness(one, other) < 1


def test_of_long_texts_the_order_does_not_count() -> None:
    """A word more in a long text makes it a little less alike; its words in another order do not."""
    words = [f"word{number}" for number in range(2_000)]
    assert 0.99 < likeness(" ".join(words), " ".join([*words[:500], "other", *words[500:]])) < 1
    assert likeness(" ".join(words), " ".join(reversed(words))) == 1.0
