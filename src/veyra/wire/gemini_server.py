"""Gemini's `generateContent`: server half, reading requests. Answers are written in `gemini_reply`.

1. The model and the way of answering stand in the path, so a server half reads the requests of one target (`at`).
2. The first text of `systemInstruction` is the request's, each further one a system message.
3. A user's turn of results alone is a tool's. Calls and results without an id get one: the first result of a name answers the
   first call of that name that has no answer yet.
4. Of `generationConfig`, what our words say is taken from it; if anything is left, all of it stays in `extra` as it came.
5. A schema in OpenAPI's form is read as JSON Schema, and stays in `extra` as it came.
6. The mode `VALIDATED` holds all calls to their schemas, so all tools are strict.
7. A turn that says more than our words (a seal, a thought, a part of a video) is kept twice, in our words and as it came; a
   part that we have no word for is an opaque part. A field that a turn does not have in this API is refused, as the API does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

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
from veyra.wire.gemini import LEVELS, Gemini
from veyra.wire.gemini_answer import NAME
from veyra.wire.gemini_names import Target, target_of
from veyra.wire.gemini_reply import ContentArrayReply, ContentStreamReply, ContentWholeReply, refusal
from veyra.wire.gemini_spelling import as_json_schema, spelt
from veyra.wire.intake import Fields, Mirror, Turn, data, limit, number, wrong

_MIRROR = Mirror(Gemini(), Flags(provider=NAME), turns_field="contents")
_JSON = "application/json"
_CHOICES: Mapping[str, str] = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
_NO_TARGET = Target("", "", events=True)


class GeminiServer(ServerDialect):
    """Gemini: `POST {base_url}/v1beta/models/{model}:generateContent`, or `:streamGenerateContent`, with `?alt=sse` or without.

    Args:
        target: what the path says of the requests that are read; see `at`.
    """

    name: ClassVar[str] = NAME
    path: ClassVar[str] = "/v1beta/models/{model}:generateContent"

    def __init__(self, target: Target = _NO_TARGET) -> None:
        self._target = target

    def at(self, target: str) -> GeminiServer:
        """Return the half that reads what is sent to a target; see `ServerDialect.at`."""
        return GeminiServer(target_of(target) or _NO_TARGET)

    def request(self, body: bytes) -> Request:
        """Return what a request for content asks for; see `ServerDialect.request`."""
        if not self._target.model:
            place = "the path"
            raise wrong(place, f"it names no model: {self.path}")
        fields = Fields(spelt(body))
        conversation = _Conversation()
        turns = _MIRROR.turns([conversation.turn(turn) for turn in fields.objects("contents")])
        if not turns:
            raise wrong(fields.place("contents"), "contents is not specified")
        texts = _system(fields)
        rules = tuple(Message("system", text) for text in texts[1:])
        options = _object(fields, "generationConfig")
        tools, choice = _calling(fields)
        request = Request(
            prompt=rules + turns,
            messages=rules,
            stream=self._target.stream,
            model=self._target.model,
            system=texts[0] if texts else None,
            max_tokens=limit(options, "maxOutputTokens"),
            temperature=number(options, "temperature"),
            top_p=number(options, "topP"),
            stop=tuple(options.take("stopSequences", list[str]) or ()),
            seed=options.take("seed", int),
            tools=tools,
            tool_choice=choice,
            output=_output(options),
            reasoning=_reasoning(options),
        )
        return replace(_MIRROR.rest(request, fields), messages=rules + turns)

    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for an answer; see `ServerDialect.encoder`."""
        if not request.stream:
            return ContentWholeReply(stamp)
        return ContentStreamReply(stamp) if self._target.events else ContentArrayReply(stamp)

    def failure(self, error: VeyraError, request_id: str) -> Refusal:  # noqa: ARG002  (this API has no such id)
        """Return the answer that reports an error; see `ServerDialect.failure`. In the place of an array, it is one."""
        return refusal(error, in_array=self._target.stream and not self._target.events)


def _object(fields: Fields, name: str) -> Fields:
    """Return a field that is an object; an empty one where it was not given."""
    return fields.object(name) if fields.has(name) else Fields(b"{}", fields.place(name))


# ---------------------------------------------------------------------------------------------- contents


def _system(fields: Fields) -> list[str]:
    """Return the texts of the system text, of which there may be several."""
    return [part.need("text", str) for part in _object(fields, "systemInstruction").objects("parts")]


