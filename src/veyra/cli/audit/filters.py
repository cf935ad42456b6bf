"""The options that say which attempts are meant; `list`, `stats` and `export` share them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import wraps
from typing import Any, Final

import click

from veyra.audit.search import Query
from veyra.cli.audit.words import STATUSES

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII).fullmatch


class Moment(click.ParamType[int]):
    """A time: a date, a date and time (UTC where no zone is given), or how long ago. Nanoseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401  (click's signature)
        """Return the time that `value` names."""
        if isinstance(value, int):
            return value
        if ago := _AGO(value):
            return time.time_ns() - int(ago[1]) * _SECONDS[ago[2]] * 10**9
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-01-31, 2026-01-31T13:30, or 90m, 24h, 7d for ago", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


class Amount(click.ParamType[Decimal]):
    """An amount of money, such as 0.05."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:  # noqa: ANN401  (click's signature)
        """Return the amount that `value` names."""
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite():
            self.fail(f"{value!r} is no amount; write 0.05, say", param, ctx)
        return amount


_OPTIONS: Final = (
    click.option("--since", type=Moment(), metavar="TIME", help="Only from then on: 2026-01-31, 2026-01-31T13:30, 7d."),
    click.option("--until", type=Moment(), metavar="TIME", help="Only those before then."),
    click.option("--backend", metavar="NAME", help="Only those of this backend."),
    click.option("--model", metavar="NAME", help="Only those of this model."),
    click.option("--status", type=click.Choice(STATUSES), help="Only those that ended so."),
    click.option("--call", metavar="ID", help="Only those of this call."),
    click.option("--request-id", metavar="ID", help="Only those with this id of the provider's."),
    click.option("--actor", metavar="NAME", help="Only those on behalf of this actor."),
    click.option("--trace", metavar="ID", help="Only those of this trace."),
    click.option("--text", metavar="WORDS", help="Only where all these words were asked, or all were answered."),
    click.option("--min-tokens", type=click.IntRange(min=0), metavar="N", help="Only those of so many tokens or more."),
    click.option("--min-cost", type=Amount(), metavar="AMOUNT", help="Only those that cost so much or more."),
)
_NAMES: Final = tuple(Query.__dataclass_fields__.keys() - {"limit"})


def filter_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose attempts; it gets them as one `query`."""

    @wraps(function)
    def command(**options: Any) -> None:  # noqa: ANN401  (click hands over what it parsed)
        query = Query(**{name: options.pop(name) for name in _NAMES})
        function(query=query, **options)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
