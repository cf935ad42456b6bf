"""What an attempt is expected to take: nothing that a caller can build makes the forecast itself fail."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from veyra import get_backend
from veyra.client import forecast
from veyra.errors import InvalidRequestError
from veyra.models.request import build_request
from veyra.types import Message, Prompt, Tool, ToolCall

_TOOL = Tool(name="f", description="\ud800", parameters={"type": "object", "properties": {}})
_CALLED = [Message("user", "x"), Message("assistant", (ToolCall("c", "f", {"city": "\ud800"}),))]


@pytest.mark.parametrize(("prompt", "tools"), [("x", [_TOOL]), (_CALLED, [])], ids=["tool", "call"])
@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama", "gemini"])
def test_a_request_that_cannot_be_written_has_a_forecast(name: str, prompt: Prompt, tools: list[Tool]) -> None:
    """Text that is not valid Unicode, in a tool or in a call's arguments, counts for limits and costs nothing."""
    backend = get_backend(name, model="gpt-4o", api_key="k", on_unsupported="warn", audit="off").backend
    request = build_request(prompt, {"tools": tools, "model": "gpt-4o"}, stream=False)
    assert forecast.tokens(request) > 0
    assert forecast.dollars(request, backend, datetime(2026, 1, 1, tzinfo=UTC)) == Decimal(0)
    with pytest.raises(InvalidRequestError, match="no JSON form"):
        backend.prepare(request)
