"""The same logical answer over a provider's native wire and over an OpenAI-compatible one: equal results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import answers
import corpus
from corpus import Row
from veyra import get_backend
from veyra.errors import ProviderError
from veyra.transport.base import Head
from veyra.transport.script import Answer, ScriptedTransport
from veyra.types import ModelResponse, ToolCall, Usage
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses
from wires import HELLO, WIRES, Said

FULL = Usage(input_total=30, input_uncached=9, cache_read=20, cache_write=1, output_total=12, reasoning=5)
SAID: dict[str, Said] = {
    "text": HELLO,
    "nothing": Said(),
    "no usage": Said(texts=("x",)),
    "cut by its limit": Said(texts=("x",), finish="length", usage=Usage(input_total=3, output_total=0)),
    "filtered": Said(texts=("I",), finish="content_filter"),
    "thinking": Said(thoughts=("Let me", " see"), texts=("4", "2"), usage=FULL),
    "a call": Said(calls=(("c0", "f", ('{"x": "', 'Z\u00fcrich"}')),), finish="tool_calls", usage=FULL),
    "a call without arguments": Said(calls=(("c0", "f", ()),), finish="tool_calls"),
    "all at once": Said(
        thoughts=("hm",),
        texts=("I ask ", "twice \N{GRINNING FACE}"),
        calls=(("c0", "f", ('{"x"', ": [1, ", "2.5]}")), ("c1", "f", ("{}",)), ("c2", "g", ('{"y": {"z": null}}',))),
        finish="tool_calls",
        usage=FULL,
    ),
}

PAIRS = [(name, case) for name in WIRES for case in SAID if (name, case) != ("ollama", "filtered")]
"""What each wire can say: Ollama has no filter."""


def stated(name: str, usage: Usage) -> Usage:
    """Return what a wire can state of a usage (wire facts, 7)."""
    if name == "ollama":
        return Usage(input_total=usage.input_total, output_total=usage.output_total)
    if name == "gemini" and usage.cache_read is not None:
        uncached = (usage.input_total or 0) - usage.cache_read
        return replace(usage, cache_write=None, input_uncached=uncached)
    return usage


def counted(usage: Usage) -> Usage:
    """Return a usage without what Anthropic alone can say: that, where no cache is named, none was read from."""
    return replace(usage, input_uncached=None) if usage.cache_read is None else usage


async def ask(name: str, said: Said, *, stream: bool) -> ModelResponse:
    """Return the response that a backend makes of an answer over its wire."""
    wire = WIRES[name]
    chunks = wire.stream(said) if stream else [wire.whole(said)]
    transport = ScriptedTransport([Answer(headers=wire.head(stream=stream), chunks=chunks)])
    backend = get_backend(wire.backend, model="m", api_key="k", audit="off", transport=transport, **wire.options)
    if not stream:
        return await backend.generate("Hi")
    async with backend.stream("Hi") as reply:
        async for _ in reply:
            pass
    return reply.response


def same(response: ModelResponse) -> dict[str, Any]:
    """Return all of a response that does not depend on the wire; arguments by their value, as spacing is the wire's."""
    calls = [(call.id, call.name, call.arguments) for call in response.tool_calls]
    return {
        "content": response.content,
        "reasoning": response.reasoning,
        "calls": calls,
        "finish": response.finish_reason,
        "model": response.model,
        "tokens": (response.prompt_tokens, response.completion_tokens),
        "warnings": response.warnings,
    }


