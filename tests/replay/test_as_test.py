"""Recorded calls written down as a test: it passes as it stands, fails where something changed, and holds no key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replay.recording import CALLING, KEY, Asked, begun, call, streamed, whole
from veyra import AuditLog, MockBackend, get_backend, register_backend
from veyra.models.endpoints import ENDPOINTS
from veyra.models.gate import Gate
from veyra.models.wire import WireBackend
from veyra.replay.as_test import Case, Refused, case, write
from veyra.replay.recorded import attempts
from veyra.transport.script import Answer, Refuse, ScriptedTransport
from veyra.transport.tape import Tape
from veyra.types import Media, Message, Opaque, Reasoning, Text, Tool, ToolCall, ToolResult
from wires import HELLO, WIRES

CONVERSATION = [
    Message("user", [Text('It\'s "so"\n\\ ☀'), Media(kind="image", media_type="image/png", data=b"\x89\x00")]),
    Message("assistant", [Reasoning("Hm"), ToolCall("c1", "look", {"a": [1, None, True]}, '{"a":[1,null,true]}')]),
    Message("tool", [ToolResult("c1", "seen")]),
    Message("assistant", "Ja", native=(Opaque("elsewhere", b"{}"),)),
    Message("user", "Go on. " * 40),
]


def cases(log: AuditLog) -> list[Case]:
    found = [case(attempt) for attempt in attempts(log.entries())]
    assert not [one.why for one in found if isinstance(one, Refused)]
    return [one for one in found if isinstance(one, Case)]


def refusals(log: AuditLog) -> list[str]:
    found = [case(attempt) for attempt in attempts(log.entries())]
    return [one.why for one in found if isinstance(one, Refused)]


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run a test in a process of its own, as its owner would; without what would load Hypothesis, which takes longer."""
    without = [word for name in ("cacheprovider", "asyncio", "hypothesispytest") for word in ("-p", f"no:{name}")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *without, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )


async def everything() -> AuditLog:
    """Record calls of each wire format: streamed, whole, with tools, refused, broken off."""
    log = AuditLog.memory()
    for name in WIRES:
        look = Tool(name="look", description="Looks", parameters={"type": "object", "properties": {"at": {}}})
        steps: list[tuple[Asked, str, dict[str, Any]]] = [
            (Asked(step=streamed(name)), "Hi", {}),
            (Asked(step=whole(name), stream=False), f"My key is {KEY}", {"system": "Be 'brief'.", "max_tokens": 2000}),
            (Asked(step=streamed(name, CALLING)), "Look", {"tools": [look]}),
            (Asked(step=begun(name)), "Hi", {}),
            (Asked(step=Answer(status=429, chunks=[b"slow down"])), "Hi", {}),
            (Asked(step=begun(name, WIRES[name].error)), "Hi", {"temperature": 0.25, "stop": ["END"]}),
        ]
        for asked, prompt, options in steps:
            await call(log, name, asked, prompt, **options)
    for name in ("chat", "anthropic"):
        await call(log, name, Asked(step=whole(name), stream=False), CONVERSATION)
    said = replace(HELLO, texts=('{"n": 1}',))
    await call(log, "chat", Asked(step=whole("chat", said), stream=False), output={"type": "object"})
    return log


