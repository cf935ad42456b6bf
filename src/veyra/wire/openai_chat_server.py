"""OpenAI Chat Completions: server half, reading requests. Answers are written in `openai_chat_reply`.

1. A first message that is nothing but system text is the request's `system`; other system messages stay where they are.
2. `developer` and `system` are one role: which of them an endpoint takes is the endpoint's affair.
3. `stream_options` is kept in `extra`, as it decides whether a stream tells usage.
4. A turn that says more than our words (a name, a detail, somebody's reasoning field) is kept twice, in our words and
   as it came; a piece of content that we have no word for is an opaque block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from veyra.errors import VeyraError
from veyra.types import Media, Message, Opaque, Part, Reasoning, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire.base import Encoder, Flags, Refusal, ServerDialect, Stamp
from veyra.wire.calls import parse
from veyra.wire.intake import Fields, Mirror, Turn, data, declared, limit, linked, number, openai_cache, strings, wrong
from veyra.wire.openai_chat import EFFORTS, OpenAIChat
from veyra.wire.openai_chat_answer import NAME
from veyra.wire.openai_chat_reply import ChatStreamReply, ChatWholeReply, refusal

_AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class OpenAIChatServer(ServerDialect):
    """Chat Completions: `POST {base_url}/chat/completions`."""

    name: ClassVar[str] = NAME
    path: ClassVar[str] = "/chat/completions"

    def request(self, body: bytes) -> Request:
        """Return what a chat completion request asks for; see `ServerDialect.request`."""
        fields = Fields(body)
        most = "max_completion_tokens" if fields.has("max_completion_tokens") else "max_tokens"
        mirror = Mirror(OpenAIChat(), Flags(provider=NAME, max_tokens_field=most, prompt_cache_options=True))
        model = fields.need("model", str)
        turns = fields.objects("messages")
        if not turns:
            raise wrong(fields.place("messages"), "at least one message is required")
        system = _system(turns[0])
        messages = mirror.turns([_turn(turn, mirror.flags) for turn in (turns if system is None else turns[1:])])
        tools = tuple(tool for entry in fields.objects("tools") if (tool := _tool(entry)) is not None)
        effort = fields.take("reasoning_effort", str)
        request = Request(
            prompt=messages,
            messages=messages,
            stream=fields.take("stream", bool) or False,
            model=model,
            system=system,
            max_tokens=limit(fields, most),
            temperature=number(fields, "temperature"),
            top_p=number(fields, "top_p"),
            stop=strings(fields, "stop"),
            seed=fields.take("seed", int),
            tools=tools,
            tool_choice=_tool_choice(fields, tools),
            output=_output(fields),
            reasoning=effort if effort in EFFORTS else None,
            cache=openai_cache(fields),
            metadata=fields.take("metadata", dict[str, str]) or {},
        )
        return mirror.rest(request, fields, always=("stream_options",))

    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for an answer; see `ServerDialect.encoder`."""
        custom = _custom(request)
        if not request.stream:
            return ChatWholeReply(stamp, custom)
        options = request.extra.get("stream_options")
        return ChatStreamReply(stamp, custom, usage=isinstance(options, dict) and options.get("include_usage") is True)

    def failure(self, error: VeyraError, request_id: str) -> Refusal:
        """Return the answer that reports an error; see `ServerDialect.failure`."""
        return refusal(error, request_id)


# ---------------------------------------------------------------------------------------------- messages


def _system(turn: Fields) -> str | None:
    """Return the text of a message that is system text and nothing else."""
    match turn.value():
        case {"role": "system" | "developer", "content": str(text), **rest} if not rest:
            return text
    return None


def _turn(turn: Fields, flags: Flags) -> Turn:
    came = turn.value()
    match turn.need("role", str):
        case "system" | "developer":
            message = Message("system", _content(turn))
            came["role"] = flags.system_role
        case "user":
            message = Message("user", _content(turn))
        case "assistant":
            message = _assistant(turn)
            came.setdefault("content", None)
        case "tool" | "function":
            message = Message("tool", _result(turn))
        case role:
            raise wrong(turn.place("role"), f"unknown role {role!r}")
    return Turn(message, [came], [turn.raw])


