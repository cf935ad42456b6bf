"""One session's way into the log: opened with the first entry, recovered, written, checkpointed, and what if not.

1. While the log cannot be opened or written, each entry is told why, and the next one tries again.
2. An outcome has room where an intent has none: when the disk is full the ballast is given up for it (`ballast.py`).
3. Under `spool`, entries go to the second place from the first failure on, in order, until all of them could be taken
   into the log; that is tried once a second (`spool.py`).
4. Under `fail_open`, what cannot be written is counted, and a `gap` entry goes before the next one that can.
5. A log that was damaged or altered is refused under every policy.
6. While nothing else is recorded, a `heartbeat` is, once an hour; one that cannot be written is left out.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veyra.audit import quarantine, sessions, signer
from veyra.audit.coding import Packer
from veyra.audit.entry import (
    CLOSE,
    INTENT,
    Draft,
    Sealed,
    abandoned,
    gap,
    heartbeat,
    imported_spool,
    recovered_session,
    session_close,
    session_open,
)
from veyra.audit.filesystem import require_local
from veyra.audit.keys import Places
from veyra.audit.modes import Manner
from veyra.audit.recovery import orphans, reached
from veyra.audit.session import Session
from veyra.audit.sessions import Claim
from veyra.audit.signer import Signer
from veyra.audit.spool import Spool, left_in
from veyra.audit.store import Placed, Store, TornTailError
from veyra.errors import AuditCorruptError, AuditError
from veyra.types import Receipt

Result = Receipt | Exception
"""What becomes of an entry: where it stands, or why it does not."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_RETRY_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 3_600.0


@dataclass(slots=True)
class _Lost:
    """What was not recorded since a moment, under `fail_open`."""

    since: int
    reason: str
    intents: int = 0
    outcomes: int = 0


