"""Orders, trades and GTT (Kite docs, orders, GTT)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.access import authorised
from kite_simulator.engine import Refused
from kite_simulator.engine.errors import unknown_order
from kite_simulator.engine.orders import Order
from kite_simulator.wire import engine_of, form_of, success, success_bytes, success_rows


async def place_order(request: Request) -> Response:
    """POST /orders/{variety}."""
    return success(engine_of(request).place(request.path_params["variety"], await form_of(request)))


async def modify_order(request: Request) -> Response:
    """PUT /orders/{variety}/{order_id}."""
    path = request.path_params
    return success(engine_of(request).modify(path["variety"], path["order_id"], await form_of(request)))


async def cancel_order(request: Request) -> Response:
    """DELETE /orders/{variety}/{order_id}."""
    path = request.path_params
    return success(engine_of(request).cancel(path["variety"], path["order_id"]))


async def orders(request: Request) -> Response:
    """GET /orders: today's book."""
    engine = engine_of(request)
    with engine.command():
        return success_bytes(engine.books.orders())


async def order_history(request: Request) -> Response:
    """GET /orders/{order_id}: oldest state first."""
    return success_rows(_order(request).history)


async def trades(request: Request) -> Response:
    """GET /trades."""
    engine = engine_of(request)
    engine.advance()
    return success_bytes(engine.books.trades())


async def order_trades(request: Request) -> Response:
    """GET /orders/{order_id}/trades."""
    return success_bytes(engine_of(request).books.trades_of(_order(request)))


def _order(request: Request) -> Order:
    engine = engine_of(request)
    engine.advance()
    order = engine.kernel.state.orders.get(request.path_params["order_id"])
    if order is None:
        raise unknown_order()
    return order


async def place_gtt(request: Request) -> Response:
    """POST /gtt/triggers."""
    engine, fields = engine_of(request), await form_of(request)
    with engine.command():
        return success({"trigger_id": engine.gtts.place(fields)})


async def gtts(request: Request) -> Response:
    """GET /gtt/triggers."""
    engine = engine_of(request)
    engine.advance()
    return success([engine.gtts.render(gtt) for gtt in engine.gtts.shown()])


async def gtt(request: Request) -> Response:
    """GET /gtt/triggers/{id}."""
    engine = engine_of(request)
    engine.advance()
    return success(engine.gtts.render(engine.gtts.find(_trigger_id(request))))


async def modify_gtt(request: Request) -> Response:
    """PUT /gtt/triggers/{id}."""
    engine, fields = engine_of(request), await form_of(request)
    with engine.command():
        return success({"trigger_id": engine.gtts.modify(_trigger_id(request), fields)})


async def delete_gtt(request: Request) -> Response:
    """DELETE /gtt/triggers/{id}."""
    engine = engine_of(request)
    with engine.command():
        return success({"trigger_id": engine.gtts.delete(_trigger_id(request))})


def _trigger_id(request: Request) -> int:
    text: str = request.path_params["trigger_id"]
    if not text.isdigit():
        raise Refused("Invalid trigger id.")
    return int(text)


ROUTES = [
    Route("/orders", authorised(orders)),
    Route("/orders/{variety}", authorised(place_order), methods=["POST"]),
    Route("/orders/{order_id}", authorised(order_history), methods=["GET"]),
    Route("/orders/{order_id}/trades", authorised(order_trades)),
    Route("/orders/{variety}/{order_id}", authorised(modify_order), methods=["PUT"]),
    Route("/orders/{variety}/{order_id}", authorised(cancel_order), methods=["DELETE"]),
    Route("/trades", authorised(trades)),
    Route("/gtt/triggers", authorised(place_gtt), methods=["POST"]),
    Route("/gtt/triggers", authorised(gtts), methods=["GET"]),
    Route("/gtt/triggers/{trigger_id}", authorised(gtt), methods=["GET"]),
    Route("/gtt/triggers/{trigger_id}", authorised(modify_gtt), methods=["PUT"]),
    Route("/gtt/triggers/{trigger_id}", authorised(delete_gtt), methods=["DELETE"]),
]
