"""Every recorded exchange of the dialects whose vendor has an SDK in the oracle, compared with what that makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import corpus
from answers import Answer, run
from corpus import Row
from veyra.errors import (
    AuthenticationError,
    ContentPolicyError,
    IncompleteStreamError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from veyra.transport.base import Head
from veyra.types import Finish, Usage
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_chat_answer import ABOUT
from veyra.wire.openai_responses import OpenAIResponses

# The SDKs hand over whatever came, also where a stream was cut or its end never said why: we raise.
_NO_FINISH = "the stream has no finish_reason: an incomplete answer to us, an answer to the SDK"
_X_GROQ = "usage stands under x_groq, where the SDK does not look"
_PARTS = "content comes as a list of parts inside a stream; the SDK's text leaves it out"
_RAISES = "the SDK itself raises; what we do is tested below"
_NO_OUTPUT = "the last event lists no output, where alone the SDK looks; the items came before it"
_NOT_TOLD = "the oracle does not tell a custom tool's input"
_REPLACED = "the recorder replaced a path in the last event, but not in the deltas"
_JOINED = "several answers are joined in one recording: the SDK takes the last, for us the first ends it"

EXCUSED: Mapping[str, tuple[str, str]] = {
    "azure-chat-86b488f5f7": ("answer", _RAISES),
    "azure-chat-a4dae9a3c1": ("answer", _RAISES),
    "groq-chat-e8596fe12a": ("answer", _RAISES),
    "openrouter-chat-0c4e42ae60": ("answer", _RAISES),
    "gpustack-chat-a001f24274": ("answer", "the stream ends in an `error:` field, which the SDK passes over"),
    "openai-chat-9d6a09db49": ("answer", _NO_FINISH),
    "snowflake-chat-362572c84f": ("answer", _NO_FINISH),
    "groq-chat-09e0c2c36c": ("usage", _X_GROQ),
    "groq-chat-15c8690bdd": ("usage", _X_GROQ),
    "groq-chat-8a577ced25": ("usage", _X_GROQ),
    "groq-chat-b081c9fe24": ("usage", _X_GROQ),
    "groq-chat-e11f87e578": ("usage", _X_GROQ),
    "mistral-chat-2c7d45c7dc": ("reasoning", _PARTS),
    "mistral-chat-58a99092f7": ("reasoning", _PARTS),
    "mistral-chat-68f1e4ab66": ("text, reasoning", _PARTS),
    "mistral-chat-855cc22f1a": ("reasoning", _PARTS),
    "openai-responses-2e6ed5cb35": ("answer", _RAISES),
    "openai-responses-ddc7f88329": ("answer", "the SDK makes no answer of it; what we do is tested below"),
    "openai-responses-308f14123b": ("text", "the deltas were cut by hand, the last event was not"),
    "openai-responses-439de1acbc": ("text, item types, usage, response id", _JOINED),
    "openai-responses-de1bc84f4c": (
        "text, reasoning, tool calls, finish reason, item types, usage, response id",
        _JOINED,
    ),
    "openai-responses-1ae6e1ce63": ("tool calls", _REPLACED),
    "openai-responses-ca8baa027e": ("tool calls", _REPLACED),
    "openai-responses-ebecb7ef6d": ("tool calls", _REPLACED),
    "openai-responses-220631e273": ("tool calls, finish reason", _NOT_TOLD),
    "openai-responses-80f692f190": ("tool calls, finish reason", _NOT_TOLD),
    "chatgpt-codex-responses-1e1a6fb4af": ("text, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-5f02ddb828": ("text, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-8b178403c9": ("text, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-961e5d6a8d": ("text, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-21a5ac05bf": ("tool calls, finish reason, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-221a59514f": ("tool calls, finish reason, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-7fb3807036": ("tool calls, finish reason, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-acfc0e835a": ("tool calls, finish reason, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-bd636c19e3": ("tool calls, finish reason, item types", _NO_OUTPUT),
    "chatgpt-codex-responses-c4b21b0095": ("tool calls, finish reason, item types", _NO_OUTPUT),
}
"""Rows where the SDK is not to be followed: in what (`answer`: there is none to compare), and why."""

NO_DONE_MARKER = frozenset({"gpustack", "huggingface", "perplexity", "writer"})
"""Providers known to end a stream without `[DONE]`."""

_REASONS = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "paused",
    "completed": "stop",
    "max_output_tokens": "length",
    "queued": "paused",
}
_ERRORS: Mapping[str, type[ProviderError]] = {
    "AuthenticationError": AuthenticationError,
    "BadRequestError": InvalidRequestError,
    "InternalServerError": ServerError,
    "NotFoundError": NotFoundError,
    "RateLimitError": RateLimitError,
    "ResponseError": NotFoundError,  # the Ollama SDK has one class; the one recorded is a 404
}


def _is_native_ollama(row: Row) -> bool:
    return bool(row["provider"] == "ollama" and row["endpoint"] == "chat")


def _is_chat(row: Row) -> bool:
    return row["endpoint"] in {"chat", "openai-chat"} and not _is_native_ollama(row)


def _is_messages(row: Row) -> bool:
    return bool(row["endpoint"] == "messages")


def _is_responses(row: Row) -> bool:
    return bool(row["endpoint"] == "responses")


def _flags(row: Row) -> Flags:
    return Flags(provider=row["provider"], done_marker=row["provider"] not in NO_DONE_MARKER)


def decode(dialect: Dialect, row: Row) -> Answer:
    """Return the answer of a row, fed in one piece."""
    head = Head(row["response"]["status"], corpus.headers(row))
    return run(dialect.decoder(head, _flags(row), stream=corpus.streamed(row)), [corpus.body(row)])


# ------------------------------------------------------------------------------ what the oracle says, in our words


Differences = Iterator[tuple[str, Any, Any]]


def _openai(told: Row, answer: Answer) -> Differences:
    choice = told["choices"][0]
    finish = answer.finish
    text, thoughts, refusal = choice["text"] or "", choice["reasoning"] or "", choice["refusal"] or ""
    if isinstance(text, dict):
        yield "content that is an object", text, json.loads(answer.text)
    else:
        if isinstance(text, list):
            thoughts += "".join(p["text"] for part in text if part["type"] == "thinking" for p in part["thinking"])
            text = "".join(part["text"] for part in text if part["type"] == "text")
        yield "text", text + refusal, answer.text
    yield "reasoning", thoughts, answer.reasoning
    calls = [(call["id"], call["name"], call["arguments"] or "") for call in choice["tool_calls"]]
    legacy = choice.get("function_call") or {}
    if legacy.get("name"):
        calls.append(("", legacy["name"], legacy["arguments"]))
    yield "tool calls", calls, [(call.id, call.name, call.raw) for call in finish.tool_calls]
    reason = _REASONS.get(choice["finish_reason"] or "", "other")
    if calls and reason in {"stop", "other"}:
        reason = "tool_calls"
    if refusal and reason == "stop":
        reason = "content_filter"
    yield "finish reason", reason, finish.reason
    yield "raw finish reason", choice["finish_reason"] or None, finish.raw_reason
    yield "usage", _openai_usage(told["usage"] or {}), finish.usage


def _openai_usage(stated: Mapping[str, Any]) -> Usage:
    """Totals include cached and reasoning tokens: xAI's do not, as its own `total_tokens` shows."""
    if not stated:
        return Usage()
    inputs = stated.get("prompt_tokens_details") or stated.get("prompt_token_details") or {}
    outputs = stated.get("completion_tokens_details") or stated.get("completion_token_details") or {}
    total, output = stated["prompt_tokens"], stated["completion_tokens"]
    cached = [inputs.get("cached_tokens")]
    cached += [stated.get(name) for name in ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")]
    read = next((count for count in cached if count is not None), None)
    written = inputs.get("cache_write_tokens", stated.get("cache_creation_input_tokens"))
    reasoning = outputs.get("reasoning_tokens", stated.get("reasoning_tokens"))
    if reasoning and stated["total_tokens"] == total + output + reasoning:
        output += reasoning
    uncached = None if read is None else max(0, total - read - (written or 0))
    return Usage(total, uncached, read, written, output, reasoning)


def _anthropic(told: Row, answer: Answer) -> Differences:
    blocks, finish = told["blocks"], answer.finish
    yield "text", "".join(block["text"] for block in blocks if block["type"] == "text"), answer.text
    thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    yield "reasoning", thoughts, answer.reasoning
    calls = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    yield "tool calls", calls, [(call.id, call.name, call.arguments) for call in finish.tool_calls]
    yield "finish reason", _REASONS[told["stop_reason"]], finish.reason
    yield "raw finish reason", told["stop_reason"], finish.raw_reason
    yield "usage", _anthropic_usage(told["usage"]), finish.usage
    kept = [json.loads(part.raw) for part in finish.parts]
    yield "block types", [block["type"] for block in blocks], [block["type"] for block in kept]
    seals = [block["has_signature"] for block in blocks if block["type"] == "thinking"]
    yield "signatures", seals, [bool(block.get("signature")) for block in kept if block["type"] == "thinking"]
    server = [(b["name"], b["input"]) for b in blocks if b["type"] in {"server_tool_use", "mcp_tool_use"}]
    ours = [(b["name"], b["input"]) for b in kept if b["type"] in {"server_tool_use", "mcp_tool_use"}]
    yield "server tool calls", server, ours


def _anthropic_usage(stated: Mapping[str, Any]) -> Usage:
    fresh = stated["input_tokens"]
    read, written = stated.get("cache_read_input_tokens"), stated.get("cache_creation_input_tokens")
    reasoning = (stated.get("output_tokens_details") or {}).get("thinking_tokens")
    return Usage(fresh + (read or 0) + (written or 0), fresh, read, written, stated["output_tokens"], reasoning)


def _ollama(told: Row, answer: Answer) -> Differences:
    finish = answer.finish
    yield "text", told["text"], answer.text
    yield "reasoning", told["thinking"] or "", answer.reasoning
    calls = [(call["name"], call["arguments"]) for call in told["tool_calls"]]
    yield "tool calls", calls, [(call.name, call.arguments) for call in finish.tool_calls]
    yield "tool calls have ids", True, len({call.id for call in finish.tool_calls} - {""}) == len(calls)
    reason = _REASONS.get(told["done_reason"], "other")
    yield "finish reason", "tool_calls" if calls and reason == "stop" else reason, finish.reason
    yield "raw finish reason", told["done_reason"], finish.raw_reason
    usage = Usage(input_total=told["usage"]["prompt_eval_count"], output_total=told["usage"]["eval_count"])
    yield "usage", usage, finish.usage


def _responses(told: Row, answer: Answer) -> Differences:
    items, finish = told["items"], answer.finish
    messages = [item for item in items if item["type"] == "message"]
    yield "text", "".join((item["text"] or "") + (item["refusal"] or "") for item in messages), answer.text
    kept = [json.loads(part.raw) for part in finish.parts]
    yield "item types", [item["type"] for item in items], [item["type"] for item in kept]
    thoughts = "".join(item["summary"] for item in items if item["type"] == "reasoning")
    # The oracle tells summaries only: the thinking itself is taken from the items, which are as they came.
    open_thoughts = [part["text"] for item in kept if item["type"] == "reasoning" for part in item.get("content") or ()]
    yield "reasoning", thoughts + "".join(open_thoughts), answer.reasoning
    calls = [(item["call_id"], item["name"], item["arguments"]) for item in items if item["type"] == "function_call"]
    yield "tool calls", calls, [(call.id, call.name, call.raw) for call in finish.tool_calls]
    word = told["incomplete"] or told["status"]
    reason = _REASONS[word or "completed"]
    if reason == "stop":
        refused = any(item["refusal"] for item in messages)
        reason = "tool_calls" if calls else "content_filter" if refused else "stop"
    yield "finish reason", reason, finish.reason
    yield "raw finish reason", word, finish.raw_reason
    yield "usage", _responses_usage(told["usage"]), finish.usage


def _responses_usage(stated: Mapping[str, Any] | None) -> Usage:
    if not stated:
        return Usage()
    inputs, outputs = stated["input_tokens_details"] or {}, stated["output_tokens_details"] or {}
    total, read, written = stated["input_tokens"], inputs.get("cached_tokens"), inputs.get("cache_write_tokens")
    fresh = None if read is None else total - read - (written or 0)
    return Usage(total, fresh, read, written, stated["output_tokens"], outputs.get("reasoning_tokens"))


def _ids(told: Row, row: Row, dialect: Dialect, answer: Answer) -> Differences:
    finish = answer.finish
    yield "model", told["model"] or None, finish.model
    yield "response id", told.get("response_id") or None, finish.response_id
    header = {"ollama": "", "anthropic": "request-id"}.get(dialect.name, "x-request-id")
    yield "request id", corpus.headers(row).get(header), finish.request_id


# ------------------------------------------------------------------------------------------------- the comparison


def _failure(row: Row, told: Row, dialect: Dialect) -> Differences:
    head = Head(row["response"]["status"], corpus.headers(row))
    error = dialect.failure(head, corpus.body(row), _flags(row))
    # The SDK goes by the status alone; Responses says 400 where a model does not exist.
    kind = NotFoundError if b'"model_not_found"' in corpus.body(row) else _ERRORS[told["error_class"]]
    yield "error class", True, isinstance(error, kind)
    yield "status", told["status"], error.status
    if told.get("request_id"):
        yield "request id", told["request_id"], error.request_id
    yield "provider", row["provider"], error.provider
    yield "retryable", isinstance(error, RateLimitError | ServerError), error.retryable


def _compare(
    row: Row, told: Row, dialect: Dialect, shape: Callable[[Row, Answer], Differences]
) -> Iterator[tuple[str, str]]:
    """Yield what differs in one row, and how."""
    if not told["ok"] or not told.get("ended", True):
        yield "answer", f"{row['id']}: {told.get('sdk_failed')}"
        return
    if told["kind"] == "error":
        pairs = list(_failure(row, told, dialect))
    else:
        try:
            answer = decode(dialect, row)
        except ProviderError as error:
            yield "answer", f"{row['id']}: {type(error).__name__}: {error}"
            return
        pairs = [*shape(told, answer), *_ids(told, row, dialect, answer)]
    for what, theirs, ours in pairs:
        if theirs != ours:
            yield what, f"{row['id']}: {what}: {theirs!r} != {ours!r}"


@pytest.mark.parametrize(
    ("dialect", "chosen", "shape", "least"),
    [
        (OpenAIChat(), _is_chat, _openai, 1600),
        (OpenAIResponses(), _is_responses, _responses, 770),
        (Anthropic(), _is_messages, _anthropic, 700),
        (Ollama(), _is_native_ollama, _ollama, 50),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else "",
)
def test_equals_the_oracle(
    dialect: Dialect,
    chosen: Callable[[Row], bool],
    shape: Callable[[Row, Answer], Differences],
    least: int,
    tally: Counter[tuple[str, str]],
) -> None:
    """Every recorded exchange decodes to what the vendor's SDK says, or is excused by its id."""
    oracle = corpus.oracle()
    different: list[str] = []
    rows = [row for row in corpus.rows("*") if chosen(row) and row["id"] in oracle]
    for row in rows:
        excused, _ = EXCUSED.get(row["id"], ("", ""))
        found = dict(_compare(row, oracle[row["id"]], dialect, shape))
        lines = [line for what, line in found.items() if what not in excused.split(", ")]
        lines += [
            f"{row['id']}: {what}: excused, but equal" for what in excused.split(", ") if what and what not in found
        ]
        tally[dialect.name, "different" if lines else "excused" if excused else "equal"] += 1
        different += lines
    assert not different, "\n".join(different)
    assert len(rows) >= least


def _row(name: str) -> Row:
    return next(row for row in corpus.rows("*") if row["id"] == name)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("azure-chat-a4dae9a3c1", ContentPolicyError, "content_filter"),
        ("groq-chat-e8596fe12a", InvalidRequestError, "tool_use_failed"),
        ("openrouter-chat-0c4e42ae60", InvalidRequestError, "400"),
        ("gpustack-chat-a001f24274", ServerError, None),
    ],
)
def test_recorded_error_inside_a_200(name: str, kind: type[ProviderError], code: str | None) -> None:
    """An error that was recorded inside a 200 is raised by its own code, with the head's status and request id."""
    row = _row(name)
    with pytest.raises(kind) as caught:
        decode(OpenAIChat(), row)
    assert caught.value.status == 200
    assert caught.value.provider_code == code
    assert caught.value.request_id == corpus.headers(row).get("x-request-id")


