"""Stand-ins for tests of the executor: a broker in memory that follows a script, and a desk at a real database."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from common.clock import SystemClock, trading_date
from common.db import Database
from common.events import OrderAccepted, OrderCancelRequested
from common.market_data import SessionInfo
from common.outbox import outbox
from trade_executor import control, intake, loop, polling
from trade_executor.brokers.base import (
    Acked,
    BookHolding,
    BookOrder,
    BookPosition,
    BookTrade,
    BrokerSessionExpired,
    BrokerUnavailable,
    CancelOutcome,
    CancelRefused,
    CancelSent,
    Funds,
    Outcome,
    PlaceRequest,
    Refused,
    Unknown,
)
from trade_executor.config import Settings
from trade_executor.desk import Desk
from trade_executor.models import ChildOrder
from trade_executor.pump import pump
from trade_executor.sessions import LiveSession

ACCOUNT = "pool"
TAG_KEY = "a tag key of the tests"
RESTING = "OPEN"

Script = Callable[["FakeBroker", PlaceRequest], Outcome | None]
"""Runs at a place call: an outcome answers instead of the broker, None lets the broker take the order."""


@dataclass
class FakeBroker:
    """A broker in memory. It fills nothing by itself: tests call `fill`, `end`; `auto_fill` fills every order at once."""

    auto_fill: bool = False
    price: Decimal = Decimal("100.00")
    script: list[Script] = field(default_factory=list)
    rows: dict[str, BookOrder] = field(default_factory=dict)
    executions: list[BookTrade] = field(default_factory=list)
    sends: Counter[str] = field(default_factory=Counter)
    cancels: list[str] = field(default_factory=list)
    requests: list[PlaceRequest] = field(default_factory=list)
    place_times: list[float] = field(default_factory=list)
    readable: bool = True
    session_dead: bool = False
    cancel_works: bool = True
    before_place: Callable[[PlaceRequest], None] | None = None
    cash_paise: int = 100_00_000_00
    payin_paise: int = 0
    cash_off_paise: int = 0
    """Money that the broker has and its trades do not explain."""
    positions_off: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Day positions that no trade explains."""
    delivered: dict[str, int] = field(default_factory=dict)
    """Settled units on NSE by symbol."""
    lock: Any = field(default_factory=threading.RLock)

    def place(self, request: PlaceRequest) -> Outcome:
        if self.before_place is not None:
            self.before_place(request)
        with self.lock:
            self.place_times.append(time.monotonic())
            self.sends[request.tag] += 1
            self.requests.append(request)
            if self.session_dead:
                return Refused("session_expired", "Incorrect `api_key` or `access_token`.", halts=True)
            if self.script:
                answer = self.script.pop(0)(self, request)
                if answer is not None:
                    return answer
            return Acked(self.take(request))

    def take(self, request: PlaceRequest) -> str:
        """Put the order into the book, as the real one does whether or not its answer arrives."""
        with self.lock:
            broker_order_id = f"{26112300000000 + len(self.rows) + 1}"
            self.rows[broker_order_id] = BookOrder(
                broker_order_id=broker_order_id,
                tags=frozenset({request.tag}),
                exchange=request.exchange,
                tradingsymbol=request.tradingsymbol,
                side=request.side,
                quantity=request.quantity,
                filled_quantity=0,
                status=RESTING,
                status_message=None,
                average_price=Decimal(0),
                order_type=request.order_type,
                price=request.price or Decimal(0),
                placed_at=datetime.now(UTC),
            )
            if self.auto_fill:
                self.fill(broker_order_id, request.quantity)
            return broker_order_id

    def fill(
        self, broker_order_id: str, quantity: int, price: Decimal | None = None, trade_id: str | None = None
    ) -> None:
        with self.lock:
            row = self.rows[broker_order_id]
            price = price or self.price
            self.executions.append(
                BookTrade(
                    broker_trade_id=trade_id or f"T{len(self.executions) + 1}",
                    broker_order_id=broker_order_id,
                    exchange=row.exchange,
                    tradingsymbol=row.tradingsymbol,
                    side=row.side,
                    quantity=quantity,
                    price=price,
                    traded_at=datetime.now(UTC),
                )
            )
            filled = row.filled_quantity + quantity
            status = "COMPLETE" if filled == row.quantity else row.status
            self.rows[broker_order_id] = replace(row, filled_quantity=filled, status=status, average_price=price)

    def end(self, broker_order_id: str, status: str = "CANCELLED", message: str | None = None) -> None:
        with self.lock:
            self.rows[broker_order_id] = replace(self.rows[broker_order_id], status=status, status_message=message)

    def id_of(self, index: int = -1) -> str:
        """The broker order id of the n-th order taken."""
        return list(self.rows)[index]

    def cancel(self, broker_order_id: str, variety: str = "regular") -> CancelOutcome:
        with self.lock:
            self.cancels.append(broker_order_id)
            row = self.rows[broker_order_id]
            if row.status != RESTING:
                return CancelRefused("Order cannot be cancelled as it is being processed. Try later.")
            if self.cancel_works:
                self.end(broker_order_id)
            return CancelSent()

    def orders(self) -> list[BookOrder]:
        self._check()
        with self.lock:
            return list(reversed(self.rows.values()))

    def trades(self) -> list[BookTrade]:
        self._check()
        with self.lock:
            return list(reversed(self.executions))

    def _check(self) -> None:
        if self.session_dead:
            raise BrokerSessionExpired("Incorrect `api_key` or `access_token`.")
        if not self.readable:
            raise BrokerUnavailable("HTTP 502")

    def give(self, broker_order_id: str, request: PlaceRequest, *, tags: frozenset[str] = frozenset()) -> None:
        """An order that nobody here has sent."""
        taken = self.take(request)
        with self.lock:
            self.rows[broker_order_id] = replace(self.rows.pop(taken), broker_order_id=broker_order_id, tags=tags)

    def margins(self) -> Funds:
        self._check()
        with self.lock:
            spent = sum(trade.amount_paise * (1 if trade.side == "BUY" else -1) for trade in self.executions)
        return Funds(
            self.cash_paise + self.payin_paise - spent + self.cash_off_paise, self.cash_paise, self.payin_paise
        )

    def positions(self) -> list[BookPosition]:
        self._check()
        net: Counter[tuple[str, str]] = Counter(self.positions_off)
        with self.lock:
            for trade in self.executions:
                net[trade.exchange, trade.tradingsymbol] += trade.quantity * (1 if trade.side == "BUY" else -1)
        return [
            BookPosition(exchange, symbol, "CNC", quantity, 0, self.price)
            for (exchange, symbol), quantity in net.items()
        ]

    def holdings(self) -> list[BookHolding]:
        self._check()
        return [
            BookHolding("NSE", symbol, f"INE{symbol}", quantity, 0, 0, quantity, self.price)
            for symbol, quantity in self.delivered.items()
        ]


