"""What Gemini's API lets be written in two ways, brought into the one that the dialect writes.

1. The API's messages are Protocol Buffers: a field is named in camelCase or, just as well, in snake_case (ProtoJSON). Of the
   fields that our words say, names in the other spelling are changed; everything else stays as it came, and so does what
   is JSON of somebody's own: arguments, results, JSON Schemas.
2. A list of one may be written as its one item.
3. A schema comes as JSON Schema or as OpenAPI's, whose types are in capitals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.wire.reading import UNREADABLE

_MESSAGES = frozenset(
    {
        "contents",
        "parts",
        "systemInstruction",
        "functionCall",
        "functionResponse",
        "inlineData",
        "fileData",
        "tools",
        "functionDeclarations",
        "toolConfig",
        "functionCallingConfig",
        "generationConfig",
        "thinkingConfig",
        "generateContentRequest",
        "requests",
        "content",
    }
)
"""Fields that hold further fields of the API."""
_FIELDS = frozenset(
    {
        "allowedFunctionNames",
        "fileUri",
        "includeThoughts",
        "maxOutputTokens",
        "mimeType",
        "outputDimensionality",
        "parametersJsonSchema",
        "responseJsonSchema",
        "responseMimeType",
        "responseSchema",
        "stopSequences",
        "thinkingBudget",
        "thinkingLevel",
        "thoughtSignature",
        "topP",
    }
)
"""Fields that hold values."""


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


_NAMES = {_snake(name): name for name in _MESSAGES | _FIELDS if _snake(name) != name}
_LISTS = frozenset({"contents", "parts", "tools", "functionDeclarations", "requests"})
_MAY_HOLD = re.compile(
    rf'"(?:{"|".join(sorted(_NAMES))})"\s*:|"(?:{"|".join(sorted(_LISTS))})"\s*:\s*\{{'.encode()
).search

_SCHEMA_NAMES = {
    "any_of": "anyOf",
    "max_items": "maxItems",
    "max_length": "maxLength",
    "max_properties": "maxProperties",
    "min_items": "minItems",
    "min_length": "minLength",
    "min_properties": "minProperties",
}
_COUNTS = frozenset(name for name in _SCHEMA_NAMES.values() if name != "anyOf")
"""Keywords whose value is a 64-bit number, which ProtoJSON writes as a string."""
_UNSAID = frozenset({"nullable", "propertyOrdering", "property_ordering", "example"})
"""Keywords of OpenAPI's that JSON Schema does not have."""


def spelt(body: bytes) -> bytes:
    """Return a request's body as the dialect would spell it; untouched where it is spelt so already."""
    if not _MAY_HOLD(body):
        return body
    try:
        return msgspec.json.encode(_renamed(msgspec.json.decode(body)))
    except (*UNREADABLE, OverflowError):  # whoever reads it says what is wrong with it
        return body


def _renamed(value: object) -> object:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    form: dict[str, object] = {}
    for written, inner in value.items():
        name: str = _NAMES.get(written) or written
        item = _renamed(inner) if name in _MESSAGES else inner
        form[name] = [item] if name in _LISTS and isinstance(item, dict) else item
    return form


def as_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema of OpenAPI's as JSON Schema says it."""
    told: dict[str, Any] = {}
    for key, value in schema.items():
        name = _SCHEMA_NAMES.get(key, key)
        if name in _UNSAID or (name, value) == ("type", "TYPE_UNSPECIFIED"):
            continue
        told[name] = _said(name, value)
    if schema.get("nullable") is True:
        kind = told.get("type")
        return {**told, "type": [kind, "null"]} if isinstance(kind, str) else {"anyOf": [told, {"type": "null"}]}
    return told


def _said(name: str, value: Any) -> Any:  # noqa: ANN401  (JSON)
    match name, value:
        case "type", str():
            return value.lower()
        case "properties", dict():
            return {key: _inner(schema) for key, schema in value.items()}
        case "items", _:
            return _inner(value)
        case "anyOf", list():
            return [_inner(schema) for schema in value]
        case _, str() if name in _COUNTS and value.isdecimal():
            return int(value)
    return value


def _inner(schema: Any) -> Any:  # noqa: ANN401  (JSON)
    return as_json_schema(schema) if isinstance(schema, dict) else schema
