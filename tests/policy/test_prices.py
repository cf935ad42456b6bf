"""Costs, each figure worked out by hand in the line above or beside it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.errors import InvalidRequestError
from veyra.policy.prices import Cost, ModelPrices, PriceTable, ProviderPrices, Rates, cost
from veyra.types import Usage


def dollars(**rates: str) -> dict[str, Any]:
    return {name: Decimal(rate) for name, rate in rates.items()}


FULL = Rates(**dollars(input="3", output="15", cache_read="0.3", cache_write="3.75", cache_write_1h="6"))
TABLE = PriceTable(
    source="by hand",
    version="1",
    date=date(2026, 11, 1),
    providers=(
        ProviderPrices(
            names=("maker", "maker.old"),
            models=(
                ModelPrices(id="full", names=("full", "full-latest"), pattern=r"full-\d{8}", rates=(FULL,)),
                ModelPrices(id="plain", rates=(Rates(**dollars(input="0.15", output="0.6")),)),
                ModelPrices(id="embed", rates=(Rates(**dollars(input="0.02")),)),
                ModelPrices(id="talks", media=("audio",), rates=(Rates(**dollars(input="1", output="2")),)),
                ModelPrices(id="hourly-only"),
                ModelPrices(
                    id="grows",
                    rates=(
                        Rates(**dollars(input="1", output="10")),
                        Rates(**dollars(input="2", output="15"), above=1000),
                        Rates(**dollars(input="4", output="20"), above=5000),
                    ),
                ),
                ModelPrices(
                    id="dated",
                    rates=(
                        Rates(**dollars(input="10", output="0")),
                        Rates(**dollars(input="2", output="0"), since=date(2026, 6, 10)),
                        Rates(**dollars(input="5", output="0"), since=date(2027, 1, 1)),
                    ),
                ),
                ModelPrices(
                    id="peak",
                    rates=(
                        Rates(**dollars(input="1", output="0")),
                        Rates(**dollars(input="2", output="0"), hours=(time(1), time(4))),
                        Rates(**dollars(input="3", output="0"), hours=(time(23), time(0, 30))),
                    ),
                ),
                ModelPrices(id="any", names=(), pattern="full.*|odd", rates=(Rates(**dollars(input="99", output="99")),)),
            ),
        ),
        ProviderPrices(
            names=("seller",),
            fallback=("maker",),
            models=(ModelPrices(id="plain", rates=(Rates(**dollars(input="1", output="1")),)),),
        ),
    ),
)  # fmt: skip
MILLION = Usage(input_total=1_000_000, output_total=0)


def price(model: str, usage: Usage, at: datetime | None = None, **more: Any) -> Decimal | None:
    found = cost(more.pop("provider", "maker"), model, usage, at, table=TABLE, **more)
    return None if found is None else found.amount


@pytest.mark.parametrize(
    ("usage", "amount"),
    [
        # 1,000 x 3 = 3,000; 200 x 15 = 3,000
        (Usage(input_total=1000, output_total=200), "0.006"),
        # 700 x 3 = 2,100; 300 x 0.3 = 90
        (Usage(input_total=1000, cache_read=300, output_total=0), "0.00219"),
        # 300 x 3 = 900; 300 x 0.3 = 90; 400 x 3.75 = 1,500; 10 x 15 = 150
        (Usage(input_total=1000, input_uncached=300, cache_read=300, cache_write=400, output_total=10), "0.00264"),
        # all of it cached: 1,000 x 0.3
        (Usage(input_total=1000, cache_read=1000, output_total=0), "0.0003"),
        # reasoning is part of the output: 200 x 15
        (Usage(input_total=0, output_total=200, reasoning=150), "0.003"),
        (Usage(input_total=0, output_total=0), "0"),
        # 1 x 3
        (Usage(input_total=1, output_total=0), "0.000003"),
    ],
)
def test_cached_tokens_are_counted_once(usage: Usage, amount: str) -> None:
    """Each token is charged at one rate: cached ones at theirs, the rest at the input's, all output at the output's."""
    assert price("full", usage) == Decimal(amount)


def test_tokens_kept_for_an_hour_have_their_own_rate() -> None:
    """What was written to the cache for an hour is charged at that rate where there is one."""
    usage = Usage(input_total=1000, cache_write=1000, output_total=0)
    assert price("full", usage) == Decimal("0.00375")
    assert price("full", usage, cache_ttl="5m") == Decimal("0.00375")
    assert price("full", usage, cache_ttl="1h") == Decimal("0.006")
    assert price("plain", usage, cache_ttl="1h") == Decimal("0.00015")


def test_a_rate_left_out_is_that_of_the_input() -> None:
    """Without rates for the cache, cached tokens cost what other input costs."""
    usage = Usage(input_total=1000, cache_read=400, cache_write=100, output_total=0)
    assert price("plain", usage) == Decimal("0.00015")


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input_total=5),
        Usage(output_total=5),
        Usage(input_total=5, cache_read=6, output_total=1),
        Usage(input_total=5, cache_read=3, cache_write=3, output_total=1),
        Usage(input_total=5, cache_read=-1, output_total=1),
        Usage(input_total=5, cache_write=-1, output_total=1),
        Usage(input_total=-5, output_total=1),
        Usage(input_total=5, output_total=-1),
    ],
)
def test_unknown_tokens_have_no_cost(usage: Usage) -> None:
    """Tokens that were not stated, or that contradict each other, make the cost unknown and not zero."""
    assert price("full", usage) is None


def test_an_embedding_costs_its_input() -> None:
    """A model without a rate for output costs its input alone; had it written anything, that would be unknown."""
    assert price("embed", Usage(input_total=1000)) == Decimal("0.00002")
    assert price("embed", Usage(input_total=1000, output_total=0)) == Decimal("0.00002")
    assert price("embed", Usage(input_total=1000, output_total=1)) is None


@pytest.mark.parametrize(("provider", "model"), [("maker", "other"), ("nobody", "full"), ("maker", "hourly-only")])
def test_an_unknown_price_is_no_cost(provider: str, model: str) -> None:
    """A provider or model that is not in the table, or is not charged by tokens, has an unknown cost."""
    assert price(model, MILLION, provider=provider) is None


def test_media_with_a_rate_of_their_own_make_the_cost_unknown() -> None:
    """Where the request held media that are charged differently, the usage does not tell their tokens."""
    assert price("talks", MILLION) == 1
    assert price("talks", MILLION, media=["image"]) == 1
    assert price("talks", MILLION, media=["image", "audio"]) is None


@pytest.mark.parametrize(
    ("model", "amount"),
    [("full", 3), ("FULL-Latest", 3), ("full-20261101", 3), ("full-2026", 99), ("odd", 99), ("odder", None)],
)
def test_a_name_goes_before_a_pattern(model: str, amount: int | None) -> None:
    """A model is found by its exact name in any case, then by the first pattern that matches all of it."""
    assert price(model, MILLION) == amount


def test_a_provider_sells_what_another_makes() -> None:
    """A model that is not among a provider's own has the price of the provider it falls back to."""
    assert price("plain", MILLION, provider="seller") == 1
    assert price("full", MILLION, provider="seller") == 3
    assert price("full", MILLION, provider="maker.old") == 3


