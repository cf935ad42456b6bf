"""An answer as it is put before a person: its text on standard output, and what there is to say of it on standard error."""

from __future__ import annotations

from collections.abc import Sequence

from veyra.cli import show
from veyra.types import AttemptRecord, ModelResponse

_ENDINGS = {
    "length": "the answer stops at the limit of tokens",
    "content_filter": "the provider withheld the answer or a part of it",
    "tool_calls": "the model asked for a tool, which this command does not run",
    "paused": "the provider paused the answer before its end",
    "other": "the provider ended the answer for a reason of its own",
}


class Printer:
    """Puts an answer on standard output, in pieces or whole, and one newline at its end where it has none."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._last = ""

    def piece(self, text: str) -> None:
        """Write the next piece."""
        if text and not self._quiet:
            show.answer(text)
            self._last = text[-1]

    def end(self, whole: str) -> None:
        """Write the whole answer where no piece of it was written, and end its last line."""
        if not self._last:
            self.piece(whole)
        if self._last != "\n":
            self.piece("\n")

    def cut(self) -> None:
        """End the last line of an answer that broke off, where something of it came."""
        if self._last:
            self.end("")


def tell(response: ModelResponse) -> None:
    """Say of an answer what its text does not: attempts that failed before it, warnings, an end before its time."""
    tell_failed(response.attempts[:-1])
    for warning in response.warnings:
        show.note(f"warning: {warning.message}")
    if response.finish_reason in _ENDINGS:
        show.note(_ENDINGS[response.finish_reason])


def tell_failed(attempts: Sequence[AttemptRecord]) -> None:
    """Say which attempts failed."""
    for attempt in attempts:
        who = attempt.backend if attempt.model is None else f"{attempt.backend}:{attempt.model}"
        billed = ", and may be billed" if attempt.ambiguous else ""
        show.note(f"attempt {attempt.number}, at {who}, failed ({attempt.error}){billed}")
