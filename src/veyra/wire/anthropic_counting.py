"""Anthropic's `/v1/messages/count_tokens`: the prompt as in `/v1/messages`, without what is no part of it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Request
from veyra.wire import payload
from veyra.wire.anthropic import Anthropic
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.routes import Counting, decoded, fields_of, prompt_only

_COUNTED = frozenset({"messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"})


class _Count(msgspec.Struct):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


class AnthropicCounting(Counting):
    """Anthropic's counting: `POST {base_url}/v1/messages/count_tokens`."""

    name: ClassVar[str] = "anthropic_counting"

    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes that ask for the count; see `Counting.encode`."""
        message = Anthropic().encode(prompt_only(request), flags)
        body = {name: value for name, value in fields_of(message.body).items() if name in _COUNTED}
        return Encoded(path="/v1/messages/count_tokens", body=payload.dump(body, flags), headers=message.headers)

    def decode(self, head: Head, body: bytes, flags: Flags) -> int:
        """Return the count; see `Counting.decode`."""
        return decoded(_COUNT, body, Origin.of(head, flags, id_header="request-id")).input_tokens
