"""The whole cycle of an order through KiteBroker on the simulator, with the broker's rules of 2026."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from common.money import rupees_decimal
from common.testing import eventually
from kite_simulator.config import Settings
from kite_simulator.server import SimulatorServer
from trade_executor import tags
from trade_executor.brokers.base import (
    Acked,
    BookOrder,
    BookTrade,
    BrokerSessionExpired,
    BrokerUnavailable,
    CancelRefused,
    CancelSent,
    PlaceRequest,
    Refused,
)
from trade_executor.brokers.kite import KiteBroker
from trade_executor.brokers.session import exchange_request_token, simulator_request_token

API_KEY, API_SECRET = "contract-key", "contract-secret"
TAG_KEY = b"tag key of the contract tests..."
KEY, SYMBOL = "NSE:INFY", "INFY"

_attempts = count(1)


class Account:
    """A logged-in broker and the market behind it; prices stand still unless moved."""

    def __init__(self, server: SimulatorServer) -> None:
        self.server = server
        request_token = simulator_request_token(server.url)
        session = exchange_request_token(API_KEY, API_SECRET, request_token, root=server.url)
        self.broker = KiteBroker(api_key=API_KEY, access_token=session.access_token, root=server.url)
        server.call(lambda engine: engine.control.freeze_prices(True))
        self.last = rupees_decimal(server.engine.kernel.board.lines[KEY].last_paise)

    def order(self, side: str = "BUY", quantity: int = 10, price: Decimal | None = None, **given: Any) -> PlaceRequest:
        fields: dict[str, Any] = {
            "tag": tags.make("d1", next(_attempts), TAG_KEY),
            "exchange": "NSE",
            "tradingsymbol": SYMBOL,
            "side": side,
            "quantity": quantity,
            "product": "MIS",
            "order_type": "LIMIT",
        } | given
        if fields["order_type"] in ("LIMIT", "SL"):
            fields["price"] = self.last if price is None else price
        return PlaceRequest(**fields)

    def place(self, request: PlaceRequest) -> str:
        outcome = self.broker.place(request)
        assert isinstance(outcome, Acked), outcome
        broker_order_id: str = outcome.broker_order_id
        return broker_order_id

    def row(self, broker_order_id: str) -> BookOrder:
        (row,) = [order for order in self.broker.orders() if order.broker_order_id == broker_order_id]
        return row

    def row_when(self, broker_order_id: str, status: str) -> BookOrder:
        def reached() -> BookOrder | None:
            row = self.row(broker_order_id)
            return row if row.status == status else None

        row = eventually(reached, timeout=15)
        assert row is not None
        return row

    def trades_of(self, broker_order_id: str) -> list[BookTrade]:
        return [trade for trade in self.broker.trades() if trade.broker_order_id == broker_order_id]


@pytest.fixture
def open_account() -> Iterator[Callable[..., Account]]:
    with ExitStack() as running:

        def start(**changes: Any) -> Account:
            settings = {"api_key": API_KEY, "api_secret": API_SECRET, "profile": "strict", "rate_limits": False}
            return Account(running.enter_context(SimulatorServer(Settings(**settings | changes))))

        yield start


@pytest.fixture
def account(open_account: Callable[..., Account]) -> Account:
    return open_account()


def ticks(price: Decimal, paise: int) -> Decimal:
    """A price moved by whole paise, on the tick of INFY (ten paise)."""
    return price + rupees_decimal(paise)


def test_a_marketable_order_is_found_by_its_tag_and_filled(account: Account) -> None:
    before = datetime.now(UTC)
    request = account.order(quantity=25, price=ticks(account.last, 500))
    broker_order_id = account.place(request)
    row = account.row_when(broker_order_id, "COMPLETE")
    assert (row.exchange, row.tradingsymbol, row.side) == ("NSE", SYMBOL, "BUY")
    assert (row.quantity, row.filled_quantity) == (25, 25)
    assert request.tag in row.tags
    assert [tags.parse(tag, TAG_KEY) for tag in row.tags] == [tags.parse(request.tag, TAG_KEY)]
    assert row.placed_at is not None
    assert abs((row.placed_at - before).total_seconds()) < 60

    trades = account.trades_of(broker_order_id)
    assert sum(trade.quantity for trade in trades) == 25
    assert len({trade.broker_trade_id for trade in trades}) == len(trades)
    for trade in trades:
        assert (trade.exchange, trade.tradingsymbol, trade.side) == ("NSE", SYMBOL, "BUY")
        assert 0 < trade.price <= ticks(account.last, 500)
        assert abs((trade.traded_at - before).total_seconds()) < 60
    paid = sum((trade.price * trade.quantity for trade in trades), Decimal(0))
    assert abs(row.average_price - paid / 25) < Decimal("0.01")


def test_partial_fills_add_up(open_account: Callable[..., Account]) -> None:
    account = open_account(partial_fill_probability=1.0)
    broker_order_id = account.place(account.order(quantity=50, price=ticks(account.last, 500)))
    row = account.row_when(broker_order_id, "COMPLETE")
    trades = account.trades_of(broker_order_id)
    assert len(trades) > 1
    assert sum(trade.quantity for trade in trades) == row.filled_quantity == 50


def test_a_resting_order_is_cancelled_and_a_second_cancel_says_nothing_new(account: Account) -> None:
    broker_order_id = account.place(account.order(price=ticks(account.last, -2000)))
    account.row_when(broker_order_id, "OPEN")
    assert account.broker.cancel(broker_order_id) == CancelSent()
    row = account.row_when(broker_order_id, "CANCELLED")
    assert row.filled_quantity == 0
    assert account.trades_of(broker_order_id) == []
    again = account.broker.cancel(broker_order_id)
    assert isinstance(again, CancelRefused)
    assert "cannot be cancelled" in again.message
    assert account.row(broker_order_id) == row


def test_a_resting_order_fills_when_the_market_comes_to_it(account: Account) -> None:
    price = ticks(account.last, -1000)
    broker_order_id = account.place(account.order(price=price))
    account.row_when(broker_order_id, "OPEN")
    account.server.call(lambda engine: engine.control.set_price(KEY, int(price * 100) - 100))
    assert account.row_when(broker_order_id, "COMPLETE").filled_quantity == 10
    assert isinstance(account.broker.cancel(broker_order_id), CancelRefused)


def test_a_filled_order_shows_in_funds_and_positions(account: Account) -> None:
    before = account.broker.margins()
    assert account.broker.positions() == []
    account.row_when(account.place(account.order(quantity=10, price=ticks(account.last, 500))), "COMPLETE")
    (position,) = account.broker.positions()
    assert (position.exchange, position.tradingsymbol, position.product) == ("NSE", SYMBOL, "MIS")
    assert (position.quantity, position.overnight_quantity) == (10, 0)
    assert position.average_price > 0
    assert account.broker.margins().net_paise < before.net_paise


def test_delivered_shares_show_in_holdings(account: Account) -> None:
    assert account.broker.holdings() == []
    account.server.call(lambda engine: engine.control.give_holding(KEY, 12, 1_400_00))
    (holding,) = account.broker.holdings()
    assert (holding.exchange, holding.tradingsymbol, holding.isin) == ("NSE", SYMBOL, "INE009A01021")
    assert (holding.quantity, holding.t1_quantity) == (12, 0)
    assert holding.average_price == 1400


def test_a_protected_market_order_is_found_by_its_tag_though_its_type_changed(account: Account) -> None:
    request = account.order(order_type="MARKET", market_protection=Decimal(-1))
    broker_order_id = account.place(request)
    row = account.row_when(broker_order_id, "COMPLETE")
    assert request.tag in row.tags
    assert row.filled_quantity == 10


def test_a_stop_order_waits_for_its_trigger(account: Account) -> None:
    trigger = ticks(account.last, 500)
    request = account.order(order_type="SL-M", trigger_price=trigger, market_protection=Decimal("2.5"))
    broker_order_id = account.place(request)
    assert account.row_when(broker_order_id, "TRIGGER PENDING").filled_quantity == 0
    account.server.call(lambda engine: engine.control.set_price(KEY, int(trigger * 100)))
    assert account.row_when(broker_order_id, "COMPLETE").filled_quantity == 10


def test_the_number_of_decimals_survives_the_wire(account: Account) -> None:
    price = ticks(account.last, -1990)
    row = account.row(account.place(account.order(price=price)))
    assert row.price == price


def test_an_order_refused_by_risk_management_ends_rejected_with_its_reason(account: Account) -> None:
    account.server.call(lambda engine: engine.control.refuse_symbol(KEY, "RMS:Blocked for the test"))
    broker_order_id = account.place(account.order())
    row = account.row_when(broker_order_id, "REJECTED")
    assert "Blocked for the test" in (row.status_message or "")
    assert row.filled_quantity == 0


REFUSALS: list[tuple[str, Callable[[Account], PlaceRequest]]] = [
    ("insufficient_funds", lambda account: account.order(quantity=90_000, product="CNC")),
    ("insufficient_holdings", lambda account: account.order("SELL", product="CNC")),
    ("outside_price_band", lambda account: account.order(price=account.last * 2 // 1)),
    ("outside_price_band", lambda account: account.order(price=account.last // 2)),
    ("off_tick", lambda account: account.order(price=ticks(account.last, 3))),
    ("freeze_quantity", lambda account: account.order(quantity=100_001)),
    ("product_not_allowed", lambda account: account.order(product="NRML")),
    ("unknown_instrument", lambda account: account.order(tradingsymbol="NOSUCH")),
    ("invalid_request", lambda account: account.order(validity="TTL", ttl_minutes=5000)),
    (
        "trigger_price_invalid",
        lambda account: account.order(order_type="SL", trigger_price=ticks(account.last, -500)),
    ),
]


@pytest.mark.parametrize(("code", "build"), REFUSALS)
def test_a_refusal_at_the_door_is_certain_and_leaves_no_row(
    open_account: Callable[..., Account], code: str, build: Callable[[Account], PlaceRequest]
) -> None:
    account = open_account(opening_cash_paise=10_00_000_00)
    outcome = account.broker.place(build(account))
    assert isinstance(outcome, Refused), outcome
    assert (outcome.code, outcome.retryable, outcome.halts) == (code, False, False)
    assert account.broker.orders() == []


def test_an_unknown_order_can_not_be_cancelled(account: Account) -> None:
    assert isinstance(account.broker.cancel("1900000000000000000"), CancelRefused)


def test_what_the_rate_limit_refused_never_reaches_the_book(open_account: Callable[..., Account]) -> None:
    account = open_account(rate_limits=True)
    outcomes = [account.broker.place(account.order(quantity=1)) for _ in range(30)]
    accepted = {outcome.broker_order_id for outcome in outcomes if isinstance(outcome, Acked)}
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(accepted) + len(refused) == 30
    assert refused
    assert {(outcome.code, outcome.retryable, outcome.halts) for outcome in refused} == {("rate_limited", True, False)}
    assert {row.broker_order_id for row in account.broker.orders()} == accepted


def test_reads_beyond_the_limit_are_unavailable_not_empty(open_account: Callable[..., Account]) -> None:
    account = open_account(rate_limits=True)

    def read_too_often() -> None:
        for _ in range(40):
            account.broker.orders()

    with pytest.raises(BrokerUnavailable, match="429"):
        read_too_often()


def test_a_session_ended_elsewhere_halts(account: Account) -> None:
    account.server.call(lambda engine: engine.sessions.close(account.broker._access_token))
    outcome = account.broker.place(account.order())
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.halts) == ("session_expired", True)
    with pytest.raises(BrokerSessionExpired):
        account.broker.orders()
    assert account.server.engine.kernel.state.orders == {}
