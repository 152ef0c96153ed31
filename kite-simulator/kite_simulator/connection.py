"""What a fault does to the connection a request came on: leave it hanging, reset it, or wait on it.

ASGI can not lose an answer, so the server puts a `Connection` into the scope: uvicorn one over the real socket
(server.py), the in-process adapter one that tells its caller what a client would have seen (inprocess.py).
"""

import asyncio
import socket
import struct
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EXTENSION = "kite_simulator.connection"
WAY_BACK = "connection"
"""ASGI extensions are objects; the connection is the one member of ours."""
HANG_MAX_S = 60.0
"""A lost answer keeps its connection this long at most; clients give up earlier, with a read timeout."""
PAUSE_STEP_S = 0.05
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: closing sends RST."""


class Connection(Protocol):
    """The way back to the client."""

    async def hang(self, receive: Receive) -> None:
        """Send nothing until the client has gone."""
        ...

    async def reset(self, receive: Receive) -> None:
        """Break the connection at once."""
        ...

    async def pause(self, seconds: float) -> bool:
        """Let at most that much time pass; False when the client has gone meanwhile."""
        ...


class SocketConnection:
    """A TCP connection of the running server."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    async def hang(self, receive: Receive) -> None:
        try:
            async with asyncio.timeout(HANG_MAX_S):
                await _disconnected(receive)
        except TimeoutError:
            await self.reset(receive)

    async def reset(self, receive: Receive) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()
        await _disconnected(receive)

    async def pause(self, seconds: float) -> bool:
        await asyncio.sleep(min(max(seconds, 0.0), PAUSE_STEP_S))
        return not self._transport.is_closing()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def connection_of(scope: Scope) -> Connection:
    """The connection of a request; RuntimeError under a server that does not offer it."""
    connection: Connection | None = (scope.get("extensions") or {}).get(EXTENSION, {}).get(WAY_BACK)
    if connection is None:
        raise RuntimeError("this server can not lose an answer; use server_config() or the in-process adapter")
    return connection


class NoAnswer(Response):
    """Nothing is sent; the client waits until it gives up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await connection_of(scope).hang(receive)


class BrokenConnection(Response):
    """Nothing is sent; the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await connection_of(scope).reset(receive)
