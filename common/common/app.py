"""What every room's HTTP app has: error shape, request ids, metrics, health. One call, so a room's app.py stays short."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from common import metrics
from common.auth import Authenticator
from common.db import Database, lacks_migrations
from common.errors import AppError, install_error_handlers
from common.events import readers_of
from common.http import REQUEST_ID_HEADER
from common.logging import bound, get_logger
from common.openapi import describe_problems
from common.outbox_reading import outbox_router

log = get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")

Check = Callable[[], Mapping[str, Any] | None]
"""A readiness check: returns details, raises CheckFailed (or a database error) when the room cannot work."""


class CheckFailed(Exception):
    """A dependency that the room cannot work without is missing; the text says which and why."""


def request_id_of(headers: Headers) -> str:
    """The caller's request id if it has the accepted form, otherwise a new one."""
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.match(given) else uuid4().hex


class RequestContext:
    """Pure-ASGI middleware: binds room and correlation id, answers the id, writes one log line a request."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope))
        started = time.perf_counter()
        status = 500

        async def answer_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with bound(correlation_id=request_id, service=self._service):
            try:
                await self._app(scope, receive, answer_id)
            finally:
                if not scope["path"].startswith(("/health", "/metrics", "/internal")):
                    log.info(
                        "http.request",
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        ms=round((time.perf_counter() - started) * 1000, 1),
                    )


def _database_check(db: Database, package: str | None) -> Check:
    def check() -> Mapping[str, Any] | None:
        db.ping()
        if package is not None and lacks_migrations(package, db):
            raise CheckFailed("the database is older than this release: its migrations have not run")
        return None

    return check


def _run_checks(checks: Mapping[str, Check]) -> Response:
    results: dict[str, Any] = {}
    for name, check in checks.items():
        try:
            results[name] = {"ok": True, **(check() or {})}
        except (CheckFailed, AppError, SQLAlchemyError, RedisError, OSError) as error:
            results[name] = {"ok": False, "error": type(error).__name__, "detail": str(error).split("\n", 1)[0]}
    ok = all(result["ok"] for result in results.values())
    body = {"status": "ok" if ok else "unavailable", "checks": results}
    return JSONResponse(body, status_code=200 if ok else 503)


def health_router(checks: Mapping[str, Check]) -> APIRouter:
    """`/health` (the process), `/health/ready` (all dependencies), `/health/<dependency>`, `/metrics`."""
    router = APIRouter(tags=["health"], include_in_schema=False)

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health/ready")
    def ready() -> Response:
        return _run_checks(checks)

    @router.get("/health/{dependency}")
    def one(dependency: str) -> Response:
        if dependency not in checks:
            return JSONResponse({"status": "ok", "checks": {dependency: {"ok": True, "detail": "not used here"}}})
        return _run_checks({dependency: checks[dependency]})

    @router.get("/metrics")
    def exposition() -> Response:
        text, content_type = metrics.render()
        return Response(text, media_type=content_type)

    return router


def service_app(
    *,
    name: str,
    title: str,
    routers: Iterable[APIRouter],
    asked_most: APIRouter | None = None,
    db: Database | None = None,
    package: str | None = None,
    authenticator: Authenticator | None = None,
    checks: Mapping[str, Check] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    state: Mapping[str, Any] | None = None,
    version: str = "0.1.0",
) -> FastAPI:
    """A room's app. `name` is the folder's name; `package` the import name whose migrations must have run.

    A room that states facts lets the rooms that act on them read its outbox again (`common.outbox_reading`).
    Routes of `asked_most` are compared with a request before all others, each by itself.
    `state` is put on `app.state` beside `db` and `auth`, where dependencies find their collaborators.
    """
    app = FastAPI(title=title, version=version, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.db = db
    app.state.auth = authenticator
    for key, value in (state or {}).items():
        setattr(app.state, key, value)
    install_error_handlers(app)
    describe_problems(app)
    database = {"db": _database_check(db, package)} if db is not None else {}
    app.include_router(health_router({**database, **(checks or {})}))
    if db is not None and (readers := readers_of(name)):
        app.include_router(outbox_router(readers))
    for router in routers:
        app.include_router(router)
    if asked_most is not None:
        # Included, each would be looked for twice in a router of its own: a third of what the framework does for a request.
        app.router.routes[:0] = asked_most.routes
    app.add_middleware(metrics.HttpMetrics, service=name)
    app.add_middleware(RequestContext, service=name)
    return app
