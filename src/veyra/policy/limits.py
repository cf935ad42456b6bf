"""How much is asked of a target at a time and in a minute, and how long a call waits for its turn."""

from __future__ import annotations

from dataclasses import dataclass

from veyra.errors import InvalidRequestError
from veyra.policy.retry import check_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be asked of one target. What is None is not limited, unless the target says so itself.

    Attributes:
        concurrency: attempts at a time.
        requests_per_minute: attempts in any 60 seconds. Kept so that a server that counts by the clock's minutes, by the last
            60 seconds or by a bucket that fills evenly sees no more than that, whenever it sees them.
        tokens_per_minute: tokens in any 60 seconds, of prompts and answers together: estimated before an attempt, and
            replaced by what the provider states after it.
        max_wait: seconds that an attempt waits for its turn; it is refused at once where it would take longer. A limit that
            is used up is free again after 60 to 70 seconds. Where another target may be asked (`Fallback.on` names
            `rate_limited`), a wait longer than `Retry.cap` is not waited for either.
        max_waiting: attempts that wait at a time; a further one is refused.
        learn: follow what the target tells of its limits in the headers of its answers, and leave it alone when it refuses
            (429). A number given here goes before one that a header tells.

    Raises:
        InvalidRequestError: a value is of another type or out of range.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_wait: float = 90.0
    max_waiting: int = 10_000
    learn: bool = True

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            _check_whole(name, getattr(self, name), least=1, optional=True)
        check_seconds("Limits", "max_wait", self.max_wait)
        _check_whole("max_waiting", self.max_waiting, least=0)
        if not isinstance(self.learn, bool):
            msg = f"Limits(learn=...) is True or False, not {self.learn!r}"
            raise InvalidRequestError(msg)


def _check_whole(name: str, value: object, *, least: int, optional: bool = False) -> None:
    if value is None and optional:
        return
    if type(value) is not int or value < least:
        msg = f"Limits({name}=...) is an int, {least} or more{', or None' if optional else ''}, not {value!r}"
        raise InvalidRequestError(msg)