@pytest.mark.parametrize(
    ("tokens", "amount"),
    # 1,000 x 1 + 10 x 10; 1,001 x 2 + 10 x 15; 5,000 x 2 + 10 x 15; 5,001 x 4 + 10 x 20
    [(0, "0.0001"), (1000, "0.0011"), (1001, "0.002152"), (5000, "0.01015"), (5001, "0.020204")],
)
def test_a_long_input_is_charged_at_its_own_rates(tokens: int, amount: str) -> None:
    """Above a threshold of input tokens all tokens of the request are charged at the higher rates."""
    assert price("grows", Usage(input_total=tokens, output_total=10)) == Decimal(amount)


def test_cached_tokens_count_towards_the_threshold() -> None:
    """The size of the input is all of it, cached tokens included: 1,500 x 2."""
    assert price("grows", Usage(input_total=1500, cache_read=1400, output_total=0)) == Decimal("0.003")


@pytest.mark.parametrize(
    ("at", "amount"),
    [
        (None, 2),
        (datetime(2020, 1, 1, tzinfo=UTC), 10),
        (datetime(2026, 6, 9, 23, 59, 59, tzinfo=UTC), 10),
        (datetime(2026, 6, 10, tzinfo=UTC), 2),
        (datetime(2026, 6, 9, 20, tzinfo=timezone(timedelta(hours=-4))), 2),
        (datetime(2026, 6, 10, 1, tzinfo=timezone(timedelta(hours=2))), 10),
        (datetime(2027, 1, 1, tzinfo=UTC), 5),
    ],
)
def test_a_price_holds_from_its_day_on(at: datetime | None, amount: int) -> None:
    """The rates of the day count, by UTC; without a time, those of the table's own date."""
    assert price("dated", MILLION, at) == amount


@pytest.mark.parametrize(
    ("hour", "amount"),
    [("00:30", 1), ("00:59", 1), ("01:00", 2), ("03:59", 2), ("04:00", 1), ("22:59", 1), ("23:00", 3), ("00:29", 3)],
)
def test_a_price_can_depend_on_the_hour(hour: str, amount: int) -> None:
    """Rates of hours of the day hold from the first up to the second, also over midnight."""
    assert price("peak", MILLION, datetime.fromisoformat(f"2026-11-01T{hour}+00:00")) == amount


