"""Whether a log can be written now, and what waits for that."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veyra.audit.files import sync_data, write_all
from veyra.audit.modes import Mode, OnFailure

_PROBE: Final = bytes(4_096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a log stands in this process.

    Attributes:
        writable: a block could be written and synced beside the log just now, and the last entry that this process
            recorded, if any, is in the log.
        reason: why not; None where it is writable.
        mode, on_failure: how it is written.
        deferred: entries that nobody waits for and that are not durable yet.
        spooled: entries in the second place that are not in the log yet.
        unrecorded: entries that were not recorded since the last `gap` entry, under `fail_open`.
    """

    writable: bool
    reason: str | None
    mode: Mode
    on_failure: OnFailure
    deferred: int = 0
    spooled: int = 0
    unrecorded: int = 0


def probe(directory: Path) -> str | None:
    """Write and sync a block in a nameless file in `directory`, or where it would be made; say what stops that."""
    folder = directory
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            write_all(file.fileno(), _PROBE)
            sync_data(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None
