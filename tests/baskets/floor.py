"""Two real rooms in this process: smallcase-service and the portfolio-service that accepts its baskets, over PostgreSQL.

The executor's side is played by hand: `trade` fills or refuses what was accepted. Nothing runs by itself: `deliver` hands
over what portfolio-service has said, `drive` is one look of the driver.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import sqlalchemy as sa
from fastapi.testclient import TestClient

import smallcase_service.consumers
from common.auth import Authenticator, ServiceIdentity
from common.clock import FixedClock
from common.consumers import handle
from common.db import Database
from common.events import Envelope, Event, OrderAllocated, OrderClosed, OrderUpdated
from common.http import ServiceClient
from common.outbox import outbox
from common.testing import AppTransport, StaticMarketData, StaticStandings, client_for
from portfolio_service import ledger_check
from portfolio_service.app import create_app as create_portfolio
from portfolio_service.config import Settings as PortfolioSettings
from portfolio_service.consumers import make_handlers
from portfolio_service.models import UserOrder
from portfolio_service.orders import LIVE_STATES
from smallcase_service import driver
from smallcase_service.app import create_app as create_smallcase
from smallcase_service.config import Settings as SmallcaseSettings
from smallcase_service.desk import Desk
from smallcase_service.portfolio_orders import PortfolioClient

PRICES = {"TCS": 1_400_00, "ITC": 250_00, "MARUTI": 2_400_00, "INFY": 1_500_00, "SBIN": 600_00}
WEIGHTS = {"TCS": 5_000, "ITC": 3_000, "MARUTI": 2_000}
DRIVES_MAX = 50


class Killed(BaseException):
    """The process died here."""


class MortalDatabase(Database):
    """A database whose process dies at one of its transactions: before the commit, or right after it."""

    dies_at: tuple[int, str] | None = None
    count = 0

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self.count += 1
        here = self.count
        with super().transaction() as session:
            yield session
            if self.dies_at == (here, "before"):
                raise Killed
        if self.dies_at == (here, "after"):
            raise Killed


class Wire(AppTransport):
    """The way to portfolio-service: a request may not arrive, or its answer may be lost."""

    lose_requests = 0
    lose_answers = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        accepting = request.url.path.endswith("/baskets")
        if accepting and self.lose_requests:
            self.lose_requests -= 1
            raise httpx.ConnectTimeout("lost")
        answer = super().handle_request(request)
        if accepting and self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadTimeout("lost")
        return answer


@dataclass
class Person:
    """A user with a token."""

    user_id: UUID
    headers: dict[str, str]


@dataclass
class Floor:
    """The two rooms and what happens between them."""

    portfolio_db: Database
    smallcase_db: Database
    clock: FixedClock
    authenticator: Callable[..., Authenticator]
    identity: Callable[[str], ServiceIdentity]
    headers: Callable[..., dict[str, str]]
    market: StaticMarketData = field(init=False)
    standings: StaticStandings = field(default_factory=StaticStandings)

    def __post_init__(self) -> None:
        self.market = StaticMarketData({("NSE", symbol): price for symbol, price in PRICES.items()}, self.clock)
        self.use()

    def use(self, **portfolio: Any) -> None:
        """Build the rooms, with settings of portfolio-service."""
        settings = {"submissions_per_minute": 1_000_000, "duplicate_window_s": 0, **portfolio}
        self.portfolio = create_portfolio(
            PortfolioSettings(**settings),
            db=self.portfolio_db,
            authenticator=self.authenticator("portfolio-service"),
            market=self.market,
            standings=self.standings,
            clock=self.clock,
        )
        self.wire = Wire(self.portfolio)
        self.portfolio_client = client_for(self.portfolio)
        self.client = self.client_on(self.smallcase_db)
        self.desk = self.desk_on(self.smallcase_db)
        self.portfolio_handlers = make_handlers(self.clock)
        self.smallcase_handlers = smallcase_service.consumers.make_handlers(self.clock)

    def _orders(self) -> PortfolioClient:
        identity = self.identity("smallcase-service")
        client = ServiceClient("http://portfolio", audience="portfolio-service", identity=identity, transport=self.wire)
        return PortfolioClient(client)

    def desk_on(self, db: Database) -> Desk:
        """A desk of another process."""
        return Desk(db, self.market, self._orders(), self.clock, SmallcaseSettings().allowance())

    def client_on(self, db: Database) -> TestClient:
        """A client of smallcase-service on a database of its own."""
        return client_for(
            create_smallcase(
                SmallcaseSettings(),
                db=db,
                authenticator=self.authenticator("smallcase-service"),
                market=self.market,
                portfolio=self._orders(),
                clock=self.clock,
            )
        )

    # --- people ---

    def person(self, rupees: str = "100000", **token: Any) -> Person:
        """A user with money."""
        user_id = uuid4()
        person = Person(user_id, self.headers(user_id, lifetime_s=400 * 86_400, **token))
        if rupees != "0":
            self.give(person, rupees)
        return person

    def give(self, person: Person, rupees: str) -> None:
        """Deposit money."""
        admin = {**self.headers(uuid4(), roles=("admin",)), "Idempotency-Key": uuid4().hex}
        body = {"user_id": str(person.user_id), "amount": rupees, "reason": "test money"}
        answer = self.portfolio_client.post("/api/v1/admin/funds/deposit", json=body, headers=admin)
        assert answer.status_code == 201, answer.text

    def funds(self, person: Person) -> dict[str, str]:
        """Cash of the default portfolio."""
        return dict(self.portfolio_client.get("/api/v1/funds", headers=person.headers).json())

    # --- over HTTP ---

    def post(self, person: Person, path: str, body: Any = None, key: str | None = None) -> Any:
        """POST to smallcase-service."""
        headers = {**person.headers, "Idempotency-Key": key or uuid4().hex}
        return self.client.post(f"/api/v1{path}", json=body if body is not None else {}, headers=headers)

    def get(self, person: Person, path: str, **params: Any) -> Any:
        """GET from smallcase-service."""
        return self.client.get(f"/api/v1{path}", params=params, headers=person.headers)

    def smallcase(self, owner: Person, weights: Mapping[str, int] = WEIGHTS) -> str:
        """A smallcase of this owner."""
        answer = self.post(owner, "/smallcases", self.composition(weights))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["smallcase_id"])

    @staticmethod
    def composition(weights: Mapping[str, int], **more: Any) -> dict[str, Any]:
        """The body of a smallcase."""
        constituents = [{"tradingsymbol": symbol, "weight_bps": bps} for symbol, bps in weights.items()]
        return {"name": "Three of a kind", "constituents": constituents, **more}

    def revise(self, owner: Person, smallcase_id: str, version: int, weights: Mapping[str, int]) -> None:
        """The next version of a smallcase."""
        body = self.composition(weights, version=version, reason="a test")
        answer = self.client.put(f"/api/v1/smallcases/{smallcase_id}", json=body, headers=owner.headers)
        assert answer.status_code == 200, answer.text

    def invest(self, person: Person, smallcase_id: str, amount: str = "20000", **more: Any) -> dict[str, Any]:
        """Invest and answer the receipt."""
        answer = self.post(person, f"/smallcases/{smallcase_id}/invest", {"amount": amount, **more})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def invested(self, person: Person, smallcase_id: str, amount: str = "20000") -> dict[str, Any]:
        """Invest, and have everything filled."""
        receipt = self.invest(person, smallcase_id, amount)
        self.trade()
        assert self.order(person, receipt)["status"] == "filled"
        return receipt

    def order(self, person: Person, receipt: Mapping[str, Any]) -> dict[str, Any]:
        """A basket order as it is now."""
        return dict(self.get(person, f"/investments/orders/{receipt['basket_order_id']}").raise_for_status().json())

    def investment(self, person: Person, receipt: Mapping[str, Any]) -> dict[str, Any]:
        """An investment as it is now."""
        return dict(self.get(person, f"/investments/{receipt['investment_id']}").raise_for_status().json())

    def held(self, person: Person, receipt: Mapping[str, Any]) -> dict[str, int]:
        """Shares of an investment, as smallcase-service sees them."""
        positions = self.investment(person, receipt)["positions"]
        return {row["tradingsymbol"]: row["held"] for row in positions if row["held"]}

    def holdings(self, person: Person) -> dict[str, int]:
        """Shares of a user, as the ledger has them."""
        items = self.portfolio_client.get("/api/v1/holdings", headers=person.headers).json()["items"]
        return {row["tradingsymbol"]: row["quantity"] for row in items if row["quantity"]}

    # --- the executor, played by hand ---

    def trade(
        self, *, refuse: tuple[str, ...] = (), only: str | None = None, at: Mapping[str, int] | None = None
    ) -> int:
        """Fill everything accepted at the market's prices but what is refused; answers how many orders ended."""
        with self.portfolio_db.session() as session:
            live = session.scalars(sa.select(UserOrder).where(UserOrder.state.in_(LIVE_STATES))).all()
        ended = 0
        for order in live:
            if only is not None and order.side != only:
                continue
            price = (at or {}).get(order.tradingsymbol, self.market.shares[order.exchange, order.tradingsymbol])
            ended += 1
            if order.tradingsymbol in refuse:
                self._tell_portfolio(self._closed(order, "REJECTED", 0, 0))
                continue
            left = order.quantity - order.filled_quantity
            self._tell_portfolio(self._allocated(order, left, left * price))
            total = order.amount_paise + left * price
            self._tell_portfolio(self._closed(order, "FILLED", order.quantity, total))
        self.deliver()
        self.clock.advance(1)
        return ended

    def fill_part(self, symbol: str, quantity: int, *, then_close: bool = False) -> None:
        """Fill a part of the live order of a share, and let the rest end unfilled if wanted."""
        with self.portfolio_db.session() as session:
            query = sa.select(UserOrder).where(UserOrder.state.in_(LIVE_STATES), UserOrder.tradingsymbol == symbol)
            order = session.scalars(query).one()
        amount = quantity * self.market.shares[order.exchange, symbol]
        self._tell_portfolio(self._allocated(order, quantity, amount))
        if then_close:
            self._tell_portfolio(
                self._closed(order, "CANCELLED", order.filled_quantity + quantity, order.amount_paise + amount)
            )
        self.deliver()

    def _allocated(self, order: UserOrder, quantity: int, amount_paise: int) -> OrderAllocated:
        return OrderAllocated(
            allocation_id=uuid4(),
            order_id=order.order_id,
            user_id=order.user_id,
            block_id=uuid4(),
            round_no=1,
            quantity=quantity,
            amount_paise=amount_paise,
            cumulative_quantity=quantity,
            cumulative_amount_paise=amount_paise,
            executed_at=self.clock.now(),
            occurred_at=self.clock.now(),
            trading_date=order.trading_date,
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            side=order.side,
            product=order.product,
        )

    def _closed(self, order: UserOrder, outcome: Any, quantity: int, amount_paise: int) -> OrderClosed:
        refused = outcome == "REJECTED"
        return OrderClosed(
            order_id=order.order_id,
            user_id=order.user_id,
            outcome=outcome,
            filled_quantity=quantity,
            amount_paise=amount_paise,
            occurred_at=self.clock.now(),
            reason_code="broker_refused" if refused else None,
            reason="The exchange does not take this share." if refused else None,
        )

    def _tell_portfolio(self, event: Event) -> None:
        envelope = Envelope(
            type=event.type_name(), source="trade-executor", occurred_at=event.occurred_at,
            recorded_at=event.occurred_at, payload=event.model_dump(mode="json"),
        )  # fmt: skip
        handle(self.portfolio_db, "portfolio-service", self.portfolio_handlers, [envelope])

    # --- what carries news ---

    def said(self) -> list[Envelope]:
        """What portfolio-service has said of orders and nobody was handed yet."""
        with self.portfolio_db.transaction() as session:
            unsent = sa.update(outbox).where(outbox.c.sent_at.is_(None)).values(sent_at=sa.func.now())
            rows = sorted(session.execute(unsent.returning(outbox)).all(), key=lambda row: row.id)
        names = Envelope.model_fields.keys() - {"id"}
        envelopes = [Envelope(id=row.message_id, **{name: getattr(row, name) for name in names}) for row in rows]
        return [one for one in envelopes if one.type == OrderUpdated.type_name()]

    def hand_over(self, envelopes: list[Envelope]) -> int:
        """Hand messages to smallcase-service; answers how many were new."""
        return handle(self.smallcase_db, "smallcase-service", self.smallcase_handlers, envelopes)

    def deliver(self, *, shuffle: random.Random | None = None, twice: bool = False) -> None:
        """Hand over what was said: in order and once, unless told otherwise."""
        envelopes = self.said()
        if twice:
            envelopes += envelopes
        if shuffle is not None:
            shuffle.shuffle(envelopes)
        for envelope in envelopes:
            self.hand_over([envelope])

    def drive(self, *, seconds: float = 0) -> None:
        """Let the driver work until nothing is due, after so much time."""
        self.clock.advance(seconds)
        for _ in range(DRIVES_MAX):
            if not driver.drive_due(self.desk):
                return
        raise AssertionError("the driver does not come to an end")

    # --- looking inside ---

    def events(self, event_type: type[Event]) -> list[dict[str, Any]]:
        """Payloads smallcase-service has recorded, oldest first."""
        with self.smallcase_db.session() as session:
            query = sa.select(outbox.c.payload).where(outbox.c.type == event_type.type_name()).order_by(outbox.c.id)
            return list(session.scalars(query))

    def count(self, table: str, *, portfolio: bool = False) -> int:
        """Rows of a table."""
        db = self.portfolio_db if portfolio else self.smallcase_db
        with db.session() as session:
            return int(session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608

    def sound(self) -> None:
        """Fail unless the ledger proves itself."""
        with self.portfolio_db.session() as session:
            report = ledger_check.check(session)
        assert report.ok, report.problems
