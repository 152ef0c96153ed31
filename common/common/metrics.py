"""Prometheus metrics of all rooms, each defined once with a bounded set of labels.

Several rooms may share one process, so every series carries the room's name.
"""

import os
import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector
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
outbox_unsent = Gauge("saras_outbox_unsent", "Messages written and not yet confirmed by the bus.", ["service"])
outbox_oldest = Gauge(
    "saras_outbox_oldest_seconds",
    "Age of the oldest message that the bus has not confirmed; 0 without one.",
    ["service"],
)
message_lag = Histogram(
    "saras_message_lag_seconds",
    "From writing a message into its outbox to the commit of its effect.",
    ["service"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
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
deliveries = Counter(
    "saras_deliveries_total",
    "Calls that hand a message to its provider, by outcome.",
    ["service", "channel", "outcome"],
)
live_rows = Gauge("saras_live_rows", "Rows that still have to reach a final state.", ["service", "kind", "state"])


def render() -> tuple[bytes, str]:
    """The exposition text of this process and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST


def serve(host: str, port: int) -> None:
    """Answer with this process's metrics on a port, from a thread that ends with the process.

    Where PROMETHEUS_MULTIPROC_DIR is set (a directory of this process and its children alone, empty at the start), the
    children of a worker are counted too.
    """
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    start_http_server(port, host, registry)


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
