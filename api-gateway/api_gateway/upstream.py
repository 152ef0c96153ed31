"""Rooms as ASGI apps: one call shape whether a room lives in this process or behind HTTP.

`create_app` gets `{room: ASGIApp}`. A room's own app may stand there (its lifespan is run by whoever composes the
process), or a `proxy.HttpUpstream`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope

from api_gateway.headers import RawHeaders
from common.errors import AppError, Unavailable

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Own questions to rooms (readiness, sessions, OpenAPI) never read more than this."""


class UpstreamUnavailable(Unavailable):
    """The room does not take connections; nothing was sent, the same request may succeed later (503)."""


class UpstreamTimeout(AppError):
    """The room did not answer in time; whether it acted is not known (504)."""

    status = 504


class UpstreamDisconnected(AppError):
    """The room closed the connection after the request was sent; whether it acted is not known (502)."""

    status = 502


@dataclass(frozen=True)
class Answer:
    """A room's whole answer to a question of the gateway's own."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The decoded body; raises ValueError when it is not JSON."""
        return orjson.loads(self.body)


def upstream_scope(scope: Scope, *, path: str, decoded_path: str, headers: RawHeaders, client: str) -> Scope:
    """A fresh scope for a room: nothing the gateway or its server noted about the request leaks into it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": scope["method"],
        "scheme": "http",
        "path": decoded_path,
        "raw_path": path.encode("ascii"),
        "root_path": "",
        "query_string": scope["query_string"],
        "headers": headers,
        "client": (client, 0),
        "server": None,
        "state": {},
    }


def body_then(body: bytes, receive: Receive) -> Receive:
    """A receive that hands out a body already read, then whatever the connection brings (its end)."""
    given = False

    async def receive_once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_once


async def get(app: ASGIApp, path: str, *, headers: RawHeaders, timeout_s: float) -> Answer:
    """GET a plain path of a room for the gateway itself; raises the Upstream* errors."""
    scope = {"method": "GET", "query_string": b""}
    status = 0
    chunks: list[bytes] = []

    async def collect(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))
            if sum(map(len, chunks)) > ANSWER_BYTES_MAX:
                raise UpstreamDisconnected("The room answers more than the gateway reads.")

    async def never() -> Message:
        return await asyncio.Future()

    try:
        async with asyncio.timeout(timeout_s):
            await app(
                upstream_scope(scope, path=path, decoded_path=path, headers=headers, client="127.0.0.1"),
                body_then(b"", never),
                collect,
            )
    except TimeoutError:
        raise UpstreamTimeout("The room did not answer in time.") from None
    return Answer(status, b"".join(chunks))
