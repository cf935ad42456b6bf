"""What the fault server answers beside answers, as the providers' own SDKs read it: vectors, counts, lists, signs of life."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import anthropic
import ollama
import openai
import pytest
from google import genai

from veyra.models.base import BaseModelBackend
from veyra.models.mock import MockBackend
from veyra.models.registry import get_backend
from veyra.testing.server import FaultServer
from veyra.types import ModelInfo, ModelResponse

HELLO: list[Any] = [{"role": "user", "content": "one two three"}]


class Rich(MockBackend):
    """A mock that tells much of its models."""

    async def models(self, *, details: bool = False) -> tuple[ModelInfo, ...]:
        return (
            ModelInfo(
                id="rich",
                name="The rich one",
                created=datetime(2026, 2, 3, tzinfo=UTC),
                context_window=1000,
                max_output=100,
                capabilities={"chat": True, "tools": True, "reasoning": False},
            ),
        )


class Plain(BaseModelBackend):
    """A backend of two methods."""

    name = "plain"

    async def generate(self, prompt: Any, **options: Any) -> ModelResponse:
        return ModelResponse("Hello", "plain-1", "plain", 1.0, 0, 0, None)

    async def health_check(self) -> bool:
        return True


def test_openai_reads_vectors_counts_and_models() -> None:
    """OpenAI's SDK gets the mock's vectors, packed or not, its counts, its list, and any model by name."""
    with FaultServer(Rich()) as server, openai.OpenAI(api_key="k", base_url=server.openai_url, max_retries=0) as client:
        packed = client.embeddings.create(model="m", input=["one two", "three"], dimensions=3)
        plain = client.embeddings.create(model="m", input="one two", dimensions=3, encoding_format="float")
        assert [len(item.embedding) for item in packed.data] == [3, 3]
        assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-6)
        assert (packed.usage.prompt_tokens, packed.model) == (3, "m")
        assert client.responses.input_tokens.count(model="m", input="one two three").input_tokens == 3
        (info,) = client.models.list().data
        assert (info.id, info.created, info.owned_by) == ("rich", 1_770_076_800, "system")
        assert client.models.retrieve("some/other").id == "some/other"


def test_anthropic_reads_counts_and_models() -> None:
    """Anthropic's SDK gets counts, and models in its own form."""
    with FaultServer(Rich()) as server, anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0) as client:
        assert client.messages.count_tokens(model="m", messages=HELLO).input_tokens == 3
        (info,) = client.models.list().data
        assert (info.id, info.display_name, info.max_input_tokens) == ("rich", "The rich one", 1000)
        assert info.created_at == datetime(2026, 2, 3, tzinfo=UTC)
        assert client.models.retrieve("other").id == "other"


def test_ollama_reads_vectors_and_models() -> None:
    """Ollama's SDK gets vectors, the list, what a model can, and that none is loaded."""
    with FaultServer(Rich()) as server, ollama.Client(host=server.url) as client:
        assert len(client.embed(model="m", input=["a", "b"], dimensions=5).embeddings[1]) == 5
        (info,) = client.list().models
        assert info.model == "rich"
        shown = client.show("rich")
        assert (shown.capabilities, shown.modelinfo["mock.context_length"]) == (["completion", "tools"], 1000)
        assert client.ps().models == []


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_google_reads_vectors_counts_and_models(version: str) -> None:
    """Google's SDK gets vectors, counts and models of Gemini's form, in either version of the API."""
    with FaultServer(Rich()) as server:
        client = genai.Client(api_key="k", http_options={"base_url": server.url, "api_version": version})
        with client:
            found = client.models.embed_content(model="m", contents=["a", "b"], config={"output_dimensionality": 5})
            assert [len(item.values or ()) for item in found.embeddings or ()] == [5, 5]
            assert client.models.count_tokens(model="m", contents="one two three").total_tokens == 3
            (info,) = client.models.list()
            assert (info.name, info.display_name, info.input_token_limit) == ("models/rich", "The rich one", 1000)
            assert info.supported_actions == ["generateContent", "countTokens"]
            assert client.models.get(model="other").name == "models/other"


