"""`veyra replay`: what is shown of calls that are made again, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from replay.recording import CALLING, KEY, Asked, call, streamed, whole
from veyra import AuditLog, BaseModelBackend, MockBackend, ModelResponse, get_backend, register_backend
from veyra.audit import segment
from veyra.errors import RateLimitError
from veyra.models.base import Exchange
from veyra.models.endpoints import ENDPOINTS
from veyra.models.wire import WireBackend
from veyra.policy.prices import cost
from veyra.transport.base import Head
from veyra.transport.tape import Tape
from veyra.types import Event, Finish, Usage
from veyra.wire.base import Decoder, Flags
from veyra.wire.ollama import Ollama
from wires import HELLO

Run = Callable[..., Result]


@pytest.fixture
async def calls(log: Path) -> None:
    """Record four calls: of Chat Completions, of Ollama with tools, of the mock, and one of Ollama that failed."""
    recorder = AuditLog(log)
    await call(recorder, "chat", Asked(step=whole("chat"), stream=False), "Where is it?")
    await call(recorder, "ollama", Asked(step=streamed("ollama", CALLING)))
    await get_backend("mock", audit=recorder).generate("Hi")
    await call(recorder, "ollama", Asked(step=replace(whole("ollama"), status=503), stream=False))
    await recorder.aclose()


@pytest.fixture
def changed() -> None:
    """Let Ollama's decoder count tokens otherwise, and end answers with another word."""

    class Other(Decoder):
        def __init__(self, inner: Decoder) -> None:
            self._inner = inner

        def feed(self, data: bytes) -> Any:
            return map(self._change, self._inner.feed(data))

        def close(self) -> Any:
            return map(self._change, self._inner.close())

        @property
        def done(self) -> bool:  # type: ignore[override]
            return self._inner.done

        @staticmethod
        def _change(event: Event) -> Event:
            if not isinstance(event, Finish):
                return event
            return replace(event, raw_reason="\x1b[2J", usage=Usage(input_total=70, output_total=4))

    class Dialect(Ollama):
        def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
            return Other(super().decoder(head, flags, stream=stream))

    endpoint = replace(ENDPOINTS["ollama"], dialect=Dialect)
    register_backend("ollama", lambda **options: WireBackend(endpoint, **options))


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# ------------------------------------------------------------------------------------------------ decoding


@pytest.mark.usefixtures("calls")
def test_a_log_that_decodes_as_it_did_ends_well(veyra: Run) -> None:
    """Where nothing differs that is said, with what had nothing to decode, and the status is 0."""
    result = veyra("replay")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "5 mock, mock, ok: had nothing to decode; the backend mock has no bytes on record",
        "3 calls decoded again: nothing differs.",
    ]


@pytest.mark.usefixtures("calls", "changed")
def test_what_differs_is_shown_by_field(veyra: Run) -> None:
    """Each call that differs is named, with the fields and both values, and the status is 1."""
    result = veyra("replay")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:4] == [
        "3 ollama, m-1, ok: 2 differences",
        '  gen_ai.response.finish_reasons[0]: recorded "stop", today "\\u001b[2J"',
        "  gen_ai.usage.input_tokens: recorded 7, today 70",
        "5 mock, mock, ok: had nothing to decode; the backend mock has no bytes on record",
    ]
    assert result.stdout.endswith("3 calls decoded again: 1 call differs.\n")
    assert "\x1b" not in result.stdout


@pytest.mark.usefixtures("calls", "changed")
def test_json_has_an_object_for_each_call(veyra: Run) -> None:
    """`--json` prints each call with its differences or why it was passed over, and then the totals."""
    result = veyra("replay", "--json")
    assert result.exit_code == 1
    *found, last = rows(result)
    assert [(row["seq"], row["backend"], bool(row["skipped"]), len(row["differences"])) for row in found] == [
        (1, "openai", False, 0),
        (3, "ollama", False, 2),
        (5, "mock", True, 0),
        (7, "ollama", False, 0),
    ]
    assert found[1]["differences"][1] == {"field": "gen_ai.usage.input_tokens", "recorded": 7, "today": 70}
    assert last == {"totals": {"decoded": 3, "differing": 1, "skipped": 1}}