@pytest.mark.parametrize("name", ["openai-chat-9d6a09db49", "snowflake-chat-362572c84f"])
def test_recorded_stream_without_finish_reason(name: str) -> None:
    """A stream that says `[DONE]` but never why it ended is incomplete, and no reason is made up."""
    with pytest.raises(IncompleteStreamError):
        decode(OpenAIChat(), _row(name))


def test_recorded_choice_without_message() -> None:
    """A choice that a content filter left without a message is an empty answer that says so."""
    answer = decode(OpenAIChat(), _row("azure-chat-86b488f5f7"))
    assert answer.text == ""
    assert answer.finish.reason == "content_filter"
    assert answer.finish.usage.output_total == 19


def test_recorded_failure_of_a_response() -> None:
    """An `error` event inside a 200 is raised by its code, before the failed response that repeats it."""
    with pytest.raises(RateLimitError) as caught:
        decode(OpenAIResponses(), _row("openai-responses-2e6ed5cb35"))
    assert (caught.value.status, caught.value.provider_type) == (200, "tokens")
    assert (caught.value.provider_code, caught.value.retryable) == ("rate_limit_exceeded", True)


def test_recorded_response_with_two_messages() -> None:
    """Two messages of one answer are one text, also where an event does not say which of them it ends."""
    answer = decode(OpenAIResponses(), _row("openai-responses-ddc7f88329"))
    assert answer.text == "First messageSecond message"
    assert answer.finish.usage == Usage(input_total=10, output_total=4)
    assert len(answer.finish.parts) == 2


