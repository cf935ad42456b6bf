"""Every kind of failure, asked whole, streamed and for vectors, before and after the first event, under each policy.

What is expected is worked out here from the tables in docs/reference/client.md and its six rules, in a way of its own.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest

import virtual
from client.asked import Scripted, again, failures
from veyra import AuditLog, Breaker, Budget, Client, Fallback, Limits, MockBackend, Retry
from veyra.audit.read import Entry
from veyra.client.limiter import Limiter
from veyra.client.observe import AttemptStarted, Observation, Waiting
from veyra.errors import OutputMismatchError, ProviderError, VeyraError
from veyra.policy.retry import Ambiguous
from veyra.transport.base import Head
from veyra.types import EmbeddingResponse, ModelResponse
from veyra.wire.failures import Origin, by_status

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "client.md").read_text()
CHANCE = 0.75

How: TypeAlias = Literal["whole", "streamed", "vectors"]


@dataclass(frozen=True)
class Row:
    """A row of the table: what is done about a kind of error."""

    billed: str
    tried_again: bool
    next_target: bool


def table() -> dict[str, Row]:
    """Return the table of the page."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (yes|no)[^|]* \| (yes|no) \|$", PAGE, re.MULTILINE)
    return {kind: Row(billed, again == "yes", onward == "yes") for kind, billed, again, onward in rows}


