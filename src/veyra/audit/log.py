"""`AuditLog`: where intents and outcomes are recorded before a call goes on."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from veyra.audit import entry, read
from veyra.audit.entry import STATUSES, Attempt, BodyPart, Draft
from veyra.audit.keys import Places
from veyra.audit.memory import Memory
from veyra.audit.modes import ATTRIBUTE, Manner, Mode, OnFailure
from veyra.audit.read import AttemptRow, Entry
from veyra.audit.recorder import Result
from veyra.audit.spool import place_of
from veyra.audit.verify import Report, verify, verify_memory
from veyra.audit.writer import Waiting, Writer
from veyra.errors import AuditError, AuditUnavailableError, AuditWriteError
from veyra.types import Receipt

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from veyra.audit.health import Health

_HINTS = {
    errno.EACCES: "make it writable for this user, or choose another directory",
    errno.EPERM: "make it writable for this user, or choose another directory",
    errno.EROFS: "choose a directory on a disk that can be written",
    errno.ENOTDIR: "a file stands where a directory is needed; choose another directory",
    errno.EEXIST: "a file stands where a directory is needed; choose another directory",
    errno.ENOSPC: "the disk is full; make room, or choose a directory on another disk",
    errno.EOPNOTSUPP: "choose a directory on a disk of this machine",
    errno.EDQUOT: "the quota is used up; make room, or choose a directory on another disk",
}
_RESULTS: Final = (Receipt, Exception)
_COMPANY_SECONDS: Final = 1.0
"""How long company counts once it was seen: looking costs more the more tasks there are."""
_ALONE_SECONDS: Final = 0.005
"""How long being alone counts: whoever comes meanwhile waits for the disk a few times at the most."""


class AuditLog:
    """A log of calls in one directory, or in memory.

    Making one touches nothing: the directory is made and opened with the first entry, on a thread of its own. That
    writes the entries, but for those of a task alone on its loop, which writes its own (ADR-0008). A log may be used from several threads and event loops, in several processes at once, and on both sides of a fork. A process
    that ends closes its logs.

    Args:
        directory: where the log is, or will be made (mode 0700, files 0600).
        key: the file with the key that signs its checkpoints, else the usual place of that (`keys.Places`). A log whose
            key is not there is not signed.
        heads: the directory, outside the log, that keeps what was signed last; else the usual place of that.
        mode: when a call waits for its entries: `strict`, `ordered` or `async` (`modes.py`).
        on_failure: what happens while the log cannot be written: `fail_closed`, `spool` or `fail_open`.
        spool: the second place for `spool`; better on another disk.
        any_filesystem: write to a network or FUSE file system, too, where nothing may be as durable as it is said to be.

    Raises:
        ValueError: `mode` or `on_failure` is none of these, or only one of `on_failure="spool"` and `spool` is given.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        key: str | os.PathLike[str] | None = None,
        heads: str | os.PathLike[str] | None = None,
        mode: Mode = "strict",
        on_failure: OnFailure = "fail_closed",
        spool: str | os.PathLike[str] | None = None,
        any_filesystem: bool = False,
    ) -> None:
        self._directory: Path | None = Path(os.path.abspath(directory))  # noqa: PTH100  (touches no file)
        self._places = Places(None if key is None else Path(key), None if heads is None else Path(heads))
        self._manner = Manner(
            mode=mode,
            on_failure=on_failure,
            spool=None if spool is None else place_of(Path(os.path.abspath(spool)), self._directory),  # noqa: PTH100
            any_filesystem=any_filesystem,
        )
        self._memory: Memory | None = None
        self._look_again_at = 0.0
        self._alone_on = 0

    @classmethod
    def memory(cls) -> Self:
        """Return a log that keeps its entries in memory: no file, no thread, and appending never waits."""
        log = cls(os.sep)
        log._directory = None
        log._memory = Memory(os.getpid())
        return log

    @classmethod
    def shared(
        cls,
        directory: str | os.PathLike[str],
        *,
        mode: Mode = "strict",
        on_failure: OnFailure = "fail_closed",
        spool: str | os.PathLike[str] | None = None,
        any_filesystem: bool = False,
    ) -> AuditLog:
        """Return this process's one log for `directory` that is written so. Raises as the constructor."""
        log = AuditLog(directory, mode=mode, on_failure=on_failure, spool=spool, any_filesystem=any_filesystem)
        with _LOCK:
            return _SHARED.setdefault((log.directory, log._manner), log)

    @classmethod
    def note_off(cls, backend: str) -> None:
        """Record in every log that is open in this process that calls of a backend will not be recorded. Never waits."""
        with _LOCK:
            for writer in [writer for writer in _WRITERS.values() if writer.store is not None]:
                writer.put(Waiting(entry.audit_off(backend=backend)))

    @property
    def directory(self) -> Path | None:
        """Where the log is, absolute; None for a log in memory."""
        return self._directory

    def __repr__(self) -> str:
        return f"<AuditLog {'in memory' if self._directory is None else f'at {self._directory}'}>"

    # ------------------------------------------------------------------------------------------ recording

    async def intent(
        self,
        *,
        call: str,
        attempt: int,
        backend: str,
        attributes: Mapping[str, object],
        parts: Sequence[BodyPart] = (),
    ) -> Receipt:
        """Record that an attempt is about to be sent; return when that is durable (in the mode `async`: when it is queued).

        Where the receipt's place in the log is not known yet, its `seq` is None. The entry is queued before the first
        suspension. Where the caller is cancelled while it waits, nothing will be sent, and the attempt's outcome is
        recorded here as `cancelled`.

        Args:
            call: the id of the call; attempt: which try of it, from 1.
            backend: the name of the backend.
            attributes: OpenTelemetry GenAI names; values str, int, float, bool, None or a list of str. Without content.
            parts: the bodies to keep beside the entry.

        Raises:
            AuditUnavailableError: it could not be recorded; the caller must not send.
        """
        which = Attempt(call, attempt, backend)
        try:
            named = attributes if self._memory is not None else {**attributes, ATTRIBUTE: self._manner.mode}
            draft = entry.intent(which, attributes=named, parts=tuple(parts))
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unavailable(error) from error
        if self._memory is not None:
            return self._memory.append(draft)
        try:
            result = self._recorded(draft, defer=self._manner.mode == "async")
            if not isinstance(result, _RESULTS):
                result = await result
        except BaseException:
            unsent = {"veyra.sent": False}
            outcome = entry.outcome(which, intent=draft.id, status="cancelled", latency_ns=None, attributes=unsent)
            self._put(Waiting(outcome))
            raise
        if isinstance(result, Receipt):
            return result
        raise self._unavailable(result) from result

    async def outcome(
        self,
        *,
        intent: Receipt,
        call: str,
        attempt: int,
        backend: str,
        status: str,
        latency_ns: int,
        attributes: Mapping[str, object],
        parts: Sequence[BodyPart] = (),
    ) -> Receipt:
        """Record how the attempt of `intent` ended; return when that is durable (except in `strict`: when it is queued).

        The entry is queued before the first suspension: it is written even if the caller is cancelled meanwhile.
        A string among the attributes is cut where its JSON would have more than 2,000 characters, and its name listed in
        `veyra.truncated`.

        Args:
            intent: what `intent` returned; it takes one outcome.
            status: `ok`, `error`, `timeout`, `cancelled` or `incomplete`.
            latency_ns: nanoseconds from the attempt's start to its end.
            call, attempt, backend, attributes, parts: as for `intent`.

        Raises:
            AuditWriteError: it could not be recorded.
        """
        try:
            if status not in STATUSES:
                msg = f"an outcome's status is one of {', '.join(STATUSES)}, not {status!r}"
                raise ValueError(msg)  # noqa: TRY301  (one place says what could not be recorded)
            draft = entry.outcome(
                Attempt(call, attempt, backend),
                intent=intent.id,
                status=status,
                latency_ns=latency_ns,
                attributes=attributes,
                parts=tuple(parts),
            )
            result: Result | Future[Result]
            if self._memory is not None:
                result = self._memory.append(draft)
            else:
                result = self._recorded(draft, defer=self._manner.mode != "strict")
                if not isinstance(result, _RESULTS):
                    result = await result
        except (TypeError, ValueError, OverflowError, LookupError) as error:
            result = error
        if isinstance(result, Receipt):
            return result
        raise self._unwritten(result) from result

    async def blocked(
        self, *, call: str, attempt: int, backend: str, reason: str, attributes: Mapping[str, object]
    ) -> Receipt:
        """Record that a call was refused here before anything was sent; durable as an intent.

        Args:
            call: the id of the call; attempt: which try of it was not made, from 1.
            backend: who would have been asked.
            reason: what refused it, in a word: `limit`, `budget` or `circuit`.
            attributes: as for `intent`.

        Raises:
            AuditUnavailableError: it could not be recorded.
        """
        which = Attempt(call, attempt, backend)
        return await self._note(lambda: entry.blocked(which, reason=reason, attributes=attributes))

    async def cache_hit(self, *, call: str, backend: str, of: str, attributes: Mapping[str, object]) -> Receipt:
        """Record that a call was answered from a cache; durable as an intent.

        Args:
            call: the id of the call.
            backend: who gave the answer when it was first asked for.
            of: the id of the outcome that recorded that answer.
            attributes: as for `intent`.

        Raises:
            AuditUnavailableError: it could not be recorded; the answer must not be handed on.
        """
        which = Attempt(call, 0, backend)
        return await self._note(lambda: entry.cache_hit(which, of=of, attributes=attributes))

    async def _note(self, draft: Callable[[], Draft]) -> Receipt:
        """Record an entry that is no pair's half."""
        try:
            drafted = draft()
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unavailable(error) from error
        if self._memory is not None:
            return self._memory.append(drafted)
        result = self._recorded(drafted, defer=self._manner.mode == "async")
        if not isinstance(result, _RESULTS):
            result = await result
        if isinstance(result, Receipt):
            return result
        raise self._unavailable(result) from result

    def _recorded(self, draft: Draft, *, defer: bool) -> Result | Future[Result]:
        """Record an entry; return what became of it, where that is known or nobody need wait for it, else what to wait for."""
        if defer and self._put(Waiting(draft), if_room=True):
            return Receipt(origin="", id=draft.id, seq=None, leaf_hash="")
        import asyncio  # noqa: PLC0415  (importing the log loads no asyncio; a caller has it)

        loop = asyncio.get_running_loop()
        if self._manner.mode == "strict" and self._is_alone(loop):
            writer = _WRITERS.get(self)
            result = None if writer is None else writer.record_here(draft)
            if result is not None:
                return result
        future: Future[Result] = loop.create_future()
        self._put(Waiting(draft, loop, future))
        return future

    def _is_alone(self, loop: AbstractEventLoop) -> bool:
        """Tell whether the running task is the only one on its loop, or was when that was last looked at."""
        now, this = time.monotonic(), id(loop)
        if now >= self._look_again_at or self._alone_on not in {0, this}:
            import asyncio  # noqa: PLC0415  (as above)

            is_alone = len(asyncio.all_tasks(loop)) == 1
            self._alone_on = this if is_alone else 0
            self._look_again_at = now + (_ALONE_SECONDS if is_alone else _COMPANY_SECONDS)
        return self._alone_on == this

    def _put(self, waiting: Waiting, *, if_room: bool = False) -> bool:
        """Queue an entry; tell whether it was, which `if_room` leaves to the writer."""
        assert self._directory is not None
        with _LOCK:
            writer = _WRITERS.get(self)
            if writer is None:
                writer = _WRITERS[self] = Writer(self._directory, self._places, self._manner)
                writer.start()
            if if_room and not writer.has_room():
                return False
            writer.put(waiting)
            return True

    # -------------------------------------------------------------------------------------------- reading

    def entries(self) -> Iterator[Entry]:
        """Return the entries in order, as far as they are written. Errors: as `read.read_entries`."""
        if self._memory is not None:
            return read.memory_entries(self._memory.entries)
        assert self._directory is not None
        return read.read_entries(self._directory)

    def attempts(self) -> Iterator[AttemptRow]:
        """Return one row for each intent, in order, with its outcome. Errors: as `read.read_entries`."""
        return read.joined(self.entries())

    def verify(self) -> Report:
        """Check the log as it is written: see `verify.verify`."""
        if self._memory is not None:
            return verify_memory(self._memory.origin, self._memory.entries)
        assert self._directory is not None
        return verify(self._directory)

    # --------------------------------------------------------------------------------------------- health

    def health(self) -> Health:
        """Say whether the log can be written now: a block is written and synced beside it. Blocks; makes no directory."""
        from veyra.audit.health import Health, probe  # noqa: PLC0415  (a call does not need it)

        manner = self._manner
        if self._directory is None:
            return Health(writable=True, reason=None, mode=manner.mode, on_failure=manner.on_failure)
        with _LOCK:
            writer = _WRITERS.get(self)
        failure = None if writer is None or writer.failure is None else self._refusal(writer.failure)
        reason = failure or probe(self._directory)
        deferred, spooled, unrecorded = (0, 0, 0) if writer is None else writer.counts()
        return Health(
            writable=reason is None,
            reason=reason,
            mode=manner.mode,
            on_failure=manner.on_failure,
            deferred=deferred,
            spooled=spooled,
            unrecorded=unrecorded,
        )

    # -------------------------------------------------------------------------------------------- closing

    def close(self) -> None:
        """Write what is queued, mark intents without an outcome as abandoned, end the session, write a checkpoint.

        Safe to call twice, and from any thread. An entry recorded afterwards opens the log again, in a new session.

        Raises:
            AuditWriteError: entries that nobody waited for could not be written (not in `strict`, where only outcomes of
                cancelled calls are such: the next opening marks these as abandoned).
        """
        with _LOCK:
            writer = _WRITERS.pop(self, None)
        left = 0 if writer is None else writer.close()
        if left and self._manner.mode != "strict":
            msg = f"{left:,} entries are not on record: {self._refusal(writer.failure if writer else None)}"
            raise AuditWriteError(msg)

    async def aclose(self) -> None:
        """Do what `close` does, without holding up the event loop."""
        from asyncio import to_thread  # noqa: PLC0415  (as in _recorded)

        await to_thread(self.close)

    # --------------------------------------------------------------------------------------------- errors

    def _unavailable(self, cause: Exception) -> AuditUnavailableError:
        if isinstance(cause, AuditUnavailableError):
            return type(cause)(f"{cause.message} Nothing was sent.")
        return AuditUnavailableError(f"{self._refusal(cause)} Nothing was sent.")

    def _unwritten(self, cause: Exception) -> AuditWriteError:
        return AuditWriteError(f"{self._refusal(cause)} The outcome of the call is not on record.")

    def _refusal(self, cause: Exception | None) -> str:
        if isinstance(cause, AuditError):
            return cause.message
        where = "in memory" if self._directory is None else f"at {self._directory}"
        if isinstance(cause, OSError):
            hint = _HINTS.get(cause.errno or 0, "see that the directory is there and can be written")
            return f"the audit log {where} cannot be written ({cause.strerror or cause}): {hint}."
        return f"the audit log {where} does not take this entry: {cause}."


# --------------------------------------------------------------------------------------- exit and fork

_LOCK = threading.Lock()
_SHARED: dict[tuple[Path | None, Manner], AuditLog] = {}
_WRITERS: dict[AuditLog, Writer] = {}
"""The logs that have a session in this process. They are kept until they are closed, at the latest at exit."""


def _close_all() -> None:
    with contextlib.ExitStack() as stack:  # each is closed, whatever another says
        for log in list(_WRITERS):
            stack.callback(log.close)


def _before_fork() -> None:
    """Wait until no writer is in the middle of something, and keep it so."""
    _LOCK.acquire()
    for writer in _WRITERS.values():
        writer.hold()


def _after_fork() -> None:
    for writer in _WRITERS.values():
        writer.go_on()
    _LOCK.release()


def _after_fork_in_child() -> None:
    """Leave to the parent what is the parent's: the child opens a session of its own with its next entry."""
    for writer in _WRITERS.values():
        writer.go_on()
        writer.forget()
    _WRITERS.clear()
    _LOCK.release()


atexit.register(_close_all)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
