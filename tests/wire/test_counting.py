"""Counts of tokens: what is asked is the prompt and nothing else, what is read is a count."""

from __future__ import annotations

import json
from typing import Any

import pytest

import corpus
from veyra.errors import InvalidRequestError, MalformedResponseError, NotFoundError
from veyra.models.request import build_request
from veyra.transport.base import Head
from veyra.types import Message, Opaque, Tool
from veyra.wire.anthropic import Anthropic
from veyra.wire.anthropic_counting import AnthropicCounting
from veyra.wire.base import Dialect, Flags
from veyra.wire.gemini import Gemini
from veyra.wire.gemini_counting import GeminiCounting
from veyra.wire.openai_counting import ResponsesCounting
from veyra.wire.openai_responses import OpenAIResponses
from veyra.wire.routes import Counting

ANTHROPIC, GEMINI, OPENAI = AnthropicCounting(), GeminiCounting(), ResponsesCounting()
PAIRS: dict[str, tuple[Counting, Dialect]] = {
    "anthropic": (ANTHROPIC, Anthropic()),
    "gemini": (GEMINI, Gemini()),
    "openai": (OPENAI, OpenAIResponses()),
}
FLAGS = Flags(provider="test", api_version="2023-06-01")
OK = Head(200, {})
TOOL = Tool(name="f", description="d", parameters={"type": "object", "properties": {}})


def sent(form: Counting, prompt: Any = "Hi", **options: Any) -> tuple[str, dict[str, Any]]:
    encoded = form.encode(build_request(prompt, {"model": "m"} | options, stream=False), FLAGS)
    return encoded.path, json.loads(encoded.body)


def test_where_counts_are_asked_for() -> None:
    """A plain prompt goes to each provider's own route."""
    assert sent(ANTHROPIC) == (
        "/v1/messages/count_tokens",
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    )
    assert sent(OPENAI) == ("/responses/input_tokens", {"model": "m", "input": [{"role": "user", "content": "Hi"}]})
    assert sent(GEMINI) == (
        "/v1beta/models/m:countTokens",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    )


def test_the_version_header_goes_with_it() -> None:
    """Anthropic's version is that of its other calls."""
    headers = ANTHROPIC.encode(build_request("Hi", {"model": "m"}, stream=False), FLAGS).headers
    assert headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize("name", PAIRS)
def test_the_prompt_is_what_the_call_would_send(name: str) -> None:
    """System text, conversation, tools and schema stand in the count as in the call, field by field."""
    form, dialect = PAIRS[name]
    options: dict[str, Any] = {
        "model": "m",
        "system": "Be brief",
        "tools": [TOOL],
        "output": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        "max_tokens": 9,
    }
    request = build_request(
        [Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Go")], options, stream=False
    )
    call = json.loads(dialect.encode(request, FLAGS).body)
    count = json.loads(form.encode(request, FLAGS).body)
    count = count.get("generateContentRequest", count)
    call.get("generationConfig", {}).pop("maxOutputTokens", None)
    prompt = {key: value for key, value in call.items() if key not in {"max_tokens", "max_output_tokens", "store"}}
    assert count == ({"model": "models/m"} if name == "gemini" else {}) | prompt


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_no_part_of_the_prompt_is_left_out(name: str) -> None:
    """Limits, sampling, stop sequences, seeds and metadata do not count, not even where the format has no word for them."""
    form, _ = PAIRS[name]
    plain = sent(form)
    assert sent(form, max_tokens=5, temperature=0.5, top_p=0.5, stop="x", seed=1, metadata={"user_id": "u"}) == plain


def test_a_sealed_block_is_counted_as_it_came() -> None:
    """A provider's own block goes byte for byte, numbers and spaces included."""
    raw = b'{"type":"thinking", "thinking":"hm", "signature":"c2ln", "n":1.50}'
    turns = [
        Message("user", "Hi"),
        Message("assistant", "Yes", native=(Opaque("anthropic", raw),)),
        Message("user", "Go"),
    ]
    assert raw in ANTHROPIC.encode(build_request(turns, {"model": "m"}, stream=False), FLAGS).body


def test_the_format_still_refuses_what_it_cannot_say() -> None:
    """A prompt that the call could not send is not counted."""
    turns = [Message("user", "Hi"), Message("assistant", "Yes", native=()), Message("user", (Opaque("other", b"{}"),))]
    for form, _ in PAIRS.values():
        with pytest.raises(InvalidRequestError):
            form.encode(build_request(turns, {"model": "m"}, stream=False), FLAGS)


@pytest.mark.parametrize(
    ("form", "body"),
    [(ANTHROPIC, b'{"input_tokens":588}'), (OPENAI, b' {"input_tokens": 588}'), (GEMINI, b'{"totalTokens":588,"x":1}')],
)
def test_the_count_is_read(form: Counting, body: bytes) -> None:
    """The one number of the answer is the count."""
    assert form.decode(OK, body, FLAGS) == 588


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"input_tokens": null, "totalTokens": "7"}', b"<html>"])
def test_what_is_no_count_is_malformed(body: bytes) -> None:
    """A count that is not stated is no count: there is no 0 in its place."""
    for form, _ in PAIRS.values():
        with pytest.raises(MalformedResponseError):
            form.decode(OK, body, FLAGS)


def test_recorded_counts_are_read() -> None:
    """Each recorded count is the number that stands in it; the errors are errors of ours."""
    counted = 0
    for row in corpus.rows("misc"):
        path = (row["request"] or {"path": ""})["path"]
        asked = row["endpoint"] == "count-tokens" or "input_tokens" in path
        if not asked:
            continue
        form, dialect = PAIRS["gemini" if row["provider"] == "vertex" else row["provider"]]
        head, body = Head(row["response"]["status"], corpus.headers(row)), corpus.body(row)
        if head.status >= 300:
            assert isinstance(dialect.failure(head, body, FLAGS), NotFoundError), row["id"]
            continue
        told = json.loads(body)
        assert form.decode(head, body, FLAGS) == told.get("input_tokens", told.get("totalTokens")), row["id"]
        counted += 1
    assert counted == 15
