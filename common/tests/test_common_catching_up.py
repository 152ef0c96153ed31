"""Catching up: what the bus has lost is taken from its producer, once, and by nobody else than who may read it."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from common import backlog as backlog_module
from common import catching_up, outbox
from common.app import service_app
from common.auth import Authenticator, ServiceIdentity
from common.backlog import Backlog
from common.catching_up import BEGINNING, CatchingUp
from common.consumers import handle
from common.db import Database
from common.events import Envelope, OrderAccepted, OrderCancelRequested, OrderUpdated, readers_of, sources_of
from common.http import PeerUnavailable
from common.outbox import record_many
from common.outbox_reading import (
    BODIES_MAX,
    GRACE_MIN_S,
    PAGE_MAX,
    PATH,
    Page,
    Position,
    RemoteOutbox,
    read_bodies,
    read_page,
)
from common.testing import client_for, eventually

CONSUMER, SOURCE = "trade-executor", "portfolio-service"
effects = sa.Table("effects", sa.MetaData(), sa.Column("order_id", sa.Uuid))


class DirectOutbox:
    """The source's outbox without the way to it; counts what is asked and can be away."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.asked: list[UUID] = []
        self.is_away = False

    def page(self, types: Sequence[str], after: Position, *, grace_s: float, limit: int = PAGE_MAX) -> Page:
        if self.is_away:
            raise PeerUnavailable("away")
        with self.db.transaction() as session:
            return read_page(session, types, after, grace_s=grace_s, limit=limit)

    def bodies(self, message_ids: Sequence[UUID]) -> list[Envelope]:
        assert len(message_ids) <= BODIES_MAX
        self.asked.extend(message_ids)
        with self.db.transaction() as session:
            return read_bodies(session, [OrderCancelRequested.type_name()], message_ids)


@pytest.fixture
def db(scratch_database: Database) -> Database:
    metadata = sa.MetaData()
    outbox.add_tables(metadata)
    catching_up.add_tables(metadata)
    effects.to_metadata(metadata)
    metadata.create_all(scratch_database.engine)
    return scratch_database


@pytest.fixture
def source(db: Database) -> DirectOutbox:
    return DirectOutbox(db)


def insert_effect(session: sa.orm.Session, event: OrderCancelRequested, _: Envelope) -> None:
    session.execute(sa.insert(effects).values(order_id=event.order_id))


HANDLERS = {OrderCancelRequested: insert_effect}


def comparison(db: Database, source: DirectOutbox, handlers: Any = HANDLERS, **more: Any) -> CatchingUp:
    return CatchingUp(
        db, source, consumer=CONSUMER, source_name=SOURCE, handlers=handlers, **{"grace_s": GRACE_MIN_S, **more}
    )  # fmt: skip


def tell(db: Database, count: int, *, minutes_ago: int = 1) -> list[UUID]:
    """Record facts that the bus then loses; all in one instant, some time ago. Answers the order ids."""
    orders = [uuid4() for _ in range(count)]
    with db.transaction() as session:
        events = [(OrderCancelRequested(order_id=one, requested_at=datetime.now(UTC)), one, None) for one in orders]
        ids = record_many(session, events, source=SOURCE)
    with db.transaction() as session:
        session.execute(
            sa.update(outbox.outbox)
            .where(outbox.outbox.c.message_id.in_(ids))
            .values(recorded_at=sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, minutes_ago))
        )
    return orders


def booked(db: Database) -> list[UUID]:
    with db.session() as session:
        return sorted(session.scalars(sa.select(effects.c.order_id)))


def handled_before(db: Database) -> datetime:
    with db.session() as session:
        return session.scalars(sa.select(catching_up.cursor.c.handled_before)).one()


def recorded_at(db: Database, order_id: UUID) -> datetime:
    with db.session() as session:
        statement = sa.select(outbox.outbox.c.recorded_at).where(outbox.outbox.c.aggregate_id == str(order_id))
        return session.scalars(statement).one()


def test_what_the_bus_lost_has_its_effect_once_and_the_rest_is_not_asked_for(
    db: Database, source: DirectOutbox
) -> None:
    orders = tell(db, 5)
    with db.session() as session:
        heard = session.execute(sa.select(outbox.outbox).order_by("id").limit(2)).all()
    handle(db, CONSUMER, HANDLERS, [outbox.envelope_of(row) for row in heard])
    catcher = comparison(db, source, page_size=2)
    assert [catcher.round(), catcher.round()] == [3, 0]
    assert booked(db) == sorted(orders)
    assert len(source.asked) == 3
    source.asked.clear()
    assert comparison(db, source).round() == 0, "a process that starts goes on at the cursor"
    assert source.asked == []