def refuse(code: str = "insufficient_funds", message: str = "Insufficient funds.", **more: Any) -> Script:
    return lambda broker, request: Refused(code, message, **more)


def lose_answer(broker: FakeBroker, request: PlaceRequest) -> Outcome:
    """The broker takes the order, its answer never arrives."""
    broker.take(request)
    return Unknown("read timeout")


def lose_request(broker: FakeBroker, request: PlaceRequest) -> Outcome:
    """The request never reaches the broker, and nobody can know."""
    return Unknown("connection reset")


@dataclass
class FakeAccess:
    """A session that lives until somebody ends it."""

    broker: FakeBroker
    session_id: UUID | None = field(default_factory=uuid4)
    ended: list[str] = field(default_factory=list)

    def current(self, account: str) -> LiveSession:
        if self.session_id is None:
            raise BrokerSessionExpired("log in")
        return LiveSession(self.session_id, self.broker)

    def end(self, session_id: UUID, reason: str) -> None:
        if session_id == self.session_id:
            self.session_id = None
            self.ended.append(reason)

    def keep(self, account: str) -> None:
        """Nobody logs in by himself here."""

    def login(self) -> None:
        self.broker.session_dead = False
        self.session_id = uuid4()


@dataclass
class FakeMarket:
    """The market's session, open unless told otherwise."""

    is_open: bool = True
    day: date = field(default_factory=lambda: trading_date(datetime.now(UTC)))
    next_day: date | None = None
    closes_in: timedelta = timedelta(hours=3)

    def session(self) -> SessionInfo:
        following = self.next_day or self.day + timedelta(days=1)
        return SessionInfo(
            is_open=self.is_open,
            phase="CONTINUOUS" if self.is_open else "CLOSED",
            trading_date=self.day,
            closes_at=datetime.now(UTC) + self.closes_in if self.is_open else None,
            next_trading_date=following,
        )


