"""What an answer cost: exact, from a dated table, or unknown.

1. Exact: rates are decimals for a million tokens, and nothing is rounded but `Cost.micro`.
2. Cached tokens are counted once: they are part of `Usage.input_total` and are charged at their own rates, the rest
   at the input's.
3. Unknown is None: no such model in the table, tokens that were not stated or contradict each other, a part of them
   that the table has no rate for, or a rate that depends on an hour that was not given. A local model has no price.
4. A cost is that of the tokens at the provider's standard rates. Charges on top (searches at the provider, storage)
   and other tiers of service (batch, priority) are not in it.

The bundled table is built by `scripts/prices` from the source that it names, and is read when it is first needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache, lru_cache
from pathlib import Path

import msgspec

from veyra.errors import InvalidRequestError
from veyra.types import Usage

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""Wide enough for any rate times any count of 64 bits: no product or sum of them is rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an answer cost.

    Attributes:
        amount: the exact sum, without trailing zeros.
        table_date: the date of the table that it was worked out from.
        currency: always `USD`.
    """

    amount: Decimal
    table_date: date
    currency: str = "USD"

    @property
    def micro(self) -> int:
        """The amount in millionths, rounded to the nearest (half to even)."""
        return round(_EXACT.scaleb(self.amount, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars for a million tokens, and when they hold. A rate left out is that of the input.

    Attributes:
        input: tokens that came from no cache and went into none.
        output: all output, reasoning included; None for a model that has none (embeddings).
        cache_read, cache_write: tokens read from and written to the provider's cache.
        cache_write_1h: tokens written to be kept for an hour, where that has a rate of its own.
        since: the first day, UTC.
        hours: the hours of day, UTC: from the first, up to but without the second.
        above: they hold for requests with more input tokens than this, cached ones included.
    """

    input: Decimal
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    since: date | None = None
    hours: tuple[time, time] | None = None
    above: int = 0

    def __post_init__(self) -> None:
        for rate in (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h):
            if rate is not None and not (rate.is_finite() and rate >= 0):
                msg = f"a rate is a finite number, 0 or more, not {rate}"
                raise InvalidRequestError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrices:
    """What one model costs.

    Attributes:
        id: its name in the source.
        names: every name it goes by, in lower case; None is the `id` alone.
        pattern: a regular expression for more names, matched against the whole of a name in lower case.
        media: kinds of input that are charged at rates the table does not have.
        rates: the last of them that holds counts; empty where it is not charged by tokens alone.
    """

    id: str
    names: tuple[str, ...] | None = None
    pattern: str | None = None
    media: tuple[str, ...] = ()
    rates: tuple[Rates, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPrices:
    """What one provider's models cost.

    Attributes:
        names: the provider's names, OpenTelemetry's spelling first.
        models: its models; an exact name goes before a pattern, an earlier pattern before a later one.
        fallback: providers whose price counts for a model that is not among its own.
    """

    names: tuple[str, ...]
    models: tuple[ModelPrices, ...]
    fallback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices, and where they are from. Of several entries for a provider the first that knows the model counts.

    Attributes:
        source, version, licence, url: what the prices were taken from.
        date: the day on which they were.
    """

    source: str
    version: str
    date: date
    providers: tuple[ProviderPrices, ...]
    licence: str = ""
    url: str = ""

    @classmethod
    def parse(cls, data: bytes | str) -> PriceTable:
        """Return the table that a JSON text holds, in the form of the bundled one.

        Raises:
            InvalidRequestError: it is not such a table; the message says where.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeError) as error:
            msg = f"this is no price table: {error}"
            raise InvalidRequestError(msg) from error

    def find(self, provider: str, model: str) -> ModelPrices | None:
        """Return the entry for a model, its own provider's before a fallback's; None where there is none."""
        own = [entry for entry in self.providers if provider in entry.names]
        lent = [entry for entry in self.providers for mine in own if not set(mine.fallback).isdisjoint(entry.names)]
        found = (_find(entry.models, model.lower()) for entry in (*own, *lent))
        return next((entry for entry in found if entry is not None), None)


def cost(
    provider: str,
    model: str,
    usage: Usage,
    at: datetime | None = None,
    *,
    cache_ttl: str | None = None,
    media: Collection[str] = (),
    table: PriceTable | None = None,
) -> Cost | None:
    """Return what an answer with that usage cost, or None where that is not known.

    Args:
        provider: who answered, as in `Flags.provider`. Give the provider's own name only for its own endpoint.
        model: the model that answered, or was asked.
        usage: the tokens. Cached tokens that were not stated are taken as none; an embedding has an output of 0.
        at: when it was asked, with a time zone; without it the rates of the table's date hold.
        cache_ttl: how long what was written to the cache was to be kept, in the provider's words (`5m`, `1h`).
        media: kinds of media in the request (`image`, `audio`, `video`): where one has a rate of its own, the usage
            does not say how many tokens it was, and the cost is not known.
        table: other prices than the bundled ones.

    Raises:
        InvalidRequestError: `at` has no time zone.
    """
    prices = _bundled_entry(provider, model) if table is None else table.find(provider, model)
    table = bundled() if table is None else table
    if prices is None or usage.input_total is None or (media and not set(prices.media).isdisjoint(media)):
        return None
    if at is not None and at.tzinfo is None:
        msg = "the time of a price needs a time zone: use datetime.now(tz=UTC), say"
        raise InvalidRequestError(msg)
    moment = at if at is None or at.tzinfo is UTC else at.astimezone(UTC)
    day = table.date if moment is None else moment.date()
    rates = _in_force(prices.rates, day, moment, usage.input_total)
    dollars = None if rates is None else _sum(rates, usage, long_cache=cache_ttl == "1h")
    return None if dollars is None else Cost(amount=dollars, table_date=table.date)


@cache
def bundled() -> PriceTable:
    """Return the table that comes with Veyra, read once."""
    return PriceTable.parse(Path(__file__).with_name("prices.json").read_bytes())


@lru_cache(maxsize=1024)
def _bundled_entry(provider: str, model: str) -> ModelPrices | None:
    return bundled().find(provider, model)


def _find(models: tuple[ModelPrices, ...], name: str) -> ModelPrices | None:
    for model in models:
        if name in ((model.id,) if model.names is None else model.names):
            return model
    for model in models:
        if model.pattern is not None and re.fullmatch(model.pattern, name):
            return model
    return None


def _in_force(rates: tuple[Rates, ...], day: date, moment: datetime | None, input_total: int) -> Rates | None:
    for rate in reversed(rates):
        if (rate.since is not None and day < rate.since) or input_total <= rate.above > 0:
            continue
        if rate.hours is None:
            return rate
        if moment is None:
            return None  # another hour has another rate
        if _within(moment.time(), *rate.hours):
            return rate
    return None


def _within(hour: time, start: time, end: time) -> bool:
    if start <= end:
        return start <= hour < end
    return hour >= start or hour < end  # over midnight


def _sum(rates: Rates, usage: Usage, *, long_cache: bool) -> Decimal | None:
    """Return the exact sum, or None where the tokens are not all stated or have no rate."""
    read, written = usage.cache_read or 0, usage.cache_write or 0
    plain = (usage.input_total or 0) - read - written
    output = usage.output_total
    if min(plain, read, written) < 0 or (output is None and rates.output is not None):
        return None
    if output and (output < 0 or rates.output is None):
        return None
    write_rate = rates.cache_write_1h if long_cache and rates.cache_write_1h is not None else rates.cache_write
    charged = (
        (plain, rates.input),
        (read, rates.input if rates.cache_read is None else rates.cache_read),
        (written, rates.input if write_rate is None else write_rate),
        (output or 0, rates.output or Decimal(0)),
    )
    dollars = Decimal(0)
    for tokens, rate in charged:
        if tokens:
            dollars = _EXACT.fma(rate, tokens, dollars)
    exact = _EXACT.normalize(_EXACT.scaleb(dollars, -6))
    return exact if exact.adjusted() < 1 else Decimal(f"{exact:f}")  # without an exponent, which tens may have
