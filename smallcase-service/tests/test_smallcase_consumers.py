"""News that come together: what one after the other would leave; one statement finds the few that are of a basket."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from common.clock import FixedClock
from common.consumers import handle
from common.db import Database, count_statements
from common.events import Envelope, OrderUpdated
from common.outbox import inbox, outbox
from common.testing_servers import empty
from smallcase_service.config import NAME
from smallcase_service.consumers import make_handlers
from smallcase_service.models import BasketLeg, BasketOrder, Investment, Smallcase, SmallcaseVersion
from smallcase_service.orders import InvestmentStatus, Kind, LegState, Stage, Status

SMALLCASE = UUID(int=1)
LEGS = 3
QUANTITY = 10

Make = Callable[..., OrderUpdated]


def leg_id(basket: int, leg: int) -> UUID:
    return UUID(int=basket * 100 + leg)


def stage(db: Database, baskets: int, now: datetime) -> None:
    """Baskets of different users whose orders were accepted; the ids are the same each time."""
    empty(db)
    with db.transaction() as session:
        session.add(Smallcase(smallcase_id=SMALLCASE, owner_id=SMALLCASE, version=1, created_at=now))
        session.flush()
        session.add(
            SmallcaseVersion(
                smallcase_id=SMALLCASE, version=1, name="Three of a kind", description="", visibility="published",
                reason="made", changed_by=SMALLCASE, created_at=now,
            )
        )  # fmt: skip
        for number in range(1, baskets + 1):
            ids = {"investment_id": UUID(int=number), "basket_order_id": UUID(int=number)}
            session.add(
                Investment(
                    investment_id=ids["investment_id"], user_id=UUID(int=number), smallcase_id=SMALLCASE,
                    portfolio_id=UUID(int=number), version=1, status=InvestmentStatus.PENDING, created_at=now,
                )
            )  # fmt: skip
            session.flush()
            session.add(
                BasketOrder(
                    **ids, user_id=UUID(int=number), kind=Kind.INVEST, stage=Stage.WORKING, status=Status.PLACED,
                    kyc="verified", queue_when_closed=False, version=1, wanted={}, submission_id=UUID(int=number),
                    submissions=1, planned_cost_paise=0, planned_charges_paise=0, created_at=now, due_at=now, drives=0,
                )
            )  # fmt: skip
            session.flush()
            session.add_all(
                BasketLeg(
                    order_id=leg_id(number, leg), **ids, submission_id=UUID(int=number), position=leg, exchange="NSE",
                    tradingsymbol=f"SHARE{leg}", side="BUY", quantity=QUANTITY, price_paise=100_00,
                    state=LegState.ACCEPTED, order_version=1, filled_quantity=0, amount_paise=0, charges_paise=0,
                    updated_at=now,
                )
                for leg in range(LEGS)
            )  # fmt: skip


@pytest.fixture
def news(order_updated: Make) -> Make:
    """Factory: the news that an order stands at a version in a state with so many shares."""

    def make(order_id: UUID, version: int, status: str, filled: int) -> OrderUpdated:
        return order_updated(
            order_id=order_id, order_version=version, status=status, quantity=QUANTITY, filled_quantity=filled,
            amount_paise=filled * 100_00, charges_paise=filled,
        )  # fmt: skip

    return make


def message(event: OrderUpdated) -> Envelope:
    return Envelope(
        type="OrderUpdated",
        source="portfolio-service",
        aggregate_id=str(event.order_id),
        occurred_at=event.occurred_at,
        recorded_at=event.occurred_at,
        correlation_id=uuid4().hex,
        payload=event.model_dump(mode="json"),
    )


def left(db: Database) -> dict[str, Any]:
    """Everything in the tables but the ids of what is told and when it was written."""
    with db.session() as session:
        rows: dict[str, Any] = {
            model.__tablename__: session.execute(
                sa.select(model.__table__).order_by(*model.__table__.primary_key)
            ).all()
            for model in (Investment, BasketOrder, BasketLeg)
        }
        told = session.execute(sa.select(outbox).order_by(outbox.c.aggregate_id)).all()
        rows["claimed"] = session.scalars(sa.select(inbox.c.message_id).order_by(inbox.c.message_id)).all()
    rows["told"] = [
        (row.aggregate_id, row.type, {**row.payload, "occurred_at": None}, row.correlation_id) for row in told
    ]
    return rows


def take(db: Database, clock: FixedClock, batches: Sequence[Sequence[Envelope]]) -> dict[str, Any]:
    stage(db, 3, clock.now())
    for batch in batches:
        handle(db, NAME, make_handlers(clock), batch)
    return left(db)


def test_news_that_come_together_leave_what_one_after_the_other_leaves(
    db: Database, clock: FixedClock, news: Make, order_updated: Make
) -> None:
    filled = news(leg_id(1, 0), 3, "FILLED", QUANTITY)
    events = [
        order_updated(),
        filled,
        news(leg_id(2, 1), 2, "WORKING", 0),
        news(leg_id(1, 0), 2, "PARTIAL", 4),  # older than what came before
        news(leg_id(1, 1), 2, "FILLED", QUANTITY),
        filled,  # again, under a message id of its own
        order_updated(),
        news(leg_id(3, 2), 2, "PARTIAL", 3),
        news(leg_id(2, 0), 2, "REJECTED", 0),
        news(leg_id(1, 2), 2, "FILLED", QUANTITY),
        news(leg_id(2, 1), 3, "CANCELLED", 6),
        news(leg_id(2, 2), 2, "EXPIRED", 0),
        news(leg_id(1, 2), 3, "FILLED", QUANTITY),  # of a basket that has ended
    ]
    messages = [message(event) for event in events]
    together = take(db, clock, [messages])
    assert together == take(db, clock, [[one] for one in messages])
    assert [row.status for row in together["basket_order"]] == ["filled", "needs_repair", "partially_filled"]
    assert [(payload["status"], trace) for _, _, payload, trace in together["told"]] == [
        ("filled", messages[9].correlation_id),
        ("needs_repair", messages[11].correlation_id),
    ]


@pytest.mark.parametrize("count", [5, 50])
def test_news_of_orders_of_no_basket_cost_one_statement(
    db: Database, clock: FixedClock, order_updated: Make, count: int
) -> None:
    with count_statements(db) as statements:
        handle(db, NAME, make_handlers(clock), [message(order_updated()) for _ in range(count)])
    assert [statement.split(" FROM ")[0].split()[:2] for statement in statements] == [
        ["INSERT", "INTO"],
        ["SELECT", "basket_leg.order_id"],
    ]


@pytest.mark.parametrize("count", [5, 50])
def test_news_of_a_leg_cost_the_same_among_any_number(
    db: Database, clock: FixedClock, news: Make, order_updated: Make, count: int
) -> None:
    stage(db, 1, clock.now())
    events = [news(leg_id(1, 0), 2, "WORKING", 0), *(order_updated() for _ in range(count - 1))]
    with count_statements(db) as statements:
        handle(db, NAME, make_handlers(clock), [message(event) for event in events])
    assert len(statements) == 4, statements
