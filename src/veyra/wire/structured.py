"""Structured output: the schema an answer must keep to, as it is sent, and answers that come as a tool's arguments.

1. Strict where it can be: the strict form says the same as the schema, with what is optional made nullable (see
   `veyra.schema.strict_schema`). Where there is none (a type that refers to itself, an object with free keys) the schema is
   sent as it is, and said not to be strict.
2. In tool mode (`Flags.structured`) the schema is that of one tool, `answer`, which the model must call unless the
   caller's own tools leave it a choice. Its arguments are the answer's text (`ToolAnswer`).
3. What the provider enforces or not, the answer is checked when it is read (`veyra.schema.parse`), not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from veyra.errors import InvalidRequestError, ProviderError, excerpt
from veyra.schema import Schema, json_schema, strict_schema
from veyra.types import Event, Finish, ModelWarning, Request, TextDelta, Tool, ToolCall, ToolCallDelta
from veyra.wire import payload
from veyra.wire.base import Decoder, Flags

ANSWER = "answer"
"""The name of the tool, and of a schema that has none of its own."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "prefixItems")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A schema as it is sent.

    Attributes:
        name: the type's own name, or `answer`.
        schema: the schema.
        strict: it is in the strict form.
    """

    name: str
    schema: Schema
    strict: bool


def form(output: object) -> Form:
    """Return the schema of `output` (a type or a schema) in the strict form, or as it is where that is impossible.

    Raises:
        InvalidRequestError: the type has no schema.
    """
    schema, name = json_schema(output), _name(output)
    try:
        return Form(name=name, schema=strict_schema(schema), strict=True)
    except InvalidRequestError:
        return Form(name=name, schema=schema, strict=False)


def _name(output: object) -> str:
    name = output.get("title") if isinstance(output, Mapping) else getattr(output, "__name__", None)
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ANSWER


def described(schema: Schema, unspoken: frozenset[str]) -> dict[str, Any]:
    """Return a schema in which keywords that a provider does not take are told in the descriptions instead.

    Args:
        schema: a JSON Schema.
        unspoken: the keywords. A `minItems` of 0 or 1 is left where it is.
    """
    told: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in schema.items():
        if key in unspoken and not (key == "minItems" and value in (0, 1)):
            notes.append(f"{key}: {value}")
        elif key in _MAPS and isinstance(value, Mapping):
            told[key] = {name: _described(inner, unspoken) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            told[key] = [_described(inner, unspoken) for inner in value]
        else:
            told[key] = _described(value, unspoken) if key == "items" else value
    if notes:
        told["description"] = " ".join([*filter(None, [told.get("description")]), f"({', '.join(notes)})"])
    return told


def _described(schema: object, unspoken: frozenset[str]) -> object:
    return described(schema, unspoken) if isinstance(schema, Mapping) else schema


# ---------------------------------------------------------------------------------------------------- tool mode


def by_tool(request: Request, flags: Flags) -> bool:
    """Tell whether the answer to a request comes as a tool's arguments, so that its decoder must be a `ToolAnswer`."""
    return request.output is not None and flags.structured == "tool"


def as_tool(request: Request, flags: Flags) -> Request:
    """Return the request with its `output` as a tool, or as it is where it is none of tool mode.

    The model must call the tool; where the caller gave tools too, it must call one of them or answer.

    Raises:
        InvalidRequestError: the output has no schema or is no object, or the caller has a tool of that name.
    """
    if not by_tool(request, flags):
        return request
    if any(tool.name == ANSWER for tool in request.tools):
        message = f"with output, this model answers by a tool named {ANSWER!r}: give your own tool another name"
        raise payload.invalid(flags, message)
    schema = json_schema(request.output)
    if schema.get("type") != "object":
        message = (
            "this model answers by a tool, whose arguments are an object: put the output into a class with a field"
        )
        raise payload.invalid(flags, message)
    tool = Tool(name=ANSWER, description="Give the answer with this tool, once, and nothing else.", parameters=schema)
    choice = request.tool_choice
    if not request.tools or choice == "none":
        choice = ANSWER
    elif choice in {None, "auto"}:
        choice = "required"
    return replace(request, output=None, tools=(*request.tools, tool), tool_choice=choice)


class ToolAnswer(Decoder):
    """Tells the arguments of the tool `answer` as text, for an answer that was asked for in tool mode.

    The blocks of such an answer are not handed on for replay: they hold a call that nobody will answer, which providers
    refuse. The answer's text stands for it in the next turn.

    Args:
        inner: the dialect's decoder for the same answer.
    """

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self._index: int | None = None
        self._others: set[int] = set()
        self._told: list[str] = []
        self._beside: list[TextDelta] = []

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what the bytes complete; see `Decoder.feed`."""
        return self._pass(self._inner.feed(data))

    def close(self) -> Iterator[Event]:
        """Yield what is left; see `Decoder.close`."""
        return self._pass(self._inner.close())

    def _pass(self, events: Iterator[Event]) -> Iterator[Event]:
        """Hand events on. Text is kept back until it is clear whether it is the answer or stands beside it."""
        try:
            for event in events:
                match event:
                    case TextDelta():
                        self._beside.append(event)
                    case ToolCallDelta():
                        yield from self._piece(event)
                    case Finish():
                        yield from self._end(event)
                    case _:
                        yield event
        except ProviderError:
            if self._index is None:
                yield from self._beside
            raise
        self.done = self._inner.done

    def _piece(self, delta: ToolCallDelta) -> Iterator[Event]:
        if delta.name == ANSWER and self._index is None:
            self._index = delta.index
        elif delta.name == ANSWER:
            self._others.add(delta.index)
        if delta.index == self._index:
            yield from self._say(delta.arguments)
        elif delta.index not in self._others:
            yield delta

    def _say(self, text: str) -> Iterator[Event]:
        if text:
            self._told.append(text)
            yield TextDelta(text)

    def _end(self, finish: Finish) -> Iterator[Event]:
        answers = [call for call in finish.tool_calls if call.name == ANSWER]
        if not answers:
            yield from self._beside
            yield finish
            return
        yield from self._say(_rest(answers[0], "".join(self._told)))
        beside = "".join(delta.text for delta in self._beside)
        if beside.strip():
            yield ModelWarning("text_beside_answer", f"the model also wrote: {excerpt(beside)}", "output")
        if len(answers) > 1:
            yield ModelWarning(
                "other_answers", f"the model answered {len(answers)} times; only the first is kept", "output"
            )
        calls = tuple(call for call in finish.tool_calls if call.name != ANSWER)
        reason = "stop" if finish.reason == "tool_calls" and not calls else finish.reason
        yield replace(finish, reason=reason, tool_calls=calls, parts=())


def _rest(call: ToolCall, told: str) -> str:
    """Return what was not told of the answer; arguments that were left out are an empty object."""
    whole = call.raw if call.raw.strip() else "{}"
    return whole.removeprefix(told) if whole.startswith(told) else ""