def make_settings(database_url: str, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": database_url,
        "tag_key": TAG_KEY,
        "kite_api_secret": "secret-of-the-tests",
        "seal_keys": {1: "A" * 43 + "="},
        "senders": 1,
        "retry_first_seconds": 0.01,
        "read_pause_seconds": 0,
        "sends_per_minute": 10_000,
        "sends_per_second": 100,
        **changes,
    }
    return Settings(**values)


@dataclass
class Room:
    """A desk and everything a test wants to do at it."""

    desk: Desk
    broker: FakeBroker
    access: FakeAccess
    market: FakeMarket

    @property
    def db(self) -> Database:
        return self.desk.db

    def accept(self, **changes: Any) -> UUID:
        """Take an order in, as the consumer does."""
        event = order(**changes)
        with self.db.transaction() as session:
            intake.accept(session, [(event, None)])
        return event.order_id

    def cancel(self, order_id: UUID) -> None:
        event = OrderCancelRequested(order_id=order_id, requested_at=datetime.now(UTC))
        with self.db.transaction() as session:
            intake.cancel(session, event)

    def pump(self) -> int:
        return pump(self.desk, ACCOUNT)

    def observe(self) -> bool:
        return polling.observe(self.desk, ACCOUNT)

    def sweep(self) -> None:
        loop.sweep(self.desk, ACCOUNT)

    def step(self) -> None:
        loop.step(self.desk, ACCOUNT)

    def child(self, order_id: UUID) -> ChildOrder:
        with self.db.session() as session:
            return session.get_one(ChildOrder, order_id)

    def rows(self, model: Any, **where: Any) -> list[Any]:
        with self.db.session() as session:
            return list(session.scalars(sa.select(model).filter_by(**where).order_by(*sa.inspect(model).primary_key)))

    def run(self, statement: str, **values: Any) -> Any:
        with self.db.transaction() as session:
            result: Any = session.execute(sa.text(statement), values)
            return result.rowcount

    def events(self, order_id: Any = None, type_name: str | None = None) -> list[dict[str, Any]]:
        """Payloads said so far, with their type under `type`."""
        statement = sa.select(outbox).order_by(outbox.c.id)
        if order_id is not None:
            statement = statement.where(outbox.c.aggregate_id == str(order_id))
        if type_name is not None:
            statement = statement.where(outbox.c.type == type_name)
        with self.db.session() as session:
            return [{"type": row.type, **row.payload} for row in session.execute(statement)]

    def age_unknown(self, seconds: float = 1_000) -> None:
        """Make sent and unknown attempts older."""
        self.run(
            "UPDATE broker_order SET sent_at = sent_at - make_interval(secs => :s),"
            " unknown_since = unknown_since - make_interval(secs => :s)",
            s=seconds,
        )


def order(**changes: Any) -> OrderAccepted:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "order_id": uuid4(),
        "user_id": uuid4(),
        "portfolio_id": uuid4(),
        "account": ACCOUNT,
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "side": "BUY",
        "product": "CNC",
        "order_type": "LIMIT",
        "quantity": 10,
        "price_paise": 100_00,
        "validity": "DAY",
        "accepted_at": now,
        "trading_date": trading_date(now),
        **changes,
    }
    return OrderAccepted(**values)


def make_room(db: Database, **changes: Any) -> Room:
    settings = make_settings(db.url, **changes)
    with db.transaction() as session:
        control.ensure(session, ACCOUNT, settings)
    broker = FakeBroker()
    access = FakeAccess(broker)
    market = FakeMarket()
    return Room(Desk(db, settings, market, access, SystemClock()), broker, access, market)


def second_desk(room: Room, **changes: Any) -> Room:
    """Another process at the same database and broker: it shares no memory with the first."""
    desk = Desk(room.db, room.desk.settings.model_copy(update=changes), room.market, room.access, SystemClock())
    return Room(desk, room.broker, room.access, room.market)
