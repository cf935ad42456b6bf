from __future__ import annotations

from typing import Any

import pytest

from veyra import MockBackend, get_backend
from veyra.errors import InvalidRequestError, OverloadedError
from veyra.types import Finish, Message, ModelResponse, TextDelta


async def test_without_a_script_it_says_that_no_model_was_asked() -> None:
    """The default answer is honest, useful in a demo, and the same every time."""
    prompt = "one two three four five six seven eight nine ten eleven twelve thirteen\nfourteen"
    first = await MockBackend().generate(prompt)
    again = await MockBackend().generate(prompt)
    assert first.content == again.content
    assert "no model was asked" in first.content
    assert "14 words in 2 lines" in first.content
    assert first.content.endswith("twelve ...")
    assert (first.prompt_tokens, first.finish_reason, first.model) == (14, "stop", "mock")


async def test_replies_in_turn() -> None:
    """A sequence is one answer for each call, and running out of it is told."""
    answer = ModelResponse("whole", "m", "b", 1.0, 1, 1, "id", finish_reason="length")
    mock = MockBackend(["first", answer, OverloadedError("busy")])
    assert (await mock.generate("a")).content == "first"
    assert (await mock.generate("b")).finish_reason == "length"
    with pytest.raises(OverloadedError):
        await mock.generate("c")
    with pytest.raises(InvalidRequestError, match="has 3 replies and was called 4 times"):
        await mock.generate("d")
    assert [call.prompt for call in mock.calls] == ["a", "b", "c", "d"]


async def test_a_function_sees_the_request() -> None:
    """A function of the request may answer by what was asked."""
    mock = MockBackend(lambda request: f"{request.system}/{request.messages[-1].text}/{request.max_tokens}")
    reply = await mock.generate([Message("user", "hi")], system="s", max_tokens=4)
    assert reply.content == "s/hi/4"


async def test_the_stream_comes_in_words_and_keeps_every_space() -> None:
    """Joined, the pieces are the answer, byte for byte."""
    text = "  two  words\n\tand more "
    async with MockBackend(text).stream("x") as reply:
        events = [event async for event in reply]
    assert isinstance(events[-1], Finish)
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(pieces) == text
    assert len(pieces) > 3


async def test_health_is_as_told() -> None:
    """The mock is healthy unless told otherwise."""
    assert await MockBackend().health_check()
    assert not await get_backend("mock", healthy=False, audit="off").health_check()


@pytest.mark.parametrize("replies", [5, object()])
def test_a_script_of_another_type_is_told(replies: Any) -> None:
    """A script that is none is refused when the mock is made."""
    with pytest.raises(InvalidRequestError, match="replies are"):
        MockBackend(replies)
