"""How Gemini's API names a model: a resource, which is a path."""

from __future__ import annotations

from urllib.parse import quote

_COLLECTIONS = frozenset({"models", "tunedModels"})


def resource(model: str) -> str:
    """Return a model's full name: the collection, `models` where none is named, and one segment, whatever it holds."""
    collection, slash, name = model.partition("/")
    if not slash or collection not in _COLLECTIONS:
        collection, name = "models", model
    return f"{collection}/{quote(name, safe='')}"
