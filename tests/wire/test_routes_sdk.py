"""What Veyra asks beside answers, next to what the providers' own clients send for the same call: equal, field by field."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import corpus
from veyra.models.endpoints import ENDPOINTS
from veyra.models.request import build_request
from veyra.transport.base import Head
from veyra.types import EmbedRequest, Message, ModelInfo, Tool
from veyra.wire.anthropic_counting import AnthropicCounting
from veyra.wire.anthropic_models import AnthropicModels
from veyra.wire.gemini_counting import GeminiCounting
from veyra.wire.gemini_embeddings import GeminiEmbeddings
from veyra.wire.gemini_models import GeminiModels
from veyra.wire.ollama_embeddings import OllamaEmbeddings
from veyra.wire.ollama_models import OllamaModels
from veyra.wire.openai_counting import ResponsesCounting
from veyra.wire.openai_embeddings import OpenAIEmbeddings
from veyra.wire.openai_models import OpenAIModels
from veyra.wire.routes import Counting, Embedding, Question

openai: Any = pytest.importorskip("openai", reason="the providers' own clients are not installed")
anthropic: Any = pytest.importorskip("anthropic", reason="the providers' own clients are not installed")
ollama: Any = pytest.importorskip("ollama", reason="the providers' own clients are not installed")
genai: Any = pytest.importorskip("google.genai", reason="the providers' own clients are not installed")
jsonschema: Any = pytest.importorskip("jsonschema")
yaml: Any = pytest.importorskip("yaml")
httpx: Any = pytest.importorskip("httpx")
httpx2: Any = pytest.importorskip("httpx2")

ANSWER = {
    "object": "list",
    "data": [],
    "models": [],
    "embeddings": [],
    "has_more": False,
    "input_tokens": 1,
    "totalTokens": 1,
    "model_info": {},
}
"""An answer that each client takes for one of its own."""


@dataclass(frozen=True)
class Sent:
    """A request: method, path with query after the base URL, and its JSON."""

    method: str
    path: str
    body: Any = None


def ordered(path: str) -> str:
    """Return a path with its query in one order: no server looks at it."""
    place, mark, query = path.partition("?")
    return place + mark + "&".join(sorted(query.split("&")))


class Clients:
    """The four clients, over a transport that keeps what they send and has no network."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        two = httpx2.Client(transport=httpx2.MockTransport(self._answer(httpx2)))
        self.openai = openai.OpenAI(api_key="k", http_client=two)
        self.anthropic = anthropic.Anthropic(
            api_key="k", http_client=two, default_headers={"anthropic-version": "2023-06-01"}
        )
        self.genai = genai.Client(
            api_key="k", http_options=genai.types.HttpOptions(httpx_client=two, api_version="v1beta")
        )
        self.ollama = ollama.Client(host="http://h.invalid", transport=httpx.MockTransport(self._answer(httpx)))

    def _answer(self, library: Any) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            self.seen.append(request)
            return library.Response(200, json=ANSWER)

        return answer

    def sent(self, prefix: str) -> Sent:
        """Return the one request that was sent, its path without the part that is the base URL's."""
        (request,) = self.seen
        body = bytes(request.content)
        path = request.url.raw_path.decode().removeprefix(prefix)
        return Sent(request.method, ordered(path), json.loads(body) if body else None)


@pytest.fixture(scope="module")
def clients() -> Clients:
    return Clients()


TEXTS = ["a text", "ein zweiter, länger"]
TOOL = Tool(
    name="weather",
    description="The weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    strict=True,
)
SCHEMA = dict(TOOL.parameters)


def embed(form: Embedding, vendor: str, **asked: Any) -> Sent:
    encoded = form.encode(EmbedRequest(**{"texts": tuple(TEXTS), "model": "m"} | asked), ENDPOINTS[vendor].flags)
    return Sent("POST", encoded.path, json.loads(encoded.body))


def count(form: Counting, vendor: str, prompt: Any = "Hi", **options: Any) -> Sent:
    encoded = form.encode(build_request(prompt, {"model": "m"} | options, stream=False), ENDPOINTS[vendor].flags)
    return Sent("POST", encoded.path, json.loads(encoded.body))


def question(asked: Question | None) -> Sent:
    assert asked is not None
    return Sent(asked.method, ordered(asked.path), json.loads(asked.body) if asked.body else None)


