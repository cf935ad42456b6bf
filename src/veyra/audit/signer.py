"""The signer of one log: what it signed last is kept outside the log, and it never signs anything that contradicts it.

1. What is signed is read back from the log's files, not taken from the writer: the tree that was signed last, and all
   that was appended since.
2. The checkpoint that was signed last (the head) is made durable outside the log before the next one is published
   inside it. After a crash the log can only be ahead of the head.
3. A tree smaller than the head is a rollback and is not signed until an operator accepts it; a tree that does not begin
   with the head's is not signed at all.
4. Several processes sign for one log; they take turns (flock beside the head), and each looks at the head first.
5. The key file is read for each signature, after the tree to be signed is settled: a rotation needs no restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from veyra.audit import checkpoint, keys, saved
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.cursor import Cursor
from veyra.audit.entry import new_id
from veyra.audit.files import created, make_folder, write_all
from veyra.audit.keys import Places, SigningKey
from veyra.audit.standalone import Key
from veyra.audit.tree import Tree
from veyra.errors import AuditCorruptError, AuditError


class Signer:
    """Signs checkpoints of the log `origin` in `directory`. Used by one thread at a time."""

    def __init__(self, directory: Path, origin: str, places: Places) -> None:
        self._directory = directory
        self._origin = origin
        self._key_file = places.key_of(origin)
        self._head_file = places.head_of(origin)
        self._cursor: Cursor | None = None

    @property
    def key_file(self) -> Path:
        """The file with the signing key."""
        return self._key_file

    def keys(self) -> tuple[SigningKey, ...]:
        """Return the keys that sign now: one, or two while a rotation is under way. Raises as `keys.read`."""
        return keys.read(self._key_file)

    def current(self) -> Key:
        """Return the verifier key that counts: of two, the old one, until the rotation is recorded."""
        return self.keys()[-1].verifier

    def head(self) -> Checkpoint | None:
        """Return what was signed last, None where nothing was.

        Raises:
            AuditError: the file in its place is no checkpoint of this log.
        """
        return read_head(self._head_file, self._origin)

    def admit(self, size: int) -> None:
        """Check, before anything is appended, that the log of `size` entries goes on from what was signed last.

        Raises:
            AuditCorruptError: it is smaller (a rollback), or another log.
        """
        head = self.head()
        if head is None:
            return
        if head.size > size:
            self._refuse(
                f"it has {size} entries, but {head.size} were signed: it was rolled back. If that is known and cannot be "
                "helped, `veyra audit accept-rollback` records it"
            )
        self._settle(head)

    def begin(self, tree: Tree) -> Checkpoint | None:
        """Sign `tree` before the first entry that names the key: who reads that entry finds a signed checkpoint.

        None where the published checkpoint is signed by the current key already. Raises as `sign`.
        """
        try:
            published = saved.read_checkpoint(self._directory)
            if published is not None and published.is_signed_by(self.current()):
                return None
        except ValueError as error:
            self._refuse(str(error))
        return self.sign(tree)

    def sign(self, tree: Tree) -> Checkpoint:
        """Sign a checkpoint over `tree`, whose entries must be durable; return it, ready to be published.

        Where another process has signed a later one, that is returned.
        Durable: the head (`files.created`), before this returns.

        Raises:
            AuditCorruptError: the log's files do not go on from what was signed last, or do not give this tree.
            AuditError, FileNotFoundError: the key cannot be used.
            OSError: the head or the log's files cannot be read, or the head not be written.
        """
        with self._turn():
            head = self.head()
            if head is not None and head.size > tree.size:
                return head
            if head is not None:
                self._settle(head)
            root = self._at(tree.size).root()
            if root != tree.root():
                self._refuse("its files do not hold what was written to them")
            signed = self._signed(Checkpoint(self._origin, tree.size, root))
            if signed != head:
                self._keep(signed)
            return signed

    def start_again(self, tree: Tree) -> Checkpoint:
        """Sign a tree smaller than the head, as an operator accepted; the old head stays beside the new one.

        Durable: rename of the old head, then the new head (`files.created`). Raises as `sign`.
        """
        with self._turn():
            if self._head_file.exists():
                self._head_file.rename(self._head_file.with_name(f"{self._head_file.name}.{new_id()}.rolled-back"))
            signed = self._signed(Checkpoint(self._origin, tree.size, tree.root()))
            self._keep(signed)
            return signed

    def _signed(self, unsigned: Checkpoint) -> Checkpoint:
        return unsigned._replace(signatures=tuple(key.signature(unsigned) for key in self.keys()))

    def _keep(self, signed: Checkpoint) -> None:
        with created(self._head_file) as fd:
            write_all(fd, checkpoint.encode(signed))

    def _settle(self, head: Checkpoint) -> None:
        """See that the log's files give the head's root, unless they are known to go on from it."""
        if self._cursor is not None and self._cursor.tree.size > head.size:
            return
        if self._at(head.size).root() != head.root:
            self._refuse(f"its first {head.size} entries are not those that were signed")

    def _at(self, size: int) -> Tree:
        if self._cursor is None:
            self._cursor = Cursor(self._directory, size)
        return self._cursor.advance(size)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        make_folder(self._head_file.parent)
        fd = os.open(self._head_file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            with contextlib.suppress(OSError):  # closing gives it up, too
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _refuse(self, what: str) -> NoReturn:
        msg = f"the audit log at {self._directory} is not written to: {what}."
        raise AuditCorruptError(msg)


def find(directory: Path, origin: str, places: Places) -> Signer | None:
    """Return the signer of a log, None for a log without a key.

    Raises:
        AuditError: a key file was named that is not there or cannot be used, or the log was signed before and its key
            is not there any more: once signed, a log is not written unsigned.
    """
    signer = Signer(directory, origin, places)
    try:
        signer.keys()
    except FileNotFoundError:
        if places.key_is_asked_for():
            msg = f"the signing key {signer.key_file} is not there"
            raise AuditError(msg) from None
        if signer.head() is not None:
            msg = f"the audit log at {directory} was signed, and its key {signer.key_file} is not there any more"
            raise AuditError(msg) from None
        return None
    return signer


def read_head(path: Path, origin: str) -> Checkpoint | None:
    """Return the head of the log `origin` kept in the file `path`, None where there is none.

    Raises:
        AuditError: the file is no checkpoint of this log.
    """
    try:
        with path.open("rb") as file:
            head = checkpoint.parse(file.read(checkpoint.MAX_SIZE))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"what was signed last cannot be read from {path}: {error}"
        raise AuditError(msg) from None
    if head.origin != origin:
        msg = f"{path} holds a checkpoint of another log"
        raise AuditError(msg)
    return head
