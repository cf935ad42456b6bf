"""How the other end of a connection is known: TLS 1.2 or later, and the trust store of the operating system.

On macOS and Windows the system itself judges certificates, by truststore. Elsewhere the system's store is a file or a
directory for OpenSSL; it is read here, once for a context, because truststore reads it anew for every connection, which
takes 50 ms of the event loop each time.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import truststore

from veyra.errors import InvalidRequestError

PathName: TypeAlias = str | PathLike[str]

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, Alpine
)
"""Where systems keep their store, for a Python whose OpenSSL was built to look elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom to trust, and how to show who we are.

    Attributes:
        ca_file: a PEM file of certificates to trust instead of the system's; None for the system's.
        client_cert: a PEM file with our certificate chain, and with its key where `client_key` is None; None for none.
        client_key: a PEM file with the key of `client_cert`.
    """

    ca_file: PathName | None = None
    client_cert: PathName | None = None
    client_key: PathName | None = None

    def context(self) -> ssl.SSLContext:
        """Return a new context. Reads the trust store and the files: up to 100 ms.

        Raises:
            InvalidRequestError: a file cannot be read or is not PEM; the key is encrypted or has no certificate.
        """
        if self.client_key is not None and self.client_cert is None:
            msg = "client_key is of no use without client_cert"
            raise InvalidRequestError(msg)
        context = _trusting(self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.client_cert is not None:
            try:
                context.load_cert_chain(self.client_cert, self.client_key, password=_no_password)
            except (OSError, ValueError) as error:
                msg = f"client_cert {self.client_cert} cannot be used: {_reason(error)}"
                raise InvalidRequestError(msg) from None
        return context


def _trusting(ca_file: PathName | None) -> ssl.SSLContext:
    """Return a context for clients that trusts the certificates in `ca_file`, or the system's."""
    if ca_file is None and sys.platform in {"darwin", "win32"}:
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        _trust_system(context, ssl.get_default_verify_paths(), _BUNDLES)
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:
        msg = f"ca_file {ca_file} cannot be used: {_reason(error)}"
        raise InvalidRequestError(msg) from None
    return context


def _trust_system(context: ssl.SSLContext, paths: ssl.DefaultVerifyPaths, bundles: Iterable[str]) -> None:
    """Trust what OpenSSL trusts, which `SSL_CERT_FILE` and `SSL_CERT_DIR` decide; without either, the first bundle too."""
    context.set_default_verify_paths()
    if paths.cafile is None and paths.capath in {None, paths.openssl_capath}:
        bundle = next(filter(Path.is_file, map(Path, bundles)), None)
        if bundle is not None:
            context.load_verify_locations(cafile=bundle)


def _no_password() -> str:
    """Refuse an encrypted key; OpenSSL would otherwise ask for its password on the terminal."""
    msg = "the key is encrypted"
    raise ValueError(msg)


def _reason(error: OSError | ValueError) -> str:
    """Say in a few words why a PEM file was refused."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM data").lower().replace("_", " ")
    return (error.strerror or "unreadable") if isinstance(error, OSError) else str(error)
