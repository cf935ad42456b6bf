"""Ways through a proxy, and what the proxy and the provider each see."""

from __future__ import annotations

import base64
import socket
import ssl
import traceback
from pathlib import Path

import pytest
import trustme

from asking import ask, post
from loopback import CLOSE, Loopback, reply
from tunnel import Tunnel
from veyra.errors import ConnectionFailedError, InvalidRequestError
from veyra.transport.http import HttpTransport
from veyra.types import Secret

PASSWORD = "canary-4711"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
KEY = {"authorization": Secret("Bearer sk-canary")}


async def test_http_goes_to_the_proxy_with_its_whole_url() -> None:
    """A plain request is handed to the proxy (RFC 9112, section 3.2.2), with the proxy's password and the provider's key."""
    async with Loopback([reply(body=b"through")]) as proxy:
        transport = HttpTransport(proxy=f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
        assert (await ask(transport, post("http://provider.test/v1?a=1", secret_headers=KEY)))[1] == b"through"
        await transport.aclose()
    (seen,) = proxy.requests
    assert (seen.target, seen.headers["host"]) == ("http://provider.test/v1?a=1", "provider.test")
    assert seen.headers["proxy-authorization"] == BASIC
    assert seen.headers["authorization"] == "Bearer sk-canary"


async def test_https_goes_through_a_tunnel(tmp_path: Path) -> None:
    """Through a tunnel the proxy sees a name and its own password, and the provider the request without that."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("provider.test").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Loopback(lambda _: reply(body=b"safe"), tls=context) as provider, Tunnel(provider.port) as proxy:
        transport = HttpTransport(ca_file=tmp_path / "ca.pem", proxy=f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert (await ask(transport, post("https://provider.test/v1", secret_headers=KEY)))[1] == b"safe"
        await transport.aclose()
    (head,) = proxy.heads
    assert head.startswith("CONNECT provider.test:443 HTTP/1.1\r\n")
    assert f"proxy-authorization: {BASIC}\r\n" in head
    assert "sk-canary" not in head
    assert [seen.headers["authorization"] for seen in provider.requests] == ["Bearer sk-canary"] * 2
    assert all("proxy-authorization" not in seen.headers for seen in provider.requests)


async def test_a_proxy_over_tls_is_known_like_a_provider(tmp_path: Path) -> None:
    """A proxy that is spoken to over TLS has to show a certificate that `ca_file` trusts."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Loopback([reply(body=b"through")], tls=context) as proxy:
        transport = HttpTransport(ca_file=tmp_path / "ca.pem", proxy=f"https://me:{PASSWORD}@127.0.0.1:{proxy.port}")
        assert (await ask(transport, post("http://provider.test/v1")))[1] == b"through"
        await transport.aclose()
        stranger = HttpTransport(proxy=proxy.url)
        with pytest.raises(ConnectionFailedError, match="not trusted"):
            await ask(stranger, post("http://provider.test/v1"))
        await stranger.aclose()
    assert proxy.requests[0].headers["proxy-authorization"] == BASIC


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (407, "the proxy refused with status 407: name its user and password"),
        (403, "the proxy refused with status 403"),
    ],
)
async def test_the_proxy_refuses(status: int, says: str) -> None:
    """A proxy that makes no tunnel is named with its status; nothing was sent to the provider."""
    async with Loopback([reply(status)]) as proxy:
        transport = HttpTransport(proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectionFailedError, match=says) as caught:
            await ask(transport, post("https://provider.test/v1", secret_headers=KEY))
        await transport.aclose()
    assert (caught.value.ambiguous, caught.value.status) == (False, None)


async def test_the_proxy_breaks_off_before_there_is_a_tunnel() -> None:
    """A connection that breaks while the tunnel is asked for is not ambiguous, and the tunnel is asked for once."""
    async with Loopback([[CLOSE], [CLOSE]]) as proxy:
        transport = HttpTransport(proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectionFailedError, match="closed before anything was sent") as caught:
            await ask(transport, post("https://provider.test/v1"))
        await transport.aclose()
    assert not caught.value.ambiguous
    assert len(proxy.requests) == 1


async def test_the_proxy_is_not_there() -> None:
    """Where the proxy cannot be reached, provider and proxy are named, and no password is, however much is printed."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        shown = f"http://127.0.0.1:{line.getsockname()[1]}"
        transport = HttpTransport(proxy=shown.replace("//", f"//me:{PASSWORD}@"))
        with pytest.raises(ConnectionFailedError) as caught:
            await ask(transport, post("http://provider.test/v1"))
        await transport.aclose()
    assert str(caught.value).startswith(f"no connection to provider.test:80 (through {shown}): refused")
    printed = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert PASSWORD not in printed
    assert BASIC not in printed


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_the_environment_names_the_proxy(
    variable: str, monkeypatch: pytest.MonkeyPatch, transport: HttpTransport
) -> None:
    """Without an argument the proxy is the environment's."""
    async with Loopback([reply(body=b"through")]) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        assert (await ask(transport, post("http://provider.test/v1")))[1] == b"through"


async def test_no_proxy_leads_straight(monkeypatch: pytest.MonkeyPatch, transport: HttpTransport) -> None:
    """A host that `NO_PROXY` names is reached without the proxy."""
    async with Loopback([reply(body=b"straight")]) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        assert (await ask(transport, post(server.url)))[1] == b"straight"


async def test_the_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the argument is taken for every request, whatever the environment says."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    async with Loopback([reply(body=b"through")]) as proxy:
        transport = HttpTransport(proxy=proxy.url)
        assert (await ask(transport, post("http://provider.test/v1")))[1] == b"through"
        await transport.aclose()


@pytest.mark.parametrize(
    "proxy", ["socks5://me:canary@127.0.0.1:1", "http://", "http://me:canary@h:port", "", "ftp://h"]
)
def test_a_wrong_proxy_is_refused_without_quoting_it(proxy: str) -> None:
    """What is no address of a proxy is refused when the transport is made, and not repeated: it may hold a password."""
    with pytest.raises(InvalidRequestError, match="proxy must be the address of a proxy") as caught:
        _made(proxy)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert "canary" not in str(frames[-1].locals)


def _made(proxy: str) -> HttpTransport:
    return HttpTransport(proxy=proxy)


async def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: HttpTransport) -> None:
    """A password in `.netrc` for the provider's host is not sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with Loopback([reply()]) as server:
        await ask(transport, post(server.url))
    assert "authorization" not in server.requests[0].headers
