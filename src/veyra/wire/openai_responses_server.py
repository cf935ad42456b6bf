"""OpenAI Responses: server half, reading requests. Answers are written in `openai_responses_reply`.

1. Items of the assistant that follow each other (messages, reasoning, calls) are one turn, and so are outputs of tools.
2. `developer` and `system` are one role: which of them an endpoint takes is the endpoint's affair.
3. A turn that says more than our words (an item's id, encrypted reasoning, a tool of the provider's) is kept twice, in
   our words and as it came; an item or a piece of content that we have no word for is an opaque part.
4. A request without `store` says nothing of it. The API would keep the answer; the client half asks it not to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

from veyra.errors import VeyraError
from veyra.types import (
    Media,
    MediaKind,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from veyra.wire.base import Encoder, Flags, Refusal, ServerDialect, Stamp
from veyra.wire.calls import parse
from veyra.wire.intake import Fields, Mirror, Turn, declared, limit, linked, number, openai_cache, wrong
from veyra.wire.openai_chat_reply import refusal
from veyra.wire.openai_responses import EFFORTS, OpenAIResponses
from veyra.wire.openai_responses_answer import NAME
from veyra.wire.openai_responses_reply import ResponseStreamReply, ResponseWholeReply

_MIRROR = Mirror(OpenAIResponses(), Flags(provider=NAME, prompt_cache_options=True), turns_field="input")
_MEDIA: Mapping[str, tuple[MediaKind, str]] = {
    "input_image": ("image", "image_url"),
    "input_file": ("document", "file_data"),
}
"""The kind of media that a piece of content is, and the field that holds it."""
_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""Fields that name a conversation the provider has, so that there need be no input."""


class OpenAIResponsesServer(ServerDialect):
    """OpenAI Responses: `POST {base_url}/responses`."""

    name: ClassVar[str] = NAME
    path: ClassVar[str] = "/responses"

    def request(self, body: bytes) -> Request:
        """Return what a request for a response asks for; see `ServerDialect.request`."""
        fields = Fields(body)
        model = fields.need("model", str)
        messages = _messages(fields)
        tools = tuple(tool for entry in fields.objects("tools") if (tool := _tool(entry)) is not None)
        request = Request(
            prompt=messages,
            messages=messages,
            stream=fields.take("stream", bool) or False,
            model=model,
            system=fields.take("instructions", str),
            max_tokens=limit(fields, "max_output_tokens"),
            temperature=number(fields, "temperature"),
            top_p=number(fields, "top_p"),
            tools=tools,
            tool_choice=_tool_choice(fields, tools),
            output=_output(fields),
            reasoning=_reasoning(fields),
            cache=openai_cache(fields),
            metadata=fields.take("metadata", dict[str, str]) or {},
        )
        return _MIRROR.rest(request, fields)

    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for an answer; see `ServerDialect.encoder`."""
        asked = _MIRROR.said(replace(request, messages=()))
        return ResponseStreamReply(stamp, asked) if request.stream else ResponseWholeReply(stamp, asked)

    def failure(self, error: VeyraError, request_id: str) -> Refusal:
        """Return the answer that reports an error; see `ServerDialect.failure`."""
        return refusal(error, request_id)


# ----------------------------------------------------------------------------------------------- the input


def _messages(fields: Fields) -> tuple[Message, ...]:
    if fields.is_text("input"):
        return (Message("user", fields.need("input", str)),)
    items = fields.objects("input")
    if not items and not any(fields.has(name) for name in _ELSEWHERE):
        raise wrong(fields.place("input"), "at least one item is required")
    turns: list[Turn] = []
    for (role, joins), group in groupby(enumerate(items), lambda pair: _whose(*pair)):
        own = [item for _, item in group]
        turns.append(Turn(_message(role, own, joined=joins is None), *_native(own)))
    return _MIRROR.turns(turns)


def _whose(number: int, item: Fields) -> tuple[Role, int | None]:
    """Return whose an item is, and, where it makes a turn of its own, its number."""
    kind = _kind(item)
    if kind.endswith("_output"):
        return "tool", None
    if kind != "message":
        return "assistant", None
    match item.need("role", str):
        case "assistant":
            return "assistant", None
        case "user":
            return "user", number
        case "system" | "developer":
            return "system", number
        case role:
            raise wrong(item.place("role"), f"unknown role {role!r}")


def _kind(item: Fields) -> str:
    """Return an item's type, which a message may leave out."""
    return item.take("type", str) or "message"


