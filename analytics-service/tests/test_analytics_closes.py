"""Closes: read once, today's again, restated history anew, a silent source a delay and nothing more."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from analytics_service import closes as closing
from analytics_service.desk import Desk
from analytics_service.models_derived import CloseChange, DailyClose
from common.clock import FixedClock
from common.db import Database
from common.events import OrderUpdated
from common.http import PeerUnavailable
from common.testing import TRADING_DAY

INDEX, INFY = ("NSE", "NIFTY 50"), ("NSE", "INFY")
FIRST = date(2026, 11, 2)
Consume = Callable[..., UUID]


@pytest.fixture
def held(order_updated: Callable[..., OrderUpdated], consume: Consume) -> UUID:
    """Somebody bought INFY on the first day and holds it."""
    user_id = uuid4()
    consume(
        order_updated(user_id=user_id, tradingsymbol="INFY", trading_date=FIRST, occurred_at="2026-11-02T05:00:00Z")
    )
    return user_id


@pytest.fixture
def market(closes: Any) -> Any:
    """A source with closes for every weekday up to today."""
    days = [FIRST + timedelta(days=number) for number in range(-7, (TRADING_DAY - FIRST).days + 1)]
    for key, start in ((INDEX, 25_000_00), (INFY, 1_500_00)):
        closes.known[key] = {day: start + 100 * at for at, day in enumerate(days) if day.weekday() < 5}
    return closes


def bring(desk: Desk) -> int:
    return closing.bring(desk.db, desk.closes, desk.settings.benchmark_key, desk.clock)


def stored(db: Database, key: tuple[str, str]) -> dict[date, int]:
    with db.session() as session:
        rows = session.scalars(select(DailyClose).where(DailyClose.tradingsymbol == key[1]))
        return {row.on_date: row.close_paise for row in rows}


def changes(db: Database) -> list[date]:
    with db.session() as session:
        return [row.from_date for row in session.scalars(select(CloseChange).order_by(CloseChange.change_no))]


@pytest.mark.usefixtures("held")
def test_what_is_held_is_read_once_and_today_again_later(
    desk: Desk, db: Database, market: Any, clock: FixedClock
) -> None:
    assert bring(desk) == 2
    assert stored(db, INFY) == {day: paise for day, paise in market.known[INFY].items() if day >= FIRST}
    assert min(stored(db, INDEX)) < FIRST
    assert bring(desk) == 0
    market.asked.clear()
    market.known[INFY][TRADING_DAY] = 1_600_00
    clock.advance(closing.REFRESH_S + 1)
    assert bring(desk) == 2
    assert [(key, (last - first).days) for key, first, last in market.asked] == [(INDEX, 3), (INFY, 3)]
    assert stored(db, INFY)[TRADING_DAY] == 1_600_00
    assert changes(db)[-1] == TRADING_DAY


@pytest.mark.usefixtures("held")
def test_restated_history_is_read_anew(desk: Desk, db: Database, market: Any, clock: FixedClock) -> None:
    bring(desk)
    market.known[INFY] = {day: paise // 2 for day, paise in market.known[INFY].items()}
    clock.advance(closing.REFRESH_S + 1)
    bring(desk)
    assert stored(db, INFY) == {day: paise for day, paise in market.known[INFY].items() if day >= FIRST}
    assert changes(db)[-1] == FIRST


@pytest.mark.usefixtures("held")
def test_a_silent_source_delays_and_the_next_round_has_all(desk: Desk, db: Database, market: Any) -> None:
    market.trouble = PeerUnavailable("away")
    assert bring(desk) == 0
    market.trouble = None
    assert bring(desk) == 2
    assert stored(db, INFY)


@pytest.mark.usefixtures("held")
def test_an_unknown_share_is_asked_for_rarely(desk: Desk, market: Any, clock: FixedClock) -> None:
    del market.known[INFY]
    assert bring(desk) == 2
    market.asked.clear()
    bring(desk)
    assert market.asked == []


def test_an_earlier_trade_makes_an_earlier_beginning(
    desk: Desk, db: Database, market: Any, held: UUID, order_updated: Callable[..., OrderUpdated], consume: Consume
) -> None:
    bring(desk)
    earlier = FIRST - timedelta(days=3)
    market.known[INFY][earlier] = 1_000_00
    consume(order_updated(user_id=held, tradingsymbol="INFY", trading_date=earlier))
    desk.clock.advance(closing.PAUSE_S)  # type: ignore[attr-defined]
    bring(desk)
    assert min(stored(db, INFY)) == earlier


def test_a_share_nobody_holds_any_more_is_left_in_peace(
    desk: Desk, market: Any, held: UUID, order_updated: Callable[..., OrderUpdated], consume: Consume, clock: FixedClock
) -> None:
    with desk.db.session() as session:
        from analytics_service.models import Trade

        portfolio_id = session.scalars(select(Trade.portfolio_id)).one()
    consume(
        order_updated(
            user_id=held, portfolio_id=portfolio_id, tradingsymbol="INFY", side="SELL",
            trading_date=FIRST + timedelta(days=1),
        )
    )  # fmt: skip
    bring(desk)
    market.asked.clear()
    clock.advance(closing.REFRESH_S + 1)
    bring(desk)
    assert [key for key, _, _ in market.asked] == [INDEX]


def test_nothing_is_asked_while_nobody_traded(desk: Desk, market: Any) -> None:
    assert bring(desk) == 0
    assert market.asked == []
