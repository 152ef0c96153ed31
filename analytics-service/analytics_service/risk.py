"""How rough the way was: volatility, ratios, drawdowns, beta, value at risk, diversification. Pure.

Daily simple returns in, 252 trading days a year. A figure that the days do not suffice for is None. Where
empyrical-reloaded has the same definition it computes; the formulas here are those it has otherwise or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import empyrical
import numpy as np

from analytics_service.returns import TRADING_DAYS_A_YEAR, Days, Floats, Series, cagr_of, to_date

DRAWDOWNS_TOP = 5
Z_95, DENSITY_95 = 1.644854, 0.103136
"""Normal quantile and density at 5 %; the figures of 99 % stand beside them."""
Z_99, DENSITY_99 = 2.326348, 0.026652
_ROOT_YEAR = float(np.sqrt(TRADING_DAYS_A_YEAR))


@dataclass(frozen=True)
class Drawdown:
    """A fall from a peak: `depth` is negative; `recovered` is None while the peak has not been reached again."""

    depth: float
    peak: date
    trough: date
    recovered: date | None


@dataclass(frozen=True)
class ValueAtRisk:
    """One day's loss, as a positive number, that is exceeded on 5 % (or 1 %) of days; and the mean loss beyond it."""

    var_95: float
    cvar_95: float
    var_99: float
    cvar_99: float


@dataclass(frozen=True)
class Against:
    """A series beside a benchmark, on the days that both have."""

    days: int
    beta: float | None
    alpha: float | None
    tracking_error: float | None
    information_ratio: float | None
    correlation: float | None


def daily_rate(yearly: float) -> float:
    """The daily rate that makes a yearly one: (1 + r)^(1/252) - 1."""
    return float((1 + yearly) ** (1 / TRADING_DAYS_A_YEAR) - 1)


def volatility(returns: Floats) -> float | None:
    """Sample standard deviation of daily returns, times sqrt(252)."""
    return _number(empyrical.annual_volatility(returns))


def sharpe(returns: Floats, risk_free: float) -> float | None:
    """(mean r - rf) / sd(r - rf) * sqrt(252); `risk_free` is a yearly rate."""
    return _number(empyrical.sharpe_ratio(returns, risk_free=daily_rate(risk_free)))


def sortino(returns: Floats, risk_free: float) -> float | None:
    """(mean r - rf) / sqrt(mean(min(r - rf, 0)^2)) * sqrt(252), the mean over all days."""
    return _number(empyrical.sortino_ratio(returns, required_return=daily_rate(risk_free)))


def drawdown_curve(series: Series) -> Floats:
    """How far below its highest point so far the index is, every day: 0 or negative."""
    peaks = np.maximum.accumulate(np.concatenate(([1.0], series.index)))[1:]
    curve: Floats = series.index / peaks - 1
    return curve


def max_drawdown(series: Series) -> float | None:
    """The deepest fall: min of V_t / max V_s - 1 over s <= t."""
    return _number(empyrical.max_drawdown(series.returns)) if len(series) else None


def drawdowns(series: Series, top: int = DRAWDOWNS_TOP) -> list[Drawdown]:
    """The `top` deepest falls from one peak to its recovery, deepest first."""
    curve = drawdown_curve(series)
    below = curve < 0
    edges = np.diff(np.concatenate(([0], below.astype(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    found = []
    for start, end in zip(starts, ends, strict=True):
        trough = start + int(np.argmin(curve[start:end]))
        found.append(
            Drawdown(
                depth=float(curve[trough]),
                # The day of the peak is the one before the first below it; a fall on the first day has none before.
                peak=to_date(series.days[start - 1 if start else 0]),
                trough=to_date(series.days[trough]),
                recovered=to_date(series.days[end]) if end < len(series) else None,
            )
        )
    return sorted(found, key=lambda fall: fall.depth)[:top]


def calmar(series: Series) -> float | None:
    """CAGR / abs(max drawdown); None under a year or without a fall."""
    growth, fall = cagr_of(series), max_drawdown(series)
    return growth / abs(fall) if growth is not None and fall else None


def against(series: Series, benchmark: Series, risk_free: float) -> Against:
    """Beta, alpha a year, tracking error, information ratio and correlation on common days."""
    own, other = paired(series, benchmark)
    if len(own) < 2:
        return Against(len(own), None, None, None, None, None)
    rate = daily_rate(risk_free)
    beta = _number(empyrical.beta(own, other))
    alpha = None
    if beta is not None:
        alpha = float(((own.mean() - rate) - beta * (other.mean() - rate)) * TRADING_DAYS_A_YEAR)
    active = own - other
    error = float(active.std(ddof=1) * _ROOT_YEAR)
    ratio = float(active.mean() * TRADING_DAYS_A_YEAR / error) if error else None
    moves = own.std() and other.std()
    correlation = float(np.corrcoef(own, other)[0, 1]) if moves else None
    return Against(len(own), beta, alpha, error, ratio, correlation)


def paired(series: Series, benchmark: Series) -> tuple[Floats, Floats]:
    """The returns of both from each common day to the next; a day that one of them lacks joins its neighbour."""
    _, mine, theirs = np.intersect1d(series.days, benchmark.days, assume_unique=True, return_indices=True)
    own, other = series.index[mine], benchmark.index[theirs]
    return own[1:] / own[:-1] - 1, other[1:] / other[:-1] - 1


def historical_var(returns: Floats) -> ValueAtRisk | None:
    """From the days as they were: the 5 % and 1 % quantiles (linear interpolation), and the means at or below them."""
    if len(returns) < 2:
        return None
    figures = [
        -float(measure(returns, cutoff=cutoff))
        for cutoff in (0.05, 0.01)
        for measure in (empyrical.value_at_risk, empyrical.conditional_value_at_risk)
    ]
    return ValueAtRisk(*figures)


def normal_var(returns: Floats) -> ValueAtRisk | None:
    """As if returns were normal: -(mean - z * sd) and -(mean - sd * density / share)."""
    if len(returns) < 2:
        return None
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    return ValueAtRisk(
        var_95=-(mean - Z_95 * deviation),
        cvar_95=-(mean - deviation * DENSITY_95 / 0.05),
        var_99=-(mean - Z_99 * deviation),
        cvar_99=-(mean - deviation * DENSITY_99 / 0.01),
    )


def rolling_volatility(series: Series, window: int) -> tuple[Days, Floats]:
    """Volatility a year of every `window` trading days in a row, dated by the last."""
    if len(series) < window:
        return series.days[:0], np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(series.returns, window)
    return series.days[window - 1 :], windows.std(axis=1, ddof=1) * _ROOT_YEAR


def diversification(values: Sequence[int]) -> tuple[float, float] | None:
    """(1 - sum of squared weights, effective number of shares) of values that are positive; None without any."""
    held = np.array([value for value in values if value > 0], dtype=float)
    if not len(held):
        return None
    concentration = float(((held / held.sum()) ** 2).sum())
    return 1 - concentration, 1 / concentration


def correlations(closes: Floats) -> Floats | None:
    """Correlation of the daily returns of shares (columns of closes over days); None with fewer than 3 days."""
    if closes.shape[0] < 3 or closes.shape[1] < 2:
        return None
    moves = closes[1:] / closes[:-1] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(moves, rowvar=False))


def _number(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return number if np.isfinite(number) else None
