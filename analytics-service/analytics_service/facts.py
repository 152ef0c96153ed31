"""Facts in SQL: whose portfolios there are, and what their trades and flows sum to. Paise, units, IST days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Text, case, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from analytics_service.lots import Fill
from analytics_service.models import CashFlow, ImportedPortfolio, ImportedTrade, Trade
from analytics_service.returns import Days
from analytics_service.valuation import DayFlow, DayTrade, Key

PORTFOLIOS_MAX = 1_000
"""Portfolios of one user that are looked at; rooms allow far fewer."""
BookKey = tuple[str, str, str]
"""(exchange, tradingsymbol, product)"""


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A portfolio of facts: of the platform, or brought by file (then without cash of its own)."""

    portfolio_id: UUID
    user_id: UUID
    is_imported: bool = False

    @property
    def trades(self) -> type[Trade] | type[ImportedTrade]:
        """The table its trades are in."""
        return ImportedTrade if self.is_imported else Trade


def portfolios_of(session: Session, user_id: UUID) -> list[Portfolio]:
    """The user's portfolios of the platform that anything happened in."""
    ids = sa.union(
        select(Trade.portfolio_id).where(Trade.user_id == user_id),
        select(CashFlow.portfolio_id).where(CashFlow.user_id == user_id),
    )
    return [Portfolio(row, user_id) for row in sorted(session.scalars(ids.limit(PORTFOLIOS_MAX)))]


def has_any_until(session: Session, user_id: UUID, last: date) -> bool:
    """Whether anything had happened in a user's portfolios of the platform by the end of a day."""
    traded = select(Trade.order_id).where(Trade.user_id == user_id, Trade.trading_date <= last)
    moved = select(CashFlow.transfer_id).where(CashFlow.user_id == user_id, _flow_day() <= last)
    return bool(session.scalar(select(sa.or_(traded.exists(), moved.exists()))))


def portfolio_of(session: Session, user_id: UUID, portfolio_id: UUID) -> Portfolio | None:
    """One portfolio of a user, of the platform or imported; None when there is none such."""
    imported = session.get(ImportedPortfolio, portfolio_id)
    if imported is not None:
        return Portfolio(portfolio_id, user_id, True) if imported.user_id == user_id else None
    for table in (Trade, CashFlow):
        owner = select(table.user_id).where(table.portfolio_id == portfolio_id).limit(1)
        if session.scalar(owner) == user_id:
            return Portfolio(portfolio_id, user_id)
    return None


def fact_count(session: Session, portfolio: Portfolio) -> int:
    """How many facts there are. They are never changed or removed, so the number tells whether any is new."""
    trades = portfolio.trades
    counted = select(func.count()).where(trades.portfolio_id == portfolio.portfolio_id)
    count = session.execute(select(counted.scalar_subquery())).scalar_one()
    if not portfolio.is_imported:
        count += session.execute(
            select(func.count()).where(CashFlow.portfolio_id == portfolio.portfolio_id)
        ).scalar_one()
    return int(count)


def facts_by_day(session: Session, portfolio: Portfolio) -> tuple[Days, Days, NDArray[np.int64]]:
    """(days of trades, days of anything, how many facts each of the latter has)."""
    trades = portfolio.trades
    rows = session.execute(
        select(trades.trading_date, func.count())
        .where(trades.portfolio_id == portfolio.portfolio_id)
        .group_by(trades.trading_date)
    ).all()
    counts: dict[date, int] = {row[0]: row[1] for row in rows}
    traded = sorted(counts)
    for flow in _flows(session, portfolio, None):
        counts[flow.on] = counts.get(flow.on, 0) + flow.fact_count
    days = sorted(counts)
    return _days(traded), _days(days), np.array([counts[day] for day in days], dtype=np.int64)


def day_trades(session: Session, portfolio: Portfolio, first: date | None) -> list[DayTrade]:
    """Trades summed by day and share, from a day on."""
    trades = portfolio.trades
    buys = trades.side == "BUY"
    quantity, amount = func.sum(trades.quantity), func.sum(trades.amount_paise)
    statement = select(
        trades.trading_date,
        trades.exchange,
        trades.tradingsymbol,
        func.sum(case((buys, trades.quantity), else_=-trades.quantity)),
        cast(func.sum(case((buys, trades.amount_paise), else_=-trades.amount_paise)), BigInteger),
        cast(func.sum(trades.charges_paise), BigInteger),
        cast(func.coalesce(func.round(amount / func.nullif(quantity, 0)), 0), BigInteger),
        func.count(),
    ).where(trades.portfolio_id == portfolio.portfolio_id)
    if first is not None:
        statement = statement.where(trades.trading_date >= first)
    grouped = statement.group_by(trades.trading_date, trades.exchange, trades.tradingsymbol)
    return [
        DayTrade(on, (exchange, symbol), units, spent, charges, unit, count)
        for on, exchange, symbol, units, spent, charges, unit, count in session.execute(grouped)
    ]


