"""What somebody does to a log who can write to its directory, and what shows it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from audit.recording import filled
from audit.signing import places, signed
from veyra.audit import AuditLog, BodyPart, read_entries, segment, verify
from veyra.audit.anchors import Anchors, usual
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.checkpoint import encode as encode_checkpoint
from veyra.audit.entry import Sealed, session_open
from veyra.audit.frame import Frame, Scan, encode
from veyra.audit.index import FILE, Index
from veyra.audit.segment import Head
from veyra.audit.tree import Tree, leaf_hash
from veyra.audit.verify import Level
from veyra.types import Receipt

WRITER = Path(__file__).parent / "writer_process.py"
WORDS = ("the merger is off", "yes", "no", "patient 4711 is positive", '{"q":1}')
LONG = "the secret formula, again. " * 60


def _frames(file: Path) -> tuple[Head, list[Frame]]:
    with segment.opened(file) as fd:
        head, begin = segment.read(fd)
        return head, list(Scan(fd, begin, os.fstat(fd).st_size, head.first))


def _lay(directory: Path, frames: list[Frame], *, heads: tuple[int, ...] = (0,)) -> None:
    """Write a log's segments anew, each beginning at one of `heads`: CRCs, numbers and heads made to fit."""
    files = segment.listed(directory)
    origin = _frames(files[0])[0].origin
    for file in files:
        file.unlink()
    tree, data = Tree(), list[bytes]()
    for seq, frame in enumerate(frames):
        if seq in heads:
            data.append(b"")
            head = Head(origin=origin, index=len(data) - 1, first=seq, peaks=tree.peaks, created=1)
            data[-1] = segment.encode(head)
        data[-1] += encode(seq, Sealed(session_open(pid=1, mode=""), frame.leaf, b"", frame.blobs or b""))
        tree.append(leaf_hash(frame.leaf))
    for index, text in enumerate(data):
        segment.path(directory, index).write_bytes(text)


def _removed(frames: list[Frame]) -> list[Frame]:
    return frames[:2] + frames[4:]


def _swapped(frames: list[Frame]) -> list[Frame]:
    return [*frames[:3], frames[4], frames[3], *frames[5:]]


def _repeated(frames: list[Frame]) -> list[Frame]:
    return [*frames[:4], frames[3], *frames[4:]]


def _inserted(frames: list[Frame]) -> list[Frame]:
    """An outcome of another session, as somebody would make it up."""
    made = frames[2].leaf.replace(b'"sid":"0', b'"sid":"f').replace(b'"wseq":2', b'"wseq":0')
    return [*frames[:4], frames[2]._replace(leaf=made), *frames[4:]]


def _edited(frames: list[Frame]) -> list[Frame]:
    return [frame._replace(leaf=frame.leaf.replace(b'"m-1"', b'"m-2"')) for frame in frames]


def _cut(frames: list[Frame]) -> list[Frame]:
    return frames[:-2]


# --------------------------------------------------------------------------------- single bits, everywhere


@pytest.mark.timeout(60)  # thousands of verifications
@pytest.mark.parametrize("level", ["tree", "semantics", "bodies"])
async def test_a_flipped_bit_in_any_segment_is_named(tmp_path: Path, level: Level) -> None:
    """In a log of three segments: whatever byte is hit, the report names the file, and where it is read, the entry."""
    await filled(tmp_path, 3)
    _lay(tmp_path, _frames(segment.path(tmp_path, 0))[1], heads=(0, 3, 6))
    assert verify(tmp_path, level=level).problems == ()
    for file in segment.listed(tmp_path):
        good = file.read_bytes()
        _, frames = _frames(file)
        for position in range(0, len(good), 3):
            hit = next((frame for frame in frames if frame.offset <= position < frame.end), None)
            begin, end = hit.blobs_range if hit else (0, 0)
            if level != "bodies" and begin <= position < end:
                continue
            bad = bytearray(good)
            bad[position] ^= 1 << position % 8
            file.write_bytes(bad)
            problem = verify(tmp_path, level=level).problems[0]
            if hit is None:  # the head: the segment as a whole
                assert problem.file.startswith("seg/"), position
            else:
                assert (problem.file, problem.offset, problem.seq) == (f"seg/{file.name}", hit.offset, hit.seq)
        file.write_bytes(good)
    assert verify(tmp_path, level=level).problems == ()


