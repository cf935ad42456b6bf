"""What follows a failed attempt: another at the same target, one at the next, or the error.

The table, which `docs/reference/client.md` explains; the first row that fits decides:

    an event was handed to the caller                          the error
    not a provider's error (audit, a refusal here)             the error
    the answer does not fit `output`                           the next target, where `Fallback.on` says so (repairs are
                                                               counted elsewhere); else the error
    it may be billed, and `Retry.ambiguous` forbids it         the error
    retryable, tries left, and the wait fits                   the same target again, after the wait
    a kind that `Fallback.on` names, and there is a target     the next target, at once
    anything else                                              the error

What may be billed is a failure whose work the provider may have done: an ambiguous one, and any after which an event of
the answer had come. What follows it may be billed twice. A target whose circuit is open is not asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from veyra.errors import InvalidRequestError, OutputMismatchError, ProviderError, VeyraError

Ambiguous: TypeAlias = Literal["never", "unstreamed", "always"]

FALLBACK_KINDS: Final = (
    "quota",
    "rate_limited",
    "overloaded",
    "server",
    "connection",
    "timeout",
    "incomplete_stream",
    "malformed_response",
)
"""The kinds of error after which the next target is asked: those that another target may well not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and after what waits, a failed attempt is made again.

    Attributes:
        attempts: tries at one target, the first among them. Authentication, permission, quota and request errors are
            tried once, whatever this says.
        base: seconds; the wait before try n+1 is drawn from 0 to `base` * 2 ** (n-1) (full jitter), unless the provider
            said how long to wait.
        cap: seconds that such a draw has at most. Where another target is left, a longer wait that a provider asks for
            is not waited for either: the other is asked.
        max_retry_after: seconds of a wait asked for by a provider that are waited for; a longer one ends the tries.
        deadline: seconds for the whole call, every attempt and wait in it; None for no limit. No wait is begun that
            would end after it, and the last attempt gets what is left of it.
        ambiguous: whether an attempt may follow one that may be billed: `never`; `unstreamed`, where no event of the
            answer had come; or `always`.

    Raises:
        InvalidRequestError: a value is of another type or out of range.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 8.0
    max_retry_after: float = 60.0
    deadline: float | None = None
    ambiguous: Ambiguous = "unstreamed"

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            msg = f"Retry(attempts=...) is an int, 1 or more, not {self.attempts!r}"
            raise InvalidRequestError(msg)
        for name in ("base", "cap", "max_retry_after"):
            check_seconds("Retry", name, getattr(self, name))
        if self.deadline is not None:
            check_seconds("Retry", "deadline", self.deadline)
            if not self.deadline:
                msg = f"Retry(deadline=...) is a number of seconds above 0, or None, not {self.deadline!r}"
                raise InvalidRequestError(msg)
        if self.ambiguous not in get_args(Ambiguous):
            msg = f"Retry(ambiguous=...) is one of {', '.join(get_args(Ambiguous))}, not {self.ambiguous!r}"
            raise InvalidRequestError(msg)


@dataclass(frozen=True, slots=True)
class Again:
    """Ask the same target again, after so many seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Onward:
    """Ask the next target now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Let the caller see the error."""


Decision: TypeAlias = Again | Onward | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a call has come when an attempt of it has failed.

    Attributes:
        tries: attempts made at this target in this call, the failed one among them.
        streamed: an event of the failed attempt's answer had come.
        handed: an event was handed to the caller.
        others: another target is left that could be asked now.
        shut: the target's circuit lets no more calls through.
        remaining: seconds left of the call's deadline; None where it has none.
    """

    tries: int
    streamed: bool = False
    handed: bool = False
    others: bool = False
    shut: bool = False
    remaining: float | None = None


def decide(
    error: VeyraError, retry: Retry, standing: Standing, chance: float, on: tuple[str, ...] = FALLBACK_KINDS
) -> Decision:
    """Say what follows a failed attempt; `chance` is drawn evenly from 0 to 1, `on` are the kinds that go to another target."""
    if standing.handed or not isinstance(error, ProviderError):
        return Stop()
    is_whole = isinstance(error, OutputMismatchError)
    is_billed = (error.ambiguous or standing.streamed) and not is_whole
    if is_billed and (retry.ambiguous == "never" or (retry.ambiguous == "unstreamed" and standing.streamed)):
        return Stop()
    if error.retryable and not standing.shut and standing.tries < retry.attempts:
        delay = _delay(error.retry_after, retry, standing, chance)
        if delay is not None and (standing.remaining is None or delay < standing.remaining):
            return Again(delay)
    is_late = standing.remaining is not None and standing.remaining <= 0
    return Onward() if standing.others and error.kind in on and not is_late else Stop()


def _delay(asked: float | None, retry: Retry, standing: Standing, chance: float) -> float | None:
    """Return the seconds to wait, or None where that is too long to wait."""
    if asked is None:
        return chance * min(retry.cap, retry.base * 2.0 ** min(standing.tries - 1, 60))
    limit = min(retry.cap, retry.max_retry_after) if standing.others else retry.max_retry_after
    return max(asked, 0.0) if asked <= limit else None


def check_seconds(owner: str, name: str, value: object) -> None:
    """See that a value is a finite number of seconds, 0 or more.

    Raises:
        InvalidRequestError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        msg = f"{owner}({name}=...) is a number of seconds, 0 or more, not {value!r}"
        raise InvalidRequestError(msg)
