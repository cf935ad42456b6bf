"""A provider that allows so much in a minute, counted in one of three ways, and says so in the headers of its answers."""

from __future__ import annotations

import asyncio
import math
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

from veyra.errors import RateLimitError
from veyra.models.base import Exchange
from veyra.models.gate import EventBackend
from veyra.transport.base import Head
from veyra.types import Event, Finish, Request, TextDelta, Usage

MINUTE = 60.0


class Rule(ABC):
    """Counts to a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @abstractmethod
    def left(self, now: float) -> int:
        """Return how much is left now."""

    @abstractmethod
    def take(self, now: float, amount: int) -> None:
        """Count so much."""

    @abstractmethod
    def reset(self, now: float) -> float:
        """Return the seconds until all of it is there again."""


class FixedWindow(Rule):
    """Counts by the minutes of its own clock, which is 17 s behind ours."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._minute = -1.0
        self._used = 0

    def left(self, now: float) -> int:
        minute = math.floor((now - 17.0) / MINUTE)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        return self.limit - self._used

    def take(self, now: float, amount: int) -> None:
        self._used += amount

    def reset(self, now: float) -> float:
        return MINUTE - (now - 17.0) % MINUTE


class SlidingWindow(Rule):
    """Counts what came in the last 60 seconds."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._seen: deque[tuple[float, int]] = deque()

    def left(self, now: float) -> int:
        while self._seen and self._seen[0][0] < now - MINUTE:
            self._seen.popleft()
        return self.limit - sum(amount for _, amount in self._seen)

    def take(self, now: float, amount: int) -> None:
        self._seen.append((now, amount))

    def reset(self, now: float) -> float:
        return self._seen[-1][0] + MINUTE - now if self._seen else 0.0


class Bucket(Rule):
    """Fills evenly, to the limit in a minute, and holds no more than that."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._level = float(limit)
        self._at = 0.0

    def left(self, now: float) -> int:
        self._level = min(float(self.limit), self._level + (now - self._at) * self.limit / MINUTE)
        self._at = now
        return math.floor(self._level)

    def take(self, now: float, amount: int) -> None:
        self._level -= amount

    def reset(self, now: float) -> float:
        return (self.limit - self._level) * MINUTE / self.limit


RULES: Mapping[str, type[Rule]] = {"fixed": FixedWindow, "sliding": SlidingWindow, "bucket": Bucket}

Told = Literal["openai", "anthropic", "retry-after", "nothing"]


class LimitedServer(EventBackend):
    """Allows so many requests and tokens a minute, and refuses the rest.

    Args:
        rule: how it counts: `fixed`, `sliding` or `bucket`.
        requests, tokens: what it allows; None is not counted.
        told: what its answers tell of that.
        seed: decides how long requests take to arrive and answers to come, and how many tokens they have.
        slowest: seconds that a request takes to arrive at most.
        longest: seconds that its answer takes at most; by default as long as a request.
        charges: what counts of an answer, the tokens that it has (`used`) or those that it was allowed (`asked`).

    Attributes:
        arrived: for each request, in order: when it arrived, and its prompt.
        refused: when each request that it refused was sent.
        sent: how many requests were sent.
    """

    name = "limited"

    def __init__(
        self,
        rule: str,
        *,
        requests: int | None = 60,
        tokens: int | None = 10_000,
        told: Told = "openai",
        seed: int = 0,
        slowest: float = 3.0,
        longest: float | None = None,
        charges: Literal["used", "asked"] = "used",
    ) -> None:
        self._rules = {
            "requests": None if requests is None else RULES[rule](requests),
            "tokens": None if tokens is None else RULES[rule](tokens),
        }
        self._told = told
        self._random = random.Random(seed)
        self._slowest = slowest
        self._longest = slowest if longest is None else longest
        self._charges = charges
        self.arrived: list[tuple[float, str]] = []
        self.refused: list[float] = []
        self.sent = 0
        self.at_once = 0
        self.most_at_once = 0

    def defaults(self) -> Mapping[str, Any]:
        return {"model": "m"}

    async def health_check(self) -> bool:
        return True

    async def events(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            async for event in self._answer(request, exchange):
                yield event
        finally:
            self.at_once -= 1

    async def _answer(self, request: Request, exchange: Exchange) -> AsyncGenerator[Event, None]:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        self.sent += 1
        await asyncio.sleep(self._random.uniform(0.0, self._slowest))
        now = loop.time()
        assert isinstance(request.prompt, str)
        self.arrived.append((now, request.prompt))
        prompt, answer = len(request.prompt) // 4, self._random.randint(1, request.max_tokens or 100)
        charged = answer if self._charges == "used" else request.max_tokens or 0
        costs = {"requests": 1, "tokens": prompt + charged}
        rules = {name: rule for name, rule in self._rules.items() if rule is not None}
        fits = all(costs[name] <= rule.left(now) for name, rule in rules.items())
        if fits:
            for name, rule in rules.items():
                rule.take(now, costs[name])
        exchange.answered(Head(200 if fits else 429, self._headers(now)))
        if not fits:
            self.refused.append(sent)
            wait = None if self._told == "nothing" else max(rule.reset(now) for rule in rules.values())
            msg = "too many"
            raise RateLimitError(msg, status=429, retry_after=wait)
        await asyncio.sleep(self._random.uniform(0.0, self._longest))
        yield TextDelta("yes")
        yield Finish(reason="stop", usage=Usage(input_total=prompt, output_total=answer), model="m")

    def _headers(self, now: float) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, rule in self._rules.items():
            if rule is None:
                continue
            left, reset = rule.left(now), rule.reset(now)
            if self._told == "openai":
                headers[f"x-ratelimit-limit-{name}"] = str(rule.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(left, 0))
                headers[f"x-ratelimit-reset-{name}"] = f"{reset * 1000:.0f}ms" if reset < 1 else f"{reset:.3f}s"
            elif self._told == "anthropic":
                second = math.ceil(reset)
                headers["date"] = "Mon, 23 Nov 2026 08:00:00 GMT"
                headers[f"anthropic-ratelimit-{name}-limit"] = str(rule.limit)
                headers[f"anthropic-ratelimit-{name}-remaining"] = str(max(left, 0))
                headers[f"anthropic-ratelimit-{name}-reset"] = f"2026-11-23T08:{second // 60:02}:{second % 60:02}Z"
        return headers
