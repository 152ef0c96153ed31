"""The read model is the same whatever is repeated, lost and sent again, or overtakes."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from analytics_service.config import NAME
from analytics_service.consumers import HANDLERS
from analytics_service.models import CashFlow, OrderFact, Trade
from analytics_service.summaries import user_summary
from common.bus import LocalBus
from common.consumers import Together, run_consumer
from common.db import Database
from common.events import CashMoved, Envelope, Event, OrderUpdated
from common.testing import TRADING_DAY

START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
USERS = [uuid4(), uuid4()]
SHARES = [("NSE", "RELIANCE"), ("NSE", "TCS"), ("BSE", "TCS")]
ENDS = ["FILLED", "CANCELLED", "EXPIRED", "FAILED"]


def order_history(
    user_id: UUID, share: tuple[str, str], side: str, fills: list[tuple[int, int, int]], end: str
) -> list[Event]:
    """What portfolio-service publishes of one order; a fill is (units, paise a unit, paise of charges)."""
    order_id = uuid4()
    wanted = sum(units for units, _, _ in fills) + (0 if end == "FILLED" and fills else 1)
    filled = amount = charges = 0

    def update(version: int, status: str, fill: tuple[int, int, int] = (0, 0, 0)) -> OrderUpdated:
        return OrderUpdated(
            order_id=order_id,
            user_id=user_id,
            portfolio_id=user_id,
            exchange=share[0],
            tradingsymbol=share[1],
            side=side,
            product="CNC",
            status=status,
            order_version=version,
            quantity=wanted,
            filled_quantity=filled,
            amount_paise=amount,
            charges_paise=charges,
            last_fill_quantity=fill[0],
            last_fill_amount_paise=fill[0] * fill[1],
            last_fill_charges_paise=fill[2],
            trading_date=TRADING_DAY,
            occurred_at=START + timedelta(seconds=version),
        )

    events: list[Event] = [update(1, "WORKING")]
    for units, price, fee in fills:
        filled, amount, charges = filled + units, amount + units * price, charges + fee
        events.append(update(len(events) + 1, "PARTIAL", (units, price, fee)))
    events.append(update(len(events) + 1, end))
    return events


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Facts of several orders and flows in the order they happened."""
    events: list[Event] = []
    fill = st.tuples(st.integers(1, 1_000), st.integers(1, 10_000_00), st.integers(0, 500_00))
    for _ in range(draw(st.integers(0, 3))):
        events += order_history(
            draw(st.sampled_from(USERS)),
            draw(st.sampled_from(SHARES)),
            draw(st.sampled_from(["BUY", "SELL"])),
            draw(st.lists(fill, max_size=3)),
            draw(st.sampled_from(ENDS)),
        )
    for kind in draw(st.lists(st.sampled_from(["TOPUP", "DEPOSIT", "WITHDRAWAL"]), max_size=3)):
        user_id = draw(st.sampled_from(USERS))
        amount = draw(st.integers(1, 10**12))
        events.append(
            CashMoved(
                user_id=user_id,
                portfolio_id=user_id,
                kind=kind,
                amount_paise=amount,
                transfer_id=uuid4(),
                occurred_at=START,
            )
        )
    return events


def enveloped(event: Event) -> Envelope:
    return Envelope(
        type=event.type_name(),
        source="portfolio-service",
        occurred_at=event.occurred_at,
        recorded_at=event.occurred_at,
        payload=event.model_dump(mode="json"),
    )


def book(session: Session, events: list[Event], *, together: int = 1) -> None:
    """Book as batches of up to `together` messages are."""
    for start in range(0, len(events), together):
        batch = [enveloped(event) for event in events[start : start + together]]
        for event_type, handler in HANDLERS.items():
            facts = [(one.event(), one) for one in batch if one.type == event_type.type_name()]
            if isinstance(handler, Together):
                handler.apply(session, facts)
            else:
                for event, envelope in facts:
                    handler(session, event, envelope)


