"""Whose path is whose: the vendors that the fault server stands for, and what is asked at which path.

1. OpenAI's SDK is given the server's URL with `/v1`, the others the URL itself. `/v1/models` belongs to who sends
   `anthropic-version`, to Gemini where the key comes as its clients send it, or else to OpenAI.
2. Gemini's paths name the model and what is asked of it, in version `v1beta`, `v1` or `v1alpha`.
3. What is wrong with a path or a method is told as the vendor tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from urllib.parse import parse_qs

from veyra.errors import InvalidRequestError, NotFoundError, VeyraError
from veyra.testing.server_http import Received
from veyra.transport.playing import Answer
from veyra.wire.anthropic_server import AnthropicServer
from veyra.wire.base import ServerDialect
from veyra.wire.gemini_names import target_of
from veyra.wire.gemini_server import GeminiServer
from veyra.wire.ollama_generate import OllamaGenerateServer
from veyra.wire.ollama_server import OllamaServer
from veyra.wire.openai_chat_server import OpenAIChatServer
from veyra.wire.openai_responses_server import OpenAIResponsesServer

PLAIN = "text/plain; charset=utf-8"


class Asks(Enum):
    """What a request is for."""

    ANSWER = auto()
    VECTORS = auto()
    COUNT = auto()
    MODELS = auto()
    MODEL = auto()
    LOADED = auto()
    VERSION = auto()
    LIFE = auto()

    @property
    def is_call(self) -> bool:
        """Whether a model is asked; only then a plan of faults goes on by a step."""
        return self in {Asks.ANSWER, Asks.VECTORS, Asks.COUNT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A provider of models.

    Attributes:
        name: `openai`, `anthropic`, `gemini` or `ollama`.
        server: the server half that tells its errors.
    """

    name: str
    server: ServerDialect

    def refusal(self, error: VeyraError, request_id: str) -> Answer:
        """Return the answer that tells an error."""
        refusal = self.server.failure(error, request_id)
        return Answer(status=refusal.head.status, headers=refusal.head.headers, chunks=[refusal.body])

    def misplaced(self, status: int, received: Received, request_id: str) -> Answer:
        """Return the answer to a request of a path (404) or with a method (405) that there is not."""
        if self.name == "ollama":
            text = b"404 page not found" if status == 404 else b"405 method not allowed"
            return Answer(status=status, headers={"content-type": PLAIN}, chunks=[text])
        asked = f"{received.method} {received.path[:200]}"
        if status == 405:
            error: VeyraError = InvalidRequestError(f"Method not allowed ({asked})", status=status)
        elif self.name in {"anthropic", "gemini"}:
            error = NotFoundError(f"Not found ({asked})")
        else:
            error = InvalidRequestError(f"Invalid URL ({asked})")
        return replace(self.refusal(error, request_id), status=status)


