"""An attempt as the log has it: what was asked, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import msgspec

from veyra.audit import AttemptRow, Entry
from veyra.audit.entry import INTENT, OUTCOME
from veyra.audit.read import joined
from veyra.errors import AuditCorruptError, InvalidRequestError
from veyra.types import Media, Message, Opaque, Part, Reasoning, Text, Tool, ToolCall, ToolResult

CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"
COUNT: Final = "count_tokens"

_OPTIONS: Final = {
    "gen_ai.request.model": "model",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.seed": "seed",
    "veyra.request.reasoning": "reasoning",
    "gen_ai.embeddings.dimension.count": "dimensions",
}
"""The options that stand among the attributes of an intent; the others are in its `request.messages`."""
_KINDS: Final[Mapping[frozenset[str], type[Part]]] = {
    frozenset(field.name for field in fields(kind)): kind
    for kind in (Text, Media, Reasoning, ToolCall, ToolResult, Opaque)
}
"""The kinds of parts by the names of their fields: no two have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked, as `generate`, `stream`, `embed` and `count_tokens` take it.

    Attributes:
        operation: `chat`, `embeddings` or `count_tokens`.
        messages: the conversation; empty for embeddings.
        texts: the texts to find vectors for; empty for the others.
        options: the options that were set, `model` among them.
        stream: the answer was asked for as a stream.
    """

    operation: str
    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    options: Mapping[str, Any]
    stream: bool = False

    @property
    def prompt(self) -> str | tuple[Message, ...]:
        """The conversation as a caller would write it: a text where it is one turn of plain text."""
        match self.messages:
            case (Message("user", str(text), ()),):
                return text
            case _:
                return self.messages


class RecordedAttempt:
    """One attempt of a log.

    Args:
        intent: the entry that says what was asked.
        outcome: the entry that says how it ended; None where there is none yet.

    Attributes:
        intent, outcome: the same.
        row: what `veyra audit list` says of it.
    """

    def __init__(self, intent: Entry, outcome: Entry | None) -> None:
        self.intent = intent
        self.outcome = outcome
        self.row: AttemptRow = next(joined([intent] if outcome is None else [intent, outcome]))

    @property
    def operation(self) -> str:
        """What was asked for: `chat`, `embeddings` or `count_tokens`."""
        return str(self.intent.leaf["attributes"].get("gen_ai.operation.name", CHAT))

    @property
    def dialect(self) -> str | None:
        """The wire format that was spoken; None where the backend had no bytes to record."""
        name = self.intent.leaf["attributes"].get("veyra.dialect")
        return name if isinstance(name, str) else None

    @property
    def provider(self) -> str | None:
        """Who was asked, as OpenTelemetry spells it."""
        name = self.intent.leaf["attributes"].get("gen_ai.provider.name")
        return name if isinstance(name, str) else None

    @cached_property
    def answer(self) -> Mapping[str, Any] | None:
        """What was handed on, or what had come of it when the attempt failed; None where that was nothing.

        Raises:
            AuditCorruptError: it is not what was recorded.
        """
        return None if self.outcome is None else _object(self.outcome, "response.message")

    @cached_property
    def question(self) -> Question:
        """What was asked.

        Raises:
            AuditCorruptError: it is not what was recorded, or not in a form that is known here.
        """
        asked = _object(self.intent, "request.messages")
        if asked is None:
            msg = f"entry {self.intent.seq} does not say what was asked"
            raise AuditCorruptError(msg)
        attributes = self.intent.leaf["attributes"]
        options = {name: attributes[key] for key, name in _OPTIONS.items() if attributes.get(key) is not None}
        options |= {name: value for name, value in asked.items() if name not in {"messages", "texts"}}
        try:
            if "tools" in options:
                options["tools"] = msgspec.convert(options["tools"], tuple[Tool, ...])
            return Question(
                operation=self.operation,
                messages=tuple(_message(message) for message in asked.get("messages", ())),
                texts=msgspec.convert(asked.get("texts", ()), tuple[str, ...]),
                options=options,
                stream=attributes.get("veyra.stream") is True,
            )
        except (msgspec.MsgspecError, InvalidRequestError, KeyError, TypeError, AttributeError) as error:
            msg = f"what entry {self.intent.seq} says was asked is in no form that is known here: {error}"
            raise AuditCorruptError(msg) from error


def attempts(entries: Iterable[Entry], ids: Iterable[str] | None = None) -> Iterator[RecordedAttempt]:
    """Yield the attempts among some entries, each as soon as its outcome was read, those without one last.

    Args:
        entries: of one log, in order.
        ids: those of the intents that are meant; None for all.
    """
    meant = None if ids is None else set(ids)
    waiting: dict[str, Entry] = {}
    for entry in entries:
        leaf = entry.leaf
        if leaf["kind"] == INTENT and (meant is None or leaf["id"] in meant):
            waiting[leaf["id"]] = entry
        elif leaf["kind"] == OUTCOME and leaf["intent"] in waiting:
            yield RecordedAttempt(waiting.pop(leaf["intent"]), entry)
    for entry in waiting.values():
        yield RecordedAttempt(entry, None)


def _object(entry: Entry, name: str) -> dict[str, Any] | None:
    """Return a body that is a JSON object; None where the entry has none of that name."""
    for part in entry.parts:
        if part.name == name:
            try:
                value = json.loads(part.data)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                return value
            msg = f"the part {name!r} of entry {entry.seq} is no JSON object"
            raise AuditCorruptError(msg)
    return None


def _message(value: Mapping[str, Any]) -> Message:
    content = value["content"]
    native = msgspec.convert(value.get("native", ()), tuple[Opaque, ...])
    parts: str | Sequence[Part] = content if isinstance(content, str) else tuple(map(_part, content))
    return Message(value["role"], parts, native)


def _part(value: Mapping[str, Any]) -> Part:
    part: Part = msgspec.convert(value, _KINDS[frozenset(value)])
    return part
