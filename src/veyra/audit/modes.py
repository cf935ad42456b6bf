"""When a call waits for the log, and what happens when the log cannot be written.

    mode      intent durable         outcome durable          a killed process may lose
    strict    before the call        before the answer        nothing
    ordered   before the call        soon after the answer    outcomes of its last moments: those calls are `abandoned`
    async     soon after the call    soon after the answer    all records of its last moments

What is not waited for is queued, at most `MAX_DEFERRED` entries and `MAX_DEFERRED_BYTES` of bodies. Who comes when that
is full waits as in `strict`. Nothing is ever dropped from the queue.

    on failure     while the log cannot be written (a full or failing disk, a directory that is not there)
    fail_closed    calls are refused before anything is sent
    spool          entries go to a second place, and from there into the log, in order, when it is back
    fail_open      calls go on without a record; how many is counted, and a `gap` entry says so when the log is back

A log that was damaged or altered is refused under each of them: that is not a failure to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["strict", "ordered", "async"]
OnFailure: TypeAlias = Literal["fail_closed", "spool", "fail_open"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
ON_FAILURE: Final[tuple[OnFailure, ...]] = get_args(OnFailure)
ATTRIBUTE: Final = "veyra.audit.mode"
"""The attribute of an intent that names the mode it was recorded in."""
MAX_DEFERRED: Final = 4_096
MAX_DEFERRED_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a log is written.

    Attributes:
        mode: when a call waits for its entries.
        on_failure: what happens while the log cannot be written.
        spool: the second place, where `on_failure` is `spool`; better on another disk.
        any_filesystem: write to a network or FUSE file system, too, where locks and syncs may not be what they say.

    Raises:
        ValueError: a word is none of those above, or `spool` goes without its place, or a place without `spool`.
    """

    mode: Mode = "strict"
    on_failure: OnFailure = "fail_closed"
    spool: Path | None = None
    any_filesystem: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            msg = f"the mode of a log is one of {', '.join(MODES)}, not {self.mode!r}"
            raise ValueError(msg)
        if self.on_failure not in ON_FAILURE:
            msg = f"on_failure is one of {', '.join(ON_FAILURE)}, not {self.on_failure!r}"
            raise ValueError(msg)
        if (self.on_failure == "spool") != (self.spool is not None):
            msg = "on_failure='spool' and spool=PATH go together"
            raise ValueError(msg)
