"""A room behind HTTP/1.1: keep-alive connections, bounded waits, answers passed on as they arrive."""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from api_gateway.counters import upstream_errors
from api_gateway.upstream import UpstreamDisconnected, UpstreamTimeout, UpstreamUnavailable
from common.logging import get_logger

log = get_logger(__name__)

KEEPALIVE_S = 3.0
"""Much shorter than the time after which a room closes an idle connection (common.process): a POST never meets a closing one."""
WHOLE_BODY_MAX = 64 * 1024
"""An answer up to this size is read and sent in one piece, a larger one or one of unknown length as it arrives."""
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class SentOnce(aiohttp.ClientError):
    """The connection broke after a request that must not be sent again."""


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp repeats PUT and DELETE too on a stale connection; here only requests without effect are repeated."""
    try:
        return await handler(request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if request.method in REPEATABLE or isinstance(error, aiohttp.ClientConnectorError):
            raise
        raise SentOnce from error


class HttpPool:
    """The keep-alive connections of all rooms; an async context manager, opened inside the server's event loop."""

    def __init__(self, *, connect_timeout_s: float, timeout_s: float, connections_per_room: int) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )
        self._connections_per_room = connections_per_room
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0, limit_per_host=self._connections_per_room, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=30
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED,
            auto_decompress=False,
            trust_env=False,
            middlewares=(_send_once,),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session; UpstreamUnavailable before the pool was opened."""
        if self._session is None:
            raise UpstreamUnavailable("The gateway is not connected to its rooms yet.")
        return self._session


class HttpUpstream:
    """One room's address as an ASGI app. Raises UpstreamUnavailable, UpstreamTimeout or UpstreamDisconnected as long
    as nothing was answered; afterwards a broken answer ends the client's connection unfinished."""

    def __init__(self, room: str, base_url: str, pool: HttpPool) -> None:
        self._room = room
        self._base = base_url.rstrip("/")
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        started = False

        async def watched(outgoing: Message) -> None:
            nonlocal started
            started = True
            await send(outgoing)

        try:
            async with self._request(scope, message.get("body", b"")) as response:
                await self._answer(scope, response, receive, watched)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            self._count("unavailable")
            raise UpstreamUnavailable(f"{self._room} does not answer at the moment; try again shortly.") from None
        except (TimeoutError, aiohttp.ClientError) as error:
            if started:
                upstream_errors.labels("api-gateway", self._room, "broken_answer").inc()
                log.warning("upstream.broken_answer", room=self._room, error=type(error).__name__)
                return
            raise self._unknown_outcome(error) from None

    def _unknown_outcome(self, error: Exception) -> UpstreamTimeout | UpstreamDisconnected:
        advice = "whether it acted is not known yet. Look before you repeat, or repeat with the same Idempotency-Key."
        if isinstance(error, TimeoutError):
            self._count("timeout")
            return UpstreamTimeout(f"{self._room} did not answer in time; {advice}")
        self._count("disconnected")
        return UpstreamDisconnected(f"{self._room} closed the connection; {advice}")

    def _request(self, scope: Scope, body: bytes) -> "aiohttp.client._RequestContextManager":
        query = scope["query_string"]
        target = self._base + scope["raw_path"].decode("ascii")
        if query:
            target = f"{target}?{query.decode('latin-1')}"
        return self._pool.session.request(
            scope["method"],
            URL(target, encoded=True),
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
            data=body or None,
            allow_redirects=False,
        )

    async def _answer(self, scope: Scope, response: aiohttp.ClientResponse, receive: Receive, send: Send) -> None:
        headers = [(name.lower(), value) for name, value in response.raw_headers]
        start: Message = {"type": "http.response.start", "status": response.status, "headers": headers}
        length = response.content_length
        if scope["method"] == "HEAD" or (length is not None and length <= WHOLE_BODY_MAX):
            body = await response.read()
            await send(start)
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        await send(start)
        gone = asyncio.create_task(_until_disconnect(receive))
        # A reader who leaves while the room is silent must still end the answer in the room.
        gone.add_done_callback(lambda _: response.close())
        try:
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except aiohttp.ClientError:
            if not gone.done():
                raise
        finally:
            gone.cancel()

    def _count(self, kind: str) -> None:
        upstream_errors.labels("api-gateway", self._room, kind).inc()
        log.warning("upstream.failed", room=self._room, kind=kind)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
