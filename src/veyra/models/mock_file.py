"""Scripts of the mock in files: TOML with a table `[[reply]]` for each reply, or JSON with one reply on each line.

1. A reply has the fields of a `MockReply`, and says with `prompt` or `pattern`, and `times`, what it answers and how often.
2. A reply that names neither a prompt nor a pattern answers once, so that several of them answer in turn; one that does
   answers without limit. `times` says otherwise.
3. An error is the name of a class, or a table with the class as `type` and what it takes; a fault is written as it prints.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

import msgspec

from veyra import errors
from veyra.errors import CallTimeoutError, InvalidRequestError, OutputMismatchError, ProviderError, near
from veyra.models.mock_reply import MockReply
from veyra.models.mock_script import Rule
from veyra.transport import faults
from veyra.types import ModelWarning, ToolCall, Usage

_REPLY = "the reply"
_UNKNOWN = "unknown key"
_RULE = ("prompt", "pattern", "times")
_KEYS = (*_RULE, *(field.name for field in fields(MockReply)))
_ERRORS: Mapping[str, type[ProviderError]] = {
    name: cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, ProviderError) and cls is not OutputMismatchError
}
_OF_ERRORS: Mapping[str, tuple[type, ...]] = {
    "message": (str,),
    "status": (int,),
    "provider_type": (str,),
    "provider_code": (str,),
    "request_id": (str,),
    "retryable": (bool,),
    "ambiguous": (bool,),
    "retry_after": (int, float),
}
_OF_TIMEOUTS: Mapping[str, tuple[type, ...]] = {"message": (str,), "phase": (str,), "limit": (int, float)}
_PHASES = ("connect", "first_token", "between_events", "total")


def read_script(path: str | PathLike[str]) -> list[Rule]:
    """Return the rules of the script in a file; its name ends in `.toml` or `.jsonl`.

    Raises:
        InvalidRequestError: it cannot be read, or is no script; the message names the file, the reply and the key.
    """
    file = Path(path)
    reading = {".toml": _of_toml, ".jsonl": _of_lines}.get(file.suffix.lower())
    if reading is None:
        msg = f"{fspath(path)}: the name of a script ends in .toml or .jsonl"
        raise InvalidRequestError(msg)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or ("it is not UTF-8" if isinstance(error, UnicodeError) else error)
        msg = f"{fspath(path)}: the script cannot be read: {why}"
        raise InvalidRequestError(msg) from None
    try:
        rules = [_rule(place, value) for place, value in reading(text)]
    except _ScriptError as error:
        msg = f"{fspath(path)}: {error}"
        raise InvalidRequestError(msg) from None
    if not rules:
        msg = f"{fspath(path)}: there is no reply in it"
        raise InvalidRequestError(msg)
    return rules


class _ScriptError(Exception):
    """What is wrong in a script, its place in front."""


def _wrong(what: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what} {why}")


def _of_toml(text: str) -> list[tuple[str, object]]:
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = f"it is not TOML: {error}"
        raise _ScriptError(why) from None
    unknown = next((key for key in table if key != "reply"), None)
    if unknown is not None:
        why = f"unknown key {unknown!r}: a script has tables [[reply]] and nothing else"
        raise _ScriptError(why)
    replies = table.get("reply", [])
    if not isinstance(replies, list):
        why = "reply is a list of tables: write [[reply]], with two brackets"
        raise _ScriptError(why)
    return [(f"reply {number}", value) for number, value in enumerate(replies, 1)]


def _of_lines(text: str) -> list[tuple[str, object]]:
    values: list[tuple[str, object]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            values.append((place, msgspec.json.decode(line)))
        except (ValueError, RecursionError) as error:
            why = f"{place}: it is not JSON: {error}"
            raise _ScriptError(why) from None
    return values


def _rule(place: str, value: object) -> Rule:
    """Return the rule that one reply of a file stands for."""
    try:
        table = _table(_REPLY, value)
        for key in table:
            if key not in _KEYS:
                raise _wrong(_UNKNOWN, f"{key!r}{near(key, _KEYS)}")
        given: dict[str, Any] = {key: _READ[key](key, value) for key, value in table.items()}
        rule = {key: given.pop(key) for key in _RULE if key in given}
        if "prompt" in rule and "pattern" in rule:
            raise _wrong(_REPLY, "has a prompt and a pattern: give one of the two")
        if not given:
            raise _wrong(_REPLY, "says nothing: give text, tool_calls, output, error or fault")
        times = rule.pop("times", None if rule else 1)
        return Rule(answer=MockReply(**given), times=times, **rule)
    except InvalidRequestError as error:
        why = f"{place}: {error}"
    raise _ScriptError(why)


# ---------------------------------------------------------------------------------------------- single values


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, f"is a table, not {value!r:.80}")
    return cast("dict[str, Any]", value)


def _as_it_is(_name: str, value: object) -> object:
    """Leave it to `MockReply` to say what is wrong with a value."""
    return value


def _word(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, f"is a text, not {value!r:.80}")
    return value


def _pattern(name: str, value: object) -> re.Pattern[str]:
    try:
        return re.compile(_word(name, value))
    except (re.error, RecursionError, OverflowError) as error:
        raise _wrong(name, f"is no regular expression: {error}") from None


def _times(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise _wrong(name, f"is a number, 1 or more, not {value!r:.80}")
    return value


def _calls(name: str, value: object) -> tuple[ToolCall, ...]:
    if not isinstance(value, list):
        raise _wrong(name, f"is a list of tables, not {value!r:.80}")
    calls: list[ToolCall] = []
    for item in value:
        call = {"id": "", "arguments": {}, "raw": ""} | _fields(name, item, _OF_CALLS)
        if not call.get("name"):
            raise _wrong(name, "have a name each")
        calls.append(ToolCall(**call))
    return tuple(calls)


def _usage(name: str, value: object) -> Usage:
    usage = _fields(name, value, {field.name: (int,) for field in fields(Usage)})
    if any(count < 0 for count in usage.values()):
        raise _wrong(name, "has a count below 0")
    return Usage(**usage)


def _warnings(name: str, value: object) -> tuple[ModelWarning, ...]:
    if not isinstance(value, list):
        raise _wrong(name, f"is a list of tables, not {value!r:.80}")
    known = {field.name: (str,) for field in fields(ModelWarning)}
    warnings = [{"code": "mock", "message": ""} | _fields(name, item, known) for item in value]
    return tuple(ModelWarning(**warning) for warning in warnings)


def _error(name: str, value: object) -> ProviderError:
    table = {"type": value} if isinstance(value, str) else dict(_table(name, value))
    kind = table.pop("type", None)
    if not isinstance(kind, str) or kind not in _ERRORS:
        shown = near(kind, _ERRORS) if isinstance(kind, str) else "."
        raise _wrong(name, f"names {kind!r:.80}, which is no error of a provider{shown} There are {', '.join(_ERRORS)}")
    cls = _ERRORS[kind]
    takes = _OF_TIMEOUTS if cls is CallTimeoutError else _OF_ERRORS
    given: dict[str, Any] = {"message": f"{kind} of the script"} | _fields(name, table, takes)
    if cls is CallTimeoutError and (given.get("phase") not in _PHASES or "limit" not in given):
        raise _wrong(kind, f"takes a limit in seconds, and a phase: {', '.join(_PHASES)}")
    return cls(given.pop("message"), **given)


def _fault(name: str, value: object) -> faults.Fault:
    return faults.parse(_word(name, value))


def _fields(name: str, value: object, known: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return a table whose keys are known and whose values are of the types that they are to be."""
    table = _table(name, value)
    for key, item in table.items():
        if key not in known:
            raise _wrong(name, f"has an unknown key {key!r}{near(key, known)}")
        if not isinstance(item, known[key]) or (isinstance(item, bool) and bool not in known[key]):
            wanted = " or ".join(kind.__name__ for kind in known[key])
            raise _wrong(name, f"has {key} of the type {wanted}, not {item!r:.80}")
    return table


_OF_CALLS: Mapping[str, tuple[type, ...]] = {"name": (str,), "id": (str,), "arguments": (dict,), "raw": (str,)}
_READ: Mapping[str, Callable[[str, object], object]] = dict.fromkeys(_KEYS, _as_it_is) | {
    "prompt": _word,
    "pattern": _pattern,
    "times": _times,
    "tool_calls": _calls,
    "usage": _usage,
    "warnings": _warnings,
    "error": _error,
    "fault": _fault,
}