def test_a_fact_that_is_committed_late_is_not_passed_by(db: Database, source: DirectOutbox) -> None:
    catcher = comparison(db, source)
    slow = db.session()
    late = OrderCancelRequested(order_id=uuid4(), requested_at=datetime.now(UTC))
    with slow.begin_nested():
        record_many(slow, [(late, late.order_id, None)], source=SOURCE)
    quick = OrderCancelRequested(order_id=uuid4(), requested_at=datetime.now(UTC))
    with db.transaction() as session:
        record_many(session, [(quick, quick.order_id, None)], source=SOURCE)

    def is_old() -> bool:
        with db.session() as session:
            age = sa.func.clock_timestamp() - sa.func.max(outbox.outbox.c.recorded_at)
            return session.execute(sa.select(age)).scalar_one().total_seconds() > 2 * GRACE_MIN_S

    eventually(is_old)
    catcher.round()
    assert handled_before(db) <= recorded_at(db, quick.order_id), "passed a row beside which one is still being written"
    slow.commit()
    slow.close()
    eventually(lambda: catcher.round() or booked(db) == sorted([late.order_id, quick.order_id]))
    assert booked(db) == sorted([late.order_id, quick.order_id])
    assert handled_before(db) > recorded_at(db, late.order_id)


def test_a_message_whose_handler_fails_is_owed_and_holds_back_nothing_but_the_cursor(
    db: Database, source: DirectOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "OWED_PAUSE_S", 0.0)
    [first] = tell(db, 1, minutes_ago=50)
    [poison] = tell(db, 1, minutes_ago=40)
    after = tell(db, 3, minutes_ago=30)

    def picky(session: sa.orm.Session, event: OrderCancelRequested, envelope: Envelope) -> None:
        if event.order_id == poison:
            raise RuntimeError("a mistake of this release")
        insert_effect(session, event, envelope)

    catcher = comparison(db, source, {OrderCancelRequested: picky})
    assert [catcher.round(), catcher.round(), catcher.round()] == [4, 0, 0]
    assert booked(db) == sorted([first, *after])
    assert handled_before(db) == recorded_at(db, poison)
    assert comparison(db, source).round() == 1, "the next release handles it"
    assert booked(db) == sorted([first, poison, *after])
    assert handled_before(db) > recorded_at(db, after[0])


def test_a_source_that_is_away_delays_and_loses_nothing(db: Database, source: DirectOutbox) -> None:
    catcher = comparison(db, source)
    orders = tell(db, 2)
    source.is_away = True
    with pytest.raises(PeerUnavailable):
        catcher.round()
    source.is_away = False
    assert catcher.round() == 2
    assert booked(db) == sorted(orders)


def test_an_unknown_source_starts_with_everything_there_is(db: Database, source: DirectOutbox) -> None:
    orders = tell(db, 2, minutes_ago=60 * 24 * 365)
    assert comparison(db, source).round() == 2
    assert booked(db) == sorted(orders)
    assert recorded_at(db, orders[0]) > BEGINNING


def test_what_the_bus_is_still_bringing_is_left_to_it(db: Database, source: DirectOutbox) -> None:
    """A backlog, not a loss: the consumer works on messages of two minutes ago, and those behind them are on their way."""
    tell(db, 1, minutes_ago=2)
    [passed] = tell(db, 1, minutes_ago=4)
    tell(db, 1)
    with db.session() as session:
        came = session.execute(sa.select(outbox.outbox).order_by(outbox.outbox.c.recorded_at)).all()[1]
    backlog = Backlog()
    backlog.note([outbox.envelope_of(came)])
    assert 110 < backlog.behind_s(SOURCE) < 150
    behind = comparison(db, source, backlog=backlog, grace_s=30)
    assert behind.round() == 1
    assert booked(db) == [passed]
    assert handled_before(db) < came.recorded_at


