"""Health of the platform as seen from its door: the gateway's own life and the rooms' readiness.

The answers are public, so they name rooms and checks but never repeat what a room says about its failure.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp

from api_gateway.cached import Cached
from api_gateway.routing import PORTFOLIO, USER
from api_gateway.upstream import get
from common import metrics
from common.clock import Clock
from common.errors import AppError

CHECK_TIMEOUT_S = 2.0
KEPT_S = 1.0
"""Probes and the curious share one round of questions per second."""
ESSENTIAL_ROOMS = frozenset({USER, PORTFOLIO})
"""Without sign-in and without the ledger the platform can not do its work; the other rooms may be away for a while."""

Report = dict[str, Any]


class RoomHealth:
    """Asks every room for one of its health routes, in parallel, within CHECK_TIMEOUT_S."""

    def __init__(self, upstreams: Mapping[str, ASGIApp], clock: Clock) -> None:
        self._upstreams = upstreams
        self._ready = Cached(partial(self._ask_all, "/health/ready"), ttl_s=KEPT_S, clock=clock)
        self._db = Cached(partial(self._ask_all, "/health/db"), ttl_s=KEPT_S, clock=clock)
        self._redis = Cached(partial(self._ask_all, "/health/redis"), ttl_s=KEPT_S, clock=clock)

    async def ready(self) -> tuple[bool, Report]:
        """Can the platform work, and each room's state."""
        rooms = await self._ready.get()
        missing = {room for room, state in rooms.items() if state != "ok"} | (ESSENTIAL_ROOMS - rooms.keys())
        usable = not missing & ESSENTIAL_ROOMS
        return usable, {"status": "unavailable" if not usable else "degraded" if missing else "ok", "rooms": rooms}

    async def db(self) -> tuple[bool, Report]:
        """Do all rooms reach their databases."""
        return _all_ok(await self._db.get())

    async def redis(self) -> tuple[bool, Report]:
        """Do all rooms reach Redis, as far as they use it."""
        return _all_ok(await self._redis.get())

    async def _ask_all(self, path: str) -> dict[str, str]:
        states = await asyncio.gather(*(self._ask(room, path) for room in self._upstreams))
        return dict(zip(self._upstreams, states, strict=True))

    async def _ask(self, room: str, path: str) -> str:
        try:
            answer = await get(
                self._upstreams[room], path, headers=[(b"host", room.encode())], timeout_s=CHECK_TIMEOUT_S
            )
            if answer.status == 200:
                return "ok"
            failed = [name for name, check in answer.json()["checks"].items() if check.get("ok") is not True]
            return f"not ready: {', '.join(sorted(failed))}"
        except AppError as error:
            return error.code
        except (ValueError, KeyError, TypeError, AttributeError):
            return "not understood"


def _all_ok(rooms: dict[str, str]) -> tuple[bool, Report]:
    ok = all(state == "ok" for state in rooms.values())
    return ok, {"status": "ok" if ok else "unavailable", "rooms": rooms}


def health_router(rooms: RoomHealth) -> APIRouter:
    """`/health`, `/health/ready`, `/health/db`, `/health/redis` and `/metrics`."""
    router = APIRouter(include_in_schema=False)

    def answer(result: tuple[bool, Report]) -> Response:
        ok, report = result
        return JSONResponse(report, status_code=200 if ok else 503)

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready() -> Response:
        return answer(await rooms.ready())

    @router.get("/health/db")
    async def db() -> Response:
        return answer(await rooms.db())

    @router.get("/health/redis")
    async def redis() -> Response:
        return answer(await rooms.redis())

    @router.get("/metrics")
    def exposition() -> Response:
        text, content_type = metrics.render()
        return Response(text, media_type=content_type)

    return router
