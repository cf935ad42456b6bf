"""Reading quickly reads the same: runs of frames, and leaves by their types."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.recording import filled
from veyra.audit import AuditLog, BodyPart, frame, read_entries, segment
from veyra.audit.entry import Attempt, intent, outcome, parse, seal, session_open
from veyra.audit.line import Line, line_of, read_line
from veyra.audit.walk import Walk

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.text(max_size=5))


def _both(directory: Path) -> tuple[list[tuple[int, int, bytes]], list[tuple[int, int, bytes]], object, object]:
    """Read a log by frames and by runs: number, offset and leaf of each, and the fault at the end."""
    slow, quick = Walk(directory), Walk(directory)
    frames = [(item.seq, item.offset, item.leaf) for _, item in slow]
    runs = [
        (run.seq + number, offset, leaf)
        for _, run in quick.runs()
        for number, (offset, leaf) in enumerate(zip(run.offsets, run.leaves, strict=True))
    ]
    return frames, runs, slow.fault, quick.fault


@pytest.mark.parametrize("chunk", [80, 1_000, 3_000, 1 << 20])
async def test_runs_are_the_frames(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read at once, also where a frame is larger than that, runs hold the same frames."""
    monkeypatch.setattr(frame, "_CHUNK", chunk)
    await filled(tmp_path / "log", 5)
    log = AuditLog(tmp_path / "log")
    await log.intent(call="c", attempt=1, backend="b", attributes={}, parts=[BodyPart("x", b"y" * 5_000, "text")])
    log.close()
    frames, runs, *faults = _both(tmp_path / "log")
    assert frames == runs
    assert len(runs) == 16
    assert faults == [None, None]


async def test_runs_end_where_frames_do(tmp_path: Path) -> None:
    """With any byte hit or the file cut anywhere, both read the same frames and tell the same fault."""
    await filled(tmp_path, 2)
    file = segment.path(tmp_path, 0)
    good = file.read_bytes()
    for position in range(0, len(good), 7):
        for bad in (good[:position], good[:position] + bytes([good[position] ^ 64]) + good[position + 1 :]):
            file.write_bytes(bad)
            frames, runs, slow, quick = _both(tmp_path)
            assert frames == runs
            assert slow == quick


@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=5), st.text(max_size=10), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_leaf_read_by_its_types_is_the_leaf(attributes: dict[str, object], name: str, is_ended: bool) -> None:
    """Whatever a leaf says, what is read quickly of it is what `parse` reads."""
    attempt = Attempt(name, 1, name)
    draft = intent(attempt, attributes=attributes)
    if is_ended:
        draft = outcome(attempt, intent=name, status="error", latency_ns=3, attributes=attributes)
    leaf = seal(draft, "s", 7).leaf
    assert read_line(leaf) == line_of(parse(leaf))
    assert seal(session_open(pid=1, mode=""), "s", 0).leaf.startswith(b'{"v":1,"kind":"session.open"')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":1', b'"v":1,"v":1'),
        (b'"attempt":1', b'"attempt":1.0'),
        (b'"attempt":1', b'"attempt":-1'),
        (b'"attempt":1', b'"attempt":true'),
        (b'"wseq":2', b'"wseq":"2"'),
        (b'"status":"ok"', b'"status":"so"'),
        (b'"t":"1', b'"t":"x'),
        (b'"latency":"1', b'"latency":"-'),
        (b'"attributes":{', b'"attributes":{"a":1,"a":1,'),
        (b'"size":7', b'"size":7,"size":7'),
        (b'"size":7', b'"size":-7'),
        (b'"parts":[', b'"parts":[null,'),
        (b'"call":', b'"tenant":"x","call":'),
        (b"}]}", b"}]}\n"),
        (b"}]}", b"}]"),
        (b'"c1"', b'"c\xe9"'),
    ],
)
async def test_what_parse_refuses_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Quickness is no laxness: a leaf that is not as the log writes it is refused, however it is read."""
    await filled(tmp_path, 2)
    leaf = next(entry.raw for entry in read_entries(tmp_path) if entry.seq == 2 + 2 * (old == b'"c1"'))
    assert old in leaf
    bad = leaf.replace(old, new)
    for read in (parse, read_line):
        with pytest.raises(ValueError):  # noqa: PT011  (each says it in words of its own)
            read(bad)


async def test_keys_of_a_later_version_are_taken(tmp_path: Path) -> None:
    """A key after those known here is kept by `parse` and no matter to a line; so is white space and an escape."""
    await filled(tmp_path, 1)
    leaf = next(entry.raw for entry in read_entries(tmp_path) if entry.seq == 2)
    for other in (leaf[:-1] + b',"later":{"a":[]}}', leaf.replace(b'"ok"', b'"\\u006fk"'), leaf.replace(b":", b": ")):
        assert read_line(other) == read_line(leaf) == line_of(parse(leaf))
    assert isinstance(read_line(leaf), Line)