def test_recorded_tools_that_the_provider_runs() -> None:
    """Custom tool calls that xAI made and answered itself are kept as items, and are no calls for the caller."""
    answer = decode(OpenAIResponses(), _row("xai-responses-800db93743"))
    kinds = [json.loads(part.raw)["type"] for part in answer.finish.parts]
    assert kinds.count("custom_tool_call") == 2
    assert (answer.finish.tool_calls, answer.finish.reason) == ((), "stop")


def test_items_of_responses_are_kept_byte_for_byte() -> None:
    """Each item of an answer is kept as the very bytes that came, whole or in the last event of a stream."""
    for row in corpus.rows("*-responses*"):
        if not _is_responses(row) or row["response"]["status"] >= 400 or row["id"] in EXCUSED:
            continue
        finish: Finish = decode(OpenAIResponses(), row).finish
        body = corpus.body(row) if corpus.streamed(row) else corpus.body(row).replace(b"\n\n", b"\n")
        end = next(event for event in reversed(body.split(b"\n\n")) if b'"usage"' in event)
        assert all(part.raw in end for part in finish.parts)


def test_whole_anthropic_blocks_are_kept_byte_for_byte() -> None:
    """Each block of a whole answer is kept as the very bytes that came."""
    for row in corpus.rows("anthropic-messages*"):
        if corpus.streamed(row) or row["response"]["status"] >= 400:
            continue
        finish: Finish = decode(Anthropic(), row).finish
        body = corpus.body(row)
        assert all(part.raw in body for part in finish.parts)
        assert [json.loads(part.raw) for part in finish.parts] == json.loads(body)["content"]