async def test_a_flipped_bit_in_a_compressed_body_is_found_even_with_its_crc_mended(tmp_path: Path) -> None:
    """Each byte of a salt and of a compressed body counts: it does not decompress, or is not what was committed to."""
    log = AuditLog(tmp_path)
    await log.intent(
        call="c", attempt=1, backend="mock", attributes={}, parts=[BodyPart("request.wire", LONG.encode(), "text")]
    )
    log.close()
    frames = _frames(segment.path(tmp_path, 0))[1]
    blobs = frames[1].blobs or b""
    assert len(blobs) < len(LONG) // 4
    for position in range(len(blobs)):
        bad = bytearray(blobs)
        bad[position] ^= 1 << position % 8
        _lay(tmp_path, [frames[0], frames[1]._replace(blobs=bytes(bad)), *frames[2:]])
        problems = verify(tmp_path).problems
        assert [(problem.code, problem.seq) for problem in problems] == [("body", 1)], position


async def test_a_flipped_bit_in_what_the_index_says_is_found(tmp_path: Path) -> None:
    """Every value of every row, hit one by one in the file, is found; so is a damaged page."""
    await filled(tmp_path, 3)
    Index.open(tmp_path).close()
    good = (tmp_path / FILE).read_bytes()
    with sqlite3.connect(tmp_path / FILE) as database:
        said = {value for row in database.execute("SELECT * FROM attempts") for value in row if isinstance(value, str)}
    database.close()
    for value in sorted(said):
        bad = bytearray(good)
        bad[bad.index(value.encode()) + len(value) - 1] ^= 4
        (tmp_path / FILE).write_bytes(bad)
        problems = verify(tmp_path, level="semantics").problems
        assert problems, value
        assert {(problem.code, problem.file) for problem in problems} == {("index", FILE)}
    for position in (0, 16, 100, 103, 107):
        bad = bytearray(good)
        bad[position] ^= 4
        (tmp_path / FILE).write_bytes(bad)
        problems = verify(tmp_path, level="semantics").problems
        assert {(problem.code, problem.file) for problem in problems} == {("index", FILE)}, position
    (tmp_path / FILE).unlink()
    assert verify(tmp_path).ok


# ----------------------------------------------------------------------- with everything derived made to fit

CHANGES = [_removed, _swapped, _repeated, _inserted, _edited, _cut]


@pytest.mark.parametrize("change", CHANGES)
async def test_without_the_key_no_change_survives(tmp_path: Path, change: Callable[[list[Frame]], list[Frame]]) -> None:
    """CRCs, numbers, heads, state and index are made to fit; the signed checkpoint is not, and a new one is unsigned."""
    await signed(tmp_path, 4)
    log, known = tmp_path / "log", usual(tmp_path / "log", places(tmp_path))
    assert verify(log, level="anchors", anchors=known).ok
    _lay(log, change(_frames(segment.path(log, 0))[1]))
    (log / "state").unlink()
    Index.open(log).close()
    codes = {problem.code for problem in verify(log).problems}
    assert codes & {"tree", "checkpoint"}
    tree, origin = Tree(), _frames(segment.path(log, 0))[0].origin
    for entry in read_entries(log):
        tree.append(leaf_hash(entry.raw))
    (log / "checkpoint").write_bytes(encode_checkpoint(Checkpoint(origin, tree.size, tree.root())))
    assert "signature" in {problem.code for problem in verify(log).problems}
    assert {"signature", "anchor"} <= {problem.code for problem in verify(log, anchors=known).problems}


