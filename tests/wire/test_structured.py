"""Structured output and prompt caching: what is sent for them in each dialect, and answers that come by a tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from answers import Answer, fail, run
from veyra.errors import IncompleteStreamError, InvalidRequestError, ProviderError, UnsupportedParameterError
from veyra.transport.base import Head
from veyra.types import Finish, Message, ModelWarning, Request, TextDelta, Tool, ToolCall, ToolCallDelta
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses
from veyra.wire.structured import ToolAnswer, as_tool, by_tool, described, form

FLAGS = Flags(provider="test")
TOOL_MODE = Flags(provider="test", structured="tool")
DIALECTS = (OpenAIChat(), OpenAIResponses(), Anthropic(), Ollama(), Gemini())


@dataclass
class City:
    name: str
    people: Annotated[int, msgspec.Meta(ge=0, description="who live there")]
    river: str = ""


@dataclass
class Tree:
    leaf: str
    branches: list[Tree]


STRICT = {
    "title": "City",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "people": {"type": "integer", "minimum": 0, "description": "who live there"},
        "river": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name", "people", "river"],
    "additionalProperties": False,
}
OPEN = {"type": "object", "additionalProperties": {"type": "integer"}}


def ask(**options: Any) -> Request:
    said = (Message("user", "Hi"),)
    return Request(prompt=said, messages=said, model="m", **options)


def sent(dialect: Dialect, flags: Flags = FLAGS, **options: Any) -> Any:
    return json.loads(dialect.encode(ask(**options), flags).body)


# ------------------------------------------------------------------------------------------------- native schemas


def test_the_form_of_a_schema() -> None:
    """A schema is strict where it can be; one that refers to itself or is open stays as it is, whatever its name."""
    strict = form(City)
    assert (strict.name, strict.schema, strict.strict) == ("City", STRICT, True)
    assert (form(Tree).name, form(Tree).strict) == ("Tree", False)
    assert form(Tree).schema["properties"]["branches"]["items"] == {"$ref": "#/$defs/Tree"}
    assert (form(OPEN).name, form(OPEN).schema, form(OPEN).strict) == ("answer", OPEN, False)
    assert form({"title": "no name: spaces", "type": "object", "properties": {}}).name == "answer"
    assert form(list[int]).schema == {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize("output", [City, Tree, OPEN], ids=["strict", "recursive", "open"])
def test_openai_has_a_strict_and_a_plain_form(output: Any) -> None:
    """Both OpenAI dialects send name, schema and whether it is strict, each at its own place."""
    told = form(output)
    schema = {"name": told.name, "schema": told.schema, "strict": told.strict}
    assert sent(OpenAIChat(), output=output)["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert sent(OpenAIResponses(), output=output)["text"] == {"format": {"type": "json_schema", **schema}}


def test_options_beside_the_schema_are_kept() -> None:
    """What `extra` puts beside the schema goes with it, and wins where it says the same."""
    body = sent(OpenAIResponses(), output=OPEN, extra={"text": {"verbosity": "low"}})
    assert (body["text"]["verbosity"], body["text"]["format"]["schema"]) == ("low", OPEN)
    assert sent(OpenAIResponses(), extra={"text": {"verbosity": "low"}})["text"] == {"verbosity": "low"}
    body = sent(Anthropic(), output=OPEN, reasoning="high", extra={"output_config": {"effort": "low"}})
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": OPEN}}
    body = sent(Gemini(), output=OPEN, extra={"generationConfig": {"candidateCount": 1}})
    assert body["generationConfig"] == {
        "candidateCount": 1,
        "responseMimeType": "application/json",
        "responseJsonSchema": OPEN,
    }
    for dialect, name in ((OpenAIResponses(), "text"), (Anthropic(), "output_config"), (Ollama(), "options")):
        with pytest.raises(InvalidRequestError, match=name):
            dialect.encode(ask(output=OPEN, extra={name: 1}), FLAGS)


def test_anthropic_is_told_in_words_what_it_cannot_enforce() -> None:
    """The strict form is sent, with the bounds that the API refuses moved into the descriptions; open ones as they are."""
    schema = sent(Anthropic(), output=City)["output_config"]["format"]["schema"]
    assert schema["properties"]["people"] == {"type": "integer", "description": "who live there (minimum: 0)"}
    assert schema["required"] == ["name", "people", "river"]
    assert schema["additionalProperties"] is False
    assert sent(Anthropic(), output=OPEN)["output_config"]["format"] == {"type": "json_schema", "schema": OPEN}


def test_keywords_are_told_apart_from_properties() -> None:
    """Only keywords are moved, wherever a schema may stand; a property or a value of that name stays."""
    unspoken = frozenset({"minimum", "minItems", "maxItems"})
    schema = {
        "type": "object",
        "properties": {"minimum": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"minimum": 3}}},
        "anyOf": [{"const": {"minimum": 1}}, {"minItems": 2}, True],
        "$defs": {"minimum": {"minimum": 4, "description": "d"}},
    }
    assert described(schema, unspoken) == {
        "type": "object",
        "properties": {
            "minimum": {
                "type": "array",
                "minItems": 1,
                "items": {"description": "(minimum: 3)"},
                "description": "(maxItems: 2)",
            }
        },
        "anyOf": [{"const": {"minimum": 1}}, {"description": "(minItems: 2)"}, True],
        "$defs": {"minimum": {"description": "d (minimum: 4)"}},
    }


@pytest.mark.parametrize("output", [City, Tree, OPEN, list[int], int])
def test_ollama_and_gemini_take_any_schema(output: Any) -> None:
    """They are sent the schema of the type itself: optional properties stay optional."""
    schema = json.loads(json.dumps(dict(form(output).schema) if output is not City else _plain()))
    assert sent(Ollama(), output=output)["format"] == schema
    assert sent(Gemini(), output=output)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }


def _plain() -> dict[str, Any]:
    properties: dict[str, Any] = dict(STRICT["properties"])  # type: ignore[call-overload]  # a literal
    return {
        "title": "City",
        "type": "object",
        "properties": properties | {"river": {"type": "string", "default": ""}},
        "required": ["name", "people"],
    }


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_has_no_schema_is_refused(dialect: Dialect) -> None:
    """A type without a schema is refused before anything is sent."""
    with pytest.raises(InvalidRequestError, match="cannot be described"):
        dialect.encode(ask(output=object()), FLAGS)


# ------------------------------------------------------------------------------------------------------ tool mode

MINE = Tool(name="weather")


@pytest.mark.parametrize(
    ("options", "tools", "choice"),
    [
        ({}, ["answer"], "answer"),
        ({"tools": (MINE,)}, ["weather", "answer"], "required"),
        ({"tools": (MINE,), "tool_choice": "auto"}, ["weather", "answer"], "required"),
        ({"tools": (MINE,), "tool_choice": "required"}, ["weather", "answer"], "required"),
        ({"tools": (MINE,), "tool_choice": "weather"}, ["weather", "answer"], "weather"),
        ({"tools": (MINE,), "tool_choice": "none"}, ["weather", "answer"], "answer"),
    ],
)
def test_in_tool_mode_the_schema_is_a_tool(options: Mapping[str, Any], tools: list[str], choice: str) -> None:
    """The model must answer by the tool, or, where the caller gave tools, call one of them."""
    request = as_tool(ask(output=City, **options), TOOL_MODE)
    assert request.output is None
    assert [tool.name for tool in request.tools] == tools
    assert request.tools[-1].parameters == _plain()
    assert request.tool_choice == choice


def test_tool_mode_is_for_output_only() -> None:
    """Without an output, or without tool mode, a request stays as it is."""
    for request, flags in ((ask(tools=(MINE,)), TOOL_MODE), (ask(output=City), FLAGS)):
        assert not by_tool(request, flags)
        assert as_tool(request, flags) is request
    assert by_tool(ask(output=City), TOOL_MODE)


def test_the_tool_in_every_dialect() -> None:
    """Each dialect with forced tools sends the one tool, forced, and no schema of its own mode."""
    body = sent(OpenAIChat(), TOOL_MODE, output=City)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "answer"}}
    assert "response_format" not in body
    body = sent(OpenAIResponses(), TOOL_MODE, output=City)
    assert (body["tool_choice"], "text" in body) == ({"type": "function", "name": "answer"}, False)
    body = sent(Anthropic(), TOOL_MODE, output=City)
    assert (body["tool_choice"], "output_config" in body) == ({"type": "tool", "name": "answer"}, False)
    body = sent(Gemini(), TOOL_MODE, output=City)
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["answer"]}
    assert "generationConfig" not in body


@pytest.mark.parametrize(
    ("dialect", "options", "kind", "names"),
    [
        (OpenAIChat(), {"output": list[int]}, InvalidRequestError, "class with a field"),
        (Anthropic(), {"output": City, "tools": (Tool(name="answer"),)}, InvalidRequestError, "another name"),
        (Ollama(), {"output": City}, UnsupportedParameterError, "by a tool"),
    ],
)
def test_what_tool_mode_cannot_do(
    dialect: Dialect, options: dict[str, Any], kind: type[ProviderError], names: str
) -> None:
    """An answer that is no object, a tool of the same name, and an API without forced tools are refused."""
    with pytest.raises(kind, match=names):
        dialect.encode(ask(**options), TOOL_MODE)


def _call(index: int, name: str, *pieces: str) -> list[dict[str, Any]]:
    first = {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": ""}}
    return [first, *({"index": index, "function": {"arguments": piece}} for piece in pieces)]


def _stream(*deltas: dict[str, Any], finish: str | None = "tool_calls") -> bytes:
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}] if finish else []
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in chunks + end) + b"data: [DONE]\n\n"


def _answer(body: bytes) -> Answer:
    inner = OpenAIChat().decoder(Head(200, {}), FLAGS, stream=True)
    return run(ToolAnswer(inner), [body[:100], body[100:]])


def _calls(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"tool_calls": [piece]} for piece in pieces]


def test_the_arguments_are_the_answer() -> None:
    """The tool's arguments come as text, piece by piece; no call is left, and the end is that of an answer."""
    told = _answer(_stream(*_calls(*_call(0, "answer", '{"name": "B', 'ern"}'))))
    assert told.events[:-1] == (TextDelta('{"name": "B'), TextDelta('ern"}'))
    assert (told.finish.reason, told.finish.raw_reason) == ("stop", "tool_calls")
    assert (told.finish.tool_calls, told.finish.parts) == ((), ())


