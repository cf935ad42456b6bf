"""A session's way into the log, by a clock that the test moves."""

from __future__ import annotations

import os
from pathlib import Path

from audit.recording import ASKED, kinds
from veyra.audit import verify
from veyra.audit.entry import Attempt, intent
from veyra.audit.keys import Places
from veyra.audit.modes import Manner
from veyra.audit.recorder import HEARTBEAT_SECONDS, Recorder
from veyra.errors import AuditCorruptError


class Clock:
    """Says what it was told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def recorder(directory: Path, clock: Clock) -> Recorder:
    """Return a recorder that has not opened its log yet."""
    return Recorder(directory, Places(None, None), Manner(mode="strict", on_failure="fail_closed"), clock=clock)


def test_a_heartbeat_comes_after_an_hour_without_an_entry(tmp_path: Path) -> None:
    """It is due an hour after whatever was recorded last, be that a heartbeat, and is recorded once each time."""
    clock = Clock()
    at = recorder(tmp_path, clock)
    assert at.beat_due is None
    at.beat()
    at.record([intent(Attempt("c", 1, "mock"), attributes=ASKED)])
    clock.now += HEARTBEAT_SECONDS - 1
    at.beat()
    assert at.beat_due == 1
    clock.now += 1
    at.beat()
    at.beat()
    assert at.beat_due == HEARTBEAT_SECONDS
    clock.now += 2 * HEARTBEAT_SECONDS
    at.beat()
    at.finish()
    assert kinds(tmp_path)["heartbeat"] == 2
    assert verify(tmp_path).ok


def test_a_heartbeat_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """A log that was cut under the session refuses it like any entry, and it is not tried again meanwhile."""
    clock = Clock()
    at = recorder(tmp_path, clock)
    at.record([intent(Attempt("c", 1, "mock"), attributes=ASKED)])
    clock.now += HEARTBEAT_SECONDS
    assert at.store is not None
    os.truncate(tmp_path / "seg" / "00000000.vseg", 300)
    at.beat()
    assert isinstance(at.failure, AuditCorruptError)
    assert "was cut" in at.failure.message
    assert at.beat_due is None
    at.release()
