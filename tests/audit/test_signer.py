"""Signing: what is signed, what is kept outside, and what is never signed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from audit.recording import ask, filled, pair
from audit.signing import lay_down, opened, places, signed
from veyra.audit import AuditLog, anchors, checkpoint, custody, keys, read_entries, saved, segment, signer, verify
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.cursor import Cursor
from veyra.audit.entry import ROLLED_BACK, ROTATED
from veyra.audit.frame import Scan
from veyra.audit.keys import Places, SigningKey
from veyra.audit.signer import Signer
from veyra.audit.tree import Tree, leaf_hash
from veyra.errors import AuditCorruptError, AuditError, AuditUnavailableError


def _published(root: Path) -> Checkpoint:
    point = saved.read_checkpoint(root / "log")
    assert point is not None
    return point


def _head(root: Path) -> Path:
    return places(root).head_of(_published(root).origin)


def _kinds(root: Path) -> list[str]:
    return [entry.leaf["kind"] for entry in read_entries(root / "log")]


def _verified(root: Path) -> list[str]:
    report = verify(root / "log", anchors=anchors.usual(root / "log", places(root)))
    return [problem.code for problem in report.problems]


async def test_a_log_with_a_key_is_signed_from_its_first_entry_on(tmp_path: Path) -> None:
    """The checkpoint is signed, the same bytes are kept outside, and the session names the key."""
    key = await signed(tmp_path)
    point = _published(tmp_path)
    assert point.is_signed_by(key.verifier)
    assert (tmp_path / "log" / "checkpoint").read_bytes() == _head(tmp_path).read_bytes()
    first = next(read_entries(tmp_path / "log"))
    assert first.leaf["key"] == key.verifier.text
    assert list(first.leaf)[-1] == "key"
    report = verify(tmp_path / "log", anchors=anchors.usual(tmp_path / "log", places(tmp_path)))
    assert (report.ok, report.signed_by, report.notices) == (True, key.verifier.text, ())
    assert report.compared == ("what was signed last",)


async def test_a_signed_checkpoint_stands_before_the_entry_that_names_its_key(tmp_path: Path) -> None:
    """Whoever finds a key named in the log finds a signed checkpoint, even while the first call is under way."""
    await filled(tmp_path / "log", 1)
    assert not _published(tmp_path).signatures
    where = places(tmp_path)
    assert where.key is not None
    keys.write(where.key, key := SigningKey.generate("a"))
    log = opened(tmp_path)
    await ask(log)
    point = _published(tmp_path)
    assert point.is_signed_by(key.verifier)
    assert point.size <= next(e.seq for e in read_entries(tmp_path / "log") if "key" in e.leaf)
    assert verify(tmp_path / "log").ok
    await log.aclose()
    assert _verified(tmp_path) == []


async def test_several_logs_on_one_directory_sign_in_turns(tmp_path: Path) -> None:
    """Two writers, closed in either order, leave a checkpoint over all that goes on from every one before."""
    await signed(tmp_path, 1)
    first, second = opened(tmp_path), opened(tmp_path)
    for number in range(5):
        await pair(first, f"a{number}")
        await pair(second, f"b{number}")
    await first.aclose()
    await second.aclose()
    assert _published(tmp_path).size == len(_kinds(tmp_path))
    assert _verified(tmp_path) == []


async def test_without_its_key_a_signed_log_is_not_written(tmp_path: Path) -> None:
    """Once signed, never unsigned: a call is refused while the key is gone, and nothing changes."""
    await signed(tmp_path)
    where = places(tmp_path)
    assert where.key is not None
    where.key.rename(tmp_path / "elsewhere")
    before = (tmp_path / "log" / "checkpoint").read_bytes()
    for log in (opened(tmp_path), AuditLog(tmp_path / "log", heads=where.heads)):
        with pytest.raises(AuditUnavailableError, match="is not there"):
            await ask(log)
        await log.aclose()
    assert (tmp_path / "log" / "checkpoint").read_bytes() == before


async def test_who_has_neither_key_nor_head_leaves_the_checkpoint_as_it_is(tmp_path: Path) -> None:
    """Another user's entries are recorded; the signed checkpoint is not replaced by an unsigned one."""
    await signed(tmp_path)
    before = (tmp_path / "log" / "checkpoint").read_bytes()
    other = AuditLog(tmp_path / "log", heads=tmp_path / "others")
    await pair(other)
    await other.aclose()
    assert (tmp_path / "log" / "checkpoint").read_bytes() == before
    assert _verified(tmp_path) == []
    await signed(tmp_path)
    assert _published(tmp_path).size == len(_kinds(tmp_path))


