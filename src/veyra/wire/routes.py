"""The seam for what a provider offers beside answers: vectors, its list of models, counts of tokens.

Each is one request and one whole body. The rules are those of a dialect (`veyra.wire.base`, 1 to 5), as far as there is no
stream. Errors are the dialect's own (`Dialect.failure`): an endpoint speaks of them in one way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeVar

import msgspec

from veyra.transport.base import Head
from veyra.types import Embedded, EmbedRequest, ModelInfo, Request
from veyra.wire.base import Encoded, Flags
from veyra.wire.failures import Origin
from veyra.wire.halves import mended
from veyra.wire.reading import UNREADABLE

_T = TypeVar("_T")
_BOM = b"\xef\xbb\xbf"


class Embedding(ABC):
    """How vectors are asked for."""

    name: ClassVar[str]

    @abstractmethod
    def encode(self, request: EmbedRequest, flags: Flags) -> Encoded:
        """Return the bytes that ask for the vectors of `request` (its `model` is set).

        Raises:
            InvalidRequestError: the format cannot say this; the message names what and why.
        """

    @abstractmethod
    def decode(self, head: Head, body: bytes, flags: Flags) -> Embedded:
        """Return what a successful answer holds, in the order of the texts that were asked for.

        Raises:
            ProviderError: the provider reported an error inside the answer.
            MalformedResponseError: the body is not what the format says.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request of a list, or of a part of it: where it goes, and what it says."""

    path: str
    method: Literal["GET", "POST"] = "GET"
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of the list of models, and the question that gives the next one, if there is more."""

    models: tuple[ModelInfo, ...]
    following: Question | None = None


class Inventory(ABC):
    """How an endpoint is asked which models it has."""

    name: ClassVar[str]

    @abstractmethod
    def first(self, flags: Flags) -> Question:
        """Return the question that gives the first page."""

    @abstractmethod
    def page(self, head: Head, body: bytes, flags: Flags) -> Page:
        """Return what a successful answer to such a question holds.

        Raises:
            ProviderError: the provider reported an error inside the answer.
            MalformedResponseError: the body is not what the format says.
        """

    def details(self, model: ModelInfo, flags: Flags) -> Question | None:  # noqa: ARG002  (most lists tell all there is)
        """Return the question that gives what the list does not tell of a model, where there is one."""
        return None

    def detailed(self, model: ModelInfo, head: Head, body: bytes, flags: Flags) -> ModelInfo:  # noqa: ARG002
        """Return a model with what the answer to `details` adds to it; raises what `page` raises."""
        return model


class Counting(ABC):
    """How a provider is asked to count the tokens of a prompt.

    The prompt is written as the dialect writes it; what is no part of it (limits, sampling, where to stop) is left out.
    """

    name: ClassVar[str]

    @abstractmethod
    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes that ask for the count of `request` (its `model` is set).

        Raises:
            InvalidRequestError: the format cannot say this; the message names what and why.
        """

    @abstractmethod
    def decode(self, head: Head, body: bytes, flags: Flags) -> int:
        """Return the count that a successful answer holds.

        Raises:
            MalformedResponseError: the body is not what the format says.
        """


def prompt_only(request: Request) -> Request:
    """Return a request with nothing but what counts as its prompt: messages, system text, tools, schema, reasoning."""
    return replace(
        request,
        stream=False,
        max_tokens=None,
        temperature=None,
        top_p=None,
        stop=(),
        seed=None,
        cache=None,
        metadata={},
    )


def fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of a body that a dialect wrote, each as it was written."""
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def decoded(decoder: msgspec.json.Decoder[_T], body: bytes, origin: Origin) -> _T:
    """Read a whole body.

    Raises:
        MalformedResponseError: it is empty, not JSON, or of another shape.
    """
    body = body.removeprefix(_BOM).strip()
    if not body:
        what = "the body is empty"
        raise origin.malformed(what)
    try:
        return decoder.decode(mended(body))
    except UNREADABLE as error:
        what = f"the body is not what the format says ({error})"
        raise origin.malformed(what, body) from None
