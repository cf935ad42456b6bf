"""Where models are spoken to: one row for each vendor, nothing but data.

A new vendor that speaks a known dialect is a new row here. Each row's facts come from the vendor's documentation or
its SDK; wire facts name the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from veyra.wire.base import Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One vendor's place on the network.

    Attributes:
        name: the backend's name.
        dialect: where the dialect is, as `module:class`; loaded when a backend is made.
        base_url: used unless a `base_url` is given or the variable is set; spelt as the vendor's own SDK spells it.
        base_url_variable: the environment variable for the base URL.
        key_variable: the environment variable for the key.
        key_required: without a key a call is refused before anything is sent.
        auth: how the key travels: `bearer` in `Authorization`, or as the value of the header named here.
        health_path: a GET that costs nothing and answers below 400 when the backend can serve.
        flags: what the endpoint does differently within its dialect.
    """

    name: str
    dialect: str
    base_url: str
    base_url_variable: str | None = None
    key_variable: str | None = None
    key_required: bool = True
    auth: Literal["bearer", "x-api-key"] = "bearer"
    health_path: str
    flags: Flags


_ROWS = (
    Endpoint(
        name="openai",
        dialect="veyra.wire.openai_chat:OpenAIChat",
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        health_path="/models",
        flags=Flags(provider="openai", max_tokens_field="max_completion_tokens"),
    ),
    Endpoint(
        name="anthropic",
        dialect="veyra.wire.anthropic:Anthropic",
        base_url="https://api.anthropic.com",
        base_url_variable="ANTHROPIC_BASE_URL",
        key_variable="ANTHROPIC_API_KEY",
        auth="x-api-key",
        health_path="/v1/models",
        # The newer version 2026-10-21 refuses sampling options on every model (wire facts, 0.1).
        flags=Flags(provider="anthropic", api_version="2023-06-01"),
    ),
    Endpoint(
        name="ollama",
        dialect="veyra.wire.ollama:Ollama",
        base_url="http://127.0.0.1:11434",
        base_url_variable="OLLAMA_HOST",
        key_variable="OLLAMA_API_KEY",
        key_required=False,
        health_path="/api/version",
        flags=Flags(provider="ollama"),
    ),
)

ENDPOINTS: dict[str, Endpoint] = {row.name: row for row in _ROWS}
