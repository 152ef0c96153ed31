"""The broker's rows as facts: IST to UTC, floats to Decimal, tags united, holes refused."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade_executor.brokers.base import BookHolding, BookOrder, BookPosition, BookTrade, BrokerReplyInvalid, Funds
from trade_executor.brokers.rows import (
    book_holding,
    book_order,
    book_trade,
    funds,
    net_positions,
    rows_of,
    utc_from_broker,
)

TODAY = date(2026, 11, 20)


def order_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "placed_by": "AB1234",
        "order_id": "1984561230004567890",
        "exchange_order_id": "1300000001887410",
        "parent_order_id": None,
        "status": "OPEN",
        "status_message": None,
        "status_message_raw": None,
        "order_timestamp": datetime(2026, 11, 20, 9, 15, 2),  # noqa: DTZ001 - as the client parses it
        "variety": "regular",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "instrument_token": 408065,
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "validity": "DAY",
        "product": "CNC",
        "quantity": 10,
        "price": 1500.05,
        "trigger_price": 0,
        "average_price": 0,
        "filled_quantity": 0,
        "pending_quantity": 10,
        "tag": "d1abcdefghijklm2345",
        "tags": ["d1abcdefghijklm2345"],
        "guid": "x",
    }
    return row | changes


def trade_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trade_id": "10000000",
        "order_id": "1984561230004567890",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "instrument_token": 408065,
        "product": "CNC",
        "average_price": 1499.9,
        "quantity": 4,
        "exchange_order_id": "1300000001887410",
        "transaction_type": "BUY",
        "fill_timestamp": datetime(2026, 11, 20, 9, 15, 3),  # noqa: DTZ001
        "order_timestamp": "09:15:02",
        "exchange_timestamp": datetime(2026, 11, 20, 9, 15, 4),  # noqa: DTZ001
    }
    return row | changes


def test_an_order_row_becomes_a_book_order() -> None:
    assert book_order(order_row(), TODAY) == BookOrder(
        broker_order_id="1984561230004567890",
        tags=frozenset({"d1abcdefghijklm2345"}),
        exchange="NSE",
        tradingsymbol="INFY",
        side="BUY",
        quantity=10,
        filled_quantity=0,
        status="OPEN",
        status_message=None,
        average_price=Decimal(0),
        order_type="LIMIT",
        price=Decimal("1500.05"),
        placed_at=datetime(2026, 11, 20, 3, 45, 2, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("tag", "tags", "united"),
    [
        (None, ["mktp", "d1ours"], {"mktp", "d1ours"}),
        ("d1ours", None, {"d1ours"}),
        ("d1ours", ["autoslice:19", "d1ours"], {"autoslice:19", "d1ours"}),
        (None, None, set()),
        ("", [], set()),
        (None, [None, 7, "d1ours"], {"d1ours"}),
    ],
)
def test_tags_of_both_places_are_united(tag: object, tags: object, united: set[str]) -> None:
    assert book_order(order_row(tag=tag, tags=tags), TODAY).tags == united


def test_a_row_without_the_tags_member_is_read() -> None:
    row = order_row()
    del row["tags"]
    assert book_order(row, TODAY).tags == {"d1abcdefghijklm2345"}


def test_a_rejected_row_keeps_its_reason() -> None:
    row = order_row(
        status="REJECTED", status_message=None, status_message_raw="RMS:Margin Exceeds", order_timestamp=None
    )
    order = book_order(row, TODAY)
    assert (order.status_message, order.placed_at) == ("RMS:Margin Exceeds", None)


def test_a_trade_row_becomes_a_book_trade() -> None:
    assert book_trade(trade_row(), TODAY) == BookTrade(
        broker_trade_id="10000000",
        broker_order_id="1984561230004567890",
        exchange="NSE",
        tradingsymbol="INFY",
        side="BUY",
        quantity=4,
        price=Decimal("1499.9"),
        traded_at=datetime(2026, 11, 20, 3, 45, 3, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"fill_timestamp": None}, datetime(2026, 11, 20, 3, 45, 4, tzinfo=UTC)),
        ({"fill_timestamp": "09:15:03"}, datetime(2026, 11, 20, 3, 45, 3, tzinfo=UTC)),
        ({"fill_timestamp": None, "exchange_timestamp": ""}, datetime(2026, 11, 20, 3, 45, 2, tzinfo=UTC)),
    ],
)
def test_a_bare_clock_time_belongs_to_the_day_of_the_book(changes: dict[str, Any], at: datetime) -> None:
    assert book_trade(trade_row(**changes), TODAY).traded_at == at


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_naive_times_are_indian_times(local: datetime) -> None:
    utc = utc_from_broker(local)
    assert utc.tzinfo is UTC
    assert utc.replace(tzinfo=None) == local - timedelta(hours=5, minutes=30)


@given(st.integers(min_value=1, max_value=10**9))
def test_a_price_is_the_number_the_broker_wrote(paise: int) -> None:
    exact = Decimal(paise) / 100
    assert book_order(order_row(price=float(exact)), TODAY).price == exact


@pytest.mark.parametrize(
    "changes",
    [
        {"order_id": None},
        {"order_id": 1984561230004567890},
        {"order_id": ""},
        {"status": None},
        {"quantity": None},
        {"quantity": 1.5},
        {"quantity": True},
        {"quantity": "10"},
        {"filled_quantity": -1},
        {"filled_quantity": float("inf")},
        {"price": float("nan")},
        {"price": "abc"},
        {"price": -1},
        {"average_price": [1]},
        {"order_timestamp": "yesterday"},
        {"transaction_type": None},
    ],
)
def test_an_order_row_with_a_hole_spoils_the_read(changes: dict[str, Any]) -> None:
    with pytest.raises(BrokerReplyInvalid):
        book_order(order_row(**changes), TODAY)


@pytest.mark.parametrize(
    "changes",
    [
        {"trade_id": None},
        {"order_id": None},
        {"quantity": 0},
        {"average_price": 0},
        {"average_price": None},
        {"fill_timestamp": None, "exchange_timestamp": None, "order_timestamp": None},
    ],
)
def test_a_trade_row_with_a_hole_spoils_the_read(changes: dict[str, Any]) -> None:
    with pytest.raises(BrokerReplyInvalid):
        book_trade(trade_row(**changes), TODAY)


def test_whole_numbers_may_arrive_as_floats() -> None:
    assert book_order(order_row(quantity=10.0), TODAY).quantity == 10


@pytest.mark.parametrize("data", [None, {}, "x", [1], [None], [[]]])
def test_a_book_is_a_list_of_objects(data: object) -> None:
    with pytest.raises(BrokerReplyInvalid):
        rows_of(data)


def test_funds_are_paise() -> None:
    data = {"enabled": True, "net": 99725.05, "available": {"cash": 245431.6}, "utilised": {"debits": 145706.55}}
    assert funds(data) == Funds(net_paise=9_972_505, available_cash_paise=24_543_160)
    assert funds({"net": -0.5, "available": {"cash": 0}}) == Funds(net_paise=-50, available_cash_paise=0)


@pytest.mark.parametrize("data", [None, [], {}, {"net": 1}, {"net": None, "available": {"cash": 1}}, {"available": {}}])
def test_funds_with_a_hole_are_refused(data: object) -> None:
    with pytest.raises(BrokerReplyInvalid):
        funds(data)


def test_positions_are_the_net_half() -> None:
    row = {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "product": "MIS",
        "quantity": -5,
        "overnight_quantity": 0,
        "average_price": 1500.5,
    }
    assert net_positions({"net": [row], "day": []}) == [BookPosition("NSE", "INFY", "MIS", -5, 0, Decimal("1500.5"))]
    with pytest.raises(BrokerReplyInvalid):
        net_positions([row])
    with pytest.raises(BrokerReplyInvalid):
        net_positions({"day": [row]})


def test_a_holding_row_becomes_a_book_holding() -> None:
    row = {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "isin": "INE009A01021",
        "quantity": 10,
        "t1_quantity": 2,
        "used_quantity": 1,
        "authorised_quantity": 9,
        "average_price": 1400.25,
    }
    assert book_holding(row) == BookHolding("NSE", "INFY", "INE009A01021", 10, 2, 1, 9, Decimal("1400.25"))
