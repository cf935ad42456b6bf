from __future__ import annotations

from typing import Any

import pytest

from veyra.errors import ContextLengthError, InvalidRequestError
from veyra.models.request import build_request, given_options
from veyra.types import Message, Text, Timeouts, Tool


def test_a_string_becomes_one_user_message() -> None:
    """A plain prompt is one message of the user."""
    assert build_request("Hello", {}, stream=False).messages == (Message("user", "Hello"),)


def test_a_conversation_is_kept_in_order() -> None:
    """A sequence of messages is taken as it is."""
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", [Text("c")])]
    assert build_request(turns, {}, stream=True).messages == tuple(turns)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ([], "empty"),
        ([Message("system", "only this")], "empty"),
        ([Message("user", "")], "empty"),
        (None, "NoneType"),
        (7, "int"),
        (b"bytes", "bytes"),
        ({"role": "user"}, "dict"),
        (["text"], "item 0 is str"),
        ("a\ud800b", "lone surrogate"),
    ],
)
def test_a_wrong_prompt_is_named(prompt: Any, words: str) -> None:
    """A prompt that cannot be sent is refused in words that say why."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        build_request(prompt, {}, stream=False)
    assert caught.value.status is None


def test_a_huge_prompt_is_refused_with_both_sizes_and_the_way_out() -> None:
    """A prompt above the limit says how large it is, what is allowed and what to do."""
    with pytest.raises(ContextLengthError, match=r"10,000,000 bytes .* 8,388,608 .*max_prompt_bytes"):
        build_request("x" * 10_000_000, {}, stream=False)
    assert build_request("x" * 10_000_000, {}, stream=False, max_prompt_bytes=10_000_000)


def test_size_is_counted_in_utf8_bytes_over_system_and_parts() -> None:
    """The limit holds for the sum of the system text and every text part, as UTF-8."""
    parts = [Message("user", [Text("é" * 5)])]
    assert build_request(parts, {"system": "é" * 5}, stream=False, max_prompt_bytes=20)
    with pytest.raises(ContextLengthError):
        build_request(parts, {"system": "é" * 5}, stream=False, max_prompt_bytes=19)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_tokens", "10"),
        ("temperature", float("nan")),
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 1.1),
        ("stop", ""),
        ("stop", [1]),
        ("seed", 1.0),
        ("model", ""),
        ("model", 5),
        ("system", 5),
        ("tools", [{"name": "x"}]),
        ("tool_choice", 3),
        ("reasoning", "huge"),
        ("reasoning", -5),
        ("timeout", 0),
        ("timeout", float("inf")),
        ("timeout", "fast"),
        ("metadata", {"a": 1}),
        ("extra", [1]),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any) -> None:
    """An option of the wrong type or out of range is refused by name."""
    with pytest.raises(InvalidRequestError, match=f"^{option} is "):
        build_request("hi", {option: value}, stream=False)


def test_a_misspelt_option_names_the_near_one() -> None:
    """An unknown option is refused, and the message offers the spelling that was meant."""
    with pytest.raises(InvalidRequestError, match=r"unknown option 'max_token'; did you mean 'max_tokens'"):
        build_request("hi", {"max_token": 5}, stream=False)


def test_none_counts_as_not_given_and_defaults_fill_in() -> None:
    """None leaves an option to the backend's default, and a given value goes before it."""
    request = build_request("hi", {"model": None, "seed": 3}, stream=False, defaults={"model": "m", "seed": 1})
    assert (request.model, request.seed) == ("m", 3)


def test_given_options_are_those_that_were_set() -> None:
    """A backend of two methods is handed what the caller set, and nothing else."""
    tool = Tool(name="t")
    request = build_request(
        "hi",
        {"system": "s", "stop": "x", "temperature": 0, "timeout": 3, "tools": [tool], "extra": {"k": 1}},
        stream=False,
    )
    assert given_options(request) == {
        "system": "s",
        "stop": ("x",),
        "temperature": 0,
        "tools": (tool,),
        "extra": {"k": 1},
    }


def test_a_number_as_timeout_is_the_total() -> None:
    """`timeout=3` limits the whole attempt and leaves the other clocks as they are."""
    request = build_request("hi", {"timeout": 3}, stream=False)
    assert request.timeout == Timeouts(total=3.0)