@pytest.mark.parametrize("change", CHANGES)
async def test_with_the_key_what_was_kept_elsewhere_tells(
    tmp_path: Path, change: Callable[[list[Frame]], list[Frame]]
) -> None:
    """Who has the key can sign anything; an older checkpoint, or the receipts of the entries, show it all the same."""
    key = await signed(tmp_path, 4)
    log = tmp_path / "log"
    old = usual(log, places(tmp_path)).points["what was signed last"]
    receipts = {
        f"receipt {entry.seq}": Receipt(
            origin=old.origin, id=entry.leaf["id"], seq=entry.seq, leaf_hash=leaf_hash(entry.raw).hex()
        )
        for entry in read_entries(log)
    }
    assert verify(log, anchors=Anchors(points={"old": old}, receipts=receipts)).ok
    _lay(log, change(_frames(segment.path(log, 0))[1]))
    tree = Tree()
    for entry in read_entries(log):
        tree.append(leaf_hash(entry.raw))
    point = Checkpoint(old.origin, tree.size, tree.root())
    (log / "checkpoint").write_bytes(encode_checkpoint(point._replace(signatures=(key.signature(point),))))
    assert not {problem.code for problem in verify(log).problems} & {"signature", "tree", "checkpoint", "anchor"}
    for anchors in (Anchors(points={"old": old}), Anchors(receipts=receipts)):
        assert "anchor" in {problem.code for problem in verify(log, anchors=anchors).problems}


# ---------------------------------------------------------------------------------------- guesses at content


async def test_a_dictionary_of_guesses_confirms_nothing(tmp_path: Path) -> None:
    """No text of a body is in a leaf, nor a hash of one, in any usual writing, nor a keyed one under a guessable key."""
    log = AuditLog(tmp_path)
    for word in (*WORDS, LONG):
        parts = [BodyPart("request.messages", word.encode(), "text/plain")]
        receipt = await log.intent(call="c", attempt=1, backend="mock", attributes={}, parts=parts)
        parts = [BodyPart("response.message", word.encode(), "text/plain")]
        await log.outcome(
            intent=receipt, call="c", attempt=1, backend="mock", status="ok", latency_ns=1, attributes={}, parts=parts
        )
    log.close()
    entries = list(read_entries(tmp_path))
    leaves = b"\n".join(entry.raw for entry in entries)
    for word in (*WORDS[:2], *WORDS[3:], LONG):
        guess = word.encode()
        assert guess not in leaves or word in {"yes", "no"}
        digests = [
            hashlib.new(name, guess).digest() for name in ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256")
        ]
        digests.append(binascii.crc32(guess).to_bytes(4))
        names = [b"request.messages", b"response.message"]
        framed = [b"veyra.part.v1\0" + name + b"\0" + len(guess).to_bytes(8) + guess for name in names]
        for secret in (b"", bytes(32), b"veyra", *(entry.leaf["id"].encode() for entry in entries)):
            digests += [hmac.digest(secret, text, "sha256") for text in (guess, *framed)]
        for digest in digests:
            for text in (digest.hex().encode(), digest.hex().upper().encode(), base64.b64encode(digest)):
                assert text not in leaves
    commitments = [part["commit"] for entry in entries for part in entry.leaf.get("parts", ())]
    assert len(set(commitments)) == len(commitments) == 12


async def test_salts_are_never_used_twice(tmp_path: Path) -> None:
    """The same body recorded again has another salt, and so another commitment."""
    await filled(tmp_path, 20)
    salts = [part.salt for entry in read_entries(tmp_path) for part in entry.parts]
    assert len(set(salts)) == len(salts) == 40


# --------------------------------------------------------------------------------------------- beside writers


async def test_no_false_alarm_while_four_processes_write(tmp_path: Path) -> None:
    """Full, quick and searched, again and again, beside four writing processes: every report is good, none goes back."""
    directory = tmp_path / "log"
    await filled(directory, 1)
    command = [sys.executable, str(WRITER), str(directory), "3", "40"]
    environment = {**os.environ, "PYTHONPATH": str(WRITER.parents[1])}
    writers = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)  # noqa: ASYNC220  (it starts at once)
        for _ in range(4)
    ]
    sizes, since = [], None
    while any(writer.poll() is None for writer in writers):
        report = await asyncio.to_thread(verify, directory)
        quick = await asyncio.to_thread(partial(verify, directory, level="quick", since=since))
        assert report.problems == quick.problems == ()
        since = quick.verified or since
        sizes += [report.size, quick.size]
        await asyncio.to_thread(lambda: Index.open(directory).close())
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sizes == sorted(sizes)
    assert len(sizes) > 4
    report = verify(directory)
    assert (report.problems, report.intents, report.outcomes) == ((), 481, 481)
