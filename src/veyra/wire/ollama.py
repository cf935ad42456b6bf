"""Ollama's native chat, `/api/chat`: client half.

What is peculiar to it (wire facts, 4):

1. A stream is lines of JSON; it is complete after the line with `done: true`, unless that line's `done_reason` is
   empty: then the runner was lost, and the answer with it.
2. The server streams unless told otherwise, so `stream` is always sent.
3. A prompt longer than the context is cut silently unless `truncate` is false; it is sent as false, and reported as
   applied, unless the caller sets it in `extra`.
4. Sampling options stand under `options`; `extra`'s own `options` are merged with them.
5. Tool calls come whole, before the last line, with objects as arguments, often without an id. One is then made up from
   the call's position (`call_0`), the same for the same answer. They end with `stop`.
6. An error has a message and nothing else, so the status decides, and after it a few words of the message.
7. A count that is missing is unknown: the server leaves out zeros.
8. A message with fields that we have no word for is kept as one opaque block, to be replayed in the next turn. Log
   probabilities are kept in a block of another dialect, `ABOUT`, which is never sent back.
9. `format` takes any schema. With models that think, some versions of the server do not enforce it, so an answer may be
   anything: whoever asked must check it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from veyra.errors import ProviderError
from veyra.schema import json_schema
from veyra.transport.base import Head
from veyra.types import Media, Message, Opaque, Reasoning, Request, Tool, ToolCall, ToolResult
from veyra.wire import payload, structured
from veyra.wire.base import Decoder, Dialect, Encoded, Flags
from veyra.wire.calls import as_object
from veyra.wire.failures import Origin
from veyra.wire.ollama_answer import NAME, ChatStream, ChatWhole, reported

LEVELS = ("low", "medium", "high", "max")


class Ollama(Dialect):
    """Ollama chat: `POST {base_url}/api/chat`."""

    name: ClassVar[str] = NAME

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes of a chat request; see `Dialect.encode`."""
        payload.refuse(request, flags, cache="prompts are cached automatically here")
        if structured.by_tool(request, flags):
            raise payload.unsupported(flags, "output by a tool", "this API lets the model choose its tools")
        if request.metadata:
            raise payload.unsupported(flags, "metadata", "this API has no place for it")
        if request.tool_choice not in {None, "auto"}:
            raise payload.unsupported(flags, f"tool_choice={request.tool_choice!r}", "this API lets the model choose")
        body: dict[str, Any] = {"model": request.model, "messages": _messages(request, flags), "stream": request.stream}
        applied = {} if "truncate" in request.extra else {"truncate": False}
        body.update(applied)
        options = payload.given(
            {
                "num_predict": request.max_tokens,
                "temperature": request.temperature,
                "top_p": request.top_p,
                "seed": request.seed,
                "stop": request.stop or None,
            }
        )
        asked = {
            "format": None if request.output is None else json_schema(request.output),
            "think": _think(request, flags),
            "tools": [_tool(tool) for tool in request.tools] or None,
            "options": options | dict(payload.within(request, "options", flags)) or None,
        }
        body.update(payload.given(asked))
        body.update((name, value) for name, value in request.extra.items() if name != "options")
        return Encoded(
            path="/api/chat",
            body=payload.dump(body, flags),
            headers=payload.JSON_HEADERS,
            applied=applied,
        )

    def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
        """Return a decoder for an answer; see `Dialect.decoder`."""
        origin = _origin(head, flags)
        if stream or head.headers.get("content-type", "").startswith("application/x-ndjson"):
            return ChatStream(origin)
        return ChatWhole(origin)

    def failure(self, head: Head, body: bytes, flags: Flags) -> ProviderError:
        """Return the error of an answer with status 400 or above; see `Dialect.failure`."""
        return reported(_origin(head, flags), body)


def _origin(head: Head, flags: Flags) -> Origin:
    return Origin.of(head, flags, id_header=Ollama.id_header)


# ---------------------------------------------------------------------------------------------- messages


def _messages(request: Request, flags: Flags) -> list[Any]:
    messages: list[Any] = []
    if request.system is not None:
        messages.append({"role": "system", "content": request.system})
    names = _call_names(request.messages)
    for message in request.messages:
        native = [payload.opaque(part, NAME, flags) for part in message.native if part.dialect == NAME]
        if native:
            messages.extend(native)
            continue
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        if results and message.role == "assistant":
            text = "an assistant's message cannot hold ToolResult"
            raise payload.invalid(flags, text)
        messages.extend(_result(part, names) for part in results)
        if len(results) < len(message.parts) or not results:
            messages.append(_turn(message, flags))
    return messages


def _call_names(messages: Iterable[Message]) -> dict[str, str]:
    """Return the tools' names by the ids of the calls made: a result must name its tool."""
    return {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}


def _result(part: ToolResult, names: Mapping[str, str]) -> dict[str, str]:
    turn = {"role": "tool", "content": part.content}
    name = part.name or names.get(part.id)
    if name:
        turn["tool_name"] = name
    if part.id:
        turn["tool_call_id"] = part.id
    return turn


def _turn(message: Message, flags: Flags) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    thinking = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    images = [_image(part, flags) for part in message.parts if isinstance(part, Media)]
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if any(isinstance(part, Opaque) for part in message.parts):
        text = "a message here has no blocks of its own; put what the API gave into native"
        raise payload.invalid(flags, text)
    if (thinking or calls) and message.role != "assistant":
        text = f"a {message.role} message holds no thinking and no tool calls"
        raise payload.invalid(flags, text)
    if thinking:
        turn["thinking"] = thinking
    if images:
        turn["images"] = images
    if calls:
        turn["tool_calls"] = [_call(call) for call in calls]
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": as_object(call)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _image(media: Media, flags: Flags) -> str:
    if media.kind != "image":
        text = f"this API takes images, not {media.kind}"
        raise payload.invalid(flags, text)
    return payload.base64(media, flags)


# ----------------------------------------------------------------------------------------------- options


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _think(request: Request, flags: Flags) -> str | bool | None:
    wanted = request.reasoning
    if wanted is None:
        return None
    if wanted == "none":
        return False
    if wanted in LEVELS:
        return str(wanted)
    raise payload.unsupported(flags, f"reasoning={wanted!r}", f"none, or one of {', '.join(LEVELS)}")
