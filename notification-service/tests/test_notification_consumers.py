"""Facts become notifications once, whatever is repeated or overtakes."""

import random
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from common.bus import LocalBus
from common.consumers import run_consumer
from common.db import Database
from common.events import CashMoved, Envelope, Event, KycChanged, OrderUpdated
from notification_service import service
from notification_service.config import NAME
from notification_service.consumers import HANDLERS
from notification_service.facts import UnknownStatus
from notification_service.models import Delivery, Notification

Make = Callable[..., OrderUpdated]
Consume = Callable[..., UUID]


def told(db: Database) -> set[tuple[Any, ...]]:
    """All notifications without their own ids."""
    columns = (Notification.user_id, Notification.cause, Notification.kind, Notification.text, Notification.occurred_at)
    with db.session() as session:
        return {tuple(row) for row in session.execute(select(*columns))}


def count(db: Database) -> int:
    with db.session() as session:
        return session.execute(select(func.count()).select_from(Notification)).scalar_one()


def enveloped(event: Event) -> Envelope:
    return Envelope(
        type=event.type_name(),
        source="portfolio-service",
        occurred_at=event.occurred_at,
        recorded_at=event.occurred_at,
        payload=event.model_dump(mode="json"),
    )


def story(order_updated: Make, user_id: UUID) -> list[Event]:
    """An order from acceptance over two fills to its end, with cash and KYC around it: 5 things to tell."""
    order: dict[str, Any] = {"order_id": uuid4(), "user_id": user_id, "portfolio_id": uuid4()}
    none_yet = {"filled_quantity": 0, "amount_paise": 0, "last_fill_quantity": 0}
    return [
        KycChanged(user_id=user_id, status="approved"),
        CashMoved(user_id=user_id, portfolio_id=uuid4(), kind="DEPOSIT", amount_paise=5_00_000_00, transfer_id=uuid4()),
        order_updated(**order, **none_yet, status="ACCEPTED", order_version=1),
        order_updated(**order, **none_yet, status="WORKING", order_version=2, minutes=1),
        order_updated(**order, status="PARTIAL", order_version=3, filled_quantity=4, last_fill_quantity=4, minutes=2),
        order_updated(**order, status="PARTIAL", order_version=4, filled_quantity=7, last_fill_quantity=3, minutes=3),
        order_updated(**order, status="FILLED", order_version=5, last_fill_quantity=3, minutes=4),
    ]


def test_each_fact_is_told_once_when_messages_repeat_and_overtake(
    db: Database, order_updated: Make, consume: Consume
) -> None:
    events = story(order_updated, uuid4())
    for event in events:
        consume(event)
    in_order = told(db)
    assert len(in_order) == 5

    with db.transaction() as session:
        session.execute(Delivery.__table__.delete())
        session.execute(Notification.__table__.delete())
    # Half of the repeats carry their old message id (the bus), half a new one (a fact recorded again).
    deliveries = [(event, message_id) for event in events for message_id in [uuid4()] * 2 + [None] * 2]
    random.Random(7).shuffle(deliveries)  # noqa: S311  a repeatable order, not a secret
    for event, message_id in deliveries:
        consume(event, message_id)
    assert told(db) == in_order


def test_deleted_notification_is_not_told_again(
    db: Database, order_updated: Make, consume: Consume, clock: Any
) -> None:
    event = order_updated()
    consume(event)
    with db.transaction() as session:
        (notification,) = service.newest(session, event.user_id).items
        service.remove(session, event.user_id, notification.notification_id, clock.now())
    consume(event)
    with db.session() as session:
        assert service.newest(session, event.user_id).items == []
    assert count(db) == 1


def test_order_notification_names_the_order_it_is_about(db: Database, order_updated: Make, consume: Consume) -> None:
    event = order_updated()
    consume(event)
    with db.session() as session:
        (notification,) = service.newest(session, event.user_id).items
    assert notification.subject == {"order_id": str(event.order_id), "portfolio_id": str(event.portfolio_id)}
    assert notification.occurred_at == event.occurred_at


def test_unknown_status_leaves_nothing_and_can_be_delivered_again(
    db: Database, order_updated: Make, consume: Consume
) -> None:
    event, message_id = order_updated(status="FROZEN"), uuid4()
    for _ in range(2):  # the inbox row went with the transaction, so the second delivery is judged anew
        with pytest.raises(UnknownStatus):
            consume(event, message_id)
    assert count(db) == 0


def test_consumer_takes_the_rooms_queue_from_a_bus(db: Database, order_updated: Make, local_bus: LocalBus) -> None:
    stop = threading.Event()
    local_bus.declare(NAME, HANDLERS)
    consumer = threading.Thread(
        target=run_consumer,
        args=(local_bus, db),
        kwargs={"consumer": NAME, "handlers": HANDLERS, "stop": stop},
    )
    consumer.start()
    try:
        envelope = enveloped(order_updated())
        assert local_bus.publish([envelope]) == {envelope.id}  # confirmed only after our commit
        assert count(db) == 1
    finally:
        stop.set()
        consumer.join()
