"""The HTTP app of market-data-service."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from redis.exceptions import RedisError

from common.app import Check, CheckFailed, service_app
from common.auth import Authenticator
from common.cache import Cache
from common.clock import Clock, SystemClock
from common.db import Database
from common.logging import bound, get_logger
from market_data_service import (
    routes_calendar,
    routes_candles,
    routes_corporate_actions,
    routes_instruments,
    routes_internal,
    routes_prices,
)
from market_data_service.candle_histories import CandleBacklog
from market_data_service.config import NAME, PACKAGE, Settings
from market_data_service.market import Market
from market_data_service.source import QuoteSource

log = get_logger(__name__)

Loop = Callable[[threading.Event], None]
JOIN_TIMEOUT_S = 15.0


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    market: Market,
    source: QuoteSource,
    clock: Clock | None = None,
    cache: Cache | None = None,
    background: Sequence[Loop] = (),
) -> FastAPI:
    """The app over a `market` that somebody keeps up to date: a feed in this process that shares the object, or the
    loops given as `background`, which run on threads as long as the app does.
    """
    clock = clock or SystemClock()
    backlog = CandleBacklog(db, source, clock)
    return service_app(
        name=NAME,
        title="Saras market data",
        routers=[
            routes_instruments.router,
            routes_prices.router,
            routes_candles.router,
            routes_calendar.router,
            routes_corporate_actions.router,
            routes_internal.router,
        ],
        db=db,
        package=PACKAGE,
        authenticator=authenticator,
        checks=_checks(market, clock, cache if settings.redis_url else None),
        lifespan=_lifespan(market, clock, [*background, backlog.run]),
        state={"market": market, "source": source, "clock": clock, "settings": settings, "backlog": backlog},
    )


def _lifespan(market: Market, clock: Clock, background: Sequence[Loop]) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Asked once here, on a thread: the holiday library takes seconds to import and no request shall wait for it.
        for warning in await asyncio.to_thread(market.calendar_warnings, clock.now()):
            log.warning("calendar.incomplete", detail=warning)
        stop = threading.Event()
        threads = [threading.Thread(target=_named, args=(work, stop), name="market-data-mirror") for work in background]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                await asyncio.to_thread(thread.join, JOIN_TIMEOUT_S)

    return lifespan


def _named(work: Loop, stop: threading.Event) -> None:
    with bound(service=NAME):
        work(stop)


def _checks(market: Market, clock: Clock, cache: Cache | None) -> dict[str, Check]:
    def instruments() -> Mapping[str, Any]:
        loads = {
            exchange: {
                "outcome": load.outcome,
                "at": load.at.isoformat(),
                "loaded_at": load.loaded_at.isoformat() if load.loaded_at else None,
                "detail": load.detail,
            }
            for exchange, load in market.feed.loads.items()
        }
        if not len(market.instruments):
            raise CheckFailed("no instruments are loaded yet: orders and searches cannot be answered")
        return {"count": len(market.instruments), "loads": loads}

    def broker() -> Mapping[str, Any]:
        # Not fatal: prices are served with their age, and consumers decide what is too old.
        status = market.feed.status
        newest = market.prices.newest_at()
        age = round((clock.now() - newest).total_seconds(), 1) if newest else None
        since = status.since.isoformat() if status.since else None
        return {"state": status.state, "since": since, "detail": status.detail, "newest_price_age_s": age}

    def calendar() -> Mapping[str, Any]:
        return {"mode": market.calendar.mode, "warnings": market.calendar_warnings(clock.now())}

    def redis() -> Mapping[str, Any]:
        # Not fatal either: without it a process reads prices from the table.
        if cache is None:
            return {"detail": "not configured: prices polled by another process come from the table"}
        try:
            cache.ping()
        except (RedisError, OSError) as error:
            return {"reachable": False, "detail": type(error).__name__}
        return {"reachable": True}

    return {"instruments": instruments, "broker": broker, "calendar": calendar, "redis": redis}