def day_flows(session: Session, portfolio: Portfolio, first: date | None) -> list[DayFlow]:
    """Money in and out by Indian calendar day, from a day on."""
    return _flows(session, portfolio, first)


def held_before(session: Session, portfolio: Portfolio, day: date) -> dict[Key, int]:
    """Units of every share at the end of the day before."""
    trades = portfolio.trades
    units = func.sum(case((trades.side == "BUY", trades.quantity), else_=-trades.quantity))
    rows = session.execute(
        select(trades.exchange, trades.tradingsymbol, units)
        .where(trades.portfolio_id == portfolio.portfolio_id, trades.trading_date < day)
        .group_by(trades.exchange, trades.tradingsymbol)
        .having(units != 0)
    )
    return {(exchange, symbol): count for exchange, symbol, count in rows}


def last_traded(session: Session, portfolio: Portfolio, keys: set[Key], last: date) -> dict[Key, tuple[date, int]]:
    """The newest day up to `last` on which each share was traded, and its mean price a unit."""
    if not keys:
        return {}
    trades = portfolio.trades
    unit = cast(func.round(func.sum(trades.amount_paise) / func.sum(trades.quantity)), BigInteger)
    rows = session.execute(
        select(trades.exchange, trades.tradingsymbol, trades.trading_date, unit)
        .ext(distinct_on(trades.exchange, trades.tradingsymbol))
        .where(
            trades.portfolio_id == portfolio.portfolio_id,
            trades.trading_date <= last,
            sa.tuple_(trades.exchange, trades.tradingsymbol).in_(sorted(keys)),
        )
        .group_by(trades.exchange, trades.tradingsymbol, trades.trading_date)
        .having(func.sum(trades.quantity) > 0)
        .order_by(trades.exchange, trades.tradingsymbol, trades.trading_date.desc())
    )
    return {(exchange, symbol): (on, paise) for exchange, symbol, on, paise in rows}


def counts_by_book(session: Session, portfolio: Portfolio) -> dict[BookKey, int]:
    """How many trades each share and product of a portfolio has."""
    trades = portfolio.trades
    rows = session.execute(
        select(trades.exchange, trades.tradingsymbol, trades.product, func.count())
        .where(trades.portfolio_id == portfolio.portfolio_id)
        .group_by(trades.exchange, trades.tradingsymbol, trades.product)
    )
    return {(exchange, symbol, product): count for exchange, symbol, product, count in rows}


def fills_by_book(session: Session, portfolio: Portfolio, books: Sequence[BookKey]) -> dict[BookKey, list[Fill]]:
    """The fills of some shares in the order they happened."""
    trades = portfolio.trades
    happened = (
        (ImportedTrade.row_number, ImportedTrade.row_key)
        if portfolio.is_imported
        else (Trade.occurred_at, Trade.order_id, Trade.order_version)
    )
    statement = (
        select(
            trades.exchange,
            trades.tradingsymbol,
            trades.product,
            cast(trades.order_id, Text),
            trades.trading_date,
            case((trades.side == "BUY", trades.quantity), else_=-trades.quantity),
            trades.amount_paise,
            trades.charges_paise,
        )
        .where(trades.portfolio_id == portfolio.portfolio_id)
        .order_by(trades.trading_date, *happened)
    )
    symbols = sorted({book[1] for book in books})
    if symbols:
        statement = statement.where(trades.tradingsymbol.in_(symbols))
    found: dict[BookKey, list[Fill]] = {book: [] for book in books}
    for exchange, symbol, product, order_id, on, quantity, amount, charges in session.execute(statement):
        book = found.get((exchange, symbol, product))
        if book is not None:
            book.append(Fill(order_id, on, quantity, amount, charges))
    return found


def _flows(session: Session, portfolio: Portfolio, first: date | None) -> list[DayFlow]:
    if portfolio.is_imported:
        return []
    on = _flow_day()
    amount = case((CashFlow.kind == "WITHDRAWAL", -CashFlow.amount_paise), else_=CashFlow.amount_paise)
    statement = select(on, cast(func.sum(amount), BigInteger), func.count()).where(
        CashFlow.portfolio_id == portfolio.portfolio_id
    )
    if first is not None:
        statement = statement.where(on >= first)
    return [DayFlow(day, paise, count) for day, paise, count in session.execute(statement.group_by(on))]


def _flow_day() -> sa.ColumnElement[date]:
    return sa.type_coerce(func.date(func.timezone("Asia/Kolkata", CashFlow.occurred_at)), sa.Date)


def _days(days: Sequence[date]) -> Days:
    return np.array(days, dtype="datetime64[D]")
