"""A tool's execution on record, as an attempt at a model is: an intent before the function is called, an outcome after.

No record, no execution. A process that ends in between leaves it abandoned in the log.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from veyra.audit import AuditLog, BodyPart
from veyra.audit.entry import MAX_VALUE, new_id
from veyra.errors import excerpt
from veyra.models.base import Exchange
from veyra.models.entries import Asked, Entries, Said
from veyra.types import Receipt, ToolCall

_PROVIDER = "tool"


class Executed(NamedTuple):
    """How a function ended: `text` is what the model is to be told, `latency_ms` milliseconds without the log's own."""

    text: str
    error: Exception | None
    latency_ms: float
    receipt: Receipt | None


async def execute(
    call: ToolCall, function: Callable[[], Awaitable[str]], log: AuditLog | None, *, parent: Receipt | None
) -> Executed:
    """Call a function that the model asked for, its intent durable before, and return how it ended, its outcome durable.

    What the function raises is returned; that it is cancelled is recorded, and goes on.

    Args:
        call: what the model asked for.
        function: calls it and returns its result as text.
        log: where intent and outcome go; None records nothing (`audit="off"`).
        parent: where the answer stands in the log in which the model asked for it.

    Raises:
        AuditUnavailableError: the intent could not be recorded; the function was not called.
        AuditWriteError: the outcome could not be recorded.
    """
    entries = Entries(log, backend=f"tool:{call.name}", call=new_id(), model=None)
    await entries.open(Exchange(provider=_PROVIDER), lambda: _asked(call, parent))
    error: Exception | None = None
    try:
        text = await function()
    except Exception as raised:  # noqa: BLE001  (whatever a user's function raises is an outcome, and goes to the caller)
        error, text = raised, excerpt(f"{type(raised).__name__}: {raised}")
    except BaseException as raised:
        entries.stop()
        await entries.close("cancelled", ({"error.type": type(raised).__name__}, []))
        raise
    latency = entries.stop()
    receipt = await entries.close("ok" if error is None else "error", _said(text, error))
    return Executed(text, error, latency, receipt)


def _asked(call: ToolCall, parent: Receipt | None) -> Asked:
    attributes: dict[str, object] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.call.id": call.id[:MAX_VALUE],
        "gen_ai.tool.type": "function",
    }
    if parent is not None:
        attributes["veyra.parent"] = parent.id
    arguments = call.raw or json.dumps(call.arguments)
    return attributes, [BodyPart("tool.arguments", _bytes(arguments), "application/json")]


def _said(text: str, error: Exception | None) -> Said:
    attributes = {} if error is None else {"error.type": type(error).__name__}
    return attributes, [BodyPart("tool.result", _bytes(text), "text/plain")]


def _bytes(text: str) -> bytes:
    """Encode as UTF-8; lone surrogates, which models do produce, are written with escapes."""
    return text.encode("utf-8", "backslashreplace")