def model(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the read model."""
    tables = (OrderFact.__table__, Trade.__table__, CashFlow.__table__)
    return {
        table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
        for table in tables
    }


def model_of(db: Database, events: list[Event], *, together: int = 1) -> dict[str, list[tuple[Any, ...]]]:
    """The rows that a delivery of `events` leads to, on an empty model; nothing is kept."""
    with db.session() as session:
        book(session, events, together=together)
        return model(session)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=histories(), seed=st.integers(0, 2**32), repeats=st.integers(1, 3), together=st.sampled_from([1, 2, 5, 100])
)
def test_repeats_shuffles_and_batches_lead_to_identical_rows(
    db: Database, history: list[Event], seed: int, repeats: int, together: int
) -> None:
    delivered = history * repeats
    random.Random(seed).shuffle(delivered)  # noqa: S311  a repeatable order, not a secret
    assert model_of(db, delivered, together=together) == model_of(db, history)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_summary_adds_up_to_the_facts(db: Database, history: list[Event]) -> None:
    fills = [event for event in history if isinstance(event, OrderUpdated) and event.last_fill_quantity]
    flows = [event for event in history if isinstance(event, CashMoved)]
    with db.session() as session:
        book(session, history)
        for user_id in USERS:
            summary = user_summary(session, user_id)
            own = [event for event in fills if event.user_id == user_id]
            bought = sum(event.last_fill_amount_paise for event in own if event.side == "BUY")
            sold = sum(event.last_fill_amount_paise for event in own if event.side == "SELL")
            assert summary.traded.bought_paise == bought
            assert summary.traded.sold_paise == sold
            assert summary.traded.trade_count == len(own)
            assert sum(share.net_cost_paise for share in summary.shares) == bought - sold
            assert summary.traded.charges_paise == sum(share.charges_paise for share in summary.shares)
            assert sum(summary.orders_by_status.values()) == len(
                {event.order_id for event in history if isinstance(event, OrderUpdated) and event.user_id == user_id}
            )
            mine = [flow for flow in flows if flow.user_id == user_id]
            assert summary.deposits_paise - summary.withdrawals_paise == sum(
                -flow.amount_paise if flow.kind == "WITHDRAWAL" else flow.amount_paise for flow in mine
            )


def test_trades_of_an_order_sum_to_its_own_totals(db: Database) -> None:
    events = order_history(USERS[0], SHARES[0], "BUY", [(3, 100_00, 12), (4, 101_05, 13)], "CANCELLED")
    with db.session() as session:
        book(session, events)
        fact = session.execute(select(OrderFact)).scalar_one()
        quantity, amount, charges = session.execute(
            select(func.sum(Trade.quantity), func.sum(Trade.amount_paise), func.sum(Trade.charges_paise))
        ).one()
    assert (
        (quantity, amount, charges) == (fact.filled_quantity, fact.amount_paise, fact.charges_paise) == (7, 704_20, 25)
    )


def test_charges_without_a_fill_count_as_charges_and_not_as_a_trade(
    db: Database, order_updated: Callable[..., OrderUpdated]
) -> None:
    event = order_updated(last_fill_quantity=0, last_fill_amount_paise=0, last_fill_charges_paise=-3)
    with db.session() as session:
        book(session, [event])
        traded = user_summary(session, event.user_id).traded
    assert (traded.charges_paise, traded.trade_count) == (-3, 0)


def test_committed_messages_are_booked_once(
    db: Database, order_updated: Callable[..., OrderUpdated], consume: Callable[..., UUID]
) -> None:
    event = order_updated()
    message_id = consume(event)
    consume(event, message_id)  # redelivered by the bus
    consume(event)  # recorded again by the sender
    with db.session() as session:
        rows = model(session)
    assert [len(rows["order_fact"]), len(rows["trade"])] == [1, 1]


def test_consumer_takes_the_rooms_queue_from_a_bus(
    db: Database, order_updated: Callable[..., OrderUpdated], local_bus: LocalBus
) -> None:
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
        with db.session() as session:
            assert len(model(session)["trade"]) == 1
    finally:
        stop.set()
        consumer.join()
