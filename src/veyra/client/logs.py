"""A line of standard logging for every attempt: `Client(observers=[log_calls()])`.

The lines hold no prompt, no answer, no message of a provider and no key. What a provider may have written into them (a model's
name, a request's id) is shown so that it stays on its line.
"""

from __future__ import annotations

import logging
from typing import Any

from veyra.client.observe import AttemptEnded, CallEnded, Observation, Observer
from veyra.errors import ProviderError
from veyra.types import AttemptRecord, EmbeddingResponse, ModelResponse, Usage


def log_calls(logger: logging.Logger | None = None) -> Observer:
    """Return an observer that logs each attempt when it has ended, and each call that was answered or refused without one.

    Level INFO where it went well or the caller left, WARNING where it failed. Each record of the log has the values of its
    line as a dictionary, too: `record.veyra`.

    Args:
        logger: where to; by default `veyra.calls`.
    """
    place = logging.getLogger("veyra.calls") if logger is None else logger

    def observe(observation: Observation) -> None:
        match observation:
            case AttemptEnded():
                _log(place, _attempt(observation), observation.error)
            case CallEnded(response=ModelResponse(cached=True) | EmbeddingResponse(cached=True) as response):
                _log(place, _values("cached", None, response.backend, response.model, call=observation.call), None)
            case CallEnded(attempts=(), error=BaseException() as error):
                _log(place, _values("refused", error, None, None, call=observation.call), error)
            case _:
                pass

    return observe


def _attempt(ended: AttemptEnded) -> dict[str, Any]:
    record = ended.record
    status = "error" if record is None else record.status  # None where the answer came whole and did not fit
    values = _values(
        status,
        ended.error,
        ended.backend,
        ended.model if ended.response is None else ended.response.model,
        call=ended.call,
    )
    values |= {"attempt": ended.number, "http_status": ended.status, "request_id": _request_id(ended)}
    return values | ({} if record is None else _used(record))


def _used(record: AttemptRecord) -> dict[str, Any]:
    usage: Usage = record.usage
    return {
        "latency_ms": round(record.latency_ms, 1),
        "input_tokens": usage.input_total,
        "output_tokens": usage.output_total,
        "cost_usd": record.cost,
    }


def _request_id(ended: AttemptEnded) -> str | None:
    if ended.response is not None:
        return ended.response.request_id
    return ended.error.request_id if isinstance(ended.error, ProviderError) else None


def _values(
    status: str, error: BaseException | None, backend: str | None, model: str | None, *, call: str
) -> dict[str, Any]:
    kind = None if error is None else _kind(error)
    return {"status": status, "error": kind, "backend": backend, "model": model, "call": call}


def _kind(error: BaseException) -> str:
    return error.kind if isinstance(error, ProviderError) else type(error).__name__


def _log(place: logging.Logger, values: dict[str, Any], error: BaseException | None) -> None:
    level = logging.WARNING if isinstance(error, Exception) else logging.INFO
    if place.isEnabledFor(level):
        line = " ".join(f"{name}={_shown(value)}" for name, value in values.items() if value is not None)
        place.log(level, "%s", line, extra={"veyra": values})


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else ascii(text)
