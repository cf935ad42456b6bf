"""The single-file verifier: signatures, notes, and that it ends and never says yes to what was altered."""

from __future__ import annotations

import json
import random
import time
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from audit.signing import lay_down, places, signed
from veyra.audit import checkpoint, custody, proof, saved, segment, standalone, verify
from veyra.audit.anchors import Anchors
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.keys import SigningKey
from veyra.errors import AuditError

L = 2**252 + 27742317777372353535851937790883648493

RFC8032 = [  # section 7.1, tests 1 to 3: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), RFC8032)
def test_the_vectors_of_rfc_8032_verify(public: str, message: str, signature: str) -> None:
    """The standard's own signatures are right."""
    assert standalone.is_signature(*map(bytes.fromhex, (public, message, signature)))


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.integers(0, 511), st.integers(0, 2))
def test_signatures_are_judged_as_cryptography_judges_them(message: bytes, seed: bytes, bit: int, what: int) -> None:
    """A good signature is accepted; with any bit of key, message or signature flipped both say the same."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    parts = [key.public_key().public_bytes_raw(), message or b"x", key.sign(message or b"x")]
    assert standalone.is_signature(*parts)
    changed = bytearray(parts[what])
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    parts[what] = bytes(changed)
    try:
        Ed25519PublicKey.from_public_bytes(parts[0]).verify(parts[2], parts[1])
    except (InvalidSignature, ValueError):
        assert not standalone.is_signature(*parts)
    else:
        assert standalone.is_signature(*parts)


def test_a_signature_has_one_form() -> None:
    """S plus the group's order, another length, and keys that are no point or written with y >= p are refused."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public, signature = key.public_key().public_bytes_raw(), key.sign(b"m")
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
    for bad in (other, signature[:-1], signature + b"\0", b""):
        assert not standalone.is_signature(public, b"m", bad)
    for bad in (b"", bytes(31), b"\x02" + bytes(31), b"\xee" + b"\xff" * 30 + b"\x7f", b"\x01" + bytes(30) + b"\x80"):
        assert not standalone.is_signature(bad, b"m", signature)


# --------------------------------------------------------------------------------------------- keys and notes


def test_a_verifier_key_reads_back_in_one_spelling() -> None:
    """NAME+HASH+BASE64 is taken as Go writes it, and in no other way."""
    text = SigningKey.generate("log.example/a").verifier.text
    assert standalone.parse_key(text).text == text
    name, digest, data = text.split("+", 2)
    for bad in (
        "",
        text.upper(),
        f"{name}+{digest}",
        f"other+{digest}+{data}",
        f"{name}+00000000+{data}",
        f"{name}+{digest}+{data}=",
        f"{name}+{digest}+{b64encode(b'x' * 33).decode()}",
        f" {text}",
        text.replace(name, "a b"),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            standalone.parse_key(bad)


def _note() -> tuple[SigningKey, Checkpoint, bytes]:
    key = SigningKey.generate("log.example/a")
    point = Checkpoint("log.example/a", 7, bytes(range(32)))
    point = point._replace(signatures=(key.signature(point),))
    return key, point, checkpoint.encode(point)


def test_a_signed_checkpoint_reads_back_and_verifies() -> None:
    """Under the key it is signed; under others it is not; lines of keys that are not known are left alone."""
    key, point, note = _note()
    assert checkpoint.parse(note) == point
    assert point.is_signed_by(key.verifier)
    other = SigningKey.generate("log.example/a")
    assert not point.is_signed_by(other.verifier)
    both = point._replace(signatures=(other.signature(point), *point.signatures))
    assert checkpoint.parse(checkpoint.encode(both)).is_signed_by(key.verifier)
    wrong = point._replace(signatures=(point.signatures[0]._replace(value=bytes(64)),))
    with pytest.raises(ValueError, match="not right"):
        checkpoint.parse(checkpoint.encode(wrong)).is_signed_by(key.verifier)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n7\n", b"\n07\n"),
        (b"\n7\n", b"\n-7\n"),
        (b"\n7\n", b"\n7 \n"),
        (b"log.example/a\n7", b"\n7"),
        (b"\n7\n", b"\n7\n\n"),
        (b"\n\n", b"\nextension\n\n"),
        (b"\n\n", b"\n"),
        (b"\xe2\x80\x94 ", b"- "),
        (b"\xe2\x80\x94 ", b"\xe2\x80\x94  "),
        (b"log.example/a ", b"log.example+a "),
        (b"7", b"7\r"),
        (b"7", b"\xff"),
    ],
)
def test_a_note_has_one_form(old: bytes, new: bytes) -> None:
    """Spaces, zeroes, extension lines, other dashes and control characters are refused."""
    _, _, note = _note()
    assert old in note
    with pytest.raises(ValueError, match="tlog-checkpoint"):
        checkpoint.parse(note.replace(old, new, 1))
    with pytest.raises(ValueError, match="tlog-checkpoint"):
        checkpoint.parse(note + b"\n")


