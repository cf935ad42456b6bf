"""What others' tools say of our logs: Go's sumdb, transparency-dev's formats and merkle, Tessera's fsck, openssl."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from audit.signing import ORIGIN, lay_down
from veyra.audit import checkpoint, proof, read_entries, saved, tiles, verify
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.keys import SigningKey
from veyra.audit.tree import Tree, leaf_hash

pytestmark = pytest.mark.timeout(600)  # the first build compiles a hundred packages

SMALL = [0, 1, 2, 255, 256, 257]
LARGE = [65_535, 65_536, 65_537, 100_000]
SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: an Ed25519 public key follows


@pytest.fixture(scope="session")
def interop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Go program; skip where there is no Go, or its modules cannot be had."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go here")
    source = Path(__file__).parent / "go"
    fetched = subprocess.run(
        [go, "mod", "download"], cwd=source, capture_output=True, text=True, timeout=300, check=False
    )
    if fetched.returncode:
        pytest.skip(f"the Go modules cannot be had: {fetched.stderr.strip()[:200]}")
    program = tmp_path_factory.mktemp("interop") / "interop"
    subprocess.run([go, "build", "-mod=readonly", "-o", program, "."], cwd=source, timeout=600, check=True)
    return program


@pytest.fixture(scope="module")
def key() -> SigningKey:
    """One key for all of these logs."""
    return SigningKey.generate(ORIGIN)


def _judge(program: Path, asked: dict[str, Any]) -> str:
    """Return what the program says against a site; nothing where it agrees."""
    result = subprocess.run(
        [program], input=json.dumps(asked), capture_output=True, text=True, timeout=300, check=False
    )
    return "" if result.returncode == 0 else result.stderr or "failed"


def _inclusion(directory: Path, point: Checkpoint, leaves: list[bytes], seq: int) -> dict[str, str]:
    wanted = proof.inclusion(seq, point.size)
    found = proof.roots(map(leaf_hash, leaves), wanted)
    made = proof.encode(seq, [found[item] for item in wanted], point)
    return {"leaf": leaves[seq].decode(), "proof": made.decode()}


def _consistency(directory: Path, leaves: list[bytes], size: int) -> dict[str, Any]:
    tree = Tree()
    for leaf in leaves[:size]:
        tree.append(leaf_hash(leaf))
    _, path = proof.prove_consistency(directory, Checkpoint(ORIGIN, size, tree.root()))
    text = [b64encode(item).decode() for item in path]
    return {"size": size, "root": b64encode(tree.root()).decode(), "path": text}


def _some(size: int) -> list[int]:
    """Return sizes and places around which trees and tiles change."""
    near = {0, 1, 2, 3, 127, 254, 255, 256, 257, 65_535, 65_536, size // 2, size // 3, size - 2, size - 1}
    return sorted(seq for seq in near if 0 <= seq < size)


def _asked(directory: Path, site: Path, key: SigningKey) -> dict[str, Any]:
    point = saved.read_checkpoint(directory)
    assert point is not None
    leaves = [entry.raw for entry in read_entries(directory)]
    return {
        "site": str(site),
        "origin": ORIGIN,
        "key": key.verifier.text,
        "inclusion": [_inclusion(directory, point, leaves, seq) for seq in _some(point.size)],
        "consistency": [_consistency(directory, leaves, size) for size in [*_some(point.size), point.size]],
    }


@pytest.mark.parametrize("size", [*SMALL, *(pytest.param(size, marks=pytest.mark.long) for size in LARGE)])
def test_a_log_of_any_size_is_a_site_that_others_verify(
    interop: Path, tmp_path: Path, key: SigningKey, size: int
) -> None:
    """note, tlog, formats, merkle and fsck accept the checkpoint, every tile and bundle, and the proofs, which are theirs."""
    lay_down(tmp_path, size, key, starts=(size // 3, size // 2) if size > 2 else ())
    assert verify(tmp_path).ok
    tiles.export(tmp_path)
    assert _judge(interop, _asked(tmp_path, tmp_path, key)) == ""


def test_every_proof_of_a_log_of_300_entries_is_that_of_others(interop: Path, tmp_path: Path, key: SigningKey) -> None:
    """All inclusion proofs, and consistency with every smaller size, agree with two independent implementations."""
    lay_down(tmp_path, 300, key)
    tiles.export(tmp_path)
    asked = _asked(tmp_path, tmp_path, key)
    point = proof.read_published(tmp_path)
    leaves = [entry.raw for entry in read_entries(tmp_path)]
    asked["inclusion"] = [_inclusion(tmp_path, point, leaves, seq) for seq in range(300)]
    asked["consistency"] = [_consistency(tmp_path, leaves, size) for size in range(301)]
    assert _judge(interop, asked) == ""


@pytest.mark.parametrize(
    "file", ["checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"]
)
def test_the_others_see_a_flipped_bit(interop: Path, tmp_path: Path, key: SigningKey, file: str) -> None:
    """A site with one bit of one file changed is refused: the comparison can fail."""
    lay_down(tmp_path, 300, key)
    tiles.export(tmp_path)
    asked = _asked(tmp_path, tmp_path, key)
    data = bytearray((tmp_path / file).read_bytes())
    data[-5] ^= 1
    (tmp_path / file).write_bytes(data)
    assert _judge(interop, asked) != ""


def test_the_others_refuse_another_key_and_a_wrong_proof(interop: Path, tmp_path: Path, key: SigningKey) -> None:
    """A key of the same name, a proof with a hash less, and a proof of another entry are refused."""
    lay_down(tmp_path, 300, key)
    tiles.export(tmp_path)
    asked = _asked(tmp_path, tmp_path, key)
    assert "note.Open" in _judge(interop, asked | {"key": SigningKey.generate(ORIGIN).verifier.text})
    first, second = asked["inclusion"][:2]
    assert "merkle" in _judge(interop, asked | {"inclusion": [{"leaf": second["leaf"], "proof": first["proof"]}]})
    short = asked["consistency"][5] | {"path": asked["consistency"][5]["path"][1:]}
    assert "consistency" in _judge(interop, asked | {"consistency": [short]})


def test_openssl_verifies_the_signature(tmp_path: Path, key: SigningKey) -> None:
    """The bytes after the key's id are a plain Ed25519 signature over the note's text."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    lay_down(tmp_path, 5, key)
    point = checkpoint.parse((tmp_path / "checkpoint").read_bytes())
    pem = b64encode(SPKI + key.verifier.public).decode()
    (tmp_path / "pub.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n")
    (tmp_path / "sig").write_bytes(point.signatures[0].value)
    for body, is_good in ((point.body, True), (point.body.replace(b"\n5\n", b"\n6\n"), False)):
        (tmp_path / "body").write_bytes(body)
        command = [
            openssl,
            "pkeyutl",
            "-verify",
            "-rawin",
            "-pubin",
            "-inkey",
            "pub.pem",
            "-in",
            "body",
            "-sigfile",
            "sig",
        ]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=20, check=False)
        assert (result.returncode == 0) is is_good, result.stderr