class _Conversation:
    """Reads turns in their order: which call a result answers may be told by its name alone."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._unanswered: list[ToolCall] = []

    def turn(self, turn: Fields) -> Turn:
        """Return a turn of the conversation."""
        came = turn.value()
        unknown = sorted(came.keys() - {"role", "parts"})
        if unknown:
            raise wrong(turn.place(unknown[0]), "unknown name: cannot find field")
        role = _role(turn)
        blocks = turn.objects("parts")
        if not blocks:
            raise wrong(turn.place("parts"), "must include at least one part")
        parts = [self._part(block) for block in blocks]
        if role == "user" and all(isinstance(part, ToolResult) for part in parts):
            role = "tool"
        match parts:
            case [Text(text)]:
                message = Message(role, text)
            case _:
                message = Message(role, parts)
        return Turn(message, [came], [block.raw for block in blocks])

    def _part(self, part: Fields) -> Part:
        if part.has("functionCall"):
            return self._call(part.object("functionCall"))
        if part.has("functionResponse"):
            return self._result(part.object("functionResponse"))
        if part.has("text"):
            text = part.need("text", str)
            thought = part.take("thought", bool)
            return Reasoning(text, part.take("thoughtSignature", str)) if thought else Text(text)
        media = _media(part)
        return Opaque(NAME, part.raw) if media is None else media

    def _call(self, told: Fields) -> ToolCall:
        raw = bytes(told.take("args", msgspec.Raw) or b"{}").decode()
        call = ToolCall(self._new_id(told), told.need("name", str), parse(raw), raw)
        self._unanswered.append(call)
        return call

    def _result(self, told: Fields) -> ToolResult:
        name = told.need("name", str)
        given = told.take("id", str)
        call = next((call for call in self._unanswered if (call.id == given if given else call.name == name)), None)
        if call is not None:
            self._unanswered.remove(call)
        content, is_error = _response(told)
        id_ = given or (self._new_id(told) if call is None else call.id)
        return ToolResult(id_, content, name, is_error=is_error)

    def _new_id(self, told: Fields) -> str:
        """Return the id that was given, or else one that no call of the conversation has so far."""
        id_, count = told.take("id", str), len(self._ids)
        while not id_:
            id_ = f"call_{count}" if f"call_{count}" not in self._ids else None
            count += 1
        self._ids.add(id_)
        return id_


def _role(turn: Fields) -> Role:
    match turn.take("role", str) or "user":
        case "user" | "function":  # the name that results once had; it is still taken
            return "user"
        case "model":
            return "assistant"
        case role:
            raise wrong(turn.place("role"), f"unknown role {role!r}; please use a valid role: user, model")


def _response(told: Fields) -> tuple[str, bool]:
    """Return what a tool gave back, and whether that is an error."""
    response = _object(told, "response")
    match response.value():
        case {"result": str(text), **rest} if not rest:
            return text, False
        case {"error": str(text), **rest} if not rest:
            return text, True
    return response.raw.decode(), False


def _media(part: Fields) -> Media | None:
    """Return an image, a sound or a document; None where a part is none of them."""
    if part.has("inlineData"):
        blob = part.object("inlineData")
        media_type, text = blob.need("mimeType", str), blob.need("data", str)
        kind = _kind(media_type)
        given = data(text.translate(_STANDARD), blob.place("data"))
        return None if kind is None else Media(kind=kind, media_type=media_type, data=given)
    if part.has("fileData"):
        file = part.object("fileData")
        media_type, uri = file.take("mimeType", str) or "", file.need("fileUri", str)
        kind = _kind(media_type)
        if kind is None:
            return None
        url, file_id = (uri, None) if "://" in uri else (None, uri)
        return Media(kind=kind, media_type=media_type or None, url=url, file_id=file_id)
    return None


_STANDARD = str.maketrans("-_", "+/")
"""ProtoJSON takes both alphabets of base64."""


def _kind(media_type: str) -> MediaKind | None:
    """Return what sort of media a type stands for; there is no word for videos."""
    match media_type.partition("/")[0].lower():
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return None
    return "document"


# ----------------------------------------------------------------------------------------------- options


def _calling(fields: Fields) -> tuple[tuple[Tool, ...], str | None]:
    """Return the tools, and the choice among them, or None where our words have none for it."""
    entries = [entry for tool in fields.objects("tools") for entry in tool.objects("functionDeclarations")]
    config = _object(_object(fields, "toolConfig"), "functionCallingConfig")
    mode = (config.take("mode", str) or "").upper()
    named = config.take("allowedFunctionNames", list[str]) or []
    tools = tuple(_tool(entry, strict=True if mode == "VALIDATED" else None) for entry in entries)
    if mode == "ANY" and len(named) == 1 and any(tool.name == named[0] for tool in tools):
        return tools, named[0]
    return tools, _CHOICES.get(mode)


def _tool(entry: Fields, *, strict: bool | None) -> Tool:
    schema = entry.take("parametersJsonSchema", dict[str, Any])
    if schema is None:
        schema = as_json_schema(entry.take("parameters", dict[str, Any]) or {"type": "object", "properties": {}})
    return Tool(
        name=entry.need("name", str),
        description=entry.take("description", str) or "",
        parameters=schema,
        strict=strict,
    )


def _output(options: Fields) -> Mapping[str, Any] | None:
    """Return the schema of the answer; JSON without one, or another type, stays in `extra`."""
    exact = options.take("responseJsonSchema", dict[str, Any])
    other = options.take("responseSchema", dict[str, Any])
    if options.take("responseMimeType", str) != _JSON:
        return None
    return as_json_schema(other) if exact is None and other is not None else exact


def _reasoning(options: Fields) -> str | int | None:
    """Return how much thinking is asked for, where our words have it; how much the model likes, they do not have."""
    config = _object(options, "thinkingConfig")
    budget = config.take("thinkingBudget", int)
    level = (config.take("thinkingLevel", str) or "").lower()
    if budget == 0:
        return "none"
    if budget is not None:
        return budget if budget > 0 else None
    return level if level in LEVELS else None
