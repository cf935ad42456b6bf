from __future__ import annotations

from enum import IntEnum, StrEnum
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


class Words(str):
    """A str of another class, as template engines return."""

    __slots__ = ()

    def __str__(self) -> str:
        return "not what is in it"


class Name(StrEnum):
    """Names as an enumeration."""

    MODEL = "m"


class Count(IntEnum):
    """Numbers as an enumeration."""

    THREE = 3


class Half(float):
    """A float of another class, as numpy's."""

    __slots__ = ()


class Index:
    """An integer that is no int, as numpy's."""

    def __index__(self) -> int:
        return 3


class NoIndex:
    """What has the method of an integer and is none, as numpy's bool."""

    def __index__(self) -> int:
        raise TypeError


@pytest.mark.parametrize(
    ("option", "given", "kept"),
    [
        ("model", Words("m"), "m"),
        ("model", Name.MODEL, "m"),
        ("system", Words("s"), "s"),
        ("stop", Words("s"), ("s",)),
        ("stop", [Words("s")], ("s",)),
        ("metadata", {Words("a"): Words("b")}, {"a": "b"}),
        ("max_tokens", Count.THREE, 3),
        ("max_tokens", Index(), 3),
        ("seed", Index(), 3),
        ("temperature", Half(0.5), 0.5),
        ("temperature", Index(), 3),
        ("top_p", Half(0.5), 0.5),
        ("reasoning", Index(), 3),
        ("reasoning", Words("low"), "low"),
    ],
)
def test_a_value_of_a_subclass_is_kept_as_a_plain_one(option: str, given: Any, kept: Any) -> None:
    """What is a str, an int or a float by another class goes on as the plain value, which every format can write."""
    found = getattr(build_request("hi", {option: given}, stream=False), option)
    assert (found, type(found)) == (kept, type(kept))
    inside = found.items() if isinstance(found, dict) else found if isinstance(found, tuple) else ()
    assert all(type(text) is str for item in inside for text in (item if isinstance(item, tuple) else (item,)))


def test_a_prompt_of_a_subclass_is_a_plain_text() -> None:
    """A prompt from a template engine is sent as the text that it is."""
    request = build_request(Words("hi"), {}, stream=False)
    turns = build_request([Message("user", Words("hi"))], {}, stream=False)
    for message in (*request.messages, *turns.messages):
        assert (message.content, type(message.content)) == ("hi", str)


@pytest.mark.parametrize("option", ["temperature", "timeout", "max_tokens", "seed", "reasoning", "repair"])
@pytest.mark.parametrize("value", [10**400, NoIndex(), True])
def test_a_number_out_of_all_bounds_is_refused_in_our_words(option: str, value: Any) -> None:
    """A number that no float can hold, and what only looks like one, is an error of ours or is kept as the int it is."""
    try:
        request = build_request("hi", {option: value}, stream=False)
    except InvalidRequestError as error:
        assert option in str(error)  # noqa: PT017  (either way is right)
    else:
        assert getattr(request, option) == 10**400