OPENAI = Vendor(name="openai", server=OpenAIChatServer())
ANTHROPIC = Vendor(name="anthropic", server=AnthropicServer())
GEMINI = Vendor(name="gemini", server=GeminiServer())
OLLAMA = Vendor(name="ollama", server=OllamaServer())


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What is asked at a path.

    Attributes:
        vendor: whose path it is.
        asks: what is asked there.
        method: how; `GET` includes `HEAD`.
        server: the server half that reads the request, where there is one.
        prefix: how the ids of answers begin.
    """

    vendor: Vendor
    asks: Asks
    method: str = "POST"
    server: ServerDialect | None = None
    prefix: str = ""

    def takes(self, method: str) -> bool:
        """Say whether the path is asked with this method."""
        return method == self.method or (method == "HEAD" and self.method == "GET")


_CHAT = Route(vendor=OPENAI, asks=Asks.ANSWER, server=OPENAI.server, prefix="chatcmpl-")
_RESPONSES = Route(vendor=OPENAI, asks=Asks.ANSWER, server=OpenAIResponsesServer(), prefix="resp_")
_MESSAGES = Route(vendor=ANTHROPIC, asks=Asks.ANSWER, server=ANTHROPIC.server, prefix="msg_")

_ROUTES: Mapping[str, Route] = {
    "/v1/chat/completions": _CHAT,
    "/v1/responses": _RESPONSES,
    "/v1/responses/input_tokens": replace(_RESPONSES, asks=Asks.COUNT),
    "/v1/embeddings": Route(vendor=OPENAI, asks=Asks.VECTORS),
    "/v1/models": Route(vendor=OPENAI, asks=Asks.MODELS, method="GET"),
    "/v1/messages": _MESSAGES,
    "/v1/messages/count_tokens": replace(_MESSAGES, asks=Asks.COUNT),
    "/api/chat": Route(vendor=OLLAMA, asks=Asks.ANSWER, server=OLLAMA.server),
    "/api/generate": Route(vendor=OLLAMA, asks=Asks.ANSWER, server=OllamaGenerateServer()),
    "/api/embed": Route(vendor=OLLAMA, asks=Asks.VECTORS),
    "/api/tags": Route(vendor=OLLAMA, asks=Asks.MODELS, method="GET"),
    "/api/show": Route(vendor=OLLAMA, asks=Asks.MODEL),
    "/api/ps": Route(vendor=OLLAMA, asks=Asks.LOADED, method="GET"),
    "/api/version": Route(vendor=OLLAMA, asks=Asks.VERSION, method="GET"),
    "/": Route(vendor=OLLAMA, asks=Asks.LIFE, method="GET"),
}
MODEL_PATH = "/v1/models/"
"""Below this are the models, one by one; an id may hold slashes."""

_GEMINI_ASKS: Mapping[str, Asks] = {
    "generateContent": Asks.ANSWER,
    "streamGenerateContent": Asks.ANSWER,
    "countTokens": Asks.COUNT,
    "embedContent": Asks.VECTORS,
    "batchEmbedContents": Asks.VECTORS,
    "": Asks.MODEL,
}
_GEMINI_LISTS = frozenset({"/v1beta/models", "/v1alpha/models", "/v1/models"})


def vendor_of(received: Received) -> Vendor:
    """Return whose a request is, by its path, or by the headers that only one vendor's clients send."""
    if received.path.startswith("/api/") or received.path == "/":
        return OLLAMA
    if received.path.startswith("/v1/messages") or "anthropic-version" in received.headers:
        return ANTHROPIC
    return GEMINI if _is_gemini(received) else OPENAI


def _is_gemini(received: Received) -> bool:
    if received.path.startswith(("/v1beta/", "/v1alpha/")):
        return True
    target = target_of(received.target)
    is_asked = target is not None and bool(target.method)
    return is_asked or "x-goog-api-key" in received.headers or "key" in parse_qs(received.target.partition("?")[2])


def route_of(received: Received) -> Route | None:
    """Return what is asked at the request's path, or None where there is nothing."""
    if vendor_of(received) is GEMINI:
        return _gemini_route(received)
    route = _ROUTES.get(received.path)
    if route is None and received.path.startswith(MODEL_PATH) and len(received.path) > len(MODEL_PATH):
        route = Route(vendor=OPENAI, asks=Asks.MODEL, method="GET")
    if route is not None and route.asks in {Asks.MODELS, Asks.MODEL} and route.vendor is OPENAI:
        return replace(route, vendor=vendor_of(received))
    return route


def _gemini_route(received: Received) -> Route | None:
    if received.path in _GEMINI_LISTS:
        return Route(vendor=GEMINI, asks=Asks.MODELS, method="GET")
    target = target_of(received.target)
    if target is None:
        return None
    server = GEMINI.server.at(received.target)
    asks = _GEMINI_ASKS[target.method]
    method = "GET" if asks is Asks.MODEL else "POST"
    return Route(vendor=replace(GEMINI, server=server), asks=asks, method=method, server=server)
