"""Daily values and lots: what a slow calculation by hand says, however facts and closes came in and whenever they were read."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from analytics_service import facts, service
from analytics_service.closes import Answer, Close, Read, Wanted, _cover, _store
from analytics_service.facts import Portfolio
from analytics_service.lots import Fill, fifo
from analytics_service.models_derived import DERIVED_FROM_FACTS, CloseChange, DailyValue, LotDisposal, OpenLot
from analytics_service.valuing import bring_up_to_date
from common.db import Database
from common.events import CashMoved, Event, OrderUpdated

FIRST = date(2026, 11, 2)
DAYS = [FIRST + timedelta(days=number) for number in range(14)]
SHARES = [("NSE", "RELIANCE"), ("NSE", "TCS"), ("BSE", "TCS")]
NOW = datetime(2026, 11, 16, 4, 30, tzinfo=UTC)


@dataclass
class Story:
    """Facts of one portfolio and closes, in the order they become known."""

    user_id: UUID = field(default_factory=uuid4)
    portfolio_id: UUID = field(default_factory=uuid4)
    steps: list[Event | Read] = field(default_factory=list)
    reads_after: set[int] = field(default_factory=set)

    @property
    def portfolio(self) -> Portfolio:
        return Portfolio(self.portfolio_id, self.user_id)

    def trade(self, on: date, key: tuple[str, str], side: str, quantity: int, amount: int, charges: int) -> None:
        at = datetime(on.year, on.month, on.day, 5, 0, tzinfo=UTC) + timedelta(seconds=len(self.steps))
        self.steps.append(
            OrderUpdated(
                order_id=uuid4(), user_id=self.user_id, portfolio_id=self.portfolio_id, exchange=key[0],
                tradingsymbol=key[1], side=side, product="CNC", status="FILLED", order_version=3, quantity=quantity or 1,
                filled_quantity=quantity, amount_paise=amount, charges_paise=charges, last_fill_quantity=quantity,
                last_fill_amount_paise=amount, last_fill_charges_paise=charges, trading_date=on, occurred_at=at,
            )
        )  # fmt: skip

    def flow(self, on: date, kind: str, amount: int) -> None:
        at = datetime(on.year, on.month, on.day, 20, 0, tzinfo=UTC) - timedelta(hours=18)
        self.steps.append(
            CashMoved(
                user_id=self.user_id, portfolio_id=self.portfolio_id, kind=kind, amount_paise=amount,
                transfer_id=uuid4(), occurred_at=at,
            )
        )  # fmt: skip

    def close(self, key: tuple[str, str], closes: dict[date, int]) -> None:
        rows = [Close(on, paise) for on, paise in sorted(closes.items())]
        self.steps.append(Read(Wanted(key, rows[0].on, rows[-1].on), Answer(rows, True), False))

    def play(self, session: Session) -> None:
        for number, step in enumerate(self.steps):
            if isinstance(step, OrderUpdated):
                service.book_orders(session, [step])
            elif isinstance(step, CashMoved):
                service.book_cash(session, step)
            elif isinstance(step, Read):
                changed = _store(session, step)
                _cover(session, step, NOW)
                if changed:
                    session.execute(sa.insert(CloseChange).values(from_date=min(changed), changed_at=NOW))
            if number in self.reads_after:
                bring_up_to_date(session, self.portfolio)
        bring_up_to_date(session, self.portfolio)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    story = Story()
    price = st.integers(1, 5_000_00)
    for _ in range(draw(st.integers(1, 14))):
        what = draw(st.sampled_from(["trade", "trade", "flow", "closes", "closes"]))
        if what == "trade":
            quantity = draw(st.integers(1, 50))
            story.trade(
                draw(st.sampled_from(DAYS)), draw(st.sampled_from(SHARES)), draw(st.sampled_from(["BUY", "SELL"])),
                quantity, quantity * draw(price), draw(st.integers(0, 9_999)),
            )  # fmt: skip
        elif what == "flow":
            story.flow(
                draw(st.sampled_from(DAYS)), draw(st.sampled_from(["TOPUP", "WITHDRAWAL"])), draw(st.integers(1, 10**9))
            )
        else:
            days = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=6, unique=True))
            story.close(draw(st.sampled_from(SHARES)), {on: draw(price) for on in days})
    story.reads_after = set(draw(st.lists(st.integers(0, 14), max_size=4)))
    return story


def by_hand(story: Story) -> dict[date, tuple[int, int, int]]:
    """(shares, cash, flow) of every valued day, one day and share at a time."""
    closes: dict[tuple[str, str], dict[date, int]] = defaultdict(dict)
    trades = [step for step in story.steps if isinstance(step, OrderUpdated)]
    flows = [
        (step, (step.occurred_at + timedelta(minutes=330)).date())
        for step in story.steps
        if isinstance(step, CashMoved)
    ]
    for step in story.steps:
        if isinstance(step, Read):
            closes[step.wanted.key].update({close.on: close.paise for close in step.answer.closes})
    fact_days = sorted({trade.trading_date for trade in trades} | {on for _, on in flows})
    if not fact_days:
        return {}
    market = {on for days in closes.values() for on in days if on >= fact_days[0]}
    days = sorted(market | {trade.trading_date for trade in trades})
    if not days or fact_days[-1] > days[-1]:
        days.append(fact_days[-1])
    values: dict[date, tuple[int, int, int]] = {}
    cash, prices, units, before = 0, {}, defaultdict(int), date.min  # type: ignore[var-annotated]
    for day in days:
        flow = sum(
            -step.amount_paise if step.kind == "WITHDRAWAL" else step.amount_paise
            for step, on in flows
            if before < on <= day
        )
        cash += flow
        for key in SHARES:
            today = [
                trade for trade in trades if (trade.exchange, trade.tradingsymbol) == key and trade.trading_date == day
            ]
            for trade in today:
                sign = 1 if trade.side == "BUY" else -1
                units[key] += sign * trade.last_fill_quantity
                cash -= sign * trade.last_fill_amount_paise + trade.last_fill_charges_paise
            if today:
                quantity = sum(trade.last_fill_quantity for trade in today)
                prices[key] = _half_up(sum(trade.last_fill_amount_paise for trade in today), quantity)
            # Whatever was known before the first day is not carried into it.
            if day in closes[key]:
                prices[key] = closes[key][day]
        values[day] = (sum(units[key] * prices.get(key, 0) for key in SHARES), cash, flow)
        before = day
    return values


def _half_up(total: int, parts: int) -> int:
    return (2 * total + parts) // (2 * parts)


def stored(session: Session, portfolio: Portfolio) -> dict[date, tuple[int, int, int]]:
    rows = session.scalars(select(DailyValue).where(DailyValue.portfolio_id == portfolio.portfolio_id))
    return {row.on_date: (row.shares_paise, row.cash_paise, row.flow_paise) for row in rows}


def derived(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table.__tablename__: sorted(map(tuple, session.execute(select(table.__table__)).all()))
        for table in DERIVED_FROM_FACTS
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories())
def test_values_are_those_of_a_calculation_by_hand_whenever_they_were_read(db: Database, story: Story) -> None:
    with db.session() as session:
        story.play(session)
        assert stored(session, story.portfolio) == by_hand(story)
        piecemeal = derived(session)
        for table in DERIVED_FROM_FACTS:
            session.execute(delete(table))
        bring_up_to_date(session, story.portfolio)
        assert derived(session) == piecemeal


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories())
def test_profit_of_lots_is_the_value_less_what_was_put_in(db: Database, story: Story) -> None:
    with db.session() as session:
        story.play(session)
        values = stored(session, story.portfolio)
        if not values:
            return
        last = max(values)
        shares, cash, _ = values[last]
        put_in = sum(flow for _, _, flow in values.values())
        realised = sum(
            row.proceeds_paise - row.cost_paise - row.charges_paise for row in session.scalars(select(LotDisposal))
        )
        paid = sum(
            (row.cost_paise if row.quantity > 0 else -row.cost_paise) + row.charges_paise
            for row in session.scalars(select(OpenLot))
        )
        assert shares + cash - put_in == realised + shares - paid


def test_a_second_reading_of_an_unchanged_portfolio_writes_nothing(db: Database) -> None:
    story = Story()
    story.flow(FIRST, "TOPUP", 1_000_00)
    story.trade(FIRST, SHARES[0], "BUY", 1, 900_00, 10)
    with db.session() as session:
        story.play(session)
        version = bring_up_to_date(session, story.portfolio)
        session.commit()
    with db.session() as session:
        before = derived(session)
        assert bring_up_to_date(session, story.portfolio) == version == (2, 0)
        assert not session.new
        assert derived(session) == before


fills = st.builds(
    Fill,
    order_id=st.sampled_from("abcd"),
    on=st.dates(FIRST, FIRST + timedelta(days=400)),
    quantity=st.integers(-60, 60),
    amount_paise=st.integers(0, 10**9),
    charges_paise=st.integers(0, 10**6),
)


@given(st.lists(fills, max_size=25))
def test_lots_conserve_units_value_and_charges(history: list[Fill]) -> None:
    history = sorted(history, key=lambda fill: fill.on)
    disposals, held = fifo(history)
    assert sum(lot.quantity for lot in held) == sum(fill.quantity for fill in history)
    assert len({lot.quantity > 0 for lot in held}) <= 1
    bought = sum(fill.amount_paise for fill in history if fill.quantity > 0)
    sold = sum(fill.amount_paise for fill in history if fill.quantity < 0)
    left_bought = sum(lot.cost_paise for lot in held if lot.quantity > 0)
    left_sold = sum(lot.cost_paise for lot in held if lot.quantity < 0)
    assert sum(one.cost_paise for one in disposals) + left_bought == bought
    assert sum(one.proceeds_paise for one in disposals) + left_sold == sold
    attached = {fill.order_id for fill in history if fill.quantity}
    charges = sum(fill.charges_paise for fill in history if fill.order_id in attached)
    assert sum(one.charges_paise for one in disposals) + sum(lot.charges_paise for lot in held) == charges
    assert [lot.acquired_on for lot in held] == sorted(lot.acquired_on for lot in held)


def test_the_oldest_lot_goes_first_and_its_parts_add_up() -> None:
    one, two, sale = "one", "two", "sale"
    disposals, held = fifo(
        [
            Fill(one, FIRST, 3, 100_00, 10),
            Fill(two, FIRST + timedelta(days=1), 5, 200_00, 11),
            Fill(sale, FIRST + timedelta(days=2), -4, 300_01, 7),
        ]
    )
    assert [(part.quantity, part.cost_paise, part.proceeds_paise, part.charges_paise) for part in disposals] == [
        (3, 100_00, 225_00, 15),
        (1, 40_00, 75_01, 4),
    ]
    assert [(lot.quantity, lot.cost_paise, lot.charges_paise) for lot in held] == [(4, 160_00, 9)]


def test_facts_of_a_foreign_portfolio_are_nobody_elses(db: Database) -> None:
    story = Story()
    story.flow(FIRST, "TOPUP", 1_000_00)
    with db.session() as session:
        story.play(session)
        assert facts.portfolio_of(session, story.user_id, story.portfolio_id) == story.portfolio
        assert facts.portfolio_of(session, uuid4(), story.portfolio_id) is None
        assert facts.portfolios_of(session, uuid4()) == []
