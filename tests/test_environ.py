"""What is read from the environment, and how."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from veyra import environ
from veyra.environ import Proxy
from veyra.errors import InvalidRequestError
from veyra.types import Secret

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(("text", "value"), [(None, None), ("", None), (" \n", None), (" a b\n", "a b")])
def test_a_value_comes_without_surrounding_space(
    text: str | None, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is unset or blank is None; a newline at its end, as of `$(cat key)`, is no part of it."""
    if text is not None:
        monkeypatch.setenv("VEYRA_TEST", text)
    assert environ.value("VEYRA_TEST") == value
    assert environ.key("VEYRA_TEST") == (None if value is None else Secret(value))


def test_a_change_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept between two questions."""
    for text in ("one", "two"):
        monkeypatch.setenv("VEYRA_TEST", text)
        assert environ.value("VEYRA_TEST") == text


def test_the_users_directories_are_where_the_platform_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """State and configuration are in directories called veyra, below those of the user."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for place in (environ.state_dir(), environ.config_dir()):
        assert place is not None
        assert place.is_relative_to(tmp_path)
        assert place.name == "veyra"


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "https://a.test", None),
        ({"https_proxy": PROXY}, "https://a.test", PROXY),
        ({"HTTPS_PROXY": PROXY}, "https://a.test", PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.test:1"}, "https://a.test", PROXY),
        ({"https_proxy": PROXY}, "http://a.test", None),
        ({"http_proxy": PROXY}, "http://a.test", PROXY),
        ({"http_proxy": PROXY}, "https://a.test", None),
        ({"all_proxy": PROXY}, "https://a.test", PROXY),
        ({"ALL_PROXY": PROXY, "https_proxy": "http://first.test:1"}, "https://a.test", "http://first.test:1"),
        ({"http_proxy": PROXY}, "http://127.0.0.1:11434", PROXY),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://a.test", None),
        ({"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, "http://a.test", PROXY),
        ({"https_proxy": "proxy.test:3128"}, "https://a.test", PROXY),
        ({"https_proxy": "https://proxy.test"}, "https://a.test", "https://proxy.test:443"),
        ({"https_proxy": "http://[::1]:3128/"}, "https://a.test", "http://[::1]:3128"),
    ],
)
def test_the_proxy_for_a_url(
    variables: dict[str, str], url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheme's variable goes before the one for all, lower case before upper case, and CGI's is not believed."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environ.proxy_for(url) == (None if expected is None else Proxy(expected))


@pytest.mark.parametrize(
    ("rules", "url", "exempt"),
    [
        ("*", "https://a.test", True),
        ("a.test", "https://a.test", True),
        ("A.Test", "https://a.test", True),
        ("a.test", "https://b.a.test", True),
        (".a.test", "https://b.a.test", True),
        (".a.test", "https://a.test", True),
        ("a.test", "https://ba.test", False),
        ("b.test, a.test ,", "https://a.test", True),
        ("a.test:443", "https://a.test", True),
        ("a.test:8443", "https://a.test", False),
        ("a.test:8443", "https://a.test:8443", True),
        ("127.0.0.1", "https://127.0.0.1:8000", True),
        ("::1", "https://[::1]:8000", True),
        ("", "https://a.test", False),
        (",", "https://a.test", False),
    ],
)
def test_hosts_without_a_proxy(rules: str, url: str, exempt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_proxy` names hosts with all below them, with or without a port, or all hosts by a star."""
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("NO_PROXY", rules)
    assert (environ.proxy_for(url) is None) is exempt


def test_a_proxys_password_is_taken_out_of_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password, percent-decoded, become a secret header; neither is in the URL or in the repr."""
    monkeypatch.setenv("https_proxy", "http://me%40here:c%3Aanary@proxy.test:3128")
    proxy = environ.proxy_for("https://a.test")
    assert proxy is not None
    assert proxy.url == PROXY
    assert proxy.authorization == Secret("Basic " + base64.b64encode(b"me@here:c:anary").decode())
    assert "anary" not in repr(proxy)


@pytest.mark.parametrize("text", ["socks5://me:canary@proxy.test", "http://me:canary@proxy.test:port", "http://"])
def test_a_wrong_proxy_is_named_and_not_quoted(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that holds no address of a proxy is named; what it holds is not repeated."""
    monkeypatch.setenv("HTTPS_PROXY", text)
    with pytest.raises(InvalidRequestError, match="HTTPS_PROXY is not the address of a proxy") as caught:
        environ.proxy_for("https://a.test")
    assert "canary" not in str(caught.value)
