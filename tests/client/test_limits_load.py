"""Limits under load: a thousand calls at a time against a provider that allows 60 requests and 10,000 tokens a minute."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

import virtual
from client.limited import RULES, LimitedServer, Told
from veyra import Client, Limits, ModelResponse, Retry
from veyra.policy.meter import DOUBT

CALLS = 1000
GIVEN = Limits(requests_per_minute=60, tokens_per_minute=10_000, max_wait=7200.0, max_waiting=CALLS)


def prompt(number: int) -> str:
    """Return the prompt of a call: each says which it is, and some are longer than others."""
    return f"{number:04}" + "x" * (number * 37 % 400)


async def ask_all(client: Client, first: int = 0) -> list[ModelResponse]:
    """Ask a thousand times at once, in order."""
    calls = [client.generate(prompt(number), max_tokens=100) for number in range(first, first + CALLS)]
    return await asyncio.gather(*calls)


@pytest.mark.parametrize("rule", RULES)
def test_limits_that_are_given_are_never_exceeded(rule: str) -> None:
    """With the limits given, no request is refused, all are answered, and no later than the limits make them."""

    async def main() -> None:
        server = LimitedServer(rule)
        client = Client(server, limits=GIVEN, audit="off", retry=Retry(attempts=1))
        assert len(await ask_all(client)) == CALLS
        assert not server.refused
        assert server.sent == CALLS
        assert asyncio.get_running_loop().time() < 1.35 * CALLS / 60 * 60.0

    virtual.run(main())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("charges", ["used", "asked"])
def test_answers_that_take_long(rule: str, charges: Literal["used", "asked"]) -> None:
    """Where answers take up to three minutes, and tokens count as used or as asked for, nothing is refused either."""

    async def main() -> None:
        server = LimitedServer(rule, longest=180.0, charges=charges)
        client = Client(server, limits=GIVEN, audit="off", retry=Retry(attempts=1))
        assert len(await ask_all(client)) == CALLS
        assert not server.refused

    virtual.run(main())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("told", ["openai", "anthropic"])
def test_limits_that_were_learned_are_not_exceeded(rule: str, told: Told) -> None:
    """Once one answer has told of the limits, a thousand calls at once are all answered and none is refused."""

    async def main() -> None:
        server = LimitedServer(rule, told=told)
        client = Client(server, limits=Limits(max_wait=7200.0), audit="off", retry=Retry(attempts=1))
        await client.generate(prompt(0), max_tokens=100)
        assert len(await ask_all(client)) == CALLS
        assert not server.refused

    virtual.run(main())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("told", ["openai", "anthropic"])
def test_a_thousand_calls_before_anything_is_known(rule: str, told: Told) -> None:
    """What was sent before the first answer is refused beyond the limits; nothing that is sent after that burst is."""

    async def main() -> None:
        server = LimitedServer(rule, told=told)
        retry = Retry(attempts=2, max_retry_after=120.0)
        client = Client(server, limits=Limits(max_wait=7200.0), audit="off", retry=retry)
        assert len(await ask_all(client)) == CALLS
        assert max(server.refused) == 0.0
        assert server.sent == CALLS + len(server.refused)

    virtual.run(main())


@pytest.mark.parametrize("rule", RULES)
def test_a_limit_that_is_only_seen_in_refusals(rule: str) -> None:
    """Where nothing but refusals tells of a limit, it is guessed from them, and every 10 minutes twice as much is tried."""

    async def main() -> None:
        server = LimitedServer(rule, told="retry-after", tokens=None)
        retry = Retry(attempts=4, max_retry_after=120.0)
        client = Client(server, limits=Limits(max_wait=7200.0), audit="off", retry=retry)
        assert len(await ask_all(client)) == CALLS
        late = [sent for sent in server.refused if sent > 0.0]
        assert not [sent for sent in late if sent < DOUBT]
        assert len(late) <= 120

    virtual.run(main())


@pytest.mark.parametrize("rule", RULES)
def test_the_order_is_that_of_the_calls(rule: str) -> None:
    """Requests are sent in the order in which the calls were made, large ones among small ones."""

    async def main() -> None:
        server = LimitedServer(rule, slowest=0.0)
        await ask_all(Client(server, limits=GIVEN, audit="off"))
        assert [asked for _, asked in server.arrived] == [prompt(number) for number in range(CALLS)]

    virtual.run(main())


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    """A request of nearly all the tokens of a minute is let through in its turn though small ones come all the time."""

    async def main() -> None:
        server = LimitedServer("sliding", requests=None, slowest=0.0)
        client = Client(server, limits=Limits(tokens_per_minute=10_000, max_wait=600.0), audit="off")
        loop = asyncio.get_running_loop()
        done: list[str] = []

        async def ask(name: str, size: int) -> None:
            await client.generate(name + "x" * size * 4, max_tokens=10)
            done.append(name)

        small = [asyncio.create_task(ask(f"a{n}", 1000)) for n in range(8)]
        await asyncio.sleep(1.0)
        large = asyncio.create_task(ask("large", 9000))
        more: list[asyncio.Task[None]] = []
        for number in range(200):
            await asyncio.sleep(0.5)
            more.append(asyncio.create_task(ask(f"b{number}", 100)))
        await large
        assert loop.time() < 130.0
        assert not [name for name in done[: done.index("large")] if name.startswith("b")]
        await asyncio.gather(*small, *more)
        assert not server.refused

    virtual.run(main())


def test_concurrency_is_never_exceeded() -> None:
    """No more attempts are under way at a time than are allowed, and as many as that."""

    async def main() -> None:
        server = LimitedServer("fixed", requests=None, tokens=None, told="nothing")
        client = Client(server, limits=Limits(concurrency=7, max_wait=7200.0), audit="off")
        await ask_all(client)
        assert server.most_at_once == 7

    virtual.run(main())