class Recorder:
    """Writes entries of one process into the log in `directory`. Used by one thread at a time, and `save` by another.

    Args:
        directory, places, manner: as for `AuditLog`.
        clock: seconds that go on evenly, for what is due at some time.

    Attributes:
        failure: what stopped the last writing, None where nothing did.
        saving: held while a checkpoint is written: the files are not let go of meanwhile. Whoever forks takes it first.
    """

    def __init__(
        self, directory: Path, places: Places, manner: Manner, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._places = places
        self._manner = manner
        self._packer = Packer()
        self._signer: Signer | None = None
        self._store: Store | None = None
        self._spool: Spool | None = None
        self._retry_at = 0.0
        self._beat_at = 0.0
        self._lost: _Lost | None = None
        self._unrecorded: set[str] = set()
        self._is_refused = False
        self.saving = threading.Lock()
        self.failure: Exception | None = None
        self._begin_session()

    def _begin_session(self) -> None:
        self._session = Session(self._packer)
        self._begun = False
        self._ready = False
        self._tails = False
        self._in_log = 0
        self._in_doubt: list[Placed] = []

    @property
    def store(self) -> Store | None:
        """The log's files, where it is open."""
        return self._store

    @property
    def is_in_order(self) -> bool:
        """Tell whether the log is open and nothing is to be made good in it: an entry is a write and a sync."""
        is_whole = self._spool is None and self._lost is None and self.failure is None and not self._is_refused
        return self._ready and is_whole

    @property
    def spooled(self) -> int:
        """The entries in the second place."""
        return 0 if self._spool is None else self._spool.entries

    @property
    def unrecorded(self) -> int:
        """The entries that were not recorded since the last `gap`."""
        return 0 if self._lost is None else self._lost.intents + self._lost.outcomes

    # -------------------------------------------------------------------------------------------- writing

    def record(self, drafts: Sequence[Draft]) -> dict[str, Result]:
        """Write entries, durably; return by id where each stands, or why it does not."""
        results: dict[str, Result] = {}
        failure: Exception | None = None
        self._beat_at = self._clock() + HEARTBEAT_SECONDS
        try:
            failure = self._record(drafts, results)
            if failure is not None and _is_full(failure):
                outcomes = self._outcomes_alone(drafts, results)
                if (outcomes or self._in_doubt) and self._give_up_ballast():
                    self._record(outcomes, results)
        except Exception as error:  # noqa: BLE001  (whatever it is, those who wait for it must hear of it)
            if not isinstance(error, AuditError):
                self.drop()
            failure = error
        self.failure = failure
        if failure is not None:
            self._fall_back(failure, [draft for draft in drafts if draft.id not in results], results)
        return results

    def _record(self, drafts: Sequence[Draft], results: dict[str, Result]) -> OSError | None:
        """Write entries into the log. Return what stopped those that are in `results` neither way.

        Raises:
            AuditError: the log does not take any.
        """
        stopped: OSError | None = None
        try:
            store = self._open_log()
            if INTENT in [draft.kind for draft in drafts]:
                try:
                    store.keep_room()
                except OSError as error:
                    stopped, drafts = error, self._outcomes_alone(drafts, results)
            failure = self._append(store, drafts, results)
            if self._tails and CLOSE not in [draft.kind for draft in drafts]:
                self._record_tails(store)  # else the next opening does: nothing of a session follows its end
            store.sync()
        except OSError as error:
            return error
        for item in self._in_doubt:
            results[item.entry.draft.id] = _receipt(store.origin, item.entry, item.seq)
        self._in_doubt = []
        return failure or stopped

    def _append(self, store: Store, drafts: Sequence[Draft], results: dict[str, Result]) -> OSError | None:
        """Seal and write drafts; those that are then in the log are in doubt until it is synced.

        Say in `results` which have no place in the session, and return what stopped the rest.
        """
        entries = self._seal(drafts, results)
        try:
            placed, failure = self._place(store, entries)
        except (OSError, AuditError):
            self._session.undo(entries)
            raise
        if len(placed) < len(entries):
            self._session.undo(entries[len(placed) :])
        self._in_log += len(placed)
        self._in_doubt += placed
        return failure

    def _place(self, store: Store, entries: Sequence[Sealed]) -> tuple[list[Placed], OSError | None]:
        try:
            return store.append(entries)
        except TornTailError:
            store.set_aside()
            self._tails = True
            return store.append(entries)

    def _seal(self, drafts: Sequence[Draft], results: dict[str, Result]) -> list[Sealed]:
        entries: list[Sealed] = []
        for draft in drafts:
            try:
                entries.append(self._session.seal(draft))
            except LookupError as error:
                results[draft.id] = self._unrecorded_outcome(draft) or error
        return entries

    def _append_own(self, store: Store, drafts: Sequence[Draft]) -> None:
        """Write entries of the log's own, all or none being of use. Raises what stops them."""
        results: dict[str, Result] = {}
        failure = self._append(store, drafts, results)
        for error in (failure, *results.values()):
            if isinstance(error, Exception):
                raise error

    def _give_up_ballast(self) -> bool:
        return self._store is not None and self._store.give_up_room()

    def _outcomes_alone(self, drafts: Sequence[Draft], results: dict[str, Result]) -> list[Draft]:
        """Return what is not written yet and is neither an intent nor the outcome of one of these."""
        written = {item.entry.draft.id for item in self._in_doubt}
        left = [draft for draft in drafts if draft.id not in results and draft.id not in written]
        intents = {draft.id for draft in left if draft.kind is INTENT}
        return [draft for draft in left if draft.kind is not INTENT and draft.intent not in intents]

    # -------------------------------------------------------------------------------------------- opening

    def _open_log(self) -> Store:
        """Return the log, opened, with everything in it that came before."""
        if self._spool is not None:
            self._wait_for_retry()
        if self._is_refused:
            self.drop()  # opening it again tells why
        store = self._store or self._open_store()
        if not self._ready:
            try:
                self._make_ready(store)
            except BaseException:
                if self._spool is None:
                    self.drop()
                raise
            self._ready = True
        if self._lost is not None:
            self._declare(store, self._lost)
        return store

    def _open_store(self) -> Store:
        if not self._manner.any_filesystem:
            require_local(self._directory)
        store = Store.open(self._directory, self._session.id, spool=self._manner.spool)
        try:
            self._signer = self._admit(store)
        except BaseException:
            store.end()
            raise
        self._store = store
        return store

    def _admit(self, store: Store) -> Signer | None:
        """Find the log's key, and see that the log goes on from what was signed."""
        found = signer.find(self._directory, store.origin, self._places)
        if found is not None:
            found.admit(store.size)
            store.sync()
            first = found.begin(store.durable)
            if first is not None:
                store.save(first)
        return found

    def _make_ready(self, store: Store) -> None:
        store.keep_room()
        if self._spool is not None:
            self._return(store, self._spool)
        elif not self._begun:
            key = None if self._signer is None else self._signer.current().text
            self._append_own(store, [session_open(pid=os.getpid(), mode=self._manner.mode, key=key)])
            self._begun = True
        self._record_tails(store)
        self._recover(store)

    def _record_tails(self, store: Store) -> None:
        self._tails = False
        tails = quarantine.pending(self._directory)
        if tails:
            self._append_own(store, [tail.draft() for tail in tails])
            store.sync()
            for tail in tails:
                tail.settle()

    def _recover(self, store: Store) -> None:
        """Take in what dead sessions left in second places, then mark their open intents as abandoned."""
        if self._manner.spool is not None:
            for folder in left_in(self._manner.spool):
                self._inherit(store, folder, 0, dead=False)
        for claim in store.claim_dead():
            try:
                if self._inherit_of(store, claim):
                    self._recover_session(store, claim.session, claim.first)
                    claim.path.unlink(missing_ok=True)
            finally:
                os.close(claim.fd)

    def _recover_session(self, store: Store, session: str, first: int) -> None:
        left = orphans(self._directory, session, first)
        if left is not None:
            self._session.adopt(left)
            ends = [abandoned(attempt, intent=intent) for intent, attempt in left.items()]
            self._append_own(store, [*ends, recovered_session(session=session, abandoned=len(left))])
            store.sync()

    def _inherit_of(self, store: Store, claim: Claim) -> bool:
        """Take in what a dead session left in its second place; tell whether nobody else is at it."""
        if claim.spool is None or not (claim.spool / claim.session).is_dir():
            return True
        return self._inherit(store, claim.spool / claim.session, claim.first, dead=True)

    def _inherit(self, store: Store, folder: Path, first: int, *, dead: bool) -> bool:
        if self._spool is not None and folder.name == self._spool.session:
            return False
        spool = Spool.inherit(folder, dead=dead)
        if spool is None:
            return False
        try:
            self._import(store, spool, reached(self._directory, spool.session, first))
            if not dead and not sessions.is_registered(self._directory, spool.session):
                self._recover_session(store, spool.session, first)  # the log never knew it: no claim will say it died
        except BaseException:
            spool.release()
            raise
        spool.remove()
        return True

    # ------------------------------------------------------------------------------------ the second place

    def _wait_for_retry(self) -> None:
        """Raise what stopped the last try to write the log, until it is time for another."""
        now = self._clock()
        if now < self._retry_at and isinstance(self.failure, OSError):
            raise self.failure
        self._retry_at = now + _RETRY_SECONDS

    def _return(self, store: Store, spool: Spool) -> None:
        """Take what this session has in its second place into the log, and give that up."""
        spool.settle()
        store.sync()
        self._in_doubt = []
        self._import(store, spool, self._in_log, own=True)
        self._spool = None
        spool.remove()

    def _import(self, store: Store, spool: Spool, wseq: int, *, own: bool = False) -> None:
        """Append what is in a second place from a running number on, and say so in the log, durably."""
        for batch in spool.read(wseq):
            placed, failure = self._place(store, batch)
            if own:
                self._in_log += len(placed)
            if failure is not None:
                raise failure
        store.sync()
        origin, size, root = spool.summary()
        self._append_own(
            store, [imported_spool(session=spool.session, entries=size, origin=origin, size=size, root=root)]
        )
        store.sync()
        self._in_doubt = []

    def _fall_back(self, failure: Exception, drafts: Sequence[Draft], results: dict[str, Result]) -> None:
        """Do with what could not be written what the policy says."""
        if isinstance(failure, OSError) and self._manner.on_failure == "spool":
            self._set_aside(drafts, results)
        elif isinstance(failure, OSError) and self._manner.on_failure == "fail_open":
            doubtful = {item.entry.draft.id: item.entry for item in self._in_doubt}
            for draft in drafts:
                entry = doubtful.get(draft.id)
                results[draft.id] = self._count(draft, failure) if entry is None else _receipt("", entry, None)
        for draft in drafts:
            results.setdefault(draft.id, failure)

    def _set_aside(self, drafts: Sequence[Draft], results: dict[str, Result]) -> None:
        """Write entries to the second place; what fails there, too, is told so."""
        known = {item.entry.draft.id for item in self._in_doubt}
        head = [] if self._begun else [session_open(pid=os.getpid(), mode=self._manner.mode)]
        sealed = self._seal([*head, *(draft for draft in drafts if draft.id not in known)], results)
        doubtful = [item.entry for item in self._in_doubt]
        written = durable = 0
        failure: Exception | None = None
        try:
            if self._spool is None:
                assert self._manner.spool is not None
                self._spool = Spool.begin(self._manner.spool, self._session.id)
                self._ready = False
                self._retry_at = self._clock() + _RETRY_SECONDS
            written, durable, failure = self._spool.append([*doubtful, *sealed])
        except (OSError, AuditError) as error:
            failure = error
        self._in_doubt = self._in_doubt[written:]
        self._session.undo(sealed[max(written - len(doubtful), 0) :])
        self._begun = self._begun or written > len(doubtful)
        for number, entry in enumerate([*doubtful, *sealed]):
            if number < durable:
                results[entry.draft.id] = _receipt("" if self._store is None else self._store.origin, entry, None)
            elif failure is not None:
                results[entry.draft.id] = failure

    # ---------------------------------------------------------------------------------------------- gaps

    def _count(self, draft: Draft, failure: OSError) -> Receipt:
        """Count an entry that is not recorded."""
        lost = self._lost = self._lost or _Lost(time.time_ns(), failure.strerror or str(failure))
        if draft.kind is INTENT:
            lost.intents += 1
            self._unrecorded.add(draft.id)
        else:
            lost.outcomes += 1
            self._unrecorded.discard(draft.intent or "")
        return _nowhere(draft)

    def _unrecorded_outcome(self, draft: Draft) -> Receipt | None:
        """Count the outcome of an intent that was not recorded; None for any other."""
        if draft.intent not in self._unrecorded:
            return None
        return self._count(draft, OSError(errno.EIO, "the intent was not recorded"))

    def _declare(self, store: Store, lost: _Lost) -> None:
        entry = gap(
            since=lost.since,
            until=time.time_ns(),
            intents=lost.intents,
            outcomes=lost.outcomes,
            reason=lost.reason,
        )
        self._append_own(store, [entry])
        self._lost = None

    # ------------------------------------------------------------------------------- checkpoints and end

    @property
    def unsaved(self) -> int:
        """How many durable entries there are that no checkpoint of this process covers."""
        return 0 if self._store is None or self._is_refused else self._store.unsaved

    def save(self) -> None:
        """Write a checkpoint, signed where the log has a key. Where that fails, it is for the next time.

        Entries may be recorded meanwhile, by another thread.
        """
        with self.saving:
            store = self._store
            if store is None:
                return
            mark = store.mark
            try:
                store.save(None if self._signer is None else self._signer.sign(mark.tree), at=mark)
            except AuditCorruptError:
                self._is_refused = True  # the next entry opens the log again, and is told why that is refused
            except (OSError, AuditError):
                pass  # the entries are durable; it is tried again in a second

    @property
    def beat_due(self) -> float | None:
        """Seconds until a heartbeat is due; None while the log is not open, or not in order."""
        return max(self._beat_at - self._clock(), 0.0) if self.is_in_order else None

    def beat(self) -> None:
        """Record a heartbeat, if one is due."""
        if self.beat_due == 0.0:
            self.record([heartbeat()])

    def retry(self) -> None:
        """Take what is in the second place into the log, if it is time to try and can be done."""
        if self._spool is not None:
            self.record([])

    def finish(self) -> None:
        """End the session: its open intents are abandoned, its end and a checkpoint written.

        Where the log cannot be written, the session is left as a crash would leave it: the next opening recovers it.
        """
        if self._store is None and self._spool is None and self._lost is None:
            return
        self._retry_at = 0.0
        results = self.record([*self._session.unfinished(), session_close()])
        if self._spool is not None or any(isinstance(result, Exception) for result in results.values()):
            self.drop()
            return
        self.save()
        with self.saving:
            if self._store is not None and not self._is_refused:
                self._store.end()
            else:
                self._let_go()

    def release(self) -> None:
        """Let go of the files, as a crash would."""
        with self.saving:
            self._let_go()

    def _let_go(self) -> None:
        if self._store is not None:
            self._store.release()
        if self._spool is not None:
            self._spool.release()

    def drop(self) -> None:
        """Give the session up as dead; the next entry opens the log in a new one, which recovers it."""
        with self.saving:
            self._let_go()
            self._store = self._spool = None
            self._is_refused = False
            self._begin_session()


def _receipt(origin: str, entry: Sealed, seq: int | None) -> Receipt:
    return Receipt(origin=origin, id=entry.draft.id, seq=seq, leaf_hash=entry.hash.hex())


def _nowhere(draft: Draft) -> Receipt:
    return Receipt(origin="", id=draft.id, seq=None, leaf_hash="")


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL
