"""Build the bundled price table from the package genai-prices (Pydantic, MIT licence).

What is kept: for the providers in `PROVIDERS`, each model's prices for a million tokens, with the dates, hours of day
and input sizes from which they hold. A model that is charged by anything that a `Usage` does not count (hours, pages,
requests, tokens of media in the answer) is kept without a price, so that its cost is unknown and no other row's name
pattern catches it. Charges for tools that run at the provider (searches) are left out: they come on top of tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "src" / "veyra" / "policy" / "prices.json"
URL = "https://github.com/pydantic/genai-prices"

PROVIDERS = {
    "anthropic": ["anthropic"],
    "azure": ["azure.ai.openai", "azure"],
    "cerebras": ["cerebras"],
    "deepseek": ["deepseek"],
    "fireworks": ["fireworks"],
    "google": ["gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", "gemini"],
    "groq": ["groq"],
    "mistral": ["mistral_ai", "mistral"],
    "openai": ["openai"],
    "perplexity": ["perplexity"],
    "together": ["together"],
    "x-ai": ["x_ai", "xai"],
}
"""The source's name of a provider, and the names under which Veyra asks for it: OpenTelemetry's spelling first."""

RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
}
MEDIA = {
    "input_audio_mtok": "audio",
    "cache_audio_read_mtok": "audio",
    "input_image_mtok": "image",
    "cache_image_read_mtok": "image",
    "input_video_mtok": "video",
}
ON_TOP = {"web_searches_kcount", "storage_searches_kcount"}


def table(providers: Iterable[Any], source_version: str, day: date) -> dict[str, Any]:
    """Return the price table for the source's providers."""
    return {
        "source": "genai-prices",
        "version": source_version,
        "licence": "MIT",
        "url": URL,
        "date": day.isoformat(),
        "providers": [_provider(provider) for provider in providers if provider.id in PROVIDERS],
    }


def text(content: dict[str, Any]) -> str:
    """Return the table as JSON with a line for each model."""
    head = {key: value for key, value in content.items() if key != "providers"}
    blocks = []
    for provider in content["providers"]:
        models = ",\n".join(f"  {_compact(model)}" for model in provider["models"])
        own = _compact({key: value for key, value in provider.items() if key != "models"})
        blocks.append(f'{own[:-1]},"models":[\n{models}\n ]}}')
    return _compact(head)[:-1] + ',"providers":[\n' + ",\n".join(blocks) + "\n]}\n"


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _provider(provider: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"names": PROVIDERS[provider.id]}
    fallback = [PROVIDERS[other][0] for other in provider.fallback_model_providers or () if other in PROVIDERS]
    if fallback:
        row["fallback"] = fallback
    row["models"] = [_model(provider, model) for model in provider.models]
    return row


def _model(provider: Any, model: Any) -> dict[str, Any]:
    names, patterns = [], []
    for clause in getattr(model.match, "or_", [model.match]):
        name = getattr(clause, "equals", None)
        if name is None:
            patterns.append(_pattern(clause))
        elif provider.find_model(name) is model:  # an earlier row of the source may take the name
            names.append(name.lower())
    row: dict[str, Any] = {"id": model.id}
    if names != [model.id]:
        row["names"] = names
    if patterns:
        row["pattern"] = "|".join(patterns)
    steps = _steps(model)
    charged = {key for _, price in steps for key, value in vars(price).items() if value is not None}
    media = sorted({MEDIA[key] for key in charged & MEDIA.keys()})
    if media:
        row["media"] = media
    priced = "input_mtok" in charged and not charged - RATES.keys() - MEDIA.keys() - ON_TOP
    row["rates"] = [rates for when, price in steps for rates in _rates(when, price)] if priced else []
    return row


def _pattern(clause: Any) -> str:
    """Return a clause as a regular expression that must match a whole name in lower case."""
    match type(clause).__name__:
        case "ClauseEquals":
            return _literal(clause.equals)
        case "ClauseStartsWith":
            return f"{_literal(clause.starts_with)}.*"
        case "ClauseEndsWith":
            return f".*{_literal(clause.ends_with)}"
        case "ClauseContains":
            return f".*{_literal(clause.contains)}.*"
        case "ClauseRegex":
            before = "" if clause.regex.startswith("^") else ".*"
            after = "" if clause.regex.endswith("$") else ".*"
            return f"{before}(?:{clause.regex.removeprefix('^')}){after}"
        case "ClauseAnd":
            return "".join(f"(?={_pattern(part)}$)" for part in clause.and_) + ".*"
        case other:
            raise NotImplementedError(other)


def _literal(name: str) -> str:
    return re.escape(name.lower()).replace(r"\-", "-")


def _steps(model: Any) -> list[tuple[dict[str, Any], Any]]:
    """Return when each of a model's prices holds, in an order in which the last that applies counts."""
    if not isinstance(model.prices, list):
        return [({}, model.prices)]
    return [(_when(step.constraint), step.prices) for step in model.prices]


def _when(constraint: Any) -> dict[str, Any]:
    match type(constraint).__name__:
        case "NoneType":
            return {}
        case "StartDateConstraint":
            return {"since": constraint.start_date.isoformat()}
        case "TimeOfDateConstraint":
            return {"hours": [f"{edge:%H:%M:%S}" for edge in (constraint.start_time, constraint.end_time)]}
        case other:
            raise NotImplementedError(other)


def _rates(when: dict[str, Any], price: Any) -> Iterator[dict[str, Any]]:
    """Yield the rates of a price, one for each size of input from which they change."""
    found = {name: getattr(price, key) for key, name in RATES.items() if getattr(price, key) is not None}
    starts = {tier.start for rate in found.values() for tier in getattr(rate, "tiers", ())}
    for start in sorted({0, *starts}):
        above = {"above": start} if start else {}
        yield {**when, **above, **{name: str(_at(rate, start)) for name, rate in found.items()}}


def _at(rate: Any, start: int) -> Any:
    """Return what a rate is for inputs above `start` tokens."""
    tiers = [tier.price for tier in getattr(rate, "tiers", ()) if tier.start <= start]
    return tiers[-1] if tiers else getattr(rate, "base", rate)


def main() -> None:
    """Write the table, and say how many models have a price in it."""
    from genai_prices.data import providers  # noqa: PLC0415  (only needed, and only installed, to build)

    content = table(providers, version("genai-prices"), datetime.now(tz=UTC).date())
    TARGET.write_text(text(content))
    models = [model for provider in content["providers"] for model in provider["models"]]
    priced = sum(bool(model["rates"]) for model in models)
    print(
        f"{TARGET.name}: {priced} of {len(models)} models have a price, from {content['source']} {content['version']}"
    )


if __name__ == "__main__":
    main()
