from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import pytest

from veyra.models.facts import FACTS, FactRow, ModelFacts, fitted, lookup
from veyra.models.request import REASONING_LEVELS
from veyra.wire.base import Flags


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("o1", ("on", False, ("low", "medium", "high"), "never")),
        ("o3-pro-2025-06-10", ("on", False, ("low", "medium", "high"), "never")),
        ("o4-mini", ("on", False, ("low", "medium", "high"), "never")),
        ("gpt-5", ("medium", False, ("minimal", "low", "medium", "high"), "never")),
        ("gpt-5-mini-2025-08-07", ("medium", False, ("minimal", "low", "medium", "high"), "never")),
        ("gpt-5-pro", ("high", False, ("high",), "never")),
        ("gpt-5-chat-latest", (None, None, (), "always")),
        ("gpt-5.1", ("none", True, None, "reasoning_off")),
        ("gpt-5.2-2025-12-11", ("none", True, None, "reasoning_off")),
        ("gpt-5.3-codex", ("none", True, None, "reasoning_off")),
        ("gpt-5.4-nano", ("none", True, None, "reasoning_off")),
        ("gpt-5.1-chat-latest", ("medium", False, ("medium",), "never")),
        ("gpt-5.3-chat-latest", ("medium", False, ("medium",), "never")),
        ("gpt-5.2-pro", ("on", False, ("medium", "high", "xhigh"), "never")),
        ("gpt-5.4-pro", ("on", False, ("medium", "high", "xhigh"), "never")),
        ("gpt-5.5-pro", ("on", False, ("medium", "high", "xhigh"), "never")),
        ("gpt-5.5", ("on", True, None, "reasoning_off")),
        ("gpt-5.6-terra", ("on", True, None, "reasoning_off")),
        ("gpt-6-astra", ("on", False, ("low", "medium", "high", "xhigh", "max"), "never")),
        ("gpt-6.1-sol", ("on", False, ("low", "medium", "high", "xhigh", "max"), "never")),
        ("gpt-6-sol", ("on", True, None, "reasoning_off")),
        ("gpt-6-luna", ("on", True, None, "reasoning_off")),
        ("gpt-6.1-terra", ("on", True, None, "reasoning_off")),
        ("gpt-4o-mini", (None, None, (), "always")),
        ("gpt-4.1", (None, None, (), "always")),
        ("gpt-5.9", (None, None, None, None)),
        ("gpt-50", (None, None, None, None)),
        ("o1000", (None, None, None, None)),
        ("my-deployment", (None, None, None, None)),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "azure.ai.openai"])
def test_openai_models_reason_as_the_table_says(provider: str, model: str, known: tuple[object, ...]) -> None:
    """Whether a model reasons unasked, can be told not to, and at which levels, is told by its own row (wire facts 2.3)."""
    facts = lookup(provider, model)
    assert (facts.default_effort, facts.none_accepted, facts.efforts, facts.sampling) == known
    assert facts.logprobs == facts.sampling


@pytest.mark.parametrize(
    ("model", "sampling", "thinking", "none_accepted", "forced_tools"),
    [
        ("claude-3-haiku-20240307", "always", None, None, None),
        ("claude-haiku-4-5-20251001", "always", "budget", True, None),
        ("claude-sonnet-4-6", "always", "both", True, None),
        ("claude-opus-4-6", "always", "both", True, None),
        ("claude-opus-4-7", "never", "adaptive", True, None),
        ("claude-opus-4-8", "never", "adaptive", True, None),
        ("claude-opus-5", "never", "adaptive", True, None),
        ("claude-opus-5-20260301", "never", "adaptive", True, None),
        ("claude-opus-5-5", "never", "adaptive", False, False),
        ("claude-sonnet-5-5", "never", "adaptive", False, False),
        ("claude-haiku-5-5", "never", "adaptive", True, None),
        ("claude-fable-5", "never", "adaptive", False, None),
        ("claude-fable-5-2", "never", "adaptive", False, False),
        ("claude-mythos-5-2", "never", "adaptive", False, False),
    ],
)
def test_claude_models_think_as_the_table_says(
    model: str, sampling: str, thinking: str | None, none_accepted: bool | None, forced_tools: bool | None
) -> None:
    """What a Claude takes for sampling, thinking and forced tools is told by its own row (wire facts 3.1)."""
    facts = lookup("anthropic", model, api_version="2023-06-01")
    assert (facts.sampling, facts.thinking) == (sampling, thinking)
    assert (facts.none_accepted, facts.forced_tools) == (none_accepted, forced_tools)


@pytest.mark.parametrize("model", ["claude-3-haiku-20240307", "claude-haiku-4-5", "claude-of-the-future"])
def test_a_version_of_the_api_ends_sampling_for_every_model(model: str) -> None:
    """From version 2026-10-21 on no Claude takes sampling options; before it, and where it is not told, they may."""
    assert lookup("anthropic", model).sampling == "always"
    assert lookup("anthropic", model, api_version="2023-06-01").sampling == "always"
    assert lookup("anthropic", model, api_version="2026-10-21").sampling == "never"
    assert lookup("anthropic", model, api_version="2027-01-01").sampling == "never"


