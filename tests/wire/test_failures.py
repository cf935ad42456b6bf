"""Errors: which class a status, a type or a code stands for, and when to try again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answers import head
from veyra.errors import (
    EXCERPT_LIMIT,
    AuthenticationError,
    ContentPolicyError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    UnsupportedParameterError,
)
from veyra.transport.base import Head
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Dialect, Flags
from veyra.wire.failures import retry_after
from veyra.wire.gemini import Gemini
from veyra.wire.ollama import Ollama
from veyra.wire.openai_chat import OpenAIChat
from veyra.wire.openai_responses import OpenAIResponses

DIALECTS = (OpenAIChat(), OpenAIResponses(), Anthropic(), Ollama(), Gemini())
FLAGS = Flags(provider="test")
HTML = b"<html><head><title>Bad Gateway</title></head>" + b"<p>cloud</p>" * 200


def openai(**fields: Any) -> bytes:
    return json.dumps({"error": {"message": "it failed", **fields}}).encode()


def anthropic(kind: str, **details: Any) -> bytes:
    error = {"type": kind, "message": "it failed"} | ({"details": details} if details else {})
    return json.dumps({"type": "error", "error": error, "request_id": "req_body"}).encode()


def ollama(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("status", "kind", "retryable", "ambiguous"),
    [
        (400, InvalidRequestError, False, False),
        (401, AuthenticationError, False, False),
        (402, QuotaError, False, False),
        (403, PermissionDeniedError, False, False),
        (404, NotFoundError, False, False),
        (408, ServerError, True, True),
        (409, InvalidRequestError, True, False),
        (413, InvalidRequestError, False, False),
        (422, InvalidRequestError, False, False),
        (429, RateLimitError, True, False),
        (499, ServerError, True, True),
        (500, ServerError, True, False),
        (501, ServerError, False, False),
        (502, ServerError, True, False),
        (503, OverloadedError, True, False),
        (504, ServerError, True, True),
        (520, ServerError, True, False),
        (524, ServerError, True, True),
        (529, OverloadedError, True, False),
    ],
)
@pytest.mark.parametrize("body", [b"", HTML, b"\xff\xfe\x00", b"[]", b"null", b'{"error": {}}', b"[" * 5000])
def test_status_alone(
    dialect: Dialect, status: int, kind: type[ProviderError], *, retryable: bool, ambiguous: bool, body: bytes
) -> None:
    """Where the body says nothing we know, whatever it is, the status decides; the message stays short."""
    error = dialect.failure(head(status, retry_after="1"), body, FLAGS)
    assert type(error) is kind
    assert (error.status, error.retryable, error.ambiguous, error.partial) == (status, retryable, ambiguous, "")
    assert error.provider == "test"
    assert len(error.message) < EXCERPT_LIMIT + 100
    assert "\n" not in error.message


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_redirect_is_not_followed(dialect: Dialect) -> None:
    """A redirect is a wrong address: the error says where it leads, and trying again does not help."""
    error = dialect.failure(head(308, location="https://elsewhere/v1"), HTML, FLAGS)
    assert type(error) is InvalidRequestError
    assert (error.status, error.retryable) == (308, False)
    assert "https://elsewhere/v1" in error.message


@pytest.mark.parametrize(
    ("status", "fields", "kind"),
    [
        (401, {"code": "invalid_api_key", "type": "invalid_request_error"}, AuthenticationError),
        (401, {"type": "authentication_error", "code": "invalid_request_error"}, AuthenticationError),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, QuotaError),
        (429, {"code": "rate_limit_exceeded", "type": "tokens"}, RateLimitError),
        (403, {"code": "insufficient_quota"}, QuotaError),
        (404, {"code": "model_not_found", "type": "invalid_request_error"}, NotFoundError),
        (400, {"code": "model_not_found"}, NotFoundError),
        (404, {"code": "DeploymentNotFound"}, NotFoundError),
        (400, {"code": "context_length_exceeded"}, ContextLengthError),
        (400, {"type": "exceed_context_size_error", "code": 400}, ContextLengthError),
        (400, {"type": "too_many_prompt_tokens", "code": 400}, ContextLengthError),
        (400, {"code": "content_filter", "type": None}, ContentPolicyError),
        (400, {"code": "content_policy_violation"}, ContentPolicyError),
        (400, {"code": "unsupported_parameter", "param": "max_tokens"}, UnsupportedParameterError),
        (400, {"code": "unsupported_value"}, UnsupportedParameterError),
        (400, {"code": "unknown_parameter"}, UnsupportedParameterError),
        (400, {"code": "a_new_code", "type": "invalid_request_error"}, InvalidRequestError),
        (402, {"code": 402}, QuotaError),
        (500, {"type": "server_error", "code": None}, ServerError),
        (503, {"code": "service_unavailable"}, OverloadedError),
    ],
)
def test_openai_words(status: int, fields: dict[str, Any], kind: type[ProviderError]) -> None:
    """A code or type we know goes before the status, and both are kept as they came."""
    error = OpenAIChat().failure(head(status, x_request_id="req_1"), openai(**fields), FLAGS)
    assert type(error) is kind
    assert error.request_id == "req_1"
    code = fields.get("code")
    assert error.provider_code == (None if code is None else str(code))
    assert error.provider_type == fields.get("type")
    assert "it failed" in error.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": "told"}',
        b'{"object": "error", "message": "told", "type": "x", "code": "3051"}',
        b'{"detail": "told"}',
        b'{"detail": [{"loc": ["body"], "msg": "told"}]}',
        b'[{"error": {"message": "told"}}]',
        b'{"error": {"message": "Provider returned error", "metadata": {"raw": "told"}}}',
        b'{"code": "invalid", "error": "told"}',
        b"told",
        b"<html>told</html>",
    ],
)
def test_openai_shapes(body: bytes) -> None:
    """The message is found in every shape that compatible servers have been seen to use."""
    error = OpenAIChat().failure(head(400), body, FLAGS)
    assert type(error) is InvalidRequestError
    assert "told" in error.message


@pytest.mark.parametrize(
    ("status", "kind", "expected", "retryable"),
    [
        (400, "invalid_request_error", InvalidRequestError, False),
        (401, "authentication_error", AuthenticationError, False),
        (402, "billing_error", QuotaError, False),
        (403, "permission_error", PermissionDeniedError, False),
        (404, "not_found_error", NotFoundError, False),
        (409, "conflict_error", InvalidRequestError, True),
        (413, "request_too_large", InvalidRequestError, False),
        (429, "rate_limit_error", RateLimitError, False),
        (500, "api_error", ServerError, True),
        (504, "timeout_error", ServerError, True),
        (529, "overloaded_error", OverloadedError, True),
        (500, "overloaded_error", OverloadedError, True),
        (418, "a_new_error", InvalidRequestError, False),
    ],
)
def test_anthropic_types(status: int, kind: str, expected: type[ProviderError], *, retryable: bool) -> None:
    """The type decides before the status; a missing request id header is made up for by the body's."""
    error = Anthropic().failure(head(status), anthropic(kind), FLAGS)
    assert type(error) is expected
    assert error.retryable is retryable
    assert (error.provider_type, error.request_id) == (kind, "req_body")
    named = Anthropic().failure(head(status, request_id="req_head"), anthropic(kind), FLAGS)
    assert named.request_id == "req_head"


