"""The two spellings in which Gemini's API is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from veyra.wire.gemini_spelling import as_json_schema, spelt


@pytest.mark.parametrize(
    "body",
    [
        b'{ "contents":[{"parts" :[{"text":"max_output_tokens"}]}] }',
        b'{"x_more":{"topP":1}}',
        b'{"top_p":',
        b'{"top_p":"\xff"}',
        b"[" * 100_000 + b'"top_p"',
        b"",
    ],
)
def test_what_needs_no_other_spelling_stays_as_it_is(body: bytes) -> None:
    """A body in camelCase, and one that is no JSON, are the same bytes afterwards."""
    assert spelt(body) == body


def test_names_are_changed_where_the_api_reads_them() -> None:
    """Names of the API's are changed; those in arguments, results, schemas and fields that we do not know are not."""
    own = {"top_p": 1, "parts": {"function_call": 2}}
    body = {
        "system_instruction": {"parts": {"text": "Be brief."}},
        "contents": [
            {"parts": [{"function_call": {"name": "f", "args": own}, "thought_signature": "s"}]},
            {"parts": [{"function_response": {"name": "f", "response": own}}]},
            {"parts": [{"inline_data": {"mime_type": "image/png", "data": ""}}]},
        ],
        "tools": {"function_declarations": {"name": "f", "parameters_json_schema": own}},
        "generation_config": {"top_p": 1, "response_json_schema": own, "thinking_config": {"thinking_budget": 0}},
        "x_more": own,
    }
    assert json.loads(spelt(json.dumps(body).encode())) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"parts": [{"functionCall": {"name": "f", "args": own}, "thoughtSignature": "s"}]},
            {"parts": [{"functionResponse": {"name": "f", "response": own}}]},
            {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": own}]}],
        "generationConfig": {"topP": 1, "responseJsonSchema": own, "thinkingConfig": {"thinkingBudget": 0}},
        "x_more": own,
    }


@pytest.mark.parametrize(
    ("came", "says"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"any_of": [{"type": "STRING"}], "nullable": True},
            {"anyOf": [{"anyOf": [{"type": "string"}]}, {"type": "null"}]},
        ),
        (
            {"type": "ARRAY", "items": {"type": "INTEGER"}, "min_items": "2"},
            {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        ),
        (
            {"type": "OBJECT", "properties": {"type": {"type": "STRING"}, "any_of": {}}, "propertyOrdering": ["type"]},
            {"type": "object", "properties": {"type": {"type": "string"}, "any_of": {}}},
        ),
        ({"type": "TYPE_UNSPECIFIED", "enum": ["A"]}, {"enum": ["A"]}),
        ({"type": "object", "minLength": 2, "items": True}, {"type": "object", "minLength": 2, "items": True}),
    ],
)
def test_a_schema_of_openapi_as_json_schema(came: dict[str, Any], says: dict[str, Any]) -> None:
    """Types in small letters, null as a type, counts as numbers; names of properties are nobody's keywords."""
    assert as_json_schema(came) == says
