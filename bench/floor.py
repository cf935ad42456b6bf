"""The least that a client can do: aiohttp, and msgspec into typed values. No checks, no clocks, no errors, no record."""

from __future__ import annotations

import aiohttp
import msgspec


class _Message(msgspec.Struct):
    role: str
    content: str


class _Choice(msgspec.Struct):
    index: int
    message: _Message
    finish_reason: str | None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Completion(msgspec.Struct):
    id: str
    model: str
    choices: list[_Choice]
    usage: _Usage


_decode = msgspec.json.Decoder(_Completion).decode


async def ask(
    session: aiohttp.ClientSession, base_url: str, *, prompt: str, model: str, max_tokens: int
) -> tuple[str, int]:
    """Make one call and return the answer's text and its tokens."""
    question = {"role": "user", "content": prompt}
    body = msgspec.json.encode({"model": model, "messages": [question], "max_completion_tokens": max_tokens})
    async with session.post(f"{base_url}/chat/completions", data=body) as response:
        answer = _decode(await response.read())
    return answer.choices[0].message.content, answer.usage.completion_tokens
