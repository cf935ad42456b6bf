"""The blocking twins: what `Client` and `Conversation` do, for code that does not await.

A twin's methods are made from those of its original, arguments and all; nothing is said twice. All calls of a process run on
one event loop, on a thread of its own (`veyra.client.loop`): a loop for each client would be a thread for each.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import update_wrapper
from inspect import Parameter, Signature, signature
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from veyra.audit import AuditLog
from veyra.client import tools
from veyra.client.asker import Asker
from veyra.client.client import Client
from veyra.client.conversation import Conversation
from veyra.client.ledger import Spent
from veyra.client.loop import LoopThread, loop_thread
from veyra.errors import InvalidRequestError
from veyra.models.gate import Reply
from veyra.types import Event, Message, ModelResponse, Options

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class BlockingReply:
    """An answer that is being read: iterate it for its events; afterwards `response` is the whole answer.

    Leaving its context early closes the connection and records the attempt as cancelled, with what had come.
    """

    def __init__(self, thread: LoopThread, reply: Reply) -> None:
        self._reply = reply
        self._events = thread.walk(lambda: _events(reply))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    @property
    def response(self) -> ModelResponse:
        """The whole answer, once every event has been read; errors as of `Reply.response`."""
        return self._reply.response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()

    def __del__(self) -> None:
        self._events.drop()


async def _events(reply: Reply) -> AsyncGenerator[Event, None]:
    async with reply:
        async for event in reply:
            yield event


# ------------------------------------------------------------------------------------- how twins are made


class _Twin(Generic[C_co]):
    """Stands for something that is awaited."""

    _original: C_co


def _waiting(method: Callable[Concatenate[C, P], Awaitable[T]]) -> Callable[Concatenate[_Twin[C], P], T]:
    """Return a twin's method: does what the original's does, and waits for it."""

    def wait(self: _Twin[C], /, *args: P.args, **options: P.kwargs) -> T:
        return loop_thread().run(lambda: method(self._original, *args, **options))

    update_wrapper(wait, method)
    return wait


def _reading(method: Callable[Concatenate[C, P], Reply]) -> Callable[Concatenate[_Twin[C], P], BlockingReply]:
    """Return a twin's method: returns what the original's does, to be read without awaiting."""

    def read(self: _Twin[C], /, *args: P.args, **options: P.kwargs) -> BlockingReply:
        async def begin() -> Reply:
            return method(self._original, *args, **options)

        thread = loop_thread()
        return BlockingReply(thread, thread.run(begin))

    update_wrapper(read, method)
    read.__doc__ = (
        "Ask, and read the answer as it comes: `with ....stream(...) as reply: for event in reply`.\n\n"
        f"Arguments and errors are those of `{method.__qualname__}`."
    )
    vars(read)["__signature__"] = signature(method).replace(return_annotation=BlockingReply.__name__)
    return read


def _made_by(make: Callable[P, C]) -> Callable[[Callable[[S, C], None]], Callable[Concatenate[S, P], None]]:
    """Have a twin's `__init__` take what makes the original, and be given the original."""

    def taking(init: Callable[[S, C], None]) -> Callable[Concatenate[S, P], None]:
        def take(self: S, /, *args: P.args, **options: P.kwargs) -> None:
            init(self, make(*args, **options))

        vars(take)["__signature__"] = _signature(list(signature(make).parameters.values()))
        return take

    return taking


def _made_on(
    make: Callable[Concatenate[Asker, P], C],
) -> Callable[[Callable[[S, C], None]], Callable[Concatenate[S, BlockingClient, P], None]]:
    """Do what `_made_by` does, for what asks a client: the twin asks a blocking one."""

    def taking(init: Callable[[S, C], None]) -> Callable[Concatenate[S, BlockingClient, P], None]:
        def take(self: S, client: BlockingClient, /, *args: P.args, **options: P.kwargs) -> None:
            init(self, make(_asked_by(client), *args, **options))

        asker, *others = signature(make).parameters.values()
        vars(take)["__signature__"] = _signature([asker.replace(annotation=BlockingClient.__name__), *others])
        return take

    return taking


def _signature(parameters: list[Parameter]) -> Signature:
    """Return the signature of an `__init__` with these parameters."""
    return Signature([Parameter("self", Parameter.POSITIONAL_ONLY), *parameters])


# ----------------------------------------------------------------------------------------------- the twins


class BlockingClient(_Twin[Client]):
    """A `Client` whose methods wait for the answer: the same arguments, errors and record, and no `await`.

    It may be used from several threads at once, and in a process that was forked off. In a thread that runs an event loop (a
    notebook's, say) it works, and holds that loop up meanwhile: use `Client` there. Ctrl-C cancels the call; when that is on
    record, KeyboardInterrupt is raised.

    The arguments are those of `Client`. An observer, an async tool or a backend runs on the loop that serves all blocking
    calls, and cannot make one itself.
    """

    @_made_by(Client)
    def __init__(self, client: Client) -> None:
        self._original = client

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._original).removeprefix('<')}"

    @property
    def log(self) -> AuditLog | None:
        """As `Client.log`."""
        return self._original.log

    @property
    def spent(self) -> Spent:
        """As `Client.spent`."""
        return self._original.spent

    generate = _waiting(Client.generate)
    stream = _reading(Client.stream)
    embed = _waiting(Client.embed)
    health_check = _waiting(Client.health_check)
    close = _waiting(Client.aclose)
    run_tools = _waiting(tools.run_tools)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingConversation(_Twin[Conversation]):
    """A `Conversation` with a `BlockingClient`: the same arguments, errors and file, and no `await`."""

    @_made_on(Conversation)
    def __init__(self, conversation: Conversation) -> None:
        self._original = conversation

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._original).removeprefix('<')}"

    @property
    def id(self) -> str:
        """As `Conversation.id`."""
        return self._original.id

    @property
    def system(self) -> str | None:
        """As `Conversation.system`."""
        return self._original.system

    @property
    def messages(self) -> tuple[Message, ...]:
        """As `Conversation.messages`."""
        return self._original.messages

    def append(self, *messages: Message) -> None:
        """Add what was said elsewhere; as `Conversation.append`."""

        async def append() -> None:  # on the loop, where the conversation goes on
            self._original.append(*messages)

        loop_thread().run(append)

    send = _waiting(Conversation.send)
    stream = _reading(Conversation.stream)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file; as `Conversation.save`."""
        self._original.save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], client: BlockingClient, **options: Unpack[Options]) -> Self:
        """Return the conversation in a file; as `Conversation.load`."""
        loaded = cls.__new__(cls)
        loaded._original = Conversation.load(path, _asked_by(client), **options)  # noqa: SLF001  (as __init__ does)
        return loaded


def _asked_by(client: BlockingClient) -> Client:
    if not isinstance(client, BlockingClient):
        msg = f"a BlockingConversation needs a BlockingClient, not {type(client).__name__}"
        raise InvalidRequestError(msg)
    return client._original  # noqa: SLF001  (the twins are made here)
