"""What settings say of a backend, as the options that it is made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from veyra import config
from veyra.config import Setting
from veyra.errors import near


def configured(
    name: str, given: Mapping[str, object], takes: Sequence[str] | None, *, key_at_call: bool
) -> dict[str, object]:
    """Return the options that were given for a backend, and those of `[backends.NAME]` that were not.

    Args:
        name: the backend's.
        given: options; one that is None counts as not given.
        takes: the options that the backend takes; None where it takes any.
        key_at_call: it takes a function that returns its key; otherwise the key is got now.

    Raises:
        ConfigError: a file cannot be used, the backend takes no such option, or the file is not trusted with it.
        AuthenticationError: the key is got now, and is not there.
    """
    settings = config.load()
    found = {
        option: setting
        for setting in settings.backend(name).values()
        for option in _options(setting)
        if given.get(option) is None
    }
    source = settings.key_source(name) if given.get("api_key") is None else None
    for option, setting in found.items():  # first all are checked: no error is raised where a value is at hand
        _check(setting, option, takes)
        settings.vouched(setting)
    if source is not None:
        _check(source.setting, "api_key", takes)
    options = {**given, **{option: _value(setting, option) for option, setting in found.items()}}
    if source is not None:
        options["api_key"] = source if key_at_call else source().reveal()
    return options


def _options(setting: Setting) -> Sequence[str]:
    """Return the options that a setting is: several, where it is a table of them."""
    return tuple(setting.value) if isinstance(setting.value, Mapping) else (setting.name[-1],)


def _value(setting: Setting, option: str) -> object:
    return setting.value[option] if isinstance(setting.value, Mapping) else setting.value


def _check(setting: Setting, option: str, takes: Sequence[str] | None) -> None:
    if takes is not None and option not in takes:
        what = f"is of no use: that backend takes no {option!r}{near(option, takes)} It takes {', '.join(takes)}."
        raise setting.wrong(what)
