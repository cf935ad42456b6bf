"""The one writer of a process: a thread that takes what is queued, writes it, syncs, and lets waiters go.

A second thread writes the checkpoints, from the first that is due on.

1. Batches come from load, not from a timer: while one batch is being synced, the next one gathers.
2. Waiters are let go per event loop, with one wake-up for all of a batch.
3. An entry that nobody waits for is kept until it could be written, before all that came after it; how many there may be
   is bounded (`modes.py`).
4. A checkpoint follows an append by at most a second or a thousand entries; it is signed where the log has a key. While
   it is written, entries go on, and the next one covers them.
5. A caller that keeps nobody waiting may write its entry itself, where the log is in order and no other entry is on its
   way (`record_here`, ADR-0008). The thread is then told when a checkpoint is due, and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from veyra.audit.entry import Draft
from veyra.audit.keys import Places
from veyra.audit.modes import MAX_DEFERRED, MAX_DEFERRED_BYTES, Manner
from veyra.audit.recorder import Recorder, Result
from veyra.audit.store import Store
from veyra.errors import AuditError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_BATCH_ENTRIES: Final = 1_024
_BATCH_BYTES: Final = 8 << 20
_SAVE_ENTRIES: Final = 1_000
_SAVE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """An entry on its way, and who waits for it: nobody, where `loop` and `future` are None."""

    draft: Draft
    loop: AbstractEventLoop | None = None
    future: Future[Result] | None = None

    @property
    def size(self) -> int:
        """The bytes of its bodies."""
        size = 0
        for part in self.draft.parts:
            size += len(part.data)
        return size


class _Sign(Enum):
    """What a thread may find in its queue besides entries."""

    LOOK = "look whether something is due"
    SAVE = "write a checkpoint"
    CLOSE = "end the session"


class Writer:
    """The threads and their queues, from the first entry until `close`.

    Attributes:
        busy: held while entries are written. Whoever forks takes the writer first (`hold`), so that a child never gets
            half-opened files.
    """

    def __init__(self, directory: Path, places: Places, manner: Manner) -> None:
        self.busy = threading.Lock()
        self._recorder = Recorder(directory, places, manner)
        self._queue: SimpleQueue[Waiting | Literal[_Sign.LOOK, _Sign.CLOSE]] = SimpleQueue()
        self._queued = 0
        self._settled = 0
        self._taken = _Count()
        self._done = _Count()
        self._kept: list[Waiting] = []
        self._unsaved_since = 0.0
        self._told_to_look = False
        self._ended = False
        self._recording = 0
        self._thread = threading.Thread(target=self._run, name="veyra-audit", daemon=True)
        self._to_save: SimpleQueue[Literal[_Sign.SAVE, _Sign.CLOSE]] = SimpleQueue()
        self._is_saving = False
        self._saver: threading.Thread | None = None

    def hold(self) -> None:
        """Wait until no file is being touched, and keep it so until `go_on`."""
        self.busy.acquire()
        self._recorder.saving.acquire()

    def go_on(self) -> None:
        """Let the threads touch files again."""
        self._recorder.saving.release()
        self.busy.release()

    def start(self) -> None:
        """Start the thread. It opens the log with the first entry."""
        self._thread.start()

    def put(self, waiting: Waiting) -> None:
        """Queue an entry; never waits. One that nobody waits for is put only while `has_room`. One thread at a time."""
        if waiting.future is None:
            self._taken.add(waiting.size)
        self._queued += 1
        self._queue.put(waiting)

    def record_here(self, draft: Draft) -> Result | None:
        """Record an entry on the calling thread, durably; None where that is for the thread, and nothing was done.

        It is done here where it is one write and one sync: the log is open and in order, and every entry that was queued
        is settled. Should a signal's handler raise meanwhile, the session is given up as dead.
        """
        if self.busy.locked():
            return None
        with self.busy:
            if self._ended or self._queued != self._settled or not self._recorder.is_in_order:
                return None
            self._recording = threading.get_ident()
            try:
                result = self._recorder.record([draft])[draft.id]
            except BaseException:
                self._recorder.drop()
                raise
            finally:
                self._recording = 0
            is_known = self._told_to_look or self._is_saving
            if not is_known and (not self._unsaved_since or self._recorder.unsaved >= _SAVE_ENTRIES):
                self._told_to_look = True
                self._queue.put(_Sign.LOOK)
            return result

    def has_room(self) -> bool:
        """Tell whether an entry may be put that nobody waits for: the log takes entries, and not too many are on their way."""
        entries, size = self._taken.minus(self._done)
        return entries < MAX_DEFERRED and size < MAX_DEFERRED_BYTES and not self._kept

    @property
    def store(self) -> Store | None:
        """The log's files, where it is open."""
        return self._recorder.store

    @property
    def failure(self) -> Exception | None:
        """What stopped the last writing, None where nothing did."""
        return self._recorder.failure

    def counts(self) -> tuple[int, int, int]:
        """Return how many entries are deferred, in the second place, and not recorded."""
        return self._taken.minus(self._done)[0], self._recorder.spooled, self._recorder.unrecorded

    def close(self) -> int:
        """Write what is queued, end the session, and wait for the thread to end. Nothing may be put afterwards.

        A session that cannot write its end is left as a crash would leave it: the next opening recovers it.

        Returns:
            How many entries that nobody waits for could not be written.
        """
        self._queue.put(_Sign.CLOSE)
        if self._recording != threading.get_ident():  # else a signal's handler closes the log: it would wait for itself
            self._thread.join()
        return len(self._kept)

    def forget(self) -> None:
        """In a forked child: let go of the parent's files, and leave its entries to it."""
        self._recorder.release()

    # ---------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._take()
            is_idle = not batch and not self._kept
            if not is_idle:
                self._serve([*self._kept, *batch])
            with self.busy:
                if is_idle and not closing:
                    self._recorder.retry()
                    self._recorder.beat()
                if closing:
                    self._ended = True
                    self._stop_saving()
                    self._recorder.finish()
                elif self._save_due() == 0:
                    self._begin_to_save()

    def _take(self) -> tuple[list[Waiting], bool]:
        """Wait for the queue; return what is in it, and whether the end was asked for. Empty: something is due."""
        batch: list[Waiting] = []
        size = 0
        try:
            item = self._queue.get(timeout=self._due())
            while item is not _Sign.CLOSE:
                if item is _Sign.LOOK:
                    self._told_to_look = False
                else:
                    batch.append(item)
                    size += item.size
                if len(batch) >= _BATCH_ENTRIES or size >= _BATCH_BYTES:
                    return batch, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _serve(self, batch: Sequence[Waiting]) -> None:
        """Write a batch; keep what nobody waits for and could not be written. Then tell each waiter, who may write the next entry itself."""
        with self.busy:
            results = self._recorder.record([waiting.draft for waiting in batch])
            self._kept = []
            for waiting in batch:
                if waiting.future is None:
                    if isinstance(results[waiting.draft.id], OSError | AuditError):
                        self._kept.append(waiting)
                    else:
                        self._done.add(waiting.size)
            self._settled += len(batch) - len(self._kept)
        _tell(batch, results)

    def _due(self) -> float | None:
        """Return the seconds until something is to be done without being asked, None where nothing is."""
        retry = _RETRY_SECONDS if self._kept or self._recorder.spooled else None
        return min([due for due in (self._save_due(), self._recorder.beat_due, retry) if due is not None], default=None)

    def _save_due(self) -> float | None:
        """Return the seconds until a checkpoint is due, None where nothing waits for one."""
        unsaved = self._recorder.unsaved
        if unsaved == 0:
            self._unsaved_since = 0.0
            return None
        now = time.monotonic()
        self._unsaved_since = self._unsaved_since or now
        due = max(self._unsaved_since + _SAVE_SECONDS - now, 0.0)
        if self._is_saving:
            return due or _SAVE_SECONDS  # one after the other
        return 0.0 if unsaved >= _SAVE_ENTRIES else due

    # ----------------------------------------------------------------------------------------- checkpoints

    def _begin_to_save(self) -> None:
        self._unsaved_since = time.monotonic()
        self._is_saving = True
        if self._saver is None:
            self._saver = threading.Thread(target=self._save, name="veyra-audit-checkpoints", daemon=True)
            self._saver.start()
        self._to_save.put(_Sign.SAVE)

    def _save(self) -> None:
        while self._to_save.get() is _Sign.SAVE:
            try:
                self._recorder.save()
            finally:
                self._is_saving = False

    def _stop_saving(self) -> None:
        if self._saver is not None:
            self._to_save.put(_Sign.CLOSE)
            self._saver.join()


class _Count:
    """Entries and bytes that passed a point; one thread adds, others read."""

    __slots__ = ("_entries", "_size")

    def __init__(self) -> None:
        self._entries = self._size = 0

    def add(self, size: int) -> None:
        self._entries += 1
        self._size += size

    def minus(self, other: _Count) -> tuple[int, int]:
        """Return how many entries and bytes are between `other` and this."""
        return self._entries - other._entries, self._size - other._size


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
