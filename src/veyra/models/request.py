"""From what a caller wrote to a checked `Request`: one spelling and one set of checks for all backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import index
from sys import float_info
from typing import Any, SupportsIndex, TypeAlias

from veyra.errors import ContextLengthError, InvalidRequestError, near
from veyra.schema import function_schema, json_schema
from veyra.types import EmbedRequest, Message, ModelResponse, Options, Prompt, Request, Text, Timeouts, Tool

MAX_PROMPT_BYTES = 8 * 1024 * 1024
"""Text of a prompt, as UTF-8 bytes, that is sent unless the limit is raised: more than any model reads today."""

MAX_REPAIRS = 5
"""How often an answer that does not fit can be asked for again, at most."""

_Checks: TypeAlias = dict[str, Callable[[str, object], Any]]

REASONING_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def check_prompt_limit(value: object) -> int:
    """Return a limit on the text of prompts.

    Raises:
        InvalidRequestError: it is no number of bytes.
    """
    if type(value) is int and value >= 0:
        return value
    msg = f"max_prompt_bytes is an int, 0 or more, not {value!r}"
    raise InvalidRequestError(msg)


def build_request(
    prompt: Prompt,
    options: Mapping[str, Any],
    *,
    stream: bool,
    defaults: Mapping[str, Any] | None = None,
    max_prompt_bytes: int = MAX_PROMPT_BYTES,
) -> Request:
    """Check a prompt and its options and return them as a `Request`.

    An option given as None counts as not given. `defaults` fill options that were not given.

    Raises:
        InvalidRequestError: an option is unknown (the message names the nearest), of the wrong type or out of
            range; the prompt is empty, of the wrong type or not valid Unicode.
        ContextLengthError: the text is longer than `max_prompt_bytes`.
    """
    values = {} if not defaults else _checked(defaults, _CHECKS)
    values |= _checked(options, _CHECKS)
    messages = messages_of(prompt)
    _check_text(messages, values.get("system"), max_prompt_bytes)
    if values.get("repair") and (stream or values.get("output") is None):
        msg = "repair asks again where a whole answer does not fit: it goes with output=... and with generate()"
        raise InvalidRequestError(msg)
    return Request(prompt=prompt, messages=messages, stream=stream, **values)


def build_embed_request(
    texts: str | Sequence[str],
    options: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    max_prompt_bytes: int = MAX_PROMPT_BYTES,
) -> EmbedRequest:
    """Check texts and options and return them as an `EmbedRequest`.

    An option given as None counts as not given. Of `defaults`, model and timeout fill in where none was given.

    Raises:
        InvalidRequestError: an option is unknown, of the wrong type or out of range; there is no text, or one is empty, no
            `str` or not valid Unicode.
        ContextLengthError: together the texts are longer than `max_prompt_bytes`.
    """
    usual = {name: value for name, value in (defaults or {}).items() if name in {"model", "timeout"}}
    values = _checked(usual, _EMBED_CHECKS)
    values |= _checked(options, _EMBED_CHECKS)
    several = (texts,) if isinstance(texts, str) else texts
    if not isinstance(several, Sequence) or isinstance(several, bytes | bytearray):
        msg = f"the texts are a str or a sequence of them, not {type(texts).__name__}"
        raise InvalidRequestError(msg)
    if not several:
        msg = "there is no text: give one, or several"
        raise InvalidRequestError(msg)
    for number, text in enumerate(several):
        if not isinstance(text, str) or not text:
            msg = (
                f"text {number} is {'empty' if text == '' else type(text).__name__}: each is a str with something in it"
            )
            raise InvalidRequestError(msg)
    _check_size(sum(_utf8_length(text, f"text {number}") for number, text in enumerate(several)), max_prompt_bytes)
    return EmbedRequest(texts=tuple(map(_plain, several)), **values)


def repaired(request: Request, answer: ModelResponse, why: str, *, done: int) -> Request | None:
    """Return the request that asks again, with the answer that did not fit and what is wrong with it.

    Args:
        request: what was asked.
        answer: what came.
        why: what is wrong with it.
        done: how many repairs there were before; None comes back where `request.repair` allows no more.
    """
    if done >= (request.repair or 0):
        return None
    wish = f"That does not fit what was asked for: {why}. Answer again, with nothing but the corrected JSON."
    messages = (*request.messages, answer.message, Message("user", wish))
    return replace(request, prompt=messages, messages=messages)


def given_options(request: Request) -> Options:
    """Return the options of a request that were set, as `generate` takes them; `timeout` and `repair` are the gate's."""
    given: Options = {}
    for name in _CHECKS:
        value = getattr(request, name)
        if name not in {"timeout", "repair"} and value is not None and value not in ((), {}):
            given[name] = value  # type: ignore[literal-required]  # the names are those of Options
    return given


def _checked(options: Mapping[str, Any], checks: _Checks) -> dict[str, Any]:
    """Return the options that were given, each checked; None counts as not given."""
    values: dict[str, Any] = {}
    for name, value in options.items():
        check = checks.get(name)
        if check is None:
            raise InvalidRequestError(_unknown_option(name, tuple(checks)))
        if value is not None:
            values[name] = check(name, value)
    return values


def _unknown_option(name: str, known: Sequence[str]) -> str:
    return (
        f"unknown option {name!r}{near(name, known)} The options are {', '.join(known)}; "
        "what only one provider knows goes into extra={...}"
    )


