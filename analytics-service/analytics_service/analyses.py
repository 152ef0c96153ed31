"""Analyses from what is stored, read once per version of facts and closes.

Daily values are additive over portfolios, so several are looked at as one. The answer is immutable and kept in the
process: the version is looked up in every request, so what is kept can never be old.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

import numpy as np
from sqlalchemy import BigInteger, Double, Integer, case, cast, func, select, type_coerce
from sqlalchemy.orm import Session

from analytics_service import facts
from analytics_service.analysis import Analysis, ShareResult
from analytics_service.closes import BENCHMARK_BEFORE
from analytics_service.columns import from_ordinals, gathered, ordinal
from analytics_service.facts import Portfolio
from analytics_service.models_derived import DailyClose, DailyValue, LotDisposal, OpenLot
from analytics_service.returns import Days, Paise, Series, daily_returns, series_of, series_of_closes, to_date
from analytics_service.trade_statistics import ClosedTrades
from analytics_service.valuation import Key
from analytics_service.valuing import bring_up_to_date, prices_at

KEPT_MAX = 256


class Analyses:
    """Analyses kept by what they are made of; thread-safe, the least used ones go first."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._kept: OrderedDict[object, Analysis] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: Session, portfolios: Sequence[Portfolio], benchmark: Key) -> Analysis:
        """The analysis of some portfolios as they are now, brought up to date first."""
        versions = tuple((one.portfolio_id, bring_up_to_date(session, one)) for one in portfolios)
        key = (versions, benchmark)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        made = analyse(session, portfolios, benchmark)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return made


def analyse(session: Session, portfolios: Sequence[Portfolio], benchmark: Key) -> Analysis:
    """Read what is stored of portfolios that are up to date."""
    days, shares, cash, flows = _values(session, portfolios)
    values = shares + cash
    return Analysis(
        days=days,
        values=values,
        cash=cash,
        flows=flows,
        series=series_of(days, daily_returns(values, flows)),
        benchmark=_benchmark(session, benchmark, days),
        shares=tuple(_shares(session, portfolios, to_date(days[-1]) if len(days) else None)),
        closed=_closed(session, [one.portfolio_id for one in portfolios]),
    )


def _values(session: Session, portfolios: Sequence[Portfolio]) -> tuple[Days, Paise, Paise, Paise]:
    """(days, shares, cash, flows) of all portfolios together; between its own days a portfolio keeps its value."""
    rows = session.execute(
        select(
            gathered(ordinal(DailyValue.on_date), DailyValue.on_date),
            gathered(DailyValue.shares_paise, DailyValue.on_date),
            gathered(DailyValue.cash_paise, DailyValue.on_date),
            gathered(DailyValue.flow_paise, DailyValue.on_date),
        )
        .where(DailyValue.portfolio_id.in_([one.portfolio_id for one in portfolios]))
        .group_by(DailyValue.portfolio_id)
    ).all()
    parts = [(from_ordinals(row[0]), np.array(row[1:], dtype=np.int64)) for row in rows]
    days = np.unique(np.concatenate([part[0] for part in parts])) if parts else from_ordinals(None)
    totals = np.zeros((3, len(days)), dtype=np.int64)
    for own_days, columns in parts:
        at = np.searchsorted(own_days, days, side="right") - 1
        begun = at >= 0
        totals[:2, begun] += columns[:2, at[begun]]
        totals[2, np.searchsorted(days, own_days)] += columns[2]
    return days, totals[0], totals[1], totals[2]


def _benchmark(session: Session, key: Key, days: Days) -> Series:
    if not len(days):
        return series_of(days, np.zeros(0))
    ordinals, closes = session.execute(
        select(
            gathered(ordinal(DailyClose.on_date), DailyClose.on_date),
            gathered(DailyClose.close_paise, DailyClose.on_date),
        ).where(
            DailyClose.exchange == key[0],
            DailyClose.tradingsymbol == key[1],
            DailyClose.on_date.between(to_date(days[0]) - BENCHMARK_BEFORE, to_date(days[-1])),
        )
    ).one()
    found = series_of_closes(from_ordinals(ordinals), np.array(closes or [], dtype=np.int64))
    # The day before the portfolio's first is where the benchmark starts from.
    begin = max(0, int(np.searchsorted(found.days, days[0])) - 1)
    return series_of(found.days[begin:], np.where(np.arange(len(found) - begin) == 0, 0.0, found.returns[begin:]))


