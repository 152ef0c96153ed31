"""What stands in a report: HTML of a portfolio or of a tax year, and the tables that go into spreadsheets. Pure."""

from datetime import date

from analytics_service import returns, risk
from analytics_service.answers import View, benchmark_answer
from analytics_service.capital_gains import NOTIONAL, CapitalGains
from analytics_service.charts import as_text
from analytics_service.figures import FOOTER, about, key_figures, ratio, rupees, tone
from analytics_service.pages import Figure, Table, report
from analytics_service.pictures import charts_of
from analytics_service.schemas_performance import share_name
from analytics_service.sheets import Cell, Sheet
from analytics_service.trade_statistics import statistics
from common.money import indian_rupees, rupees_decimal

DAY = "%d %b %Y"
LOTS_SHOWN_MAX, LOTS_PRINTED_MAX = 500, 250
"""Lots in an HTML report and in a PDF (laying out long tables is slow); the spreadsheets hold all."""
TERMS = {"SHORT": "Short term", "LONG": "Long term", "INTRADAY": "Intraday"}
BASIS = (
    "FIFO by share within your portfolios. Gains are before charges: the charges on record are one sum, in which STT, the"
    " larger part, is not deductible. Rates by the day of the sale; surcharge is not included."
)


def portfolio(view: View, title: str, *, made_on: date, on_paper: bool) -> str:
    """The portfolio report."""
    charts = charts_of(view)
    order = ("performance", "value", "drawdown", "rolling", "months", "sectors", "shares", "pnl", "contribution")
    return report(
        title,
        f"{about(view)} Made on {made_on.strftime(DAY)}.",
        figures=key_figures(view),
        charts=[charts[key] for key in order],
        tables=[_holdings(view), _periods(view), _drawdowns(view), _benchmark(view), _trades(view)],
        footer=FOOTER,
        on_paper=on_paper,
    )


def capital_gains_report(gains: CapitalGains, title: str, *, made_on: date, on_paper: bool) -> str:
    """The capital-gains report of a tax year."""
    year = gains.year
    lines = [
        (TERMS[line.term], f"{line.rate_bps / 100:g} %", *(indian_rupees(paise) for paise in (
            line.gain_paise, line.taxable_paise, line.tax_paise)))
        for line in gains.lines
    ]  # fmt: skip
    shown = gains.lots[: LOTS_PRINTED_MAX if on_paper else LOTS_SHOWN_MAX]
    lots = [
        (
            share_label(lot.exchange, lot.tradingsymbol), TERMS[lot.term], lot.acquired_on.strftime(DAY),
            lot.disposed_on.strftime(DAY), f"{lot.quantity:,}",
            *(indian_rupees(paise) for paise in (lot.cost_paise, lot.proceeds_paise, lot.gain_paise, lot.charges_paise)),
        )
        for lot in shown
    ]  # fmt: skip
    more = len(gains.lots) - len(shown)
    old = sum(lot.may_be_grandfathered for lot in gains.lots)
    notes = [NOTIONAL, BASIS]
    if old:
        notes.append(
            f"{old} lots were bought on or before 31 Jan 2018 and are counted at what they cost; their grandfathered cost"
            " may be higher."
        )
    return report(
        title,
        f"{year.first.strftime(DAY)} to {year.last.strftime(DAY)}. Made on {made_on.strftime(DAY)}.",
        notes=notes,
        figures=[
            Figure("Short-term gain", rupees(gains.short_paise), tone(gains.short_paise)),
            Figure("Long-term gain", rupees(gains.long_paise), tone(gains.long_paise)),
            Figure("Intraday gain (by slab)", rupees(gains.intraday_paise), tone(gains.intraday_paise)),
            Figure("Charges", rupees(gains.charges_paise)),
            Figure("Exemption used", rupees(gains.exempt_used_paise)),
            Figure("Tax, with cess", rupees(gains.tax_paise + gains.cess_paise)),
            Figure("Short-term loss left", rupees(gains.short_loss_left_paise)),
            Figure("Long-term loss left", rupees(gains.long_loss_left_paise)),
        ],
        tables=[
            Table("Tax by rate", ("Kind", "Rate", "Gains", "Taxable", "Tax"), lines,
                  "Taxable is after losses and exemption. Cess of 4 % comes on top of the tax.", wide=True),
            Table("Lots sold", ("Share", "Kind", "Bought", "Sold", "Units", "Cost", "Proceeds", "Gain", "Charges"), lots,
                  f"And {more:,} more lots: ask for this report as csv or xlsx." if more else "", wide=True),
        ],
        footer=NOTIONAL,
        on_paper=on_paper,
    )  # fmt: skip


