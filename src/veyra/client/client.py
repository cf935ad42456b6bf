"""The client: one or more targets, and the policies by which calls survive what providers do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

from veyra.audit import AuditLog
from veyra.client import preset
from veyra.client.actor import Pseudonyms
from veyra.client.cache import Cache
from veyra.client.call import AnswerCall, EmbedCall, Rules
from veyra.client.ledger import NOBODY, Ledger, Payer, Spent
from veyra.client.observe import Observer, Observers
from veyra.client.question import Answering, Embedding
from veyra.client.station import Station
from veyra.errors import InvalidRequestError
from veyra.models.base import BaseModelBackend
from veyra.models.gate import Gate, Reply
from veyra.models.registry import Audit, audit_log, make_backend
from veyra.models.request import MAX_PROMPT_BYTES, check_prompt_limit
from veyra.policy.breaker import Breaker
from veyra.policy.budget import Budget
from veyra.policy.fallback import Fallback
from veyra.policy.limits import Limits
from veyra.policy.retry import Retry
from veyra.policy.routing import Order, arranged, check_order
from veyra.types import EmbeddingResponse, EmbedOptions, ModelResponse, Options, Prompt, Secret


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked, with what is said of that one target.

    Attributes:
        backend: `"name"` or `"name:model"`, the name one of `list_backends()`; or a backend.
        weight: above 0; how often it comes first where `routing` is `weighted`.
        limits: what may be asked of it, in the place of the client's.

    Raises:
        InvalidRequestError: a value is of another type or out of range.
    """

    backend: str | BaseModelBackend
    weight: float = 1.0
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.backend, str | BaseModelBackend) or self.backend == "":
            kind = "an empty str" if self.backend == "" else type(self.backend).__name__
            msg = f"a target is 'backend:model', a backend or a Target, not {kind}"
            raise InvalidRequestError(msg)
        is_number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not is_number or not 0 < self.weight < float("inf"):
            msg = f"a target's weight is a number above 0, not {self.weight!r}"
            raise InvalidRequestError(msg)
        _check_type("limits", self.limits, Limits)


AnyTarget: TypeAlias = str | BaseModelBackend | Target


class ClientOptions(Options, total=False):
    """What a client's call can be told besides.

    Attributes:
        conversation: its id; calls of one go to the same target.
        actor: on whose behalf it is made; on record as a pseudonym under the client's `actor_key`.
        key, run: what it is charged to, in `Budget(key=..., run=...)` and in `Client.spent`.
    """

    conversation: str
    actor: str
    key: str
    run: str


class ClientEmbedOptions(EmbedOptions, total=False):
    """What a client's call for vectors can be told besides; as of `ClientOptions`."""

    actor: str
    key: str
    run: str