def _content(turn: Fields) -> str | tuple[Part, ...]:
    """Return a message's content: pieces of text alone make one text, as the client half would send them."""
    if turn.is_text("content"):
        return turn.need("content", str)
    parts = tuple(_part(piece) for piece in turn.objects("content"))
    if all(isinstance(part, Text) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return parts


def _part(piece: Fields) -> Part:
    match piece.need("type", str):
        case "text":
            return Text(piece.need("text", str))
        case "image_url":
            image = piece.object("image_url")
            return linked("image", image.need("url", str), image.place("url"))
        case "input_audio":
            audio = piece.object("input_audio")
            form = audio.need("format", str)
            if form not in _AUDIO_TYPES:
                raise wrong(audio.place("format"), "wav or mp3")
            sound = data(audio.need("data", str), audio.place("data"))
            return Media(kind="audio", media_type=_AUDIO_TYPES[form], data=sound)
        case "file":
            return _file(piece.object("file"))
        case _:
            return Opaque(NAME, piece.raw)


def _file(file: Fields) -> Media:
    if file.has("file_id"):
        return Media(kind="document", file_id=file.need("file_id", str))
    url = file.need("file_data", str)
    return linked("document", url, file.place("file_data"), name=file.take("filename", str))


def _assistant(turn: Fields) -> Message:
    """Return an assistant's turn; a refusal is text, and of two names for reasoning either is read."""
    reasoning = turn.take("reasoning_content", msgspec.Raw) or turn.take("reasoning", msgspec.Raw)
    parts: list[Part] = []
    if reasoning is not None and bytes(reasoning).startswith(b'"'):
        parts.append(Reasoning(msgspec.json.decode(reasoning, type=str)))
    parts += Message("assistant", _content(turn)).parts
    if turn.has("refusal"):
        parts.append(Text(turn.need("refusal", str)))
    parts += [_call(call) for call in turn.objects("tool_calls")]
    if turn.has("function_call"):
        call = turn.object("function_call")
        raw = call.need("arguments", str)
        parts.append(ToolCall("", call.need("name", str), parse(raw), raw))
    if all(isinstance(part, Text) for part in parts):
        return Message("assistant", "".join(part.text for part in parts if isinstance(part, Text)))
    return Message("assistant", tuple(parts))


def _call(call: Fields) -> Part:
    if not call.has("function"):
        return Opaque(NAME, call.raw)
    function = call.object("function")
    raw = function.need("arguments", str)
    return ToolCall(call.need("id", str), function.need("name", str), parse(raw), raw)


def _result(turn: Fields) -> tuple[Part, ...]:
    """Return what a tool gave back; a function's result, of the API's first years, has no id but a name."""
    content = _content(turn)
    text = content if isinstance(content, str) else ""
    rest = () if isinstance(content, str) else content
    call = turn.need("tool_call_id", str) if turn.need("role", str) == "tool" else ""
    return (ToolResult(call, text, turn.take("name", str)), *rest)


# ----------------------------------------------------------------------------------------------- options


def _tool(entry: Fields) -> Tool | None:
    """Return the function that an entry of `tools` declares, or None where it is another kind of tool."""
    match entry.need("type", str):
        case "function":
            return declared(entry.object("function"), "parameters")
        case "custom":
            entry.object("custom").need("name", str)
    return None


def _custom(request: Request) -> frozenset[str]:
    """Return the names of the tools that take free text: their calls are told in another form."""
    tools = request.extra.get("tools", ())
    return frozenset(tool["custom"]["name"] for tool in tools if tool.get("type") == "custom")


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> str | None:
    """Return the choice, or None where our words have none for it (one among several, a custom tool)."""
    match fields.take("tool_choice", object):
        case "auto" | "none" | "required" as choice:
            return str(choice)
        case {"type": "function", "function": {"name": str(name)}} if any(tool.name == name for tool in tools):
            return name
    return None


def _output(fields: Fields) -> Mapping[str, Any] | None:
    match fields.take("response_format", dict[str, Any]):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    return None
