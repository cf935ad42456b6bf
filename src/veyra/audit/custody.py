"""What an operator does with a log's key and its head: make a key, hand over to a new one, accept a rollback.

Each opens the log in a session of its own and may run while others write to it. A crash at any point leaves a log that
can be written and verified; doing the same again brings it to its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from veyra.audit import checkpoint, keys, quarantine, saved, signer
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.entry import (
    ROLLED_BACK,
    Draft,
    key_rotated,
    new_id,
    parse,
    rollback_accepted,
    session_close,
    session_open,
)
from veyra.audit.files import make_folder, sync_folder
from veyra.audit.keys import Places, SigningKey
from veyra.audit.session import MODE, Session
from veyra.audit.signer import Signer
from veyra.audit.standalone import Key, handover_text
from veyra.audit.store import Store, TornTailError
from veyra.audit.walk import Walk
from veyra.errors import AuditCorruptError, AuditError


def generate(directory: Path, places: Places, name: str | None = None) -> Key:
    """Make the key of the log in `directory`, sign its checkpoint, and return the verifier key.

    The log is made where there is none. The key is called `name`, else as the log is.

    Raises:
        AuditError: it has a key already, or none may be called so.
        OSError: a file cannot be written.
    """
    with _opened(directory) as desk:
        path = places.key_of(desk.store.origin)
        if path.exists():
            msg = f"there is a key at {path} already: `veyra audit key rotate` makes a new one"
            raise AuditError(msg)
        try:
            key = SigningKey.generate(name or desk.store.origin)
        except ValueError as error:
            raise AuditError(str(error)) from None
        keys.write(path, key)
        desk.sign(Signer(directory, desk.store.origin, places))
        desk.record([session_open(pid=os.getpid(), mode=MODE, key=key.verifier.text), session_close()])
        desk.sign(Signer(directory, desk.store.origin, places))
    return key.verifier


def rotate(directory: Path, places: Places) -> tuple[Key, Key]:
    """Hand over from the log's key to a new one; return both verifier keys, the old one first.

    First the key file holds both, and every checkpoint is signed by both, whoever writes it. Then the old key's
    signature over the handing over is recorded in the log (`key.rotated`), and a checkpoint covers it. Only then the old
    key is removed. It is not needed any more, and should not be kept.

    Raises:
        AuditError: the log has no key.
        AuditCorruptError: the log does not go on from what was signed last.
        OSError: a file cannot be written.
    """
    with _opened(directory) as desk:
        origin = desk.store.origin
        hand = Signer(directory, origin, places)
        try:
            found = hand.keys()
        except FileNotFoundError:
            msg = f"the log at {directory} has no key: there is nothing at {hand.key_file}"
            raise AuditError(msg) from None
        hand.admit(desk.store.size)
        old = found[-1]
        new = found[0] if len(found) > 1 else SigningKey.generate(old.verifier.name)
        keys.write(hand.key_file, new, old)
        names = old.verifier.text, new.verifier.text
        handover = key_rotated(old=names[0], new=names[1], signature=old.sign(handover_text(origin, *names)))
        desk.record([session_open(pid=os.getpid(), mode=MODE, key=names[0]), handover, session_close()])
        desk.sign(hand)
        keys.write(hand.key_file, new)
    return old.verifier, new.verifier


def accept_rollback(directory: Path, places: Places) -> Checkpoint:
    """Record that the log lost entries that were signed, or that its checkpoint covered, and let it be written again.

    The loss stays visible: the entry `rollback.accepted` says how large the log was and what its root was, the head that
    was is kept beside the new one, and a checkpoint that was too large is kept in quarantine.

    Raises:
        AuditError: nothing is lost.
        AuditCorruptError: the log was altered in another way.
        OSError: a file cannot be written.
    """
    lost = _set_aside(directory)
    with _opened(directory) as desk:
        hand = signer.find(directory, desk.store.origin, places)
        head = None if hand is None else hand.head()
        lost = max(filter(None, (lost, head)), key=lambda point: point.size, default=None)
        is_recorded = lost is not None and _is_recorded(directory, lost)
        if lost is None or (lost.size <= desk.store.size and not is_recorded):
            msg = f"the log at {directory} was not rolled back: nothing that was signed is missing at its end"
            raise AuditError(msg)
        if not is_recorded:
            key = None if hand is None else hand.current().text
            record = rollback_accepted(size=lost.size, root=lost.root)
            desk.record([session_open(pid=os.getpid(), mode=MODE, key=key), record, session_close()])
        desk.store.sync()
        desk.store.save(None if hand is None else hand.start_again(desk.store.durable))
    return lost


class _Desk:
    """The log, open in a session of the operator's own; `is_unused` until something is written in it."""

    def __init__(self, store: Store, session: Session) -> None:
        self.store = store
        self.is_unused = True
        self._session = session

    def record(self, drafts: Sequence[Draft]) -> None:
        """Write entries and make them durable. Torn bytes at the end are set aside; the next opening records them."""
        entries = [self._session.seal(draft) for draft in drafts]
        self.is_unused = False
        try:
            placed, failure = self.store.append(entries)
        except TornTailError:
            self.store.set_aside()
            placed, failure = self.store.append(entries)
        if failure is not None:
            raise failure
        assert len(placed) == len(entries)
        self.store.sync()

    def sign(self, hand: Signer) -> None:
        """Publish a signed checkpoint over all that is there."""
        self.store.sync()
        self.store.save(hand.sign(self.store.durable))


@contextmanager
def _opened(directory: Path) -> Iterator[_Desk]:
    session = Session()
    store = Store.open(directory, session.id)
    desk = _Desk(store, session)
    try:
        yield desk
    except BaseException:
        if desk.is_unused:
            store.end()
        else:
            store.release()  # a session that did not end: the next opening records that
        raise
    store.end()


def _set_aside(directory: Path) -> Checkpoint | None:
    """Move a checkpoint over more entries than there are into quarantine, durably, and return it."""
    try:
        point = saved.read_checkpoint(directory)
    except ValueError as error:
        raise AuditCorruptError(str(error)) from None
    size = 0
    for _, frame in Walk(directory):
        size = frame.seq + 1
    if point is None or point.size <= size:
        return None
    folder = directory / quarantine.FOLDER
    make_folder(folder)
    (directory / checkpoint.FILE).rename(folder / f"{checkpoint.FILE}-{point.size}-{new_id()}.rolled-back")
    sync_folder(folder)
    sync_folder(directory)
    return point


def _is_recorded(directory: Path, lost: Checkpoint) -> bool:
    """Tell whether the log holds the entry that accepts this loss already."""
    own = f'"kind":"{ROLLED_BACK}"'.encode()
    for _, frame in Walk(directory):
        if own in frame.leaf:
            leaf = parse(frame.leaf)
            if leaf["kind"] == ROLLED_BACK and (leaf["size"], leaf["root"]) == (lost.size, lost.root.hex()):
                return True
    return False
