"""Which backend and which model a command asks: options, then settings."""

from __future__ import annotations

from veyra import config


def asked(backend: str | None, model: str | None = None) -> tuple[str | None, str | None]:
    """Return the backend and the model that options name, else those of the settings; None where nothing names one.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = config.load()
    chosen = settings.setting("backend")
    if backend is None and chosen is not None:
        backend = str(chosen.value)
    return backend, settings.model(backend or "mock") if model is None else model
