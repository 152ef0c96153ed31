"""`rebuild`: facts read again from the producers' outboxes, and the same rows whatever had happened to them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, select, update

from analytics_service.models import CashFlow, OrderBlock, OrderFact, Trade
from analytics_service.models_derived import DERIVED_FROM_FACTS
from analytics_service.rebuilding import rebuild
from common.db import Database
from common.events import CashMoved, Envelope, Event, OrderUpdated, OrderWorking
from common.outbox_reading import Page, Position, Recorded

AT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
TABLES = (OrderFact, Trade, CashFlow, OrderBlock, *DERIVED_FROM_FACTS)


class Outbox:
    """A producer's outbox as its internal route gives it."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.messages = [
            Envelope(
                type=event.type_name(), source="room", occurred_at=event.occurred_at,
                recorded_at=AT + timedelta(milliseconds=number), payload=event.model_dump(mode="json"),
            )
            for number, event in enumerate(events)
        ]  # fmt: skip

    def page(self, types: Sequence[str], after: Position, *, grace_s: float, limit: int) -> Page:
        rows = [
            Recorded(recorded_at=one.recorded_at, id=number, message_id=one.id)
            for number, one in enumerate(self.messages)
            if one.type in types and (one.recorded_at, number) > (after.recorded_at, after.id)
        ]
        return Page(messages=rows[:limit], settled_before=AT + timedelta(days=1))

    def bodies(self, message_ids: Sequence[UUID]) -> list[Envelope]:
        wanted = set(message_ids)
        return [one for one in self.messages if one.id in wanted]


@pytest.fixture
def outboxes(order_updated: Callable[..., OrderUpdated]) -> dict[str, Outbox]:
    """Orders of several versions, flows and blocks of two users."""
    facts: list[Event] = []
    blocks: list[Event] = []
    for number in range(120):
        user_id = UUID(int=number % 2 + 1)
        order: dict[str, Any] = {"user_id": user_id, "portfolio_id": user_id, "order_id": uuid4()}
        nothing = {"last_fill_quantity": 0, "last_fill_amount_paise": 0, "last_fill_charges_paise": 0}
        facts.append(order_updated(**order, order_version=2, status="WORKING", **nothing))
        facts.append(order_updated(**order, minutes=number, side="SELL" if number % 5 == 4 else "BUY"))
        facts.append(
            CashMoved(
                user_id=user_id, portfolio_id=user_id, kind="DEPOSIT", amount_paise=number + 1, transfer_id=uuid4(),
                occurred_at=AT,
            )
        )  # fmt: skip
        blocks.append(OrderWorking(order_id=order["order_id"], block_id=UUID(int=number // 10 + 1), occurred_at=AT))
    return {"portfolio-service": Outbox(facts), "trade-executor": Outbox(blocks), "smallcase-service": Outbox([])}


def rows(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    with db.session() as session:
        return {
            table.__tablename__: sorted(map(tuple, session.execute(select(table.__table__)).all()), key=str)
            for table in TABLES
        }


def test_a_rebuild_on_nothing_makes_everything_and_again_the_same(db: Database, outboxes: dict[str, Outbox]) -> None:
    done = rebuild(db, outboxes)
    assert (done.facts, done.portfolios) == (480, 2)
    made = rows(db)
    assert all(made[name] for name in ("order_fact", "trade", "cash_flow", "order_block", "daily_value", "open_lot"))
    rebuild(db, outboxes)
    assert rows(db) == made


def test_a_rebuild_mends_what_was_lost_changed_or_derived_wrongly(db: Database, outboxes: dict[str, Outbox]) -> None:
    rebuild(db, outboxes)
    made = rows(db)
    with db.transaction() as session:
        session.execute(delete(OrderBlock))
        some = select(Trade.order_id).order_by(Trade.order_id).limit(17)
        session.execute(delete(Trade).where(Trade.order_id.in_(some)))
        session.execute(update(Trade).values(amount_paise=Trade.amount_paise + 1))
        session.execute(update(OrderFact).values(status="LOST", order_version=2))
        session.execute(update(CashFlow).values(amount_paise=7))
        for table in DERIVED_FROM_FACTS[:2]:
            session.execute(delete(table))
    assert rows(db) != made
    rebuild(db, outboxes)
    assert rows(db) == made


def test_what_a_pruned_outbox_no_longer_holds_stays(db: Database, outboxes: dict[str, Outbox]) -> None:
    rebuild(db, outboxes)
    made = rows(db)
    outboxes["portfolio-service"].messages = outboxes["portfolio-service"].messages[-30:]
    outboxes["trade-executor"].messages = []
    assert rebuild(db, outboxes).facts == 30
    assert rows(db) == made


def test_consumer_and_rebuild_lead_to_the_same_facts(
    db: Database, outboxes: dict[str, Outbox], consume: Callable[..., UUID]
) -> None:
    for outbox in outboxes.values():
        for message in reversed(outbox.messages):  # the bus may overtake
            consume(message.event())
    by_bus = {
        name: found for name, found in rows(db).items() if name in ("order_fact", "trade", "cash_flow", "order_block")
    }
    rebuild(db, outboxes)
    assert {name: rows(db)[name] for name in by_bus} == by_bus
    with db.session() as session:
        assert session.scalar(select(func.count()).select_from(Trade)) == 120
