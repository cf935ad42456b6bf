"""The second place of a log: where a session's entries go while the log itself cannot be written.

1. Each log has a directory there, named for the log's own, and in it each session one: SPOOL/LOG/SESSION/. That is written
   like a log: whole frames, durable when told.
2. The entries are sealed as the log would have them: session, running number, hash. They go into the log byte for byte,
   in their order, and an `import` entry says how many and what their tree's root was. That none is missing shows in the
   log: the session's running numbers have no gap.
3. The session's file in the log says where its second place is. So whoever recovers the session takes in what is there
   first, and only then calls anything abandoned.
4. The directory goes when everything in it is durable in the log: it is renamed to `*.done`, then removed. Entries that are
   in both places, because a crash came between, are known by their running number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from veyra.audit import sessions
from veyra.audit.entry import Draft, Sealed, new_id, parse
from veyra.audit.files import sync_folder
from veyra.audit.sessions import Claim
from veyra.audit.store import Store, TornTailError
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.walk import Walk

_BATCH: Final = 256
_DONE: Final = ".done"


class Spool:
    """The second place of one session; used by one thread at a time.

    Args:
        folder: SPOOL/LOG/SESSION.
        store: its files, where the session lives and writes to it.
        claims: what says that the session is dead and is this process's to take over.
    """

    def __init__(self, folder: Path, store: Store | None, claims: Sequence[Claim] = ()) -> None:
        self._folder = folder
        self._store = store
        self._claims = claims
        self._tree = Tree()
        self._origin = ""

    @classmethod
    def begin(cls, spool: Path, session: str) -> Spool:
        """Make the place for a session that lives. Durable: see `Store.open`; raises as that."""
        return cls(spool / session, Store.open(spool / session, session))

    @classmethod
    def inherit(cls, folder: Path, *, dead: bool) -> Spool | None:
        """Take over the place of a dead session; None where that session lives, or somebody else has taken it over.

        Args:
            folder: SPOOL/LOG/SESSION.
            dead: the session is known to be dead: a place that it had not finished making is taken over, too.

        Raises:
            OSError: it cannot be read.
        """
        try:
            claims = _claims(folder)
        except FileNotFoundError:
            claims = []  # it is just being made, or a crash came then
        spool = cls(folder, None, claims)
        owned = (folder / sessions.FOLDER / folder.name).exists()
        if any(claim.session == folder.name for claim in claims) or (dead and not owned):
            return spool
        spool.release()
        return None

    @property
    def session(self) -> str:
        """The id of the session that it is of."""
        return self._folder.name

    @property
    def entries(self) -> int:
        """How many entries are in it, where the session lives."""
        return 0 if self._store is None else self._store.size

    def append(self, entries: Sequence[Sealed]) -> tuple[int, int, OSError | None]:
        """Add entries; return how many were written, how many of these are durable, and what stopped the rest, if anything.

        Raises:
            OSError, AuditCorruptError: nothing was written.
        """
        assert self._store is not None
        try:
            placed, failure = self._store.append(entries)
        except TornTailError:
            self._store.set_aside()
            placed, failure = self._store.append(entries)
        try:
            self._store.sync()
        except OSError as error:
            return len(placed), 0, error
        return len(placed), len(placed), failure

    def settle(self) -> None:
        """Make everything in it durable. Raises as `Store.sync`."""
        if self._store is not None:
            self._store.sync()

    def read(self, wseq: int) -> Iterator[list[Sealed]]:
        """Yield the entries from the running number `wseq` on, in order, some at a time; `summary` is then of all.

        Raises:
            AuditCorruptError: they cannot be read to the end.
        """
        self._tree = Tree()
        batch: list[Sealed] = []
        walk = Walk(self._folder, blobs=True)
        self._origin = walk.heads[0][1].origin if walk.heads else ""
        for _, frame in walk:
            leaf = parse(frame.leaf)
            digest = leaf_hash(frame.leaf)
            self._tree.append(digest)
            if leaf["wseq"] >= wseq:
                batch.append(Sealed(Draft(leaf["kind"], leaf["id"], ""), frame.leaf, digest, frame.blobs or b""))
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if walk.fault is not None and not walk.fault.torn:
            raise walk.fault.error()
        if batch:
            yield batch

    def summary(self) -> tuple[str, int, bytes]:
        """Return the name of the place, its size, and its tree's root, as they were read."""
        return self._origin, self._tree.size, self._tree.root()

    def remove(self) -> None:
        """Remove the place: everything in it is durable in the log. What cannot be removed now the next opening removes.

        Durable: rename, fsync of the directory above; then what is in it.
        """
        with contextlib.suppress(OSError):
            done = self._folder.rename(self._folder.with_name(f"{self._folder.name}.{new_id()}{_DONE}"))
            sync_folder(done.parent)
            shutil.rmtree(done)
        self.release()

    def release(self) -> None:
        """Let go of the files; what is in them stays for the next opening."""
        for claim in self._claims:
            os.close(claim.fd)
        self._claims = ()
        if self._store is not None:
            self._store.release()


def _claims(folder: Path) -> list[Claim]:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return sessions.claim_dead(folder)
    finally:
        os.close(lock)


def place_of(spool: Path, directory: Path) -> Path:
    """Return SPOOL/LOG for the log in `directory`: its name, and a part of the hash of its path, so that no two share it."""
    return spool / f"{directory.name}-{sha256(os.fsencode(directory)).hexdigest()[:16]}"


def left_in(spool: Path) -> list[Path]:
    """Return the directories of sessions in a second place, the oldest first; remove what is left of those done with."""
    try:
        folders = sorted(path for path in spool.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    for folder in folders:
        if folder.suffix == _DONE:
            shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in folders if folder.suffix != _DONE]
