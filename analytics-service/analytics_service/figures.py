"""The numbers at the head of a page or report, in words for people. Pure."""

from analytics_service import returns, risk
from analytics_service.answers import View
from analytics_service.charts import as_text
from analytics_service.pages import Figure
from common.money import indian_rupees

LAKH_PAISE = 1_00_000_00
FOOTER = (
    "Returns are time-weighted unless they are called XIRR; flows count from the start of their day. Values are at the"
    " last closes known. Figures of the past say nothing sure about the future."
)


def about(view: View) -> str:
    """Which days a page is of."""
    if not len(view.series):
        return "Nothing has happened yet."
    first, last = (returns.to_date(day).strftime("%d %b %Y") for day in (view.series.days[0], view.series.days[-1]))
    return f"{first} to {last}, {len(view.series):,} days. Benchmark: {view.benchmark_name}."


def key_figures(view: View) -> list[Figure]:
    """Value, profit and the ratios that say most; the ratios are of the days asked for."""
    if not len(view.series):
        return []
    analysis, moves = view.analysis, view.series.returns
    profit = analysis.value_paise - analysis.put_in_paise
    total = returns.total_return(view.series)
    falls = risk.max_drawdown(view.series)
    value = risk.historical_var(moves)
    beside = risk.against(view.series, view.benchmark, view.risk_free)
    return [
        Figure("Value", rupees(analysis.value_paise)),
        Figure("Put in", rupees(analysis.put_in_paise)),
        Figure("Profit after charges", rupees(profit), tone(profit)),
        Figure("Return, time-weighted", as_text(total, "percent"), tone(total)),
        Figure("A year (CAGR)", as_text(returns.cagr_of(view.series), "percent")),
        Figure("Money-weighted (XIRR)", as_text(returns.xirr(analysis.cash_flows()), "percent")),
        Figure("Volatility a year", as_text(risk.volatility(moves), "percent")),
        Figure("Sharpe ratio", ratio(risk.sharpe(moves, view.risk_free))),
        Figure("Sortino ratio", ratio(risk.sortino(moves, view.risk_free))),
        Figure("Max drawdown", as_text(falls, "percent"), tone(falls or 0)),
        Figure("VaR 95 %, one day", as_text(value.var_95 if value else None, "percent")),
        Figure("Beta", ratio(beside.beta)),
    ]


def ratio(value: float | None) -> str:
    """A plain ratio with two decimals, a dash for none."""
    return "–" if value is None else f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def rupees(paise: int) -> str:
    """An amount: to the paisa while it is small, whole rupees from a lakh on."""
    return indian_rupees(paise) if abs(paise) < LAKH_PAISE else as_text(paise / 100, "rupees")


def tone(value: float) -> str:
    """How a number is coloured."""
    return "up" if value > 0 else "down" if value < 0 else ""
