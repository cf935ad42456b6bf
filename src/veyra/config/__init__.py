"""Settings: what files and variables say, checked, and where each of it came from."""

from veyra.config.credentials import KeySource
from veyra.config.effective import Config
from veyra.config.keys import KEYS, Key
from veyra.config.loading import documents, load, reload
from veyra.config.settings import Origin, Problem, Setting

__all__ = ["KEYS", "Config", "Key", "KeySource", "Origin", "Problem", "Setting", "documents", "load", "reload"]
