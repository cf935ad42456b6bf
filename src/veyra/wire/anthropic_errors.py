"""Anthropic Messages: what an error means, by its error code and type, then by status (wire facts, 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from veyra.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    excerpt,
)
from veyra.wire.failures import Origin, as_status, by_status
from veyra.wire.reading import as_word, read

_SPENT = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
"""Codes of a 429 that no waiting clears."""

_BY_TYPE: Mapping[str, tuple[type[ProviderError], int]] = {
    "invalid_request_error": (InvalidRequestError, 400),
    "authentication_error": (AuthenticationError, 401),
    "billing_error": (QuotaError, 402),
    "permission_error": (PermissionDeniedError, 403),
    "not_found_error": (NotFoundError, 404),
    "conflict_error": (InvalidRequestError, 409),
    "request_too_large": (InvalidRequestError, 413),
    "rate_limit_error": (RateLimitError, 429),
    "api_error": (ServerError, 500),
    "timeout_error": (ServerError, 504),
    "overloaded_error": (OverloadedError, 529),
}
"""The class of each type, and the status it has where it comes before the answer."""


def reported(origin: Origin, body: bytes, *, partial: str = "") -> ProviderError:
    """Return the error that `body` reports, whole or as an event of a stream; `body` may be anything.

    Google's platform in front of this API answers in its own shape: a numeric code and a status in words. A 429 that
    does not say how long to wait is no matter of waiting (wire facts, 3.3), unless the provider itself asks to try again.
    """
    value = read(body)
    if isinstance(value, list) and value:
        value = value[0]
    outer = value if isinstance(value, dict) else {}
    inner = outer.get("error")
    fields = inner if isinstance(inner, dict) else outer
    details = fields.get("details")
    code = as_word(details.get("error_code") if isinstance(details, dict) else fields.get("code"))
    word, stated = as_word(fields.get("type")), origin.head.status
    kind, usual = _BY_TYPE.get(word or "", (None, None))
    if origin.is_success:
        stated = usual or as_status(code) or stated
    if code in _SPENT:
        kind = QuotaError
    if origin.request_id is None:
        origin = replace(origin, request_id=as_word(outer.get("request_id")))
    message = fields.get("message")
    error = origin.error(
        kind or (by_status(stated) if stated >= 300 else ServerError),
        message if isinstance(message, str) and message else excerpt(body),
        provider_type=word,
        provider_code=code,
        partial=partial,
        status=stated,
    )
    asked_again = error.retry_after is not None or origin.head.headers.get("x-should-retry") == "true"
    if origin.head.status == 429 and not asked_again:
        error.retryable = False
    return error
