"""Requests, from the client half through the server half and back."""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corpus
from pairs import PAIRS
from veyra.errors import InvalidRequestError
from veyra.types import Media, MediaKind, Message, Opaque, Part, Reasoning, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire.calls import parse
from veyra.wire.gemini_spelling import spelt

DIALECTS = list(PAIRS)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
names = st.text("abcXYZ_09", min_size=1, max_size=8)
data = st.binary(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(names, json_values, max_size=2)
schemas = st.just(
    {
        "title": "Person",
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def counts(top: int = 4096) -> st.SearchStrategy[int]:
    return st.integers(0, top)


numbers = st.floats(0, 1) | st.integers(0, 1)


# ---------------------------------------------------------------------------------------------- messages
# Strategies are made once: to make and check them takes longer than to draw from them.


@functools.cache
@st.composite
def calls(draw: st.DrawFn, dialect: str) -> ToolCall:
    """A call whose arguments stand as the dialect carries them: as text of any kind, or as an object."""
    if dialect.startswith("openai") and draw(st.booleans()):
        raw = draw(words)
    else:
        raw = msgspec.json.encode(draw(objects)).decode()
    return ToolCall(draw(names), draw(names), parse(raw), raw)


@functools.cache
def images(dialect: str) -> st.SearchStrategy[Media]:
    if dialect == "ollama":
        return st.builds(Media, kind=st.just("image"), data=data)
    if dialect == "gemini":
        return files("image", "image/png")
    shown = st.builds(Media, kind=st.just("image"), media_type=st.just("image/png"), data=data)
    linked = st.builds(Media, kind=st.just("image"), url=st.just("https://example.invalid/a.png"))
    kept = st.builds(Media, kind=st.just("image"), file_id=names)
    return shown | linked if dialect == "openai_chat" else shown | linked | kept


@functools.cache
def files(kind: MediaKind, media_type: str) -> st.SearchStrategy[Media]:
    """Media as Gemini takes them: always with their type."""
    form = {"kind": st.just(kind), "media_type": st.just(media_type)}
    linked = st.builds(Media, url=st.just("https://example.invalid/a"), **form)
    return st.builds(Media, data=data, **form) | linked | st.builds(Media, file_id=names, **form)


@functools.cache
def documents(dialect: str) -> st.SearchStrategy[Media]:
    if dialect == "gemini":
        return files("document", "application/pdf") | files("audio", "audio/wav")
    given_ = st.builds(Media, kind=st.just("document"), media_type=st.just("application/pdf"), data=data, name=names)
    kept = st.builds(Media, kind=st.just("document"), file_id=names)
    linked = st.builds(Media, kind=st.just("document"), url=st.just("https://example.invalid/a.pdf"))
    match dialect:
        case "openai_chat":
            kinds = st.sampled_from(["audio/wav", "audio/mpeg"])
            return given_ | kept | st.builds(Media, kind=st.just("audio"), media_type=kinds, data=data)
        case "ollama":
            return images(dialect)
        case _:
            return given_ | kept | linked


texts = st.lists(st.builds(Text, words), max_size=1)
thoughts = {
    "anthropic": st.lists(st.builds(Reasoning, words, words), max_size=1),
    "ollama": st.lists(st.builds(Reasoning, words), max_size=1),
}


@functools.cache
def attached(dialect: str) -> st.SearchStrategy[list[Media]]:
    return st.lists(images(dialect) | documents(dialect), min_size=1, max_size=2)


@functools.cache
def asked(dialect: str) -> st.SearchStrategy[list[ToolCall]]:
    by_id: Any = (lambda call: call.id) if dialect == "gemini" else None
    return st.lists(calls(dialect), min_size=1, max_size=2, unique_by=by_id)


@functools.cache
@st.composite
def users(draw: st.DrawFn, dialect: str) -> Message:
    """A user's turn: text, or parts of which one at least is none, in an order that the dialect keeps."""
    if draw(st.booleans()):
        return Message("user", draw(words))
    return Message("user", [*draw(texts), *draw(attached(dialect))])


@functools.cache
@st.composite
def assistants(draw: st.DrawFn, dialect: str) -> Message:
    """An assistant's turn: text, or text and calls, with its thinking where the dialect takes that back."""
    if draw(st.booleans()):
        return Message("assistant", draw(words))
    thought: list[Part] = [*draw(thoughts[dialect])] if dialect in thoughts else []
    return Message("assistant", [*thought, *draw(texts), *draw(asked(dialect))])


@functools.cache
def tools_turns(dialect: str) -> st.SearchStrategy[Message]:
    """What tools gave back: as many results as the dialect puts into one turn."""
    named = names if dialect == "ollama" else st.none()
    failed = st.booleans() if dialect == "anthropic" else st.just(False)  # noqa: FBT003
    most = 2 if dialect in {"anthropic", "openai_responses"} else 1
    result = st.builds(ToolResult, names, words, named, is_error=failed)
    return st.lists(result, min_size=1, max_size=most).map(lambda results: Message("tool", results))


@st.composite
def answered(draw: st.DrawFn, said: Message) -> list[Message]:
    """What tools gave back for the calls of a turn, as Gemini takes it: under their names, all in one turn."""
    asked = [part for part in said.parts if isinstance(part, ToolCall)]
    given_ = [ToolResult(call.id, draw(words), call.name, is_error=draw(st.booleans())) for call in asked]
    return [Message("tool", given_)] if given_ else []


@functools.cache
@st.composite
def conversations(draw: st.DrawFn, dialect: str) -> tuple[Message, ...]:
    """Turns in an order that models take: what a tool gave back is followed by the assistant."""
    messages: list[Message] = []
    for _ in range(draw(st.integers(0, 2))):
        messages += [draw(users(dialect)), draw(assistants(dialect))]
        if dialect == "gemini":
            messages += draw(answered(messages[-1]))
        elif draw(st.booleans()):
            messages += [draw(tools_turns(dialect)), draw(assistants(dialect))]
        if dialect not in {"anthropic", "gemini"} and draw(st.booleans()):
            messages.append(Message("system", draw(words)))
    return (*messages, draw(users(dialect)))


@functools.cache
def requests(dialect: str) -> st.SearchStrategy[Request]:
    """Requests that say everything the dialect has words for."""
    is_strict = (
        st.booleans() if dialect == "openai_responses" else st.none() if dialect == "ollama" else maybe(st.booleans())
    )
    tool = st.builds(Tool, name=names, description=st.just("") | words, parameters=objects, strict=is_strict)
    some_tools = st.lists(tool, max_size=2, unique_by=lambda tool: tool.name)
    efforts: dict[str, list[Any]] = {
        "openai_chat": ["none", "minimal", "low", "xhigh"],
        "openai_responses": ["none", "minimal", "low", "xhigh"],
        "anthropic": ["none", 2048, "low", "max"],
        "ollama": ["none", "low", "max"],
        "gemini": ["none", 2048, "low", "xhigh"],
    }
    has_stop, has_seed = dialect != "openai_responses", dialect in {"openai_chat", "ollama", "gemini"}
    metadata = {"openai_chat": names, "openai_responses": names, "anthropic": st.just("user_id")}
    caches: dict[str, list[Any]] = {
        "openai_chat": [True, "24h"],
        "openai_responses": [True, "24h"],
        "anthropic": [True, "5m", "1h"],
        "ollama": [None],
        "gemini": [None],
    }
    said: dict[str, st.SearchStrategy[Any]] = {
        "messages": conversations(dialect),
        "stream": st.booleans(),
        "model": names,
        "system": maybe(words),
        "max_tokens": counts() if dialect == "anthropic" else maybe(counts()),
        "temperature": maybe(numbers),
        "top_p": maybe(numbers),
        "stop": st.lists(words, max_size=2).map(tuple) if has_stop else st.just(()),
        "seed": maybe(st.integers(0, 99)) if has_seed else st.none(),
        "output": maybe(schemas),
        "reasoning": maybe(st.sampled_from(efforts[dialect])),
        "cache": maybe(st.sampled_from(caches[dialect])),
        "metadata": st.dictionaries(metadata[dialect], words, max_size=1) if dialect in metadata else st.just({}),
        "extra": st.dictionaries(
            names.map("x_".__add__), json_values.filter(lambda value: value is not None), max_size=1
        ),
    }
    given_ = st.fixed_dictionaries(said)

    @st.composite
    def request(draw: st.DrawFn) -> Request:
        tools = tuple(draw(some_tools))
        choices = ["auto", "none", "required", *(tool.name for tool in tools)]
        choice = None if dialect == "ollama" else draw(st.sampled_from([None, *choices]))
        if dialect == "gemini":  # strict is said of all tools, in the place of a choice
            held = True if choice is None and draw(st.booleans()) else None
            tools = tuple(replace(tool, strict=held) for tool in tools)
        return Request(prompt="", tools=tools, tool_choice=choice, **draw(given_))

    return request()


def expected(request: Request, dialect: str) -> Request:
    """What the server half reads: the prompt is the messages, and what decides on the answer is kept."""
    extra = dict(request.extra)
    if dialect == "openai_chat" and request.stream:
        extra["stream_options"] = {"include_usage": True}
    messages, system = request.messages, request.system
    return replace(request, prompt=messages, messages=messages, system=system, extra=extra)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.data())
def test_the_server_half_reads_what_the_client_half_wrote(dialect: str, random: st.DataObject) -> None:
    """Everything that a request can say in a dialect arrives as it was said."""
    pair = PAIRS[dialect]
    request = random.draw(requests(dialect))
    if request.system is None and request.messages[0].role == "system":
        request = replace(request, system="be brief")
    assert pair.arrives(request) == expected(request, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(random=st.data())
def test_a_native_turn_stays_as_it_came(dialect: str, random: st.DataObject) -> None:
    """A turn in a provider's own form arrives byte for byte in that form, and in our words."""
    pair = PAIRS[dialect]
    said = random.draw(words)
    more = msgspec.json.encode(random.draw(objects))
    quoted = msgspec.json.encode(said)
    natives = {
        "openai_chat": (b'{"role":"assistant", "content":%b, "x_more":%b}' % (quoted, more),),
        "openai_responses": (
            b'{"type":"reasoning", "id":"rs_1", "summary":[], "encrypted_content":"zzz", "x_more":%b}' % more,
            b'{"type":"message","id":"m","role":"assistant","content":[{"type":"output_text","text":%b}]}' % quoted,
        ),
        "anthropic": (b'{"type":"text", "text":%b, "citations":[%b]}' % (quoted, more),),
        "ollama": (b'{"role":"assistant", "content":%b, "x_more":%b}' % (quoted, more),),
        "gemini": (b'{"text":%b, "thoughtSignature":"c2VhbA==", "x_more":%b}' % (quoted, more),),
    }
    native = tuple(Opaque(dialect, raw) for raw in natives[dialect])
    turns = (Message("user", "Hi"), Message("assistant", said, native=native), Message("user", "Go on"))
    request = Request(prompt="", messages=turns, model="m", max_tokens=1)
    arrived = pair.arrives(request).messages[1]
    assert arrived.native == native
    assert arrived.text == said


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses"])
def test_a_developer_is_the_system(dialect: str) -> None:
    """A turn of the role `developer` is a system message in our words, wherever it stands."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "developer", "content": "Be brief."}]
    body = {"model": "m", "input" if dialect == "openai_responses" else "messages": turns}
    assert PAIRS[dialect].server.request(json.dumps(body).encode()).messages == (
        Message("user", "Hi"),
        Message("system", "Be brief."),
    )


def test_the_first_system_message_is_the_system_text() -> None:
    """Of leading system messages the first is the request's; one that says more than text is a message."""
    named = {"role": "developer", "content": "Be brief.", "name": "boss"}
    for turn, system in (({"role": "developer", "content": "Be brief."}, "Be brief."), (named, None)):
        body = {"model": "m", "messages": [turn, {"role": "user", "content": "Hi"}]}
        request = PAIRS["openai_chat"].server.request(json.dumps(body).encode())
        assert request.system == system
        assert (request.messages[0].role, request.messages[0].text) == (
            ("user", "Hi") if system else ("system", "Be brief.")
        )


def test_ollama_streams_unless_told_otherwise() -> None:
    """A request to Ollama without `stream` asks for a stream."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    for given_, stream in (({}, True), ({"stream": False}, False)):
        assert PAIRS["ollama"].server.request(json.dumps(body | given_).encode()).stream is stream


# ------------------------------------------------------------------------------------------- real requests

RECORDED = {
    "openai_chat": (
        "openai-chat",
        "azure-chat",
        "groq-chat",
        "mistral-chat",
        "deepseek-chat",
        "openrouter-chat",
        "other-chat",
    ),
    "openai_responses": ("openai-responses", "azure-responses", "xai-responses", "other-responses"),
    "anthropic": ("anthropic-messages", "other-messages"),
    "ollama": ("ollama-chat",),
    "gemini": ("gemini-generate*", "vertex-generate*"),
}
"""Files of recorded requests."""

DEFAULTS = {
    "openai_chat": ("stream_options",),
    "openai_responses": ("store", "include"),
    "anthropic": (),
    "ollama": ("truncate", "stream"),
    "gemini": (),
}
"""What a client half says of its own accord."""

REFUSED = {
    "openai_chat": {
        "model: this field is required": "Azure has the model in the path",
        "tools[0].type: this field is required": "Mistral takes tools without a type",
        "input_audio: Expected `object`": "Mistral takes the data itself",
        "temperature: Expected": "llama.cpp refused it too",
        "image_url: Expected `object`": "OpenAI refused it too",
        "content[0].type: this field is required": "OpenAI refused it too",
        "tool_calls[0].id: this field is required": "Writer takes calls without an id",
    },
    "openai_responses": {"model: this field is required": "an agent or a prompt stands for it, or Azure's path"},
    "anthropic": {
        "model: this field is required": "Vertex has the model in the path",
        "input_schema: Expected `object`": "Anthropic refused it too",
    },
    "ollama": {},
    "gemini": {
        "unknown role": "Gemini refused it too",
    },
}
"""Recorded requests that are refused, and why that is right."""


def plain(value: Any) -> Any:
    """A body without what means nothing: null fields, empty options."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if inner is not None}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def without_role_names(items: list[Any]) -> list[Any]:
    """Turns in which `developer` is `system`, and a message of Responses does not say that it is one."""
    roles = {"developer": "system"}
    return [
        {
            name: roles.get(value, value) if name == "role" else value
            for name, value in item.items()
            if not (name == "type" and value == "message")
        }
        for item in items
    ]


def meant(body: dict[str, Any], dialect: str) -> dict[str, Any]:
    """A body in the form that is compared: equal where the API takes two bodies for the same."""
    body = {name: value for name, value in plain(body).items() if value != {} and (name, value) != ("stream", False)}
    if dialect == "gemini":
        return in_one_spelling(body)
    turns = body.get("input", body.get("messages", []))
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    turns = without_role_names(turns)
    if dialect == "anthropic":
        turns = merged(turns)
    if dialect == "openai_responses" and not body.get("store"):
        turns = [turn for turn in turns if not unreadable(turn)]
    return {**body, "input" if dialect == "openai_responses" else "messages": turns}


def in_one_spelling(body: dict[str, Any]) -> dict[str, Any]:
    """A body of Gemini's with its names in camelCase, without the model, which the path names; who does not say so is the user.

    Results of tools that follow each other are one turn, as the API wants it.
    """
    form = json.loads(spelt(json.dumps(body).encode()))
    turns: list[Any] = []
    for turn in form["contents"]:
        role = turn.get("role", "user").replace("function", "user")
        is_result = all("functionResponse" in part for part in turn["parts"])
        if is_result and turns and all("functionResponse" in part for part in turns[-1]["parts"]):
            turns[-1] = {"role": role, "parts": turns[-1]["parts"] + turn["parts"]}
        else:
            turns.append({"role": role, "parts": turn["parts"]})
    return {name: value for name, value in form.items() if name != "model"} | {"contents": turns}


def merged(turns: list[Any]) -> list[Any]:
    """Turns of one role that follow each other made one, as the API takes them."""
    return [
        {"role": role, "content": [block for turn in group for block in blocks(turn["content"])]}
        for role, group in itertools.groupby(turns, lambda turn: turn["role"])
    ]


def unreadable(item: dict[str, Any]) -> bool:
    """Say whether an item is reasoning that was left with a provider that does not keep it."""
    return item.get("type") == "reasoning" and not (item.get("encrypted_content") or item.get("content"))


def blocks(content: Any) -> list[Any]:
    """Content as blocks, which a string is one of."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@pytest.mark.parametrize("dialect", DIALECTS)
def test_recorded_requests_come_out_as_they_came_in(dialect: str, tally: Counter[tuple[str, str]]) -> None:
    """A real request that is read and written again is the same JSON, apart from what our client half adds."""
    told = f"requests of {dialect}"
    different: list[str] = []
    for row in corpus.rows(*RECORDED[dialect]):
        came = (row.get("request") or {}).get("body")
        if not isinstance(came, dict):
            continue
        result = through(came, dialect)
        tally[told, result if result in {"equal", "excused"} else "different"] += 1
        if result not in {"equal", "excused"}:
            different.append(f"{row['id']}: {result}")
    assert tally[told, "equal"]
    assert different == []


def through(came: dict[str, Any], dialect: str) -> str:
    """Send a body through both halves, and say what became of it."""
    pair = PAIRS[dialect]
    try:
        request = pair.reads(json.dumps(came).encode())
    except InvalidRequestError as error:
        return "excused" if any(reason in error.message for reason in REFUSED[dialect]) else error.message
    limit = "max_completion_tokens" if "max_completion_tokens" in came else "max_tokens"
    wrote = json.loads(pair.client.encode(request, replace(pair.flags, max_tokens_field=limit)).body)
    wrote = {name: value for name, value in wrote.items() if name in came or name not in DEFAULTS[dialect]}
    return "equal" if meant(wrote, dialect) == meant(came, dialect) else "other JSON"


# ------------------------------------------------------------------------------------------------ refusals

BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"model": "m", "input": "Hi"},
    "anthropic": {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]},
    "ollama": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("openai_chat", {"messages": None}, "messages: at least one message is required"),
    ("openai_chat", {"messages": [{"content": "Hi"}]}, "messages[0].role: this field is required"),
    ("openai_chat", {"messages": [{"role": "narrator", "content": "Hi"}]}, "messages[0].role: unknown role 'narrator'"),
    (
        "openai_chat",
        {"messages": [{"role": "tool", "content": "4"}]},
        "messages[0].tool_call_id: this field is required",
    ),
    ("openai_chat", {"messages": ["Hi"]}, "messages[0]: Expected `object`, got `str`"),
    ("openai_chat", {"temperature": "hot"}, "temperature: Expected `int | float`, got `str`"),
    ("openai_chat", {"stream": "yes"}, "stream: Expected `bool`, got `str`"),
    ("openai_chat", {"stop": [1]}, "stop: Expected `str`, got `int`"),
    (
        "openai_chat",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]},
        "messages[0].content[0].image_url.url: a data URL is in base64 here",
    ),
    (
        "openai_chat",
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}}]}
            ]
        },
        "messages[0].content[0].input_audio.format: wav or mp3",
    ),
    ("openai_responses", {"input": []}, "input: at least one item is required"),
    ("openai_responses", {"input": [{"role": "tool", "content": "x"}]}, "input[0].role: unknown role 'tool'"),
    (
        "openai_responses",
        {"input": [{"type": "function_call_output", "output": "x"}]},
        "input[0].call_id: this field is required",
    ),
    ("openai_responses", {"max_output_tokens": 1.5}, "max_output_tokens: Expected `int`, got `float`"),
    ("openai_chat", {"max_tokens": -1}, "max_tokens: a number of tokens, 0 or more"),
    ("openai_chat", {"max_completion_tokens": -1}, "max_completion_tokens: a number of tokens, 0 or more"),
    ("openai_responses", {"max_output_tokens": -9}, "max_output_tokens: a number of tokens, 0 or more"),
    ("anthropic", {"max_tokens": -1}, "max_tokens: a number of tokens, 0 or more"),
    ("anthropic", {"max_tokens": None}, "max_tokens: this field is required"),
    ("anthropic", {"messages": []}, "messages: at least one message is required"),
    ("anthropic", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role: unknown role 'tool'"),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": "x", "name": "n"}]},
        "messages[0].name: extra inputs are not permitted",
    ),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
        "messages[0].content[0].type: this field is required",
    ),
    ("ollama", {"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role: unknown role 'nobody'"),
    ("ollama", {"messages": [{"role": "user", "content": "x", "images": ["?"]}]}, "messages[0].images: "),
    ("ollama", {"options": []}, "options: Expected `object`, got `array`"),
    *((dialect, {"model": None}, "model: this field is required") for dialect in BODIES if dialect != "gemini"),
    ("gemini", {"contents": []}, "contents: contents is not specified"),
    ("gemini", {"contents": ["Hi"]}, "contents[0]: Expected `object`, got `str`"),
    ("gemini", {"contents": [{"role": "user"}]}, "contents[0].parts: must include at least one part"),
    ("gemini", {"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "contents[0].role: unknown role 'system'"),
    ("gemini", {"contents": [{"parts": [{"text": "x"}], "name": "n"}]}, "contents[0].name: unknown name"),
    ("gemini", {"contents": [{"parts": [{"text": 3}]}]}, "contents[0].parts[0].text: Expected `str`, got `int`"),
    (
        "gemini",
        {"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "?"}}]}]},
        "contents[0].parts[0].inlineData.data: ",
    ),
    (
        "gemini",
        {"contents": [{"parts": [{"functionResponse": {"response": {}}}]}]},
        "contents[0].parts[0].functionResponse.name: this field is required",
    ),
    ("gemini", {"systemInstruction": "Be brief."}, "systemInstruction: Expected `object`, got `str`"),
    ("gemini", {"tools": 5}, "tools: Expected `array`, got `int`"),
    (
        "gemini",
        {"tools": [{"functionDeclarations": [{"description": "x"}]}]},
        "tools[0].functionDeclarations[0].name: this field is required",
    ),
    ("gemini", {"generationConfig": []}, "generationConfig: Expected `object`, got `array`"),
    (
        "gemini",
        {"generation_config": {"max_output_tokens": -1}},
        "generationConfig.maxOutputTokens: a number of tokens, 0 or more",
    ),
]


@pytest.mark.parametrize(("dialect", "change", "message"), WRONG)
def test_a_wrong_field_is_named(dialect: str, change: dict[str, Any], message: str) -> None:
    """A request that is not what the format says is refused with the place and the reason."""
    body = json.dumps(BODIES[dialect] | change).encode()
    with pytest.raises(InvalidRequestError) as caught:
        PAIRS[dialect].reads(body)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("count", [-1, -2])
def test_ollamas_words_for_no_limit_are_no_limit(count: int) -> None:
    """A negative count asks Ollama for tokens without end, or as many as there is room for: it is kept, and limits nothing."""
    body = BODIES["ollama"] | {"options": {"num_predict": count, "seed": 3}}
    request = PAIRS["ollama"].server.request(json.dumps(body).encode())
    assert (request.max_tokens, request.extra["options"]["num_predict"]) == (None, count)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("body", [b"", b"[]", b"nothing", b'{"model":', b'{"model":"\xff"}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(dialect: str, body: bytes) -> None:
    """Bytes that are no JSON object are a wrong request, not a failure of ours."""
    with pytest.raises(InvalidRequestError):
        PAIRS[dialect].reads(body)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=300)
@given(random=st.data())
def test_no_request_breaks_the_server_half(dialect: str, random: st.DataObject) -> None:
    """Whatever JSON stands in any field, a request is read or refused."""
    keys = st.sampled_from(
        [*BODIES[dialect], "tools", "tool_choice", "stop", "metadata", "stream", "system", "options", "think"]
    )
    if dialect == "gemini":
        keys |= st.sampled_from(["systemInstruction", "toolConfig", "generationConfig", "generation_config"])
    body = BODIES[dialect] | random.draw(st.dictionaries(keys, json_values | st.lists(objects, max_size=2), max_size=3))
    try:
        request = PAIRS[dialect].reads(json.dumps(body).encode())
    except InvalidRequestError:
        return
    assert isinstance(request, Request)


def test_pairs_agree_on_their_names() -> None:
    """Both halves of a dialect have its name, and the client half sends to where the server half listens."""
    for name, pair in PAIRS.items():
        assert pair.client.name == pair.server.name == name
        path = pair.client.encode(Request(prompt="", messages=(), model="m"), pair.flags).path
        assert path == pair.server.path.format(model="m")
