"""Margin calculation and the virtual contract note (Kite docs, margin calculation)."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.access import authorised
from kite_simulator.charges import EXCHANGE_FEE, order_charges
from kite_simulator.engine import Refused
from kite_simulator.engine.portfolio import empty_margin, render_charges
from kite_simulator.wire import engine_of, success

COMPACT = ("type", "tradingsymbol", "exchange", "charges", "total")
ECHOED = ("transaction_type", "tradingsymbol", "exchange", "variety", "product", "order_type", "quantity")


async def order_margins(request: Request) -> Response:
    """POST /margins/orders."""
    engine = engine_of(request)
    engine.advance()
    rows = [engine.portfolio.order_margin(item) for item in await _items(request)]
    return success(_compacted(request, rows))


async def basket_margins(request: Request) -> Response:
    """POST /margins/basket: cash shares do not offset each other, so `final` equals `initial`."""
    engine = engine_of(request)
    engine.advance()
    rows = [engine.portfolio.order_margin(item) for item in await _items(request)]
    total = {**empty_margin(), "var": sum(row["var"] for row in rows), "total": sum(row["total"] for row in rows)}
    charges = {**empty_margin()["charges"], "brokerage": sum(row["charges"]["brokerage"] for row in rows)}
    return success({"initial": total, "final": total, "orders": _compacted(request, rows), "charges": charges})


async def charges(request: Request) -> Response:
    """POST /charges/orders."""
    rows = []
    for item in await _items(request):
        value_paise = round(float(item.get("average_price") or 0) * int(item.get("quantity") or 0) * 100)
        if value_paise <= 0 or item.get("exchange") not in EXCHANGE_FEE:
            raise Refused("Invalid `average_price`, `quantity` or `exchange`.")
        product, side = str(item.get("product")), str(item.get("transaction_type"))
        lines = order_charges(str(item["exchange"]), product, side, value_paise)
        echoed = {name: item.get(name) for name in ECHOED}
        rows.append({**echoed, "price": item["average_price"], "charges": render_charges(lines)})
    return success(rows)


async def _items(request: Request) -> list[Mapping[str, Any]]:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise Refused("Invalid JSON in the request body.") from error
    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise Refused("Invalid request body: a JSON array of orders is expected.")
    return body


def _compacted(request: Request, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if request.query_params.get("mode") != "compact":
        return rows
    return [{name: row[name] for name in COMPACT} for row in rows]


ROUTES = [
    Route("/margins/orders", authorised(order_margins), methods=["POST"]),
    Route("/margins/basket", authorised(basket_margins), methods=["POST"]),
    Route("/charges/orders", authorised(charges), methods=["POST"]),
]
