"""Which charts show an analysis. Pure."""

import numpy as np

from analytics_service import returns, risk
from analytics_service.answers import View, mean_capital
from analytics_service.charts import BarChart, Bars, Chart, HeatChart, Line, TimeChart
from analytics_service.schemas_performance import share_name

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SHARES_MAX = 15
"""Bars of one chart; what is smaller is summed as `others`."""
ROLLING_DAYS = 63
"""A quarter of trading days."""
PARTS = ("performance", "value", "drawdown", "rolling", "months", "sectors", "shares", "pnl", "contribution")


def charts_of(view: View) -> dict[str, Chart]:
    """All charts of a view, by key, in the order of PARTS."""
    made = (
        performance(view), value(view), drawdown(view), rolling(view), months(view), sectors(view), shares(view),
        pnl(view), contribution(view),
    )  # fmt: skip
    return {chart.key: chart for chart in made}


def performance(view: View) -> TimeChart:
    """100 at the start, and the benchmark beside it."""
    lines = [Line("Portfolio", view.series.days, view.series.index * 100)]
    if len(view.benchmark):
        lines.append(Line(view.benchmark_name, view.benchmark.days, view.benchmark.index * 100, is_reference=True))
    return TimeChart("performance", "Growth of 100, time-weighted", "index", tuple(lines))


def value(view: View) -> TimeChart:
    """What the portfolio is worth, and what was put in."""
    analysis = view.analysis
    keep = np.isin(analysis.days, view.series.days)
    days = analysis.days[keep]
    worth, put_in = analysis.values[keep] / 100, np.cumsum(analysis.flows)[keep] / 100
    return TimeChart(
        "value",
        "Value and money put in",
        "rupees",
        (Line("Value", days, worth), Line("Put in", days, put_in, is_reference=True)),
    )


def drawdown(view: View) -> TimeChart:
    """How far below its peak."""
    line = Line("Below the peak", view.series.days, risk.drawdown_curve(view.series))
    return TimeChart("drawdown", "Drawdown", "percent", (line,), filled=True)


def months(view: View) -> HeatChart:
    """Returns of calendar months, years from new to old."""
    found = {(month.year, month.month): month.total for month in returns.months(view.series)}
    years = sorted({year for year, _ in found}, reverse=True)
    cells = tuple(tuple(found.get((year, month)) for month in range(1, 13)) for year in years)
    return HeatChart("months", "Returns by month, %", "percent", tuple(str(year) for year in years), MONTHS, cells)


def rolling(view: View) -> TimeChart:
    """Volatility of the quarter before each day."""
    lines = [Line("Portfolio", *risk.rolling_volatility(view.series, ROLLING_DAYS))]
    if len(view.benchmark) > ROLLING_DAYS:
        days, values = risk.rolling_volatility(view.benchmark, ROLLING_DAYS)
        lines.append(Line(view.benchmark_name, days, values, is_reference=True))
    return TimeChart("rolling", f"Volatility a year, over {ROLLING_DAYS} days", "percent", tuple(lines))


def shares(view: View) -> BarChart:
    """Weights of the shares held, and of cash."""
    held = [(share_name(share), share.value_paise) for share in view.analysis.shares if share.quantity]
    return _weights(view, "shares", "Weights by share", held)


def sectors(view: View) -> BarChart:
    """Weights of the sectors held, and of cash."""
    sums: dict[str, int] = {}
    for share in view.analysis.shares:
        if share.quantity:
            sums[share.sector] = sums.get(share.sector, 0) + share.value_paise
    return _weights(view, "sectors", "Weights by sector", list(sums.items()))


def pnl(view: View) -> BarChart:
    """Realised and unrealised gain by share, before charges; the largest in either direction."""
    found = sorted(view.analysis.shares, key=lambda share: -abs(share.realised_paise + share.unrealised_paise))
    chosen = sorted(found[:SHARES_MAX], key=lambda share: -(share.realised_paise + share.unrealised_paise))
    return BarChart(
        "pnl",
        "Gain by share, before charges",
        "rupees",
        tuple(share_name(share) for share in chosen),
        (
            Bars("Realised", tuple(share.realised_paise / 100 for share in chosen)),
            Bars("Unrealised", tuple(share.unrealised_paise / 100 for share in chosen)),
        ),
    )


def contribution(view: View) -> BarChart:
    """What each share added to the return; the largest in either direction."""
    capital = mean_capital(view.analysis)
    found = sorted(view.analysis.shares, key=lambda share: -abs(share.net_paise))[:SHARES_MAX] if capital else []
    chosen = sorted(found, key=lambda share: -share.net_paise)
    parts = tuple(share.net_paise / capital for share in chosen) if capital else ()
    names = tuple(share_name(share) for share in chosen)
    return BarChart(
        "contribution", "Contribution to return, after charges", "percent", names, (Bars("Contribution", parts),)
    )


def _weights(view: View, key: str, title: str, parts: list[tuple[str, int]]) -> BarChart:
    total = view.analysis.value_paise
    parts = sorted([*parts, ("Cash", view.analysis.cash_paise)], key=lambda part: -part[1])
    if len(parts) > SHARES_MAX:
        rest = sum(paise for _, paise in parts[SHARES_MAX - 1 :])
        parts = [*parts[: SHARES_MAX - 1], ("Others", rest)]
    parts = [part for part in parts if part[1]] if total > 0 else []
    weights = tuple(paise / total for _, paise in parts)
    return BarChart(key, title, "percent", tuple(name for name, _ in parts), (Bars("Weight", weights),))
