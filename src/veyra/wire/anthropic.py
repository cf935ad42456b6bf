"""Anthropic Messages: client half.

What is peculiar to it (wire facts, 3):

1. A stream is complete after `message_stop`; `ping` may come at any time, unknown events are passed over.
2. Usage comes twice: `message_delta` is cumulative and may leave fields out, so the two are merged field by field.
   `input_tokens` leaves out what was read from and written to the cache; our total has it.
3. An error inside a stream is an event `error`; its type decides.
4. Every block of an answer is kept as the provider's JSON (`Finish.parts`) and goes back untouched in the next turn:
   a thinking block is sealed by its signature.
5. The system text stands at the top of the request, and the results of all tools of a turn in one user message.
6. `max_tokens` is required; where the caller gave none, the endpoint's default is sent and reported as applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from veyra.errors import ProviderError
from veyra.transport.base import Head
from veyra.types import Media, Message, Opaque, Part, Reasoning, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire import payload, structured
from veyra.wire.anthropic_answer import NAME, MessageStream, MessageWhole
from veyra.wire.anthropic_errors import reported
from veyra.wire.base import Decoder, Dialect, Encoded, Flags
from veyra.wire.calls import as_object
from veyra.wire.failures import Origin

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_NO_SAMPLING_SINCE = "2026-10-21"
"""From this version on, the API refuses sampling parameters, even at their defaults (wire facts, 0.1)."""
_NOTHING = Text("")
"""A text block without text is refused by this API, and says nothing."""
_UNSPOKEN = frozenset(
    {
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "multipleOf",
        "uniqueItems",
    }
)
"""Keywords of a schema that this API refuses (Anthropic, "Structured outputs", JSON Schema limitations)."""
_TTLS = ("5m", "1h")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class Anthropic(Dialect):
    """Anthropic Messages: `POST {base_url}/v1/messages`."""

    name: ClassVar[str] = NAME
    id_header: ClassVar[str | None] = "request-id"

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes of a messages request; see `Dialect.encode`."""
        payload.refuse(request, flags, seed="this API has no seed")
        request = structured.as_tool(request, flags)
        _check_sampling(request, flags)
        limit, applied = request.max_tokens, {}
        if limit is None:
            budget = request.reasoning if isinstance(request.reasoning, int) else 0
            limit = flags.default_max_tokens + budget
            applied["max_tokens"] = limit
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": limit,
            "messages": _turns(request.messages, flags),
        }
        options = {
            "system": _system(request, flags),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop_sequences": request.stop or None,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "tool_choice": _tool_choice(request, flags),
            "metadata": _metadata(request, flags),
            "thinking": _thinking(request, flags),
            "output_config": _output(request, flags) or None,
            "cache_control": _cache(request, flags),
            "stream": True if request.stream else None,
        }
        body.update(payload.given(options))
        body.update((name, value) for name, value in request.extra.items() if name != "output_config")
        return Encoded(
            path="/v1/messages",
            body=payload.dump(body, flags),
            headers={**payload.JSON_HEADERS, **self.headers(flags)},
            applied=applied,
        )

    def headers(self, flags: Flags) -> Mapping[str, str]:
        """Return the version header, where the endpoint names a version."""
        return {} if flags.api_version is None else {"anthropic-version": flags.api_version}

    def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
        """Return a decoder for an answer; see `Dialect.decoder`."""
        origin = _origin(head, flags)
        if stream or head.headers.get("content-type", "").startswith("text/event-stream"):
            return MessageStream(origin)
        return MessageWhole(origin)

    def failure(self, head: Head, body: bytes, flags: Flags) -> ProviderError:
        """Return the error of an answer with status 400 or above; see `Dialect.failure`."""
        return reported(_origin(head, flags), body)


def _origin(head: Head, flags: Flags) -> Origin:
    return Origin.of(head, flags, id_header=Anthropic.id_header)


# ---------------------------------------------------------------------------------------------- messages


def _system(request: Request, flags: Flags) -> str | list[Any] | None:
    """Return the system text: that of the request, then that of messages; blocks, where there are several.

    A message in the API's own form is none of it: it stays among the turns, which some models take.
    """
    lifted = (message for message in request.messages if message.role == "system" and not _native(message, flags))
    texts = [payload.system_text(message, flags) for message in lifted]
    if request.system is not None:
        texts.insert(0, request.system)
    texts = [text for text in texts if text]
    if len(texts) > 1:
        return [{"type": "text", "text": text} for text in texts]
    return texts[0] if texts else None


def _turns(messages: Iterable[Message], flags: Flags) -> list[dict[str, Any]]:
    """Return the conversation; tool results go into one user message with those before and the user's words after."""
    turns: list[dict[str, Any]] = []
    open_results = False
    for message in messages:
        native = _native(message, flags)
        if message.role == "system":
            turns += [{"role": "system", "content": native}] if native else []
            continue
        if message.role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(message, flags)})
            open_results = False
            continue
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        others = [part for part in message.parts if not isinstance(part, ToolResult) and part != _NOTHING]
        if message.role == "tool" and others and not native:
            text = "a tool message holds tool results only"
            raise payload.invalid(flags, text)
        blocks = native or [*map(_result, results), *(_block(part, flags) for part in others)]
        if open_results:
            turns[-1]["content"].extend(blocks)
        elif isinstance(message.content, str) and not native:
            turns.append({"role": "user", "content": message.content})
        else:
            turns.append({"role": "user", "content": blocks})
        open_results = (open_results or bool(results)) and not others
    return turns


