"""Scripts of the mock in files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from veyra import MockBackend
from veyra.errors import CallTimeoutError, IncompleteStreamError, InvalidRequestError, RateLimitError
from veyra.types import ModelWarning, ToolCall, Usage

TOML = """
[[reply]]
prompt = "Where is my order?"
times = 1
tool_calls = [{ name = "order", arguments = { number = 5 } }, { name = "raw", id = "c9", raw = "{" }]

[[reply]]
prompt = "Where is my order?"
text = ["It ", "ships."]
reasoning = "think"
usage = { input_total = 9 }
warnings = [{ code = "w", message = "m" }]
finish_reason = "length"

[[reply]]
pattern = "(?i)refund"
output = { category = "billing" }

[[reply]]
pattern = "slow"
error = { type = "RateLimitError", retry_after = 3, status = 429, message = "too fast" }

[[reply]]
pattern = "late"
error = { type = "CallTimeoutError", phase = "total", limit = 5 }

[[reply]]
pattern = "broken"
fault = "cut@event=3"

[[reply]]
text = "once"
"""


def _written(directory: Path, name: str, text: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _as_lines(directory: Path) -> Path:
    replies = tomllib.loads(TOML)["reply"]
    return _written(directory, "s.jsonl", "\n\n".join(json.dumps(reply) for reply in replies) + "\r\n")


@pytest.fixture(params=["toml", "jsonl"])
def mock(request: pytest.FixtureRequest, tmp_path: Path) -> MockBackend:
    path = _written(tmp_path, "s.toml", TOML) if request.param == "toml" else _as_lines(tmp_path)
    return MockBackend.from_file(path, model="m-1")


async def test_both_forms_say_the_same(mock: MockBackend) -> None:
    """Each field of a reply can stand in a file, and each form of file gives the same answers."""
    asked = await mock.generate("Where is my order?")
    assert asked.tool_calls == (
        ToolCall("call-1-1", "order", {"number": 5}, '{"number":5}'),
        ToolCall("c9", "raw", None, "{"),
    )
    answer = await mock.generate("Where is my order?")
    assert (answer.content, answer.reasoning, answer.finish_reason, answer.model) == (
        "It ships.",
        "think",
        "length",
        "m-1",
    )
    assert (answer.usage, answer.warnings) == (Usage(input_total=9), (ModelWarning("w", "m"),))
    assert (await mock.generate("My REFUND!")).content == '{"category":"billing"}'
    with pytest.raises(RateLimitError, match="too fast") as limited:
        await mock.generate("slow")
    assert (limited.value.status, limited.value.retry_after) == (429, 3)
    with pytest.raises(CallTimeoutError) as late:
        await mock.generate("late")
    assert (late.value.phase, late.value.limit) == ("total", 5)
    with pytest.raises(IncompleteStreamError) as cut:
        async with mock.stream("broken") as reply:
            async for _ in reply:
                pass
    assert cut.value.partial == "This is "
    assert (await mock.generate("anything")).content == "once"
    with pytest.raises(InvalidRequestError, match="no reply for 'anything'"):
        await mock.generate("anything")


async def test_a_reply_is_finished_when_it_was_given_as_often_as_it_says(tmp_path: Path) -> None:
    """`times` is how often it answers, and how often it has to."""
    mock = MockBackend(_written(tmp_path, "s.jsonl", '{"text": "twice", "times": 2}'))
    await mock.generate("a")
    with pytest.raises(AssertionError, match="1 reply of the mock's script not given"):
        mock.assert_finished()
    await mock.generate("b")
    mock.assert_finished()


async def test_a_byte_order_mark_is_no_part_of_a_script(tmp_path: Path) -> None:
    """What some editors put in front of UTF-8 is passed over."""
    path = _written(tmp_path, "s.jsonl", b'\xef\xbb\xbf{"text": "caf\xc3\xa9"}')
    assert (await MockBackend(path).generate("hi")).content == "café"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no reply in it"),
        ("reply = 5", r"reply is a list of tables: write \[\[reply\]\]"),
        ("[reply]\ntext='x'", r"reply is a list of tables: write \[\[reply\]\]"),
        ("[[replies]]", "unknown key 'replies': a script has tables"),
        ("[[reply]]\nt = =", r"it is not TOML: .*line 2"),
        ("a = " + "[" * 5000, "it is not TOML"),
        ("[[reply]]", "reply 1: the reply says nothing"),
        ("[[reply]]\nprompt = 'x'", "reply 1: the reply says nothing"),
        ("[[reply]]\ntext = 'x'\n[[reply]]\ntxt = 'x'", "reply 2: unknown key 'txt'; did you mean 'text'"),
        ("[[reply]]\ntext = 'x'\nprompt = 5", "reply 1: prompt is a text, not 5"),
        ("[[reply]]\ntext = 'x'\npattern = '('", "pattern is no regular expression: missing"),
        ("[[reply]]\ntext = 'x'\npattern = 'x'\nprompt = 'x'", "give one of the two"),
        ("[[reply]]\ntext = 'x'\ntimes = 0", "times is a number, 1 or more, not 0"),
        ("[[reply]]\ntext = 'x'\ntimes = true", "times is a number, 1 or more, not True"),
        ("[[reply]]\ntext = 5", "reply 1: a reply's text is a str"),
        ("[[reply]]\ntool_calls = 5", "tool_calls is a list of tables, not 5"),
        ("[[reply]]\ntool_calls = [5]", "tool_calls is a table, not 5"),
        ("[[reply]]\ntool_calls = [{}]", "tool_calls have a name each"),
        ("[[reply]]\ntool_calls = [{nam = 'x'}]", "tool_calls has an unknown key 'nam'; did you mean 'name'"),
        ("[[reply]]\ntool_calls = [{name = 5}]", "tool_calls has name of the type str, not 5"),
        ("[[reply]]\nusage = {input = 5}", "usage has an unknown key 'input'; did you mean 'input_total'"),
        ("[[reply]]\nusage = {input_total = -5}", "usage has a count below 0"),
        ("[[reply]]\nwarnings = 'x'", "warnings is a list of tables"),
        ("[[reply]]\nerror = 'RateLimit'", "error names 'RateLimit', which is no error .*'RateLimitError'"),
        ("[[reply]]\nerror = {status = 5}", "error names None, which is no error"),
        ("[[reply]]\nerror = {type = 'ServerError', status = '5'}", "error has status of the type int, not '5'"),
        ("[[reply]]\nerror = 'CallTimeoutError'", "CallTimeoutError takes a limit in seconds, and a phase"),
        ("[[reply]]\nfault = 'cutt@event=1'", "reply 1: fault 'cutt': "),
        ("[[reply]]\nfault = 5", "fault is a text, not 5"),
        ("[[reply]]\nfinish_reason = 'end'", "finish_reason is a finish reason of ours"),
        ("[[reply]]\ntext = 'x'\npace = '1'", "pace is a number of seconds"),
        (b"[[reply]]\ntext = '\xff'", "cannot be read: it is not UTF-8"),
        ("[[reply]]\ntext = 'x'\x00", "it is not TOML"),
    ],
)
def test_what_is_wrong_in_a_script_is_told(text: Any, complaint: str, tmp_path: Path) -> None:
    """The message names the file, the reply, the key, and what was there."""
    path = _written(tmp_path, "s.toml", text)
    with pytest.raises(InvalidRequestError, match=complaint) as caught:
        MockBackend.from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1000 + len(str(path))


@pytest.mark.parametrize("text", ["{", "5", "[]", "[" * 100_000, '{"text": "x"} {}', "\x00"])
def test_what_is_wrong_in_lines_is_told(text: str, tmp_path: Path) -> None:
    """A line that is no reply is named by its number."""
    path = _written(tmp_path, "s.jsonl", '{"text": "x"}\n\n' + text)
    with pytest.raises(InvalidRequestError, match="line 3: "):
        MockBackend.from_file(path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is not there, a directory, and a file of another kind are told in one line."""
    (tmp_path / "d.toml").mkdir()
    for name, complaint in {
        "no.toml": "No such file",
        "d.toml": "Is a directory",
        "s.yaml": r"ends in \.toml or \.jsonl",
    }.items():
        with pytest.raises(InvalidRequestError, match=complaint):
            MockBackend(tmp_path / name)
    with pytest.raises(InvalidRequestError, match=r"cannot be read: .*null"):
        MockBackend(Path("a\0b.toml"))
    assert [path.name for path in tmp_path.iterdir()] == ["d.toml"]
