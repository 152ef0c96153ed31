"""Reading a request body whole, within a limit of bytes and of time.

Rooms get a complete body or nothing: a slow or endless sender occupies the gateway's buffer of at most the limit, never
a room's worker, and a body without Content-Length is measured as well as one with it.
"""

import asyncio

from starlette.types import Message, Receive, Scope

from common.errors import AppError

BODY_TIMEOUT_S = 10.0
_CLOSE = {"Connection": "close"}


class BodyTooLarge(AppError):
    """The body is larger than the gateway passes on (413)."""

    status = 413


class BodyTimeout(AppError):
    """The body did not arrive within BODY_TIMEOUT_S (408)."""

    status = 408


class InvalidContentLength(AppError):
    """Content-Length is not a number (400)."""


class ClientGone(Exception):
    """The client closed the connection before the request was complete; nobody reads an answer."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body; raises BodyTooLarge, BodyTimeout, InvalidContentLength or ClientGone."""
    declared, chunked = _declared_length(scope)
    if declared is not None and declared > limit_bytes:
        raise _too_large(limit_bytes)
    if not declared and not chunked:
        return b""
    deadline = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
    body = bytearray()
    more = True
    while more:
        message = await _next(receive, deadline)
        body += message.get("body", b"")
        _check(body, limit_bytes)
        more = message.get("more_body", False)
    return bytes(body)


def _declared_length(scope: Scope) -> tuple[int | None, bool]:
    length, chunked = None, False
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise InvalidContentLength("Content-Length is not a number.")
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
    return length, chunked


async def _next(receive: Receive, deadline: float) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            message = await receive()
    except TimeoutError:
        raise BodyTimeout("The request body did not arrive in time.", headers=_CLOSE) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _check(body: bytes | bytearray, limit_bytes: int) -> None:
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    # Without the close the server would read the rest of a body that nobody wants.
    return BodyTooLarge(f"The body may have at most {limit_bytes} bytes.", headers=_CLOSE, limit_bytes=limit_bytes)
