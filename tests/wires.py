"""One logical answer, written as each provider would write it, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from veyra.types import FinishReason, Usage

Event: TypeAlias = dict[str, Any]

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"


UNKNOWN = Usage()


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a model said.

    Attributes:
        thoughts, texts: its thinking and its text, in the pieces of a stream.
        calls: for each call its id, its name and its arguments, in pieces.
        finish: why it stopped; usage: what was counted.
    """

    thoughts: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    calls: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    finish: FinishReason = "stop"
    usage: Usage = UNKNOWN

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thinking(self) -> str:
        return "".join(self.thoughts)


HELLO = Said(texts=("Hel", "lo"), usage=Usage(input_total=5, output_total=1))


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A wire format under test.

    Attributes:
        backend, options: what `get_backend` is given for it.
        whole, stream: the writers; a stream comes in events, of which the last ones are its end.
        error: an event that says in a stream that the provider has no room.
        media_type: the content type of a stream.
        id_header: the header with the exchange's id, where there is one.
    """

    backend: str
    options: Mapping[str, Any]
    whole: Callable[[Said], bytes]
    stream: Callable[[Said], list[bytes]]
    error: bytes
    media_type: str = SSE
    id_header: str | None = None

    def head(self, *, stream: bool) -> dict[str, str]:
        """Return the head of an answer."""
        kind = {"content-type": self.media_type if stream else JSON}
        return kind | ({self.id_header: "req-1"} if self.id_header else {})


def _given(**fields: Any) -> Event:
    return {name: value for name, value in fields.items() if value is not None}


def sse(event: Event, *, named: bool = False) -> bytes:
    """Return a server-sent event."""
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


# ------------------------------------------------------------------------------------------ Chat Completions

_CHAT_ENDS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}


def _chat_usage(usage: Usage) -> Event:
    details = _given(cached_tokens=usage.cache_read, cache_write_tokens=usage.cache_write)
    return _given(
        prompt_tokens=usage.input_total,
        completion_tokens=usage.output_total,
        prompt_tokens_details=details or None,
        completion_tokens_details=_given(reasoning_tokens=usage.reasoning) or None,
    )


def _chat_whole(said: Said) -> bytes:
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": "".join(pieces)}}
        for id_, name, pieces in said.calls
    ]
    message = {
        "role": "assistant",
        "content": said.text or None,
        "tool_calls": calls,
        "reasoning_content": said.thinking,
    }
    choice = {"index": 0, "message": message, "finish_reason": _CHAT_ENDS[said.finish]}
    return json.dumps({"id": "a-1", "model": "m-1", "choices": [choice], "usage": _chat_usage(said.usage)}).encode()


def _chat_stream(said: Said) -> list[bytes]:
    deltas: list[Event] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in said.thoughts]
    deltas += [{"content": piece} for piece in said.texts]
    for index, (id_, name, pieces) in enumerate(said.calls):
        begun = {"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
        more = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
        deltas += [{"tool_calls": [piece]} for piece in (begun, *more)]
    choices: list[Event] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": _CHAT_ENDS[said.finish]})
    chunks: list[Event] = [{"id": "a-1", "model": "m-1", "choices": [choice]} for choice in choices]
    if said.usage != UNKNOWN:
        chunks.append({"id": "a-1", "model": "m-1", "choices": [], "usage": _chat_usage(said.usage)})
    return [*map(sse, chunks), b"data: [DONE]\n\n"]


# ------------------------------------------------------------------------------------------------- Responses


def _items(said: Said) -> list[Event]:
    items: list[Event] = []
    if said.thoughts:
        items.append({"type": "reasoning", "id": "i0", "summary": [{"type": "summary_text", "text": said.thinking}]})
    if said.texts:
        content = [{"type": "output_text", "text": said.text, "annotations": []}]
        items.append({"type": "message", "id": "i1", "role": "assistant", "content": content})
    for number, (id_, name, pieces) in enumerate(said.calls, 2):
        arguments = "".join(pieces)
        items.append(
            {"type": "function_call", "id": f"i{number}", "call_id": id_, "name": name, "arguments": arguments}
        )
    return items


def _response(said: Said) -> Event:
    usage = said.usage
    counted = _given(
        input_tokens=usage.input_total,
        output_tokens=usage.output_total,
        input_tokens_details=_given(cached_tokens=usage.cache_read, cache_write_tokens=usage.cache_write) or None,
        output_tokens_details=_given(reasoning_tokens=usage.reasoning) or None,
    )
    told: Event = {"id": "a-1", "model": "m-1", "status": "completed", "output": _items(said), "usage": counted}
    if said.finish in {"length", "content_filter"}:
        reason = "max_output_tokens" if said.finish == "length" else "content_filter"
        told |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
    return told


def _responses_whole(said: Said) -> bytes:
    return json.dumps({"object": "response", **_response(said)}).encode()


def _responses_stream(said: Said) -> list[bytes]:
    told = _response(said)
    events: list[Event] = [{"type": "response.created", "response": {"id": "a-1", "status": "in_progress"}}]
    arguments = iter(said.calls)
    for index, item in enumerate(told["output"]):
        begun: Event = {name: item[name] for name in ("type", "id", "call_id", "name") if name in item}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        place: Event = {"output_index": index, "item_id": item["id"]}
        match item["type"]:
            case "reasoning":
                place["summary_index"] = 0
                kind, pieces = "response.reasoning_summary_text.delta", said.thoughts
            case "message":
                place["content_index"] = 0
                kind, pieces = "response.output_text.delta", said.texts
            case _:
                kind, pieces = "response.function_call_arguments.delta", next(arguments)[2]
        events += [{"type": kind, "delta": piece, **place} for piece in pieces]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{told['status']}", "response": told})
    return [sse(event, named=True) for event in events]


# ------------------------------------------------------------------------------------------------- Anthropic

_ANTHROPIC_ENDS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def _blocks(said: Said) -> list[Event]:
    blocks: list[Event] = []
    if said.thoughts:
        blocks.append({"type": "thinking", "thinking": said.thinking, "signature": "sealed=="})
    if said.texts:
        blocks.append({"type": "text", "text": said.text})
    for id_, name, pieces in said.calls:
        blocks.append({"type": "tool_use", "id": id_, "name": name, "input": json.loads("".join(pieces) or "{}")})
    return blocks


def _anthropic_usage(usage: Usage) -> Event:
    return _given(
        input_tokens=usage.input_total if usage.input_uncached is None else usage.input_uncached,
        cache_read_input_tokens=usage.cache_read,
        cache_creation_input_tokens=usage.cache_write,
        output_tokens=usage.output_total,
        output_tokens_details=_given(thinking_tokens=usage.reasoning) or None,
    )


def _anthropic_whole(said: Said) -> bytes:
    told = {"id": "a-1", "type": "message", "role": "assistant", "model": "m-1", "content": _blocks(said)}
    end = {"stop_reason": _ANTHROPIC_ENDS[said.finish], "usage": _anthropic_usage(said.usage)}
    return json.dumps(told | end).encode()


def _anthropic_stream(said: Said) -> list[bytes]:
    usage = _anthropic_usage(said.usage)
    first = {name: usage[name] for name in usage if name.startswith(("input", "cache"))}
    first |= {"output_tokens": 1} if "output_tokens" in usage else {}
    begun = {"id": "a-1", "type": "message", "role": "assistant", "model": "m-1", "content": [], "usage": first}
    events: list[Event] = [{"type": "message_start", "message": begun}]
    arguments = iter(said.calls)
    for index, block in enumerate(_blocks(said)):
        match block["type"]:
            case "thinking":
                empty: Event = {"type": "thinking", "thinking": "", "signature": ""}
                deltas: list[Event] = [{"type": "thinking_delta", "thinking": piece} for piece in said.thoughts]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "text":
                empty = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in said.texts]
            case _:
                empty = block | {"input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in next(arguments)[2]]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": _ANTHROPIC_ENDS[said.finish]}}
    counted = {name: usage[name] for name in usage if name.startswith("output")}
    events += [end | {"usage": counted}, {"type": "message_stop"}]
    return [sse(event, named=True) for event in events]


# ---------------------------------------------------------------------------------------------------- Ollama

_OLLAMA_ENDS = {"stop": "stop", "length": "length", "tool_calls": "stop"}


def _ollama_calls(said: Said) -> list[Event]:
    return [
        {"id": id_, "function": {"name": name, "arguments": json.loads("".join(pieces) or "{}")}}
        for id_, name, pieces in said.calls
    ]


def _ollama_end(said: Said) -> Event:
    counted = _given(prompt_eval_count=said.usage.input_total, eval_count=said.usage.output_total)
    return {"model": "m-1", "done": True, "done_reason": _OLLAMA_ENDS[said.finish], **counted}


def _ollama_whole(said: Said) -> bytes:
    message: Event = {"role": "assistant", "content": said.text}
    message |= {"thinking": said.thinking} if said.thoughts else {}
    message |= {"tool_calls": _ollama_calls(said)} if said.calls else {}
    return json.dumps({"message": message, **_ollama_end(said)}).encode()


def _ollama_stream(said: Said) -> list[bytes]:
    messages: list[Event] = [{"role": "assistant", "content": "", "thinking": piece} for piece in said.thoughts]
    messages += [{"role": "assistant", "content": piece} for piece in said.texts]
    messages += [{"role": "assistant", "content": "", "tool_calls": [call]} for call in _ollama_calls(said)]
    lines: list[Event] = [{"model": "m-1", "message": message, "done": False} for message in messages]
    lines.append({"message": {"role": "assistant", "content": ""}, **_ollama_end(said)})
    return [json.dumps(line).encode() + b"\n" for line in lines]


# ---------------------------------------------------------------------------------------------------- Gemini

_GEMINI_ENDS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def _gemini_parts(said: Said) -> list[Event]:
    parts: list[Event] = [{"text": piece, "thought": True} for piece in said.thoughts]
    parts += [{"text": piece} for piece in said.texts]
    for id_, name, pieces in said.calls:
        parts.append({"functionCall": {"id": id_, "name": name, "args": json.loads("".join(pieces) or "{}")}})
    return parts


def _gemini_chunk(parts: list[Event], said: Said | None = None) -> Event:
    candidate: Event = {"content": {"role": "model", "parts": parts}}
    chunk: Event = {"candidates": [candidate], "modelVersion": "m-1", "responseId": "a-1"}
    if said is None:
        return chunk
    candidate["finishReason"] = _GEMINI_ENDS[said.finish]
    usage = said.usage
    spoken = None if usage.output_total is None else usage.output_total - (usage.reasoning or 0)
    counted = _given(
        promptTokenCount=usage.input_total,
        cachedContentTokenCount=usage.cache_read,
        candidatesTokenCount=spoken,
        thoughtsTokenCount=usage.reasoning,
    )
    return chunk | {"usageMetadata": counted}


def _gemini_whole(said: Said) -> bytes:
    return json.dumps(_gemini_chunk(_gemini_parts(said), said)).encode()


def _gemini_stream(said: Said) -> list[bytes]:
    chunks = [_gemini_chunk([part]) for part in _gemini_parts(said)] + [_gemini_chunk([], said)]
    return [sse(chunk) for chunk in chunks]


# --------------------------------------------------------------------------------------------------- the wires

WIRES: dict[str, Wire] = {
    "chat": Wire(
        backend="openai",
        options={"api": "chat"},
        whole=_chat_whole,
        stream=_chat_stream,
        error=sse({"error": {"message": "no room", "type": "server_error", "code": "engine_overloaded"}}),
        id_header="x-request-id",
    ),
    "responses": Wire(
        backend="openai",
        options={"api": "responses"},
        whole=_responses_whole,
        stream=_responses_stream,
        error=sse({"type": "error", "code": "server_is_overloaded", "message": "no room"}, named=True),
        id_header="x-request-id",
    ),
    "anthropic": Wire(
        backend="anthropic",
        options={},
        whole=_anthropic_whole,
        stream=_anthropic_stream,
        error=sse({"type": "error", "error": {"type": "overloaded_error", "message": "no room"}}, named=True),
        id_header="request-id",
    ),
    "ollama": Wire(
        backend="ollama",
        options={},
        whole=_ollama_whole,
        stream=_ollama_stream,
        error=b'{"error": "no room", "status_code": 503}\n',
        media_type=NDJSON,
    ),
    "gemini": Wire(
        backend="gemini",
        options={},
        whole=_gemini_whole,
        stream=_gemini_stream,
        error=sse({"error": {"code": 503, "status": "UNAVAILABLE", "message": "no room"}}),
    ),
}
"""Every wire format that a built-in backend speaks, by a short name."""
