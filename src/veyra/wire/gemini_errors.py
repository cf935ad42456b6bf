"""Gemini: what an error means, by the reason in its details, by its status in words, then by the HTTP status.

Google's APIs share one model of errors (google.rpc.Status): a code, a status in words, a message, and details, each
of which names its type.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

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

_BY_REASON: Mapping[str, type[ProviderError]] = {
    "API_KEY_INVALID": AuthenticationError,
    "ACCESS_TOKEN_EXPIRED": AuthenticationError,
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": AuthenticationError,
    "CREDENTIALS_MISSING": AuthenticationError,
    "BILLING_DISABLED": QuotaError,
}
"""Reasons (google.rpc.ErrorInfo) that say more than a status: a wrong key is a 400 here."""

STATUSES: Mapping[str, tuple[type[ProviderError], int]] = {
    "INVALID_ARGUMENT": (InvalidRequestError, 400),
    "FAILED_PRECONDITION": (InvalidRequestError, 400),
    "OUT_OF_RANGE": (InvalidRequestError, 400),
    "UNAUTHENTICATED": (AuthenticationError, 401),
    "PERMISSION_DENIED": (PermissionDeniedError, 403),
    "NOT_FOUND": (NotFoundError, 404),
    "ABORTED": (InvalidRequestError, 409),
    "ALREADY_EXISTS": (InvalidRequestError, 409),
    "RESOURCE_EXHAUSTED": (RateLimitError, 429),
    "CANCELLED": (ServerError, 499),
    "UNKNOWN": (ServerError, 500),
    "INTERNAL": (ServerError, 500),
    "DATA_LOSS": (ServerError, 500),
    "UNIMPLEMENTED": (ServerError, 501),
    "UNAVAILABLE": (OverloadedError, 503),
    "DEADLINE_EXCEEDED": (ServerError, 504),
}
"""The class of each status, and the HTTP status it has where it comes before the answer (google.rpc.Code)."""


def reported(origin: Origin, body: bytes, *, partial: str = "") -> ProviderError:
    """Return the error that `body` reports, whole, in a list of one, or inside a stream; `body` may be anything."""
    value = read(body)
    if isinstance(value, list) and value:
        value = value[0]
    outer = value if isinstance(value, dict) else {}
    inner = outer.get("error")
    fields = inner if isinstance(inner, dict) else outer
    details = list(_details(fields))
    word, reason = as_word(fields.get("status")), _reason(details)
    kind, usual = STATUSES.get(word or "", (None, None))
    status = origin.head.status
    if status < 300:
        status = usual or as_status(fields.get("code")) or status
    message = fields.get("message")
    return origin.error(
        _BY_REASON.get(reason or "") or kind or (by_status(status) if status >= 300 else ServerError),
        message if isinstance(message, str) and message else excerpt(body),
        provider_type=word,
        provider_code=reason or as_word(fields.get("code")),
        partial=partial,
        status=status,
        delay=_delay(details),
    )


def _details(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = fields.get("details")
    return (detail for detail in (details if isinstance(details, list) else ()) if isinstance(detail, dict))


def _reason(details: list[Mapping[str, Any]]) -> str | None:
    return next((reason for detail in details if (reason := as_word(detail.get("reason")))), None)


def _delay(details: list[Mapping[str, Any]]) -> float | None:
    """Return the seconds that a google.rpc.RetryInfo asks to wait; a duration is written as `37.5s`."""
    for detail in details:
        text = detail.get("retryDelay")
        if not isinstance(text, str) or not text.endswith("s"):
            continue
        try:
            seconds = float(text[:-1])
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None
