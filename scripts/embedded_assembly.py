"""The composition root of one machine: every room with its collaborators, from the settings in the environment.

What differs from processes on servers is chosen here and nowhere else: all rooms share one in-process bus, and Celery
uses its in-memory transport.
"""

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.types import ASGIApp

import analytics_service.consumers
import analytics_service.desk
import analytics_service.loop
import analytics_service.tasks
import analytics_service.wakeup
import notification_service.consumers
import notification_service.loop
import notification_service.tasks
import notification_service.wakeup
import portfolio_service.consumers
import portfolio_service.gauges
import portfolio_service.sweeper
import smallcase_service.consumers
import smallcase_service.driver
import trade_executor.consumers
import trade_executor.loop
from analytics_service.app import create_app as create_analytics
from analytics_service.config import Settings as AnalyticsSettings
from api_gateway.app import from_settings as create_gateway
from api_gateway.config import Settings as GatewaySettings
from common import audit_chain
from common.bus import LocalBus
from common.cache import cache_from_url
from common.catching_up import consuming
from common.celery_app import start_worker_thread
from common.clock import Clock, SystemClock
from common.config import ServiceSettings
from common.consumers import Handlers
from common.db import Database, run_migrations
from common.http import ServiceClient
from common.outbox import Relay
from common.process import authenticator_from, identity_from, market_from, standings_from
from market_data_service import loop as market_loop
from market_data_service.app import create_app as create_market_data
from market_data_service.config import Settings as MarketDataSettings
from market_data_service.kite_source import ExecutorSessions, KiteQuoteSource
from market_data_service.market import Market
from notification_service.app import create_app as create_notification
from notification_service.config import Settings as NotificationSettings
from notification_service.desk import desk_from
from portfolio_service.app import create_app as create_portfolio
from portfolio_service.config import Settings as PortfolioSettings
from scripts.embedded_rooms import Background, Loop, RoomServer
from smallcase_service.app import create_app as create_smallcase
from smallcase_service.config import Settings as SmallcaseSettings
from smallcase_service.desk import Desk as BasketDesk
from smallcase_service.portfolio_orders import portfolio_from
from trade_executor import tasks
from trade_executor.app import create_app as create_executor
from trade_executor.config import Settings as ExecutorSettings
from trade_executor.desk import Desk
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.wakeup import CeleryWakeup
from user_service import housekeeping
from user_service.app import create_app as create_user
from user_service.config import Settings as UserSettings
from user_service.keys import SigningKeys, load_sealer

Settings = TypeVar("Settings", bound=ServiceSettings)


