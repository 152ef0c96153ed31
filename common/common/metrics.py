"""Prometheus metrics of all rooms, each defined once with a bounded set of labels.

Several rooms may share one process, so every series carries the room's name.
"""

import time

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

http_requests = Counter(
    "saras_http_requests_total", "HTTP requests answered.", ["service", "method", "route", "status"]
)
http_seconds = Histogram(
    "saras_http_request_seconds",
    "Time to answer an HTTP request.",
    ["service", "method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
messages_published = Counter("saras_messages_published_total", "Outbox messages confirmed by the bus.", ["service"])
messages_consumed = Counter(
    "saras_messages_consumed_total", "Messages taken from the bus.", ["service", "type", "result"]
)
messages_caught_up = Counter(
    "saras_messages_caught_up_total", "Messages the bus had lost, taken from their producer.", ["service", "source"]
)
messages_owed = Gauge("saras_messages_owed", "Messages known to have no effect yet.", ["service", "source"])
orders_total = Counter("saras_orders_total", "User orders by what became of them.", ["service", "outcome"])
broker_calls = Counter(
    "saras_broker_calls_total", "Calls to a broker by kind and outcome.", ["service", "call", "outcome"]
)
broker_seconds = Histogram("saras_broker_call_seconds", "Time of a broker call.", ["service", "call"])
live_rows = Gauge("saras_live_rows", "Rows that still have to reach a final state.", ["service", "kind", "state"])


def render() -> tuple[bytes, str]:
    """The exposition text of this process and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST


class HttpMetrics:
    """Pure-ASGI middleware: counts and times requests by route template, never by raw path."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "unrouted")
            http_requests.labels(self._service, scope["method"], route, str(status)).inc()
            http_seconds.labels(self._service, scope["method"], route).observe(time.perf_counter() - started)