def _assistant(message: Message, flags: Flags) -> str | list[Any]:
    """Return an assistant's blocks: those that came from here as they came, or else what can be built.

    Thinking without a signature cannot be sent back, and is left out: it is no part of what was said.
    """
    native = _native(message, flags)
    if native:
        return native
    if isinstance(message.content, str):
        return message.content
    blocks: list[Any] = []
    for part in message.parts:
        match part:
            case Text(""):
                pass
            case Reasoning(text, signature):
                if signature:
                    blocks.append({"type": "thinking", "thinking": text, "signature": signature})
            case ToolCall():
                blocks.append({"type": "tool_use", "id": part.id, "name": part.name, "input": as_object(part)})
            case Media() | ToolResult():
                text = f"an assistant's message cannot hold {type(part).__name__} here"
                raise payload.invalid(flags, text)
            case _:
                blocks.append(_block(part, flags))
    return blocks


def _native(message: Message, flags: Flags) -> list[Any]:
    """Return the blocks of a message that came from here, as they came."""
    return [payload.opaque(part, NAME, flags) for part in message.native if part.dialect == NAME]


def _block(part: Part, flags: Flags) -> object:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Media():
            return {"type": _media_type(part, flags), "source": _source(part, flags)} | _title(part)
        case Opaque():
            return payload.opaque(part, NAME, flags)
        case _:
            text = f"a user's message cannot hold {type(part).__name__}"
            raise payload.invalid(flags, text)


def _media_type(media: Media, flags: Flags) -> str:
    if media.kind == "audio":
        text = "this API takes no audio"
        raise payload.invalid(flags, text)
    return media.kind


def _source(media: Media, flags: Flags) -> dict[str, Any]:
    if media.file_id is not None:
        return {"type": "file", "file_id": media.file_id}
    if media.url is not None:
        return {"type": "url", "url": media.url}
    data = payload.base64(media, flags)
    if not media.media_type:
        text = f"this {media.kind} needs a media_type"
        raise payload.invalid(flags, text)
    return {"type": "base64", "media_type": media.media_type, "data": data}


def _title(media: Media) -> dict[str, Any]:
    return {"title": media.name} if media.kind == "document" and media.name else {}


def _result(part: ToolResult) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": part.id, "content": part.content}
    if part.is_error:
        block["is_error"] = True
    return block


# ----------------------------------------------------------------------------------------------- options


def _check_sampling(request: Request, flags: Flags) -> None:
    if flags.api_version is not None and flags.api_version >= _NO_SAMPLING_SINCE:
        why = f"API version {flags.api_version} refuses sampling parameters"
        payload.refuse(request, flags, temperature=why, top_p=why)


def _tool(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    declared["input_schema"] = tool.parameters
    if tool.strict is not None:
        declared["strict"] = tool.strict
    return declared


def _tool_choice(request: Request, flags: Flags) -> dict[str, str] | None:
    choice = payload.tool_choice(request, flags)
    if choice is None:
        return None
    kind = _CHOICES.get(choice)
    return {"type": kind} if kind else {"type": "tool", "name": choice}


def _metadata(request: Request, flags: Flags) -> Mapping[str, str] | None:
    unknown = sorted(set(request.metadata) - {"user_id"})
    if unknown:
        raise payload.unsupported(flags, f"metadata[{unknown[0]!r}]", "this API takes `user_id` only")
    return request.metadata or None


def _thinking(request: Request, flags: Flags) -> dict[str, Any] | None:
    """Return how to think: not at all, within a budget in tokens, or as the level of effort has it (`_output`)."""
    wanted = request.reasoning
    if wanted is None:
        return None
    if wanted == "none":
        return {"type": "disabled"}
    if isinstance(wanted, int):
        return {"type": "enabled", "budget_tokens": wanted}
    if wanted in EFFORTS:
        return {"type": "adaptive"}
    raise payload.unsupported(flags, f"reasoning={wanted!r}", f"none, a token budget, or one of {', '.join(EFFORTS)}")


def _output(request: Request, flags: Flags) -> dict[str, Any]:
    """Return `output_config`: the level of effort, the schema of the answer, and what `extra` adds to them.

    There is no word for a schema that is not strict here; it is sent all the same, and the provider decides.
    """
    output: dict[str, Any] = {}
    if request.reasoning in EFFORTS:
        output["effort"] = request.reasoning
    if request.output is not None:
        schema = structured.described(structured.form(request.output).schema, _UNSPOKEN)
        output["format"] = {"type": "json_schema", "schema": schema}
    return output | dict(payload.within(request, "output_config", flags))


def _cache(request: Request, flags: Flags) -> Mapping[str, Any] | None:
    """Return the mark that has the prompt cached up to its last block."""
    cache = payload.prompt_cache(request, flags)
    if cache is None or isinstance(cache, Mapping):
        return cache
    if cache is True:
        return {"type": "ephemeral"}
    if cache not in _TTLS:
        raise payload.unsupported(flags, f"cache={cache!r}", f"True, or one of {', '.join(_TTLS)}")
    return {"type": "ephemeral", "ttl": cache}
