"""What is known of models, as data: what each takes, and what it refuses.

1. A row holds for a provider and for the models whose names begin with its prefix; of several, the longest prefix
   counts, whole: rows do not add up. A prefix ends where a name's part ends: `gpt-5` is not the beginning of `gpt-5.1`.
2. None is "not known here", which is not "refused": a model without a row may do anything.
3. Rows given at run time go before the bundled ones, and only in what they state.
4. Every group of rows names its source. Facts are added when a provider states them, never by likeness.

What a whole wire format cannot say is its dialect's affair and is not repeated here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Literal, TypeAlias

from veyra.wire.base import Flags

Sampling: TypeAlias = Literal["always", "reasoning_off", "never"]
Thinking: TypeAlias = Literal["adaptive", "budget", "both", "level"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """How a provider caches prompts.

    Attributes:
        form: `automatic` (nothing is to be asked), `marked` (blocks are marked) or `options` (asked for in options).
        ttls: how long it can be asked to keep them, in the provider's words.
    """

    form: Literal["automatic", "marked", "options"]
    ttls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model. None is "not known".

    Attributes:
        sampling: when `temperature` and `top_p` are taken.
        no_sampling_since: the version of the API from which no model takes them.
        logprobs: when log probabilities are taken.
        efforts: the levels of reasoning it takes besides `none`; empty for a model that does not reason.
        default_effort: what it does unasked: `none`, a level, or `on` where the level is not told.
        none_accepted: it can be told not to reason.
        none_instead: what to do where it cannot, if there is something near.
        thinking: how reasoning is asked for: `adaptive` (by level, the model decides), `budget` (in tokens), `both`, or
            `level` (by level only).
        min_budget: the least budget in tokens; a budget must also be below the output limit of the call.
        max_output: tokens that it writes at most, reasoning included.
        system_role: the role of the system text in Chat Completions.
        max_tokens_field: the name of the output limit in Chat Completions.
        stop: it takes stop sequences.
        forced_tools: it takes a `tool_choice` that forces a call.
        structured: how it is made to keep to a schema: by a mode of its own, or by a tool.
        image, document, audio: it takes such input.
        cache: how prompts are cached.
        prefill: it goes on from an assistant's turn that ends the conversation.
    """

    sampling: Sampling | None = None
    no_sampling_since: str | None = None
    logprobs: Sampling | None = None
    efforts: tuple[str, ...] | None = None
    default_effort: str | None = None
    none_accepted: bool | None = None
    none_instead: str | None = None
    thinking: Thinking | None = None
    min_budget: int | None = None
    max_output: int | None = None
    system_role: Literal["system", "developer"] | None = None
    max_tokens_field: str | None = None
    stop: bool | None = None
    forced_tools: bool | None = None
    structured: Literal["native", "tool"] | None = None
    image: bool | None = None
    document: bool | None = None
    audio: bool | None = None
    cache: CacheRules | None = None
    prefill: bool | None = None

    def updated(self, other: ModelFacts) -> ModelFacts:
        """Return these facts with what `other` states in place of what is here."""
        stated = {field.name: getattr(other, field.name) for field in fields(other)}
        return replace(self, **{name: value for name, value in stated.items() if value is not None})


@dataclass(frozen=True, slots=True)
class FactRow:
    """Facts about the models of a provider (as in `Flags.provider`) whose names begin with a prefix."""

    provider: str
    prefix: str
    facts: ModelFacts

    def covers(self, model: str) -> bool:
        """Tell whether the row is about a model, by its name in lower case."""
        if not model.startswith(self.prefix):
            return False
        rest = model[len(self.prefix) :]
        return not rest or not self.prefix[-1:].isalnum() or not (rest[0].isdigit() or rest[0] == ".")


def lookup(provider: str, model: str, *, api_version: str | None = None, own: Iterable[FactRow] = ()) -> ModelFacts:
    """Return what is known of a model.

    Args:
        provider: as in `Flags.provider`.
        model: its name, as it is sent.
        api_version: the version of the API that is spoken, where the dialect has one.
        own: rows that go before the bundled ones, in what they state.
    """
    name = model.lower()
    facts = next((row.facts for row in _BY_PROVIDER.get(provider, ()) if row.covers(name)), ModelFacts())
    mine = [row for row in own if row.provider == provider and row.covers(name)]
    if mine:
        facts = facts.updated(max(mine, key=lambda row: len(row.prefix)).facts)
    since = facts.no_sampling_since
    if since is not None and api_version is not None and api_version >= since:  # versions are ISO dates
        return replace(facts, sampling="never")
    return facts


def fitted(flags: Flags, facts: ModelFacts) -> Flags:
    """Return an endpoint's flags as they hold for a model, where that is known."""
    return replace(
        flags,
        system_role=facts.system_role or flags.system_role,
        max_tokens_field=facts.max_tokens_field or flags.max_tokens_field,
        structured=facts.structured or flags.structured,
        prompt_cache_options=flags.prompt_cache_options or (facts.cache is not None and facts.cache.form == "options"),
    )


