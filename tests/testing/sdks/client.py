"""Lets the providers' own SDKs for Python do jobs, and tells what came of each; client.mjs is the same for JavaScript.

Jobs come as JSON, one on a line of standard input, and run eight at a time; what came of them goes to standard output, one JSON
object on a line, in the order in which they end. A job: {id, sdk, url, stream, tools, fault, deadline, timeout}.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import anthropic
import ollama
import openai

MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]
PARAMETERS = {"type": "object", "properties": {"at": {"type": "string"}}}
FUNCTION = {"name": "look", "description": "Look somewhere.", "parameters": PARAMETERS}


@dataclass
class Seen:
    """What came of a job."""

    id: int
    text: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: str | None = None
    error: str | None = None
    status: int | None = None
    message: str | None = None
    waits: bool = False
    seconds: float = 0.0


def headers(job: dict[str, Any]) -> dict[str, str]:
    return {"x-job": str(job["id"]), **({"x-veyra-fault": job["fault"]} if job["fault"] else {})}


@cache
def shared(sdk: str, url: str, timeout: float) -> Any:
    """Return the client for all calls of an SDK to an address; making one takes longer than a call."""
    kind = anthropic.AsyncAnthropic if sdk == "anthropic" else openai.AsyncOpenAI
    return kind(api_key="none", base_url=url, timeout=timeout)


def client_of(job: dict[str, Any]) -> Any:
    """Return the client for a job; Ollama's takes no headers with a call."""
    if job["sdk"] == "ollama":
        return ollama.AsyncClient(host=job["url"], headers=headers(job), timeout=job["timeout"])
    return shared(job["sdk"], job["url"], job["timeout"])


async def openai_chat(client: Any, job: dict[str, Any], seen: Seen) -> None:
    tools: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]} if job["tools"] else {}
    answer: Any = await client.chat.completions.create(
        model="m", messages=MESSAGES, stream=job["stream"], extra_headers=headers(job), **tools
    )
    if not job["stream"]:
        choice = answer.choices[0]
        seen.text += choice.message.content or ""
        seen.finish = choice.finish_reason
        seen.calls += [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or ()]
        return
    async for chunk in answer:
        for choice in chunk.choices[:1]:
            seen.text += choice.delta.content or ""
            seen.finish = choice.finish_reason or seen.finish
            for call in choice.delta.tool_calls or ():
                if call.index == len(seen.calls):
                    seen.calls.append([call.function.name, ""])
                seen.calls[call.index][1] += call.function.arguments or ""


async def openai_responses(client: Any, job: dict[str, Any], seen: Seen) -> None:
    tools: dict[str, Any] = {"tools": [{"type": "function", "strict": False, **FUNCTION}]} if job["tools"] else {}

    def ended(response: Any) -> None:
        seen.finish = response.status
        seen.calls += [[item.name, item.arguments] for item in response.output if item.type == "function_call"]

    answer: Any = await client.responses.create(
        model="m", input="Hi", stream=job["stream"], extra_headers=headers(job), **tools
    )
    if not job["stream"]:
        seen.text += answer.output_text
        ended(answer)
        return
    async for event in answer:
        if event.type == "response.output_text.delta":
            seen.text += event.delta
        elif event.type in {"response.completed", "response.failed", "response.incomplete"}:
            ended(event.response)


async def anthropic_messages(client: Any, job: dict[str, Any], seen: Seen) -> None:
    tool = {"name": FUNCTION["name"], "description": FUNCTION["description"], "input_schema": PARAMETERS}
    body: dict[str, Any] = {"model": "m", "max_tokens": 99, "messages": MESSAGES, "extra_headers": headers(job)}
    if job["tools"]:
        body["tools"] = [tool]

    def ended(message: Any) -> None:
        seen.finish = message.stop_reason
        seen.calls += [[block.name, json.dumps(block.input)] for block in message.content if block.type == "tool_use"]

    if not job["stream"]:
        message: Any = await client.messages.create(**body)
        seen.text += "".join(block.text for block in message.content if block.type == "text")
        ended(message)
        return
    async with client.messages.stream(**body) as stream:
        async for piece in stream.text_stream:
            seen.text += piece
        ended(await stream.get_final_message())


async def ollama_chat(client: Any, job: dict[str, Any], seen: Seen) -> None:
    tools: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]} if job["tools"] else {}
    answer: Any = await client.chat(model="m", messages=MESSAGES, stream=job["stream"], **tools)

    def take(part: Any) -> None:
        seen.text += part.message.content or ""
        seen.finish = part.done_reason or seen.finish
        for call in part.message.tool_calls or ():
            seen.calls.append([call.function.name, json.dumps(dict(call.function.arguments))])

    if not job["stream"]:
        take(answer)
        return
    async for part in answer:
        take(part)


DO = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic_messages,
    "ollama": ollama_chat,
}


async def done(client: Any, job: dict[str, Any]) -> Seen:
    seen = Seen(job["id"])
    begun = time.perf_counter()
    limit = asyncio.timeout(job["deadline"])
    try:
        async with limit:
            await DO[job["sdk"]](client, job, seen)
    except Exception as error:  # noqa: BLE001  (to be told)
        seen.waits = limit.expired()
        if not seen.waits:
            seen.error, seen.message = type(error).__name__, str(error)
            status = getattr(error, "status_code", None)
            seen.status = status if isinstance(status, int) else None
    seen.seconds = time.perf_counter() - begun
    return seen


async def main() -> None:
    jobs = [json.loads(line) for line in sys.stdin]
    clients = [client_of(job) for job in jobs]  # before any time is taken
    waiting = zip(clients, jobs, strict=True)

    async def work() -> None:
        for client, job in waiting:
            print(json.dumps(asdict(await done(client, job))), flush=True)

    await asyncio.gather(*(work() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main())
