"""Every setting there is, as data: its name, its type, what holds without it, and what it means.

A name is written as in a file, `audit.mode` for `mode` in `[audit]`; a star stands for any name. Each setting whose name has
no star has a variable: `VEYRA_AUDIT_MODE`. The settings of `[client.*]` are the fields of the values in `veyra.policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from veyra import errors
from veyra.config.kinds import (
    ADDRESS,
    BOOLEAN,
    DOLLARS,
    PAIR,
    PATH,
    PATHS,
    PROXY,
    SECRET,
    TABLE,
    TEXT,
    TEXTS,
    Kind,
    choice,
    number,
    several,
    whole,
)
from veyra.errors import ProviderError

Name: TypeAlias = tuple[str, ...]
"""A setting's place: the keys that lead to it."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
PROFILES: Final = "profiles"
KEY_SOURCES: Final = ("api_key", "api_key_env", "api_key_file", "api_key_keyring")
"""Settings of a backend of which one at most is in force: where its key comes from."""


@dataclass(frozen=True, slots=True)
class Key:
    """A setting.

    Attributes:
        kind: its type.
        what: what it means, in a line.
        default: what holds without it, as a file would say it; None where nothing does, or where that depends.
        leads: it decides where keys are sent: not taken from a file that was merely found (`Config.backend`).
        profiled: a profile may hold it.
    """

    kind: Kind
    what: str
    default: str | int | float | bool | None = None
    leads: bool = False
    profiled: bool = True


_ERRORS: Final = {one.kind for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ProviderError)}
_SECONDS: Final = number(zero=True)

