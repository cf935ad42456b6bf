from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veyra.errors import InvalidRequestError, UnsupportedParameterError
from veyra.models.adapt import WARNING, adapt
from veyra.models.facts import FACTS, FactRow, ModelFacts, lookup
from veyra.models.request import build_request
from veyra.types import Media, Message, Request, Tool


def ask(model: str | None = "m", prompt: Any = "hi", **options: Any) -> Request:
    return build_request(prompt, {"model": model, **options}, stream=False)


REFUSED = [
    ("openai", ask("gpt-5", temperature=0.2), "temperature", "takes no sampling options", "leave it out", None),
    ("openai", ask("gpt-5", top_p=0.2), "top_p", "takes no sampling options", "leave it out", None),
    ("openai", ask("gpt-5.5", temperature=1), "temperature", "while it reasons", "reasoning='none'", None),
    ("openai", ask("gpt-5.1", temperature=1, reasoning="low"), "temperature", "while it reasons", "reasoning='none'", None),
    ("openai", ask("gpt-5", reasoning="none"), "reasoning", "always reasons", "ask for 'minimal'", None),
    ("openai", ask("gpt-5", reasoning="xhigh"), "reasoning", "no level 'xhigh'", "'minimal' or 'low' or 'medium'", None),
    ("openai", ask("gpt-4o", reasoning="high"), "reasoning", "does not reason", "leave it out", None),
    ("openai", ask("gpt-4o", reasoning=2000), "reasoning", "does not reason", "leave it out", None),
    ("openai", ask("o3", stop="x"), "stop", "no stop sequences", "cut the text yourself", ()),
    ("anthropic", ask("claude-opus-5", temperature=1), "temperature", "no sampling options", "leave it out", None),
    ("anthropic", ask("claude-opus-5", reasoning=4000), "reasoning", "a level, not a budget", "'xhigh' or 'max'", None),
    ("anthropic", ask("claude-opus-5-5", reasoning="none"), "reasoning", "always reasons", "ask for 'low'", None),
    ("anthropic", ask("claude-sonnet-5-5", reasoning="none"), "reasoning", "always reasons", "between_tools", None),
    ("anthropic", ask("claude-haiku-4-5", reasoning="high"), "reasoning", "a budget, not a level", "number of tokens", None),
    ("anthropic", ask("claude-haiku-4-5", reasoning=1023), "reasoning", "least budget is 1024", "or 'none'", None),
    ("anthropic", ask("claude-haiku-4-5", reasoning=2000, max_tokens=2000), "reasoning", "part of the output, at most 2000", "give less", None),
    ("anthropic", ask("claude-haiku-4-5", reasoning=64_000), "reasoning", "at most 64000", "give less", None),
    ("anthropic", ask("claude-haiku-4-5", max_tokens=64_001), "max_tokens", "at most 64000", "64000 or less", 64_000),
    ("anthropic", ask("claude-opus-5-5", tools=[Tool(name="t")], tool_choice="t"), "tool_choice", "forced", "'auto'", "auto"),
    ("gcp.gemini", ask("gemini-3.5-flash", reasoning=100), "reasoning", "a level, not a budget", "ask for a level", None),
    ("gcp.gemini", ask("gemini-2.5-flash", reasoning="low"), "reasoning", "a budget, not a level", "number of tokens", None),
    ("ollama", ask("gpt-oss:20b", reasoning="none"), "reasoning", "always reasons", "ask for 'low'", None),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "request_", "option", "why", "advice", "_instead"), REFUSED)
def test_what_a_model_refuses_is_an_error(
    provider: str, request_: Request, option: str, why: str, advice: str, _instead: object
) -> None:
    """Under `error` the message names the model, the option, why it is not taken and what to do."""
    assert request_.model is not None
    with pytest.raises(UnsupportedParameterError) as caught:
        adapt(request_, lookup(provider, request_.model))
    for words in (request_.model, f" {option} ", why, advice):
        assert words in str(caught.value)
    assert caught.value.status is None
    assert caught.value.model == request_.model


@pytest.mark.parametrize(("provider", "request_", "option", "why", "_advice", "instead"), REFUSED)
def test_what_a_model_refuses_is_changed_with_a_warning(
    provider: str, request_: Request, option: str, why: str, _advice: str, instead: object
) -> None:
    """Under `warn` the option is left out or lowered, and a warning says so; nothing else is changed."""
    assert request_.model is not None
    adapted, (warning,) = adapt(request_, lookup(provider, request_.model), "warn")
    assert getattr(adapted, option) == instead
    assert (warning.code, warning.parameter) == (WARNING, option)
    assert why in warning.message
    assert request_.model in warning.message
    unchanged = {name: getattr(request_, name) for name in Request.__slots__ if name != option}
    assert {name: getattr(adapted, name) for name in unchanged} == unchanged


