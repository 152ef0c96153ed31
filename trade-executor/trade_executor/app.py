"""The executor's HTTP app: ops, kill switch, the broker's doors."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from common.app import Check, service_app
from common.audit_routes import audit_router
from common.auth import Authenticator
from common.clock import Clock, SystemClock
from common.db import Database
from common.market_data import MarketData
from trade_executor import routes_broker, routes_control, routes_ops, routes_recon
from trade_executor.brokers.base import BrokerSessionExpired
from trade_executor.config import SERVICE, Settings
from trade_executor.desk import Desk, MarketSessions
from trade_executor.ledger_books import LedgerBooks, ledger_from
from trade_executor.sessions import KiteAccess
from trade_executor.wakeup import SilentWakeup, Wakeup


def create_app(
    settings: Settings,
    *,
    db: Database,
    authenticator: Authenticator,
    access: KiteAccess,
    market: MarketSessions | MarketData,
    wakeup: Wakeup | None = None,
    clock: Clock | None = None,
    ledger: LedgerBooks | None = None,
) -> FastAPI:
    """The app over its collaborators; importing and creating it does no I/O."""
    clock = clock or SystemClock()
    return service_app(
        name=SERVICE,
        title="Saras trade executor",
        db=db,
        package="trade_executor",
        authenticator=authenticator,
        routers=[
            routes_ops.router,
            routes_recon.router,
            routes_control.router,
            routes_broker.router,
            routes_broker.internal,
            audit_router(SERVICE),
        ],
        checks={"broker": _session_check(access, settings.account)},
        state={
            "settings": settings,
            "access": access,
            "clock": clock,
            "wakeup": wakeup or SilentWakeup(),
            "desk": Desk(db, settings, market, access, clock),
            "ledger": ledger or ledger_from(settings),
        },
    )


def _session_check(access: KiteAccess, account: str) -> Check:
    def check() -> Mapping[str, Any] | None:
        # Without a session the room still takes orders and cancels; it is told, not taken out of service.
        try:
            access.current(account)
        except BrokerSessionExpired as error:
            return {"session": "none", "detail": str(error)}
        return {"session": "live"}

    return check