@pytest.mark.usefixtures("calls", "changed")
def test_a_field_that_is_on_one_side_only_has_one_value(veyra: Run) -> None:
    """In JSON a side that has no such field has no key; null is a value."""
    register_backend("ollama", "veyra.models.mock:MockBackend")
    found = rows(veyra("replay", "3", "--json"))[0]
    assert found["differences"] == [{"field": "backend", "recorded": "ollama"}]


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("options", "decoded"),
    [
        (["1"], "1 call"),
        (["2"], "1 call"),
        (["--backend", "ollama"], "2 calls"),
        (["--status", "error"], "1 call"),
        (["--limit", "2"], "1 call"),
        (["--text", "where"], "1 call"),
    ],
)
def test_calls_are_chosen(options: list[str], decoded: str, veyra: Run) -> None:
    """A number names the call that has it, of intent or outcome; options choose as those of `veyra audit list` do."""
    result = veyra("replay", *options)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{decoded} decoded again: nothing differs."


@pytest.mark.usefixtures("calls")
def test_where_no_call_is_chosen_none_is_said_to_be_the_same(veyra: Run) -> None:
    """Options that mean no call end well, and do not say that anything was compared."""
    result = veyra("replay", "--until", "2020-01-01")
    assert (result.exit_code, result.stdout) == (0, "No call was chosen, so nothing was decoded.\n")


@pytest.mark.usefixtures("calls")
def test_a_call_is_named_by_its_id_and_a_log_by_its_directory(veyra: Run, log: Path) -> None:
    """An id or its beginning names a call in the log of `--dir`; a directory is a log."""
    ident = rows(veyra("audit", "list", "--json"))[0]["id"]
    for what in ([ident], [ident, "--dir", str(log)], [str(log), "--limit", "4"]):
        assert veyra("replay", *what).exit_code == 0


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("what", ["999", "no-such-id"])
def test_what_names_no_call_is_told(what: str, veyra: Run) -> None:
    """A number or an id that no call has is told, with what to do."""
    result = veyra("replay", what)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"has the number or the id {what}, and it is no directory" in result.stderr
    assert "veyra audit list" in result.stderr


