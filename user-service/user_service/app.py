"""The HTTP app of user-service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from common.app import service_app
from common.audit_routes import audit_router
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from user_service import routes_account, routes_admin, routes_auth, routes_internal
from user_service.access import signed_in_admin
from user_service.config import Settings
from user_service.context import Room
from user_service.hashing import PasswordHashing
from user_service.keys import SigningKeys
from user_service.sealing import Sealer


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    signing_keys: SigningKeys,
    sealer: Sealer,
    clock: Clock | None = None,
    hashing: PasswordHashing | None = None,
) -> FastAPI:
    """Wire the room; `authenticator` must accept what `signing_keys` signs."""
    clock = clock or SystemClock()
    pool = hashing or PasswordHashing(workers=settings.hashing_workers, waiting_max=settings.hashing_waiting_max)
    room = Room(
        settings=settings,
        db=db,
        clock=clock,
        keys=signing_keys,
        sealer=sealer,
        hashing=pool,
        access_tokens=authenticator.access,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        pool.close()

    return service_app(
        name="user-service",
        title="Saras user-service",
        routers=[
            routes_auth.router,
            routes_account.router,
            routes_admin.router,
            audit_router("user-service", guard=signed_in_admin),
            routes_internal.router,
        ],
        db=db,
        package="user_service",
        authenticator=authenticator,
        lifespan=lifespan,
        state={"room": room},
    )
