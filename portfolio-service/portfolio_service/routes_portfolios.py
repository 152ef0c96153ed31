"""Portfolios of the caller, what they hold and what they traded today."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter

from common.auth import User
from common.clock import trading_date
from common.db import Database, SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.market_data import MarketData
from portfolio_service import book, funds, portfolios
from portfolio_service.dependencies import SettingsDep
from portfolio_service.ledger import Balance
from portfolio_service.models import Portfolio
from portfolio_service.schemas_money import (
    HoldingOut,
    HoldingsOut,
    HoldingsSum,
    PortfolioDetail,
    PortfolioIn,
    PortfolioOut,
    PositionOut,
    PositionsOut,
)
from portfolio_service.valuation import HoldingRow, PositionRow, holdings_total

router = APIRouter(prefix="/api/v1", tags=["portfolios"])


@router.get("/portfolios")
def list_portfolios(user: User, session: SessionDep, settings: SettingsDep, clock: ClockDep) -> list[PortfolioOut]:
    """All portfolios of the caller, the default one first."""
    paper_cash = settings.initial_paper_cash_rupees * 100
    found = portfolios.portfolios_of(session, user.user_id, clock.now(), paper_cash_paise=paper_cash)
    return [PortfolioOut.of(portfolio, *funds.cash_of(session, portfolio.portfolio_id)) for portfolio in found]


@router.post("/portfolios", status_code=201)
def create_portfolio(
    body: PortfolioIn, user: User, session: SessionDep, settings: SettingsDep, clock: ClockDep
) -> PortfolioOut:
    """Open another portfolio; its name is unique among the caller's."""
    portfolio = portfolios.create(
        session, user.user_id, body.name, body.description, clock.now(), settings.portfolios_max
    )
    return PortfolioOut.of(portfolio, Balance(), 0)


@router.get("/portfolios/{portfolio_id}")
def get_portfolio(
    portfolio_id: UUID, user: User, db: DatabaseDep, settings: SettingsDep, market: MarketDep, clock: ClockDep
) -> PortfolioDetail:
    """A portfolio with its money, its holdings at last prices and its value."""
    today = trading_date(clock.now())
    with db.transaction() as session:
        portfolio = portfolios.portfolio_of(
            session,
            user.user_id,
            portfolio_id,
            clock.now(),
            paper_cash_paise=settings.initial_paper_cash_rupees * 100,
        )
        cash, owed = funds.cash_of(session, portfolio_id)
        figures = book.read_book(session, [portfolio_id], today)
    quotes = book.quotes_for(market, figures.keys())
    rows = book.holdings(figures, quotes, today)
    total = holdings_total(rows)
    intraday = [
        None if row.last_price_paise is None else row.quantity * row.last_price_paise
        for row in book.positions(figures, quotes)
        if row.product == "MIS" and row.quantity
    ]
    known = [amount for amount in (total.value_paise, *intraday) if amount is not None]
    value = cash.posted - owed + sum(known) if len(known) == 1 + len(intraday) else None
    base = PortfolioOut.of(portfolio, cash, owed)
    return PortfolioDetail(**dict(base), holdings=_holdings(rows), value=value)


@router.put("/portfolios/{portfolio_id}")
def rename_portfolio(
    portfolio_id: UUID, body: PortfolioIn, user: User, session: SessionDep, clock: ClockDep
) -> PortfolioOut:
    """Change a portfolio's name and description."""
    portfolio = portfolios.rename(session, user.user_id, portfolio_id, body.name, body.description, clock.now())
    return PortfolioOut.of(portfolio, *funds.cash_of(session, portfolio_id))


@router.delete("/portfolios/{portfolio_id}", status_code=204)
def delete_portfolio(portfolio_id: UUID, user: User, session: SessionDep, clock: ClockDep) -> None:
    """Delete an empty portfolio; its orders and transactions stay readable."""
    portfolios.close(session, user.user_id, portfolio_id, clock.now())


@router.get("/portfolios/{portfolio_id}/holdings")
def portfolio_holdings(
    portfolio_id: UUID, user: User, db: DatabaseDep, market: MarketDep, clock: ClockDep
) -> HoldingsOut:
    """Shares held in one portfolio."""
    return _holdings(_held(db, market, clock, _chosen(db, clock, user.user_id, portfolio_id)))


@router.get("/portfolios/{portfolio_id}/positions")
def portfolio_positions(
    portfolio_id: UUID, user: User, db: DatabaseDep, market: MarketDep, clock: ClockDep
) -> PositionsOut:
    """What one portfolio traded today."""
    return _positions(_traded(db, market, clock, _chosen(db, clock, user.user_id, portfolio_id)))


@router.get("/holdings")
def list_holdings(
    user: User, db: DatabaseDep, market: MarketDep, clock: ClockDep, portfolio_id: UUID | None = None
) -> HoldingsOut:
    """Shares held in all portfolios of the caller together, with live profit and loss."""
    return _holdings(_held(db, market, clock, _chosen(db, clock, user.user_id, portfolio_id)))


@router.get("/positions")
def list_positions(
    user: User, db: DatabaseDep, market: MarketDep, clock: ClockDep, portfolio_id: UUID | None = None
) -> PositionsOut:
    """What the caller traded today, with live profit and loss."""
    return _positions(_traded(db, market, clock, _chosen(db, clock, user.user_id, portfolio_id)))


def _chosen(db: Database, clock: ClockDep, user_id: UUID, portfolio_id: UUID | None) -> list[UUID]:
    """One portfolio, or all; raises PortfolioNotFound."""
    with db.transaction() as session:
        if portfolio_id is not None:
            return [portfolios.portfolio_of(session, user_id, portfolio_id, clock.now()).portfolio_id]
        found: Sequence[Portfolio] = portfolios.portfolios_of(session, user_id, clock.now())
        return [portfolio.portfolio_id for portfolio in found]


def _held(db: Database, market: MarketData, clock: ClockDep, portfolio_ids: Sequence[UUID]) -> list[HoldingRow]:
    today = trading_date(clock.now())
    with db.transaction() as session:
        figures = book.read_book(session, portfolio_ids, today)
    return book.holdings(figures, book.quotes_for(market, figures.keys()), today)


def _traded(db: Database, market: MarketData, clock: ClockDep, portfolio_ids: Sequence[UUID]) -> list[PositionRow]:
    with db.transaction() as session:
        figures = book.read_book(session, portfolio_ids, trading_date(clock.now()))
    return book.positions(figures, book.quotes_for(market, figures.keys()))


def _holdings(rows: Sequence[HoldingRow]) -> HoldingsOut:
    return HoldingsOut(items=[HoldingOut.of(row) for row in rows], total=HoldingsSum.of(holdings_total(rows)))


def _positions(rows: Sequence[PositionRow]) -> PositionsOut:
    profits = [row.pnl_paise for row in rows if row.pnl_paise is not None]
    return PositionsOut(
        items=[PositionOut.of(row) for row in rows],
        realised=sum(row.realised_paise for row in rows),
        pnl=sum(profits) if len(profits) == len(rows) else None,
    )
