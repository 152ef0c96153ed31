"""PostgreSQL: engine, sessions, the request's transaction, migrations.

One request or message is one transaction. The request's session commits before the response leaves (function scope):
in FastAPI's default scope a failing commit would reach the client as success.
"""

import importlib.resources
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, TypeVar

from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fastapi import Depends, Request
from sqlalchemy import BigInteger, DateTime, MetaData, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
LOCK_TIMEOUT_MS = 3_000
STATEMENT_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
TRANSACTION_ATTEMPTS_MAX = 5
RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: the transaction did nothing and may run again."""
MIGRATION_LOCK_KEY = 0x5A4A5
PING_AFTER_S = 1.0
"""A connection used more recently is trusted: a server that went away since is met by the transaction itself."""
_RESTS_SINCE = "rests_since"

Paise = BigInteger
T = TypeVar("T")


class UtcDateTime(TypeDecorator[datetime]):
    """`timestamptz` that refuses naive values."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"naive datetime for a timestamptz column: {value!r}")
        return value


class Database:
    """One service's database: an engine with bounded waits and its sessions.

    `url` is `postgresql://` or `postgresql+psycopg2://`. Create it after a fork, never before. A connection that has rested
    for `ping_after_s` is asked whether it still lives before it is used.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        application_name: str = "saras",
        ping_after_s: float = PING_AFTER_S,
    ) -> None:
        parsed = make_url(url).set(drivername="postgresql+psycopg2")
        options = (
            f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS} -c timezone=UTC"
        )
        self.url = parsed.render_as_string(hide_password=False)
        self.engine: Engine = create_engine(
            parsed,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=CONNECT_TIMEOUT_S,
            # A failed statement is logged; what a user has sent with it is not.
            hide_parameters=True,
            connect_args={
                "options": options,
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": application_name,
                "keepalives_idle": 30,
                "tcp_user_timeout": 30_000,
            },
        )
        _ping_after_rest(self.engine, ping_after_s)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def session(self) -> Session:
        """A session that the caller commits and closes."""
        return self._sessions()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises."""
        with self._sessions.begin() as session:
            yield session

    def ping(self) -> None:
        """Raise when the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def _ping_after_rest(engine: Engine, rest_s: float) -> None:
    """Ask a connection that has rested so long whether it lives; if not, it and all others of the pool are made anew.

    The pool's own pre-ping asks before every use, which is one more exchange with the server in every transaction.
    """

    def rest(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[_RESTS_SINCE] = time.monotonic()

    def ping(connection: DBAPIConnection, record: ConnectionPoolEntry, _: Any) -> None:
        if time.monotonic() - record.info.get(_RESTS_SINCE, math.inf) < rest_s:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", rest)
    event.listen(engine, "checkout", ping)


def is_retryable(error: DBAPIError) -> bool:
    """Whether the server rolled the transaction back for a reason that a second run may not meet."""
    return getattr(error.orig, "pgcode", None) in RETRYABLE_SQLSTATES


def run_in_transaction(db: Database, work: Callable[[Session], T], *, attempts: int = TRANSACTION_ATTEMPTS_MAX) -> T:
    """Run database-only work in a transaction, again with jitter after a deadlock or serialization failure."""
    for attempt in range(1, attempts + 1):
        try:
            with db.transaction() as session:
                return work(session)
        except DBAPIError as error:
            if not is_retryable(error) or attempt == attempts:
                raise
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  jitter, not a secret
    raise AssertionError("unreachable: the last attempt returns or raises")


def get_session(request: Request) -> Iterator[Session]:
    """The request's session; commits after the endpoint returned and before the response is sent."""
    database: Database = request.app.state.db
    with database.transaction() as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def _alembic_config(package: str, url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files(package) / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def run_migrations(package: str, url: str, revision: str = "head") -> None:
    """Bring the database of a service to a revision (default: the newest); concurrent runs wait for each other."""
    command.upgrade(_alembic_config(package, url), revision)


def run_downgrade(package: str, url: str, revision: str) -> None:
    """Take a service's database back to a revision (`"base"`: empty)."""
    command.downgrade(_alembic_config(package, url), revision)


def migration_state(package: str, db: Database) -> tuple[str | None, str | None]:
    """(revision of the database, newest revision of the code)."""
    head = ScriptDirectory.from_config(_alembic_config(package, db.url)).get_current_head()
    with db.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), head


def lacks_migrations(package: str, db: Database) -> bool:
    """Whether the database is older than the code.

    A revision that the code does not know belongs to a newer release, and migrations suit the release before them:
    while a newer one is rolled out, processes of this one stay in service.
    """
    current, head = migration_state(package, db)
    if current is None or current == head:
        return current != head
    scripts = ScriptDirectory.from_config(_alembic_config(package, db.url))
    return any(script.revision == current for script in scripts.walk_revisions())


def run_env(metadata: MetaData) -> None:
    """The whole `migrations/env.py` of a service: one transaction a migration, under a lock and with timeouts."""
    url = context.config.attributes.get("url") or context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise OperationalError("no database url for the migration", None, Exception("missing url"))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
    try:
        with engine.connect() as connection:
            connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
            # Session lock: a second runner waits outside any transaction until the first has finished.
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK_KEY})
            connection.commit()
            context.configure(
                connection=connection, target_metadata=metadata, transaction_per_migration=True, compare_type=True
            )
            with context.begin_transaction():
                context.run_migrations()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK_KEY})
            connection.commit()
    finally:
        engine.dispose()


@contextmanager
def count_statements(db: Database) -> Iterator[list[str]]:
    """Collect the SQL statements sent inside the block: tests pin the cost of hot paths with it."""
    statements: list[str] = []

    def remember(_conn: Any, _cursor: Any, statement: str, _params: Any, _context: Any, _many: bool) -> None:
        statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", remember)
    try:
        yield statements
    finally:
        event.remove(db.engine, "before_cursor_execute", remember)
