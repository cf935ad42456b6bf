"""Short ways to ask a transport something."""

from __future__ import annotations

from collections.abc import Mapping

from veyra.transport.base import Head, Outgoing, Transport
from veyra.types import Secret


def post(
    url: str,
    body: bytes = b"{}",
    *,
    headers: Mapping[str, str] | None = None,
    secret_headers: Mapping[str, Secret] | None = None,
    connect_timeout: float | None = 5.0,
) -> Outgoing:
    return Outgoing(
        method="POST",
        url=url,
        headers={"content-type": "application/json"} if headers is None else headers,
        secret_headers=secret_headers or {},
        body=body,
        connect_timeout=connect_timeout,
    )


async def ask(transport: Transport, request: Outgoing) -> tuple[Head, bytes]:
    """Send `request` and read the answer to its end."""
    async with transport.open(request) as incoming:
        return incoming.head, b"".join([data async for data in incoming.chunks()])


async def ask_in_pieces(transport: Transport, request: Outgoing) -> tuple[bytes, Exception | None]:
    """Send `request` and return what arrived of the body, and what went wrong then."""
    arrived = b""
    try:
        async with transport.open(request) as incoming:
            async for data in incoming.chunks():
                arrived += data
    except Exception as error:  # noqa: BLE001  (to be looked at by the test)
        return arrived, error
    return arrived, None