KEYS: Final[Mapping[Name, Key]] = {
    tuple(name.split(".")): key
    for name, key in {
        "backend": Key(TEXT, "the backend that the command asks", "mock"),
        "model": Key(TEXT, "the model that the command asks, where it asks that backend"),
        "trusted": Key(PATHS, "directories whose files may say where keys are sent", profiled=False),
        "audit.dir": Key(PATH, "the log's directory"),
        "audit.mode": Key(choice("strict", "ordered", "async"), "when a call waits for its entries", "strict"),
        "audit.on_failure": Key(
            choice("fail_closed", "spool", "fail_open"), "what happens while the log cannot be written", "fail_closed"
        ),
        "audit.spool": Key(PATH, "the second place of `spool`, better on another disk"),
        "audit.any_filesystem": Key(BOOLEAN, "write to a network or FUSE file system, too", default=False),
        "audit.key": Key(PATH, "the file with the key that signs the log's checkpoints"),
        "audit.heads": Key(PATH, "the directory that keeps the checkpoint signed last, outside the log"),
        "backends.*.model": Key(TEXT, "the model of calls that name none"),
        "backends.*.api": Key(choice("chat", "responses"), "which of the vendor's formats to speak"),
        "backends.*.base_url": Key(ADDRESS, "where the backend is", leads=True),
        "backends.*.api_key": Key(SECRET, "the key itself, in a file that nobody else can read"),
        "backends.*.api_key_env": Key(TEXT, "the variable that holds the key"),
        "backends.*.api_key_file": Key(PATH, "the file that holds the key, and nothing else"),
        "backends.*.api_key_keyring": Key(PAIR, "what the system's keyring calls the key"),
        "backends.*.timeout": Key(number(zero=False), "seconds that a call may take in all"),
        "backends.*.on_unsupported": Key(choice("error", "warn"), "an option that the model does not take", "error"),
        "backends.*.api_version": Key(TEXT, "the value of the format's version header"),
        "backends.*.ca_file": Key(PATH, "certificates to trust instead of the system's", leads=True),
        "backends.*.client_cert": Key(PATH, "the client's certificate"),
        "backends.*.client_key": Key(PATH, "the key of the client's certificate"),
        "backends.*.proxy": Key(PROXY, "the proxy to go through", leads=True),
        "backends.*.options": Key(TABLE, "what a backend from elsewhere takes besides", leads=True),
        "client.targets": Key(TEXTS, "whom a client asks that is given no target: `backend:model`, in order"),
        "client.routing": Key(
            choice("ordered", "weighted", "least_latency"), "the order in which targets are asked", "ordered"
        ),
        "client.fallback.to": Key(TEXTS, "targets to ask after the others have failed, in order"),
        "client.fallback.on": Key(several(*sorted(_ERRORS)), "kinds of error after which the next target is asked"),
        "client.retry.attempts": Key(whole(1), "tries at one target", 3),
        "client.retry.base": Key(_SECONDS, "seconds of the first wait, which doubles from try to try", 0.5),
        "client.retry.cap": Key(_SECONDS, "seconds of a wait at most", 8.0),
        "client.retry.max_retry_after": Key(_SECONDS, "seconds that are waited where a provider asks for it", 60.0),
        "client.retry.deadline": Key(number(zero=False), "seconds for the whole call"),
        "client.retry.ambiguous": Key(
            choice("never", "unstreamed", "always"), "whether a failure that may be billed is tried again", "unstreamed"
        ),
        "client.breaker.failures": Key(whole(1), "failures in a row after which a target is left alone", 5),
        "client.breaker.cooldown": Key(_SECONDS, "seconds until it is tried again", 30.0),
        "client.limits.concurrency": Key(whole(1), "attempts at one target at a time"),
        "client.limits.requests_per_minute": Key(whole(1), "attempts at one target in any 60 seconds"),
        "client.limits.tokens_per_minute": Key(whole(1), "tokens of prompts and answers in any 60 seconds"),
        "client.limits.max_wait": Key(_SECONDS, "seconds that an attempt waits for its turn at most", 90.0),
        "client.limits.max_waiting": Key(whole(0), "attempts that wait at a time", 10_000),
        "client.limits.learn": Key(BOOLEAN, "follow what targets say of their limits", default=True),
        "client.budget.client": Key(DOLLARS, "what a client may spend as long as it lives"),
        "client.budget.day": Key(DOLLARS, "what it may spend on a day, UTC"),
        "client.budget.run": Key(DOLLARS, "what it may spend in each run"),
        "client.budget.key": Key(DOLLARS, "what it may spend for each key"),
        "client.budget.unpriced": Key(
            choice("refuse", "allow"), "what is done with an attempt whose price is not known", "refuse"
        ),
        "client.cache.path": Key(
            PATH, "the directory of a cache of answers on disk; without it they are kept in memory"
        ),
        "client.cache.ttl": Key(number(zero=False), "seconds after which an answer is asked for anew"),
        "client.cache.max_entries": Key(whole(1), "answers that are kept in memory"),
        "client.cache.max_bytes": Key(whole(1), "bytes that are kept on disk"),
    }.items()
}


VARIABLES: Final[Mapping[str, str]] = {
    "VEYRA_CONFIG": "the one file of settings to read, or `off` to read none",
    "VEYRA_PROFILE": "the profile that is laid over the other settings",
    "VEYRA_MOCK_SCRIPT": "the script that the command's mock answers from",
}
"""The variables of Veyra that stand for no setting."""


def pattern(name: Name) -> Name:
    """Return a name with a star where any name may stand."""
    return ("backends", "*", *name[2:]) if len(name) > 1 and name[0] == "backends" else name


def is_table(name: Name) -> bool:
    """Tell whether settings, or tables of them, may stand below this name."""
    found = pattern(name)
    return any(len(known) > len(found) and known[: len(found)] == found for known in KEYS)


def children(name: Name) -> list[str]:
    """Return the keys that may stand in a table, in the order of `KEYS`; a star where any may."""
    found = pattern(name)
    return list(
        dict.fromkeys(known[len(found)] for known in KEYS if len(known) > len(found) and known[: len(found)] == found)
    )


def variable(name: Name) -> str | None:
    """Return the variable of a setting; None where it has none."""
    key = KEYS.get(name)
    return None if key is None or key.kind.of_text is None or "*" in name else "_".join(("VEYRA", *name)).upper()


def written(name: Name) -> str:
    """Return a name as a file would have it: keys that are not bare in quotes."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in name)
