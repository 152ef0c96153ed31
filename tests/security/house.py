"""All rooms in this process over real PostgreSQL, with the real simulator as their broker and the gateway in front.

Nothing runs by itself: `settle` carries events between the rooms and works at the broker until nothing is left to do.
"""

import base64
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jose import jwk
from passlib.context import CryptContext
from pydantic import SecretStr
from starlette.types import ASGIApp

import analytics_service.consumers
import notification_service.consumers
import smallcase_service.consumers
import trade_executor.consumers
from analytics_service.app import create_app as create_analytics
from analytics_service.config import Settings as AnalyticsSettings
from api_gateway import routing
from api_gateway.app import create_app as create_gateway
from api_gateway.config import Settings as GatewaySettings
from api_gateway.limiter import MemoryLimiter
from api_gateway.sessions import UserServiceSessions
from common.auth import ALGORITHM, AccessTokens, Authenticator, ServiceIdentity, StaticKeys
from common.cache import MemoryCache
from common.clock import FixedClock, trading_date
from common.consumers import Handlers, handle
from common.db import Database
from common.http import ServiceClient
from common.market_data import History
from common.outbox import envelope_of, outbox
from common.standing import StandingClient
from common.testing import ROOMS, AppTransport, StaticMarketData, client_for, new_rsa_pem
from kite_simulator.server import SimulatorServer
from market_data_service.app import create_app as create_market_data
from market_data_service.config import Settings as MarketDataSettings
from market_data_service.kite_source import BrokerSession, KiteQuoteSource
from market_data_service.loader import load_exchange
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.poller import Poller
from notification_service.app import create_app as create_notification
from notification_service.config import Settings as NotificationSettings
from portfolio_service.app import create_app as create_portfolio
from portfolio_service.config import Settings as PortfolioSettings
from portfolio_service.consumers import make_handlers
from smallcase_service.app import create_app as create_smallcase
from smallcase_service.config import Settings as SmallcaseSettings
from smallcase_service.portfolio_orders import PortfolioClient
from trade_executor import polling
from trade_executor.app import create_app as create_executor
from trade_executor.brokers.session import simulator_request_token
from trade_executor.desk import Desk
from trade_executor.pump import pump
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.testing import ACCOUNT, make_settings
from user_service.app import create_app as create_user
from user_service.config import Settings as UserSettings
from user_service.hashing import PasswordHashing
from user_service.keys import SigningKeys
from user_service.sealing import Sealer

PACKAGES: Mapping[str, str] = {room: room.replace("-", "_") for room in routing.ROOMS}
SPEAKERS = (routing.USER, routing.PORTFOLIO, routing.EXECUTOR, routing.SMALLCASE)
"""Rooms with an outbox."""
API_SECRET = "security-house-api-secret"
TWILIO_TOKEN = "security-house-twilio-token"
ROUNDS_MAX = 20
ALL_ALLOWED = 1_000_000


class Rings:
    """A wake-up that remembers who was asked to look."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def pump(self, account: str) -> None:
        self.rung.append("pump")

    def observe(self, account: str) -> None:
        self.rung.append("observe")


class HeldSession:
    """The broker session market data reads with."""

    def __init__(self, session: BrokerSession) -> None:
        self._session = session

    def current(self) -> BrokerSession:
        return self._session


@dataclass(frozen=True)
class RoomKeys:
    """A private key of its own for every room, and one for users' tokens."""

    user_pem: str
    rooms: Mapping[str, str]

    @cached_property
    def jwks(self) -> dict[str, Any]:
        """The rooms' public keys."""
        return {"keys": [public_jwk(pem, room) for room, pem in self.rooms.items()]}


def public_jwk(pem: str, kid: str) -> dict[str, Any]:
    """The public half of a PEM key as a JWK."""
    return {**jwk.construct(pem, ALGORITHM).public_key().to_dict(), "kid": kid, "use": "sig", "alg": ALGORITHM}


def new_keys() -> RoomKeys:
    """Fresh keys of 2048 bits."""
    return RoomKeys(new_rsa_pem(), {room: new_rsa_pem() for room in ROOMS})


def cheap_hashing() -> PasswordHashing:
    """Argon2id with little memory: these tests are about something else."""
    context = CryptContext(
        schemes=["argon2"], argon2__type="ID", argon2__memory_cost=64, argon2__time_cost=1, argon2__parallelism=1
    )
    return PasswordHashing(workers=2, waiting_max=64, context=context)


