"""Tool calls put together from pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from veyra.errors import InvalidRequestError
from veyra.types import ToolCall, ToolCallDelta
from veyra.wire.calls import Calls, as_json, as_object, parse


def gather(*pieces: tuple[object, str, str, str]) -> tuple[list[ToolCallDelta], tuple[ToolCall, ...]]:
    calls = Calls()
    deltas = [calls.add(index=index, id=id_, name=name, arguments=text) for index, id_, name, text in pieces]
    return deltas, calls.finished()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, "a", "f", ""), (0, "", "", '{"x"'), (0, "", "", ":1}")], [("a", "f", '{"x":1}')]),
        ([(0, "a", "f", "{}"), (1, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
        (
            [(0, "a", "f", ""), (1, "b", "g", ""), (0, "", "", "1"), (1, "", "", "2")],
            [("a", "f", "1"), ("b", "g", "2")],
        ),
        ([(0, "a", "f", "{}"), (0, "b", "f", "{}")], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([(0, "a", "f", "{"), (0, "a", "f", "}")], [("a", "f", "{}")]),
        ([(None, "a", "f", "{"), (None, "a", "", "}")], [("a", "f", "{}")]),
        ([(None, "a", "f", "{"), (None, "", "", "}")], [("a", "f", "{}")]),
        ([(None, "a", "f", "{}"), (None, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
        ([(None, "", "f", "{}"), (None, "", "f", "{}")], [("", "f", "{}"), ("", "f", "{}")]),
        ([(0, "a", "f", "{}"), (0, "b", "f", "{"), (0, "", "", "}")], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([(0, "", "", "{"), (0, "a", "f", "}")], [("a", "f", "{}")]),
    ],
    ids=[
        "one in pieces",
        "two in a row",
        "two interleaved",
        "two on one index",
        "id and name repeated",
        "no index, id repeated",
        "no index, no id",
        "two without index",
        "two without index or id",
        "a piece after two on one index",
        "name comes late",
    ],
)
def test_pieces_find_their_call(
    pieces: list[tuple[object, str, str, str]], expected: list[tuple[str, str, str]]
) -> None:
    """A piece goes to the call of its index, else of its id, else to the last; id and name are told once."""
    deltas, calls = gather(*pieces)
    assert [(call.id, call.name, call.raw) for call in calls] == expected
    for position, (id_, name, raw) in enumerate(expected):
        mine = [delta for delta in deltas if delta.index == position]
        assert [delta.id for delta in mine if delta.id] == [id_] * bool(id_)
        assert [delta.name for delta in mine if delta.name] == [name]
        assert "".join(delta.arguments for delta in mine) == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ("[1]", None),
        ("null", None),
        ('{"a": ', None),
        ('{"a": "\ud800"}', None),
        ("[" * 10_000, None),
    ],
)
def test_arguments(raw: str, expected: dict[str, Any] | None) -> None:
    """No text means no arguments; what is not a JSON object is None, and the text is kept."""
    assert parse(raw) == expected
    _, (call,) = gather((0, "a", "f", raw))
    assert (call.arguments, call.raw) == (expected, raw)


@pytest.mark.parametrize(
    ("call", "text", "value"),
    [
        (ToolCall("a", "f", {"x": 1}, '{ "x": 1 }'), '{ "x": 1 }', {"x": 1}),
        (ToolCall("a", "f", {"x": 1}), '{"x":1}', {"x": 1}),
        (ToolCall("a", "f", {}), "{}", {}),
        (ToolCall("a", "f", None, '{"x'), '{"x', {"INVALID_JSON": '{"x'}),
        (ToolCall("a", "f", None, "[1]"), "[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_arguments_sent_back(call: ToolCall, text: str, value: dict[str, Any]) -> None:
    """Arguments go back as the model wrote them; where only objects are taken, other text goes under a key."""
    assert as_json(call) == text
    assert msgspec.json.decode(msgspec.json.encode(as_object(call))) == value


@pytest.mark.parametrize("write", [as_json, as_object])
@pytest.mark.parametrize(
    "value", ["\ud800", 10**5000, object(), {(1, 2): 3}], ids=["surrogate", "digits", "object", "key"]
)
def test_arguments_that_cannot_be_sent_are_a_clear_error(write: Callable[[ToolCall], object], value: object) -> None:
    """Arguments that a caller built and that have no JSON form are the caller's error, which names the call."""
    with pytest.raises(InvalidRequestError, match="the tool call 'weather' have no JSON form"):
        write(ToolCall("a", "weather", {"x": value}))


def test_text_that_is_no_unicode_is_a_clear_error_where_objects_are_taken() -> None:
    """What a model is said to have written, and is not valid Unicode, is the caller's error as well."""
    with pytest.raises(InvalidRequestError, match="the tool call 'weather' have no JSON form"):
        as_object(ToolCall("a", "weather", None, '{"x": "\ud800"}'))
