from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from veyra.transport.http import HttpTransport


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """A transport that is closed at the end of the test, so that every socket is."""
    made = HttpTransport()
    yield made
    await made.aclose()
