"""What OpenTelemetry is told of calls, read back from exporters in memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    gen_ai_attributes,
    http_attributes,
    server_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

import virtual
from client.asked import Scripted
from veyra import AuditLog, Cache, Client, Conversation, Message, MockBackend, Retry, get_backend
from veyra.client.observe import CallEnded, CallStarted
from veyra.client.otel import Telemetry
from veyra.errors import OutputMismatchError, ServerError
from veyra.models.mock_reply import MockReply
from veyra.transport.script import Answer, ScriptedTransport
from veyra.types import Media, Opaque, Reasoning, Text, ToolCall, ToolResult, Usage

QUESTION, ANSWER = "What is the secret?", "It is 4711."
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-x-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}


class Collected:
    """Where a test's spans and measurements go."""

    def __init__(self, *, sampled: bool = True) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider() if sampled else TracerProvider(sampler=ALWAYS_OFF)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader])

    def telemetry(self, **options: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._spans.get_finished_spans()

    @property
    def metrics(self) -> list[Metric]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return [metric for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics]

    def points(self, name: str) -> list[HistogramDataPoint]:
        found = [metric for metric in self.metrics if metric.name == name]
        return [point for metric in found for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]


@pytest.fixture
def collected() -> Iterator[Collected]:
    here = Collected()
    yield here
    here.tracers.shutdown()
    here.meters.shutdown()


def about(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def wire(*answers: Answer, audit: Any = "memory") -> Any:
    return get_backend(
        "openai",
        model="gpt-x",
        api="chat",
        api_key="sk-test-key",
        base_url="https://models.example:8443/v1",
        transport=ScriptedTransport(answers),
        audit=audit,
    )


def said(value: object = GOOD, status: int = 200) -> Answer:
    return Answer(
        status=status,
        headers={"content-type": "application/json", "x-request-id": "req_1"},
        chunks=(json.dumps(value).encode(),),
    )


# -------------------------------------------------------------------------------------------------- spans


async def test_an_attempt_is_a_client_span_with_the_conventions_attributes(collected: Collected) -> None:
    """Who was asked, for what, where, what answered and what it used: under the names that dashboards know."""
    client = Client(wire(said()), observers=[collected.telemetry()])
    answer = await client.generate(
        QUESTION, system="Be brief.", max_tokens=9, temperature=0.5, top_p=0.9, seed=3, stop=["x", "y"], output=None
    )
    attempt, call = collected.spans
    assert (attempt.name, attempt.kind) == ("chat gpt-x", SpanKind.CLIENT)
    assert (call.name, call.kind) == ("veyra chat", SpanKind.INTERNAL)
    attributes = dict(about(attempt))
    assert attributes.pop("veyra.call") == about(call)["veyra.call"]
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("x", "y"),
        "gen_ai.response.model": "gpt-x-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "server.address": "models.example",
        "server.port": 8443,
        "http.response.status_code": 200,
        "veyra.backend": "openai",
        "veyra.attempt": 1,
        "veyra.request_id": "req_1",
    } | ({} if answer.cost is None else {"veyra.cost.usd": float(answer.cost)})
    assert about(call)["veyra.attempts"] == 1
    assert attempt.status.status_code is StatusCode.UNSET


def test_spans_hang_together_and_under_the_callers(collected: Collected) -> None:
    """Attempts are children of the call, the call of the span that was current where it was made; waits are its events."""

    async def ask() -> None:
        telemetry = collected.telemetry(clock=asyncio.get_running_loop().time)
        client = Client(
            Scripted([ServerError("down")]), audit="memory", observers=[telemetry], chance=lambda: 1.0, retry=Retry()
        )
        with collected.tracers.get_tracer("test").start_as_current_span("handler"):
            await client.generate("Hello")

    virtual.run(ask())
    first, second, call, handler = collected.spans
    assert [span.parent for span in (first, second, call)] == [call.context, call.context, handler.context]
    assert len({span.context and span.context.trace_id for span in collected.spans}) == 1
    assert [about(span)["veyra.attempt"] for span in (first, second)] == [1, 2]
    (wait,) = call.events
    assert (wait.name, dict(wait.attributes or {})) == (
        "veyra.wait",
        {"veyra.wait.reason": "retry", "veyra.wait.seconds": 0.5},
    )
    for span in collected.spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert handler.start_time is not None
        assert handler.start_time <= span.start_time <= span.end_time


async def test_a_span_begins_when_its_attempt_does(collected: Collected) -> None:
    """Although it is made when the attempt has ended, with all that is known then."""
    asked_at: list[int] = []
    client = Client(
        MockBackend(lambda request: asked_at.append(time.time_ns())), audit="memory", observers=[collected.telemetry()]
    )
    await client.generate("Hello")
    attempt, call = collected.spans
    assert call.start_time is not None
    assert attempt.start_time is not None
    assert call.start_time <= attempt.start_time <= asked_at[0]


async def test_a_failure_is_told_by_its_kind_alone(collected: Collected) -> None:
    """The span has `error.type` and the status; the provider's message, which may quote the prompt, is on none."""
    refusal = {"error": {"message": f"bad prompt: {QUESTION}", "type": "server_error"}}
    client = Client(wire(said(refusal, 500)), retry=Retry(attempts=1), observers=[collected.telemetry()])
    with pytest.raises(ServerError):
        await client.generate(QUESTION)
    attempt, call = collected.spans
    for span in (attempt, call):
        assert about(span)["error.type"] == ServerError.kind
        assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())
    assert about(attempt)["http.response.status_code"] == 500


