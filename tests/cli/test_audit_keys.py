"""`veyra audit key`, `checkpoint`, `prove`, `verify-proof`, `accept-rollback`, and `verify` with what was kept elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import Result

from veyra.audit import find
from veyra.audit.tree import leaf_hash
from veyra.types import Receipt

Run = Callable[..., Result]


@pytest.fixture
def key(veyra: Run) -> str:
    """Record two calls, the second one in a log that has a key; return the verifier key."""
    assert veyra("generate", "first", "-b", "mock").exit_code == 0
    result = veyra("audit", "key", "generate")
    assert result.exit_code == 0
    assert "the signing key is at" in result.stderr
    assert veyra("generate", "second", "-b", "mock").exit_code == 0
    return result.stdout.strip()


def test_a_key_is_made_once_shown_and_replaced(veyra: Run, key: str) -> None:
    """`generate` prints what `show` prints; a second one fails; `rotate` prints the new one."""
    assert veyra("audit", "key", "show").stdout.strip() == key
    again = veyra("audit", "key", "generate")
    assert (again.exit_code, "already" in again.stderr) == (1, True)
    new = veyra("audit", "key", "rotate").stdout.strip()
    assert new != key
    assert veyra("audit", "key", "show").stdout.strip() == new
    for known in (key, new):
        assert veyra("audit", "verify", "--key", known).exit_code == 0


def test_without_a_log_or_a_key_there_is_nothing_to_show(veyra: Run) -> None:
    """Both are said, with status 1."""
    for action in ("show", "rotate"):
        missing = veyra("audit", "key", action)
        assert (missing.exit_code, "no audit log" in missing.stderr) == (1, True)
    veyra("generate", "first", "-b", "mock")
    for action in ("show", "rotate"):
        missing = veyra("audit", "key", action)
        assert (missing.exit_code, "has no key" in missing.stderr) == (1, True)


def test_a_checkpoint_is_kept_and_compared(veyra: Run, key: str, tmp_path: Path, log: Path) -> None:
    """What is printed is the published note; later the log goes on from it, and another log does not."""
    result = veyra("audit", "checkpoint")
    assert result.stdout_bytes == (log / "checkpoint").read_bytes()
    kept = tmp_path / "kept.txt"
    kept.write_bytes(result.stdout_bytes)
    assert json.loads(veyra("audit", "checkpoint", "--json").stdout)["signed"] is True
    veyra("generate", "third", "-b", "mock")
    right = veyra("audit", "checkpoint", "--check", str(kept))
    assert (right.exit_code, right.stdout[:10]) == (0, "CONSISTENT")
    assert json.loads(veyra("audit", "checkpoint", "--check", str(kept), "--json").stdout)["proof"]
    assert veyra("audit", "verify", "--level", "anchors", "--checkpoint", str(kept), "--key", key).exit_code == 0
    kept.write_text(kept.read_text().replace("\n10\n", "\n9\n"))
    wrong = veyra("audit", "checkpoint", "--check", str(kept))
    assert (wrong.exit_code, wrong.stdout[:14]) == (1, "NOT CONSISTENT")
    assert veyra("audit", "verify", "--checkpoint", str(kept)).exit_code == 1


def test_a_receipt_fits_its_entry_only(veyra: Run, key: str, tmp_path: Path, log: Path) -> None:
    """`verify --receipt` takes the JSON of a receipt; one with another hash is a problem, no receipt cannot be decided."""
    entry = find(log, 1)[0]
    origin = json.loads(veyra("audit", "checkpoint", "--json").stdout)["origin"]
    receipt = Receipt(origin=origin, id=entry.leaf["id"], seq=1, leaf_hash=leaf_hash(entry.raw).hex())
    file = tmp_path / "receipt.json"
    for leaf, status in ((receipt.leaf_hash, 0), ("00" * 32, 1)):
        file.write_text(json.dumps(asdict(receipt) | {"leaf_hash": leaf}))
        assert veyra("audit", "verify", "--receipt", str(file)).exit_code == status
    file.write_text("{}")
    assert veyra("audit", "verify", "--receipt", str(file)).exit_code == 2


def test_what_cannot_be_decided_ends_with_status_2(veyra: Run, tmp_path: Path) -> None:
    """No anchor at the level that asks for one, no head where one is said to be, and what is no key."""
    veyra("generate", "first", "-b", "mock")
    assert veyra("audit", "verify").exit_code == 0
    asked = veyra("audit", "verify", "--level", "anchors")
    assert (asked.exit_code, "NOT KNOWN" in asked.stdout) == (2, True)
    assert veyra("audit", "verify", "--head", str(tmp_path)).exit_code == 2
    assert veyra("audit", "verify", "--key", "x").exit_code == 2


def test_a_proof_is_written_and_checked(veyra: Run, key: str, tmp_path: Path) -> None:
    """The bundle proves under the key, is undecided without one, and fails once changed."""
    folder = tmp_path / "evidence"
    result = veyra("audit", "prove", "7", "--open", "response.message", "--out", str(folder))
    assert (result.exit_code, "opened    response.message" in result.stdout) == (0, True)
    names = {"bundle.json", "verify_proof.py", "7.leaf", "7.tlog-proof", "8.leaf", "8.tlog-proof"}
    assert {path.name for path in folder.iterdir()} == names
    file = folder / "bundle.json"
    proven = veyra("audit", "verify-proof", str(file), "--key", key)
    assert (proven.exit_code, "PROVEN" in proven.stdout) == (0, True)
    assert veyra("audit", "verify-proof", str(file)).exit_code == 2
    assert veyra("audit", "verify-proof", str(file), "--key", "x").exit_code == 2
    assert veyra("audit", "verify-proof", str(folder / "none")).exit_code == 2
    file.write_text(file.read_text().replace("mock", "mick"))
    assert veyra("audit", "verify-proof", str(file), "--key", key).exit_code == 1


def test_what_cannot_be_proven_fails(veyra: Run, key: str, tmp_path: Path) -> None:
    """An entry or a part that is not there is an error, and nothing is written."""
    for arguments in (("99",), ("7", "--open", "nothing")):
        assert veyra("audit", "prove", *arguments, "--out", str(tmp_path / "evidence")).exit_code == 1
    assert not (tmp_path / "evidence").exists()


def test_tiles_are_written_beside_or_elsewhere(veyra: Run, key: str, log: Path, tmp_path: Path) -> None:
    """`export --tiles` fills the log's own `tile`, `--out` another directory; other forms do not go with it."""
    assert veyra("audit", "export", "--tiles").exit_code == 0
    assert (log / "tile" / "0" / "000.p" / "10").is_file()
    assert veyra("audit", "export", "--out", str(tmp_path / "site")).exit_code == 0
    assert (tmp_path / "site" / "checkpoint").read_bytes() == (log / "checkpoint").read_bytes()
    assert veyra("audit", "export", "--tiles", "--bodies").exit_code == 2


def test_a_rollback_is_refused_accepted_and_declared(veyra: Run, key: str, log: Path, tmp_path: Path) -> None:
    """`verify` finds it, `generate` refuses, `accept-rollback` records it, and `verify` ends with 3 from then on."""
    nothing = veyra("audit", "accept-rollback")
    assert (nothing.exit_code, "was not rolled back" in nothing.stderr) == (1, True)
    shutil.copytree(log, tmp_path / "backup")
    veyra("generate", "third", "-b", "mock")
    shutil.rmtree(log)
    (tmp_path / "backup").rename(log)
    assert veyra("audit", "verify").exit_code == 1
    refused = veyra("generate", "fourth", "-b", "mock")
    assert (refused.exit_code, "accept-rollback" in refused.stderr) == (1, True)
    assert "had 14 entries" in veyra("audit", "accept-rollback").stdout
    assert veyra("generate", "fourth", "-b", "mock").exit_code == 0
    declared = veyra("audit", "verify")
    assert (declared.exit_code, "declared: entry" in declared.stdout) == (3, True)
