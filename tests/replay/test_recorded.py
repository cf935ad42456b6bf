"""What was asked comes back from the record as it was asked."""

from __future__ import annotations

from typing import Any

import pytest

from replay.recording import KEY, only
from veyra import AuditLog, get_backend
from veyra.models.request import build_request
from veyra.transport.script import Answer, ScriptedTransport
from veyra.types import Media, Message, Opaque, Prompt, Reasoning, Text, Tool, ToolCall, ToolResult
from wires import HELLO, WIRES

CONVERSATION = [
    Message("user", [Text("Look"), Media(kind="image", media_type="image/png", data=b"\x89\x00\xff", name="a.png")]),
    Message(
        "assistant", [Reasoning("Hm", "sig"), Reasoning("So"), Text("Yes"), ToolCall("c1", "look", {"a": [1]}, "{}")]
    ),
    Message("tool", [ToolResult("c1", "seen", "look", is_error=True)]),
    Message("assistant", "Ja", native=(Opaque("elsewhere", b'{"x":1}'),)),
    Message("user", [Media(kind="document", url="https://example.com/a.pdf"), Opaque("ollama", b"{}")]),
    Message("user", "Tell \N{GRINNING FACE}"),
]
OPTIONS: dict[str, Any] = {
    "model": "o",
    "system": "Be brief.",
    "max_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ("END",),
    "seed": 7,
    "tools": (Tool(name="look", description="Looks", strict=False), Tool(name="b", parameters={"type": "object"})),
    "tool_choice": "look",
    "output": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "metadata": {"who": "me"},
    "cache": "1h",
    "extra": {"deep": {"er": [None, 1.5]}},
}


@pytest.mark.parametrize("prompt", ["Hi", CONVERSATION])
@pytest.mark.parametrize("options", [{}, {"reasoning": "low"}, {"reasoning": 2048}, OPTIONS])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_question_comes_back_as_it_was_asked(prompt: Prompt, options: dict[str, Any], stream: bool) -> None:
    """Messages, parts of every kind and all options come back from the log, and make the same request."""
    log = AuditLog.memory()
    mock = get_backend("mock", audit=log)
    try:
        if stream:
            async with mock.stream(prompt, **options) as reply:
                async for _ in reply:
                    pass
        else:
            await mock.generate(prompt, **options)
    finally:
        question = only(log).question
    before = build_request(prompt, {"model": "mock", **options}, stream=stream)
    after = build_request(question.prompt, question.options, stream=question.stream)
    assert after == before if isinstance(prompt, str) else after.messages == before.messages
    for name in ("model", *options):
        assert getattr(after, name) == getattr(before, name), name


async def test_a_prompt_of_plain_text_is_a_text() -> None:
    """One turn of plain text comes back as a str, as it is written; any other conversation as messages."""
    log = AuditLog.memory()
    await get_backend("mock", audit=log).generate("Hi")
    assert only(log).question.prompt == "Hi"
    log = AuditLog.memory()
    await get_backend("mock", audit=log).generate([Message("user", [Text("Hi")])])
    assert only(log).question.prompt == (Message("user", (Text("Hi"),)),)


async def test_texts_for_vectors_come_back() -> None:
    """The texts and the options of a call for vectors come back from the log."""
    log = AuditLog.memory()
    await get_backend("mock", audit=log).embed(["a", "b"], dimensions=3, extra={"x": 1})
    question = only(log).question
    assert (question.operation, question.texts) == ("embeddings", ("a", "b"))
    assert question.options == {"model": "mock", "dimensions": 3, "extra": {"x": 1}}


async def test_the_record_says_where_a_request_went() -> None:
    """An intent names the path and the query of the request, without a key."""
    log = AuditLog.memory()
    wire = WIRES["gemini"]
    transport = ScriptedTransport([Answer(headers=wire.head(stream=True), chunks=wire.stream(HELLO))])
    backend = get_backend("gemini", model="m", api_key=KEY, transport=transport, audit=log)
    async with backend, backend.stream("Hi") as reply:
        async for _ in reply:
            pass
    attributes = only(log).intent.leaf["attributes"]
    assert attributes["url.path"] == "/v1beta/models/m:streamGenerateContent"
    assert attributes["url.query"] == "alt=sse"
