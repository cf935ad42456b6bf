"""What the fault server answers beside answers of a model: vectors, counts of tokens, lists of models, signs of life."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from veyra.models.gate import Gate
from veyra.models.request import given_options
from veyra.testing.server_http import Received
from veyra.testing.server_vendors import MODEL_PATH, PLAIN, Asks, Route
from veyra.transport.playing import Answer
from veyra.types import EmbeddingResponse, EmbedOptions, Finish, ModelInfo, Request
from veyra.wire.base import ServerDialect, Stamp
from veyra.wire.gemini_names import Target, resource, target_of
from veyra.wire.gemini_spelling import spelt
from veyra.wire.intake import Fields, strings, wrong
from veyra.wire.payload import given

OLLAMA_VERSION = "0.33.0"
_CAN = {"chat": "completion", "embeddings": "embedding", "tools": "tools", "reasoning": "thinking", "image": "vision"}
_METHODS = {
    "chat": ("generateContent", "countTokens"),
    "embeddings": ("embedContent", "batchEmbedContents"),
}
_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "mock",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}


_AT_ONCE = (0, "0", "0s", "0m", "0h")
"""What Ollama's clients send as `keep_alive` to have a model unloaded."""


async def answer(route: Route, received: Received, backend: Gate, stamp: Stamp) -> Answer:
    """Return the answer to a request that asks for no answer of a model.

    Raises:
        VeyraError: the request is wrong, or the backend refuses it.
    """
    if route.asks is Asks.LIFE:
        return Answer(headers={"content-type": PLAIN}, chunks=[b"Ollama is running"])
    return _json(await _value(route, received, backend), route.vendor.name, stamp)


def loaded(server: ServerDialect, request: Request, stamp: Stamp) -> Answer:
    """Return Ollama's answer to a request without a message, whether a stream was asked for or not."""
    leaves = request.extra.get("keep_alive") in _AT_ONCE
    encoder = server.encoder(replace(request, stream=False), stamp)
    head = encoder.head()
    body = encoder.write(Finish(reason="other", raw_reason="unload" if leaves else "load"))
    return Answer(status=head.status, headers=head.headers, chunks=[body])


async def _value(route: Route, received: Received, backend: Gate) -> object:
    vendor = route.vendor.name
    match route.asks:
        case Asks.VERSION:
            return {"version": OLLAMA_VERSION}
        case Asks.LOADED:
            return {"models": []}
        case Asks.VECTORS:
            return await _vectors(vendor, received, backend)
        case Asks.COUNT:
            return await _count(route, received.body, backend)
        case Asks.MODEL:
            return await _one(vendor, received, backend)
        case _:
            infos = await backend.models()
            return _LISTS[vendor]([_LISTED[vendor](info) for info in infos])


def _json(value: object, vendor: str, stamp: Stamp) -> Answer:
    charset = {"ollama": "; charset=utf-8", "gemini": "; charset=UTF-8"}.get(vendor, "")
    ids = {"openai": {"x-request-id": stamp.request_id}, "anthropic": {"request-id": stamp.request_id}}.get(vendor, {})
    return Answer(headers={"content-type": f"application/json{charset}", **ids}, chunks=[msgspec.json.encode(value)])


# ----------------------------------------------------------------------------------------- vectors and counts


async def _vectors(vendor: str, received: Received, backend: Gate) -> dict[str, Any]:
    target = target_of(received.target) if vendor == "gemini" else None
    if target is not None:
        return await _vectors_of_contents(target, Fields(spelt(received.body)), backend)
    fields = Fields(received.body)
    options: EmbedOptions = {"model": fields.need("model", str)}
    dimensions = fields.take("dimensions", int)
    if dimensions is not None:
        options["dimensions"] = dimensions
    form = fields.take("encoding_format", str) or "float"
    if form not in {"float", "base64"}:
        raise wrong(fields.place("encoding_format"), "float or base64")
    response = await backend.embed(strings(fields, "input"), **options)
    return _embedded(response) if vendor == "ollama" else _listed_vectors(response, form)


def _embedded(response: EmbeddingResponse) -> dict[str, Any]:
    counted = given({"prompt_eval_count": response.usage.input_total})
    return {"model": response.model, "embeddings": response.vectors, **counted}


def _listed_vectors(response: EmbeddingResponse, form: str) -> dict[str, Any]:
    total = response.usage.input_total
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if form == "base64" else vector}
            for index, vector in enumerate(response.vectors)
        ],
        "model": response.model,
        "usage": given({"prompt_tokens": total, "total_tokens": total}),
    }


