"""Two of everything between rooms, over real databases and RabbitMQ: queues purged, relays killed, effects made once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pika
import pytest
import sqlalchemy as sa

import analytics_service.consumers
import notification_service.consumers
from analytics_service.models import OrderFact, Trade
from common import catching_up, outbox
from common.auth import Authenticator, ServiceIdentity
from common.bus import BusUnavailable
from common.catching_up import CatchingUp
from common.clock import FixedClock
from common.consumers import run_consumer
from common.db import Database
from common.events import Envelope, OrderUpdated
from common.http import PeerUnavailable
from common.outbox import Relay
from common.outbox_reading import GRACE_MIN_S, RemoteOutbox
from common.rabbit import RabbitBus
from common.testing import StaticMarketData, StaticStandings, client_for, eventually
from common.testing_servers import empty
from notification_service.models import Notification
from portfolio_service.app import create_app
from portfolio_service.config import Settings

SOURCE = "portfolio-service"
CONSUMERS = {
    "analytics-service": analytics_service.consumers.HANDLERS,
    "notification-service": notification_service.consumers.HANDLERS,
}
Loop = Callable[[threading.Event], None]


class Door:
    """What a consumer calls: portfolio-service's app, with the consumer's own token."""

    def __init__(self, app: Any, identity: ServiceIdentity) -> None:
        self._client, self._identity = client_for(app), identity
        self.is_closed = False

    def get(self, path: str, params: Any = None) -> Any:
        if self.is_closed:
            raise PeerUnavailable("portfolio-service is away")
        token = self._identity.token(SOURCE)
        answer = self._client.get(path, params=params, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        return answer.json()


class Rooms:
    """portfolio-service's outbox and two rooms that act on it."""

    def __init__(self, databases: dict[str, Database], bus: RabbitBus, doors: dict[str, Door]) -> None:
        self.db = databases[SOURCE]
        self.databases, self.bus, self.doors = databases, bus, doors
        for consumer, handlers in CONSUMERS.items():
            bus.declare(consumer, handlers)

    def tell(self, events: Sequence[OrderUpdated]) -> None:
        with self.db.transaction() as session:
            outbox.record_many(session, [(event, event.order_id, None) for event in events], source=SOURCE)

    def unsent(self) -> int:
        return self._count(self.db, sa.select(outbox.outbox).where(outbox.outbox.c.sent_at.is_(None)))

    def relays(self) -> list[Loop]:
        return [Relay(self.db, self.bus, name=SOURCE).run for _ in range(2)]

    def consumers(self) -> list[Loop]:
        return [
            partial(_consume, self.bus, self.databases[name], name, handlers)
            for name, handlers in CONSUMERS.items()
            for _ in range(2)
        ]

    def catchers(self) -> list[Loop]:
        loops: list[Loop] = []
        for name, handlers in CONSUMERS.items():
            for _ in range(2):
                comparison = CatchingUp(
                    self.databases[name],
                    RemoteOutbox(self.doors[name]),  # type: ignore[arg-type]
                    consumer=name,
                    source_name=SOURCE,
                    handlers=handlers,
                    grace_s=GRACE_MIN_S,
                )
                loops.append(partial(catching_up.run, [comparison], name))
        return loops

    def purge(self, url: str) -> int:
        """Empty every queue; answers how many messages were lost."""
        connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = connection.channel()
        lost = sum(channel.queue_purge(self.bus._prefix + name).method.message_count for name in CONSUMERS)
        connection.close()
        return int(lost)

    def effects(self) -> tuple[set[UUID], set[UUID], int]:
        """Orders that analytics knows, orders that users were told of, shares in analytics' trades."""
        with self.databases["analytics-service"].session() as session:
            known = set(session.scalars(sa.select(OrderFact.order_id)))
            shares = int(session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Trade.quantity), 0))) or 0)
        with self.databases["notification-service"].session() as session:
            told = [UUID(subject["order_id"]) for subject in session.scalars(sa.select(Notification.subject))]
        assert len(told) == len(set(told)), "somebody was told twice"
        return known, set(told), shares

    @staticmethod
    def _count(db: Database, rows: Any) -> int:
        with db.session() as session:
            return int(session.scalar(sa.select(sa.func.count()).select_from(rows.subquery())) or 0)


