"""A backend made of three parts: a dialect (what is said), a transport (how it gets there), an endpoint (where)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from os import PathLike
from threading import Lock
from typing import Any, TypeVar, get_args
from urllib.parse import SplitResult, urlsplit

from veyra import environ
from veyra.errors import AuthenticationError, IncompleteStreamError, InvalidRequestError, ProviderError
from veyra.models.adapt import OnUnsupported, adapt
from veyra.models.base import Exchange
from veyra.models.endpoints import Api, Endpoint
from veyra.models.entries import masked
from veyra.models.facts import FactRow, ModelFacts, fitted, lookup
from veyra.models.gate import EventBackend
from veyra.models.listing import listed
from veyra.transport.base import Head, Incoming, Outgoing, Transport
from veyra.types import (
    Embedded,
    EmbedRequest,
    Event,
    Finish,
    ModelInfo,
    ModelWarning,
    Request,
    Secret,
    Timeouts,
    TokenCount,
)
from veyra.wire.base import Decoder, Dialect, Encoded, Flags
from veyra.wire.routes import Counting, Embedding, Inventory, Question, prompt_only
from veyra.wire.structured import ToolAnswer, by_tool

_T = TypeVar("_T")

FAILURE_BODY_LIMIT = 1024 * 1024
"""Bytes of an error's body that are read at most."""

_FAILURE_SECONDS = 10.0
_DRAIN_SECONDS = 0.1
_DRAIN_BYTES = 64 * 1024
_HEALTH_TIMEOUT = 5.0
_DEFAULT_TIMEOUTS = Timeouts()


