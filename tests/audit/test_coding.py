"""Bodies are compressed where it pays, come back as they were, and cannot blow up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.recording import ask
from veyra.audit import AuditLog, BodyPart, read_entries, verify
from veyra.audit.coding import IDENTITY, MAX_PLAIN, ZSTD, Packer, unpack

PACKER = Packer()
LONG = b'{"role":"user","content":"the same words again and again"},' * 40


@given(st.binary(max_size=200), st.integers(0, 60))
def test_what_was_packed_is_unpacked(data: bytes, times: int) -> None:
    """Whatever the bytes, and however the compressor was used before, they come back."""
    body = data * times
    coding, kept = PACKER.pack(body)
    assert unpack(coding, kept, len(body)) == body
    assert len(kept) <= len(body)


@pytest.mark.parametrize(
    ("body", "coding"),
    [(b"", IDENTITY), (LONG[:1023], IDENTITY), (LONG[:1024], ZSTD), (LONG, ZSTD), (os.urandom(5_000), IDENTITY)],
)
def test_only_what_shrinks_is_compressed(body: bytes, coding: str) -> None:
    """Short bodies and noise are kept as they are."""
    assert PACKER.pack(body)[0] == coding


@pytest.mark.parametrize("size", [0, 1, len(LONG) - 1, len(LONG) + 1, MAX_PLAIN + 1, 2**70])
def test_another_size_than_stated_is_refused(size: int) -> None:
    """A body is as long as its entry says, in each coding."""
    for coding, kept in (PACKER.pack(LONG), (IDENTITY, LONG)):
        with pytest.raises(ValueError, match=r"as long as|of the length|not known"):
            unpack(coding, kept, size)


def test_a_bomb_is_not_unpacked_beyond_what_is_stated() -> None:
    """64 MiB of nothing in a few KB: no more than the stated length is ever made."""
    _, bomb = PACKER.pack(bytes(64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match="of the length"):
        unpack(ZSTD, bomb, 1_000)


@given(st.binary(max_size=300), st.integers(0, 2_000))
def test_any_bytes_are_a_body_or_an_error(data: bytes, at: int) -> None:
    """Bytes that no compressor wrote are refused; nothing else is raised."""
    _, kept = PACKER.pack(LONG)
    for bad in (data, kept[:at], kept[:at] + data + kept[at:], kept + data):
        try:
            assert unpack(ZSTD, bad, len(LONG)) == LONG
        except ValueError:
            continue
        assert bad == kept
    with pytest.raises(ValueError, match="coding 'br'"):
        unpack("br", data, len(data))


async def test_the_leaf_names_the_coding_and_commits_to_the_plain_bytes(tmp_path: Path) -> None:
    """Size and commitment are those of the body itself, and a log with compressed bodies verifies."""
    log = AuditLog(tmp_path)
    parts = [BodyPart("request.messages", LONG, "application/json"), BodyPart("meta", b"{}", "application/json")]
    await log.intent(call="c", attempt=1, backend="mock", attributes={}, parts=parts)
    await ask(log)
    log.close()
    long, short = list(read_entries(tmp_path))[1].parts
    assert [(part.enc, part.size) for part in (long, short)] == [(ZSTD, len(LONG)), (IDENTITY, 2)]
    assert (long.data, short.data) == (LONG, b"{}")
    report = verify(tmp_path)
    assert (report.problems, report.bodies) == ((), 3)
    (file,) = (tmp_path / "seg").iterdir()
    assert LONG not in file.read_bytes()
