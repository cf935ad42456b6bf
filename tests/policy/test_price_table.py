"""The bundled table: what it is made from, figures by hand, and the same answers as its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from veyra.policy import prices
from veyra.policy.prices import PriceTable, bundled, cost
from veyra.types import Usage

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The program that builds the table."""
    spec = spec_from_file_location("build_prices", ROOT / "scripts" / "build_prices.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("provider", "model", "usage", "amount"),
    [
        # 700 x 2.5 = 1,750; 300 x 1.25 = 375; 100 x 10 = 1,000
        ("openai", "gpt-4o-2024-08-06", Usage(input_total=1000, cache_read=300, output_total=100), "0.003125"),
        # 500 x 4 = 2,000; 200 x 0.2 = 40; 300 x 5 = 1,500; 100 x 20 = 2,000
        ("anthropic", "claude-opus-5-5", Usage(input_total=1000, cache_read=200, cache_write=300, output_total=100), "0.00554"),
        # above 272,000: 300,000 x 4 = 1,200,000; 1,000 x 15 = 15,000
        ("openai", "gpt-6-sol-2026-09-01", Usage(input_total=300_000, output_total=1000), "1.215"),
        # 900 x 0.3 = 270; 100 x 0.03 = 3; 50 x 2.5 = 125
        ("gcp.gemini", "gemini-2.5-flash", Usage(input_total=1000, cache_read=100, output_total=50), "0.000398"),
        # 1,000 x 0.05 = 50; 100 x 0.08 = 8
        ("groq", "llama-3.1-8b-instant", Usage(input_total=1000, output_total=100), "0.000058"),
        # at noon, off the peak: 1,000 x 0.66 = 660; 100 x 1.98 = 198
        ("deepseek", "deepseek-v4-pro", Usage(input_total=1000, output_total=100), "0.000858"),
        # of OpenAI's: 1,000 x 2 = 2,000; 100 x 8 = 800
        ("azure.ai.openai", "gpt-4.1-2025-04-14", Usage(input_total=1000, output_total=100), "0.0028"),
        # an embedding: 1,000,000 x 0.02
        ("openai", "text-embedding-3-small", Usage(input_total=1_000_000, output_total=0), "0.02"),
    ],
)  # fmt: skip
def test_known_prices(provider: str, model: str, usage: Usage, amount: str) -> None:
    """Costs from the bundled table are those worked out by hand from its rates on a day in November 2026."""
    found = cost(provider, model, usage, NOON)
    assert found is not None
    assert found.amount == Decimal(amount)
    assert found.table_date == bundled().date


@pytest.mark.parametrize(
    ("provider", "model"),
    [("ollama", "llama3.2"), ("openai", "gpt-image-2"), ("openai", "whisper-1"), ("openai", "gpt-realtime"), ("openai", "x")],
)  # fmt: skip
def test_unknown_prices(provider: str, model: str) -> None:
    """A local model, a model charged by more than tokens, and a model not in the table have no cost."""
    found = cost(provider, model, Usage(input_total=1, output_total=1), media=("image",))
    assert found is None


def test_the_table_names_its_source() -> None:
    """The table says what it was built from, under which licence and when."""
    table = bundled()
    assert (table.source, table.licence, table.url) == (
        "genai-prices",
        "MIT",
        "https://github.com/pydantic/genai-prices",
    )
    assert table.date >= date(2026, 11, 23)
    assert "MIT License" in (Path(prices.__file__).parent / "LICENSE-prices.txt").read_text()
    assert f"genai-prices=={table.version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_every_row_can_be_used(build: ModuleType) -> None:
    """The file is written as the program writes it, and no name belongs to two models of a provider."""
    text = Path(prices.__file__).with_name("prices.json").read_text()
    table = PriceTable.parse(text)
    assert len(text) < 150_000
    for provider in table.providers:
        names = [name for model in provider.models for name in (model.names or (model.id,))]
        assert len(names) == len(set(names))
        assert all(name == name.lower() for name in names)
        assert provider.names
        assert provider.models
    assert text.count("\n  {") == sum(len(provider.models) for provider in table.providers)
    assert [list(provider.names) for provider in table.providers] == list(build.PROVIDERS.values())


