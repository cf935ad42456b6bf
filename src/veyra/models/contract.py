"""What an event of a backend must be: the seam's promise to callers, kept for backends that do not keep it themselves."""

from __future__ import annotations

from veyra.errors import BackendError
from veyra.types import Event, Finish, ModelWarning, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage


def check(event: Event, backend: str) -> None:
    """See that a backend yielded an event, and that its parts are of the types they are said to be.

    Raises:
        BackendError: it is something else.
    """
    match event:
        case TextDelta(text) | ReasoningDelta(text):
            fits = isinstance(text, str)
        case Finish():
            fits = _is_whole(event)
        case ToolCallDelta() | ModelWarning():
            fits = True
        case _:
            fits = False
    if not fits:
        msg = f"backend {backend!r} yielded {_shown(event)}, which is no event: see veyra.types.Event"
        raise BackendError(msg)


def _is_whole(finish: Finish) -> bool:
    usage = finish.usage
    if not isinstance(usage, Usage) or not isinstance(finish.tool_calls, tuple):
        return False
    cached = (usage.input_uncached, usage.cache_read, usage.cache_write)
    counts = (usage.input_total, usage.output_total, usage.reasoning, *cached)
    words = (finish.raw_reason, finish.model, finish.response_id, finish.request_id)
    return (
        _are(int, counts) and _are(str, words) and None not in finish.tool_calls and _are(ToolCall, finish.tool_calls)
    )


def _are(kind: type, values: tuple[object, ...]) -> bool:
    """Tell whether each of some values is of a kind, or None."""
    for value in values:  # noqa: SIM110  (all() over a generator takes three times as long, on the path of every call)
        if value is not None and not isinstance(value, kind):
            return False
    return True


def _shown(event: object) -> str:
    name = type(event).__name__
    return f"a {name} with something of another type in it" if isinstance(event, Event) else f"a {name}"
