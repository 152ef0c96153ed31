"""The gateway as one ASGI app, put together from its collaborators."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from api_gateway import docs, health
from api_gateway.config import Settings
from api_gateway.edge import NAME, Edge, internal_error
from api_gateway.gateway import Gateway, Rules
from api_gateway.limiter import FailOpenLimiter, Limiter, MemoryLimiter, RedisLimiter
from api_gateway.proxy import HttpPool, HttpUpstream
from api_gateway.routing import (
    ANALYTICS,
    EXECUTOR,
    MARKET_DATA,
    METHODS,
    NOTIFICATION,
    PORTFOLIO,
    SMALLCASE,
    USER,
    Limit,
)
from api_gateway.sessions import SessionCheck, UserServiceSessions
from api_gateway.tokens import TokenCheck
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.errors import install_error_handlers
from common.process import KEEP_ALIVE_S, authenticator_from, identity_from

VERSION = version("saras-api-gateway")

SERVER_OPTIONS: Mapping[str, Any] = {
    "proxy_headers": False,
    "server_header": False,
    "access_log": False,
    "timeout_keep_alive": KEEP_ALIVE_S,
}
"""How a server must run the gateway. uvicorn would by itself believe X-Forwarded-For from the same machine and hide the
real peer, and with it the hops that GATEWAY_TRUSTED_PROXY_HOPS counts."""

CORS_MAX_AGE_S = 600
CORS_REQUEST_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "X-Request-ID",
)  # fmt: skip
CORS_ANSWER_HEADERS = (
    "ETag", "Location", "Retry-After", "X-Request-ID", "X-Process-Time", "X-RateLimit-Limit", "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)  # fmt: skip


def create_app(
    settings: Settings,
    *,
    authenticator: Authenticator,
    upstreams: Mapping[str, ASGIApp],
    sessions: SessionCheck,
    limiter: Limiter,
    clock: Clock,
    resources: Sequence[AbstractAsyncContextManager[object]] = (),
) -> ASGIApp:
    """The gateway. `upstreams` maps rooms to ASGI apps (`proxy.HttpUpstream` or a room's app whose lifespan somebody
    else runs); `resources` are opened with the app and closed after it (the `HttpPool` of the upstreams)."""
    tokens = TokenCheck(authenticator.access)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(tokens.close)
            for resource in resources:
                await stack.enter_async_context(resource)
            yield

    own = FastAPI(title=docs.TITLE, version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(own)
    own.include_router(health.health_router(health.RoomHealth(upstreams, clock)))
    own.include_router(docs.docs_router(docs.MergedOpenApi(upstreams, version=VERSION, clock=clock)))
    own.include_router(_about(settings, upstreams))
    docs.mount_assets(own)

    app: ASGIApp = Gateway(
        own=own,
        upstreams=upstreams,
        tokens=tokens,
        sessions=sessions,
        limiter=limiter,
        rules=rules_from(settings),
        body_limit_bytes=settings.body_limit_bytes,
        upload_limit_bytes=settings.upload_limit_bytes,
    )
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=sorted(METHODS),
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
            max_age=CORS_MAX_AGE_S,
        )
    return Edge(ServerErrorMiddleware(app, handler=internal_error), trusted_proxy_hops=settings.trusted_proxy_hops)


def rules_from(settings: Settings) -> Rules:
    """The allowances that the settings name."""
    return Rules.per_minute(
        general=settings.general_per_minute,
        orders=settings.orders_per_minute,
        credentials=settings.auth_per_minute,
        anonymous=settings.anonymous_per_minute,
        postback=settings.postback_per_minute,
    )


def limiter_from(settings: Settings, clock: Clock) -> Limiter:
    """Counts in this process, or in the Redis of GATEWAY_LIMITS_URL with this process as the fallback."""
    local = MemoryLimiter(clock)
    if settings.limits_url == "memory://":
        return local
    return FailOpenLimiter(RedisLimiter(settings.limits_url, clock), local, strict=frozenset({Limit.CREDENTIALS.value}))


def from_settings(settings: Settings, clock: Clock | None = None) -> ASGIApp:
    """The gateway of a distributed installation: rooms behind HTTP, keys from files and the JWKS address."""
    clock = clock or SystemClock()
    pool = HttpPool(
        connect_timeout_s=settings.upstream_connect_timeout_s,
        timeout_s=settings.upstream_timeout_s,
        connections_per_room=settings.upstream_connections,
    )
    addresses = {
        USER: settings.user_service_url,
        PORTFOLIO: settings.portfolio_service_url,
        SMALLCASE: settings.smallcase_service_url,
        EXECUTOR: settings.trade_executor_url,
        NOTIFICATION: settings.notification_service_url,
        ANALYTICS: settings.analytics_service_url,
        MARKET_DATA: settings.market_data_service_url,
    }
    upstreams = {room: HttpUpstream(room, url, pool) for room, url in addresses.items()}
    sessions = UserServiceSessions(
        upstreams[USER], identity_from(settings, NAME), clock, ttl_s=settings.session_check_s
    )
    return create_app(
        settings,
        authenticator=authenticator_from(settings, NAME, clock),
        upstreams=upstreams,
        sessions=sessions,
        limiter=limiter_from(settings, clock),
        clock=clock,
        resources=(pool,),
    )


def _about(settings: Settings, upstreams: Mapping[str, ASGIApp]) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def root() -> dict[str, str]:
        return {"name": docs.TITLE, "docs": "/docs", "openapi": "/openapi.json", "health": "/health/ready"}

    @router.get("/info")
    async def info() -> dict[str, Any]:
        return {
            "name": docs.TITLE,
            "version": VERSION,
            "environment": settings.environment,
            "api": "/api/v1",
            "rooms": sorted(upstreams),
        }

    return router
