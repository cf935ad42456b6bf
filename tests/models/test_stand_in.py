"""What stands in for backends and for the usual log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from veyra import AuditLog, MockBackend, get_backend
from veyra.errors import InvalidRequestError, UnknownBackendError
from veyra.models.base import BaseModelBackend
from veyra.models.stand_in import Factory, recording_in, standing_in


def _mock(name: str, factory: Factory, options: Mapping[str, object]) -> BaseModelBackend:
    return MockBackend(f"{name} with {dict(options)}")


async def test_every_name_leads_to_what_stands_in() -> None:
    """A backend is made by what stands in, from its name and its options, and by its own factory afterwards."""
    with standing_in(_mock):
        reply = await get_backend("openai", model="m", audit="off").generate("hi")
    assert reply.content == "openai with {'model': 'm'}"
    assert get_backend("openai", audit="off").name == "openai"


def test_names_and_options_are_checked_as_ever() -> None:
    """What stands in hides neither a name that nobody has nor an option that the backend does not take."""
    with standing_in(_mock):
        with pytest.raises(UnknownBackendError, match="did you mean 'openai'"):
            get_backend("opnai")
        with pytest.raises(InvalidRequestError, match="takes no option 'modle'"):
            get_backend("openai", modle="m")


async def test_the_factory_can_be_asked_with_other_options() -> None:
    """What stands in may make the backend that was asked for, and change only how."""

    def renamed(name: str, factory: Factory, options: Mapping[str, object]) -> BaseModelBackend:
        return factory(**{**options, "model": "other"})

    with standing_in(_mock), standing_in(renamed):
        assert (await get_backend("mock", audit="off").generate("hi")).model == "other"


async def test_the_log_that_stands_in_is_for_those_who_name_none(tmp_path: Path) -> None:
    """Calls are recorded in the log that stands in, the last one put there, unless their backend was given another."""
    outer, inner = AuditLog.memory(), AuditLog.memory()
    with recording_in(outer):
        with recording_in(inner):
            assert get_backend("mock").log is inner
            assert get_backend("mock", audit="off").log is None
            assert get_backend("mock", audit=tmp_path).log is not inner
        assert get_backend("mock").log is outer
    assert get_backend("mock").log not in {outer, inner}