def test_gemini_counts_whole_requests_and_embeds_one_content() -> None:
    """What Google's SDK does not send: a whole request to be counted, a single content, sizes that differ, nothing."""
    turns = [{"parts": [{"text": "c d"}]}]
    request = {"model": "models/m", "systemInstruction": {"parts": [{"text": "a b"}]}, "contents": turns}
    whole = {"generate_content_request": request}
    with FaultServer() as server:

        def asked(method: str, body: Any) -> Any:
            return json.loads(get(f"{server.url}/v1beta/models/m:{method}", json.dumps(body).encode())[2])

        assert asked("countTokens", whole) == {"totalTokens": 4}
        one = {"content": {"parts": [{"text": "a"}]}, "output_dimensionality": 3}
        assert len(asked("embedContent", one)["embedding"]["values"]) == 3
        assert asked("embedContent", one)["usageMetadata"] == {"promptTokenCount": 1}
        two = asked("batchEmbedContents", {"requests": [one, one | {"output_dimensionality": 4}]})
        assert two["error"]["message"] == "requests: here, all of a batch have the same outputDimensionality"
        assert asked("batchEmbedContents", {})["error"]["message"] == "requests: at least one is required"


def test_a_list_of_models_is_whose_client_asks() -> None:
    """`/v1/models` is Gemini's where the key comes as Gemini's clients send it, be it in the query, and OpenAI's else."""
    rows: list[tuple[str, dict[str, str], str]] = [
        ("/v1/models", {"x_goog_api_key": "k"}, "models"),
        ("/v1/models?key=k", {}, "models"),
        ("/v1/models", {"authorization": "Bearer k"}, "data"),
        ("/v1/models", {"anthropic_version": "2023-06-01"}, "data"),
        ("/v1beta/models?pageSize=9", {"authorization": "Bearer k"}, "models"),
    ]
    with FaultServer(Rich()) as server:
        for target, headers, name in rows:
            assert name in json.loads(get(server.url + target, None, **headers)[2])
        assert json.loads(get(f"{server.url}/v1/models/ft:gpt:generateContent")[2])["error"]["code"] == 405


async def test_our_own_backends_read_them() -> None:
    """Vectors, lists, counts and health of our backends work against the server as against the providers."""
    async with FaultServer(Rich()) as server:
        for name, url in (
            ("openai", server.openai_url),
            ("anthropic", server.url),
            ("gemini", server.url),
            ("ollama", server.url),
        ):
            async with get_backend(name, model="m", base_url=url, api_key="k", audit="memory") as backend:
                assert [info.id for info in await backend.models()] == ["rich"]
                assert await backend.health_check()
                assert (await backend.count_tokens("one two three")).tokens > 0
                if name != "anthropic":
                    assert len((await backend.embed(["a", "b"])).vectors) == 2


