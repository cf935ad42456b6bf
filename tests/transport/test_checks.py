"""What is refused before anything is sent, by every transport alike, without quoting what may be secret."""

from __future__ import annotations

import pytest

from asking import ask, post
from loopback import Loopback, reply
from veyra.errors import InvalidRequestError
from veyra.transport import checks
from veyra.transport.base import Outgoing, Transport
from veyra.transport.http import HttpTransport
from veyra.transport.script import Answer, ScriptedTransport
from veyra.types import Secret

CANARY = "canary-4711"


@pytest.fixture(params=["http", "script"])
def either(request: pytest.FixtureRequest, transport: HttpTransport) -> Transport:
    """The real transport and the fake: both refuse the same."""
    return transport if request.param == "http" else ScriptedTransport([Answer()])


URLS = {
    "": "empty",
    "/v1/chat": "no scheme",
    "127.0.0.1:8000/v1": "no scheme|must begin with http",
    "ftp://127.0.0.1": "must begin with http:// or https://, not with ftp",
    "file:///etc/passwd": "not with file",
    "http://": "names no host",
    "http:///v1": "names no host",
    "http://:80/v1": "names no host",
    "http://127.0.0.1:port": "cannot be read",
    "http://127.0.0.1:65536": "cannot be read",
    "http://[::1": "cannot be read",
    "http://127.0.0.1/a b": "space",
    "http://127.0.0.1/a\nb": "control character",
    "http://127.0.0.1/a\r\nx: y": "control character",
    "http://127.0.0.1/a\x00": "control character",
    "http://b\u00fccher.example/": "outside ASCII",
    f"http://me:{CANARY}@127.0.0.1/": "the URL of 127.0.0.1 names a user",
    f"http://{CANARY}@127.0.0.1/": "the URL of 127.0.0.1 names a user",
}


@pytest.mark.parametrize(("url", "says"), URLS.items(), ids=map(repr, URLS))
async def test_a_wrong_url_is_refused(either: Transport, url: str, says: str) -> None:
    """A URL that is not absolute, not http, not printable ASCII or that names a user is refused with the reason."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        await ask(either, post(url))
    assert caught.value.status is None
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "value", [f"{CANARY}\n", f"{CANARY}\r\nx: y", f"{CANARY}\x00", f"{CANARY}\u2013", f"\x7f{CANARY}"]
)
@pytest.mark.parametrize("secret", [False, True], ids=["plain", "secret"])
async def test_a_wrong_header_value_is_refused(either: Transport, value: str, secret: bool) -> None:
    """A value that could end its line, or that is no ASCII, is refused; the header is named and the value is not."""
    headers = {"content-type": "application/json"} | ({} if secret else {"x-key": value})
    with pytest.raises(InvalidRequestError, match="the header x-key holds") as caught:
        await ask(
            either,
            post("http://127.0.0.1:9", headers=headers, secret_headers={"x-key": Secret(value)} if secret else {}),
        )
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\nb", "\u00e9", "a\x00"])
async def test_a_wrong_header_name_is_refused(either: Transport, name: str) -> None:
    """What is no token of RFC 9110 is no name of a header."""
    with pytest.raises(InvalidRequestError, match="cannot be the name of a header"):
        await ask(either, post("http://127.0.0.1:9", headers={name: "1"}))


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "expect", "HOST", "upgrade"])
async def test_framing_is_not_the_callers(either: Transport, name: str) -> None:
    """A header that says where a message goes or ends cannot be given: it could smuggle a second request in."""
    with pytest.raises(InvalidRequestError, match=f"the header {name} cannot be given"):
        await ask(either, post("http://127.0.0.1:9", headers={name: "1"}))


@pytest.mark.parametrize("method", ["", "get", "PUT", "POST / HTTP/1.1\r\n"])
async def test_other_methods_are_refused(either: Transport, method: str) -> None:
    """Only GET and POST are sent."""
    with pytest.raises(InvalidRequestError, match="the method must be GET or POST"):
        await ask(either, Outgoing(method=method, url="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://a.test", "a.test:80"),
        ("https://A.test/v1?x=1#y", "a.test:443"),
        ("http://a.test:0", "a.test:0"),
        ("https://[::1]:8443/v1", "[::1]:8443"),
        ("http://[FE80::1]", "[fe80::1]:80"),
    ],
)
def test_where_a_url_leads(url: str, where: str) -> None:
    """A target is written with its port, and brackets around an IPv6 address."""
    assert str(checks.target(url)) == where


async def test_a_tab_in_a_value_is_allowed(transport: HttpTransport) -> None:
    """A tab is the one control character that HTTP allows in a value."""
    async with Loopback([reply()]) as server:
        await ask(transport, post(server.url, headers={"x-note": "a\tb"}))
    assert server.requests[0].headers["x-note"] == "a\tb"
