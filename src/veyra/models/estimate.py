"""How many tokens a prompt is, roughly, where nobody counts them for us.

The rule: one token for every 4 ASCII characters, one for every other character, and 4 for each message; the system text is a
message; tools, tool calls and a schema count as the JSON they are, and as nothing where they have no such form. On the recorded calls of OpenAI's models without tools it
gives 0.95 times the true number in the median, and 0.6 to 1.35 times for eight calls of ten. Models differ, and some servers
add hundreds of tokens of their own where there are tools.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import msgspec

from veyra.errors import UnsupportedParameterError
from veyra.schema import json_schema
from veyra.types import Media, Message, Opaque, Reasoning, Request, Text, TokenCount, ToolCall, ToolResult

SOURCE = "estimate: 4 ASCII characters or 1 other to a token, 4 tokens to a message"
_PER_TOKEN = 4
_PER_MESSAGE = 4
_FORMLESS = (TypeError, ValueError, OverflowError, RecursionError)
"""What is raised of a value that has no JSON form."""


def estimate(request: Request) -> TokenCount:
    """Return a rough count of the tokens of a prompt, which says that it is one.

    Raises:
        UnsupportedParameterError: there is an image, a sound or a document in it: nothing here tells what it counts.
    """
    messages = len(request.messages) + (request.system is not None)
    tokens = sum(_tokens(text) for text in _texts(request)) + _PER_MESSAGE * messages
    return TokenCount(tokens=math.ceil(tokens), estimated=True, source=SOURCE)


def _tokens(text: str) -> float:
    others = 0 if text.isascii() else sum(not character.isascii() for character in text)
    return (len(text) - others) / _PER_TOKEN + others


def _texts(request: Request) -> Iterator[str]:
    if request.system is not None:
        yield request.system
    for message in request.messages:
        yield from _said(message)
    for tool in request.tools:
        yield _json({"name": tool.name, "description": tool.description, "parameters": tool.parameters})
    if request.output is not None:
        yield _json(json_schema(request.output))


def _said(message: Message) -> Iterator[str]:
    for part in message.parts:
        match part:
            case Text(text) | Reasoning(text):
                yield text
            case ToolCall():
                yield f"{part.name} {part.raw or _json(part.arguments)}"
            case ToolResult():
                yield part.content
            case Opaque():
                yield part.raw.decode("utf-8", "replace")
            case Media():
                msg = f"the tokens of a prompt with {part.kind} in it cannot be estimated, and this backend does not count them"
                raise UnsupportedParameterError(msg)


def _json(value: object) -> str:
    """Return a value as JSON, text with lone surrogates with escapes; no text where it has no such form."""
    try:
        try:
            return msgspec.json.encode(value, enc_hook=_named).decode()
        except UnicodeEncodeError:
            return json.dumps(msgspec.to_builtins(value, enc_hook=_named))
    except _FORMLESS:
        return ""


def _named(value: object) -> str:
    return type(value).__name__
