"""What a dead session left: the intents that its process did not live to end."""

from __future__ import annotations

from pathlib import Path

from veyra.audit.entry import ABANDONED, CLOSE, INTENT, OUTCOME, Attempt, parse
from veyra.audit.walk import Fault, Walk


def orphans(directory: Path, session: str, first: int) -> dict[str, Attempt] | None:
    """Return the intents of a dead session that have no outcome, by id; None where the session had ended well.

    It has no entries before the sequence number `first`. Those that an earlier recovery, itself cut short, has already
    marked as abandoned are left out.

    Raises:
        AuditCorruptError: the session's entries cannot be read to the log's end, so nobody knows what it left.
    """
    own = f'"sid":"{session}"'.encode("ascii", "replace")
    marked = f'"status":"{ABANDONED}"'.encode()
    left: dict[str, Attempt] = {}
    walk = Walk(directory, first)
    for file, frame in walk:
        if own not in frame.leaf and marked not in frame.leaf:
            continue
        try:
            leaf = parse(frame.leaf)
        except ValueError as error:
            raise Fault(file, frame.offset, frame.seq, str(error), torn=False).error() from error
        if leaf["kind"] == OUTCOME:
            left.pop(leaf["intent"], None)
        elif leaf["sid"] != session:
            continue
        elif leaf["kind"] == INTENT:
            left[leaf["id"]] = Attempt(leaf["call"], leaf["attempt"], leaf["backend"])
        elif leaf["kind"] == CLOSE:
            return None
    if walk.fault is not None and not walk.fault.torn:
        raise walk.fault.error()
    return left


def reached(directory: Path, session: str, first: int) -> int:
    """Return how many entries of a session are in the log; it has none before the sequence number `first`."""
    own = f'"sid":"{session}"'.encode("ascii", "replace")
    walk = Walk(directory, first)
    found = [leaf["wseq"] for _, frame in walk if own in frame.leaf and (leaf := parse(frame.leaf))["sid"] == session]
    return max(found, default=-1) + 1
