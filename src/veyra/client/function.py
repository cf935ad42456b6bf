"""A typed Python function as a tool: what the model is told of it, and how its arguments become a call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import Any, TypeVar, Union, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from veyra.schema import function_schema, parse
from veyra.types import Tool

T = TypeVar("T")


class Function:
    """A function that a model may ask for.

    Attributes:
        tool: what the model is told: the name, the docstring's first paragraph, the parameters by annotation.

    Raises:
        InvalidRequestError: it cannot be told so (`veyra.schema.function_schema`).
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self.tool: Tool = function_schema(function)
        self._function = function
        self._arguments = _arguments_of(function)

    @property
    def name(self) -> str:
        """The name by which the model asks for it."""
        return self.tool.name

    def read(self, arguments: str) -> dict[str, object]:
        """Return the arguments that a JSON text holds, each as its parameter's type.

        What was left out is not in them: the function's own default holds. A null where a parameter takes none is left out,
        as models write it that must name every parameter.

        Raises:
            MalformedResponseError: they are not what the function takes; the message says where.
        """
        values = parse(self._arguments, arguments, nulls_absent=True)
        named = {name: getattr(values, name) for name in self._arguments.__struct_fields__}
        return {name: value for name, value in named.items() if value is not UNSET}

    async def call(self, arguments: dict[str, object]) -> str:
        """Call the function and return its result as text: a str as it is, all else as JSON.

        A function that is not `async` runs on a thread of its own, in the caller's context; it has ended when this has.
        Where this is cancelled meanwhile, the function is left to end by itself: a thread cannot be stopped. The interpreter
        waits for it at exit.

        Raises:
            TypeError: the result has no JSON form.
        """
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**arguments)
        else:
            result = await _on_thread(lambda: self._call(arguments), f"veyra-tool-{self.name}")
            if inspect.isawaitable(result):  # a function around an async one
                result = await result
        return result if isinstance(result, str) else self._json(result)

    def _call(self, arguments: dict[str, object]) -> object:
        try:
            return self._function(**arguments)
        except StopIteration as error:  # no future can hold it (PEP 479)
            msg = f"{self.name}() raised StopIteration"
            raise RuntimeError(msg) from error

    def _json(self, result: object) -> str:
        try:
            return msgspec.json.encode(result, enc_hook=_plain).decode()
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"{self.name}() returned a {type(result).__name__}, which has no JSON form: {error}"
            raise TypeError(msg) from error


async def _on_thread(function: Callable[[], T], name: str) -> T:
    """Call a function on a new thread, in the caller's context, and return or raise what comes of it.

    The event loop's own threads are left alone: calls that the function makes may need them, to look up a host, say, and
    functions that held them all would wait for themselves.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # from here on it cannot be cancelled, and takes what comes
    context = copy_context()
    # No daemon, whatever the loop runs on: the function is not to be cut off at exit.
    thread = Thread(target=lambda: context.run(_carry_out, function, outcome), name=name, daemon=False)
    thread.start()
    try:
        return await asyncio.wrap_future(outcome)
    finally:
        if outcome.done():
            thread.join()  # which has nothing left to do


def _carry_out(function: Callable[[], T], outcome: Future[T]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001  (it is the one's who waits, whatever it is)
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


def _arguments_of(function: Callable[..., object]) -> type[msgspec.Struct]:
    """Return a class whose fields are the parameters of a function, and which takes no others."""
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints.get(name, Any)
        if parameter.default is parameter.empty:
            fields.append((name, kind))
        else:
            fields.append((name, Union[kind, UnsetType], UNSET))  # noqa: UP007  (a hint may be a string in a Union only)
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _plain(value: object) -> object:
    """Return a pydantic model as builtin values: the only kind of class that msgspec leaves to others."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    msg = f"objects of type {type(value).__name__} are not supported"
    raise TypeError(msg)