def test_a_note_is_bounded() -> None:
    """More signatures or bytes than a checkpoint may have are refused."""
    _, point, _ = _note()
    many = point._replace(signatures=point.signatures * (standalone.MAX_SIGNATURES + 1))
    with pytest.raises(ValueError, match="tlog-checkpoint"):
        checkpoint.parse(checkpoint.encode(many))
    with pytest.raises(ValueError, match="too long"):
        standalone.parse_checkpoint(b"x" * (standalone.MAX_NOTE + 1))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_refused_and_never_crash(data: bytes) -> None:
    """Notes, proofs and bundles of any bytes end in a `ValueError`."""
    for parse in (standalone.parse_checkpoint, standalone.parse_proof, lambda text: standalone.check_bundle(text, [])):
        with pytest.raises(ValueError, match=r"\w|^$"):
            parse(data)


_json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))


@given(st.fixed_dictionaries({"veyra.proof": st.just(1), "key": _json, "handovers": _json, "entries": _json}))
def test_any_json_in_a_bundle_is_refused_and_never_crashes(bundle: dict[str, object]) -> None:
    """Values of other types in a bundle's places end in a `ValueError`."""
    with pytest.raises(ValueError, match=r"\w"):
        standalone.check_bundle(json.dumps(bundle).encode(), [])


# ------------------------------------------------------------------------------------------------ hostile input


def _mutated(chance: random.Random, good: bytes) -> bytes:
    """Overwrite, cut, double or insert bytes, flip bits, or put in a piece from elsewhere."""
    bad = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at, length = chance.randrange(len(bad) + 1), chance.randrange(1, 64)
        match chance.randrange(6):
            case 0:
                bad[at : at + length] = chance.randbytes(length)
            case 1:
                del bad[at : at + length]
            case 2:
                bad[at:at] = bad[max(at - length, 0) : at]
            case 3:
                bad[at:at] = chance.choice((b"\n\n", b"\0", b"+", b"9" * 40, b"[" * 40, b'"', b"\xe2\x80\x94 "))
            case 4 if bad:
                bad[at % len(bad)] ^= 1 << chance.randrange(8)
            case _:
                start = chance.randrange(len(good))
                bad[at : at + length] = good[start : start + length]
    return bytes(bad)


