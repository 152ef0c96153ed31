"""The HTTP app of portfolio-service."""

from fastapi import FastAPI, Request
from sqlalchemy.exc import OperationalError, TimeoutError
from starlette.responses import Response

from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from common.errors import problem_response
from common.market_data import MarketData
from portfolio_service import routes_admin, routes_funds, routes_orders, routes_portfolios
from portfolio_service.config import NAME, Settings

WAITED_TOO_LONG = frozenset({"55P03", "57014", "40P01"})
"""lock_not_available, query_canceled, deadlock_detected: nothing was written, the same request may be sent again."""
RETRY_AFTER_S = "1"


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    market: MarketData,
    clock: Clock | None = None,
) -> FastAPI:
    """The app with its collaborators; importing this module does nothing."""
    app = service_app(
        name=NAME,
        title="Saras portfolio-service",
        routers=[routes_orders.router, routes_portfolios.router, routes_funds.router, routes_admin.router],
        db=db,
        package="portfolio_service",
        authenticator=authenticator,
        state={"settings": settings, "market": market, "clock": clock or SystemClock()},
    )
    app.add_exception_handler(OperationalError, _database_busy)
    app.add_exception_handler(TimeoutError, _database_busy)
    return app


async def _database_busy(_request: Request, error: Exception) -> Response:
    """Rows or connections were taken for too long: an honest 503 instead of a crash; anything else stays one."""
    if isinstance(error, OperationalError) and getattr(error.orig, "pgcode", None) not in WAITED_TOO_LONG:
        raise error
    return problem_response(
        503,
        "busy",
        "Too many requests for the same data at once; nothing was changed, send it again.",
        headers={"Retry-After": RETRY_AFTER_S},
    )