@pytest.fixture
async def rolled_back(tmp_path: Path) -> Path:
    """A log put back to how it was four entries before what was signed last."""
    await signed(tmp_path)
    shutil.copytree(tmp_path / "log", tmp_path / "backup")
    await signed(tmp_path, 1)
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "backup").rename(tmp_path / "log")
    return tmp_path


async def test_a_rollback_is_refused_until_it_is_accepted_and_then_on_record(rolled_back: Path) -> None:
    """From inside all looks well; the head says otherwise. After acceptance the loss is declared for good."""
    assert verify(rolled_back / "log").ok
    assert _verified(rolled_back) == ["anchor"]
    old = checkpoint.parse(_head(rolled_back).read_bytes())
    log = opened(rolled_back)
    with pytest.raises(AuditUnavailableError, match="rolled back"):
        await ask(log)
    await log.aclose()
    assert custody.accept_rollback(rolled_back / "log", places(rolled_back)) == old
    await signed(rolled_back, 1)
    entry = next(e for e in read_entries(rolled_back / "log") if e.leaf["kind"] == ROLLED_BACK)
    assert (entry.leaf["size"], entry.leaf["root"]) == (old.size, old.root.hex())
    report = verify(rolled_back / "log", anchors=anchors.usual(rolled_back / "log", places(rolled_back)))
    assert report.ok
    assert len(report.gaps) == 1
    (kept,) = _head(rolled_back).parent.glob("*.rolled-back")
    assert checkpoint.parse(kept.read_bytes()) == old
    late = verify(rolled_back / "log", anchors=anchors.Anchors(points={"kept": old}))
    assert [problem.code for problem in late.problems] == ["anchor"]


async def test_accepting_again_after_a_crash_goes_on_where_it_stopped(rolled_back: Path) -> None:
    """Recorded and not yet signed: the loss is recorded once, and the log can be written."""
    head = _head(rolled_back).read_bytes()
    custody.accept_rollback(rolled_back / "log", places(rolled_back))
    _head(rolled_back).write_bytes(head)
    custody.accept_rollback(rolled_back / "log", places(rolled_back))
    await signed(rolled_back, 1)
    assert _kinds(rolled_back).count(ROLLED_BACK) == 1
    assert _verified(rolled_back) == []


async def test_a_cut_log_whose_checkpoint_was_left_can_be_accepted_too(tmp_path: Path) -> None:
    """A checkpoint over more than there is goes into quarantine; an unsigned log may be accepted as well."""
    await filled(tmp_path / "log", 3)
    kept = _published(tmp_path)
    await filled(tmp_path / "short", 1)
    (tmp_path / "short" / "checkpoint").unlink()
    shutil.copyfile(tmp_path / "log" / "checkpoint", tmp_path / "short" / "checkpoint")
    lost = custody.accept_rollback(tmp_path / "short", Places(heads=tmp_path / "heads"))
    assert lost == kept
    assert len(list((tmp_path / "short" / "quarantine").glob("checkpoint-*.rolled-back"))) == 1
    report = verify(tmp_path / "short")
    assert (report.ok, len(report.gaps)) == (True, 1)


async def test_nothing_is_accepted_where_nothing_is_lost(tmp_path: Path) -> None:
    """A whole log is left as it is."""
    await signed(tmp_path)
    before = _kinds(tmp_path)
    with pytest.raises(AuditError, match="was not rolled back"):
        custody.accept_rollback(tmp_path / "log", places(tmp_path))
    assert _kinds(tmp_path) == before
    await signed(tmp_path, 0)
    assert not list((tmp_path / "log" / "sessions").iterdir())
    assert "recovery" not in _kinds(tmp_path)


async def test_another_history_is_never_signed(tmp_path: Path) -> None:
    """A log that is as large as what was signed, and another, is refused at opening, and cannot be accepted."""
    await signed(tmp_path)
    origin = _published(tmp_path).origin
    key = keys.read(places(tmp_path).key_of(origin))[0]
    head = checkpoint.parse(_head(tmp_path).read_bytes())
    other = head._replace(root=bytes(32), signatures=())
    _head(tmp_path).write_bytes(checkpoint.encode(other._replace(signatures=(key.signature(other),))))
    log = opened(tmp_path)
    with pytest.raises(AuditUnavailableError, match="are not those that were signed"):
        await ask(log)
    await log.aclose()
    with pytest.raises(AuditError, match="was not rolled back"):
        custody.accept_rollback(tmp_path / "log", places(tmp_path))