def _shares(session: Session, portfolios: Sequence[Portfolio], last: date | None) -> list[ShareResult]:
    if last is None:
        return []
    held: dict[Key, list[int]] = {}
    for portfolio in portfolios:
        lots = _open_lots(session, portfolio)
        prices = prices_at(session, portfolio, set(lots), last)
        for key, (quantity, cost, charges) in lots.items():
            total = held.setdefault(key, [0, 0, 0, 0, 0])
            for place, amount in enumerate((quantity, cost, charges, quantity * prices[key])):
                total[place] += amount
            total[4] = prices[key]
    realised = _realised(session, [one.portfolio_id for one in portfolios])
    return [
        ShareResult(
            exchange=key[0],
            tradingsymbol=key[1],
            quantity=quantity,
            cost_paise=cost,
            open_charges_paise=charges,
            price_paise=price,
            value_paise=value,
            realised_paise=realised.get(key, (0, 0))[0],
            realised_charges_paise=realised.get(key, (0, 0))[1],
        )
        for key in sorted(held.keys() | realised.keys())
        for quantity, cost, charges, value, price in [held.get(key, [0, 0, 0, 0, 0])]
    ]


def _open_lots(session: Session, portfolio: Portfolio) -> dict[Key, tuple[int, int, int]]:
    signed = case((OpenLot.quantity > 0, OpenLot.cost_paise), else_=-OpenLot.cost_paise)
    rows = session.execute(
        select(
            OpenLot.exchange,
            OpenLot.tradingsymbol,
            func.sum(OpenLot.quantity),
            cast(func.sum(signed), BigInteger),
            cast(func.sum(OpenLot.charges_paise), BigInteger),
        )
        .where(OpenLot.portfolio_id == portfolio.portfolio_id)
        .group_by(OpenLot.exchange, OpenLot.tradingsymbol)
    )
    return {(exchange, symbol): (quantity, cost, charges) for exchange, symbol, quantity, cost, charges in rows}


def _realised(session: Session, portfolio_ids: Sequence[UUID]) -> Mapping[Key, tuple[int, int]]:
    rows = session.execute(
        select(
            LotDisposal.exchange,
            LotDisposal.tradingsymbol,
            cast(func.sum(LotDisposal.proceeds_paise - LotDisposal.cost_paise), BigInteger),
            cast(func.sum(LotDisposal.charges_paise), BigInteger),
        )
        .where(LotDisposal.portfolio_id.in_(portfolio_ids))
        .group_by(LotDisposal.exchange, LotDisposal.tradingsymbol)
    )
    return {(exchange, symbol): (gain, charges) for exchange, symbol, gain, charges in rows}


def _closed(session: Session, portfolio_ids: Sequence[UUID]) -> ClosedTrades:
    net = LotDisposal.proceeds_paise - LotDisposal.cost_paise - LotDisposal.charges_paise
    held = type_coerce(LotDisposal.disposed_on - LotDisposal.acquired_on, Integer) * LotDisposal.quantity
    orders = (
        select(
            LotDisposal.order_id,
            func.max(LotDisposal.disposed_on).label("closed_on"),
            cast(func.sum(net), BigInteger).label("net"),
            cast(func.sum(held) / cast(func.sum(LotDisposal.quantity), Double), Double).label("held"),
        )
        .where(LotDisposal.portfolio_id.in_(portfolio_ids))
        .group_by(LotDisposal.order_id)
        .subquery()
    )
    days, nets, ages = session.execute(
        select(
            gathered(ordinal(orders.c.closed_on), orders.c.closed_on),
            gathered(orders.c.net, orders.c.closed_on),
            gathered(orders.c.held, orders.c.closed_on),
        )
    ).one()
    return ClosedTrades(
        from_ordinals(days), np.array(nets or [], dtype=np.int64), np.array(ages or [], dtype=np.float64)
    )


def subject_portfolios(session: Session, user_id: UUID, portfolio_id: UUID | None) -> list[Portfolio] | None:
    """The portfolios a question is about: all of the platform, or the one named; None when there is none such."""
    if portfolio_id is None:
        return facts.portfolios_of(session, user_id)
    found = facts.portfolio_of(session, user_id, portfolio_id)
    return [found] if found is not None else None
