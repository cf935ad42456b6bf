"""What is above a single call: who is asked (a client, or one backend behind its gate), and how turns follow each other."""

from __future__ import annotations

from typing import TypeAlias

from veyra.client.client import Client
from veyra.errors import InvalidRequestError
from veyra.models.gate import Gate
from veyra.types import Message, ModelResponse

Asker: TypeAlias = Client | Gate


def check_asker(value: object, what: str) -> None:
    """See that `what` was given somebody who can be asked, and whose calls are on record.

    Raises:
        InvalidRequestError: it was given something else.
    """
    if isinstance(value, Asker):
        return
    hint = "a Client, or what get_backend() returns"
    if type(value).__name__.startswith("Blocking"):  # no import: that room is above this one
        hint += "; a BlockingClient has run_tools() itself, and BlockingConversation"
    msg = f"{what} needs {hint}, not {type(value).__name__}"
    raise InvalidRequestError(msg)


def continued(messages: tuple[Message, ...], response: ModelResponse) -> tuple[Message, ...]:
    """Return a conversation with an answer. One without anything in it adds no turn: providers do not take that back."""
    answer = response.message
    return (*messages, answer) if answer.content or answer.native else messages