async def test_a_signer_signs_only_what_the_files_hold(tmp_path: Path) -> None:
    """A tree that is not that of the files, and files shorter than the tree, are not signed."""
    await signed(tmp_path)
    point = _published(tmp_path)
    hand = Signer(tmp_path / "log", point.origin, places(tmp_path))
    wrong = Tree()
    for number in range(point.size):
        wrong.append(leaf_hash(b"%d" % number))
    with pytest.raises(AuditCorruptError, match="do not hold"):
        hand.sign(wrong)
    wrong.append(bytes(32))
    with pytest.raises(AuditCorruptError, match="ends at entry"):
        hand.sign(wrong)
    assert checkpoint.parse(_head(tmp_path).read_bytes()) == point


async def test_of_two_signers_the_later_checkpoint_stands(tmp_path: Path) -> None:
    """Who comes with fewer entries than were signed gets the later checkpoint, and signs nothing."""
    await signed(tmp_path)
    hand = Signer(tmp_path / "log", _published(tmp_path).origin, places(tmp_path))
    assert hand.sign(Tree()) == _published(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"other\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"])
async def test_a_head_that_is_no_checkpoint_of_the_log_is_an_error(tmp_path: Path, content: bytes) -> None:
    """It is not taken for a log that was never signed."""
    await signed(tmp_path)
    _head(tmp_path).write_bytes(content)
    log = opened(tmp_path)
    with pytest.raises(AuditUnavailableError, match=r"another log|cannot be read"):
        await ask(log)
    await log.aclose()
    with pytest.raises(AuditError, match=r"another log|cannot be read"):
        anchors.usual(tmp_path / "log", places(tmp_path))


async def test_a_log_without_a_key_is_as_it_was(tmp_path: Path) -> None:
    """No key, no signature, no file outside, and no word of a key in the entries."""
    await filled(tmp_path / "log", 2)
    assert not _published(tmp_path).signatures
    assert signer.find(tmp_path / "log", _published(tmp_path).origin, Places(heads=tmp_path / "heads")) is None
    assert not any("key" in entry.leaf for entry in read_entries(tmp_path / "log"))


# ------------------------------------------------------------------------------------------------- custody


def test_generate_makes_log_key_and_checkpoint(tmp_path: Path) -> None:
    """A log that is not there is made and signed; a second key is refused."""
    key = custody.generate(tmp_path / "log", places(tmp_path))
    assert key.name == _published(tmp_path).origin
    assert _published(tmp_path).is_signed_by(key)
    assert _verified(tmp_path) == []
    with pytest.raises(AuditError, match="already"):
        custody.generate(tmp_path / "log", places(tmp_path))
    with pytest.raises(AuditError, match="name"):
        custody.generate(tmp_path / "other", Places(tmp_path / "o.key", tmp_path / "heads"), "a b")


async def test_rotation_is_an_entry_signed_by_the_old_key(tmp_path: Path) -> None:
    """Whoever has the old verifier key can verify the log under the new one, and the other way round."""
    old = (await signed(tmp_path)).verifier
    assert custody.rotate(tmp_path / "log", places(tmp_path))[0] == old
    new = (await signed(tmp_path)).verifier
    assert new != old
    assert _kinds(tmp_path).count(ROTATED) == 1
    assert len(keys.read(places(tmp_path).key_of(""))) == 1
    assert not _published(tmp_path).is_signed_by(old)
    for known in ((old,), (new,), (old, new), ()):
        report = verify(tmp_path / "log", anchors=anchors.Anchors(keys=known))
        assert (report.ok, report.signed_by) == (True, new.text)


async def test_a_running_writer_follows_a_rotation(tmp_path: Path) -> None:
    """A log that was opened under the old key signs with the new one without being opened again."""
    await signed(tmp_path)
    log = opened(tmp_path)
    await pair(log)
    _, new = custody.rotate(tmp_path / "log", places(tmp_path))
    await pair(log)
    await log.aclose()
    assert _published(tmp_path).size == len(_kinds(tmp_path))
    assert _published(tmp_path).is_signed_by(new)
    assert _verified(tmp_path) == []


