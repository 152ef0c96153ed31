"""What a portfolio was worth at the end of every day: positions times closes, and cash from flows. Pure; paise.

Vectorised over days and shares. A day's close is the last one known up to it; a share that has none yet counts at the
price it was last traded at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from analytics_service.returns import Days, Paise

Key = tuple[str, str]
"""(exchange, tradingsymbol)"""


@dataclass(frozen=True)
class DayTrade:
    """A share's trades of one day: net units (sold is negative), what they cost net, all charges, the last unit price."""

    on: date
    key: Key
    quantity: int
    spent_paise: int
    charges_paise: int
    unit_paise: int
    fact_count: int = 1


@dataclass(frozen=True)
class DayFlow:
    """Money put in (taken out: negative) on one day."""

    on: date
    amount_paise: int
    fact_count: int = 1


@dataclass(frozen=True)
class Opening:
    """Where the first day starts: units and last price of every share held, cash, and how many facts made them."""

    units: Mapping[Key, int]
    prices: Mapping[Key, int]
    cash_paise: int = 0
    fact_count: int = 0


NOTHING = Opening({}, {})


@dataclass(frozen=True)
class Closes:
    """Closing prices of one share."""

    days: Days
    paise: Paise


@dataclass(frozen=True)
class DailyValues:
    """The end of every day: shares, cash, what was put in that day, and facts booked up to it."""

    days: Days
    shares: Paise
    cash: Paise
    flows: Paise
    fact_counts: NDArray[np.int64]


def days_of(calendar: Days, traded: Days, fact_days: Days) -> Days:
    """The days to value: trading days, days of trades, and the last day of any fact when none of those follows it."""
    days = np.unique(np.concatenate((calendar, traded)))
    late = fact_days[fact_days > days[-1]] if len(days) else fact_days
    return np.append(days, late.max()) if len(late) else days


def value_days(
    days: Days,
    trades: Sequence[DayTrade],
    flows: Sequence[DayFlow],
    closes: Mapping[Key, Closes],
    opening: Opening = NOTHING,
    *,
    self_funded: bool = False,
) -> DailyValues:
    """The values of `days` (see days_of). Flows between two days count on the later one.

    `self_funded` portfolios have no cash: what purchases cost is put in the same day, what sales brought is taken out.
    """
    keys = sorted({trade.key for trade in trades} | {key for key, units in opening.units.items() if units})
    column = {key: number for number, key in enumerate(keys)}
    units = np.zeros((len(days), len(keys)), dtype=np.int64)
    prices = np.zeros_like(units)
    at = np.searchsorted(days, _days([trade.on for trade in trades]))
    col = np.array([column[trade.key] for trade in trades], dtype=np.int64)
    np.add.at(units, (at, col), np.array([trade.quantity for trade in trades], dtype=np.int64))
    prices[at, col] = [trade.unit_paise for trade in trades]
    for key, number in column.items():
        known = closes.get(key)
        if known is not None:
            _, mine, theirs = np.intersect1d(days, known.days, assume_unique=True, return_indices=True)
            prices[mine, number] = known.paise[theirs]
    if len(days):
        for key, number in column.items():
            units[0, number] += opening.units.get(key, 0)
            prices[0, number] = prices[0, number] or opening.prices.get(key, 0)
    shares = (np.cumsum(units, axis=0) * _carried(prices)).sum(axis=1)

    spent = np.zeros(len(days), dtype=np.int64)
    np.add.at(spent, at, np.array([trade.spent_paise + trade.charges_paise for trade in trades], dtype=np.int64))
    counts = np.zeros(len(days), dtype=np.int64)
    np.add.at(counts, at, np.array([trade.fact_count for trade in trades], dtype=np.int64))
    moved = np.zeros(len(days), dtype=np.int64)
    on = np.searchsorted(days, _days([flow.on for flow in flows]))
    np.add.at(moved, on, np.array([flow.amount_paise for flow in flows], dtype=np.int64))
    np.add.at(counts, on, np.array([flow.fact_count for flow in flows], dtype=np.int64))
    if self_funded:
        moved += spent
    cash = opening.cash_paise + np.cumsum(moved - spent)
    return DailyValues(days, shares, cash, moved, opening.fact_count + np.cumsum(counts))


def _carried(prices: Paise) -> Paise:
    """Every 0 replaced by the last price above it."""
    rows = np.where(prices != 0, np.arange(len(prices))[:, None], 0)
    carried: Paise = np.take_along_axis(prices, np.maximum.accumulate(rows, axis=0), axis=0)
    return carried


def _days(days: Sequence[date]) -> Days:
    return np.array(days, dtype="datetime64[D]")
