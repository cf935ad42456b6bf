"""OpenAI Responses: server half, writing answers. Errors in the place of an answer are those of Chat Completions.

1. Every event has the next sequence number. The first tell the response as it begins, the last tells all of it.
2. Items end in the order in which they began: text when another item begins, a call when its arguments are complete as
   well, reasoning at the end of the answer, for its encrypted content is known only then. Clients keep items in that order.
3. Where the answer's own items came from this API, the last event and a whole answer list them, untouched; so does the
   end of an item of reasoning. Items that no event tells come at the end.
4. What was asked is repeated as it was asked; an option that was not set is null, as what the model takes then is not
   known here.
5. An answer that fails says so in `response.failed`, by a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from veyra.errors import VeyraError
from veyra.transport.base import Head
from veyra.types import Finish, FinishReason, Usage
from veyra.wire.base import Stamp
from veyra.wire.openai_chat_reply import error_inside
from veyra.wire.openai_responses_answer import NAME
from veyra.wire.payload import given
from veyra.wire.serving import EVENTS_TYPE, JSON_TYPE, Block, Blocks, Piece, Writer, server_event

_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": None,
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
}
"""Fields of a request that its response repeats, and what they are where the request does not have them."""

_COMPLETE = frozenset({"stop", "tool_calls"})
_INCOMPLETE: Mapping[FinishReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_TOLD = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})
"""Types of items that events tell."""
_CALLS = frozenset({"function_call", "custom_tool_call"})


@dataclass(frozen=True, slots=True)
class _Form:
    """How a block is told.

    Attributes:
        prefix: how the ids of such items begin.
        events: how the events that tell its text are called.
        whole: the field that has the whole text in the last of them.
        part: how the events about its one part are called; None where the item has no parts.
        place: the field that counts the parts.
    """

    prefix: str
    events: str
    whole: str
    part: str | None = None
    place: str | None = None


_TEXT = _Form("msg", "output_text", "text", "content_part", "content_index")
_REASONING = _Form("rs", "reasoning_summary_text", "text", "reasoning_summary_part", "summary_index")
_FUNCTION = _Form("fc", "function_call_arguments", "arguments")
_CUSTOM = _Form("ctc", "custom_tool_call_input", "input")


class _Reply(Writer):
    """Writes responses, and the items of one.

    Args:
        stamp: what the answer bears.
        asked: the request as the client half writes it.
    """

    def __init__(self, stamp: Stamp, asked: Mapping[str, Any]) -> None:
        super().__init__()
        self._stamp = stamp
        self._asked = asked
        self._custom = {tool.get("name") for tool in asked.get("tools", ()) if tool.get("type") == "custom"}

    def _response(self, status: str, **fields: object) -> dict[str, Any]:
        return {
            "id": self._stamp.id,
            "object": "response",
            "created_at": int(self._stamp.created),
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self._stamp.model,
            "output": [],
            **{name: self._asked.get(name, usual) for name, usual in _ECHOED.items()},
            "usage": None,
            **fields,
        }

    def _ended(self, finish: Finish, own: _Own) -> dict[str, Any]:
        """Return the response at its end; it is incomplete where the model did not stop by itself."""
        why = _INCOMPLETE.get(finish.reason or "other", finish.raw_reason or finish.reason)
        output = own.items if own.tell(self.blocks) else [self._item(block) for block in self.blocks]
        fields = {"output": output, "usage": _usage(finish.usage)}
        if finish.reason in _COMPLETE:
            return self._response("completed", **fields)
        return self._response("incomplete", incomplete_details={"reason": why}, **fields)

    def _form(self, block: Block) -> _Form:
        match block.kind:
            case "text":
                return _TEXT
            case "reasoning":
                return _REASONING
            case "call":
                return _CUSTOM if block.name in self._custom else _FUNCTION

    def _item(self, block: Block, *, begins: bool = False) -> dict[str, Any]:
        """Return an item as it is at its end, or as it begins."""
        form = self._form(block)
        item: dict[str, Any] = {"id": self._id(block), "status": "in_progress" if begins else "completed"}
        if form is _TEXT:
            return {"type": "message", **item, "role": "assistant", "content": [] if begins else [_part(block)]}
        if form is _REASONING:
            return {"type": "reasoning", "id": item["id"], "summary": [] if begins else [_part(block)]}
        kind = "custom_tool_call" if form is _CUSTOM else "function_call"
        text = "" if begins else block.text
        return {"type": kind, **item, "call_id": block.id, "name": block.name, form.whole: text}

    def _id(self, block: Block) -> str:
        return f"{self._form(block).prefix}_{self._stamp.id.removeprefix('resp_')}_{block.index}"


class ResponseWholeReply(_Reply):
    """Writes a whole answer."""

    def head(self) -> Head:
        """Return the head of a JSON body."""
        return Head(200, {"content-type": JSON_TYPE, "x-request-id": self._stamp.request_id})

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the body."""
        out.append(msgspec.json.encode(self._ended(finish, _Own(finish))))

    def failure(self, error: VeyraError) -> bytes:
        """Return a response that failed."""
        return msgspec.json.encode(self._response("failed", error=_error(error)))


