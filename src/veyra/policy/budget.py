"""How much may be spent, in US dollars, and what of it is: exact decimals, nothing rounded."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Final, Literal, TypeAlias, get_args

from veyra.errors import InvalidRequestError

Amount: TypeAlias = Decimal | str | int
Scope: TypeAlias = Literal["client", "day", "run", "key"]
Unpriced: TypeAlias = Literal["refuse", "allow"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
ZERO: Final = Decimal(0)
_EXACT: Final = Context(prec=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent, in US dollars. What is None is not bounded.

    Amounts are `Decimal`, `str` or `int`, and are kept as `Decimal`. A float is refused: 0.1 of them is not a tenth.

    Attributes:
        client: by the client in all, as long as it lives.
        day: on a day, UTC. An attempt counts on the day on which it begins.
        run: in each run; a call names its run with `run=`.
        key: by each key; a call names its key with `key=`: a user, a team, whoever is to answer for it.
        unpriced: what to do with an attempt whose price is not known: `refuse` it, or `allow` it, uncounted.

    Raises:
        InvalidRequestError: a value is of another type or out of range.
    """

    client: Amount | None = None
    day: Amount | None = None
    run: Amount | None = None
    key: Amount | None = None
    unpriced: Unpriced = "refuse"

    def __post_init__(self) -> None:
        for scope in SCOPES:
            value = getattr(self, scope)
            if value is not None:
                object.__setattr__(self, scope, _dollars(scope, value))
        if self.unpriced not in get_args(Unpriced):
            msg = f"Budget(unpriced=...) is {' or '.join(map(repr, get_args(Unpriced)))}, not {self.unpriced!r}"
            raise InvalidRequestError(msg)

    def amount(self, scope: Scope) -> Decimal | None:
        """Return what may be spent in a scope; None where that is not bounded."""
        value = getattr(self, scope)
        return value if isinstance(value, Decimal) else None


class Account:
    """What was spent in one scope: a sum that is kept, and changes.

    Attributes:
        spent: what is paid for, or may be.
        reserved: what attempts under way may cost.
        assumed: the part of `spent` that is not known: the reservations of attempts that may have been billed.
        unknown: attempts that may have been billed, and are in none of the sums, as nothing was known of their price.
    """

    __slots__ = ("assumed", "reserved", "spent", "unknown")

    def __init__(self) -> None:
        self.spent = self.reserved = self.assumed = ZERO
        self.unknown = 0

    def has_room(self, amount: Decimal, limit: Decimal) -> bool:
        """Tell whether so much may be reserved besides."""
        return _EXACT.add(_EXACT.add(self.spent, self.reserved), amount) <= limit

    def reserve(self, amount: Decimal) -> None:
        """Set aside what an attempt may cost."""
        self.reserved = _EXACT.add(self.reserved, amount)

    def settle(self, reserved: Decimal, spent: Decimal) -> None:
        """Put what an attempt has cost in the place of what it had reserved."""
        self.reserved = _EXACT.subtract(self.reserved, reserved)
        self.spent = _EXACT.add(self.spent, spent)

    def pay(self, spent: Decimal) -> None:
        """Add what an attempt has cost for which nothing was reserved."""
        self.spent = _EXACT.add(self.spent, spent)

    def assume(self, reserved: Decimal) -> None:
        """Take what an attempt had reserved for what it has cost, as that is not known."""
        self.settle(reserved, reserved)
        self.assumed = _EXACT.add(self.assumed, reserved)


def shown(amount: Decimal) -> str:
    """Return an amount for people, exact."""
    return f"${_EXACT.normalize(amount):f}"


def _dollars(scope: str, value: object) -> Decimal:
    if isinstance(value, float):
        msg = f"Budget({scope}=...) takes no float, for 0.1 of them is not a tenth: write {scope}='{value}'"
        raise InvalidRequestError(msg)
    if isinstance(value, bool) or not isinstance(value, Decimal | str | int):
        msg = f"Budget({scope}=...) is an amount of US dollars ('2.50', 10 or a Decimal), not {type(value).__name__}"
        raise InvalidRequestError(msg)
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0 or abs(amount.adjusted()) > 20:
        written = value if isinstance(value, str) else str(amount)
        msg = f"Budget({scope}=...) is an amount of US dollars, 0 or more ('2.50', say), not {written[:40]!r}"
        raise InvalidRequestError(msg)
    return amount
