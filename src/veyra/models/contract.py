"""What an event of a backend must be: the seam's promise to callers, kept for backends that do not keep it themselves."""

from __future__ import annotations

from veyra.errors import BackendError
from veyra.types import Event, Finish, ModelWarning, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage

_USAGE = ("input_total", "input_uncached", "cache_read", "cache_write", "output_total", "reasoning")
_FINISH = ("raw_reason", "model", "response_id", "request_id")


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
    return (
        isinstance(usage, Usage)
        and all(getattr(usage, name) is None or isinstance(getattr(usage, name), int) for name in _USAGE)
        and all(getattr(finish, name) is None or isinstance(getattr(finish, name), str) for name in _FINISH)
        and isinstance(finish.tool_calls, tuple)
        and all(isinstance(call, ToolCall) for call in finish.tool_calls)
    )


def _shown(event: object) -> str:
    name = type(event).__name__
    return f"a {name} with something of another type in it" if isinstance(event, Event) else f"a {name}"
