"""The environment, read: values and keys of variables, proxies, and the user's directories.

Below the command, this is the only module that reads `os.environ`, and it does so when it is asked, never when it is
imported. Nothing is kept: a variable that changes is seen by the next call.
"""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from veyra.errors import AuditUnavailableError, InvalidRequestError
from veyra.types import Secret

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to go through.

    Attributes:
        url: scheme, host and port; never a user name or a password.
        authorization: the whole value of `Proxy-Authorization`, or None where no user is named.
    """

    url: str
    authorization: Secret | None = None

    @classmethod
    def parse(cls, text: Secret) -> Proxy | None:
        """Take apart `http://user:password@host:port` (scheme, user and port may be missing); None where it is not that."""
        url = text.reveal()
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            return None
        if not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
            return None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        shown = f"{parts.scheme}://{host}:{port or _DEFAULT_PORTS[parts.scheme]}"
        if parts.username is None:
            return cls(shown)
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(shown, Secret("Basic " + b64encode(user.encode()).decode("ascii")))  # RFC 7617


def value(variable: str) -> str | None:
    """Return the variable without surrounding whitespace, or None where it is unset or blank."""
    return os.environ.get(variable, "").strip() or None


def key(variable: str) -> Secret | None:
    """Return the key that the variable holds, or None where it is unset or blank."""
    text = value(variable)
    return None if text is None else Secret(text)


def config_dir() -> Path | None:
    """Return Veyra's directory among the user's configuration, as the platform has it; None where there is no home."""
    from platformdirs import user_config_path  # noqa: PLC0415  (most calls do not come here)

    try:
        return user_config_path("veyra", appauthor=False)
    except RuntimeError:
        return None


def state_dir() -> Path:
    """Return Veyra's directory among the user's state, as the platform has it.

    Raises:
        AuditUnavailableError: this user has no home directory, as is usual for an arbitrary user in a container.
    """
    from platformdirs import user_state_path  # noqa: PLC0415  (most calls do not come here)

    try:
        return user_state_path("veyra", appauthor=False)
    except RuntimeError:
        msg = "this user has no home directory to keep the log in: set HOME, or audit.dir (VEYRA_AUDIT_DIR) to a whole path"
    raise AuditUnavailableError(msg)


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy through which `url` is reached, or None for the straight way.

    Read are `https_proxy` or `http_proxy` (by the URL's scheme), then `all_proxy`, unless `no_proxy` names the host. The
    lower-case name goes before the upper-case one. `HTTP_PROXY` is not read inside a CGI script (where `REQUEST_METHOD`
    is set), because a client could set it there by a header. No file is read, in particular no `.netrc`.

    Raises:
        InvalidRequestError: the variable does not hold an http or https URL; the message names the variable only.
    """
    target = urlsplit(url)
    for variable in _spellings(f"{target.scheme}_proxy", "all_proxy"):
        text = key(variable)
        if text is None:
            continue
        if _is_exempt(target.hostname or "", target.port or _DEFAULT_PORTS.get(target.scheme)):
            return None
        proxy = Proxy.parse(text)
        if proxy is None:
            msg = f"{variable} is not the address of a proxy: write http://host:port or https://host:port"
            raise InvalidRequestError(msg)
        return proxy
    return None


def _spellings(*variables: str) -> list[str]:
    """Return the names under which these variables are looked for, in order."""
    names = [name for variable in variables for name in (variable, variable.upper())]
    return [name for name in names if name != "HTTP_PROXY" or "REQUEST_METHOD" not in os.environ]


def _is_exempt(host: str, port: int | None) -> bool:
    """Tell whether `no_proxy` names this host: `*`, or a name with all names below it, with or without `:port`."""
    rules = next((rules for rules in map(value, _spellings("no_proxy")) if rules), "")
    for rule in rules.lower().split(","):
        name = rule.strip().lstrip(".")
        if name == "*":
            return True
        if name and any(f".{candidate}".endswith(f".{name}") for candidate in (host, f"{host}:{port}")):
            return True
    return False