class WireBackend(EventBackend):
    """A model behind a network endpoint. Making one needs no key and no network: both are needed by the first call.

    Args:
        endpoint: the vendor's row.
        model: the model that calls get unless they name one.
        api: which of the vendor's dialects to speak, where there are several: `chat` or `responses`.
        api_key: the key, or a function that returns it, asked at each call; without it the endpoint's environment variable
            is read at each call.
        base_url: where to, spelt as the vendor's SDK spells it; without it the endpoint's variable, then its row.
        transport: how to get there; by default HTTP with the options below.
        ca_file, client_cert, client_key: PEM files for TLS; by default the system's trust store and no certificate.
        on_unsupported: what to do with an option that the model does not take: `error` (raise, nothing is sent) or `warn`
            (leave it out, with a warning in the response and in the log).
        facts: what is known of models, before what Veyra knows (`veyra.models.facts`).
        api_version: the value of the dialect's version header, where it has one.
        proxy: URL of a proxy; by default the environment's (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
        timeout: that of calls that name none: seconds in all, or `Timeouts`.

    Raises:
        InvalidRequestError: the base URL is not an http(s) URL, or holds a user, a password, a query or a fragment; the
            vendor has no such api; `on_unsupported` is something else.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        model: str | None = None,
        api: Api | None = None,
        api_key: str | Secret | Callable[[], str | Secret | None] | None = None,
        base_url: str | None = None,
        on_unsupported: OnUnsupported = "error",
        facts: Sequence[FactRow] = (),
        api_version: str | None = None,
        transport: Transport | None = None,
        ca_file: str | PathLike[str] | None = None,
        client_cert: str | PathLike[str] | None = None,
        client_key: str | PathLike[str] | None = None,
        proxy: str | None = None,
        timeout: float | Timeouts | None = None,
    ) -> None:
        if not callable(api_key):
            api_key = _secret(api_key)  # from here on no local variable of a traceback holds it
        self._api_key = api_key
        if on_unsupported not in get_args(OnUnsupported):
            msg = f"on_unsupported is {' or '.join(map(repr, get_args(OnUnsupported)))}, not {on_unsupported!r}"
            raise InvalidRequestError(msg)
        self.name = endpoint.name
        self.endpoint = endpoint
        self.model = model
        self.timeout = timeout
        self.base_url: str | None = None
        self.base_url = _base_url(endpoint, base_url)
        self._spoken = _spoken(endpoint, api, self.base_url)
        self._dialect = _part(self._spoken, Dialect)  # type: ignore[type-abstract]  # one of its classes is made
        self._flags = endpoint.flags if api_version is None else replace(endpoint.flags, api_version=api_version)
        self._facts = tuple(facts)
        self._on_unsupported: OnUnsupported = on_unsupported
        self._known = lru_cache(maxsize=128)(self._look_up)
        self._transport = transport
        self._making = Lock()
        self._ca_file = ca_file
        self._client_cert = client_cert
        self._client_key = client_key
        self._proxy = proxy

    def __repr__(self) -> str:
        return f"<{self.name} backend at {self.base_url}, model {self.model!r}>"

    def defaults(self) -> Mapping[str, Any]:
        """Return the backend's own model and timeout, where it was given them."""
        own = {"model": self.model, "timeout": self.timeout}
        return {name: value for name, value in own.items() if value is not None}

    def identity(self) -> Mapping[str, object]:
        """Return where it asks, in which format, and what it makes of a request."""
        return {
            "base_url": self.base_url,
            "dialect": self._dialect.name,
            "api_version": self._flags.api_version,
            "on_unsupported": self._on_unsupported,
            "facts": self._facts,
        }

    def prepare(self, request: Request) -> Exchange:
        """Encode the request: from here on its bytes are fixed.

        Raises:
            AuthenticationError: no key was given; the message names the variable.
            InvalidRequestError: no model was named, or the dialect cannot say what was asked for.
        """
        request, warnings, flags = self._fitted(request)
        encoded = self._dialect.encode(request, flags)
        return self._exchange(encoded, self._dialect.name, request.timeout, warnings)

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        """Send what `prepare` fixed and decode what comes."""
        if exchange.outgoing is None:
            raise AssertionError
        for warning in exchange.warnings:
            yield warning
        async with self._connection().open(exchange.outgoing) as incoming:
            self._answered(exchange, incoming.head)
            if incoming.head.status >= 300:  # no redirect is followed: it would carry the key elsewhere
                raise await self._failure(incoming, exchange)
            decoder = self._decoder(incoming.head, request)
            chunks = aiter(incoming.chunks())
            finish: Event | None = None
            while not decoder.done:
                data = await _next(chunks, exchange)
                for event in decoder.close() if data is None else decoder.feed(data):
                    if isinstance(event, Finish):
                        finish = event
                    else:
                        yield event
                if data is None:
                    break
            else:
                await _drain(chunks, exchange)
        if finish is not None:
            yield finish

    def prepare_embedding(self, request: EmbedRequest) -> Exchange:
        """Encode the request for vectors: from here on its bytes are fixed.

        Raises:
            AuthenticationError: no key was given; the message names the variable.
            InvalidRequestError: no model was named, or the format cannot say what was asked for.
            UnsupportedParameterError: the vendor has no embeddings.
        """
        self._named(request.model)
        if self.endpoint.embeddings is None:
            return super().prepare_embedding(request)
        form = _part(self.endpoint.embeddings, Embedding)  # type: ignore[type-abstract]
        encoded = form.encode(request, self._flags)
        return self._exchange(encoded, form.name, request.timeout, prefix=self.endpoint.version_path)

    async def embedding(self, request: EmbedRequest, exchange: Exchange) -> Embedded:
        """Send what `prepare_embedding` fixed and read what comes."""
        if self.endpoint.embeddings is None:
            return await super().embedding(request, exchange)
        head, body = await self._whole(exchange)
        return _part(self.endpoint.embeddings, Embedding).decode(head, body, self._flags)  # type: ignore[type-abstract]

    def prepare_counting(self, request: Request) -> Exchange | None:
        """Encode the request for a count of tokens, where the vendor counts them for the dialect that is spoken.

        Raises:
            AuthenticationError: no key was given; the message names the variable.
            InvalidRequestError: no model was named, or the format cannot say what was asked for.
        """
        place = self.endpoint.counting.get(self._spoken)
        if place is None:
            return None
        form = _part(place, Counting)  # type: ignore[type-abstract]
        asked, _, flags = self._fitted(prompt_only(request))
        return self._exchange(form.encode(asked, flags), form.name, request.timeout)

    async def counting(self, request: Request, exchange: Exchange) -> TokenCount:  # noqa: ARG002  (its bytes are fixed)
        """Send what `prepare_counting` fixed and read what comes."""
        if exchange.outgoing is None:
            raise AssertionError
        head, body = await self._whole(exchange)
        form = _part(self.endpoint.counting[self._spoken], Counting)  # type: ignore[type-abstract]
        route = urlsplit(exchange.outgoing.url).path
        return TokenCount(
            tokens=form.decode(head, body, self._flags), estimated=False, source=f"{self._flags.provider} {route}"
        )

    async def models(self, *, details: bool = False) -> tuple[ModelInfo, ...]:
        """Ask for the list of models, all of its pages; see `BaseModelBackend.models`.

        Raises:
            MalformedResponseError: it is not what the format says, or does not end.
            ProviderError: it could not be had.
        """
        key = self._key()
        form = _part(self.endpoint.inventory, Inventory)  # type: ignore[type-abstract]
        try:
            return await listed(form, self._flags, lambda question: self._ask(question, key), details=details)
        except ProviderError as error:
            error.provider = error.provider or self._flags.provider
            masked(error, () if key is None else (key,))
            raise

    async def _ask(self, question: Question, key: Secret | None) -> tuple[Head, bytes]:
        """Ask for what is free and not recorded."""
        outgoing = Outgoing(
            method=question.method,
            url=self._url(self.endpoint.version_path + question.path),
            headers=question.headers,
            secret_headers=self._auth(key),
            body=question.body,
            connect_timeout=_HEALTH_TIMEOUT,
        )
        return await self._whole(Exchange(provider=self._flags.provider, outgoing=outgoing))

    async def _whole(self, exchange: Exchange) -> tuple[Head, bytes]:
        """Send what an exchange holds and return its answer, whole."""
        if exchange.outgoing is None:
            raise AssertionError
        async with self._connection().open(exchange.outgoing) as incoming:
            self._answered(exchange, incoming.head)
            if incoming.head.status >= 300:  # no redirect is followed: it would carry the key elsewhere
                raise await self._failure(incoming, exchange)
            chunks = aiter(incoming.chunks())
            while await _next(chunks, exchange) is not None:
                pass
        return incoming.head, b"".join(exchange.body)

    async def health_check(self) -> bool:
        """Ask the endpoint's free inventory route; True when it answers with success."""
        try:
            key = self._key()
            probe = Outgoing(
                method="GET",
                url=self._url(self.endpoint.health_path),
                headers=self._dialect.headers(self._flags),
                secret_headers=self._auth(key),
                connect_timeout=_HEALTH_TIMEOUT,
            )
            async with self._connection().open(probe) as incoming:
                return incoming.head.status < 300
        except ProviderError:
            return False

    async def aclose(self) -> None:
        """Close the connections that are held on the running event loop."""
        if self._transport is not None:
            await self._transport.aclose()

    def _named(self, model: str | None) -> str:
        if model is None:
            msg = f"{self.name}: no model named; pass model=... to get_backend() or to the call"
            raise InvalidRequestError(msg, provider=self._flags.provider)
        return model

    def _fitted(self, request: Request) -> tuple[Request, tuple[ModelWarning, ...], Flags]:
        """Return a request as its model can honour it, what was changed, and the flags for that model."""
        known, flags = self._known(self._named(request.model))
        request, warnings = adapt(request, known, self._on_unsupported)
        return request, warnings, flags

    def _exchange(
        self,
        encoded: Encoded,
        dialect: str,
        timeout: Timeouts | None,
        warnings: tuple[ModelWarning, ...] = (),
        *,
        prefix: str = "",
    ) -> Exchange:
        key = self._key()
        self._connection()  # loads the HTTP library where it is the first: no part of the provider's latency
        outgoing = Outgoing(
            method="POST",
            url=self._url(prefix + encoded.path),
            headers=encoded.headers,
            secret_headers=self._auth(key),
            body=encoded.body,
            connect_timeout=(timeout or _DEFAULT_TIMEOUTS).connect,
        )
        return Exchange(
            provider=self._flags.provider,
            outgoing=outgoing,
            dialect=dialect,
            applied=encoded.applied,
            warnings=warnings,
            secrets=() if key is None else (key,),
        )

    def _answered(self, exchange: Exchange, head: Head) -> None:
        header = self._dialect.id_header
        exchange.answered(head, request_id=(head.headers.get(header) or None) if header else None)

    def _decoder(self, head: Head, request: Request) -> Decoder:
        """Return the dialect's decoder; where the answer was asked for as a tool's call, that call is the text."""
        decoder = self._dialect.decoder(head, self._flags, stream=request.stream)
        if request.output is None or request.model is None:
            return decoder
        return ToolAnswer(decoder) if by_tool(request, self._known(request.model)[1]) else decoder

    async def _failure(self, incoming: Incoming, exchange: Exchange) -> ProviderError:
        """Return the error that an answer tells; its status counts, even where the rest breaks off or does not come."""
        size = 0
        with suppress(IncompleteStreamError, TimeoutError):
            async with asyncio.timeout(_FAILURE_SECONDS):
                async for data in incoming.chunks():
                    exchange.received(data)
                    size += len(data)
                    if size > FAILURE_BODY_LIMIT:
                        break
        return self._dialect.failure(incoming.head, b"".join(exchange.body), self._flags)

    def _connection(self) -> Transport:
        if self._transport is None:
            from veyra.transport.http import HttpTransport  # noqa: PLC0415  (loads the HTTP library: not before it is used)

            made = HttpTransport(
                ca_file=self._ca_file, client_cert=self._client_cert, client_key=self._client_key, proxy=self._proxy
            )
            with self._making:  # where threads begin together all use the first; the others hold nothing yet
                self._transport = self._transport or made
        return self._transport

    def _look_up(self, model: str) -> tuple[ModelFacts, Flags]:
        """Return what is known of a model, and the endpoint's flags as they hold for it."""
        facts = lookup(self._flags.provider, model, api_version=self._flags.api_version, own=self._facts)
        return facts, fitted(self._flags, facts)

    def _url(self, path: str) -> str:
        if self.base_url is None:
            variable = self.endpoint.base_url_variable
            msg = f"{self.name}: no address; set {variable} or pass base_url=... to get_backend()"
            raise InvalidRequestError(msg, provider=self._flags.provider)
        return self.base_url + path

    def _key(self) -> Secret | None:
        variable = self.endpoint.key_variable
        if callable(self._api_key):
            key = self._asked_key(self._api_key)
        else:
            key = self._api_key or (environ.key(variable) if variable else None)
        if key is None and self.endpoint.key_required:
            msg = f"{self.name}: no API key; set {variable} or pass api_key=... to get_backend()"
            raise AuthenticationError(msg, provider=self._flags.provider)
        if key is not None and not _is_plain(key):
            where = variable if variable and self._api_key is None else "that was given"
            msg = f"{self.name}: the key {where} holds a line break, a control character or a letter outside ASCII: copy it anew"
            raise InvalidRequestError(msg, provider=self._flags.provider)
        return key

    def _asked_key(self, source: Callable[[], str | Secret | None]) -> Secret | None:
        """Return the key that a function returns.

        Raises:
            AuthenticationError: the function says that there is none.
        """
        try:
            return _secret(source())
        except AuthenticationError as error:
            error.provider = error.provider or self._flags.provider
            raise

    def _auth(self, key: Secret | None) -> dict[str, Secret]:
        if key is None:
            return {}
        if self.endpoint.auth == "bearer":
            return {"authorization": Secret(f"Bearer {key.reveal()}")}
        return {self.endpoint.auth: key}


