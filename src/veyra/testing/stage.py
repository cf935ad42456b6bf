"""What a check of the conformance suite is, and what it is given: a backend that is ready to be asked."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from veyra.audit import AuditLog
from veyra.errors import InvalidRequestError
from veyra.models.base import BaseModelBackend
from veyra.models.gate import Gate
from veyra.models.mock import MockBackend
from veyra.models.mock_reply import Scripted
from veyra.testing.server import FaultServer
from veyra.types import Timeouts

Speaks: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic", "gemini", "ollama"]
"""The formats in which the fault server answers."""
Make: TypeAlias = Callable[..., BaseModelBackend]

KEY = "sk-conformance-5b1e7c90d2"
"""The key that backends are made with; it must show up in the header that carries it, and nowhere else."""
MODEL = "conformance-model"
LIMIT = 30.0
"""Seconds that a check may take."""
SHORT = Timeouts(connect=5.0, first_token=0.3, between_events=0.3, total=2.0)
"""For checks of what never comes."""
LONG = Timeouts(connect=5.0, first_token=LIMIT, between_events=LIMIT, total=LIMIT)
"""For checks of what does."""


class NonconformityError(AssertionError):
    """What a backend does is not what it must do; the message says what came, and what was due."""


def expect(held: object, message: str) -> None:
    """See that something holds.

    Raises:
        NonconformityError: it does not.
    """
    if not held:
        raise NonconformityError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is checked.

    Attributes:
        make: returns a new backend. Where `speaks` is given, it takes `base_url`, `api_key` and `model`.
        speaks: the format in which the backend talks over HTTP; None where it does not, or in another.
    """

    make: Make
    speaks: Speaks | None = None

    def __post_init__(self) -> None:
        if self.speaks is not None and self.speaks not in get_args(Speaks):
            msg = f"speaks is one of {', '.join(get_args(Speaks))}, or None, not {self.speaks!r}"
            raise InvalidRequestError(msg)

    def has_events(self) -> bool:
        """Tell whether the backend hands on events of its own; one of two methods has an answer as a whole, and no bytes."""
        try:
            made = Stage(self).make()
        except Exception:  # noqa: BLE001  (what it raises is what comes of each check)
            return True
        return getattr(type(made), "events", None) is not BaseModelBackend.events


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A backend that is ready to be asked.

    Attributes:
        backend: the backend itself.
        gate: the same behind the gate.
        log: where its calls are recorded.
        server: what it talks to; None for one that does not talk HTTP.
        mock: who answers there.
    """

    backend: BaseModelBackend
    gate: Gate
    log: AuditLog
    server: FaultServer | None
    mock: MockBackend


class Stage:
    """What a check is given: makes backends that are ready to be asked.

    Args:
        subject: what is checked.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @property
    def speaks(self) -> Speaks | None:
        """The format that the backend speaks."""
        return self.subject.speaks

    def make(self, base_url: str | None = None) -> BaseModelBackend:
        """Return a new backend, of which nothing is asked yet."""
        if self.speaks is None:
            return self.subject.make()
        base_url = base_url or "http://127.0.0.1:9/v1"
        return self.subject.make(base_url=base_url, api_key=KEY, model=MODEL)

    @contextmanager
    def threaded(self, *replies: Scripted) -> Iterator[BaseModelBackend]:
        """Let a backend be asked under event loops of the check's own; the server has one in a thread."""
        if self.speaks is None:
            yield self.make()
            return
        with FaultServer(MockBackend(list(replies))) as server:
            yield self.make(self._address(server))

    def _address(self, server: FaultServer) -> str:
        return server.openai_url if (self.speaks or "").startswith("openai") else server.url

    @asynccontextmanager
    async def talk(self, *replies: Scripted, faults: str = "", in_step: bool = False) -> AsyncIterator[Talk]:
        """Let a backend be asked; where it talks HTTP, the server answers with `replies` in turn, and suffers `faults`.

        The server has a thread of its own, so that a backend that blocks is answered, too; `in_step` it shares the event loop, and
        each piece that it writes is read before the next one comes.
        """
        mock = MockBackend(list(replies) if replies else None)
        log = AuditLog.memory()
        if self.speaks is None:
            backend = self.make()
            yield Talk(backend=backend, gate=Gate(backend, log), log=log, server=None, mock=mock)
            await backend.aclose()
            return
        async with AsyncExitStack() as stack:
            made = FaultServer(mock, faults=faults)
            server = await stack.enter_async_context(made) if in_step else stack.enter_context(made)
            backend = self.make(self._address(server))
            try:
                yield Talk(backend=backend, gate=Gate(backend, log), log=log, server=server, mock=mock)
            finally:
                await backend.aclose()


Run: TypeAlias = Callable[[Stage], Awaitable[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: words with hyphens, its own.
        group: what it is about.
        says: what must hold, in a sentence.
        run: raises where it does not; a plain function where it makes its own event loops.
        over_http: it looks at bytes, and applies to backends that talk HTTP in a format of the fault server.
        formats: the formats in which it applies; None for all.
        by_events: it looks at events or bytes that a backend of two methods does not show.
    """

    name: str
    group: str
    says: str
    run: Run
    over_http: bool
    formats: tuple[Speaks, ...] | None = None
    by_events: bool = False

    def why_not(self, subject: Subject) -> str | None:
        """Return why the check cannot be made of a backend; None where it can."""
        if not self.over_http:
            return None
        if subject.speaks is None:
            return "the backend does not talk HTTP in a format of the fault server"
        if self.formats is not None and subject.speaks not in self.formats:
            return f"only for {', '.join(self.formats)}"
        if self.by_events and not subject.has_events():
            return "a backend of two methods shows no events, and no bytes"
        return None


class Group:
    """Collects checks of one subject matter: `@group.check` makes one of a function, whose docstring says what must hold.

    Args:
        name: the subject matter.
        over_http, by_events: see `Check`; of all of them.
    """

    def __init__(self, name: str, *, over_http: bool = False, by_events: bool = False) -> None:
        self.checks: list[Check] = []
        self._name = name
        self._over_http = over_http
        self._by_events = by_events

    def check(self, run: Run, *, formats: tuple[Speaks, ...] | None = None, by_events: bool = False) -> Run:
        """Add a check."""
        says = " ".join((inspect.getdoc(run) or "").split())
        name = getattr(run, "__name__", "").replace("_", "-")
        self.checks.append(
            Check(
                name=name,
                group=self._name,
                says=says,
                run=run,
                over_http=self._over_http,
                formats=formats,
                by_events=by_events or self._by_events,
            )
        )
        return run

    def check_of(self, *formats: Speaks) -> Callable[[Run], Run]:
        """Add a check that applies to these formats only."""
        return lambda run: self.check(run, formats=formats)

    def check_of_events(self, run: Run) -> Run:
        """Add a check that does not apply to backends of two methods."""
        return self.check(run, by_events=True)