def messages_of(prompt: object) -> tuple[Message, ...]:
    """Return a prompt as a conversation.

    Raises:
        InvalidRequestError: it is empty, or of another type than `Prompt`.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            msg = "the prompt is empty: give some text, or messages"
            raise InvalidRequestError(msg)
        return (Message("user", _plain(prompt)),)
    if isinstance(prompt, Message):
        return (prompt,)
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray):
        msg = f"the prompt is a str or a sequence of Message, not {type(prompt).__name__}"
        raise InvalidRequestError(msg)
    for number, message in enumerate(prompt):
        if not isinstance(message, Message):
            msg = f"the prompt's item {number} is {type(message).__name__}, not a Message"
            raise InvalidRequestError(msg)
    if not any(message.role != "system" and (message.content or message.native) for message in prompt):
        msg = "the prompt is empty: it has no message with content besides the system's"
        raise InvalidRequestError(msg)
    return tuple(prompt)


def _check_text(messages: tuple[Message, ...], system: str | None, limit: int) -> None:
    size = 0 if system is None else _utf8_length(system, "system")
    for message in messages:
        if isinstance(message.content, str):
            size += _utf8_length(message.content, "the prompt")
        else:
            size += sum(_utf8_length(part.text, "the prompt") for part in message.content if isinstance(part, Text))
    _check_size(size, limit)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        msg = (
            f"the prompt is {size:,} bytes of text, more than the {limit:,} allowed: shorten or split it, or raise "
            "the limit with get_backend(..., max_prompt_bytes=...)"
        )
        raise ContextLengthError(msg)


def _utf8_length(text: str, what: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        position, character = error.start, text[error.start]
    msg = (
        f"{what} is not valid Unicode text: lone surrogate {character!r} at character {position}; "
        "decode the bytes it came from with the right encoding"
    )
    raise InvalidRequestError(msg)


# ------------------------------------------------------------------------------------------------ checks


def _wrong(name: str, expected: str, value: object) -> InvalidRequestError:
    shown = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return InvalidRequestError(f"{name} is {expected}, not {shown[:80]}")


def _plain(text: str) -> str:
    """Return a str as a plain one: subclasses (a template's, an enumeration's) have no JSON form everywhere."""
    return text if type(text) is str else str.__str__(text)


def _whole(value: object) -> int | None:
    """Return an integer of any type (`numpy.int64`, say) as a plain int; None for a bool and for all else."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return index(value)
    except TypeError:  # numpy's bool and its arrays have the method and refuse
        return None


def _real(value: object) -> float | None:
    """Return a finite number as a plain int or float; None for a bool, for what no float can hold, and for all else."""
    number = float(value) if isinstance(value, float) else _whole(value)
    return number if number is not None and abs(number) <= float_info.max else None


def _name(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(name, "a non-empty str", value)
    return _plain(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a str", value)
    return _plain(value)


def _count(name: str, value: object) -> int:
    number = _whole(value)
    if number is None or number < 0:
        raise _wrong(name, "an int, 0 or more", value)
    return number


def _dimensions(name: str, value: object) -> int:
    number = _whole(value)
    if number is None or number < 1:
        raise _wrong(name, "an int, 1 or more", value)
    return number


def _integer(name: str, value: object) -> int:
    number = _whole(value)
    if number is None:
        raise _wrong(name, "an int", value)
    return number


def _number(name: str, value: object) -> float:
    number = _real(value)
    if number is None or number < 0:
        raise _wrong(name, "a finite number, 0 or more", value)
    return number


def _fraction(name: str, value: object) -> float:
    number = _real(value)
    if number is None or not 0 <= number <= 1:
        raise _wrong(name, "a number from 0 to 1", value)
    return number


def _strings(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence) or not all(isinstance(item, str) and item for item in value):
        raise _wrong(name, "a non-empty str or a sequence of them", value)
    return tuple(map(_plain, value))


def _tools(name: str, value: object) -> tuple[Tool, ...]:
    if not isinstance(value, Sequence) or not all(isinstance(item, Tool) or callable(item) for item in value):
        raise _wrong(name, "a sequence of Tool and of typed functions", value)
    return tuple(item if isinstance(item, Tool) else function_schema(item) for item in value)


def _reasoning(name: str, value: object) -> str | int:
    if isinstance(value, str) and value in REASONING_LEVELS:
        return _plain(value)
    number = _whole(value)
    if number is not None and number >= 0:
        return number
    raise _wrong(name, f"one of {', '.join(REASONING_LEVELS)}, or a number of tokens", value)


def _timeout(name: str, value: object) -> Timeouts:
    if isinstance(value, Timeouts):
        return value
    seconds = _real(value)
    if seconds is None or seconds <= 0:
        raise _wrong(name, "a number of seconds above 0, or Timeouts", value)
    return Timeouts(total=float(seconds))


def _metadata(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise _wrong(name, "a mapping of str to str", value)
    return {_plain(key): _plain(item) for key, item in value.items()}


def _mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(name, "a mapping with str keys", value)
    return dict(value)


def _output(_name: str, value: object) -> object:
    json_schema(value)  # raises where the type has no JSON form
    return value


def _repair(name: str, value: object) -> int:
    number = _whole(value)
    if number is None or number > MAX_REPAIRS or number < 0:
        raise _wrong(name, f"an int from 0 to {MAX_REPAIRS}", value)
    return number


def _any(_name: str, value: object) -> object:
    return value


_CHECKS: _Checks = {
    "model": _name,
    "system": _text,
    "max_tokens": _count,
    "temperature": _number,
    "top_p": _fraction,
    "stop": _strings,
    "seed": _integer,
    "tools": _tools,
    "tool_choice": _name,
    "output": _output,
    "repair": _repair,
    "reasoning": _reasoning,
    "cache": _any,
    "timeout": _timeout,
    "metadata": _metadata,
    "extra": _mapping,
}

_EMBED_CHECKS: _Checks = {
    "model": _name,
    "dimensions": _dimensions,
    "timeout": _timeout,
    "extra": _mapping,
}
