"""Gemini's `generateContent`: client half.

What is peculiar to it (wire facts, 5):

1. The model and the way of answering stand in the path; streams are asked for as server-sent events.
2. A stream has no marker of its own: it is complete when the body ends and the last chunk with content gave a
   `finishReason`. A chunk before it may give one too, where the provider goes on after running code.
3. A prompt that is blocked has no candidates, only `promptFeedback`; it is an empty answer that ends with
   `content_filter`.
4. Each part of an answer is kept as the provider's JSON (`Finish.parts`) and goes back untouched in the next turn: its
   `thoughtSignature` seals it. Text that goes on in the next chunk is one part. What the provider says about the
   candidate (citations, ratings) is kept too, in a last block of another dialect, `ABOUT`, which is never sent back.
5. Calls and results meet by name, and by id where the provider gave one. Where it gave none, one is made up from the
   answer's id and the call's position, the same for the same answer; such an id is not sent back.
6. A call that was not made here has no seal, without which newer models refuse it; what Google documents for such
   calls, `UNSEALED`, is sent in its place with the first call of a turn.
7. Where reasoning is asked for, so is its summary (`includeThoughts`). A level is `thinkingLevel`, a number of tokens
   `thinkingBudget`.
8. `strict` cannot be said of one tool: where a tool has it, the mode `VALIDATED` holds all calls to their schemas.
9. The results of a turn's tools are one turn. A result that is not a JSON object goes under `result`, or, where the
   tool failed, under `error`.
10. `extra`'s own `generationConfig` is merged with what the options say, and a `responseSchema` in it goes in the place of
    their schema, as the API takes one of the two; all else in `extra` replaces what they say.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from veyra.errors import ProviderError
from veyra.schema import json_schema
from veyra.transport.base import Head
from veyra.types import Media, Message, Opaque, Part, Reasoning, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire import payload, structured
from veyra.wire.base import Decoder, Dialect, Encoded, Flags
from veyra.wire.calls import as_object, parse
from veyra.wire.failures import Origin
from veyra.wire.gemini_answer import NAME, ContentStream, ContentWhole
from veyra.wire.gemini_errors import reported
from veyra.wire.gemini_names import resource

LEVELS = ("minimal", "low", "medium", "high", "xhigh")
UNSEALED = b64encode(b"skip_thought_signature_validator").decode("ascii")
"""The signature for a call that no Gemini model made (Google, "Thought signatures", section on other models' calls)."""

_NOTHING = Text("")
"""A part without text is refused by this API, and says nothing."""
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


class _Named(msgspec.Struct):
    """The call that a part may be: what its result must repeat."""

    name: str = ""
    id: str | None = None


class _Kept(msgspec.Struct):
    """What must be known of a part to send it back."""

    functionCall: _Named | None = None  # noqa: N815  (the provider's spelling)


_KEPT = msgspec.json.Decoder(_Kept)


class Gemini(Dialect):
    """Gemini: `POST {base_url}/v1beta/models/{model}:generateContent`, or `:streamGenerateContent?alt=sse`."""

    name: ClassVar[str] = NAME

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes of a request for content; see `Dialect.encode`."""
        why = "prompts are cached automatically here; put `cachedContent` in extra for a cache of your own"
        payload.refuse(request, flags, cache=why)
        request = structured.as_tool(request, flags)
        if request.metadata:
            raise payload.unsupported(flags, "metadata", "this API has no place for it")
        body: dict[str, Any] = {"contents": _Contents(flags).turns(request.messages)}
        calling = _calling(request, flags)
        options = {
            "systemInstruction": _system(request, flags),
            "tools": [{"functionDeclarations": [_tool(tool) for tool in request.tools]}] if request.tools else None,
            "toolConfig": None if calling is None else {"functionCallingConfig": calling},
            "generationConfig": _configuration(request, flags) or None,
        }
        body.update(payload.given(options))
        body.update((name, value) for name, value in request.extra.items() if name != "generationConfig")
        return Encoded(path=_path(request), body=payload.dump(body, flags), headers=payload.JSON_HEADERS)

    def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
        """Return a decoder for an answer; see `Dialect.decoder`."""
        origin = _origin(head, flags)
        if stream or head.headers.get("content-type", "").startswith("text/event-stream"):
            return ContentStream(origin)
        return ContentWhole(origin)

    def failure(self, head: Head, body: bytes, flags: Flags) -> ProviderError:
        """Return the error of an answer with status 400 or above; see `Dialect.failure`."""
        return reported(_origin(head, flags), body)


def _origin(head: Head, flags: Flags) -> Origin:
    return Origin.of(head, flags, id_header=Gemini.id_header)


def _path(request: Request) -> str:
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return f"/v1beta/{resource(request.model or '')}:{method}"


# ---------------------------------------------------------------------------------------------- contents


def _system(request: Request, flags: Flags) -> dict[str, Any] | None:
    """Return the system text: that of the request, then that of messages."""
    texts = [payload.system_text(message, flags) for message in request.messages if message.role == "system"]
    if request.system is not None:
        texts.insert(0, request.system)
    parts = [{"text": text} for text in texts if text]
    return {"parts": parts} if parts else None


class _Contents:
    """The conversation as turns; a result must name its tool, so the calls made so far are remembered."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._names: dict[str, str] = {}
        self._ids: set[str] = set()

    def turns(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the conversation without its system messages."""
        turns: list[dict[str, Any]] = []
        results_only = False
        for message in messages:
            if message.role == "system":
                continue
            if message.role == "assistant":
                parts = self._model(message)
                if parts:
                    turns.append({"role": "model", "parts": parts})
                    results_only = False
                continue
            parts = self._user(message)
            if message.role == "tool" and results_only:
                turns[-1]["parts"].extend(parts)
            elif parts:
                turns.append({"role": "user", "parts": parts})
                results_only = message.role == "tool"
        return turns

    def _model(self, message: Message) -> list[Any]:
        """Return a model's parts: those that came from here as they came, or else what can be built.

        Thinking is not built: only the provider can seal it, and it is no part of what was said.
        """
        native = [part for part in message.native if part.dialect == NAME]
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        self._names.update((call.id, call.name) for call in calls)
        if native:
            self._ids.difference_update(call.id for call in calls)
            return [self._opaque(part) for part in native]
        parts: list[Any] = []
        for part in message.parts:
            match part:
                case Text(""):
                    pass
                case Text(text):
                    parts.append({"text": text})
                case ToolCall():
                    parts.append(self._call(part, is_first=part is calls[0]))
                case Reasoning():
                    pass
                case Opaque():
                    parts.append(self._opaque(part))
                case _:
                    text = f"an assistant's message cannot hold {type(part).__name__} here"
                    raise payload.invalid(self._flags, text)
        return parts

    def _call(self, call: ToolCall, *, is_first: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"name": call.name, "args": as_object(call)}
        if call.id:
            self._ids.add(call.id)
            told["id"] = call.id
        return {"functionCall": told, "thoughtSignature": UNSEALED} if is_first else {"functionCall": told}

    def _user(self, message: Message) -> list[Any]:
        """Return what a user or a tool says: parts that came from here as they came, or else results first."""
        native = [self._opaque(part) for part in message.native if part.dialect == NAME]
        if native:
            return native
        results = [self._result(part) for part in message.parts if isinstance(part, ToolResult)]
        others = [self._part(p) for p in message.parts if not isinstance(p, ToolResult) and p != _NOTHING]
        if message.role == "tool" and others:
            text = "a tool message holds tool results only"
            raise payload.invalid(self._flags, text)
        return results + others

    def _result(self, part: ToolResult) -> dict[str, Any]:
        name = part.name or self._names.get(part.id)
        if not name:
            text = f"the result for {part.id!r} needs a name: no call with that id stands before it"
            raise payload.invalid(self._flags, text)
        told: dict[str, Any] = {"name": name, "response": _response(part)}
        if part.id in self._ids:
            told["id"] = part.id
        return {"functionResponse": told}

    def _part(self, part: Part) -> object:
        match part:
            case Text(text):
                return {"text": text}
            case Media():
                return _media(part, self._flags)
            case Opaque():
                return self._opaque(part)
            case _:
                text = f"a user's message cannot hold {type(part).__name__}"
                raise payload.invalid(self._flags, text)

    def _opaque(self, part: Opaque) -> msgspec.Raw:
        """Return a part as it came, and remember the call that it may be."""
        raw = payload.opaque(part, NAME, self._flags)
        try:
            call = _KEPT.decode(part.raw).functionCall
        except msgspec.ValidationError as error:
            text = f"a block of {NAME} is no part of a content: {error}"
            raise payload.invalid(self._flags, text) from None
        if call is not None and call.id:
            self._names[call.id] = call.name
            self._ids.add(call.id)
        return raw


def _response(part: ToolResult) -> object:
    """Return a result as the object that this API takes."""
    if part.is_error:
        return {"error": part.content}
    is_object = part.content.lstrip().startswith("{") and parse(part.content) is not None
    return msgspec.Raw(part.content.encode()) if is_object else {"result": part.content}


def _media(media: Media, flags: Flags) -> dict[str, Any]:
    uri = media.url or media.file_id
    if uri is not None:
        file = {"fileUri": uri, "mimeType": media.media_type}
        return {"fileData": payload.given(file)}
    data = payload.base64(media, flags)
    if not media.media_type:
        text = f"this {media.kind} needs a media_type"
        raise payload.invalid(flags, text)
    return {"inlineData": {"mimeType": media.media_type, "data": data}}


# ----------------------------------------------------------------------------------------------- options


def _tool(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    declared["parametersJsonSchema"] = tool.parameters
    return declared


def _calling(request: Request, flags: Flags) -> dict[str, Any] | None:
    choice = payload.tool_choice(request, flags)
    if choice in {None, "auto"} and any(tool.strict for tool in request.tools):
        return {"mode": "VALIDATED"}
    if choice is None:
        return None
    mode = _MODES.get(choice)
    return {"mode": mode} if mode else {"mode": "ANY", "allowedFunctionNames": [choice]}


def _configuration(request: Request, flags: Flags) -> dict[str, Any]:
    """Return `generationConfig`: what the options say, and what `extra` adds to it."""
    options = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": request.stop or None,
        "seed": request.seed,
        "thinkingConfig": _thinking(request, flags),
        "responseMimeType": None if request.output is None else "application/json",
        "responseJsonSchema": None if request.output is None else json_schema(request.output),
    }
    own = payload.within(request, "generationConfig", flags)
    if own.get("responseSchema") is not None:
        options["responseJsonSchema"] = None
    return payload.given(options) | dict(own)


def _thinking(request: Request, flags: Flags) -> dict[str, Any] | None:
    wanted = request.reasoning
    if wanted is None:
        return None
    if wanted in {"none", 0}:
        return {"thinkingBudget": 0}
    if isinstance(wanted, int):
        return {"thinkingBudget": wanted, "includeThoughts": True}
    if wanted in LEVELS:
        return {"thinkingLevel": wanted, "includeThoughts": True}
    raise payload.unsupported(flags, f"reasoning={wanted!r}", f"none, a token budget, or one of {', '.join(LEVELS)}")
