"""Spans and metrics of OpenTelemetry for a client's calls: `Client(observers=[Telemetry()])`. Needs `veyra[otel]`.

The names are those of the semantic conventions for generative AI, version 1.41, which OpenTelemetry's packages of names have. They
are still in development: in the repository of their own that they have moved to since, the measurements have other names.

- A call is a span (kind INTERNAL, `veyra chat` or `veyra embeddings`), a child of the caller's current span; waits are events of it.
- Each attempt is a span below it (kind CLIENT, `{operation} {model}`) with the `gen_ai.*` attributes. An answer from a cache has none.
- Each attempt counts in the histograms `gen_ai.client.operation.duration`, `gen_ai.client.token.usage` and, streamed,
  `gen_ai.client.operation.time_to_first_chunk`. Tokens that were not stated are not counted.
- The trace's id goes on record with each entry of the call (`veyra.trace_id`; `veyra audit list --trace`).

Content is left out unless it is asked for; messages of errors are left out always, for a provider may quote a prompt in them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from veyra import __version__
from veyra.client.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    FirstEvent,
    Observation,
    Operation,
    Waiting,
)
from veyra.errors import OutputMismatchError, ProviderError
from veyra.types import (
    EmbeddingResponse,
    EmbedRequest,
    Media,
    Message,
    ModelResponse,
    Opaque,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    _MISSING = "veyra.client.otel needs opentelemetry-api: pip install 'veyra[otel]'"
    raise ImportError(_MISSING, name=error.name) from error

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4.0**power for power in range(14))
"""Bounds of the histograms' buckets, as the conventions have them."""

_PORTS = {"http": 80, "https": 443}
_REQUEST = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
}
_USAGE = {
    "input_total": "gen_ai.usage.input_tokens",
    "output_total": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}


@dataclass(slots=True)
class _Running:
    """A call that has begun: its span, and what is known of the attempt that is under way."""

    span: Span
    started: CallStarted
    attempt: AttemptStarted | None = None
    began_ns: int = 0
    began: float = 0.0
    first_after: float | None = None


class Telemetry:
    """An observer that tells OpenTelemetry of calls; one may serve several clients.

    Args:
        tracer_provider, meter_provider: where spans and metrics go; by default the process's own.
        content: put prompts and answers on the spans (`gen_ai.input.messages`, `gen_ai.output.messages`,
            `gen_ai.system_instructions`), in the clear; the bytes of media are left out.
        clock: says what time it is, in seconds; only differences count.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._content = content
        self._clock = clock
        self._calls: dict[str, _Running] = {}
        self._tracer = trace.get_tracer("veyra", __version__, tracer_provider)
        meter = metrics.get_meter("veyra", __version__, meter_provider)
        self._duration = _histogram(meter, "gen_ai.client.operation.duration", "s", _SECONDS)
        self._first_chunk = _histogram(meter, "gen_ai.client.operation.time_to_first_chunk", "s", _SECONDS)
        self._tokens = _histogram(meter, "gen_ai.client.token.usage", "{token}", _TOKENS)

    def __call__(self, observation: Observation) -> None:
        """Take an observation; see the head of this module."""
        if isinstance(observation, CallStarted):
            self._started(observation)
            return
        running = self._calls.get(observation.call)
        if running is None:
            return
        match observation:
            case AttemptStarted():
                running.attempt = observation
                running.began_ns, running.began = time.time_ns(), self._clock()
            case FirstEvent():
                running.first_after = self._clock() - running.began
            case AttemptEnded():
                self._attempt_ended(running, observation)
            case Waiting(reason=reason, seconds=seconds):
                running.span.add_event("veyra.wait", {"veyra.wait.reason": reason, "veyra.wait.seconds": seconds})
            case CallEnded():
                self._ended(running, observation)

    def trace_id(self, call: str) -> str | None:
        """Return the id of a running call's trace, as 32 hex digits; None where nothing traces."""
        running = self._calls.get(call)
        context = None if running is None else running.span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context is not None and context.is_valid else None

    def _started(self, started: CallStarted) -> None:
        span = self._tracer.start_span(
            f"veyra {started.operation}",
            kind=SpanKind.INTERNAL,
            attributes={"veyra.call": started.call, "veyra.stream": started.stream},
        )
        self._calls[started.call] = _Running(span, started)

    def _ended(self, running: _Running, ended: CallEnded) -> None:
        del self._calls[ended.call]
        running.span.set_attribute("veyra.attempts", len(ended.attempts))
        running.span.set_attribute("veyra.cached", ended.response is not None and ended.response.cached)
        _fail(running.span, ended.error)
        running.span.end()

    def _attempt_ended(self, running: _Running, ended: AttemptEnded) -> None:
        """Tell of an attempt: its span is made now that all of it is known, and begins when the attempt did."""
        started = running.attempt
        if started is None:
            return
        seconds = self._clock() - running.began
        operation = running.started.operation
        common = _common(operation, ended)
        attributes = {**common, **_how(running.started), **_asked(started.request), **_answered(ended)}
        if running.first_after is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = running.first_after
        if self._content:
            attributes |= _content(started.request, _answer(ended))
        span = self._tracer.start_span(
            f"{operation} {ended.model}" if ended.model else operation,
            context=trace.set_span_in_context(running.span),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=running.began_ns,
        )
        _fail(span, ended.error)
        span.end()
        self._measure(running, ended, seconds, common)

    def _measure(self, running: _Running, ended: AttemptEnded, seconds: float, common: dict[str, Any]) -> None:
        answer = _answer(ended)
        if answer is not None:
            common["gen_ai.response.model"] = answer.model
            for kind, count in (("input", answer.usage.input_total), ("output", answer.usage.output_total)):
                if count is not None:
                    self._tokens.record(count, {**common, "gen_ai.token.type": kind})
        if ended.error is not None:
            common["error.type"] = _kind(ended.error)
        self._duration.record(seconds, common)
        if running.first_after is not None:
            self._first_chunk.record(running.first_after, common)


