"""Postbacks: one HTTP POST per order update, never repeated (Kite docs, postbacks; fact sheet section 7)."""

import asyncio
from typing import Any

import httpx
import orjson
import structlog

from kite_simulator.engine.sessions import checksum

log = structlog.get_logger()
TIMEOUT_S = 3.0
QUEUE_MAX = 10_000
SENDERS = 4


class Postbacks:
    """Queue and senders. With several senders the order of arrival is not guaranteed, as in reality."""

    def __init__(self, url: str | None, api_secret: str) -> None:
        self.url = url
        self._api_secret = api_secret
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE_MAX)

    def offer(self, update: dict[str, Any]) -> None:
        """Queue one update; dropped with a log line when the queue is full."""
        if self.url is None:
            return
        signed = checksum(update["order_id"], update["order_timestamp"], self._api_secret)
        try:
            self._queue.put_nowait({**update, "checksum": signed})
        except asyncio.QueueFull:
            log.warning("postback.dropped", order_id=update["order_id"])

    async def run(self) -> None:
        """Send until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client, asyncio.TaskGroup() as senders:
            for _ in range(SENDERS):
                senders.create_task(self._send(client))

    async def _send(self, client: httpx.AsyncClient) -> None:
        while True:
            body = await self._queue.get()
            if self.url is None:
                continue
            try:
                answer = await client.post(
                    self.url, content=orjson.dumps(body), headers={"content-type": "application/json"}
                )
                log.debug("postback.sent", order_id=body["order_id"], http_status=answer.status_code)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                log.warning("postback.failed", order_id=body["order_id"], error=type(error).__name__)