@dataclass
class Platform:
    """All rooms of this process."""

    listeners: Mapping[str, socket.socket]
    clock: Clock = field(default_factory=SystemClock)
    bus: LocalBus = field(default_factory=LocalBus)
    servers: list[RoomServer] = field(default_factory=list)
    loops: list[tuple[str, list[Loop]]] = field(default_factory=list)
    databases: list[Database] = field(default_factory=list)
    background: Background = field(default_factory=Background)

    def build(self) -> None:
        """Put every room together; the gateway last, so that what it offers is there."""
        self._user()
        self._market_data()
        self._portfolio()
        self._executor()
        self._smallcase()
        self._notification()
        self._analytics()
        self._serve("api-gateway", create_gateway(GatewaySettings.load(), self.clock))

    def start(self) -> None:
        """Serve the rooms, then start their loops, the gateway's door last of all."""
        *rooms, gateway = self.servers
        for server in rooms:
            server.start()
        for name, loops in self.loops:
            self.background.start(name, loops)
        gateway.start()

    def stop(self) -> None:
        """Close the door, let loops end, then the rooms and their connections."""
        for server in self.servers[-1:]:
            server.stop()
        self.background.end()
        for server in reversed(self.servers[:-1]):
            server.stop()
        for database in self.databases:
            database.dispose()

    def _user(self) -> None:
        settings, db = self._room("user_service", UserSettings)
        app = create_user(
            settings,
            db=db,
            authenticator=authenticator_from(settings, "user-service", self.clock),
            signing_keys=SigningKeys.load(Path(settings.required("signing_key_file")), settings.retired_key_file),
            sealer=load_sealer(settings),
            clock=self.clock,
        )
        self._serve("user-service", app)
        self._relay("user-service", db)
        self.loops.append(("user-service", [housekeeping.sweeper(db, self.clock)]))
        self._link_audit("user-service", db)

    def _market_data(self) -> None:
        name = "market-data-service"
        settings, db = self._room("market_data_service", MarketDataSettings)
        executor = ServiceClient(
            settings.trade_executor_url, audience="trade-executor", identity=identity_from(settings, name)
        )
        source = KiteQuoteSource(ExecutorSessions(executor), self.clock)
        market = Market.create(settings)
        cache = cache_from_url(settings.redis_url)
        app = create_market_data(
            settings,
            db=db,
            authenticator=authenticator_from(settings, name, self.clock),
            market=market,
            source=source,
            clock=self.clock,
            cache=cache,
        )
        self._serve(name, app)
        feed = partial(
            market_loop.run, settings=settings, db=db, clock=self.clock, market=market, source=source, cache=cache
        )
        self.loops.append((name, [feed]))

    def _portfolio(self) -> None:
        name = "portfolio-service"
        settings, db = self._room("portfolio_service", PortfolioSettings)
        market = market_from(settings, name)
        app = create_portfolio(
            settings,
            db=db,
            authenticator=authenticator_from(settings, name, self.clock),
            market=market,
            standings=standings_from(settings, name),
            clock=self.clock,
        )
        self._serve(name, app)
        self._relay(name, db)
        self._consume(name, settings, db, portfolio_service.consumers.HANDLERS)
        sweep = partial(portfolio_service.sweeper.run, db, market, self.clock, settings)
        self.loops.append((name, [sweep, partial(portfolio_service.gauges.run, db, settings)]))
        self._link_audit(name, db)

    def _executor(self) -> None:
        name = "trade-executor"
        settings, db = self._room("trade_executor", ExecutorSettings)
        access = KiteAccess(db, settings, sealer_from(settings), self.clock)
        access.ensure_account()
        market = market_from(settings, name)
        desk = Desk(db, settings, market, access, self.clock)
        celery = tasks.make_celery("memory://", desk=lambda: desk)
        wakeup = CeleryWakeup(celery)
        app = create_executor(
            settings,
            db=db,
            authenticator=authenticator_from(settings, name, self.clock),
            access=access,
            market=market,
            wakeup=wakeup,
            clock=self.clock,
        )
        self._serve(name, app)
        self._relay(name, db)

        def work(stop: threading.Event) -> None:
            start_worker_thread(celery, stop).join()
            wakeup.close()

        self.loops.append((name, [partial(trade_executor.loop.run, desk), work]))
        self._consume(name, settings, db, trade_executor.consumers.HANDLERS, partial(wakeup.pump, settings.account))
        self._link_audit(name, db)

    def _smallcase(self) -> None:
        name = "smallcase-service"
        settings, db = self._room("smallcase_service", SmallcaseSettings)
        market, portfolio = market_from(settings, name), portfolio_from(settings, name)
        app = create_smallcase(
            settings,
            db=db,
            authenticator=authenticator_from(settings, name, self.clock),
            market=market,
            portfolio=portfolio,
            clock=self.clock,
        )
        self._serve(name, app)
        self._relay(name, db)
        self._consume(name, settings, db, smallcase_service.consumers.make_handlers(self.clock))
        desk = BasketDesk(db, market, portfolio, self.clock, settings.allowance())
        self.loops.append((name, [partial(smallcase_service.driver.run, desk, standings_from(settings, name))]))

    def _notification(self) -> None:
        name = "notification-service"
        settings, db = self._room("notification_service", NotificationSettings)
        desk = desk_from(settings, db, identity_from(settings, name), self.clock)
        celery = notification_service.tasks.make_celery("memory://", desk=lambda: desk)
        wakeup = notification_service.wakeup.CeleryWakeup(celery)
        app = create_notification(
            settings,
            db=db,
            authenticator=authenticator_from(settings, name, self.clock),
            market=desk.market,
            wakeup=wakeup,
            clock=self.clock,
        )
        self._serve(name, app)
        handlers = notification_service.consumers.make_handlers(self.clock)
        self._consume(name, settings, db, handlers, wakeup.deliver)

        def work(stop: threading.Event) -> None:
            start_worker_thread(celery, stop).join()
            wakeup.close()

        self.loops.append((name, [*notification_service.loop.loops(desk), work]))

    def _analytics(self) -> None:
        name = "analytics-service"
        settings, db = self._room("analytics_service", AnalyticsSettings)
        desk = analytics_service.desk.desk_from(settings, db, identity_from(settings, name), self.clock)
        celery = analytics_service.tasks.make_celery("memory://", desk=lambda: desk)
        wakeup = analytics_service.wakeup.CeleryWakeup(celery)
        authenticator = authenticator_from(settings, name, self.clock)
        app = create_analytics(settings, db=db, authenticator=authenticator, wakeup=wakeup, clock=self.clock)
        self._serve(name, app)
        self._relay(name, db)
        self._consume(name, settings, db, analytics_service.consumers.HANDLERS)

        def work(stop: threading.Event) -> None:
            start_worker_thread(celery, stop).join()
            wakeup.close()

        self.loops.append((name, [*analytics_service.loop.loops(desk), work]))

    def _room(self, package: str, kind: type[Settings]) -> tuple[Settings, Database]:
        settings = kind.load()
        url = settings.required("database_url")
        run_migrations(package, url)
        db = Database(url, pool_size=settings.database_pool_size, application_name=package)
        self.databases.append(db)
        return settings, db

    def _serve(self, name: str, app: ASGIApp) -> None:
        self.servers.append(RoomServer(name, app, self.listeners[name]))

    def _relay(self, name: str, db: Database) -> None:
        self.loops.append((name, [Relay(db, self.bus, name=name).run]))

    def _link_audit(self, name: str, db: Database) -> None:
        self.loops.append((name, [partial(audit_chain.run, db, name)]))

    def _consume(
        self,
        name: str,
        settings: ServiceSettings,
        db: Database,
        handlers: Handlers,
        after_commit: Callable[[], None] | None = None,
    ) -> None:
        # Declared before any relay runs: a queue that does not exist yet would miss what is published.
        self.bus.declare(name, handlers)
        # This bus loses nothing but its dead letters, which are in memory only: caught up like anything lost.
        identity = identity_from(settings, name)
        loops = consuming(settings, self.bus, db, identity, handlers=handlers, after_commit=after_commit)
        self.loops.append((name, loops))