@dataclass
class House:
    """The platform under attack."""

    databases: Mapping[str, Database]
    keys: RoomKeys
    clock: FixedClock
    simulator: SimulatorServer
    stack: ExitStack
    apps: dict[str, FastAPI] = field(default_factory=dict)
    rings: Rings = field(default_factory=Rings)
    _identities: dict[str, ServiceIdentity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = self.simulator.engine.kernel.board.lines.values()
        prices = {(line.instrument.exchange, line.instrument.symbol): line.last_paise for line in lines}
        today = trading_date(self.clock.now())
        # Their candles are known to be none: nobody has to wait for more.
        candles = {key: History((), (), (), True) for key in prices}
        self.market = StaticMarketData(prices, clock=self.clock, trading_date=today, candles=candles)
        self.signing_keys = SigningKeys(self.keys.user_pem.encode())
        self.sealer = Sealer(b"\x07" * 32)
        self.notification_settings = NotificationSettings(
            environment="production",
            seal_keys={1: SecretStr(base64.b64encode(b"\x09" * 32).decode())},
            twilio_auth_token=SecretStr(TWILIO_TOKEN),
        )
        self._executor()
        self._user()
        self._market_data()
        self._trading_rooms()
        self.rooms = {room: client_for(app) for room, app in self.apps.items()}
        self.gateway = self.door()
        self._consumers: list[tuple[str, Database, Handlers]] = [
            (PACKAGES[room], self.databases[room], handlers)
            for room, handlers in (
                ("portfolio-service", make_handlers(self.clock)),
                ("trade-executor", trade_executor.consumers.HANDLERS),
                ("smallcase-service", smallcase_service.consumers.make_handlers(self.clock)),
                ("notification-service", notification_service.consumers.HANDLERS),
                ("analytics-service", analytics_service.consumers.HANDLERS),
            )
        ]

    # --- rooms ---

    def authenticator(self, room: str) -> Authenticator:
        """The verifier of a room; like in production, operators need their second factor."""
        return Authenticator(
            name=room,
            access=AccessTokens(StaticKeys(self.signing_keys.jwks()), self.clock),
            service_keys=StaticKeys(self.keys.jwks),
            clock=self.clock,
            admin_needs_mfa=True,
        )

    def identity(self, room: str) -> ServiceIdentity:
        """What a room signs its calls with."""
        if room not in self._identities:
            self._identities[room] = ServiceIdentity(room, self.keys.rooms[room], self.clock)
        return self._identities[room]

    def _user(self) -> None:
        hashing = cheap_hashing()
        self.stack.callback(hashing.close)
        self.apps[routing.USER] = create_user(
            UserSettings(environment="production"),
            db=self.databases[routing.USER],
            authenticator=self.authenticator(routing.USER),
            signing_keys=self.signing_keys,
            sealer=self.sealer,
            clock=self.clock,
            hashing=hashing,
        )

    def _executor(self) -> None:
        db = self.databases[routing.EXECUTOR]
        settings = make_settings(
            db.url,
            kite_root=self.simulator.url,
            kite_api_key=self.simulator.settings.api_key,
            kite_api_secret=API_SECRET,
            # People here have resting orders; those who sell need not be patient with them.
            opposite_wait_seconds=0.1,
        )
        access = KiteAccess(db, settings, sealer_from(settings), self.clock)
        access.ensure_account()
        self.desk = Desk(db, settings, self.market, access, self.clock)
        self.access = access
        access.login(ACCOUNT, self.request_token(), actor="the tests")
        self.apps[routing.EXECUTOR] = create_executor(
            settings,
            db=db,
            authenticator=self.authenticator(routing.EXECUTOR),
            access=access,
            market=self.market,
            wakeup=self.rings,
            clock=self.clock,
        )

    def request_token(self) -> str:
        """What the broker's login page hands over."""
        return simulator_request_token(self.simulator.url)

    def _market_data(self) -> None:
        db, settings = self.databases[routing.MARKET_DATA], MarketDataSettings(market_calendar="always_open")
        api_key, access_token = self.access.access_token(ACCOUNT)
        session = HeldSession(BrokerSession(api_key, access_token, self.simulator.url))
        source, cache = KiteQuoteSource(session, self.clock, quote_pause_s=0.0), MemoryCache()
        market = Market.create(settings)
        load_exchange(db, source, self.clock, "NSE")
        DatabaseMirror(db, market).refresh(self.clock.now())
        poller = Poller(settings=settings, db=db, clock=self.clock, market=market, source=source, cache=cache)
        for _ in range(2):
            poller.step()
        self.apps[routing.MARKET_DATA] = create_market_data(
            settings,
            db=db,
            authenticator=self.authenticator(routing.MARKET_DATA),
            market=market,
            source=source,
            clock=self.clock,
            cache=cache,
        )

    def _trading_rooms(self) -> None:
        self.apps[routing.PORTFOLIO] = create_portfolio(
            PortfolioSettings(submissions_per_minute=ALL_ALLOWED, duplicate_window_s=0, portfolios_max=200),
            db=self.databases[routing.PORTFOLIO],
            authenticator=self.authenticator(routing.PORTFOLIO),
            market=self.market,
            standings=self.standings_for(routing.PORTFOLIO),
            clock=self.clock,
        )
        self.apps[routing.SMALLCASE] = create_smallcase(
            SmallcaseSettings(),
            db=self.databases[routing.SMALLCASE],
            authenticator=self.authenticator(routing.SMALLCASE),
            market=self.market,
            portfolio=self.baskets_of(routing.PORTFOLIO),
            clock=self.clock,
        )
        self.apps[routing.NOTIFICATION] = create_notification(
            self.notification_settings,
            db=self.databases[routing.NOTIFICATION],
            authenticator=self.authenticator(routing.NOTIFICATION),
            market=self.market,
            clock=self.clock,
        )
        self.apps[routing.ANALYTICS] = create_analytics(
            AnalyticsSettings(),
            db=self.databases[routing.ANALYTICS],
            authenticator=self.authenticator(routing.ANALYTICS),
            clock=self.clock,
        )

    def standings_for(self, room: str) -> StandingClient:
        """How a room asks for the standing of an account."""
        identity, transport = self.identity(room), AppTransport(self.apps[routing.USER])
        return StandingClient(
            ServiceClient("http://house", audience=routing.USER, identity=identity, transport=transport)
        )

    def baskets_of(self, room: str) -> PortfolioClient:
        """How smallcase-service calls the room that accepts its baskets."""
        identity, transport = self.identity(routing.SMALLCASE), AppTransport(self.apps[room])
        return PortfolioClient(ServiceClient("http://house", audience=room, identity=identity, transport=transport))

    def door(self, **settings: Any) -> TestClient:
        """A client of a gateway before these rooms; without settings its allowances stop nobody."""
        allowances = ("general", "orders", "auth", "anonymous", "postback")
        chosen = GatewaySettings(
            **(settings or {"session_check_s": 0, **{f"{name}_per_minute": ALL_ALLOWED for name in allowances}})
        )
        upstreams: dict[str, ASGIApp] = dict(self.apps)
        app = create_gateway(
            chosen,
            authenticator=self.authenticator("api-gateway"),
            upstreams=upstreams,
            sessions=UserServiceSessions(
                upstreams[routing.USER], self.identity("api-gateway"), self.clock, ttl_s=chosen.session_check_s
            ),
            limiter=MemoryLimiter(self.clock),
            clock=self.clock,
        )
        return self.stack.enter_context(TestClient(app, raise_server_exceptions=False))

    # --- events and the broker ---

    def settle(self) -> None:
        """Deliver events and work at the broker until nobody has anything left to do."""
        for _ in range(ROUNDS_MAX):
            moved = self._deliver() + pump(self.desk, ACCOUNT)
            polling.observe(self.desk, ACCOUNT)
            if not moved + self._deliver():
                return
        raise AssertionError(f"events still move after {ROUNDS_MAX} rounds")

    def _deliver(self) -> int:
        """Hand over what was said and not yet delivered; the consumers' own handling, without a bus between."""
        said: list[Any] = []
        for room in SPEAKERS:
            with self.databases[room].transaction() as session:
                unsent = sa.update(outbox).where(outbox.c.sent_at.is_(None)).values(sent_at=sa.func.now())
                said += sorted(session.execute(unsent.returning(outbox)).all(), key=lambda row: row.id)
        envelopes = [envelope_of(row) for row in said]
        for consumer, target, handlers in self._consumers:
            wanted = {event.type_name() for event in handlers}
            if heard := [envelope for envelope in envelopes if envelope.type in wanted]:
                handle(target, consumer, handlers, heard)
        return len(said)

    # --- looking inside ---

    def rows(self, room: str, statement: str, **values: Any) -> list[Any]:
        """Rows of a room's database."""
        with self.databases[room].session() as session:
            return list(session.execute(sa.text(statement), values).mappings().all())

    def tables(self, room: str) -> list[str]:
        """A room's tables."""
        return [
            row["tablename"]
            for row in self.rows(room, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        ]

    def table(self, room: str, table: str) -> list[str]:
        """A table's rows as text, sorted."""
        return sorted(row["line"] for row in self.rows(room, f'SELECT t::text AS line FROM "{table}" t'))  # noqa: S608

    def run(self, room: str, statement: str, **values: Any) -> None:
        """Change a room's database behind its back."""
        with self.databases[room].transaction() as session:
            session.execute(sa.text(statement), values)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(seconds=seconds).total_seconds())


def ssh_public_key(pem: str) -> bytes:
    """A private key's public half as OpenSSH writes it."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


MakeHouse = Callable[[], House]


def new_email() -> str:
    """An address nobody has."""
    return f"{uuid4().hex}@example.com"