def _histogram(meter: Meter, name: str, unit: str, bounds: Sequence[float]) -> Histogram:
    return meter.create_histogram(name, unit=unit, explicit_bucket_boundaries_advisory=bounds)


def _common(operation: Operation, ended: AttemptEnded) -> dict[str, Any]:
    """Return what spans and metrics of an attempt share: few values each, so that they can be summed by."""
    attributes: dict[str, Any] = {"gen_ai.operation.name": operation, "gen_ai.provider.name": ended.provider}
    if ended.model is not None:
        attributes["gen_ai.request.model"] = ended.model
    where = None if ended.url is None else urlsplit(ended.url)
    if where is not None and where.hostname is not None:
        attributes["server.address"] = where.hostname
        port = where.port or _PORTS.get(where.scheme)
        if port is not None:
            attributes["server.port"] = port
    return attributes


def _how(started: CallStarted) -> dict[str, Any]:
    """Return what holds for each attempt of a call. What is not streamed, or no part of a conversation, has no word of it."""
    attributes: dict[str, Any] = {"veyra.call": started.call}
    if started.stream:
        attributes["gen_ai.request.stream"] = True
    if started.conversation is not None:
        attributes["gen_ai.conversation.id"] = started.conversation
    return attributes


def _asked(request: Request | EmbedRequest) -> dict[str, Any]:
    if isinstance(request, EmbedRequest):
        return {} if request.dimensions is None else {"gen_ai.embeddings.dimension.count": request.dimensions}
    given = {attribute: getattr(request, option) for option, attribute in _REQUEST.items()}
    attributes = {attribute: value for attribute, value in given.items() if value is not None and value != ()}
    if request.output is not None:
        attributes["gen_ai.output.type"] = "json"
    return attributes


def _answer(ended: AttemptEnded) -> ModelResponse | EmbeddingResponse | None:
    """Return the answer of an attempt, where it came whole, be it of use or not."""
    return ended.error.response if isinstance(ended.error, OutputMismatchError) else ended.response


def _answered(ended: AttemptEnded) -> dict[str, Any]:
    attributes: dict[str, Any] = {"veyra.backend": ended.backend, "veyra.attempt": ended.number}
    if ended.status is not None:
        attributes["http.response.status_code"] = ended.status
    answer = _answer(ended)
    if answer is None:
        return attributes
    attributes["gen_ai.response.model"] = answer.model
    attributes |= _usage(answer.usage)
    if answer.cost is not None:
        attributes["veyra.cost.usd"] = float(answer.cost)
    if answer.request_id is not None:
        attributes["veyra.request_id"] = answer.request_id
    if isinstance(answer, ModelResponse):
        reason = answer.raw_finish_reason or answer.finish_reason
        if reason is not None:
            attributes["gen_ai.response.finish_reasons"] = [reason]
        if answer.response_id is not None:
            attributes["gen_ai.response.id"] = answer.response_id
    return attributes


def _usage(usage: Usage) -> dict[str, int]:
    stated = {attribute: getattr(usage, name) for name, attribute in _USAGE.items()}
    return {attribute: count for attribute, count in stated.items() if count is not None}


def _kind(error: BaseException) -> str:
    """Return `error.type`: our kind of a provider's error, `cancelled` where the caller left, else the class."""
    if isinstance(error, ProviderError):
        return error.kind
    return type(error).__name__ if isinstance(error, Exception) else "cancelled"


def _fail(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", _kind(error))
        if isinstance(error, Exception):  # that a caller leaves is no failure
            span.set_status(Status(StatusCode.ERROR))


# ------------------------------------------------------------------------------------------------ content


def _content(request: Request | EmbedRequest, answer: ModelResponse | EmbeddingResponse | None) -> dict[str, str]:
    """Return prompt and answer in the JSON of the conventions; texts that want vectors have no attribute there."""
    if isinstance(request, EmbedRequest):
        return {}
    attributes = {"gen_ai.input.messages": json.dumps([_message(message) for message in request.messages])}
    if request.system is not None:
        attributes["gen_ai.system_instructions"] = json.dumps([{"type": "text", "content": request.system}])
    if isinstance(answer, ModelResponse):
        said = {**_message(answer.message), "finish_reason": answer.finish_reason}
        attributes["gen_ai.output.messages"] = json.dumps([said])
    return attributes


def _message(message: Message) -> dict[str, object]:
    return {"role": message.role, "parts": [_part(part) for part in message.parts]}


def _part(part: Part) -> dict[str, object]:
    match part:
        case Text(text):
            return {"type": "text", "content": text}
        case Reasoning(text):
            return {"type": "reasoning", "content": text}
        case ToolCall(id=id_, name=name, arguments=arguments, raw=raw):
            return {"type": "tool_call", "id": id_, "name": name, "arguments": raw if arguments is None else arguments}
        case ToolResult(id=id_, content=content):
            return {"type": "tool_call_response", "id": id_, "response": content}
        case Media():
            return _media(part)
        case Opaque(dialect=dialect):
            return {"type": "opaque", "dialect": dialect}


def _media(part: Media) -> dict[str, object]:
    about = {"modality": part.kind, "mime_type": part.media_type}
    if part.url is not None:
        return {"type": "uri", **about, "uri": part.url}
    if part.file_id is not None:
        return {"type": "file", **about, "file_id": part.file_id}
    return {"type": part.kind, **about, "bytes": len(part.data or b"")}
