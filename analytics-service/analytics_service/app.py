"""analytics-service as an ASGI app, put together from its collaborators."""

from fastapi import FastAPI

from analytics_service import routes, routes_jobs, routes_schedule
from analytics_service.analyses import Analyses
from analytics_service.config import NAME, Settings
from analytics_service.wakeup import SilentWakeup, Wakeup
from common.app import service_app
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    wakeup: Wakeup | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """The room's app; `clock` (default: the machine's) dates the answers, `wakeup` (default: nobody) wakes workers."""
    return service_app(
        name=NAME,
        title="Saras analytics-service",
        package="analytics_service",
        routers=[routes.router, routes_jobs.router, routes_schedule.router],
        db=db,
        authenticator=authenticator,
        state={
            "settings": settings,
            "clock": clock or SystemClock(),
            "analyses": Analyses(),
            "wakeup": wakeup or SilentWakeup(),
        },
    )
