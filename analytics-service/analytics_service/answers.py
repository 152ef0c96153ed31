"""From an analysis to an answer: the figures of the days asked for."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from analytics_service import returns, risk
from analytics_service.analysis import Analysis
from analytics_service.returns import Series, to_date
from analytics_service.schemas_performance import (
    AgainstView,
    Asked,
    BenchmarkAnswer,
    ContributionAnswer,
    DrawdownView,
    MonthView,
    PeriodView,
    PnlAnswer,
    ReturnsAnswer,
    RiskAnswer,
    SharePnl,
    ValueAtRiskView,
)


@dataclass(frozen=True)
class View:
    """An analysis seen over the days asked for, beside a benchmark; `risk_free` is a yearly rate."""

    asked: Asked
    analysis: Analysis
    series: Series
    benchmark: Series
    benchmark_name: str
    risk_free: float


def view_of(asked: Asked, analysis: Analysis, benchmark_name: str, risk_free: float) -> View:
    """Cut an analysis to the days asked for; without any it is seen whole."""
    if asked.first is None and asked.last is None:
        first = to_date(analysis.days[0]) if len(analysis.days) else None
        whole = asked.model_copy(update={"first": first, "last": analysis.last_day})
        return View(whole, analysis, analysis.series, analysis.benchmark, benchmark_name, risk_free)
    series = returns.since(analysis.series, asked.first, asked.last)
    benchmark = returns.since(analysis.benchmark, asked.first, asked.last)
    return View(asked, analysis, series, benchmark, benchmark_name, risk_free)


def returns_answer(view: View) -> ReturnsAnswer:
    """Returns by all methods."""
    return ReturnsAnswer(
        **view.asked.model_dump(),
        total_return=returns.total_return(view.series),
        cagr=returns.cagr_of(view.series),
        xirr=returns.xirr(_flows(view)),
        modified_dietz=_dietz(view),
        periods=[PeriodView.of(period, view.benchmark) for period in returns.period_table(view.series)],
        months=[MonthView.of(month) for month in returns.months(view.series)],
    )


def risk_answer(view: View) -> RiskAnswer:
    """Risk figures."""
    moves = view.series.returns
    spread = risk.diversification([share.value_paise for share in view.analysis.shares])
    return RiskAnswer(
        **view.asked.model_dump(),
        risk_free=view.risk_free,
        volatility=risk.volatility(moves),
        sharpe=risk.sharpe(moves, view.risk_free),
        sortino=risk.sortino(moves, view.risk_free),
        calmar=risk.calmar(view.series),
        max_drawdown=risk.max_drawdown(view.series),
        drawdowns=[DrawdownView.of(fall) for fall in risk.drawdowns(view.series)],
        benchmark=view.benchmark_name,
        against_benchmark=AgainstView.of(risk.against(view.series, view.benchmark, view.risk_free)),
        var_historical=ValueAtRiskView.of(risk.historical_var(moves)),
        var_normal=ValueAtRiskView.of(risk.normal_var(moves)),
        diversification=spread[0] if spread else None,
        effective_shares=spread[1] if spread else None,
    )


def benchmark_answer(view: View) -> BenchmarkAnswer:
    """The portfolio and its benchmark side by side."""
    own = returns.total_return(view.series)
    other = returns.total_return(view.benchmark) if len(view.benchmark) > 1 else None
    known = view.benchmark if other is not None else None
    return BenchmarkAnswer(
        **view.asked.model_dump(),
        benchmark=view.benchmark_name,
        total_return=own,
        benchmark_total_return=other,
        excess_return=own - other if other is not None else None,
        volatility=risk.volatility(view.series.returns),
        benchmark_volatility=risk.volatility(known.returns[1:]) if known else None,
        max_drawdown=risk.max_drawdown(view.series),
        benchmark_max_drawdown=risk.max_drawdown(known) if known else None,
        against=AgainstView.of(risk.against(view.series, view.benchmark, view.risk_free)),
    )


def pnl_answer(view: View) -> PnlAnswer:
    """Profit and loss by share, since the beginning."""
    capital = mean_capital(view.analysis)
    shares = view.analysis.shares
    realised = sum(share.realised_paise for share in shares)
    unrealised = sum(share.unrealised_paise for share in shares)
    charges = sum(share.realised_charges_paise + share.open_charges_paise for share in shares)
    return PnlAnswer(
        **view.asked.model_dump(),
        realised=realised,
        unrealised=unrealised,
        charges=charges,
        net=realised + unrealised - charges,
        shares=[SharePnl.of(share, capital) for share in shares],
    )


def contribution_answer(view: View) -> ContributionAnswer:
    """What every share added to the return, since the beginning."""
    capital = mean_capital(view.analysis)
    shares = sorted(view.analysis.shares, key=lambda share: (-share.net_paise, share.tradingsymbol))
    profit = view.analysis.value_paise - view.analysis.put_in_paise
    return ContributionAnswer(
        **view.asked.model_dump(),
        modified_dietz=profit / capital if capital else None,
        mean_capital=round(capital) if capital else None,
        shares=[SharePnl.of(share, capital) for share in shares],
    )


def mean_capital(analysis: Analysis) -> float | None:
    """Money put in, each rupee weighted by the share of the time it was there, in paise; None when never above 0."""
    if analysis.is_empty:
        return None
    ages = (analysis.days[-1] - analysis.days).astype(np.int64)
    length = int(ages[0])
    weights = ages / length if length else np.ones(len(ages))
    capital = float((analysis.flows * weights).sum())
    return capital if capital > 0 else None


def _dietz(view: View) -> float | None:
    """Modified Dietz of the days asked for, from the value before the first of them."""
    days = view.series.days
    if not len(days):
        return None
    analysis = view.analysis
    begin, end = int(np.searchsorted(analysis.days, days[0])), int(np.searchsorted(analysis.days, days[-1]))
    before = int(analysis.values[begin - 1]) if begin else 0
    span = (to_date(analysis.days[begin]), to_date(analysis.days[end]))
    flows = [(to_date(analysis.days[at]), int(analysis.flows[at])) for at in range(begin, end + 1)]
    try:
        return returns.modified_dietz(before, int(analysis.values[end]), flows, span)
    except ZeroDivisionError:
        return None


def _flows(view: View) -> list[tuple[date, int]]:
    """Flows of the days asked for: the value before them put in on the first, the last value taken out."""
    days = view.series.days
    if not len(days) or len(days) == len(view.analysis.days):
        return view.analysis.cash_flows()
    analysis = view.analysis
    begin, end = int(np.searchsorted(analysis.days, days[0])), int(np.searchsorted(analysis.days, days[-1]))
    moved = analysis.flows[begin : end + 1].copy()
    moved[0] += analysis.values[begin - 1] if begin else 0
    flows = [(to_date(days[at]), -int(moved[at])) for at in np.flatnonzero(moved)]
    return [*flows, (to_date(days[-1]), int(analysis.values[end]))]
