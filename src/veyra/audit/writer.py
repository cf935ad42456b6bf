"""The one thread of a process that writes a log: it takes what is queued, writes it, syncs, and lets waiters go.

1. Batches come from load, not from a timer: while one batch is being synced, the next one gathers.
2. Waiters are let go per event loop, with one wake-up for all of a batch.
3. While the log cannot be opened or written, waiters are told why, and the next entry tries again.
4. A checkpoint follows an append by at most a second or a thousand entries; it is signed where the log has a key.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from veyra.audit import quarantine, signer
from veyra.audit.coding import Packer
from veyra.audit.entry import Draft, Sealed, recovered_session, session_close, session_open
from veyra.audit.keys import Places
from veyra.audit.recovery import orphans
from veyra.audit.session import MODE, Session
from veyra.audit.signer import Signer
from veyra.audit.store import Placed, Store, TornTailError
from veyra.errors import AuditCorruptError, AuditError
from veyra.types import Receipt

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_BATCH_ENTRIES: Final = 1_024
_BATCH_BYTES: Final = 8 << 20
_SAVE_ENTRIES: Final = 1_000
_SAVE_SECONDS: Final = 1.0

Result = Receipt | Exception
"""What a waiter is told: where the entry stands, or why it does not."""


class Waiting(NamedTuple):
    """An entry on its way, and who waits for it: nobody, where `loop` and `future` are None."""

    draft: Draft
    loop: AbstractEventLoop | None = None
    future: Future[Result] | None = None

    @property
    def size(self) -> int:
        """The bytes of its bodies."""
        return sum(len(part.data) for part in self.draft.parts)


class Writer:
    """The thread and its queue, from the first entry until `close`.

    Attributes:
        busy: held while files are touched. Whoever forks takes it first, so that a child never gets half-opened files.
    """

    def __init__(self, directory: Path, places: Places) -> None:
        self.busy = threading.Lock()
        self._directory = directory
        self._places = places
        self._signer: Signer | None = None
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._packer = Packer()
        self._session = Session(self._packer)
        self._store: Store | None = None
        self._unsaved_since = 0.0
        self._thread = threading.Thread(target=self._run, name="veyra-audit", daemon=True)

    def start(self) -> None:
        """Start the thread. It opens the log with the first entry."""
        self._thread.start()

    def put(self, waiting: Waiting) -> None:
        """Queue an entry; never waits."""
        self._queue.put(waiting)

    def close(self) -> None:
        """Write what is queued, end the session, and wait for the thread to end. Nothing may be put afterwards.

        A session that cannot write its end is left as a crash would leave it: the next opening recovers it.
        """
        self._queue.put(None)
        self._thread.join()

    def forget(self) -> None:
        """In a forked child: let go of the parent's files, and leave its entries to it."""
        if self._store is not None:
            self._store.release()

    # ---------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._take()
            with self.busy:
                if batch:
                    self._serve(batch)
                if closing:
                    self._finish()
                elif self._save_due() == 0:
                    self._save()

    def _take(self) -> tuple[list[Waiting], bool]:
        """Wait for the queue; return what is in it, and whether the end was asked for. Empty: a checkpoint is due."""
        batch: list[Waiting] = []
        size = 0
        try:
            item = self._queue.get(timeout=self._save_due())
            while item is not None:
                batch.append(item)
                size += item.size
                if len(batch) >= _BATCH_ENTRIES or size >= _BATCH_BYTES:
                    return batch, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _serve(self, batch: Sequence[Waiting]) -> None:
        """Write a batch and tell each waiter."""
        results: dict[str, Result] = {}
        try:
            store = self._ready()
            placed = self._append(store, [waiting.draft for waiting in batch], results)
            store.sync()
            for item in placed:
                results[item.entry.draft.id] = _receipt(store.origin, item)
        except Exception as error:  # noqa: BLE001  (whatever it is, those who wait for it must hear of it)
            if not isinstance(error, OSError | AuditError):
                self._drop()
            for waiting in batch:
                results.setdefault(waiting.draft.id, error)
        _tell(batch, results)

    def _append(self, store: Store, drafts: Sequence[Draft], results: dict[str, Result]) -> list[Placed]:
        """Seal and write drafts. Return those that stand in the log; say in `results` what kept the others out."""
        entries: list[Sealed] = []
        for draft in drafts:
            try:
                entries.append(self._session.seal(draft))
            except LookupError as error:
                results[draft.id] = error
        try:
            placed, failure = store.append(entries)
        except TornTailError:
            self._session.undo(entries)
            return self._append_after_torn_tail(store, [entry.draft for entry in entries], results)
        except (OSError, AuditError):
            self._session.undo(entries)
            raise
        self._session.undo(entries[len(placed) :])
        if failure is not None:
            results.update((entry.draft.id, failure) for entry in entries[len(placed) :])
        return placed

    def _append_after_torn_tail(
        self, store: Store, drafts: Sequence[Draft], results: dict[str, Result]
    ) -> list[Placed]:
        store.set_aside()
        placed = self._append(store, drafts, results)
        self._record_tails(store)
        return placed

    def _ready(self) -> Store:
        """Return the store, opened, with what earlier sessions left recovered."""
        if self._store is None:
            self._store = Store.open(self._directory, self._session.id)
            try:
                self._append_own(self._store, [session_open(pid=os.getpid(), mode=MODE, key=self._admit(self._store))])
                self._record_tails(self._store)
                self._recover_sessions(self._store)
            except BaseException:
                self._drop()
                raise
        return self._store

    def _admit(self, store: Store) -> str | None:
        """Find the log's key, see that the log goes on from what was signed, and return the key to name."""
        self._signer = signer.find(self._directory, store.origin, self._places)
        if self._signer is None:
            return None
        self._signer.admit(store.size)
        store.sync()
        first = self._signer.begin(store.durable)
        if first is not None:
            store.save(first)
        return self._signer.current().text

    def _drop(self) -> None:
        """Give the session up as dead; the next entry opens the log in a new one, which recovers it."""
        if self._store is not None:
            self._store.release()
        self._store = None
        self._session = Session(self._packer)

    def _append_own(self, store: Store, drafts: Sequence[Draft]) -> None:
        """Write entries of the log's own, all or none being of use."""
        results: dict[str, Result] = {}
        self._append(store, drafts, results)
        for failure in results.values():
            if isinstance(failure, Exception):
                raise failure

    def _record_tails(self, store: Store) -> None:
        tails = quarantine.pending(self._directory)
        if tails:
            self._append_own(store, [tail.draft() for tail in tails])
            store.sync()
            for tail in tails:
                tail.settle()

    def _recover_sessions(self, store: Store) -> None:
        for claim in store.claim_dead():
            try:
                left = orphans(self._directory, claim)
                if left is not None:
                    self._session.adopt(left)
                    dead = recovered_session(session=claim.session, abandoned=len(left))
                    self._append_own(store, [*self._session.unfinished(), dead])
                    store.sync()
                claim.path.unlink(missing_ok=True)
            finally:
                os.close(claim.fd)

    def _finish(self) -> None:
        if self._store is None:
            return
        try:
            self._append_own(self._store, [*self._session.unfinished(), session_close()])
            self._store.sync()
        except (OSError, AuditError):
            self._drop()
            return
        self._save()
        if self._store is not None:
            self._store.end()

    # ---------------------------------------------------------------------------------------- checkpoints

    def _save_due(self) -> float | None:
        """Return the seconds until a checkpoint is due, None where nothing waits for one."""
        unsaved = 0 if self._store is None else self._store.unsaved
        if unsaved == 0:
            self._unsaved_since = 0.0
            return None
        now = time.monotonic()
        self._unsaved_since = self._unsaved_since or now
        return 0.0 if unsaved >= _SAVE_ENTRIES else max(self._unsaved_since + _SAVE_SECONDS - now, 0.0)

    def _save(self) -> None:
        if self._store is not None:
            self._unsaved_since = time.monotonic()
            try:
                self._store.save(None if self._signer is None else self._signer.sign(self._store.durable))
            except AuditCorruptError:
                self._drop()  # the next entry opens the log again, and is told why that is refused
            except (OSError, AuditError):
                pass  # the entries are durable; it is tried again in a second


def _receipt(origin: str, placed: Placed) -> Receipt:
    entry = placed.entry
    return Receipt(origin=origin, id=entry.draft.id, seq=placed.seq, leaf_hash=entry.hash.hex())


def _tell(batch: Sequence[Waiting], results: dict[str, Result]) -> None:
    """Hand results to the event loops: one wake-up for each."""
    waiting: dict[AbstractEventLoop, list[tuple[Future[Result], Result]]] = {}
    for item in batch:
        if item.loop is not None and item.future is not None:
            waiting.setdefault(item.loop, []).append((item.future, results[item.draft.id]))
    for loop, pairs in waiting.items():
        with contextlib.suppress(RuntimeError):  # a loop that was closed has nobody left who waits
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[Future[Result], Result]]) -> None:
    for future, result in pairs:
        if not future.done():
            future.set_result(result)