def defaults(policy: str) -> dict[str, str]:
    """Return what the page's table of a policy says of its defaults."""
    rows = re.search(rf"^\| `{policy}(?:\(\.\.\.\))?` \| default .*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows is not None
    return dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", rows[1], re.MULTILINE))


TABLE = table()
USUAL = defaults("Retry")
BASE, CAP, LONGEST = (float(USUAL[name]) for name in ("base", "cap", "max_retry_after"))
FAULTS = re.findall(r"`(\w+)`", (re.search(r"faults in a row \(([^)]+)\)", PAGE) or [""])[0])
"""The kinds of error that open a circuit."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a client is told: retries, whether there is another target and when it is asked, when a target is left alone."""

    attempts: int = 3
    ambiguous: Ambiguous = "unstreamed"
    deadline: float | None = None
    others: bool = True
    on: tuple[str, ...] | None = None
    failures: int | None = None

    @property
    def retry(self) -> Retry:
        return Retry(attempts=self.attempts, ambiguous=self.ambiguous, deadline=self.deadline)

    @property
    def breaker(self) -> Breaker | None:
        return None if self.failures is None else Breaker(failures=self.failures)

    def fallback(self, spare: Any) -> Fallback:
        to = [spare] if self.others else []
        return Fallback(to) if self.on is None else Fallback(to, on=self.on)


AMBIGUOUS: tuple[Ambiguous, ...] = ("never", "unstreamed", "always")
EVERY = tuple(TABLE)
POLICIES = [
    *(
        Policy(attempts=attempts, ambiguous=ambiguous, deadline=deadline, others=others)
        for attempts, ambiguous, deadline, others in itertools.product((1, 3), AMBIGUOUS, (None, 1.0), (False, True))
    ),
    *(Policy(on=on, ambiguous=ambiguous) for on, ambiguous in itertools.product(((), EVERY), AMBIGUOUS)),
    *(Policy(failures=failures, others=others) for failures, others in itertools.product((1, 2, 3), (False, True))),
]


@dataclass(frozen=True)
class Expected:
    """What the table says comes of a call whose first target always fails in one way."""

    waits: list[float]
    answered: bool

    @property
    def tries(self) -> int:
        return len(self.waits) + 1


def expected(error: ProviderError, policy: Policy, *, how: How, after_text: bool) -> Expected:
    """Work out from the page's rules what is done."""
    row = TABLE[error.kind]
    if how == "streamed" and after_text:
        return Expected([], answered=False)  # rule 1
    forbidden = {"never": True, "unstreamed": after_text, "always": False}[policy.ambiguous]
    if (error.ambiguous or after_text) and forbidden:
        return Expected([], answered=False)  # rule 3
    waits: list[float] = []
    knows_better = error.retryable is not type(error).default_retryable
    if error.retryable if knows_better else row.tried_again:
        for number in range(1, policy.attempts):  # rule 4
            if policy.failures is not None and number >= policy.failures and error.kind in FAULTS:
                break
            wait = CHANCE * min(CAP, BASE * 2 ** (number - 1)) if error.retry_after is None else error.retry_after
            is_too_long = error.retry_after is not None and wait > (CAP if policy.others else LONGEST)
            left = None if policy.deadline is None else policy.deadline - sum(waits)
            if is_too_long or (left is not None and wait >= left):
                break
            waits.append(wait)
    onward = row.next_target if policy.on is None else error.kind in policy.on
    return Expected(waits, answered=policy.others and onward)  # rules 5 and 6


# ------------------------------------------------------------------------------------- the page and the code


def test_the_table_has_every_kind() -> None:
    """A kind of error that the page does not name would not be in the matrix."""
    kinds = {ProviderError.kind} | {kind.kind for kind in _below(ProviderError)}
    assert set(TABLE) == kinds - {"provider_error", "tape_miss"}
    assert {error.kind for error in failures()} == set(TABLE) - {"output_mismatch"}


def test_the_table_says_what_is_usual_of_each_kind() -> None:
    """Whether a kind may be billed, and is tried again, is what its class says; where that depends, both are in the matrix."""
    for kind in _below(ProviderError):
        row = TABLE.get(kind.kind)
        if row is not None:
            assert row.tried_again is kind.default_retryable, kind
            seen = {error.ambiguous for error in failures() if error.kind == kind.kind} or {kind.default_ambiguous}
            assert seen == {"yes": {True}, "no": {False}}.get(row.billed, {True, False}), kind


def test_the_table_says_after_which_statuses_an_attempt_may_be_billed() -> None:
    """By its HTTP status alone an answer may be billed, or tried again, where the page says so, and nowhere else."""
    for status in range(400, 600):
        kind = by_status(status)
        error = Origin("openai", Head(status, {}), None).error(kind, "no")
        row = TABLE[error.kind]
        assert error.ambiguous is (row.billed == "yes" or str(status) in row.billed), status
        assert error.retryable is {409: True, 501: False}.get(status, row.tried_again), status
    assert "(409: yes; 501: no)" in PAGE


@pytest.mark.parametrize("policy", [Retry(), Limits()], ids=["Retry", "Limits"])
def test_the_pages_defaults_are_those_of_the_code(policy: Retry | Limits) -> None:
    """The table of a policy has each of its fields with its default, and no other."""
    usual = {field.name: getattr(policy, field.name) for field in fields(policy)}
    said = defaults(type(policy).__name__)
    assert said.keys() == usual.keys()
    for name, value in usual.items():
        text = said[name].lower().replace(",", "")
        assert text == str(value).lower() or float(text) == value, name


def _below(kind: type[ProviderError]) -> list[type[ProviderError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_below(below))]


# ------------------------------------------------------------------------------------------------ the matrix


@pytest.mark.parametrize("error", failures(), ids=lambda e: f"{e.kind}-{e.retry_after}-{e.ambiguous}-{e.retryable}")
@pytest.mark.parametrize(
    ("how", "after_text"),
    [("whole", False), ("whole", True), ("streamed", False), ("streamed", True), ("vectors", False)],
    ids=["whole-before", "whole-after", "streamed-before", "streamed-after", "vectors"],
)
def test_the_matrix(error: ProviderError, how: How, *, after_text: bool) -> None:
    """Attempts made, records written, waits taken and the end are what the table says, under every policy."""
    for policy in POLICIES:
        _check(error, policy, how=how, after_text=after_text)


def _check(error: ProviderError, policy: Policy, *, how: How, after_text: bool) -> None:
    should = expected(error, policy, how=how, after_text=after_text)
    failing = Scripted([again(error) for _ in range(9)], name="failing", after_text=after_text, embeds=True)
    spare = Scripted([], name="spare", embeds=True)
    log, seen = AuditLog.memory(), list[Observation]()
    client = Client(
        failing,
        fallback=policy.fallback(spare),
        retry=policy.retry,
        breaker=policy.breaker,
        budget=Budget(client="1", unpriced="allow"),
        audit=log,
        observers=[seen.append],
        chance=lambda: CHANCE,
    )
    end = virtual.run(_asked(client, how))

    starts = list(itertools.accumulate([0.0, *should.waits]))
    assert failing.made == pytest.approx(starts), policy
    assert len(spare.made) == should.answered, policy
    assert [one.seconds for one in seen if isinstance(one, Waiting)] == pytest.approx(should.waits), policy
    rows = list(log.attempts())
    failed = {"timeout": "timeout", "incomplete_stream": "incomplete"}.get(error.kind, "error")
    assert [row.status for row in rows] == [failed] * should.tries + ["ok"] * should.answered, policy
    assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
    assert len({row.call for row in rows}) == 1
    assert [row.error for row in rows] == [error.kind] * should.tries + [None] * should.answered
    assert [attempt.receipt.id for attempt in end.attempts if attempt.receipt] == [row.outcome for row in rows]
    assert sum(isinstance(one, AttemptStarted) for one in seen) == len(rows)
    if should.answered:
        assert not isinstance(end, VeyraError)
        assert end.backend == "spare"
        if isinstance(end, ModelResponse):
            assert end.content == "some of spare"
            assert [warning.message for warning in end.warnings] == ["attempt 1 of spare"]
    else:
        assert isinstance(end, ProviderError)
        assert (type(end), end.partial) == (type(error), "some " if after_text else ""), policy
    billed = [entry.leaf["attributes"].get("veyra.attempt.may_be_billed_twice", False) for entry in _intents(log)]
    assert billed == [False, *[error.ambiguous or after_text] * (len(rows) - 1)]
    assert client.spent.reserved == Decimal(0)
    for station in (*client._stations, *client._fallback):
        assert isinstance(station.admission, Limiter)
        assert (station.admission.in_flight, station.admission.waiting) == (0, 0)


@pytest.mark.parametrize(("how", "repair"), [("whole", 0), ("whole", 2), ("streamed", 0)])
@pytest.mark.parametrize("on", [None, ("output_mismatch",)], ids=["usual", "asked-for"])
@pytest.mark.parametrize("ambiguous", AMBIGUOUS)
def test_an_answer_that_does_not_fit(how: How, on: tuple[str, ...] | None, ambiguous: Ambiguous, repair: int) -> None:
    """It is repaired, not tried again; the next target is asked where `Fallback.on` says so, as whole answers were paid for once.

    A stream's reader has seen it, so nothing follows there.
    """
    row = TABLE["output_mismatch"]
    onward = (row.next_target if on is None else True) and how == "whole"
    tries = 1 + repair
    log = AuditLog.memory()
    failing, spare = MockBackend(["no"] * 9), MockBackend('{"n": 3}')
    client = Client(
        failing,
        fallback=Fallback([spare]) if on is None else Fallback([spare], on=on),
        retry=Retry(ambiguous=ambiguous),
        audit=log,
    )
    end = virtual.run(_asked(client, how, output=dict[str, int], repair=repair))

    assert (len(failing.calls), len(spare.calls)) == (tries, int(onward))
    assert [row.status for row in log.attempts()] == ["error"] * tries + ["ok"] * onward
    assert [one.error for one in end.attempts] == ["output_mismatch"] * tries + [None] * onward
    assert not any("veyra.attempt.may_be_billed_twice" in entry.leaf["attributes"] for entry in _intents(log))
    if onward:
        assert isinstance(end, ModelResponse)
        assert end.output == {"n": 3}
    else:
        assert isinstance(end, OutputMismatchError)


def _intents(log: AuditLog) -> list[Entry]:
    return [entry for entry in log.entries() if entry.leaf["kind"] == "call.intent"]


async def _asked(client: Client, how: How, **options: Any) -> ModelResponse | EmbeddingResponse | VeyraError:
    try:
        if how == "whole":
            return await client.generate("Hello", **options)
        if how == "vectors":
            return await client.embed("Hello")
        async with client.stream("Hello", **options) as reply:
            async for _ in reply:
                pass
    except VeyraError as error:
        return error
    return reply.response
