"""A backend that sends what was sent and gets what came: everything but the decoding is as it was recorded."""

from __future__ import annotations

from typing import TypedDict

from veyra.errors import InvalidRequestError, UnknownBackendError
from veyra.models.adapt import WARNING, OnUnsupported
from veyra.models.base import Exchange
from veyra.models.endpoints import Api, Endpoint
from veyra.models.registry import make_backend
from veyra.models.wire import WireBackend
from veyra.replay.recorded import CHAT, EMBEDDINGS, RecordedAttempt
from veyra.transport.base import Outgoing
from veyra.transport.recording import Recording
from veyra.transport.tape import Tape, TapeTransport
from veyra.types import EmbedRequest, ModelWarning, Request

NOWHERE = "http://tape.invalid"
"""Stands for the address of the provider: no host has such a name (RFC 6761)."""


class Settings(TypedDict, total=False):
    """What a wire backend is given so that it asks as it was asked."""

    api: Api
    on_unsupported: OnUnsupported


class PlayedBackend(WireBackend):
    """A wire backend over one recording: it sends what was sent then, whatever today's encoder would make of the request.

    Args:
        endpoint: the vendor's row.
        recording: the exchange.
        api: which of the vendor's dialects to speak.
        warnings: what was told of the request before it was sent.

    Attributes:
        settings: with these `get_backend` gives a backend that asks in the same format.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        recording: Recording,
        *,
        api: Api | None = None,
        warnings: tuple[ModelWarning, ...] = (),
    ) -> None:
        transport = TapeTransport(Tape((recording,)))
        super().__init__(endpoint, api=api, base_url=NOWHERE, api_key="not-a-key", transport=transport)
        self._recording = recording
        self._warnings = warnings
        self.settings: Settings = {}
        if api is not None:
            self.settings["api"] = api
        if warnings:
            self.settings["on_unsupported"] = "warn"

    def speaks(self, operation: str, dialect: str) -> bool:
        """Tell whether an answer to an operation, asked in a dialect, can be decoded here."""
        if operation == CHAT:
            return self._dialect.name == dialect
        if operation == EMBEDDINGS:
            return self.endpoint.embeddings is not None
        return self._spoken in self.endpoint.counting

    def prepare(self, request: Request) -> Exchange:  # noqa: ARG002  (its bytes are fixed)
        """Return the recorded exchange."""
        return self._again()

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:  # noqa: ARG002  (as above)
        """Return the recorded exchange."""
        return self._again()

    def prepare_counting(self, request: Request) -> Exchange:  # noqa: ARG002  (as above)
        """Return the recorded exchange."""
        return self._again()

    def _again(self) -> Exchange:
        recording = self._recording
        outgoing = Outgoing(method=recording.method, url=f"{NOWHERE}{recording.path}", body=recording.body)
        return Exchange(provider=self._flags.provider, outgoing=outgoing, warnings=self._warnings)


def endpoint_of(backend: str) -> Endpoint | None:
    """Return the row of the backend that has this name today; None where there is none, or it speaks no wire format."""
    try:
        found = make_backend(backend)
    except (UnknownBackendError, InvalidRequestError):
        return None
    return found.endpoint if isinstance(found, WireBackend) else None


def played(endpoint: Endpoint, attempt: RecordedAttempt, recording: Recording) -> PlayedBackend | None:
    """Return a backend that decodes an attempt's answer, by whichever of the endpoint's dialects; None where there is none."""
    apis: tuple[Api | None, ...] = (None, *endpoint.apis)
    warnings = _told_before(attempt)
    for api in apis:
        backend = PlayedBackend(endpoint, recording, api=api, warnings=warnings)
        if backend.speaks(attempt.operation, attempt.dialect or ""):
            return backend
    return None


def _told_before(attempt: RecordedAttempt) -> tuple[ModelWarning, ...]:
    """Return the recorded warnings that told what the request left out: no decoder gives these."""
    told = [] if attempt.answer is None else attempt.answer.get("warnings", [])
    return tuple(
        ModelWarning(warning["code"], warning["message"], warning.get("parameter"))
        for warning in told
        if warning.get("code") == WARNING
    )
