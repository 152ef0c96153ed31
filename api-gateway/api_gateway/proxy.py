"""A room behind HTTP/1.1: keep-alive connections, bounded waits, answers passed on as they arrive."""

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from starlette.types import Message, Receive, Scope, Send

from api_gateway.counters import upstream_errors
from api_gateway.headers import RawHeaders
from api_gateway.room_connections import AnswerBroken, Connection, Head, NotConnected, RoomConnections
from api_gateway.upstream import UpstreamDisconnected, UpstreamTimeout, UpstreamUnavailable
from common.config import InvalidSettings
from common.logging import get_logger

log = get_logger(__name__)

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Requests without effect: sent once more when a kept connection turns out to be closed."""


class HttpPool:
    """The connections of all rooms; an async context manager that closes them."""

    def __init__(self, *, connect_timeout_s: float, timeout_s: float, connections_per_room: int) -> None:
        self.timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._connections_per_room = connections_per_room
        self._rooms: list[RoomConnections] = []

    def to(self, base_url: str) -> RoomConnections:
        """The connections to a room's address; raises InvalidSettings for anything but http://host:port."""
        address = urlsplit(base_url)
        if address.scheme != "http" or not address.hostname or address.path.strip("/"):
            raise InvalidSettings(f"a room's address is http://host:port, not {base_url!r}")
        room = RoomConnections(
            address.hostname,
            address.port or 80,
            limit=self._connections_per_room,
            connect_timeout_s=self._connect_timeout_s,
        )
        self._rooms.append(room)
        return room

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for room in self._rooms:
            room.close()


class HttpUpstream:
    """One room's address as an ASGI app. Raises UpstreamUnavailable, UpstreamTimeout or UpstreamDisconnected as long
    as nothing was answered; afterwards a broken answer ends the client's connection unfinished."""

    def __init__(self, room: str, base_url: str, pool: HttpPool) -> None:
        self._room = room
        self._host = urlsplit(base_url).netloc.encode()
        self._connections = pool.to(base_url)
        self._timeout_s = pool.timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        request = self._request(scope, message.get("body", b""))
        started = False
        try:
            async with asyncio.timeout(self._timeout_s):
                connection, head = await self._asked(scope["method"], request)
                started = True
                try:
                    await _answer(connection, head, receive, send)
                finally:
                    self._connections.release(connection)
        except NotConnected:
            self._count("unavailable")
            raise UpstreamUnavailable(f"{self._room} does not answer at the moment; try again shortly.") from None
        except (TimeoutError, AnswerBroken) as error:
            if started:
                upstream_errors.labels("api-gateway", self._room, "broken_answer").inc()
                log.warning("upstream.broken_answer", room=self._room, error=type(error).__name__)
                return
            raise self._unknown_outcome(error) from None

    async def _asked(self, method: str, request: bytes) -> tuple[Connection, Head]:
        """A connection on which the request was answered, with the head of the answer; it has to be released."""
        for last in (False, True):
            connection = await self._connections.take(new=last)
            try:
                return connection, await connection.ask(request, head_only=method == "HEAD")
            except AnswerBroken as error:
                self._connections.release(connection)
                if last or method not in REPEATABLE or not (connection.kept and error.untouched):
                    raise
            except BaseException:
                self._connections.release(connection)
                raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _request(self, scope: Scope, body: bytes) -> bytes:
        headers: RawHeaders = scope["headers"]
        query = scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        lines = [scope["method"].encode("ascii") + b" " + target + b" HTTP/1.1"]
        if all(name != b"host" for name, _ in headers):
            lines.append(b"host: " + self._host)
        lines += [name + b": " + value for name, value in headers]
        head = b"\r\n".join(lines)
        if head.count(b"\r") != len(lines) - 1 or head.count(b"\n") != len(lines) - 1:
            raise ValueError("a line break in the head of a request")
        return head + b"\r\n\r\n" + body

    def _unknown_outcome(self, error: Exception) -> UpstreamTimeout | UpstreamDisconnected:
        advice = "whether it acted is not known yet. Look before you repeat, or repeat with the same Idempotency-Key."
        if isinstance(error, TimeoutError):
            self._count("timeout")
            return UpstreamTimeout(f"{self._room} did not answer in time; {advice}")
        self._count("disconnected")
        return UpstreamDisconnected(f"{self._room} closed the connection; {advice}")

    def _count(self, kind: str) -> None:
        upstream_errors.labels("api-gateway", self._room, kind).inc()
        log.warning("upstream.failed", room=self._room, kind=kind)


async def _answer(connection: Connection, head: Head, receive: Receive, send: Send) -> None:
    start: Message = {"type": "http.response.start", "status": head.status, "headers": head.headers}
    if connection.complete:
        body = await connection.part()
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return
    await send(start)
    gone = asyncio.create_task(_until_disconnect(receive))
    # A reader who leaves while the room is silent must still end the answer in the room.
    gone.add_done_callback(lambda _: connection.close())
    try:
        while part := await connection.part():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except AnswerBroken:
        if not gone.done():
            raise
    finally:
        gone.cancel()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
