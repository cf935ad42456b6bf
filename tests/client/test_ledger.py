"""What a client spends: reserved before each attempt and settled after it, and given back however it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import virtual
from veyra import AuditLog, Budget, Cache, Client, Fallback, Limits, Message, MockBackend, Retry
from veyra.client import forecast
from veyra.client.ledger import NOBODY, Ledger, Payer, Reservation
from veyra.client.limiter import Limiter
from veyra.client.observe import Observation
from veyra.errors import (
    AuditWriteError,
    BudgetExceededError,
    ConnectionFailedError,
    IncompleteStreamError,
    InvalidRequestError,
    OutputMismatchError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    Finish,
    Media,
    Request,
    Text,
    TextDelta,
    Usage,
)

T = TypeVar("T")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
INPUT, OUTPUT = Decimal("0.0000025"), Decimal("0.00001")
"""US dollars for a token of gpt-4o, by the bundled table."""


@dataclass
class Priced(EventBackend):
    """OpenAI, as far as prices go: attempts end as `ends` says, and use 5 tokens of input and `output` of output.

    Attributes:
        output: tokens of an answer; None where the usage is not stated.
        after_text: errors come after a piece of the answer.
        applied: what is sent unasked.
    """

    ends: list[ProviderError | None] = field(default_factory=list)
    output: int | None = 20
    text: str = "yes"
    after_text: bool = False
    model: str = "gpt-4o"
    provider: str = "openai"
    applied: Mapping[str, Any] = field(default_factory=dict)
    name: str = "priced"
    made: int = 0

    def defaults(self) -> Mapping[str, Any]:
        return {"model": self.model}

    async def health_check(self) -> bool:
        return True

    def prepare(self, request: Request) -> Exchange:
        return Exchange(provider=self.provider, applied=self.applied)

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        end = self.ends[self.made] if self.made < len(self.ends) else None
        self.made += 1
        await asyncio.sleep(1.0)
        if end is None or self.after_text:
            yield TextDelta(self.text)
        await asyncio.sleep(1.0)
        if end is not None:
            raise end
        usage = Usage() if self.output is None else Usage(input_total=5, output_total=self.output)
        yield Finish(reason="stop", usage=usage, model=self.model)

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        return Exchange(provider=self.provider)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        self.made += 1
        await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
        return Embedded(vectors=tuple((1.0,) for _ in request.texts), usage=Usage(input_total=7))


def client_of(backend: EventBackend, budget: Budget | None = None, **options: Any) -> Client:
    options.setdefault("audit", "off")
    options.setdefault("retry", Retry(attempts=1))
    return Client(backend, budget=budget, now=lambda: NOON, **options)


def reserved(prompt_tokens: int, output: int) -> Decimal:
    return INPUT * prompt_tokens + OUTPUT * output


COST = INPUT * 5 + OUTPUT * 20
"""What an attempt at `Priced` costs."""
HI = 5
"""Tokens that the prompt `hi` is estimated at: 4 for the message, and a started one for the text."""


# ------------------------------------------------------------------------------------------------- the accounts


def test_a_budget_is_not_exceeded_and_the_error_says_all() -> None:
    """The error names the budget, what is spent and reserved, and what was asked for; nothing is set aside then."""
    ledger = Ledger(Budget(client="1.00"), lambda: NOON)
    first = ledger.reserve(NOBODY, Decimal("0.60"), target="t")
    ledger.settle(first, Decimal("0.25"), billed=True)
    ledger.reserve(NOBODY, Decimal("0.40"), target="t")
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve(NOBODY, Decimal("0.36"), target="openai:m")
    assert str(caught.value) == (
        "openai:m: refused here, nothing was sent: it may cost $0.36, and of the client's budget, $1, $0.25 are spent and "
        "$0.4 reserved by calls under way; raise Budget(client=...), or set max_tokens lower"
    )
    assert (ledger.spent.total, ledger.spent.reserved) == (Decimal("0.25"), Decimal("0.40"))
    ledger.reserve(NOBODY, Decimal("0.35"), target="t")


@pytest.mark.parametrize(
    ("scope", "payer", "words"),
    [
        ("client", NOBODY, "the client's budget"),
        ("day", NOBODY, "the budget of the day 2026-11-23"),
        ("run", Payer(run="r"), "the budget of run 'r'"),
        ("key", Payer(key="k"), "the budget of key 'k'"),
    ],
)
def test_each_budget_is_kept_and_named(scope: str, payer: Payer, words: str) -> None:
    """Each kind of budget refuses what is beyond it, by name."""
    ledger = Ledger(Budget(**{scope: 1}), lambda: NOON)  # type: ignore[arg-type]
    ledger.reserve(payer, Decimal(1), target="t")
    with pytest.raises(BudgetExceededError, match=words):
        ledger.reserve(payer, Decimal("0.000001"), target="t")


def test_runs_and_keys_have_budgets_of_their_own() -> None:
    """What one run or key has spent is not missing in another's budget, and a call without a name counts in none."""
    ledger = Ledger(Budget(run=1, key=2), lambda: NOON)
    for payer in (Payer("k", "a"), Payer("k", "b"), Payer("l", "c"), NOBODY, NOBODY):
        ledger.settle(ledger.reserve(payer, Decimal(1), target="t"), Decimal(1), billed=True)
    with pytest.raises(BudgetExceededError, match="key 'k'"):
        ledger.reserve(Payer("k", "d"), Decimal(1), target="t")
    spent = ledger.spent
    assert spent.total == 5
    assert dict(spent.keys) == {"k": Decimal(2), "l": Decimal(1)}
    assert dict(spent.runs) == {"a": Decimal(1), "b": Decimal(1), "c": Decimal(1)}
    with pytest.raises(TypeError):
        spent.keys["k"] = Decimal(0)  # type: ignore[index]


