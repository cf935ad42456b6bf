"""What was kept elsewhere finds what cannot be seen from inside; without it, `verify` says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from audit.recording import filled, pair
from audit.signing import opened, places, signed
from veyra.audit import AuditLog, checkpoint, custody, keys, segment, verify
from veyra.audit.anchors import Anchors, origin_of, parse_verifier, read_checkpoint, read_receipt, usual
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.entry import Sealed, session_open
from veyra.audit.frame import Frame, Scan, encode
from veyra.audit.keys import Places, SigningKey
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.verify import LEVELS, NO_ANCHOR, Level, Report
from veyra.errors import AuditError
from veyra.types import Receipt

Change = Callable[[list[Frame]], list[Frame]]


def _codes(report: Report) -> list[str]:
    return [problem.code for problem in report.problems]


def _frames(directory: Path) -> list[Frame]:
    file = segment.path(directory, 0)
    with segment.opened(file) as fd:
        head, begin = segment.read(fd)
        return list(Scan(fd, begin, os.fstat(fd).st_size, head.first))


def _forge(directory: Path, frames: list[Frame], key: SigningKey | None = None) -> None:
    """Write a log anew with these leaves and bodies, a checkpoint over them, and a signature if there is a key."""
    file = segment.path(directory, 0)
    with segment.opened(file) as fd:
        head, begin = segment.read(fd)
    tree, data = Tree(), [file.read_bytes()[:begin]]
    for seq, frame in enumerate(frames):
        data.append(encode(seq, Sealed(session_open(pid=1, mode=""), frame.leaf, b"", frame.blobs or b"")))
        tree.append(leaf_hash(frame.leaf))
    file.write_bytes(b"".join(data))
    point = Checkpoint(head.origin, tree.size, tree.root())
    if key is not None:
        point = point._replace(signatures=(key.signature(point),))
    (directory / checkpoint.FILE).write_bytes(checkpoint.encode(point))


def _edited(frames: list[Frame]) -> list[Frame]:
    return [frame._replace(leaf=frame.leaf.replace(b'"m-1', b'"m-2')) for frame in frames]


def _cut(frames: list[Frame]) -> list[Frame]:
    return frames[:-3]


def _kept(root: Path) -> Checkpoint:
    return checkpoint.parse((root / "log" / "checkpoint").read_bytes())


async def _receipt(root: Path) -> Receipt:
    log = opened(root)
    receipt = await pair(log)
    await log.aclose()
    return receipt


@pytest.mark.parametrize("change", [_edited, _cut])
@pytest.mark.parametrize("level", LEVELS[1:])
async def test_who_has_no_key_cannot_make_a_signed_log_look_right(tmp_path: Path, change: Change, level: Level) -> None:
    """Entries edited or cut with all CRCs and the checkpoint made to fit: the signature is missing, from inside already."""
    await signed(tmp_path)
    _forge(tmp_path / "log", change(_frames(tmp_path / "log")))
    assert _codes(verify(tmp_path / "log", level=level)) == ["signature"]


async def test_a_key_of_ones_own_does_not_help(tmp_path: Path) -> None:
    """Signed by another key of the same name, the log is refused by its own word, and by whoever knows the key."""
    key = await signed(tmp_path)
    own = SigningKey.generate(key.verifier.name)
    _forge(tmp_path / "log", _edited(_frames(tmp_path / "log")), own)
    assert _codes(verify(tmp_path / "log")) == ["signature"]
    named = [
        frame._replace(leaf=frame.leaf.replace(key.verifier.text.encode(), own.verifier.text.encode()))
        for frame in _frames(tmp_path / "log")
    ]
    _forge(tmp_path / "log", named, own)
    assert verify(tmp_path / "log").ok  # a log made anew, all of it: only what was kept elsewhere can tell
    assert _codes(verify(tmp_path / "log", anchors=Anchors(keys=(key.verifier,)))) == ["signature"]
    assert "anchor" in _codes(verify(tmp_path / "log", anchors=usual(tmp_path / "log", places(tmp_path))))


@pytest.mark.parametrize("change", [_edited, _cut])
async def test_who_has_the_key_is_found_by_an_older_checkpoint_or_a_receipt(tmp_path: Path, change: Change) -> None:
    """With the key everything can be made to fit inside; what somebody kept cannot."""
    await signed(tmp_path)
    receipt = await _receipt(tmp_path)
    key, kept = (await signed(tmp_path, 0)), _kept(tmp_path)
    _forge(tmp_path / "log", change(_frames(tmp_path / "log")), key)
    assert verify(tmp_path / "log").ok
    for anchors in (
        Anchors(points={"kept": kept}),
        Anchors(receipts={"receipt": receipt}),
        usual(tmp_path / "log", places(tmp_path)),
    ):
        assert _codes(verify(tmp_path / "log", anchors=anchors)) == ["anchor"]


async def test_a_tail_cut_at_a_checkpoint_looks_right_from_inside_and_verify_says_so(tmp_path: Path) -> None:
    """The directory as it once was: without anything from elsewhere there is no evidence of freshness."""
    await signed(tmp_path)
    shutil.copytree(tmp_path / "log", tmp_path / "old")
    receipt = await _receipt(tmp_path)
    report = verify(tmp_path / "old")
    assert report.ok
    assert report.notices == (NO_ANCHOR,)
    assert report.undecided == ()
    assert verify(tmp_path / "old", level="anchors").undecided
    for anchors in (Anchors(receipts={"r": receipt}), usual(tmp_path / "old", places(tmp_path))):
        report = verify(tmp_path / "old", anchors=anchors)
        assert _codes(report) == ["anchor"]
        assert NO_ANCHOR not in report.notices


async def test_what_fits_is_named_as_compared(tmp_path: Path) -> None:
    """A right receipt and right checkpoints of any age are listed, and no notice is left."""
    await signed(tmp_path)
    first = _kept(tmp_path)
    receipt = await _receipt(tmp_path)
    anchors = Anchors(points={"first": first, "now": _kept(tmp_path)}, receipts={"r": receipt})
    for level in LEVELS[1:]:
        report = verify(tmp_path / "log", level=level, anchors=anchors)
        assert (report.ok, report.compared, report.notices, report.undecided) == (True, ("first", "now", "r"), (), ())


async def test_anchors_of_another_log_do_not_fit(tmp_path: Path) -> None:
    """A checkpoint or a receipt of another log is a problem, not nothing."""
    await filled(tmp_path / "a", 1)
    await filled(tmp_path / "b", 1)
    other = checkpoint.parse((tmp_path / "b" / "checkpoint").read_bytes())
    receipt = Receipt(origin=other.origin, id="x", seq=1, leaf_hash="00")
    anchors = Anchors(points={"p": other}, receipts={"r": receipt})
    assert _codes(verify(tmp_path / "a", anchors=anchors)) == ["anchor", "anchor"]


async def test_an_unsigned_checkpoint_is_refused_by_who_knows_a_key(tmp_path: Path) -> None:
    """A log that was never signed is not what somebody has a key for."""
    await filled(tmp_path / "log", 1)
    report = verify(tmp_path / "log", anchors=Anchors(keys=(SigningKey.generate("a").verifier,)))
    assert _codes(report) == ["signature"]


async def test_a_signed_checkpoint_without_a_key_to_check_it_cannot_be_decided(tmp_path: Path) -> None:
    """Where the log names no key and none was given, that is said, and is no success."""
    await filled(tmp_path / "log", 1)
    key = SigningKey.generate("a")
    _forge(tmp_path / "log", _frames(tmp_path / "log"), key)
    report = verify(tmp_path / "log")
    assert (report.ok, report.signed_by) == (True, None)
    assert report.undecided == ("the checkpoint is signed by a key that is not known: give --key",)
    assert verify(tmp_path / "log", anchors=Anchors(keys=(key.verifier,))).signed_by == key.verifier.text


async def test_a_key_may_not_change_without_the_old_ones_word(tmp_path: Path) -> None:
    """A new key file after a loss: the log says so until the new key is given from elsewhere."""
    await signed(tmp_path)
    new = SigningKey.generate("new")
    keys.write(places(tmp_path).key_of(""), new)
    await signed(tmp_path)
    assert _codes(verify(tmp_path / "log")) == ["key", "signature"]
    assert verify(tmp_path / "log", anchors=Anchors(keys=(new.verifier,))).ok


async def test_a_forged_handover_is_refused(tmp_path: Path) -> None:
    """`key.rotated` with another key's signature, or from a key that never counted, does not count."""
    await signed(tmp_path)
    custody.rotate(tmp_path / "log", places(tmp_path))
    key = await signed(tmp_path)
    frames = _frames(tmp_path / "log")
    at = next(number for number, frame in enumerate(frames) if b'"kind":"key.rotated"' in frame.leaf)
    leaf = json.loads(frames[at].leaf)
    for name, value in (("sig", leaf["sig"][::-1]), ("from", leaf["to"])):
        forged = json.dumps(leaf | {name: value}, separators=(",", ":")).encode()
        _forge(tmp_path / "log", [*frames[:at], frames[at]._replace(leaf=forged), *frames[at + 1 :]], key)
        assert "key" in _codes(verify(tmp_path / "log"))


