"""Verification that goes on from where an earlier one was: what it reads, what it sees, and what it keeps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from audit.recording import answer, ask, filled, pair
from veyra.audit import AuditLog, segment, verified, verify
from veyra.audit.verified import Verified
from veyra.audit.verify import Level
from veyra.errors import AuditError
from veyra.types import Receipt


def _state(directory: Path, level: Level = "quick") -> Verified:
    state = verify(directory, level=level).verified
    assert state is not None
    return state


async def _running(log: AuditLog, directory: Path) -> Receipt:
    """Record calls until there is a checkpoint, and return the intent of one that is open then."""
    intent = await ask(log, "open")
    async with asyncio.timeout(10):
        while not (directory / "checkpoint").exists():
            await pair(log)
    return intent


@pytest.mark.parametrize("level", ["quick", "semantics", "bodies"])
async def test_it_goes_on_from_a_checkpoint(tmp_path: Path, level: Level) -> None:
    """With what was verified, only what came since is read, and the result is that of reading all."""
    await filled(tmp_path / "log", 3)
    state = _state(tmp_path / "log", level)
    again = verify(tmp_path / "log", level=level, since=state)
    assert (again.problems, again.since, again.intents, again.verified) == ((), 8, 0, state)
    await filled(tmp_path / "log", 4)
    later, full = verify(tmp_path / "log", level=level, since=state), verify(tmp_path / "log", level=level)
    assert later.problems == full.problems == ()
    assert (later.intents, full.intents) == (4, 7)
    assert (later.size, later.root, later.open) == (full.size, full.root, full.open)
    assert later.verified == full.verified


async def test_an_intent_that_was_open_then_may_end_later(tmp_path: Path) -> None:
    """Open intents and running numbers are carried over, and so an outcome that came since finds its intent."""
    log = AuditLog(tmp_path)
    intent = await _running(log, tmp_path)
    state = _state(tmp_path)
    assert intent.id in state.open
    assert state.due
    await answer(log, intent, "open")
    log.close()
    assert verify(tmp_path, level="quick", since=state).problems == ()
    assert {p.code for p in verify(tmp_path, level="quick", since=replace(state, open=frozenset())).problems} == {
        "pairing"
    }
    assert {p.code for p in verify(tmp_path, level="quick", since=replace(state, due={})).problems} == {"session"}


async def test_what_does_not_follow_from_what_was_verified_is_found(tmp_path: Path) -> None:
    """Another log, an older copy, other entries in the same place and another root are all told."""
    await filled(tmp_path / "log", 3)
    old = _state(tmp_path / "log")
    await filled(tmp_path / "log", 3)
    new = _state(tmp_path / "log")
    await filled(tmp_path / "other", 6)
    other = _state(tmp_path / "other")
    assert [p.code for p in verify(tmp_path / "log", level="quick", since=other).problems] == ["since"]
    forged = replace(old, origin=other.origin)
    assert {p.code for p in verify(tmp_path / "other", level="quick", since=forged).problems} >= {"since", "tree"}
    (file,) = segment.listed(tmp_path / "log")
    file.write_bytes(file.read_bytes()[: new.last.offset])
    (tmp_path / "log" / "checkpoint").unlink()
    codes = {p.code for p in verify(tmp_path / "log", level="quick", since=new).problems}
    assert codes == {"checkpoint", "since"}


async def test_what_was_altered_before_is_left_to_a_full_verification(tmp_path: Path) -> None:
    """Quick does not read what an earlier verification has read; reading all of it finds the alteration."""
    log = tmp_path / "log"
    await filled(log, 3)
    state = _state(log)
    await filled(log, 1)
    (file,) = segment.listed(log)
    data = bytearray(file.read_bytes())
    data[data.index(b'"call":"c1"') + 9] ^= 1
    file.write_bytes(data)
    assert verify(log, level="quick", since=state).ok
    assert not verify(log, level="quick").ok


async def test_nothing_is_kept_of_what_is_wrong_or_was_not_looked_at(tmp_path: Path) -> None:
    """No state comes from a log with a problem, without a checkpoint, or at the level that reads no leaf."""
    await filled(tmp_path, 2)
    assert verify(tmp_path, level="tree").verified is None
    (file,) = segment.listed(tmp_path)
    data = bytearray(file.read_bytes())
    data[-30] ^= 1
    file.write_bytes(data)
    assert verify(tmp_path).verified is None
    (tmp_path / "checkpoint").unlink()
    assert verify(tmp_path, level="quick").verified is None


async def test_the_state_is_kept_in_a_file(tmp_path: Path) -> None:
    """What is written is read again; where there is no file, there is no state."""
    await filled(tmp_path / "log", 2)
    state = _state(tmp_path / "log")
    file = tmp_path / "elsewhere" / "state.json"
    assert verified.read(file) is None
    verified.write(file, state)
    assert verified.read(file) is not None
    assert verify(tmp_path / "log", level="quick", since=verified.read(file)).since == 6


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"v":2}', b'{"v":1}', b"[" * 100_000, b'{"v":1,"last":[0,0,-1],"peaks":[]}']
)
def test_a_file_that_holds_something_else_is_an_error(tmp_path: Path, data: bytes) -> None:
    """A state that cannot be read is not taken for none: the user hears of it."""
    file = tmp_path / "state.json"
    file.write_bytes(data)
    with pytest.raises(AuditError, match=r"state\.json"):
        verified.read(file)