# ------------------------------------------------------------------------------------------- the program


class Clause(SimpleNamespace):
    def find(self, name: str) -> bool:
        return bool(self.equals == name) if hasattr(self, "equals") else False


class ClauseEquals(Clause): ...


class ClauseStartsWith(Clause): ...


class ClauseEndsWith(Clause): ...


class ClauseContains(Clause): ...


class ClauseRegex(Clause): ...


class ClauseAnd(Clause): ...


class StartDateConstraint(SimpleNamespace): ...


@dataclass
class Model:
    id: str
    match: Any
    prices: Any


@dataclass
class Provider:
    models: list[Model]
    id: str = "openai"
    fallback_model_providers: list[str] = field(default_factory=lambda: ["anthropic", "elsewhere"])

    def find_model(self, name: str) -> Model | None:
        clauses = ((model, getattr(model.match, "or_", [model.match])) for model in self.models)
        return next((model for model, either in clauses if any(one.find(name) for one in either)), None)


def _tiers(base: str, *steps: tuple[int, str]) -> Any:
    tiers = [SimpleNamespace(start=start, price=Decimal(price)) for start, price in steps]
    return SimpleNamespace(base=Decimal(base), tiers=tiers)


class Prices(SimpleNamespace):
    """Like the source's: a price that is not set is None."""

    def __getattr__(self, name: str) -> None:
        return None


def test_the_program_keeps_dates_tiers_and_names(build: ModuleType) -> None:
    """Names, patterns, dates and tiers of the source come out as rows in which the last that holds counts."""
    either = SimpleNamespace(
        or_=[
            ClauseEquals(equals="a"),
            ClauseStartsWith(starts_with="a.b-"),
            ClauseRegex(regex=r"^a-\d$"),
            ClauseAnd(and_=[ClauseContains(contains="x"), ClauseEndsWith(ends_with="y")]),
        ]
    )
    dated = [
        SimpleNamespace(constraint=None, prices=Prices(input_mtok=Decimal(1), output_mtok=_tiers("2", (100, "3")))),
        SimpleNamespace(
            constraint=StartDateConstraint(start_date=date(2026, 1, 2)),
            prices=Prices(input_mtok=Decimal("0.5"), output_mtok=Decimal(1), web_searches_kcount=Decimal(10)),
        ),
    ]
    provider = Provider([Model("a", either, dated)])
    content = build.table([provider, Provider([], id="elsewhere")], "9.9", date(2026, 3, 4))
    assert content["providers"] == [
        {
            "names": ["openai"],
            "fallback": ["anthropic"],
            "models": [
                {
                    "id": "a",
                    "pattern": r"a\.b-.*|(?:a-\d$)|(?=.*x.*$)(?=.*y$).*",
                    "rates": [
                        {"input": "1", "output": "2"},
                        {"above": 100, "input": "1", "output": "3"},
                        {"since": "2026-01-02", "input": "0.5", "output": "1"},
                    ],
                }
            ],
        }
    ]
    table = PriceTable.parse(build.text(content))
    names = {"a": 1, "a.b-c": 1, "aXb-c": 0, "a-1": 1, "a-12": 0, "pxqy": 1, "pxq": 0, "y": 0}
    assert {name: int(table.find("openai", name) is not None) for name in names} == names
    assert (table.version, table.date) == ("9.9", date(2026, 3, 4))


@pytest.mark.parametrize("key", ["audio_hours", "requests_kcount", "output_image_mtok", "output_reasoning_mtok"])
def test_the_program_keeps_no_price_that_tokens_do_not_tell(build: ModuleType, key: str) -> None:
    """A model that is charged by anything that a usage does not count is kept without a price."""
    price = Prices(input_mtok=Decimal(1), output_mtok=Decimal(1), **{key: Decimal(1)})
    content = build.table([Provider([Model("a", ClauseEquals(equals="a"), price)])], "1", date(2026, 1, 1))
    assert content["providers"][0]["models"] == [{"id": "a", "rates": []}]