def _native(items: list[Fields]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return items as plain values, without what the client half says in another way, and as they came."""
    came = [item.value() for item in items]
    for value in came:
        if value.get("type") == "message":
            del value["type"]
        if value.get("role") == "developer":
            value["role"] = "system"
    return came, [item.raw for item in items]


def _message(role: Role, items: list[Fields], *, joined: bool) -> Message:
    if not joined:
        content = _content(items[0])
        return Message(role, _text(content) if role == "system" else content)
    parts = tuple(part for item in items for part in _parts(item))
    if role == "assistant" and len(parts) == 1 and isinstance(parts[0], Text):
        return Message(role, parts[0].text)
    return Message(role, parts)


def _content(item: Fields) -> str | tuple[Part, ...]:
    if item.is_text("content"):
        return item.need("content", str)
    return tuple(_part(piece) for piece in item.objects("content"))


def _text(content: str | tuple[Part, ...]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content if isinstance(part, Text))


def _parts(item: Fields) -> tuple[Part, ...]:
    """Return what an item of the assistant or of a tool is in our words."""
    match _kind(item):
        case "message":
            return Message("assistant", _content(item)).parts
        case "reasoning":
            told = [*item.objects("summary"), *item.objects("content")]
            return (Reasoning("".join(piece.take("text", str) or "" for piece in told)),)
        case "function_call":
            raw = item.need("arguments", str)
            return (ToolCall(item.need("call_id", str), item.need("name", str), parse(raw), raw),)
        case "function_call_output" | "custom_tool_call_output":
            return _result(item)
        case _:
            return (Opaque(NAME, item.raw),)


def _result(item: Fields) -> tuple[Part, ...]:
    call = item.need("call_id", str)
    if item.is_text("output"):
        return (ToolResult(call, item.need("output", str)),)
    parts = tuple(_part(piece) for piece in item.objects("output"))
    return (ToolResult(call, _text(parts)), *(part for part in parts if not isinstance(part, Text)))


def _part(piece: Fields) -> Part:
    match piece.need("type", str):
        case "input_text" | "output_text":
            return Text(piece.need("text", str))
        case "refusal":
            return Text(piece.need("refusal", str))
        case "input_image" | "input_file":
            return _media(piece)
        case _:
            return Opaque(NAME, piece.raw)


def _media(piece: Fields) -> Media:
    """Return an image or a file: one that the API has, one that lies elsewhere, or one that is here."""
    kind, field = _MEDIA[piece.need("type", str)]
    if piece.has("file_id"):
        return Media(kind=kind, file_id=piece.need("file_id", str))
    if piece.has("file_url"):
        return Media(kind=kind, url=piece.need("file_url", str))
    return linked(kind, piece.need(field, str), piece.place(field), name=piece.take("filename", str))


# ----------------------------------------------------------------------------------------------- options


def _tool(entry: Fields) -> Tool | None:
    """Return the function that an entry of `tools` declares, or None where it is another kind of tool."""
    if entry.need("type", str) != "function":
        return None
    return declared(entry, "parameters")


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> str | None:
    """Return the choice, or None where our words have none for it."""
    match fields.take("tool_choice", object):
        case "auto" | "none" | "required" as choice:
            return str(choice)
        case {"type": "function", "name": str(name)} if any(tool.name == name for tool in tools):
            return name
    return None


def _output(fields: Fields) -> Mapping[str, Any] | None:
    match fields.take("text", dict[str, Any]):
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            return schema
    return None


def _reasoning(fields: Fields) -> str | None:
    match fields.take("reasoning", dict[str, Any]):
        case {"effort": str(effort)} if effort in EFFORTS:
            return effort
    return None
