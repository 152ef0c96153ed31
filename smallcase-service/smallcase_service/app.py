"""smallcase-service as an ASGI app, put together from its collaborators."""

from fastapi import FastAPI

from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from common.market_data import MarketData
from smallcase_service import (
    routes,
    routes_catalogue,
    routes_investments,
    routes_sips,
    routes_suggestions,
    routes_tracking,
)
from smallcase_service.config import NAME, Settings
from smallcase_service.desk import Desk
from smallcase_service.optimising import Optimiser
from smallcase_service.portfolio_orders import PortfolioOrders


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    market: MarketData,
    portfolio: PortfolioOrders,
    clock: Clock | None = None,
) -> FastAPI:
    """The room's app; `market` knows instruments and prices, `portfolio` accepts orders, `clock` (default: the machine's)
    dates versions and orders."""
    clock = clock or SystemClock()
    desk = Desk(db, market, portfolio, clock, settings.allowance())
    return service_app(
        name=NAME,
        title="Saras smallcase-service",
        package="smallcase_service",
        # One smallcase last: the other paths are longer, or fixed words where it takes an id.
        routers=[
            routes_investments.router,
            routes_sips.router,
            routes_catalogue.router,
            routes_suggestions.router,
            routes_tracking.router,
            routes.router,
        ],
        db=db,
        authenticator=authenticator,
        state={"settings": settings, "market": market, "clock": clock, "desk": desk, "optimiser": Optimiser()},
    )