# ------------------------------------------------------------------------------------------------- OpenAI
# Wire facts 2.1, 2.3 and 2.4, which rest on the openai SDK 3.54.0 and on profiles/openai.py of pydantic-ai-slim 2.68.0
# (checked there against the live API in 2026-07 to 2026-10).

_PLAIN = ModelFacts(
    sampling="always",
    logprobs="always",
    efforts=(),
    structured="native",
    cache=CacheRules(form="automatic"),
)
_ALWAYS = ModelFacts(
    sampling="never",
    logprobs="never",
    default_effort="on",
    none_accepted=False,
    system_role="developer",
    max_tokens_field="max_completion_tokens",
    structured="native",
    cache=CacheRules(form="automatic"),
)
_ON = replace(_ALWAYS, sampling="reasoning_off", logprobs="reasoning_off", none_accepted=True)
_OFF = replace(_ON, default_effort="none")
_O_SERIES = replace(_ALWAYS, efforts=("low", "medium", "high"))
_PRO = replace(_ALWAYS, efforts=("medium", "high", "xhigh"))
_CHAT = replace(_ALWAYS, efforts=("medium",), default_effort="medium")
_CACHED = CacheRules(form="options", ttls=("30m", "12h"))
_TOP = replace(_ALWAYS, efforts=("low", "medium", "high", "xhigh", "max"), cache=_CACHED)

_OPENAI = {
    "": ModelFacts(cache=CacheRules(form="automatic")),
    "gpt-4": replace(_PLAIN, structured="tool"),
    "gpt-4.": _PLAIN,
    "gpt-4o": _PLAIN,
    "gpt-4o-2024-05-13": replace(_PLAIN, structured="tool"),
    "o1": _O_SERIES,
    "o3": replace(_O_SERIES, stop=False),
    "o4": _O_SERIES,
    "o4-mini": replace(_O_SERIES, stop=False),
    "gpt-5": replace(_ALWAYS, efforts=("minimal", "low", "medium", "high"), default_effort="medium"),
    "gpt-5-chat": _PLAIN,
    "gpt-5-codex": _ALWAYS,
    "gpt-5-pro": replace(_ALWAYS, efforts=("high",), default_effort="high"),
    "gpt-5.1": _OFF,
    "gpt-5.1-chat": _CHAT,
    "gpt-5.1-codex": _ALWAYS,
    "gpt-5.2": _OFF,
    "gpt-5.2-chat": _CHAT,
    "gpt-5.2-pro": _PRO,
    "gpt-5.3": _OFF,
    "gpt-5.3-chat": _CHAT,
    "gpt-5.4": _OFF,
    "gpt-5.4-pro": _PRO,
    "gpt-5.5": _ON,
    "gpt-5.5-pro": _PRO,
    "gpt-5.6": replace(_ON, cache=_CACHED),
    "gpt-6-astra": _TOP,
    "gpt-6-luna": replace(_ON, cache=_CACHED),
    "gpt-6-sol": replace(_ON, cache=_CACHED),
    "gpt-6.1-sol": _TOP,
    "gpt-6.1-terra": replace(_ON, cache=_CACHED),
}

# ---------------------------------------------------------------------------------------------- Anthropic
# Wire facts 0.1 and 3.1, and profiles/anthropic.py of pydantic-ai-slim 2.68.0 for what differs by model (output limits
# are those that the provider's Models API reports).

_CLAUDE = ModelFacts(
    sampling="always",
    no_sampling_since="2026-10-21",
    min_budget=1024,
    stop=True,
    image=True,
    document=True,
    audio=False,
    cache=CacheRules(form="marked", ttls=("5m", "1h")),
)
_CLAUDE_BUDGET = replace(
    _CLAUDE, thinking="budget", default_effort="none", none_accepted=True, structured="native", max_output=64_000
)
_CLAUDE_BOTH = replace(_CLAUDE_BUDGET, thinking="both", efforts=("low", "medium", "high", "max"), max_output=128_000)
_CLAUDE_ADAPTIVE = replace(
    _CLAUDE_BOTH, sampling="never", thinking="adaptive", efforts=("low", "medium", "high", "xhigh", "max")
)
_CLAUDE_ON = replace(_CLAUDE_ADAPTIVE, default_effort="on")
_CLAUDE_ALWAYS = replace(_CLAUDE_ON, none_accepted=False)