def get(url: str, body: bytes | None = None, **headers: str) -> tuple[int, str, bytes]:
    """Return the status, the content type and the body of an answer."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(UrlRequest(url, data=body, headers=fields)) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read()


WRONG: dict[str, tuple[str, bytes | None, dict[str, str], int, str]] = {
    "OpenAI, path": ("/v1/nope", b"{}", {}, 404, "Invalid URL (POST /v1/nope)"),
    "OpenAI, method": ("/v1/chat/completions", None, {}, 405, "Method not allowed (GET /v1/chat/completions)"),
    "OpenAI, JSON": ("/v1/responses", b"{", {}, 400, "the body: "),
    "OpenAI, no text": ("/v1/chat/completions", b"\xff\xfe", {}, 400, "the body: "),
    "OpenAI, nothing": ("/v1/chat/completions", b"", {}, 400, "the body: "),
    "OpenAI, no object": ("/v1/embeddings", b"[]", {}, 400, "the body: "),
    "OpenAI, deep": ("/v1/chat/completions", b"[" * 100_000, {}, 400, "the body: "),
    "OpenAI, type": ("/v1/embeddings", b'{"model":"m","input":3}', {}, 400, "input: "),
    "OpenAI, form": (
        "/v1/embeddings",
        b'{"model":"m","input":"a","encoding_format":"int8"}',
        {},
        400,
        "encoding_format: float or base64",
    ),
    "Anthropic, path": ("/v1/nope", b"{}", {"anthropic_version": "2023-06-01"}, 404, "Not found (POST /v1/nope)"),
    "Anthropic, path below": ("/v1/messages/nope", b"{}", {}, 404, "Not found"),
    "Anthropic, JSON": ("/v1/messages", b"nope", {}, 400, "the body: "),
    "Anthropic, field": ("/v1/messages", b'{"model":"m","messages":[]}', {}, 400, "max_tokens: "),
    "Gemini, path": ("/v1beta/nope", b"{}", {}, 404, "Not found (POST /v1beta/nope)"),
    "Gemini, path below": ("/v1beta/models/m:nope", b"{}", {}, 404, "Not found (POST /v1beta/models/m:nope)"),
    "Gemini, method": ("/v1beta/models/m:countTokens", None, {}, 405, "Method not allowed (GET"),
    "Gemini, JSON": ("/v1beta/models/m:generateContent", b"nope", {}, 400, "the body: "),
    "Gemini, field": ("/v1beta/models/m:embedContent", b"{}", {}, 400, "content: this field is required"),
    "Ollama, JSON": ("/api/chat", b"{", {}, 400, "the body: "),
    "Ollama, model": ("/api/show", b"{}", {}, 400, "model: this field is required"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_the_vendors_form(case: str) -> None:
    """A wrong path, method or body is an error as the vendor's own server would tell it."""
    path, body, headers, status, words = WRONG[case]
    with FaultServer() as server:
        code, kind, answer = get(server.url + path, body, **headers)
    assert code == status
    assert kind.startswith("application/json")
    told = json.loads(answer)
    if case.startswith("Ollama"):
        assert words in told["error"]
        return
    assert words in told["error"]["message"]
    assert (told.get("type") == "error") is case.startswith("Anthropic")


def test_ollamas_own_words_for_a_wrong_path() -> None:
    """Ollama tells a path or a method that there is not as plain text; its root says that it runs."""
    with FaultServer() as server:
        assert get(f"{server.url}/api/nope") == (404, "text/plain; charset=utf-8", b"404 page not found")
        assert get(f"{server.url}/api/chat") == (405, "text/plain; charset=utf-8", b"405 method not allowed")
        assert get(f"{server.url}/") == (200, "text/plain; charset=utf-8", b"Ollama is running")


def test_a_backend_that_has_none_says_so() -> None:
    """Vectors and lists of a backend without them are an error of the request; counts are estimated; answers are there."""
    with FaultServer(Plain()) as server:
        assert get(f"{server.openai_url}/models")[0] == 400
        assert get(f"{server.openai_url}/embeddings", b'{"model":"m","input":"a"}')[0] == 400
        counted = json.dumps({"model": "m", "messages": HELLO}).encode()
        assert json.loads(get(f"{server.url}/v1/messages/count_tokens", counted)[2])["input_tokens"] > 0
        status, _, answer = get(f"{server.openai_url}/chat/completions", counted)
        assert (status, json.loads(answer)["choices"][0]["message"]["content"]) == (200, "Hello")


async def test_a_list_meets_a_fault_by_header() -> None:
    """What is no call of a model can be made to fail, too: whole answers are cut, spoiled and replaced as any other."""
    async with FaultServer() as server:
        spoiled = await asyncio.to_thread(get, f"{server.openai_url}/models", x_veyra_fault="invalid-json")
        error = await asyncio.to_thread(get, f"{server.url}/api/tags", x_veyra_fault="error")
        other = await asyncio.to_thread(get, f"{server.url}/api/version", x_veyra_fault="content-type")
    assert spoiled[2].endswith(b"]{")
    assert (error[0], json.loads(error[2])) == (200, {"error": "a fault was asked for: error"})
    assert other[1] == "text/html"
