"""Decoding recorded bytes again: the attempt is made once more, over a tape, and its two outcomes are compared.

1. The bytes pass the same way as in production: transport, decoder, gate, record. What comes out is the outcome that the log
   would get today, and is compared with the one that it has, field by field.
2. Compared is what is decoded: the status, the attributes of `_DECODED`, and the answer as handed on. Times, sizes and prices are
   not: they do not come from the answer.
3. Whether an answer fits the type that was asked for is not decoded either. Where that is all that was wrong, or is wrong today,
   status and error are left aside.
4. An attempt that was cancelled or ran out of time did not read its answer to the end of what had come: its text must be
   the beginning of what is decoded today.
5. A key that was masked in the record is whatever stands in its place today.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from veyra.audit import AuditLog
from veyra.audit.entry import ABANDONED
from veyra.errors import OutputMismatchError, ProviderError
from veyra.models.gate import Gate
from veyra.replay.played import endpoint_of, played
from veyra.replay.recorded import COUNT, EMBEDDINGS, Question, RecordedAttempt, attempts
from veyra.transport.fields import NOTHING, Difference, differences
from veyra.transport.recording import Recording
from veyra.transport.tape_log import exchange

_DECODED: Final = ("error.", "gen_ai.response.", "gen_ai.usage.", "http.response.", "veyra.error.", "veyra.usage.")
_DECODED_TOO: Final = frozenset({"veyra.finish_reason", "veyra.request_id", "veyra.tokens"})
_JUDGED: Final = ("error.", "veyra.error.", "veyra.request_id", "status")
"""What an answer that does not fit changes in its outcome."""
_INTERRUPTED: Final = frozenset({"cancelled", "timeout"})
_MASK: Final = re.compile(r"\*{6,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What decoding an attempt again came to.

    Attributes:
        attempt: the attempt.
        differences: the fields in which today's outcome (`other`) differs from the recorded one (`one`).
        skipped: why there was nothing to decode; None where there was.
    """

    attempt: RecordedAttempt
    differences: tuple[Difference, ...] = ()
    skipped: str | None = None


async def decode(attempt: RecordedAttempt) -> Decoded:
    """Decode an attempt's bytes with today's code and compare what comes out with what is on record.

    Nothing is sent, and nothing is recorded in any log.

    Raises:
        AuditCorruptError: a body of the log is not what was recorded.
    """
    if attempt.outcome is None:
        return Decoded(attempt=attempt, skipped="it has no outcome yet: the call is running, or its process has ended")
    if attempt.row.status == ABANDONED:
        return Decoded(attempt=attempt, skipped="its process ended before an outcome was recorded")
    if attempt.dialect is None:
        return Decoded(attempt=attempt, skipped=f"the backend {attempt.row.backend} has no bytes on record")
    recording = exchange(attempt.intent, attempt.outcome)
    if recording is None:
        return Decoded(attempt=attempt, skipped=f"no answer came ({attempt.row.error or attempt.row.status})")
    return Decoded(attempt=attempt, differences=tuple(await _compared(attempt, recording)))


async def _compared(attempt: RecordedAttempt, recording: Recording) -> list[Difference]:
    endpoint = endpoint_of(attempt.row.backend)
    if endpoint is None:
        return [Difference("backend", attempt.row.backend, NOTHING)]
    backend = played(endpoint, attempt, recording)
    if backend is None:
        return [Difference("veyra.dialect", attempt.dialect, NOTHING)]
    log = AuditLog.memory()
    refusal = await _ask(Gate(backend, log, max_prompt_bytes=sys.maxsize), attempt.question)
    today = next(attempts(log.entries()), None)
    if today is None:
        return [Difference("request", "sent", refusal)]
    if attempt.row.status in _INTERRUPTED:
        return list(_cut_short(attempt, today))
    before, after = _decoded(attempt), _decoded(today)
    if OutputMismatchError.kind in {attempt.row.error, today.row.error}:
        before, after = _unjudged(before), _unjudged(after)
    return [found for found in differences(before, after) if not _is_mask(found.one, found.other)]


async def _ask(gate: Gate, question: Question) -> str | None:
    """Ask again; return what the failure says, if it fails: how stands in the gate's log."""
    try:
        if question.operation == EMBEDDINGS:
            await gate.embed(question.texts, **question.options)
        elif question.operation == COUNT:
            await gate.count_tokens(question.messages, **question.options)
        else:
            await _read(gate, question)
    except ProviderError as error:
        return error.message
    return None


async def _read(gate: Gate, question: Question) -> None:
    if not question.stream:
        await gate.generate(question.messages, **question.options)
        return
    async with gate.stream(question.messages, **question.options) as reply:
        async for _ in reply:
            pass


def _decoded(attempt: RecordedAttempt) -> dict[str, Any]:
    """Return what an outcome says that comes from decoding."""
    assert attempt.outcome is not None
    attributes: Mapping[str, object] = attempt.outcome.leaf["attributes"]
    said = {name: attributes[name] for name in attributes if name.startswith(_DECODED) or name in _DECODED_TOO}
    return {"status": attempt.row.status, **said, "message": attempt.answer}


def _unjudged(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if not name.startswith(_JUDGED)}


def _cut_short(attempt: RecordedAttempt, today: RecordedAttempt) -> Iterator[Difference]:
    """Yield what had been handed on of an answer and is not the beginning of what is decoded today."""
    before, after = attempt.answer or {}, today.answer or {}
    for name in ("reasoning", "content"):
        one, other = before.get(name, ""), after.get(name, "")
        if not other.startswith(one) and not _is_mask(one, other[: len(one)]):
            yield Difference(f"message.{name}", one, other)


def _is_mask(one: object, other: object) -> bool:
    """Tell whether a recorded text is another one with keys masked."""
    if not isinstance(one, str) or not isinstance(other, str) or len(one) != len(other) or not _MASK.search(one):
        return False
    pattern = "".join(f".{{{len(part)}}}" if _MASK.fullmatch(part) else re.escape(part) for part in _split(one))
    return re.fullmatch(pattern, other, re.DOTALL) is not None


def _split(text: str) -> list[str]:
    return re.split(f"({_MASK.pattern})", text)
