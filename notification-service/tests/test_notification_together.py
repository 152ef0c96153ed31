"""Changes of orders that come together leave exactly what one after the other leaves, for the same few statements."""

import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
import structlog

from common.clock import FixedClock
from common.consumers import handle
from common.db import Database, count_statements
from common.events import CashMoved, Envelope, Event, OrderUpdated
from common.logging import configure
from common.testing_servers import empty
from notification_service import digests, preferences, service
from notification_service.config import NAME
from notification_service.consumers import make_handlers
from notification_service.kinds import Channel, Kind
from notification_service.models import Base, ContactPoint, Notification
from notification_service.preferences import Preferences
from notification_service.quiet import QuietHours

Make = Callable[..., OrderUpdated]
GENERATED = {"notification_id", "delivery_id", "handled_at"}
DAY = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)  # 10:00 IST
NIGHT = datetime(2026, 11, 23, 17, 30, tzinfo=UTC)  # 23:00 IST
NONE_YET = {"filled_quantity": 0, "amount_paise": 0, "last_fill_quantity": 0}

CHOICES = [
    None,
    Preferences(quiet=QuietHours(time(22), time(7))),
    Preferences({Kind.ORDER_FILLED: {Channel.IN_APP: False, Channel.SMS: True, Channel.EMAIL: False}}),
    Preferences({Kind.ORDER_FILLED: dict.fromkeys(Channel, False)}, QuietHours(time(9), time(12))),
    Preferences(digest_kinds=frozenset({Kind.ORDER_FILLED, Kind.ORDER_PARTLY_FILLED}), digest_at=time(20, 15)),
    Preferences(quiet=QuietHours(time(19), time(21)), digest_kinds=frozenset({Kind.ORDER_REJECTED})),
]
PLACES = (Channel.SMS, Channel.PUSH, Channel.PUSH, Channel.CHAT, Channel.WEB_PUSH)


