"""What the log is told of an attempt: OpenTelemetry GenAI attributes, and the bodies that go beside the leaf.

Attributes hold no word of a prompt or an answer. Bodies are masked for keys before they are handed to the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from veyra.audit import BodyPart
from veyra.audit.redact import mask, wanted
from veyra.errors import CallTimeoutError, ProviderError
from veyra.models.base import Exchange
from veyra.policy.prices import Cost
from veyra.schema import json_schema
from veyra.transport.recording import kept_headers
from veyra.types import Embedded, EmbeddingResponse, EmbedRequest, Finish, ModelResponse, Request, TokenCount, Usage

_PORTS = {"http": 80, "https": 443}
_REQUEST_ATTRIBUTES = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "reasoning": "veyra.request.reasoning",
}
_USAGE_ATTRIBUTES = {
    "input_total": "gen_ai.usage.input_tokens",
    "output_total": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "input_uncached": "veyra.usage.input_uncached",
    "reasoning": "veyra.usage.reasoning",
}

_MEDIA_TYPE_LIMIT = 255
"""Characters that are kept of a media type: whoever sends more does not mean one, and no answer may be without a record for it."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def intent_attributes(request: Request, exchange: Exchange, *, operation: str = "chat") -> dict[str, object]:
    """Return the attributes of `call.intent`: who is asked, for what, and with which options.

    Args:
        request: what is asked.
        exchange: what is about to be made.
        operation: `gen_ai.operation.name`; `count_tokens`, which OpenTelemetry does not name, where tokens are counted.
    """
    attributes: dict[str, object] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": exchange.provider,
        "gen_ai.request.model": request.model,
        "veyra.stream": request.stream,
        "veyra.messages": len(request.messages),
    }
    for option, attribute in _REQUEST_ATTRIBUTES.items():
        value = getattr(request, option)
        if value is None:
            value = exchange.applied.get(option)
        if value is not None:
            attributes[attribute] = value
    return attributes | _place(exchange)


def embedding_attributes(request: EmbedRequest, exchange: Exchange) -> dict[str, object]:
    """Return the attributes of the `call.intent` of a call for vectors."""
    attributes: dict[str, object] = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": exchange.provider,
        "gen_ai.request.model": request.model,
        "veyra.texts": len(request.texts),
    }
    if request.dimensions is not None:
        attributes["gen_ai.embeddings.dimension.count"] = request.dimensions
    return attributes | _place(exchange)


def _place(exchange: Exchange) -> dict[str, object]:
    """Return where a request goes, and in which format."""
    attributes: dict[str, object] = {}
    if exchange.dialect is not None:
        attributes["veyra.dialect"] = exchange.dialect
    if exchange.outgoing is not None:
        attributes |= _address(exchange.outgoing.url)
    return attributes


@lru_cache(maxsize=256)
def _address(url: str) -> Mapping[str, object]:
    where = urlsplit(url)
    address: dict[str, object] = {
        "server.address": where.hostname,
        "server.port": where.port or _PORTS.get(where.scheme),
        "url.path": where.path,
    }
    if where.query:
        address["url.query"] = where.query
    return address


def intent_parts(request: Request, exchange: Exchange) -> list[BodyPart]:
    """Return the bodies of `call.intent`: the messages as asked, and the exact bytes that will be sent."""
    asked: dict[str, object] = {"messages": request.messages}
    if request.system is not None:
        asked["system"] = request.system
    if request.tools:
        asked["tools"] = request.tools
    if request.extra:
        asked["extra"] = request.extra
    if request.stop:
        asked["stop"] = request.stop
    if request.metadata:
        asked["metadata"] = request.metadata
    if request.tool_choice is not None:
        asked["tool_choice"] = request.tool_choice
    if request.output is not None:
        asked["output"] = json_schema(request.output)
    if request.cache is not None:
        asked["cache"] = request.cache
    return _asked_parts(asked, exchange)


def embedding_parts(request: EmbedRequest, exchange: Exchange) -> list[BodyPart]:
    """Return the bodies of the `call.intent` of a call for vectors: the texts, and the exact bytes that will be sent."""
    asked: dict[str, object] = {"texts": request.texts}
    if request.extra:
        asked["extra"] = request.extra
    return _asked_parts(asked, exchange)


def _asked_parts(asked: Mapping[str, object], exchange: Exchange) -> list[BodyPart]:
    keys = wanted(exchange.secrets)
    parts = [_part("request.messages", _json(asked), keys)]
    if exchange.outgoing is not None and exchange.outgoing.body:
        parts.append(_part("request.wire", exchange.outgoing.body, keys))
    return parts