class ResponseStreamReply(_Reply):
    """Writes a stream of events."""

    def __init__(self, stamp: Stamp, asked: Mapping[str, Any]) -> None:
        super().__init__(stamp, asked)
        self._number = 0

    def head(self) -> Head:
        """Return the head of a stream."""
        headers = {"content-type": EVENTS_TYPE, "cache-control": "no-cache", "x-request-id": self._stamp.request_id}
        return Head(200, headers)

    def begin(self, out: list[bytes]) -> None:
        """Append the response as it begins."""
        for kind in ("created", "in_progress"):
            self._tell(out, kind, response=self._response("in_progress"))

    def add(self, event: Piece, out: list[bytes]) -> None:
        """Append a piece to its item, which may begin with it, and end the items that are complete by that."""
        count = len(self.blocks)
        block = self.blocks.add(event)
        if len(self.blocks) > count:
            for other in self.blocks.ended():
                self._stop(other, self._item(other), out)
            self._start(block, out)
        if block.pieces[-1]:
            self._tell(out, f"{self._form(block).events}.delta", **self._place(block), delta=block.pieces[-1])

    def end(self, finish: Finish, out: list[bytes]) -> None:
        """Append the ends of items, the items that no event told, and the response at its end."""
        own = _Own(finish)
        for block in self.blocks:
            if block.is_open:
                known = own.reasoning.get(block.text) if block.kind == "reasoning" else None
                self._stop(block, known or self._item(block), out)
        for index, item in enumerate(own.rest, len(self.blocks)):
            self._tell(out, "output_item.added", output_index=index, item=item)
            self._tell(out, "output_item.done", output_index=index, item=item)
        response = self._ended(finish, own)
        self._tell(out, response["status"], response=response)

    def failure(self, error: VeyraError) -> bytes:
        """Return the event of a response that failed."""
        out: list[bytes] = []
        self._tell(out, "failed", response=self._response("failed", error=_error(error)))
        return out[0]

    def _start(self, block: Block, out: list[bytes]) -> None:
        part = self._form(block).part
        self._tell(out, "output_item.added", output_index=block.index, item=self._item(block, begins=True))
        if part is not None:
            self._tell(out, f"{part}.added", **self._place(block), part=_part(block, begins=True))

    def _stop(self, block: Block, item: Mapping[str, Any] | msgspec.Raw, out: list[bytes]) -> None:
        block.is_open = False
        form, place = self._form(block), self._place(block)
        self._tell(out, f"{form.events}.done", **place, **{form.whole: block.text})
        if form.part is not None:
            self._tell(out, f"{form.part}.done", **place, part=_part(block))
        self._tell(out, "output_item.done", output_index=block.index, item=item)

    def _place(self, block: Block) -> dict[str, Any]:
        """Return where a piece belongs: the item, and which of its parts, of which there is one."""
        counted = self._form(block).place
        place = {"item_id": self._id(block), "output_index": block.index}
        return place if counted is None else {**place, counted: 0}

    def _tell(self, out: list[bytes], kind: str, **fields: object) -> None:
        name = f"response.{kind}"
        out.append(server_event({"type": name, "sequence_number": self._number, **fields}, name))
        self._number += 1


class _Own:
    """The answer's items that came from this API."""

    def __init__(self, finish: Finish) -> None:
        parts = [part.raw for part in finish.parts if part.dialect == NAME]
        self._fields = [msgspec.json.decode(raw, type=dict[str, Any]) for raw in parts]
        self.items = [msgspec.Raw(raw) for raw in parts]

    @property
    def reasoning(self) -> dict[str, msgspec.Raw]:
        """The items of reasoning, by their text."""
        pairs = zip(self._fields, self.items, strict=True)
        return {_reasoning(item): raw for item, raw in pairs if item.get("type") == "reasoning"}

    @property
    def rest(self) -> list[msgspec.Raw]:
        """The items that no event tells: those of other types, and reasoning without a text."""
        return [
            raw
            for raw, item in zip(self.items, self._fields, strict=True)
            if item.get("type") not in _TOLD or (item.get("type") == "reasoning" and not _reasoning(item))
        ]

    def tell(self, blocks: Blocks) -> bool:
        """Say whether they are there, and are what the events told."""
        return bool(self.items) and (
            "".join(map(_said, self._fields)) == blocks.text()
            and "".join(map(_reasoning, self._fields)) == blocks.text("reasoning")
            and [item.get("call_id") for item in self._fields if item.get("type") in _CALLS]
            == [block.id for block in blocks.calls]
        )


def _said(item: Mapping[str, Any]) -> str:
    """Return the text of an item that is a message."""
    if item.get("type") != "message":
        return ""
    return "".join(part.get("text") or part.get("refusal") or "" for part in item.get("content") or ())


def _reasoning(item: Mapping[str, Any]) -> str:
    """Return the text of an item of reasoning."""
    if item.get("type") != "reasoning":
        return ""
    told = [*(item.get("summary") or ()), *(item.get("content") or ())]
    return "".join(part.get("text") or "" for part in told)


def _part(block: Block, *, begins: bool = False) -> dict[str, Any]:
    """Return the one part of an item, as it is at its end, or as it begins."""
    text = "" if begins else block.text
    if block.kind == "reasoning":
        return {"type": "summary_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _error(error: VeyraError) -> dict[str, Any]:
    """Return an error as a response tells it: by a code, which stands for the type where there is none."""
    fields = msgspec.json.decode(error_inside(error), type=dict[str, dict[str, Any]])["error"]
    return {"code": fields["code"] or fields["type"], "message": fields["message"]}


def _usage(usage: Usage) -> dict[str, Any] | None:
    total = None if usage.input_total is None or usage.output_total is None else usage.input_total + usage.output_total
    inputs = given({"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write})
    outputs = given({"reasoning_tokens": usage.reasoning})
    counts = {
        "input_tokens": usage.input_total,
        "input_tokens_details": inputs or None,
        "output_tokens": usage.output_total,
        "output_tokens_details": outputs or None,
        "total_tokens": total,
    }
    return given(counts) or None
