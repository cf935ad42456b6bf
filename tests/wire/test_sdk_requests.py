"""What our client halves send is what the providers' own SDKs send for the same call."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import jsonschema
import msgspec
import ollama
import openai
import pytest
from google import genai

import corpus
from loopback import Loopback, in_thread, reply
from sdk_calls import ALWAYS, CALLS, FLAGS, MODELS, Call
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses

DIALECTS: dict[str, Dialect] = {
    "openai_chat": OpenAIChat(),
    "openai_responses": OpenAIResponses(),
    "anthropic": Anthropic(),
    "ollama": Ollama(),
    "gemini": Gemini(),
}
ROWS = [pytest.param(dialect, call, id=f"{dialect}-{call}") for dialect, calls in CALLS.items() for call in calls]


@pytest.fixture(scope="module")
def line() -> Iterator[Loopback]:
    """A server that refuses everything: what matters is what it was sent."""
    with in_thread(
        Loopback(lambda _: reply(400, {"content-type": "application/json"}, b'{"error": {"message": "no"}}'))
    ) as at:
        yield at


@pytest.fixture(scope="module")
def sdks(line: Loopback) -> Iterator[dict[str, Callable[..., Any]]]:
    """The method of each SDK that makes a call, pointed at the server."""
    with contextlib.ExitStack() as stack:
        of_openai = stack.enter_context(openai.OpenAI(api_key="k", base_url=line.url, max_retries=0))
        of_anthropic = stack.enter_context(anthropic.Anthropic(api_key="k", base_url=line.url, max_retries=0))
        of_ollama = stack.enter_context(ollama.Client(host=line.url))
        # The SDK takes `v1` by itself. Veyra speaks the version in which all that it says is known.
        of_google = genai.Client(api_key="k", http_options={"base_url": line.url, "api_version": "v1beta"})
        stack.callback(of_google.close)
        yield {
            "openai_chat": of_openai.chat.completions.create,
            "openai_responses": of_openai.responses.create,
            "anthropic": of_anthropic.messages.create,
            "ollama": of_ollama.chat,
            "gemini": of_google.models.generate_content,
        }


REFUSALS = (openai.APIStatusError, anthropic.APIStatusError, ollama.ResponseError, genai.errors.ClientError)


def sent(call: Call, dialect: str) -> tuple[str, dict[str, Any]]:
    """Where our client half sends a call, and what."""
    flags = replace(FLAGS[dialect], **call.flags)
    encoded = DIALECTS[dialect].encode(call.request(MODELS[dialect]), flags)
    return encoded.path, json.loads(encoded.body)


def in_json_form(value: Any) -> Any:
    """A body of Google's SDK in the form that Protocol Buffers prefer (ProtoJSON), which accepts others as well.

    The SDK mixes two spellings of names, writes bytes in the other alphabet of base64, and says an empty configuration.
    """
    if isinstance(value, list):
        return [in_json_form(item) for item in value]
    if not isinstance(value, dict):
        return value
    form: dict[str, Any] = {}
    for name, inner in value.items():
        first, *others = name.split("_")
        key = first + "".join(map(str.capitalize, others))
        if key == "data":
            form[key] = inner.translate(str.maketrans("-_", "+/"))
        elif (key, inner) != ("generationConfig", {}):
            form[key] = inner if key.endswith("JsonSchema") else in_json_form(inner)
    return form


@pytest.mark.parametrize(("dialect", "call"), ROWS)
def test_requests_are_those_of_the_sdk(
    dialect: str, call: Call, sdks: dict[str, Callable[..., Any]], line: Loopback
) -> None:
    """A call's path and body are the SDK's, field by field, save for differences that have their reason."""
    before = len(line.requests)
    with pytest.raises(REFUSALS):
        list(sdks[dialect](model=MODELS[dialect], **call.theirs))
    (received,) = line.requests[before:]
    path, body = sent(call, dialect)
    theirs = json.loads(received.body)
    if dialect == "gemini":
        theirs = in_json_form(theirs)
    assert path == received.target
    different = {name for name in body | theirs if body.get(name) != theirs.get(name)}
    reasons = dict(ALWAYS[dialect]) | dict(call.differs)
    assert different <= set(reasons), {name: (body.get(name), theirs.get(name)) for name in different - set(reasons)}
    assert set(call.differs) <= different, "a difference that is listed is none any more"


def test_there_are_enough_calls() -> None:
    """The table covers each dialect, sixty calls at least, and no name twice."""
    assert sum(map(len, CALLS.values())) >= 60
    for calls in CALLS.values():
        assert len({call.name for call in calls}) == len(calls)


# ------------------------------------------------------------------------------------------ published specs


def openapi(name: str) -> dict[str, Any]:
    path = corpus.require().parent / "specs" / name
    if not path.exists():
        pytest.skip(f"no published description: {name} is not among the shared data")
    raw = path.read_bytes()
    document = msgspec.yaml.decode(raw) if path.suffix == ".yaml" else json.loads(gzip.decompress(raw))
    return dict(document)


SPECS = {
    "openai_chat": ("openai-core-endpoints.openapi.json.gz", "CreateChatCompletionRequest"),
    "openai_responses": ("openai-core-endpoints.openapi.json.gz", "CreateResponse"),
    "ollama": ("ollama-openapi.yaml", "ChatRequest"),
}


@pytest.fixture(scope="module")
def validators() -> Callable[[str, bool], Any]:
    """A validator of a dialect's requests, made once."""
    made: dict[tuple[str, bool], Any] = {}

    def validator(dialect: str, stream: bool) -> Any:
        key = (dialect, stream)
        if key not in made:
            made[key] = jsonschema.Draft202012Validator(schema(dialect, stream))
        return made[key]

    return validator


def schema(dialect: str, stream: bool) -> dict[str, Any]:
    if dialect == "anthropic":
        document = openapi("anthropic-messages.derived-from-sdk.schemas.json.gz")
        return dict(document["schemas"][f"MessageCreateParams{'Streaming' if stream else 'NonStreaming'}"])
    name, component = SPECS[dialect]
    return {"$ref": f"#/components/schemas/{component}", "components": read_by_type(openapi(name)["components"])}


def read_by_type(described: Any) -> Any:
    """A description in which a choice that a field decides is no choice of exactly one.

    OpenAPI's `discriminator` names the field. JSON Schema does not know it, and finds that a message without a `type`, which
    OpenAI takes, is two of the kinds at once.
    """
    if isinstance(described, list):
        return [read_by_type(inner) for inner in described]
    if not isinstance(described, dict):
        return described
    decided = "discriminator" in described
    return {"anyOf" if decided and key == "oneOf" else key: read_by_type(inner) for key, inner in described.items()}


@pytest.mark.parametrize(("dialect", "call"), [row for row in ROWS if row.values[0] != "gemini"])
def test_requests_are_valid(dialect: str, call: Call, validators: Callable[[str, bool], Any]) -> None:
    """A call's body keeps to the description that the provider publishes (or that its SDK's types are)."""
    _, body = sent(call, dialect)
    stream = body.get("stream", False)
    faults = [fault.message[:200] for fault in validators(dialect, stream).iter_errors(body)]
    assert faults == []
