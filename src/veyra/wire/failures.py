"""What went wrong with an answer, in our words: the parts that all dialects share.

A dialect knows the provider's own words (type, code). Where they say nothing, the HTTP status decides, by the table
here (wire facts, 2.4 and 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from veyra.errors import (
    AuthenticationError,
    IncompleteStreamError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    excerpt,
)
from veyra.transport.base import Head
from veyra.wire.base import Flags

_E = TypeVar("_E", bound=ProviderError)

_BY_STATUS: Mapping[int, type[ProviderError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    425: ServerError,
    429: RateLimitError,
    498: OverloadedError,
    499: ServerError,
    503: OverloadedError,
    529: OverloadedError,
}
_CONFLICT = 409
_NOT_IMPLEMENTED = 501
_GAVE_UP_WAITING = frozenset({408, 499, 504, 524})
"""Statuses of somebody who stopped waiting for the model: it may have done the work."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an answer comes from: what every error about it must say.

    Attributes:
        provider: the endpoint's name.
        head: the answer's status and headers.
        request_id: the provider's id for the exchange, from the header that the dialect knows.
    """

    provider: str
    head: Head
    request_id: str | None

    @classmethod
    def of(cls, head: Head, flags: Flags, *, id_header: str | None) -> Origin:
        """Return the origin of an answer with this head."""
        return cls(flags.provider, head, (head.headers.get(id_header) or None) if id_header else None)

    @property
    def is_success(self) -> bool:
        """The head says that all is well, so an error comes inside the answer, and its own words decide."""
        return self.head.status < 300

    def error(
        self,
        kind: type[_E],
        message: str,
        *,
        provider_type: str | None = None,
        provider_code: str | None = None,
        partial: str = "",
        status: int | None = None,
        delay: float | None = None,
    ) -> _E:
        """Return the error `kind` for this answer, with what the head says about trying again.

        Args:
            kind: the error's class, as the dialect decided it.
            message: the provider's own message, of any length.
            provider_type: the provider's word for it.
            provider_code: the provider's code for it.
            partial: the text that came before; where there is some, the work may be billed.
            status: the status that the body states, where it is not that of the head.
            delay: seconds that the body asks to wait; the head goes before it.
        """
        status = status or self.head.status
        wait = retry_after(self.head.headers)
        text = excerpt(message) or "no message"
        if 300 <= self.head.status < 400:
            text = (
                f"redirects are not followed; this one leads to {excerpt(self.head.headers.get('location', 'nowhere'))}"
            )
        return kind(
            f"{self.provider} (HTTP {self.head.status}): {text}",
            provider=self.provider,
            status=self.head.status,
            provider_type=provider_type,
            provider_code=provider_code,
            request_id=self.request_id,
            retryable=self._retryable(kind, status),
            ambiguous=kind.default_ambiguous or bool(partial) or status in _GAVE_UP_WAITING,
            retry_after=delay if wait is None else wait,
            partial=partial,
        )

    def malformed(self, what: str, body: bytes = b"", *, partial: str = "") -> MalformedResponseError:
        """Return the error for bytes that are not what the format says, with their beginning."""
        start = f": {excerpt(body)}" if body else ""
        return self.error(MalformedResponseError, what + start, partial=partial)

    def incomplete(self, marker: str, *, partial: str = "") -> IncompleteStreamError:
        """Return the error for a stream that ended before `marker`, its terminal marker."""
        return self.error(IncompleteStreamError, f"the stream ended without {marker}", partial=partial)

    def _retryable(self, kind: type[ProviderError], status: int) -> bool:
        """Say whether to try again: the class says so, unless the provider says it itself (`x-should-retry`)."""
        if kind is QuotaError:
            return False
        word = self.head.headers.get("x-should-retry")
        if word in {"true", "false"}:
            return word == "true"
        if status in {_CONFLICT, _NOT_IMPLEMENTED}:
            return status == _CONFLICT
        return kind.default_retryable


def by_status(status: int) -> type[ProviderError]:
    """Return the class that an HTTP status from 300 stands for, where nothing better is known."""
    return _BY_STATUS.get(status) or (ServerError if status >= 500 else InvalidRequestError)


def as_status(value: object) -> int | None:
    """Return `value` as an HTTP error status, if it is one: providers write it as a number or as digits."""
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait, or None where it does not say.

    `retry-after-ms` goes before `retry-after`. A date is measured against the answer's own `date` header, as no clock is
    read here; one in the past is 0.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    then, now = _date(headers.get("retry-after")), _date(headers.get("date"))
    return None if then is None or now is None else max(0.0, (then - now).total_seconds())


def _date(text: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return when if when.tzinfo else None