@pytest.mark.parametrize(("native", "case"), [pair for pair in PAIRS if pair[0] != "chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_native_and_compatible_wires_agree(native: str, case: str, stream: bool) -> None:
    """Text, thinking, calls, finish reason and usage are equal; usage as far as both wires can state it."""
    said = SAID[case]
    plain = replace(said, usage=stated(native, said.usage))
    one, other = await ask(native, said, stream=stream), await ask("chat", plain, stream=stream)
    assert same(one) == same(other)
    assert counted(one.usage) == counted(other.usage) == plain.usage


@pytest.mark.parametrize(("name", "case"), PAIRS)
async def test_whole_and_streamed_answers_agree(name: str, case: str) -> None:
    """An answer is the same, whole or streamed, over any wire."""
    one, other = await ask(name, SAID[case], stream=False), await ask(name, SAID[case], stream=True)
    assert same(one) == same(other)
    assert one.usage == other.usage


# ------------------------------------------------------------------------------------------- recorded answers
# The corpus holds no answer twice, once on either wire: so each recorded one is told again over the other wire.

RECORDED: dict[str, tuple[Dialect, str, str]] = {
    "anthropic": (Anthropic(), "anthropic-messages*", "messages"),
    "ollama": (Ollama(), "ollama-chat*", "chat"),
    "gemini": (Gemini(), "gemini-generate*", "generate"),
    "responses": (OpenAIResponses(), "openai-responses*", "responses"),
    "chat": (OpenAIChat(), "ollama-openai-chat*", "openai-chat"),
}


def recorded(name: str) -> Iterator[tuple[Row, answers.Answer]]:
    """Yield the recorded answers of a wire whose finish reason the other wires have a word for."""
    dialect, files, endpoint = RECORDED[name]
    for row in corpus.rows(files):
        if row["endpoint"] != endpoint or row["response"]["status"] >= 300:
            continue
        reader = dialect.decoder(Head(200, corpus.headers(row)), Flags(provider="t"), stream=corpus.streamed(row))
        try:
            yield row, answers.run(reader, [corpus.body(row)])
        except ProviderError:
            continue


def retold(name: str, said: Said, *, stream: bool) -> answers.Answer:
    """Return what is read of an answer that is written for a wire."""
    wire, dialect = WIRES[name], RECORDED[name][0]
    reader = dialect.decoder(Head(200, wire.head(stream=stream)), Flags(provider="t"), stream=stream)
    return answers.run(reader, wire.stream(said) if stream else [wire.whole(said)])


def _facts(answer: answers.Answer, name: str) -> dict[str, Any]:
    finish = answer.finish
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "calls": [(call.id, call.name, call.arguments) for call in finish.tool_calls],
        "finish": finish.reason,
        "usage": counted(stated(name, finish.usage)),
    }


def _said(answer: answers.Answer) -> Said:
    finish = answer.finish
    return Said(
        thoughts=(answer.reasoning,) if answer.reasoning else (),
        texts=(answer.text,) if answer.text else (),
        calls=tuple((call.id, call.name, _pieces(call)) for call in finish.tool_calls),
        finish=finish.reason or "other",
        usage=finish.usage,
    )


def _pieces(call: ToolCall) -> tuple[str, ...]:
    half = len(call.raw) // 2
    return tuple(filter(None, (call.raw[:half], call.raw[half:])))


@pytest.mark.parametrize(
    ("native", "other", "least"),
    [
        ("anthropic", "chat", 600),
        ("gemini", "chat", 400),
        ("ollama", "chat", 50),
        ("responses", "chat", 500),
        ("chat", "ollama", 40),
        ("chat", "anthropic", 40),
        ("chat", "responses", 40),
    ],
)
def test_recorded_answers_are_the_same_over_the_other_wire(native: str, other: str, least: int) -> None:
    """Every recorded answer, told again over the other wire, whole and streamed, comes to the same."""
    counts: Counter[str] = Counter()
    for row, answer in recorded(native):
        finish = answer.finish
        if finish.reason in {"paused", "other"} or any(call.arguments is None for call in finish.tool_calls):
            counts["has no word on the other wire"] += 1
            continue
        said = _said(answer)
        said = replace(said, usage=stated(other, said.usage))
        expected = _facts(answer, other)
        for stream in (False, True):
            told = _facts(retold(other, said, stream=stream), other)
            assert json.dumps(told["calls"]) == json.dumps(expected["calls"]), row["id"]
            assert told == expected, row["id"]
        counts["equal"] += 1
    print(native, "over", other, dict(counts))
    assert counts["equal"] >= least
