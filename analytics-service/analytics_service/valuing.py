"""Daily values and lots brought up to date: only what facts or closes have changed since, in the reader's transaction.

What is stored is always what a computation from nothing would give; a test compares the tables. One reader of a
portfolio works, others wait for its row and find everything done.
"""

from datetime import date
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from analytics_service import facts
from analytics_service.columns import from_ordinals, gathered, insert_columns, ordinal
from analytics_service.facts import Portfolio
from analytics_service.lot_books import make_books
from analytics_service.models_derived import CloseChange, DailyClose, DailyValue, TradingDay, ValuedPortfolio
from analytics_service.returns import Days, to_date
from analytics_service.valuation import NOTHING, Closes, DailyValues, Key, Opening, days_of, value_days

Version = tuple[int, int]
"""(facts booked, newest change of closes): equal versions have equal values."""
ALL_STALE = -1
BEGINNING = date(1900, 1, 1)


def bring_up_to_date(session: Session, portfolio: Portfolio) -> Version:
    """Make what is stale of a portfolio's values and lots; answers the version that they are of now."""
    change_no = session.scalar(select(func.max(CloseChange.change_no))) or 0
    wanted = (facts.fact_count(session, portfolio), change_no)
    if _stored_version(session, portfolio) == wanted:
        return wanted
    session.execute(
        insert(ValuedPortfolio)
        .values(portfolio_id=portfolio.portfolio_id, user_id=portfolio.user_id, fact_count=0, change_no=ALL_STALE)
        .on_conflict_do_nothing()
    )
    row = session.execute(
        select(ValuedPortfolio)
        .where(ValuedPortfolio.portfolio_id == portfolio.portfolio_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).scalar_one()
    # Read again behind the lock: whoever held it may have done the work, and on newer facts.
    change_no = session.scalar(select(func.max(CloseChange.change_no))) or 0
    count = facts.fact_count(session, portfolio)
    if (row.fact_count, row.change_no) != (count, change_no):
        make_books(session, portfolio)
        _make_values(session, portfolio, row.change_no)
        row.fact_count, row.change_no = count, change_no
        session.flush()
    return count, change_no


def _stored_version(session: Session, portfolio: Portfolio) -> Version | None:
    row = session.execute(
        select(ValuedPortfolio.fact_count, ValuedPortfolio.change_no).where(
            ValuedPortfolio.portfolio_id == portfolio.portfolio_id
        )
    ).one_or_none()
    return (row[0], row[1]) if row is not None else None


# --- daily values ---------------------------------------------------------------------------------------------------


def _make_values(session: Session, portfolio: Portfolio, valued_change_no: int) -> None:
    traded, fact_days, counts = facts.facts_by_day(session, portfolio)
    if not len(fact_days):
        return
    days = days_of(_calendar(session, to_date(fact_days[0])), traded, fact_days)
    stored_days, stored_counts = _stored_days(session, portfolio)
    start = _first_stale(days, fact_days, counts, stored_days, stored_counts)
    if (changed := _closes_changed_from(session, valued_change_no)) is not None:
        start = min(start, int(np.searchsorted(days, np.datetime64(changed))))
    session.execute(
        delete(DailyValue).where(
            DailyValue.portfolio_id == portfolio.portfolio_id,
            DailyValue.on_date > (to_date(days[start - 1]) if start else date.min),
        )
    )
    if start < len(days):
        _store_values(session, portfolio, _values_from(session, portfolio, days, start))


def _values_from(session: Session, portfolio: Portfolio, days: Days, start: int) -> DailyValues:
    # Flows between two valued days belong to the later one, so what is read begins right after the last good day.
    after = to_date(days[start - 1]) if start else None
    begin = date.fromordinal(after.toordinal() + 1) if after else None
    trades = facts.day_trades(session, portfolio, begin)
    flows = facts.day_flows(session, portfolio, begin)
    opening = _opening(session, portfolio, after) if after else NOTHING
    keys = {trade.key for trade in trades} | set(opening.units)
    closes = _closes(session, keys, to_date(days[start]))
    return value_days(days[start:], trades, flows, closes, opening, self_funded=portfolio.is_imported)


def _first_stale(days: Days, fact_days: Days, counts: Any, stored_days: Days, stored_counts: Any) -> int:
    """The first position in `days` whose stored row is absent, of another day, or made of other facts."""
    total = np.concatenate(([0], np.cumsum(counts)))
    wanted = total[np.searchsorted(fact_days, days, side="right")]
    common = min(len(days), len(stored_days))
    differs = (days[:common] != stored_days[:common]) | (wanted[:common] != stored_counts[:common])
    return int(np.argmax(differs)) if differs.any() else common


def _opening(session: Session, portfolio: Portfolio, after: date) -> Opening:
    following = date.fromordinal(after.toordinal() + 1)
    units = facts.held_before(session, portfolio, following)
    cash, count = session.execute(
        select(DailyValue.cash_paise, DailyValue.fact_count).where(
            DailyValue.portfolio_id == portfolio.portfolio_id, DailyValue.on_date == after
        )
    ).one()
    return Opening(units, prices_at(session, portfolio, set(units), after), cash, count)


def prices_at(session: Session, portfolio: Portfolio, keys: set[Key], last: date) -> dict[Key, int]:
    """The price of shares at the end of a day: the newest close or trade of the portfolio up to it, a close first."""
    closed = _last_closes(session, keys, last)
    # Only a share without a close of that very day can have been traded later than its last close.
    unsure = {key for key in keys if key not in closed or closed[key][0] < last}
    traded = facts.last_traded(session, portfolio, unsure, last)
    prices = {}
    for key in keys:
        known = [(found[key][0], rank, found[key][1]) for rank, found in enumerate((traded, closed)) if key in found]
        prices[key] = max(known)[2]
    return prices


def _store_values(session: Session, portfolio: Portfolio, values: DailyValues) -> None:
    insert_columns(
        session,
        "daily_value (portfolio_id, on_date, shares_paise, cash_paise, flow_paise, fact_count)",
        portfolio.portfolio_id,
        [
            ("date", values.days.tolist()),
            ("bigint", values.shares.tolist()),
            ("bigint", values.cash.tolist()),
            ("bigint", values.flows.tolist()),
            ("int", values.fact_counts.tolist()),
        ],
    )


def _stored_days(session: Session, portfolio: Portfolio) -> tuple[Days, Any]:
    days, counts = session.execute(
        select(
            gathered(ordinal(DailyValue.on_date), DailyValue.on_date),
            gathered(DailyValue.fact_count, DailyValue.on_date),
        ).where(DailyValue.portfolio_id == portfolio.portfolio_id)
    ).one()
    return from_ordinals(days), np.array(counts or [], dtype=np.int64)


def _calendar(session: Session, first: date) -> Days:
    days = session.execute(
        select(gathered(ordinal(TradingDay.on_date), TradingDay.on_date)).where(TradingDay.on_date >= first)
    ).scalar_one()
    return from_ordinals(days)


def _closes_changed_from(session: Session, after_change_no: int) -> date | None:
    """The first day whose closes changed after a change; BEGINNING when older changes are no longer known."""
    oldest, first = session.execute(
        select(
            select(func.min(CloseChange.change_no)).scalar_subquery(),
            select(func.min(CloseChange.from_date)).where(CloseChange.change_no > after_change_no).scalar_subquery(),
        )
    ).one()
    if after_change_no == ALL_STALE or (after_change_no and oldest is not None and oldest > after_change_no + 1):
        return BEGINNING
    changed: date | None = first
    return changed


def _closes(session: Session, keys: set[Key], first: date) -> dict[Key, Closes]:
    if not keys:
        return {}
    rows = session.execute(
        select(
            DailyClose.exchange,
            DailyClose.tradingsymbol,
            gathered(ordinal(DailyClose.on_date), DailyClose.on_date),
            gathered(DailyClose.close_paise, DailyClose.on_date),
        )
        .where(sa.tuple_(DailyClose.exchange, DailyClose.tradingsymbol).in_(sorted(keys)), DailyClose.on_date >= first)
        .group_by(DailyClose.exchange, DailyClose.tradingsymbol)
    )
    return {
        (exchange, symbol): Closes(from_ordinals(days), np.array(paise, dtype=np.int64))
        for exchange, symbol, days, paise in rows
    }


def _last_closes(session: Session, keys: set[Key], until: date) -> dict[Key, tuple[date, int]]:
    if not keys:
        return {}
    ordered = sorted(keys)
    # One look into the index for every share: sorting all closes of all shares would take a hundred times longer.
    rows = session.execute(
        sa.text(
            "SELECT k.exchange, k.symbol, c.on_date, c.close_paise"
            " FROM unnest(CAST(:exchanges AS text[]), CAST(:symbols AS text[])) AS k (exchange, symbol)"
            " CROSS JOIN LATERAL (SELECT on_date, close_paise FROM daily_close d WHERE d.exchange = k.exchange"
            " AND d.tradingsymbol = k.symbol AND d.on_date <= :until ORDER BY on_date DESC LIMIT 1) AS c"
        ),
        {"exchanges": [key[0] for key in ordered], "symbols": [key[1] for key in ordered], "until": until},
    )
    return {(exchange, symbol): (on, paise) for exchange, symbol, on, paise in rows}