def test_a_day_is_one_of_utc_and_begins_anew() -> None:
    """At midnight UTC, wherever the clock is, the day's budget is whole again; an attempt counts on the day it began."""
    clock = [datetime(2026, 11, 24, 1, 59, 59, tzinfo=timezone(timedelta(hours=2)))]
    ledger = Ledger(Budget(day=1), lambda: clock[0])
    late = ledger.reserve(NOBODY, Decimal("0.5"), target="t")
    with pytest.raises(BudgetExceededError, match="2026-11-23"):
        ledger.reserve(NOBODY, Decimal(1), target="t")
    clock[0] += timedelta(seconds=1)
    ledger.reserve(NOBODY, Decimal(1), target="t")
    ledger.settle(late, Decimal("0.5"), billed=True)
    assert (ledger.spent.today, ledger.spent.total) == (Decimal(0), Decimal("0.5"))


@pytest.mark.parametrize(
    ("amount", "cost", "billed", "spent", "assumed", "unknown"),
    [
        ("1", "0.4", True, "0.4", "0", 0),
        ("1", "1.4", True, "1.4", "0", 0),
        ("1", None, True, "1", "1", 0),
        ("1", None, False, "0", "0", 0),
        (None, "0.4", True, "0.4", "0", 0),
        (None, None, True, "0", "0", 1),
        (None, None, False, "0", "0", 0),
    ],
)
def test_how_a_reservation_is_settled(
    amount: str | None, cost: str | None, billed: bool, spent: str, assumed: str, unknown: int
) -> None:
    """The known cost takes its place; where that is unknown it stays if the attempt may be billed; unknown is not zero."""
    ledger = Ledger(Budget(client=10, unpriced="allow"), lambda: NOON)
    reservation = ledger.reserve(NOBODY, None if amount is None else Decimal(amount), target="t")
    ledger.settle(reservation, None if cost is None else Decimal(cost), billed=billed)
    found = ledger.spent
    assert (found.total, found.assumed, found.unknown) == (Decimal(spent), Decimal(assumed), unknown)
    assert found.reserved == 0


attempts = st.lists(
    st.tuples(
        st.decimals(0, 3, places=4),  # what is reserved
        st.none() | st.decimals(0, 6, places=4),  # what it costs, which may be more
        st.booleans(),  # whether it may be billed
        st.integers(0, 5),  # how many others end before the next begins
        st.sampled_from([NOBODY, Payer("k", "r"), Payer("k"), Payer(run="r")]),
    ),
    max_size=60,
)


