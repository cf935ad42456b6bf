"""Characters that come in halves: joined where they meet, replaced where they do not, and nothing else touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from answers import Answer, answer, fail, run
from veyra.errors import IncompleteStreamError
from veyra.transport.base import Head
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.calls import parse
from veyra.wire.gemini import Gemini
from veyra.wire.halves import Halves, mended
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses
from veyra.wire.reading import read

FACE = "\N{GRINNING FACE}"
HIGH, LOW = r"\ud83d", r"\ude00"


def quoted(text: str) -> str:
    r"""JSON of a text in which halves are written as they are here: `\ud83d`."""
    return '"' + text.replace('"', r"\"") + '"'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\ude00"', rb'"\ufffd"'),
        (rb'"\uD83D\uDE00"', rb'"\uD83D\uDE00"'),
        (rb'"\ud83d\ud83d\ude00\ude00"', rb'"\ufffd\ud83d\ude00\ufffd"'),
        (rb'"a\ud83d b"', rb'"a\ufffd b"'),
        (rb'{"\ud83d": 1,  "x":"\u00e9\n"}', rb'{"\ufffd": 1,  "x":"\u00e9\n"}'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\"\ude00"', rb'"\"\ufffd"'),
        (rb'"\ud83d\n\ude00"', rb'"\ufffd\n\ufffd"'),
        (rb'"\ud83"', rb'"\ud83"'),
        (b'"\xff\\ud83d', b'"\xff\\ufffd'),
        (b"\\", b"\\"),
    ],
)
def test_a_lone_half_is_replaced(written: bytes, expected: bytes) -> None:
    """A lone half becomes U+FFFD, whatever stands before it; pairs and everything else stay as they are."""
    assert mended(written) == expected


@given(st.text(alphabet=["a", '"', "\\", "\n", "\u00e9", "\ud83d", "\ude00", "\udfff", FACE], max_size=12))
def test_mended_json_says_the_same(text: str) -> None:
    """Mended JSON is read as what it says, pairs joined, each lone half replaced."""
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert read(json.dumps([text]).encode()) == [expected]
    assert read(json.dumps([text], ensure_ascii=False).encode("utf-8", "surrogatepass")) in ([expected], None)


def test_arguments_with_a_half_are_read() -> None:
    """The arguments of a call are read with U+FFFD for a lone half; text that is no JSON stays none."""
    assert parse(r'{"x": "\ud83d"}') == {"x": "\N{REPLACEMENT CHARACTER}"}
    assert parse('{"x": "\ud83d"}') is None


def test_halves_meet_in_neighbours_only() -> None:
    """A message waits for the next one only if it ends a string with half a character, and no longer."""
    halves = Halves()
    assert halves.take("a", rb'{"t": "x"}') == [("a", rb'{"t": "x"}')]
    assert halves.take("a", rb'{"t": "x\ud83d", "u": "\ud83d"}') == []
    assert halves.take("b", rb'{"t": "\ude00\ud83d", "u": "\ude00"}') == [("a", rb'{"t": "x", "u": ""}')]
    assert halves.take("c", b"{}") == [("b", rb'{"t": "\ud83d\ude00\ufffd", "u": "\ud83d\ude00"}'), ("c", b"{}")]
    assert halves.take("d", rb'{"t": "\ud83d", "u": "\ud83d"}') == []
    assert halves.take("e", rb'{"t": "\ude00"}') == [
        ("d", rb'{"t": "\ufffd", "u": "\ufffd"}'),
        ("e", rb'{"t": "\ufffd"}'),
    ]
    assert halves.take("f", rb'"\ud83d"') == []
    assert halves.close() == [("f", rb'"\ufffd"')]
    assert halves.close() == []


# ---------------------------------------------------------------------------------------------- in every dialect

Streams = tuple[Dialect, Callable[[list[str]], str], str]


def _openai(texts: list[str]) -> str:
    deltas = [f'data: {{"choices":[{{"index":0,"delta":{{"content":{quoted(text)}}}}}]}}\n\n' for text in texts]
    return "".join(deltas)


def _anthropic(texts: list[str]) -> str:
    start = 'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    deltas = [
        f'data: {{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{quoted(text)}}}}}\n\n'
        for text in texts
    ]
    return start + "".join(deltas)


def _ollama(texts: list[str]) -> str:
    return "".join(f'{{"message":{{"content":{quoted(text)}}},"done":false}}\n' for text in texts)


def _responses(texts: list[str]) -> str:
    deltas = [
        f'data: {{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":{quoted(text)}}}\n\n'
        for text in texts
    ]
    return "".join(deltas)


def _gemini(texts: list[str]) -> str:
    deltas = [
        f'data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":{quoted(text)}}}]}}}}]}}\n\n'
        for text in texts
    ]
    return "".join(deltas)


DIALECTS: dict[str, Streams] = {
    "openai_chat": (
        OpenAIChat(),
        _openai,
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    ),
    "anthropic": (
        Anthropic(),
        _anthropic,
        'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
    ),
    "ollama": (Ollama(), _ollama, '{"done":true,"done_reason":"stop"}\n'),
    "openai_responses": (
        OpenAIResponses(),
        _responses,
        'data: {"type":"response.completed","response":{"status":"completed","output":[]}}\n\n',
    ),
    "gemini": (Gemini(), _gemini, 'data: {"candidates":[{"finishReason":"STOP"}]}\n\n'),
}

PIECES = [
    ([HIGH, LOW], FACE),
    (["a" + HIGH, LOW + "b"], "a" + FACE + "b"),
    ([HIGH, LOW + HIGH, LOW], FACE + FACE),
    (["a" + HIGH, "b"], "a\N{REPLACEMENT CHARACTER}b"),
    (["a", LOW + "b"], "a\N{REPLACEMENT CHARACTER}b"),
    (["a" + HIGH], "a\N{REPLACEMENT CHARACTER}"),
    ([HIGH + LOW, "x"], FACE + "x"),
]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(("texts", "expected"), PIECES)
def test_halves_in_deltas(name: str, texts: list[str], expected: str) -> None:
    """An emoji torn over two deltas is one character of the text, a lone half is U+FFFD, for any split of the bytes."""
    dialect, write, end = DIALECTS[name]
    body = (write(texts) + end).encode()
    whole = answer(dialect, body, stream=True)
    assert whole.text == expected
    for size in (1, 7, 50):
        reader = dialect.decoder(Head(200, {}), Flags(provider="test"), stream=True)
        assert run(reader, corpus.pieces(body, range(0, len(body), size))) == whole


@pytest.mark.parametrize("name", DIALECTS)
def test_a_cut_after_half_a_character(name: str) -> None:
    """A stream cut after half a character is incomplete, with the half replaced in what came."""
    dialect, write, _ = DIALECTS[name]
    reader = dialect.decoder(Head(200, {}), Flags(provider="test"), stream=True)
    events, error = fail(reader, [write(["ab" + HIGH]).encode()])
    assert type(error) is IncompleteStreamError
    assert error.partial == Answer(tuple(events)).text == "ab\N{REPLACEMENT CHARACTER}"


WHOLE: dict[str, Any] = {
    "openai_chat": {"choices": [{"message": {"content": "x\ud83d"}, "finish_reason": "stop"}]},
    "anthropic": {"content": [{"type": "text", "text": "x\ud83d"}], "stop_reason": "end_turn"},
    "ollama": {"message": {"content": "x\ud83d"}, "done": True, "done_reason": "stop"},
    "openai_responses": {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "x\ud83d"}]}],
    },
    "gemini": {"candidates": [{"content": {"parts": [{"text": "x\ud83d"}]}, "finishReason": "STOP"}]},
}


@pytest.mark.parametrize("name", DIALECTS)
def test_half_a_character_in_a_whole_answer(name: str) -> None:
    """A lone half in a whole answer, or in an error's message, is replaced and spoils nothing."""
    dialect = DIALECTS[name][0]
    assert answer(dialect, json.dumps(WHOLE[name]), stream=False).text == "x\N{REPLACEMENT CHARACTER}"
    error = dialect.failure(
        Head(400, {}), rb'{"error": {"message": "told \ud83d", "type": "x"}}', Flags(provider="test")
    )
    assert "told" in error.message
