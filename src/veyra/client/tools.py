"""Tools: the model asks for functions, they are called, it is told what came of them, until it answers.

1. Each execution is on record before the function is called and after it has ended (`veyra.models.execution`).
2. What goes wrong with a tool is told to the model, in one line and without a traceback: there is none of that name, the
   arguments are not what it takes, it raised. The model can then do better.
3. A bound ends the run with an error. The answers that were paid for are on it (`VeyraError.run`), whatever ended the run.
4. No function is called whose result nobody would read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias, Unpack, get_args

from veyra.audit import AuditLog
from veyra.client.asker import Asker, check_asker, continued
from veyra.client.function import Function
from veyra.errors import AuditWriteError, InvalidRequestError, MalformedResponseError, ToolRunError, VeyraError, near
from veyra.models.execution import execute
from veyra.models.request import messages_of
from veyra.types import (
    AttemptRecord,
    Message,
    ModelResponse,
    Prompt,
    Receipt,
    RunOptions,
    ToolCall,
    ToolExecution,
    ToolResult,
    ToolRun,
    Usage,
)

OnError: TypeAlias = Literal["tell", "raise"]
_SHOWN: Final = 100
"""Characters of a name that the model made up, in what it is told."""
_COUNTS: Final = ("input_total", "input_uncached", "cache_read", "cache_write", "output_total", "reasoning")


class ToolRunOptions(RunOptions, total=False):
    """What each call of a run can be told; `conversation` as for a `Client`."""

    conversation: str


async def run_tools(
    client: Asker,
    prompt: Prompt,
    functions: Sequence[Callable[..., object]],
    *,
    max_steps: int = 10,
    max_cost: Decimal | float | None = None,
    max_parallel: int = 8,
    on_error: OnError = "tell",
    **options: Unpack[ToolRunOptions],
) -> ToolRun:
    """Ask, call the functions that the model asks for, and go on until it answers.

    Functions that are asked for at once run at once. One that is not `async` runs on a thread of its own.

    Args:
        client: who is asked: a `Client`, or what `get_backend` returns.
        prompt: as for `generate`.
        functions: typed functions, each of another name; the docstring's first paragraph tells the model what it does.
        max_steps: calls of the model at most.
        max_cost: US dollars: at this cost, or at one that is not known, the model is not asked again.
        max_parallel: functions that run at once, at most.
        on_error: what a function raises is told to the model (`tell`), or ends the run (`raise`).
        options: of each call. A `tool_choice` that forces a call holds for the first.

    Raises:
        InvalidRequestError: an argument is wrong; nothing was sent or recorded.
        ToolRunError: a bound was reached, or a function raised and `on_error` is `raise`.
        AuditUnavailableError: an intent could not be recorded; nothing was sent, or the function was not called.
        AuditWriteError: an outcome could not be recorded; `response` is the answer of the model that was paid for last.
        VeyraError: as `generate` of who is asked.
    """
    check_asker(client, "a run of tools")
    _check(max_steps=max_steps, max_parallel=max_parallel, on_error=on_error, options=options)
    most = _dollars(max_cost)
    toolbox = Toolbox(functions, client.log, max_parallel=max_parallel, on_error=on_error)
    run = _Run(client, messages_of(prompt), toolbox)
    try:
        return await run.to_end(max_steps, most, options)
    except VeyraError as error:
        error.run = run.so_far() if run.responses else None
        if isinstance(error, AuditWriteError) and run.responses:
            error.response = error.response or run.responses[-1]
        raise


class _Run:
    """A run under way: who said what until now."""

    def __init__(self, client: Asker, messages: tuple[Message, ...], toolbox: Toolbox) -> None:
        self._client = client
        self._messages = messages
        self._toolbox = toolbox
        self.responses: list[ModelResponse] = []

    async def to_end(self, max_steps: int, max_cost: Decimal | None, options: ToolRunOptions) -> ToolRun:
        """Ask and execute until the model answers; raises as `run_tools`."""
        given: Any = {**options, "tools": self._toolbox.tools}
        while True:
            response = await self._client.generate(self._messages, **given)
            self.responses.append(response)
            self._messages = continued(self._messages, response)
            if not response.tool_calls and response.finish_reason != "paused":
                return self.so_far()
            self._check_bounds(max_steps, max_cost)
            if response.tool_calls:
                results = await self._toolbox.execute(response)
                self._messages = (*self._messages, Message("tool", results))
            if given.get("tool_choice") not in {None, "auto", "none"}:
                del given["tool_choice"]

    def so_far(self) -> ToolRun:
        """Return what was answered and executed until now."""
        usage, cost = _totals(record for response in self.responses for record in response.attempts)
        return ToolRun(
            responses=tuple(self.responses),
            executions=tuple(self._toolbox.executions),
            messages=self._messages,
            usage=usage,
            cost=cost,
        )

    def _check_bounds(self, max_steps: int, max_cost: Decimal | None) -> None:
        if len(self.responses) >= max_steps:
            msg = f"the model went on asking for tools after {max_steps} calls; raise max_steps, or see what is in .run"
            raise ToolRunError(msg, reason="steps")
        if max_cost is None:
            return
        cost = self.so_far().cost
        if cost is None:
            msg = (
                "what the model's answers cost is not known, so that max_cost cannot be kept; leave it out, or see .run"
            )
            raise ToolRunError(msg, reason="cost")
        if cost >= max_cost:
            msg = f"the answers cost {cost} US dollars, and no more than {max_cost} are allowed; see what is in .run"
            raise ToolRunError(msg, reason="cost")


class Toolbox:
    """The functions of a run, and what was executed.

    Args:
        functions: as given.
        log: where executions are recorded; None records nothing.
        max_parallel, on_error: as for `run_tools`.

    Raises:
        InvalidRequestError: one cannot be a tool, or two have one name.
    """

    def __init__(
        self,
        functions: Sequence[Callable[..., object]],
        log: AuditLog | None,
        *,
        max_parallel: int,
        on_error: OnError,
    ) -> None:
        if not isinstance(functions, Sequence) or not functions or isinstance(functions, str | bytes):
            msg = "a run of tools needs a sequence of typed functions, one at least"
            raise InvalidRequestError(msg)
        made = [Function(function) for function in functions]
        self._functions = {function.name: function for function in made}
        if len(self._functions) < len(made):
            msg = f"two tools have one name; they are {', '.join(function.name for function in made)}"
            raise InvalidRequestError(msg)
        self._log = log
        self._max_parallel = max_parallel
        self._on_error = on_error
        self.tools = tuple(function.tool for function in made)
        self.executions: list[ToolExecution] = []

    async def execute(self, response: ModelResponse) -> tuple[ToolResult, ...]:
        """Execute what an answer asks for, and return what the model is to be told, in the same order.

        Where one ends the run, or this is cancelled, the others are cancelled and waited for.
        """
        places = asyncio.Semaphore(self._max_parallel)
        done: dict[int, ToolExecution] = {}

        async def carry_out(number: int, call: ToolCall) -> None:
            async with places:
                executed = await self._executed(call, response.receipt)
            done[number] = executed.told
            if executed.error is not None and self._on_error == "raise":
                msg = f"the tool {call.name} raised {executed.told.result.content}"
                raise ToolRunError(msg, reason="tool") from executed.error

        tasks = [asyncio.create_task(carry_out(*numbered)) for numbered in enumerate(response.tool_calls)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            told = [done[number] for number in sorted(done)]
            self.executions += told
        return tuple(execution.result for execution in told)

    async def _executed(self, call: ToolCall, parent: Receipt | None) -> _Executed:
        """Execute one call, or refuse it."""
        try:
            function, arguments = self._read(call)
        except _RefusedError as refusal:
            result = ToolResult(call.id, str(refusal), name=call.name, is_error=True)
            return _Executed(ToolExecution(call=call, result=result, status="refused"))
        text, error, latency, receipt = await execute(call, lambda: function.call(arguments), self._log, parent=parent)
        told = ToolExecution(
            call=call,
            result=ToolResult(call.id, text, name=call.name, is_error=error is not None),
            status="ok" if error is None else "error",
            latency_ms=latency,
            error=None if error is None else type(error).__name__,
            receipt=receipt,
        )
        return _Executed(told, error)

    def _read(self, call: ToolCall) -> tuple[Function, dict[str, object]]:
        """Return the function that is asked for and its arguments, or raise what the model is to be told."""
        function = self._functions.get(call.name)
        if function is None:
            name = call.name[:_SHOWN]
            msg = f"there is no tool {name!r}{near(name, self._functions)} The tools are {', '.join(self._functions)}."
            raise _RefusedError(msg)
        if call.arguments is None:
            msg = "the arguments are not a JSON object; call the tool again with one"
            raise _RefusedError(msg)
        try:
            return function, function.read(json.dumps(call.arguments))
        except MalformedResponseError as error:
            msg = f"the arguments are not what the tool takes: {error}"
            raise _RefusedError(msg) from error


class _RefusedError(Exception):
    """A function cannot be called as the model asks; says why, for the model."""


class _Executed(NamedTuple):
    """A tool call that was dealt with, and what the function raised."""

    told: ToolExecution
    error: Exception | None = None


def _totals(attempts: Iterable[AttemptRecord]) -> tuple[Usage, Decimal | None]:
    """Return the tokens and the cost of some attempts together: None where one that may be billed did not state its own.

    One that failed before the provider did any work is none of these.
    """
    counted = [record for record in attempts if record.status == "ok" or record.ambiguous or record.usage != Usage()]
    counts: dict[str, int | None] = {}
    for name in _COUNTS:
        stated = [getattr(record.usage, name) for record in counted]
        counts[name] = None if None in stated else sum(stated)
    costs = [record.cost for record in counted]
    return Usage(**counts), sum((cost for cost in costs if cost is not None), Decimal(0)) if None not in costs else None


def _check(*, max_steps: object, max_parallel: object, on_error: object, options: Mapping[str, object]) -> None:
    for name, value in (("max_steps", max_steps), ("max_parallel", max_parallel)):
        if type(value) is not int or value < 1:
            msg = f"{name} is an int, 1 or more, not {value!r}"
            raise InvalidRequestError(msg)
    if on_error not in get_args(OnError):
        msg = f"on_error is 'tell' or 'raise', not {on_error!r}"
        raise InvalidRequestError(msg)
    if "tools" in options:
        msg = "the tools of a run are its functions: run_tools(client, prompt, [function, ...])"
        raise InvalidRequestError(msg)


def _dollars(value: Decimal | float | None) -> Decimal | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    amount = Decimal(str(value)) if is_number else Decimal(0)
    if not amount.is_finite() or amount <= 0:
        msg = f"max_cost is a number of US dollars above 0, not {value!r}"
        raise InvalidRequestError(msg)
    return amount