@given(attempts, st.decimals(0, 20, places=2))
def test_no_budget_is_overshot_by_more_than_is_under_way(
    plan: list[tuple[Decimal, Decimal | None, bool, int, Payer]], limit: Decimal
) -> None:
    """Whatever attempts cost, a budget is overshot by no more than they cost beyond what they had reserved."""
    ledger = Ledger(Budget(client=limit, key=limit), lambda: NOON)
    under_way: list[tuple[Reservation, Decimal | None, bool]] = []
    beyond = Decimal(0)

    def end_one() -> None:
        nonlocal beyond
        reservation, cost, billed = under_way.pop(0)
        ledger.settle(reservation, cost, billed=billed)
        beyond += max((cost or Decimal(0)) - (reservation.amount or Decimal(0)), Decimal(0))

    for amount, cost, billed, ends, payer in plan:
        before = ledger.spent
        try:
            reservation = ledger.reserve(payer, amount, target="t")
        except BudgetExceededError:
            named = before.keys.get("k", Decimal(0)) if payer.key else before.total
            assert max(named, before.total) + before.reserved + amount > limit
        else:
            assert before.total + before.reserved + amount <= limit
            under_way.append((reservation, cost, billed))
        for _ in range(min(ends, len(under_way))):
            end_one()
        assert ledger.spent.total <= limit + beyond
    while under_way:
        end_one()
    assert ledger.spent.total <= limit + beyond
    assert ledger.spent.reserved == 0


def test_threads_share_a_ledger() -> None:
    """From several threads no more is set aside than the budget has, and no settlement is lost."""
    ledger = Ledger(Budget(client=10), lambda: NOON)
    made: list[int] = []

    def spend() -> None:
        for _ in range(500):
            try:
                reservation = ledger.reserve(NOBODY, Decimal("0.02"), target="t")
            except BudgetExceededError:
                return
            ledger.settle(reservation, Decimal("0.01"), billed=True)
            made.append(1)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15.0)
    assert ledger.spent.total == Decimal("0.01") * len(made)
    assert Decimal("9.9") <= ledger.spent.total <= 10


# -------------------------------------------------------------------------------------------- what is forecast


def request_of(**options: Any) -> Request:
    prompt = options.pop("prompt", "hi")
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return Request(prompt=prompt, messages=messages, model=options.pop("model", "gpt-4o"), **options)


@pytest.mark.parametrize(
    ("options", "backend", "output"),
    [
        ({"max_tokens": 100}, Priced(applied={"max_tokens": 50}), 100),
        ({}, Priced(applied={"max_tokens": 50}), 50),
        ({}, Priced(), forecast.DEFAULT_OUTPUT),
    ],
)
def test_the_longest_answer_is_reserved_for(options: Mapping[str, Any], backend: Priced, output: int) -> None:
    """An answer is taken to have max_tokens, or what is sent in its place, or, where nothing bounds it, an assumption."""
    assert forecast.dollars(request_of(**options), backend, NOON) == reserved(HI, output)


def test_a_model_that_is_known_to_write_so_much_is_reserved_for() -> None:
    """Where the call sets no limit and none is sent, the model's own counts."""
    backend = Priced(model="claude-haiku-4-5", provider="anthropic")
    found = forecast.dollars(request_of(model="claude-haiku-4-5"), backend, NOON)
    assert found == Decimal("0.000001") * HI + Decimal("0.000005") * 64_000


def test_a_write_to_the_cache_is_reserved_for() -> None:
    """A prompt that is to be cached may cost more, and that is what is reserved."""
    backend = Priced(model="claude-haiku-4-5", provider="anthropic")
    plain = request_of(model="claude-haiku-4-5", max_tokens=1)
    cached = request_of(model="claude-haiku-4-5", max_tokens=1, cache="5m")
    more, less = forecast.dollars(cached, backend, NOON), forecast.dollars(plain, backend, NOON)
    assert more is not None
    assert less is not None
    assert more - less == Decimal("0.00000025") * HI


