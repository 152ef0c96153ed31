"""Outbox and inbox: a fact and its message are one transaction, a message and its effect are one transaction.

`record` writes the message beside the change; the relay publishes committed rows and marks them sent only after the bus
has confirmed them; `claim` makes a consumer's effect happen once however often a message arrives. PostgreSQL's NOTIFY
wakes the relay at commit, a periodic sweep makes delivery certain.
"""

import select
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg2
import sqlalchemy as sa
from sqlalchemy import MetaData, Table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from common import metrics
from common.bulk import array_of, insert_rows
from common.bus import Bus, BusUnavailable
from common.db import NAMING, Database
from common.events import Envelope, Event
from common.logging import bound, current_correlation_id, get_logger

log = get_logger(__name__)

CHANNEL = "outbox"
RELAY_BATCH = 500
SWEEP_SECONDS = 1.0
RELAY_PAUSE_SECONDS_MAX = 10.0
MEASURE_SECONDS = 5.0
RELAY_LOCK_KEY = 0x5A4A6
RECORDED_INDEX = "ix_outbox_recorded_at"

_metadata = MetaData(naming_convention=NAMING)
outbox = Table(
    "outbox",
    _metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("message_id", sa.Uuid, nullable=False, unique=True),
    sa.Column("aggregate_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    sa.Column("correlation_id", sa.Text),
    sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
    # The database's time, not this machine's: reading the outbox again follows it.
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, default=sa.func.clock_timestamp()),
    sa.Column("sent_at", sa.DateTime(timezone=True)),
    sa.Index("ix_outbox_unsent", "id", postgresql_where=text("sent_at IS NULL")),
    sa.Index("ix_outbox_aggregate_id", "aggregate_id"),
)
inbox = Table(
    "inbox",
    _metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Uuid, primary_key=True),
    sa.Column("handled_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)

_WAITING = "outbox.waiting"

_CLAIM = text(
    "INSERT INTO inbox (consumer, message_id) SELECT :consumer, message_id FROM unnest(CAST(:ids AS uuid[])) AS message_id"
    " ON CONFLICT DO NOTHING RETURNING message_id"
).columns(sa.column("message_id", sa.Uuid))


def add_tables(metadata: MetaData) -> None:
    """Make the two tables part of a service's metadata (call it in `models.py`)."""
    table = outbox.to_metadata(metadata)
    sa.Index(RECORDED_INDEX, table.c.recorded_at, table.c.id)
    inbox.to_metadata(metadata)


def create_tables(op: Any) -> None:
    """Create the two tables in a migration."""
    _metadata.create_all(op.get_bind(), tables=[outbox, inbox])


def drop_tables(op: Any) -> None:
    """Drop the two tables in a migration's downgrade."""
    _metadata.drop_all(op.get_bind(), tables=[outbox, inbox])


def create_recorded_index(op: Any) -> None:
    """Create the index that reading the outbox again needs; a migration after that of the tables."""
    op.create_index(RECORDED_INDEX, "outbox", ["recorded_at", "id"])


def drop_recorded_index(op: Any) -> None:
    """Drop it in that migration's downgrade."""
    op.drop_index(RECORDED_INDEX, "outbox")


def record(
    session: Session, event: Event, *, source: str, aggregate_id: object, correlation_id: str | None = None
) -> UUID:
    """Write one event with the transaction that made it true; answers the message id."""
    return record_many(session, [(event, aggregate_id, correlation_id)], source=source)[0]


def record_many(session: Session, events: Sequence[tuple[Event, object, str | None]], *, source: str) -> list[UUID]:
    """Write many events (event, aggregate id, correlation id or None for the bound one) with this transaction.

    All that a transaction tells is written by one statement when it commits; inside a savepoint at once, so that it is
    taken back with it.
    """
    rows = [
        {
            "message_id": uuid4(),
            "aggregate_id": str(aggregate_id),
            "type": event.type_name(),
            "version": event.version,
            "source": source,
            "payload": orjson.Fragment(event.model_dump_json()),
            "correlation_id": correlation_id or current_correlation_id(),
            "occurred_at": event.occurred_at,
        }
        for event, aggregate_id, correlation_id in events
    ]
    if session.in_nested_transaction():
        _write(session, rows)
    else:
        if not session.in_transaction():
            session.begin()
        session.info.setdefault(_WAITING, []).extend(rows)
    return [row["message_id"] for row in rows]  # type: ignore[misc]


@sa.event.listens_for(Session, "before_commit")
def _write_waiting(session: Session) -> None:
    _write(session, session.info.pop(_WAITING, []))


@sa.event.listens_for(Session, "after_soft_rollback")
def _forget_waiting(session: Session, ended: SessionTransaction) -> None:
    if not ended.nested:
        session.info.pop(_WAITING, None)


def _write(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        insert_rows(session, outbox, rows)
        notify(session)


def notify(session: Session) -> None:
    """Wake the relay of this database when the transaction commits."""
    session.execute(text(f"NOTIFY {CHANNEL}"))


def claim(session: Session, consumer: str, message_ids: Iterable[UUID]) -> set[UUID]:
    """Which of these messages this consumer handles for the first time; a concurrent twin waits for our commit.

    The rows are written in one order of ids, so that two consumers with the same messages never wait for each other.
    """
    ids = sorted({str(message_id) for message_id in message_ids})
    return set(session.scalars(_CLAIM, {"consumer": consumer, "ids": ids})) if ids else set()


def republish(
    session: Session, aggregate_ids: Iterable[object], *, types: Sequence[type[Event]] | None = None
) -> Counter[str]:
    """Send everything said about aggregates once more, under the same message ids; answers how much of each.

    Consumers drop what they know: this helps one that has lost the message, never one that lost what it did with it.
    """
    wanted = [str(aggregate_id) for aggregate_id in aggregate_ids]
    if not wanted:
        return Counter()
    statement = sa.update(outbox).where(outbox.c.aggregate_id == sa.any_(array_of(wanted, sa.Text)))
    if types is not None:
        statement = statement.where(outbox.c.type.in_([event.type_name() for event in types]))
    again = Counter(session.scalars(statement.values(sent_at=None).returning(outbox.c.aggregate_id)))
    if again:
        notify(session)
    return again


def envelope_of(row: Any) -> Envelope:
    """The message that an outbox row is."""
    return Envelope(
        id=row.message_id,
        type=row.type,
        version=row.version,
        source=row.source,
        aggregate_id=row.aggregate_id,
        occurred_at=row.occurred_at,
        recorded_at=row.recorded_at,
        correlation_id=row.correlation_id,
        payload=row.payload,
    )


class Relay:
    """Publishes committed outbox rows of one database, oldest first.

    Several may run: the one that holds the database's advisory lock publishes, the others stand by. The lock is an
    optimisation that keeps the order; two publishers at once would only repeat messages.
    """

    def __init__(self, db: Database, bus: Bus, *, name: str) -> None:
        self._db = db
        self._bus = bus
        self._name = name

    def publish_batch(self) -> int:
        """Publish up to a batch of unsent rows, oldest first; answers how many were confirmed.

        No row is locked while the bus works: whoever asks for a row to be sent again must never wait for the bus.
        """
        with self._db.transaction() as session:
            rows = session.execute(
                sa.select(outbox).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.id).limit(RELAY_BATCH)
            ).all()
        if not rows:
            return 0
        confirmed = self._bus.publish([envelope_of(row) for row in rows])
        if confirmed:
            with self._db.transaction() as session:
                session.execute(
                    sa.update(outbox)
                    .where(outbox.c.message_id.in_(confirmed))
                    .values(sent_at=sa.func.clock_timestamp())
                )
        metrics.messages_published.labels(self._name).inc(len(confirmed))
        return len(confirmed)

    def measure(self) -> None:
        """Set the gauges of what waits to be published."""
        with self._db.transaction() as session:
            count, age_s = session.execute(
                sa.select(
                    sa.func.count(),
                    sa.func.extract("epoch", sa.func.clock_timestamp() - sa.func.min(outbox.c.recorded_at)),
                ).where(outbox.c.sent_at.is_(None))
            ).one()
        metrics.outbox_unsent.labels(self._name).set(count)
        metrics.outbox_oldest.labels(self._name).set(float(age_s or 0))

    def run(self, stop: threading.Event) -> None:
        """Publish until told to stop: at once on NOTIFY, at least every `SWEEP_SECONDS`."""
        with bound(service=self._name):
            pause = SWEEP_SECONDS
            listener: Any = None
            measured_at = -MEASURE_SECONDS
            while not stop.is_set():
                try:
                    if time.monotonic() - measured_at >= MEASURE_SECONDS:
                        self.measure()
                        measured_at = time.monotonic()
                    if listener is None:
                        listener = self._listen()
                    if self._leads(listener):
                        while self.publish_batch() and not stop.is_set():
                            pass
                    pause = SWEEP_SECONDS
                    self._wait(listener)
                except (DBAPIError, psycopg2.Error, BusUnavailable, OSError) as error:
                    log.warning("outbox.relay_paused", error=type(error).__name__, detail=str(error), pause_s=pause)
                    listener = self._close(listener)
                    stop.wait(pause)
                    pause = min(pause * 2, RELAY_PAUSE_SECONDS_MAX)
            self._close(listener)

    def _listen(self) -> Any:
        # A connection of its own: LISTEN and the lock belong to a session, and a pool would hand it to somebody else.
        connection = psycopg2.connect(self._db.url.replace("+psycopg2", "", 1), connect_timeout=5)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        return connection

    @staticmethod
    def _leads(listener: Any) -> bool:
        with listener.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                " AND objid = %(key)s AND granted) OR pg_try_advisory_lock(%(key)s)",
                {"key": RELAY_LOCK_KEY},
            )
            return bool(cursor.fetchone()[0])

    @staticmethod
    def _wait(listener: Any) -> None:
        select.select([listener], [], [], SWEEP_SECONDS)
        listener.poll()
        listener.notifies.clear()

    @staticmethod
    def _close(listener: Any) -> None:
        if listener is not None:
            listener.close()
