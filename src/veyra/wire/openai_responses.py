"""OpenAI Responses, and what speaks it: client half.

What is peculiar to it (wire facts, 2):

1. A stream is complete after `response.completed` or `response.incomplete`; `response.failed` and `error` are errors
   inside a 200, and their codes decide. Events of other types are passed over.
2. The provider keeps what it answers unless told otherwise: `store` is sent as false, and reported as applied, unless
   the caller sets it in `extra`.
3. Each item of an answer is kept as the provider's JSON (`Finish.parts`) and goes back untouched in the next turn.
   The same reasoning may be sealed differently in each event, so the last event's items count; where it lists
   none, as some endpoints do, those of `response.output_item.done` do.
4. Nothing is kept on the other side, so reasoning goes back only sealed: where it is asked for, its
   `encrypted_content` is asked for too. A reasoning item that came without content of any kind refers to something
   the provider did not keep, and is left out.
5. What the endpoint would enforce by default Chat Completions would not: `strict` is always sent, false where the
   caller did not say.
6. The system text is `instructions`; a call and its result meet by `call_id`, not by the item's `id`.
7. A refusal is text that ends with the finish reason `content_filter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from veyra.errors import ProviderError
from veyra.transport.base import Head
from veyra.types import Media, Message, Opaque, Part, Reasoning, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire import payload, structured
from veyra.wire.base import Decoder, Dialect, Encoded, Flags
from veyra.wire.calls import as_json
from veyra.wire.failures import Origin
from veyra.wire.openai_chat_errors import reported
from veyra.wire.openai_responses_answer import NAME, ResponseStream, ResponseWhole

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SEALED = "reasoning.encrypted_content"


class _Kept(msgspec.Struct):
    """What must be known of an item, or of a piece of content, to send it back."""

    type: Any = None
    call_id: Any = None
    content: Any = None
    encrypted_content: Any = None


_KEPT = msgspec.json.Decoder(_Kept)


class OpenAIResponses(Dialect):
    """OpenAI Responses: `POST {base_url}/responses`."""

    name: ClassVar[str] = NAME
    id_header: ClassVar[str | None] = "x-request-id"

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes of a request for a response; see `Dialect.encode`."""
        payload.refuse(request, flags, stop="this API has no stop sequences", seed="this API has no seed")
        request = structured.as_tool(request, flags)
        applied = {} if "store" in request.extra else {"store": False}
        body: dict[str, Any] = {"model": request.model, "input": _Input(request, flags).items(), **applied}
        effort = _effort(request, flags)
        options = {
            "instructions": request.system,
            "max_output_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "tool_choice": _tool_choice(request, flags),
            "reasoning": None if effort is None else {"effort": effort},
            "include": None if effort in {None, "none"} else [_SEALED],
            "text": {**_format(request), **payload.within(request, "text", flags)} or None,
            "metadata": request.metadata or None,
            "stream": True if request.stream else None,
        }
        body.update(payload.given(options))
        body.update(payload.openai_cache(request, flags))
        body.update((name, value) for name, value in request.extra.items() if name != "text")
        return Encoded(path="/responses", body=payload.dump(body, flags), headers=payload.JSON_HEADERS, applied=applied)

    def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
        """Return a decoder for an answer; see `Dialect.decoder`."""
        origin = _origin(head, flags)
        if stream or head.headers.get("content-type", "").startswith("text/event-stream"):
            return ResponseStream(origin)
        return ResponseWhole(origin)

    def failure(self, head: Head, body: bytes, flags: Flags) -> ProviderError:
        """Return the error of an answer with status 400 or above; see `Dialect.failure`."""
        return reported(_origin(head, flags), body)


def _origin(head: Head, flags: Flags) -> Origin:
    return Origin.of(head, flags, id_header=OpenAIResponses.id_header)


# ----------------------------------------------------------------------------------------------- the input


