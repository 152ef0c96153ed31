"""Users who trade: they send what chance says, repeat a request under its key until they get an answer, and remember it."""

import random
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from common.errors import AppError
from common.market_data import MarketData
from portfolio_service.changes import WAITING
from portfolio_service.models import Account, UserOrder
from portfolio_service.orders import LIVE_STATES
from portfolio_service.portfolios import default_portfolio_id
from tests.faults.api import PortfolioApi
from tests.faults.schedule import Killed, Scheduler

CLIENTS = 8
"""Clients that send side by side."""
RETRY_S = 1.0
FAR_BPS = 280
GIVE_UP_AGAIN_S = 20.0


@dataclass
class Request:
    """One intended effect: its key, how often it was sent, what came back."""

    key: str
    user_id: UUID
    orders: int
    sent: int = 0
    order_ids: list[UUID] | None = None
    refusal: str | None = None


@dataclass
class Mix:
    """What users do, as chances."""

    market: float = 0.6
    sell: float = 0.35
    far: float = 0.05
    ioc: float = 0.05
    cancel: float = 0.10
    replace: float = 0.01
    batch_max: int = 40


@dataclass
class Traders:
    """All users of a run."""

    scheduler: Scheduler
    api: PortfolioApi
    market: MarketData
    symbols: tuple[str, ...]
    users: list[UUID]
    orders: int
    horizon_s: float
    mix: Mix
    dice: random.Random
    requests: list[Request] = field(default_factory=list)
    placed: int = 0
    ending: bool = False

    def trade(self) -> None:
        """One client: submissions spread over the horizon until all orders are placed."""
        while self.placed < self.orders:
            size = min(
                self.orders - self.placed, 1 if self.dice.random() < 0.3 else self.dice.randint(2, self.mix.batch_max)
            )
            self.placed += size
            self._submit(size)
            if self.dice.random() < self.mix.cancel:
                self._cancel_one()
            if self.dice.random() < self.mix.replace:
                self._replace_one()
            pace = self.horizon_s * size / self.orders
            self.scheduler.sleep(self.dice.uniform(0, 2 * pace * CLIENTS))

    def cancel_what_rests(self) -> None:
        """Everybody gives up, also what a replacement that was still waiting becomes: no run waits for the end of the day."""
        while live := self._resting():
            for user_id, order_id in live:
                self._ask(lambda user_id=user_id, order_id=order_id: self.api.cancel(user_id, order_id))
            self.scheduler.sleep(GIVE_UP_AGAIN_S)

    def _resting(self) -> list[Any]:
        """Live orders of which nobody has asked for the end, and closed ones whose replacement is still to come."""
        resting = sa.and_(UserOrder.state.in_(LIVE_STATES), UserOrder.cancel_requested_at.is_(None))
        with self.api.db.session() as session:
            return list(
                session.execute(
                    sa.select(UserOrder.user_id, UserOrder.order_id)
                    .where(sa.or_(resting, UserOrder.replacement_state == WAITING))
                    .order_by(UserOrder.accepted_at, UserOrder.order_id)
                )
            )

    def _submit(self, size: int) -> None:
        user_id = self.dice.choice(self.users)
        bodies = [self._body(user_id) for _ in range(size)]
        request = Request(f"k{len(self.requests)}", user_id, size)
        self.requests.append(request)

        def send() -> list[UUID]:
            request.sent += 1
            if size == 1:
                return self.api.place(user_id, request.key, bodies[0])
            return self.api.place_batch(user_id, request.key, bodies)

        try:
            request.order_ids = self._until_answered(send)
        except AppError as refusal:
            request.refusal = refusal.code

    def _until_answered(self, call: Any) -> Any:
        while True:
            try:
                answer = call()
                # The answer is on its way while the server may die; the client asks again with the same key.
                if self.dice.random() < 0.05:
                    answer = call()
                return answer
            except (DBAPIError, Killed):
                if self.ending:
                    raise
                self.scheduler.sleep(RETRY_S)

    def _body(self, user_id: UUID) -> dict[str, Any]:
        dice, mix = self.dice, self.mix
        symbol, side = dice.choice(self.symbols), "BUY"
        quantity = dice.randint(1, 20)
        if dice.random() < mix.sell and (held := self._held(user_id)):
            symbol, free = dice.choice(held)
            side, quantity = "SELL", dice.randint(1, min(free, 20))
        body: dict[str, Any] = {"tradingsymbol": symbol, "side": side, "quantity": quantity, "confirm_duplicate": True}
        if dice.random() < mix.market:
            return body | {"order_type": "MARKET"}
        last = self.market.prices([("NSE", symbol)])["NSE", symbol].price_paise
        # Far from the market an order rests until it is cancelled or its time is over.
        far_bps = FAR_BPS if side == "SELL" else -FAR_BPS
        away_bps = far_bps if dice.random() < mix.far else dice.randint(-30, 60)
        price = last * (10_000 + away_bps) // 10_000
        price -= price % 5
        body |= {"order_type": "LIMIT", "price": f"{price // 100}.{price % 100:02d}"}
        chance = dice.random()
        if chance < mix.ioc:
            return body | {"validity": "IOC"}
        return body | {"validity": "TTL", "ttl_minutes": dice.randint(1, 3)} if chance < 0.6 else body

    def _held(self, user_id: UUID) -> list[tuple[str, int]]:
        held = self._holdings.get(user_id)
        if held is None or self.dice.random() < 0.2:
            with self.api.db.session() as session:
                rows = session.execute(
                    sa.select(Account.asset, Account.posted - Account.held)
                    .where(Account.owner == str(default_portfolio_id(user_id)), Account.kind == "shares")
                    .where(Account.posted - Account.held > 0)
                    .order_by(Account.asset)
                ).all()
            held = self._holdings[user_id] = [(row[0].partition(":")[2], int(row[1])) for row in rows]
        return held

    _holdings: dict[UUID, list[tuple[str, int]]] = field(default_factory=dict)

    def _live_order(self) -> tuple[UUID, UUID] | None:
        with self.api.db.session() as session:
            rows = session.execute(
                sa.select(UserOrder.user_id, UserOrder.order_id)
                .where(UserOrder.state.in_(LIVE_STATES))
                .order_by(UserOrder.accepted_at, UserOrder.order_id)
                .limit(50)
            ).all()
        return tuple(self.dice.choice(rows)) if rows else None

    def _cancel_one(self) -> None:
        if found := self._live_order():
            self._ask(lambda: self.api.cancel(*found))

    def _replace_one(self) -> None:
        if found := self._live_order():
            self._ask(lambda: self.api.replace(*found, {"quantity": self.dice.randint(1, 20)}))

    def _ask(self, call: Any) -> None:
        try:
            self._until_answered(call)
        except AppError:
            return
