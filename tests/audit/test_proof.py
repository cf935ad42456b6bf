"""Proofs: compared with the definitions of RFC 6962, and bundles as their receiver checks them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from audit.recording import pair
from audit.signing import lay_down, opened, places, signed
from veyra.audit import AuditLog, checkpoint, custody, find, proof, read_entries, standalone, tiles
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.keys import SigningKey
from veyra.audit.tree import leaf_hash
from veyra.errors import AuditCorruptError, AuditError

LARGEST = 300
HASHES = [leaf_hash(b"leaf %d" % seq) for seq in range(LARGEST)]


@cache
def _mth(begin: int, end: int) -> bytes:
    """MTH(D[begin:end]), section 2.1."""
    if end == begin:
        return sha256(b"").digest()
    if end - begin == 1:
        return HASHES[begin]
    middle = begin + _k(end - begin)
    return sha256(b"\x01" + _mth(begin, middle) + _mth(middle, end)).digest()


def _k(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def _path(m: int, begin: int, end: int) -> list[bytes]:
    """PATH(m, D[begin:end]), section 2.1.1; m counts from begin."""
    if end - begin == 1:
        return []
    k = _k(end - begin)
    if m < k:
        return [*_path(m, begin, begin + k), _mth(begin + k, end)]
    return [*_path(m - k, begin + k, end), _mth(begin, begin + k)]


def _subproof(m: int, begin: int, end: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[begin:end], b), section 2.1.2; m counts from begin."""
    if m == end - begin:
        return [] if whole else [_mth(begin, end)]
    k = _k(end - begin)
    if m <= k:
        return [*_subproof(m, begin, begin + k, whole=whole), _mth(begin + k, end)]
    return [*_subproof(m - k, begin + k, end, whole=False), _mth(begin, begin + k)]


def test_every_inclusion_proof_up_to_300_is_that_of_the_definition() -> None:
    """For every size and place the hashes are PATH of RFC 6962, and give the root; with one changed they do not."""
    for size in range(1, LARGEST + 1):
        for seq in range(size):
            path = [_mth(*wanted) for wanted in proof.inclusion(seq, size)]
            assert path == _path(seq, 0, size)
            assert standalone.root_from(HASHES[seq], seq, size, path) == _mth(0, size)
            if seq % 7 == size % 7 and path:
                path[size % len(path)] = bytes(32)
                assert standalone.root_from(HASHES[seq], seq, size, path) != _mth(0, size)


def test_every_consistency_proof_up_to_300_is_that_of_the_definition() -> None:
    """For every two sizes the hashes are PROOF of RFC 6962 and accepted; shortened, lengthened or changed they are not."""
    for new in range(LARGEST + 1):
        later = Checkpoint("o", new, _mth(0, new))
        for old in range(new + 1):
            earlier = Checkpoint("o", old, _mth(0, old))
            path = [_mth(*wanted) for wanted in proof.consistency(old, new)]
            assert path == ([] if old == 0 else _subproof(old, 0, new, whole=True))
            assert standalone.is_consistent(earlier, later, path)
            if new % 16 == 5:
                assert not standalone.is_consistent(earlier, later, [*path, bytes(32)])
                assert not standalone.is_consistent(earlier._replace(root=bytes(32)), later, path)
                for number in range(len(path)):
                    assert not standalone.is_consistent(earlier, later, path[:number] + path[number + 1 :])
                    assert not standalone.is_consistent(
                        earlier, later, [*path[:number], bytes(32), *path[number + 1 :]]
                    )


def test_a_consistency_proof_is_between_two_checkpoints_of_one_log_the_older_first() -> None:
    """Another origin, a larger old tree, and an empty tree with another root are not consistent."""
    five, six = Checkpoint("o", 5, _mth(0, 5)), Checkpoint("o", 6, _mth(0, 6))
    path = [_mth(*wanted) for wanted in proof.consistency(5, 6)]
    assert standalone.is_consistent(five, six, path)
    assert not standalone.is_consistent(five._replace(origin="p"), six, path)
    assert not standalone.is_consistent(six, five, path)
    assert not standalone.is_consistent(Checkpoint("o", 0, bytes(32)), six, [])


def test_roots_are_computed_in_one_pass_and_no_further_than_needed() -> None:
    """Overlapping ranges share the pass; leaves after the last range are not asked for."""
    taken = iter(HASHES)
    wanted = [(0, 7), (3, 5), (4, 9), (6, 7)]
    assert proof.roots(taken, wanted) == {item: _mth(*item) for item in wanted}
    assert next(taken) in HASHES[9:11]
    assert proof.roots(iter(HASHES), []) == {}