def test_an_answer_without_arguments_is_an_empty_object() -> None:
    """A tool called without arguments answers with an empty object."""
    assert _answer(_stream(*_calls(*_call(0, "answer")))).text == "{}"


def test_what_stands_beside_the_answer() -> None:
    """Words beside the answer and further answers are warnings, the caller's own calls stay calls."""
    body = _stream(
        {"content": "Sure: "},
        *_calls(*_call(0, "weather", "{}"), *_call(1, "answer", "{", "}"), *_call(2, "answer", '{"x": 1}')),
    )
    told = _answer(body)
    assert told.text == "{}"
    assert [event.code for event in told.events if isinstance(event, ModelWarning)] == [
        "text_beside_answer",
        "other_answers",
    ]
    assert told.finish.tool_calls == (ToolCall("c0", "weather", {}, "{}"),)
    assert told.finish.reason == "tool_calls"
    assert {event.index for event in told.events if isinstance(event, ToolCallDelta)} == {0}


def test_an_answer_in_words_stays_one() -> None:
    """Where the model did not use the tool, its words are the answer, and other calls are as ever."""
    told = _answer(_stream({"content": "No"}, {"content": "."}, finish="stop"))
    assert told.events[:-1] == (TextDelta("No"), TextDelta("."))
    body = _stream(*_calls(*_call(0, "weather", "{}")))
    plain = run(OpenAIChat().decoder(Head(200, {}), FLAGS, stream=True), [body])
    assert _answer(body) == plain
    assert plain.finish.parts


