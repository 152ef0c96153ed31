"""The room as its tests see it: the real app over real PostgreSQL, events handled as the platform hands them over."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy import text

from common.clock import FixedClock
from common.consumers import handle
from common.db import Database
from common.events import Envelope, Event, OrderAllocated, OrderClosed, OrderWorking
from common.outbox import outbox
from common.testing import StaticMarketData, StaticStandings, client_for
from portfolio_service import ledger_check
from portfolio_service.app import create_app
from portfolio_service.config import NAME, Settings
from portfolio_service.consumers import make_handlers
from portfolio_service.models import UserOrder

PRICES = {
    ("NSE", "INFY"): 1_500_00,
    ("NSE", "TCS"): 3_000_00,
    ("NSE", "ITC"): 400_00,
    ("BSE", "INFY"): 1_501_00,
}


class Customer:
    """A user with a token."""

    def __init__(self, user_id: UUID, headers: dict[str, str]) -> None:
        self.user_id = user_id
        self.headers = headers


class Room:
    """portfolio-service with its collaborators, and the executor's side played by hand."""

    def __init__(
        self,
        db: Database,
        clock: FixedClock,
        market: StaticMarketData,
        client: Callable[[Settings], TestClient],
        headers: Callable[..., dict[str, str]],
    ) -> None:
        self.db, self.clock, self.market = db, clock, market
        self._client_of, self._headers = client, headers
        self.client = client(self.settings())
        self.handlers = make_handlers(clock)

    @staticmethod
    def settings(**more: Any) -> Settings:
        """Settings with the per-user counters out of the way, unless a test is about them."""
        return Settings(**{"submissions_per_minute": 1_000_000, "duplicate_window_s": 0, **more})

    def use(self, **more: Any) -> None:
        """Serve with other settings from here on."""
        self.client = self._client_of(self.settings(**more))

    def customer(self, **token: Any) -> Customer:
        user_id = uuid4()
        return Customer(user_id, self._headers(user_id, **token))

    # --- over HTTP ---

    def post(self, who: Customer, path: str, body: Any, key: str | None = None) -> Any:
        headers = {**who.headers, "Idempotency-Key": key or uuid4().hex}
        return self.client.post(f"/api/v1{path}", json=body, headers=headers)

    def get(self, who: Customer, path: str, **params: Any) -> Any:
        return self.client.get(f"/api/v1{path}", params=params, headers=who.headers)

    def give(self, who: Customer, rupees: str) -> None:
        """Deposit money as an administrator."""
        body = {"user_id": str(who.user_id), "amount": rupees, "reason": "test money"}
        response = self.post(self.customer(roles=("admin",)), "/admin/funds/deposit", body)
        assert response.status_code == 201, response.text

    def order(self, who: Customer, key: str | None = None, **body: Any) -> Any:
        base = {"exchange": "NSE", "tradingsymbol": "INFY", "side": "BUY", "quantity": 1}
        return self.post(who, "/orders", {**base, **body}, key)

    def accepted(self, who: Customer, **body: Any) -> UUID:
        response = self.order(who, **body)
        assert response.status_code == 202, response.text
        return UUID(response.json()["order_id"])

    def funds(self, who: Customer) -> dict[str, str]:
        return dict(self.get(who, "/funds").json())

    # --- the executor's facts ---

    def tell(self, event: Event, message_id: UUID | None = None) -> bool:
        """Deliver an event as the platform does: inbox, handler and outbox in one transaction."""
        return handle(self.db, NAME, self.handlers, [self._envelope(event, message_id or uuid4())]) == 1

    def tell_together(self, events: Iterable[Event]) -> int:
        """Deliver events that arrive together, each with an id of its own."""
        return handle(self.db, NAME, self.handlers, [self._envelope(event, uuid4()) for event in events])

    @staticmethod
    def _envelope(event: Event, message_id: UUID) -> Envelope:
        return Envelope(
            id=message_id,
            type=event.type_name(),
            source="trade-executor",
            occurred_at=event.occurred_at,
            recorded_at=event.occurred_at,
            payload=event.model_dump(mode="json"),
        )

    def row(self, order_id: UUID) -> UserOrder:
        with self.db.session() as session:
            order = session.get(UserOrder, order_id)
            assert order is not None
            return order

    def working(self, order_id: UUID) -> OrderWorking:
        return OrderWorking(order_id=order_id, block_id=uuid4(), occurred_at=self.clock.now())

    def allocation(self, order_id: UUID, quantity: int, amount_paise: int, day: date | None = None) -> OrderAllocated:
        order = self.row(order_id)
        return OrderAllocated(
            allocation_id=uuid4(),
            order_id=order_id,
            user_id=order.user_id,
            block_id=uuid4(),
            round_no=1,
            quantity=quantity,
            amount_paise=amount_paise,
            cumulative_quantity=quantity,
            cumulative_amount_paise=amount_paise,
            executed_at=self.clock.now(),
            occurred_at=self.clock.now(),
            trading_date=day or order.trading_date,
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            side=order.side,
            product=order.product,
        )

    def closed(self, order_id: UUID, outcome: str, quantity: int, amount_paise: int, **more: Any) -> OrderClosed:
        return OrderClosed.model_validate(
            {
                "order_id": order_id,
                "user_id": self.row(order_id).user_id,
                "outcome": outcome,
                "filled_quantity": quantity,
                "amount_paise": amount_paise,
                "occurred_at": self.clock.now(),
                **more,
            }
        )

    def fill(self, order_id: UUID, price_paise: int) -> None:
        """Fill an order completely at one price and close it."""
        quantity = self.row(order_id).quantity
        self.tell(self.allocation(order_id, quantity, quantity * price_paise))
        self.tell(self.closed(order_id, "FILLED", quantity, quantity * price_paise))

    def bought(self, who: Customer, symbol: str, quantity: int, price_paise: int, product: str = "CNC") -> UUID:
        """Buy shares with money given for it."""
        self.give(who, "500000")
        order_id = self.accepted(who, tradingsymbol=symbol, quantity=quantity, product=product)
        self.fill(order_id, price_paise)
        return order_id

    # --- looking inside ---

    def events(self, event_type: type[Event]) -> list[dict[str, Any]]:
        """Payloads recorded for the bus, oldest first."""
        with self.db.session() as session:
            query = sa.select(outbox.c.payload).where(outbox.c.type == event_type.type_name()).order_by(outbox.c.id)
            return list(session.scalars(query))

    def count(self, table: str) -> int:
        with self.db.session() as session:
            return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608

    def sound(self) -> None:
        """Fail unless the ledger proves itself."""
        with self.db.session() as session:
            report = ledger_check.check(session)
        assert report.ok, report.problems

    @staticmethod
    def at_once(calls: int, call: Callable[[int], Any], threads: int = 50) -> list[Any]:
        """Run a call many times in parallel."""
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(call, range(calls)))

    def next_day(self) -> None:
        """Go to the same time of the next day."""
        self.clock.advance(timedelta(days=1).total_seconds())
        self.market.trading_date += timedelta(days=1)


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("portfolio_service")


@pytest.fixture
def market(clock: FixedClock) -> StaticMarketData:
    return StaticMarketData(dict(PRICES), clock=clock)


@pytest.fixture
def standings() -> StaticStandings:
    return StaticStandings()


@pytest.fixture
def room(
    db: Database,
    clock: FixedClock,
    market: StaticMarketData,
    authenticator: Callable[..., Any],
    auth_headers: Callable[..., dict[str, str]],
    standings: StaticStandings,
) -> Room:
    def client(settings: Settings) -> TestClient:
        return client_for(
            create_app(
                settings,
                db=db,
                authenticator=authenticator(NAME),
                market=market,
                standings=standings,
                clock=clock,
            )
        )

    def headers(user_id: UUID, **token: Any) -> dict[str, str]:
        return auth_headers(user_id, lifetime_s=30 * 86_400, **token)

    return Room(db, clock, market, client, headers)
