"""What a client has spent and what it may spend: reserved before an attempt, settled after it.

The rules, each of which the tests break once to see it hold:

1. An attempt is made only where what it may cost fits into every budget that it counts in, beside what is spent and what the
   attempts under way have reserved. So a budget is never overshot by more than those cost beyond their reservations.
2. What is known to have been spent takes the reservation's place. Where that is not known, and the attempt may have been
   billed, the reservation stays spent. Where it was certainly not billed, it is given back.
3. A cost that is not known is never taken for nothing: it is counted among the unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from threading import Lock
from types import MappingProxyType
from typing import Final, NamedTuple

from veyra.errors import BudgetExceededError, InvalidRequestError
from veyra.policy.budget import SCOPES, ZERO, Account, Budget, Scope, shown

_NAMES: Final[Mapping[Scope, str]] = {
    "client": "the client's budget",
    "day": "the budget of the day {}",
    "run": "the budget of run {!r}",
    "key": "the budget of key {!r}",
}


class Payer(NamedTuple):
    """In whose name a call is made; None is nobody's."""

    key: str | None = None
    run: str | None = None


NOBODY: Final = Payer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a client has spent, in US dollars.

    Attributes:
        total: in all, what is only assumed included.
        today: on the day, UTC, on which the last attempt was made.
        reserved: what attempts under way may cost besides.
        assumed: the part of `total` that is not known: what attempts that may have been billed had reserved.
        unknown: attempts that may have been billed and are not in `total`, as nothing was known of their price.
        keys, runs: in the name of each key and in each run.
    """

    total: Decimal
    today: Decimal
    reserved: Decimal
    assumed: Decimal
    unknown: int
    keys: Mapping[str, Decimal]
    runs: Mapping[str, Decimal]


class Reservation:
    """What one attempt may cost, set aside in the accounts in which it counts; None is not known."""

    __slots__ = ("accounts", "amount")

    def __init__(self, accounts: list[Account], amount: Decimal | None) -> None:
        self.accounts = accounts
        self.amount = amount


class Ledger:
    """Keeps a client's accounts: one for itself, one for the day, and one for each run and key that a call has named.

    It may be used from several threads.

    Args:
        budget: what may be spent; None for all.
        now: tells the time, with a time zone.

    Attributes:
        is_bounded: whether there is a budget: otherwise what an attempt may cost need not be known.
    """

    def __init__(self, budget: Budget | None, now: Callable[[], datetime]) -> None:
        self._now = now
        self._budget = Budget() if budget is None else budget
        self.is_bounded = any(self._budget.amount(scope) is not None for scope in SCOPES)
        self._whole = Account()
        self._today = Account()
        self._day: date | None = None
        self._day_ends = datetime.min.replace(tzinfo=UTC)
        self._unnamed = Reservation([self._whole, self._today], None)
        self._runs: dict[str, Account] = {}
        self._keys: dict[str, Account] = {}
        self._lock = Lock()

    def now(self) -> datetime:
        """Return what time it is.

        Raises:
            InvalidRequestError: who tells it does so without a time zone, and could be a day off.
        """
        moment: object = self._now()
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment
        msg = f"now() tells the time with a time zone, as datetime.now(UTC) does, not {moment!r}"
        raise InvalidRequestError(msg)

    @property
    def spent(self) -> Spent:
        """What is spent so far."""
        with self._lock:
            whole = self._whole
            return Spent(
                total=whole.spent,
                today=self._today.spent,
                reserved=whole.reserved,
                assumed=whole.assumed,
                unknown=whole.unknown,
                keys=_sums(self._keys),
                runs=_sums(self._runs),
            )

    def reserve(self, payer: Payer, amount: Decimal | None, *, target: str) -> Reservation:
        """Set aside what an attempt may cost; to be settled once, however it ends.

        Args:
            payer: in whose name it is made.
            amount: what it costs at most, as far as can be told; None where that is not known.
            target: what is asked, for the message of an error.

        Raises:
            BudgetExceededError: a budget has not that much left, or refuses what has no price.
        """
        moment = self.now()
        with self._lock:
            if moment >= self._day_ends:
                self._begin_day(moment)
            if self.is_bounded:
                self._check(payer, amount, target)
            elif payer is NOBODY:
                return self._unnamed
            accounts = [self._whole, self._today]
            if payer.run is not None:
                accounts.append(self._runs.setdefault(payer.run, Account()))
            if payer.key is not None:
                accounts.append(self._keys.setdefault(payer.key, Account()))
            if amount is not None:
                for account in accounts:
                    account.reserve(amount)
        return Reservation(accounts, amount)

    def settle(self, reservation: Reservation, cost: Decimal | None, *, billed: bool) -> None:
        """Note how an attempt ended.

        Args:
            reservation: what it had set aside; it is not to be used again.
            cost: what it cost; None where that is not known.
            billed: it may have been billed.
        """
        reserved = reservation.amount
        with self._lock:
            for account in reservation.accounts:
                if reserved is not None:
                    if cost is None and billed:
                        account.assume(reserved)
                    else:
                        account.settle(reserved, cost or ZERO)
                elif cost is not None:
                    account.pay(cost)
                elif billed:
                    account.unknown += 1

    def _begin_day(self, moment: datetime) -> None:
        """Open the account of a day; that of the day before lives on in the reservations that were made then."""
        self._day = moment.astimezone(UTC).date()
        self._day_ends = datetime.combine(self._day, time.min, UTC) + timedelta(days=1)
        self._today = Account()
        self._unnamed = Reservation([self._whole, self._today], None)

    def _check(self, payer: Payer, amount: Decimal | None, target: str) -> None:
        """See that every budget that an attempt counts in has room for it."""
        concerned: tuple[tuple[Scope, str | None, Account | None], ...] = (
            ("client", "", self._whole),
            ("day", str(self._day), self._today),
            ("run", payer.run, self._runs.get(payer.run or "")),
            ("key", payer.key, self._keys.get(payer.key or "")),
        )
        for scope, name, account in concerned:
            limit = self._budget.amount(scope)
            if limit is None or name is None:
                continue
            what = _NAMES[scope].format(name)
            if amount is None and self._budget.unpriced == "refuse":
                msg = (
                    f"{target}: refused here, nothing was sent: no price is known for it, so {what} cannot be kept; "
                    "Budget(unpriced='allow') lets such calls pass, uncounted"
                )
                raise BudgetExceededError(msg, reason="price")
            kept = account or Account()
            if not kept.has_room(amount or ZERO, limit):
                msg = (
                    f"{target}: refused here, nothing was sent: it may cost {shown(amount or ZERO)}, and of {what}, "
                    f"{shown(limit)}, {shown(kept.spent)} are spent and {shown(kept.reserved)} reserved by calls "
                    f"under way; raise Budget({scope}=...), or set max_tokens lower"
                )
                raise BudgetExceededError(msg)


def _sums(accounts: Mapping[str, Account]) -> Mapping[str, Decimal]:
    return MappingProxyType({name: account.spent for name, account in accounts.items()})
