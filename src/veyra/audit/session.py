"""A session: one process's time with the log open, its running number, and the intents that still want an outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from veyra.audit.coding import Packer
from veyra.audit.entry import Attempt, Draft, Sealed, abandoned, new_id, seal

MODE: Final = "strict"
"""Intents are durable before the call is sent, outcomes before the answer is handed on."""


class Session:
    """Gives drafts their place and keeps the pairs: an outcome is taken only for an intent that is open here.

    Used by one thread at a time.

    Args:
        packer: what compresses bodies; None to keep them as they are.
    """

    def __init__(self, packer: Packer | None = None) -> None:
        self.id = new_id()
        self._packer = packer
        self._next = 0
        self._open: dict[str, Attempt] = {}

    def seal(self, draft: Draft) -> Sealed:
        """Give `draft` the next running number and return the entry to write.

        Raises:
            LookupError: it is the outcome of an intent that is not open in this session.
        """
        if draft.intent is not None:
            if draft.intent not in self._open:
                msg = f"intent {draft.intent} is not open in this session, so it can have no outcome here"
                raise LookupError(msg)
            del self._open[draft.intent]
        elif draft.attempt is not None:
            self._open[draft.id] = draft.attempt
        entry = seal(draft, self.id, self._next, self._packer)
        self._next += 1
        return entry

    def undo(self, entries: Sequence[Sealed]) -> None:
        """Take back the entries sealed last, which were not written, given in the order they were sealed."""
        for entry in reversed(entries):
            draft = entry.draft
            if draft.intent is not None and draft.attempt is not None:
                self._open[draft.intent] = draft.attempt
            else:
                self._open.pop(draft.id, None)
            self._next -= 1

    def adopt(self, orphans: Mapping[str, Attempt]) -> None:
        """Take over intents of dead sessions, by id, so that `unfinished` marks them as abandoned."""
        self._open.update(orphans)

    def unfinished(self) -> list[Draft]:
        """Draft an `abandoned` outcome for each intent that is still open."""
        return [abandoned(attempt, intent=intent) for intent, attempt in self._open.items()]