async def _vectors_of_contents(target: Target, fields: Fields, backend: Gate) -> dict[str, Any]:
    """Answer Gemini's requests for vectors: of one content, or of a batch of requests."""
    in_batch = target.method == "batchEmbedContents"
    asked = fields.objects("requests") if in_batch else [fields]
    sizes = {one.take("outputDimensionality", int) for one in asked}
    if len(sizes) != 1:
        problem = "here, all of a batch have the same outputDimensionality" if sizes else "at least one is required"
        raise wrong(fields.place("requests"), problem)
    texts = ["".join(part.need("text", str) for part in one.object("content").objects("parts")) for one in asked]
    options: EmbedOptions = {"model": target.model}
    (size,) = sizes
    if size is not None:
        options["dimensions"] = size
    response = await backend.embed(texts, **options)
    vectors = [{"values": vector} for vector in response.vectors]
    total = response.usage.input_total
    counted = {} if total is None else {"usageMetadata": {"promptTokenCount": total}}
    return {
        **({"embeddings": vectors} if in_batch else {"embedding": vectors[0]}),
        **counted,
    }


def _packed(vector: Sequence[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def _count(route: Route, body: bytes, backend: Gate) -> dict[str, Any]:
    if route.server is None:
        raise AssertionError
    if route.vendor.name == "gemini":
        asked = Fields(spelt(body))
        within = asked.object("generateContentRequest") if asked.has("generateContentRequest") else asked
        request = route.server.request(within.raw)
        return {"totalTokens": (await backend.count_tokens(request.prompt, **given_options(request))).tokens}
    prompt = {"max_tokens": 1, **Fields(body).value()}  # required in a call for an answer, and no part of a prompt
    request = route.server.request(msgspec.json.encode(prompt))
    count = await backend.count_tokens(request.prompt, **given_options(request))
    kind = {"object": "response.input_tokens"} if route.vendor.name == "openai" else {}
    return {**kind, "input_tokens": count.tokens}


# ------------------------------------------------------------------------------------------- lists of models


async def _one(vendor: str, received: Received, backend: Gate) -> dict[str, Any]:
    if vendor == "ollama":
        return _shown(await _model(Fields(received.body).need("model", str), backend))
    target = target_of(received.target) if vendor == "gemini" else None
    name = unquote(received.path.removeprefix(MODEL_PATH)) if target is None else target.model
    return _LISTED[vendor](await _model(name, backend))


async def _model(name: str, backend: Gate) -> ModelInfo:
    """Return what is known of a model; one that is in no list is there all the same, as calls to it are answered."""
    infos = await backend.models()
    return next((info for info in infos if info.id == name), None) or ModelInfo(
        id=name, capabilities=infos[0].capabilities if infos else {}
    )


def _openai(info: ModelInfo) -> dict[str, Any]:
    created = 0 if info.created is None else int(info.created.timestamp())
    return {"id": info.id, "object": "model", "created": created, "owned_by": info.owned_by or "system"}


def _anthropic(info: ModelInfo) -> dict[str, Any]:
    limits = given({"max_input_tokens": info.context_window, "max_tokens": info.max_output})
    return {
        "type": "model",
        "id": info.id,
        "display_name": info.name or info.id,
        "created_at": _moment(info.created),
        **limits,
    }


def _gemini(info: ModelInfo) -> dict[str, Any]:
    methods = [theirs for ours, names in _METHODS.items() if info.capabilities.get(ours) for theirs in names]
    limits = {"inputTokenLimit": info.context_window, "outputTokenLimit": info.max_output}
    more = given({**limits, "thinking": info.capabilities.get("reasoning")})
    named = {"name": resource(info.id), "version": "001", "displayName": info.name or info.id}
    return {**named, **more, "supportedGenerationMethods": methods}


def _ollama(info: ModelInfo) -> dict[str, Any]:
    named = {"name": info.id, "model": info.id, "modified_at": _moment(info.created)}
    return {**named, "size": 0, "digest": "0" * 64, "details": _DETAILS}


def _shown(info: ModelInfo) -> dict[str, Any]:
    context = given({"mock.context_length": info.context_window})
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _DETAILS,
        "model_info": {"general.architecture": "mock", **context},
        "capabilities": [theirs for ours, theirs in _CAN.items() if info.capabilities.get(ours)],
        "modified_at": _moment(info.created),
    }


def _moment(when: datetime | None) -> str:
    return f"{when or datetime.fromtimestamp(0, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _anthropic_list(listed: list[dict[str, Any]]) -> dict[str, Any]:
    ids = [info["id"] for info in listed] or [None]
    return {"data": listed, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}


_LISTED = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini, "ollama": _ollama}
_LISTS: Mapping[str, Callable[[list[dict[str, Any]]], dict[str, Any]]] = {
    "openai": lambda listed: {"object": "list", "data": listed},
    "anthropic": _anthropic_list,
    "gemini": lambda listed: {"models": listed},
    "ollama": lambda listed: {"models": listed},
}
