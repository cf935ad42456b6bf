"""Fitting a request to its model: what the model cannot honour is an error or a warning, by policy, never silent.

1. An option that the model refuses raises under `error`; under `warn` it is left out, or lowered, with a warning.
2. What was said is never changed: media or a prefilled turn that the model does not take raise under both.
3. What is not known to be refused is let through: the provider has the last word.
4. `reasoning="none"` for a model that does not reason is honoured without being sent, and is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from veyra.errors import InvalidRequestError, UnsupportedParameterError
from veyra.models.facts import ModelFacts
from veyra.types import Media, ModelWarning, Request

OnUnsupported: TypeAlias = Literal["error", "warn"]

WARNING = "unsupported_parameter"
"""The code of the warnings given here."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An option that the model does not take as it is: why, what to do, and what is sent instead under `warn`."""

    option: str
    why: str
    advice: str
    instead: object = None


def adapt(
    request: Request, facts: ModelFacts, on_unsupported: OnUnsupported = "error"
) -> tuple[Request, tuple[ModelWarning, ...]]:
    """Return the request as the model can honour it, and a warning for each option that is not sent as it was asked.

    Raises:
        UnsupportedParameterError: under `error`, the model does not take an option; under both policies, it does not
            take something in the messages. The message names it, the model, and what to do.
        InvalidRequestError: the policy is neither `error` nor `warn`.
    """
    if on_unsupported not in ("error", "warn"):
        msg = f"on_unsupported is 'error' or 'warn', not {on_unsupported!r}"
        raise InvalidRequestError(msg)
    _check_content(request, facts)
    if request.reasoning == "none" and facts.efforts == ():
        request = replace(request, reasoning=None)
    warnings: list[ModelWarning] = []
    for check in _CHECKS:
        for refusal in check(request, facts):
            if on_unsupported == "error":
                raise _unsupported(request, refusal.option, refusal.why, refusal.advice)
            change = "was left out" if not refusal.instead else f"was changed to {refusal.instead}"
            message = f"{refusal.option} {change}: {_name(request)} does not take it as asked; {refusal.why}"
            warnings.append(ModelWarning(WARNING, message, refusal.option))
            request = replace(request, **{refusal.option: refusal.instead})  # type: ignore[arg-type]  # a field's name
    return request, tuple(warnings)


def _unsupported(request: Request, what: str, why: str, advice: str) -> UnsupportedParameterError:
    return UnsupportedParameterError(
        f"{_name(request)} does not take {what} as asked: {why}; {advice}", model=request.model
    )


def _name(request: Request) -> str:
    return request.model or "the model"


def _check_content(request: Request, facts: ModelFacts) -> None:
    taken = {"image": facts.image, "document": facts.document, "audio": facts.audio}
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Media) and taken[part.kind] is False:
                raise _unsupported(request, part.kind, "it has no such input", "take it out, or take another model")
    if facts.prefill is False and request.messages[-1].role == "assistant":
        raise _unsupported(
            request, "a last assistant turn", "it does not go on from one", "end the conversation with a user's turn"
        )


# ------------------------------------------------------------------------------------------------- checks


def _reasoning(request: Request, facts: ModelFacts) -> Iterator[_Refusal]:
    wanted = request.reasoning
    if wanted is None:
        return
    found = _budget(wanted, request, facts) if isinstance(wanted, int) else _level(wanted, facts)
    if facts.efforts == ():
        found = ("it does not reason", "leave it out")
    if found:
        yield _Refusal("reasoning", *found)


def _level(wanted: str, facts: ModelFacts) -> tuple[str, str] | None:
    """Return why a level cannot be asked for, and what to do."""
    if wanted == "none":
        near = f"leave it out, or ask for {facts.efforts[0]!r}" if facts.efforts else "leave it out"
        return ("it always reasons", facts.none_instead or near) if facts.none_accepted is False else None
    if facts.thinking == "budget":
        return "it takes a budget, not a level", "give a number of tokens"
    if facts.efforts is not None and wanted not in facts.efforts:
        return f"it has no level {wanted!r}", f"ask for {_either(facts.efforts)}"
    return None


def _budget(wanted: int, request: Request, facts: ModelFacts) -> tuple[str, str] | None:
    """Return why a budget cannot be asked for, and what to do."""
    if facts.thinking in ("adaptive", "level"):
        return "it takes a level, not a budget", f"ask for {_either(facts.efforts) if facts.efforts else 'a level'}"
    if facts.min_budget is None:
        return None
    if wanted < facts.min_budget:
        return f"its least budget is {facts.min_budget} tokens", "give at least that, or 'none'"
    limit = min((count for count in (request.max_tokens, facts.max_output) if count is not None), default=None)
    if limit is not None and wanted >= limit:
        return f"the budget is part of the output, at most {limit} tokens", "give less, or raise max_tokens"
    return None


def _either(levels: tuple[str, ...]) -> str:
    return " or ".join(repr(level) for level in levels)


def _sampling(request: Request, facts: ModelFacts) -> Iterator[_Refusal]:
    if facts.sampling == "never":
        why, advice = "it takes no sampling options", "leave it out"
    elif facts.sampling == "reasoning_off" and _reasons(request, facts):
        why, advice = "it takes no sampling options while it reasons", "leave it out, or set reasoning='none'"
    else:
        return
    for option in ("temperature", "top_p"):
        if getattr(request, option) is not None:
            yield _Refusal(option, why, advice)


def _reasons(request: Request, facts: ModelFacts) -> bool:
    """Tell whether the model is known to reason on this request."""
    wanted = facts.default_effort if request.reasoning is None else request.reasoning
    return wanted not in (None, "none", 0)


def _stop(request: Request, facts: ModelFacts) -> Iterator[_Refusal]:
    if request.stop and facts.stop is False:
        yield _Refusal("stop", "it takes no stop sequences", "leave it out and cut the text yourself", ())


def _max_tokens(request: Request, facts: ModelFacts) -> Iterator[_Refusal]:
    limit = facts.max_output
    if limit is not None and request.max_tokens is not None and request.max_tokens > limit:
        yield _Refusal("max_tokens", f"it writes at most {limit} tokens", f"give {limit} or less", limit)


def _tool_choice(request: Request, facts: ModelFacts) -> Iterator[_Refusal]:
    if facts.forced_tools is False and request.tool_choice not in (None, "auto", "none"):
        yield _Refusal(
            "tool_choice", "it cannot be forced to call a tool", "use 'auto', and say so in the prompt", "auto"
        )


_CHECKS: tuple[Callable[[Request, ModelFacts], Iterator[_Refusal]], ...] = (
    _reasoning,  # first: sampling depends on it
    _sampling,
    _stop,
    _max_tokens,
    _tool_choice,
)
