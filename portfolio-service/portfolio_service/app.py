"""The HTTP app of portfolio-service."""

from fastapi import FastAPI

from common.app import service_app
from common.audit_routes import audit_router
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from common.market_data import MarketData
from common.standing import Standings
from portfolio_service import (
    routes_admin,
    routes_admin_orders,
    routes_funds,
    routes_internal,
    routes_orders,
    routes_portfolios,
)
from portfolio_service.config import NAME, Settings
from portfolio_service.shared_commit import SharedCommit


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    market: MarketData,
    standings: Standings,
    clock: Clock | None = None,
) -> FastAPI:
    """The app with its collaborators; importing this module does nothing."""
    clock = clock or SystemClock()
    commit = SharedCommit(db, market, clock, settings)
    return service_app(
        name=NAME,
        title="Saras portfolio-service",
        asked_most=routes_orders.placing,
        routers=[
            routes_orders.router,
            routes_portfolios.router,
            routes_funds.router,
            routes_admin.router,
            routes_admin_orders.router,
            routes_internal.router,
            audit_router(NAME),
        ],
        db=db,
        package="portfolio_service",
        authenticator=authenticator,
        state={"settings": settings, "market": market, "standings": standings, "clock": clock, "commit": commit},
    )
