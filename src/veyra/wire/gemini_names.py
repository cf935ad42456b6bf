"""How Gemini's API names a model: a resource, which is a path; and what is asked of it, which ends the path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

_COLLECTIONS = frozenset({"models", "tunedModels"})
_METHODS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")
_TARGET = re.compile(
    rf"/v1(?:beta|alpha)?/(models|tunedModels)/(?:([^/:][^/]*):({'|'.join(_METHODS)})|([^/:]+))"
).fullmatch


def resource(model: str) -> str:
    """Return a model's full name: the collection, `models` where none is named, and one segment, whatever it holds."""
    collection, slash, name = model.partition("/")
    if not slash or collection not in _COLLECTIONS:
        collection, name = "models", model
    return f"{collection}/{quote(name, safe='')}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a request's target says.

    Attributes:
        model: the model, as `resource` takes it.
        method: what is asked of it; empty where the model itself is asked for.
        events: an answer that is streamed is one of server-sent events, and no array.
    """

    model: str
    method: str
    events: bool

    @property
    def stream(self) -> bool:
        """Whether an answer is asked for in pieces."""
        return self.method == "streamGenerateContent"


def target_of(text: str) -> Target | None:
    """Return what the target of a request says, its query included; None where it names no model."""
    path, _, query = text.partition("?")
    found = _TARGET(path)
    if found is None:
        return None
    collection, asked, method, alone = found.groups()
    name = asked or alone
    model = unquote(name) if collection == "models" else f"{collection}/{unquote(name)}"
    return Target(model, method or "", parse_qs(query).get("alt") == ["sse"])