def capital_gains_sheets(gains: CapitalGains) -> list[Sheet]:
    """The tax year as spreadsheets: the sums, the tax, every lot."""
    sums: list[list[Cell]] = [
        ["Short-term gain", rupees_decimal(gains.short_paise)],
        ["Long-term gain", rupees_decimal(gains.long_paise)],
        ["Intraday gain (speculative, by slab)", rupees_decimal(gains.intraday_paise)],
        ["Charges", rupees_decimal(gains.charges_paise)],
        ["Exemption used", rupees_decimal(gains.exempt_used_paise)],
        ["Tax", rupees_decimal(gains.tax_paise)],
        ["Cess", rupees_decimal(gains.cess_paise)],
        ["Short-term loss left", rupees_decimal(gains.short_loss_left_paise)],
        ["Long-term loss left", rupees_decimal(gains.long_loss_left_paise)],
    ]
    lines: list[list[Cell]] = [
        [TERMS[line.term], f"{line.rate_bps / 100:g} %", rupees_decimal(line.gain_paise),
         rupees_decimal(line.taxable_paise), rupees_decimal(line.tax_paise)]
        for line in gains.lines
    ]  # fmt: skip
    lots: list[list[Cell]] = [
        [lot.exchange, lot.tradingsymbol, TERMS[lot.term], lot.acquired_on, lot.disposed_on, lot.quantity,
         rupees_decimal(lot.cost_paise), rupees_decimal(lot.proceeds_paise), rupees_decimal(lot.gain_paise),
         rupees_decimal(lot.charges_paise), "yes" if lot.may_be_grandfathered else ""]
        for lot in gains.lots
    ]  # fmt: skip
    return [
        Sheet(f"Tax year {gains.year}", ("What", "Rupees"), sums, (NOTIONAL, BASIS)),
        Sheet("Tax by rate", ("Kind", "Rate", "Gains", "Taxable", "Tax"), lines),
        Sheet("Lots", ("Exchange", "Symbol", "Kind", "Bought", "Sold", "Units", "Cost", "Proceeds", "Gain", "Charges",
                       "Bought until 31 Jan 2018"), lots),
    ]  # fmt: skip


def holdings_sheet(view: View) -> Sheet:
    """What is held now, as a spreadsheet."""
    rows: list[list[Cell]] = [
        [share.exchange, share.tradingsymbol, share.sector, share.quantity, rupees_decimal(share.cost_paise),
         rupees_decimal(share.price_paise), rupees_decimal(share.value_paise), rupees_decimal(share.unrealised_paise),
         rupees_decimal(share.realised_paise), rupees_decimal(share.realised_charges_paise + share.open_charges_paise)]
        for share in view.analysis.shares
        if share.quantity
    ]  # fmt: skip
    rows.append(["", "Cash", "", None, None, None, rupees_decimal(view.analysis.cash_paise), None, None, None])
    heads = ("Exchange", "Symbol", "Sector", "Units", "Cost", "Price", "Value", "Unrealised", "Realised", "Charges")
    return Sheet("Holdings", heads, rows)


def share_label(exchange: str, tradingsymbol: str) -> str:
    """The symbol, with its exchange where that is not NSE."""
    return tradingsymbol if exchange == "NSE" else f"{exchange}:{tradingsymbol}"


def _holdings(view: View) -> Table:
    total = view.analysis.value_paise
    held = sorted((share for share in view.analysis.shares if share.quantity), key=lambda share: -share.value_paise)
    rows = [
        (
            share_name(share), share.sector, f"{share.quantity:,}", indian_rupees(share.cost_paise),
            indian_rupees(share.price_paise), indian_rupees(share.value_paise),
            as_text(share.value_paise / total if total > 0 else None, "percent"), indian_rupees(share.unrealised_paise),
        )
        for share in held
    ]  # fmt: skip
    heads = ("Share", "Sector", "Units", "Cost", "Price", "Value", "Weight", "Unrealised")
    return Table("Holdings", heads, rows, f"Cash: {indian_rupees(view.analysis.cash_paise)}.", wide=True)


def _periods(view: View) -> Table:
    names = {"ytd": "This year", "all": "Since the beginning"}
    rows = [
        (names.get(period.name, period.name), period.since.strftime(DAY), as_text(period.total, "percent"),
         as_text(period.annual, "percent"))
        for period in returns.period_table(view.series)
    ]  # fmt: skip
    return Table("Returns by period", ("Period", "Since the end of", "Return", "A year"), rows)


def _drawdowns(view: View) -> Table:
    rows = [
        (as_text(fall.depth, "percent"), fall.peak.strftime(DAY), fall.trough.strftime(DAY),
         fall.recovered.strftime(DAY) if fall.recovered else "not yet")
        for fall in risk.drawdowns(view.series)
    ]  # fmt: skip
    return Table("Deepest drawdowns", ("Depth", "Peak", "Trough", "Recovered"), rows)


def _benchmark(view: View) -> Table:
    answer = benchmark_answer(view)
    beside = answer.against
    rows = [
        ("Return", as_text(answer.total_return, "percent"), as_text(answer.benchmark_total_return, "percent")),
        ("Volatility a year", as_text(answer.volatility, "percent"), as_text(answer.benchmark_volatility, "percent")),
        ("Max drawdown", as_text(answer.max_drawdown, "percent"), as_text(answer.benchmark_max_drawdown, "percent")),
        ("Beta", ratio(beside.beta), ""),
        ("Alpha a year", as_text(beside.alpha, "percent"), ""),
        ("Tracking error", as_text(beside.tracking_error, "percent"), ""),
        ("Information ratio", ratio(beside.information_ratio), ""),
    ]
    return Table(f"Beside {view.benchmark_name}", ("", "Portfolio", view.benchmark_name), rows)


def _trades(view: View) -> Table:
    found = statistics(view.analysis.closed.between(view.asked.first, view.asked.last))
    rows = [
        ("Closed trades", f"{found.closed_count:,}"),
        ("Win rate", as_text(found.win_rate, "percent")),
        ("Profit factor", ratio(found.profit_factor)),
        ("Mean of a trade", _paise(found.expectancy_paise)),
        ("Mean win", _paise(found.average_win_paise)),
        ("Mean loss", _paise(found.average_loss_paise)),
        ("Best", _paise(found.best_paise)),
        ("Worst", _paise(found.worst_paise)),
        ("Mean days held", ratio(found.average_days_held)),
    ]
    return Table("Closed trades, after charges", ("", ""), rows)


def _paise(paise: int | None) -> str:
    return "–" if paise is None else indian_rupees(paise)