def _is_plain(key: Secret) -> bool:
    """Tell whether a key can go into a header."""
    value = key.reveal()
    return value.isascii() and value.isprintable()


def _secret(key: object) -> Secret | None:
    if key is None:
        return None
    if not isinstance(key, Secret | str):
        msg = f"api_key is a non-empty str, not {type(key).__name__}"
        raise InvalidRequestError(msg)
    value = (key.reveal() if isinstance(key, Secret) else key).strip()
    if not value:
        msg = "api_key is a non-empty str, not an empty one"
        raise InvalidRequestError(msg)
    return Secret(value)


async def _next(chunks: AsyncIterator[bytes], exchange: Exchange) -> bytes | None:
    """Return the next bytes of a body, noted in its exchange; None at its end."""
    try:
        data = await anext(chunks, None)
    except IncompleteStreamError:
        exchange.cut = True
        raise
    if data is not None:
        exchange.received(data)
    return data


async def _drain(chunks: AsyncIterator[bytes], exchange: Exchange) -> None:
    """Read a body on to its end, so that its connection can serve again; not for long, and not much.

    The answer is complete before: what goes wrong here costs the connection and nothing else.
    """
    size = 0
    with suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for data in chunks:
                exchange.received(data)
                size += len(data)
                if size > _DRAIN_BYTES:
                    return


