"""The event loop on which calls run that are made without one: one for each process, on a daemon thread of its own.

1. The first call starts it. It ends at the interpreter's exit, before the logs are closed: what still runs is cancelled
   and goes on record so, and connections are closed in order.
2. A thread that waits may be interrupted: what a signal's handler raises there (KeyboardInterrupt, say) cancels the task,
   and goes on once that has ended. A second interruption waits no longer.
3. What is read step by step is read by one task from its beginning to its end, so that whatever is entered in a task (a
   timeout, a task group) is left in it.
4. A forked child has none of this: its parent's loop is left as it is, with what it holds, and the child's first call
   starts another. Closing it there would reach into the parent's selector.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Final, Generic, Self, TypeVar

from veyra.errors import InvalidRequestError, VeyraError

T = TypeVar("T")

_GRACE_SECONDS: Final = 5.0
"""How long tasks that are cancelled at exit may take to end."""
_JOIN_SECONDS: Final = 10.0
"""How long the exit waits for the thread: for ever would be too long where something blocks its loop."""


class _Slot(Generic[T]):
    """Where the loop puts one result, and one thread waits for it.

    A lock and a flag, and nothing else: whatever a signal's handler raises while `wait` waits, it can be called again.
    """

    __slots__ = ("_error", "_lock", "_value", "is_full", "is_last")

    def __init__(self, *, is_last: bool = False) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: tuple[T] | None = None
        self._error: BaseException | None = None
        self.is_full = False
        self.is_last = is_last
        """It asks for the end, and not for another item."""

    def give(self, value: T) -> None:
        self._value = (value,)
        self._fill()

    def fail(self, error: BaseException) -> None:
        """Put an error there, unless something is there already."""
        if not self.is_full:
            self._error = error
            self._fill()

    def wait(self) -> None:
        while not self.is_full:
            self._lock.acquire()

    def take(self) -> T:
        """Return or raise what is there."""
        if self._value is not None:
            return self._value[0]
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame

    def _fill(self) -> None:
        self.is_full = True
        self._lock.release()


class LoopThread:
    """An event loop that runs on a thread of its own until the interpreter exits. Made by `loop_thread`.

    Raises:
        VeyraError: no thread can be started (the interpreter is exiting, or there are too many).
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name="veyra-loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            msg = f"no call can be made without an event loop of your own: {error}"
            raise VeyraError(msg) from error

    def run(self, make: Callable[[], Awaitable[T]]) -> T:
        """Await on the loop what `make` returns there, in the caller's context, and return or raise what comes of it.

        Raises:
            InvalidRequestError: the caller runs on the loop itself, which would wait for itself.
            VeyraError: the loop has ended.
        """
        slot: _Slot[T] = _Slot()
        tasks: list[asyncio.Task[None]] = []

        async def carry_out() -> None:
            try:
                slot.give(await make())
            except BaseException as error:  # noqa: BLE001  (it is the waiting thread's, whatever it is)
                self.fail(slot, error)

        def begin() -> None:
            tasks.append(self.begin(carry_out()))

        def cancel() -> None:
            for task in tasks:
                task.cancel()
            if not tasks:  # interrupted before anything began
                slot.fail(asyncio.CancelledError())

        self.wait(slot, begin, cancel)
        return slot.take()

    def walk(self, make: Callable[[], AsyncGenerator[T, None]]) -> Walk[T]:
        """Return an iterator over what an asynchronous generator yields; `make` is called on the loop, with the first step."""
        return Walk(self, make)

    # ------------------------------------------------------------------------- for those who wait, and for Walk

    def wait(self, slot: _Slot[T], begin: Callable[[], object], cancel: Callable[[], object]) -> None:
        """Call `begin` on the loop and wait until the slot is full; where the wait is interrupted, call `cancel` there."""
        if threading.get_ident() == self._thread.ident:
            msg = "a blocking call was made on the event loop that is to carry it out: use Client there, and await it"
            raise InvalidRequestError(msg)
        try:
            if not self.post(begin):
                msg = "no call can be made: the interpreter is exiting, or the process was forked in the middle of it"
                raise VeyraError(msg)  # noqa: TRY301  (the except below is for interruptions, and passes this on)
            slot.wait()
        except VeyraError:
            raise
        except BaseException:
            if self.post(cancel):
                slot.wait()
            raise

    def post(self, callback: Callable[[], object]) -> bool:
        """Have the loop call something in the context of the caller, in the order of posting; False where the loop has ended.

        Never waits.
        """
        if not self._is_open:
            return False
        self._loop.call_soon_threadsafe(callback)
        return True

    def begin(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Begin a task, which is kept until it has ended. To be called on the loop, by what was posted there."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def fail(self, slot: _Slot[T], error: BaseException) -> None:
        """Hand an error to the thread that waits; at exit to none, since only daemons still wait, and they end unheard."""
        if self._is_open:
            slot.fail(error)

    # ----------------------------------------------------------------------------------------------- the end

    def end(self) -> None:
        """Cancel what runs, wait until it is on record, and close the loop."""
        self._is_open = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_SECONDS)

    def forget(self) -> None:
        """In a forked child: touch it no more (rule 4)."""
        self._is_open = False

    def _serve(self) -> None:
        try:
            while self._is_open:
                # What a task raised, whoever waits for that has, too.
                with suppress(SystemExit, KeyboardInterrupt):
                    self._loop.run_forever()
            self._loop.run_until_complete(self._wind_up())
        finally:
            self._loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        await self._loop.shutdown_asyncgens()


