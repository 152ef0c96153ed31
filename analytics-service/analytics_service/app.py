"""analytics-service as an ASGI app, put together from its collaborators."""

from fastapi import FastAPI

from analytics_service import routes
from analytics_service.analyses import Analyses
from analytics_service.config import NAME, Settings
from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database


def create_app(
    settings: Settings, *, db: Database, authenticator: Authenticator, clock: Clock | None = None
) -> FastAPI:
    """The room's app; `clock` (default: the machine's) dates the answers."""
    return service_app(
        name=NAME,
        title="Saras analytics-service",
        package="analytics_service",
        routers=[routes.router],
        db=db,
        authenticator=authenticator,
        state={"settings": settings, "clock": clock or SystemClock(), "analyses": Analyses()},
    )
