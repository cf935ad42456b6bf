"""Anthropic Messages: server half, reading requests. Answers are written in `anthropic_reply`.

1. The first text of `system` is the request's, each further one a system message. A system message among the turns, which
   some models take, stays there, as it came.
2. A user's turn of tool results alone is a tool's.
3. A turn that says more than our words (cache control, citations, an image in a tool's result) is kept twice, in our
   words and as it came; a block that we have no word for is an opaque part.
4. A field that a turn does not have in this API is refused, as the API does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from veyra.errors import VeyraError
from veyra.types import Media, Message, Opaque, Part, Reasoning, Request, Role, Text, Tool, ToolCall, ToolResult
from veyra.wire.anthropic import EFFORTS, Anthropic
from veyra.wire.anthropic_answer import NAME
from veyra.wire.anthropic_reply import MessageStreamReply, MessageWholeReply, refusal
from veyra.wire.base import Encoder, Flags, Refusal, ServerDialect, Stamp
from veyra.wire.calls import parse
from veyra.wire.intake import Fields, Mirror, Turn, data, declared, limit, number, wrong

_MIRROR = Mirror(Anthropic(), Flags(provider=NAME))


class AnthropicServer(ServerDialect):
    """Anthropic Messages: `POST {base_url}/v1/messages`."""

    name: ClassVar[str] = NAME
    path: ClassVar[str] = "/v1/messages"

    def request(self, body: bytes) -> Request:
        """Return what a messages request asks for; see `ServerDialect.request`."""
        fields = Fields(body)
        model = fields.need("model", str)
        fields.need("max_tokens", int)
        turns = _MIRROR.turns([_turn(turn) for turn in fields.objects("messages")])
        if not turns:
            raise wrong(fields.place("messages"), "at least one message is required")
        texts = _system(fields)
        rules = tuple(Message("system", text) for text in texts[1:])
        tools = tuple(tool for entry in fields.objects("tools") if (tool := _tool(entry)) is not None)
        request = Request(
            prompt=rules + turns,
            messages=rules,
            stream=fields.take("stream", bool) or False,
            model=model,
            system=texts[0] if texts else None,
            max_tokens=limit(fields, "max_tokens"),
            temperature=number(fields, "temperature"),
            top_p=number(fields, "top_p"),
            stop=tuple(fields.take("stop_sequences", list[str]) or ()),
            tools=tools,
            tool_choice=_tool_choice(fields, tools),
            output=_output(fields),
            reasoning=_reasoning(fields),
            cache=_cache(fields),
            metadata=_metadata(fields),
        )
        return replace(_MIRROR.rest(request, fields), messages=rules + turns)

    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for an answer; see `ServerDialect.encoder`."""
        return MessageStreamReply(stamp) if request.stream else MessageWholeReply(stamp)

    def failure(self, error: VeyraError, request_id: str) -> Refusal:
        """Return the answer that reports an error; see `ServerDialect.failure`."""
        return refusal(error, request_id)


# ---------------------------------------------------------------------------------------------- messages


def _system(fields: Fields) -> list[str]:
    """Return the texts of the system text, of which there may be several."""
    if fields.is_text("system"):
        return [fields.need("system", str)]
    return [block.need("text", str) for block in fields.objects("system")]


def _turn(turn: Fields) -> Turn:
    came = turn.value()
    unknown = sorted(came.keys() - {"role", "content"})
    if unknown:
        raise wrong(turn.place(unknown[0]), "extra inputs are not permitted")
    role = turn.need("role", str)
    if turn.is_text("content"):
        text = turn.need("content", str)
        native = [msgspec.json.encode({"type": "text", "text": text})]
        return Turn(Message(_role(turn, role), text), [came], native)
    blocks = turn.objects("content")
    parts = [part for block in blocks for part in _parts(block)]
    results = role == "user" and parts and all(isinstance(part, ToolResult) for part in parts)
    message = Message("tool" if results else _role(turn, role), parts)
    return Turn(message, [came], [block.raw for block in blocks])


def _role(turn: Fields, role: str) -> Role:
    match role:
        case "user" | "assistant" | "system":
            return role
    raise wrong(turn.place("role"), f"unknown role {role!r}")


def _parts(block: Fields) -> list[Part]:
    """Return what a block is in our words; a tool's result may hold more than the text we have words for."""
    if block.need("type", str) == "tool_result":
        return _result(block)
    return [_part(block)]


def _part(block: Fields) -> Part:
    match block.need("type", str):
        case "text":
            return Text(block.need("text", str))
        case "image":
            return _media(block, Media(kind="image"))
        case "document":
            return _media(block, Media(kind="document", name=block.take("title", str)))
        case "thinking":
            return Reasoning(block.need("thinking", str), block.need("signature", str))
        case "tool_use":
            raw = bytes(block.need("input", msgspec.Raw)).decode()
            return ToolCall(block.need("id", str), block.need("name", str), parse(raw), raw)
        case _:
            return Opaque(NAME, block.raw)


def _media(block: Fields, media: Media) -> Part:
    source = block.object("source")
    match source.need("type", str):
        case "base64":
            text = data(source.need("data", str), source.place("data"))
            return replace(media, media_type=source.need("media_type", str), data=text)
        case "url":
            return replace(media, url=source.need("url", str))
        case "file":
            return replace(media, file_id=source.need("file_id", str))
    return Opaque(NAME, block.raw)


def _result(block: Fields) -> list[Part]:
    rest: list[Part] = []
    text = block.need("content", str) if block.is_text("content") else ""
    for piece in [] if block.is_text("content") else block.objects("content"):
        if piece.need("type", str) == "text":
            text += piece.need("text", str)
        else:
            rest.append(Opaque(NAME, piece.raw))
    failed = block.take("is_error", bool) or False
    return [ToolResult(block.need("tool_use_id", str), text, is_error=failed), *rest]


# ----------------------------------------------------------------------------------------------- options


def _tool(entry: Fields) -> Tool | None:
    """Return the tool that an entry of `tools` declares, or None where it is one of the provider's own."""
    if entry.take("type", str) not in {None, "custom"}:
        return None
    return declared(entry, "input_schema")


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> str | None:
    """Return the choice, or None where our words have none for it."""
    match fields.take("tool_choice", dict[str, Any]):
        case {"type": "auto" | "none" as choice}:
            return str(choice)
        case {"type": "any"}:
            return "required"
        case {"type": "tool", "name": str(name)} if any(tool.name == name for tool in tools):
            return name
    return None


def _reasoning(fields: Fields) -> str | int | None:
    """Return how much thinking is asked for, where that is said as the client half says it."""
    match fields.take("thinking", dict[str, Any]), fields.take("output_config", dict[str, Any]):
        case {"type": "disabled"}, _:
            return "none"
        case {"type": "enabled", "budget_tokens": int(budget)}, _:
            return budget
        case {"type": "adaptive"}, {"effort": str(effort)} if effort in EFFORTS:
            return effort
    return None


def _output(fields: Fields) -> Mapping[str, Any] | None:
    match fields.take("output_config", dict[str, Any]):
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            return schema
    return None


def _cache(fields: Fields) -> bool | str | None:
    """Return how the prompt is to be cached, where that is said of all of it."""
    match fields.take("cache_control", dict[str, Any]):
        case {"type": "ephemeral", **rest} if not rest:
            return True
        case {"type": "ephemeral", "ttl": "5m" | "1h" as time, **rest} if not rest:
            return str(time)
    return None


def _metadata(fields: Fields) -> dict[str, str]:
    match fields.take("metadata", dict[str, Any]):
        case {"user_id": str(user)}:
            return {"user_id": user}
    return {}