class Ticking:
    """A clock that goes on by a microsecond whenever it is read."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1)
        return self._now


def enveloped(event: Event, correlation_id: str | None = None) -> Envelope:
    return Envelope(
        type=event.type_name(),
        source="portfolio-service",
        occurred_at=event.occurred_at,
        recorded_at=event.occurred_at,
        correlation_id=correlation_id,
        payload=event.model_dump(mode="json"),
    )


def point(user_id: UUID, number: int, **fields: Any) -> ContactPoint:
    contact_id = UUID(int=user_id.int ^ (number + 1))
    values: dict[str, Any] = {
        "contact_id": contact_id,
        "user_id": user_id,
        "channel": PLACES[number % len(PLACES)],
        "label": "mine",
        "masked": "…",
        "sealed": "",
        "fingerprint": str(contact_id),
        "verified_at": DAY,
        "created_at": DAY,
    }
    return ContactPoint(**{**values, **fields})


def settle(db: Database, users: Sequence[UUID]) -> None:
    """Give the users choices and contact points, each another number of them; some are not verified or removed."""
    with db.transaction() as session:
        for number, user_id in enumerate(users):
            chosen = CHOICES[number % len(CHOICES)]
            if chosen is not None:
                preferences.replace(session, user_id, chosen, DAY)
            session.add_all(point(user_id, one) for one in range(number % 4))
            session.add(point(user_id, 5, verified_at=None))
            session.add(point(user_id, 6, removed_at=DAY))


def left(db: Database) -> dict[str, list[str]]:
    """All rows of all tables; a notification is named by its cause, other made-up ids and times are left out."""
    with db.session() as session:
        causes = {one.notification_id: one.cause for one in session.scalars(sa.select(Notification))}
        rows = {
            name: [dict(row) for row in session.execute(sa.select(table)).mappings()]
            for name, table in Base.metadata.tables.items()
        }
    named = {
        name: [
            {
                **{column: value for column, value in row.items() if column not in GENERATED},
                "of": causes.get(row.get("notification_id")),
            }
            for row in of_table
        ]
        for name, of_table in rows.items()
    }
    return {name: sorted(map(repr, of_table)) for name, of_table in named.items()}


def orders_of(order_updated: Make, user_id: UUID) -> list[Event]:
    """Three orders of a user on all their ways, and one whose two ends contradict each other."""
    order: list[dict[str, Any]] = [
        {"order_id": uuid4(), "user_id": user_id, "portfolio_id": uuid4(), "tradingsymbol": share}
        for share in ("INFY", "TCS", "M&M")
    ]
    part = {"status": "PARTIAL", "filled_quantity": 4, "last_fill_quantity": 4, "last_fill_amount_paise": 5_000_05}
    return [
        order_updated(**order[0], **NONE_YET, status="ACCEPTED", order_version=1),
        order_updated(**order[0], **part, order_version=2, minutes=1),
        order_updated(**order[0], **{**part, "filled_quantity": 7}, order_version=3, minutes=2),
        order_updated(**order[0], order_version=4, minutes=3),
        order_updated(**order[1], **NONE_YET, status="REJECTED", reason="Price 'out' of ₹ range; {{ x }} \\"),
        order_updated(**order[1], **NONE_YET, status="CANCELLED", reason_code="replacement_refused", minutes=4),
        order_updated(**order[2], status="FILLED", order_version=5),
        order_updated(**order[2], **NONE_YET, status="CANCELLED", order_version=6, minutes=5),
    ]


def messages(order_updated: Make, users: Sequence[UUID], seed: int) -> list[Envelope]:
    """A shuffled batch: all orders, cash, an unknown user, facts said again under a new and under their old message id."""
    dice = random.Random(seed)  # noqa: S311  a repeatable order, not a secret
    events = [event for user_id in (*users, uuid4()) for event in orders_of(order_updated, user_id)]
    cash = [
        CashMoved(
            user_id=user_id,
            portfolio_id=uuid4(),
            kind="DEPOSIT",
            amount_paise=5_00,
            transfer_id=uuid4(),
            occurred_at=DAY,
        )
        for user_id in users
    ]
    said = [enveloped(event) for event in (*events, *dice.sample(events, 15), *cash)]
    dice.shuffle(said)
    return [*said, *dice.sample(said, 5)]


@pytest.mark.parametrize(("now", "seed"), [(DAY, 1), (NIGHT, 2)])
def test_a_batch_leaves_what_its_messages_leave_one_by_one(
    db: Database, order_updated: Make, clock: FixedClock, now: datetime, seed: int
) -> None:
    clock.set(now)
    handlers = make_handlers(clock)
    users = [uuid4() for _ in CHOICES]
    batch = messages(order_updated, users, seed)
    before = batch[:12]

    def leave(batches: Sequence[Sequence[Envelope]]) -> tuple[int, dict[str, list[str]]]:
        empty(db)
        settle(db, users)
        for envelope in before:
            handle(db, NAME, handlers, [envelope.model_copy(update={"id": UUID(int=envelope.id.int ^ 1)})])
        told = sa.select(Notification).where(Notification.in_app).order_by(Notification.cause).limit(2)
        with db.transaction() as session:
            for one in session.scalars(told).all():
                service.remove(session, one.user_id, one.notification_id, now)
        applied = sum(handle(db, NAME, handlers, messages) for messages in batches)
        return applied, left(db)

    one_by_one = leave([[envelope] for envelope in batch])
    together = leave([batch])
    in_parts = leave([batch[at : at + 17] for at in range(0, len(batch), 17)])
    assert together == one_by_one
    assert in_parts == one_by_one
    applied, rows = one_by_one
    assert applied == len(batch) - 5
    assert len(rows["notification"]) == (len(users) + 1) * 6 + len(users), "six things to tell of each user's orders"
    assert len(rows["delivery"]) > 3 * len(users)


def test_fifty_messages_cost_no_more_statements_than_five(db: Database, order_updated: Make, clock: FixedClock) -> None:
    costs = []
    for number in (5, 50):
        users = [uuid4() for _ in range(number)]
        settle(db, users)
        batch = [enveloped(order_updated(user_id=user_id)) for user_id in users]
        with count_statements(db) as statements:
            assert handle(db, NAME, make_handlers(clock), batch) == number
        costs.append(list(statements))
    few, many = costs
    assert len(many) == len(few) == 5, "inbox, preferences, notifications, contact points, deliveries"


def test_messages_without_news_read_and_write_nothing_but_the_inbox(
    db: Database, order_updated: Make, clock: FixedClock
) -> None:
    batch = [enveloped(order_updated(**NONE_YET, status="WORKING")) for _ in range(5)]
    with count_statements(db) as statements:
        handle(db, NAME, make_handlers(clock), batch)
    assert len(statements) == 1


def test_a_summary_lists_what_came_together_in_its_order(db: Database, order_updated: Make) -> None:
    user_id = uuid4()
    with db.transaction() as session:
        preferences.replace(session, user_id, Preferences(digest_kinds=frozenset({Kind.ORDER_FILLED})), DAY)
        session.add_all([point(user_id, 1), point(user_id, 2)])
    batch = [enveloped(order_updated(user_id=user_id, tradingsymbol=f"SHARE{number}")) for number in range(20)]
    handle(db, NAME, make_handlers(Ticking(DAY)), batch)
    digests.send_due(db, DAY + timedelta(days=1))
    with db.session() as session:
        (summary,) = session.scalars(sa.select(Notification).where(Notification.kind == Kind.DIGEST))
    assert [item["title"] for item in summary.data["items"]] == [f"Bought 10 SHARE{number}" for number in range(20)]


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    before = structlog.get_config()
    configure(NAME, stream=stream)
    yield stream
    structlog.configure(**before)


def test_each_line_names_the_request_it_comes_from(
    db: Database, order_updated: Make, clock: FixedClock, lines: io.StringIO
) -> None:
    events = [order_updated() for _ in range(3)]
    batch = [enveloped(event, f"request-{number}") for number, event in enumerate(events)]
    batch.append(enveloped(events[0], "request-of-a-repeat"))
    handle(db, NAME, make_handlers(clock), batch)
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    told = [line for line in logged if line["event"] == "notification.told"]
    assert [(line["correlation_id"], line["cause"], line["service"], line["deliveries"]) for line in told] == [
        (f"request-{number}", f"order:{event.order_id}:end", NAME, 1) for number, event in enumerate(events)
    ]