def test_a_length_stays_a_length() -> None:
    """An answer that was cut by its limit says so, with what there is of it."""
    told = _answer(_stream(*_calls(*_call(0, "answer", '{"na')), finish="length"))
    assert (told.text, told.finish.reason) == ('{"na', "length")


@pytest.mark.parametrize(
    ("deltas", "text"),
    [([{"content": "No"}], "No"), ([{"content": "Sure"}, *_calls(*_call(0, "answer", '{"x'))], '{"x')],
)
def test_a_cut_answer_is_incomplete(deltas: list[dict[str, Any]], text: str) -> None:
    """A cut stream is incomplete, after what came of the answer, or else of the words."""
    inner = OpenAIChat().decoder(Head(200, {}), FLAGS, stream=True)
    events, error = fail(ToolAnswer(inner), [_stream(*deltas, finish=None)])
    assert type(error) is IncompleteStreamError
    assert Answer(tuple(events)).text == text


def test_a_name_that_comes_late() -> None:
    """Where a server names the tool after its first arguments, the whole of them is told all the same."""
    late = [{"index": 0, "id": "c0", "function": {"arguments": ""}}, *_call(0, "answer", "{}")]
    told = _answer(_stream(*_calls(*late)))
    assert told.text == "{}"
    assert isinstance(told.events[-1], Finish)


