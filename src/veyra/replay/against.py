"""Recorded questions put to another backend, and what it answers held against what was answered then.

1. What was asked is asked again, with the options that were set, but for the model. What only the provider of then knows
   (`extra`) goes to the same provider only.
2. Only calls that were answered are asked again: beside a failure nothing can be held.
3. A call that fails is a result like any other; the calls after it are made. A log that cannot be written ends it all.
4. The new calls pass the gate, and are on record where that says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from veyra.errors import OutputMismatchError, ProviderError
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.models.wire import WireBackend
from veyra.replay.recorded import CHAT, RecordedAttempt
from veyra.types import ModelResponse

_MANY: Final = 1_000
"""Words of a text from which on their order does not count: comparing it takes a time that grows with their square or worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An answer of now, held against the one of then.

    Attributes:
        attempt: the recorded attempt.
        answer: what the other backend answered; None where it failed.
        error: the kind of its failure; None where it answered.
        message: what the failure says; None where it answered.
        same_text: the text is the same, letter by letter; None where it failed.
        similarity: of the texts, from 0 to 1 (see `likeness`); None where it failed.
        same_tools: the same tools are called with the same arguments, in the same order; None where it failed.
        fits: the answer fits the schema that was asked for; None where none was, or where it failed otherwise.
    """

    attempt: RecordedAttempt
    answer: ModelResponse | None
    error: str | None = None
    message: str | None = None
    same_text: bool | None = None
    similarity: float | None = None
    same_tools: bool | None = None
    fits: bool | None = None

    @property
    def is_same(self) -> bool:
        """Text and tool calls are the same, and the answer fits."""
        return self.same_text is True and self.same_tools is True and self.fits is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Some comparisons, summed up.

    Attributes:
        calls: how many were made; failed: how many of them failed; same: how many gave the same answer.
        similarity: the mean over those that were answered; None where none was.
        same_tools: how many of these called the same tools.
        fitting, shaped: how many fit their schema, of how many that were to.
        latency_ms: then and now, summed over the calls that were answered and whose time of then is known.
        cost: then and now, summed over the calls whose cost is known then and now; `priced` is how many.
    """

    calls: int
    failed: int
    same: int
    similarity: float | None
    same_tools: int
    fitting: int
    shaped: int
    latency_ms: tuple[float, float]
    cost: tuple[Decimal, Decimal]
    priced: int


def unfit(attempt: RecordedAttempt) -> str | None:
    """Return why an attempt is not asked again, or None where it is."""
    if attempt.operation != CHAT:
        return f"it asked for {attempt.operation}, not for an answer"
    if attempt.row.status != "ok" or attempt.answer is None:
        return f"it was not answered ({attempt.row.status})"
    return None


def is_free(backend: Gate) -> bool:
    """Tell whether calls cost nothing: those of the mock, and of a server on this machine."""
    asked = backend.backend
    if isinstance(asked, WireBackend):
        host = urlsplit(asked.base_url or "").hostname or ""
        return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
    return isinstance(asked, MockBackend)


async def ask_again(backend: Gate, attempt: RecordedAttempt, *, model: str | None = None) -> Compared:
    """Ask another backend what was asked, and compare.

    Args:
        backend: who is asked.
        attempt: a call that was answered (see `unfit`).
        model: the model to ask; the backend's own where None.

    Raises:
        AuditError: the call cannot be recorded; or the record cannot be read (`AuditCorruptError`).
    """
    options = dict(attempt.question.options)
    options["model"] = model
    if attempt.provider != _provider(backend):
        options.pop("extra", None)
    try:
        answer = await backend.generate(attempt.question.prompt, **options)
    except OutputMismatchError as error:
        return _held(attempt, error.response, fits=False)
    except ProviderError as error:
        return Compared(attempt=attempt, answer=None, error=error.kind, message=error.message)
    return _held(attempt, answer, fits=None if answer.output is None else True)


def totals(results: Sequence[Compared]) -> Totals:
    """Sum comparisons up."""
    answered = [(one, one.answer) for one in results if one.answer is not None]
    likeness = [one.similarity for one in results if one.similarity is not None]
    times = [(one.attempt.row.latency_ms, now.latency_ms) for one, now in answered]
    timed = [(then, now) for then, now in times if then is not None]
    costs = [(one.attempt.row.cost, now.cost) for one, now in answered]
    priced = [(then, now) for then, now in costs if then is not None and now is not None]
    return Totals(
        calls=len(results),
        failed=sum(one.error is not None for one in results),
        same=sum(one.is_same for one in results),
        similarity=sum(likeness) / len(likeness) if likeness else None,
        same_tools=sum(one.same_tools is True for one in results),
        fitting=sum(one.fits is True for one in results),
        shaped=sum(one.fits is not None for one in results),
        latency_ms=(sum(then for then, _ in timed), sum(now for _, now in timed)),
        cost=(sum((then for then, _ in priced), Decimal()), sum((now for _, now in priced), Decimal())),
        priced=len(priced),
    )


def likeness(one: str, other: str) -> float:
    """Return how alike two texts are, from 0 to 1: the share of words that both have in the same order (difflib's ratio).

    Of texts with more than a thousand words it is the share of words that both have, in whatever order.
    """
    if one == other:
        return 1.0
    left, right = one.split(), other.split()
    matcher = SequenceMatcher(None, left, right)
    return matcher.quick_ratio() if max(len(left), len(right)) > _MANY else matcher.ratio()


def _held(attempt: RecordedAttempt, answer: ModelResponse, *, fits: bool | None) -> Compared:
    then = attempt.answer or {}
    text = str(then.get("content", ""))
    return Compared(
        attempt=attempt,
        answer=answer,
        same_text=text == answer.content,
        similarity=likeness(text, answer.content),
        same_tools=_calls(then.get("tool_calls", [])) == [(call.name, call.arguments) for call in answer.tool_calls],
        fits=fits,
    )


def _calls(recorded: Sequence[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(call.get("name"), call.get("arguments")) for call in recorded]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _provider(backend: Gate) -> str | None:
    """Return who the backend asks, as OpenTelemetry spells it, where it speaks a wire format."""
    return backend.backend.endpoint.flags.provider if isinstance(backend.backend, WireBackend) else None