def test_media_have_tokens_too() -> None:
    """An image in a prompt, which nobody here can count, is taken at a fixed number of tokens."""
    image = Media(kind="image", media_type="image/png", data=b"x")
    with_image = request_of(prompt=(Message("user", (Text("hi"), image)),), max_tokens=10)
    assert forecast.prompt_tokens(with_image) == HI + forecast.MEDIA
    assert forecast.tokens(with_image) == HI + forecast.MEDIA + 10


def test_vectors_have_no_output() -> None:
    """What is asked for vectors counts with its texts alone."""
    asked = EmbedRequest(texts=("hi", "ho"), model="text-embedding-3-small")
    assert forecast.tokens(asked) == 9
    assert forecast.dollars(asked, Priced(), NOON) == Decimal("0.00000002") * 9


def test_a_request_that_cannot_be_made_costs_nothing() -> None:
    """Where the attempt itself is going to fail before anything is sent, nothing is set aside for it."""

    class Unwilling(Priced):
        def prepare(self, request: Request) -> Exchange:
            msg = "not so"
            raise InvalidRequestError(msg)

    assert forecast.dollars(request_of(), Unwilling(), NOON) == 0


# ------------------------------------------------------------------------------------------- in a client's call


def test_a_call_is_reserved_for_and_settled() -> None:
    """While it runs a call holds what it may cost; then what it did cost is spent, in its key's and run's name as well."""

    async def main() -> None:
        client = client_of(Priced(), Budget(client=1))
        task = asyncio.create_task(client.generate("hi", max_tokens=50, key="k", run="r"))
        await asyncio.sleep(0.5)
        assert client.spent.reserved == reserved(HI, 50)
        answer = await task
        assert answer.cost == COST
        spent = client.spent
        assert (spent.total, spent.today) == (COST, COST)
        assert (spent.reserved, spent.assumed, spent.unknown) == (Decimal(0), Decimal(0), 0)
        assert (dict(spent.keys), dict(spent.runs)) == ({"k": COST}, {"r": COST})

    virtual.run(main())


def test_a_call_over_budget_is_refused_on_record() -> None:
    """Nothing is sent, the log has it as blocked, and the limits have their place back."""

    async def main() -> None:
        log, backend = AuditLog.memory(), Priced()
        client = client_of(backend, Budget(day="0.0001"), limits=Limits(concurrency=1), audit=log)
        with pytest.raises(BudgetExceededError, match=r"priced:gpt-4o: refused here.*day 2026-11-23, \$0.0001"):
            await client.generate("hi", max_tokens=1000)
        assert backend.made == 0
        assert [(row.status, row.error) for row in log.attempts()] == [("blocked", "BudgetExceededError")]
        leaf = next(entry.leaf for entry in log.entries() if entry.leaf["kind"] == "call.blocked")
        assert leaf["reason"] == "budget"
        await client.generate("hi", max_tokens=1)

    virtual.run(main())


@pytest.mark.parametrize(
    ("error", "after_text", "stays"),
    [
        (ServerError("down"), False, False),
        (ServerError("down"), True, True),
        (RateLimitError("slow"), False, False),
        (ConnectionFailedError("refused"), False, False),
        (ConnectionFailedError("broke", ambiguous=True), False, True),
        (IncompleteStreamError("cut"), False, True),
    ],
)
def test_what_may_have_been_billed_stays_spent(error: ProviderError, *, after_text: bool, stays: bool) -> None:
    """A failure after which the provider may bill keeps its reservation; one after which it does not gives it back."""

    async def main() -> None:
        client = client_of(Priced([error], after_text=after_text), Budget(client=1))
        with pytest.raises(ProviderError):
            await client.generate("hi", max_tokens=50)
        kept = reserved(HI, 50) if stays else Decimal(0)
        assert (client.spent.total, client.spent.assumed, client.spent.reserved) == (kept, kept, Decimal(0))

    virtual.run(main())


def test_an_exception_of_a_backend_may_have_cost_something() -> None:
    """A backend that raises what is no provider's error says nothing of the bill, so the reservation stays."""

    class Broken(Priced):
        async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
            msg = "a bug"
            raise ValueError(msg)
            yield TextDelta("")

    async def main() -> None:
        client = client_of(Broken(), Budget(client=1))
        with pytest.raises(ProviderError):
            await client.generate("hi", max_tokens=50)
        assert client.spent.assumed == reserved(HI, 50)

    virtual.run(main())


