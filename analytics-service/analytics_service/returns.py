"""How a portfolio's value became a return: daily returns, TWR, Modified Dietz, XIRR, CAGR, periods, months. Pure.

A flow counts at the start of its day: r_t = V_t / (V_{t-1} + F_t) - 1, money in positive. That is fixed once for the
whole room. Ratios are floats, amounts integer paise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyxirr
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]
Paise = NDArray[np.int64]
Days = NDArray[np.datetime64]

DAYS_A_YEAR = 365
TRADING_DAYS_A_YEAR = 252
BRACKETS = (-0.999, -0.99, -0.9, -0.5, -0.2, 0.0, 0.2, 1.0, 5.0, 50.0, 1_000.0, 100_000.0)
"""Rates between which a solution is looked for."""
PERIODS = ("1d", "1w", "1m", "3m", "6m", "ytd", "1y", "3y", "5y", "all")


@dataclass(frozen=True)
class Series:
    """A return index over trading days: `index[i]` is the worth at the end of `days[i]` of 1 put in before the first.

    `returns[i]` is the return of `days[i]`; the first one starts from what was put in that day.
    """

    days: Days
    returns: Floats
    index: Floats

    def __len__(self) -> int:
        return len(self.days)


@dataclass(frozen=True)
class PeriodReturn:
    """The return of one period: since the end of `since`, and a year's worth of it where it is a year or longer."""

    name: str
    since: date
    total: float
    annual: float | None


@dataclass(frozen=True)
class MonthReturn:
    """The return of a calendar month, or of the part of it that there is."""

    year: int
    month: int
    total: float


def daily_returns(values: Paise, flows: Paise) -> Floats:
    """r_t of every day; a day that starts with nothing invested has no return and counts as 0."""
    before = np.concatenate(([0], values[:-1])) + flows
    returns = np.zeros(len(values))
    invested = before > 0
    returns[invested] = values[invested] / before[invested] - 1
    return returns


def series_of(days: Days, returns: Floats) -> Series:
    """Daily returns as an index that starts from 1."""
    index: Floats = np.cumprod(1 + returns, dtype=np.float64)
    return Series(days, returns, index)


def series_of_closes(days: Days, closes: Paise) -> Series:
    """The index of a share or benchmark from its closes; the first day has no return."""
    returns = np.zeros(len(closes))
    returns[1:] = closes[1:] / closes[:-1] - 1
    return series_of(days, returns)


def total_return(series: Series) -> float:
    """Time-weighted return over all days: what 1 rupee became, whenever other money came or went."""
    return float(series.index[-1] - 1) if len(series) else 0.0


def modified_dietz(
    first_value: int, last_value: int, flows: Sequence[tuple[date, int]], span: tuple[date, date]
) -> float:
    """(V1 - V0 - sum F) / (V0 + sum w F), w the share of the span a flow was present; for spans without daily values.

    Flows count from the start of their day. Raises ZeroDivisionError when nothing was invested on average.
    """
    first, last = span
    length = (last - first).days
    weighted = sum(amount * (last - on).days / length for on, amount in flows)
    return (last_value - first_value - sum(amount for _, amount in flows)) / (first_value + weighted)


def xirr(flows: Sequence[tuple[date, int]]) -> float | None:
    """The yearly rate at which all flows are worth nothing today: sum CF / (1 + r)^(days / 365) = 0.

    Money put in is negative, money taken out and the final value positive. None without a solution: no change of sign,
    or all on one day.
    """
    days = [on for on, _ in flows]
    amounts = [amount for _, amount in flows]
    if not flows or min(amounts) >= 0 or max(amounts) <= 0 or min(days) == max(days):
        return None
    rate = pyxirr.xirr(days, [float(amount) for amount in amounts])
    return float(rate) if rate is not None and np.isfinite(rate) else _bisected(days, amounts)


def _bisected(days: Sequence[date], amounts: Sequence[int]) -> float | None:
    """Between two rates at which the flows are worth more and less than nothing; pyxirr gives up on steep ones."""
    years = np.array([(on - min(days)).days / DAYS_A_YEAR for on in days])
    flows = np.array(amounts, dtype=np.float64)

    def worth(rate: float) -> float:
        return float((flows / (1 + rate) ** years).sum())

    signs = [np.sign(worth(rate)) for rate in BRACKETS]
    for at in range(len(BRACKETS) - 1):
        if signs[at] * signs[at + 1] <= 0:
            return float(brentq(worth, BRACKETS[at], BRACKETS[at + 1], xtol=1e-12))
    return None


