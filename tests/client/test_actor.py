"""On whose behalf a call is made: what the log says of it, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.asked import Scripted
from veyra import AuditLog, Breaker, Cache, Client, MockBackend, Retry
from veyra.client.actor import Pseudonyms
from veyra.errors import CircuitOpenError, InvalidRequestError, ServerError
from veyra.types import Secret

KEY = b"0123456789abcdef0123456789abcdef"


def actors(log: AuditLog) -> list[object]:
    """Return whom each entry names that says who asked."""
    return [
        e.leaf["attributes"].get("veyra.actor")
        for e in log.entries()
        if e.leaf["kind"] in {"call.intent", "cache.hit", "call.blocked"}
    ]


async def test_every_entry_of_a_call_names_the_pseudonym_and_never_the_name() -> None:
    """Intents of all attempts, hits and refusals carry it; the call's own actor goes before the client's."""
    log, name = AuditLog.memory(), Pseudonyms(KEY).of
    backend = Scripted([ServerError("down"), None, ServerError("down"), ServerError("down")])
    client = Client(
        backend,
        retry=Retry(attempts=2),
        breaker=Breaker(failures=2),
        cache=Cache.memory(),
        audit=log,
        actor="nightly",
        actor_key=KEY,
        chance=lambda: 0.0,
    )
    await client.generate("Hello", actor="anna@example.org")
    await client.generate("Hello")
    with pytest.raises(ServerError):
        await client.generate("Goodbye")
    with pytest.raises(CircuitOpenError):
        await client.generate("Goodbye", actor="anna@example.org")
    anna, nightly = name("anna@example.org"), name("nightly")
    assert actors(log) == [anna, anna, nightly, nightly, nightly, anna]
    assert not any("anna@" in str(entry.leaf) for entry in log.entries())


async def test_calls_for_vectors_name_it_too() -> None:
    """`embed` takes an actor as `generate` does."""
    log = AuditLog.memory()
    client = Client(MockBackend(), audit=log, actor_key=KEY)
    await client.embed("Hello", actor="anna")
    await client.embed("Hello")
    assert actors(log) == [Pseudonyms(KEY).of("anna"), None]


def test_a_pseudonym_is_what_it_is_said_to_be() -> None:
    """Computed elsewhere, by the rule at the head of the module, it is the same."""
    assert Pseudonyms(KEY).of("anna") == "hmac:6ee35ca462b9829feae909be0fb34ecf"
    assert (
        Pseudonyms(Secret(KEY.decode())).of("anna") == Pseudonyms(KEY.decode()).of("anna") == Pseudonyms(KEY).of("anna")
    )
    assert KEY.decode() not in repr(Pseudonyms(KEY))


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_pseudonyms_differ_by_name_and_key(name: str, one: bytes, two: bytes) -> None:
    """Another key or another name gives another pseudonym."""
    assert (Pseudonyms(one).of(name) == Pseudonyms(two).of(name)) == (one == two)
    assert Pseudonyms(one).of(name) != Pseudonyms(one).of(name + "x")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Client("mock", actor="anna"), "needs a key"),
        (lambda: Client("mock", actor_key=b"short"), "16 bytes or more, not 5"),
        (lambda: Client("mock", actor_key=3), "bytes, a str or a Secret, not int"),  # type: ignore[arg-type]
        (lambda: Client("mock", actor="", actor_key=KEY), "an empty one"),
        (lambda: Client("mock", actor=3, actor_key=KEY), "not int"),  # type: ignore[arg-type]
        (lambda: Client("mock", actor="\ud800", actor_key=KEY), "surrogate at character 0"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, says: str) -> None:
    """An error names what was wrong, and no key."""
    with pytest.raises(InvalidRequestError, match=says) as caught:
        make()
    assert "short" not in str(caught.value)


async def test_an_actor_of_a_call_needs_a_key() -> None:
    """Nothing is sent or recorded where the client has none."""
    log = AuditLog.memory()
    with pytest.raises(InvalidRequestError, match="actor_key"):
        await Client("mock", audit=log).generate("Hello", actor="anna")
    with pytest.raises(InvalidRequestError, match="actor_key"):
        await Client("mock", audit=log).embed("Hello", actor="anna")
    assert list(log.entries())[1:] == []