async def test_a_rotation_that_was_cut_short_is_brought_to_its_end(tmp_path: Path) -> None:
    """With both keys in the file both sign; rotating again finishes with the key that was made first."""
    old = await signed(tmp_path)
    new = SigningKey.generate(old.verifier.name)
    keys.write(places(tmp_path).key_of(""), new, old)
    await signed(tmp_path)
    assert _published(tmp_path).is_signed_by(old.verifier)
    assert _published(tmp_path).is_signed_by(new.verifier)
    assert _verified(tmp_path) == []
    assert custody.rotate(tmp_path / "log", places(tmp_path)) == (old.verifier, new.verifier)
    await signed(tmp_path)
    assert _verified(tmp_path) == []


async def test_rotating_without_a_key_is_an_error(tmp_path: Path) -> None:
    """There is nothing to hand over."""
    await filled(tmp_path / "log", 1)
    with pytest.raises(AuditError, match="has no key"):
        custody.rotate(tmp_path / "log", places(tmp_path))


# -------------------------------------------------------------------------------------------------- cursor


@pytest.mark.parametrize("starts", [(), (4,), (4, 4), (3, 9, 15)])
def test_a_cursor_gives_the_tree_at_every_place(tmp_path: Path, starts: tuple[int, ...]) -> None:
    """From any place on, over the bounds of segments, it has the root of the first entries."""
    lay_down(tmp_path, 20, SigningKey.generate("a"), starts=starts)
    tree, roots = Tree(), []
    for entry in read_entries(tmp_path):
        roots.append(tree.root())
        tree.append(leaf_hash(entry.raw))
    roots.append(tree.root())
    for begin in range(21):
        cursor = Cursor(tmp_path, begin)
        for size in range(begin, 21, 3):
            assert cursor.advance(size).root() == roots[size]
        with pytest.raises(AuditCorruptError, match="ends at entry"):
            cursor.advance(21)


def test_a_cursor_needs_a_segment_to_begin_in(tmp_path: Path) -> None:
    """Without one, or with one that cannot be read, it says so."""
    with pytest.raises(AuditCorruptError, match="no segment"):
        Cursor(tmp_path, 0)
    lay_down(tmp_path, 5, SigningKey.generate("a"))
    (tmp_path / "seg" / "00000000.vseg").write_bytes(b"x")
    with pytest.raises(AuditCorruptError, match="segment 0"):
        Cursor(tmp_path, 0)


@pytest.mark.parametrize(
    ("start", "reason"), [(6, "does not go on"), (8, "does not go on"), (10, "begins at entry 10")]
)
def test_a_cursor_refuses_segments_that_do_not_go_on_from_one_another(tmp_path: Path, start: int, reason: str) -> None:
    """A segment written again must hold what was read before, one that begins later leaves a gap, and hashes must fit."""
    key = SigningKey.generate("a")
    lay_down(tmp_path / "log", 20, key, starts=(8, 14))
    lay_down(tmp_path / "other", 20, key, starts=(start, 14))
    cursor = Cursor(tmp_path / "log", 0)
    cursor.advance(8)
    shutil.copyfile(segment.path(tmp_path / "other", 1), segment.path(tmp_path / "log", 1))
    with pytest.raises(AuditCorruptError, match=reason):
        cursor.advance(20)


def test_a_cursor_follows_a_segment_that_was_written_again(tmp_path: Path) -> None:
    """Where a new segment repeats the end of the one before, the cursor takes the same entries once."""
    lay_down(tmp_path, 20, SigningKey.generate("a"))
    root = Cursor(tmp_path, 0).advance(20).root()
    frames = segment.path(tmp_path, 0).read_bytes()
    cursor = Cursor(tmp_path, 0)
    peaks = cursor.advance(12).copy().peaks
    with segment.opened(segment.path(tmp_path, 0)) as fd:
        head, begin = segment.read(fd)
        offset = next(frame.offset for frame in Scan(fd, begin, len(frames), 0) if frame.seq == 12)
    again = replace(head, index=1, first=12, peaks=peaks)
    segment.path(tmp_path, 1).write_bytes(segment.encode(again) + frames[offset:])
    cursor.advance(15)
    assert cursor.advance(20).root() == root