@pytest.mark.parametrize(("index", "size", "path"), [(0, 0, 0), (3, 3, 2), (-1, 3, 2), (0, 2, 0), (0, 2, 2), (0, 1, 1)])
def test_an_inclusion_proof_of_another_shape_is_refused(index: int, size: int, path: int) -> None:
    """A place outside the tree, and a hash too few or too many, are errors."""
    with pytest.raises(ValueError, match=r"outside the tree|wrong length"):
        standalone.root_from(bytes(32), index, size, [bytes(32)] * path)


# ------------------------------------------------------------------------------------------------------ bundles


async def test_a_bundle_proves_an_intent_and_its_outcome_and_opens_what_was_chosen(tmp_path: Path) -> None:
    """Its receiver gets both leaves, their places, the key's word, and the one body that was opened."""
    key = await signed(tmp_path)
    data = proof.bundle(tmp_path / "log", 3, ["response.wire"])
    verdict = standalone.check_bundle(data, [key.verifier])
    assert (verdict.trusted, verdict.key) == (True, key.verifier)
    assert [(entry.seq, entry.leaf["kind"]) for entry in verdict.entries] == [(3, "call.intent"), (4, "call.outcome")]
    assert [entry.parts for entry in verdict.entries] == [[], [standalone.Part("response.wire", b'{"a":1}')]]
    assert b64encode(b'{"q":1}') not in data
    assert not standalone.check_bundle(data, []).trusted


async def test_a_bundle_under_another_key_proves_nothing(tmp_path: Path) -> None:
    """A key of the same name does not do, nor does the key in the bundle where another was given."""
    await signed(tmp_path)
    data = proof.bundle(tmp_path / "log", 3)
    with pytest.raises(ValueError, match="not signed by that key"):
        standalone.check_bundle(data, [SigningKey.generate("log.example/veyra").verifier])


async def test_who_knows_an_old_key_can_check_a_bundle_of_a_new_one(tmp_path: Path) -> None:
    """The handings-over in the bundle lead from the key that is known to the one that signed."""
    first = (await signed(tmp_path)).verifier
    last = first
    for _ in range(3):
        custody.rotate(tmp_path / "log", places(tmp_path))
        last = (await signed(tmp_path)).verifier
    data = proof.bundle(tmp_path / "log", 3)
    verdict = standalone.check_bundle(data, [first])
    assert (verdict.trusted, verdict.key) == (True, last)
    forged = json.loads(data)
    forged["handovers"][1]["sig"] = forged["handovers"][0]["sig"]
    with pytest.raises(ValueError, match="did not sign"):
        standalone.check_bundle(json.dumps(forged).encode(), [first])
    forged["handovers"] = forged["handovers"][2:]
    with pytest.raises(ValueError, match="not signed by that key"):
        standalone.check_bundle(json.dumps(forged).encode(), [first])


def _leaf(bundle: dict[str, Any]) -> None:
    bundle["entries"][0]["leaf"] = bundle["entries"][0]["leaf"].replace("m-1", "m-2")


def _body(bundle: dict[str, Any]) -> None:
    part = bundle["entries"][1]["parts"][0]
    part["data"] = b64encode(b64decode(part["data"]) + b" ").decode()


def _salt(bundle: dict[str, Any]) -> None:
    bundle["entries"][1]["parts"][0]["salt"] = "00" * 32


def _place(bundle: dict[str, Any]) -> None:
    bundle["entries"][0]["proof"] = bundle["entries"][0]["proof"].replace("index 3", "index 2")


def _swapped(bundle: dict[str, Any]) -> None:
    first, second = bundle["entries"]
    first["proof"], second["proof"] = second["proof"], first["proof"]


def _resized(bundle: dict[str, Any]) -> None:
    for made in bundle["entries"]:
        made["proof"] = made["proof"].replace("\n8\n", "\n9\n")


def _unsigned(bundle: dict[str, Any]) -> None:
    for made in bundle["entries"]:
        made["proof"] = made["proof"][: made["proof"].rindex("\n\n") + 1]


def _two_points(bundle: dict[str, Any]) -> None:
    made = bundle["entries"][1]
    made["proof"] = made["proof"][: made["proof"].rindex("\n\n") + 1]


@pytest.mark.parametrize("change", [_leaf, _body, _salt, _place, _swapped, _resized, _unsigned, _two_points])
async def test_a_bundle_that_was_changed_is_refused(tmp_path: Path, change: Any) -> None:
    """Leaf, body, salt, place, checkpoint and signature hold one another."""
    key = await signed(tmp_path)
    made = json.loads(proof.bundle(tmp_path / "log", 3, ["response.wire"]))
    change(made)
    for keys in ([key.verifier], []):
        with pytest.raises(ValueError, match=r"\w"):
            standalone.check_bundle(json.dumps(made).encode(), keys)


