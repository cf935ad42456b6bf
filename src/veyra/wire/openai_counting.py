"""OpenAI's `/responses/input_tokens`: the prompt as in `/responses`, without what is no part of it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Request
from veyra.wire import payload
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.openai_responses import OpenAIResponses
from veyra.wire.routes import Counting, decoded, fields_of, prompt_only

_COUNTED = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)


class _Count(msgspec.Struct):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


class ResponsesCounting(Counting):
    """OpenAI's counting: `POST {base_url}/responses/input_tokens`."""

    name: ClassVar[str] = "openai_counting"

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes that ask for the count; see `Counting.encode`."""
        asked = OpenAIResponses().encode(prompt_only(request), flags)
        body = {name: value for name, value in fields_of(asked.body).items() if name in _COUNTED}
        return Encoded(path="/responses/input_tokens", body=payload.dump(body, flags), headers=asked.headers)

    def decode(self, head: Head, body: bytes, flags: Flags) -> int:
        """Return the count; see `Counting.decode`."""
        return decoded(_COUNT, body, Origin.of(head, flags, id_header="x-request-id")).input_tokens
