"""The seam between Veyra's values and a provider's wire format.

The rules a dialect keeps:

1. Pure: the same input gives the same output; nothing is read but the arguments.
2. Complete: what the provider sent and we have no word for is kept as it came (`Opaque`, raw finish reasons) or
   ignored where it is an unknown event, never an error.
3. Honest: a number the provider did not state is None; a finish reason is never made up. `Finish` is yielded only
   once the provider's terminal marker was seen (wire facts, 0.3).
4. Blind to chunks: any split of the same bytes into `feed` calls yields the same events, joined.
5. Errors are mapped by the provider's type and code, then by status, never by a pattern over the message
   (except where the provider has nothing but a message), and carry the request id of the head.

A dialect's server half speaks for the provider's side. The rules it keeps besides:

6. What the client half encodes it reads back as the same request; what it reads and encodes again is the same JSON.
   What our words cannot say, or not exactly, is kept as it came (`Message.native`, `Request.extra`).
7. What it writes, the client half reads back as the same events, warnings aside, and so do the provider's own SDKs.
8. It draws no ids and reads no clock: they are given (`Stamp`, `elapsed`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from veyra.errors import ProviderError, VeyraError
from veyra.transport.base import Head
from veyra.types import Event, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What one endpoint does differently within a dialect. Data, set by the rows of `models/endpoints.py`.

    Attributes:
        provider: the endpoint's name in errors and in the log, OpenTelemetry's spelling.
        system_role: the role that carries the system text (`system` or `developer`) in Chat Completions.
        max_tokens_field: the name of the output limit in Chat Completions.
        stream_options: the endpoint takes `stream_options` (needed to be told usage in a stream).
        done_marker: a Chat Completions stream ends with `[DONE]`; where False, its finish reason ends it.
        api_version: the value of the dialect's version header, where it has one.
        default_max_tokens: sent where the dialect requires a limit and the caller gave none.
        structured: how a model is made to keep to a schema: by a mode of the API, or by a tool (see `structured`).
        prompt_cache_options: the model takes OpenAI's `prompt_cache_options`.
        vectors: how vectors come: as `float` numbers in JSON, as single-precision bytes in `base64` where that is asked for,
            or always as base64 of signed bytes (`int8`).
    """

    provider: str
    system_role: Literal["system", "developer"] = "system"
    max_tokens_field: str = "max_tokens"
    stream_options: bool = True
    done_marker: bool = True
    api_version: str | None = None
    default_max_tokens: int = 4096
    structured: Literal["native", "tool"] = "native"
    prompt_cache_options: bool = False
    vectors: Literal["float", "base64", "int8"] = "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A request in a dialect's own bytes.

    Attributes:
        path: what comes after the endpoint's base URL, with its leading slash.
        body: the exact bytes.
        headers: headers the dialect wants, content type included, keys left out.
        applied: what was sent although the caller did not ask for it (a default the dialect requires), by option name.
    """

    path: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    applied: Mapping[str, Any] = field(default_factory=dict)


class Decoder(ABC):
    """Turns one answer's bytes into events. Used once."""

    done: bool = False
    """True as soon as the terminal marker was seen: nothing that may still come belongs to the answer."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes and yield what they complete.

        Raises (while being iterated, after yielding what came before):
            ProviderError: the provider reported an error inside the answer.
            MalformedResponseError: the bytes are not what the format says.
        """

    @abstractmethod
    def close(self) -> Iterator[Event]:
        """Say that no more bytes come, and yield what is left: for a whole-body answer, everything.

        Raises:
            IncompleteStreamError: a stream ended before its terminal marker.
            MalformedResponseError: the body is empty or not what the format says.
        """


class Dialect(ABC):
    """One wire format, client half."""

    name: ClassVar[str]
    id_header: ClassVar[str | None] = None
    """The header of an answer that holds the provider's id for the exchange, where the format has one."""

    @abstractmethod
    def encode(self, request: Request, flags: Flags) -> Encoded:
        """Return the bytes that ask for `request` (its `model` is set).

        Raises:
            InvalidRequestError: the dialect cannot say this; the message names what and why.
        """

    def headers(self, flags: Flags) -> Mapping[str, str]:  # noqa: ARG002  (most dialects have none)
        """Return the headers that any request to such an endpoint carries, besides its key."""
        return {}

    @abstractmethod
    def decoder(self, head: Head, flags: Flags, *, stream: bool) -> Decoder:
        """Return a decoder for a successful answer (status below 400) to a request sent with `stream`.

        Where the head's content type says plainly that the answer is not a stream (or is one), the head is believed.
        """

    @abstractmethod
    def failure(self, head: Head, body: bytes, flags: Flags) -> ProviderError:
        """Return the error that an answer with status 400 or above stands for; `body` may be anything."""


# ------------------------------------------------------------------------------------------- server half


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What an answer bears that stands neither in its request nor in its events.

    An answer's id and model are told with its first bytes, so what `Finish` says of them comes too late: these count.

    Attributes:
        id: the answer's own id, in its body; a format without one leaves it out.
        request_id: the exchange's id, in a header; a format without one leaves it out.
        model: the model that answers.
        created: when the answer was begun, in seconds since 1970 (UTC).
    """

    id: str
    request_id: str
    model: str
    created: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error: its head and its whole body."""

    head: Head
    body: bytes


class Encoder(ABC):
    """Turns one answer's events into bytes. Used once."""

    @abstractmethod
    def head(self) -> Head:
        """Return the head of the answer; how its body is framed (length or chunks) is the server's affair."""

    @abstractmethod
    def write(self, event: Event, *, elapsed: float = 0.0) -> bytes:
        """Return the bytes that tell an event: empty where they come later, or where the format has none for it.

        With `Finish` the answer is complete.

        Args:
            event: the next one.
            elapsed: seconds since `Stamp.created`, for formats that tell times.
        """

    @abstractmethod
    def failure(self, error: VeyraError) -> bytes:
        """Return the bytes that end, with an error, an answer whose head is already sent."""


class ServerDialect(ABC):
    """One wire format, server half."""

    name: ClassVar[str]
    path: ClassVar[str]
    """Where requests are sent: what comes after the base URL that the provider's SDK is given; `{model}` stands for the model's name."""

    def at(self, target: str) -> ServerDialect:  # noqa: ARG002  (in most formats the body says it all)
        """Return the half for requests that are sent to `target`, path and query, where that says something of them."""
        return self

    @abstractmethod
    def request(self, body: bytes) -> Request:
        """Return what a request's body asks for; its `prompt` is its messages.

        Raises:
            InvalidRequestError: it is not what the format says; the message names the field.
        """

    @abstractmethod
    def encoder(self, request: Request, stamp: Stamp) -> Encoder:
        """Return an encoder for a successful answer to `request`, streamed where it asks for that."""

    @abstractmethod
    def failure(self, error: VeyraError, request_id: str) -> Refusal:
        """Return the answer that reports `error` in the place of any other."""