def _spoken(endpoint: Endpoint, api: Api | None, base_url: str | None) -> str | type[Dialect]:
    """Return the dialect to speak: its class, or where that is."""
    if api is None:
        own = endpoint.own_api if base_url == endpoint.base_url else None
        return endpoint.dialect if own is None else endpoint.apis[own]
    if api not in endpoint.apis:
        takes = " or ".join(repr(name) for name in endpoint.apis) or "no api option"
        msg = f"backend {endpoint.name!r} takes {takes}, not api={api!r}"
        raise InvalidRequestError(msg)
    return endpoint.apis[api]


def _base_url(endpoint: Endpoint, given: object) -> str | None:
    variable = endpoint.base_url_variable
    url = given if given is not None else (environ.value(variable) if variable else None) or endpoint.base_url
    if url is None:
        return None
    if not isinstance(url, str):
        msg = f"base_url is a str, not {type(url).__name__}"
        raise InvalidRequestError(msg)
    if given is None and "://" not in url:  # OLLAMA_HOST may be host:port
        url = f"http://{url}"
    where = _parsed(url)
    if where is None:
        example = endpoint.base_url or "https://host/v1"
        msg = f"base_url must look like {example}: an http or https URL with a host"
        raise InvalidRequestError(msg)
    if where.username is not None or where.password is not None or where.query or where.fragment:
        msg = "base_url must hold no user, password, query or fragment: a key goes into api_key"
        raise InvalidRequestError(msg)
    return url.rstrip("/")


def _parsed(url: str) -> SplitResult | None:
    """Return the parts of an http(s) URL with a host and a possible port, or None."""
    try:
        where = urlsplit(url)
        usable = where.scheme in {"http", "https"} and where.hostname and (where.port or 1) > 0
    except ValueError:
        return None
    return where if usable else None


def _part(place: str | type[_T], kind: type[_T]) -> _T:
    """Return a new object of a class, which is given as it is or by its place (`module:class`)."""
    if isinstance(place, str):
        module, _, name = place.partition(":")
        place = getattr(import_module(module), name)
    part = place() if isinstance(place, type) else None
    if not isinstance(part, kind):
        msg = f"{place!r} is no class of {kind.__name__}"
        raise InvalidRequestError(msg)
    return part
