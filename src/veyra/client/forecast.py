"""What an attempt will take, before it is made: tokens for the limits, US dollars for the budgets.

Prompts are estimated (`veyra.models.estimate`), an image, a sound or a document in them at `MEDIA` tokens. The answer is taken
to have as many tokens as it may have: `max_tokens`, or what is sent in its place, or what the model writes at most. Where
none of these is known it is an assumption (`DEFAULT_OUTPUT`), and no bound.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from veyra.errors import ProviderError
from veyra.models.base import BaseModelBackend, Exchange
from veyra.models.entries import prepared
from veyra.models.estimate import estimate
from veyra.models.facts import lookup
from veyra.policy import gauge, prices
from veyra.types import EmbeddingResponse, EmbedRequest, Media, Message, ModelResponse, Request, Usage

MEDIA: Final = 2000
"""Tokens that an image, a sound or a document in a prompt is taken to have."""
DEFAULT_OUTPUT: Final = 4096
"""Tokens that an answer is taken to have, for budgets, where nothing bounds it."""


def tokens(request: Request | EmbedRequest) -> int:
    """Return how many tokens an attempt is expected to count for, prompt and answer."""
    if isinstance(request, EmbedRequest):
        return prompt_tokens(request)
    return prompt_tokens(request) + (gauge.DEFAULT_OUTPUT if request.max_tokens is None else request.max_tokens)


def used(answer: ModelResponse | EmbeddingResponse | None) -> int | None:
    """Return the tokens that an answer says were used; None where it does not."""
    if answer is None or answer.usage.input_total is None:
        return None
    return answer.usage.input_total + (answer.usage.output_total or 0)


def prompt_tokens(request: Request | EmbedRequest) -> int:
    """Return a rough count of the tokens of what is asked."""
    if isinstance(request, EmbedRequest):
        texts = tuple(Message("user", text) for text in request.texts)
        return estimate(Request(prompt=texts, messages=texts)).tokens
    media = sum(isinstance(part, Media) for message in request.messages for part in message.parts)
    if not media:
        return estimate(request).tokens
    messages = tuple(_without_media(message) for message in request.messages)
    return estimate(replace(request, messages=messages)).tokens + MEDIA * media


def dollars(request: Request | EmbedRequest, backend: BaseModelBackend, at: datetime) -> Decimal | None:
    """Return what an attempt costs at most, as far as that can be told; None where its price is not known.

    A request that cannot be made costs nothing: the attempt at it fails in the same way, before anything is sent.
    """
    try:
        exchange = _exchange(request, backend)
    except ProviderError:
        return Decimal(0)
    model, prompt = request.model or "", prompt_tokens(request)
    answer = 0 if isinstance(request, EmbedRequest) else _longest(request, exchange)
    usages = [Usage(input_total=prompt, output_total=answer)]
    if isinstance(request, Request) and request.cache is not None:  # what is written to a cache may cost more
        usages.append(replace(usages[0], cache_write=prompt))
    costs = [prices.cost(exchange.provider, model, usage, at) for usage in usages]
    return max((cost.amount for cost in costs if cost is not None), default=None)


def _exchange(request: Request | EmbedRequest, backend: BaseModelBackend) -> Exchange:
    if isinstance(request, EmbedRequest):
        return prepared(backend, lambda: backend.prepare_embedding(request), request.model)
    return prepared(backend, lambda: backend.prepare(request), request.model)


def _longest(request: Request, exchange: Exchange) -> int:
    """Return how many tokens the answer has at most."""
    if request.max_tokens is not None:
        return request.max_tokens
    applied = exchange.applied.get("max_tokens")
    if isinstance(applied, int):
        return applied
    return lookup(exchange.provider, request.model or "").max_output or DEFAULT_OUTPUT


def _without_media(message: Message) -> Message:
    return Message(message.role, tuple(part for part in message.parts if not isinstance(part, Media)))
