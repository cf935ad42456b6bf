"""Ollama's completion of a prompt, server half."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from pairs import STAMP
from veyra.errors import InvalidRequestError, ServerError
from veyra.types import Event, Finish, Media, Message, ReasoningDelta, Request, Text, TextDelta, Usage
from veyra.wire.ollama_generate import OllamaGenerateServer

SERVER = OllamaGenerateServer()
PICTURE = b"\x89PNG"
EVENTS: list[Event] = [
    ReasoningDelta("Hm."),
    TextDelta("It is "),
    TextDelta("\N{BLACK SUN WITH RAYS}"),
    Finish(reason="stop", usage=Usage(input_total=3, output_total=4)),
]


def asked(**fields: Any) -> Request:
    """Return what a request asks for."""
    return SERVER.request(json.dumps({"model": "m", **fields}).encode())


def written(request: Request, events: list[Event]) -> list[dict[str, Any]]:
    """Return the objects that tell an answer."""
    encoder = SERVER.encoder(request, STAMP)
    body = b"".join(encoder.write(event, elapsed=1.0) for event in events)
    return [json.loads(line) for line in body.splitlines()]


def test_a_prompt_is_a_conversation_of_one_turn() -> None:
    """Prompt, system text, images and options are said in the words of a chat; what only Ollama knows is kept."""
    request = asked(
        prompt="What is it?",
        system="Be brief.",
        images=[b64encode(PICTURE).decode()],
        options={"num_predict": 5, "temperature": 0.5},
        format={"type": "object"},
        suffix="end",
        stream=False,
    )
    assert request.messages == (Message("user", (Text("What is it?"), Media(kind="image", data=PICTURE))),)
    assert (request.system, request.max_tokens, request.temperature) == ("Be brief.", 5, 0.5)
    assert (request.output, request.extra, request.stream) == ({"type": "object"}, {"suffix": "end"}, False)
    assert asked(prompt="Hi").messages == (Message("user", "Hi"),)
    assert asked(prompt="Hi").stream


@pytest.mark.parametrize("fields", [{}, {"prompt": ""}, {"prompt": None, "system": "Be brief."}])
def test_without_a_prompt_nothing_is_asked(fields: dict[str, Any]) -> None:
    """A request that only loads the model has no turn and no system text."""
    request = asked(**fields)
    assert (request.messages, request.system) == ((), None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": 3}, "prompt: Expected `str`, got `int`"),
        ({"system": []}, "system: Expected `str`, got `array`"),
        ({"prompt": "x", "images": "y"}, "images: Expected `array`, got `str`"),
        ({"model": None}, "model: this field is required"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], words: str) -> None:
    """What is wrong is told in the format's own words, not those of a chat."""
    with pytest.raises(InvalidRequestError) as caught:
        asked(**fields)
    assert caught.value.message.startswith(words)


def test_an_answer_is_told_as_a_response() -> None:
    """The text stands in `response`, the thinking beside it, and the last object has the counts, whole and streamed."""
    (whole,) = written(asked(prompt="Hi", stream=False), EVENTS)
    assert (whole["response"], whole["thinking"], whole["done"]) == ("It is \N{BLACK SUN WITH RAYS}", "Hm.", True)
    *pieces, last = written(asked(prompt="Hi"), EVENTS)
    assert "".join(piece["response"] for piece in pieces) == whole["response"]
    assert [piece.get("thinking") for piece in pieces] == ["Hm.", None, None]
    for end in (whole, last):
        assert "message" not in end
        assert (end["model"], end["done_reason"], end["prompt_eval_count"], end["eval_count"]) == (
            STAMP.model,
            "stop",
            3,
            4,
        )
    assert (last["response"], last["done"]) == ("", True)


def test_an_error_is_told_as_in_a_chat() -> None:
    """An error has a message and nothing else, in the place of an answer and inside a stream."""
    assert json.loads(SERVER.failure(ServerError("no luck"), "req_1").body) == {"error": "no luck"}
    assert json.loads(SERVER.encoder(asked(prompt="Hi"), STAMP).failure(ServerError("no luck"))) == {"error": "no luck"}
