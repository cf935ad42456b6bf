"""The conformance suite: what a backend must do to be used like any other, as checks that run offline.

1. Each check stands alone: a backend, a log and, where it talks HTTP, a server of its own.
2. A check is vacuous unless a backend can fail it: our own tests break a backend once for each, and see that check fail.
3. A check that does not apply is said not to: a backend of two methods makes no bytes to look at. Nothing is left out silently.
4. A check has a thread and an event loop of its own, and the server another: a backend that blocks, or ends its process, fails
   the check and leaves the others alone.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import warnings
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Literal, TypeAlias

from veyra.testing import conformance_errors, conformance_faults, conformance_plain, conformance_wire
from veyra.testing.stage import LIMIT, Check, Make, NonconformityError, Speaks, Stage, Subject

__all__ = ["Check", "Make", "Report", "Result", "Speaks", "Subject", "checks", "result_of", "run"]

Verdict: TypeAlias = Literal["passed", "failed", "not applicable"]
_GRACE = 5.0
"""Seconds after its limit that a check has to come to an end."""


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
    """Check a backend. It takes seconds, in which the caller waits: from an event loop, call it in a thread.

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
    """Make one check of a backend. What the backend does to the thread it runs in, be it for ever, does not concern the caller."""
    reason = check.why_not(subject)
    if reason is not None:
        return Result(check=check, verdict="not applicable", reason=reason)
    start = time.monotonic()
    ended: Queue[str | None] = Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context = copy_context()
        Thread(target=lambda: context.run(_work, check, subject, ended), name=check.name, daemon=True).start()
        try:
            wrong = ended.get(timeout=LIMIT + _GRACE)
        except Empty:
            wrong = f"it did not end within {LIMIT:g} s, and blocks the thread of its event loop"
    seconds = time.monotonic() - start
    if wrong is not None:
        return Result(check=check, verdict="failed", reason=wrong, seconds=seconds)
    return Result(check=check, verdict="passed", seconds=seconds)


def _work(check: Check, subject: Subject, ended: Queue[str | None]) -> None:
    """Make a check, in a thread of its own, and tell what was wrong, or None."""
    try:
        if inspect.iscoroutinefunction(check.run):
            asyncio.run(_limited(check, Stage(subject)))
        else:
            check.run(Stage(subject))
    except NonconformityError as error:
        ended.put(str(error))
    except BaseException as error:  # noqa: BLE001  (whatever a backend raises is what came of the check)
        ended.put(f"{type(error).__name__}: {error}")
    else:
        ended.put(None)


async def _limited(check: Check, stage: Stage) -> None:
    made = check.run(stage)
    assert made is not None
    limit = asyncio.timeout(LIMIT)
    try:
        async with limit:
            await made
    except TimeoutError as error:
        if not limit.expired():
            raise
        msg = f"it did not end within {LIMIT:g} s"
        raise NonconformityError(msg) from error