@pytest.mark.parametrize(
    ("headers", "retryable"),
    [
        ({}, False),
        ({"retry_after": "5"}, True),
        ({"retry_after": "0"}, True),
        ({"retry_after": "soon"}, False),
        ({"x_should_retry": "true"}, True),
        ({"x_should_retry": "false", "retry_after": "5"}, False),
    ],
)
@pytest.mark.parametrize("body", [anthropic("rate_limit_error"), b"", HTML])
def test_anthropic_429_that_asks_for_no_wait(headers: dict[str, str], body: bytes, *, retryable: bool) -> None:
    """A 429 without a time to wait is not to be tried again, unless the provider says otherwise; it stays a rate limit."""
    error = Anthropic().failure(head(429, **headers), body, FLAGS)
    assert type(error) is RateLimitError
    assert error.retryable is retryable


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_anthropic_spend_limit(code: str) -> None:
    """A 429 for a spend limit is a matter of quota: waiting does not help, whatever a header says."""
    body = anthropic("rate_limit_error", error_code=code)
    error = Anthropic().failure(head(429, x_should_retry="true", retry_after="5"), body, FLAGS)
    assert type(error) is QuotaError
    assert error.retryable is False
    assert error.provider_code == code


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, '"llama3" does not support tools', UnsupportedParameterError),
        (400, '"llama3" does not support thinking', UnsupportedParameterError),
        (400, "prompt too long; exceeded max context length by 4 tokens", ContextLengthError),
        (400, "invalid options", InvalidRequestError),
        (401, "unauthorized", AuthenticationError),
        (404, "model 'x' not found", NotFoundError),
        (500, "the runner does not support life", ServerError),
        (503, "server busy, please try again. maximum pending requests exceeded", OverloadedError),
    ],
)
def test_ollama_messages(status: int, message: str, kind: type[ProviderError]) -> None:
    """Where there is only a message the status decides, and its words only tell refused requests apart."""
    error = Ollama().failure(head(status), ollama(message), FLAGS)
    assert type(error) is kind
    assert message in error.message
    assert error.request_id is None
    assert ("ollama pull" in error.message) is (status == 404)


_DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
_LATER = "Mon, 23 Nov 2026 10:00:30 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "9999"}, 9999.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": _LATER, "date": _DATE}, 30.0),
        ({"retry-after": _DATE, "date": _LATER}, 0.0),
        ({"retry-after": _LATER}, None),
        ({"retry-after": _LATER, "date": "today"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:00 -0000", "date": _DATE}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds and dates are read; a date needs the answer's own date, as no clock is read."""
    assert retry_after(headers) == seconds
    for dialect in DIALECTS:
        assert dialect.failure(Head(429, headers), b"", FLAGS).retry_after == seconds


@pytest.mark.parametrize(("word", "retryable"), [("true", True), ("false", False)])
def test_the_provider_may_say_whether_to_retry(word: str, *, retryable: bool) -> None:
    """`x-should-retry` goes before what the class would say, except for a spent quota."""
    for status in (400, 500):
        assert OpenAIChat().failure(head(status, x_should_retry=word), b"", FLAGS).retryable is retryable
    spent = OpenAIChat().failure(head(429, x_should_retry=word), openai(code="insufficient_quota"), FLAGS)
    assert spent.retryable is False


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "type", "code", "message", "detail", "details", "status"]), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode()), st.integers(400, 599))
def test_any_body_gives_an_error(body: bytes, status: int) -> None:
    """Whatever a body holds, `failure` returns an error and does not raise one."""
    for dialect in DIALECTS:
        error = dialect.failure(head(status), body, FLAGS)
        assert isinstance(error, ProviderError)
        assert error.status == status