@pytest.mark.usefixtures("calls")
def test_an_entry_that_is_no_call_is_told(veyra: Run) -> None:
    """An entry with which nothing was asked is named for what it is."""
    result = veyra("replay", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "entry 0 is a session.open: nothing was asked with it" in result.stderr


def test_where_there_is_no_log_that_is_told(veyra: Run, tmp_path: Path) -> None:
    """Without a log there is nothing to replay, whichever way it is named."""
    for what in ([], [str(tmp_path)], ["5"]):
        result = veyra("replay", *what)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "there is no audit log at" in result.stderr


@pytest.mark.usefixtures("calls")
def test_a_single_call_without_bytes_is_told(veyra: Run) -> None:
    """Of one call that has nothing to decode the reason is all that is said."""
    result = veyra("replay", "5")
    assert result.exit_code == 0
    assert result.stdout == "5 mock, mock, ok: had nothing to decode; the backend mock has no bytes on record\n"


@pytest.fixture
async def many(log: Path) -> None:
    """Record thirteen calls of the mock."""
    recorder = AuditLog(log)
    mock = get_backend("mock", audit=recorder)
    for _ in range(13):
        await mock.generate("Hi")
    await recorder.aclose()


@pytest.mark.usefixtures("many")
def test_of_many_calls_without_bytes_the_first_are_told(veyra: Run) -> None:
    """The reasons of ten calls are shown; of the others, how many they are."""
    lines = veyra("replay").stdout.splitlines()
    assert (len(lines), lines[-1]) == (11, "and 3 calls more: had nothing to decode")


@pytest.mark.usefixtures("calls")
def test_a_damaged_log_is_told_after_what_stands_before(veyra: Run, log: Path) -> None:
    """Calls before the damage are decoded; then it is told, with status 1."""
    file = segment.listed(log)[-1]
    data = bytearray(file.read_bytes())
    place = data.rfind(b'"kind":"call.intent"')
    data[place] ^= 1
    file.write_bytes(data)
    result = veyra("replay", "--json")
    assert result.exit_code == 1
    assert [row["seq"] for row in rows(result)] == [1, 3, 5]
    assert "veyra audit verify" in result.stderr


# ------------------------------------------------------------------------------------------------ comparing


@pytest.mark.usefixtures("calls")
def test_another_backend_is_asked_and_compared(veyra: Run) -> None:
    """Calls that were answered are asked again; a table shows how the answers compare, and the status is 1."""
    result = veyra("replay", "--against", "mock:other")
    assert result.exit_code == 1
    table = [line.split() for line in result.stdout.splitlines()]
    assert table[0] == ["SEQ", "MODEL", "TEXT", "TOOLS", "SCHEMA", "LATENCY", "NOW", "COST", "NOW", "ERROR"]
    assert [row[:6] for row in table[1:4]] == [
        ["1", "m-1", "0", "%", "yes", "-"],
        ["3", "m-1", "0", "%", "no", "-"],
        ["5", "mock", "100", "%", "yes", "-"],
    ]
    assert ["calls", "3,", "of", "which", "0", "failed"] in table
    assert ["same", "answer", "1"] in table
    assert "7 ollama, m, error: not asked again; it was not answered (error)" in result.stderr


@pytest.mark.usefixtures("calls")
def test_the_same_answers_end_well(veyra: Run) -> None:
    """Where the other backend answers the same, the status is 0."""
    result = veyra("replay", "5", "--against", "mock")
    assert result.exit_code == 0
    assert "same answer  1" in result.stdout


@pytest.mark.usefixtures("calls")
def test_its_calls_are_on_record(veyra: Run, attempts: Callable[[], list[dict[str, Any]]], tmp_path: Path) -> None:
    """The new calls stand in the usual log, in another where that is said, and nowhere else."""
    veyra("replay", "5", "--against", "mock:other")
    assert [row["model"] for row in attempts()] == ["m-1", "m-1", "mock", "m", "other"]
    other = tmp_path / "other"
    veyra("replay", "5", "--against", "mock:third", "--audit", str(other))
    veyra("replay", "5", "--against", "mock:third", "--audit", "memory")
    assert len(attempts()) == 5
    assert [row["model"] for row in rows(veyra("audit", "list", "--json", "--dir", str(other)))] == ["third"]


@pytest.mark.usefixtures("calls")
def test_comparisons_are_told_as_json(veyra: Run) -> None:
    """`--json` prints each comparison with the new answer, and then the totals."""
    result = veyra("replay", "--against", "mock", "--json")
    *found, last = rows(result)
    assert [(row["seq"], row["same_text"], row["same_tools"], row["error"]) for row in found] == [
        (1, False, True, None),
        (3, False, False, None),
        (5, True, True, None),
    ]
    assert found[2]["now"]["content"].startswith("This is the mock")
    assert (last["totals"]["calls"], last["totals"]["same"]) == (3, 1)


@pytest.fixture
async def priced(log: Path) -> None:
    """Record a call whose answer was to keep to a schema, and whose cost is known."""
    recorder = AuditLog(log)
    said = replace(HELLO, texts=('{"n": 1}',))
    answer = replace(whole("chat", said), chunks=[whole("chat", said).chunks[0].replace(b'"m-1"', b'"gpt-4o"')])
    asked = Asked(step=answer, stream=False)
    await call(
        recorder, "chat", asked, output={"type": "object", "properties": {"n": {"type": "integer"}}}, model="gpt-4o"
    )
    await recorder.aclose()


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(("text", "fits"), [('{"n": 1}', "yes"), ("no json", "no")])
def test_schema_and_cost_are_shown_where_they_are_known(text: str, fits: str, veyra: Run) -> None:
    """Whether an answer fits its schema, and what it cost then and now, stand in the table and in the totals."""
    usage = Usage(input_total=1000, output_total=1000)
    priced = ModelResponse(text, "gpt-4o", "mine", 1.0, 0, 0, None, usage=usage)
    price = cost("openai", "gpt-4o", usage, datetime.now(UTC))
    assert price is not None
    then, now = rows(veyra("audit", "list", "--json"))[0]["cost"], str(price.amount)

    class Own(MockBackend):
        def prepare(self, request: Any) -> Exchange:
            return Exchange(provider="openai")

    register_backend("own", lambda: Own(priced))
    result = veyra("replay", "--against", "own", "--yes")
    assert result.exit_code == (0 if fits == "yes" else 1)
    row = result.stdout.splitlines()[1].split()
    assert row[4:6] == ["yes", fits]
    assert row[-2:] == [then, now]
    assert f"schema       kept to in {int(fits == 'yes')} of 1" in result.stdout
    assert f"cost         {then} then, {now} now, where both are known (1)" in result.stdout


@pytest.mark.usefixtures("priced")
def test_a_small_cost_is_written_in_full(veyra: Run) -> None:
    """A cost of less than a millionth is no power of ten."""
    usage = Usage(input_total=2, output_total=1)
    priced = ModelResponse('{"n": 1}', "gpt-4o-mini", "mine", 1.0, 0, 0, None, usage=usage)

    class Own(MockBackend):
        def prepare(self, request: Any) -> Exchange:
            return Exchange(provider="openai")

    register_backend("own", lambda: Own(priced))
    result = veyra("replay", "--against", "own", "--yes")
    assert result.stdout.splitlines()[1].split()[-1] == "0.0000009"
    assert "0.0000009 now" in result.stdout


@pytest.mark.usefixtures("calls")
def test_a_call_that_fails_is_a_row(veyra: Run) -> None:
    """A failure has its kind in the table, and the other calls are made."""
    register_backend("mine", lambda: MockBackend([RateLimitError("slow down"), "x", "y"]))
    result = veyra("replay", "--against", "mine", "--yes")
    assert result.exit_code == 1
    assert "rate_limited" in result.stdout.splitlines()[1]
    assert "calls        3, of which 1 failed" in result.stdout
    assert "veyra: rate_limited: slow down" in result.stderr


@pytest.mark.usefixtures("calls")
def test_what_was_paid_for_is_shown_where_it_ends_early(veyra: Run) -> None:
    """Interrupted, the command shows the answers that came."""

    def reply(request: Any) -> str:
        if len(mock.calls) == 2:
            raise KeyboardInterrupt
        return "x"

    mock = MockBackend(reply)
    register_backend("mine", lambda: mock)
    result = veyra("replay", "--against", "mine", "--yes")
    assert result.exit_code == 130
    assert "calls        1, of which 0 failed" in result.stdout


@pytest.mark.usefixtures("calls")
def test_calls_that_may_cost_money_are_not_made_unasked(veyra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--yes` nothing is sent to a backend elsewhere, and how many calls it would be is told."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked: list[str] = []

    class Own(BaseModelBackend):
        name = "own"

        async def generate(self, prompt: Any, **options: Any) -> ModelResponse:
            asked.append(prompt)
            return ModelResponse("x", "m", "own", 1.0, 0, 0, None)

        async def health_check(self) -> bool:
            return True

    register_backend("own", Own)
    for target in ("openai:gpt-4o", "own"):
        result = veyra("replay", "--against", target)
        assert (result.exit_code, result.stdout, asked) == (2, "", [])
        assert f"3 calls would be made to {target}, and may cost money" in result.stderr
        assert "--yes" in result.stderr
    assert veyra("replay", "--against", "own", "--yes").exit_code == 1
    assert len(asked) == 3


@pytest.fixture
async def warm(log: Path) -> None:
    """Record a call with an option that some models do not take."""
    recorder = AuditLog(log)
    await call(recorder, "chat", Asked(step=whole("chat"), stream=False), temperature=0.5)
    await recorder.aclose()


@pytest.mark.usefixtures("warm")
def test_a_server_on_this_machine_is_asked(veyra: Run, providers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend at an address of this machine costs nothing; an option that its model does not take is left out."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    result = veyra("replay", "--against", "openai:o3", "--base-url", f"{providers}/v1", "--json")
    found, last = rows(result)
    assert (result.exit_code, last["totals"]["failed"]) == (1, 0)
    assert [warning["parameter"] for warning in found["now"]["warnings"]] == ["temperature"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--yes"], "go with --against"),
        (["--audit", "memory"], "go with --against"),
        (["--base-url", "http://x"], "go with --against"),
        (["--against", "mock", "--as-test", "test_x.py"], "give one of them"),
        (["--against", "openai"], "does not say which model"),
        (["--against", "nobody:m"], "unknown backend 'nobody'"),
        (["--against", ""], "unknown backend ''"),
        (["--limit", "0"], "--limit"),
        (["--status", "fine"], "--status"),
        (["5", "--backend", "ollama"], "5 is no directory, and so names one call"),
        (["5", "--limit", "2"], "options that choose go with a log"),
    ],
)
@pytest.mark.usefixtures("calls")
def test_wrong_use_is_told(options: list[str], words: str, veyra: Run) -> None:
    """Options that do not go together, or name nothing, end the command with status 2 before anything is asked."""
    result = veyra("replay", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


# ------------------------------------------------------------------------------------------------ as a test


@pytest.mark.usefixtures("calls")
def test_calls_are_written_down_as_a_test(veyra: Run, tmp_path: Path) -> None:
    """A test and its tape are written; what cannot be one is told, and the status is 0."""
    path = tmp_path / "test_recorded.py"
    result = veyra("replay", "--as-test", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "3 calls decoded again: nothing differs."
    assert f"3 tests in {path}" in result.stdout
    assert "5 mock, mock, ok: left out" in result.stderr
    assert len(Tape.load(tmp_path / "test_recorded.tape.jsonl").recordings) == 3
    compile(path.read_text(), str(path), "exec")


@pytest.mark.usefixtures("calls", "changed")
def test_a_test_that_would_fail_today_is_written_and_told(veyra: Run, tmp_path: Path) -> None:
    """Where today's code decodes otherwise, the test says what was; the status is 1."""
    result = veyra("replay", "3", "--as-test", str(tmp_path / "test_recorded.py"))
    assert result.exit_code == 1
    assert "1 call differs" in result.stdout
    assert "input_total == 7" in (tmp_path / "test_recorded.py").read_text()


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("name", ["test_there.py", "test_other.py"])
def test_no_file_is_written_over(name: str, veyra: Run, tmp_path: Path) -> None:
    """A test or a tape that is there is left as it is, and nothing is written."""
    for there in ("test_there.py", "test_other.tape.jsonl"):
        (tmp_path / there).write_text("mine")
    result = veyra("replay", "--as-test", str(tmp_path / name))
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("test_")) == [
        "test_other.tape.jsonl",
        "test_there.py",
    ]


@pytest.mark.usefixtures("calls")
def test_a_name_that_pytest_would_not_find_is_refused(veyra: Run, tmp_path: Path) -> None:
    """A file that does not end in .py is refused, with a better name."""
    result = veyra("replay", "--as-test", str(tmp_path / "recorded.txt"))
    assert result.exit_code == 2
    assert "test_recorded.py" in result.stderr


@pytest.mark.usefixtures("calls")
def test_where_no_call_can_be_a_test_nothing_is_written(veyra: Run, tmp_path: Path) -> None:
    """Where all calls are left out, that is told, and there is no file."""
    result = veyra("replay", "5", "--as-test", str(tmp_path / "test_none.py"))
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert not list(tmp_path.glob("test_none*"))