async def test_what_is_written_passes_and_holds_no_key(tmp_path: Path) -> None:
    """The calls of every format become tests that pass as they stand, and neither file holds the key."""
    log = await everything()
    path = tmp_path / "test_recorded.py"
    found = cases(log)
    tape = write(found, path)
    done = run(path)
    assert f"{len(found)} passed" in done.stdout, done.stdout
    assert tape == tmp_path / "test_recorded.tape.jsonl"
    assert len(Tape.load(tape).recordings) == len(found)
    assert KEY not in path.read_text() + tape.read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("'Hello'", "'Goodbye'", "assert 'Hello' == 'Goodbye'"),
        ("'Hi'", "'Ho'", 'body.messages[0].content: recorded "Hi", asked "Ho"'),
        ("finish_reason == 'stop'", "finish_reason == 'length'", "assert 'stop' == 'length'"),
    ],
)
async def test_a_change_makes_it_fail(old: str, new: str, words: str, tmp_path: Path) -> None:
    """The test fails where the answer is another than is expected, and where another question is asked."""
    log = AuditLog.memory()
    await call(log, "chat", Asked(step=streamed("chat")))
    path = tmp_path / "test_one.py"
    write(cases(log), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = run(path)
    assert "1 failed" in done.stdout
    assert words in done.stdout


async def test_what_the_log_says_is_data(tmp_path: Path) -> None:
    """Names and texts of the log cannot end a string of the test and become code."""
    evil = '"""\nraise SystemExit(3)\n"""'
    log = AuditLog.memory()
    await call(
        log, "chat", Asked(step=whole("chat", replace(HELLO, texts=(evil, "'''\\"))), stream=False), evil, model=evil
    )
    await call(log, "chat", Asked(step=Answer(status=500)), evil, model=evil)
    path = tmp_path / "test_evil.py"
    write(cases(log), path)
    done = run(path)
    assert "2 passed" in done.stdout, done.stdout


async def test_the_address_is_asked_as_it_was(tmp_path: Path) -> None:
    """A base URL with a path of its own is kept, its host is not."""
    log = AuditLog.memory()
    options: dict[str, Any] = {"base_url": "https://gateway.internal.example/team-a/v1", "audit": log}
    transport = ScriptedTransport([whole("chat")])
    await get_backend("openai", api="chat", model="m", api_key=KEY, transport=transport, **options).generate("Hi")
    (one,) = cases(log)
    assert one.settings == {"base_url": "http://tape.invalid/team-a/v1"}
    path = tmp_path / "test_gateway.py"
    tape = write([one], path)
    assert "gateway" not in (path.read_text() + tape.read_text()).replace(path.stem, "")
    assert "1 passed" in run(path).stdout


async def test_what_was_left_out_of_a_request_is_left_out_again(tmp_path: Path) -> None:
    """A call whose model does not take an option, which was left out with a warning, is asked so again."""
    log = AuditLog.memory()
    options: dict[str, Any] = {"on_unsupported": "warn", "transport": ScriptedTransport([whole("chat")]), "audit": log}
    backend = get_backend("openai", api="chat", model="o3", api_key=KEY, base_url="http://x.invalid", **options)
    await backend.generate("Hi", temperature=0.5)
    path = tmp_path / "test_warned.py"
    write(cases(log), path)
    assert "1 passed" in run(path).stdout


# --------------------------------------------------------------------------------------- what becomes no test


async def _mock(log: AuditLog) -> None:
    await Gate(MockBackend(), log).generate("Hi")


async def _embedding(log: AuditLog) -> None:
    await Gate(MockBackend(), log).embed("Hi")


async def _registered(log: AuditLog) -> None:
    register_backend("mine", lambda **options: WireBackend(replace(ENDPOINTS["ollama"], name="mine"), **options))
    transport = ScriptedTransport([whole("ollama")])
    await get_backend("mine", model="m", transport=transport, audit=log).generate("Hi")


def _asking(name: str, asked: Asked, **options: Any) -> Callable[[AuditLog], Any]:
    return lambda log: call(log, name, asked, **options)


_UNFIT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_mock, "there are no bytes of it that came"),
        (_embedding, "it asked for embeddings"),
        (_registered, "no backend of Veyra's own"),
        (_asking("chat", Asked(step=Refuse())), "there are no bytes of it that came"),
        (_asking("chat", Asked(step=streamed("chat"), stop=True)), "it came to no end of its own (cancelled)"),
        (_asking("chat", Asked(step=whole("chat"), stream=False), output=_UNFIT), "its failure (output_mismatch)"),
    ],
)
async def test_what_cannot_be_a_test_says_why(make: Callable[[AuditLog], Any], why: str) -> None:
    """A call that cannot be asked again in the same way, without its key and by name, is left out, with the reason."""
    log = AuditLog.memory()
    await make(log)
    assert [why in found for found in refusals(log)] == [True], refusals(log)


async def test_what_is_encoded_otherwise_today_says_so() -> None:
    """A call whose bytes today's encoder would not send, or that it refuses, is left out, with the reason."""
    log = AuditLog.memory()
    await call(log, "chat", Asked(step=streamed("chat")))
    (attempt,) = attempts(log.entries())
    attempt.question.options["temperature"] = 0.5  # type: ignore[index]
    found = case(attempt)
    assert isinstance(found, Refused)
    assert "it would be written otherwise today" in found.why
    attempt.question.options["temperature"] = -1  # type: ignore[index]
    found = case(attempt)
    assert isinstance(found, Refused)
    assert "it would not end so today: temperature" in found.why
    (attempt,) = attempts(log.entries())
    attempt.question.options["output"] = _UNFIT  # type: ignore[index]
    found = case(attempt)
    assert isinstance(found, Refused)
    assert "it would not end so today: $: not JSON" in found.why
    attempt.intent.leaf["attributes"]["veyra.dialect"] = "morse"
    found = case(attempt)
    assert isinstance(found, Refused)
    assert found.why == "openai does not speak morse"
    (attempt,) = attempts(log.entries())
    attempt.intent.leaf["attributes"]["url.path"] = "/v2/else"
    found = case(attempt)
    assert isinstance(found, Refused)
    assert "it would be asked at /chat/completions today, and was at /v2/else" in found.why
