"""Positions, holdings, and the empty mutual-fund side (Kite docs, portfolio, mutual funds)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.access import authorised
from kite_simulator.engine import Refused
from kite_simulator.wire import engine_of, form_of, success


async def positions(request: Request) -> Response:
    """GET /portfolio/positions."""
    engine = engine_of(request)
    engine.advance()
    return success(engine.portfolio.positions())


async def convert_position(request: Request) -> Response:
    """PUT /portfolio/positions."""
    engine, fields = engine_of(request), await form_of(request)
    with engine.command():
        engine.portfolio.convert(fields)
    return success(True)


async def holdings(request: Request) -> Response:
    """GET /portfolio/holdings."""
    engine = engine_of(request)
    engine.advance()
    return success(engine.portfolio.holdings())


async def compact_holdings(request: Request) -> Response:
    """GET /portfolio/holdings/compact."""
    engine = engine_of(request)
    engine.advance()
    names = ("exchange", "tradingsymbol", "instrument_token", "t1_quantity", "quantity")
    return success([{name: row[name] for name in names} for row in engine.portfolio.holdings()])


async def holdings_summary(request: Request) -> Response:
    """GET /portfolio/holdings/summary."""
    engine = engine_of(request)
    engine.advance()
    return success(engine.portfolio.summary())


async def authorise_holdings(request: Request) -> Response:
    """POST /portfolio/holdings/authorise: the account has given its broker the right to debit shares (DDPI)."""
    return success({"request_id": "simulated"})


async def nothing(request: Request) -> Response:
    """Auctions and mutual-fund lists: empty, never null."""
    return success([])


async def no_fund(request: Request) -> Response:
    """Single mutual-fund objects and all mutual-fund writes."""
    raise Refused("Mutual fund orders are not offered by this simulator.", "InputException", 400)


ROUTES = [
    Route("/portfolio/positions", authorised(positions), methods=["GET"]),
    Route("/portfolio/positions", authorised(convert_position), methods=["PUT"]),
    Route("/portfolio/holdings", authorised(holdings)),
    Route("/portfolio/holdings/auctions", authorised(nothing)),
    Route("/portfolio/holdings/compact", authorised(compact_holdings)),
    Route("/portfolio/holdings/summary", authorised(holdings_summary)),
    Route("/portfolio/holdings/authorise", authorised(authorise_holdings), methods=["POST"]),
    Route("/mf/orders", authorised(nothing), methods=["GET"]),
    Route("/mf/sips", authorised(nothing), methods=["GET"]),
    Route("/mf/holdings", authorised(nothing), methods=["GET"]),
    Route("/mf/orders", authorised(no_fund), methods=["POST"]),
    Route("/mf/sips", authorised(no_fund), methods=["POST"]),
    Route("/mf/orders/{item}", authorised(no_fund), methods=["GET", "DELETE"]),
    Route("/mf/sips/{item}", authorised(no_fund), methods=["GET", "PUT", "DELETE"]),
]
