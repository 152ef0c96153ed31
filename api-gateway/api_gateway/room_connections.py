"""Kept HTTP/1.1 connections to one room, on the parser the server itself uses.

A general client spends several times what everything else in the gateway costs on an order (stack of sessions, URLs,
cookies, redirects, payload writers); the gateway has the request's bytes already and passes the answer's on.
"""

import asyncio
from typing import NamedTuple, cast

import httptools

from api_gateway.headers import RawHeaders

KEEPALIVE_S = 3.0
"""Much shorter than the time after which a room closes an idle connection (common.process): a POST never meets a closing one."""
WHOLE_BODY_MAX = 64 * 1024
"""An answer up to this size is read and sent in one piece, a larger one or one of unknown length as it arrives."""
BUFFERED_MAX = 256 * 1024
"""Bytes of an answer that wait for a slow reader before the room has to wait too."""
_NO_BODY = frozenset({204, 304})


class NotConnected(Exception):
    """No connection in time: nothing was sent."""


class AnswerBroken(Exception):
    """The connection ended before its answer was complete, or what came is no answer. `untouched`: not a byte came."""

    def __init__(self, text: str, *, untouched: bool) -> None:
        super().__init__(text)
        self.untouched = untouched


class Head(NamedTuple):
    """Status and headers (names in lower case) of an answer; `length` of its body when it says so."""

    status: int
    headers: RawHeaders
    length: int | None


class Connection(asyncio.Protocol):
    """One connection with one request under way at a time."""

    def __init__(self) -> None:
        self.kept = False
        """Whether it has answered a request before."""
        self._parser = httptools.HttpResponseParser(self)
        self._closed = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._begin(head_only=False)
        self._complete = True  # until something is asked there is nothing to wait for

    def _begin(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._headers: RawHeaders = []
        self._head: Head | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._touched = self._complete = self._keep = False
        self._broken: str | None = None

    async def ask(self, request: bytes, *, head_only: bool = False) -> Head:
        """Send a request; answers when a small answer is there, or the head of another. Raises AnswerBroken."""
        self._begin(head_only=head_only)
        if not self._closed:
            self._transport.write(request)
        while self._head is None or not (self._complete or self._arrives_in_parts()):
            await self._more()
        return self._head

    async def part(self) -> bytes:
        """What has come of the body since the last part; nothing at its end. Raises AnswerBroken."""
        while not self._parts and not self._complete:
            await self._more()
        part, self._parts, self._size = b"".join(self._parts), [], 0
        self._resume()
        return part

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._complete

    def may_be_kept(self) -> bool:
        """Whether another request may be sent: the answer was complete, and both sides leave the connection open."""
        return self._complete and self._keep and not self._closed

    def rest(self) -> None:
        """No request is under way any more."""
        self.kept = True
        self._resume()

    def close(self) -> None:
        """Hang up; whatever is under way ends broken, and nobody is given this connection again."""
        self._keep = False
        if not self._closed:
            self._transport.abort()

    def _resume(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            self._transport.resume_reading()

    def _arrives_in_parts(self) -> bool:
        return self._head is not None and (self._head.length is None or self._head.length > WHOLE_BODY_MAX)

    async def _more(self) -> None:
        if self._broken is None and self._closed:
            self._broken = "The connection is closed."
        if self._broken is not None:
            raise AnswerBroken(self._broken, untouched=not self._touched)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the connection ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._complete:
            # Nobody has asked for it: it may not be taken for the answer of the next request.
            self.close()
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken = f"The answer is no HTTP: {error}"
            self.close()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if exc is None and self._broken is None and self._ends_with_connection():
            self._complete = True
        elif not self._complete and self._broken is None:
            self._broken = "The connection ended before the answer was complete."
        self._wake()

    def _ends_with_connection(self) -> bool:
        head = self._head
        return (
            head is not None and head.length is None and all(name != b"transfer-encoding" for name, _ in head.headers)
        )

    # --- the parser -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False
        elif self._head is None:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # trailers come later, and are not passed on
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete or status < 200:  # an interim answer says nothing about the request
            return
        length = next((int(value) for name, value in self._headers if name == b"content-length"), None)
        self._head = Head(status, self._headers, 0 if status in _NO_BODY else length)
        if self._head_only:
            # The parser would wait for the body that the length speaks of.
            self._complete, self._keep = True, False
        if self._complete or self._arrives_in_parts():
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._parts.append(body)
        self._size += len(body)
        if self._arrives_in_parts():
            self._wake()
            if self._size > BUFFERED_MAX and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._head is None or self._complete:
            return
        self._complete, self._keep = True, self._parser.should_keep_alive()
        self._wake()


class RoomConnections:
    """The connections to one address, at most `limit` in use; made when they are needed, kept while they are fresh."""

    def __init__(self, host: str, port: int, *, limit: int, connect_timeout_s: float) -> None:
        self._host, self._port = host, port
        self._connect_timeout_s = connect_timeout_s
        self._free = asyncio.Semaphore(limit)
        self._resting: list[tuple[float, Connection]] = []

    async def take(self, *, new: bool = False) -> Connection:
        """A connection for one request, `new` when the kept ones are no longer trusted; give it back with `release`.

        Raises NotConnected when none is free or made within the connect timeout.
        """
        try:
            if self._free.locked():
                async with asyncio.timeout(self._connect_timeout_s):
                    await self._free.acquire()
            else:
                await self._free.acquire()
        except TimeoutError:
            raise NotConnected("all connections are in use") from None
        try:
            if new:
                self.close()
            return self._kept() or await self._made()
        except BaseException:
            self._free.release()
            raise

    def release(self, connection: Connection) -> None:
        """Keep it for the next request, or close it when its answer was not read to the end."""
        if connection.may_be_kept():
            connection.rest()
            self._resting.append((asyncio.get_running_loop().time(), connection))
        else:
            connection.close()
        self._free.release()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._resting:
            self._resting.pop()[1].close()

    def _kept(self) -> Connection | None:
        fresh = asyncio.get_running_loop().time() - KEEPALIVE_S
        while self._resting:
            since, connection = self._resting.pop()
            if since > fresh and connection.may_be_kept():
                return connection
            connection.close()
        return None

    async def _made(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise NotConnected(type(error).__name__) from None
        return connection
