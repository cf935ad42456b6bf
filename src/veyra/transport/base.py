"""The seam between Veyra and the network: one method, `Transport.open`.

The rules a transport keeps, so that its users need not check:

1. `open` sends one request and yields its answer's head as soon as that is there. It sends at most once: no retries,
   no redirects followed, no cookies kept.
2. The body comes as bytes in the order they arrived, content coding already undone, in pieces of any size.
3. Leaving the context before the end of the body closes the connection; leaving at its end lets it be used again.
4. Everything that goes wrong is a `veyra.errors.ProviderError`: `ConnectionFailedError`, or `CallTimeoutError` with phase
   `connect`; a body that breaks off is `IncompleteStreamError`. No exception of the library underneath gets out,
   and none of ours refers to one (a traceback of the library would show the headers it sent).
5. A key goes in `Outgoing.secret_headers` only, and shows in no repr.
6. A transport may be used from several event loops, one after the other or in threads; `aclose` ends what it
   holds on the running loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from veyra.quick import quick
from veyra.types import Secret


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request: where to, and the exact bytes of its body.

    Attributes:
        method: `GET` or `POST`.
        url: the whole URL; never holds a key.
        headers: header names (any case) and values, secrets left out.
        secret_headers: the headers that carry a key, whole values (`Bearer sk-...`), masked in any repr.
        body: the bytes to send; empty for none.
        connect_timeout: seconds until the connection must stand, TLS included; None for no limit.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, Secret] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    connect_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer: its HTTP status and its headers, names in lower case."""

    status: int
    headers: Mapping[str, str]


class Incoming(ABC):
    """An answer that is arriving."""

    head: Head

    @abstractmethod
    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they arrive, none of them empty; to be iterated once.

        Raises:
            IncompleteStreamError: the connection broke before the body's end (ambiguous).
        """


class Transport(ABC):
    """A way to reach a provider."""

    @abstractmethod
    def open(self, request: Outgoing) -> AbstractAsyncContextManager[Incoming]:
        """Send `request` and hand out its answer while the context lasts.

        Raises:
            ConnectionFailedError: name unknown, refused, TLS not trusted (not ambiguous), or broken after the request
                was sent and before the head came (ambiguous).
            CallTimeoutError: no connection within `request.connect_timeout` (phase `connect`).
        """

    async def aclose(self) -> None:  # noqa: B027  (a transport that holds nothing has nothing to close)
        """Close what is held on the running event loop; the transport can be used again afterwards."""
