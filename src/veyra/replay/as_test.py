"""Recorded calls as a test: a pytest file, and beside it the tape that answers it.

Each call becomes one test, which asks as was asked then, is answered from the tape, and expects what was handed on then. So it
fails where the request is encoded otherwise (the tape then has no answer) or the answer decoded otherwise. Neither file
holds a key: the log has none, and a tape has no headers.
"""

from __future__ import annotations

import inspect
import pprint
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veyra import errors, schema
from veyra.errors import OutputMismatchError, ProviderError
from veyra.models.endpoints import ENDPOINTS, Endpoint
from veyra.models.request import build_request
from veyra.models.wire import WireBackend
from veyra.replay.played import NOWHERE, Settings, endpoint_of, played
from veyra.replay.recorded import CHAT, RecordedAttempt
from veyra.transport.recording import Recording, canonical, key, path_of
from veyra.transport.tape import Tape
from veyra.transport.tape_log import exchange

_WIDTH: Final = 100
_NARROW: Final = 40
_STRANGE: Final = re.compile(r"[^\w .,:/@+-]", re.ASCII)
_KINDS: Final[Mapping[str, type[ProviderError]]] = {
    kind.kind: kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ProviderError) and kind is not OutputMismatchError
}
"""The errors by their names in the log; whether an answer fits is judged by a type that is not on record."""
_NAMES: Final = ("Media", "Message", "Opaque", "Reasoning", "Text", "Tool", "ToolCall", "ToolResult")
"""The values that a test may have to write down."""
_HEAD: Final = '''"""Calls from a log, made again: written by veyra replay --as-test.

Each test asks what was asked, is answered from the tape beside this file, and expects what was handed on then.
It needs no key and no network.
"""

import asyncio
from pathlib import Path

{imports}
TAPE = Tape.load(Path(__file__).with_name({tape!r})).recordings


def ask(number, backend, prompt, *, stream, settings, **options):
    """Ask a backend that is answered by one recording of the tape."""
    transport = TapeTransport(Tape(TAPE[number : number + 1]))

    async def call():
        made = get_backend(backend, api_key="not-a-key", audit="memory", transport=transport, **settings)
        async with made as gate:
            if not stream:
                return await gate.generate(prompt, **options)
            async with gate.stream(prompt, **options) as reply:
                async for _ in reply:
                    pass
            return reply.response

    return asyncio.run(call())
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call of the test.

    Attributes:
        attempt: the recorded call.
        recording: its exchange.
        settings: what `get_backend` is to be given so that it asks in the same format at the same path.
    """

    attempt: RecordedAttempt
    recording: Recording
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that cannot become a test, and why."""

    attempt: RecordedAttempt
    why: str


def case(attempt: RecordedAttempt) -> Case | Refused:
    """Return an attempt as a case of a test, or why it cannot be one.

    Raises:
        AuditCorruptError: a body of the log is not what was recorded.
    """
    recording = None if attempt.outcome is None else exchange(attempt.intent, attempt.outcome)
    endpoint = endpoint_of(attempt.row.backend) if attempt.row.backend in ENDPOINTS else None
    why = _why_not(attempt)
    if why is not None or recording is None or endpoint is None:
        return Refused(
            attempt, why or "there are no bytes of it that came, or no backend of Veyra's own asked for them"
        )
    backend = played(endpoint, attempt, recording)
    if backend is None:
        return Refused(attempt, f"{attempt.row.backend} does not speak {attempt.dialect}")
    return _settled(attempt, recording, endpoint, backend.settings)


def _why_not(attempt: RecordedAttempt) -> str | None:
    """Return what keeps an attempt from being a test, whatever its bytes are."""
    row = attempt.row
    if attempt.operation != CHAT:
        return f"it asked for {attempt.operation}, not for an answer"
    if row.status not in {"ok", "error", "incomplete"}:
        return f"it came to no end of its own ({row.status})"
    if row.error is not None and row.error not in _KINDS:
        return f"its failure ({row.error}) does not come from the answer alone"
    return None


def write(cases: Sequence[Case], path: Path) -> Path:
    """Write the test and its tape; return the tape's path.

    Args:
        cases: the calls, at least one.
        path: the test's file, `test_*.py`; the tape gets the same name with `.tape.jsonl`. Files of these names are replaced.

    Raises:
        OSError: a file cannot be written.
    """
    tape = path.with_suffix(".tape.jsonl")
    text = _source(cases, tape.name)
    Tape(tuple(one.recording for one in cases)).save(tape)
    path.write_text(text, encoding="utf-8")
    return tape


# ---------------------------------------------------------------------------------------- is it asked so again?


def _settled(attempt: RecordedAttempt, recording: Recording, endpoint: Endpoint, settings: Settings) -> Case | Refused:
    """Return the case, with the address at which today's backend asks where was asked then, if it asks the same."""
    question = attempt.question
    try:
        request = build_request(question.prompt, question.options, stream=question.stream)
        outgoing = WireBackend(endpoint, base_url=NOWHERE, api_key="not-a-key", **settings).prepare(request).outgoing
        if attempt.row.status == "ok" and "output" in question.options:
            _see_that_it_fits(attempt)
    except ProviderError as error:
        return Refused(attempt, f"it would not end so today: {error.message}")
    assert outgoing is not None
    path = path_of(outgoing.url)
    if not recording.path.endswith(path):
        return Refused(attempt, f"it would be asked at {path} today, and was at {recording.path}")
    if key(canonical("", "", outgoing.body)) != key(canonical("", "", recording.body)):
        return Refused(
            attempt, "it would be written otherwise today, or was asked with settings that are not on record"
        )
    address = NOWHERE + recording.path.removesuffix(path)
    return Case(attempt=attempt, recording=recording, settings={**settings, "base_url": address})


def _see_that_it_fits(attempt: RecordedAttempt) -> None:
    """See that the answer fits the schema that is on record, which may say less, or more, than the type that it came from.

    Raises:
        MalformedResponseError: it does not.
    """
    answer = attempt.answer or {}
    if answer.get("finish_reason") in {"stop", "length", "other"}:
        schema.parse(attempt.question.options["output"], str(answer.get("content", "")), nulls_absent=True)


# ------------------------------------------------------------------------------------------------- writing


def _source(cases: Sequence[Case], tape: str) -> str:
    tests = "".join(f"\n\n{_test(number, one)}" for number, one in enumerate(cases))
    return _HEAD.format(imports=_imports(tests), tape=tape) + tests


def _imports(tests: str) -> str:
    kinds = sorted(kind.__name__ for kind in _KINDS.values() if f"pytest.raises({kind.__name__})" in tests)
    values = [name for name in _NAMES if f"{name}(" in tests]
    lines = ["import pytest", ""] if kinds else []
    lines.append("from veyra import get_backend")
    if kinds:
        lines.append(f"from veyra.errors import {', '.join(kinds)}")
    lines.append("from veyra.transport.tape import Tape, TapeTransport")
    if values:
        lines.append(f"from veyra.types import {', '.join(values)}")
    return "\n".join([*lines, ""])


def _test(number: int, one: Case) -> str:
    row = one.attempt.row
    head = f'def test_call_{number + 1}():\n    """{_title(one)}"""\n'
    if row.status != "ok":
        call = _call(number, one, indent=8)
        return f"{head}    with pytest.raises({_KINDS[row.error or ''].__name__}):\n        {call}\n"
    lines = [f"    assert {line}\n" for line in _expected(one)]
    return f"{head}    response = {_call(number, one, indent=4)}\n{''.join(lines)}"


def _title(one: Case) -> str:
    """Name a call in words that end no docstring, whatever the log says."""
    row = one.attempt.row
    return _STRANGE.sub("?", f"{row.backend}, {row.model or 'no model'}, {row.time[:19]}: {row.error or row.status}.")


def _call(number: int, one: Case, *, indent: int) -> str:
    question, inner = one.attempt.question, indent + 4
    named = {"stream": question.stream, "settings": dict(one.settings), **question.options}
    values = [_literal(value, inner) for value in (number, one.attempt.row.backend, question.prompt)]
    values += [f"{name}={_literal(value, inner + len(name) + 1)}" for name, value in named.items()]
    lines = "".join(f"{' ' * inner}{value},\n" for value in values)
    return f"ask(\n{lines}{' ' * indent})"


def _expected(one: Case) -> list[str]:
    """Return what is true of the answer."""
    answer, usage = one.attempt.answer or {}, one.attempt.row.usage or {}
    lines = [
        f"response.content == {_literal(answer.get('content'), 31)}",
        f"response.finish_reason == {_literal(answer.get('finish_reason'), 37)}",
    ]
    calls = [(call["name"], call["arguments"]) for call in answer.get("tool_calls", [])]
    if calls:
        asked = "[(call.name, call.arguments) for call in response.tool_calls]"
        lines.append(f"{asked} == {_literal(calls, 12)}")
    lines += [f"response.usage.{name} == {number}" for name, number in usage.items() if number is not None]
    return lines


def _literal(value: object, indent: int) -> str:
    """Return a value as Python writes it, its further lines set in by `indent`."""
    text = pprint.pformat(value, width=max(_WIDTH - indent, _NARROW), sort_dicts=False)
    return text.replace("\n", "\n" + " " * indent)
