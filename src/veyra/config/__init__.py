"""Settings: what files and variables say, checked, and where each of it came from."""

from veyra.config.credentials import KeySource
from veyra.config.effective import Config
from veyra.config.keys import KEYS, Key
from veyra.config.loading import documents, load, reload
from veyra.config.settings import Document, Origin, Problem, Setting

__all__ = [
    "load",
    "reload",
    "documents",
    "Config",
    "Setting",
    "Origin",
    "KeySource",
    "Document",
    "Problem",
    "KEYS",
    "Key",
]
