"""Where models are spoken to: one row for each vendor, nothing but data.

A new vendor that speaks a known dialect is a new row here. Each row's facts come from the vendor's documentation or
its SDK; wire facts name the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from veyra.wire.base import Dialect, Flags

Api: TypeAlias = Literal["chat", "responses"]

CHAT = "veyra.wire.openai_chat:OpenAIChat"
RESPONSES = "veyra.wire.openai_responses:OpenAIResponses"
_ANTHROPIC = "veyra.wire.anthropic:Anthropic"
_GEMINI = "veyra.wire.gemini:Gemini"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One vendor's place on the network.

    Attributes:
        name: the backend's name.
        dialect: the dialect's class, or where that is (`module:class`), to be loaded when a backend is made.
        apis: further dialects that the vendor speaks, by what `api=` calls them; `dialect` is among them.
        own_api: what is spoken unless `api=` says otherwise, where the base URL is the vendor's own; elsewhere `dialect`.
        base_url: used unless a `base_url` is given or the variable is set; spelt as the vendor's own SDK spells it. None
            where every customer has an address of their own.
        base_url_variable: the environment variable for the base URL.
        key_variable: the environment variable for the key.
        key_required: without a key a call is refused before anything is sent.
        auth: how the key travels: `bearer` in `Authorization`, or as the value of the header named here.
        health_path: a GET that costs nothing and answers below 300 when the backend can serve.
        embeddings: how vectors are asked for, as `module:class`; None where there are none.
        inventory: how the list of models is asked for, as `module:class`.
        counting: how tokens are counted, as `module:class`, by the dialect that is spoken; where there is none, they are
            estimated.
        version_path: what stands before the paths of embeddings and of the list, where the base URL lacks it.
        flags: what the endpoint does differently within its dialect.
    """

    name: str
    dialect: str | type[Dialect] = CHAT
    apis: Mapping[Api, str] = field(default_factory=dict)
    own_api: Api | None = None
    base_url: str | None
    base_url_variable: str | None = None
    key_variable: str | None = None
    key_required: bool = True
    auth: Literal["bearer", "x-api-key", "api-key", "x-goog-api-key"] = "bearer"
    health_path: str = "/models"
    embeddings: str | None = "veyra.wire.openai_embeddings:OpenAIEmbeddings"
    inventory: str = "veyra.wire.openai_models:OpenAIModels"
    counting: Mapping[str | type[Dialect], str] = field(default_factory=dict)
    version_path: str = ""
    flags: Flags


_BOTH: Mapping[Api, str] = {"chat": CHAT, "responses": RESPONSES}


def _compatible(name: str, provider: str, base_url: str | None, key_variable: str | None) -> Endpoint:
    """Return the row of a vendor that speaks Chat Completions and differs in nothing else; local ones need no key."""
    return Endpoint(
        name=name,
        base_url=base_url,
        base_url_variable=f"{name.upper().replace('-', '_')}_BASE_URL",
        key_variable=key_variable,
        key_required=key_variable is not None,
        flags=Flags(provider=provider),
    )


_ROWS = (
    Endpoint(
        name="openai",
        apis=_BOTH,
        own_api="responses",
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        counting={RESPONSES: "veyra.wire.openai_counting:ResponsesCounting"},
        flags=Flags(provider="openai", max_tokens_field="max_completion_tokens", vectors="base64"),
    ),
    Endpoint(
        name="anthropic",
        dialect=_ANTHROPIC,
        base_url="https://api.anthropic.com",
        base_url_variable="ANTHROPIC_BASE_URL",
        key_variable="ANTHROPIC_API_KEY",
        auth="x-api-key",
        health_path="/v1/models",
        embeddings=None,
        inventory="veyra.wire.anthropic_models:AnthropicModels",
        counting={_ANTHROPIC: "veyra.wire.anthropic_counting:AnthropicCounting"},
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
        embeddings="veyra.wire.ollama_embeddings:OllamaEmbeddings",
        inventory="veyra.wire.ollama_models:OllamaModels",
        flags=Flags(provider="ollama"),
    ),
    Endpoint(
        name="gemini",
        dialect=_GEMINI,
        base_url="https://generativelanguage.googleapis.com",
        base_url_variable="GOOGLE_GEMINI_BASE_URL",
        key_variable="GEMINI_API_KEY",
        auth="x-goog-api-key",
        health_path="/v1beta/models",
        embeddings="veyra.wire.gemini_embeddings:GeminiEmbeddings",
        inventory="veyra.wire.gemini_models:GeminiModels",
        counting={_GEMINI: "veyra.wire.gemini_counting:GeminiCounting"},
        flags=Flags(provider="gcp.gemini"),
    ),
    Endpoint(
        name="azure",
        apis=_BOTH,
        base_url=None,  # https://RESOURCE.openai.azure.com/openai/v1
        base_url_variable="AZURE_OPENAI_BASE_URL",
        key_variable="AZURE_OPENAI_API_KEY",
        auth="api-key",
        flags=Flags(provider="azure.ai.openai", max_tokens_field="max_completion_tokens"),
    ),
    Endpoint(
        name="xai",
        apis=_BOTH,
        base_url="https://api.x.ai/v1",
        base_url_variable="XAI_BASE_URL",
        key_variable="XAI_API_KEY",
        flags=Flags(provider="x_ai"),
    ),
    Endpoint(
        name="openrouter",
        apis=_BOTH,
        base_url="https://openrouter.ai/api/v1",
        base_url_variable="OPENROUTER_BASE_URL",
        key_variable="OPENROUTER_API_KEY",
        flags=Flags(provider="openrouter"),
    ),
    _compatible("groq", "groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    _compatible("mistral", "mistral_ai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    _compatible("deepseek", "deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    _compatible("together", "together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    _compatible("fireworks", "fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    _compatible("cerebras", "cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    Endpoint(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        base_url_variable="PERPLEXITY_BASE_URL",
        key_variable="PERPLEXITY_API_KEY",
        health_path="/v1/models",
        version_path="/v1",  # answers are recorded without it, vectors and the list with it
        # Recorded streams end without [DONE]; vectors come as signed bytes (Perplexity, "Embeddings", encoding formats).
        flags=Flags(provider="perplexity", done_marker=False, vectors="int8"),
    ),
    _compatible("vllm", "vllm", "http://127.0.0.1:8000/v1", None),
    _compatible("lmstudio", "lmstudio", "http://127.0.0.1:1234/v1", None),
    _compatible("llamacpp", "llamacpp", "http://127.0.0.1:8080/v1", None),
    _compatible("ollama-openai", "ollama", "http://127.0.0.1:11434/v1", None),
    Endpoint(
        name="openai-compatible",
        base_url=None,
        base_url_variable="OPENAI_COMPATIBLE_BASE_URL",
        key_variable="OPENAI_COMPATIBLE_API_KEY",
        key_required=False,
        flags=Flags(provider="openai_compatible", done_marker=False),  # of an unknown server a finish reason must do
    ),
)

ENDPOINTS: dict[str, Endpoint] = {row.name: row for row in _ROWS}
