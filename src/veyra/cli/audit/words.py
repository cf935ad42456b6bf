"""How the values of an attempt are written for a person."""

from __future__ import annotations

from typing import Final

from veyra.cli.show import Colour

STATUSES: Final = ("open", "ok", "error", "timeout", "cancelled", "incomplete", "abandoned", "blocked")

COLOURS: Final[dict[str, Colour]] = {
    "ok": "green",
    "open": "yellow",
    "cancelled": "yellow",
    "error": "red",
    "timeout": "red",
    "incomplete": "red",
    "abandoned": "red",
    "blocked": "red",
}


def latency(milliseconds: float | None) -> str:
    """Write a time, or a dash where it is not known."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"


def count(number: int | None) -> str:
    """Write a number, or a dash where it was not stated."""
    return "-" if number is None else f"{number:,}"
