"""Making reports: from an analysis or from lots to a file, with a notice at the end."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from analytics_service import jobs, report_pages
from analytics_service.analyses import subject_portfolios
from analytics_service.answers import View, view_of
from analytics_service.capital_gains import CapitalGains, SoldLot, capital_gains, tax_year
from analytics_service.config import NAME
from analytics_service.desk import Desk
from analytics_service.facts import Portfolio
from analytics_service.models import CashFlow, Trade
from analytics_service.models_derived import LotDisposal
from analytics_service.models_jobs import Job
from analytics_service.report_kinds import MEDIA_TYPES, ReportIn
from analytics_service.report_periods import Period, period_of
from analytics_service.schemas_performance import Asked
from analytics_service.sheets import Cell, Sheet, csv_of, xlsx_of
from analytics_service.valuing import bring_up_to_date
from common import outbox
from common.clock import to_ist
from common.errors import NotFound, Unavailable, Unprocessable
from common.events import ReportReady
from common.logging import get_logger
from common.money import rupees_decimal

log = get_logger(__name__)

STEPS = 3
BPS_ONE = 10_000
TRANSACTIONS_MAX = 200_000
"""Lines of one report; a longer history is asked for in parts."""


class ReportSubjectGone(NotFound):
    """The portfolio the report is about is no longer there."""


class ReportTooLong(Unprocessable):
    """More lines than one report takes."""


class PdfUnavailable(Unavailable):
    """This machine has no library that makes PDFs."""


def make(desk: Desk, job: Job) -> None:
    """Make a report, keep it and say that it is there."""
    asked = ReportIn.model_validate(job.asked)
    work: dict[str, Callable[[Desk, Job, ReportIn], bytes]] = {
        "portfolio": _portfolio,
        "capital_gains": _capital_gains,
        "transactions": _transactions,
        "holdings": _holdings,
    }
    content = work[asked.kind](desk, job, asked)
    period = automatic_period(job)
    first, last = (period.first, period.last) if period else asked.period
    now = desk.clock.now()
    with desk.db.transaction() as session:
        if not jobs.finish(session, job, now, jobs.File(asked.file_name, MEDIA_TYPES[asked.format], content)):
            return
        ready = ReportReady(
            report_id=job.job_id,
            user_id=job.user_id,
            kind=period.cadence if period else asked.kind,
            title=period.title if period else asked.title,
            period_start=first,
            period_end=last,
            occurred_at=now,
        )
        outbox.record(session, ready, source=NAME, aggregate_id=job.job_id)
    log.info("report.ready", job_id=str(job.job_id), kind=asked.kind, format=asked.format, bytes=len(content))


def automatic_period(job: Job) -> Period | None:
    """What a report that is made by itself is about; None for one that its user asked for."""
    if job.period_end is None:
        return None
    return period_of("daily" if job.cadence == "daily" else "monthly", job.period_end)


def view_for(desk: Desk, session: Session, job: Job, asked: ReportIn) -> View:
    """The view a report is about; raises ReportSubjectGone."""
    portfolios = _portfolios(session, job, asked)
    analysis = desk.analyses.of(session, portfolios, desk.settings.benchmark_key)
    days = Asked(user_id=job.user_id, portfolio_id=asked.portfolio_id, first=asked.first, last=asked.last)
    return view_of(days, analysis, desk.settings.benchmark_key[1], desk.settings.risk_free_bps / BPS_ONE)


def _portfolios(session: Session, job: Job, asked: ReportIn) -> list[Portfolio]:
    portfolios = subject_portfolios(session, job.user_id, asked.portfolio_id)
    if portfolios is None:
        raise ReportSubjectGone("There is no such portfolio, or nothing has happened in it yet.")
    return portfolios


def _portfolio(desk: Desk, job: Job, asked: ReportIn) -> bytes:
    with desk.db.transaction() as session:
        view = view_for(desk, session, job, asked)
    jobs.progress(desk, job, 1, STEPS)
    period = automatic_period(job)
    title = period.title if period else asked.title
    html = report_pages.portfolio(view, title, made_on=_today(desk), on_paper=asked.format == "pdf")
    jobs.progress(desk, job, 2, STEPS)
    return _printed(html) if asked.format == "pdf" else html.encode()


def _capital_gains(desk: Desk, job: Job, asked: ReportIn) -> bytes:
    year = tax_year(asked.tax_year or "")
    with desk.db.transaction() as session:
        portfolios = _portfolios(session, job, asked)
        for portfolio in portfolios:
            bring_up_to_date(session, portfolio)
        lots = sold_lots(session, portfolios, year.first, year.last)
    gains = capital_gains(lots, year)
    jobs.progress(desk, job, 1, STEPS)
    if asked.format in ("csv", "xlsx"):
        return _sheets(asked, report_pages.capital_gains_sheets(gains))
    html = report_pages.capital_gains_report(gains, asked.title, made_on=_today(desk), on_paper=asked.format == "pdf")
    jobs.progress(desk, job, 2, STEPS)
    return _printed(html) if asked.format == "pdf" else html.encode()


def sold_lots(session: Session, portfolios: list[Portfolio], first: date, last: date) -> list[SoldLot]:
    """Parts of lots sold on some days."""
    rows = session.execute(
        select(
            LotDisposal.exchange,
            LotDisposal.tradingsymbol,
            LotDisposal.product,
            LotDisposal.acquired_on,
            LotDisposal.disposed_on,
            LotDisposal.quantity,
            LotDisposal.cost_paise,
            LotDisposal.proceeds_paise,
            LotDisposal.charges_paise,
        ).where(
            LotDisposal.portfolio_id.in_([one.portfolio_id for one in portfolios]),
            LotDisposal.disposed_on.between(first, last),
        )
    )
    return [SoldLot(*row) for row in rows]


def gains_of(session: Session, portfolios: list[Portfolio], year_text: str) -> CapitalGains:
    """The gains of a tax year, for an answer at once."""
    year = tax_year(year_text)
    for portfolio in portfolios:
        bring_up_to_date(session, portfolio)
    return capital_gains(sold_lots(session, portfolios, year.first, year.last), year)


def _holdings(desk: Desk, job: Job, asked: ReportIn) -> bytes:
    with desk.db.transaction() as session:
        view = view_for(desk, session, job, asked)
    jobs.progress(desk, job, 1, STEPS)
    return _sheets(asked, [report_pages.holdings_sheet(view)])


def _transactions(desk: Desk, job: Job, asked: ReportIn) -> bytes:
    with desk.db.session() as session:
        portfolios = _portfolios(session, job, asked)
        rows = [line for portfolio in portfolios for line in _lines(session, portfolio, asked)]
    jobs.progress(desk, job, 1, STEPS)
    rows.sort(key=lambda row: (str(row[0]), str(row[1])))
    heads = ("Date", "Time (IST)", "What", "Exchange", "Symbol", "Quantity", "Price", "Amount", "Charges", "Reference")
    return _sheets(asked, [Sheet("Transactions", heads, rows)])


def _lines(session: Session, portfolio: Portfolio, asked: ReportIn) -> list[list[Cell]]:
    trades = portfolio.trades
    at = trades.occurred_at if trades is Trade else None
    statement = select(
        trades.trading_date, trades.side, trades.exchange, trades.tradingsymbol, trades.quantity, trades.amount_paise,
        trades.charges_paise, trades.order_id, *([at] if at is not None else []),
    ).where(trades.portfolio_id == portfolio.portfolio_id)  # fmt: skip
    if asked.first:
        statement = statement.where(trades.trading_date >= asked.first)
    if asked.last:
        statement = statement.where(trades.trading_date <= asked.last)
    lines: list[list[Cell]] = []
    for row in session.execute(statement.order_by(trades.trading_date).limit(TRANSACTIONS_MAX + 1)):
        on, side, exchange, symbol, quantity, amount, charges, order_id = row[:8]
        price = rupees_decimal(amount) / quantity if quantity else None
        moment = to_ist(row[8]).strftime("%H:%M:%S") if at is not None else ""
        lines.append(
            [on, moment, side, exchange, symbol, quantity, price.quantize(Decimal("0.0001")) if price else None,
             rupees_decimal(amount), rupees_decimal(charges), str(order_id)]
        )  # fmt: skip
    if len(lines) > TRANSACTIONS_MAX:
        raise ReportTooLong(f"More than {TRANSACTIONS_MAX} lines; ask for a shorter span with from and to.")
    if not portfolio.is_imported:
        lines += _flow_lines(session, portfolio, asked)
    return lines


def _flow_lines(session: Session, portfolio: Portfolio, asked: ReportIn) -> list[list[Cell]]:
    signed = case((CashFlow.kind == "WITHDRAWAL", -CashFlow.amount_paise), else_=CashFlow.amount_paise)
    rows = session.execute(
        select(CashFlow.occurred_at, CashFlow.kind, signed, CashFlow.transfer_id)
        .where(CashFlow.portfolio_id == portfolio.portfolio_id)
        .order_by(CashFlow.occurred_at)
    )
    lines: list[list[Cell]] = []
    for at, kind, paise, transfer_id in rows:
        local = to_ist(at)
        if (asked.first is None or local.date() >= asked.first) and (asked.last is None or local.date() <= asked.last):
            lines.append(
                [local.date(), local.strftime("%H:%M:%S"), kind, None, None, None, None, rupees_decimal(paise), None,
                 str(transfer_id)]
            )  # fmt: skip
    return lines


def _sheets(asked: ReportIn, sheets: list[Sheet]) -> bytes:
    return csv_of(sheets) if asked.format == "csv" else xlsx_of(sheets)


def _printed(html: str) -> bytes:
    """The report as PDF; raises PdfUnavailable where the libraries of WeasyPrint (Pango) are not installed."""
    try:
        from weasyprint import HTML  # a second, and system libraries that only this needs
    except (OSError, ImportError) as error:
        log.warning("report.no_pdf", error=str(error).split("\n", 1)[0])
        raise PdfUnavailable("PDFs cannot be made here at the moment; ask for the report as html.") from None
    made = HTML(string=html, url_fetcher=_fetch_nothing).write_pdf()
    return bytes(made)


def _fetch_nothing(url: str, *_: object, **__: object) -> dict[str, object]:
    """A report refers to nothing outside itself."""
    raise ValueError(f"a report may not fetch {url[:100]}")


def _today(desk: Desk) -> date:
    return to_ist(desk.clock.now()).date()
