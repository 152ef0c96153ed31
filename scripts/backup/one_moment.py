"""One moment of many databases: snapshots between which no room has taken anything from another.

Databases of one server have no common snapshot. What must not be is a room that has acted on something its sender does
not know of: that never heals, whereas what a room has not yet received reaches it by catching up. Rooms act on each other
in a circle (portfolio-service, trade-executor, portfolio-service), so no order of dumps gives that.

Everything a room takes from another begins with a row in its `inbox` (a message) or `idempotency_key` (a request), in the
transaction of the effect. So: lock these tables against writing in all databases (waiting for transactions under way), open
a snapshot in each, unlock. An effect that a snapshot shows was committed before the first lock was complete, its cause
before that, and every snapshot is younger. Sending, accepting by others and reading go on; receiving waits some
milliseconds. The dumps are made afterwards, from the snapshots.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg2
from psycopg2 import errorcodes, errors
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from common.logging import get_logger

log = get_logger(__name__)

RECEIVING_TABLES = ("idempotency_key", "inbox")
LOCKS_TOGETHER_S = 1.5
"""All locks within this or none: rooms themselves wait 3 s for a lock (common.db), then give a message back."""
ATTEMPTS_MAX = 40
PAUSE_S = 0.5
CONNECT_TIMEOUT_S = 5


class NoMoment(Exception):
    """The locks were not to be had together: something holds a room's tables for long."""


@dataclass(frozen=True)
class Snapshot:
    """An open transaction that sees the moment, and the name under which others may see the same."""

    connection: Any
    name: str


@dataclass
class Moment:
    """Snapshots by room."""

    taken_at: datetime
    held_ms: float
    snapshots: Mapping[str, Snapshot] = field(repr=False)


@contextmanager
def one_moment(urls: Mapping[str, str]) -> Iterator[Moment]:
    """Open snapshots of all databases (room -> URL); they stay good inside the block.

    Two connections per database for some milliseconds, one afterwards. Raises NoMoment and psycopg2.OperationalError.
    """
    with ExitStack() as stack:
        holders = {room: _connect(stack, url) for room, url in sorted(urls.items())}
        for holder in holders.values():
            holder.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        with ExitStack() as locking:
            lockers = {room: _connect(locking, url) for room, url in sorted(urls.items())}
            tables = {room: _receiving(locker) for room, locker in lockers.items()}
            started = _lock_all(lockers, tables)
            taken_at = datetime.now(UTC)
            snapshots = {room: Snapshot(holder, _export(holder)) for room, holder in holders.items()}
            for locker in lockers.values():
                locker.rollback()
            held_ms = round((time.monotonic() - started) * 1000, 1)
        log.info("backup.moment", held_ms=held_ms)
        yield Moment(taken_at, held_ms, snapshots)


def _connect(stack: ExitStack, url: str) -> Any:
    connection = psycopg2.connect(
        url.replace("+psycopg2", "", 1),
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name="saras-backup",
        options="-c timezone=UTC -c idle_in_transaction_session_timeout=0",
    )
    stack.callback(connection.close)
    return connection


def _receiving(connection: Any) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(%s) ORDER BY 1",
            (list(RECEIVING_TABLES),),
        )
        names = [str(name) for (name,) in cursor.fetchall()]
    connection.rollback()
    return names


def _lock_all(lockers: Mapping[str, Any], tables: Mapping[str, list[str]]) -> float:
    """Hold all locks; answers when the first was taken."""
    for _ in range(ATTEMPTS_MAX):
        started = time.monotonic()
        try:
            for room, names in tables.items():
                for name in names:
                    _lock(lockers[room], name, LOCKS_TOGETHER_S - (time.monotonic() - started))
            return started
        except errors.LockNotAvailable:
            for locker in lockers.values():
                locker.rollback()
            time.sleep(PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311  spreads attempts, no secret
    raise NoMoment(f"no moment was found in {ATTEMPTS_MAX} attempts: something writes to a room's inbox for seconds")


def _lock(connection: Any, table: str, wait_s: float) -> None:
    if wait_s <= 0:
        raise errors.lookup(errorcodes.LOCK_NOT_AVAILABLE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, int(wait_s * 1000))}ms",))
        cursor.execute(f"LOCK TABLE {table} IN SHARE MODE")


def _export(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        return str(cursor.fetchone()[0])
