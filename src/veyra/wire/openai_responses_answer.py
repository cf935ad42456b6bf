"""OpenAI Responses: reading answers. The rules stand at the head of `openai_responses`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from veyra.errors import ProviderError
from veyra.types import Event, Finish, FinishReason, Opaque, ReasoningDelta, TextDelta, Usage
from veyra.wire.calls import Calls
from veyra.wire.decoding import EventStream, WholeBody
from veyra.wire.failures import Origin
from veyra.wire.openai_chat_errors import reported
from veyra.wire.reading import UNREADABLE, as_count, as_word

NAME = "openai_responses"

_Field: TypeAlias = Literal["text", "refusal", "summary", "reasoning", "arguments"]

_FIELDS: Mapping[str, tuple[str, _Field]] = {
    "output_text": ("message", "text"),
    "refusal": ("message", "refusal"),
    "reasoning_summary_text": ("reasoning", "summary"),
    "reasoning_text": ("reasoning", "reasoning"),
    "function_call_arguments": ("function_call", "arguments"),
    "custom_tool_call_input": ("custom_tool_call", "arguments"),
}
"""The texts that events tell in pieces: the kind of item each belongs to, and what it is of it."""
_DELTAS = {f"response.{name}.delta": field for name, field in _FIELDS.items()}
_WHOLES = {f"response.{name}.done": field for name, field in _FIELDS.items()}
_PARTS: Mapping[str, _Field] = {
    "output_text": "text",
    "refusal": "refusal",
    "summary_text": "summary",
    "reasoning_text": "reasoning",
}
"""The texts among an item's content, by their type."""
_ENDS = {f"response.{status}": status for status in ("completed", "incomplete", "failed")}
_CALLS = frozenset({"function_call", "custom_tool_call"})

_INCOMPLETE: Mapping[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_UNDER_WAY = frozenset({"queued", "in_progress"})
"""Statuses of an answer that was asked for in the background: the provider goes on with it, and it can be fetched."""


class _Response(msgspec.Struct):
    """An answer, whole, or as far as an event of a stream tells it; unknown fields are passed over."""

    id: Any = None
    model: Any = None
    status: Any = None
    error: Any = None
    incomplete_details: Any = None
    output: list[msgspec.Raw] | None = None
    tools: Any = None
    usage: Any = None


class _Event(msgspec.Struct):
    """An event of a stream: what we read of it."""

    type: Any = None
    output_index: Any = None
    item_id: Any = None
    content_index: Any = None
    summary_index: Any = None
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    item: msgspec.Raw = msgspec.Raw(b"")
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None


_RESPONSE = msgspec.json.Decoder(_Response)
_EVENT = msgspec.json.Decoder(_Event)
_ITEM: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class ResponseStream(EventStream):
    """Reads a stream of events."""

    marker: ClassVar[bytes] = b"[DONE]"

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin, ResponseWhole(origin))
        self._answer = _Answer(origin)

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._answer.partial

    def stop(self, out: list[Event], *, cut: bool) -> None:  # noqa: ARG002  (no other end counts, whole or cut)
        """Refuse to end without the terminal event; `[DONE]`, which some send after it, is none."""
        marker = "response.completed or response.incomplete"
        raise self._origin.incomplete(marker, partial=self.partial)

    def event(self, name: str, body: bytes, out: list[Event]) -> None:
        """Read an event; one of an unknown type is passed over."""
        if body.strip() == self.marker:
            self.stop(out, cut=False)
        event = self._read(name, body)
        kind = as_word(event.type) or name
        if kind in _DELTAS:
            self._answer.add(*_DELTAS[kind], event, out)
        elif kind in _WHOLES:
            self._answer.complete(*_WHOLES[kind], event, out)
        elif kind == "response.output_item.added":
            self._answer.begin(event, out)
        elif kind == "response.output_item.done":
            self._answer.close(event, out)
        elif kind == "response.created" and event.response is not None:
            self._answer.head(event.response)
        elif kind in _ENDS and event.response is not None:
            out.append(self._answer.finish(event.response, _ENDS[kind], out))
            self.done = True
        elif kind == "error":
            told = event.error if isinstance(event.error, dict) else {"code": event.code, "message": event.message}
            raise self._answer.failed(told)

    def _read(self, name: str, body: bytes) -> _Event:
        try:
            return _EVENT.decode(body)
        except UNREADABLE as error:
            if name == "error":
                raise reported(self._origin, body, partial=self.partial) from None
            what = f"not an event of a response ({error})"
            raise self._origin.malformed(what, body, partial=self.partial) from None


class ResponseWhole(WholeBody):
    """Reads a whole answer."""

    def read(self, body: bytes, out: list[Event]) -> None:
        """Read the answer's items."""
        try:
            response = _RESPONSE.decode(body)
        except UNREADABLE as error:
            what = f"not a response ({error})"
            raise self._origin.malformed(what, body) from None
        if response.output is None:
            if response.error:
                raise reported(self._origin, body)
            what = "the answer has no output"
            raise self._origin.malformed(what, body)
        answer = _Answer(self._origin)
        answer.head(response)
        out.append(answer.finish(response, None, out))


