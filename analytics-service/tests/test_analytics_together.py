"""Facts that are booked together: the rows of one after the other, for a fixed number of statements, in one order of locks."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from analytics_service import service
from analytics_service.config import NAME
from analytics_service.consumers import HANDLERS
from analytics_service.facts import Portfolio
from analytics_service.model_base import Base
from analytics_service.models import OrderFact, Trade
from analytics_service.valuing import bring_up_to_date
from common.consumers import handle
from common.db import Database, count_statements, run_in_transaction
from common.events import CashMoved, Envelope, Event, OrderUpdated, OrderWorking
from common.testing import TRADING_DAY, eventually
from common.testing_servers import empty

AT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
USERS = [UUID(int=number) for number in (1, 2, 3)]
PORTFOLIOS = {user: [Portfolio(UUID(int=user.int * 10 + number), user) for number in (0, 1)] for user in USERS}
ALL_PORTFOLIOS = [portfolio for owned in PORTFOLIOS.values() for portfolio in owned]

Make = Callable[..., OrderUpdated]
Rows = dict[str, list[tuple[Any, ...]]]


def versions(make: Make, number: int) -> list[OrderUpdated]:
    """One order from WORKING over two fills and a correction of its charges to FILLED."""
    portfolio = ALL_PORTFOLIOS[number % len(ALL_PORTFOLIOS)]
    order: dict[str, Any] = {
        "order_id": uuid4(), "user_id": portfolio.user_id, "portfolio_id": portfolio.portfolio_id,
        "tradingsymbol": ["RELIANCE", "TCS"][number // 2 % 2], "side": ["BUY", "BUY", "SELL"][number % 3],
        "trading_date": TRADING_DAY - timedelta(days=number % 4), "quantity": 10,
    }  # fmt: skip
    filled = amount = charges = 0
    told = []
    steps = [("WORKING", 0, 0), ("PARTIAL", 4, 12), ("PARTIAL", 6, 15), ("PARTIAL", 0, -2), ("FILLED", 0, 0)]
    for version, (status, units, fee) in enumerate(steps, start=1):
        paise = units * (1_000_00 + number)
        filled, amount, charges = filled + units, amount + paise, charges + fee
        told.append(
            make(
                **order, order_version=version, status=status, filled_quantity=filled, amount_paise=amount,
                charges_paise=charges, last_fill_quantity=units, last_fill_amount_paise=paise,
                last_fill_charges_paise=fee, reason_code=None if status == "FILLED" else "x",
                occurred_at=AT + timedelta(minutes=number, microseconds=version),
            )
        )  # fmt: skip
    return told


def working(order_id: UUID, block: int) -> OrderWorking:
    return OrderWorking(order_id=order_id, block_id=UUID(int=block), occurred_at=AT + timedelta(microseconds=block))


def enveloped(event: Event) -> Envelope:
    return Envelope(
        type=event.type_name(), source="room", occurred_at=event.occurred_at, recorded_at=event.occurred_at,
        payload=event.model_dump(mode="json"),
    )  # fmt: skip


def all_rows(db: Database) -> Rows:
    """Every row of every table, without the times at which this room did something."""
    with db.session() as session:
        return {
            table.name: sorted(
                map(tuple, session.execute(sa.select(*(c for c in table.columns if c.name != "handled_at"))).all()),
                key=str,
            )
            for table in Base.metadata.sorted_tables
        }


def left_by(db: Database, batches: Sequence[Sequence[Envelope]]) -> Rows:
    """What the batches leave on an empty database, with daily values and lots made at the end."""
    empty(db)
    for batch in batches:
        handle(db, NAME, HANDLERS, batch)
    for portfolio in ALL_PORTFOLIOS:
        run_in_transaction(db, partial(bring_up_to_date, portfolio=portfolio))
    return all_rows(db)


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_leaves_what_its_messages_leave_one_by_one(db: Database, order_updated: Make, seed: int) -> None:
    facts: list[Event] = []
    for number in range(14):
        changes = versions(order_updated, number)
        facts += changes
        facts += [working(changes[0].order_id, number // 3), working(changes[0].order_id, 100 + number // 3)]
    for number, portfolio in enumerate(ALL_PORTFOLIOS):
        facts.append(
            CashMoved(
                user_id=portfolio.user_id, portfolio_id=portfolio.portfolio_id, kind="DEPOSIT",
                amount_paise=1_000_00 + number, transfer_id=uuid4(), occurred_at=AT,
            )
        )  # fmt: skip
    shuffled = random.Random(seed)  # noqa: S311  a repeatable order, not a secret
    # Every third fact is told twice under two message ids, every fifth message comes twice.
    messages = [enveloped(event) for event in facts + facts[::3]]
    messages += messages[::5]
    shuffled.shuffle(messages)
    known, batch = messages[:30], messages[30:]

    one_by_one = left_by(db, [known, *([message] for message in batch)])
    together = left_by(db, [known, batch])

    assert together == one_by_one
    assert (len(together["order_fact"]), len(together["trade"]), len(together["order_block"])) == (14, 42, 28)
    assert {row[8] for row in together["order_fact"]} == {"FILLED"}
    assert together["daily_value"]
    assert together["open_lot"]


FIGURES = st.tuples(st.integers(0, 1), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2))
"""(order, version, its total, what it added): one version may be told with several figures."""


def told_as(make: Make, figures: tuple[int, int, int, int]) -> OrderUpdated:
    order, version, total, added = figures
    return make(
        order_id=UUID(int=order), user_id=USERS[0], portfolio_id=USERS[0], order_version=version, amount_paise=total,
        last_fill_quantity=added, last_fill_amount_paise=added, last_fill_charges_paise=0,
    )  # fmt: skip


def orders_and_trades(session: Session) -> list[list[Any]]:
    return [
        list(session.execute(sa.select(*table.columns).order_by(*table.primary_key)))
        for table in (OrderFact.__table__, Trade.__table__)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(FIGURES, max_size=4), told=st.lists(FIGURES, min_size=2, max_size=10), repair=st.booleans())
def test_versions_in_any_order_and_told_differently_leave_what_one_by_one_leaves(
    db: Database, order_updated: Make, before: list[Any], told: list[Any], repair: bool
) -> None:
    def left(batches: list[list[Any]]) -> list[list[Any]]:
        with db.session() as session:
            service.book_orders(session, [told_as(order_updated, one) for one in before])
            for batch in batches:
                service.book_orders(session, [told_as(order_updated, one) for one in batch], repair=repair)
            return orders_and_trades(session)

    assert left([told]) == left([[one] for one in told])


@pytest.mark.parametrize(("repair", "stays"), [(False, 1), (True, 2)])
def test_of_one_version_told_differently_the_first_stays_and_in_a_rebuild_the_last(
    db: Database, order_updated: Make, repair: bool, stays: int
) -> None:
    told = [told_as(order_updated, (0, 2, figure, figure)) for figure in (1, 2)]
    with db.session() as session:
        service.book_orders(session, told, repair=repair)
        (order,), (trade,) = orders_and_trades(session)
    assert (order.amount_paise, trade.amount_paise) == (stays, stays)


def test_fifty_messages_cost_no_more_statements_than_five(db: Database, order_updated: Make) -> None:
    def statements(number: int) -> list[str]:
        orders = [versions(order_updated, one) for one in range(number)]
        facts = [change for changes in orders for change in changes[:3]]
        facts += [working(changes[0].order_id, 1) for changes in orders]
        with count_statements(db) as sent:
            handle(db, NAME, HANDLERS, [enveloped(fact) for fact in facts])
        return [statement.split(" (")[0] for statement in sent]

    of_five, of_fifty = statements(5), statements(50)
    assert of_fifty == of_five
    assert of_five == ["INSERT INTO inbox", *(f"INSERT INTO {name}" for name in ("order_fact", "trade", "order_block"))]


def _order(make: Make, order_id: UUID) -> OrderUpdated:
    return make(order_id=order_id, order_version=9)


def _working(_: Make, order_id: UUID) -> OrderWorking:
    return working(order_id, 1)


@pytest.mark.parametrize(
    ("book", "tell"), [(service.book_orders, _order), (service.book_blocks, _working)], ids=["orders", "blocks"]
)
def test_bookings_of_the_same_orders_in_opposite_orders_never_wait_in_a_circle(
    db: Database, order_updated: Make, book: Callable[[Session, Any], None], tell: Callable[[Make, UUID], Any]
) -> None:
    one, two, *held = (tell(order_updated, UUID(int=number)) for number in (1, 2, 3, 4))

    def work(events: list[Any]) -> None:
        with db.transaction() as session:
            book(session, events)

    def waiting(number: int) -> bool:
        with db.session() as session:
            return number == session.scalar(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )

    with ThreadPoolExecutor(2) as pool, db.session() as holder:
        book(holder, held)
        done = [pool.submit(work, [two, held[0], one])]
        eventually(lambda: waiting(1), timeout=2)
        done.append(pool.submit(work, [one, held[1], two]))
        eventually(lambda: waiting(2), timeout=2)
        holder.rollback()
        for booking in done:
            booking.result()
