"""smallcase-service as an ASGI app, put together from its collaborators."""

from fastapi import FastAPI

from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from common.market_data import MarketData
from smallcase_service import routes
from smallcase_service.config import NAME, Settings


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    market: MarketData,
    clock: Clock | None = None,
) -> FastAPI:
    """The room's app; `market` knows instruments and prices, `clock` (default: the machine's) dates versions."""
    return service_app(
        name=NAME,
        title="Saras smallcase-service",
        package="smallcase_service",
        routers=[routes.router],
        db=db,
        authenticator=authenticator,
        state={"settings": settings, "market": market, "clock": clock or SystemClock()},
    )