def test_retries_and_fallbacks_are_each_reserved_for() -> None:
    """Each attempt is set aside for and settled on its own; the one that would be too much ends the call."""

    async def main() -> None:
        cut = IncompleteStreamError("cut")
        first, second = Priced([cut, cut]), Priced(name="second")
        client = client_of(first, Budget(client=1), fallback=second, retry=Retry(attempts=2, base=0.0))
        await client.generate("hi", max_tokens=50)
        assert client.spent.total == 2 * reserved(HI, 50) + COST
        assert client.spent.assumed == 2 * reserved(HI, 50)
        poor = client_of(Priced([cut] * 9), Budget(client="0.0006"), retry=Retry(attempts=5, base=0.0))
        with pytest.raises(BudgetExceededError) as caught:
            await poor.generate("hi", max_tokens=50)
        assert [attempt.status for attempt in caught.value.attempts] == ["incomplete"]

    virtual.run(main())


def test_answers_that_did_not_fit_are_paid_for() -> None:
    """Repairs, and answers that no repair made fit, cost what they cost."""

    async def main() -> None:
        client = client_of(Priced(text="no number"), Budget(client=1))
        with pytest.raises(OutputMismatchError):
            await client.generate("hi", max_tokens=50, output=int, repair=2)
        assert (client.spent.total, client.spent.assumed) == (3 * COST, Decimal(0))

    virtual.run(main())


def test_an_answer_that_was_turned_down_is_paid_for() -> None:
    """What `Fallback.accept` turns down was asked for and is spent."""

    async def main() -> None:
        fallback = Fallback([Priced(name="second")], accept=lambda answer: answer.backend == "second")
        client = client_of(Priced(), Budget(client=1), fallback=fallback)
        await client.generate("hi", max_tokens=50)
        assert client.spent.total == 2 * COST

    virtual.run(main())


def test_vectors_are_paid_for() -> None:
    """A call for vectors is reserved for and settled like any other, in its key's name."""

    async def main() -> None:
        client = client_of(Priced(model="text-embedding-3-small"), Budget(key="0.00001"))
        answer = await client.embed(["hi", "ho"], key="k")
        assert answer.cost == Decimal("0.00000002") * 7
        assert dict(client.spent.keys) == {"k": answer.cost}
        with pytest.raises(BudgetExceededError):
            await client.embed(["word " * 1000], key="k")

    virtual.run(main())


def test_an_answer_that_could_not_be_recorded_is_paid_for() -> None:
    """Where the outcome cannot be written the answer was paid for all the same, and its cost is known."""

    class Forgetful(AuditLog):
        async def outcome(self, **said: Any) -> Any:
            msg = "the disk is full"
            raise AuditWriteError(msg)

    async def main() -> None:
        client = client_of(Priced(), Budget(client=1), audit=Forgetful.memory())
        with pytest.raises(AuditWriteError):
            await client.generate("hi", max_tokens=50)
        assert (client.spent.total, client.spent.assumed, client.spent.reserved) == (COST, Decimal(0), Decimal(0))

    virtual.run(main())


def test_what_has_no_price_is_refused_or_counted_apart() -> None:
    """Without a price a budget cannot be kept: such a call is refused, or, where that is allowed, known as unknown."""

    async def main() -> None:
        client = Client(MockBackend(), budget=Budget(client=1), audit="off")
        with pytest.raises(BudgetExceededError, match=r"no price is known for it.*Budget\(unpriced='allow'\)"):
            await client.generate("hi")
        allowed = Client(MockBackend(), budget=Budget(client=1, unpriced="allow"), audit="off")
        await allowed.generate("hi")
        assert (allowed.spent.total, allowed.spent.unknown) == (Decimal(0), 1)
        elsewhere = Client(MockBackend(), budget=Budget(run=1), audit="off")
        await elsewhere.generate("hi")  # it belongs to no run

    virtual.run(main())


