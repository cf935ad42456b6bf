"""Whom the transport trusts, and how it shows who it is."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from asking import ask, post
from loopback import CLOSE, Loopback, in_thread, reply
from veyra.errors import ConnectionFailedError, InvalidRequestError
from veyra.transport.checks import Target
from veyra.transport.http import HttpTransport, _not_answered, _Route
from veyra.transport.tls import Tls, _trust_system

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def _server_side(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_of_the_ca_file_is_trusted(authority: trustme.CA, ca_file: Path) -> None:
    """A server whose certificate an authority of `ca_file` signed is asked, over one connection for several requests."""
    transport = HttpTransport(ca_file=ca_file)
    async with Loopback(lambda _: reply(body=b"safe"), tls=_server_side(authority)) as server:
        for _ in range(3):
            assert (await ask(transport, post(server.url)))[1] == b"safe"
        await transport.aclose()
    assert len(server.links) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's store cannot be named by a variable")
async def test_the_system_store_is_trusted(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch, transport: HttpTransport
) -> None:
    """Without `ca_file` the system's store decides, wherever OpenSSL is told that it is."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with Loopback([reply(body=b"safe")], tls=_server_side(authority)) as server:
        assert (await ask(transport, post(server.url)))[1] == b"safe"


@pytest.mark.parametrize(
    ("found", "is_read"),
    [((None, None), True), ((None, "/own"), True), (("/own.pem", "/own"), False), ((None, "/chosen"), False)],
)
def test_the_systems_bundle_is_read_where_openssl_has_none(
    found: tuple[Any, Any], is_read: bool, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenSSL has no file of its own and no variable chooses one, the system's well-known bundle is read."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ssl.DefaultVerifyPaths(*found, "SSL_CERT_FILE", "/own.pem", "SSL_CERT_DIR", "/own")
    _trust_system(context, paths, [str(tmp_path / "none"), str(ca_file)])
    assert bool(context.get_ca_certs()) is is_read


async def test_an_unknown_authority_is_not_trusted(authority: trustme.CA, transport: HttpTransport) -> None:
    """An unknown authority is refused before anything is sent, and the error says what to do."""
    async with Loopback([reply()], tls=_server_side(authority)) as server:
        with pytest.raises(ConnectionFailedError, match=r"not trusted \(.*\); name .* by ca_file") as caught:
            await ask(transport, post(server.url))
    assert (caught.value.ambiguous, caught.value.retryable) == (False, False)
    assert server.requests == []


async def test_the_ca_file_is_trusted_alone(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    """`ca_file` replaces the system's store and any other authority."""
    other = trustme.CA()
    transport = HttpTransport(ca_file=ca_file)
    async with Loopback([reply()], tls=_server_side(other)) as server:
        with pytest.raises(ConnectionFailedError, match="not trusted"):
            await ask(transport, post(server.url))
    await transport.aclose()


async def test_a_certificate_for_another_name_is_not_trusted(authority: trustme.CA, ca_file: Path) -> None:
    """A certificate that was issued for another name is refused, and the error says that this is the reason."""
    transport = HttpTransport(ca_file=ca_file)
    async with Loopback([reply()], tls=_server_side(authority, "elsewhere.test")) as server:
        with pytest.raises(ConnectionFailedError, match=r"IP address mismatch.*127\.0\.0\.1"):
            await ask(transport, post(server.url))
    await transport.aclose()
    assert server.requests == []


async def test_a_client_certificate_is_shown(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    """A server that asks for a certificate gets the one of `client_cert` and `client_key`."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    mine = authority.issue_cert("veyra@example.test")
    mine.cert_chain_pems[0].write_to_path(cert)
    mine.private_key_pem.write_to_path(key)
    asking = _server_side(authority)
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.maximum_version = ssl.TLSVersion.TLSv1_2  # where the refusal is part of the handshake
    authority.configure_trust(asking)
    transport = HttpTransport(ca_file=ca_file, client_cert=cert, client_key=key)
    stranger = HttpTransport(ca_file=ca_file)
    async with Loopback(lambda _: reply(body=b"known"), tls=asking) as server:
        assert (await ask(transport, post(server.url)))[1] == b"known"
        with pytest.raises(ConnectionFailedError, match=f"no connection to 127.0.0.1:{server.port}") as caught:
            await ask(stranger, post(server.url))
        await transport.aclose()
        await stranger.aclose()
    assert not caught.value.ambiguous
    assert len(server.requests) == 1


async def test_a_client_certificate_that_is_missed_later(authority: trustme.CA, ca_file: Path) -> None:
    """In TLS 1.3 a server may refuse us after the request was sent: then that cannot be told from other breaks."""
    asking = _server_side(authority)
    asking.verify_mode = ssl.CERT_REQUIRED
    stranger = HttpTransport(ca_file=ca_file)
    async with Loopback([reply()], tls=asking) as server:
        with pytest.raises(ConnectionFailedError) as caught:
            await ask(stranger, post(server.url))
        await stranger.aclose()
    assert caught.value.ambiguous
    assert server.requests == []


async def test_an_alert_after_the_handshake_is_quoted() -> None:
    """Where the other end says in an alert why it broke off, the error says it too."""
    alert = ssl.SSLError(1, "[SSL] alert")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    lost = aiohttp.ClientOSError(1, "lost")
    lost.__cause__ = alert
    route = _Route(Target("https", "provider.test", 443), None, None)
    assert str(_not_answered(lost, route)).endswith("before it answered (tlsv13 alert certificate required)")


async def test_a_server_without_tls(transport: HttpTransport) -> None:
    """A server that does not speak TLS is said to be one."""
    async with Loopback([], on_accept=[[b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]]) as server:
        with pytest.raises(
            ConnectionFailedError, match=r"wrong version number\): does the server speak https"
        ) as caught:
            await ask(transport, post(f"https://127.0.0.1:{server.port}"))
    assert (caught.value.ambiguous, caught.value.retryable) == (False, False)


async def test_a_handshake_that_breaks_off(transport: HttpTransport) -> None:
    """A connection that breaks within the handshake breaks before the request: nothing was sent."""
    async with Loopback([], on_accept=[[CLOSE]]) as server:
        with pytest.raises(ConnectionFailedError, match=f"no connection to 127.0.0.1:{server.port}") as caught:
            await ask(transport, post(f"https://127.0.0.1:{server.port}"))
    assert not caught.value.ambiguous


def test_loops_that_end_leave_no_warning(authority: trustme.CA, ca_file: Path) -> None:
    """Over TLS, too, one transport serves one loop after the other and leaves nothing behind."""
    transport = HttpTransport(ca_file=ca_file)
    with in_thread(Loopback(lambda _: reply(body=b"safe"), tls=_server_side(authority))) as server:
        for _ in range(3):
            assert asyncio.run(ask(transport, post(server.url)))[1] == b"safe"
            gc.collect()
    assert len(server.links) == 3


async def test_tls_settings_are_not_read_for_http() -> None:
    """Without https nothing of TLS is looked at, right or wrong."""
    transport = HttpTransport(ca_file="/nowhere/ca.pem")
    async with Loopback([reply(body=b"plain")]) as server:
        assert (await ask(transport, post(server.url)))[1] == b"plain"
        await transport.aclose()
    with pytest.raises(InvalidRequestError, match=r"ca_file /nowhere/ca\.pem cannot be used: No such file"):
        await ask(transport, post("https://127.0.0.1:9"))


def _words(path: Path) -> Tls:
    (path / "words.pem").write_text("no certificate")
    return Tls(ca_file=path / "words.pem")


def _encrypted(path: Path) -> Tls:
    password = serialization.BestAvailableEncryption(b"secret")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (path / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, password))
    trustme.CA().cert_pem.write_to_path(path / "cert.pem")
    return Tls(client_cert=path / "cert.pem", client_key=path / "key.pem")


def _of_another_key(path: Path) -> Tls:
    one, other = (trustme.CA().issue_cert("a.test") for _ in range(2))
    one.cert_chain_pems[0].write_to_path(path / "cert.pem")
    other.private_key_pem.write_to_path(path / "key.pem")
    return Tls(client_cert=path / "cert.pem", client_key=path / "key.pem")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (lambda path: Tls(ca_file=path / "none.pem"), r"ca_file .*none\.pem cannot be used: No such file"),
        (_words, r"ca_file .*words\.pem cannot be used: no certificate"),
        (lambda path: Tls(client_cert=path / "none.pem"), r"client_cert .*none\.pem cannot be used: No such file"),
        (lambda path: Tls(client_key=path / "key.pem"), "client_key is of no use without client_cert"),
        (_encrypted, r"client_cert .*cert\.pem cannot be used: the key is encrypted"),
        (_of_another_key, r"client_cert .*cert\.pem cannot be used: key values mismatch"),
    ],
)
def test_a_wrong_file_is_named(settings: Callable[[Path], Tls], says: str, tmp_path: Path) -> None:
    """A file that cannot be used is named, with the reason in words."""
    with pytest.raises(InvalidRequestError, match=says):
        settings(tmp_path).context()


def test_old_versions_of_tls_are_refused(ca_file: Path) -> None:
    """Nothing older than TLS 1.2 is spoken, certificates are asked for, and names are compared."""
    for context in (Tls().context(), Tls(ca_file=ca_file).context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