def test_without_the_hour_a_price_that_depends_on_it_is_unknown() -> None:
    """Where the hour decides and none is given, the cost is unknown."""
    assert price("peak", MILLION) is None


def test_a_time_without_a_zone_is_refused() -> None:
    """A naive time is an error, for it could be a day off."""
    with pytest.raises(InvalidRequestError, match="time zone"):
        price("full", MILLION, datetime(2026, 1, 1))  # noqa: DTZ001  (the point)


def test_a_cost_says_its_table_and_its_currency() -> None:
    """A cost carries the date of its table, and itself in millionths."""
    found = cost("maker", "full", Usage(input_total=1000, output_total=200), table=TABLE)
    assert found == Cost(amount=Decimal("0.006"), table_date=date(2026, 11, 1), currency="USD")
    assert found is not None
    assert found.micro == 6000


@pytest.mark.parametrize(
    ("amount", "micro"),
    [("0.0000005", 0), ("0.0000015", 2), ("0.00000051", 1), ("12.345678", 12345678), ("0", 0), ("123456789", 123456789 * 10**6)],
)  # fmt: skip
def test_millionths_are_rounded_to_the_nearest(amount: str, micro: int) -> None:
    """An amount in millionths is a whole number, half to even."""
    assert Cost(amount=Decimal(amount), table_date=TABLE.date).micro == micro


def test_an_amount_has_no_trailing_zeros() -> None:
    """Amounts read as people write them."""
    assert str(price("full", MILLION)) == "3"
    assert str(price("full", Usage(input_total=10_000_000, output_total=0))) == "30"
    assert str(price("full", Usage(input_total=100, output_total=0))) == "0.0003"


COUNTS = st.integers(0, 2**63 - 1)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_cost_is_exact_whatever_the_size(plain: int, read: int, written: int, output: int) -> None:
    """The sum is exact in integers of a hundredth of a millionth, also under a caller's coarse decimal context."""
    usage = Usage(input_total=plain + read + written, cache_read=read, cache_write=written, output_total=output)
    with localcontext() as context:
        context.prec = 3
        found = cost("maker", "full", usage, table=TABLE)
    assert found is not None
    hundredths = plain * 300 + read * 30 + written * 375 + output * 1500
    numerator, denominator = found.amount.as_integer_ratio()
    assert numerator * 10**8 == hundredths * denominator


def test_a_table_can_be_given_as_json() -> None:
    """A table is read from the form that the bundled one has."""
    table = PriceTable.parse(
        '{"source": "mine", "version": "3", "date": "2026-01-02", "providers": [{"names": ["me"], "models": '
        '[{"id": "m", "rates": [{"input": "1.5", "output": "2"}, {"input": "1", "hours": ["01:00:00", "02:00:00"]}]}]}]}'
    )
    assert table.providers[0].models[0].rates[1].hours == (time(1), time(2))
    found = cost("me", "m", MILLION, datetime(2026, 1, 1, tzinfo=UTC), table=table)
    assert found == Cost(amount=Decimal("1.5"), table_date=date(2026, 1, 2))


def test_own_prices_go_before_the_others() -> None:
    """An entry put in front of a table's providers counts before the ones behind it."""
    mine = ProviderPrices(names=("maker",), models=(ModelPrices(id="full", rates=(Rates(input=Decimal(1)),)),))
    table = PriceTable(source="mine", version="1", date=TABLE.date, providers=(mine, *TABLE.providers))
    found = [cost("maker", model, MILLION, table=table) for model in ("full", "embed")]
    assert [None if one is None else one.amount for one in found] == [Decimal(1), Decimal("0.02")]


ONE_RATE = (
    '{"source": "s", "version": "1", "date": "2026-01-01", "providers": '
    '[{"names": ["a"], "models": [{"id": "m", "rates": [{"input": "RATE"}]}]}]}'
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no price table"),
        ("[]", "no price table"),
        (b"\xff", "no price table"),
        ('{"source": "s", "version": "1", "date": "soon", "providers": []}', r"\$\.date"),
        (ONE_RATE.replace("RATE", "-1"), "finite number, 0 or more, not -1"),
        (ONE_RATE.replace("RATE", "NaN"), "not NaN"),
    ],
)
def test_what_is_no_table_is_refused(text: str, words: str) -> None:
    """Text that is no price table, or has an impossible rate, is an error of ours that says where."""
    with pytest.raises(InvalidRequestError, match=words):
        PriceTable.parse(text)
