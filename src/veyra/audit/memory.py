"""The log in memory: the same entries and pairs, kept in a list and gone with the process."""

from __future__ import annotations

import threading

from veyra.audit.entry import Draft, new_id, session_open
from veyra.audit.session import MODE, Session
from veyra.types import Receipt


class Memory:
    """A log without a file or a thread: appending never waits. Safe to use from several threads.

    Attributes:
        origin: the log's name.
        entries: the leaf and the blobs of each entry, in order.
    """

    def __init__(self, pid: int) -> None:
        self.origin = f"veyra-memory/{new_id()}"
        self.entries: list[tuple[bytes, bytes]] = []
        self._session = Session()
        self._lock = threading.Lock()
        self.append(session_open(pid=pid, mode=MODE))

    def append(self, draft: Draft) -> Receipt:
        """Add an entry.

        Raises:
            LookupError: it is the outcome of an intent that is not open.
        """
        with self._lock:
            entry = self._session.seal(draft)
            self.entries.append((entry.leaf, entry.blobs))
            seq = len(self.entries) - 1
        return Receipt(origin=self.origin, id=draft.id, seq=seq, leaf_hash=entry.hash.hex())
