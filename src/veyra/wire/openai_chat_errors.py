"""OpenAI Chat Completions and Responses: what an error means, by type and code, then by status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.errors import (
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
    excerpt,
)
from veyra.wire.failures import Origin, as_status, by_status
from veyra.wire.reading import as_word, read

_BY_WORD: Mapping[str, type[ProviderError]] = {
    "invalid_api_key": AuthenticationError,
    "invalid_authentication": AuthenticationError,
    "authentication_error": AuthenticationError,
    "permission_error": PermissionDeniedError,
    "permission_denied": PermissionDeniedError,
    "unsupported_country_region_territory": PermissionDeniedError,
    "insufficient_quota": QuotaError,
    "exceeded_current_quota_error": QuotaError,
    "billing_hard_limit_reached": QuotaError,
    "billing_not_active": QuotaError,
    "billing_error": QuotaError,
    "insufficient_balance": QuotaError,
    "model_not_found": NotFoundError,
    "not_found_error": NotFoundError,
    "DeploymentNotFound": NotFoundError,
    "context_length_exceeded": ContextLengthError,
    "exceed_context_size_error": ContextLengthError,
    "too_many_prompt_tokens": ContextLengthError,
    "content_policy_violation": ContentPolicyError,
    "content_filter": ContentPolicyError,
    "ResponsibleAIPolicyViolation": ContentPolicyError,
    "data_inspection_failed": ContentPolicyError,
    "invalid_prompt": ContentPolicyError,
    "bio_policy": ContentPolicyError,
    "misalignment_policy_violation": ContentPolicyError,
    "image_content_policy_violation": ContentPolicyError,
    "unsupported_parameter": UnsupportedParameterError,
    "unsupported_value": UnsupportedParameterError,
    "unknown_parameter": UnsupportedParameterError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "RateLimitReached": RateLimitError,
    "overloaded_error": OverloadedError,
    "service_unavailable": OverloadedError,
    "engine_overloaded": OverloadedError,
    "server_is_overloaded": OverloadedError,
    "slow_down": OverloadedError,
    "data_residency_mismatch": InvalidRequestError,
    "invalid_image": InvalidRequestError,
    "invalid_image_format": InvalidRequestError,
    "invalid_base64_image": InvalidRequestError,
    "invalid_image_url": InvalidRequestError,
    "invalid_image_mode": InvalidRequestError,
    "image_too_large": InvalidRequestError,
    "image_too_small": InvalidRequestError,
    "image_parse_error": InvalidRequestError,
    "image_file_too_large": InvalidRequestError,
    "image_file_not_found": InvalidRequestError,
    "unsupported_image_media_type": InvalidRequestError,
    "empty_image_file": InvalidRequestError,
    "failed_to_download_image": InvalidRequestError,
}
"""Codes and types that say more than a status does; those about images come with a failed response, inside a 200."""


def reported(origin: Origin, body: bytes, *, partial: str = "") -> ProviderError:
    """Return the error that `body` reports, whole or inside a stream; `body` may be anything.

    Shapes seen: `{"error": {...}}`, `{"error": "text"}`, the fields of an error at the top (Mistral), `{"detail": ...}`
    (servers built on FastAPI), the first of these wrapped in a list (Google), and HTML.
    """
    value = read(body)
    if isinstance(value, list) and value:
        value = value[0]
    outer = value if isinstance(value, dict) else {}
    inner = outer.get("error")
    fields = inner if isinstance(inner, dict) else outer
    kind, code = as_word(fields.get("type")), as_word(fields.get("code"))
    status = origin.head.status
    if origin.is_success:
        stated = (as_status(fields.get(name)) for name in ("status_code", "code", "status", "raw_status_code"))
        status = next((number for number in stated if number), status)
    return origin.error(
        _classify(status, kind, code),
        _message(outer, fields) or excerpt(body),
        provider_type=kind,
        provider_code=code,
        partial=partial,
        status=status,
    )


def _classify(status: int, kind: str | None, code: str | None) -> type[ProviderError]:
    for word in (code, kind):
        if word is not None and word in _BY_WORD:
            return _BY_WORD[word]
    if status >= 300:
        return by_status(status)
    return InvalidRequestError if kind == "invalid_request_error" else ServerError


def _message(outer: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """Return what the provider says, with what a router passes on from the provider behind it."""
    detail = fields.get("detail", outer.get("detail"))
    if detail is not None and not isinstance(detail, str):
        detail = msgspec.json.encode(detail).decode()
    candidates = (fields.get("message"), outer.get("error"), outer.get("message"), detail)
    message = next((text for text in candidates if text and isinstance(text, str)), "")
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{message} ({raw})" if message and isinstance(raw, str) else message