def test_the_program_notes_media_that_are_charged_differently(build: ModuleType) -> None:
    """A model with its own rates for media keeps the rates for text and says which media they do not hold for."""
    price = Prices(input_mtok=Decimal(1), input_audio_mtok=Decimal(2), cache_image_read_mtok=Decimal(3))
    content = build.table([Provider([Model("a", ClauseEquals(equals="a"), price)])], "1", date(2026, 1, 1))
    assert content["providers"][0]["models"] == [{"id": "a", "media": ["audio", "image"], "rates": [{"input": "1"}]}]


def test_the_program_refuses_what_it_does_not_know(build: ModuleType) -> None:
    """A kind of clause or constraint that is new in the source stops the program."""
    for model in (
        Model("a", SimpleNamespace(fuzzy="a"), Prices(input_mtok=Decimal(1))),
        Model("a", ClauseEquals(equals="a"), [SimpleNamespace(constraint=SimpleNamespace(), prices=Prices())]),
    ):
        with pytest.raises(NotImplementedError):
            build.table([Provider([model])], "1", date(2026, 1, 1))


# ------------------------------------------------------------------------------------------- the source

ELSEWHERE = "genai-prices is installed by scripts/prices only"
USAGES = (
    Usage(input_total=1000, cache_read=200, cache_write=100, output_total=77),
    Usage(input_total=500_001, cache_read=0, cache_write=0, output_total=3),
)
TIMES = tuple(NOON + timedelta(days=days, hours=hours) for days in (-900, -100, 0, 60) for hours in (0, 14))


def test_costs_are_those_of_the_source(build: ModuleType) -> None:
    """Where the source is installed, it gives the same cost for every name it lists, at several times and sizes."""
    genai = pytest.importorskip("genai_prices", reason=ELSEWHERE)
    providers = pytest.importorskip("genai_prices.data", reason=ELSEWHERE).providers
    checked = 0
    for provider in (one for one in providers if one.id in build.PROVIDERS):
        ours = build.PROVIDERS[provider.id][0]
        for name in sorted(_names(provider)):
            entry = bundled().find(ours, name)
            theirs = provider.find_model(name, all_providers=providers)
            assert (entry is None) == (theirs is None), (ours, name)
            if entry is None or not entry.rates:
                continue
            assert theirs.id == entry.id
            for usage in USAGES:
                for at in TIMES:
                    checked += 1
                    found = cost(ours, name, usage, at)
                    if found is None:
                        assert entry.rates[0].output is None, (ours, name)
                        continue
                    asked = genai.Usage(
                        input_tokens=usage.input_total,
                        cache_read_tokens=usage.cache_read,
                        cache_write_tokens=usage.cache_write,
                        output_tokens=usage.output_total,
                    )
                    answer = theirs.calc_price(asked, provider, genai_request_timestamp=at)
                    assert found.amount == answer.total_price, (ours, name, usage, at)
    assert checked > 5000


def _names(provider: Any) -> set[str]:
    names = set()
    for model in provider.models:
        for clause in getattr(model.match, "or_", [model.match]):
            for key in ("equals", "starts_with", "ends_with", "contains"):
                name = getattr(clause, key, None)
                if name is not None:
                    dated = f"{name}-{'20261101' if provider.id == 'anthropic' else '2026-11-01'}"
                    names |= {name, dated, f"x/{name}"}
    return names


def test_the_table_is_what_the_program_builds(build: ModuleType) -> None:
    """Where the source is installed in the table's version, the program builds the same table again."""
    providers = pytest.importorskip("genai_prices.data", reason=ELSEWHERE).providers
    table = bundled()
    content = build.table(providers, table.version, table.date)
    assert Path(prices.__file__).with_name("prices.json").read_text() == build.text(content)


def test_the_table_is_read_once() -> None:
    """The table is loaded by the first question, and kept."""
    assert bundled() is bundled()