@pytest.mark.parametrize(
    ("model", "thinking", "none_accepted", "efforts"),
    [
        ("gemini-2.0-flash", None, None, ()),
        ("gemini-2.5-flash", "budget", True, None),
        ("gemini-2.5-pro", "budget", False, None),
        ("gemini-3-pro-preview", "level", False, ("low", "high")),
        ("gemini-3.5-flash", "level", False, None),
        ("gemini-3.8-flash-lite", "level", False, ("low", "medium", "high")),
        ("gemini-4-argon", "level", False, ("low", "medium", "high")),
        ("gemini-5", None, None, None),
    ],
)
def test_gemini_models_think_as_the_table_says(
    model: str, thinking: str | None, none_accepted: bool | None, efforts: tuple[str, ...] | None
) -> None:
    """Older Geminis take a budget, newer ones a level (wire facts 5)."""
    facts = lookup("gcp.gemini", model)
    assert (facts.thinking, facts.none_accepted, facts.efforts) == (thinking, none_accepted, efforts)


def test_gpt_oss_cannot_be_told_not_to_think() -> None:
    """On Ollama gpt-oss needs a level and cannot be turned off; of other models that is not known (wire facts 4)."""
    assert lookup("ollama", "gpt-oss:20b").none_accepted is False
    assert lookup("ollama", "qwen3:8b").none_accepted is None


def test_an_unknown_provider_or_model_has_no_facts() -> None:
    """What is not in the table is not known, and not forbidden."""
    assert lookup("vllm", "gpt-5") == ModelFacts()
    assert set(vars_of(ModelFacts())) == {None}


def vars_of(facts: ModelFacts) -> list[object]:
    return [getattr(facts, field.name) for field in fields(facts)]


def test_a_name_is_found_in_any_case() -> None:
    """The case of a name does not matter."""
    assert lookup("openai", "GPT-5") == lookup("openai", "gpt-5")


def test_own_rows_go_before_the_bundled_ones_in_what_they_state() -> None:
    """A row given at run time changes what it states and leaves the rest, also for an unknown model."""
    own = (
        FactRow("openai", "gpt-5", ModelFacts(sampling="always")),
        FactRow("openai", "gpt-5-mini", ModelFacts(max_output=10)),
        FactRow("anthropic", "gpt-5", ModelFacts(stop=False)),
        FactRow("mine", "", ModelFacts(stop=False)),
    )
    changed = lookup("openai", "gpt-5", own=own)
    assert changed.sampling == "always"
    assert changed.efforts == lookup("openai", "gpt-5").efforts
    assert changed.stop is None
    assert lookup("openai", "gpt-5-mini", own=own).sampling == "never"
    assert lookup("openai", "gpt-5-mini", own=own).max_output == 10
    assert lookup("mine", "any", own=own) == ModelFacts(stop=False)


def test_an_own_row_can_move_the_version_that_ends_sampling() -> None:
    """A version stated in an own row counts like a bundled one."""
    own = [FactRow("anthropic", "claude", ModelFacts(no_sampling_since="2099-01-01"))]
    assert lookup("anthropic", "claude-haiku-4-5", api_version="2026-10-21", own=own).sampling == "always"


@pytest.mark.parametrize(
    ("prefix", "model", "covered"),
    [
        ("", "anything", True),
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "gpt-5-mini", True),
        ("gpt-5", "gpt-5:free", True),
        ("gpt-5", "gpt-5.1", False),
        ("gpt-5", "gpt-51", False),
        ("gpt-4", "gpt-4o", True),
        ("gpt-4.", "gpt-4.1", True),
        ("gpt-5", "x/gpt-5", False),
    ],
)
def test_a_prefix_ends_where_a_part_of_the_name_ends(prefix: str, model: str, covered: bool) -> None:
    """A prefix covers longer names, but not another version's."""
    assert FactRow("p", prefix, ModelFacts()).covers(model) is covered


def test_flags_take_the_role_and_the_field_of_the_model() -> None:
    """Where the facts know the system role and the output limit's name they go before the endpoint's."""
    flags = Flags(provider="openai")
    reasoning = fitted(flags, lookup("openai", "gpt-5"))
    assert (reasoning.system_role, reasoning.max_tokens_field) == ("developer", "max_completion_tokens")
    assert fitted(flags, lookup("openai", "gpt-4o")) == flags
    assert fitted(flags, ModelFacts()) == flags


def test_the_rows_are_in_order_and_in_our_words() -> None:
    """Rows stand longest prefix first, once each, in lower case, and their levels are those a request can ask for."""
    seen = [(row.provider, row.prefix) for row in FACTS]
    assert len(seen) == len(set(seen))
    for row, following in pairwise(FACTS):
        assert row.provider != following.provider or len(row.prefix) >= len(following.prefix)
    for row in FACTS:
        assert row.prefix == row.prefix.lower()
        assert set(row.facts.efforts or ()) <= set(REASONING_LEVELS) - {"none"}
        assert row.facts.default_effort in (None, "on", "none") or row.facts.default_effort in (row.facts.efforts or ())
        assert (row.facts.sampling == "reasoning_off") <= (row.facts.none_accepted is True)
