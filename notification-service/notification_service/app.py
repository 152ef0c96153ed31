"""notification-service as an ASGI app, put together from its collaborators."""

from fastapi import FastAPI

from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from common.market_data import MarketData
from notification_service import (
    routes,
    routes_admin,
    routes_alerts,
    routes_callbacks,
    routes_channels,
    routes_development,
    routes_preferences,
)
from notification_service.config import NAME, Settings, sealer_from
from notification_service.wakeup import SilentWakeup, Wakeup


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    market: MarketData,
    wakeup: Wakeup | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """The room's app; `clock` (default: the machine's) dates readings, removals and deliveries.

    Raises InvalidSettings for sealing keys that are none.
    """
    routers = [
        # Before the notifications: their ids must not be read from these names.
        routes_preferences.router,
        routes_channels.router,
        routes_alerts.router,
        routes_callbacks.router,
        routes.router,
        routes_admin.router,
    ]
    if settings.mail_directory is not None:
        routers.append(routes_development.router)
    return service_app(
        name=NAME,
        title="Saras notification-service",
        package="notification_service",
        routers=routers,
        db=db,
        authenticator=authenticator,
        state={
            "settings": settings,
            "clock": clock or SystemClock(),
            "market": market,
            "sealer": sealer_from(settings),
            "wakeup": wakeup or SilentWakeup(),
        },
    )