async def _hostile(root: Path, count: int) -> None:
    """Try so many mutated logs, checkpoints, proofs and bundles; each is refused, in bounded processor time."""
    await signed(root, 2)
    custody.rotate(root / "log", places(root))
    key = (await signed(root, 1)).verifier
    log = root / "log"
    bundle = proof.bundle(log, 3, ["request.wire", "response.wire"])
    made = json.loads(bundle)["entries"][0]
    point, raw = proof.read_published(log), (log / "checkpoint").read_bytes()
    frames = segment.path(log, 0).read_bytes()
    head = Anchors(keys=(key,), points={"head": point})
    chance, longest = random.Random(11), 0.0
    counts = {"log": 0, "checkpoint": 0, "tlog-proof": 0, "bundle": 0}
    for number in range(count):
        kind = list(counts)[number % 4]
        began = time.thread_time()
        if kind == "log":
            bad = _mutated(chance, frames)
            segment.path(log, 0).write_bytes(bad)
            report = verify(log, anchors=head)
            # Bytes after the last entry are what a crash leaves: told, and no entry is lost or changed by them.
            is_torn = any("torn tail" in notice for notice in report.notices) and report.root == point.root.hex()
            assert bad == frames or is_torn or not report.ok
            segment.path(log, 0).write_bytes(frames)
        elif kind == "checkpoint":
            bad = _mutated(chance, raw)
            (log / "checkpoint").write_bytes(bad)
            assert _is_same(bad, point) or not verify(log, level="tree", anchors=head).ok
            (log / "checkpoint").write_bytes(raw)
        elif kind == "tlog-proof":
            good = made["proof"].encode()
            _assert_unproven(_mutated(chance, good), good, made["leaf"].encode(), key)
        else:
            bad = _mutated(chance, bundle)
            _assert_same_or_refused(bad, bundle, key)
        counts[kind] += 1
        longest = max(longest, time.thread_time() - began)
    print(f"{counts}: none was taken for good; the longest took {longest * 1000:.0f} ms of processor time")
    assert longest < 2


def _is_same(bad: bytes, point: Checkpoint) -> bool:
    """Tell whether a mutated note still says the same under the same key, its other lines apart."""
    try:
        found = checkpoint.parse(bad)
    except ValueError:
        return False
    return found.body == point.body and set(point.signatures) <= set(found.signatures)


def _assert_unproven(bad: bytes, good: bytes, leaf: bytes, key: standalone.Key) -> None:
    """A mutated proof is refused, is under no signature of the key, or says what the good one says."""
    try:
        found = standalone.parse_proof(bad)
        standalone.check_proof(leaf, found)
        is_signed = found.checkpoint.is_signed_by(key)
    except ValueError:
        return
    expected = standalone.parse_proof(good)
    assert not is_signed or (found.seq, found.path) == (expected.seq, expected.path)


def _assert_same_or_refused(bad: bytes, good: bytes, key: standalone.Key) -> None:
    try:
        verdict = standalone.check_bundle(bad, [key])
    except ValueError:
        return
    expected = standalone.check_bundle(good, [key])
    assert [entry[:2] for entry in verdict.entries] == [entry[:2] for entry in expected.entries]
    for entry, other in zip(verdict.entries, expected.entries, strict=True):
        assert all(part in other.parts for part in entry.parts)


async def test_a_thousand_hostile_inputs_are_refused_in_bounded_time(tmp_path: Path) -> None:
    """Mutated logs, checkpoints, proofs and bundles end within two seconds of processor time each, and none passes for something else."""
    await _hostile(tmp_path, 1_000)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_a_hundred_thousand_hostile_inputs_are_refused_in_bounded_time(tmp_path: Path) -> None:
    """The same, a hundred times as many."""
    await _hostile(tmp_path, 100_000)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b'{"veyra.proof":1e999}', b"{}"]
)
def test_deep_and_long_json_is_refused(content: bytes) -> None:
    """Nesting, huge numbers and missing keys are errors, not crashes."""
    with pytest.raises(ValueError, match=r"\w"):
        standalone.check_bundle(content, [])


def test_a_log_of_hostile_rotations_ends(tmp_path: Path) -> None:
    """A log laid down by somebody with a key of his own is refused by who knows another key, whatever it says."""
    lay_down(tmp_path, 10, SigningKey.generate("log.example/veyra"))
    assert verify(tmp_path).ok
    report = verify(tmp_path, anchors=Anchors(keys=(SigningKey.generate("log.example/veyra").verifier,)))
    assert [problem.code for problem in report.problems] == ["signature"]
    assert saved.read_checkpoint(tmp_path) is not None
    with pytest.raises(AuditError, match="no key"):
        custody.rotate(tmp_path, places(tmp_path))
