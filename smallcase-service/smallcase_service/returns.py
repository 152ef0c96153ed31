"""Returns and risk of a series of index values. Pure; returns are fractions (0.1 is 10 %), annual unless named otherwise.

Periods below one year are absolute, one year and longer as CAGR, (V1 / V0)^(365 / days) - 1
(smallcase.com/meta/return-calculation). Volatility, Sharpe, alpha and beta are those of the usual textbooks with 252 trading
days a year and the sample standard deviation.
"""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

import numpy as np

from smallcase_service.index_value import Values

YEAR_DAYS = 365
TRADING_DAYS = 252
RETURNS_MIN = 20
"""Below so many daily returns no risk figure is given."""
MONTHS = {"1m": 1, "3m": 3, "6m": 6, "1y": 12, "3y": 36, "5y": 60}
PERIODS = ("1d", "1w", *MONTHS)
STALE_DAYS = 10
"""A period's first value may be so many days older than the period: the exchange was closed."""


@dataclass(frozen=True)
class PeriodReturn:
    """The return from one day to another; `is_annual` tells a CAGR."""

    first: date
    last: date
    value: float
    is_annual: bool


@dataclass(frozen=True)
class Drawdown:
    """The deepest fall from a peak: a fraction, zero or negative."""

    value: float
    peak: date
    trough: date


@dataclass(frozen=True)
class Risk:
    """Risk of a series; alpha and beta only beside a benchmark."""

    volatility: float
    sharpe: float | None
    max_drawdown: Drawdown
    beta: float | None
    alpha: float | None
    values: int


def cagr(first: float, last: float, days: int) -> float:
    """Yearly growth that leads from one value to the other in `days` days; raises ValueError for nonsense."""
    if first <= 0 or last < 0 or days <= 0:
        raise ValueError("a growth rate needs positive values and a span of days")
    return float((last / first) ** (YEAR_DAYS / days) - 1)


def between(days: Sequence[date], values: Values, first: int, last: int) -> PeriodReturn:
    """The return between two places of the series: absolute below one year, otherwise as CAGR."""
    span = (days[last] - days[first]).days
    is_annual = span >= YEAR_DAYS
    value = cagr(values[first], values[last], span) if is_annual else float(values[last] / values[first] - 1)
    return PeriodReturn(days[first], days[last], value, is_annual)


def period_returns(days: Sequence[date], values: Values) -> dict[str, PeriodReturn | None]:
    """Returns of all periods up to the last day; None where the series is too short."""
    found: dict[str, PeriodReturn | None] = dict.fromkeys(PERIODS)
    if len(days) < 2:
        return found
    end = len(days) - 1
    found["1d"] = between(days, values, end - 1, end)
    wanted = {"1w": days[end] - timedelta(days=7), **{name: months_before(days[end], n) for name, n in MONTHS.items()}}
    for name, start in wanted.items():
        place = int(np.searchsorted(np.array([day.toordinal() for day in days]), start.toordinal(), side="right")) - 1
        if place >= 0 and (start - days[place]).days <= STALE_DAYS:
            period = between(days, values, place, end)
            # "1y" is annual also when the exchange was closed on the day itself.
            is_long = MONTHS.get(name, 0) >= MONTHS["1y"]
            if is_long and not period.is_annual:
                span = (period.last - period.first).days
                period = PeriodReturn(period.first, period.last, cagr(values[place], values[end], span), True)
            found[name] = period
    return found


def months_before(on: date, months: int) -> date:
    """The same day of an earlier month, or its last day."""
    index = on.year * 12 + on.month - 1 - months
    year, month = index // 12, index % 12 + 1
    return date(year, month, min(on.day, calendar.monthrange(year, month)[1]))


def daily_returns(values: Values) -> Values:
    """Simple returns from each value to the next."""
    return values[1:] / values[:-1] - 1


def max_drawdown(days: Sequence[date], values: Values) -> Drawdown:
    """The deepest fall from a peak, with its days; raises ValueError for an empty series."""
    peaks = np.maximum.accumulate(values)
    falls = values / peaks - 1
    trough = int(np.argmin(falls))
    peak = int(np.argmax(values[: trough + 1]))
    return Drawdown(float(falls[trough]), days[peak], days[trough])


def risk(days: Sequence[date], values: Values, risk_free: float, benchmark: Values | None = None) -> Risk | None:
    """Risk figures, or None with too few values. `risk_free` is a yearly rate, `benchmark` has values on the same days."""
    returns = daily_returns(values)
    if len(returns) < RETURNS_MIN:
        return None
    daily_free = (1 + risk_free) ** (1 / TRADING_DAYS) - 1
    deviation = float(np.std(returns, ddof=1))
    beta = alpha = None
    if benchmark is not None:
        market = daily_returns(benchmark)
        paired = np.isfinite(market)
        if paired.sum() >= RETURNS_MIN and (variance := float(np.var(market[paired], ddof=1))) > 0:
            mine = returns[paired]
            beta = float(np.cov(mine, market[paired], ddof=1)[0, 1]) / variance
            excess = float(np.mean(mine)) - daily_free - beta * (float(np.mean(market[paired])) - daily_free)
            alpha = excess * TRADING_DAYS
    return Risk(
        volatility=deviation * sqrt(TRADING_DAYS),
        sharpe=(float(np.mean(returns)) - daily_free) / deviation * sqrt(TRADING_DAYS) if deviation > 0 else None,
        max_drawdown=max_drawdown(days, values),
        beta=beta,
        alpha=alpha,
        values=len(returns),
    )
