"""Outbox, relay, inbox, idempotency keys over a real PostgreSQL: each fact is told, each effect happens once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from common import idempotency, outbox
from common.bus import LocalBus
from common.consumers import handle, run_consumer
from common.db import Database
from common.events import Envelope, OrderCancelRequested
from common.idempotency import IdempotencyKeyReused, StoredAnswer
from common.logging import bound, current_correlation_id
from common.outbox import Relay, record, record_many, republish
from common.testing import eventually

effects = sa.Table("effects", sa.MetaData(), sa.Column("order_id", sa.Uuid))


@pytest.fixture
def db(scratch_database: Database) -> Database:
    metadata = sa.MetaData()
    outbox.add_tables(metadata)
    idempotency.add_tables(metadata)
    effects.to_metadata(metadata)
    metadata.create_all(scratch_database.engine)
    return scratch_database


def cancel(order_id: UUID | None = None) -> OrderCancelRequested:
    return OrderCancelRequested(order_id=order_id or uuid4(), requested_at=datetime.now(UTC))


def unsent(db: Database) -> int:
    with db.session() as session:
        count = session.scalar(
            sa.select(sa.func.count()).select_from(outbox.outbox).where(outbox.outbox.c.sent_at.is_(None))
        )
    return int(count or 0)


def effect_count(db: Database) -> int:
    with db.session() as session:
        return int(session.scalar(sa.select(sa.func.count()).select_from(effects)) or 0)


def insert_effect(session: sa.orm.Session, event: OrderCancelRequested, _: Envelope) -> None:
    session.execute(sa.insert(effects).values(order_id=event.order_id))


def test_all_that_a_transaction_tells_is_one_statement_when_it_commits(db: Database) -> None:
    statements: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    with db.transaction() as session:
        ids = [record(session, cancel(), source="room", aggregate_id=number) for number in range(3)]
        ids += record_many(session, [(cancel(), number, None) for number in range(3, 5)], source="room")
        assert statements == []
    assert [text.split()[0] for text in statements] == ["INSERT", "NOTIFY"]
    with db.session() as session:
        rows = session.execute(sa.select(outbox.outbox).order_by(outbox.outbox.c.id)).all()
    assert [row.message_id for row in rows] == ids
    assert [row.aggregate_id for row in rows] == ["0", "1", "2", "3", "4"]


def test_what_is_taken_back_is_not_told(db: Database) -> None:
    def tell(session: sa.orm.Session, name: str) -> None:
        record(session, cancel(), source="room", aggregate_id=name)

    with db.session() as session:
        tell(session, "rolled back")
        session.rollback()
        tell(session, "kept")
        with session.begin_nested() as savepoint:
            tell(session, "in a savepoint taken back")
            savepoint.rollback()
        with session.begin_nested():
            tell(session, "in a savepoint kept")
        session.commit()
        tell(session, "never committed")
    with db.session() as session:
        told = session.scalars(sa.select(outbox.outbox.c.aggregate_id).order_by(outbox.outbox.c.id)).all()
    assert sorted(told) == ["in a savepoint kept", "kept"]


class Relaying:
    """A relay and a consumer on threads, as a platform runs them."""

    def __init__(self, db: Database, bus: LocalBus, handlers: dict) -> None:  # type: ignore[type-arg]
        self.stop = threading.Event()
        bus.declare("room", handlers)
        self.threads = [
            threading.Thread(target=Relay(db, bus, name="room").run, args=(self.stop,)),
            threading.Thread(
                target=run_consumer,
                kwargs={"bus": bus, "db": db, "consumer": "room", "handlers": handlers, "stop": self.stop},
            ),
        ]

    def __enter__(self) -> "Relaying":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(10)


def test_a_recorded_event_reaches_its_consumer_with_its_correlation_id(db: Database, local_bus: LocalBus) -> None:
    traces: list[str | None] = []

    def handler(session: sa.orm.Session, event: OrderCancelRequested, envelope: Envelope) -> None:
        insert_effect(session, event, envelope)
        traces.append(current_correlation_id())

    with Relaying(db, local_bus, {OrderCancelRequested: handler}):
        with bound(correlation_id="trace-1"), db.transaction() as session:
            record(session, cancel(), source="room", aggregate_id="a")
        eventually(lambda: effect_count(db) == 1 and unsent(db) == 0)
    assert traces == ["trace-1"]


def test_a_rolled_back_change_tells_nobody(db: Database) -> None:
    def change_that_fails() -> None:
        with db.transaction() as session:
            record(session, cancel(), source="room", aggregate_id="a")
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        change_that_fails()
    assert unsent(db) == 0


def test_rows_stay_unsent_until_the_bus_confirms(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class DeafBus(LocalBus):
        def publish(self, envelopes: object) -> set[UUID]:  # type: ignore[override]
            return set()

    with db.transaction() as session:
        record_many(session, [(cancel(), "a", None), (cancel(), "b", None)], source="room")
    assert Relay(db, DeafBus(), name="room").publish_batch() == 0
    assert unsent(db) == 2


def test_two_relays_publish_every_row_and_the_inbox_makes_effects_single(db: Database) -> None:
    bus = LocalBus()
    with db.transaction() as session:
        record_many(session, [(cancel(), "a", None) for _ in range(300)], source="room")
    with Relaying(db, bus, {OrderCancelRequested: insert_effect}) as running:
        second = threading.Thread(target=Relay(db, bus, name="room").run, args=(running.stop,))
        second.start()
        eventually(lambda: effect_count(db) == 300 and unsent(db) == 0)
        with db.transaction() as session:
            assert republish(session, ["a"]) == {"a": 300}
        eventually(lambda: unsent(db) == 0)
        running.stop.set()
        second.join(10)
    assert effect_count(db) == 300


def test_one_message_in_parallel_has_one_effect(db: Database) -> None:
    event = cancel()
    envelope = Envelope(
        type=event.type_name(),
        source="room",
        occurred_at=event.occurred_at,
        recorded_at=datetime.now(UTC),
        payload=event.model_dump(mode="json"),
    )
    with ThreadPoolExecutor(8) as pool:
        applied = list(
            pool.map(lambda _: handle(db, "room", {OrderCancelRequested: insert_effect}, [envelope]), range(16))
        )
    assert sorted(applied) == [0] * 15 + [1]
    assert effect_count(db) == 1


def test_a_message_that_comes_twice_in_one_batch_has_one_effect(db: Database) -> None:
    with db.transaction() as session:
        record(session, cancel(), source="test-room", aggregate_id="x")
        record(session, cancel(), source="test-room", aggregate_id="y")
    with db.session() as session:
        first, second = (outbox.envelope_of(row) for row in session.execute(sa.select(outbox.outbox)))
    handlers = {OrderCancelRequested: insert_effect}
    assert handle(db, "room", handlers, [first]) == 1
    assert handle(db, "room", handlers, [second, first, second]) == 1
    assert effect_count(db) == 2


def test_what_waits_in_the_outbox_shows_as_gauges(db: Database) -> None:
    relay = Relay(db, LocalBus(), name="gauged-room")

    def gauge(name: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"service": "gauged-room"})

    relay.measure()
    assert (gauge("saras_outbox_unsent"), gauge("saras_outbox_oldest_seconds")) == (0, 0)
    with db.transaction() as session:
        record(session, cancel(), source="gauged-room", aggregate_id="x")
    with db.transaction() as session:
        session.execute(sa.text("UPDATE outbox SET recorded_at = recorded_at - interval '90 seconds'"))
    relay.measure()
    assert gauge("saras_outbox_unsent") == 1
    assert 89 < (gauge("saras_outbox_oldest_seconds") or 0) < 120


def test_a_failing_effect_leaves_no_inbox_row(db: Database) -> None:
    def fail(session: sa.orm.Session, event: OrderCancelRequested, envelope: Envelope) -> None:
        insert_effect(session, event, envelope)
        raise RuntimeError("later")

    event = cancel()
    envelope = Envelope(
        type=event.type_name(), source="room", occurred_at=event.occurred_at, recorded_at=datetime.now(UTC),
        payload=event.model_dump(mode="json"),
    )  # fmt: skip
    with pytest.raises(RuntimeError):
        handle(db, "room", {OrderCancelRequested: fail}, [envelope])
    assert effect_count(db) == 0
    assert handle(db, "room", {OrderCancelRequested: insert_effect}, [envelope])
    assert effect_count(db) == 1


def test_an_idempotency_key_answers_every_repeat_with_the_first_answer(db: Database) -> None:
    owner = uuid4()

    def post(_: int) -> StoredAnswer:
        with db.transaction() as session:
            stored = idempotency.claim_key(session, owner, "k", "hash")
            if stored is not None:
                return stored
            session.execute(sa.insert(effects).values(order_id=uuid4()))
            idempotency.store_answer(session, owner, "k", 202, {"n": 1})
            return StoredAnswer(202, {"n": 1})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, range(30)))
    assert answers == [StoredAnswer(202, {"n": 1})] * 30
    assert effect_count(db) == 1


def test_an_idempotency_key_with_another_request_is_refused(db: Database) -> None:
    owner = uuid4()
    with db.transaction() as session:
        idempotency.claim_key(session, owner, "k", "hash")
        idempotency.store_answer(session, owner, "k", 202, {})
    with pytest.raises(IdempotencyKeyReused), db.transaction() as session:
        idempotency.claim_key(session, owner, "k", "other")