def test_usage_that_is_not_stated_keeps_the_reservation() -> None:
    """An answer without usage costs what had been set aside, as far as is known."""

    async def main() -> None:
        client = client_of(Priced(output=None), Budget(client=1))
        await client.generate("hi", max_tokens=50)
        assert (client.spent.total, client.spent.assumed) == (reserved(HI, 50), reserved(HI, 50))

    virtual.run(main())


def test_a_client_without_a_budget_knows_what_was_spent() -> None:
    """What calls cost is known without any budget, and nothing is set aside."""

    async def main() -> None:
        client = client_of(Priced([None, ServerError("down"), IncompleteStreamError("cut")]))
        task = asyncio.create_task(client.generate("hi"))
        await asyncio.sleep(0.5)
        assert client.spent.reserved == 0
        await task
        for _ in range(2):
            with pytest.raises(ProviderError):
                await client.generate("hi", run="r")
        spent = client.spent
        assert (spent.total, spent.unknown, dict(spent.runs)) == (COST, 1, {"r": Decimal(0)})

    virtual.run(main())


@pytest.mark.parametrize("name", ["key", "run"])
@pytest.mark.parametrize("value", ["", 5, b"k", ["k"]])
def test_a_key_and_a_run_are_words(name: str, value: Any) -> None:
    """What names a key or a run is a str with something in it, for answers and for vectors."""
    client = Client("mock", audit="off")
    with pytest.raises(InvalidRequestError, match=f"{name} is a non-empty str"):
        client.stream("hi", **{name: value})
    with pytest.raises(InvalidRequestError, match=f"{name} is a non-empty str"):
        asyncio.run(client.embed("hi", **{name: value}))


@settings(max_examples=25)
@given(
    plan=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), min_size=1, max_size=40),
    cents=st.integers(0, 5),
    concurrency=st.none() | st.integers(1, 8),
)
def test_concurrent_calls_stay_within_a_budget(
    plan: list[tuple[int, int]], cents: int, concurrency: int | None
) -> None:
    """However many calls are under way, and whatever each costs, what is spent stays within what was set aside for them."""

    class Varied(Priced):
        async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
            assert isinstance(request.prompt, str)
            output, seconds = map(int, request.prompt.split())
            await asyncio.sleep(seconds)
            yield TextDelta("yes")
            yield Finish(reason="stop", usage=Usage(input_total=5, output_total=output), model="gpt-4o")

    async def main() -> None:
        limit = Decimal(cents) / 100
        limits = Limits(concurrency=concurrency, max_wait=10_000.0)
        client = client_of(Varied(), Budget(client=limit), limits=limits)
        calls = (client.generate(f"{output:03} {seconds}", max_tokens=200) for output, seconds in plan)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(
            not isinstance(answer, BaseException) or isinstance(answer, BudgetExceededError) for answer in answers
        )
        costs = [answer.cost for answer in answers if not isinstance(answer, BaseException)]
        assert client.spent.total == sum((cost for cost in costs if cost is not None), Decimal(0))
        under_way = min(len(costs), concurrency or len(costs))
        most = reserved(6, 400) - reserved(6, 200)
        assert client.spent.total <= limit + under_way * most
        assert client.spent.reserved == 0

    virtual.run(main())


# ------------------------------------------------------------------------------------------------- cancellation


@coroutine
def _cancelled_at(number: int, asked: Awaitable[T], cancel: Callable[[], object]) -> Generator[Any, Any, T]:
    """Await something, and have the task cancelled when it suspends for the given time."""
    steps = asked.__await__()
    sent: Any = None
    count = 0
    while True:
        try:
            waited = steps.send(sent)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        count += 1
        if count == number:
            cancel()
        try:
            sent = yield waited
        except BaseException as error:  # noqa: BLE001  (handed on to where it belongs)
            try:
                waited = steps.throw(error)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            sent = yield waited


def _the(task: asyncio.Task[Any] | None) -> asyncio.Task[Any]:
    assert task is not None
    return task


class Slow(AuditLog):
    """A log in which an intent takes a moment to be written."""

    async def intent(self, **said: Any) -> Any:
        await asyncio.sleep(0.5)
        return await super().intent(**said)


async def _generate(client: Client) -> str:
    return (await client.generate("hi", max_tokens=50)).content