async def test_an_answer_that_does_not_fit_is_an_error_with_its_tokens(collected: Collected) -> None:
    """It was paid for, so its usage counts."""
    client = Client(wire(said()), retry=Retry(attempts=1), observers=[collected.telemetry()])
    with pytest.raises(OutputMismatchError):
        await client.generate(QUESTION, output=int)
    attempt = collected.spans[0]
    assert about(attempt)["error.type"] == OutputMismatchError.kind
    assert about(attempt)["gen_ai.usage.input_tokens"] == 30
    assert about(attempt)["gen_ai.output.type"] == "json"
    assert [point.sum for point in collected.points("gen_ai.client.token.usage")] == [30, 5]


async def test_a_caller_that_leaves_is_no_failure(collected: Collected) -> None:
    """A stream that is left, and a call that is cancelled, are told as cancelled, and nothing is held of them."""
    telemetry = collected.telemetry()
    client = Client(MockBackend(), audit="memory", observers=[telemetry])
    async with client.stream("one two three") as reply:
        async for _ in reply:
            break
    task = asyncio.create_task(Client(Scripted([], takes=60), audit="off", observers=[telemetry]).generate("Hello"))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(collected.spans) == 4
    for span in collected.spans:
        assert (about(span)["error.type"], span.status.status_code) == ("cancelled", StatusCode.UNSET)
    assert telemetry._calls == {}


async def test_a_call_that_is_cancelled_while_it_waits_has_an_end(collected: Collected) -> None:
    """Between attempts as in them."""
    telemetry = collected.telemetry()
    client = Client(Scripted([ServerError("down")] * 9), audit="off", observers=[telemetry], chance=lambda: 1.0)
    task = asyncio.create_task(client.generate("Hello"))
    while len(collected.spans) < 1:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [span.name for span in collected.spans] == ["chat m", "veyra chat"]
    assert telemetry._calls == {}


async def test_streams_and_conversations_are_told_as_such(collected: Collected) -> None:
    """A stream is marked as one, and the turns of a conversation have its id; a call that is neither has no word of it."""
    client = Client(MockBackend(), audit="memory", observers=[collected.telemetry()])
    talk = Conversation(client, id="talk-1")
    await talk.send("Hello")
    async with talk.stream("And?") as reply:
        async for _ in reply:
            pass
    await client.generate("Hello")
    attempts = [about(span) for span in collected.spans if span.kind is SpanKind.CLIENT]
    assert [span.get("gen_ai.request.stream") for span in attempts] == [None, True, None]
    assert [span.get("gen_ai.conversation.id") for span in attempts] == ["talk-1", "talk-1", None]


async def test_calls_for_vectors_are_told_too(collected: Collected) -> None:
    """With their operation and dimensions."""
    client = Client(MockBackend(), audit="memory", observers=[collected.telemetry(content=True)])
    await client.embed(["Hello", "you"], dimensions=8)
    attempt, call = collected.spans
    assert (attempt.name, call.name) == ("embeddings mock", "veyra embeddings")
    assert about(attempt)["gen_ai.operation.name"] == "embeddings"
    assert about(attempt)["gen_ai.embeddings.dimension.count"] == 8


async def test_an_answer_from_the_cache_has_no_attempt(collected: Collected) -> None:
    """The call's span says so, and nothing is measured."""
    client = Client(MockBackend(), audit="memory", cache=Cache.memory(), observers=[collected.telemetry()])
    for _ in range(2):
        await client.generate("Hello")
    assert [span.name for span in collected.spans] == ["chat mock", "veyra chat", "veyra chat"]
    assert [about(span)["veyra.cached"] for span in collected.spans[1:]] == [False, True]
    assert sum(point.count for point in collected.points("gen_ai.client.operation.duration")) == 1


# ------------------------------------------------------------------------------------------------ content


