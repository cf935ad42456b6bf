"""Every recorded exchange with Gemini and Vertex AI, compared with a second, plain reading of the same body."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import corpus
from answers import Answer, run
from corpus import Row
from veyra.errors import (
    AuthenticationError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    ProviderError,
)
from veyra.transport.base import Head
from veyra.types import Usage
from veyra.wire.base import Flags
from veyra.wire.gemini import Gemini

DIALECT = Gemini()

_PIECES = "the arguments come in pieces; what they add up to is tested below"
EXCUSED: Mapping[str, tuple[str, str]] = {
    "gemini-generate-29c39d55e4": ("answer", "the model wrote a malformed call: an error to us, tested below"),
    "gemini-generate-0e764529ae": ("tool calls, parts", _PIECES),
    "gemini-generate-569c122228": ("tool calls, parts", _PIECES),
}
"""Rows that the plain reading does not do: in what, and why."""

_REASONS = {
    "STOP": "stop",
    1: "stop",
    "MAX_TOKENS": "length",
    2: "length",
    "SAFETY": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "UNEXPECTED_TOOL_CALL": "other",
    None: "other",
}


def rows() -> list[Row]:
    return corpus.rows("gemini-generate*", "vertex-generate*")


def row(name: str) -> Row:
    return next(each for each in rows() if each["id"] == name)


def head(of: Row) -> Head:
    return Head(of["response"]["status"], corpus.headers(of))


def flags(of: Row) -> Flags:
    return Flags(provider=of["provider"])


def decode(of: Row) -> Answer:
    asked = (of.get("request") or {}).get("path", "")
    stream = corpus.streamed(of) or "streamGenerateContent" in asked
    return run(DIALECT.decoder(head(of), flags(of), stream=stream), [corpus.body(of)])


def chunks(of: Row) -> list[dict[str, Any]]:
    body = corpus.body(of).decode()
    if corpus.streamed(of):
        return [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:")]
    value = json.loads(body)
    return value if isinstance(value, list) else [value]


def reading(of: Row) -> dict[str, Any]:
    """Return what a body says, in our words, read the plain way."""
    read = chunks(of)
    firsts = [chunk["candidates"][0] for chunk in read if chunk.get("candidates")]
    parts = [part for first in firsts for part in (first.get("content") or {}).get("parts") or ()]
    usage: dict[str, Any] = {}
    for chunk in read:
        usage.update(chunk.get("usageMetadata") or {})
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    blocked = next((chunk["promptFeedback"]["blockReason"] for chunk in read if "promptFeedback" in chunk), None)
    word = blocked or (firsts[-1].get("finishReason") if firsts else None)
    reason = _REASONS[word]
    return {
        "text": "".join(part.get("text", "") for part in parts if not part.get("thought")),
        "reasoning": "".join(part.get("text", "") for part in parts if part.get("thought")),
        "tool calls": [(call.get("name"), call.get("args", {})) for call in calls],
        "finish reason": "tool_calls" if calls and reason == "stop" else reason,
        "raw finish reason": None if word is None else str(word),
        "usage": used(usage),
        "model": next((chunk["modelVersion"] for chunk in read if "modelVersion" in chunk), None),
        "response id": next((chunk["responseId"] for chunk in read if "responseId" in chunk), None),
        "parts": [part for part in parts if not part.keys() <= {"text", "thought"}],
    }


def used(stated: Mapping[str, Any]) -> Usage:
    prompt, cached = stated.get("promptTokenCount"), stated.get("cachedContentTokenCount")
    total = None if prompt is None else prompt + stated.get("toolUsePromptTokenCount", 0)
    outputs = [stated.get("candidatesTokenCount"), stated.get("thoughtsTokenCount")]
    return Usage(
        input_total=total,
        input_uncached=None if cached is None or total is None else total - cached,
        cache_read=cached,
        output_total=sum(count or 0 for count in outputs) if any(count is not None for count in outputs) else None,
        reasoning=outputs[1],
    )


def ours(answer: Answer) -> dict[str, Any]:
    finish = answer.finish
    kept = [json.loads(part.raw) for part in finish.parts if part.dialect == "gemini"]
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool calls": [(call.name, call.arguments) for call in finish.tool_calls],
        "finish reason": finish.reason,
        "raw finish reason": finish.raw_reason,
        "usage": finish.usage,
        "model": finish.model,
        "response id": finish.response_id,
        "parts": [part for part in kept if not part.keys() <= {"text", "thought"}],
    }


def differences(of: Row) -> Iterator[tuple[str, str]]:
    try:
        answer = decode(of)
    except ProviderError as error:
        yield "answer", f"{of['id']}: {type(error).__name__}: {error}"
        return
    mine, theirs = ours(answer), reading(of)
    ids = [call.id for call in answer.finish.tool_calls]
    if "" in ids or len(set(ids)) < len(ids):
        yield "ids", f"{of['id']}: ids are missing or repeated: {ids}"
    for what, value in theirs.items():
        if value != mine[what]:
            yield what, f"{of['id']}: {what}: {value!r} != {mine[what]!r}"


def test_equals_a_plain_reading(tally: Counter[tuple[str, str]]) -> None:
    """Text, thoughts, calls, reasons, usage, ids and sealed parts are what the body says, or excused by id."""
    different: list[str] = []
    answered = [each for each in rows() if each["response"]["status"] < 400]
    for each in answered:
        excused, _ = EXCUSED.get(each["id"], ("", ""))
        found = dict(differences(each))
        names = excused.split(", ") if excused else []
        lines = [line for what, line in found.items() if what not in names]
        lines += [f"{each['id']}: {what}: excused, but equal" for what in names if what not in found]
        tally["gemini", "different" if lines else "excused" if excused else "equal"] += 1
        different += lines
    assert not different, "\n".join(different)
    assert len(answered) >= 550


_KINDS: Mapping[str, type[ProviderError]] = {
    "API_KEY_INVALID": AuthenticationError,
    "NOT_FOUND": NotFoundError,
    "INVALID_ARGUMENT": InvalidRequestError,
}


def test_recorded_errors(tally: Counter[tuple[str, str]]) -> None:
    """Each recorded error has the class of its reason, or else of its status, and the words that it came with."""
    failed = [each for each in rows() if each["response"]["status"] >= 400]
    for each in failed:
        told = json.loads(corpus.body(each))["error"]
        error = DIALECT.failure(head(each), corpus.body(each), flags(each))
        reason = next((detail["reason"] for detail in told.get("details", ()) if "reason" in detail), None)
        assert type(error) is _KINDS[reason or told["status"]]
        assert (error.provider_type, error.provider_code) == (told["status"], reason or str(told["code"]))
        assert (error.status, error.retryable) == (told["code"], False)
        tally["gemini", "equal"] += 1
    assert len(failed) == 11


def test_a_malformed_call_is_an_error() -> None:
    """Where the provider could not read what the model wrote there is no answer, and the error says so."""
    with pytest.raises(MalformedResponseError, match="default_") as caught:
        decode(row("gemini-generate-29c39d55e4"))
    assert caught.value.provider_type == "MALFORMED_FUNCTION_CALL"


def test_arguments_in_pieces() -> None:
    """Arguments that came in pieces are one object, and the call is kept whole with its seal."""
    finish = decode(row("gemini-generate-569c122228")).finish
    (call,) = finish.tool_calls
    assert call.name == "writeItems"
    assert call.arguments == {
        "operations": [
            {"action": "add", "description": "Fresh red apple", "itemid": "apple_001", "price": 0.5},
            {"action": "add", "description": "Ripe yellow banana", "itemid": "banana_001", "price": 0.3},
        ]
    }
    part = json.loads(finish.parts[0].raw)
    assert part["functionCall"] == {"name": "writeItems", "args": call.arguments}
    assert part["thoughtSignature"].startswith("AY89a19ZkXSM")
    (other,) = decode(row("gemini-generate-0e764529ae")).finish.tool_calls
    assert other.arguments is not None
    assert len(other.arguments["recipe"]["steps"]) == 10


def test_sealed_parts_are_kept_byte_for_byte() -> None:
    """Each part with a signature is kept as the very bytes that came, whole or streamed."""
    seen = 0
    for each in rows():
        if each["response"]["status"] >= 400 or each["id"] in EXCUSED:
            continue
        body = corpus.body(each)
        for part in decode(each).finish.parts:
            if b"thoughtSignature" in part.raw:
                assert part.raw in body
                seen += 1
    assert seen >= 280