async def _stream(client: Client) -> str:
    async with client.stream("hi", max_tokens=50) as reply:
        async for _ in reply:
            pass
        return reply.response.content


async def _embed(client: Client) -> str:
    return (await client.embed("hi")).backend


@pytest.mark.parametrize("ask", [_generate, _stream, _embed])
@pytest.mark.parametrize("waits", [False, True])
def test_cancelled_at_every_point(ask: Callable[[Client], Coroutine[Any, Any, str]], *, waits: bool) -> None:
    """A call that is cancelled wherever it gives way leaves nothing in flight, in line or reserved, and one outcome.

    It fails once, waits for its retry, and, where others are before it, for its turn.
    """
    number, answered = 0, False
    while not answered:
        number += 1
        answered = virtual.run(_cancel(ask, number, waits=waits))
        assert number < 60
    assert number > 3


async def _cancel(ask: Callable[[Client], Coroutine[Any, Any, str]], number: int, *, waits: bool) -> bool:
    """Carry a call out that is cancelled at a point; tell whether it had an answer before."""
    log, seen = Slow.memory(), list[Observation]()
    model = "text-embedding-3-small" if ask is _embed else "gpt-4o"
    backend = Priced([] if waits or ask is _embed else [ServerError("down")], model=model)
    limits = Limits(concurrency=1, requests_per_minute=3)
    retry = Retry(attempts=2)
    client = client_of(backend, Budget(client=1), audit=log, limits=limits, retry=retry, observers=[seen.append])
    limiter = client._stations[0].admission
    assert isinstance(limiter, Limiter)
    before = [asyncio.create_task(ask(client))] if waits else []
    await asyncio.sleep(0.1)

    async def cancelled() -> str:
        return await _cancelled_at(number, ask(client), lambda: _the(asyncio.current_task()).cancel())

    task = asyncio.create_task(cancelled())
    await asyncio.wait([task])
    await asyncio.gather(*before)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
    assert client.spent.reserved == 0
    if not backend.made - len(before):  # nothing was sent
        assert (client.spent.assumed, client.spent.unknown) == (Decimal(0), 0)
    assert all(row.status != "open" for row in log.attempts())
    count = sum(entry.leaf["kind"] == "call.intent" for entry in log.entries())
    assert count == sum(entry.leaf["kind"] == "call.outcome" for entry in log.entries())
    if task.cancelled():
        assert await asyncio.wait_for(_embed(client) if ask is _embed else _generate(client), 400.0)
        return False
    return bool(task.result())


def test_cancelled_before_anything_was_sent() -> None:
    """Cancelled while it waits for its turn a call has used none of the limits and cost nothing."""

    async def main() -> None:
        client = client_of(Priced(), Budget(client=1), limits=Limits(concurrency=1))
        first = asyncio.create_task(client.generate("hi", max_tokens=50))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(client.generate("hi", max_tokens=50))
        await asyncio.sleep(0.5)
        assert client.spent.reserved == reserved(HI, 50)
        second.cancel()
        await asyncio.wait([second])
        await first
        assert (client.spent.total, client.spent.assumed) == (COST, Decimal(0))

    virtual.run(main())


def test_a_stream_that_is_left_stays_spent() -> None:
    """An answer that the caller does not read to its end may be billed: what was set aside is spent, nothing is held."""

    async def main() -> None:
        client = client_of(Priced(), Budget(client=1), limits=Limits(concurrency=1))
        async with client.stream("hi", max_tokens=50) as reply:
            async for _ in reply:
                break
        assert (client.spent.assumed, client.spent.reserved) == (reserved(HI, 50), Decimal(0))
        await client.generate("hi", max_tokens=50)

    virtual.run(main())


def test_an_answer_from_the_cache_costs_nothing() -> None:
    """What is answered from the cache needs no room in a budget and no place among the limits."""

    async def main() -> None:
        limits = Limits(requests_per_minute=1, max_wait=0.0)
        client = client_of(Priced(), Budget(client="0.0008"), cache=Cache.memory(), limits=limits)
        for _ in range(3):
            await client.generate("hi", max_tokens=50)
        assert client.spent.total == COST

    virtual.run(main())
