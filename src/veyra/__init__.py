"""Veyra: one interface to every model, and every call on the record.

Names are loaded when they are first used, so that `import veyra` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veyra.audit import AuditLog
    from veyra.client.blocking import BlockingClient, BlockingConversation
    from veyra.client.cache import Cache
    from veyra.client.client import Client, Target
    from veyra.client.conversation import Conversation
    from veyra.client.tools import run_tools
    from veyra.models.base import BaseModelBackend
    from veyra.models.mock import MockBackend
    from veyra.models.mock_reply import MockReply
    from veyra.models.registry import get_backend, list_backends, register_backend
    from veyra.policy.breaker import Breaker
    from veyra.policy.budget import Budget
    from veyra.policy.fallback import Fallback
    from veyra.policy.limits import Limits
    from veyra.policy.retry import Retry
    from veyra.types import Message, ModelResponse, Timeouts, Tool

__version__ = "0.1.0"

__all__ = [
    "get_backend",
    "register_backend",
    "list_backends",
    "BaseModelBackend",
    "ModelResponse",
    "MockBackend",
    "MockReply",
    "Message",
    "Tool",
    "Timeouts",
    "AuditLog",
    "Client",
    "BlockingClient",
    "Conversation",
    "BlockingConversation",
    "run_tools",
    "Target",
    "Retry",
    "Fallback",
    "Breaker",
    "Limits",
    "Budget",
    "Cache",
]

_HOMES = {
    "AuditLog": "veyra.audit",
    "BaseModelBackend": "veyra.models.base",
    "BlockingClient": "veyra.client.blocking",
    "BlockingConversation": "veyra.client.blocking",
    "Breaker": "veyra.policy.breaker",
    "Budget": "veyra.policy.budget",
    "Cache": "veyra.client.cache",
    "Client": "veyra.client.client",
    "Conversation": "veyra.client.conversation",
    "Fallback": "veyra.policy.fallback",
    "Limits": "veyra.policy.limits",
    "Message": "veyra.types",
    "MockBackend": "veyra.models.mock",
    "MockReply": "veyra.models.mock_reply",
    "ModelResponse": "veyra.types",
    "Retry": "veyra.policy.retry",
    "Target": "veyra.client.client",
    "Timeouts": "veyra.types",
    "Tool": "veyra.types",
    "get_backend": "veyra.models.registry",
    "list_backends": "veyra.models.registry",
    "register_backend": "veyra.models.registry",
    "run_tools": "veyra.client.tools",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
