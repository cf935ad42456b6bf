"""Stores for tests: each stands for a process that has the log open."""

from __future__ import annotations

from pathlib import Path

from veyra.audit import BodyPart, entry, read_entries
from veyra.audit.entry import Attempt, Sealed
from veyra.audit.session import Session
from veyra.audit.store import Store


class Process:
    """A store with a session that seals what it appends."""

    def __init__(self, directory: Path) -> None:
        self._session = Session()
        self.store = Store.open(directory, self._session.id)
        self.store.append([self._session.seal(entry.session_open(pid=1, mode="strict"))])
        self.store.sync()

    def seal(self, call: str, size: int = 0) -> Sealed:
        """Seal an intent with a body of so many bytes."""
        part = BodyPart("request.wire", b"x" * size, "x")
        return self._session.seal(entry.intent(Attempt(call, 1, "b"), attributes={}, parts=[part]))

    def append(self, *calls: str) -> None:
        """Append intents, without a sync."""
        _, failure = self.store.append([self.seal(call) for call in calls])
        assert failure is None


def calls(directory: Path) -> list[str]:
    """Return the calls of the intents in a log, in order."""
    return [e.leaf["call"] for e in read_entries(directory) if e.leaf["kind"] == "call.intent"]