def test_what_is_said_about_answers_is_kept() -> None:
    """Log probabilities and citations of every recorded chat completion are kept, those of a stream put together."""
    counts: Counter[str] = Counter()
    for row in corpus.rows("*"):
        if not _is_chat(row) or row["response"]["status"] >= 300 or row["id"] in EXCUSED:
            continue
        logprobs: dict[str, list[Any]] = {}
        citations = None
        for chunk in _chunks(row):
            citations = chunk.get("citations") or citations
            for choice in chunk.get("choices") or ():
                for name, told in ((choice.get("logprobs") or {}) if not choice.get("index") else {}).items():
                    if isinstance(told, list):
                        logprobs.setdefault(name, []).extend(told)
        kept = [json.loads(part.raw) for part in decode(OpenAIChat(), row).finish.parts if part.dialect == ABOUT]
        about = kept[0] if kept else {}
        assert about.get("logprobs", {}) == logprobs, row["id"]
        assert about.get("citations") == citations, row["id"]
        counts.update({"logprobs": bool(logprobs), "citations": bool(citations)})
    assert counts["logprobs"] >= 30
    assert counts["citations"] >= 15


def _chunks(row: Row) -> list[Any]:
    """Return the JSON of an answer: of its chunks, or the whole of it."""
    if not corpus.streamed(row):
        return [json.loads(corpus.body(row))]
    lines = corpus.body(row).decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:") and "[DONE]" not in line]


def test_nothing_of_the_corpus_crashes_a_dialect() -> None:
    """Bodies of any other API end in an answer or in an error of our own, whichever dialect reads them."""
    for dialect in (OpenAIChat(), OpenAIResponses(), Anthropic(), Ollama(), Gemini()):
        for row in corpus.rows("*"):
            if row["response"].get("text") is None:
                continue
            try:
                decode(dialect, row)
            except ProviderError:
                dialect.failure(Head(500, corpus.headers(row)), corpus.body(row), _flags(row))
