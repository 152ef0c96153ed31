"""Zerodha Kite Connect v3 as a Broker.

Limits the caller has to keep (kite-connect.md section 3), per Zerodha account and shared with everything else that uses
it: 10 orders a second, 400 a minute and 5,000 a day with refused ones counted, and 10 a second for all reads together
(orders, trades, margins, positions, holdings). This adapter holds no budget of its own: the executor's control row does.
"""

import os
import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import replace
from decimal import Decimal
from time import monotonic
from typing import Any

import structlog

from common.clock import Clock, SystemClock, trading_date
from trade_executor.brokers.base import (
    REGULAR,
    Acked,
    BookHolding,
    BookOrder,
    BookPosition,
    BookTrade,
    CancelOutcome,
    Funds,
    Outcome,
    PlaceRequest,
    Refused,
)
from trade_executor.brokers.rows import book_holding, book_order, book_trade, funds, net_positions, rows_of
from trade_executor.brokers.wire import PRODUCTION_ROOT, Endpoint, Timeouts, Wire, WireSession, check_read
from trade_executor.outcome import BROKER_ORDER_ID, Reply, classify, classify_cancel

log = structlog.get_logger("trade_executor.brokers.kite")

VARIETIES = ("regular", "amo", "co", "iceberg", "auction")
DEFAULT_TIMEOUTS = Timeouts()


class KiteBroker:
    """One account with one day's access token; a new login means a new KiteBroker.

    May be shared by threads: each gets its own client and connection. `root` is checked as in `Endpoint.checked`.
    """

    def __init__(
        self,
        *,
        api_key: str,
        access_token: str,
        root: str = PRODUCTION_ROOT,
        simulator_hosts: Collection[str] = (),
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock | None = None,
    ) -> None:
        if not api_key or not access_token:
            raise ValueError("a broker session needs an API key and an access token")
        self._api_key = api_key
        self._access_token = access_token
        self._endpoint = Endpoint.checked(root, simulator_hosts)
        self._timeouts = timeouts
        self._clock = clock or SystemClock()
        self._own = threading.local()
        self._sessions: weakref.WeakSet[WireSession] = weakref.WeakSet()
        self._sessions_lock = threading.Lock()

    def place(self, request: PlaceRequest) -> Outcome:
        """Send one order with one HTTP request; never raises for anything the broker or the network does."""
        started = monotonic()
        order_id, reply = self._wire().call(
            lambda kite: kite.place_order(
                variety=REGULAR,
                exchange=request.exchange,
                tradingsymbol=request.tradingsymbol,
                transaction_type=request.side,
                quantity=request.quantity,
                product=request.product,
                order_type=request.order_type,
                price=_plain(request.price),
                trigger_price=_plain(request.trigger_price),
                validity=request.validity,
                validity_ttl=request.ttl_minutes,
                market_protection=_plain(request.market_protection),
                tag=request.tag,
            )
        )
        outcome = classify(replace(reply, order_id=order_id))
        _log_placed(request, outcome, reply, round((monotonic() - started) * 1000))
        return outcome

    def cancel(self, broker_order_id: str, variety: str = REGULAR) -> CancelOutcome:
        """Ask for cancellation with one HTTP request; ValueError for an id that could not be the broker's."""
        if not BROKER_ORDER_ID.match(broker_order_id):
            raise ValueError(f"not a broker order id: {broker_order_id!r}")
        if variety not in VARIETIES:
            raise ValueError(f"no such variety: {variety!r}")
        _, reply = self._wire().call(lambda kite: kite.cancel_order(variety=variety, order_id=broker_order_id))
        outcome = classify_cancel(reply)
        log.info(
            "broker.cancel_answered",
            broker_order_id=broker_order_id,
            outcome=type(outcome).__name__,
            http_status=reply.http_status,
            detail=reply.message,
        )
        return outcome

    def orders(self) -> list[BookOrder]:
        """Today's order book, in no particular order; raises BrokerReadFailed."""
        today = trading_date(self._clock.now())
        return [book_order(row, today) for row in rows_of(self._read(lambda kite: kite.orders()))]

    def trades(self) -> list[BookTrade]:
        """Today's executions; raises BrokerReadFailed."""
        today = trading_date(self._clock.now())
        return [book_trade(row, today) for row in rows_of(self._read(lambda kite: kite.trades()))]

    def margins(self) -> Funds:
        """Funds of the equity segment; raises BrokerReadFailed."""
        return funds(self._read(lambda kite: kite.margins(segment="equity")))

    def positions(self) -> list[BookPosition]:
        """Net positions; raises BrokerReadFailed."""
        return net_positions(self._read(lambda kite: kite.positions()))

    def holdings(self) -> list[BookHolding]:
        """Demat holdings; raises BrokerReadFailed."""
        return [book_holding(row) for row in rows_of(self._read(lambda kite: kite.holdings()))]

    def close(self) -> None:
        """Close the idle connections of every thread."""
        with self._sessions_lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _read(self, use: Callable[[Any], Any]) -> Any:
        value, reply = self._wire().call(use)
        check_read(reply)
        return value

    def _wire(self) -> Wire:
        # A forked worker inherits its parent's socket; two processes on one connection read each other's answers.
        if getattr(self._own, "process_id", None) != os.getpid():
            wire = Wire(self._api_key, self._access_token, self._endpoint, self._timeouts)
            with self._sessions_lock:
                self._sessions.add(wire.session)
            self._own.wire, self._own.process_id = wire, os.getpid()
        current: Wire = self._own.wire
        return current


def _plain(number: Decimal | None) -> str | None:
    """Decimal text without exponent; the client would send `1E+2` as it is."""
    return None if number is None else format(number, "f")


def _log_placed(request: PlaceRequest, outcome: Outcome, reply: Reply, elapsed_ms: int) -> None:
    level = log.info if isinstance(outcome, Acked) else log.warning
    level(
        "broker.place_answered",
        tag=request.tag,
        outcome=type(outcome).__name__,
        broker_order_id=outcome.broker_order_id if isinstance(outcome, Acked) else None,
        code=outcome.code if isinstance(outcome, Refused) else None,
        http_status=reply.http_status,
        detail=reply.message,
        elapsed_ms=elapsed_ms,
    )
