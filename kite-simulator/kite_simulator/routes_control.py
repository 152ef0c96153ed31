"""Control endpoints for tests and checkers, outside the Kite paths; absent when `control_enabled` is false."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.control_body import body_of, number_of, paise_of, text_of
from kite_simulator.engine import Refused
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
    after, limit = (number_of(request, name, default) for name, default in (("after", 0), ("limit", TRUTH_PAGE_MAX)))
    page = facts[after : after + min(limit, TRUTH_PAGE_MAX)]
    return success({"facts": page, "last": page[-1]["n"] if page else after, "total": len(facts)})


async def request_token(request: Request) -> Response:
    """POST /simulator/request_token: a login without a browser."""
    engine = engine_of(request)
    with engine.command():
        return success({"request_token": engine.sessions.issue_request_token()})


async def price(request: Request) -> Response:
    """POST /simulator/price {"instrument": "NSE:INFY", "last_price": 1150.5}: move the price and match."""
    body, engine = await body_of(request), engine_of(request)
    with engine.command():
        engine.control.set_price(text_of(body, "instrument"), paise_of(body, "last_price"))
    return success(True)


async def freeze(request: Request) -> Response:
    """POST /simulator/freeze {"frozen": true}: stop the price process."""
    body, engine = await body_of(request), engine_of(request)
    with engine.command():
        engine.control.freeze_prices(bool(body.get("frozen", True)))
    return success(True)


async def refuse(request: Request) -> Response:
    """POST /simulator/refuse {"instrument": ..., "message": ...}: orders end REJECTED; a null message lifts it."""
    body, engine = await body_of(request), engine_of(request)
    with engine.command():
        engine.control.refuse_symbol(text_of(body, "instrument"), body.get("message"))
    return success(True)


async def market(request: Request) -> Response:
    """POST /simulator/market {"open": true|false|null}: switch against the calendar, or back to it."""
    body, engine = await body_of(request), engine_of(request)
    with engine.command():
        engine.control.switch_market(body.get("open"))
    return success(True)


async def cash(request: Request) -> Response:
    """POST /simulator/cash {"amount": 1000.50}: pay money in (or out, negative)."""
    body, engine = await body_of(request), engine_of(request)
    with engine.command():
        engine.control.pay_in(paise_of(body, "amount"))
    return success(True)


async def holding(request: Request) -> Response:
    """POST /simulator/holding {"instrument": ..., "quantity": 10, "price": 100}: put delivered shares in."""
    body, engine = await body_of(request), engine_of(request)
    with engine.command():
        engine.control.give_holding(text_of(body, "instrument"), int(body.get("quantity", 0)), paise_of(body, "price"))
    return success(True)


async def postback(request: Request) -> Response:
    """POST /simulator/postback {"url": ...}: where postbacks go from now on; null stops them."""
    body = await body_of(request)
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
