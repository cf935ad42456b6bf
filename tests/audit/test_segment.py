"""The heads of segments and the checkpoint: strict to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from veyra.audit import checkpoint, segment
from veyra.audit.checkpoint import Checkpoint
from veyra.audit.files import created, write_all
from veyra.audit.segment import Head

HEAD = Head(origin="veyra-log/x", index=3, first=2, peaks=(b"p" * 32,), created=17)
POINT = Checkpoint("veyra-log/x", 7, bytes(range(32)))


def _read(path: Path, data: bytes) -> tuple[Head, int]:
    path.write_bytes(data)
    with segment.opened(path) as fd:
        return segment.read(fd)


def test_a_head_is_read_back(tmp_path: Path) -> None:
    """Head and tree come back, and the first frame begins right after."""
    data = segment.encode(HEAD)
    assert _read(tmp_path / "s", data + b"frames") == (HEAD, len(data))
    assert HEAD.tree().size == 2


def test_every_flipped_bit_and_every_cut_of_a_head_is_found(tmp_path: Path) -> None:
    """No changed or shortened head is taken for one."""
    data = segment.encode(HEAD)
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 0x10
        for wrong in (bytes(bad), data[:position]):
            with pytest.raises(ValueError, match=r"head of a segment"):
                _read(tmp_path / "s", wrong)


def test_peaks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """A head whose hashes cannot be the tree before it is not read, though its CRC is right."""
    wrong = Head(origin="o", index=0, first=3, peaks=(b"p" * 32,), created=1)
    with pytest.raises(ValueError, match="cannot be read"):
        _read(tmp_path / "s", segment.encode(wrong))


def test_segments_are_listed_in_order(tmp_path: Path) -> None:
    """Only segments are listed, by number; a directory without a log has none."""
    assert segment.listed(tmp_path) == []
    (tmp_path / "seg").mkdir()
    for name in ("00000002.vseg", "00000000.vseg", "00000001.vseg.new", "x"):
        (tmp_path / "seg" / name).touch()
    assert [path.name for path in segment.listed(tmp_path)] == ["00000000.vseg", "00000002.vseg"]


def test_a_checkpoint_is_the_body_of_a_note() -> None:
    """Origin, size and root, a line each, as tlog-checkpoint has them."""
    text = checkpoint.encode(POINT)
    assert text == b"veyra-log/x\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert checkpoint.parse(text) == POINT


def test_every_flipped_bit_of_a_checkpoint_is_refused_or_says_something_else() -> None:
    """A changed checkpoint is either no checkpoint or visibly another one: it is never read as the same."""
    data = checkpoint.encode(POINT)
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 1
        try:
            assert checkpoint.parse(bytes(bad)) != POINT
        except ValueError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"o\n7\n",
        checkpoint.encode(POINT)[:-1],
        checkpoint.encode(POINT) + b"\n",
        checkpoint.encode(POINT).replace(b"\n7\n", b"\n07\n"),
        checkpoint.encode(POINT).replace(b"\n7\n", b"\n+7\n"),
        checkpoint.encode(POINT).replace(b"\n7\n", b"\n-7\n"),
        checkpoint.encode(POINT).replace(b"\n", b"\r\n"),
        b"o\n7\nAAAA\n",
        b"\xff\n7\n\n",
        b"\n7\n" + checkpoint.encode(POINT).split(b"\n")[2] + b"\n",
    ],
)
def test_what_the_log_would_not_write_is_no_checkpoint(data: bytes) -> None:
    """The parser takes only what the printer prints."""
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoint.parse(data)


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A file that fails while it is written leaves neither itself nor a trace, and does not touch the old one."""
    path = tmp_path / "f"
    with created(path) as fd:
        write_all(fd, b"old")
    with pytest.raises(OSError, match="full"), created(path) as fd:
        write_all(fd, b"half")
        msg = "full"
        raise OSError(msg)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
