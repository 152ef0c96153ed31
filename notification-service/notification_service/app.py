"""notification-service as an ASGI app, put together from its collaborators."""

from fastapi import FastAPI

from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from notification_service import routes
from notification_service.config import NAME, Settings


def create_app(
    settings: Settings, *, db: Database, authenticator: Authenticator, clock: Clock | None = None
) -> FastAPI:
    """The room's app; `clock` (default: the machine's) dates readings and removals."""
    return service_app(
        name=NAME,
        title="Saras notification-service",
        package="notification_service",
        routers=[routes.router],
        db=db,
        authenticator=authenticator,
        state={"settings": settings, "clock": clock or SystemClock()},
    )
