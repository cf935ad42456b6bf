"""What an answer's headers tell of its provider's limits.

    x-ratelimit-{limit,remaining,reset}-{requests,tokens}                      OpenAI, Azure, Groq and others
    x-ratelimit-{limit,remaining,reset}-{req,requests,tokens}-minute           Mistral, Cerebras
    anthropic-ratelimit-{requests,tokens,...}-{limit,remaining,reset}          Anthropic

A reset is a duration (`6m0s`, `20ms`), a number of seconds, or a time (RFC 3339), which is measured against the answer's own
`date`: no clock is read. What cannot be understood is as good as not said. Limits of a day or a month, and headers that do
not name what they count, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

_UNITS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_STEP: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_STEP.pattern})+", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,6}(?:\.\d{1,9})?", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,18}", re.ASCII)

_FIELDS: Final = ("limit", "remaining", "reset")
_REQUESTS: Final = tuple(
    tuple(spelling.format(field) for field in _FIELDS)
    for spelling in (
        "x-ratelimit-{}-requests",
        "x-ratelimit-{}-req-minute",
        "x-ratelimit-{}-requests-minute",
        "anthropic-ratelimit-requests-{}",
    )
)
_TOKENS: Final = tuple(
    tuple(spelling.format(field) for field in _FIELDS)
    for spelling in (
        "x-ratelimit-{}-tokens",
        "x-ratelimit-{}-tokens-minute",
        "anthropic-ratelimit-tokens-{}",
        "anthropic-ratelimit-input-tokens-{}",
        "anthropic-ratelimit-output-tokens-{}",
    )
)


_TOLD: Final = frozenset(name for spelling in (*_REQUESTS, *_TOKENS) for name in spelling[:2])


class Reading(NamedTuple):
    """What was told of one limit.

    Attributes:
        limit: so many in all; None where that was not told.
        remaining: so many are left; None where that was not told.
        reset: seconds until all of them are there again; None where that was not told.
    """

    limit: int | None
    remaining: int | None
    reset: float | None


class Readings(NamedTuple):
    """What was told of requests and of tokens; None is nothing."""

    requests: Reading | None
    tokens: Reading | None


_NOTHING: Final = Readings(None, None)


def read(headers: Mapping[str, str]) -> Readings:
    """Return what headers, names in lower case, tell; nothing in them makes it fail.

    Of several limits on tokens (Anthropic's, on those of prompts, of answers and of both) the scarcest is told, with the
    largest number as the limit: what is left of it is all that is sure to be left.
    """
    if _TOLD.isdisjoint(headers):
        return _NOTHING
    return Readings(_first(headers, _REQUESTS), _scarcest(list(_all(headers, _TOKENS))))


def _first(headers: Mapping[str, str], spellings: tuple[tuple[str, ...], ...]) -> Reading | None:
    return next(_all(headers, spellings), None)


def _all(headers: Mapping[str, str], spellings: tuple[tuple[str, ...], ...]) -> Iterator[Reading]:
    for limit, remaining, reset in spellings:
        if limit in headers or remaining in headers:
            most = _count(headers.get(limit))
            left = _count(headers.get(remaining))
            if most or left is not None:
                yield Reading(most or None, left, _reset(headers.get(reset), headers))


def _scarcest(readings: list[Reading]) -> Reading | None:
    if len(readings) < 2:
        return readings[0] if readings else None
    scarce = min(readings, key=_share)
    return scarce._replace(limit=max((reading.limit or 0 for reading in readings), default=0) or None)


def _share(reading: Reading) -> float:
    """Return which part of a limit is left."""
    return 1.0 if reading.limit is None or reading.remaining is None else reading.remaining / reading.limit


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


def _reset(text: str | None, headers: Mapping[str, str]) -> float | None:
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
    return _until(text, headers.get("date"))


def _until(text: str, date: str | None) -> float | None:
    """Return the seconds from one time to another, both of them told in whole seconds; the longest that it can be."""
    try:
        then, now = datetime.fromisoformat(text), parsedate_to_datetime(date or "")
        return max((then - now).total_seconds(), 0.0) + 1.0
    except (ValueError, TypeError):  # no times, or one of them without a zone
        return None