async def test_content_is_left_out_unless_it_is_asked_for(collected: Collected) -> None:
    """No attribute of a span or a measurement holds a word of prompt or answer, or the key."""
    client = Client(wire(said()), observers=[collected.telemetry()])
    await client.generate([Message("user", QUESTION)], system="Whisper.")
    told = str([span.to_json() for span in collected.spans])
    for word in ("secret", "4711", "Whisper", "sk-test-key"):
        assert word not in told


async def test_content_that_is_asked_for_has_the_conventions_form(collected: Collected) -> None:
    """Messages with their parts; of media what they are, not their bytes; never a key."""
    client = Client(wire(said()), observers=[collected.telemetry(content=True)])
    conversation = [
        Message("user", [Text(QUESTION), Media(kind="image", media_type="image/png", data=b"PNGPNG")]),
        Message("assistant", (Reasoning("hm"), ToolCall("c1", "look", {"at": "it"}, '{"at":"it"}'))),
        Message("tool", (ToolResult("c1", "seen"),)),
        Message("user", [Media(kind="image", url="https://pictures.example/1.png")]),
    ]
    await client.generate(conversation, system="Be brief.")
    attributes = about(collected.spans[0])
    messages = json.loads(attributes["gen_ai.input.messages"])
    assert messages[0] == {
        "role": "user",
        "parts": [
            {"type": "text", "content": QUESTION},
            {"type": "image", "modality": "image", "mime_type": "image/png", "bytes": 6},
        ],
    }
    assert messages[1]["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "it"}},
    ]
    assert messages[2]["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "seen"}]
    assert messages[3]["parts"][0]["uri"] == "https://pictures.example/1.png"
    assert json.loads(attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
    ]
    assert "sk-test-key" not in str(attributes)


async def test_every_kind_of_part_has_a_form(collected: Collected) -> None:
    """A file at the provider, a provider's own block, arguments that are no JSON: content never fails a span."""
    client = Client(MockBackend(), audit="memory", observers=[collected.telemetry(content=True)])
    parts = (Media(kind="document", file_id="f1"), Opaque("openai", b"{}"), ToolCall("c", "f", None, "{no"))
    await client.generate([Message("user", parts[:2]), Message("assistant", parts[2:3]), Message("user", "Hello")])
    messages = json.loads(about(collected.spans[0])["gen_ai.input.messages"])
    kinds = [part["type"] for message in messages for part in message["parts"]]
    assert kinds == ["file", "opaque", "tool_call", "text"]
    assert messages[1]["parts"][0]["arguments"] == "{no"


# ------------------------------------------------------------------------------------------------ metrics


async def test_measurements_have_the_conventions_names_units_and_bounds(collected: Collected) -> None:
    """Duration and tokens of each attempt, in seconds and tokens, in the buckets that the conventions ask for."""
    ticks = count(0.0, 2.0)
    client = Client(wire(said(), said()), observers=[collected.telemetry(clock=lambda: next(ticks))])
    for _ in range(2):
        await client.generate(QUESTION)
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert (duration.count, duration.sum) == (2, 4.0)
    assert tuple(duration.explicit_bounds)[:3] == (0.01, 0.02, 0.04)
    assert tuple(duration.explicit_bounds)[-1] == 81.92
    assert dict(duration.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.response.model": "gpt-x-2026",
        "server.address": "models.example",
        "server.port": 8443,
    }
    tokens = {
        dict(p.attributes or {})["gen_ai.token.type"]: p.sum for p in collected.points("gen_ai.client.token.usage")
    }
    assert tokens == {"input": 60, "output": 10}
    assert tuple(collected.points("gen_ai.client.token.usage")[0].explicit_bounds)[-1] == 4.0**13
    assert collected.points("gen_ai.client.operation.time_to_first_chunk") == []


async def test_the_first_chunk_of_a_stream_is_measured(collected: Collected) -> None:
    """From the start of the attempt that gave it; on the span, too."""
    ticks = count(0.0, 1.0)
    client = Client(MockBackend(), audit="memory", observers=[collected.telemetry(clock=lambda: next(ticks))])
    async with client.stream("one two") as reply:
        async for _ in reply:
            pass
    (point,) = collected.points("gen_ai.client.operation.time_to_first_chunk")
    assert (point.count, point.sum) == (1, 1.0)
    assert about(collected.spans[0])["gen_ai.response.time_to_first_chunk"] == 1.0


async def test_no_name_is_made_up(collected: Collected) -> None:
    """Every attribute, measurement and unit is in OpenTelemetry's own list of names, apart from those that begin with ours."""
    telemetry = collected.telemetry(content=True)
    reply = MockReply('{"a": 1}', usage=Usage(*range(1, 7)), finish_reason="stop")
    mock = MockBackend([reply, reply, ServerError("down", status=500)])
    client = Client(mock, audit="memory", retry=Retry(attempts=1), observers=[telemetry])
    options: Any = {"system": "Hm.", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["x"]}
    await client.generate(QUESTION, output={"type": "object"}, conversation="talk-1", **options)
    async with client.stream(QUESTION) as stream:
        async for _ in stream:
            pass
    with pytest.raises(ServerError):
        await client.generate(QUESTION)
    await client.embed("Hello", dimensions=8)
    await Client(wire(said()), observers=[telemetry]).generate(QUESTION)
    listed = (error_attributes, gen_ai_attributes, http_attributes, server_attributes)
    known = {name for module in listed for name in vars(module).values() if isinstance(name, str)}
    used = {name for span in collected.spans for name in about(span)}
    metrics = collected.metrics
    used |= {name for metric in metrics for point in metric.data.data_points for name in point.attributes or {}}
    assert {name for name in used if not name.startswith("veyra.")} - known == set()
    assert len(used & known) >= 29
    official = Collected()
    meter = official.meters.get_meter("official")
    for make in (
        gen_ai_metrics.create_gen_ai_client_operation_duration,
        gen_ai_metrics.create_gen_ai_client_operation_time_to_first_chunk,
        gen_ai_metrics.create_gen_ai_client_token_usage,
    ):
        make(meter).record(1)
    assert {(m.name, m.unit) for m in metrics} == {(m.name, m.unit) for m in official.metrics}


async def test_a_failed_attempt_is_measured_as_one(collected: Collected) -> None:
    """Its duration has the kind of the error; tokens that nobody stated are not counted."""
    client = Client(
        Scripted([ServerError("down")]), audit="off", retry=Retry(attempts=1), observers=[collected.telemetry()]
    )
    with pytest.raises(ServerError):
        await client.generate("Hello")
    (point,) = collected.points("gen_ai.client.operation.duration")
    assert dict(point.attributes or {})["error.type"] == ServerError.kind
    assert collected.points("gen_ai.client.token.usage") == []


# ----------------------------------------------------------------------------------------- the log's side


async def test_the_trace_is_on_record_with_every_entry_of_the_call(collected: Collected) -> None:
    """`veyra audit list --trace` finds what a trace names: attempts and hits alike."""
    log = AuditLog.memory()
    client = Client(MockBackend(), audit=log, cache=Cache.memory(), observers=[collected.telemetry()])
    with collected.tracers.get_tracer("test").start_as_current_span("handler") as handler:
        await client.generate("Hello")
        await client.generate("Hello")
    expected = trace.format_trace_id(handler.get_span_context().trace_id)
    found = [
        e.leaf["attributes"]["veyra.trace_id"] for e in log.entries() if e.leaf["kind"] in {"call.intent", "cache.hit"}
    ]
    assert found == [expected, expected]


async def test_a_call_that_is_not_sampled_still_has_its_trace_on_record() -> None:
    """No span is exported, and the log can still be tied to the caller's other traces."""
    collected, log = Collected(sampled=False), AuditLog.memory()
    client = Client(MockBackend(), audit=log, observers=[collected.telemetry()])
    await client.generate("Hello")
    assert not collected.spans
    (intent,) = (e.leaf for e in log.entries() if e.leaf["kind"] == "call.intent")
    assert len(intent["attributes"]["veyra.trace_id"]) == 32


async def test_without_a_provider_nothing_is_told_and_nothing_fails() -> None:
    """Where the application set up no OpenTelemetry, calls are as they were, and no trace is on record."""
    log = AuditLog.memory()
    telemetry = Telemetry()
    client = Client(MockBackend(), audit=log, observers=[telemetry])
    assert (await client.generate("Hello")).content
    (intent,) = (e.leaf for e in log.entries() if e.leaf["kind"] == "call.intent")
    assert "veyra.trace_id" not in intent["attributes"]
    assert telemetry.trace_id("unknown") is None


def test_ends_of_calls_it_never_saw_begin_are_nothing(collected: Collected) -> None:
    """An observer that is put in the middle of a call keeps quiet."""
    telemetry = collected.telemetry()
    telemetry(CallEnded(call="c", attempts=()))
    assert not collected.spans
    telemetry(CallStarted(call="c", operation="chat", stream=False))
    telemetry(CallEnded(call="c", attempts=()))
    assert [span.name for span in collected.spans] == ["veyra chat"]


# ----------------------------------------------------------------------------------------------- the extra

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import veyra, veyra.client.client, veyra.client.observe, veyra.client.logs
try:
    import veyra.client.otel
except ImportError as error:
    print(error)
"""


def test_without_the_extra_the_error_names_it() -> None:
    """Nothing else of Veyra needs the package, and whoever asks for it is told what to install."""
    result = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert result.stdout == "veyra.client.otel needs opentelemetry-api: pip install 'veyra[otel]'\n"