class _Item:
    """An item of the output under way: what of it was told, field by field."""

    __slots__ = ("is_done", "is_final", "is_named", "kind", "position", "raw", "told")

    told: dict[_Field, dict[int, list[str]]]

    def __init__(self, position: int) -> None:
        self.position = position
        self.kind: str | None = None
        self.raw = b""
        self.is_named = False
        self.is_done = False
        self.is_final = False
        self.told = {}


class _Answer:
    """An answer as it grows, out of events or out of a whole response; both are read by the same code."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._text: list[str] = []
        self._items: list[_Item] = []
        self._by_index: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._calls = Calls()
        self._call_kinds = _CALLS
        self._refused = False

    @property
    def partial(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def head(self, response: _Response) -> None:
        """Take which calls are for the caller: a custom tool's are not, where the request had no such tool.

        xAI reports so what it does by itself. An answer repeats the request's tools, as far as it says any.
        """
        tools = response.tools if isinstance(response.tools, list) else []
        if tools and not any(_is_custom(tool) for tool in tools):
            self._call_kinds = frozenset({"function_call"})

    def begin(self, event: _Event, out: list[Event]) -> None:
        """Begin an item. Only a call's id and name are taken from it now: what else it may hold comes again."""
        fields = self._read(event.item)
        item = self._find(event.output_index, fields.get("id"))
        self._name(item, fields, out)

    def add(self, kind: str, field: _Field, event: _Event, out: list[Event]) -> None:
        """Add a delta to its item."""
        item = self._find(event.output_index, event.item_id)
        item.kind = item.kind or kind
        if event.delta and isinstance(event.delta, str):
            self._tell(item, field, _place(field, event), event.delta, out)

    def complete(self, kind: str, field: _Field, event: _Event, out: list[Event]) -> None:
        """Take a text that is now whole, and tell what no delta told of it."""
        item = self._find(event.output_index, event.item_id)
        item.kind = item.kind or kind
        whole = next((text for text in (event.text, event.refusal, event.arguments, event.input) if text), "")
        self._tell_rest(item, field, _place(field, event), whole, out)

    def close(self, event: _Event, out: list[Event]) -> None:
        """Take an item that is now whole, and tell what was not told of it."""
        fields = self._read(event.item)
        self._close(self._find(event.output_index, fields.get("id")), bytes(event.item), fields, out)

    def finish(self, response: _Response, status: str | None, out: list[Event]) -> Finish:
        """Return the end of the answer, after appending what its last event tells for the first time.

        Args:
            response: the answer as it is at its end.
            status: the end that the event's type says; a whole answer says it itself.
            out: where to append.

        Raises:
            ProviderError: the answer failed.
        """
        status = as_word(response.status) or status
        if status == "failed" or response.error:
            raise self.failed(response.error)
        final = response.output or []
        self._settle(final, out)
        details = response.incomplete_details
        why = as_word(details.get("reason")) if isinstance(details, dict) else None
        kept: Iterable[bytes] = map(bytes, final) if final else (item.raw for item in self._items if item.is_done)
        return Finish(
            reason=self._reason(status, why),
            raw_reason=why or status,
            usage=usage(response.usage) if isinstance(response.usage, dict) else Usage(),
            model=as_word(response.model),
            response_id=as_word(response.id),
            request_id=self._origin.request_id,
            tool_calls=self._calls.finished(),
            parts=tuple(Opaque(NAME, raw) for raw in kept),
        )

    def failed(self, error: object) -> ProviderError:
        """Return the error that the provider reports in the place of an end."""
        return reported(self._origin, msgspec.json.encode({"error": error}), partial=self.partial)

    def _reason(self, status: str | None, why: str | None) -> FinishReason:
        if status == "completed":
            if len(self._calls):
                return "tool_calls"
            return "content_filter" if self._refused else "stop"
        if status in _UNDER_WAY:
            return "paused"
        return _INCOMPLETE.get(why or "", "other")

    def _read(self, raw: msgspec.Raw) -> dict[str, Any]:
        try:
            return _ITEM.decode(raw)
        except UNREADABLE as error:
            what = f"not an item of a response ({error})"
            raise self._origin.malformed(what, bytes(raw), partial=self.partial) from None

    def _find(self, index: object, id: object) -> _Item:  # noqa: A002
        """Return the item under way with this index, else with this id (which not all keep), else a new one."""
        place = index if type(index) is int else None
        key = id if isinstance(id, str) and id else None
        item = self._by_id.get(key or "") if place is None else self._by_index.get(place)
        if item is None:
            item = _Item(len(self._items))
            self._items.append(item)
        if place is not None:
            self._by_index[place] = item
        if key is not None:
            self._by_id[key] = item
        return item

    def _settle(self, final: Iterable[msgspec.Raw], out: list[Event]) -> None:
        """Tell what was not told of the items of the whole output."""
        waiting: dict[str | None, deque[_Item]] = {}
        for item in self._items:
            waiting.setdefault(item.kind, deque()).append(item)
        for raw in final:
            fields = self._read(raw)
            item = self._match(fields, waiting.get(as_word(fields.get("type")), deque()))
            item.is_final = True
            self._close(item, bytes(raw), fields, out)

    def _match(self, fields: Mapping[str, Any], same: deque[_Item]) -> _Item:
        """Return the item under way that an item of the whole output is, or a new one.

        That is the one with its id, or else, as some give another id in each event, the next one of the same type.
        """
        key = fields.get("id")
        item = self._by_id.get(key) if isinstance(key, str) else None
        if item is not None and not item.is_final:
            return item
        while same and same[0].is_final:
            same.popleft()
        return same[0] if same else self._find(None, None)

    def _close(self, item: _Item, raw: bytes, fields: Mapping[str, Any], out: list[Event]) -> None:
        item.raw = raw
        item.is_done = True
        self._name(item, fields, out)
        match fields:
            case {"type": "message"}:
                self._tell_parts(item, fields.get("content"), out)
            case {"type": "reasoning"}:
                self._tell_parts(item, fields.get("summary"), out)
                self._tell_parts(item, fields.get("content"), out)
            case {"type": "function_call"}:
                self._tell_rest(item, "arguments", 0, fields.get("arguments"), out)
            case {"type": "custom_tool_call"}:
                self._tell_rest(item, "arguments", 0, fields.get("input"), out)

    def _name(self, item: _Item, fields: Mapping[str, Any], out: list[Event]) -> None:
        """Take an item's type; a call is told by its id and name as soon as they are known."""
        item.kind = as_word(fields.get("type"))
        if item.is_named or item.kind not in self._call_kinds:
            return
        item.is_named = True
        out.append(
            self._calls.add(
                index=item.position,
                id=as_word(fields.get("call_id")) or as_word(fields.get("id")) or "",
                name=as_word(fields.get("name")) or "",
                arguments="",
            )
        )

    def _tell_parts(self, item: _Item, parts: object, out: list[Event]) -> None:
        """Tell what was not told of a list of content; what is no text is kept in the item, and passed over here.

        The first text of a kind is the first that was told of it, and so on: not all count `content_index` alike.
        """
        known = {field: list(told) for field, told in item.told.items()}
        seen: Counter[_Field] = Counter()
        for part in parts if isinstance(parts, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            field = _PARTS.get(kind) if isinstance(kind, str) else None
            if field is None:
                continue
            places, number = known.get(field, ()), seen[field]
            place = places[number] if number < len(places) else -1 - number
            self._tell_rest(item, field, place, part.get("refusal" if field == "refusal" else "text"), out)
            seen[field] += 1

    def _tell_rest(self, item: _Item, field: _Field, place: int, whole: object, out: list[Event]) -> None:
        """Tell the end of a text of which the beginning was told. Where that is no beginning of it, it stands as told."""
        told = "".join(item.told.get(field, {}).get(place, ()))
        if isinstance(whole, str) and len(whole) > len(told) and whole.startswith(told):
            self._tell(item, field, place, whole[len(told) :], out)

    def _tell(self, item: _Item, field: _Field, place: int, piece: str, out: list[Event]) -> None:
        item.told.setdefault(field, {}).setdefault(place, []).append(piece)
        match field:
            case "text" | "refusal":
                self._refused = self._refused or field == "refusal"
                self._text.append(piece)
                out.append(TextDelta(piece))
            case "summary" | "reasoning":
                out.append(ReasoningDelta(piece))
            case "arguments" if item.kind in self._call_kinds:
                out.append(self._calls.add(index=item.position, id="", name="", arguments=piece))


def _is_custom(tool: object) -> bool:
    """Say whether a tool, or one of those in it where it is a namespace, is a custom tool."""
    match tool:
        case {"type": "custom"}:
            return True
        case {"tools": list(inner)}:
            return any(isinstance(each, dict) and each.get("type") == "custom" for each in inner)
    return False


def _place(field: _Field, event: _Event) -> int:
    """Return where in its item a piece of a field belongs."""
    place = event.summary_index if field == "summary" else event.content_index
    return place if type(place) is int and field != "arguments" else 0


def usage(stated: Mapping[str, Any]) -> Usage:
    """Return the tokens that a `usage` object states (wire facts, 7): the totals include cached and reasoning tokens."""
    inputs, outputs = stated.get("input_tokens_details"), stated.get("output_tokens_details")
    inputs = inputs if isinstance(inputs, dict) else {}
    outputs = outputs if isinstance(outputs, dict) else {}
    total, read_ = as_count(stated.get("input_tokens")), as_count(inputs.get("cached_tokens"))
    written = as_count(inputs.get("cache_write_tokens"))
    return Usage(
        input_total=total,
        input_uncached=None if total is None or read_ is None else max(total - read_ - (written or 0), 0),
        cache_read=read_,
        cache_write=written,
        output_total=as_count(stated.get("output_tokens")),
        reasoning=as_count(outputs.get("reasoning_tokens")),
    )
