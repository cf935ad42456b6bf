"""What may be sent: the checks that every transport makes of an `Outgoing`, so that the fakes refuse what http refuses.

Header fields follow RFC 9110, section 5, and are held to printable ASCII. A URL is to be written as it goes over the
wire, percent-encoded. No message quotes a URL beyond its host, or a header beyond its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from veyra.errors import InvalidRequestError
from veyra.transport.base import Outgoing

_PRINTABLE = re.compile(r"[!-~]+").fullmatch
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\t -~]*").fullmatch
_PORTS = {"http": 80, "https": 443}
_METHODS = frozenset({"GET", "POST"})
_FRAMING = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"})
"""Headers that say where a message goes and where it ends: the transport alone sets them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Write the address as messages show it: `host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(maxsize=256)
def target(url: str) -> Target:
    """Return where `url` leads.

    Raises:
        InvalidRequestError: it is not an absolute http or https URL in printable ASCII, or it names a user.
    """
    if not _PRINTABLE(url):
        msg = "the URL is empty or holds a space, a control character or a letter outside ASCII: percent-encode it"
        raise InvalidRequestError(msg)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        msg = f"the URL cannot be read: {error}"
        raise InvalidRequestError(msg) from None
    if parts.scheme not in _PORTS:
        msg = f"the URL must begin with http:// or https://, not with {parts.scheme or 'no scheme'}"
        raise InvalidRequestError(msg)
    if not host:
        msg = "the URL names no host"
        raise InvalidRequestError(msg)
    if "@" in parts.netloc:
        msg = f"the URL of {host} names a user: what is secret goes into a header"
        raise InvalidRequestError(msg)
    return Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port)


def check(request: Outgoing) -> Target:
    """Return where `request` goes, if it can be sent.

    Raises:
        InvalidRequestError: the URL is wrong (see `target`); the method is neither GET nor POST; the name or the value
            of a header is not allowed in HTTP; a header is given that the transport sets itself.
    """
    if request.method not in _METHODS:
        msg = f"the method must be GET or POST, not {request.method!r}"
        raise InvalidRequestError(msg)
    for name, value in request.headers.items():
        _reject(_known_fault(name, value))
    for name, secret in request.secret_headers.items():
        _reject(_fault(name, secret.reveal()))
    return target(request.url)


def _fault(name: str, value: str) -> str | None:
    """Return what is wrong with a header, or None. It raises nothing, so that no traceback holds the value."""
    if not _NAME(name):
        return f"{name!r} cannot be the name of a header"
    if name.lower() in _FRAMING:
        return f"the header {name} cannot be given: it is set with the message it belongs to"
    if not _VALUE(value):
        return f"the header {name} holds a line break, a control character or a letter outside ASCII"
    return None


_known_fault = lru_cache(maxsize=256)(_fault)
"""The same for headers that hold no key: they are few, and come with every request."""


def _reject(fault: str | None) -> None:
    if fault is not None:
        raise InvalidRequestError(fault)
