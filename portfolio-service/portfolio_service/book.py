"""What portfolios hold and traded today, read from lots, allocations and accounts, priced by the market."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import Unavailable
from common.logging import get_logger
from common.market_data import MarketData
from portfolio_service import postings
from portfolio_service.ledger import AccountKind
from portfolio_service.lots import Lot
from portfolio_service.market_view import unsettled_since
from portfolio_service.models import LotDisposal, OrderAllocation, TaxLot
from portfolio_service.valuation import (
    DayTrade,
    HoldingRow,
    InstrumentKey,
    PositionRow,
    Quote,
    holding_rows,
    position_rows,
)

log = get_logger(__name__)


@dataclass(frozen=True)
class Book:
    """Figures of some portfolios as of one moment, without prices."""

    lots: dict[InstrumentKey, list[Lot]]
    free: dict[InstrumentKey, int]
    trades: list[DayTrade]

    def keys(self) -> set[InstrumentKey]:
        """Every instrument in it."""
        return set(self.lots) | {(trade.exchange, trade.tradingsymbol) for trade in self.trades}


def read_book(session: Session, portfolio_ids: Sequence[UUID], today: date) -> Book:
    """Delivery lots, free units and today's trades; intraday lots left from earlier days count as bought at cost."""
    lots: dict[InstrumentKey, list[Lot]] = {}
    trades: list[DayTrade] = []
    open_lots = session.scalars(
        sa.select(TaxLot)
        .where(TaxLot.portfolio_id.in_(portfolio_ids), TaxLot.remaining_quantity > 0)
        .order_by(TaxLot.acquired_on, TaxLot.acquired_at, TaxLot.lot_id)
    )
    for row in open_lots:
        if row.product == "CNC":
            lots.setdefault((row.exchange, row.tradingsymbol), []).append(_lot(row))
        elif row.acquired_on < today:
            trades.append(_carried(row, row.remaining_quantity, row.remaining_cost_paise))
    trades += _trades_of(session, portfolio_ids, today)
    free: dict[InstrumentKey, int] = {}
    for key, balance in postings.balances_of(session, portfolio_ids).items():
        if key.kind is AccountKind.SHARES:
            exchange, _, symbol = key.asset.partition(":")
            free[exchange, symbol] = free.get((exchange, symbol), 0) + balance.free
    return Book(lots, free, trades)


def quotes_for(market: MarketData, keys: Iterable[InstrumentKey]) -> dict[InstrumentKey, Quote]:
    """Last prices; without a market the figures that need one are unknown, the rest is still shown."""
    wanted = list(keys)
    if not wanted:
        return {}
    try:
        return {key: Quote(last_price_paise=price.price_paise) for key, price in market.prices(wanted).items()}
    except Unavailable as error:
        log.warning("book.unpriced", detail=error.detail)
        return {}


def holdings(book: Book, quotes: dict[InstrumentKey, Quote], today: date) -> list[HoldingRow]:
    """Delivery shares held, today's purchases included as not yet delivered."""
    return holding_rows(book.lots, free_quantities=book.free, quotes=quotes, unsettled_since=unsettled_since(today))


def positions(book: Book, quotes: dict[InstrumentKey, Quote]) -> list[PositionRow]:
    """What was traded today, and intraday shares still open."""
    return position_rows(book.trades, quotes)


def _trades_of(session: Session, portfolio_ids: Sequence[UUID], today: date) -> list[DayTrade]:
    row = OrderAllocation
    filled = session.execute(
        sa.select(
            row.exchange,
            row.tradingsymbol,
            row.product,
            row.side,
            sa.func.sum(row.quantity - row.house_quantity),
            sa.func.sum(row.amount_paise - row.house_amount_paise),
        )
        .where(row.portfolio_id.in_(portfolio_ids), row.trading_date == today, row.quantity > row.house_quantity)
        .group_by(row.exchange, row.tradingsymbol, row.product, row.side)
    )
    trades = [
        DayTrade(exchange, symbol, product, "BUY" if side == "BUY" else "SELL", int(quantity), int(value))
        for exchange, symbol, product, side, quantity, value in filled
    ]
    # An intraday share bought on an earlier day and sold today needs its purchase beside its sale.
    carried = session.scalars(
        sa.select(LotDisposal).where(
            LotDisposal.portfolio_id.in_(portfolio_ids),
            LotDisposal.disposed_on == today,
            LotDisposal.acquired_on < today,
            LotDisposal.product == "MIS",
        )
    )
    return trades + [_carried(disposal, disposal.quantity, disposal.cost_paise) for disposal in carried]


def _carried(row: TaxLot | LotDisposal, quantity: int, cost_paise: int) -> DayTrade:
    return DayTrade(row.exchange, row.tradingsymbol, row.product, "BUY", quantity, cost_paise)


def _lot(row: TaxLot) -> Lot:
    return Lot(
        row.lot_id, row.acquired_on, row.remaining_quantity, row.remaining_cost_paise, row.quantity, row.cost_paise
    )
