"""One name for a request and whoever is asked it: equal names stand for calls that would get the same answer.

The rules:

1. Every field of the request that can change an answer counts. Whether it is streamed does not, nor how long it may take, nor
   how often it may be repaired; `prompt` is in `messages`.
2. A type that the answer is to have counts as its JSON Schema.
3. Values of different types are different (`1`, `1.0`, `True` and `"1"`), the order of a mapping's keys is nothing.
4. What has no such form (an object of a type that is not known here) gives no name, rather than a doubtful one.
5. Who is asked counts as a backend says of itself (`BaseModelBackend.identity`): where, in which format, with which settings.
   One that does not say is known by its name, its class and its place among the client's targets. Keys count for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

from veyra.models.base import BaseModelBackend
from veyra.schema import json_schema
from veyra.types import EmbedRequest, Request

_WITHOUT_EFFECT = frozenset({"prompt", "stream", "timeout", "repair"})


def fingerprint(asked: Request | EmbedRequest, backend: BaseModelBackend, target: str) -> str | None:
    """Return the SHA-256 of a request and of who is asked, as 64 hex digits; None where there is none (rule 4).

    Args:
        asked: what is asked, its model filled in.
        backend: who is asked.
        target: what that one is called among a client's targets.
    """
    kind, identity = type(backend), backend.identity()
    who = {
        "name": backend.name,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "identity": identity,
        "target": target if identity is None else None,
    }
    request = {field.name: getattr(asked, field.name) for field in fields(asked) if field.name not in _WITHOUT_EFFECT}
    if request.get("output") is not None:
        request["output"] = json_schema(request["output"])
    try:
        plain = _plain({"request": request, "who": who})
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (TypeError, RecursionError):
        return None
    return sha256(text.encode("ascii")).hexdigest()


def _plain(value: object) -> Any:  # noqa: ANN401  (a value of JSON)
    """Return a value as JSON has it; what JSON does not have is under a key that begins with NUL, which nobody else uses.

    Raises:
        TypeError: it has no such form.
    """
    if value is None or type(value) in {str, int, float, bool}:
        return value
    if isinstance(value, bytes):
        return {"\0bytes": sha256(value).hexdigest()}
    if isinstance(value, Mapping):
        if not all(type(key) is str and not key.startswith("\0") for key in value):
            msg = "a key is no plain str"
            raise TypeError(msg)
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f"\0{type(value).__name__}": {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        }
    raise TypeError(type(value).__name__)
