"""The conformance suite: what a backend must do to be used like any other, as checks that run offline.

1. Each check stands alone: a backend, a log and, where it talks HTTP, a server of its own.
2. A check is vacuous unless a backend can fail it: our own tests break a backend once for each, and see that check fail.
3. A check that does not apply is said not to: a backend of two methods makes no bytes to look at. Nothing is left out silently.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from veyra.testing import conformance_errors, conformance_faults, conformance_plain, conformance_wire
from veyra.testing.stage import LIMIT, Check, Make, NonconformityError, Speaks, Stage, Subject

__all__ = ["Check", "Make", "Report", "Result", "Speaks", "Subject", "checks", "result_of", "run"]

Verdict: TypeAlias = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a check: `reason` says what was wrong, or why it does not apply; `seconds` is how long it took."""

    check: Check
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all checks, in their order."""

    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return not self.count("failed")

    def count(self, verdict: Verdict) -> int:
        """Return how many ended so."""
        return sum(result.verdict == verdict for result in self.results)


def checks() -> tuple[Check, ...]:
    """Return every check, in the order in which they are run."""
    modules = (conformance_plain, conformance_wire, conformance_errors, conformance_faults)
    return tuple(check for module in modules for group in module.GROUPS for check in group.checks)


def run(
    subject: Subject, chosen: Iterable[Check] | None = None, *, told: Callable[[Result], None] | None = None
) -> Report:
    """Check a backend. Not to be called where an event loop runs: checks have their own.

    Args:
        subject: what is checked.
        chosen: the checks; by default all.
        told: called with each result as it comes.
    """
    results: list[Result] = []
    for check in checks() if chosen is None else chosen:
        results.append(result_of(check, subject))
        if told is not None:
            told(results[-1])
    return Report(results=tuple(results))


def result_of(check: Check, subject: Subject) -> Result:
    """Make one check of a backend."""
    if not check.applies(subject):
        return Result(check=check, verdict="not applicable", reason=_why_not(check, subject))
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asyncio.run(_limited(check, Stage(subject))) if inspect.iscoroutinefunction(check.run) else check.run(
                Stage(subject)
            )
    except Exception as error:  # noqa: BLE001  (whatever a backend raises is what came of the check)
        reason = str(error) if isinstance(error, NonconformityError) else f"{type(error).__name__}: {error}"
        return Result(check=check, verdict="failed", reason=reason, seconds=time.monotonic() - start)
    return Result(check=check, verdict="passed", seconds=time.monotonic() - start)


async def _limited(check: Check, stage: Stage) -> None:
    made = check.run(stage)
    assert made is not None
    try:
        async with asyncio.timeout(LIMIT):
            await made
    except TimeoutError as error:
        msg = f"it did not end within {LIMIT:g} s"
        raise NonconformityError(msg) from error


def _why_not(check: Check, subject: Subject) -> str:
    if subject.speaks is None:
        return "the backend does not talk HTTP in a format of the fault server"
    return f"only for {', '.join(check.formats or ())}"
