"""Orders that come together: what one after the other would leave, in the order they came, for a fixed number of statements."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

import common.logging
from common.consumers import handle
from common.db import count_statements
from common.events import Envelope, OrderAccepted
from common.outbox import inbox, outbox
from common.testing_servers import empty
from trade_executor.consumers import CONSUMER, HANDLERS
from trade_executor.models import ChildOrder, EarlyCancel
from trade_executor.testing import Room, order

USERS = [UUID(int=number) for number in (1, 2, 3)]
TIMES = {"received_at", "pooled_at", "closed_at", "cancel_requested_at"}


def new_orders(count: int) -> list[OrderAccepted]:
    return [order(user_id=USERS[number % 3], quantity=number + 1) for number in range(count)]


@dataclass
class Before:
    """What is there before the messages come."""

    answered: Sequence[OrderAccepted] = ()
    """Orders that have been closed, which was told and sent."""
    pooled: Sequence[OrderAccepted] = ()
    """Orders of which nothing was said yet."""
    unwanted: Sequence[UUID] = ()
    """Orders whose cancels came first."""

    def stage(self, room: Room) -> None:
        empty(room.db)
        for event in (*self.answered, *self.pooled):
            room.accept(**dict(event))
        for event in self.answered:
            room.cancel(event.order_id)
        room.run("UPDATE outbox SET sent_at = now()")
        for order_id in self.unwanted:
            room.cancel(order_id)


def message(event: OrderAccepted) -> Envelope:
    """A message with an id and a correlation id of its own, as the sweep of portfolio-service makes them too."""
    now = datetime.now(UTC)
    return Envelope(
        type="OrderAccepted",
        source="portfolio-service",
        aggregate_id=str(event.order_id),
        occurred_at=event.occurred_at,
        recorded_at=now,
        correlation_id=uuid4().hex,
        payload=event.model_dump(mode="json"),
    )


def by_age(room: Room) -> list[ChildOrder]:
    return sorted(room.rows(ChildOrder), key=lambda child: child.seq)


def left(room: Room) -> dict[str, Any]:
    """Everything in the tables but instants, message ids and the numbers of rows."""
    columns = [name for name in sa.inspect(ChildOrder).columns.keys() if name not in {*TIMES, "seq"}]  # noqa: SIM118
    with room.db.session() as session:
        told = session.execute(sa.select(outbox).order_by(outbox.c.aggregate_id, outbox.c.id)).all()
        claimed = session.scalars(sa.select(inbox.c.message_id).order_by(inbox.c.message_id)).all()
    return {
        "orders": [[getattr(child, name) for name in columns] for child in by_age(room)],
        "closed": [child.closed_at is not None for child in by_age(room)],
        "early cancels": [row.order_id for row in room.rows(EarlyCancel)],
        "told": [
            (row.aggregate_id, row.type, {**row.payload, "occurred_at": None}, row.correlation_id, row.sent_at is None)
            for row in told
        ],
        "claimed": claimed,
    }


def take(room: Room, before: Before, batches: Sequence[Sequence[Envelope]]) -> tuple[dict[str, Any], list[Any]]:
    """What the batches leave, and what the log says of each order under which correlation id."""
    before.stage(room)
    log = io.StringIO()
    common.logging.configure(CONSUMER, stream=log)
    for batch in batches:
        handle(room.db, CONSUMER, HANDLERS, batch)
    lines = map(json.loads, log.getvalue().splitlines())
    said = [line for line in lines if line["event"] in {"order.taken", "order.repeated"}]
    return left(room), sorted((line["event"], line["order_id"], line["correlation_id"]) for line in said)


def test_orders_that_come_together_leave_what_one_after_the_other_leaves(room: Room) -> None:
    new, answered, pooled = new_orders(24), order(quantity=7), order(quantity=8)
    unwanted = [new[5], new[11]]
    # Orders 5 and 9 come twice in the batch, and two come that were known before.
    events = [*new[:12], answered, new[9], new[5], *new[12:20], pooled, answered, *new[20:]]
    messages = [message(event) for event in events]
    before = Before([answered], [pooled], [event.order_id for event in unwanted])

    together, said_together = take(room, before, [messages])
    alone, said_alone = take(room, before, [[one] for one in messages])

    assert together == alone
    assert said_together == said_alone
    told = [(aggregate, unsent) for aggregate, _, _, _, unsent in together["told"]]
    assert told == sorted((str(event.order_id), True) for event in (answered, *unwanted))
    assert together["early cancels"] == []


def test_orders_that_come_together_are_as_old_as_their_place_among_the_messages(room: Room) -> None:
    new = new_orders(200)
    twice = message(new[150])
    handle(room.db, CONSUMER, HANDLERS, [*map(message, new[:100]), twice, *map(message, new[100:])])
    children = by_age(room)
    assert [child.order_id for child in children] == [
        event.order_id for event in (*new[:100], new[150], *new[100:150], *new[151:])
    ]
    assert children[100].correlation_id == twice.correlation_id, "it was taken where it came first"


@pytest.mark.parametrize("count", [5, 50])
def test_how_many_orders_come_together_changes_no_statement(room: Room, count: int) -> None:
    """The whole batch: inbox, orders, answers sent again, early cancels, what is told, and a NOTIFY for either."""
    new, answered = new_orders(count // 5 * 4), new_orders(count // 5)
    unwanted = [event.order_id for event in new[::4]]
    Before(answered, (), unwanted).stage(room)
    with count_statements(room.db) as statements:
        handle(room.db, CONSUMER, HANDLERS, [message(event) for event in (*new, *answered)])
    assert [statement.split()[:3] for statement in statements] == [
        ["INSERT", "INTO", "inbox"],
        ["INSERT", "INTO", "child_order"],
        ["UPDATE", "outbox", "SET"],
        ["NOTIFY", "outbox"],
        ["DELETE", "FROM", "early_cancel"],
        ["UPDATE", "child_order", "SET"],
        ["INSERT", "INTO", "outbox"],
        ["NOTIFY", "outbox"],
    ]
    assert len(room.rows(ChildOrder)) == count
    assert len(room.rows(ChildOrder, state="CANCELLED")) == len(unwanted) + len(answered)