@pytest.mark.parametrize(
    ("provider", "request_"),
    [
        ("openai", ask("gpt-5.1", temperature=1)),
        ("openai", ask("gpt-5.5", temperature=1, reasoning="none")),
        ("openai", ask("gpt-5", reasoning="minimal")),
        ("openai", ask("gpt-5.1", reasoning="high")),
        ("openai", ask("gpt-4o", temperature=1, stop="x")),
        ("openai", ask("gpt-9", temperature=1, reasoning="max", stop="x", max_tokens=10**9)),
        ("anthropic", ask("claude-haiku-4-5", reasoning=1024, max_tokens=1025, temperature=1)),
        ("anthropic", ask("claude-haiku-4-5", reasoning=5000)),
        ("anthropic", ask("claude-sonnet-4-6", reasoning="max")),
        ("anthropic", ask("claude-opus-5", reasoning="none", max_tokens=128_000)),
        ("anthropic", ask("claude-opus-5-5", tools=[Tool(name="t")], tool_choice="none")),
        ("gcp.gemini", ask("gemini-2.5-flash", reasoning=0)),
        ("nobody", ask("m", temperature=1, reasoning=7)),
        ("nobody", ask(None, temperature=1)),
    ],
)
def test_what_is_not_refused_is_let_through(provider: str, request_: Request) -> None:
    """What a model takes, and what is not known, goes on as it is."""
    assert adapt(request_, lookup(provider, request_.model or "")) == (request_, ())


def test_none_is_honoured_by_a_model_that_does_not_reason() -> None:
    """Asking a model that never reasons for no reasoning is honoured without sending it, and no warning is due."""
    adapted, warnings = adapt(ask("gpt-4o", reasoning="none"), lookup("openai", "gpt-4o"))
    assert (adapted, warnings) == (ask("gpt-4o"), ())


def test_sampling_is_judged_by_the_reasoning_that_is_sent() -> None:
    """When a level is left out and the model then does not reason, its sampling options stay; and the other way round."""
    off = ModelFacts(sampling="reasoning_off", efforts=("low",), default_effort="none")
    adapted, warnings = adapt(ask(temperature=1, reasoning="max"), off, "warn")
    assert (adapted.reasoning, adapted.temperature) == (None, 1)
    assert [warning.parameter for warning in warnings] == ["reasoning"]
    on = ModelFacts(sampling="reasoning_off", efforts=("low",), default_effort="on", none_accepted=False)
    adapted, warnings = adapt(ask(temperature=1, top_p=1, reasoning="none"), on, "warn")
    assert (adapted.reasoning, adapted.temperature, adapted.top_p) == (None, None, None)
    assert [warning.parameter for warning in warnings] == ["reasoning", "temperature", "top_p"]


def test_a_budget_of_nothing_is_no_reasoning() -> None:
    """A model that is given no tokens to reason with takes sampling options."""
    facts = ModelFacts(sampling="reasoning_off", default_effort="on")
    request = ask(temperature=1, reasoning=0)
    assert adapt(request, facts) == (request, ())


@pytest.mark.parametrize("policy", ["error", "warn"])
@pytest.mark.parametrize(
    ("facts", "prompt", "words"),
    [
        (ModelFacts(image=False), [Message("user", [Media(kind="image", url="u")])], "does not take image"),
        (ModelFacts(document=False), [Message("user", [Media(kind="document", url="u")])], "does not take document"),
        (ModelFacts(audio=False), [Message("user", [Media(kind="audio", url="u")])], "does not take audio"),
        (ModelFacts(prefill=False), [Message("user", "a"), Message("assistant", "b")], "last assistant turn"),
    ],
)
def test_what_was_said_is_never_changed(policy: Any, facts: ModelFacts, prompt: Any, words: str) -> None:
    """Media and prefilled turns that a model does not take are an error under both policies."""
    with pytest.raises(UnsupportedParameterError, match=re.escape(words)):
        adapt(ask(prompt=prompt), facts, policy)


def test_media_that_are_taken_or_not_known_go_through() -> None:
    """Only media that are known not to be taken are refused."""
    request = ask(prompt=[Message("user", [Media(kind="image", url="u"), Media(kind="audio", url="u")])])
    assert adapt(request, ModelFacts(image=True, document=False)) == (request, ())


def test_a_policy_is_error_or_warn() -> None:
    """Another policy is refused by name."""
    with pytest.raises(InvalidRequestError, match="not 'ignore'"):
        adapt(ask(), ModelFacts(), "ignore")  # type: ignore[arg-type]


LEVELS = st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"])


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "reasoning": LEVELS | st.integers(0, 200_000),
        "temperature": st.just(0.5),
        "stop": st.just(("x",)),
        "max_tokens": st.integers(1, 200_000),
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
    },
)


@given(st.sampled_from(FACTS), OPTIONS)
def test_what_was_adapted_needs_no_more_adapting(row: FactRow, options: dict[str, Any]) -> None:
    """A request adapted under `warn` passes under `error`, and each change has its warning."""
    request = ask(**options)
    adapted, warnings = adapt(request, row.facts, "warn")
    assert adapt(adapted, row.facts) == (adapted, ())
    changed = {name for name in Request.__slots__ if getattr(adapted, name) != getattr(request, name)}
    if request.reasoning == "none" and row.facts.efforts == ():
        changed.discard("reasoning")
    assert {warning.parameter for warning in warnings} == changed