FLAGS = ENDPOINTS["anthropic"].flags
TURNS = [Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Go")]
THEIRS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Go"},
]

Call = tuple[Callable[[Clients], object], str, Sent]
CALLS: dict[str, Call] = {
    "openai, vectors": (
        lambda c: c.openai.embeddings.with_raw_response.create(model="m", input=TEXTS),
        "/v1",
        embed(OpenAIEmbeddings(), "openai"),
    ),
    "openai, vectors of a length": (
        lambda c: c.openai.embeddings.with_raw_response.create(model="m", input=TEXTS, dimensions=256),
        "/v1",
        embed(OpenAIEmbeddings(), "openai", dimensions=256),
    ),
    "openai, vectors as decimals": (
        lambda c: c.openai.embeddings.with_raw_response.create(
            model="m", input=TEXTS, encoding_format="float", user="u"
        ),
        "/v1",
        embed(OpenAIEmbeddings(), "openai", extra={"encoding_format": "float", "user": "u"}),
    ),
    "openai, models": (lambda c: list(c.openai.models.list()), "/v1", question(OpenAIModels().first(FLAGS))),
    "openai, count": (
        lambda c: c.openai.responses.input_tokens.count(model="m", input=[{"role": "user", "content": "Hi"}]),
        "/v1",
        count(ResponsesCounting(), "openai"),
    ),
    "openai, count with tools": (
        lambda c: c.openai.responses.input_tokens.count(
            model="m",
            instructions="Be brief",
            input=[{"role": "user", "content": "Hi"}],
            tools=[
                {
                    "type": "function",
                    "name": "weather",
                    "description": "The weather.",
                    "parameters": SCHEMA,
                    "strict": True,
                }
            ],
            tool_choice="required",
            reasoning={"effort": "low"},
        ),
        "/v1",
        count(ResponsesCounting(), "openai", system="Be brief", tools=[TOOL], tool_choice="required", reasoning="low"),
    ),
    "anthropic, models": (
        lambda c: list(c.anthropic.models.list(limit=1000)),
        "",
        question(AnthropicModels().first(FLAGS)),
    ),
    "anthropic, models after one": (
        lambda c: list(c.anthropic.models.list(limit=1000, after_id="claude-x")),
        "",
        question(
            AnthropicModels().page(Head(200, {}), b'{"data":[],"has_more":true,"last_id":"claude-x"}', FLAGS).following
        ),
    ),
    "anthropic, count": (
        lambda c: c.anthropic.messages.count_tokens(model="m", messages=[{"role": "user", "content": "Hi"}]),
        "",
        count(AnthropicCounting(), "anthropic"),
    ),
    "anthropic, count of a conversation with tools": (
        lambda c: c.anthropic.messages.count_tokens(
            model="m",
            system="Be brief",
            messages=THEIRS,
            tools=[{"name": "weather", "description": "The weather.", "input_schema": SCHEMA, "strict": True}],
            tool_choice={"type": "any"},
            thinking={"type": "adaptive"},
            output_config={"effort": "low"},
        ),
        "",
        count(
            AnthropicCounting(),
            "anthropic",
            TURNS,
            system="Be brief",
            tools=[TOOL],
            tool_choice="required",
            reasoning="low",
        ),
    ),
    "gemini, vectors": (
        lambda c: c.genai.models.embed_content(model="m", contents=TEXTS),
        "",
        embed(GeminiEmbeddings(), "gemini"),
    ),
    "gemini, vectors of a length for a task": (
        lambda c: c.genai.models.embed_content(
            model="m",
            contents=TEXTS,
            config={"output_dimensionality": 256, "task_type": "RETRIEVAL_DOCUMENT", "title": "t"},
        ),
        "",
        embed(GeminiEmbeddings(), "gemini", dimensions=256, extra={"taskType": "RETRIEVAL_DOCUMENT", "title": "t"}),
    ),
    "gemini, models": (
        lambda c: list(c.genai.models.list(config={"page_size": 1000})),
        "",
        question(GeminiModels().first(FLAGS)),
    ),
    "gemini, count": (
        lambda c: c.genai.models.count_tokens(model="m", contents="Hi"),
        "",
        count(GeminiCounting(), "gemini"),
    ),
    "ollama, vectors": (
        lambda c: c.ollama.embed(model="m", input=TEXTS, truncate=False),
        "",
        embed(OllamaEmbeddings(), "ollama"),
    ),
    "ollama, vectors with all there is": (
        lambda c: c.ollama.embed(
            model="m", input=TEXTS, truncate=True, dimensions=64, keep_alive="1h", options={"num_ctx": 512}
        ),
        "",
        embed(
            OllamaEmbeddings(),
            "ollama",
            dimensions=64,
            extra={"truncate": True, "keep_alive": "1h", "options": {"num_ctx": 512}},
        ),
    ),
    "ollama, models": (lambda c: c.ollama.list(), "", question(OllamaModels().first(FLAGS))),
    "ollama, details": (
        lambda c: c.ollama.show("m"),
        "",
        question(OllamaModels().details(ModelInfo(id="m"), FLAGS)),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_call_is_the_same_request(name: str, clients: Clients) -> None:
    """Method, path, query and every field of the body are those of the provider's own client."""
    call, prefix, ours = CALLS[name]
    clients.seen.clear()
    call(clients)
    assert ours == clients.sent(prefix)


def test_texts_are_not_joined_into_one() -> None:
    """A deliberate difference: Google's client makes one content, and so one vector, of the texts for its newest model."""
    clients = Clients()
    clients.genai.models.embed_content(model="gemini-embedding-2", contents=TEXTS)
    theirs = clients.sent("").body["requests"]
    ours = embed(GeminiEmbeddings(), "gemini", model="gemini-embedding-2").body["requests"]
    assert (len(theirs), len(ours)) == (1, 2)
    assert [part for item in ours for part in item["content"]["parts"]] == theirs[0]["content"]["parts"]


def test_a_long_text_is_not_cut_unasked() -> None:
    """A deliberate difference: Ollama's client leaves `truncate` to the server, which then cuts silently."""
    clients = Clients()
    clients.ollama.embed(model="m", input=TEXTS)
    ours = embed(OllamaEmbeddings(), "ollama")
    assert ours == replace(clients.sent(""), body={**clients.sent("").body, "truncate": False})


def test_all_of_a_prompt_is_counted() -> None:
    """A deliberate difference: Google's client refuses to count a system text; the API takes it in a whole request."""
    clients = Clients()
    with pytest.raises(ValueError, match="system_instruction"):
        clients.genai.models.count_tokens(model="m", contents="Hi", config={"system_instruction": "Be brief"})
    clients.genai.models.generate_content(model="m", contents="Hi", config={"system_instruction": "Be brief"})
    call = clients.sent("").body
    assert call.pop("generationConfig") == {}  # an object without fields says nothing
    call["systemInstruction"].pop("role", None)
    assert count(GeminiCounting(), "gemini", system="Be brief").body == {
        "generateContentRequest": {"model": "models/m", **call}
    }


# ------------------------------------------------------------------------------------------ published schemas


@functools.cache
def _document(place: Path) -> Any:
    if place.suffix == ".gz":
        return json.loads(gzip.decompress(place.read_bytes()))
    return yaml.safe_load(place.read_text())


def _schema(file: str, route: str) -> Any:
    """Return the schema of a route's request body, with the components it refers to; skip where it is not there."""
    place = corpus.require().parent / "specs" / file
    if not place.exists():
        pytest.skip(f"no {file} among the shared data")
    document = _document(place)
    body = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return {**body, "components": document["components"]}


@pytest.mark.parametrize(
    ("name", "file", "route"),
    [
        *(
            (name, "openai-core-endpoints.openapi.json.gz", "/embeddings")
            for name in CALLS
            if "openai, vectors" in name
        ),
        *(
            (name, "openai-core-endpoints.openapi.json.gz", "/responses/input_tokens")
            for name in CALLS
            if "openai, count" in name
        ),
        *((name, "ollama-openapi.yaml", "/api/embed") for name in CALLS if "ollama, vectors" in name),
        ("ollama, details", "ollama-openapi.yaml", "/api/show"),
    ],
)
def test_a_request_is_what_the_published_schema_says(name: str, file: str, route: str) -> None:
    """Where a provider publishes the schema of a route, the request fits it."""
    _, _, ours = CALLS[name]
    jsonschema.Draft202012Validator(_schema(file, route)).validate(ours.body)
