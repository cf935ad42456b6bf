"""Triage of support tickets: the model looks orders up with a tool and answers with a value, which decides what happens.

    python examples/triage/triage.py "Order 1042 never came. Where is it?"
    python examples/triage/triage.py --ask openai:MODEL "Order 1042 never came. Where is it?"

Without `--ask` the mock answers, which asks no model and makes its answer up.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

from veyra import Client, run_tools
from veyra.errors import OutputMismatchError, ProviderError, ToolRunError

INSTRUCTIONS = """You sort support tickets of a shop. Look up every order that a ticket names. Say to which department the
ticket goes, how urgent it is, and in one sentence what the customer wants. Promise nothing."""

ORDERS = {1042: "sent on Monday, not delivered yet", 1043: "delivered and paid", 1044: "cancelled, money sent back"}


@dataclass(frozen=True)
class Triage:
    """What is decided about a ticket."""

    department: Literal["billing", "delivery", "returns", "people"]
    urgency: Annotated[Literal[1, 2, 3], "1 can wait for a week, 3 needs somebody today"]
    summary: Annotated[str, "one sentence"]


@dataclass(frozen=True)
class Placed:
    """A ticket and where it goes; `why` says why a person has to look at it, where one has to."""

    ticket: str
    triage: Triage
    why: str | None = None


def order_status(number: Annotated[int, "as it stands on the invoice"]) -> str:
    """Look up how far an order is."""
    return ORDERS.get(number, "there is no order of this number")


async def sort_ticket(client: Client, ticket: str) -> Placed:
    """Return where a ticket goes. What the model cannot decide goes to people: no ticket is lost."""
    try:
        run = await run_tools(client, ticket, [order_status], system=INSTRUCTIONS, output=Triage, max_steps=4)
    except (OutputMismatchError, ToolRunError) as error:
        return _to_people(ticket, f"the model gave no usable answer: {error}")
    except ProviderError as error:
        return _to_people(ticket, f"no model answered: {error}")
    if run.response.output is None:
        return _to_people(ticket, f"the model ended with {run.response.finish_reason}")
    return Placed(ticket, run.response.output)


def _to_people(ticket: str, why: str) -> Placed:
    return Placed(ticket, Triage("people", 2, ticket), why)


async def sort_tickets(client: Client, tickets: list[str]) -> list[Placed]:
    """Sort tickets, all at once, the most urgent first."""
    done = await asyncio.gather(*(sort_ticket(client, ticket) for ticket in tickets))
    return sorted(done, key=lambda one: -one.triage.urgency)


async def main() -> None:
    """Print where tickets go."""
    parser = argparse.ArgumentParser(description="Sort support tickets.")
    parser.add_argument("--ask", metavar="BACKEND:MODEL", default="mock")
    parser.add_argument("tickets", metavar="TICKET", nargs="+")
    given = parser.parse_args()
    async with Client(given.ask) as client:
        for one in await sort_tickets(client, given.tickets):
            print(f"{one.triage.department:8}  {one.triage.urgency}  {one.triage.summary}")


if __name__ == "__main__":
    asyncio.run(main())