def outcome_attributes(
    exchange: Exchange,
    *,
    finish: Finish | None = None,
    found: Embedded | None = None,
    price: Cost | None = None,
    error: BaseException | None = None,
) -> dict[str, object]:
    """Return the attributes of `call.outcome`: what answered, what it used and cost, or why it failed."""
    attributes: dict[str, object] = {}
    if exchange.head is not None:
        attributes["http.response.status_code"] = exchange.head.status
        attributes["veyra.stream.chunks"] = len(exchange.body)
        attributes["veyra.stream.bytes"] = exchange.size
    if finish is not None:
        attributes |= _finish_attributes(finish)
    if found is not None:
        attributes |= {"gen_ai.response.model": found.model, "veyra.request_id": found.request_id}
        attributes |= _usage_attributes(found.usage)
    if price is not None:
        attributes["veyra.cost.currency"] = price.currency
        attributes["veyra.cost.amount"] = str(price.amount)
        attributes["veyra.cost.micro"] = price.micro
        attributes["veyra.cost.table_date"] = price.table_date.isoformat()
    if error is not None:
        attributes |= _error_attributes(error)
    return attributes


def outcome_parts(exchange: Exchange, answer: ModelResponse | EmbeddingResponse | TokenCount | None) -> list[BodyPart]:
    """Return the bodies of `call.outcome`: the answer as handed on, its exact bytes, and how they came.

    Vectors are as handed on in their exact bytes, and so are written out only where there are no such bytes.
    """
    parts, keys = [], wanted(exchange.secrets)
    match answer:
        case ModelResponse():
            parts.append(_part("response.message", _json(_message(answer)), keys))
        case TokenCount():
            parts.append(_part("response.message", _json({"tokens": answer.tokens}), keys))
        case EmbeddingResponse() if exchange.head is None:
            parts.append(_part("response.message", _json({"vectors": answer.vectors}), keys))
        case _:
            pass
    if exchange.head is not None:
        body = b"".join(exchange.body)
        media_type = exchange.head.headers.get("content-type", "application/octet-stream")[:_MEDIA_TYPE_LIMIT]
        parts.append(_part("response.wire", body, keys, media_type))
        parts.append(_part("meta", _json(_meta(exchange)), keys))
    return parts


def _finish_attributes(finish: Finish) -> dict[str, object]:
    attributes: dict[str, object] = {
        "gen_ai.response.model": finish.model,
        "gen_ai.response.id": finish.response_id,
        "veyra.request_id": finish.request_id or finish.response_id,
        "veyra.finish_reason": finish.reason,
    }
    if finish.raw_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = [finish.raw_reason]
    return attributes | _usage_attributes(finish.usage)


def _usage_attributes(usage: Usage) -> dict[str, object]:
    stated: dict[str, object] = {}
    for name, attribute in _USAGE_ATTRIBUTES.items():
        value = getattr(usage, name)
        if value is not None:
            stated[attribute] = value
    return stated


def _error_attributes(error: BaseException) -> dict[str, object]:
    if not isinstance(error, ProviderError):
        return {"error.type": type(error).__name__}
    attributes: dict[str, object] = {
        "error.type": error.kind,
        "veyra.error.provider_type": error.provider_type,
        "veyra.error.provider_code": error.provider_code,
        "veyra.error.ambiguous": error.ambiguous,
        "veyra.request_id": error.request_id,
    }
    if isinstance(error, CallTimeoutError):
        attributes["veyra.error.phase"] = error.phase
    return attributes


def _message(response: ModelResponse) -> dict[str, object]:
    message: dict[str, object] = {"content": response.content, "finish_reason": response.finish_reason}
    if response.reasoning:
        message["reasoning"] = response.reasoning
    if response.tool_calls:
        message["tool_calls"] = response.tool_calls
    if response.warnings:
        message["warnings"] = response.warnings
    return message


def _meta(exchange: Exchange) -> dict[str, object]:
    """The head of the answer, for each piece of its body how many bytes came after how many ns, and whether it was cut."""
    if exchange.head is None:
        raise AssertionError
    headers = kept_headers(exchange.head.headers)
    arrivals = [[len(data), ns] for data, ns in zip(exchange.body, exchange.arrivals, strict=True)]
    meta = {"status": exchange.head.status, "headers": headers, "arrivals": arrivals}
    return {**meta, "cut": True} if exchange.cut else meta


def _part(name: str, data: bytes, keys: Sequence[bytes], media_type: str = "application/json") -> BodyPart:
    return BodyPart(name, mask(data, keys), media_type)


def _json(value: Mapping[str, object]) -> bytes:
    """Encode as JSON; text with lone surrogates, which models do produce, is written with escapes."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value, enc_hook=str)
        return json.dumps(plain, separators=(",", ":")).encode("ascii")
