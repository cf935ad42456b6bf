"""Building request bodies: what the dialects share on the way out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from veyra.errors import InvalidRequestError, UnsupportedParameterError
from veyra.types import Media, Message, Opaque, Request, Text
from veyra.wire.base import Flags
from veyra.wire.reading import UNREADABLE

JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json"}


def unsupported(flags: Flags, option: str, why: str) -> UnsupportedParameterError:
    """Return the error for an option that a dialect has no words for."""
    return UnsupportedParameterError(f"{flags.provider} does not take {option}: {why}", provider=flags.provider)


def invalid(flags: Flags, message: str) -> InvalidRequestError:
    """Return the error for a request that cannot be said in a dialect, or in none."""
    return InvalidRequestError(f"{flags.provider}: {message}", provider=flags.provider)


def refuse(request: Request, flags: Flags, **reasons: str) -> None:
    """Refuse options that are set and cannot be said.

    Raises:
        UnsupportedParameterError: one of the options in `reasons` is set; the message gives its reason.
    """
    for option, why in reasons.items():
        value = getattr(request, option)
        if value is not None and value != ():
            raise unsupported(flags, option, why)


def within(request: Request, name: str, flags: Flags) -> Mapping[str, Any]:
    """Return the object that `extra` holds under a name under which options go too, so that both can be sent.

    Raises:
        InvalidRequestError: it holds something else there.
    """
    value = request.extra.get(name, {})
    if not isinstance(value, Mapping):
        message = f"extra[{name!r}] is a mapping of names to values"
        raise invalid(flags, message)
    return value


def prompt_cache(request: Request, flags: Flags) -> bool | str | Mapping[str, Any] | None:
    """Return what was asked of the prompt cache: True, a time, the API's own fields, or None where nothing was.

    Raises:
        InvalidRequestError: it is none of these.
    """
    cache = request.cache
    if cache is None or cache is True or (isinstance(cache, str) and cache):
        return cache
    if isinstance(cache, Mapping) and all(isinstance(name, str) for name in cache):
        return cache
    message = (
        f"cache is True, how long to keep the prompt (as '5m'), or a mapping of the API's own fields, not {cache!r}"
    )
    raise invalid(flags, message)


def openai_cache(request: Request, flags: Flags) -> Mapping[str, Any]:
    """Return the fields that ask OpenAI's APIs to cache the prompt: a mapping is those fields, `prompt_cache_...`.

    Raises:
        InvalidRequestError: a field has another name.
        UnsupportedParameterError: the model caches by itself, and takes no options.
    """
    cache = prompt_cache(request, flags)
    if isinstance(cache, Mapping):
        for name in cache:
            if not name.startswith("prompt_cache_"):
                message = f"cache holds the API's own fields prompt_cache_..., not {name!r}"
                raise invalid(flags, message)
        return cache
    if cache is None:
        return {}
    if not flags.prompt_cache_options:
        why = "prompts are cached automatically here; a mapping may set prompt_cache_key"
        raise unsupported(flags, f"cache={cache!r}", why)
    return {"prompt_cache_options": {"mode": "implicit"} if cache is True else {"ttl": cache}}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def dump(body: Mapping[str, Any], flags: Flags) -> bytes:
    """Return the body's bytes.

    Raises:
        InvalidRequestError: something in it (of `extra`, or of a tool's schema) has no JSON form.
    """
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the request has no JSON form: {error}"
        raise invalid(flags, message) from error


def tool_choice(request: Request, flags: Flags) -> str | None:
    """Return `auto`, `none`, `required`, the name of one of the tools, or None where it was not given.

    Raises:
        InvalidRequestError: it names no tool of this request.
    """
    choice = request.tool_choice
    if choice in {None, "auto", "none", "required"} or any(tool.name == choice for tool in request.tools):
        return choice
    message = f"tool_choice is auto, none, required or the name of a tool given, not {choice!r}"
    raise invalid(flags, message)


def system_text(message: Message, flags: Flags) -> str:
    """Return the text of a system message.

    Raises:
        InvalidRequestError: it holds something else.
    """
    if not all(isinstance(part, Text) for part in message.parts):
        text = "a system message holds text only"
        raise invalid(flags, text)
    return message.text


def opaque(part: Opaque, dialect: str, flags: Flags) -> msgspec.Raw:
    """Return a block of this dialect as it came.

    Raises:
        InvalidRequestError: it belongs to another dialect, or it is not JSON.
    """
    if part.dialect != dialect:
        message = f"a message holds a block of {part.dialect}, which {dialect} cannot say"
        raise invalid(flags, message)
    try:
        msgspec.json.decode(part.raw)
    except UNREADABLE as error:
        message = f"a block of {dialect} is not JSON: {error}"
        raise invalid(flags, message) from error
    return msgspec.Raw(part.raw)


def base64(media: Media, flags: Flags) -> str:
    """Return the data of a part in base64.

    Raises:
        InvalidRequestError: it has none.
    """
    if media.data is None:
        message = f"this {media.kind} must be given as data"
        raise invalid(flags, message)
    return b64encode(media.data).decode("ascii")


def data_url(media: Media, flags: Flags) -> str:
    """Return the data of a part as a `data:` URL.

    Raises:
        InvalidRequestError: it has no data, or its media type is missing.
    """
    if not media.media_type:
        message = f"this {media.kind} needs a media_type"
        raise invalid(flags, message)
    return f"data:{media.media_type};base64,{base64(media, flags)}"
