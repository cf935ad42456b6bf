"""Signing keys and where they lie."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from veyra.audit import keys
from veyra.audit.keys import Places, SigningKey
from veyra.errors import AuditError

GO = "PRIVATE KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
"""The key in the documentation of golang.org/x/mod/sumdb/note, and what belongs to it there."""
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_the_key_of_gos_documentation_signs_as_it_does_there() -> None:
    """Its public half, its hash and its signature are those that Go's package shows."""
    key = SigningKey.parse(GO)
    assert key.verifier.text == GO_VERIFIER
    assert key.encode() == GO
    assert key.verifier.id + key.sign(GO_TEXT) == b64decode(GO_SIGNATURE)


def test_a_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    """It has mode 0600 in a directory of 0700, and holds one key or two."""
    path = tmp_path / "keys" / "a.key"
    new, old = SigningKey.generate("a"), SigningKey.generate("a")
    keys.write(path, old)
    assert keys.read(path) == (old,)
    keys.write(path, new, old)
    assert keys.read(path) == (new, old)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [child.name for child in path.parent.iterdir()] == ["a.key"]


@pytest.mark.parametrize(
    "text", ["", "x\n", GO.removeprefix("PRIVATE KEY+"), GO.replace("c7", "c8"), GO[:-1], f"{GO}\n" * 3]
)
def test_what_is_no_key_file_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    """Neither message nor representation of a key shows any of it."""
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(AuditError, match="cannot be used") as caught:
        keys.read(path)
    assert "AYEKFALV" not in str(caught.value)
    assert "AYEKFALV" not in repr(SigningKey.parse(GO))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
def test_a_name_that_a_note_cannot_hold_is_refused(name: str) -> None:
    """Spaces, plus signs and control characters would break the signature line."""
    with pytest.raises(ValueError, match="name"):
        SigningKey.generate(name)


def test_a_key_that_cannot_be_read_is_an_error_and_a_missing_one_another(tmp_path: Path) -> None:
    """Only a file that is not there means: no key."""
    with pytest.raises(AuditError, match="cannot be used"):
        keys.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        keys.read(tmp_path / "none")


def test_places_are_given_or_set_or_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was passed goes before the environment, and that before the user's state directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    origin = "log.example/a"
    usual = Places()
    assert usual.key_of(origin).name == "log.example%2Fa.key"
    assert usual.head_of(origin).name == "log.example%2Fa.head"
    assert usual.key_of(origin).parents[1] == usual.head_of(origin).parents[1]
    assert not usual.key_is_asked_for()
    monkeypatch.setenv("VEYRA_AUDIT_KEY", str(tmp_path / "set.key"))
    monkeypatch.setenv("VEYRA_AUDIT_HEADS", str(tmp_path / "set"))
    assert usual.key_of(origin) == tmp_path / "set.key"
    assert usual.head_of(origin) == tmp_path / "set" / "log.example%2Fa.head"
    assert usual.key_is_asked_for()
    given = Places(tmp_path / "given.key", tmp_path / "given")
    assert given.key_of(origin) == tmp_path / "given.key"
    assert given.head_of(origin).parent == tmp_path / "given"


def test_a_logs_name_leads_to_no_other_directory() -> None:
    """Whatever a log calls itself, its files are named within theirs."""
    for origin in ("../../x", "/etc/x", "a/../b", "..", "a\0b"):
        assert "/" not in keys.file_name(origin)
        assert "\0" not in keys.file_name(origin)
