"""Control endpoints for tests and checkers, outside the Kite paths; absent when `control_enabled` is false."""

from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.engine import Refused
from kite_simulator.engine.instruments import to_paise
from kite_simulator.wire import engine_of, settings_of, success

TRUTH_PAGE_MAX = 10_000


async def health(request: Request) -> Response:
    """GET /simulator/health: the process answers."""
    return success({"profile": settings_of(request).profile})


async def status(request: Request) -> Response:
    """GET /simulator/status: counters and switches."""
    engine = engine_of(request)
    engine.advance()
    return success(engine.control.status())


async def truth(request: Request) -> Response:
    """GET /simulator/truth?after=N&limit=M: facts with number above N, in order, at most 10,000 a page."""
    facts = engine_of(request).kernel.facts
    after, limit = (_number(request, name, default) for name, default in (("after", 0), ("limit", TRUTH_PAGE_MAX)))
    page = facts[after : after + min(limit, TRUTH_PAGE_MAX)]
    return success({"facts": page, "last": page[-1]["n"] if page else after, "total": len(facts)})


async def request_token(request: Request) -> Response:
    """POST /simulator/request_token: a login without a browser."""
    engine = engine_of(request)
    with engine.command():
        return success({"request_token": engine.sessions.issue_request_token()})


async def price(request: Request) -> Response:
    """POST /simulator/price {"instrument": "NSE:INFY", "last_price": 1150.5}: move the price and match."""
    body, engine = await _body(request), engine_of(request)
    with engine.command():
        engine.control.set_price(_text(body, "instrument"), _paise(body, "last_price"))
    return success(True)


async def freeze(request: Request) -> Response:
    """POST /simulator/freeze {"frozen": true}: stop the price process."""
    body, engine = await _body(request), engine_of(request)
    with engine.command():
        engine.control.freeze_prices(bool(body.get("frozen", True)))
    return success(True)


async def refuse(request: Request) -> Response:
    """POST /simulator/refuse {"instrument": ..., "message": ...}: orders end REJECTED; a null message lifts it."""
    body, engine = await _body(request), engine_of(request)
    with engine.command():
        engine.control.refuse_symbol(_text(body, "instrument"), body.get("message"))
    return success(True)


async def market(request: Request) -> Response:
    """POST /simulator/market {"open": true|false|null}: switch against the calendar, or back to it."""
    body, engine = await _body(request), engine_of(request)
    with engine.command():
        engine.control.switch_market(body.get("open"))
    return success(True)


async def cash(request: Request) -> Response:
    """POST /simulator/cash {"amount": 1000.50}: pay money in (or out, negative)."""
    body, engine = await _body(request), engine_of(request)
    with engine.command():
        engine.control.pay_in(_paise(body, "amount"))
    return success(True)


async def holding(request: Request) -> Response:
    """POST /simulator/holding {"instrument": ..., "quantity": 10, "price": 100}: put delivered shares in."""
    body, engine = await _body(request), engine_of(request)
    with engine.command():
        engine.control.give_holding(_text(body, "instrument"), int(body.get("quantity", 0)), _paise(body, "price"))
    return success(True)


async def postback(request: Request) -> Response:
    """POST /simulator/postback {"url": ...}: where postbacks go from now on; null stops them."""
    body = await _body(request)
    request.app.state.postbacks.url = body.get("url")
    return success(True)


async def reset(request: Request) -> Response:
    """POST /simulator/reset: forget everything; refused with a data_dir unless `reset_allowed`."""
    settings, engine = settings_of(request), engine_of(request)
    if settings.data_dir is not None and not settings.reset_allowed:
        raise Refused("reset is not allowed while a data_dir is set", "PermissionException", 403)
    engine.reset()
    if settings.access_token:
        engine.sessions.adopt(settings.access_token)
    return success(True)


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        body = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise Refused("Invalid JSON in the request body.") from error
    if not isinstance(body, dict):
        raise Refused("A JSON object is expected.")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Refused(f"Missing or empty field `{name}`")
    return value


def _paise(body: dict[str, Any], name: str) -> int:
    try:
        return to_paise(Decimal(str(body[name])))
    except (KeyError, InvalidOperation, ValueError) as error:
        raise Refused(f"Invalid `{name}`.") from error


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdigit():
        raise Refused(f"Invalid `{name}`.")
    return int(text)


ROUTES = [
    Route("/simulator/health", health),
    Route("/simulator/status", status),
    Route("/simulator/truth", truth),
    Route("/simulator/request_token", request_token, methods=["POST"]),
    Route("/simulator/price", price, methods=["POST"]),
    Route("/simulator/freeze", freeze, methods=["POST"]),
    Route("/simulator/refuse", refuse, methods=["POST"]),
    Route("/simulator/market", market, methods=["POST"]),
    Route("/simulator/cash", cash, methods=["POST"]),
    Route("/simulator/holding", holding, methods=["POST"]),
    Route("/simulator/postback", postback, methods=["POST"]),
    Route("/simulator/reset", reset, methods=["POST"]),
]