class Walk(Generic[T]):
    """An asynchronous generator, read step by step by a thread without a loop. To be closed, or dropped.

    Nothing runs before the first step, and nothing is read ahead.
    """

    def __init__(self, thread: LoopThread, make: Callable[[], AsyncGenerator[T, None]]) -> None:
        self._thread = thread
        self._make = make
        self._asked: asyncio.Queue[_Slot[T]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._has_begun = False
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._is_over:
            raise StopIteration
        self._has_begun = True
        try:
            return self._step(_Slot())
        except StopAsyncIteration:
            self._is_over = True
            raise StopIteration from None
        except BaseException:
            self._is_over = True
            raise

    def close(self) -> None:
        """End it where it stands, and wait until what it held is given back; a second time does nothing."""
        if self._has_begun and not self._is_over:
            self._is_over = True
            try:
                self._step(_Slot(is_last=True))
            except StopAsyncIteration:
                return

    def drop(self) -> None:
        """End it where it stands, some time soon; never waits."""
        if self._has_begun and not self._is_over:
            self._is_over = True
            self._thread.post(lambda: self._asked.put_nowait(_Slot(is_last=True)))

    def _step(self, slot: _Slot[T]) -> T:
        self._thread.wait(slot, lambda: self._ask(slot), lambda: self._cancel(slot))
        return slot.take()

    def _ask(self, slot: _Slot[T]) -> None:
        if self._task is None:
            self._task = self._thread.begin(self._carry_out())
        self._asked.put_nowait(slot)

    def _cancel(self, slot: _Slot[T]) -> None:
        if self._task is None:
            slot.fail(asyncio.CancelledError())
        else:
            self._task.cancel()

    async def _carry_out(self) -> None:
        slot = await self._asked.get()
        try:
            async with aclosing(self._make()) as items:
                async for item in items:
                    slot.give(item)
                    slot = await self._asked.get()
                    if slot.is_last:
                        break
        except BaseException as error:  # noqa: BLE001  (it is the waiting thread's, whatever it is)
            self._thread.fail(slot, error)
        else:
            slot.fail(StopAsyncIteration())


# --------------------------------------------------------------------------------------- exit and fork

_LOCK = threading.Lock()
_RUNNING: list[LoopThread] = []
"""The loop of this process, once there is one."""


def loop_thread() -> LoopThread:
    """Return the loop of this process; the first time, start it."""
    with _LOCK:
        if not _RUNNING:
            _RUNNING.append(LoopThread())
        return _RUNNING[0]


def _end() -> None:
    for thread in _RUNNING:  # it stays there, ended, so that no other is started
        thread.end()


def _after_fork_in_child() -> None:
    for thread in _RUNNING:
        thread.forget()
    _RUNNING.clear()
    _LOCK.release()


atexit.register(_end)
os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_after_fork_in_child)
