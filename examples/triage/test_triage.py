"""Tests of the triage: no key, no network, and the program as it runs in production."""

from __future__ import annotations

import asyncio
import re

import pytest
from triage import Placed, Triage, sort_tickets

from veyra import AuditLog, Client, MockBackend, MockReply, Retry
from veyra.types import ToolCall

LATE = "Order 1042 never came. Where is it?"
MONEY = "Where is my money for 1044?"
DELIVERY = Triage("delivery", 3, "The customer waits for order 1042.")
BILLING = Triage("billing", 1, "The customer waits for the money for order 1044.")


def triage(*tickets: str) -> list[Placed]:
    """Have some tickets placed; what fails is not tried again."""

    async def ask() -> list[Placed]:
        async with Client("openai:gpt-x", retry=Retry(attempts=1)) as client:
            return await sort_tickets(client, list(tickets))

    return asyncio.run(ask())


@pytest.mark.veyra(replies={LATE: [ToolCall("", "order_status", {"number": 1042}), MockReply(output=DELIVERY)]})
def test_an_order_is_looked_up_before_it_is_decided(veyra_mock: MockBackend, veyra_log: AuditLog) -> None:
    """The model is told what the shop knows, its answer is the decision, and all of it is on record."""
    assert triage(LATE) == [Placed(LATE, DELIVERY)]
    assert "not delivered yet" in str(veyra_mock.last.messages[-1])
    assert "Promise nothing" in str(veyra_mock.last.system)
    assert [row.backend for row in veyra_log.attempts()] == ["mock", "tool:order_status", "mock"]


@pytest.mark.veyra(
    replies={re.compile("1042"): MockReply(output=DELIVERY), re.compile("1044"): MockReply(output=BILLING)}
)
def test_the_most_urgent_comes_first(veyra_mock: MockBackend) -> None:
    """Tickets are sorted at once, and placed by their urgency."""
    assert [one.triage for one in triage(MONEY, LATE)] == [DELIVERY, BILLING]
    veyra_mock.assert_called(2)


@pytest.mark.veyra(replies=['{"department": "sales"}', MockReply(finish_reason="content_filter")])
def test_what_the_model_cannot_decide_goes_to_people(veyra_mock: MockBackend) -> None:
    """An answer of another form, and one that the provider withheld, lose no ticket."""
    assert [one.triage.department for one in triage(LATE, MONEY)] == ["people", "people"]
    veyra_mock.assert_finished()


@pytest.mark.veyra(faults="overloaded; cut@event=3; html-502")
def test_a_provider_that_fails_loses_no_ticket(veyra_server: object) -> None:
    """Whatever goes wrong on the wire, the ticket goes to people, and it says why."""
    for why in ("fault was asked for: overloaded", "no model answered", "no model answered"):
        assert why in str(triage(LATE)[0].why)
