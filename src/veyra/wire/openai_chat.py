"""OpenAI Chat Completions, and everything that speaks it: client half.

What is peculiar to it (wire facts, 2 and 6; testing facts, 1):

1. A stream is complete after a `finish_reason` and `[DONE]`; where an endpoint never sends `[DONE]`
   (`Flags.done_marker`), the end of the body after a `finish_reason` ends it.
2. Usage may come on any chunk, several times (the last counts), under `x_groq`, or not at all. Input counts include
   cached tokens.
3. An error may come as a 200, whole or inside a stream.
4. `reasoning_content` and `reasoning` are two names for the model's thinking; neither is part of the text.
5. A refusal is text that ends with the finish reason `content_filter`.
6. An assistant's message that holds more than text is kept as one opaque block, to be replayed in the next turn. What
   is said about the answer (log probabilities, citations, results of a search or of a filter) is kept in a block of another
   dialect, `ABOUT`, which is never sent back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from veyra.errors import ProviderError
from veyra.transport.base import Head
from veyra.types import Media, Message, Opaque, Part, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire import payload, structured
from veyra.wire.base import Decoder, Dialect, Encoded, Flags
from veyra.wire.calls import as_json
from veyra.wire.failures import Origin
from veyra.wire.openai_chat_answer import NAME, ChatStream, ChatWhole
from veyra.wire.openai_chat_errors import reported

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}


class OpenAIChat(Dialect):
    """Chat Completions: `POST {base_url}/chat/completions`."""

    name: ClassVar[str] = NAME
    id_header: ClassVar[str | None] = "x-request-id"

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes of a chat completion request; see `Dialect.encode`."""
        request = structured.as_tool(request, flags)
        body: dict[str, Any] = {"model": request.model, "messages": _messages(request, flags)}
        options = {
            flags.max_tokens_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": request.stop or None,
            "seed": request.seed,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "tool_choice": _tool_choice(request, flags),
            "reasoning_effort": _effort(request, flags),
            "response_format": _format(request),
            "metadata": request.metadata or None,
            "stream": True if request.stream else None,
            "stream_options": {"include_usage": True} if request.stream and flags.stream_options else None,
        }
        body.update(payload.given(options))
        body.update(payload.openai_cache(request, flags))
        body.update(request.extra)
        return Encoded(path="/chat/completions", body=payload.dump(body, flags), headers=payload.JSON_HEADERS)

    def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
        """Return a decoder for an answer; see `Dialect.decoder`."""
        origin = _origin(head, flags)
        if stream or head.headers.get("content-type", "").startswith("text/event-stream"):
            return ChatStream(origin, done_marker=flags.done_marker)
        return ChatWhole(origin)

    def failure(self, head: Head, body: bytes, flags: Flags) -> ProviderError:
        """Return the error of an answer with status 400 or above; see `Dialect.failure`."""
        return reported(_origin(head, flags), body)


def _origin(head: Head, flags: Flags) -> Origin:
    return Origin.of(head, flags, id_header=OpenAIChat.id_header)


# ---------------------------------------------------------------------------------------------- messages


def _messages(request: Request, flags: Flags) -> list[Any]:
    messages: list[Any] = []
    if request.system is not None:
        messages.append({"role": flags.system_role, "content": request.system})
    for message in request.messages:
        messages.extend(_turn(message, flags))
    return messages


def _turn(message: Message, flags: Flags) -> Iterator[Any]:
    """Yield what one message is here: a tool's results are messages of their own, before what else it holds."""
    native = [payload.opaque(part, NAME, flags) for part in message.native if part.dialect == NAME]
    if native:
        yield from native
        return
    if message.role == "system":
        yield {"role": flags.system_role, "content": payload.system_text(message, flags)}
        return
    if message.role == "assistant":
        yield _assistant(message, flags)
        return
    content: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.id, "content": part.content}
        else:
            content.append(part)
    if message.role == "tool" and content:
        text = "a tool message holds tool results only"
        raise payload.invalid(flags, text)
    if message.role == "user" and (content or not message.parts):
        yield {"role": "user", "content": _content(message, content, flags)}


def _assistant(message: Message, flags: Flags) -> dict[str, Any]:
    """Return an assistant's turn. Its thinking is not sent: this API takes none but its own blocks (`native`)."""
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    for part in message.parts:
        if isinstance(part, Media | ToolResult | Opaque):
            text = f"an assistant's message cannot hold {type(part).__name__} here"
            raise payload.invalid(flags, text)
    turn: dict[str, Any] = {"role": "assistant", "content": message.text or (None if calls else "")}
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": as_json(call)}}
            for call in calls
        ]
    return turn


def _content(message: Message, parts: list[Part], flags: Flags) -> object:
    """Return a user's content: a plain string where it is only text."""
    if all(isinstance(part, Text) for part in parts):
        return message.text
    return [_part(part, flags) for part in parts]


def _part(part: Part, flags: Flags) -> object:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Media():
            return _media(part, flags)
        case Opaque():
            return payload.opaque(part, NAME, flags)
        case _:
            text = f"a user's message cannot hold {type(part).__name__}"
            raise payload.invalid(flags, text)


def _media(media: Media, flags: Flags) -> dict[str, Any]:
    if media.kind == "image":
        if media.file_id is not None:
            text = "an image is given as data or as a URL here, not as a file_id"
            raise payload.invalid(flags, text)
        return {"type": "image_url", "image_url": {"url": media.url or payload.data_url(media, flags)}}
    if media.kind == "audio":
        form = _AUDIO_FORMATS.get(media.media_type or "")
        if form is None:
            text = f"audio is wav or mp3 here, not {media.media_type}"
            raise payload.invalid(flags, text)
        return {"type": "input_audio", "input_audio": {"data": payload.base64(media, flags), "format": form}}
    if media.file_id is not None:
        return {"type": "file", "file": {"file_id": media.file_id}}
    file = {"filename": media.name or "document", "file_data": payload.data_url(media, flags)}
    return {"type": "file", "file": file}


# ----------------------------------------------------------------------------------------------- options


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(request: Request, flags: Flags) -> str | Mapping[str, Any] | None:
    choice = payload.tool_choice(request, flags)
    if choice in {None, "auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _format(request: Request) -> dict[str, Any] | None:
    if request.output is None:
        return None
    form = structured.form(request.output)
    return {"type": "json_schema", "json_schema": {"name": form.name, "schema": form.schema, "strict": form.strict}}


def _effort(request: Request, flags: Flags) -> str | None:
    effort = request.reasoning
    if effort is None or effort in EFFORTS:
        return effort
    why = "it has levels, no token budget" if isinstance(effort, int) else f"one of {', '.join(EFFORTS)}"
    raise payload.unsupported(flags, f"reasoning={effort!r}", why)