async def test_the_verifier_beside_a_bundle_needs_nothing_but_python(tmp_path: Path) -> None:
    """Copied away and run isolated, without site packages, it proves, opens, doubts and refuses as the library does."""
    key = await signed(tmp_path)
    data = proof.bundle(tmp_path / "log", 3, ["response.wire"])
    program, file = tmp_path / "verify_proof.py", tmp_path / "bundle.json"
    shutil.copyfile(standalone.__file__, program)

    def run(content: bytes, *arguments: str) -> tuple[int, str]:
        file.write_bytes(content)
        command = [sys.executable, "-I", "-S", str(program), str(file), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd="/")
        return result.returncode, result.stdout + result.stderr

    known = ("--key", key.verifier.text)
    status, output = run(data, *known)
    assert (status, "PROVEN: each entry" in output) == (0, True)
    assert run(data, *known, "--show", "response.wire") == (0, '{"a":1}')
    assert run(data)[0] == 2
    assert run(data.replace(b"m-1", b"m-2"), *known)[0] == 1
    assert run(b"[]", *known)[0] == 1
    assert run(data, "--key", "nonsense")[0] == 2


async def test_what_cannot_be_proven_is_said(tmp_path: Path) -> None:
    """No such entry, no such part, no signature, and an entry after the checkpoint are errors that say so."""
    await signed(tmp_path)
    with pytest.raises(AuditError, match="no entry"):
        proof.bundle(tmp_path / "log", "nothing")
    with pytest.raises(AuditError, match=r"there are request\.wire, response\.wire"):
        proof.bundle(tmp_path / "log", 1, ["request.body"])
    kept = (tmp_path / "log" / "checkpoint").read_bytes()
    await signed(tmp_path)
    (tmp_path / "log" / "checkpoint").write_bytes(kept)
    with pytest.raises(AuditError, match="not covered"):
        proof.bundle(tmp_path / "log", 9)
    (tmp_path / "log" / "checkpoint").unlink()
    with pytest.raises(AuditError, match="no checkpoint"):
        proof.bundle(tmp_path / "log", 1)
    plain = AuditLog(tmp_path / "plain")
    await pair(plain)
    plain.close()
    with pytest.raises(AuditError, match="not signed"):
        proof.bundle(tmp_path / "plain", 1)


async def test_nothing_is_proven_from_a_log_that_was_altered(tmp_path: Path) -> None:
    """Where the entries do not give the checkpoint, no proof is made."""
    lay_down(tmp_path / "a", 20, key := SigningKey.generate("log.example/veyra"))
    lay_down(tmp_path / "b", 20, key)
    (tmp_path / "a" / "checkpoint").write_bytes((tmp_path / "b" / "checkpoint").read_bytes())
    with pytest.raises(AuditCorruptError, match="do not give the root"):
        proof.bundle(tmp_path / "a", 1)
    with pytest.raises(AuditCorruptError, match="do not give the root"):
        tiles.export(tmp_path / "a")


async def test_a_log_goes_on_from_its_own_checkpoints_only(tmp_path: Path) -> None:
    """Consistency is proven with what the log once published, and denied with a fork, another log and a later one."""
    log = opened(tmp_path)
    await signed(tmp_path)
    old = checkpoint.parse((tmp_path / "log" / "checkpoint").read_bytes())
    await signed(tmp_path)
    new, path = proof.prove_consistency(tmp_path / "log", old)
    assert standalone.is_consistent(old, new, path)
    assert log.directory is not None
    for other in (old._replace(root=bytes(32)), old._replace(origin="o"), old._replace(size=99)):
        with pytest.raises(AuditCorruptError, match="does not go on"):
            proof.prove_consistency(tmp_path / "log", other)


async def test_a_tlog_proof_reads_back(tmp_path: Path) -> None:
    """What `encode` writes `parse_proof` reads; extra data, leading zeroes and other headers are not taken."""
    await signed(tmp_path)
    point = proof.read_published(tmp_path / "log")
    made = proof.encode(5, [bytes(32), b"\xff" * 32], point)
    assert standalone.parse_proof(made) == (5, (bytes(32), b"\xff" * 32), point)
    for bad in (
        made.replace(b"index 5", b"index 05"),
        made.replace(b"index 5", b"extra AAAA\nindex 5"),
        made.replace(b"@v1", b"@v2"),
        made.replace(b"AAAA=", b"AAAB="),
        made[: made.index(b"\n\n")],
    ):
        with pytest.raises(ValueError, match=r"\w"):
            standalone.parse_proof(bad)


async def test_leaf_files_prove_the_entries_they_name(tmp_path: Path) -> None:
    """The leaf in a bundle is the entry's exact text."""
    await signed(tmp_path)
    made = json.loads(proof.bundle(tmp_path / "log", 1))
    (intent, outcome) = find(tmp_path / "log", 1)
    assert [entry["leaf"].encode() for entry in made["entries"]] == [intent.raw, outcome.raw]
    assert len(list(read_entries(tmp_path / "log"))) == 8
