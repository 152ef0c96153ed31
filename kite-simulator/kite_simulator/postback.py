"""Postbacks: one HTTP POST per order update, never repeated on failure (Kite docs, postbacks; fact sheet section 7)."""

import asyncio
import heapq
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
import structlog

from kite_simulator.engine import Engine, FaultKind
from kite_simulator.engine.sessions import checksum

log = structlog.get_logger()
TIMEOUT_S = 3.0
QUEUE_MAX = 10_000
SENDERS = 4
Body = dict[str, Any]


class PostbackMail:
    """Order updates on their way, without HTTP: signed, and spoilt as the dice say. Times are the engine's.

    A killed process loses what is here, as the real sender does: nothing is ever sent again.
    """

    def __init__(self, engine: Engine, api_secret: str) -> None:
        self._engine = engine
        self._api_secret = api_secret
        self._waiting: list[tuple[datetime, int, Body]] = []
        self._serial = 0

    def offer(self, update: Body) -> None:
        """Take one update of `engine.drain_updates()`."""
        dice = self._engine.faults
        where = {"order_id": update["order_id"], "tag": update["tag"]}
        rates = dice.rates
        body = {**update, "checksum": self._signature(update)}
        if dice.draws(FaultKind.POSTBACK_FORGED):
            self._forge(body)
        if dice.strikes(FaultKind.POSTBACK_DROPPED, **where):
            return
        delay_s, copies = 0.0, 1
        if dice.draws(FaultKind.POSTBACK_DUPLICATED):
            copies += dice.sizes(FaultKind.POSTBACK_DUPLICATED).randint(1, rates.postback_copies_max)
            dice.note(FaultKind.POSTBACK_DUPLICATED, copies=copies, **where)
        if dice.draws(FaultKind.POSTBACK_DELAYED):
            delay_s = dice.seconds(FaultKind.POSTBACK_DELAYED, rates.postback_delay_s)
            dice.note(FaultKind.POSTBACK_DELAYED, seconds=delay_s, **where)
        elif dice.draws(FaultKind.POSTBACK_REORDERED):
            delay_s = dice.seconds(FaultKind.POSTBACK_REORDERED, rates.postback_reorder_s)
            dice.note(FaultKind.POSTBACK_REORDERED, seconds=delay_s, **where)
        for _ in range(copies):
            self._post(body, delay_s)

    def due(self) -> list[Body]:
        """What arrives by now, in order of time."""
        now, arrived = self._engine.kernel.time, []
        while self._waiting and self._waiting[0][0] <= now:
            arrived.append(heapq.heappop(self._waiting)[2])
        return arrived

    def _post(self, body: Body, delay_s: float) -> None:
        if len(self._waiting) >= QUEUE_MAX:
            log.warning("postback.dropped", order_id=body["order_id"])
            return
        self._serial += 1
        due = self._engine.kernel.time + timedelta(seconds=delay_s)
        heapq.heappush(self._waiting, (due, self._serial, body))

    def _forge(self, body: Body) -> None:
        """A stranger's message beside the true one: numbers that never were, and a checksum that is wrong or stolen.

        The checksum covers only order id and timestamp, so a stolen one is right whatever else the body says.
        """
        dice = self._engine.faults
        stolen = dice.sizes(FaultKind.POSTBACK_FORGED).random() < 0.5
        dice.note(FaultKind.POSTBACK_FORGED, order_id=body["order_id"], tag=body["tag"], stolen_checksum=stolen)
        forged = {
            **body,
            "status": "COMPLETE",
            "filled_quantity": body["quantity"] * 2,
            "pending_quantity": 0,
            "average_price": body["average_price"] + 1,
            "checksum": body["checksum"] if stolen else checksum(body["order_id"], "forged"),
        }
        self._post(forged, 0.0)

    def _signature(self, update: Body) -> str:
        return checksum(update["order_id"], update["order_timestamp"], self._api_secret)


class Postbacks:
    """Senders of the mail. With several of them the order of arrival is not guaranteed, as in reality."""

    def __init__(self, url: str | None, mail: PostbackMail) -> None:
        self.url = url
        self._mail = mail
        self._queue: asyncio.Queue[Body] = asyncio.Queue(QUEUE_MAX)

    def offer(self, update: Body) -> None:
        """Take one update; nothing happens without an address."""
        if self.url is not None:
            self._mail.offer(update)

    def dispatch(self) -> None:
        """Hand what is due to the senders; dropped with a log line when they can not keep up."""
        for body in self._mail.due():
            try:
                self._queue.put_nowait(body)
            except asyncio.QueueFull:
                log.warning("postback.dropped", order_id=body["order_id"])

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