def _consume(bus: RabbitBus, db: Database, name: str, handlers: Any, stop: threading.Event) -> None:
    run_consumer(bus, db, consumer=name, handlers=handlers, stop=stop)


@contextmanager
def running(*loops: Loop) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=loop, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)


@pytest.fixture
def rooms(
    service_database: Callable[..., Database],
    rabbit_bus: RabbitBus,
    authenticator: Callable[..., Authenticator],
    service_identity: Callable[[str], ServiceIdentity],
    clock: FixedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rooms]:
    monkeypatch.setattr(catching_up, "INTERVAL_S", 0.3)
    databases = {
        name: service_database(name.replace("-", "_")) for name in (SOURCE, "analytics-service", "notification-service")
    }
    for database in databases.values():
        empty(database)
    app = create_app(
        Settings(),
        db=databases[SOURCE],
        authenticator=authenticator(SOURCE),
        market=StaticMarketData({}),
        standings=StaticStandings(),
        clock=clock,
    )
    yield Rooms(databases, rabbit_bus, {name: Door(app, service_identity(name)) for name in CONSUMERS})
    rabbit_bus.delete(CONSUMERS)


def test_purged_queues_lose_nothing_with_two_of_everything(
    rooms: Rooms, rabbitmq_url: str, order_updated: Callable[..., OrderUpdated]
) -> None:
    lost, heard = [order_updated() for _ in range(60)], [order_updated() for _ in range(20)]
    for door in rooms.doors.values():
        door.is_closed = True
    with running(*rooms.relays(), *rooms.catchers()):
        rooms.tell(lost)
        eventually(lambda: rooms.unsent() == 0)
        assert rooms.purge(rabbitmq_url) == len(lost) * len(CONSUMERS), "the bus had them all, and has none now"
        with running(*rooms.consumers()):
            rooms.tell(heard)
            ids = {event.order_id for event in heard}
            eventually(lambda: rooms.effects() == (ids, ids, 10 * len(ids)), timeout=20)
            # The source was away until now: what was lost is late, not gone.
            for door in rooms.doors.values():
                door.is_closed = False
            ids |= {event.order_id for event in lost}
            eventually(lambda: rooms.effects() == (ids, ids, 10 * len(ids)), timeout=30)


def test_a_relay_killed_between_publish_and_mark_repeats_and_doubles_nothing(
    rooms: Rooms, order_updated: Callable[..., OrderUpdated]
) -> None:
    class Killed(BaseException):
        pass

    class DiesAfterPublishing:
        def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
            assert rooms.bus.publish(envelopes) == {envelope.id for envelope in envelopes}
            raise Killed

    events = [order_updated() for _ in range(30)]
    rooms.tell(events)
    with pytest.raises(Killed):
        Relay(rooms.db, DiesAfterPublishing(), name=SOURCE).publish_batch()  # type: ignore[arg-type]
    assert rooms.unsent() == len(events)
    with running(*rooms.relays(), *rooms.consumers()):
        eventually(lambda: rooms.unsent() == 0)
        ids = {event.order_id for event in events}
        eventually(lambda: rooms.effects() == (ids, ids, 10 * len(ids)), timeout=20)


def test_deposed_relays_only_repeat(rooms: Rooms, order_updated: Callable[..., OrderUpdated]) -> None:
    events = [order_updated() for _ in range(40)]
    rooms.tell(events)
    # Both believe to lead and read the same rows, as after a pause longer than the lock's connection lives.
    barrier = threading.Barrier(2)

    class Together:
        def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
            barrier.wait(10)
            return rooms.bus.publish(envelopes)

    counts: list[int] = []

    def publish() -> None:
        try:
            counts.append(Relay(rooms.db, Together(), name=SOURCE).publish_batch())  # type: ignore[arg-type]
        except BusUnavailable:
            counts.append(-1)
        rooms.bus.close()

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert counts == [40, 40]
    with running(*rooms.consumers()):
        ids = {event.order_id for event in events}
        eventually(lambda: rooms.effects() == (ids, ids, 10 * len(ids)), timeout=20)
    assert rooms.unsent() == 0
