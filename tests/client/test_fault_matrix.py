"""Every kind of failure, asked whole and streamed, before and after the first event, under each policy.

What is expected is worked out here from the table in docs/reference/client.md and its six rules, in a way of its own.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import virtual
from client.asked import Scripted, again, failures
from veyra import AuditLog, Client, Fallback, Retry
from veyra.audit.read import Entry
from veyra.client.observe import AttemptStarted, Observation, Waiting
from veyra.errors import ProviderError, VeyraError
from veyra.policy.retry import Ambiguous
from veyra.types import ModelResponse

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "client.md"
CHANCE = 0.75


@dataclass(frozen=True)
class Row:
    """A row of the table: what is done about a kind of error."""

    tried_again: bool
    next_target: bool


def table() -> dict[str, Row]:
    """Return the table of the page."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (yes|no)[^|]* \| (yes|no) \|$", PAGE.read_text(), re.MULTILINE)
    return {kind: Row(again == "yes", onward == "yes") for kind, again, onward in rows}


TABLE = table()


@dataclass(frozen=True)
class Policy:
    """What a client is told: retries, and whether there is another target."""

    attempts: int
    ambiguous: Ambiguous
    deadline: float | None
    others: bool

    @property
    def retry(self) -> Retry:
        return Retry(attempts=self.attempts, ambiguous=self.ambiguous, deadline=self.deadline)


AMBIGUOUS: tuple[Ambiguous, ...] = ("never", "unstreamed", "always")
POLICIES = [
    Policy(attempts, ambiguous, deadline, others)
    for attempts, ambiguous, deadline, others in itertools.product((1, 3), AMBIGUOUS, (None, 1.0), (False, True))
]


@dataclass(frozen=True)
class Expected:
    """What the table says comes of a call whose first target always fails in one way."""

    waits: list[float]
    answered: bool

    @property
    def tries(self) -> int:
        return len(self.waits) + 1


def expected(error: ProviderError, policy: Policy, *, stream: bool, after_text: bool) -> Expected:
    """Work out from the page's rules what is done."""
    row = TABLE[error.kind]
    if stream and after_text:
        return Expected([], answered=False)  # rule 1
    forbidden = {"never": True, "unstreamed": after_text, "always": False}[policy.ambiguous]
    if (error.ambiguous or after_text) and forbidden:
        return Expected([], answered=False)  # rule 3
    waits: list[float] = []
    if row.tried_again:
        for number in range(1, policy.attempts):  # rule 4
            wait = CHANCE * min(8.0, 0.5 * 2 ** (number - 1)) if error.retry_after is None else error.retry_after
            is_too_long = error.retry_after is not None and wait > (8.0 if policy.others else 60.0)
            left = None if policy.deadline is None else policy.deadline - sum(waits)
            if is_too_long or (left is not None and wait >= left):
                break
            waits.append(wait)
    return Expected(waits, answered=policy.others and row.next_target)  # rules 5 and 6


def test_the_table_has_every_kind() -> None:
    """A kind of error that the page does not name would not be in the matrix."""
    kinds = {ProviderError.kind} | {kind.kind for kind in _below(ProviderError)}
    assert set(TABLE) == kinds - {"provider_error", "tape_miss"}
    assert {error.kind for error in failures()} == set(TABLE) - {"output_mismatch"}


def _below(kind: type[ProviderError]) -> list[type[ProviderError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_below(below))]


@pytest.mark.parametrize("error", failures(), ids=lambda e: f"{e.kind}-{e.retry_after}-{e.ambiguous}")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("after_text", [False, True], ids=["before", "after"])
def test_the_matrix(error: ProviderError, *, stream: bool, after_text: bool) -> None:
    """Attempts made, records written, waits taken and the end are what the table says, under every policy."""
    for policy in POLICIES:
        _check(error, policy, stream=stream, after_text=after_text)


def _check(error: ProviderError, policy: Policy, *, stream: bool, after_text: bool) -> None:
    should = expected(error, policy, stream=stream, after_text=after_text)
    failing = Scripted([again(error) for _ in range(9)], name="failing", after_text=after_text)
    spare = Scripted([], name="spare")
    log, seen = AuditLog.memory(), list[Observation]()
    client = Client(
        failing,
        fallback=Fallback([spare] if policy.others else []),
        retry=policy.retry,
        breaker=None,
        audit=log,
        observers=[seen.append],
        chance=lambda: CHANCE,
    )
    end = virtual.run(_stream(client) if stream else _generate(client))

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
        assert isinstance(end, ModelResponse)
        assert end.content == "some of spare"
        assert [warning.message for warning in end.warnings] == ["attempt 1 of spare"]
    else:
        assert isinstance(end, ProviderError)
        assert (type(end), end.partial) == (type(error), "some " if after_text else ""), policy
    billed = [entry.leaf["attributes"].get("veyra.attempt.may_be_billed_twice", False) for entry in _intents(log)]
    assert billed == [False, *[error.ambiguous or after_text] * (len(rows) - 1)]


def _intents(log: AuditLog) -> list[Entry]:
    return [entry for entry in log.entries() if entry.leaf["kind"] == "call.intent"]


async def _generate(client: Client) -> ModelResponse | VeyraError:
    try:
        return await client.generate("Hello")
    except VeyraError as error:
        return error


async def _stream(client: Client) -> ModelResponse | VeyraError:
    try:
        async with client.stream("Hello") as reply:
            async for _ in reply:
                pass
    except VeyraError as error:
        return error
    return reply.response
