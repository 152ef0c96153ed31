"""Wiring: engine, routes, ticker and postbacks in one ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

from kite_simulator import (
    routes_control,
    routes_faults,
    routes_margins,
    routes_market,
    routes_orders,
    routes_portfolio,
    routes_session,
)
from kite_simulator.config import Settings
from kite_simulator.engine import Clock, Engine, Refused
from kite_simulator.postback import PostbackMail, Postbacks
from kite_simulator.ratelimit import RateLimiter
from kite_simulator.ticker import Ticker
from kite_simulator.wire import render_defect, render_http_error, render_refusal

log = structlog.get_logger()
PUMP_INTERVAL_S = 0.02


def report_failure(task: asyncio.Task[None]) -> None:
    """A background task must not die in silence."""
    if not task.cancelled() and task.exception() is not None:
        log.error("simulator.task_failed", exc_info=task.exception())


def create_app(settings: Settings | None = None, clock: Clock | None = None) -> Starlette:
    """The simulator as an ASGI application. The engine lives in `app.state.engine`."""
    settings = settings or Settings()
    engine = Engine(settings.engine_settings(), clock, settings.data_dir)
    if settings.access_token:
        engine.sessions.adopt(settings.access_token)
    ticker = Ticker(engine, settings.heartbeat_s)
    postbacks = Postbacks(settings.postback_url, PostbackMail(engine, settings.api_secret))

    async def pump() -> None:
        while True:
            engine.advance()
            for update in engine.drain_updates():
                ticker.publish_order(update)
                postbacks.offer(update)
            postbacks.dispatch()
            ticked = engine.drain_ticked()
            if ticked:
                ticker.publish_ticks(ticked)
            await asyncio.sleep(PUMP_INTERVAL_S)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(pump()), asyncio.create_task(postbacks.run())]
        for task in tasks:
            task.add_done_callback(report_failure)
        log.info("simulator.started", profile=settings.profile, seed=settings.seed, facts=len(engine.kernel.facts))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        engine.close()

    routes = [
        *routes_session.ROUTES,
        *routes_orders.ROUTES,
        *routes_market.ROUTES,
        *routes_portfolio.ROUTES,
        *routes_margins.ROUTES,
        *([*routes_control.ROUTES, *routes_faults.ROUTES] if settings.control_enabled else []),
        WebSocketRoute("/", ticker.serve),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            Refused: render_refusal,
            HTTPException: render_http_error,
            Exception: render_defect,
        },
    )
    app.state.engine = engine
    app.state.settings = settings
    app.state.postbacks = postbacks
    app.state.limiter = RateLimiter() if settings.limits_on else None
    return app