async def test_every_flipped_bit_of_a_signed_checkpoint_is_found(tmp_path: Path) -> None:
    """No byte of it can be changed, its signature line included."""
    await signed(tmp_path, 1)
    file = tmp_path / "log" / "checkpoint"
    good = file.read_bytes()
    for position in range(len(good)):
        for bit in (0, 4):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            file.write_bytes(bad)
            report = verify(tmp_path / "log", level="tree")
            assert not report.ok, (position, bit)
            assert report.problems[0].file == "checkpoint"


async def test_every_flipped_bit_of_a_kept_checkpoint_is_found_where_it_says_anything(tmp_path: Path) -> None:
    """Its size, its root and the signature under a known key: the anchor is not what was signed, and is named."""
    await signed(tmp_path, 1)
    good = (tmp_path / "log" / "checkpoint").read_bytes()
    signature = good.rindex(b" ") + 1
    for position in (*range(0, good.index(b"\n\n") + 1, 3), *range(signature + 6, len(good) - 1, 3)):
        bad = bytearray(good)
        bad[position] ^= 1
        try:
            point = checkpoint.parse(bytes(bad))
        except ValueError:
            continue
        problems = verify(tmp_path / "log", level="tree", anchors=Anchors(points={"the kept one": point})).problems
        assert {problem.code for problem in problems} == {"anchor"}, position
        assert all("the kept one" in problem.message for problem in problems)