def cagr(ratio: float, days: int) -> float | None:
    """(V1 / V0)^(365 / days) - 1; None under a year, which is not annualised, and for a total loss beyond everything."""
    if days < DAYS_A_YEAR or ratio < 0:
        return None
    return float(ratio ** (DAYS_A_YEAR / days) - 1)


def cagr_of(series: Series) -> float | None:
    """CAGR of an index over the calendar days from its first to its last."""
    if len(series) < 2:
        return None
    return cagr(float(series.index[-1]), _calendar_days(series.days[0], series.days[-1]))


def period_table(series: Series) -> list[PeriodReturn]:
    """Returns of PERIODS up to the last day; periods that begin before the first day are left out.

    A period starts with the last trading day on or before the same date 1 week, 1 month, ... earlier (a day that does
    not exist becomes the month's last); `ytd` with the last one of the year before; `all` before the first day.
    """
    if not len(series):
        return []
    last = to_date(series.days[-1])
    rows = []
    for name in PERIODS:
        if name == "all":
            rows.append(_period(series, name, -1))
            continue
        start = len(series) - 2 if name == "1d" else _position(series.days, _start_of(name, last))
        if start >= 0:
            rows.append(_period(series, name, start))
    return rows


def months(series: Series) -> list[MonthReturn]:
    """Returns of the calendar months, oldest first."""
    if not len(series):
        return []
    month_of = series.days.astype("datetime64[M]")
    ends = np.flatnonzero(np.append(month_of[1:] != month_of[:-1], True))
    at_end = series.index[ends]
    before = np.concatenate(([1.0], at_end[:-1]))
    return [
        MonthReturn(int(number) // 12 + 1970, int(number) % 12 + 1, float(total))
        for number, total in zip(month_of[ends].astype(int), at_end / before - 1, strict=True)
    ]


def rolling_return(series: Series, window: int) -> tuple[Days, Floats]:
    """The return of every `window` trading days in a row, dated by its last day."""
    if len(series) < window:
        return series.days[:0], np.empty(0)
    before = np.concatenate(([1.0], series.index))[: len(series) - window + 1]
    return series.days[window - 1 :], series.index[window - 1 :] / before - 1


def since(series: Series, first: date | None, last: date | None = None) -> Series:
    """The part of a series from `first` to `last`, both included, as an index of its own."""
    keep = np.ones(len(series), dtype=bool)
    if first is not None:
        keep &= series.days >= np.datetime64(first)
    if last is not None:
        keep &= series.days <= np.datetime64(last)
    return series_of(series.days[keep], series.returns[keep])


def to_date(day: Any) -> date:
    """A numpy day as a date."""
    on: date = np.datetime64(day, "D").item()
    return on


def _period(series: Series, name: str, start: int) -> PeriodReturn:
    base = series.index[start] if start >= 0 else 1.0
    ratio = float(series.index[-1] / base)
    begin = series.days[start] if start >= 0 else series.days[0]
    return PeriodReturn(name, to_date(begin), ratio - 1, cagr(ratio, _calendar_days(begin, series.days[-1])))


def _position(days: Days, on: date) -> int:
    """The last trading day on or before a date; -1 when all are later."""
    return int(np.searchsorted(days, np.datetime64(on), side="right")) - 1


def _start_of(name: str, last: date) -> date:
    if name == "1w":
        return last - timedelta(days=7)
    if name == "ytd":
        return date(last.year - 1, 12, 31)
    count = int(name[:-1]) * (12 if name.endswith("y") else 1)
    return months_before(last, count)


def months_before(on: date, count: int) -> date:
    """The same day `count` months earlier, or that month's last day."""
    number = on.year * 12 + on.month - 1 - count
    year, month = divmod(number, 12)
    month += 1
    following = date(year + month // 12, month % 12 + 1, 1)
    return date(year, month, min(on.day, (following - timedelta(days=1)).day))


def _calendar_days(first: Any, last: Any) -> int:
    return int((last - first) / np.timedelta64(1, "D"))
