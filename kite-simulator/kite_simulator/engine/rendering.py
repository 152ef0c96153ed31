"""Orders and trades as the rows Kite shows (Kite docs, orders). Paise become JSON numbers in rupees here and only here."""

from typing import Any

import orjson

from kite_simulator.engine.clock import ist_text
from kite_simulator.engine.journal import Fact
from kite_simulator.engine.orders import Order

USER_ID = "SR0001"
UNENRICHED_TOKEN = 1
"""The first history row of an order shows instrument_token 1 (kiteconnect-mocks, order_info.json)."""


def rupee_number(paise: int) -> float:
    """A price or amount as the JSON number Kite sends."""
    return paise / 100


def average_number(value_paise: int, quantity: int) -> float:
    """An average price with four decimals; 0 for nothing."""
    return round(value_paise / quantity / 100, 4) if quantity else 0


def _shared(order: Order) -> dict[str, Any]:
    return {
        "placed_by": order.placed_by,
        "order_id": order.order_id,
        "exchange_order_id": order.exchange_order_id,
        "parent_order_id": order.parent_order_id,
        "status": order.status.value,
        "status_message": order.status_message,
        "order_timestamp": ist_text(order.order_at),
        "exchange_timestamp": ist_text(order.exchange_at),
        "variety": order.variety,
        "modified": False,
        "exchange": order.exchange,
        "tradingsymbol": order.symbol,
        "instrument_token": order.token,
        "order_type": order.order_type,
        "transaction_type": order.side,
        "validity": order.validity,
        "product": order.product,
        "quantity": order.quantity,
        "disclosed_quantity": order.disclosed_quantity,
        "price": rupee_number(order.price_paise),
        "trigger_price": rupee_number(order.trigger_paise),
        "average_price": average_number(order.filled_value_paise, order.filled_quantity),
        "filled_quantity": order.filled_quantity,
        "pending_quantity": order.pending_quantity,
        "cancelled_quantity": order.cancelled_quantity,
        "tag": order.tag,
    }


def history_row(order: Order, *, enriched: bool) -> bytes:
    """One row of GET /orders/{order_id}: fewer keys than the book."""
    row = _shared(order)
    if not enriched:
        row["instrument_token"] = UNENRICHED_TOKEN
    return orjson.dumps(row)


def book_row(order: Order) -> dict[str, Any]:
    """One row of GET /orders."""
    row = _shared(order)
    row.update(
        account_id=USER_ID,
        status_message_raw=order.status_message_raw,
        exchange_update_timestamp=ist_text(order.exchange_update_at),
        validity_ttl=order.validity_ttl,
        market_protection=0,
        meta=order.meta,
        guid=order.guid,
    )
    if order.tags:
        row["tags"] = order.tags
    if order.auction_number is not None:
        row["auction_number"] = order.auction_number
    return row


def book_bytes(order: Order) -> bytes:
    """The book row as JSON, kept until the order changes."""
    if order.row is None:
        order.row = orjson.dumps(book_row(order))
    return order.row


def trade_row(order: Order, fact: Fact) -> bytes:
    """One row of GET /trades; `order_timestamp` is a bare clock time there (kiteconnect-mocks, trades.json)."""
    return orjson.dumps(
        {
            "trade_id": fact["trade_id"],
            "order_id": order.order_id,
            "exchange": order.exchange,
            "tradingsymbol": order.symbol,
            "instrument_token": order.token,
            "product": order.product,
            "average_price": rupee_number(fact["price_paise"]),
            "quantity": fact["quantity"],
            "exchange_order_id": order.exchange_order_id,
            "transaction_type": order.side,
            "fill_timestamp": fact["at_ist"],
            "order_timestamp": (ist_text(order.order_at) or "")[11:],
            "exchange_timestamp": fact["at_ist"],
        }
    )


def postback_body(order: Order, status: str, checksum: str) -> dict[str, Any]:
    """The body of a postback, and of a WebSocket order frame with a blank checksum (Kite docs, postbacks)."""
    body = book_row(order)
    body.update(
        user_id=USER_ID,
        app_id=1,
        unfilled_quantity=0,
        checksum=checksum,
        status=status,
    )
    return body