class Client:
    """Asks one of several targets, again or elsewhere where that helps, every attempt on the record.

    What is not given is taken from `[client]` of the settings: targets, fallback and routing where no target is given, and
    each policy by itself.

    Args:
        targets: who is asked: `"openai:gpt-..."`, a backend (got by `get_backend` or not), or a `Target`.
        fallback: targets to ask after those have failed, or a `Fallback`, which also says when.
        retry: how often a failed attempt is made again.
        routing: the order of `targets`: `ordered`, `weighted` or `least_latency`; calls of one conversation are sticky.
        breaker: when a target that keeps failing is left alone; by default after 5 failures in a row for 30 s where there is
            another target, and never where there is none. None for never.
        limits: what may be asked of each target, unless it has limits of its own; by default nothing is limited but by what a
            target tells of its limits, which is followed.
        budget: what may be spent; by default that is not bounded. See `spent`.
        audit: where calls are recorded, as for `get_backend`; by default where a backend that was given already records,
            else the usual log.
        cache: what gives answers again without asking (`Cache.memory()`, `Cache.disk(...)`); by default nothing does.
        observers: who is told of calls, attempts and waits (`veyra.client.observe`).
        actor: on whose behalf calls are made that do not say.
        actor_key: the key of the pseudonyms that stand for actors in the log (`veyra.client.actor`); 16 bytes or more.
        max_prompt_bytes: text of a prompt that is let through, as UTF-8 bytes.
        chance: draws a number evenly from 0 to 1, for backoff and weights.
        now: tells the time, with a time zone, for days and prices.

    Raises:
        ConfigError: a setting is wrong.
        InvalidRequestError: no target was given or set, or a value is of another type or out of range.
        UnknownBackendError: a target names a backend that is not known.
    """

    def __init__(
        self,
        *targets: AnyTarget,
        fallback: Sequence[AnyTarget] | AnyTarget | Fallback | None = None,
        retry: Retry | None = None,
        routing: Order | None = None,
        breaker: Breaker | Literal["default"] | None = "default",
        limits: Limits | None = None,
        budget: Budget | None = None,
        audit: Audit = None,
        cache: Cache | None = None,
        observers: Iterable[Observer] = (),
        actor: str | None = None,
        actor_key: bytes | str | Secret | None = None,
        max_prompt_bytes: int = MAX_PROMPT_BYTES,
        chance: Callable[[], float] = random.random,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._pseudonyms = None if actor_key is None else Pseudonyms(actor_key)
        del actor_key  # from here on no local variable of a traceback holds it
        self._about: Mapping[str, object] = {} if actor is None else self._recorded(actor)
        if not targets:
            route = preset.route()
            targets = route.targets
            fallback = route.fallback if fallback is None else fallback
            routing = route.routing if routing is None else routing
        if not targets:
            msg = "a Client needs a target: Client('openai:MODEL'), say, or client.targets in veyra.toml"
            raise InvalidRequestError(msg)
        order: Order = routing or "ordered"
        check_order(order)
        fallback = _fallback(() if fallback is None else fallback)
        _check_type("retry", retry, Retry)
        _check_type("cache", cache, Cache)
        _check_type("limits", limits, Limits)
        _check_type("budget", budget, Budget)
        _check_callable("chance", chance, "returns a number from 0 to 1")
        _check_callable("now", now, "returns the time, with a time zone")
        usual = preset.policies()
        others = [_target(target) for target in fallback.to]
        if breaker == "default" and usual.breaker is not None:
            breaker = usual.breaker
        if breaker == "default":
            breaker = Breaker() if len(targets) + len(others) > 1 else None
        else:
            _check_type("breaker", breaker, Breaker)
        self._routing: Order = order
        self._max_prompt_bytes = check_prompt_limit(max_prompt_bytes)
        self._chance = chance
        self._ledger = Ledger(budget or usual.budget, now)
        self._rules = Rules(
            retry=retry or usual.retry or Retry(),
            fallback=fallback,
            observers=Observers(observers),
            chance=chance,
            ledger=self._ledger,
            cache=cache or preset.cache(),
        )
        stations = _stations([*map(_target, targets), *others], audit, breaker, limits or usual.limits)
        self._stations = stations[: len(targets)]
        self._fallback = stations[len(targets) :]

    def __repr__(self) -> str:
        return f"<Client of {', '.join(station.name for station in (*self._stations, *self._fallback))}>"

    @property
    def log(self) -> AuditLog | None:
        """The log of the first target's calls, which is that of all of them unless backends brought their own."""
        return self._stations[0].log

    @property
    def spent(self) -> Spent:
        """What was spent so far: every attempt counts, whether its answer was of use or not."""
        return self._ledger.spent

    async def generate(self, prompt: Prompt, **options: Unpack[ClientOptions]) -> ModelResponse:
        """Ask, and return the whole answer, its record durable; `r.attempts` says which attempts were made.

        Args:
            prompt: a `str`, or the conversation so far as a sequence of `Message`.
            options: as for a backend's `generate`, and those of `ClientOptions`.

        Raises:
            InvalidRequestError: the prompt or an option is wrong; nothing was sent or recorded.
            AuditUnavailableError: an intent could not be recorded; nothing was sent for it.
            AuditWriteError: an outcome could not be recorded; `response` carries the answer.
            CircuitOpenError: every target failed too often lately; nothing was sent.
            BudgetExceededError: it could cost more than is left; nothing was sent for that attempt.
            RateLimitError: with `status` None: it would have waited too long for its turn; nothing was sent for that attempt.
            ProviderError: the last attempt failed; its class says how, and `attempts` tells of those before.
        """
        return await self._ask(prompt, options, stream=False).collect()

    def stream(self, prompt: Prompt, **options: Unpack[ClientOptions]) -> Reply:
        """Ask, and read the answer as it comes: `async with client.stream(...) as reply: async for event in reply`.

        The call begins with the first event asked for. Another attempt is made only until the first event with content was
        handed out. Raises, while iterated, what `generate` raises; the prompt and the options are checked at once.
        """
        return Reply(self._ask(prompt, options, stream=True))

    async def embed(self, texts: str | Sequence[str], **options: Unpack[ClientEmbedOptions]) -> EmbeddingResponse:
        """Return a vector for each text, the call's record durable; arguments and errors as of a backend's `embed`."""
        about = self._recorded(options.pop("actor", None))
        payer = _payer(options.pop("key", None), options.pop("run", None))
        self._check_model(options.get("model"))
        question = Embedding(texts, options, max_prompt_bytes=self._max_prompt_bytes)
        return await EmbedCall(self._rules, self._arranged(None), question, about=about, payer=payer).collect()

    async def health_check(self) -> bool:
        """Say whether one of the targets could serve a call now; costs nothing, is not recorded, raises nothing."""
        for station in (*self._stations, *self._fallback):
            if await Gate(station.backend, None).health_check():
                return True
        return False

    async def aclose(self) -> None:
        """Close the backends' connections; the log stays open for others and is closed at exit."""
        for station in (*self._stations, *self._fallback):
            await station.backend.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _ask(self, prompt: Prompt, options: ClientOptions, *, stream: bool) -> AnswerCall:
        conversation = _named("conversation", options.pop("conversation", None))
        payer = _payer(options.pop("key", None), options.pop("run", None))
        about = self._recorded(options.pop("actor", None))
        self._check_model(options.get("model"))
        question = Answering(prompt, options, stream=stream, max_prompt_bytes=self._max_prompt_bytes)
        stations = self._arranged(conversation)
        return AnswerCall(self._rules, stations, question, about=about, payer=payer, conversation=conversation)

    def _recorded(self, actor: str | None) -> Mapping[str, object]:
        """Return what is on record of every call on behalf of an actor, or, where none is named, of the client's."""
        if actor is None:
            return self._about
        if self._pseudonyms is None:
            msg = "actor is recorded as a pseudonym, which needs a key: Client(..., actor_key=...)"
            raise InvalidRequestError(msg)
        return {"veyra.actor": self._pseudonyms.of(actor)}

    def _check_model(self, model: object) -> None:
        if model is not None and len(self._stations) + len(self._fallback) > 1:
            msg = "a client of several targets has a model in each: name it there ('backend:model'), not in the call"
            raise InvalidRequestError(msg)

    def _arranged(self, conversation: str | None) -> Sequence[Station]:
        """Return the targets in the order in which a call is to ask them."""
        if self._routing == "ordered" or len(self._stations) == 1:
            return (*self._stations, *self._fallback)
        now = _loop_time()
        places = arranged(
            [station.candidate(now) for station in self._stations],
            self._routing,
            chances=[self._chance() for _ in self._stations],
            conversation=conversation,
        )
        return (*(self._stations[place] for place in places), *self._fallback)


def _loop_time() -> float:
    """Return the running loop's time; a call can be made, and not begun, where there is no loop."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def _fallback(value: Any) -> Fallback:  # noqa: ANN401  (looked at here)
    if isinstance(value, Fallback):
        return value
    if isinstance(value, str | BaseModelBackend | Target):
        return Fallback((value,))
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        msg = f"fallback is a sequence of targets, or a Fallback, not {type(value).__name__}"
        raise InvalidRequestError(msg)
    return Fallback(tuple(value))


def _target(value: AnyTarget) -> Target:
    return value if isinstance(value, Target) else Target(value)


def _payer(key: object, run: object) -> Payer:
    return NOBODY if key is None and run is None else Payer(_named("key", key), _named("run", run))


def _named(option: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    msg = f"{option} is a non-empty str, not {value!r}"
    raise InvalidRequestError(msg)


def _check_type(name: str, value: object, kind: type[object]) -> None:
    if value is not None and not isinstance(value, kind):
        msg = f"{name} is a {kind.__name__} or None, not {type(value).__name__}"
        raise InvalidRequestError(msg)


def _check_callable(name: str, value: object, does: str) -> None:
    if not callable(value):
        msg = f"{name} is a function that {does}, not {type(value).__name__}"
        raise InvalidRequestError(msg)


def _stations(targets: Sequence[Target], audit: Audit, breaker: Breaker | None, limits: Limits | None) -> list[Station]:
    """Put targets in service. They share one log; a backend that was got with a log of its own keeps it."""
    backends = [_backend(target.backend) for target in targets]
    own = [audit is None and isinstance(target.backend, Gate) for target in targets]
    log = None if all(own) else audit_log(audit, backends[0].name)
    stations: list[Station] = []
    for target, backend, keeps in zip(targets, backends, own, strict=True):
        kept = target.backend.log if keeps and isinstance(target.backend, Gate) else log
        name = _name(backend, [station.name for station in stations])
        station = Station(name, backend, kept, weight=target.weight, breaker=breaker, limits=target.limits or limits)
        stations.append(station)
    return stations


def _name(backend: BaseModelBackend, taken: Sequence[str]) -> str:
    """Return what a target is called: its backend and model, with a number where there are several of them."""
    model = backend.defaults().get("model")
    name = backend.name if model is None else f"{backend.name}:{model}"
    number = 1 + sum(other == name or other.startswith(f"{name}#") for other in taken)
    return name if number == 1 else f"{name}#{number}"


def _backend(value: str | BaseModelBackend) -> BaseModelBackend:
    """Return a target's backend, without a gate."""
    if isinstance(value, BaseModelBackend):
        return value.backend if isinstance(value, Gate) else value
    name, colon, model = value.partition(":")
    if colon and not model:
        msg = f"{value!r} names no model after the colon: write '{name}:MODEL', or {name!r} for the one that is set"
        raise InvalidRequestError(msg)
    return make_backend(name, model=model) if model else make_backend(name)
