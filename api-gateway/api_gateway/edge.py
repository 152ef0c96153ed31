"""The outermost layer: request id, log line, metrics, security headers. Pure ASGI, one wrapped `send` for all of it."""

import time
from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_gateway.headers import (
    API_CSP,
    DOCS_CSP,
    HSTS,
    SECURITY_HEADERS,
    RawHeaders,
    client_address,
    client_scheme,
)
from api_gateway.routing import METHODS
from api_gateway.windows import Verdict
from common.app import request_id_of
from common.errors import problem_response
from common.logging import bound, get_logger
from common.metrics import http_requests, http_seconds

log = get_logger(__name__)

NAME = "api-gateway"
_QUIET_ROUTES = frozenset({"/health", "/metrics"})
_DOCS_ROUTES = frozenset({"/docs", "/redoc"})


@dataclass(slots=True)
class Exchange:
    """What the layers of the gateway tell each other about one request."""

    request_id: str
    client: str
    scheme: str
    route: str = "unrouted"
    user_id: str | None = None
    verdict: Verdict | None = None


class Edge:
    """Pure-ASGI middleware around the whole gateway; puts the Exchange into the scope as `gateway.exchange`."""

    def __init__(self, app: ASGIApp, *, trusted_proxy_hops: int) -> None:
        self._app = app
        self._hops = trusted_proxy_hops

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = scope["headers"]
        peer = scope["client"][0] if scope.get("client") else None
        exchange = Exchange(
            request_id=request_id_of(Headers(raw=headers)),
            client=client_address(peer, headers, self._hops),
            scheme=client_scheme(scope["scheme"], headers, self._hops),
        )
        scope["gateway.exchange"] = exchange
        status = 500

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _answer_headers(list(message.get("headers", [])), exchange, started)
            await send(message)

        with bound(correlation_id=exchange.request_id, service=NAME):
            try:
                await self._app(scope, receive, finish)
            finally:
                _record(scope["method"], exchange, status, time.perf_counter() - started)


def _answer_headers(headers: RawHeaders, exchange: Exchange, started: float) -> RawHeaders:
    names = {name for name, _ in headers}
    headers += (
        (b"x-request-id", exchange.request_id.encode()),
        (b"x-process-time", b"%.6f" % (time.perf_counter() - started)),
        *((name, value) for name, value in SECURITY_HEADERS if name not in names),
    )
    if b"content-security-policy" not in names:
        headers.append((b"content-security-policy", DOCS_CSP if exchange.route in _DOCS_ROUTES else API_CSP))
    if b"cache-control" not in names:
        headers.append((b"cache-control", b"no-store"))
    if exchange.scheme == "https":
        headers.append((b"strict-transport-security", HSTS))
    if (verdict := exchange.verdict) is not None:
        headers += (
            (b"x-ratelimit-limit", b"%d" % verdict.limit),
            (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
            (b"x-ratelimit-reset", b"%d" % verdict.reset_s),
        )
    return headers


def _record(method: str, exchange: Exchange, status: int, seconds: float) -> None:
    # A made-up method must not open a new series.
    verb = method if method in METHODS else "OTHER"
    count, timing = _series(verb, exchange.route, status)
    count.inc()
    timing.observe(seconds)
    if exchange.route in _QUIET_ROUTES:
        return
    log.info(
        "http.request",
        method=verb,
        route=exchange.route,
        status=status,
        ms=round(seconds * 1000, 1),
        user_id=exchange.user_id,
    )


@cache  # routes and verbs come from fixed tables, so this stays small
def _series(verb: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return http_requests.labels(NAME, verb, route, str(status)), http_seconds.labels(NAME, verb, route)


async def internal_error(_: Request, __: Exception) -> Response:
    """The generic answer to an error nobody foresaw; the server logs the traceback."""
    return problem_response(
        500, "internal_error", "Something went wrong on our side; the request id finds it in the logs."
    )
