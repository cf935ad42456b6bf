"""Estimates of tokens: there is always one, whatever a prompt is made of."""

from __future__ import annotations

from typing import Any

import pytest

from veyra.models.estimate import estimate
from veyra.types import Message, Request, Tool, ToolCall

_CIRCLE: dict[str, Any] = {}
_CIRCLE["again"] = _CIRCLE
_LONE = {"city": "\ud800"}


def _asked(*, arguments: dict[str, Any] | None = None, **fields: Any) -> Request:
    call = ToolCall("c", "f", arguments)
    messages = (Message("user", "x"), Message("assistant", (call,)))
    return Request(prompt=messages, messages=messages, **fields)


@pytest.mark.parametrize(
    "arguments",
    [_LONE, {"\ud800": 1}, {"n": 2**70}, {"n": 10**5000}, {"x": object()}, {"x": {(1, 2): 3}}, _CIRCLE],
    ids=["surrogate", "surrogate key", "70 bits", "5000 digits", "object", "tuple key", "circle"],
)
def test_arguments_of_any_kind_can_be_estimated(arguments: dict[str, Any]) -> None:
    """A tool call that a caller built is estimated, whether it has a JSON form or not."""
    assert estimate(_asked(arguments=arguments)).tokens >= estimate(_asked(arguments={})).tokens - 1


def test_text_with_lone_surrogates_counts() -> None:
    """Text that is not valid Unicode counts as its escapes, in a tool's description and in a call's arguments."""
    bare = estimate(_asked(arguments={"city": ""}, tools=(Tool(name="f", description=""),))).tokens
    lone = "\ud800" * 40
    assert estimate(_asked(arguments={"city": lone}, tools=(Tool(name="f", description=""),))).tokens >= bare + 40
    assert estimate(_asked(arguments={"city": ""}, tools=(Tool(name="f", description=lone),))).tokens >= bare + 40