def test_a_bus_that_brings_nothing_is_waited_for_no_longer(
    db: Database, source: DirectOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = tell(db, 2)
    with db.session() as session:
        [first, _] = session.execute(sa.select(outbox.outbox)).all()
    backlog = Backlog()
    backlog.note([outbox.envelope_of(first)])
    assert comparison(db, source, backlog=backlog).round() == 0
    monkeypatch.setattr(backlog_module, "QUIET_S", 0.0)
    assert backlog.behind_s(SOURCE) == 0
    assert comparison(db, source, backlog=backlog).round() == 2
    assert booked(db) == sorted(orders)


def test_an_old_message_that_comes_again_makes_no_backlog(db: Database) -> None:
    tell(db, 1, minutes_ago=60)
    tell(db, 1, minutes_ago=0)
    with db.session() as session:
        old, young = map(
            outbox.envelope_of, session.execute(sa.select(outbox.outbox).order_by(outbox.outbox.c.recorded_at)).all()
        )
    backlog = Backlog()
    backlog.note([young])
    backlog.note([old])
    assert backlog.behind_s(SOURCE) < 30


def test_several_who_catch_up_beside_the_bus_make_every_effect_once(db: Database, source: DirectOutbox) -> None:
    orders = tell(db, 120)
    with db.session() as session:
        all_of_them = [outbox.envelope_of(row) for row in session.execute(sa.select(outbox.outbox)).all()]

    def by_bus() -> None:
        for start in range(0, len(all_of_them), 7):
            handle(db, CONSUMER, HANDLERS, all_of_them[start : start + 7])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(comparison(db, DirectOutbox(db), page_size=50).round) for _ in range(3)]:
            pool.submit(by_bus).result()
            done.result()
    assert comparison(db, source).round() == 0
    assert booked(db) == sorted(orders)


def test_the_loop_goes_on_when_a_source_was_away(
    db: Database, source: DirectOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catching_up, "INTERVAL_S", 0.02)
    stop = threading.Event()
    source.is_away = True
    thread = threading.Thread(target=catching_up.run, args=([comparison(db, source)], CONSUMER, stop))
    thread.start()
    orders = tell(db, 2)
    source.is_away = False
    eventually(lambda: booked(db) == sorted(orders))
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


# --- who may read -------------------------------------------------------------------------------------------------


class Peer:
    """A ServiceClient whose other end is an app in this process."""

    def __init__(self, app: Any, identity: ServiceIdentity) -> None:
        self.client, self.identity = client_for(app), identity

    def answer(self, path: str, params: Any) -> Any:
        token = self.identity.token(SOURCE)
        return self.client.get(path, params=params, headers={"Authorization": f"Bearer {token}"})

    def get(self, path: str, params: Any = None) -> Any:
        answer = self.answer(path, params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def app(db: Database, authenticator: Callable[..., Authenticator]) -> Any:
    return service_app(name=SOURCE, title="Test", routers=[], db=db, authenticator=authenticator(SOURCE))


def test_over_http_a_consumer_gets_the_same(
    db: Database, app: Any, service_identity: Callable[[str], ServiceIdentity]
) -> None:
    orders = tell(db, BODIES_MAX + 1)
    remote = RemoteOutbox(Peer(app, service_identity(CONSUMER)))  # type: ignore[arg-type]
    assert comparison(db, remote).round() == BODIES_MAX + 1  # type: ignore[arg-type]
    assert booked(db) == sorted(orders)


def test_a_room_reads_only_the_facts_it_acts_on(
    db: Database, app: Any, service_identity: Callable[[str], ServiceIdentity], auth_headers: Any
) -> None:
    tell(db, 1)
    with db.session() as session:
        [message_id] = session.scalars(sa.select(outbox.outbox.c.message_id)).all()

    def status(caller: str, *types: str, path: str = PATH, **more: Any) -> int:
        query = {"type": types, "after": BEGINNING.isoformat(), **more}
        return Peer(app, service_identity(caller)).answer(path, query).status_code

    assert status("trade-executor", "OrderCancelRequested", "OrderAccepted") == 200
    assert status("analytics-service", "OrderUpdated") == 200
    assert status("analytics-service", "OrderCancelRequested") == 403
    assert status("analytics-service", "OrderUpdated", "OrderCancelRequested") == 403
    assert status("market-data-service", "OrderUpdated") == 403
    assert status("trade-executor", "OrderCancelRequested", grace_s=0) == 422
    assert status("trade-executor", "OrderCancelRequested", limit=PAGE_MAX + 1) == 422
    assert client_for(app).get(PATH, headers=auth_headers(roles=["admin"])).status_code == 401
    assert client_for(app).get(f"{PATH}/messages").status_code == 401
    allowed = Peer(app, service_identity("trade-executor")).get(f"{PATH}/messages", {"id": [str(message_id)]})
    hidden = Peer(app, service_identity("analytics-service")).get(f"{PATH}/messages", {"id": [str(message_id)]})
    assert [one["id"] for one in allowed["messages"]] == [str(message_id)]
    assert hidden["messages"] == []


def test_contracts_name_their_rooms() -> None:
    assert sources_of([OrderAccepted, OrderUpdated]) == {SOURCE: [OrderAccepted, OrderUpdated]}
    assert readers_of(SOURCE)["analytics-service"] == {"OrderUpdated", "CashMoved"}
