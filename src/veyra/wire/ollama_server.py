"""Ollama's native chat: server half, reading requests. Answers are written in `ollama_reply`.

1. A request asks for a stream unless it says otherwise.
2. Of `options`, what our words say is taken from it; if anything is left, all of it stays in `extra` as it came. A negative
   `num_predict` is no limit.
3. A first message that is nothing but system text is the request's `system`; other system messages stay where they are.
4. Images come as base64 without a media type, so theirs is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from veyra.errors import VeyraError
from veyra.types import Media, Message, Part, Reasoning, Request, Role, Text, ToolCall, ToolResult
from veyra.wire.base import Encoder, Flags, Refusal, ServerDialect, Stamp
from veyra.wire.calls import parse
from veyra.wire.intake import Fields, Mirror, Turn, data, declared, number, strings, wrong
from veyra.wire.ollama import LEVELS, Ollama
from veyra.wire.ollama_answer import NAME
from veyra.wire.ollama_reply import ChatStreamReply, ChatWholeReply, refusal

_MIRROR = Mirror(Ollama(), Flags(provider=NAME))


class OllamaServer(ServerDialect):
    """Ollama chat: `POST {base_url}/api/chat`."""

    name: ClassVar[str] = NAME
    path: ClassVar[str] = "/api/chat"

    def request(self, body: bytes) -> Request:
        """Return what a chat request asks for; see `ServerDialect.request`."""
        fields = Fields(body)
        model = fields.need("model", str)
        turns = fields.objects("messages")
        system = _system(turns[0]) if turns else None
        messages = _MIRROR.turns([_turn(turn) for turn in (turns if system is None else turns[1:])])
        stream = fields.take("stream", bool)
        options = fields.object("options") if fields.has("options") else Fields(b"{}", fields.place("options"))
        count = options.take("num_predict", int)
        tools = fields.objects("tools")
        request = Request(
            prompt=messages,
            messages=messages,
            stream=True if stream is None else stream,
            model=model,
            system=system,
            max_tokens=None if count is not None and count < 0 else count,
            temperature=number(options, "temperature"),
            top_p=number(options, "top_p"),
            stop=strings(options, "stop"),
            seed=options.take("seed", int),
            tools=tuple(declared(tool.object("function"), "parameters") for tool in tools),
            output=_output(fields),
            reasoning=_reasoning(fields),
        )
        return _MIRROR.rest(request, fields)

    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for an answer; see `ServerDialect.encoder`."""
        return ChatStreamReply(stamp) if request.stream else ChatWholeReply(stamp)

    def failure(self, error: VeyraError, request_id: str) -> Refusal:  # noqa: ARG002  (this API has no such id)
        """Return the answer that reports an error; see `ServerDialect.failure`."""
        return refusal(error)


# ---------------------------------------------------------------------------------------------- messages


def _system(turn: Fields) -> str | None:
    """Return the text of a message that is system text and nothing else."""
    match turn.value():
        case {"role": "system", "content": str(text), **rest} if not rest:
            return text
    return None


def _turn(turn: Fields) -> Turn:
    return Turn(_message(turn), [turn.value()], [turn.raw])


def _message(turn: Fields) -> Message:
    role = _role(turn)
    text = turn.take("content", str) or ""
    if role == "tool":
        result = ToolResult(turn.take("tool_call_id", str) or "", text, turn.take("tool_name", str))
        return Message("tool", (result,))
    parts: list[Part] = []
    if turn.has("thinking"):
        parts.append(Reasoning(turn.need("thinking", str)))
    if text:
        parts.append(Text(text))
    images = turn.take("images", list[str]) or []
    parts += [Media(kind="image", data=data(image, turn.place("images"))) for image in images]
    parts += [_call(call) for call in turn.objects("tool_calls")]
    plain = all(isinstance(part, Text) for part in parts)
    return Message(role, text if plain else parts)


def _role(turn: Fields) -> Role:
    match turn.need("role", str):
        case "system" | "user" | "assistant" | "tool" as role:
            return role
        case role:
            raise wrong(turn.place("role"), f"unknown role {role!r}")


def _call(call: Fields) -> ToolCall:
    function = call.object("function")
    raw = bytes(function.take("arguments", msgspec.Raw) or b"{}").decode()
    return ToolCall(call.take("id", str) or "", function.need("name", str), parse(raw), raw)


# ----------------------------------------------------------------------------------------------- options


def _reasoning(fields: Fields) -> str | None:
    """Return the level of thinking, where our words have it; thinking as such, without a level, they do not have."""
    match fields.take("think", object):
        case False:
            return "none"
        case str(level) if level in LEVELS:
            return level
    return None


def _output(fields: Fields) -> Mapping[str, Any] | None:
    """Return the schema of the answer; `json`, which is none, stays in `extra`."""
    schema = fields.take("format", object)
    return schema if isinstance(schema, dict) else None