# ------------------------------------------------------------------------------------------------- prompt caching

CACHING = Flags(provider="test", prompt_cache_options=True)
KEY = {"prompt_cache_key": "k", "prompt_cache_options": {"mode": "explicit"}}


@pytest.mark.parametrize(
    ("dialect", "flags", "cache", "fields"),
    [
        (Anthropic(), FLAGS, True, {"cache_control": {"type": "ephemeral"}}),
        (Anthropic(), FLAGS, "1h", {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        (Anthropic(), FLAGS, {"type": "x", "ttl": "2h"}, {"cache_control": {"type": "x", "ttl": "2h"}}),
        (OpenAIChat(), CACHING, True, {"prompt_cache_options": {"mode": "implicit"}}),
        (OpenAIChat(), CACHING, "30m", {"prompt_cache_options": {"ttl": "30m"}}),
        (OpenAIChat(), FLAGS, KEY, KEY),
        (OpenAIResponses(), CACHING, "12h", {"prompt_cache_options": {"ttl": "12h"}}),
        (OpenAIResponses(), FLAGS, KEY, KEY),
    ],
)
def test_caching_is_asked_for(dialect: Dialect, flags: Flags, cache: Any, fields: dict[str, Any]) -> None:
    """True asks for the default, a word for that time, and a mapping is the API's own form."""
    assert sent(dialect, flags, cache=cache) == sent(dialect, flags) | fields


@pytest.mark.parametrize("dialect", [OpenAIChat(), OpenAIResponses(), Ollama(), Gemini()], ids=lambda one: one.name)
def test_caching_that_is_automatic_cannot_be_asked_for(dialect: Dialect) -> None:
    """Where prompts are cached anyway, asking for it is refused, and the error says so."""
    with pytest.raises(UnsupportedParameterError, match="automatic"):
        dialect.encode(ask(cache=True), FLAGS)


@pytest.mark.parametrize(
    ("dialect", "cache", "kind", "names"),
    [
        (Anthropic(), "2h", UnsupportedParameterError, "one of 5m, 1h"),
        (Anthropic(), False, InvalidRequestError, "not False"),
        (Anthropic(), "", InvalidRequestError, "not ''"),
        (OpenAIChat(), 5, InvalidRequestError, "not 5"),
        (OpenAIChat(), {1: 2}, InvalidRequestError, "mapping"),
        (OpenAIChat(), {"ttl": "30m"}, InvalidRequestError, "'ttl'"),
        (OpenAIResponses(), 1.0, InvalidRequestError, "not 1.0"),
    ],
)
def test_what_caching_is_not(dialect: Dialect, cache: Any, kind: type[ProviderError], names: str) -> None:
    """Anything else is refused before it is sent, with what would be taken."""
    with pytest.raises(kind, match=names) as caught:
        dialect.encode(ask(cache=cache), CACHING)
    assert type(caught.value) is kind
