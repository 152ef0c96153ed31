"""portfolio-service's API as its clients meet it: the route functions in the transaction a request has."""

from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

import orjson
from fastapi import Response
from pydantic import BaseModel

from common import idempotency
from common.auth import CurrentUser
from common.clock import Clock
from common.db import Database
from common.market_data import MarketData
from portfolio_service import routes_orders
from portfolio_service.config import Settings
from portfolio_service.dependencies import Asking
from portfolio_service.schemas import BatchIn, OrderChange, OrderIn
from portfolio_service.shared_commit import Ask, Produce, SharedCommit
from portfolio_service.submissions import Submission
from tests.faults.schedule import Killed, Scheduler

T = TypeVar("T")


def caller(user_id: UUID) -> CurrentUser:
    """A signed-in user with approved KYC."""
    return CurrentUser(user_id, frozenset({"user"}), UUID(int=0), None, mfa=False, kyc="approved")


class VirtualLock:
    """A lock among actors: who finds it taken lets the others run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            self._scheduler.sleep(0.001)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class VirtualCommit(SharedCommit):
    """The shared commit without its thread: whoever comes first serves those who wait, in virtual time."""

    def __init__(self, *collaborators: Any, scheduler: Scheduler) -> None:
        super().__init__(*collaborators)
        self._turn = VirtualLock(scheduler)

    def put(self, ask: Ask) -> "Future[Response]":
        self._waiting.append(ask)
        with self._turn:
            while not ask.answer.done():
                self._serve_or_die(self.take())
        return ask.answer

    def _serve_or_die(self, asks: list[Ask]) -> None:
        try:
            self.serve(asks)
        except Killed as killed:
            for ask in asks:
                if not ask.answer.done():
                    ask.answer.set_exception(killed)
            raise

    async def answer(self, submission: Submission, route: str, asked: BaseModel, produce: Produce) -> Response:
        return self.put(Ask(submission, idempotency.request_hash(route, asked), produce)).result()


def at_once(answer: "Coroutine[Any, Any, T]") -> T:
    """What a coroutine that waits for nothing comes to."""
    try:
        answer.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waits")


@dataclass
class PortfolioApi:
    """One API process."""

    db: Database
    settings: Settings
    market: MarketData
    clock: Clock
    scheduler: Scheduler

    def __post_init__(self) -> None:
        self._commit = VirtualCommit(self.db, self.market, self.clock, self.settings, scheduler=self.scheduler)

    def _asking(self, user_id: UUID, key: str) -> Asking:
        return Asking(caller(user_id), key, self._commit)

    def place(self, user_id: UUID, key: str, body: dict[str, Any]) -> list[UUID]:
        """POST /orders; answers the ids accepted. Raises AppError for a refusal."""
        answer = at_once(routes_orders.place_order(OrderIn.model_validate(body), self._asking(user_id, key)))
        return [UUID(orjson.loads(answer.body)["order_id"])]

    def place_batch(self, user_id: UUID, key: str, bodies: list[dict[str, Any]]) -> list[UUID]:
        """POST /orders/batch, each order judged alone; answers the ids accepted."""
        asked = BatchIn.model_validate({"orders": bodies, "atomic": False})
        answer = at_once(routes_orders.place_batch(asked, self._asking(user_id, key)))
        results = orjson.loads(answer.body)["results"]
        return [UUID(row["order"]["order_id"]) for row in results if row["status"] == "accepted"]

    def cancel(self, user_id: UUID, order_id: UUID) -> None:
        """DELETE /orders/{order_id}."""
        with self.db.transaction() as session:
            routes_orders.cancel_order(order_id, caller(user_id), session, self.clock)

    def replace(self, user_id: UUID, order_id: UUID, change: dict[str, Any]) -> None:
        """PUT /orders/{order_id}."""
        routes_orders.replace_order(
            order_id,
            OrderChange.model_validate(change),
            caller(user_id),
            self.db,
            self.settings,
            self.market,
            self.clock,
        )