class _Input:
    """The conversation as items; what a tool gave back must be named after the kind of call that asked for it."""

    def __init__(self, request: Request, flags: Flags) -> None:
        self._messages = request.messages
        self._flags = flags
        self._is_stored = bool(request.extra.get("store"))
        self._custom: set[object] = set()

    def items(self) -> list[Any]:
        """Return the items of all messages, in order."""
        return [item for message in self._messages for item in self._turn(message)]

    def _turn(self, message: Message) -> Iterator[Any]:
        native = [part for part in message.native if part.dialect == NAME]
        if native:
            yield from self._replayed(native)
        elif message.role == "system":
            yield {"role": self._flags.system_role, "content": payload.system_text(message, self._flags)}
        elif message.role == "assistant":
            yield from self._assistant(message)
        elif isinstance(message.content, str) and message.role == "user":
            yield {"role": "user", "content": message.content}
        else:
            yield from self._others(message)

    def _replayed(self, parts: list[Opaque]) -> Iterator[Any]:
        """Yield items as they came, without those that nobody can read any more (rule 4)."""
        for part in parts:
            item, kept = self._opaque(part)
            if kept.type != "reasoning" or kept.encrypted_content or kept.content or self._is_stored:
                yield item

    def _assistant(self, message: Message) -> Iterator[Any]:
        """Yield an assistant's turn, built. Its thinking is not sent: this API takes its own items only (`native`)."""
        for part in message.parts:
            match part:
                case Text(text):
                    if text:
                        yield {"role": "assistant", "content": text}
                case ToolCall():
                    yield {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": as_json(part)}
                case Reasoning():
                    pass
                case Opaque():
                    yield self._opaque(part)[0]
                case _:
                    text = f"an assistant's message cannot hold {type(part).__name__} here"
                    raise payload.invalid(self._flags, text)

    def _others(self, message: Message) -> Iterator[Any]:
        """Yield what a user or a tool says: items of their own, and messages of what stands between them."""
        content: list[Any] = []
        for part in message.parts:
            item = self._item(part)
            if item is None:
                content.append(self._content(part))
                continue
            if content:
                yield {"role": "user", "content": content}
                content = []
            yield item
        if content and message.role == "tool":
            text = "a tool message holds tool results only"
            raise payload.invalid(self._flags, text)
        if content:
            yield {"role": "user", "content": content}

    def _item(self, part: Part) -> object:
        """Return the item that a part is, or None where it is a piece of a message's content."""
        if isinstance(part, ToolResult):
            kind = "custom_tool_call_output" if part.id in self._custom else "function_call_output"
            return {"type": kind, "call_id": part.id, "output": part.content}
        if isinstance(part, Opaque):
            item, kept = self._opaque(part)
            return None if str(kept.type).startswith("input_") else item
        return None

    def _content(self, part: Part) -> object:
        match part:
            case Text(text):
                return {"type": "input_text", "text": text}
            case Media():
                return _media(part, self._flags)
            case Opaque():
                return self._opaque(part)[0]
            case _:
                text = f"a user's message cannot hold {type(part).__name__}"
                raise payload.invalid(self._flags, text)

    def _opaque(self, part: Opaque) -> tuple[msgspec.Raw, _Kept]:
        """Return a block as it came, and what it is."""
        raw = payload.opaque(part, NAME, self._flags)
        try:
            kept = _KEPT.decode(part.raw)
        except msgspec.ValidationError:
            text = f"a block of {NAME} is a JSON object"
            raise payload.invalid(self._flags, text) from None
        if kept.type == "custom_tool_call":
            self._custom.add(kept.call_id)
        return raw, kept


def _media(media: Media, flags: Flags) -> dict[str, Any]:
    if media.kind == "audio":
        text = "this API takes no audio"
        raise payload.invalid(flags, text)
    if media.kind == "image":
        place = (
            {"file_id": media.file_id} if media.file_id else {"image_url": media.url or payload.data_url(media, flags)}
        )
        return {"type": "input_image", "detail": "auto", **place}
    if media.file_id is not None:
        return {"type": "input_file", "file_id": media.file_id}
    if media.url is not None:
        return {"type": "input_file", "file_url": media.url}
    return {
        "type": "input_file",
        "filename": media.name or "document",
        "file_data": payload.data_url(media, flags),
    }


# ----------------------------------------------------------------------------------------------- options


def _tool(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    declared["parameters"] = tool.parameters
    declared["strict"] = bool(tool.strict)
    return declared


def _tool_choice(request: Request, flags: Flags) -> str | Mapping[str, str] | None:
    choice = payload.tool_choice(request, flags)
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "name": choice}


def _format(request: Request) -> dict[str, Any]:
    if request.output is None:
        return {}
    form = structured.form(request.output)
    return {"format": {"type": "json_schema", "name": form.name, "schema": form.schema, "strict": form.strict}}


def _effort(request: Request, flags: Flags) -> str | None:
    effort = request.reasoning
    if effort is None or effort in EFFORTS:
        return effort
    why = "it has levels, no token budget" if isinstance(effort, int) else f"one of {', '.join(EFFORTS)}"
    raise payload.unsupported(flags, f"reasoning={effort!r}", why)