# ---------------------------------------------------------------------------------------------------- files


async def test_receipts_and_checkpoints_read_back_from_files(tmp_path: Path) -> None:
    """A receipt as JSON and a checkpoint as it is published; anything else is an error that names the file."""
    await signed(tmp_path)
    receipt = await _receipt(tmp_path)
    (tmp_path / "r.json").write_text(json.dumps(asdict(receipt)))
    assert read_receipt(tmp_path / "r.json") == receipt
    assert read_checkpoint(tmp_path / "log" / "checkpoint") == _kept(tmp_path)
    for number, text in enumerate(("", "[]", "{}", '{"origin":"o","id":"i","seq":null,"leaf_hash":""}', "[" * 9_999)):
        file = tmp_path / f"bad{number}"
        file.write_text(text)
        for read in (read_receipt, read_checkpoint):
            with pytest.raises(AuditError, match=f"bad{number}"):
                read(file)
    for read in (read_receipt, read_checkpoint):
        with pytest.raises(AuditError, match="No such file"):
            read(tmp_path / "none")
    with pytest.raises(AuditError, match="not a verifier key"):
        parse_verifier("x")


async def test_a_log_that_nobody_here_signed_has_no_usual_anchors(tmp_path: Path) -> None:
    """Neither has a directory without a log."""
    await filled(tmp_path / "log", 1)
    for directory in (tmp_path / "log", tmp_path / "none"):
        found = usual(directory, Places(heads=tmp_path / "heads"))
        assert (found.keys, found.points, found.show_the_end) == ((), {}, False)
    assert origin_of(tmp_path / "none") is None


async def test_verifying_beside_a_signing_writer_raises_no_alarm(tmp_path: Path) -> None:
    """While two logs sign and a key is rotated, whoever verifies finds nothing wrong."""
    await signed(tmp_path, 1)
    logs: list[AuditLog] = [opened(tmp_path), opened(tmp_path)]
    for turn in range(6):
        for log in logs:
            await pair(log)
        assert verify(tmp_path / "log").ok
        if turn == 3:
            custody.rotate(tmp_path / "log", places(tmp_path))
            assert verify(tmp_path / "log").ok
    for log in logs:
        await log.aclose()
        assert verify(tmp_path / "log", anchors=usual(tmp_path / "log", places(tmp_path))).ok