_ANTHROPIC = {
    "": _CLAUDE,
    "claude-opus-4-1": replace(_CLAUDE_BUDGET, max_output=None),
    "claude-haiku-4-5": _CLAUDE_BUDGET,
    "claude-sonnet-4-5": _CLAUDE_BUDGET,
    "claude-opus-4-5": _CLAUDE_BUDGET,
    "claude-sonnet-4-6": _CLAUDE_BOTH,
    "claude-opus-4-6": _CLAUDE_BOTH,
    "claude-opus-4-7": _CLAUDE_ADAPTIVE,
    "claude-opus-4-8": _CLAUDE_ADAPTIVE,
    "claude-opus-5": _CLAUDE_ON,
    "claude-opus-5-5": replace(_CLAUDE_ALWAYS, forced_tools=False),
    "claude-sonnet-5": _CLAUDE_ON,
    "claude-sonnet-5-5": replace(
        _CLAUDE_ALWAYS,
        forced_tools=False,
        none_instead="leave reasoning out and pass extra={'thinking': {'type': 'between_tools'}}",
    ),
    "claude-haiku-5-5": _CLAUDE_ON,
    "claude-fable-5": _CLAUDE_ALWAYS,
    "claude-fable-5-1": replace(_CLAUDE_ALWAYS, forced_tools=False),
    "claude-fable-5-2": replace(_CLAUDE_ALWAYS, forced_tools=False),
    "claude-mythos-5": _CLAUDE_ALWAYS,
    "claude-mythos-5-1": replace(_CLAUDE_ALWAYS, forced_tools=False),
    "claude-mythos-5-2": replace(_CLAUDE_ALWAYS, forced_tools=False),
}

# ------------------------------------------------------------------------------------------------- Gemini
# Wire facts 5, and profiles/google.py of pydantic-ai-slim 2.68.0 for the levels of each model.

_GEMINI = ModelFacts(stop=True, image=True, document=True, audio=True, cache=CacheRules(form="automatic"))
_GEMINI_PLAIN = replace(_GEMINI, efforts=())
_GEMINI_BUDGET = replace(_GEMINI, thinking="budget", default_effort="on", none_accepted=True, structured="native")
_GEMINI_LEVEL = replace(_GEMINI_BUDGET, thinking="level", none_accepted=False)
_GEMINI_THREE = replace(_GEMINI_LEVEL, efforts=("low", "medium", "high"))

_GOOGLE = {
    "": _GEMINI,
    "gemini-1.": _GEMINI_PLAIN,
    "gemini-2.0": _GEMINI_PLAIN,
    "gemini-2.5": _GEMINI_BUDGET,
    "gemini-2.5-pro": replace(_GEMINI_BUDGET, none_accepted=False),
    "gemini-2.5-flash-image": _GEMINI_PLAIN,
    "gemini-3": _GEMINI_LEVEL,
    "gemini-3.": _GEMINI_LEVEL,
    "gemini-3-pro-preview": replace(_GEMINI_LEVEL, efforts=("low", "high")),
    "gemini-3.1-pro-preview": _GEMINI_THREE,
    "gemini-3.7-flash": _GEMINI_THREE,
    "gemini-3.8-flash": _GEMINI_THREE,
    "gemini-4-argon": _GEMINI_THREE,
    "gemini-4-carbon": _GEMINI_THREE,
}

# ------------------------------------------------------------------------------------------------- Ollama
# Wire facts 4. What a local model can do is told by `/api/show`; only gpt-oss behaves unlike the rest.

_LOCAL = ModelFacts(stop=True, structured="native")
_OLLAMA = {
    "": _LOCAL,
    "gpt-oss": replace(
        _LOCAL, efforts=("low", "medium", "high", "max"), default_effort="on", none_accepted=False, thinking="level"
    ),
}

# ---------------------------------------------------------------------------------------------------- xAI
# profiles/grok.py of pydantic-ai-slim 2.68.0 (checked there against the live API in 2026-10).

_GROK_ALWAYS = ModelFacts(efforts=("low", "medium", "high"), default_effort="on", none_accepted=False)
_XAI = {
    "grok-4.3": ModelFacts(efforts=("low", "medium", "high"), none_accepted=True),
    "grok-4.5": _GROK_ALWAYS,
    "grok-4.6": _GROK_ALWAYS,
    "grok-4.7": replace(_GROK_ALWAYS, efforts=("low", "medium", "high", "xhigh")),
}

# --------------------------------------------------------------------------------------------------------

_TABLES = {
    "anthropic": _ANTHROPIC,
    "azure.ai.openai": _OPENAI,
    "gcp.gemini": _GOOGLE,
    "ollama": _OLLAMA,
    "openai": _OPENAI,
    "x_ai": _XAI,
}

FACTS: tuple[FactRow, ...] = tuple(
    FactRow(provider, prefix, facts)
    for provider, table in _TABLES.items()
    for prefix, facts in sorted(table.items(), key=lambda row: -len(row[0]))
)
"""The bundled rows, by provider, longest prefix first."""

_BY_PROVIDER = {provider: tuple(rows) for provider, rows in groupby(FACTS, key=lambda row: row.provider)}
