"""Rows of the broker's JSON as the executor's dataclasses: the edge where IST becomes UTC and floats become Decimal.

A row that lacks what it must have spoils the whole read (`BrokerReplyInvalid`): a book with holes would be taken for a
book without our order.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from common.clock import IST
from common.money import InvalidAmount, paise_from_broker
from trade_executor.brokers.base import BookHolding, BookOrder, BookPosition, BookTrade, BrokerReplyInvalid, Funds

Row = Mapping[str, Any]


def rows_of(data: object) -> list[Row]:
    """A JSON list of objects."""
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise BrokerReplyInvalid("expected a list of objects")
    return data


def book_order(row: Row, today: date) -> BookOrder:
    """One row of GET /orders. `today` is the IST date for timestamps that are bare clock times."""
    return BookOrder(
        broker_order_id=_text(row, "order_id"),
        tags=_tags(row),
        exchange=_text(row, "exchange"),
        tradingsymbol=_text(row, "tradingsymbol"),
        side=_text(row, "transaction_type"),
        quantity=_units(row, "quantity"),
        filled_quantity=_units(row, "filled_quantity"),
        status=_text(row, "status"),
        status_message=_optional_text(row, "status_message") or _optional_text(row, "status_message_raw"),
        average_price=_rupees(row, "average_price"),
        order_type=_text(row, "order_type"),
        price=_rupees(row, "price"),
        placed_at=_instant(row.get("order_timestamp"), today),
    )


def book_trade(row: Row, today: date) -> BookTrade:
    """One row of GET /trades. Its `order_timestamp` is a bare clock time; the fill's own time is taken first."""
    traded_at = (
        _instant(row.get("fill_timestamp"), today)
        or _instant(row.get("exchange_timestamp"), today)
        or _instant(row.get("order_timestamp"), today)
    )
    quantity, price = _units(row, "quantity"), _rupees(row, "average_price")
    if traded_at is None or quantity <= 0 or price <= 0:
        raise BrokerReplyInvalid("a trade needs a time, a quantity and a price")
    return BookTrade(
        broker_trade_id=_text(row, "trade_id"),
        broker_order_id=_text(row, "order_id"),
        exchange=_text(row, "exchange"),
        tradingsymbol=_text(row, "tradingsymbol"),
        side=_text(row, "transaction_type"),
        quantity=quantity,
        price=price,
        traded_at=traded_at,
    )


def funds(data: object) -> Funds:
    """GET /user/margins/equity: `net`, cash before what is blocked, and what was paid in today."""
    if not isinstance(data, dict) or not isinstance(data.get("available"), dict):
        raise BrokerReplyInvalid("expected the margins of one segment")
    available = data["available"]
    return Funds(
        net_paise=_paise(data.get("net")),
        available_cash_paise=_paise(available.get("cash")),
        payin_paise=_paise(available.get("intraday_payin", 0)),
    )


def net_positions(data: object) -> list[BookPosition]:
    """The `net` half of GET /portfolio/positions."""
    if not isinstance(data, dict):
        raise BrokerReplyInvalid("expected net and day positions")
    return [
        BookPosition(
            exchange=_text(row, "exchange"),
            tradingsymbol=_text(row, "tradingsymbol"),
            product=_text(row, "product"),
            quantity=_whole(row, "quantity"),
            overnight_quantity=_whole(row, "overnight_quantity"),
            average_price=_rupees(row, "average_price"),
        )
        for row in rows_of(data.get("net"))
    ]


def book_holding(row: Row) -> BookHolding:
    """One row of GET /portfolio/holdings."""
    return BookHolding(
        exchange=_text(row, "exchange"),
        tradingsymbol=_text(row, "tradingsymbol"),
        isin=_text(row, "isin"),
        quantity=_units(row, "quantity"),
        t1_quantity=_units(row, "t1_quantity"),
        used_quantity=_units(row, "used_quantity"),
        authorised_quantity=_units(row, "authorised_quantity"),
        average_price=_rupees(row, "average_price"),
    )


def utc_from_broker(value: datetime) -> datetime:
    """The broker's naive times are Indian wall-clock times."""
    return (value if value.tzinfo else value.replace(tzinfo=IST)).astimezone(UTC)


def _tags(row: Row) -> frozenset[str]:
    # The broker puts its own marks into `tags` and may leave `tag` null; ours can be in either.
    many = row.get("tags")
    candidates = [row.get("tag"), *(many if isinstance(many, list) else ())]
    return frozenset(tag for tag in candidates if isinstance(tag, str) and tag)


def _instant(value: object, today: date) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return utc_from_broker(value)
    try:
        clock_time = time.fromisoformat(str(value))
    except ValueError:
        raise BrokerReplyInvalid(f"not a time: {value!r}") from None
    return datetime.combine(today, clock_time.replace(tzinfo=IST)).astimezone(UTC)


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise BrokerReplyInvalid(f"`{name}` is missing in a row")
    return value


def _optional_text(row: Row, name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value else None


def _whole(row: Row, name: str) -> int:
    value: object = row.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BrokerReplyInvalid(f"`{name}` is not a whole number: {value!r}")
    return value


def _units(row: Row, name: str) -> int:
    value = _whole(row, name)
    if value < 0:
        raise BrokerReplyInvalid(f"`{name}` is negative: {value}")
    return value


def _rupees(row: Row, name: str) -> Decimal:
    """A price; the shortest text of the JSON number is the price the broker wrote. Null is 0, as for MARKET orders."""
    value = row.get(name)
    if value is None:
        return Decimal(0)
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        raise BrokerReplyInvalid(f"`{name}` is not a number: {value!r}") from None
    if isinstance(value, bool) or not price.is_finite() or price < 0:
        raise BrokerReplyInvalid(f"`{name}` is not a price: {value!r}")
    return price


def _paise(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BrokerReplyInvalid(f"not an amount: {value!r}")
    try:
        return paise_from_broker(value)
    except InvalidAmount:
        raise BrokerReplyInvalid(f"not an amount: {value!r}") from None
