"""Responses and Gemini behind `get_backend`, over the scripted transport: where the bytes go, and a turn with a tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from veyra import AuditLog, get_backend
from veyra.errors import IncompleteStreamError, RateLimitError
from veyra.models.gate import Gate
from veyra.transport.script import Answer, ScriptedTransport, Step
from veyra.types import Message, TextDelta, Tool, ToolResult

KEY = "canary-0123456789"
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
TOOL = Tool(name="weather")
BACKENDS = ["openai", "gemini"]

SAID: dict[str, list[Any]] = {
    "openai": [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "lo"},
        {
            "type": "response.completed",
            "response": {
                "id": "resp_1",
                "model": "m-1",
                "status": "completed",
                "output": [{"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hello"}]}],
                "usage": {"input_tokens": 5, "output_tokens": 1},
            },
        },
    ],
    "gemini": [
        {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]},
        {
            "candidates": [{"content": {"parts": [{"text": "lo"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1},
            "modelVersion": "m-1",
        },
    ],
}
CALLED: dict[str, list[Any]] = {
    "openai": [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"in":"Bern"}'},
    ],
    "gemini": [{"functionCall": {"name": "weather", "args": {"in": "Bern"}}, "thoughtSignature": "sealed"}],
}
ANSWERED: dict[str, dict[str, Any]] = {
    "openai": {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    "gemini": {"functionResponse": {"name": "weather", "response": {"result": "sunny"}}},
}


def backend(name: str, *script: Step, **options: Any) -> tuple[Gate, ScriptedTransport, AuditLog]:
    transport, log = ScriptedTransport(script), AuditLog.memory()
    return get_backend(name, model="m", api_key=KEY, transport=transport, audit=log, **options), transport, log


def streamed(name: str) -> list[bytes]:
    return [f"data: {json.dumps(event)}\n\n".encode() for event in SAID[name]]


def whole(name: str, items: list[Any]) -> bytes:
    if name == "openai":
        return json.dumps({"id": "resp_2", "model": "m-1", "status": "completed", "output": items}).encode()
    candidate = {"content": {"role": "model", "parts": items}, "finishReason": "STOP"}
    return json.dumps({"candidates": [candidate], "responseId": "r2"}).encode()


@pytest.mark.parametrize(
    ("stream", "url"),
    [
        (False, "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"),
        (True, "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse"),
    ],
)
async def test_the_key_of_gemini_travels_in_its_header(url: str, *, stream: bool) -> None:
    """The model and the way of answering stand in the URL, the key in `x-goog-api-key` and nowhere else."""
    gate, transport, log = backend("gemini", Answer(headers=SSE, chunks=streamed("gemini")))
    if stream:
        async with gate.stream("Hi") as reply:
            async for _ in reply:
                pass
    else:
        await gate.generate("Hi")
    sent = transport.sent[0]
    assert sent.url == url
    assert {name: key.reveal() for name, key in sent.secret_headers.items()} == {"x-goog-api-key": KEY}
    assert KEY not in repr(sent)
    assert all(KEY.encode() not in entry.raw for entry in log.entries())


@pytest.mark.parametrize("name", BACKENDS)
async def test_an_answer_has_the_one_form(name: str) -> None:
    """A streamed answer comes to the same values as that of any other backend."""
    gate, _, log = backend(name, Answer(headers=SSE, chunks=streamed(name)))
    async with gate.stream("Hi") as reply:
        pieces = [event.text async for event in reply if isinstance(event, TextDelta)]
    r = reply.response
    assert (pieces, r.content, r.model, r.backend) == (["Hel", "lo"], "Hello", "m-1", name)
    assert (r.finish_reason, r.prompt_tokens, r.completion_tokens) == ("stop", 5, 1)
    assert [row.status for row in log.attempts()] == ["ok"]


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_stream_without_its_end_is_an_error(name: str) -> None:
    """A stream that ends before the provider said why is incomplete, and holds what came."""
    gate, _, log = backend(name, Answer(headers=SSE, chunks=streamed(name)[:1]))
    with pytest.raises(IncompleteStreamError) as caught:
        async with gate.stream("Hi") as reply:
            async for _ in reply:
                pass
    assert (caught.value.partial, caught.value.ambiguous) == ("Hel", True)
    assert [row.status for row in log.attempts()] == ["incomplete"]


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_turn_with_a_tool(name: str) -> None:
    """What the model sealed goes back untouched in the next turn, and the tool's result after it."""
    answers = [Answer(headers=JSON, chunks=[whole(name, CALLED[name])])] * 2
    gate, transport, _ = backend(name, *answers)
    said = [Message("user", "Hi")]
    r = await gate.generate(said, tools=[TOOL])
    assert r.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in r.tool_calls] == [("weather", {"in": "Bern"})]
    await gate.generate([*said, r.message, Message("tool", (ToolResult(r.tool_calls[0].id, "sunny"),))], tools=[TOOL])
    body = json.loads(transport.sent[1].body)
    if name == "openai":
        assert body["input"][1:] == [*CALLED[name], ANSWERED[name]]
    else:
        assert [turn["parts"] for turn in body["contents"][1:]] == [CALLED[name], [ANSWERED[name]]]


@pytest.mark.parametrize("name", BACKENDS)
async def test_an_error_says_when_to_come_again(name: str) -> None:
    """A rate limit is told as such, with the seconds to wait, whether the head or the body names them."""
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    told = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [detail]}
    headers = JSON if name == "gemini" else JSON | {"retry-after": "7"}
    gate, _, _ = backend(name, Answer(status=429, headers=headers, chunks=[json.dumps({"error": told}).encode()]))
    with pytest.raises(RateLimitError) as caught:
        await gate.generate("Hi")
    assert (caught.value.retry_after, caught.value.retryable) == (7.0, True)


async def test_health_of_gemini_costs_nothing() -> None:
    """Gemini is asked for its list of models, with the key in the header."""
    gate, transport, _ = backend("gemini", Answer(headers=JSON, chunks=[b"{}"]))
    assert await gate.health_check()
    sent = transport.sent[0]
    assert (sent.method, sent.url) == ("GET", "https://generativelanguage.googleapis.com/v1beta/models")
    assert list(sent.secret_headers) == ["x-goog-api-key"]
